package rbac

import (
	"crypto/sha256"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
)

// idOf gives every name in a table an id.
func idOf(name string) directory.ID {
	sum := sha256.Sum256([]byte(name))
	return directory.ID(sum[:16])
}

func apply(t *testing.T, s *State, records ...feed.Record) *State {
	t.Helper()
	next, err := s.Apply(records)
	if err != nil {
		t.Fatal(err)
	}
	return next.(*State)
}

func recordOf(t *testing.T, a *Assignment) feed.Record {
	t.Helper()
	r, err := a.Record()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func scopeOf(t *testing.T, s string) Scope {
	t.Helper()
	scope, err := ParseScope(strings.ReplaceAll(s, "/S", "/00000000-0000-0000-0000-000000000001"))
	if err != nil {
		t.Fatal(err)
	}
	return scope
}

func TestCheck(t *testing.T) {
	raw, err := os.ReadFile("testdata/check.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Name        string
		Assignments []struct {
			Principal, Role, Scope string
			feed.Window
		}
		Asks struct {
			Groups        []string
			Action, Scope string
			At            int64
		}
		Allowed bool
		Reason  string
	}
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			state := new(State)
			for i, a := range c.Assignments {
				role := BuiltIn[slices.IndexFunc(BuiltIn, func(r Role) bool { return r.Name == a.Role })].ID
				state = apply(t, state, recordOf(t, &Assignment{
					ID: idOf(c.Name + string(rune('a'+i))), Principal: idOf(a.Principal), Role: role, Scope: scopeOf(t, a.Scope), Window: a.Window,
				}))
			}
			q := Query{Principal: idOf("alice"), Action: c.Asks.Action, Scope: scopeOf(t, c.Asks.Scope), At: time.Unix(c.Asks.At, 0)}
			for _, g := range c.Asks.Groups {
				q.Groups = append(q.Groups, idOf(g))
			}
			slices.SortFunc(q.Groups, directory.ID.Compare)
			d := state.Check(q)
			if d.Allowed != c.Allowed || d.Allowed != (d.By != nil) || !strings.Contains(d.Reason(), c.Reason) {
				t.Errorf("allowed %t because %q, want %t because %q", d.Allowed, d.Reason(), c.Allowed, c.Reason)
			}
		})
	}
}

func TestMatch(t *testing.T) {
	raw, err := os.ReadFile("testdata/match.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Fields(line)
		if got := Match(f[0], f[1]); got != (f[2] == "yes") {
			t.Errorf("Match(%q, %q) = %t", f[0], f[1], got)
		}
	}
}

func TestRemovalLeavesNothingBelow(t *testing.T) {
	rg, cluster, other := scopeOf(t, "/subscriptions/S/resourceGroups/rg"), scopeOf(t, "/subscriptions/S/resourceGroups/RG/providers/P/t/c"), scopeOf(t, "/subscriptions/S/resourceGroups/rg2")
	var records []feed.Record
	for i, scope := range []Scope{rg, cluster, other} {
		records = append(records, recordOf(t, &Assignment{ID: idOf(string(rune('a' + i))), Principal: idOf("alice"), Role: Reader, Scope: scope}))
	}
	before := apply(t, new(State), records...)
	after := apply(t, before, before.Removal(rg)...)
	q := Query{Principal: idOf("alice"), Action: "P/t/read"}
	for scope, want := range map[Scope]bool{rg: false, cluster: false, other: true} {
		if q.Scope = scope; after.Check(q).Allowed != want {
			t.Errorf("after the removal, at %s: allowed is not %t", scope, want)
		}
		if !before.Check(q).Allowed {
			t.Errorf("the earlier state has changed at %s", scope)
		}
	}
	if q.Scope = scopeOf(t, "/subscriptions/S"); !after.Reaches(q) {
		t.Error("the role that is left below the subscription is not seen from it")
	}
	if q.Principal = idOf("bob"); after.Reaches(q) {
		t.Error("a principal without any role reaches the subscription")
	}
}

func TestReplacingAnAssignment(t *testing.T) {
	a := &Assignment{ID: idOf("a"), Principal: idOf("alice"), Role: Owner, Scope: scopeOf(t, "/subscriptions/S")}
	state := apply(t, new(State), recordOf(t, a))
	moved := *a
	moved.Scope = scopeOf(t, "/subscriptions/S/resourceGroups/rg")
	state = apply(t, state, recordOf(t, &moved))
	if state.Check(Query{Principal: idOf("alice"), Action: "P/t/read", Scope: a.Scope}).Allowed {
		t.Error("the assignment still holds at its old scope")
	}
}

func TestContains(t *testing.T) {
	var zero Scope
	s := scopeOf(t, "/subscriptions/S")
	if zero.Contains(s) || s.Contains(zero) || zero.Contains(zero) || new(State).Check(Query{Action: "x/read"}).Allowed {
		t.Error("the zero scope contains something or is in something")
	}
}

func FuzzScope(f *testing.F) {
	for _, s := range []string{"/", "", "/subscriptions/x", "/a//b", "/a/../b", "/A/b/", "a", "/a%2fb", "/ä"} {
		f.Add(s, "/a/b")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		s, err := ParseScope(a)
		if err != nil {
			if s.Contains(s) {
				t.Fatalf("%q is refused and yet contains itself", a)
			}
			return
		}
		again, err := ParseScope(s.String())
		if err != nil || again != s {
			t.Fatalf("%q does not survive a second reading: %v", a, err)
		}
		upper, err := ParseScope(strings.ToUpper(s.String()))
		if err != nil || !s.Contains(upper) || !upper.Contains(s) {
			t.Fatalf("%q depends on letter case", a)
		}
		if other, err := ParseScope(b); err == nil && s.Contains(other) && other.Contains(s) && s.Key() != other.Key() {
			t.Fatalf("%q and %q contain each other", a, b)
		}
		if !Root.Contains(s) || (s.Contains(Root) && s != Root) {
			t.Fatalf("%q is not below the root", a)
		}
	})
}
