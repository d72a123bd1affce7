package seal_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/seal"
	"github.com/gatehouse-k8s/gatehouse/store"
	"github.com/gatehouse-k8s/gatehouse/store/storetest"
)

// bench is a database and the files beside it.
type bench struct {
	testing.TB
	url string
	dir string
}

func newBench(t testing.TB, database func(testing.TB) string) *bench {
	return &bench{t, database(t), t.TempDir()}
}

// onBoth runs a test on both engines.
func onBoth(t *testing.T, test func(*bench)) {
	for name, database := range storetest.Engines {
		t.Run(name, func(t *testing.T) { test(newBench(t, database)) })
	}
}

func (b *bench) try(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bench) file(name string) string { return filepath.Join(b.dir, name) }

// keyFile writes a master key whose bytes are all one.
func (b *bench) keyFile(name string, fill byte) seal.Source {
	b.Helper()
	text := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{fill}, 32)) + "\n"
	b.try(os.WriteFile(b.file(name), []byte(text), 0o600))
	return b.source("file:" + b.file(name))
}

func (b *bench) source(text string) seal.Source {
	b.Helper()
	s, err := seal.ParseSource(text)
	b.try(err)
	return s
}

func (b *bench) own() seal.Source { return seal.OwnFile(b.file("master-key")) }

// replica is one process on the database: below sees what the database holds.
type replica struct {
	*seal.Log
	below *store.DB
}

func options(s seal.Source) seal.Options {
	return seal.Options{Master: s, Patience: -1, Logger: slog.New(slog.DiscardHandler)}
}

func (b *bench) open(o seal.Options) (*replica, error) {
	b.Helper()
	db := storetest.Open(b, b.url)
	l, err := seal.Open(b.Context(), db, o)
	return &replica{l, db}, err
}

func (b *bench) must(o seal.Options) *replica {
	b.Helper()
	r, err := b.open(o)
	b.try(err)
	return r
}

func secret(key, body string) feed.Secret {
	return feed.Secret{Record: feed.Record{Kind: "test/secret", Key: key, Body: []byte(body)}}
}

func put(b testing.TB, l feed.Log, secrets ...feed.Secret) {
	b.Helper()
	err := l.Write(b.Context(), func(tx feed.Tx) error {
		_, err := tx.Append(b.Context(), feed.Change{Secrets: secrets})
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
}

func read(b testing.TB, l feed.Secrets, key string) string {
	b.Helper()
	s, err := l.Secret(b.Context(), "test/secret", key)
	if err != nil {
		b.Errorf("%s: %v", key, err)
	}
	return string(s.Body)
}

func wantSecret(b testing.TB, l feed.Secrets, key, want string) {
	b.Helper()
	if got := read(b, l, key); got != want {
		b.Errorf("%s is %q, want %q", key, got, want)
	}
}

// stored is all that the database holds of secrets.
func stored(b testing.TB, db *store.DB) map[string]feed.Secret {
	b.Helper()
	all := map[string]feed.Secret{}
	err := db.Write(b.Context(), func(tx feed.Tx) error {
		return tx.EachSecret(b.Context(), func(s feed.Secret) error {
			all[string(s.Kind)+" "+s.Key] = s
			return nil
		})
	})
	if err != nil {
		b.Fatal(err)
	}
	return all
}

// dying is a store whose process is killed at a chosen moment.
type dying struct {
	*store.DB
	commits int // how many may pass; then the process is dead
	scrubs  int
}

var errKilled = errors.New("killed")

func (d *dying) Write(ctx context.Context, plan func(feed.Tx) error) error {
	return d.DB.Write(ctx, func(tx feed.Tx) error {
		if err := plan(tx); err != nil {
			return err
		}
		if d.commits--; d.commits < 0 {
			return errKilled // all was done, but nothing is committed
		}
		return nil
	})
}

func (d *dying) Scrub(ctx context.Context, whole bool) error {
	if d.scrubs--; d.scrubs < 0 {
		return errKilled
	}
	return d.DB.Scrub(ctx, whole)
}

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// whenAsked is a logger that does something at its first line: the waiting for a plugin writes one.
func whenAsked(do func()) *slog.Logger { return slog.New(&onLine{do: sync.OnceFunc(do)}) }

type onLine struct {
	slog.Handler
	do func()
}

func (*onLine) Enabled(context.Context, slog.Level) bool { return true }

func (o *onLine) Handle(context.Context, slog.Record) error {
	o.do()
	return nil
}
