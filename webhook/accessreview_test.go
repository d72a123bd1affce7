package webhook_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
)

type accessAnswer struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Status     struct {
		Allowed, Denied bool
		Reason          string
	} `json:"status"`
}

type access struct {
	user   string
	groups []string
	extra  map[string][]string
}

func (h *house) access(a access) accessAnswer {
	h.Helper()
	body := encode(map[string]any{
		"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
		"spec": map[string]any{
			"resourceAttributes": map[string]any{"verb": "list", "resource": "nodes", "version": "v1"},
			"user":               a.user, "groups": a.groups, "extra": a.extra,
		},
	})
	w := h.post(h.web, h.cluster.GUID.String(), "/webhook/authorize", string(body))
	if w.Code != 200 {
		h.Fatalf("SubjectAccessReview: status %d: %s", w.Code, w.Body)
	}
	var answer accessAnswer
	h.must(json.Unmarshal(w.Body.Bytes(), &answer))
	if answer.APIVersion != "authorization.k8s.io/v1" || answer.Kind != "SubjectAccessReview" || answer.Status.Allowed {
		h.Fatalf("the answer is %+v", answer)
	}
	return answer
}

func TestAccess(t *testing.T) {
	h := newHouse(t)
	alice, bob := h.newUser("alice"), h.newUser("bob")
	inner := h.newGroup(alice.ID)
	outer := h.newGroup(inner)
	left := h.newGroup(bob.ID)
	app := h.newServicePrincipal()
	disabled := h.newUser("dora")
	h.must(h.dir.UpdateUser(h.ctx, directory.System, disabled.ID, func(u *directory.User) { u.Enabled = false }))
	deleted := h.newUser("dan")
	h.must(h.dir.DeleteUser(h.ctx, directory.System, deleted.ID))
	h.newUser("dan")
	otherTenant, _ := h.newTenant("other.test")
	mallory := &directory.User{ID: h.newID(), Tenant: otherTenant.ID, UPN: "mallory@other.test", Enabled: true, Type: directory.Member}
	h.put(directory.KindUser, mallory.ID.String(), mallory)

	oid := func(ids ...any) map[string][]string {
		var out []string
		for _, id := range ids {
			out = append(out, fmt.Sprint(id))
		}
		return map[string][]string{"oid": out}
	}
	for _, c := range []struct {
		name   string
		ask    access
		denied bool
		reason string
	}{
		{"a user in her groups", access{alice.UPN, []string{inner.String(), outer.String(), "system:authenticated"}, oid(alice.ID)}, false, ""},
		{"not told of all her groups", access{alice.UPN, []string{"system:authenticated"}, oid(alice.ID)}, false, ""},
		{"object id in capitals", access{alice.UPN, nil, oid(strings.ToUpper(alice.ID.String()))}, false, ""},
		{"a service principal", access{app.ID.String(), nil, oid(app.ID)}, false, ""},
		{"a group that was left", access{alice.UPN, []string{inner.String(), left.String()}, oid(alice.ID)}, true, "no longer in group " + left.String()},
		{"a group that does not exist", access{alice.UPN, []string{h.newID().String()}, oid(alice.ID)}, true, "no longer in group"},
		{"a disabled account", access{disabled.UPN, nil, oid(disabled.ID)}, true, "is disabled"},
		{"a deleted account, and another one of the same name", access{deleted.UPN, nil, oid(deleted.ID)}, true, "no longer, in the directory"},
		{"an account of another tenant", access{mallory.UPN, nil, oid(mallory.ID)}, true, "no longer, in the directory"},
		{"somebody else's object id", access{alice.UPN, []string{left.String()}, oid(bob.ID)}, false, "not the object id of this user"},
		{"the name in another spelling", access{"Alice@example.test", nil, oid(alice.ID)}, false, "not the object id of this user"},
		{"two object ids", access{alice.UPN, []string{left.String()}, oid(alice.ID, bob.ID)}, false, "not one object id"},
		{"no object id", access{alice.UPN, nil, oid()}, false, "not one object id"},
		{"no extra", access{user: "system:serviceaccount:default:x"}, false, "not one object id"},
		{"something else", access{alice.UPN, nil, oid("alice")}, false, "not an object id"},
		{"a group that is no object id", access{alice.UPN, []string{strings.Repeat("x", 36), "system:masters"}, oid(alice.ID)}, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.TB = t
			got := h.access(c.ask).Status
			if got.Denied != c.denied || (c.reason == "") != (got.Reason == "") || !strings.Contains(got.Reason, c.reason) {
				t.Errorf("denied %v, %q; want %v, %q", got.Denied, got.Reason, c.denied, c.reason)
			}
		})
	}
	h.TB = t

	var reasons []string
	for _, e := range h.events() {
		if e.Action != "subjectaccessreview" || e.Outcome != "denied" || e.Request == "" || !strings.Contains(h.log.String(), e.Request) {
			t.Errorf("event %+v", e)
		}
		reasons = append(reasons, e.Actor)
	}
	if want := []string{alice.ID.String(), alice.ID.String(), disabled.ID.String(), deleted.ID.String(), mallory.ID.String()}; !slices.Equal(reasons, want) {
		t.Errorf("audited are refusals of %v; want %v", reasons, want)
	}
}

func TestAccessFollowsTheDirectory(t *testing.T) {
	h := newHouse(t)
	alice := h.newUser("alice")
	group := h.newGroup(alice.ID)
	limited := h.newGroup()
	until := h.clock.Now().Add(time.Minute)
	h.must(h.dir.AddMembers(h.ctx, directory.System, limited, feed.Window{Until: until.Unix()}, alice.ID))
	ask := access{alice.UPN, []string{group.String(), limited.String()}, map[string][]string{"oid": {alice.ID.String()}}}
	want := func(denied bool, reason string) {
		t.Helper()
		if got := h.access(ask).Status; got.Denied != denied || !strings.Contains(got.Reason, reason) {
			t.Errorf("denied %v, %q; want %v, %q", got.Denied, got.Reason, denied, reason)
		}
	}
	want(false, "")
	h.must(h.dir.RemoveMember(h.ctx, directory.System, group, alice.ID))
	want(true, "no longer in group "+group.String())
	h.must(h.dir.AddMembers(h.ctx, directory.System, group, feed.Window{}, alice.ID))
	want(false, "")
	h.advance(time.Minute)
	want(true, "no longer in group "+limited.String())
	h.clock.Advance(31 * time.Second)
	want(true, "has lost its database")
	h.advance(0)

	bare := *h.cluster
	bare.AAD = nil
	h.putCluster(&bare)
	want(false, "no Microsoft Entra integration")
}

func TestAccessOfManyGroups(t *testing.T) {
	h := newHouse(t)
	alice := h.newUser("alice")
	var groups []string
	h.must(h.feed.Update(h.ctx, func(*feed.View, feed.Secrets) (c feed.Change, err error) {
		for range 5000 {
			g := h.newID().String()
			groups = append(groups, g)
			c.Records = append(c.Records, feed.Record{Kind: directory.KindMembership, Key: g + "/" + alice.ID.String(), Body: []byte("{}")})
		}
		return c, nil
	}))
	ask := access{alice.UPN, groups, map[string][]string{"oid": {alice.ID.String()}}}
	if got := h.access(ask).Status; got.Denied || got.Reason != "" {
		t.Errorf("%+v", got)
	}
}

func TestMalformedAccessReviews(t *testing.T) {
	h := newHouse(t)
	for body, says := range map[string]string{
		"":      "not a SubjectAccessReview",
		"[]":    "not a SubjectAccessReview",
		`{"a":`: "not a SubjectAccessReview",
		`{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"extra":{"oid":"x"}}}`: "not a SubjectAccessReview",
		`{"apiVersion":"authorization.k8s.io/v1beta1","kind":"SubjectAccessReview","spec":{}}`:               "subjectAccessReviewVersion: v1",
		`{"apiVersion":"authorization.k8s.io/v1","kind":"TokenReview","spec":{}}`:                            "only SubjectAccessReview",
	} {
		w := h.post(h.web, h.cluster.GUID.String(), "/webhook/authorize", body)
		if w.Code != 400 || !strings.Contains(w.Body.String(), says) {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
	}
}

// FuzzAccessReview holds that no body makes the webhook allow, fail inside, or answer what is not JSON.
func FuzzAccessReview(f *testing.F) {
	h := newHouse(f)
	h.server.Log, h.server.Audit = nil, nil
	alice := h.newUser("alice")
	h.must(h.dir.UpdateUser(h.ctx, directory.System, alice.ID, func(u *directory.User) { u.Enabled = false }))
	head := `{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":`
	f.Add(head + `{"user":"alice@example.test","groups":["g","` + alice.ID.String() + `"],"extra":{"oid":["` + alice.ID.String() + `"]}}}`)
	f.Add(head + `{"user":"alice@example.test","extra":{"oid":null}}}`)
	f.Add(head + `{"user":5,"groups":{},"extra":[]}}`)
	f.Add(head + `null}`)
	f.Add(`{"kind":"\u0000"}`)
	f.Fuzz(func(t *testing.T, body string) {
		w := h.post(h.web, h.cluster.GUID.String(), "/webhook/authorize", body)
		var answer accessAnswer
		if w.Code != 200 && w.Code != 400 || json.Unmarshal(w.Body.Bytes(), &struct{}{}) != nil {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if w.Code == 200 {
			if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer.Status.Allowed {
				t.Fatalf("%v: %s", err, w.Body)
			}
		}
	})
}
