package identity

import (
	"crypto/rand"
	"io"
	"net/http"

	"github.com/gatehouse-k8s/gatehouse/arm"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// namespace is the provider's name.
const namespace = "Microsoft.ManagedIdentity"

// Provider is the resource provider.
type Provider struct {
	Users func(v *feed.View, principal directory.ID) []arm.Resource // the resources that use a user-assigned identity; nil: none do
	Rand  io.Reader                                                 // nil: crypto/rand
}

var _ arm.Provider = (*Provider)(nil)

// Namespace implements arm.Provider.
func (p *Provider) Namespace() arm.Namespace {
	versions := []string{"2018-11-30", "2021-09-30-preview", "2022-01-31-preview", "2023-01-31", "2024-11-30"}
	return arm.Namespace{Name: namespace, Types: []arm.Type{
		{Name: "userAssignedIdentities", Versions: versions, Tracked: true},
		{Name: "userAssignedIdentities/federatedIdentityCredentials", Versions: versions[2:]},
		{Name: "identities", Versions: versions},
		{Name: "operations", Versions: versions},
	}}
}

// Mount implements arm.Provider.
func (p *Provider) Mount(r *arm.Routes) {
	const (
		subscription = " /subscriptions/{subscription}"
		identities   = "/providers/" + resourceType
		group        = subscription + "/resourceGroups/{group}"
		identity     = group + identities + "/{identity}"
		credentials  = identity + "/federatedIdentityCredentials"
	)
	r.HandleAnyone("GET"+subscription+identities, listIdentities)
	r.HandleAnyone("GET"+group+identities, listIdentities)
	r.Handle("PUT"+identity, p.putIdentity)
	r.Handle("GET"+identity, getIdentity)
	r.Handle("PATCH"+identity, patchIdentity)
	r.Handle("DELETE"+identity, deleteIdentity)
	r.Handle("POST"+identity+"/listAssociatedResources", p.listAssociated)

	r.Handle("GET"+credentials, listCredentials)
	r.Handle("PUT"+credentials+"/{credential}", p.putCredential)
	r.Handle("GET"+credentials+"/{credential}", getCredential)
	r.Handle("DELETE"+credentials+"/{credential}", deleteCredential)

	r.Handle("GET"+group+"/providers/{namespace}/{type}/{name}/providers/"+namespace+"/identities/default", systemAssigned)
	r.HandleAnyone("GET /providers/"+namespace+"/operations", operations)
}

// Resources implements arm.Provider.
func (p *Provider) Resources(v *feed.View, subscription directory.ID) []arm.Resource {
	var out []arm.Resource
	for _, i := range In(v).InSubscription(subscription) {
		id, err := arm.ParseResourceID(i.ID())
		if err != nil {
			panic(err) // its names were checked
		}
		out = append(out, arm.Resource{ID: id, Type: resourceType, Location: i.Location, Tags: i.Tags})
	}
	return out
}

// RemoveGroup implements arm.Provider. Identities need no time to go, so there is never anything left to wait for.
func (p *Provider) RemoveGroup(v *feed.View, g *arm.Group, _ *arm.Operation) ([]feed.Record, bool) {
	var out []feed.Record
	for _, i := range In(v).InGroup(g.Subscription, g.Name) {
		out = append(out, i.removal(directory.In(v))...)
	}
	return out, true
}

// ManagerOf implements arm.Provider.
func (p *Provider) ManagerOf(*feed.View, directory.ID, string) *arm.ResourceID { return nil }

// operations lists what can be allowed, for az identity list-operations.
func operations(w http.ResponseWriter, _ *arm.Request) error {
	var out []any
	for _, o := range []struct{ resource, operation, name string }{
		{"User Assigned Identity", "Create/Update user assigned identity", resourceType + "/write"},
		{"User Assigned Identity", "Get user assigned identity", resourceType + "/read"},
		{"User Assigned Identity", "Delete user assigned identity", resourceType + "/delete"},
		{"User Assigned Identity", "Assign user assigned identity", resourceType + "/assign/action"},
		{"User Assigned Identity", "List associated resources", resourceType + "/listAssociatedResources/action"},
		{"Federated Identity Credential", "Create/Update federated identity credential", resourceType + "/federatedIdentityCredentials/write"},
		{"Federated Identity Credential", "Get or list federated identity credentials", resourceType + "/federatedIdentityCredentials/read"},
		{"Federated Identity Credential", "Delete federated identity credential", resourceType + "/federatedIdentityCredentials/delete"},
		{"System Assigned Identity", "Get system assigned identity", namespace + "/identities/read"},
	} {
		out = append(out, map[string]any{"name": o.name, "display": map[string]string{
			"provider": "Microsoft Managed Identity", "resource": o.resource, "operation": o.operation, "description": o.operation + ".",
		}})
	}
	return arm.WriteList(w, out)
}

// systemAssigned answers with the identity that is part of another resource.
func systemAssigned(w http.ResponseWriter, q *arm.Request) error {
	resource := "/subscriptions/" + q.Subscription.ID.String() + "/resourceGroups/" + q.PathValue("group") +
		"/providers/" + q.PathValue("namespace") + "/" + q.PathValue("type") + "/" + q.PathValue("name")
	sp := directory.In(q.View).ManagedIdentityOf(resource)
	if sp == nil || sp.Explicit {
		return arm.ErrResourceNotFound(namespace+"/identities", "default", q.PathValue("group"))
	}
	g := arm.In(q.View).Group(q.Subscription.ID, q.PathValue("group"))
	if g == nil {
		return arm.ErrGroupNotFound(q.PathValue("group"))
	}
	return web.WriteJSON(w, http.StatusOK, map[string]any{
		"id": sp.Resource + "/providers/" + namespace + "/identities/default", "name": "default", "type": namespace + "/identities", "location": g.Location,
		"properties": map[string]any{"tenantId": sp.Tenant, "principalId": sp.ID, "clientId": sp.AppID},
	})
}

func (p *Provider) random() io.Reader {
	if p.Rand != nil {
		return p.Rand
	}
	return rand.Reader
}
