package store_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/store"
	"github.com/gatehouse-k8s/gatehouse/store/storetest"
)

func write(ctx context.Context, db *store.DB, records ...feed.Record) (at feed.Position, err error) {
	err = db.Write(ctx, func(tx feed.Tx) error {
		at, err = tx.Append(ctx, feed.Change{Records: records})
		return err
	})
	return at, err
}

func things(n, size int) []feed.Record {
	records := make([]feed.Record, n)
	for i := range records {
		records[i] = feed.Record{Kind: "test/thing", Key: fmt.Sprint(i), Body: []byte(strings.Repeat("x", size))}
	}
	return records
}

func wantError(t *testing.T, err error, want ...string) {
	t.Helper()
	for _, w := range want {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("got error %v, want %q", err, w)
		}
	}
}

// TestSQLiteIsPrivate: nobody else may read the file and its companions, also when it was made by hand.
func TestSQLiteIsPrivate(t *testing.T) {
	check := func(path string) {
		t.Helper()
		found, err := filepath.Glob(path + "*")
		if err != nil || len(found) != 3 {
			t.Fatalf("there are %q (%v), want the file, -wal and -shm", found, err)
		}
		for _, f := range found {
			if info, err := os.Stat(f); err != nil || info.Mode() != 0o600 {
				t.Errorf("%s has mode %v (%v)", f, info.Mode(), err)
			}
		}
	}
	fresh := storetest.SQLite(t)
	storetest.Open(t, fresh)
	check(fresh)

	path := storetest.SQLite(t)
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	storetest.Open(t, path)
	check(path)
	for _, f := range []string{path, path + "-wal", path + "-shm"} {
		if err := os.Chmod(f, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	storetest.Open(t, path)
	check(path)
}

func TestSQLiteSettings(t *testing.T) {
	db := storetest.Open(t, storetest.SQLite(t))
	for pragma, want := range map[string]string{
		"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "10000", "temp_store": "2", "secure_delete": "1",
	} {
		var got string
		if err := db.Writer().QueryRow("PRAGMA " + pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %s (%v), want %s", pragma, got, err, want)
		}
	}
}

func TestSQLiteTroubles(t *testing.T) {
	ctx := t.Context()
	pragma := func(t *testing.T, db *store.DB, pragma string) {
		t.Helper()
		if _, err := db.Writer().Exec("PRAGMA " + pragma); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("full disk", func(t *testing.T) {
		db := storetest.Open(t, storetest.SQLite(t))
		before, err := write(ctx, db, things(1, 1)...)
		if err != nil {
			t.Fatal(err)
		}
		pragma(t, db, "max_page_count = 20")
		_, err = write(ctx, db, things(100, 4000)...)
		wantError(t, err, db.String(), "the disk is full; nothing was written")
		pragma(t, db, "max_page_count = 2000")
		records, at, err := db.Since(ctx, before)
		if err != nil || len(records) != 0 || at != before {
			t.Errorf("after the failure there are %d records up to %v (%v)", len(records), at, err)
		}
		if _, err := write(ctx, db, things(100, 4000)...); err != nil {
			t.Error(err)
		}
	})
	t.Run("read-only", func(t *testing.T) {
		db := storetest.Open(t, storetest.SQLite(t))
		pragma(t, db, "query_only = 1")
		_, err := write(ctx, db, things(1, 1)...)
		wantError(t, err, db.String(), "read-only")
	})
	t.Run("locked", func(t *testing.T) {
		path := storetest.SQLite(t)
		db, other := storetest.Open(t, path), storetest.Open(t, path)
		pragma(t, db, "busy_timeout = 1")
		err := other.Write(ctx, func(feed.Tx) error {
			_, err := write(ctx, db, things(1, 1)...)
			wantError(t, err, path, "another process keeps the file locked")
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("not a database", func(t *testing.T) {
		path := storetest.SQLite(t)
		if err := os.WriteFile(path, []byte(strings.Repeat("notes of a meeting\n", 1000)), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := store.Open(ctx, path)
		wantError(t, err, path, "the file is not a database")
	})
	t.Run("a folder", func(t *testing.T) {
		path := t.TempDir()
		_, err := store.Open(ctx, path)
		wantError(t, err, path, "the file cannot be opened")
	})
	t.Run("damaged", func(t *testing.T) {
		path := storetest.SQLite(t)
		db, err := store.Open(ctx, path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := write(ctx, db, things(1000, 100)...); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		const kept = 12 * 4096 // the schema and the head
		if _, err := f.WriteAt([]byte(strings.Repeat("\xaa", int(info.Size())-kept)), kept); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		db = storetest.Open(t, path)
		_, err = db.Load(ctx, func(feed.Record) error { return nil })
		wantError(t, err, path, "the file is damaged", "restore the last backup")
	})
}

// TestSQLiteScrub: what was overwritten and deleted is gone from the file and from its log.
func TestSQLiteScrub(t *testing.T) {
	ctx, path := t.Context(), storetest.SQLite(t)
	db := storetest.Open(t, path)
	put := func(body string) {
		t.Helper()
		var c feed.Change
		for _, r := range things(50, 1) {
			r.Body = []byte(body)
			c.Secrets = append(c.Secrets, feed.Secret{Record: r})
		}
		err := db.Write(ctx, func(tx feed.Tx) error {
			_, err := tx.Append(ctx, c)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	onDisk := func(text string) bool {
		t.Helper()
		for _, name := range []string{path, path + "-wal"} {
			content, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(content), text) {
				return true
			}
		}
		return false
	}
	put("FORMER")
	put("PRESENT")
	if !onDisk("FORMER") {
		t.Fatal("the test has nothing to find")
	}
	scrub := func(whole, left bool) {
		t.Helper()
		if err := db.Scrub(ctx, whole); err != nil {
			t.Fatal(err)
		}
		if onDisk("FORMER") != left || !onDisk("PRESENT") {
			t.Errorf("after a scrub (whole: %v) the former secrets are there: %v, want %v; or the present ones are not", whole, !left, left)
		}
	}
	scrub(false, false)

	// As a version did that did not care.
	if _, err := db.Writer().Exec(`PRAGMA secure_delete = 0`); err != nil {
		t.Fatal(err)
	}
	put(strings.Repeat("FORMER", 500))
	put("PRESENT")
	scrub(false, true)
	scrub(true, false)
}
