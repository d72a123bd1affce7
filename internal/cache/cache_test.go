package cache

import (
	"sync"
	"testing"
)

func TestBoundedAndKeepsWhatIsUsed(t *testing.T) {
	const limit = 6400
	c := New[int, int](limit)
	c.Put(-1, 42)
	for i := range 20 * limit {
		c.Put(i, i)
		if v, ok := c.Get(-1); !ok || v != 42 {
			t.Fatalf("an entry in use was lost after %d others", i+1)
		}
	}
	held := 0
	for i := range 20 * limit {
		if v, ok := c.Get(i); ok {
			if v != i {
				t.Fatalf("key %d has the value %d", i, v)
			}
			held++
		}
	}
	if held < limit/2 || held > 3*limit {
		t.Errorf("%d entries are held, with a limit of %d for a generation", held, limit)
	}
}

func TestReplaces(t *testing.T) {
	c := New[string, int](100)
	c.Put("a", 1)
	c.Put("a", 2)
	if v, _ := c.Get("a"); v != 2 {
		t.Errorf("got %d", v)
	}
	if _, ok := c.Get("b"); ok {
		t.Error("found what was never put")
	}
}

func TestConcurrent(t *testing.T) {
	c := New[int, int](64)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 5000 {
				c.Put(i%300, i%300)
				if v, ok := c.Get((i * g) % 300); ok && v != (i*g)%300 {
					t.Errorf("key %d has the value %d", (i*g)%300, v)
				}
			}
		})
	}
	wg.Wait()
}
