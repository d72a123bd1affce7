package directory

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/feed"
)

// dump writes down everything that a state answers, so that two of them can be compared.
func dump(s *State, ids []ID, at time.Time) string {
	var b strings.Builder
	show := func(name string, v any) {
		body, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(&b, "%s %s\n", name, body)
	}
	for _, id := range ids {
		show("user", s.User(id))
		show("group", s.Group(id))
		show("application", s.Application(id))
		show("principal", s.ServicePrincipal(id))
		show("tenant", s.Tenant(id))
		show("memberOf", s.MemberOf(id, at))
		show("members", s.Members(id, at))
		groups, until := s.GroupsOf(id, at)
		show("groups", groups)
		show("until", until)
		show("owners", slices.SortedFunc(slices.Values(s.Owners(id)), ID.Compare))
		show("owned", slices.SortedFunc(slices.Values(s.Owned(id)), ID.Compare))
		show("admin", s.HasRole(id, GlobalAdministrator))
		show("app", s.ApplicationByAppID(id))
		for i := range 12 {
			show("name", s.ServicePrincipalByName(id, fmt.Sprintf("api://name%d", i)))
		}
	}
	for i := range 12 {
		show("upn", s.UserByUPN(fmt.Sprintf("USER%d@x.example", i)))
		show("domain", s.TenantByDomain(fmt.Sprintf("d%d.example", i)))
	}
	return b.String()
}

// randomRecord makes a record of any kind over a few ids, so that records meet; one in four deletes.
func randomRecord(r *rand.Rand, ids []ID) feed.Record {
	pick := func() ID { return ids[r.IntN(len(ids))] }
	a, b := pick(), pick()
	body := func(v any) []byte {
		out, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return out
	}
	rec := feed.Record{Key: a.String()}
	switch n := r.IntN(12); r.IntN(8) {
	case 0:
		rec.Kind, rec.Body = KindTenant, body(Tenant{ID: a, Domains: []string{fmt.Sprintf("d%d.example", n)}})
	case 1:
		rec.Kind, rec.Body = KindUser, body(User{ID: a, Tenant: b, UPN: fmt.Sprintf("User%d@x.example", n)})
	case 2:
		rec.Kind, rec.Body = KindGroup, body(Group{ID: a, Tenant: b, DisplayName: fmt.Sprint(n)})
	case 3:
		rec.Kind, rec.Body = KindApplication, body(Application{ID: a, Tenant: b, AppID: b})
	case 4:
		rec.Kind, rec.Body = KindServicePrincipal, body(ServicePrincipal{ID: a, Tenant: b, Names: []string{fmt.Sprintf("api://Name%d", n)}})
	case 5:
		rec.Kind, rec.Key, rec.Body = KindMembership, pair(a, b), body(feed.Window{Until: int64(n) * 100})
	case 6:
		rec.Kind, rec.Key, rec.Body = KindOwnership, pair(a, b), []byte("{}")
	case 7:
		rec.Kind, rec.Key, rec.Body = KindRoleAssignment, pair(GlobalAdministrator, b), []byte("{}")
	}
	if r.IntN(4) == 0 {
		rec.Body = nil
	}
	return rec
}

// TestApplyIsPure holds, for random histories: applying records leaves the state before as it was, and the result does not
// depend on how the records were divided into batches.
func TestApplyIsPure(t *testing.T) {
	at := time.Unix(550, 0)
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		var ids []ID
		for range 8 {
			var id ID
			for i := range id {
				id[i] = byte(r.Uint32())
			}
			ids = append(ids, id)
		}
		var history []feed.Record
		state := new(State)
		for range 60 {
			var batch []feed.Record
			for range 1 + r.IntN(10) {
				batch = append(batch, randomRecord(r, ids))
			}
			before := dump(state, ids, at)
			next, err := state.Apply(batch)
			must(t, err)
			if after := dump(state, ids, at); after != before {
				t.Fatalf("seed %d: the old state changed:\n%s", seed, difference(before, after))
			}
			state = next.(*State)
			history = append(history, batch...)
		}
		whole, err := new(State).Apply(history)
		must(t, err)
		if a, b := dump(state, ids, at), dump(whole.(*State), ids, at); a != b {
			t.Fatalf("seed %d: batches matter:\n%s", seed, difference(a, b))
		}
	}
}

func difference(a, b string) string {
	left, right := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range left {
		if i >= len(right) || left[i] != right[i] {
			return left[i] + "\n" + right[min(i, len(right)-1)]
		}
	}
	return "the second is longer"
}

// TestNameMoves: a follower that lags sees each record's last change alone, so the taker of a name may come before the
// one that gave it up.
func TestNameMoves(t *testing.T) {
	w := newWorld(t)
	a, b := w.user("first"), w.user("second")
	lagging := &feed.Follower{Log: w.Feed.Log, Now: w.clock}
	must(t, lagging.Start(w.ctx, map[string]feed.State{Part: new(State)}))
	must(t, w.UpdateUser(w.ctx, System, a.ID, func(u *User) { u.UPN = "third@" + domain }))
	must(t, w.UpdateUser(w.ctx, System, b.ID, func(u *User) { u.UPN = "first@" + domain }))
	must(t, w.UpdateUser(w.ctx, System, a.ID, func(u *User) { u.JobTitle = "x" })) // now its last change is the latest
	must(t, lagging.CatchUp(w.ctx))
	for _, s := range []*State{w.State(), In(lagging.View())} {
		for upn, want := range map[string]ID{"first@" + domain: b.ID, "third@" + domain: a.ID} {
			if got := s.UserByUPN(upn); got == nil || got.ID != want {
				t.Errorf("%s is %v, want %s", upn, got, want)
			}
		}
		if s.UserByUPN("second@"+domain) != nil {
			t.Error("a name that nobody has is still found")
		}
	}
}

// TestReload: what a new process loads is what the one that wrote it has.
func TestReload(t *testing.T) {
	w := newWorld(t)
	alice := w.user("alice")
	g := w.group("g", alice.ID)
	must(t, w.AddOwner(w.ctx, System, g.ID, alice.ID))
	_, sp := w.app("robot")
	must(t, w.DeleteUser(w.ctx, System, w.user("gone").ID))
	f := &feed.Follower{Log: w.Feed.Log, Now: w.clock}
	must(t, f.Start(w.ctx, map[string]feed.State{Part: new(State)}))
	ids := []ID{alice.ID, g.ID, sp.ID, w.admin.ID, w.tenant.ID}
	if a, b := dump(w.State(), ids, w.clock()), dump(In(f.View()), ids, w.clock()); a != b {
		t.Error(difference(a, b))
	}
	if n, want := len(In(f.View()).Users(w.tenant.ID)), 2; n != want {
		t.Errorf("%d users, want %d", n, want)
	}
}

func TestApplyRefusesNonsense(t *testing.T) {
	for _, r := range []feed.Record{
		{Kind: "directory/unheardof", Key: GlobalAdministrator.String(), Body: []byte("{}")},
		{Kind: KindUser, Key: "x", Body: []byte("{}")},
		{Kind: KindUser, Key: GlobalAdministrator.String(), Body: []byte("{")},
		{Kind: KindMembership, Key: GlobalAdministrator.String(), Body: []byte("{}")},
	} {
		if _, err := new(State).Apply([]feed.Record{r}); err == nil {
			t.Errorf("%s %s is accepted", r.Kind, r.Key)
		}
	}
}

// TestEach: the iterators see one tenant, and may be left early.
func TestEach(t *testing.T) {
	w := newWorld(t)
	other, otherAdmin := w.newTenant("Fabrikam", "fabrikam.internal")
	w.user("alice")
	got := map[ID]bool{}
	for u := range w.State().EachUser(w.tenant.ID) {
		got[u.ID] = true
	}
	if want := w.State().Users(w.tenant.ID); len(got) != len(want) || got[otherAdmin.ID] {
		t.Errorf("users: %v", slices.Collect(maps.Keys(got)))
	}
	for u := range w.State().EachUser(other.ID) {
		if u.ID != otherAdmin.ID {
			t.Errorf("the other tenant has user %s", u.UPN)
		}
		break
	}
}
