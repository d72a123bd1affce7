package arm

import (
	"net/http"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
	"github.com/gatehouse-k8s/gatehouse/rbac"
)

func (s *Server) mountSubscriptions(r *Routes) {
	r.HandleAnyone("GET /tenants", listTenants)
	r.HandleAnyone("GET /subscriptions", listSubscriptions)
	r.Handle("GET /subscriptions/{subscription}", getSubscription)
	r.Handle("GET /subscriptions/{subscription}/locations", listLocations)
}

// listTenants shows the tenants of the person: home first, then those of which it is a guest.
func listTenants(w http.ResponseWriter, q *Request) error {
	dir := directory.In(q.View)
	var out []map[string]any
	for _, t := range tenantsOf(dir, &q.Caller) {
		out = append(out, map[string]any{
			"id": "/tenants/" + t.ID.String(), "tenantId": t.ID, "displayName": t.DisplayName, "domains": t.Domains,
			"defaultDomain": t.DefaultDomain(), "tenantCategory": "Home", "tenantType": "AAD",
		})
	}
	return WriteList(w, out)
}

func tenantsOf(dir *directory.State, caller *Caller) []*directory.Tenant {
	home := dir.Home(dir.User(caller.ID))
	if home == nil { // an application
		return []*directory.Tenant{dir.Tenant(caller.Tenant)}
	}
	out := []*directory.Tenant{dir.Tenant(home.Tenant)}
	for _, t := range dir.Tenants() {
		if g := dir.GuestOf(t.ID, home); g != nil && dir.Active(g.ID) {
			out = append(out, t)
		}
	}
	return out
}

// listSubscriptions shows those in which the caller has any role. It is empty, and no refusal, for who has none: az
// login goes on with --allow-no-subscriptions then.
func listSubscriptions(w http.ResponseWriter, q *Request) error {
	query := q.query(q.View, q.Action, rbac.Root)
	out := []any{}
	for _, sub := range In(q.View).Subscriptions(q.Caller.Tenant) {
		query.Scope = sub.Scope()
		if rbac.In(q.View).Reaches(query) {
			out = append(out, subscriptionJSON(sub))
		}
	}
	return WriteList(w, out)
}

func getSubscription(w http.ResponseWriter, q *Request) error {
	return web.WriteJSON(w, http.StatusOK, subscriptionJSON(q.Subscription))
}

func subscriptionJSON(s *Subscription) any {
	return map[string]any{
		"id": "/subscriptions/" + s.ID.String(), "subscriptionId": s.ID, "tenantId": s.Tenant, "displayName": s.Name, "state": "Enabled",
		"authorizationSource": "RoleBased", "managedByTenants": []string{},
		"subscriptionPolicies": map[string]string{"locationPlacementId": "Public_2014-09-01", "quotaId": "PayAsYouGo_2014-09-01", "spendingLimit": "Off"},
	}
}

func listLocations(w http.ResponseWriter, q *Request) error {
	out := []any{}
	for _, l := range locations {
		out = append(out, map[string]any{
			"id": "/subscriptions/" + q.Subscription.ID.String() + "/locations/" + l.name, "name": l.name, "type": "Region",
			"displayName": l.display, "regionalDisplayName": "(" + l.geography + ") " + l.display,
			"metadata": map[string]string{"regionType": "Physical", "regionCategory": "Other", "geographyGroup": l.geography},
		})
	}
	return WriteList(w, out)
}
