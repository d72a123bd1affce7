package webhook_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/aks"
	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/sts"
)

func TestWhoATokenBelongsTo(t *testing.T) {
	h := newHouse(t)
	alice := h.newUser("Alice.Ng")
	inner := h.newGroup(alice.ID)
	outer := h.newGroup(inner)
	h.newGroup() // of nobody
	groups := []directory.ID{inner, outer}
	slices.SortFunc(groups, directory.ID.Compare)
	token := h.tokenOf(alice)

	h.wantUser(token, "Alice.Ng@example.test", groups...)
	a := h.ask(token)
	if got := a.Status.User.Extra["oid"]; len(got) != 1 || got[0] != alice.ID.String() {
		t.Errorf("extra.oid = %q; want %s", got, alice.ID)
	}
	if len(a.Status.User.Extra) != 1 || a.Status.User.UID != "" || a.Status.Audiences != nil || a.Status.Error != "" {
		t.Errorf("the answer has more than it should: %+v", a.Status)
	}
	if a.APIVersion != "authentication.k8s.io/v1" || a.Kind != "TokenReview" {
		t.Errorf("the answer is a %s of %s", a.Kind, a.APIVersion)
	}

	h.must(h.dir.UpdateUser(h.ctx, directory.System, alice.ID, func(u *directory.User) { u.UPN = "alice@example.test" }))
	h.wantUser(token, "alice@example.test", groups...) // the directory's name, not the token's
	h.must(h.dir.UpdateUser(h.ctx, directory.System, alice.ID, func(u *directory.User) { u.Type = directory.Guest }))
	h.wantUser(token, alice.ID.String(), groups...)

	app := h.newServicePrincipal()
	h.must(h.dir.AddMembers(h.ctx, directory.System, outer, feed.Window{}, app.ID))
	h.wantUser(h.sign(h.appClaims(app)), app.ID.String(), outer)
}

func TestIssuers(t *testing.T) {
	h := newHouse(t)
	alice := h.newUser("alice")
	tenant := alice.Tenant.String()
	for _, issuer := range []string{
		"https://sts.windows.net/" + tenant + "/", "https://login.microsoftonline.com/" + tenant + "/v2.0",
		publicURL + "/" + tenant + "/", publicURL + "/" + tenant + "/v2.0",
	} {
		h.wantUser(h.sign(h.claims(alice).with("iss", issuer)), "alice@example.test")
	}
}

func TestAudiences(t *testing.T) {
	h := newHouse(t)
	alice := h.newUser("alice")
	app, managed := h.newID(), h.cluster
	legacy := h.newCluster(&aks.AADProfile{Tenant: h.tenant.ID, ServerApp: app, ClientApp: h.newID()})
	nameless := h.newCluster(&aks.AADProfile{Tenant: h.tenant.ID})
	for _, c := range []struct {
		cluster  *aks.Cluster
		audience string
		good     bool
	}{
		{managed, directory.AKSServer.String(), true},
		{managed, "spn:" + directory.AKSServer.String(), false},
		{managed, strings.ToUpper(directory.AKSServer.String()), false},
		{managed, directory.AKSServer.String() + "/", false},
		{managed, app.String(), false},
		{managed, "", false},
		{managed, directory.Graph.String(), false},
		{managed, "https://graph.microsoft.com/", false},
		{managed, directory.ARM.String(), false},
		{managed, "https://management.azure.com/", false},
		{managed, directory.AKSClient.String(), false},
		{legacy, app.String(), true},
		{legacy, "spn:" + app.String(), true},
		{legacy, "SPN:" + app.String(), false},
		{legacy, directory.AKSServer.String(), false},
		{nameless, directory.ID{}.String(), false},
		{nameless, "spn:" + directory.ID{}.String(), false},
	} {
		h.cluster = c.cluster
		if token := h.sign(h.claims(alice).with("aud", c.audience)); c.good {
			h.wantUser(token, "alice@example.test")
		} else {
			h.wantRefused(token, fmt.Sprintf("is for \\\"%s\\\"", c.audience))
		}
	}
}

// events returns the audit events so far, and ends the audit log.
func (h *house) events() []audit.Event {
	h.Helper()
	h.must(h.server.Audit.Close())
	h.server.Audit = nil
	text, err := os.ReadFile(h.audit)
	h.must(err)
	var all []audit.Event
	for line := range strings.Lines(string(text)) {
		var e audit.Event
		h.must(json.Unmarshal([]byte(line), &e))
		all = append(all, e)
	}
	return all
}

// TestWithdrawal holds that a token that was good, and is remembered, is worth no more than its owner is now.
func TestWithdrawal(t *testing.T) {
	update := func(change func(*directory.User)) func(*house, *directory.User, claims) {
		return func(h *house, u *directory.User, _ claims) {
			h.must(h.dir.UpdateUser(h.ctx, directory.System, u.ID, change))
		}
	}
	for _, c := range []struct {
		name   string
		do     func(*house, *directory.User, claims)
		reason string
	}{
		{"disabled", update(func(u *directory.User) { u.Enabled = false }), "is disabled"},
		{"deleted", func(h *house, u *directory.User, _ claims) {
			h.must(h.dir.DeleteUser(h.ctx, directory.System, u.ID))
		}, "is not in tenant"},
		{"deleted, and another one of the same name", func(h *house, u *directory.User, _ claims) {
			h.must(h.dir.DeleteUser(h.ctx, directory.System, u.ID))
			h.newUser("alice")
		}, "is not in tenant"},
		{"session ended", func(h *house, _ *directory.User, c claims) {
			h.put(sts.KindSession, c["sid"].(directory.ID).String(), nil)
		}, "ended or revoked"},
		{"all sessions revoked", func(h *house, u *directory.User, _ claims) {
			h.advance(time.Second)
			h.must(h.dir.RevokeSessions(h.ctx, directory.System, u.ID))
		}, "have been revoked"},
		{"password reset", func(h *house, u *directory.User, _ claims) {
			h.advance(time.Second)
			h.must(h.dir.ResetPassword(h.ctx, directory.System, u.ID, "Correct horse 2", false))
		}, "have been revoked"},
		{"session expired", func(h *house, u *directory.User, c claims) {
			s := *sts.In(h.feed.View()).Session(c["sid"].(directory.ID))
			s.Expires = h.clock.Now().Add(time.Minute)
			h.put(sts.KindSession, s.ID.String(), &s)
			h.wantUser(h.sign(c), "alice@example.test")
			h.advance(time.Minute)
		}, "has expired"},
		{"token expired", func(h *house, _ *directory.User, _ claims) { h.advance(time.Hour) }, "expired at"},
		{"key withdrawn", func(h *house, _ *directory.User, _ claims) {
			h.must(h.keys.Withdraw(h.ctx, sts.In(h.feed.View()).Signing(h.clock.Now()).ID))
		}, "withdrawn"},
		{"integration moved to another tenant", func(h *house, _ *directory.User, _ claims) {
			other, _ := h.newTenant("other.test")
			moved := *h.cluster
			moved.AAD = &aks.AADProfile{Managed: true, Tenant: other.ID}
			h.putCluster(&moved)
		}, "trusts tenant"},
		{"no integration", func(h *house, _ *directory.User, _ claims) {
			bare := *h.cluster
			bare.AAD = nil
			h.putCluster(&bare)
		}, "no Microsoft Entra integration"},
		{"database silent", func(h *house, _ *directory.User, _ claims) { h.clock.Advance(31 * time.Second) }, "silent"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t)
			alice := h.newUser("alice")
			claims := h.claims(alice)
			token := h.sign(claims)
			h.wantUser(token, "alice@example.test")
			h.wantUser(token, "alice@example.test")
			c.do(h, alice, claims)
			h.wantRefused(token, c.reason)
			h.wantRefused(token, c.reason)
		})
	}
}

func TestPutBack(t *testing.T) {
	h := newHouse(t)
	alice := h.newUser("alice")
	group := h.newGroup(alice.ID)
	token := h.tokenOf(alice)
	enable := func(on bool) {
		h.must(h.dir.UpdateUser(h.ctx, directory.System, alice.ID, func(u *directory.User) { u.Enabled = on }))
	}
	h.wantUser(token, "alice@example.test", group)
	enable(false)
	h.wantRefused(token, "is disabled")
	enable(true)
	h.wantUser(token, "alice@example.test", group)
	h.must(h.dir.RemoveMember(h.ctx, directory.System, group, alice.ID))
	h.wantUser(token, "alice@example.test")
	h.must(h.dir.AddMembers(h.ctx, directory.System, group, feed.Window{}, alice.ID))
	h.wantUser(token, "alice@example.test", group)

	h.clock.Advance(31 * time.Second)
	h.wantRefused(token, "silent")
	h.advance(0)
	h.wantUser(token, "alice@example.test", group)

	var outcomes []string
	for _, e := range h.events() {
		if e.Action != "tokenreview" || e.Target != h.cluster.ID() {
			t.Errorf("event %+v", e)
		}
		outcomes = append(outcomes, e.Outcome)
	}
	if want := []string{"allowed", "denied", "allowed", "failed"}; !slices.Equal(outcomes, want) {
		t.Errorf("audited %v; want %v", outcomes, want)
	}
}

func TestWindows(t *testing.T) {
	h := newHouse(t)
	alice := h.newUser("alice")
	now := h.clock.Now().Unix()
	from, until := h.newGroup(), h.newGroup()
	h.must(h.dir.AddMembers(h.ctx, directory.System, from, feed.Window{From: now + 60}, alice.ID))
	h.must(h.dir.AddMembers(h.ctx, directory.System, until, feed.Window{Until: now + 120}, alice.ID))
	token := h.tokenOf(alice)
	both := []directory.ID{from, until}
	slices.SortFunc(both, directory.ID.Compare)

	h.wantUser(token, "alice@example.test", until)
	h.clock.Advance(59*time.Second + 999*time.Millisecond)
	h.must(h.feed.CatchUp(h.ctx))
	h.wantUser(token, "alice@example.test", until)
	h.advance(time.Millisecond)
	h.wantUser(token, "alice@example.test", both...)
	h.advance(59 * time.Second)
	h.wantUser(token, "alice@example.test", both...)
	h.advance(time.Second)
	h.wantUser(token, "alice@example.test", from)
	h.advance(-30 * time.Second) // the machine's clock was wrong
	h.wantUser(token, "alice@example.test", both...)
}

func TestManyGroups(t *testing.T) {
	h := newHouse(t)
	alice := h.newUser("alice")
	join := func(n int) (groups []directory.ID) {
		h.must(h.feed.Update(h.ctx, func(*feed.View, feed.Secrets) (c feed.Change, err error) {
			for range n {
				g := h.newID()
				groups = append(groups, g)
				c.Records = append(c.Records,
					feed.Record{Kind: directory.KindGroup, Key: g.String(), Body: encode(directory.Group{ID: g, Tenant: h.tenant.ID})},
					feed.Record{Kind: directory.KindMembership, Key: g.String() + "/" + alice.ID.String(), Body: []byte("{}")})
			}
			return c, nil
		}))
		return groups
	}
	groups := join(200)
	token := h.tokenOf(alice)
	if got := h.ask(token).Status.User.Groups; len(got) != 200 {
		t.Fatalf("in 200 groups, %d were told", len(got))
	}
	groups = append(groups, join(1)...)
	h.wantUser(token, "alice@example.test")

	withAdmins := *h.cluster
	withAdmins.AAD = &aks.AADProfile{Managed: true, Tenant: h.tenant.ID, AdminGroups: []directory.ID{groups[7], h.newGroup()}}
	h.putCluster(&withAdmins)
	h.wantUser(token, "alice@example.test", groups[7])

	want := []directory.ID{groups[7], groups[200], groups[3]}
	slices.SortFunc(want, directory.ID.Compare)
	h.bound, h.boundRevision = map[directory.ID]bool{groups[200]: true, groups[3]: true, groups[7]: true, h.newID(): true}, 1
	h.wantUser(token, "alice@example.test", want...)
	h.bound, h.boundRevision = nil, 2
	h.wantUser(token, "alice@example.test", groups[7])
}

// TestReservedNames holds that a name of the system does not leave, should the directory ever have one.
func TestReservedNames(t *testing.T) {
	h := newHouse(t)
	for _, name := range []string{"system:admin", "System:masters", "aks:support", ""} {
		u := &directory.User{ID: h.newID(), Tenant: h.tenant.ID, UPN: name, Type: directory.Member, Enabled: true}
		h.put(directory.KindUser, u.ID.String(), u)
		h.wantRefused(h.tokenOf(u), "no name that may be told")
	}
}

func TestRefusalsDoNotFlood(t *testing.T) {
	h := newHouse(t)
	alice := h.newUser("alice")
	disabled := h.tokenOf(alice)
	h.must(h.dir.UpdateUser(h.ctx, directory.System, alice.ID, func(u *directory.User) { u.Enabled = false }))
	h.wantRefused(disabled, "is disabled")
	for i := range 2000 { // each names a key of its own
		header := fmt.Sprintf(`{"alg":"RS256","kid":"%d%s"}`, i, strings.Repeat("k", 5000))
		forged := base64.RawURLEncoding.EncodeToString([]byte(header)) + disabled[strings.Index(disabled, "."):]
		if h.ask(forged).Status.Authenticated {
			t.Fatal("authenticated")
		}
	}
	bob := h.newUser("bob")
	token := h.tokenOf(bob)
	h.must(h.dir.DeleteUser(h.ctx, directory.System, bob.ID))
	h.wantRefused(token, "is not in tenant") // a stranger's noise hides no principal
	h.wantRefused(disabled, "is disabled")
	h.advance(time.Minute)
	h.wantRefused(disabled, "is disabled")

	log := h.log.String()
	if n := strings.Count(log, "\n"); n > 610 || n < 600 {
		t.Errorf("%d lines were logged", n)
	}
	if len(log) > 610*600 {
		t.Errorf("%d bytes were logged", len(log))
	}
	if !strings.Contains(log, "passedOver=1") {
		t.Error("the log does not say that refusals were passed over")
	}
	if n := len(h.events()); n > 610 || n < 600 {
		t.Errorf("%d events were recorded", n)
	}
}

func TestWhoMayAsk(t *testing.T) {
	h := newHouse(t)
	token := h.tokenOf(h.newUser("alice"))
	for name, want := range map[string]int{
		h.cluster.GUID.String(): 200, strings.ToUpper(h.cluster.GUID.String()): 200,
		h.newID().String(): 403, "": 403, "gatehouse webhooks": 403,
	} {
		for _, path := range []string{"/webhook/authenticate", "/webhook/authorize"} {
			body := question(token)
			if path == "/webhook/authorize" {
				body = `{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{}}`
			}
			if w := h.post(h.web, name, path, body); w.Code != want {
				t.Errorf("certificate of %q at %s: %d; want %d: %s", name, path, w.Code, want, w.Body)
			}
		}
	}
	h.put(aks.KindCluster, h.cluster.GUID.String(), nil)
	if w := h.post(h.web, h.cluster.GUID.String(), "/webhook/authenticate", question(token)); w.Code != 403 || !strings.Contains(w.Body.String(), `"kind":"Status"`) {
		t.Errorf("deleted cluster: %d %s", w.Code, w.Body)
	}
}

func TestMalformedTokenReviews(t *testing.T) {
	h := newHouse(t)
	for _, c := range []struct {
		body, says string
		status     int
	}{
		{"", "an object is missing", 400},
		{"[]", "an object is missing", 400},
		{`{"kind":"TokenReview"`, "is missing", 400},
		{strings.Replace(question("x"), "/v1", "/v1beta1", 1), "--authentication-token-webhook-version=v1", 400},
		{strings.Replace(question("x"), "TokenReview", "SubjectAccessReview", 1), "only TokenReview", 400},
		{question("x") + "{}", "the end is missing", 400},
		{strings.Replace(question("x"), `"spec":{`, `"spec":{"token":"y",`, 1), "twice", 400},
		{question(strings.Repeat("x", 4<<20)), "send less", 413},
	} {
		w := h.post(h.web, h.cluster.GUID.String(), "/webhook/authenticate", c.body)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%.80s: %d %s", c.body, w.Code, w.Body)
		}
	}
	if w := h.post(h.web, h.cluster.GUID.String(), "/webhook/other", ""); w.Code != http.StatusNotFound {
		t.Errorf("an unknown path: %d", w.Code)
	}
}
