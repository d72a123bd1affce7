package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/signin"
)

var _ signin.Store = (*DB)(nil)

const (
	signInRows  = 100  // of one statement
	signInSweep = 2000 // entries that a sweep drops at once: the writers of this process wait for it
)

// AppendSignIns implements signin.Store. The sign-in log is neither decision data nor in the change feed, and takes no lock of it.
func (db *DB) AppendSignIns(ctx context.Context, entries []signin.Entry) error {
	t, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return db.failed(ctx, "begin to write sign-ins", err)
	}
	defer t.Rollback()
	for some := range slices.Chunk(entries, signInRows) {
		args := make([]any, 0, len(some)*(3+len(signin.Fields)))
		for i := range some {
			e := &some[i]
			body, err := json.Marshal(e)
			if err != nil {
				return fmt.Errorf("a sign-in: %w", err)
			}
			args = append(args, signin.TenantKey(e.Tenant), e.ID[:], body)
			for _, f := range signin.Fields {
				args = append(args, e.Key(f))
			}
		}
		if _, err := t.ExecContext(ctx, insertSignIns(len(some), db.engine.param), args...); err != nil {
			return db.failed(ctx, "write sign-ins", err)
		}
	}
	return db.failed(ctx, "commit sign-ins", t.Commit())
}

// insertSignIns is the statement that adds n entries. Its parameters are the columns, row by row.
func insertSignIns(n int, param func(int) string) string {
	columns := []string{"tenant", "id", "body"}
	for _, f := range signin.Fields {
		columns = append(columns, string(f))
	}
	rows, row := make([]string, n), make([]string, len(columns))
	for i := range rows {
		for j := range row {
			row[j] = param(i*len(row) + j + 1)
		}
		rows[i] = "(" + strings.Join(row, ", ") + ")"
	}
	return "INSERT INTO signins (" + strings.Join(columns, ", ") + ") VALUES " + strings.Join(rows, ", ") + " ON CONFLICT DO NOTHING"
}

// SignIns implements signin.Store. Each query is a range of one index, read in its order.
func (db *DB) SignIns(ctx context.Context, q signin.Query) ([]signin.Entry, error) {
	text, args := selectSignIns(q)
	rows, err := db.read.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, db.failed(ctx, "read sign-ins", err)
	}
	defer rows.Close()
	var out []signin.Entry
	for rows.Next() {
		var id, body sql.RawBytes
		if err := rows.Scan(&id, &body); err != nil {
			return nil, db.failed(ctx, "read sign-ins", err)
		}
		e := signin.Entry{Tenant: q.Tenant}
		if err := json.Unmarshal(body, &e); err != nil {
			return nil, fmt.Errorf("the sign-in %x in the database: %w", id, err)
		}
		copy(e.ID[:], id)
		out = append(out, e)
	}
	return out, db.failed(ctx, "read sign-ins", rows.Err())
}

func selectSignIns(q signin.Query) (text string, args []any) {
	var b strings.Builder
	arg := func(condition string, v any) {
		args = append(args, v)
		fmt.Fprintf(&b, "%s$%d", condition, len(args))
	}
	b.WriteString("SELECT id, body FROM signins")
	arg(" WHERE tenant = ", signin.TenantKey(q.Tenant))
	if q.Field != "" && slices.Contains(signin.Fields, q.Field) {
		arg(" AND "+string(q.Field)+" = ", q.Key)
	}
	if !q.From.IsZero() {
		arg(" AND id >= ", q.From[:])
	}
	if !q.To.IsZero() {
		arg(" AND id < ", q.To[:])
	}
	b.WriteString(" ORDER BY id")
	if !q.OldestFirst {
		b.WriteString(" DESC")
	}
	arg(" LIMIT ", q.Limit)
	return b.String(), args
}

// SweepSignIns implements signin.Store. It goes from tenant to tenant by the index.
func (db *DB) SweepSignIns(ctx context.Context, before signin.ID) (more bool, err error) {
	const (
		next = `SELECT tenant FROM signins WHERE tenant > $1 ORDER BY tenant LIMIT 1`
		drop = `DELETE FROM signins WHERE tenant = $1 AND id IN (SELECT id FROM signins WHERE tenant = $2 AND id < $3 ORDER BY id LIMIT $4)`
	)
	left := int64(signInSweep)
	for tenant := []byte{}; left > 0; {
		err := db.read.QueryRowContext(ctx, next, tenant).Scan(&tenant)
		if errors.Is(err, sql.ErrNoRows) {
			return false, nil
		}
		if err != nil {
			return false, db.failed(ctx, "sweep sign-ins", err)
		}
		done, err := db.write.ExecContext(ctx, drop, tenant, tenant, before[:], left)
		if err != nil {
			return false, db.failed(ctx, "sweep sign-ins", err)
		}
		n, err := done.RowsAffected()
		if err != nil {
			return false, db.failed(ctx, "sweep sign-ins", err)
		}
		left -= n
	}
	return true, nil
}
