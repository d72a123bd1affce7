package sts

import (
	"net/netip"
	"testing"
	"time"
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
