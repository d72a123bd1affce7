package sts

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/internal/guess"
)

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

// TestSpraying: one network cannot try many names fast. What was right, or was not tried, does not count, nor does this machine.
func TestSpraying(t *testing.T) {
	w := newWorld(t)
	dir := directory.In(w.srv.Feed.View())
	n := 0
	try := func(from string, o guess.Outcome) error {
		n++
		done, err := w.srv.guess(t.Context(), dir, w.tenant, nil, fmt.Sprintf("user%d@%s", n, domain), netip.MustParseAddr(from))
		if err == nil {
			done(o)
		}
		return err
	}
	for range 2 * sprayLimit {
		must(t, try("192.0.2.1", guess.Right))
		must(t, try("192.0.2.1", guess.NotTried))
		must(t, try("127.0.0.1", guess.Wrong))
	}
	for range sprayLimit {
		must(t, try("2001:db8::1", guess.Wrong))
	}
	if f := (*refusal)(nil); !errors.As(try("2001:db8::2", guess.Wrong), &f) || f.number != 90055 {
		t.Errorf("more wrong passwords within a minute: %v", f)
	}
	must(t, try("2001:db8:0:1::1", guess.Wrong))
	w.pass(time.Minute)
	must(t, try("2001:db8::1", guess.Wrong))
}
