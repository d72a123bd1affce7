package aks

import (
	"maps"
	"strings"
)

// resourceType is the spelling that AKS answers with.
const resourceType = "Microsoft.ContainerService/ManagedClusters"

// resource is the cluster as clients read it.
func (c *Cluster) resource() map[string]any {
	properties := map[string]any{}
	for name, raw := range c.Rest {
		properties[name] = raw
	}
	maps.Copy(properties, map[string]any{
		"provisioningState": c.Provisioning, "powerState": map[string]string{"code": "Running"},
		"kubernetesVersion": c.KubernetesVersion, "currentKubernetesVersion": c.KubernetesVersion,
		"enableRBAC": c.KubernetesRBAC, "disableLocalAccounts": c.NoLocalAccounts, "maxAgentPools": maxPools,
	})
	if host, ok := strings.CutPrefix(c.Endpoint, "https://"); ok {
		properties["fqdn"] = host
	}
	if !c.Identities.Kubelet.IsZero() {
		properties["identityProfile"] = c.identityProfile()
	}
	if c.AAD != nil {
		properties["aadProfile"] = c.AAD.resource()
	}
	if c.Failure != nil {
		properties["status"] = map[string]any{"provisioningError": c.Failure}
	}
	pools := []any{}
	for i := range c.Pools {
		pool := c.pool(&c.Pools[i])
		pool["name"] = c.Pools[i].Name
		pools = append(pools, pool)
	}
	properties["agentPoolProfiles"] = pools
	out := map[string]any{
		"id": c.ID(), "name": c.Name, "type": resourceType, "location": c.Location, "kind": "Base", "eTag": c.ETag, "properties": properties,
	}
	for name, raw := range c.Outer {
		out[name] = raw
	}
	out["identity"] = c.identity()
	if c.Tags != nil {
		out["tags"] = c.Tags
	}
	return out
}

// resource is the profile as clients read it: the managed integration has no applications of its own.
func (p *AADProfile) resource() map[string]any {
	out := map[string]any{"tenantID": p.Tenant}
	if p.Managed {
		out["managed"], out["enableAzureRBAC"], out["adminGroupObjectIDs"] = true, p.AzureRBAC, p.AdminGroups
		if p.RequireProof {
			out[aadProof] = true
		}
	} else {
		out["clientAppID"], out["serverAppID"] = p.ClientApp, p.ServerApp
	}
	return out
}

// pool is the properties of a node pool as clients read them.
func (c *Cluster) pool(p *Pool) map[string]any {
	out := map[string]any{}
	for name, raw := range p.Rest {
		out[name] = raw
	}
	state := c.Provisioning
	if state == Rotating {
		state = Updating
	}
	maps.Copy(out, map[string]any{
		"count": p.Count, "provisioningState": state, "powerState": map[string]string{"code": "Running"},
		"orchestratorVersion": c.KubernetesVersion, "currentOrchestratorVersion": c.KubernetesVersion,
	})
	return out
}

// poolResource is a node pool as a resource of its own.
func (c *Cluster) poolResource(p *Pool) map[string]any {
	return map[string]any{
		"id": c.ID() + "/agentPools/" + p.Name, "name": p.Name, "type": namespace + "/managedClusters/agentPools", "properties": c.pool(p),
	}
}
