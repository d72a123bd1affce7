package feed

import (
	"maps"
	"math/rand/v2"
	"testing"
	"time"
)

// TestMapAgainstGo compares random edits with Go's own map, and checks that no earlier version ever changes.
func TestMapAgainstGo(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	type version struct {
		m    Map[int, int]
		want map[int]int
	}
	versions := []version{{want: map[int]int{}}}
	for range 200 {
		from := versions[random.IntN(len(versions))]
		e, want := from.m.Edit(), maps.Clone(from.want)
		for range random.IntN(50) {
			k, v := random.IntN(3000), random.Int()
			if random.IntN(3) == 0 {
				e.Delete(k)
				delete(want, k)
			} else {
				e.Set(k, v)
				want[k] = v
			}
			expect, has := want[k]
			if got, ok := e.Get(k); ok != has || got != expect {
				t.Fatalf("the editor does not read its own write of %d", k)
			}
		}
		versions = append(versions, version{e.Map(), want})
	}
	for i, v := range versions {
		if got := maps.Collect(v.m.All()); !maps.Equal(got, v.want) || v.m.Len() != len(v.want) {
			t.Fatalf("version %d has %d entries (Len %d), want %d", i, len(got), v.m.Len(), len(v.want))
		}
	}
}

func TestWindow(t *testing.T) {
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	for _, c := range []struct {
		name  string
		w     Window
		t     int64
		holds bool
		next  int64
	}{
		{"open", Window{}, 50, true, 0},
		{"before", Window{10, 20}, 9, false, 10},
		{"at its beginning", Window{10, 20}, 10, true, 20},
		{"just before its end", Window{10, 20}, 19, true, 20},
		{"at its end", Window{10, 20}, 20, false, 0},
		{"no end", Window{From: 10}, 11, true, 0},
		{"no beginning", Window{Until: 20}, 11, true, 20},
	} {
		if c.w.Holds(at(c.t)) != c.holds || c.w.Next(at(c.t)) != c.next {
			t.Errorf("%s: Holds %v Next %d", c.name, c.w.Holds(at(c.t)), c.w.Next(at(c.t)))
		}
	}
}
