package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/feed"
)

var _ feed.Log = (*DB)(nil)

// DB is an open database. The fields may be changed after Open and before the first use.
type DB struct {
	Now    func() time.Time // decides which secrets have expired; zero: time.Now
	Poll   time.Duration    // Watch signals at least this often; zero: 5 s
	Logger *slog.Logger     // for failures of the background; zero: slog.Default

	name        string // for messages: never holds a password
	engine      engine
	read, write *sql.DB // write has one connection: the writers of this process queue here and not in the database
	local       watchers
}

// engine is what the two databases do not share.
type engine struct {
	lockSchema string // the first statement of a migration: waits for other programs that migrate
	lockHead   string // selectHead, with a lock that is held until commit
	notify     string // tells other processes, on commit; empty: they learn by polling

	// param writes the n-th parameter of a long statement. In short ones it is $n for both.
	param func(n int) string
	// advice says what a person can do about an error of the driver, or nothing.
	advice func(error) string
	// scrub is Scrub, on the writer's connection.
	scrub func(ctx context.Context, writer *sql.DB, whole bool) error
	// listen signals each notify of any process, until ctx ends. Nil: only writes of this process are signalled.
	listen func(ctx context.Context, db *DB, news chan<- struct{})
}

// Open opens the database at url and brings its tables up to date:
//
//	/abs/path/gatehouse.db, sqlite:///abs/path/gatehouse.db    a file, made if missing; its folder must exist
//	postgres://user:password@host:5432/name                    a database that the user owns
//
// Errors never show the password. Two processes that have the same file open stay correct, but each learns of
// the other's writes by polling only.
func Open(ctx context.Context, url string) (*DB, error) {
	scheme, rest, isURL := strings.Cut(url, "://")
	var (
		db  *DB
		err error
	)
	switch {
	case url == "":
		return nil, errors.New("no database is named; give a file's path or postgres://user:password@host/name")
	case !isURL:
		db, err = openSQLite(url)
	case scheme == "sqlite" && strings.HasPrefix(rest, "/"):
		db, err = openSQLite(rest)
	case scheme == "sqlite":
		return nil, fmt.Errorf("database %s: the path must be absolute, as in sqlite:///var/lib/gatehouse/gatehouse.db", url)
	case scheme == "postgres", scheme == "postgresql":
		db, err = openPostgres(url)
	default: // the rest of the value may hold a password
		return nil, fmt.Errorf("database %s://...: only sqlite:///path and postgres://user:password@host/name are known", scheme)
	}
	if err != nil {
		return nil, err
	}
	if err := db.prepare(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// prepare migrates, and starts the first epoch of a new database.
func (db *DB) prepare(ctx context.Context) error {
	if err := db.migrate(ctx); err != nil {
		return db.failed(ctx, "prepare the tables", err)
	}
	_, err := db.write.ExecContext(ctx, `UPDATE head SET epoch = $1 WHERE epoch = ''`, rand.Text())
	return db.failed(ctx, "start the first epoch", err)
}

// Close closes the database. Watches end with their own contexts.
func (db *DB) Close() error {
	return errors.Join(db.read.Close(), db.write.Close()) // the writer last: it may tidy up SQLite's log
}

// Ping implements feed.Log.
func (db *DB) Ping(ctx context.Context) error {
	_, err := readHead(ctx, db.read, selectHead)
	return db.failed(ctx, "ping", err)
}

// String names the database, without a password.
func (db *DB) String() string { return db.name }

// failed adds to a driver's error the database, what was being done, and what a person can do about it.
// An error after the end of ctx is also ctx's error, which drivers forget.
func (db *DB) failed(ctx context.Context, doing string, err error) error {
	if err == nil {
		return nil
	}
	if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
		err = fmt.Errorf("%w (%w)", ended, err)
	}
	if advice := db.engine.advice(err); advice != "" {
		err = fmt.Errorf("%s: %w", advice, err)
	}
	return fmt.Errorf("%s: %s: %w", db.name, doing, err)
}

func (db *DB) now() time.Time {
	if db.Now != nil {
		return db.Now()
	}
	return time.Now()
}

func (db *DB) poll() time.Duration {
	if db.Poll > 0 {
		return db.Poll
	}
	return 5 * time.Second
}

func (db *DB) logger() *slog.Logger {
	if db.Logger != nil {
		return db.Logger
	}
	return slog.Default()
}
