package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-k8s/gatehouse/feed"
)

// querier is a pool or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// head is where the feed ends, and where it begins.
type head struct {
	feed.Position
	horizon int64
}

const selectHead = `SELECT epoch, revision, horizon FROM head`

func readHead(ctx context.Context, q querier, query string) (h head, err error) {
	err = q.QueryRowContext(ctx, query).Scan(&h.Epoch, &h.Revision, &h.horizon)
	return h, err
}

// snapshot gives read one unchanging state of the database and the head of the feed in it.
func (db *DB) snapshot(ctx context.Context, read func(*sql.Tx, head) error) error {
	t, err := db.read.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return db.failed(ctx, "begin to read", err)
	}
	defer t.Rollback()
	h, err := readHead(ctx, t, selectHead)
	if err != nil {
		return db.failed(ctx, "read the head", err)
	}
	return read(t, h)
}

// Load implements feed.Log. An error of visit ends it and is returned unchanged.
func (db *DB) Load(ctx context.Context, visit func(feed.Record) error) (feed.Position, error) {
	var at feed.Position
	err := db.snapshot(ctx, func(t *sql.Tx, h head) error {
		at = h.Position
		return db.visit(ctx, t, visit, `SELECT kind, key, tenant, body FROM records WHERE body IS NOT NULL`)
	})
	if err != nil {
		return feed.Position{}, err
	}
	return at, nil
}

// Since implements feed.Log.
func (db *DB) Since(ctx context.Context, after feed.Position) (records []feed.Record, to feed.Position, err error) {
	err = db.snapshot(ctx, func(t *sql.Tx, h head) error {
		records, to, err = db.since(ctx, t, h, after)
		return err
	})
	return records, to, err
}

func (db *DB) since(ctx context.Context, q querier, h head, after feed.Position) ([]feed.Record, feed.Position, error) {
	if after.Epoch != h.Epoch || after.Revision < h.horizon || after.Revision > h.Revision {
		return nil, feed.Position{}, feed.ErrReload
	}
	if after.Revision == h.Revision {
		return nil, h.Position, nil
	}
	var records []feed.Record
	add := func(r feed.Record) error {
		records = append(records, r)
		return nil
	}
	const changed = `SELECT kind, key, tenant, body FROM records WHERE revision > $1 ORDER BY revision, seq`
	if err := db.visit(ctx, q, add, changed, after.Revision); err != nil {
		return nil, feed.Position{}, err
	}
	return records, h.Position, nil
}

// visit reads records. The records own their bodies, and share the strings of kinds and tenants.
func (db *DB) visit(ctx context.Context, q querier, visit func(feed.Record) error, query string, args ...any) error {
	const doing = "read records"
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return db.failed(ctx, doing, err)
	}
	defer rows.Close()
	seen := map[string]string{}
	shared := func(b sql.RawBytes) string {
		s, ok := seen[string(b)]
		if !ok {
			s = string(b)
			seen[s] = s
		}
		return s
	}
	for rows.Next() {
		var (
			r            feed.Record
			kind, tenant sql.RawBytes
		)
		if err := rows.Scan(&kind, &r.Key, &tenant, &r.Body); err != nil {
			return db.failed(ctx, doing, err)
		}
		r.Kind, r.Tenant = feed.Kind(shared(kind)), shared(tenant)
		if err := visit(r); err != nil {
			return err
		}
	}
	return db.failed(ctx, doing, rows.Err())
}

// Secret implements feed.Secrets.
func (db *DB) Secret(ctx context.Context, kind feed.Kind, key string) (feed.Secret, error) {
	return db.secret(ctx, db.read, kind, key)
}

func (db *DB) secret(ctx context.Context, q querier, kind feed.Kind, key string) (feed.Secret, error) {
	var (
		s       = feed.Secret{Record: feed.Record{Kind: kind, Key: key}}
		expires sql.NullInt64
	)
	const query = `SELECT tenant, body, expires FROM secrets
		WHERE kind = $1 AND key = $2 AND body IS NOT NULL AND (expires IS NULL OR expires > $3)`
	err := q.QueryRowContext(ctx, query, string(kind), key, db.now().UnixMicro()).Scan(&s.Tenant, &s.Body, &expires)
	if errors.Is(err, sql.ErrNoRows) {
		return feed.Secret{}, fmt.Errorf("%s %q: %w", kind, key, feed.ErrNoSecret)
	}
	if err != nil {
		return feed.Secret{}, db.failed(ctx, "read a secret", err)
	}
	s.Expires = expiry(expires)
	return s, nil
}

// eachSecret visits the secrets that are not deleted.
func (db *DB) eachSecret(ctx context.Context, q querier, visit func(feed.Secret) error) error {
	const doing = "read the secrets"
	rows, err := q.QueryContext(ctx, `SELECT kind, key, tenant, body, expires FROM secrets WHERE body IS NOT NULL`)
	if err != nil {
		return db.failed(ctx, doing, err)
	}
	defer rows.Close()
	for rows.Next() {
		var (
			s       feed.Secret
			expires sql.NullInt64
		)
		if err := rows.Scan(&s.Kind, &s.Key, &s.Tenant, &s.Body, &expires); err != nil {
			return db.failed(ctx, doing, err)
		}
		s.Expires = expiry(expires)
		if err := visit(s); err != nil {
			return err
		}
	}
	return db.failed(ctx, doing, rows.Err())
}

func expiry(column sql.NullInt64) time.Time {
	if !column.Valid {
		return time.Time{}
	}
	return time.UnixMicro(column.Int64).UTC()
}
