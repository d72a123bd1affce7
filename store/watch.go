package store

import (
	"context"
	"sync"
	"time"
)

// Watch implements feed.Log: a signal at once, one after every write, and one every Poll in any case, by
// which the reader of an idle database knows that it has missed nothing. Signals not yet taken are one.
func (db *DB) Watch(ctx context.Context) (<-chan struct{}, error) {
	news := make(chan struct{}, 1)
	if db.engine.listen == nil {
		db.local.add(news)
		context.AfterFunc(ctx, func() { db.local.remove(news) })
	} else {
		go db.engine.listen(ctx, db, news)
	}
	out := make(chan struct{}, 1)
	out <- struct{}{}
	go func() {
		defer close(out)
		tick := time.NewTicker(db.poll())
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			case <-news:
			}
			signal(out)
		}
	}()
	return out, nil
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // there is one already
	}
}

// watchers are signalled after each write of this process.
type watchers struct {
	mu  sync.Mutex
	all map[chan<- struct{}]struct{}
}

func (w *watchers) add(c chan<- struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all == nil {
		w.all = map[chan<- struct{}]struct{}{}
	}
	w.all[c] = struct{}{}
}

func (w *watchers) remove(c chan<- struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.all, c)
}

func (w *watchers) signal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.all {
		signal(c)
	}
}
