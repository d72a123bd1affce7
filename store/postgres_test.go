package store_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/store"
	"github.com/gatehouse-k8s/gatehouse/store/storetest"
)

// TestPostgresListens: without any polling, the writes of another replica are signalled, also those
// made while the listening connection was cut.
func TestPostgresListens(t *testing.T) {
	url := storetest.Postgres(t)
	db, other := storetest.Open(t, url), storetest.Open(t, url)
	db.Poll = time.Hour
	db.Logger = slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	signals, err := db.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var seen feed.Position
	seen, err = db.Load(ctx, func(feed.Record) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	writeAndSee := func() {
		t.Helper()
		at, err := write(ctx, other, things(1, 1)...)
		if err != nil {
			t.Fatal(err)
		}
		for seen != at {
			if _, open := <-signals; !open {
				t.Fatal("no signal came")
			}
			if _, seen, err = db.Since(ctx, seen); err != nil {
				t.Fatal(err)
			}
		}
	}
	const cut = `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND query = 'LISTEN gatehouse'`
	for range 3 {
		for cuts := 0; cuts == 0; { // it may still be connecting
			if err := other.Writer().QueryRowContext(ctx, cut).Scan(&cuts); err != nil {
				t.Fatal(err)
			}
		}
		writeAndSee()
		writeAndSee()
	}
}

// TestPostgresOpenTogether starts several replicas on a new database at once: one of them makes the tables, and
// all get the same epoch.
func TestPostgresOpenTogether(t *testing.T) {
	url := storetest.Postgres(t)
	var wg sync.WaitGroup
	epochs := make([]string, 4)
	for i := range epochs {
		wg.Go(func() {
			db, err := store.Open(t.Context(), url)
			if err != nil {
				t.Error(err)
				return
			}
			defer db.Close()
			at, err := db.Load(t.Context(), func(feed.Record) error { return nil })
			if err != nil {
				t.Error(err)
			}
			epochs[i] = at.Epoch
		})
	}
	wg.Wait()
	for _, e := range epochs {
		if e == "" || e != epochs[0] {
			t.Fatalf("the replicas have the epochs %q", epochs)
		}
	}
}

// TestPostgresLostReplica: one that stops in the middle of a write does not keep the others waiting for ever.
func TestPostgresLostReplica(t *testing.T) {
	db := storetest.Open(t, storetest.Postgres(t))
	var limit string
	if err := db.Writer().QueryRow(`SHOW idle_in_transaction_session_timeout`).Scan(&limit); err != nil || limit != "1min" {
		t.Errorf("idle_in_transaction_session_timeout is %s (%v)", limit, err)
	}
}

func TestPostgresTroubles(t *testing.T) {
	ctx := t.Context()
	url := storetest.Postgres(t)
	db := storetest.Open(t, url)
	exec := func(statement string) {
		t.Helper()
		if _, err := db.Writer().Exec(statement); err != nil {
			t.Fatal(err)
		}
	}

	_, err := store.Open(ctx, strings.Replace(url, "/test", "/never-made", 1))
	wantError(t, err, "PostgreSQL database", "there is no such database; make it with CREATE DATABASE")

	_, err = store.Open(ctx, strings.Replace(url, "postgres@", "nobody:topsecret@", 1))
	wantError(t, err, "the server refuses this user or password")
	if strings.Contains(err.Error(), "topsecret") {
		t.Errorf("the error shows the password: %v", err)
	}

	exec(`CREATE ROLE guest LOGIN`) // roles belong to the server, not to the database
	t.Cleanup(func() { exec(`DROP ROLE guest`) })
	_, err = store.Open(ctx, strings.Replace(url, "postgres@", "guest@", 1))
	wantError(t, err, "this user may not work here; make it the owner")

	_, err = store.Open(ctx, url+"&default_transaction_read_only=on")
	wantError(t, err, "this server only reads")
}
