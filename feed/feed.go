// Package feed carries state from the store to whoever decides by it.
//
// The store keeps records. Every write of records commits together with its entry in the change feed,
// under a revision taken while a lock is held until commit, so revisions become visible in order and
// a reader can never skip one. A View is the immutable fold of all records up to a position; decisions
// read it and touch no SQL.
//
//	Update ── plan(view at head) ──▶ records + secrets ──▶ store (one transaction, one revision)
//	                                                          │
//	View  ◀── Apply ◀── entries since my position ◀── change feed (local signal, or NOTIFY and a poll)
//
// Because a plan runs under the write lock on a view that is at the head, it may check any rule
// against that view (uniqueness, existence, who may do what) and needs no further constraint.
package feed

import (
	"context"
	"errors"
	"strings"
	"time"
)

// Position is a place in the feed. Revisions of different epochs have nothing to do with each
// other: a restored backup starts a new epoch.
type Position struct {
	Epoch    string
	Revision int64
}

// Kind types a record, as "part/name": the part is the noun package that folds it.
type Kind string

// Part is the piece before the slash.
func (k Kind) Part() string {
	part, _, _ := strings.Cut(string(k), "/")
	return part
}

// Record is one piece of state. Key is unique within its kind.
type Record struct {
	Kind   Kind
	Key    string
	Tenant string // the tenant's id; empty for what belongs to the whole server
	Body   []byte // JSON; nil deletes the record
}

// Secret is a record that no view ever holds: password hashes, private keys, pending codes. The feed tells
// that it changed and nothing more. A secret past its Expires reads as absent and is swept.
type Secret struct {
	Record
	Expires time.Time // zero: never
}

// Change is what one write does, whole or not at all.
type Change struct {
	Records []Record
	Secrets []Secret
}

// Errors of a store.
var (
	// ErrNoSecret: there is no such secret, or it has expired.
	ErrNoSecret = errors.New("no such secret")
	// ErrReload: the position is of another epoch, or older than what the feed still holds. Load again.
	ErrReload = errors.New("position is not in the feed; reload")
)

// Secrets reads secrets. An unknown or expired one is ErrNoSecret.
type Secrets interface {
	Secret(ctx context.Context, kind Kind, key string) (Secret, error)
}

// Log is the store as this package needs it. Both engines pass storetest.Run.
type Log interface {
	Secrets

	// Load visits every record and returns the position they are the state of.
	Load(ctx context.Context, visit func(Record) error) (Position, error)

	// Since returns the records that changed after a position, as they are now (a nil Body: deleted),
	// in the order of their last change, and the position they bring the reader to. ErrReload as above.
	Since(ctx context.Context, after Position) ([]Record, Position, error)

	// Write runs plan while holding the lock that orders all writers of all replicas. What plan
	// appends commits with its feed entries as one revision; if plan fails, nothing is written.
	Write(ctx context.Context, plan func(Tx) error) error

	// Watch signals that the feed may have grown: at once, after every write of any replica, and every few seconds
	// in any case, so that the reader of an idle database hears from it. The channel closes when ctx ends.
	Watch(ctx context.Context) (<-chan struct{}, error)

	// Ping asks the database for a sign of life.
	Ping(ctx context.Context) error
}

// Tx is a write in progress.
type Tx interface {
	Secrets

	// Since is as Log.Since, within the transaction: it reaches the head.
	Since(ctx context.Context, after Position) ([]Record, Position, error)

	// EachSecret visits every secret that is kept, also those that have expired and are not yet swept, as they were
	// before Append. visit must not use the Tx. An error of visit ends it and is returned unchanged.
	EachSecret(ctx context.Context, visit func(Secret) error) error

	// Append writes a change and returns the position it will have once committed. An empty change
	// takes no revision. It may be called once.
	Append(ctx context.Context, c Change) (Position, error)
}
