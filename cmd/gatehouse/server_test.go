package main

import (
	"log/slog"
	"testing"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
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
