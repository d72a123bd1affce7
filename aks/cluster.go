package aks

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/arm"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/rbac"
)

// Part is the name of this package's part of a view.
const Part = "aks"

// KindCluster is the kind of cluster records. Key: the cluster's GUID.
const KindCluster feed.Kind = "aks/cluster"

// In returns the clusters of a view.
func In(v *feed.View) *State { return v.Part(Part).(*State) }

// AADProfile is a cluster's Microsoft Entra integration.
type AADProfile struct {
	Managed     bool           `json:"managed"`
	AdminGroups []directory.ID `json:"adminGroupObjectIDs"`
	Tenant      directory.ID   `json:"tenantID"` // whose users may come in
	AzureRBAC   bool           `json:"enableAzureRBAC"`
	ServerApp   directory.ID   `json:"serverAppID,omitzero"` // legacy integration only
	ClientApp   directory.ID   `json:"clientAppID,omitzero"` // legacy integration only

	RequireProof bool `json:"requireProofOfPossession,omitempty"` // bearer tokens are refused; AKS has no such setting
}

// Cluster is a managed cluster. It is immutable once it is in a State.
type Cluster struct {
	GUID         directory.ID `json:"guid"` // made by the server, never used again: a new cluster of the same name inherits nothing
	Tenant       directory.ID `json:"tenant"`
	Subscription directory.ID `json:"subscription"`
	Group        string       `json:"resourceGroup"` // in the spelling of its creation
	Name         string       `json:"name"`
	Location     string       `json:"location"`

	Tags              map[string]string          `json:"tags,omitempty"`
	Provisioning      string                     `json:"provisioningState"`
	Operation         directory.ID               `json:"operation,omitzero"` // the one that runs, until it has ended
	Failure           *arm.ErrorMessage          `json:"failure,omitempty"`  // why the last operation failed
	AAD               *AADProfile                `json:"aad,omitempty"`      // nil: no integration
	NoLocalAccounts   bool                       `json:"disableLocalAccounts,omitempty"`
	KubernetesRBAC    bool                       `json:"enableRBAC"`
	KubernetesVersion string                     `json:"kubernetesVersion"`
	Pools             []Pool                     `json:"agentPoolProfiles"`
	Rest              map[string]json.RawMessage `json:"rest,omitempty"`  // other properties, as given and with defaults
	Outer             map[string]json.RawMessage `json:"outer,omitempty"` // what stands beside the properties: identity, sku
	Identities        Identities                 `json:"identities,omitzero"`
	Endpoint          string                     `json:"endpoint,omitempty"` // https URL of the API server, once it is known
	CA                []byte                     `json:"ca,omitempty"`       // PEM of what signed its serving certificate
	ETag              string                     `json:"eTag"`
	Created           time.Time                  `json:"created"`
}

// Provisioning states (AKS REST reference, managed clusters). All but Succeeded and Failed belong to an operation.
const (
	Creating  = "Creating"
	Updating  = "Updating"
	Rotating  = "RotatingClusterCertificates"
	Deleting  = "Deleting"
	Succeeded = "Succeeded"
	Failed    = "Failed"
)

// Pool is a node pool.
type Pool struct {
	Name  string                     `json:"name"`
	Count int                        `json:"count"`
	Rest  map[string]json.RawMessage `json:"rest,omitempty"`
}

// ID is the cluster's ARM id in the spelling that AKS answers with.
func (c *Cluster) ID() string { return clusterID(c.Subscription, c.Group, c.Name) }

func clusterID(subscription directory.ID, group, name string) string {
	return "/subscriptions/" + subscription.String() + "/resourcegroups/" + group +
		"/providers/Microsoft.ContainerService/managedClusters/" + name
}

// scope is the cluster as a place for role assignments.
func (c *Cluster) scope() rbac.Scope {
	s, err := rbac.ParseScope(c.ID())
	if err != nil {
		panic(err) // its names were checked
	}
	return s
}

// Settings are what the cluster's control plane is told.
func (c *Cluster) Settings() Settings {
	s := Settings{
		GUID: c.GUID, Tenant: c.Tenant, Name: c.Name, Local: !c.NoLocalAccounts, Pools: c.Pools, PoolSuffix: c.poolSuffix(),
		Location: c.Location, NodeGroup: c.text("nodeResourceGroup"), Subscription: c.Subscription,
	}
	if c.AAD != nil {
		s.AdminGroups = c.AAD.AdminGroups
	}
	return s
}

// poolSuffix is the eight digits in the names of the cluster's nodes.
func (c *Cluster) poolSuffix() string {
	return fmt.Sprintf("%08d", binary.BigEndian.Uint32(c.GUID[:4])%100_000_000)
}

// text returns one of the other properties that is a string.
func (c *Cluster) text(name string) string {
	var s string
	if json.Unmarshal(c.Rest[name], &s) != nil {
		return "" // it is not there: what is there was checked
	}
	return s
}

func (c *Cluster) record() feed.Record {
	body, err := json.Marshal(c)
	if err != nil {
		panic(err) // our own types always encode
	}
	return feed.Record{Kind: KindCluster, Key: c.GUID.String(), Tenant: c.Tenant.String(), Body: body}
}

// State is all managed clusters. It is immutable.
type State struct {
	clusters feed.Map[directory.ID, *Cluster]
	names    feed.Map[string, directory.ID] // ID() in lower case
}

// Cluster returns a cluster by GUID, or nil.
func (s *State) Cluster(guid directory.ID) *Cluster {
	c, _ := s.clusters.Get(guid)
	return c
}

// ByID returns a cluster by ARM id in any letter case, or nil.
func (s *State) ByID(id string) *Cluster {
	guid, ok := s.names.Get(strings.ToLower(id))
	if !ok {
		return nil
	}
	return s.Cluster(guid)
}

// All returns every cluster, in no order.
func (s *State) All() []*Cluster {
	out := make([]*Cluster, 0, s.clusters.Len())
	for _, c := range s.clusters.All() {
		out = append(out, c)
	}
	return out
}

// InGroup returns the clusters of a resource group, by name in any letter case.
func (s *State) InGroup(subscription directory.ID, group string) []*Cluster {
	return s.where(func(c *Cluster) bool { return c.Subscription == subscription && strings.EqualFold(c.Group, group) })
}

// InSubscription returns the clusters of a subscription.
func (s *State) InSubscription(subscription directory.ID) []*Cluster {
	return s.where(func(c *Cluster) bool { return c.Subscription == subscription })
}

// ofNodeGroup returns the cluster that has a node resource group, by its name in any letter case, or nil.
func (s *State) ofNodeGroup(subscription directory.ID, group string) *Cluster {
	for _, c := range s.clusters.All() {
		if c.Subscription == subscription && strings.EqualFold(c.text("nodeResourceGroup"), group) {
			return c
		}
	}
	return nil
}

// where returns the clusters that fit, in the order of their ids.
func (s *State) where(fits func(*Cluster) bool) []*Cluster {
	var out []*Cluster
	for _, c := range s.clusters.All() {
		if fits(c) {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b *Cluster) int { return strings.Compare(strings.ToLower(a.ID()), strings.ToLower(b.ID())) })
	return out
}

// Apply implements feed.State.
func (s *State) Apply(records []feed.Record) (feed.State, error) {
	clusters, names := s.clusters.Edit(), s.names.Edit()
	for _, r := range records {
		if r.Kind != KindCluster {
			return nil, fmt.Errorf("unknown kind of record %s; was the database written by a newer version?", r.Kind)
		}
		guid, err := directory.ParseID(r.Key)
		if err != nil {
			return nil, err
		}
		if old, ok := clusters.Get(guid); ok {
			names.Delete(strings.ToLower(old.ID()))
		}
		if r.Body == nil {
			clusters.Delete(guid)
			continue
		}
		c := new(Cluster)
		if err := json.Unmarshal(r.Body, c); err != nil {
			return nil, fmt.Errorf("cluster %s: %w", r.Key, err)
		}
		clusters.Set(guid, c)
		names.Set(strings.ToLower(c.ID()), guid)
	}
	return &State{clusters: clusters.Map(), names: names.Map()}, nil
}
