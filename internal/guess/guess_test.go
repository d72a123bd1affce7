package guess

import (
	"net/netip"
	"testing"
	"time"
)

var policy = Policy{Wrong: 10, AtOnce: 16, Lock: time.Minute, Doublings: 5, Forget: 24 * time.Hour}

// begin is Begin for tests that do not wait.
func (g *Limiter) begin(subject string, from netip.Addr) (done func(bool), ok bool) {
	done, _ = g.Begin(subject, from)
	return done, done != nil
}

func TestGuessesAtOnce(t *testing.T) {
	now := time.Unix(1e9, 0)
	from := netip.MustParseAddr("192.0.2.1")
	g := New(policy, func() time.Time { return now })
	var open []func(bool)
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
		done(false)
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
	first(true)

	one, _ := g.begin("a", from)
	one(false)
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
			done(false)
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
		done(false)
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
		done(false)
	}
}
