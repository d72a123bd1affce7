package directory

import (
	"slices"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
)

func sorted(ids ...ID) []ID {
	slices.SortFunc(ids, ID.Compare)
	return ids
}

func TestClosure(t *testing.T) {
	w := newWorld(t)
	alice := w.user("alice")
	inner := w.group("inner", alice.ID)
	middle := w.group("middle", inner.ID)
	outer := w.group("outer", middle.ID)
	lonely := w.group("lonely")
	must(t, w.AddMembers(w.ctx, System, inner.ID, feed.Window{}, outer.ID)) // a circle
	now, s := w.clock(), w.State()

	all := sorted(inner.ID, middle.ID, outer.ID)
	if got, until := s.GroupsOf(alice.ID, now); !slices.Equal(got, all) || until != 0 {
		t.Errorf("groups of Alice: %v until %d, want %v", got, until, all)
	}
	if got, _ := s.GroupsOf(inner.ID, now); !slices.Equal(got, all) {
		t.Errorf("groups of a group in a circle: %v, want %v", got, all)
	}
	if got := s.TransitiveMembers(outer.ID, now); !slices.Equal(got, sorted(alice.ID, inner.ID, middle.ID)) {
		t.Errorf("transitive members: %v", got)
	}
	if got := s.Members(outer.ID, now); !slices.Equal(got, []ID{middle.ID}) {
		t.Errorf("members: %v", got)
	}
	if got := s.MemberOf(alice.ID, now); !slices.Equal(got, []ID{inner.ID}) {
		t.Errorf("memberOf: %v", got)
	}
	if !s.IsIn(alice.ID, outer.ID, now) || s.IsIn(alice.ID, lonely.ID, now) || s.IsIn(lonely.ID, outer.ID, now) {
		t.Error("IsIn does not agree with GroupsOf")
	}

	must(t, w.DeleteGroup(w.ctx, System, middle.ID))
	if got, _ := w.State().GroupsOf(alice.ID, now); !slices.Equal(got, []ID{inner.ID}) {
		t.Errorf("after a group between was deleted: %v", got)
	}
	if got := w.State().Members(outer.ID, now); len(got) != 0 {
		t.Errorf("a deleted group is still a member: %v", got)
	}
}

// TestWindows: a membership holds from its first second until before its last bound, with no job in between.
func TestWindows(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	g := w.group("g")
	outer := w.group("outer", g.ID)
	from := w.clock().Add(time.Hour)
	until := from.Add(8 * time.Hour)
	must(t, w.AddMembers(w.ctx, System, g.ID, feed.Window{From: from.Unix(), Until: until.Unix()}, alice.ID))
	must(t, w.AddMembers(w.ctx, System, g.ID, feed.Window{}, bob.ID))
	s := w.State()
	for _, c := range []struct {
		name string
		at   time.Time
		in   bool
		next int64
	}{
		{"before", from.Add(-time.Second), false, from.Unix()},
		{"at the first second", from, true, until.Unix()},
		{"in the last second", until.Add(-time.Nanosecond), true, until.Unix()},
		{"at the end", until, false, 0},
		{"long after", until.AddDate(1, 0, 0), false, 0},
	} {
		groups, next := s.GroupsOf(alice.ID, c.at)
		if in := slices.Contains(groups, outer.ID); in != c.in || next != c.next {
			t.Errorf("%s: in %t until %d, want %t until %d", c.name, in, next, c.in, c.next)
		}
		if slices.Contains(s.Members(g.ID, c.at), alice.ID) != c.in || s.IsIn(alice.ID, g.ID, c.at) != c.in ||
			slices.Contains(s.TransitiveMembers(outer.ID, c.at), alice.ID) != c.in {
			t.Errorf("%s: the two directions do not agree", c.name)
		}
		if _, next := s.GroupsOf(bob.ID, c.at); next != 0 {
			t.Errorf("%s: Bob's groups change at %d", c.name, next)
		}
	}
	wantKind(t, "a membership that is to come is there already", w.AddMembers(w.ctx, System, g.ID, feed.Window{}, alice.ID), fault.Invalid)
	w.advance(10 * time.Hour)
	must(t, w.AddMembers(w.ctx, System, g.ID, feed.Window{}, alice.ID)) // the old one is over
	if !w.State().IsIn(alice.ID, outer.ID, w.clock()) || len(w.State().Members(g.ID, w.clock())) != 2 {
		t.Error("a membership that is over cannot be renewed")
	}
	must(t, w.RemoveMember(w.ctx, System, g.ID, alice.ID))
	wantKind(t, "removing twice", w.RemoveMember(w.ctx, System, g.ID, alice.ID), fault.NotFound)
}
