package signin

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"
)

// ErrNotFound: there is no such entry.
var ErrNotFound = errors.New("no such sign-in")

// Query asks for a piece of a tenant's log. The newest entry comes first.
type Query struct {
	Tenant      string
	From, To    ID    // From <= id < To; zero: open
	Field       Field // entries whose Key of it is this one; empty: all
	Key         []byte
	OldestFirst bool
	Limit       int
}

// Store keeps entries. Every method may be called at the same time as any other.
type Store interface {
	// AppendSignIns adds entries, all or none. One that is there already stays as it is, so a failed call can be repeated.
	AppendSignIns(ctx context.Context, entries []Entry) error

	// SignIns returns at most q.Limit entries, in the order of their ids.
	SignIns(ctx context.Context, q Query) ([]Entry, error)

	// SweepSignIns drops the entries whose id is lower, a bounded number at a time, and reports whether there may be more.
	SweepSignIns(ctx context.Context, before ID) (more bool, err error)
}

const (
	linger    = 200 * time.Millisecond // that the first entry of a batch waits for others
	pause     = time.Second            // until a failed write is tried again
	batch     = 500                    // entries of a write
	queued    = 20000                  // entries that wait at most, of about 1 KB each
	writeTime = 30 * time.Second       // that a write may take
	clockBack = 60_000                 // milliseconds that the clock may be behind the newest entry without being taken for set back
)

// Log writes entries to a store and reads them. A nil Log drops what is recorded, for tests.
type Log struct {
	store  Store
	logger *slog.Logger
	random io.Reader

	mu       sync.Mutex
	quota    quota
	last     int64 // tick of the newest id
	queue    []Entry
	room     int           // entries that wait at most
	recorded int64         // entries that were ever queued
	written  int64         // of these
	attempts int64         // writes that were tried
	err      error         // of the last one
	lost     int64         // entries that the queue had no room for, since the last report
	tried    chan struct{} // closed and replaced after each write
	closed   bool

	kick chan struct{} // wakes the writer
	stop chan struct{}
	done chan struct{}
}

// NewLog makes a log and starts its writer. Close ends it.
func NewLog(store Store, logger *slog.Logger) *Log {
	l := &Log{
		store: store, logger: logger, random: rand.Reader, quota: newQuota(), room: queued,
		tried: make(chan struct{}), kick: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	go l.run()
	return l
}

// Record adds an attempt that was made at a time. It never waits. What names no tenant is in nobody's log.
func (l *Log) Record(at time.Time, e Entry) {
	if l == nil || TenantKey(e.Tenant) == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, summary := range l.quota.turn(at) {
		l.addLocked(at, summary)
	}
	if l.quota.admit(&e) {
		l.addLocked(at, e)
	}
}

func (l *Log) addLocked(at time.Time, e Entry) {
	if len(l.queue) >= l.room || l.closed {
		if l.lost++; l.lost == 1 {
			l.logger.Error("the sign-in log is written too slowly; attempts are missing in it until it can be written", "err", l.err)
		}
		return
	}
	tick := tickOf(at)
	if l.last-tick < clockBack*ticks { // the order of recording is that of the ids, but not until a clock that was set back catches up
		tick = max(tick, l.last+1)
	}
	l.last = tick
	e.ID = idAt(tick)
	if _, err := io.ReadFull(l.random, e.ID[9:]); err != nil {
		panic(err) // crypto/rand does not fail
	}
	e.cut()
	l.queue = append(l.queue, e)
	l.recorded++
	switch len(l.queue) {
	case 1:
		time.AfterFunc(linger, l.wake)
	case batch:
		l.wake()
	}
}

func (l *Log) wake() {
	select {
	case l.kick <- struct{}{}:
	default: // awake already
	}
}

// run is the one writer.
func (l *Log) run() {
	defer close(l.done)
	for {
		select {
		case <-l.kick:
			for l.write(context.Background()) {
			}
		case <-l.stop:
			return
		}
	}
}

// write writes a batch and reports whether there is more to write now.
func (l *Log) write(ctx context.Context) bool {
	l.mu.Lock()
	entries := l.queue[:min(len(l.queue), batch)]
	l.mu.Unlock()
	var err error
	if len(entries) > 0 {
		limited, cancel := context.WithTimeout(ctx, writeTime)
		err = l.store.AppendSignIns(limited, entries)
		cancel()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.attempts++
	switch {
	case err != nil:
		if l.err == nil {
			l.logger.Error("the sign-in log cannot be written; it will be tried again", "waiting", len(l.queue), "err", err)
		}
		time.AfterFunc(pause, l.wake)
	case l.lost > 0:
		l.logger.Error("attempts are missing in the sign-in log, because it was written too slowly", "attempts", l.lost)
		l.lost = 0
	}
	if l.err = err; err == nil {
		l.written += int64(len(entries))
		if l.queue = l.queue[len(entries):]; len(l.queue) == 0 {
			l.queue = nil // lets go of the memory
		}
	}
	close(l.tried)
	l.tried = make(chan struct{})
	return err == nil && len(l.queue) > 0
}

// Flush returns when everything that was recorded before it is in the store.
func (l *Log) Flush(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	target, attempts := l.recorded, l.attempts
	for l.written < target {
		if l.err != nil && l.attempts > attempts+1 { // one may have been under way already
			return fmt.Errorf("write the sign-in log: %w", l.err)
		}
		if l.closed {
			return errors.New("the sign-in log is closed")
		}
		tried := l.tried
		l.mu.Unlock()
		l.wake()
		select {
		case <-tried:
		case <-l.done:
		case <-ctx.Done():
		}
		l.mu.Lock()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// Find answers a query, with every attempt of this process that has ended.
func (l *Log) Find(ctx context.Context, q Query) ([]Entry, error) {
	if err := l.Flush(ctx); err != nil {
		return nil, err
	}
	return l.store.SignIns(ctx, q)
}

// Entry returns one entry of a tenant's log, or ErrNotFound.
func (l *Log) Entry(ctx context.Context, tenant string, id ID) (*Entry, error) {
	found, err := l.Find(ctx, Query{Tenant: tenant, From: id, OldestFirst: true, Limit: 1})
	switch {
	case err != nil:
		return nil, err
	case len(found) == 0 || found[0].ID != id:
		return nil, ErrNotFound
	}
	return &found[0], nil
}

// Sweep drops the entries from before a time.
func (l *Log) Sweep(ctx context.Context, before time.Time) error {
	for {
		more, err := l.store.SweepSignIns(ctx, FirstID(before))
		if err != nil || !more {
			return err
		}
	}
}

// Close writes what is left. What is recorded later is lost.
func (l *Log) Close(ctx context.Context) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.mu.Unlock()
	close(l.stop)
	<-l.done // a write under way has ended
	for l.write(ctx) {
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := int64(len(l.queue)) + l.lost; n > 0 {
		return fmt.Errorf("%d attempts are missing in the sign-in log: %w", n, errors.Join(l.err, ctx.Err()))
	}
	return nil
}
