package aks

import (
	"context"
	"crypto/rsa"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// Settings is what a control plane is told of its cluster.
type Settings struct {
	GUID         directory.ID
	Tenant       directory.ID // the cluster's own, which its service accounts' issuer names
	Name         string
	AdminGroups  []directory.ID // bound to cluster-admin; nil without Entra integration
	Local        bool           // whether local accounts work
	Pools        []Pool         // simulated nodes
	PoolSuffix   string         // the eight digits in node names
	Location     string
	NodeGroup    string // the node resource group, for provider ids
	Subscription directory.ID
}

// Endpoint is where a cluster's API server answers.
type Endpoint struct {
	URL string // https://127.0.0.1:port
	CA  []byte // PEM
}

// LocalUserPrefix begins the user name of every local account; its id follows.
const LocalUserPrefix = "gatehouse:local:"

// Credential is a client certificate for a cluster.
type Credential struct {
	CertPEM, KeyPEM []byte
}

// ControlPlanes runs the API servers. Package cluster implements it.
type ControlPlanes interface {
	// Apply brings a cluster to its settings: starts it if it does not run, binds the admin groups, switches local accounts on or
	// off, adds and removes nodes. It returns when all of that is in force, so that whoever reads "Succeeded" can rely on it.
	// It may be called again at any time, also after a crash in its middle.
	Apply(ctx context.Context, s Settings) (Endpoint, error)

	// Delete stops a cluster and removes all that it had: data, keys, certificates. Deleting what is not there is no error.
	Delete(ctx context.Context, guid directory.ID) error

	// Local issues a client certificate for a new local user, and binds that user. The cluster must run with local
	// accounts on.
	Local(ctx context.Context, guid directory.ID) (Credential, error)

	// ServiceAccountKeys returns the public keys that verify the cluster's service account tokens, also while its API server is down.
	// A cluster that has none yet is fault.Unavailable.
	ServiceAccountKeys(guid directory.ID) ([]*rsa.PublicKey, error)

	// Rotate replaces the cluster's CAs: every certificate handed out before stops working.
	Rotate(ctx context.Context, s Settings) (Endpoint, error)
}
