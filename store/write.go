package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gatehouse-k8s/gatehouse/feed"
)

// MaxKey bounds a record's kind and key together, in bytes: PostgreSQL cannot index much more.
const MaxKey = 2048

// Write implements feed.Log. plan's own error is returned as it is. plan must read through its Tx: a Write
// inside plan waits for the lock that plan itself holds, for ever or until its ctx ends. When the connection
// breaks during the commit, Write fails but the change may be there: the feed tells.
func (db *DB) Write(ctx context.Context, plan func(feed.Tx) error) error {
	return db.locked(ctx, func(w *tx) error { return plan(w) })
}

// locked runs do while this process holds the head, and commits if do changed something.
func (db *DB) locked(ctx context.Context, do func(*tx) error) error {
	t, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return db.failed(ctx, "begin to write", err)
	}
	defer t.Rollback() // also when do panics
	h, err := readHead(ctx, t, db.engine.lockHead)
	if err != nil {
		return db.failed(ctx, "lock the head", err)
	}
	w := &tx{db: db, sql: t, head: h}
	if err := do(w); err != nil {
		return err
	}
	if w.err != nil || !w.changed {
		return w.err
	}
	if db.engine.notify != "" {
		if err := w.exec(ctx, db.engine.notify); err != nil {
			return err
		}
	}
	if err := t.Commit(); err != nil {
		return db.failed(ctx, "commit", err)
	}
	db.local.signal()
	return nil
}

// tx is a write in progress.
type tx struct {
	db      *DB
	sql     *sql.Tx
	head    head
	changed bool
	err     error // the first failure of a write; a plan that overlooks it shall not commit a half
}

// Secret implements feed.Tx.
func (w *tx) Secret(ctx context.Context, kind feed.Kind, key string) (feed.Secret, error) {
	return w.db.secret(ctx, w.sql, kind, key)
}

// Since implements feed.Tx.
func (w *tx) Since(ctx context.Context, after feed.Position) ([]feed.Record, feed.Position, error) {
	return w.db.since(ctx, w.sql, w.head, after)
}

// EachSecret implements feed.Tx.
func (w *tx) EachSecret(ctx context.Context, visit func(feed.Secret) error) error {
	return w.db.eachSecret(ctx, w.sql, visit)
}

// Append implements feed.Tx.
func (w *tx) Append(ctx context.Context, c feed.Change) (feed.Position, error) {
	if len(c.Records)+len(c.Secrets) == 0 {
		return w.head.Position, nil
	}
	if w.changed {
		w.err = errors.New("store: Append was called twice in one write")
		return feed.Position{}, w.err
	}
	w.changed = true
	w.head.Revision++
	w.err = w.append(ctx, c)
	if w.err != nil {
		return feed.Position{}, w.err
	}
	return w.head.Position, nil
}

func (w *tx) append(ctx context.Context, c feed.Change) error {
	records := make([]row, len(c.Records))
	for i := range c.Records {
		records[i] = row{Record: &c.Records[i], seq: i}
	}
	secrets := make([]row, len(c.Secrets))
	for i := range c.Secrets {
		s := &c.Secrets[i]
		secrets[i] = row{Record: &s.Record, seq: i}
		switch {
		case s.Body == nil:
			secrets[i].expires.Valid = true // in 1970: for the sweeper
		case !s.Expires.IsZero():
			secrets[i].expires = sql.NullInt64{Int64: s.Expires.UnixMicro(), Valid: true}
		}
	}
	if err := w.put(ctx, recordsTable, records); err != nil {
		return err
	}
	if err := w.put(ctx, secretsTable, secrets); err != nil {
		return err
	}
	return w.exec(ctx, `UPDATE head SET revision = $1`, w.head.Revision)
}

// row is a record, or a secret, on its way into its table.
type row struct {
	*feed.Record
	seq     int
	expires sql.NullInt64 // secrets only
}

// table is what an upsert of rows needs to know.
type table struct {
	name    string
	columns []string // the key's two first
}

var (
	recordsTable = table{"records", []string{"kind", "key", "tenant", "revision", "seq", "body"}}
	secretsTable = table{"secrets", []string{"kind", "key", "tenant", "revision", "seq", "body", "expires"}}
)

// full is how many rows go into one statement of a large change: with more, neither engine gets faster.
const full = 128

// put writes rows, the last one of each key. It goes by the order of the keys, so that a large change passes
// through the index once, page after page, which halves its time.
func (w *tx) put(ctx context.Context, into table, rows []row) error {
	for _, r := range rows {
		if err := check(r.Record); err != nil {
			return err
		}
	}
	slices.SortFunc(rows, func(a, b row) int {
		if c := strings.Compare(string(a.Kind), string(b.Kind)); c != 0 {
			return c
		}
		if c := strings.Compare(a.Key, b.Key); c != 0 {
			return c
		}
		return b.seq - a.seq
	})
	rows = slices.CompactFunc(rows, func(a, b row) bool { return a.Kind == b.Kind && a.Key == b.Key })

	var prepared *sql.Stmt
	args := make([]any, 0, full*len(into.columns))
	for len(rows) > 0 {
		n := full
		if len(rows) < full { // go down in powers of two: few different statements, which PostgreSQL caches
			n = 1 << (bits.Len(uint(len(rows))) - 1)
		}
		args = args[:0]
		for _, r := range rows[:n] {
			args = append(args, string(r.Kind), r.Key, r.Tenant, w.head.Revision, r.seq, r.Body)
			if into.name == secretsTable.name {
				args = append(args, r.expires)
			}
		}
		rows = rows[n:]
		if n < full {
			if err := w.exec(ctx, into.upsert(n, w.db.engine.param), args...); err != nil {
				return err
			}
			continue
		}
		if prepared == nil {
			var err error
			if prepared, err = w.sql.PrepareContext(ctx, into.upsert(full, w.db.engine.param)); err != nil {
				return w.db.failed(ctx, "write", err)
			}
			defer prepared.Close()
		}
		if _, err := prepared.ExecContext(ctx, args...); err != nil {
			return w.db.failed(ctx, "write", err)
		}
	}
	return nil
}

// upsert is the statement that writes n rows. Its parameters are the columns, row by row.
func (t table) upsert(n int, param func(int) string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "INSERT INTO %s (%s) VALUES ", t.name, strings.Join(t.columns, ", "))
	row := make([]string, len(t.columns))
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		for j := range row {
			row[j] = param(i*len(row) + j + 1)
		}
		fmt.Fprintf(&b, "(%s)", strings.Join(row, ", "))
	}
	b.WriteString(" ON CONFLICT (kind, key) DO UPDATE SET ")
	for i, c := range t.columns[2:] {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s = excluded.%[1]s", c)
	}
	return b.String()
}

func (w *tx) exec(ctx context.Context, query string, args ...any) error {
	_, err := w.sql.ExecContext(ctx, query, args...)
	return w.db.failed(ctx, "write", err)
}

// check refuses what one of the engines could not give back as it was.
func check(r *feed.Record) error {
	for _, s := range [...]string{string(r.Kind), r.Key, r.Tenant} {
		if !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
			return fmt.Errorf("store: %s %q of tenant %q: kind, key and tenant must be UTF-8 without NUL", r.Kind, r.Key, r.Tenant)
		}
	}
	if n := len(r.Kind) + len(r.Key); n > MaxKey {
		return fmt.Errorf("store: %s %.40q...: kind and key have %d bytes together, more than %d", r.Kind, r.Key, n, MaxKey)
	}
	if r.Body != nil && len(r.Body) == 0 {
		return fmt.Errorf("store: %s %q has an empty body; only a nil body deletes", r.Kind, r.Key)
	}
	return nil
}
