package cluster

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/aks"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/internal/pki"
)

// kubeBinary finds gatehouse-kube, or skips the test where a machine need not have it.
func kubeBinary(t *testing.T) string {
	t.Helper()
	path := os.Getenv("GATEHOUSE_KUBE")
	if path == "" {
		path = filepath.Join("..", "bin", "gatehouse-kube")
	}
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s: %v", path, err)
		}
		t.Skip("skipped: bin/gatehouse-kube is missing; run make build")
	}
	return path
}

// hooks answers as Gatehouse's webhook listener does, for a directory of one: the token "alice".
type hooks struct {
	url string
	ca  *pki.Authority

	mu     sync.Mutex
	groups []string // of alice
	asked  []string // the common names of the certificates that came
}

func newHooks(t *testing.T) *hooks {
	t.Helper()
	ca, err := pki.Open(t.TempDir(), "webhook-ca", "test webhooks", nil)
	if err != nil {
		t.Fatal(err)
	}
	h := &hooks{ca: ca}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+authenticatePath, h.authenticate)
	mux.HandleFunc("POST "+authorizePath, func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode(object{"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "status": object{"allowed": false}})
	})
	pair, err := ca.Issue(pki.Request{CommonName: "webhooks", IPs: []net.IP{net.IPv4(127, 0, 0, 1)}, Server: true})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(mux)
	srv.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool(), Certificates: []tls.Certificate{cert}}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	h.url = srv.URL
	return h
}

func (h *hooks) authenticate(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked = append(h.asked, r.TLS.PeerCertificates[0].Subject.CommonName)
	var review struct {
		Spec struct {
			Token string `json:"token"`
		} `json:"spec"`
	}
	json.NewDecoder(r.Body).Decode(&review)
	status := object{"authenticated": false}
	if review.Spec.Token == "alice" {
		status = object{"authenticated": true, "user": object{
			"username": "alice@gatehouse.internal", "groups": h.groups, "extra": object{"oid": list{"00000000-0000-4000-8000-0000000a11ce"}},
		}}
	}
	json.NewEncoder(w).Encode(object{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status})
}

func (h *hooks) target() WebhookTarget {
	return WebhookTarget{URL: h.url, CA: h.ca.CertPEM(), Issue: func(guid directory.ID) (pki.KeyPair, error) {
		return h.ca.Issue(pki.Request{CommonName: guid.String(), Client: true})
	}}
}

func newID(t *testing.T) directory.ID {
	t.Helper()
	id, err := directory.NewID(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func newManager(t *testing.T, dir string, h *hooks) *Manager {
	t.Helper()
	m := &Manager{
		Dir: dir, KubeBinary: kubeBinary(t), Webhook: h.target(),
		ServiceAccountIssuer: func(tenant, guid directory.ID) string {
			return fmt.Sprintf("https://localhost:8443/oidc/%s/%s/", tenant, guid)
		},
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Stop(context.Background()) })
	return m
}

// fixture is a cluster that runs and people who use it.
type fixture struct {
	*testing.T
	hooks    *hooks
	m        *Manager
	settings aks.Settings
	endpoint aks.Endpoint
	admins   directory.ID
}

// TestCluster tells the life of one cluster, from its making to its end.
func TestCluster(t *testing.T) {
	f := &fixture{T: t, hooks: newHooks(t), admins: newID(t)}
	f.m = newManager(t, filepath.Join(t.TempDir(), "clusters"), f.hooks)
	f.settings = aks.Settings{
		GUID: newID(t), Tenant: newID(t), Name: "myManagedCluster", Location: "centralus",
		AdminGroups: []directory.ID{f.admins}, Local: true,
		Pools: []aks.Pool{{Name: "nodepool1", Count: 3}}, PoolSuffix: "12345678",
		NodeGroup: "MC_myResourceGroup_myManagedCluster_centralus", Subscription: newID(t),
	}
	if f.m.Ready(f.settings.GUID) {
		t.Error("ready before it exists")
	}
	began := time.Now()
	f.apply(t)
	t.Logf("from nothing to nodes Ready: %v", time.Since(began).Round(time.Millisecond))

	for _, story := range []struct {
		name string
		tell func(*testing.T)
	}{
		{"nodes look as in AKS", f.nodes},
		{"a member of the admin group is admin until removed", f.adminGroup},
		{"nobody else comes in", f.strangers},
		{"etcd refuses without its own certificate", f.etcd},
		{"bindings are repaired", f.repair},
		{"bound groups are known", f.boundGroups},
		{"pods run without machines", f.userPods},
		{"local accounts stop when switched off", f.localAccounts},
		{"pools grow and shrink", f.scale},
		{"a restart keeps everything", f.restart},
		{"each process comes back after a kill", f.kill},
		{"Gatehouse comes back after a kill in the middle of its start", f.killGatehouse},
		{"rotated certificates end the old ones", f.rotateAll},
		{"nothing secret is readable by others", f.modes},
		{"a deleted cluster leaves nothing", f.deleted},
	} {
		if !t.Run(story.name, story.tell) {
			f.logs(t)
			return // the stories go on from each other
		}
	}
}
