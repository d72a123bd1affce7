package aks

import (
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/arm"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// Kinds of credentials, which are also the first piece of a kubeconfig's user name.
const (
	clusterUser  = "clusterUser"
	clusterAdmin = "clusterAdmin"
)

// errStatic is the service's sentence; clients match on it.
func errStatic() error {
	return fault.New(fault.Invalid, "Getting static credential is not allowed because this cluster is set to disable local accounts.")
}

// needsEndpoint refuses what needs a cluster that has run.
func needsEndpoint(c *Cluster) error {
	if c.Provisioning == Deleting {
		return fault.New(fault.Conflict, "The cluster '%s' is being deleted.", c.Name).WithCode("OperationNotAllowed")
	}
	if c.Endpoint == "" {
		return fault.New(fault.Conflict, "The cluster '%s' has no API server: its provisioning state is %s. Wait until it is Succeeded; if it is Failed, repeat the create command.",
			c.Name, c.Provisioning).WithCode("OperationNotAllowed")
	}
	return nil
}

func (p *Provisioner) userCredential(w http.ResponseWriter, q *arm.Request) error {
	text, err := p.kubeconfig(q, clusterUser)
	return writeCredential(w, clusterUser, text, err)
}

func (p *Provisioner) adminCredential(w http.ResponseWriter, q *arm.Request) error {
	text, err := p.kubeconfig(q, clusterAdmin)
	return writeCredential(w, clusterAdmin, text, err)
}

func writeCredential(w http.ResponseWriter, name string, text []byte, err error) error {
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	return web.WriteJSON(w, http.StatusOK, map[string]any{"kubeconfigs": []any{map[string]any{"name": name, "value": text}}})
}

// accessProfile is the older way to the same credentials.
func (p *Provisioner) accessProfile(w http.ResponseWriter, q *arm.Request) error {
	c, err := find(q.View, q)
	if err != nil {
		return err
	}
	var kind string
	for _, known := range []string{clusterUser, clusterAdmin} {
		if strings.EqualFold(known, q.PathValue("profile")) {
			kind = known
		}
	}
	if kind == "" {
		return arm.ErrResourceNotFound(namespace+"/managedClusters/accessProfiles", c.Name+"/"+q.PathValue("profile"), c.Group)
	}
	text, err := p.kubeconfig(q, kind)
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	return web.WriteJSON(w, http.StatusOK, map[string]any{
		"id": c.ID() + "/accessProfiles/" + kind, "name": kind, "type": namespace + "/ManagedClusters/AccessProfiles", "location": c.Location,
		"properties": map[string]any{"kubeConfig": text},
	})
}

// monitoringCredential is refused: a user that may read metrics alone is not among the local accounts here.
func monitoringCredential(_ http.ResponseWriter, q *arm.Request) error {
	c, err := find(q.View, q)
	switch {
	case err != nil:
		return err
	case c.NoLocalAccounts:
		return errStatic()
	}
	return fault.New(fault.Invalid, "The monitoring user is not available in this version of Gatehouse; bind a group to the ClusterRole 'view' and use az aks get-credentials.")
}

// kubeconfig makes the file that a caller gets. It holds a secret of its own only where there is a local account behind it:
// who signs in with Microsoft Entra gets the way to sign in.
func (p *Provisioner) kubeconfig(q *arm.Request, kind string) ([]byte, error) {
	format := strings.ToLower(q.URL.Query().Get("format"))
	if format != "" && format != "exec" && format != "azure" {
		return nil, invalid("format", "The format %.50q is not known; use exec or azure.", q.URL.Query().Get("format"))
	}
	c, err := find(q.View, q)
	if err != nil {
		return nil, err
	}
	signsIn := kind == clusterUser && c.AAD != nil
	if !signsIn && c.NoLocalAccounts {
		return nil, errStatic()
	}
	if err := needsEndpoint(c); err != nil {
		return nil, err
	}
	user := kind + "_" + c.Group + "_" + c.Name
	if signsIn {
		q.Audit(map[string]string{"credential": "kubeconfig without a secret", "user": user})
		return marshalKubeconfig(c, user, signIn(c, format))
	}
	local, err := p.ControlPlanes.Local(q.Context(), c.GUID)
	if err != nil {
		return nil, err
	}
	q.Audit(map[string]string{"credential": "client certificate", "user": subjectOf(local.CertPEM)})
	return marshalKubeconfig(c, user, kubeUser{Certificate: local.CertPEM, Key: local.KeyPEM})
}

// subjectOf names the local account of a certificate, for audit.
func subjectOf(certPEM []byte) string {
	block, _ := pem.Decode(certPEM)
	if block == nil {
		return ""
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return ""
	}
	return cert.Subject.CommonName
}
