package sts

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/store/storetest"
)

// TestScheduleProperty lets years go by with rolls and withdrawals at any moment, and holds at each: some key signs, it was published a
// day before unless a key had to be replaced at once, and no token dies before its time with its key.
func TestScheduleProperty(t *testing.T) {
	material, err := makeKey(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		state, made := new(State), 0
		var emergency time.Time // the last time that a key may have had to sign at once; a clock that was set back does not set it back
		hurry := func() {
			if now.After(emergency) {
				emergency = now
			}
		}
		signed := map[string]time.Time{}
		change := func(plan func(*schedule, *freshKey)) {
			made++
			fresh := *material
			fresh.ID, fresh.Published = fmt.Sprint("key-", made), now
			s := newSchedule(state, now)
			plan(s, &fresh)
			s.arrange()
			next, err := state.Apply(s.changes().Records)
			if err != nil {
				t.Fatal(err)
			}
			state = next.(*State)
		}
		ensure := func(s *schedule, fresh *freshKey) {
			if s.due() {
				s.publish(fresh)
			}
			for _, old := range s.forgotten() {
				s.drop(old)
			}
		}
		change(ensure)
		hurry()
		for step := range 2000 {
			switch n := random.IntN(100); {
			case n < 70:
				now = now.Add(time.Duration(random.IntN(3600)) * time.Second)
			case n < 80:
				now = now.Add(time.Duration(random.IntN(40*24)) * time.Hour)
			case n < 81:
				hurry()
				now = now.Add(-time.Hour) // the clock is set back
				change(ensure)
			case n < 92:
				change(ensure)
			case n < 96:
				change(func(s *schedule, fresh *freshKey) { s.publish(fresh) })
			default:
				keys := state.Keys()
				gone := keys[random.IntN(len(keys))].ID
				if !state.Key(gone).Withdrawn {
					hurry()
				}
				delete(signed, gone)
				change(func(s *schedule, fresh *freshKey) {
					s.withdraw(gone)
					if s.due() {
						s.publish(fresh)
					}
				})
			}
			key := state.Signing(now)
			if key == nil {
				t.Fatalf("seed %d, step %d: no key signs at %s of %+v", seed, step, now, state.Keys())
			}
			if now.Sub(key.Published) < keyLead && emergency.Before(key.Published) {
				t.Fatalf("seed %d, step %d: %s signs %s after it was published", seed, step, key.ID, now.Sub(key.Published))
			}
			signed[key.ID] = now
			for id, at := range signed {
				if k := state.Key(id); at.Add(keyGrace).After(now) && (k == nil || !k.InForce(now)) {
					t.Fatalf("seed %d, step %d: a token of %s, signed %s ago, is refused", seed, step, id, now.Sub(at))
				}
			}
			if newest := state.Published(now); !newest[len(newest)-1].Retires.IsZero() {
				t.Fatalf("seed %d, step %d: the newest key retires without a successor", seed, step)
			}
		}
	}
}

// replicas are two processes on one database.
func replicas(t *testing.T, url string, now func() time.Time) (a, b *Keys) {
	t.Helper()
	open := func() *Keys {
		f := &feed.Follower{Log: storetest.Open(t, url), Now: now}
		must(t, f.Start(t.Context(), map[string]feed.State{Part: new(State)}))
		return &Keys{Feed: f, Now: now}
	}
	return open(), open()
}

func (k *Keys) signing(t *testing.T) string {
	t.Helper()
	key, private, err := k.signer(t.Context())
	must(t, err)
	if !private.PublicKey.Equal(key.public) {
		t.Errorf("the halves of %s do not belong together", key.ID)
	}
	return key.ID
}

// TestReplicasRollOnce: replicas that find the next key due at the same moment publish one, which both sign with when its time has come.
func TestReplicasRollOnce(t *testing.T) {
	for name, database := range storetest.Engines {
		t.Run(name, func(t *testing.T) {
			now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			a, b := replicas(t, database(t), func() time.Time { return now })
			ensure := func() {
				t.Helper()
				var wg sync.WaitGroup
				for _, k := range []*Keys{a, b} {
					wg.Go(func() {
						if err := k.Ensure(t.Context()); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				must(t, a.Feed.CatchUp(t.Context()))
				must(t, b.Feed.CatchUp(t.Context()))
			}
			wantKeys := func(n int) {
				t.Helper()
				if got := len(In(a.Feed.View()).Keys()); got != n {
					t.Errorf("there are %d keys, want %d", got, n)
				}
			}
			ensure()
			wantKeys(1)
			first := a.signing(t)
			now = now.Add(keyLife + time.Hour)
			ensure()
			wantKeys(2)
			next := In(a.Feed.View()).Keys()[1]
			if a.signing(t) != first || b.signing(t) != first {
				t.Error("the next key signs at once")
			}
			if In(b.Feed.View()).Key(next.ID) == nil {
				t.Error("the next key is not published by the other replica")
			}
			now = now.Add(keyLead)
			if a.signing(t) != next.ID || b.signing(t) != next.ID {
				t.Error("the next key does not sign in its time")
			}

			must(t, a.Withdraw(t.Context(), next.ID)) // the first goes on: it has not retired yet
			must(t, b.Feed.CatchUp(t.Context()))
			if a.signing(t) != first || b.signing(t) != first {
				t.Error("a withdrawn key signs, or one that nobody knew")
			}
			wantKeys(3) // it is old, so its next successor is published with the withdrawal
			must(t, b.Withdraw(t.Context(), first))
			must(t, a.Feed.CatchUp(t.Context()))
			if kid := a.signing(t); kid != b.signing(t) || kid == first || kid == next.ID {
				t.Errorf("%s signs", kid)
			}
			wantKeys(3) // the one that was published already took over at once
			if _, err := a.Feed.Secret(t.Context(), KindKey, next.ID); !errors.Is(err, feed.ErrNoSecret) {
				t.Errorf("the private half of a withdrawn key: %v", err)
			}

			last := a.signing(t)
			must(t, a.Roll(t.Context()))
			now = now.Add(keyLead + keyGrace + keyMemory + time.Hour)
			ensure()
			if In(b.Feed.View()).Key(last) != nil {
				t.Error("a key that retired long ago is still there")
			}
			if _, err := a.Feed.Secret(t.Context(), KindKey, last); !errors.Is(err, feed.ErrNoSecret) {
				t.Errorf("its private half: %v", err)
			}
		})
	}
}

// TestWithdrawnKeysAreForgotten: also the only one, which no successor had given an end, and one that an earlier version withdrew.
func TestWithdrawnKeysAreForgotten(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	a, _ := replicas(t, storetest.SQLite(t), func() time.Time { return now })
	must(t, a.Ensure(t.Context()))
	only := a.signing(t)
	must(t, a.Withdraw(t.Context(), only))
	if k := In(a.Feed.View()).Key(only); !k.Withdrawn || !k.Retires.Equal(now) {
		t.Errorf("withdrawn at %s: %t, it retires %s", now, k.Withdrawn, k.Retires)
	}
	earlier := a.signing(t)
	must(t, a.Feed.Update(t.Context(), func(v *feed.View, _ feed.Secrets) (feed.Change, error) {
		k := *In(v).Key(earlier)
		k.Withdrawn = true
		return feed.Change{Records: []feed.Record{record(KindKey, k.ID, &k)}}, nil
	}))
	must(t, a.Ensure(t.Context()))
	now = now.Add(keyMemory)
	must(t, a.Ensure(t.Context()))
	if n := len(In(a.Feed.View()).Keys()); n != 3 {
		t.Errorf("%d keys are listed, want 3", n)
	}
	now = now.Add(time.Minute)
	must(t, a.Ensure(t.Context()))
	if keys := In(a.Feed.View()).Keys(); len(keys) != 1 || keys[0].ID != a.signing(t) {
		t.Errorf("%d keys are left, want the one that signs", len(keys))
	}
}

// dying is a store that loses the connection at each commit.
type dying struct{ feed.Log }

var errKilled = errors.New("killed")

func (d dying) Write(ctx context.Context, plan func(feed.Tx) error) error {
	return d.Log.Write(ctx, func(tx feed.Tx) error { return errors.Join(plan(tx), errKilled) })
}

// TestKilledWhileRolling: a roll or withdrawal that does not come to its end leaves all as it was.
func TestKilledWhileRolling(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	a, _ := replicas(t, storetest.SQLite(t), func() time.Time { return now })
	must(t, a.Ensure(t.Context()))
	kid, revision := a.signing(t), a.Feed.View().Revision
	whole := a.Feed.Log
	a.Feed.Log = dying{whole}
	for name, do := range map[string]func(context.Context) error{
		"roll": a.Roll, "withdraw": func(ctx context.Context) error { return a.Withdraw(ctx, kid) },
	} {
		if err := do(t.Context()); !errors.Is(err, errKilled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	a.Feed.Log = whole
	must(t, a.Feed.CatchUp(t.Context()))
	if a.signing(t) != kid || a.Feed.View().Revision != revision {
		t.Errorf("%s signs at revision %d, was %s at %d", a.signing(t), a.Feed.View().Revision, kid, revision)
	}
}
