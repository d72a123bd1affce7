package aks

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/arm"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
)

// Identities are the cluster's managed identities. The system-assigned ones are service principals of its tenant that go with it; az aks
// update refuses to work with a cluster that shows no identity of its kubelets.
type Identities struct {
	ControlPlane directory.ID   `json:"controlPlane,omitzero"` // object id of the system-assigned one; zero with identities that the user manages
	Assigned     []UserIdentity `json:"assigned,omitempty"`    // the control plane's, if the user manages them
	Kubelet      directory.ID   `json:"kubelet,omitzero"`      // object id; zero with a service principal of the user's
	KubeletApp   directory.ID   `json:"kubeletApp,omitzero"`   // client id
	KubeletOwn   string         `json:"kubeletOwn,omitempty"`  // resource id of the kubelets' identity, if the user manages it
}

// UserIdentity is a user-assigned identity as it was when it was given to the cluster.
type UserIdentity struct {
	ID        string       `json:"id"` // as the request wrote it
	Principal directory.ID `json:"principalId"`
	Client    directory.ID `json:"clientId"`
}

// Kinds of a control plane's identity, in the service's spelling.
const (
	systemAssigned = "SystemAssigned"
	userAssigned   = "UserAssigned"
	noIdentity     = "None"
)

// freshIDs are random ids for one request, made before its plan runs.
type freshIDs struct {
	guid, etag                                         directory.ID
	controlPlane, controlPlaneApp, kubelet, kubeletApp directory.ID
}

func (p *Provisioner) freshIDs() (f freshIDs, err error) {
	for _, id := range []*directory.ID{&f.guid, &f.etag, &f.controlPlane, &f.controlPlaneApp, &f.kubelet, &f.kubeletApp} {
		if *id, err = directory.NewID(p.random()); err != nil {
			return f, err
		}
	}
	return f, nil
}

// identityGiven is what a request says about identities.
type identityGiven struct {
	kind     string   // empty: nothing
	assigned []string // resource ids of userAssignedIdentities
	kubelet  string   // resource id in identityProfile.kubeletidentity
}

// parseIdentity reads identity, before null and empty members are taken out of it: its keys are data.
func (g *identityGiven) parseIdentity(o *object) error {
	if o == nil {
		return nil
	}
	if err := o.canonical("type", "userAssignedIdentities"); err != nil {
		return err
	}
	kind, err := member[string](*o, "type", "SystemAssigned, UserAssigned or None")
	if err != nil {
		return err
	}
	if kind != nil {
		i := slices.IndexFunc([]string{systemAssigned, userAssigned, noIdentity}, func(k string) bool { return strings.EqualFold(k, *kind) })
		if i < 0 {
			return invalid("identity.type", "The value %.50q of 'identity.type' is invalid: it must be SystemAssigned, UserAssigned or None.", *kind)
		}
		g.kind = []string{systemAssigned, userAssigned, noIdentity}[i]
	}
	assigned, err := member[map[string]json.RawMessage](*o, "userAssignedIdentities", "an object whose names are resource ids")
	if err != nil || assigned == nil {
		return err
	}
	for id, value := range *assigned {
		if !isNull(value) { // null takes an identity away
			g.assigned = append(g.assigned, id)
		}
	}
	slices.Sort(g.assigned)
	return nil
}

// parseProfile reads identityProfile. Clients send back what they read; only the resource id counts.
func (g *identityGiven) parseProfile(o *object) error {
	if o == nil {
		return nil
	}
	if err := o.canonical("kubeletidentity"); err != nil {
		return err
	}
	kubelet, err := o.object("kubeletidentity")
	if err != nil || kubelet == nil {
		return err
	}
	if err := kubelet.canonical("resourceId"); err != nil {
		return err
	}
	id, err := member[string](*kubelet, "resourceId", "the resource id of a user-assigned identity")
	if err == nil && id != nil {
		g.kubelet = *id
	}
	return err
}

// desiredIdentities decides which identities a cluster has after a request, and returns what must be written for it beside the cluster.
func (at situation) desiredIdentities(c, old *Cluster, g *identityGiven, f freshIDs) ([]feed.Record, error) {
	if old == nil {
		c.Identities = Identities{}
	}
	kind, err := at.identityKind(c, old, g)
	if err != nil {
		return nil, err
	}
	if c.Outer["identity"], err = json.Marshal(map[string]string{"type": kind}); err != nil {
		return nil, err
	}
	if err := at.assign(c, kind, g); err != nil {
		return nil, err
	}
	var out []feed.Record
	switch own := kind == systemAssigned; {
	case own && c.Identities.ControlPlane.IsZero():
		if taken := at.directory.ManagedIdentityOf(c.ID()); taken != nil {
			return nil, fault.New(fault.Internal, "the identity of cluster %s exists already as %s", c.ID(), taken.ID)
		}
		c.Identities.ControlPlane = f.controlPlane
		out = append(out, directory.NewManagedIdentity(directory.ServicePrincipal{
			ID: f.controlPlane, AppID: f.controlPlaneApp, Tenant: c.Tenant, DisplayName: c.Name, Resource: c.ID(), Created: at.now,
		}))
	case !own && !c.Identities.ControlPlane.IsZero(): // the user manages them now
		out = append(out, at.directory.ManagedIdentityRemoval(c.Identities.ControlPlane)...)
		c.Identities.ControlPlane = directory.ID{}
	}
	kubelet, err := at.kubelet(c, old, kind, g, f)
	return append(out, kubelet...), err
}

// identityKind is the kind that a request asks for. A cluster never goes back to a service principal, nor leaves one here.
func (at situation) identityKind(c, old *Cluster, g *identityGiven) (string, error) {
	byPrincipal := c.usesServicePrincipal()
	if old == nil {
		switch {
		case g.kind != "":
			return g.kind, nil
		case byPrincipal:
			return noIdentity, nil
		}
		return systemAssigned, nil
	}
	was := old.identityKind()
	switch {
	case g.kind == "" || g.kind == was:
		return was, nil
	case g.kind == noIdentity || was == noIdentity:
		return "", errChange("identity.type")
	}
	return g.kind, nil
}

// assign resolves the identities that a request gives to the control plane.
func (at situation) assign(c *Cluster, kind string, g *identityGiven) error {
	const target = "identity.userAssignedIdentities"
	if kind != userAssigned {
		if len(g.assigned) > 0 {
			return invalid(target, "The property '%s' needs 'identity.type' UserAssigned, and it is %s.", target, kind)
		}
		c.Identities.Assigned = nil
		return nil
	}
	if g.assigned == nil && len(c.Identities.Assigned) > 0 {
		return nil
	}
	if len(g.assigned) != 1 {
		return invalid(target, "There are %d user-assigned identities in '%s'; a cluster has exactly one, as az aks create --assign-identity ID gives it.", len(g.assigned), target)
	}
	if had := c.Identities.Assigned; len(had) == 1 && strings.EqualFold(had[0].ID, g.assigned[0]) {
		now := at.identities.ByID(had[0].ID)
		if now == nil || now.Principal == had[0].Principal {
			return nil // also when it was deleted meanwhile: that must not block every other update
		}
		// It was deleted and made again: that is another identity, which is given as any other is.
	}
	u, err := at.userIdentity(c, target, g.assigned[0])
	if err != nil {
		return err
	}
	c.Identities.Assigned = []UserIdentity{u}
	return nil
}

// userIdentity finds a user-assigned identity that the caller may give to the cluster.
func (at situation) userIdentity(c *Cluster, target, id string) (u UserIdentity, err error) {
	rid, err := arm.ParseResourceID(id)
	if err != nil || !strings.EqualFold(rid.Type(), "Microsoft.ManagedIdentity/userAssignedIdentities") {
		return u, invalid(target, "The value %.300q in '%s' is not the resource id of a user-assigned identity; az identity show --query id prints one.", id, target)
	}
	i := at.identities.ByID(id)
	if i == nil || i.Tenant != c.Tenant {
		return u, invalid(target, "The user-assigned identity '%.300s' does not exist; az identity list shows those that do.", id)
	}
	if err := at.mayAssign(rid); err != nil {
		return u, err
	}
	return UserIdentity{ID: id, Principal: i.Principal, Client: i.Client}, nil
}

// kubelet gives the kubelets their identity: one that is made and deleted with the cluster, or one that the user manages. It is chosen
// at creation.
func (at situation) kubelet(c, old *Cluster, kind string, g *identityGiven, f freshIDs) ([]feed.Record, error) {
	const target = "properties.identityProfile.kubeletidentity.resourceId"
	if old != nil {
		if g.kubelet != "" && !strings.EqualFold(g.kubelet, c.kubeletID()) {
			return nil, errChange(strings.TrimPrefix(target, "properties."))
		}
		return nil, nil
	}
	if c.usesServicePrincipal() {
		return nil, nil
	}
	if g.kubelet != "" {
		if kind != userAssigned {
			return nil, invalid(target, "An identity of one's own for the kubelets ('%s') needs one for the control plane, too: identity.type UserAssigned.", target)
		}
		u, err := at.userIdentity(c, target, g.kubelet)
		c.Identities.Kubelet, c.Identities.KubeletApp, c.Identities.KubeletOwn = u.Principal, u.Client, u.ID
		return nil, err
	}
	c.Identities.Kubelet, c.Identities.KubeletApp = f.kubelet, f.kubeletApp
	if taken := at.directory.ManagedIdentityOf(c.kubeletID()); taken != nil {
		return nil, fault.New(fault.Internal, "the identity %s exists already as %s, in a node resource group that was free", c.kubeletID(), taken.ID)
	}
	return []feed.Record{directory.NewManagedIdentity(directory.ServicePrincipal{
		ID: f.kubelet, AppID: f.kubeletApp, Tenant: c.Tenant, DisplayName: c.Name + "-agentpool", Resource: c.kubeletID(), Explicit: true, Created: at.now,
	})}, nil
}

// unidentify returns the records that remove the identities that go with the cluster.
func (c *Cluster) unidentify(dir *directory.State) []feed.Record {
	out := dir.ManagedIdentityRemoval(c.Identities.ControlPlane)
	if c.Identities.KubeletOwn == "" {
		out = append(out, dir.ManagedIdentityRemoval(c.Identities.Kubelet)...)
	}
	return out
}

func (c *Cluster) usesServicePrincipal() bool {
	var profile struct {
		ClientID string `json:"clientId"`
	}
	return json.Unmarshal(c.Rest["servicePrincipalProfile"], &profile) == nil && profile.ClientID != "" && profile.ClientID != "msi"
}

// identityKind is the kind of the control plane's identity.
func (c *Cluster) identityKind() string {
	var identity struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(c.Outer["identity"], &identity) != nil {
		return noIdentity // it is not there: what is there was checked
	}
	return identity.Type
}

// identity is how clients read the identity of the control plane.
func (c *Cluster) identity() map[string]any {
	out := map[string]any{"type": c.identityKind()}
	if !c.Identities.ControlPlane.IsZero() {
		out["principalId"], out["tenantId"] = c.Identities.ControlPlane, c.Tenant
	}
	if len(c.Identities.Assigned) > 0 {
		assigned := map[string]any{}
		for _, u := range c.Identities.Assigned {
			assigned[u.ID] = map[string]any{"principalId": u.Principal, "clientId": u.Client}
		}
		out["userAssignedIdentities"] = assigned
	}
	return out
}

// kubeletID is the resource id of the kubelets' identity.
func (c *Cluster) kubeletID() string {
	if c.Identities.KubeletOwn != "" {
		return c.Identities.KubeletOwn
	}
	return "/subscriptions/" + c.Subscription.String() + "/resourcegroups/" + c.text("nodeResourceGroup") +
		"/providers/Microsoft.ManagedIdentity/userAssignedIdentities/" + c.Name + "-agentpool"
}

// identityProfile is how clients read the identity of the kubelets.
func (c *Cluster) identityProfile() map[string]any {
	return map[string]any{"kubeletidentity": map[string]any{
		"objectId": c.Identities.Kubelet, "clientId": c.Identities.KubeletApp, "resourceId": c.kubeletID(),
	}}
}

// UsersOf returns the clusters that use a user-assigned identity, by its object id, as resources.
func UsersOf(v *feed.View, principal directory.ID) []arm.Resource {
	var out []arm.Resource
	for _, c := range In(v).All() {
		i := c.Identities
		if i.KubeletOwn != "" && i.Kubelet == principal || slices.ContainsFunc(i.Assigned, func(u UserIdentity) bool { return u.Principal == principal }) {
			out = append(out, c.asResource())
		}
	}
	slices.SortFunc(out, func(a, b arm.Resource) int { return strings.Compare(a.ID.Key(), b.ID.Key()) })
	return out
}
