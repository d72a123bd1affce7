package store

import (
	"context"
	"crypto/rand"
	"database/sql"
)

// NewEpoch ends all positions that readers hold, so that each must load again. It is for a database that was
// replaced by a backup: there, revisions that were handed out before come back with another meaning.
func (db *DB) NewEpoch(ctx context.Context) error {
	return db.locked(ctx, func(w *tx) error {
		w.changed = true
		return w.exec(ctx, `UPDATE head SET epoch = $1`, rand.Text())
	})
}

// Prune forgets which records were deleted more than keep revisions ago. A reader that has been away for
// longer must load again. The present state and the revisions stay as they are.
func (db *DB) Prune(ctx context.Context, keep int64) error {
	return db.locked(ctx, func(w *tx) error {
		var newest sql.NullInt64
		last := w.head.Revision - keep
		err := w.sql.QueryRowContext(ctx, `SELECT max(revision) FROM records WHERE body IS NULL AND revision <= $1`, last).Scan(&newest)
		if err != nil || !newest.Valid {
			return db.failed(ctx, "prune", err)
		}
		w.changed = true
		if err := w.exec(ctx, `DELETE FROM records WHERE body IS NULL AND revision <= $1`, newest.Int64); err != nil {
			return err
		}
		return w.exec(ctx, `UPDATE head SET horizon = $1`, newest.Int64)
	})
}

// Sweep drops the secrets that have expired or were deleted. They read as absent before that.
func (db *DB) Sweep(ctx context.Context) error {
	_, err := db.write.ExecContext(ctx, `DELETE FROM secrets WHERE expires <= $1`, db.now().UnixMicro())
	return db.failed(ctx, "sweep secrets", err)
}

// Scrub leaves nothing in the database's files of what secrets held before. With whole, that is also what a version before
// Scrub may have left there: then the database is written anew, which takes as long as copying it, keeps writers out
// meanwhile and needs as much room again.
func (db *DB) Scrub(ctx context.Context, whole bool) error {
	return db.failed(ctx, "scrub the database", db.engine.scrub(ctx, db.write, whole))
}
