package aks

import (
	"net/http"

	"github.com/gatehouse-k8s/gatehouse/arm"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// namespace is the provider's name.
const namespace = "Microsoft.ContainerService"

var _ arm.Provider = (*Provisioner)(nil)

// Namespace implements arm.Provider.
func (p *Provisioner) Namespace() arm.Namespace {
	versions := []string{"2022-11-01", "2023-10-01", "2024-09-01", "2025-10-01"}
	return arm.Namespace{Name: namespace, Types: []arm.Type{
		{Name: "managedClusters", Versions: versions, Tracked: true},
		{Name: "managedClusters/agentPools", Versions: versions},
		{Name: "locations/operations", Versions: versions},
		{Name: "locations/operationresults", Versions: versions},
		{Name: "locations/orchestrators", Versions: []string{"2019-08-01"}},
		{Name: "locations/kubernetesVersions", Versions: versions},
	}}
}

// Mount implements arm.Provider.
func (p *Provisioner) Mount(r *arm.Routes) {
	const (
		subscription = " /subscriptions/{subscription}"
		provider     = "/providers/" + namespace
		clusters     = subscription + "/resourceGroups/{group}" + provider + "/managedClusters"
		cluster      = clusters + "/{cluster}"
		location     = subscription + provider + "/locations/{location}"
	)
	r.HandleAnyone("GET"+subscription+provider+"/managedClusters", listClusters)
	r.HandleAnyone("GET"+clusters, listClusters)
	r.Handle("PUT"+cluster, p.putCluster)
	r.Handle("GET"+cluster, getCluster)
	r.Handle("PATCH"+cluster, p.patchCluster)
	r.Handle("DELETE"+cluster, p.deleteCluster)

	r.Handle("POST"+cluster+"/listClusterUserCredential", p.userCredential)
	r.Handle("POST"+cluster+"/listClusterAdminCredential", p.adminCredential)
	r.Handle("POST"+cluster+"/listClusterMonitoringUserCredential", monitoringCredential)
	r.Handle("POST"+cluster+"/accessProfiles/{profile}/listCredential", p.accessProfile)
	r.Handle("POST"+cluster+"/rotateClusterCertificates", p.rotateCertificates)
	r.Handle("POST"+cluster+"/resetAADProfile", resetAAD)
	r.Handle("POST"+cluster+"/{action}", unknownAction)

	r.Handle("GET"+cluster+"/upgradeProfiles/default", getUpgrades)
	r.Handle("GET"+cluster+"/agentPools", listPools)
	r.Handle("GET"+cluster+"/agentPools/{pool}", getPool)
	r.Handle("PUT"+cluster+"/agentPools/{pool}", p.putPool)
	r.Handle("DELETE"+cluster+"/agentPools/{pool}", p.deletePool)

	r.Handle("GET"+location+"/orchestrators", p.orchestrators)
	r.Handle("GET"+location+"/kubernetesVersions", p.kubernetesVersions)
	r.Operations(namespace)
}

// Resources implements arm.Provider.
func (p *Provisioner) Resources(v *feed.View, subscription directory.ID) []arm.Resource {
	var out []arm.Resource
	for _, c := range In(v).InSubscription(subscription) {
		out = append(out, c.asResource())
	}
	return out
}

func (c *Cluster) asResource() arm.Resource {
	id, err := arm.ParseResourceID(c.ID())
	if err != nil {
		panic(err) // its names were checked
	}
	return arm.Resource{ID: id, Type: resourceType, Location: c.Location, Tags: c.Tags}
}

// RemoveGroup implements arm.Provider.
func (p *Provisioner) RemoveGroup(v *feed.View, g *arm.Group, by *arm.Operation) ([]feed.Record, bool) {
	all := In(v).InGroup(g.Subscription, g.Name)
	var out []feed.Record
	for _, c := range all {
		if c.Provisioning != Deleting {
			out = append(out, leave(v, c, by)...)
		}
	}
	return out, len(all) == 0
}

// ManagerOf implements arm.Provider: node resource groups have nothing in them but the kubelets' identities, which go with the clusters.
func (p *Provisioner) ManagerOf(v *feed.View, subscription directory.ID, group string) *arm.ResourceID {
	c := In(v).ofNodeGroup(subscription, group)
	if c == nil {
		return nil
	}
	id := c.asResource().ID
	return &id
}

// leave begins a cluster's deletion, in the place of whatever is being done to it: there is no other way out of a
// creation that does not end.
func leave(v *feed.View, c *Cluster, by *arm.Operation) []feed.Record {
	next := *c
	next.Provisioning, next.Operation, next.Failure = Deleting, by.ID, nil
	out := []feed.Record{next.record()}
	if o := arm.In(v).Operation(c.Operation); o != nil && !o.Done() {
		why := &arm.ErrorMessage{Code: "OperationPreempted", Message: "The cluster '" + c.Name + "' is being deleted."}
		out = append(out, o.End(arm.Canceled, why, by.Started).Record())
	}
	return out
}

// orchestrators answers what az aks get-versions of older versions asks.
func (p *Provisioner) orchestrators(w http.ResponseWriter, q *arm.Request) error {
	return web.WriteJSON(w, http.StatusOK, map[string]any{
		"id": q.URL.Path, "name": "default", "type": namespace + "/locations/orchestrators",
		"properties": map[string]any{"orchestrators": []any{
			map[string]any{"orchestratorType": "Kubernetes", "orchestratorVersion": p.version(), "default": true},
		}},
	})
}

func (p *Provisioner) kubernetesVersions(w http.ResponseWriter, q *arm.Request) error {
	return web.WriteJSON(w, http.StatusOK, map[string]any{"values": []any{map[string]any{
		"version": minor(p.version()), "isDefault": true, "capabilities": map[string]any{"supportPlan": []string{"KubernetesOfficial"}},
		"patchVersions": map[string]any{p.version(): map[string]any{"upgrades": []string{}}},
	}}})
}

// getUpgrades answers az aks get-upgrades: there is never another version to go to.
func getUpgrades(w http.ResponseWriter, q *arm.Request) error {
	c, err := find(q.View, q)
	if err != nil {
		return err
	}
	profile := func(name string) map[string]any {
		return map[string]any{"name": name, "kubernetesVersion": c.KubernetesVersion, "osType": "Linux", "upgrades": []any{}}
	}
	pools := []any{}
	for _, pool := range c.Pools {
		pools = append(pools, profile(pool.Name))
	}
	return web.WriteJSON(w, http.StatusOK, map[string]any{
		"id": c.ID() + "/upgradeprofiles/default", "name": "default", "type": namespace + "/managedClusters/upgradeprofiles",
		"properties": map[string]any{"controlPlaneProfile": profile("master"), "agentPoolProfiles": pools},
	})
}
