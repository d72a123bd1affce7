package store

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"path"
)

// migrations/*.sql are applied in the order of their names, each once, and are never edited after a
// release: testdata/migrations.sum, held by a test, only grows.
//
//go:embed migrations/*.sql
var migrationFiles embed.FS

type migration struct {
	name, sql, sum string
}

func migrations() ([]migration, error) {
	files, err := migrationFiles.ReadDir("migrations") // sorted by name
	if err != nil {
		return nil, err
	}
	all := make([]migration, len(files))
	for i, f := range files {
		text, err := migrationFiles.ReadFile(path.Join("migrations", f.Name()))
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(text)
		all[i] = migration{f.Name(), string(text), hex.EncodeToString(sum[:])}
	}
	return all, nil
}

// migrate applies what is missing. Programs that start together take turns.
func (db *DB) migrate(ctx context.Context) error {
	all, err := migrations()
	if err != nil {
		return err
	}
	for done := false; !done; {
		if done, err = db.migrateOne(ctx, all); err != nil {
			return err
		}
	}
	return nil
}

// migrateOne checks the migrations applied so far and applies the next, in one transaction.
func (db *DB) migrateOne(ctx context.Context, all []migration) (done bool, err error) {
	t, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer t.Rollback()
	const table = `CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL, sum TEXT NOT NULL)`
	for _, statement := range []string{db.engine.lockSchema, table} {
		if _, err := t.ExecContext(ctx, statement); err != nil {
			return false, err
		}
	}

	rows, err := t.QueryContext(ctx, `SELECT name, sum FROM migrations ORDER BY number`)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	applied := 0
	for ; rows.Next(); applied++ {
		var name, sum string
		if err := rows.Scan(&name, &sum); err != nil {
			return false, err
		}
		switch {
		case applied >= len(all):
			return false, fmt.Errorf("a newer gatehouse made this database (it knows migration %s, this program ends at %s); "+
				"run that version, or restore a backup from before the upgrade", name, all[len(all)-1].name)
		case sum != all[applied].sum:
			return false, fmt.Errorf("migration %s was applied with another content than this program has for %s; "+
				"run the version that made this database, or restore a backup", name, all[applied].name)
		}
	}
	if err := rows.Err(); err != nil {
		return false, err
	}
	if applied == len(all) {
		return true, nil
	}

	next := all[applied]
	if _, err := t.ExecContext(ctx, next.sql); err != nil {
		return false, fmt.Errorf("migration %s: %w", next.name, err)
	}
	_, err = t.ExecContext(ctx, `INSERT INTO migrations (number, name, sum) VALUES ($1, $2, $3)`, applied+1, next.name, next.sum)
	if err != nil {
		return false, err
	}
	return false, t.Commit()
}
