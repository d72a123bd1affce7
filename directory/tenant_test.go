package directory

import (
	"slices"
	"testing"

	"github.com/gatehouse-k8s/gatehouse/feed"
)

// TestTenantsOfEarlierVersions: a tenant that was made before an application became first-party gets its service principal.
func TestTenantsOfEarlierVersions(t *testing.T) {
	w := newWorld(t)
	other, _ := w.newTenant("Fabrikam", "fabrikam.example")
	principal := func(tenant, app ID) *ServicePrincipal { return w.State().ServicePrincipalByName(tenant, app.String()) }
	kept := principal(other.ID, InvitationPortal)
	missing := []*ServicePrincipal{principal(w.tenant.ID, InvitationPortal), principal(w.tenant.ID, Graph), principal(other.ID, Graph)}
	must(t, w.Feed.Update(w.ctx, func(*feed.View, feed.Secrets) (feed.Change, error) {
		var c feed.Change
		for _, p := range missing {
			c.Records = append(c.Records, feed.Record{Kind: KindServicePrincipal, Key: p.ID.String(), Tenant: p.Tenant.String()})
		}
		return c, nil
	}))
	added, err := w.AddFirstParty(w.ctx)
	must(t, err)
	if added != len(missing) {
		t.Errorf("%d were added, want %d", added, len(missing))
	}
	for _, before := range missing {
		now := principal(before.Tenant, before.AppID)
		if now == nil {
			t.Errorf("%s is not there again", before.DisplayName)
			continue
		}
		if now.ID == before.ID || !now.FirstParty || !now.Enabled || now.Tenant != before.Tenant || !slices.Equal(now.Names, before.Names) {
			t.Errorf("%+v was added, want one as %+v", now, before)
		}
	}
	for _, uri := range FirstPartyApp(Graph).IdentifierURIs {
		if p := w.State().ServicePrincipalByName(w.tenant.ID, uri); p == nil || p.AppID != Graph {
			t.Errorf("%s names %+v", uri, p)
		}
	}
	if now := principal(other.ID, InvitationPortal); now.ID != kept.ID {
		t.Error("one that was not missing was replaced")
	}

	before := w.Feed.View().Position
	if added, err = w.AddFirstParty(w.ctx); err != nil || added != 0 || w.Feed.View().Position != before {
		t.Errorf("with none missing: %d were added (%v), the feed went from %v to %v", added, err, before, w.Feed.View().Position)
	}
}
