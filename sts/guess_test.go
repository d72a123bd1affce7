package sts

import (
	"net/netip"
	"testing"
	"time"
)

func TestGuessesAtOnce(t *testing.T) {
	now := time.Unix(1e9, 0)
	from := netip.MustParseAddr("192.0.2.1")
	g := newGuesses(func() time.Time { return now })
	var open []func(bool)
	for {
		done, ok := g.begin("a", from)
		if !ok {
			break
		}
		if open = append(open, done); len(open) > guessInFlight {
			t.Fatal("guesses at once are not limited")
		}
	}
	if len(open) != guessInFlight {
		t.Errorf("%d guesses at once, want %d: many clients of one account sign in at the same time", len(open), guessInFlight)
	}
	for _, done := range open {
		done(false)
	}
	if _, ok := g.begin("a", from); ok {
		t.Error("no lock after many wrong guesses")
	}
	now = now.Add(lockFirst << lockDoublings)
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
	if allowed != guessLimit-1 {
		t.Errorf("%d guesses under way after a wrong one", allowed)
	}
}

func TestGuessesApart(t *testing.T) {
	now := time.Unix(1e9, 0)
	g := newGuesses(func() time.Time { return now })
	wrong := func(subject, from string) bool {
		done, ok := g.begin(subject, netip.MustParseAddr(from))
		if ok {
			done(false)
		}
		return ok
	}
	for range guessLimit {
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
	now = now.Add(guessForget + time.Hour)
	for range guessLimit {
		if !wrong("a", "2001:db8::1") {
			t.Fatal("nothing is forgotten after a day")
		}
	}
}

func TestMeter(t *testing.T) {
	now := time.Unix(0, 0)
	const limit = 3
	m := newMeter(func() time.Time { return now }, limit)
	from, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for range limit {
		if !m.take(from) {
			t.Fatal("stopped too early")
		}
	}
	if m.take(from) || !m.take(other) {
		t.Error("the limit is not one for each address")
	}
	m.giveBack(from)
	if !m.take(from) || m.take(from) {
		t.Error("giving one back is not worth one")
	}
	now = now.Add(time.Minute)
	m.giveBack(from)
	for range limit {
		if !m.take(from) {
			t.Error("the next minute does not begin anew")
		}
	}
	if m.take(from) {
		t.Error("what is given back late counts for more")
	}
}
