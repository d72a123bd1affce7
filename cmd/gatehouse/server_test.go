package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/store/storetest"
)

// TestStartRepairsTenantsOfEarlierVersions: guests can accept invitations to a tenant that is older than the invitation portal.
func TestStartRepairsTenantsOfEarlierVersions(t *testing.T) {
	ctx := t.Context()
	config := Config{DataDir: t.TempDir(), Listen: "127.0.0.1:0", ProxyListen: "127.0.0.1:0", WebhookListen: "127.0.0.1:0"}
	run := func(look func(*server)) {
		t.Helper()
		s := newServer(config, slog.New(slog.DiscardHandler))
		err := s.start(ctx)
		if err == nil {
			look(s)
		}
		if stopped := s.stop(); err != nil || stopped != nil {
			t.Fatalf("start: %v, stop: %v", err, stopped)
		}
	}
	portal := func(s *server) *directory.ServicePrincipal {
		tenant := s.people.State().Tenants()[0]
		return s.people.State().ServicePrincipalByName(tenant.ID, directory.InvitationPortal.String())
	}
	var revision feed.Position
	run(func(s *server) {
		gone := portal(s)
		err := s.feed.Update(ctx, func(*feed.View, feed.Secrets) (feed.Change, error) {
			return feed.Change{Records: []feed.Record{{Kind: directory.KindServicePrincipal, Key: gone.ID.String(), Tenant: gone.Tenant.String()}}}, nil
		})
		if err != nil || portal(s) != nil {
			t.Fatalf("the portal is not gone: %v", err)
		}
	})
	run(func(s *server) {
		if portal(s) == nil {
			t.Error("the invitation portal is missing in a tenant of an earlier version")
		}
		revision = s.feed.View().Position
	})
	run(func(s *server) {
		if now := s.feed.View().Position; now != revision {
			t.Errorf("a start with nothing to add went from %v to %v", revision, now)
		}
	})
}

// TestEncryptDatabase: secrets in plain are taken over under a key that was named only with the flag that the refusal names.
func TestEncryptDatabase(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(aKey), 0o600); err != nil {
		t.Fatal(err)
	}
	db := storetest.Open(t, filepath.Join(dir, "gatehouse.db"))
	err := db.Write(ctx, func(tx feed.Tx) error {
		_, err := tx.Append(ctx, feed.Change{Secrets: []feed.Secret{{Record: feed.Record{Kind: "test/secret", Key: "x", Body: []byte("in plain")}}}})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	open := func(flags ...string) error {
		t.Helper()
		c, err := parseUp(append(flags, "--data-dir", dir, "--master-key", "file:"+key), io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		s := newServer(c, slog.New(slog.DiscardHandler))
		if s.dir, err = openDataDir(c.DataDir); err != nil {
			t.Fatal(err)
		}
		s.onStop("data directory", func(context.Context) error { return s.dir.Close() })
		err = s.openStore(ctx)
		if stopped := s.stop(); stopped != nil {
			t.Error(stopped)
		}
		return err
	}
	if err := open(); err == nil || !strings.Contains(err.Error(), "start once with --encrypt-database") {
		t.Errorf("without the flag: %v", err)
	}
	for _, flags := range [][]string{{"--encrypt-database"}, nil} {
		if err := open(flags...); err != nil {
			t.Errorf("with %v: %v", flags, err)
		}
	}
}
