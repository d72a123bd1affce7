package directory

import (
	"fmt"
	"testing"

	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
)

const robotResource = "/subscriptions/s/resourcegroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/Robot"

// identity writes a managed identity.
func (w *world) identity(resource string) *ServicePrincipal {
	w.t.Helper()
	id, err := NewID(w.random())
	must(w.t, err)
	app, err := NewID(w.random())
	must(w.t, err)
	w.write(NewManagedIdentity(ServicePrincipal{ID: id, AppID: app, Tenant: w.tenant.ID, DisplayName: "Robot", Resource: resource, Explicit: true, Created: w.clock()}))
	return w.State().ServicePrincipal(id)
}

func (w *world) write(records ...feed.Record) {
	w.t.Helper()
	must(w.t, w.Feed.Update(w.ctx, func(*feed.View, feed.Secrets) (feed.Change, error) { return feed.Change{Records: records}, nil }))
}

// TestManagedIdentityOf: a resource has one identity, and the name of one that is gone leads nowhere, whatever the order of records.
func TestManagedIdentityOf(t *testing.T) {
	w := newWorld(t)
	first := w.identity(robotResource)
	if got := w.State().ManagedIdentityOf("/SUBSCRIPTIONS/S/resourceGroups/rg/providers/microsoft.managedidentity/userassignedidentities/ROBOT"); got == nil || got.ID != first.ID {
		t.Errorf("%+v", got)
	}
	if w.State().ManagedIdentityOf("") != nil {
		t.Error("no resource has an identity: those of applications have none")
	}
	second := *first
	second.ID, second.AppID = w.admin.ID, w.tenant.ID // any other ids
	removal := w.State().ManagedIdentityRemoval(first.ID)
	for name, records := range map[string][]feed.Record{
		"old first": append(removal[:len(removal):len(removal)], NewManagedIdentity(second)),
		"new first": append([]feed.Record{NewManagedIdentity(second)}, removal...),
	} {
		next, err := w.State().Apply(records)
		must(t, err)
		if got := next.(*State).ManagedIdentityOf(robotResource); got == nil || got.ID != second.ID {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if records := w.State().ManagedIdentityRemoval(w.admin.ID); records != nil {
		t.Errorf("the removal of a user: %v", records)
	}
	app, err := w.CreateApplication(w.ctx, System, Application{Tenant: w.tenant.ID, DisplayName: "app"})
	must(t, err)
	sp, err := w.CreateServicePrincipal(w.ctx, System, w.tenant.ID, app.AppID, true)
	must(t, err)
	if records := w.State().ManagedIdentityRemoval(sp.ID); records != nil {
		t.Errorf("the removal of an application's service principal: %v", records)
	}
	if _, err := w.State().FindManagedIdentity(app.AppID.String(), ID{}); !fault.Is(err, fault.NotFound) {
		t.Errorf("an application is found: %v", err)
	}
}

func TestIdentityCredentials(t *testing.T) {
	w := newWorld(t)
	sp := w.identity(robotResource)
	put := func(c FederatedCredential) (bool, error) {
		r, created, err := w.State().PutIdentityCredential(sp.ID, c)
		if err == nil {
			w.write(r)
		}
		return created, err
	}
	good := FederatedCredential{ID: w.admin.ID, Name: "main", Issuer: "https://a.example", Subject: "s", Audiences: []string{"aud"}}
	if created, err := put(good); err != nil || !created {
		t.Fatal(created, err)
	}
	changed := good
	changed.ID, changed.Name, changed.Subject = w.tenant.ID, "MAIN", "t"
	if created, err := put(changed); err != nil || created {
		t.Fatal(created, err)
	}
	got := w.State().ServicePrincipal(sp.ID).FederatedNamed("Main")
	if got == nil || got.ID != good.ID || got.Name != "main" || got.Subject != "t" || len(w.State().ServicePrincipal(sp.ID).Federated) != 1 || len(sp.Federated) != 0 {
		t.Errorf("%+v", got)
	}
	same := changed
	same.Name = "same"
	if _, err := put(same); !fault.Is(err, fault.Conflict) {
		t.Errorf("the same issuer and subject: %v", err)
	}
	for i := range maxFederated - 1 {
		c := good
		c.Name, c.Subject = fmt.Sprintf("more%d", i), fmt.Sprint(i)
		if _, err := put(c); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := put(FederatedCredential{Name: "last", Issuer: "https://a.example", Subject: "x", Audiences: []string{"a"}}); !fault.Is(err, fault.Invalid) {
		t.Errorf("one too many: %v", err)
	}
	if _, _, err := w.State().PutIdentityCredential(w.admin.ID, good); !fault.Is(err, fault.NotFound) {
		t.Errorf("of a user: %v", err)
	}
	r, err := w.State().RemoveIdentityCredential(sp.ID, "MAIN")
	must(t, err)
	w.write(r)
	if now := w.State().ServicePrincipal(sp.ID); now.FederatedNamed("main") != nil || len(now.Federated) != maxFederated-1 {
		t.Errorf("%+v", now.Federated)
	}
	if _, err := w.State().RemoveIdentityCredential(sp.ID, "main"); !fault.Is(err, fault.NotFound) {
		t.Errorf("twice: %v", err)
	}
	// Switching it off and on keeps all of it.
	must(t, w.EnableServicePrincipal(w.ctx, System, sp.ID, false))
	must(t, w.EnableServicePrincipal(w.ctx, System, sp.ID, true))
	if now := w.State().ServicePrincipal(sp.ID); now.Resource != robotResource || !now.Explicit || len(now.Federated) != maxFederated-1 || !now.Enabled {
		t.Errorf("%+v", now)
	}
}

// TestIdentityIsNoLastAdministrator: the deletion of a resource could take the tenant's last administrator away.
func TestIdentityIsNoLastAdministrator(t *testing.T) {
	w := newWorld(t)
	sp := w.identity(robotResource)
	w.write(feed.Record{Kind: KindRoleAssignment, Key: pair(GlobalAdministrator, sp.ID), Tenant: w.tenant.ID.String(), Body: []byte("{}")})
	if !w.State().HasRole(sp.ID, GlobalAdministrator) {
		t.Fatal("the identity is no administrator")
	}
	if err := w.DeleteUser(w.ctx, System, w.admin.ID); !fault.Is(err, fault.Invalid) {
		t.Errorf("the last person who is an administrator can be deleted: %v", err)
	}
	w.write(w.State().ManagedIdentityRemoval(sp.ID)...)
	if w.State().HasRole(sp.ID, GlobalAdministrator) {
		t.Error("the role outlives the identity")
	}
}
