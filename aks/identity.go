package aks

import (
	"encoding/json"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
)

// Identities are the cluster's managed identities: service principals of its tenant that go with it. az aks update refuses
// to work with a cluster that shows no identity of its kubelets.
type Identities struct {
	ControlPlane directory.ID `json:"controlPlane,omitzero"` // object id; zero with identities that the user manages
	Kubelet      directory.ID `json:"kubelet,omitzero"`      // object id; zero with a service principal of the user's
	KubeletApp   directory.ID `json:"kubeletApp,omitzero"`   // client id
}

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

// identify gives a new cluster the identities that it asks for, and returns their records.
func (c *Cluster) identify(f freshIDs) []feed.Record {
	if c.usesServicePrincipal() {
		return nil
	}
	c.Identities.Kubelet, c.Identities.KubeletApp = f.kubelet, f.kubeletApp
	out := []feed.Record{directory.NewManagedIdentity(f.kubelet, f.kubeletApp, c.Tenant, c.Name+"-agentpool", c.Created)}
	if c.identityIs("SystemAssigned") {
		c.Identities.ControlPlane = f.controlPlane
		out = append(out, directory.NewManagedIdentity(f.controlPlane, f.controlPlaneApp, c.Tenant, c.Name, c.Created))
	}
	return out
}

// unidentify returns the records that remove the identities with the cluster.
func (c *Cluster) unidentify(dir *directory.State) []feed.Record {
	return append(dir.ManagedIdentityRemoval(c.Identities.Kubelet), dir.ManagedIdentityRemoval(c.Identities.ControlPlane)...)
}

func (c *Cluster) usesServicePrincipal() bool {
	var profile struct {
		ClientID string `json:"clientId"`
	}
	return json.Unmarshal(c.Rest["servicePrincipalProfile"], &profile) == nil && profile.ClientID != "" && profile.ClientID != "msi"
}

func (c *Cluster) identityIs(kind string) bool {
	var identity struct {
		Type string `json:"type"`
	}
	return json.Unmarshal(c.Outer["identity"], &identity) == nil && strings.EqualFold(identity.Type, kind)
}

// identityProfile is how clients read the identity of the kubelets.
func (c *Cluster) identityProfile() map[string]any {
	return map[string]any{"kubeletidentity": map[string]any{
		"objectId": c.Identities.Kubelet, "clientId": c.Identities.KubeletApp,
		"resourceId": "/subscriptions/" + c.Subscription.String() + "/resourcegroups/" + c.text("nodeResourceGroup") +
			"/providers/Microsoft.ManagedIdentity/userAssignedIdentities/" + c.Name + "-agentpool",
	}}
}
