package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultMaxStaleness is how long a follower may be without word from the database before it counts as stale.
const DefaultMaxStaleness = 30 * time.Second

// Follower keeps the newest View. The zero value of each optional field works.
type Follower struct {
	Log          Log
	MaxStaleness time.Duration    // zero: DefaultMaxStaleness
	Now          func() time.Time // zero: time.Now
	Logger       *slog.Logger     // zero: slog.Default

	empty map[string]State
	view  atomic.Pointer[View]
	heard atomic.Int64 // Unix nanoseconds of the last word from the database
	mu    sync.Mutex   // serializes who moves view forward

	changed chan struct{} // closed and replaced on each new view; under waitMu
	waitMu  sync.Mutex
}

// Start loads everything and returns when the first view is ready. parts maps each noun's name to its empty state.
func (f *Follower) Start(ctx context.Context, parts map[string]State) error {
	f.empty = maps.Clone(parts)
	f.changed = make(chan struct{})
	if err := f.reload(ctx); err != nil {
		return fmt.Errorf("load state: %w", err)
	}
	return nil
}

// Run follows the feed until ctx ends. Failures are logged and tried again at the next signal; meanwhile
// the follower grows stale, which Stale reports.
func (f *Follower) Run(ctx context.Context) error {
	signals, err := f.Log.Watch(ctx)
	if err != nil {
		return fmt.Errorf("watch the change feed: %w", err)
	}
	for range signals {
		if err := f.CatchUp(ctx); err != nil && ctx.Err() == nil {
			f.logger().Error("following the change feed failed; trying again", "err", err)
		}
	}
	return nil
}

// View returns the newest view. It never blocks.
func (f *Follower) View() *View { return f.view.Load() }

// Changed returns a channel that closes when a view newer than the present one is published.
func (f *Follower) Changed() <-chan struct{} {
	f.waitMu.Lock()
	defer f.waitMu.Unlock()
	return f.changed
}

// Stale reports whether the database has been silent for longer than MaxStaleness: then this replica may
// miss a removal and must not let anyone in by the directory.
func (f *Follower) Stale() bool {
	return f.now().Sub(time.Unix(0, f.heard.Load())) > f.maxStaleness()
}

// CatchUp brings the view to the head of the feed.
func (f *Follower) CatchUp(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	asked := f.now()
	// A database that hangs must not keep f.mu: once it, or another in its place, answers again, so must we.
	limited, cancel := context.WithTimeout(ctx, f.maxStaleness())
	records, to, err := f.Log.Since(limited, f.View().Position)
	cancel()
	if errors.Is(err, ErrReload) {
		return f.reload(ctx)
	}
	if err != nil {
		return err
	}
	if to != f.View().Position {
		next, err := f.View().apply(records, to)
		if err != nil {
			return err
		}
		f.publish(next)
	}
	f.heard.Store(asked.UnixNano()) // not before: who cannot fold what he hears is as good as deaf
	return nil
}

// Update makes one write. plan sees the view at the head, and secrets as they are, under the store's
// write lock; what it returns commits as one revision. Update returns when this process's view has it.
// plan may run for a change that then fails to commit, so it must have no effects of its own.
func (f *Follower) Update(ctx context.Context, plan func(*View, Secrets) (Change, error)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var next *View
	asked := f.now()
	err := f.Log.Write(ctx, func(tx Tx) error {
		missed, head, err := tx.Since(ctx, f.View().Position)
		if err != nil {
			return err
		}
		view, err := f.View().apply(missed, head)
		if err != nil {
			return err
		}
		change, err := plan(view, tx)
		if err != nil {
			return err
		}
		to, err := tx.Append(ctx, change)
		if err != nil {
			return err
		}
		next, err = view.apply(change.Records, to) // what cannot be folded must not commit: no replica could go on
		return err
	})
	if errors.Is(err, ErrReload) {
		if err := f.reload(ctx); err != nil {
			return err
		}
		return fmt.Errorf("the database was replaced by a backup while writing: %w", err)
	}
	if err != nil {
		return err
	}
	f.heard.Store(asked.UnixNano())
	if next.Position != f.View().Position {
		f.publish(next)
	}
	return nil
}

// Secret reads a secret from the store.
func (f *Follower) Secret(ctx context.Context, kind Kind, key string) (Secret, error) {
	return f.Log.Secret(ctx, kind, key)
}

func (f *Follower) reload(ctx context.Context) error {
	const batch = 1 << 18 // few and large: each batch copies what it touches of an immutable state
	asked := f.now()
	next := &View{parts: maps.Clone(f.empty)}
	var (
		pending []Record
		err     error
	)
	flush := func() error {
		next, err = next.apply(pending, Position{})
		pending = pending[:0]
		return err
	}
	pos, err := f.Log.Load(ctx, func(r Record) error {
		if pending = append(pending, r); len(pending) < batch {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	if err := flush(); err != nil {
		return err
	}
	next.Position = pos
	f.heard.Store(asked.UnixNano())
	f.publish(next)
	return nil
}

func (f *Follower) publish(v *View) {
	f.view.Store(v)
	f.waitMu.Lock()
	close(f.changed)
	f.changed = make(chan struct{})
	f.waitMu.Unlock()
}

func (f *Follower) maxStaleness() time.Duration {
	if f.MaxStaleness != 0 {
		return f.MaxStaleness
	}
	return DefaultMaxStaleness
}

func (f *Follower) now() time.Time {
	if f.Now != nil {
		return f.Now()
	}
	return time.Now()
}

func (f *Follower) logger() *slog.Logger {
	if f.Logger != nil {
		return f.Logger
	}
	return slog.Default()
}
