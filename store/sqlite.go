package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

var sqliteEngine = engine{
	lockSchema: `SELECT 1`, // every transaction of the writer is BEGIN IMMEDIATE, which keeps other writers out
	lockHead:   selectHead,
	param:      func(int) string { return "?" }, // $n is a name to SQLite, and looked for among all others
	advice:     sqliteAdvice,
	scrub:      sqliteScrub,
}

func openSQLite(path string) (*DB, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := ownFile(path); err != nil {
		return nil, fmt.Errorf("database %w; its folder must exist and belong to the account that runs gatehouse", err)
	}
	db := &DB{name: path, engine: sqliteEngine}
	db.write, err = openPool(path, 1,
		"journal_mode(wal)",
		"synchronous(full)",            // a commit has reached the disk when it returns
		"secure_delete(true)",          // what is overwritten or deleted is gone from the file, see sqliteScrub
		"temp_store(memory)",           // the undo log of a statement need not survive
		"cache_size(-65536)",           // 64 MiB, for large changes
		"journal_size_limit(67108864)", // the log shrinks again after one
	)
	if err != nil {
		return nil, err
	}
	db.read, err = openPool(path, 4, "query_only(true)")
	return db, err
}

// openPool opens a pool of at most n connections. They are made when they are needed.
func openPool(path string, n int, pragmas ...string) (*sql.DB, error) {
	query := url.Values{
		"_txlock": {"immediate"}, // but for transactions that only read
		"_pragma": append(pragmas, "busy_timeout(10000)", "foreign_keys(true)"),
	}
	file := url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: query.Encode()}
	connector, err := sqlite.NewConnector(file.String())
	if err != nil {
		return nil, err
	}
	pool := sql.OpenDB(connector)
	pool.SetMaxOpenConns(n)
	pool.SetMaxIdleConns(n)
	return pool, nil
}

// ownFile sees to it that the file exists and that nobody else may read it. SQLite gives its -wal and -shm the
// file's own mode. An existing file is not opened here: closing it would drop the locks that another DB of
// this process holds on it (POSIX locks are of the process).
func ownFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		return f.Close()
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		info, err := os.Stat(name)
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			err = os.Chmod(name, 0o600)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// sqliteScrub empties the log, which holds old pages. The file itself holds none, but for what was written before secure_delete
// was on: to be rid of that it is built anew from its live content.
func sqliteScrub(ctx context.Context, writer *sql.DB, whole bool) error {
	if whole {
		if _, err := writer.ExecContext(ctx, `VACUUM`); err != nil {
			return err
		}
	}
	var busy, pages, done int
	if err := writer.QueryRowContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &pages, &done); err != nil {
		return err
	}
	if busy != 0 {
		return errors.New("a reader kept the log from being emptied")
	}
	return nil
}

func sqliteAdvice(err error) string {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return ""
	}
	switch e.Code() & 0xff { // the primary code
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		return "the file or its folder is read-only; give both to the account that runs gatehouse, on a file system mounted for writing"
	case sqlite3.SQLITE_CANTOPEN:
		return "the file cannot be opened; it and its folder must belong to the account that runs gatehouse"
	case sqlite3.SQLITE_FULL:
		return "the disk is full; nothing was written; free some space"
	case sqlite3.SQLITE_CORRUPT:
		return "the file is damaged; stop gatehouse, keep a copy of the file, and restore the last backup"
	case sqlite3.SQLITE_NOTADB:
		return "the file is not a database, or is damaged; name another file, or restore the last backup"
	case sqlite3.SQLITE_BUSY:
		return "another process keeps the file locked; stop it, one gatehouse at a time may use a file"
	case sqlite3.SQLITE_IOERR:
		return "the disk fails; see the system's log"
	}
	return ""
}
