package guess

import (
	"net/netip"
	"strconv"
	"testing"
	"time"
)

var policy = Policy{Wrong: 10, AtOnce: 16, Lock: time.Minute, Doublings: 5, Forget: 24 * time.Hour}

// begin is Begin for tests that do not wait.
func (g *Limiter) begin(subject string, from netip.Addr) (done func(Outcome), ok bool) {
	done, _ = g.Begin(subject, from)
	return done, done != nil
}

func TestGuessesAtOnce(t *testing.T) {
	now := time.Unix(1e9, 0)
	from := netip.MustParseAddr("192.0.2.1")
	g := New(policy, func() time.Time { return now })
	var open []func(Outcome)
	for {
		done, ok := g.begin("a", from)
		if !ok {
			break
		}
		if open = append(open, done); len(open) > policy.AtOnce {
			t.Fatal("guesses at once are not limited")
		}
	}
	if len(open) != policy.AtOnce {
		t.Errorf("%d guesses at once, want %d: many clients of one account sign in at the same time", len(open), policy.AtOnce)
	}
	for _, done := range open {
		done(Wrong)
	}
	if _, ok := g.begin("a", from); ok {
		t.Error("no lock after many wrong guesses")
	}
	now = now.Add(policy.Lock << policy.Doublings)
	first, ok := g.begin("a", from)
	if !ok {
		t.Fatal("the lock does not end")
	}
	if _, ok := g.begin("a", from); ok {
		t.Error("after a lock more than one guess at a time")
	}
	first(Right)

	one, _ := g.begin("a", from)
	one(Wrong)
	allowed := 0
	for range 100 {
		if _, ok := g.begin("a", from); ok {
			allowed++
		}
	}
	if allowed != policy.Wrong-1 {
		t.Errorf("%d guesses under way after a wrong one", allowed)
	}
}

func TestGuessesApart(t *testing.T) {
	now := time.Unix(1e9, 0)
	g := New(policy, func() time.Time { return now })
	wrong := func(subject, from string) bool {
		done, ok := g.begin(subject, netip.MustParseAddr(from))
		if ok {
			done(Wrong)
		}
		return ok
	}
	for range policy.Wrong {
		wrong("a", "2001:db8::1")
	}
	for _, c := range []struct {
		subject, from string
		free          bool
	}{
		{"a", "2001:db8::1", false}, {"A", "2001:db8::ffff:2", false}, {"a", "2001:db8:0:1::1", true}, {"b", "2001:db8::1", true}, {"a", "192.0.2.1", true},
	} {
		if got := wrong(c.subject, c.from); got != c.free {
			t.Errorf("%s from %s: %t", c.subject, c.from, got)
		}
	}
	now = now.Add(policy.Forget + time.Hour)
	for range policy.Wrong {
		if !wrong("a", "2001:db8::1") {
			t.Fatal("nothing is forgotten after a day")
		}
	}
}

// TestWait: who may not guess is told when to come again, and may then.
func TestWait(t *testing.T) {
	now := time.Unix(1e9, 0)
	g := New(policy, func() time.Time { return now })
	from := netip.MustParseAddr("192.0.2.1")
	for range policy.Wrong {
		done, _ := g.Begin("a", from)
		done(Wrong)
	}
	for i := range policy.Doublings + 3 {
		done, wait := g.Begin("a", from)
		if want := policy.Lock << min(i, policy.Doublings); done != nil || wait != want {
			t.Fatalf("lock %d: wait %s, want %s", i+1, wait, want)
		}
		now = now.Add(wait)
		if done, wait = g.Begin("a", from); done == nil {
			t.Fatalf("lock %d does not end after %s", i+1, wait)
		}
		done(Wrong)
	}
}

// TestNotTried: guesses that were not compared count for nothing, and leave nothing behind that could push out what does.
func TestNotTried(t *testing.T) {
	now := time.Unix(1e9, 0)
	g := New(policy, func() time.Time { return now })
	from := netip.MustParseAddr("192.0.2.1")
	for range policy.Wrong {
		done, _ := g.begin("locked", from)
		done(Wrong)
	}
	for i := range 4 * Kept {
		done, ok := g.begin("other"+strconv.Itoa(i), from)
		if !ok {
			t.Fatal("not free")
		}
		done(NotTried)
	}
	if _, ok := g.begin("locked", from); ok {
		t.Error("a lock was pushed out without a guess")
	}
	for range 3 * policy.Wrong {
		done, ok := g.begin("honest", from)
		if !ok {
			t.Fatal("guesses that were not tried have locked somebody out")
		}
		done(NotTried)
	}
	if len(g.flying) != 0 {
		t.Errorf("%d guesses are unanswered for ever", len(g.flying))
	}
}

// TestEverywhere: somebody who guesses from many places is slowed down, and the owner is not locked out of the place they know.
func TestEverywhere(t *testing.T) {
	now := time.Unix(1e9, 0)
	p := policy
	p.Everywhere = 100
	g := New(p, func() time.Time { return now })
	home := netip.MustParseAddr("192.0.2.1")
	done, _ := g.begin("a", home)
	done(Right)
	allowed := 0
	for i := range 1000 {
		if done, ok := g.begin("a", netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)})); ok {
			allowed++
			done(Wrong)
		}
	}
	if allowed != p.Everywhere {
		t.Errorf("%d guesses from 1000 places, want %d", allowed, p.Everywhere)
	}
	if _, ok := g.begin("a", home); !ok {
		t.Error("the owner is locked out at home")
	}
	if _, ok := g.begin("b", netip.MustParseAddr("198.51.0.1")); !ok {
		t.Error("another account is locked")
	}
}
