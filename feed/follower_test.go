package feed_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/store"
	"github.com/gatehouse-k8s/gatehouse/store/storetest"
)

// things is a state as simple as can be: the bodies by their keys.
type things map[string]string

func (s things) Apply(records []feed.Record) (feed.State, error) {
	next := maps.Clone(s)
	for _, r := range records {
		switch {
		case string(r.Body) == "poison":
			return nil, fmt.Errorf("%s is poison", r.Key)
		case r.Body == nil:
			delete(next, r.Key)
		default:
			next[r.Key] = string(r.Body)
		}
	}
	return next, nil
}

func in(v *feed.View) things { return v.Part("test").(things) }

func thing(key, body string) feed.Record {
	return feed.Record{Kind: "test/thing", Key: key, Body: []byte(body)}
}

// put is a plan that writes records whatever the view.
func put(records ...feed.Record) func(*feed.View, feed.Secrets) (feed.Change, error) {
	return func(*feed.View, feed.Secrets) (feed.Change, error) { return feed.Change{Records: records}, nil }
}

// replica is one process: its own handle of the database and its own follower.
type replica struct {
	*feed.Follower
	db *store.DB
}

func start(t *testing.T, url string) *replica {
	t.Helper()
	db := storetest.Open(t, url)
	db.Poll = time.Millisecond
	db.Logger = slog.New(slog.DiscardHandler)
	r := &replica{&feed.Follower{Log: db, Logger: db.Logger}, db}
	if err := r.Start(t.Context(), map[string]feed.State{"test": things{}}); err != nil {
		t.Fatal(err)
	}
	return r
}

func want(t *testing.T, v *feed.View, want things) {
	t.Helper()
	if !maps.Equal(in(v), want) {
		t.Fatalf("the view at revision %d has %v, want %v", v.Revision, in(v), want)
	}
}

// onBoth runs a test on both engines, with two replicas of one database.
func onBoth(t *testing.T, test func(t *testing.T, ctx context.Context, a, b *replica)) {
	for name, database := range storetest.Engines {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			url := database(t)
			test(t, ctx, start(t, url), start(t, url))
		})
	}
}

func TestUpdateIsInTheViewWhenItReturns(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, a, _ *replica) {
		before, changed := a.View(), a.Changed()
		if err := a.Update(ctx, put(thing("x", "1"), thing("y", "1"))); err != nil {
			t.Fatal(err)
		}
		want(t, a.View(), things{"x": "1", "y": "1"})
		want(t, before, things{})
		select {
		case <-changed:
		default:
			t.Error("Changed did not close")
		}
		if a.View().Revision != before.Revision+1 {
			t.Errorf("revision %d follows %d", a.View().Revision, before.Revision)
		}
		view := a.View()
		if err := a.Update(ctx, put()); err != nil || a.View() != view {
			t.Errorf("an empty change made another view (%v)", err)
		}
	})
}

func TestUpdatePlansOnTheHead(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, a, b *replica) {
		if err := b.Update(ctx, put(thing("x", "1"), thing("y", "1"))); err != nil {
			t.Fatal(err)
		}
		want(t, a.View(), things{})
		err := a.Update(ctx, func(v *feed.View, _ feed.Secrets) (feed.Change, error) {
			want(t, v, things{"x": "1", "y": "1"})
			return feed.Change{Records: []feed.Record{thing("x", "2"), {Kind: "test/thing", Key: "y"}}}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		want(t, a.View(), things{"x": "2"})
		if err := b.CatchUp(ctx); err != nil {
			t.Fatal(err)
		}
		want(t, b.View(), things{"x": "2"})
		if a.View().Position != b.View().Position {
			t.Errorf("the replicas are at %v and %v", a.View().Position, b.View().Position)
		}
	})
}

// TestUpdatesCount: no rule that a plan checks can be broken by a race.
func TestUpdatesCount(t *testing.T) {
	const each = 25
	onBoth(t, func(t *testing.T, ctx context.Context, a, b *replica) {
		var wg sync.WaitGroup
		for _, r := range []*replica{a, a, b, b} {
			wg.Go(func() {
				for range each {
					err := r.Update(ctx, func(v *feed.View, _ feed.Secrets) (feed.Change, error) {
						n, _ := strconv.Atoi(in(v)["count"])
						return feed.Change{Records: []feed.Record{thing("count", strconv.Itoa(n+1))}}, nil
					})
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		if err := a.CatchUp(ctx); err != nil {
			t.Fatal(err)
		}
		want(t, a.View(), things{"count": strconv.Itoa(4 * each)})
	})
}

func TestUpdateFails(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, a, b *replica) {
		view, refused := a.View(), errors.New("refused")
		err := a.Update(ctx, func(*feed.View, feed.Secrets) (feed.Change, error) {
			return feed.Change{Records: []feed.Record{thing("x", "1")}}, refused
		})
		if err != refused || a.View() != view {
			t.Errorf("a refused change gave %v and the view %v", err, a.View().Position)
		}
		if err := b.Update(ctx, put(thing("x", "1"))); err != nil {
			t.Fatal(err)
		}
		if b.View().Revision != 1 {
			t.Errorf("the refused change took a revision: the next is %d", b.View().Revision)
		}
	})
}

func TestSecretsAreNotInTheView(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, a, b *replica) {
		hidden := feed.Secret{Record: thing("x", "hidden")}
		err := a.Update(ctx, func(*feed.View, feed.Secrets) (feed.Change, error) {
			return feed.Change{Records: []feed.Record{thing("x", "shown")}, Secrets: []feed.Secret{hidden}}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		err = b.Update(ctx, func(v *feed.View, s feed.Secrets) (feed.Change, error) {
			want(t, v, things{"x": "shown"})
			got, err := s.Secret(ctx, "test/thing", "x")
			if string(got.Body) != "hidden" {
				t.Errorf("a plan reads the secret %q", got.Body)
			}
			return feed.Change{Secrets: []feed.Secret{{Record: feed.Record{Kind: "test/thing", Key: "x"}}}}, err
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Secret(ctx, "test/thing", "x"); !errors.Is(err, feed.ErrNoSecret) {
			t.Errorf("a deleted secret gives %v", err)
		}
		want(t, b.View(), things{"x": "shown"})
	})
}

// TestRun follows another replica, and ends with its context.
func TestRun(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, a, b *replica) {
		running, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- a.Run(running) }()
		for i := range 10 {
			body := strconv.Itoa(i)
			if err := b.Update(ctx, put(thing("x", body))); err != nil {
				t.Fatal(err)
			}
			waitFor(t, ctx, a, func(v *feed.View) bool { return in(v)["x"] == body })
		}
		stop()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-ctx.Done():
			t.Fatal("Run goes on after its context")
		}
	})
}

func waitFor(t *testing.T, ctx context.Context, r *replica, ok func(*feed.View) bool) {
	t.Helper()
	for {
		changed := r.Changed() // before the look, lest a change in between be missed
		if ok(r.View()) {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("the view stays at %v", r.View().Position)
		}
	}
}

func TestNewEpochReloads(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, a, b *replica) {
		if err := a.Update(ctx, put(thing("x", "1"), thing("y", "1"))); err != nil {
			t.Fatal(err)
		}
		if err := b.Update(ctx, put(feed.Record{Kind: "test/thing", Key: "y"})); err != nil {
			t.Fatal(err)
		}
		if err := b.db.NewEpoch(ctx); err != nil {
			t.Fatal(err)
		}

		err := a.Update(ctx, func(*feed.View, feed.Secrets) (feed.Change, error) {
			t.Error("a plan ran on a view of the old epoch")
			return feed.Change{}, nil
		})
		if !errors.Is(err, feed.ErrReload) {
			t.Errorf("an update over the change of epochs gave %v", err)
		}
		want(t, a.View(), things{"x": "1"})
		if err := a.Update(ctx, put(thing("z", "2"))); err != nil {
			t.Fatal(err)
		}
		if err := b.CatchUp(ctx); err != nil { // this one reloads by itself
			t.Fatal(err)
		}
		want(t, b.View(), things{"x": "1", "z": "2"})
		if a.View().Position != b.View().Position {
			t.Errorf("the replicas are at %v and %v", a.View().Position, b.View().Position)
		}
	})
}

func TestForgottenDeletionReloads(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, a, b *replica) {
		for _, r := range []feed.Record{thing("x", "1"), thing("y", "1")} {
			if err := a.Update(ctx, put(r)); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.CatchUp(ctx); err != nil {
			t.Fatal(err)
		}
		if err := a.Update(ctx, put(feed.Record{Kind: "test/thing", Key: "x"})); err != nil {
			t.Fatal(err)
		}
		if err := a.db.Prune(ctx, 0); err != nil {
			t.Fatal(err)
		}
		if err := b.CatchUp(ctx); err != nil {
			t.Fatal(err)
		}
		want(t, b.View(), things{"y": "1"})
	})
}

// TestStale moves the clock: a follower is fresh as long as the database answers, also when nothing is written.
func TestStale(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, a, b *replica) {
		now := time.Date(2026, 3, 29, 1, 59, 50, 0, time.UTC)
		a.Now = func() time.Time { return now }
		hear := func() {
			t.Helper()
			if err := a.CatchUp(ctx); err != nil {
				t.Fatal(err)
			}
		}
		wantStale := func(stale bool) {
			t.Helper()
			if a.Stale() != stale {
				t.Fatalf("Stale is %v, want %v", !stale, stale)
			}
		}
		hear()
		now = now.Add(feed.DefaultMaxStaleness)
		wantStale(false)
		now = now.Add(1)
		wantStale(true)
		hear()
		wantStale(false)
		now = now.Add(feed.DefaultMaxStaleness)
		if err := a.Update(ctx, put(thing("x", "1"))); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Second)
		wantStale(false) // a write is a word from the database as well

		a.MaxStaleness = time.Second
		wantStale(false)
		if err := a.db.Close(); err != nil {
			t.Fatal(err)
		}
		now = now.Add(1)
		if a.CatchUp(ctx) == nil || a.Update(ctx, put(thing("x", "2"))) == nil {
			t.Error("a closed database answers")
		}
		wantStale(true)
		want(t, a.View(), things{"x": "1"}) // old, but whole
	})
}

// TestRunHearsAnIdleDatabase: without a single write, the follower knows that it misses nothing.
func TestRunHearsAnIdleDatabase(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, a, _ *replica) {
		asked := make(chan time.Time)
		now := time.Date(2026, 3, 29, 1, 59, 50, 0, time.UTC)
		a.Now = func() time.Time {
			select {
			case asked <- now:
			case <-ctx.Done():
			}
			return now
		}
		running, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- a.Run(running) }()
		for range 3 { // the clock is read before each question
			select {
			case <-asked:
			case <-ctx.Done():
				t.Fatal("the follower does not ask an idle database")
			}
		}
		stop()
		for {
			select {
			case <-asked:
				continue
			case err := <-done:
				if err != nil {
					t.Error(err)
				}
				return
			}
		}
	})
}

// TestPoison: what a state cannot fold is not written. Were it there nevertheless (a newer program wrote it), the
// view stays whole and each look reports it.
func TestPoison(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, a, b *replica) {
		if err := a.Update(ctx, put(thing("x", "1"))); err != nil {
			t.Fatal(err)
		}
		if a.Update(ctx, put(thing("x", "poison"))) == nil {
			t.Error("poison was written")
		}
		if err := b.CatchUp(ctx); err != nil || b.View().Revision != 1 {
			t.Errorf("after it the feed is at %d (%v)", b.View().Revision, err)
		}

		behind := func(r feed.Record) {
			t.Helper()
			err := b.db.Write(ctx, func(tx feed.Tx) error {
				_, err := tx.Append(ctx, feed.Change{Records: []feed.Record{r}})
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		behind(thing("y", "poison"))
		later := time.Now().Add(time.Hour)
		a.Now = func() time.Time { return later }
		for range 2 {
			if a.CatchUp(ctx) == nil || a.Update(ctx, put()) == nil {
				t.Error("poison was folded")
			}
		}
		want(t, a.View(), things{"x": "1"})
		if !a.Stale() {
			t.Error("who cannot follow is not stale")
		}
		behind(thing("y", "2"))
		if err := a.CatchUp(ctx); err != nil || a.Stale() {
			t.Fatal(err)
		}
		want(t, a.View(), things{"x": "1", "y": "2"})
	})
}

// hanging is a database that accepts a question and never answers.
type hanging struct{ feed.Log }

func (hanging) Since(ctx context.Context, _ feed.Position) ([]feed.Record, feed.Position, error) {
	<-ctx.Done()
	return nil, feed.Position{}, ctx.Err()
}

func TestCatchUpGivesUp(t *testing.T) {
	a := start(t, storetest.SQLite(t))
	answering := a.Log
	a.Log, a.MaxStaleness = hanging{answering}, time.Millisecond
	if err := a.CatchUp(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a database that hangs gave %v", err)
	}
	a.Log, a.MaxStaleness = answering, time.Minute
	if err := a.CatchUp(t.Context()); err != nil {
		t.Error(err)
	}
}
