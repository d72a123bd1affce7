package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/aks"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/internal/pki"
)

func (f *fixture) apply(t *testing.T) {
	t.Helper()
	e, err := f.m.Apply(t.Context(), f.settings)
	if err != nil {
		f.logs(t)
		t.Fatal(err)
	}
	f.endpoint = e
}

// logs shows what the processes printed last.
func (f *fixture) logs(t *testing.T) {
	all, _ := filepath.Glob(filepath.Join(f.m.Dir, "*", "log", "*.log"))
	for _, path := range all {
		if filepath.Base(path) != "audit.log" {
			t.Logf("%s: %s", filepath.Base(path), lastLines(path, 0))
		}
	}
}

// until waits for something that comes by itself, and soon.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for !is() {
		if !sleep(ctx, step) {
			t.Fatalf("never: %s", what)
		}
	}
}

// ours is Gatehouse's own client.
func (f *fixture) ours() *client { return f.m.known(f.settings.GUID).run.client }

// as returns a client that has a token, or a certificate, or neither.
func (f *fixture) as(token string, cert *aks.Credential) func(method, path string, body any) (int, string) {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(f.endpoint.CA)
	conf := &tls.Config{RootCAs: pool}
	if cert != nil {
		pair, err := tls.X509KeyPair(cert.CertPEM, cert.KeyPEM)
		if err != nil {
			f.Fatal(err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	h := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true}}
	url := f.endpoint.URL
	return func(method, path string, body any) (int, string) {
		text, err := json.Marshal(body)
		if err != nil {
			f.Fatal(err)
		}
		req, err := http.NewRequest(method, url+path, strings.NewReader(string(text)))
		if err != nil {
			f.Fatal(err)
		}
		if body == nil {
			req.Body = nil
		}
		req.Header.Set("Content-Type", "application/json")
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := h.Do(req)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		answer, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(answer)
	}
}

func (f *fixture) setGroups(groups ...string) {
	f.hooks.mu.Lock()
	defer f.hooks.mu.Unlock()
	f.hooks.groups = groups
}

func (f *fixture) nodes(t *testing.T) {
	f.setGroups(f.admins.String())
	out := f.kubectl(t, "get", "nodes", "--no-headers")
	for i, line := range strings.Split(strings.TrimSpace(out), "\n") {
		fields := strings.Fields(line)
		if len(fields) != 5 || fields[0] != fmt.Sprintf("aks-nodepool1-12345678-vmss00000%d", i) || fields[1] != "Ready" || fields[2] != "agent" || fields[4] != "v1.36.3" {
			t.Errorf("kubectl get nodes: %s", line)
		}
	}
	if n := strings.Count(out, "\n"); n != 3 {
		t.Errorf("%d nodes:\n%s", n, out)
	}
	until(t, "the pods of kube-system run", func() bool {
		out = f.kubectl(t, "get", "pods", "--all-namespaces", "--no-headers")
		return strings.Count(out, "Running") == 16 && strings.Count(out, "\n") == 16
	})
	for _, name := range []string{"coredns-", "coredns-autoscaler-", "metrics-server-", "kube-proxy-", "konnectivity-agent-"} {
		if !strings.Contains(out, name) {
			t.Errorf("no pod %s:\n%s", name, out)
		}
	}
}

// kubectl runs the real one with Alice's token.
func (f *fixture) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	home := t.TempDir()
	path := filepath.Join(home, "config")
	conf, err := json.Marshal(object{
		"apiVersion": "v1", "kind": "Config", "current-context": "x",
		"clusters": list{object{"name": "x", "cluster": object{"server": f.endpoint.URL, "certificate-authority-data": f.endpoint.CA}}},
		"users":    list{object{"name": "x", "user": object{"token": "alice"}}},
		"contexts": list{object{"name": "x", "context": object{"cluster": "x", "user": "x"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, conf, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), f.m.KubeBinary, append([]string{"kubectl"}, args...)...)
	cmd.Env = []string{"HOME=" + home, "KUBECONFIG=" + path, "PATH=/usr/bin:/bin"}
	out, err := cmd.CombinedOutput()
	if err != nil && len(out) == 0 {
		return err.Error()
	}
	return string(out)
}

func (f *fixture) adminGroup(t *testing.T) {
	alice := f.as("alice", nil)
	f.setGroups(f.admins.String())
	until(t, "a member may list nodes", func() bool { code, _ := alice("GET", "/api/v1/nodes", nil); return code == 200 })
	f.setGroups()
	began := time.Now()
	until(t, "a former member is refused", func() bool { code, _ := alice("GET", "/api/v1/nodes", nil); return code == 403 })
	t.Logf("refused after %v", time.Since(began).Round(time.Millisecond))
	f.hooks.mu.Lock()
	defer f.hooks.mu.Unlock()
	for _, name := range f.hooks.asked {
		if name != f.settings.GUID.String() {
			t.Errorf("the webhook was asked by %q", name)
		}
	}
}

func (f *fixture) strangers(t *testing.T) {
	nobody, liar := f.as("", nil), f.as("not-alice", nil)
	for path, want := range map[string]int{
		"/readyz": 200, "/livez": 200, "/healthz": 200,
		"/version": 401, "/api": 401, "/api/v1/nodes": 401, "/openid/v1/jwks": 401, "/metrics": 401, "/readyz/etcd": 401,
	} {
		if code, body := nobody("GET", path, nil); code != want {
			t.Errorf("anonymous GET %s: %d %.200s", path, code, body)
		}
	}
	if code, body := liar("GET", "/version", nil); code != 401 {
		t.Errorf("a wrong token: %d %.200s", code, body)
	}
	// A certificate of a CA that is not the clients' does not sign in, whatever it says.
	run := f.m.known(f.settings.GUID).run
	for name, ca := range map[string]*pki.Authority{"etcd": run.cas.etcd, "serving": run.cas.serving, "front-proxy": run.cas.frontProxy} {
		pair, err := ca.Issue(pki.Request{CommonName: "eve", Organizations: []string{"system:masters"}, Client: true})
		if err != nil {
			t.Fatal(err)
		}
		if code, _ := f.as("", &aks.Credential{CertPEM: pair.CertPEM, KeyPEM: pair.KeyPEM})("GET", "/api/v1/nodes", nil); code != 401 && code != 0 {
			t.Errorf("a certificate of the %s CA: %d", name, code)
		}
	}
}

func (f *fixture) etcd(t *testing.T) {
	run := f.m.known(f.settings.GUID).run
	ask := func(certs ...tls.Certificate) error {
		h := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: run.cas.etcd.Pool(), Certificates: certs}}}
		resp, err := h.Get("https://" + loopback(run.ports.Etcd) + "/health")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != 200 {
			return fmt.Errorf("status %d", resp.StatusCode)
		}
		return nil
	}
	client := func(ca *pki.Authority) tls.Certificate {
		pair, err := ca.Issue(pki.Request{CommonName: "kube-apiserver", Client: true})
		if err != nil {
			t.Fatal(err)
		}
		cert, err := pair.TLS()
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	if err := ask(client(run.cas.etcd)); err != nil {
		t.Fatalf("with a certificate: %v", err)
	}
	if err := ask(); err == nil {
		t.Error("etcd answers without a certificate")
	}
	if err := ask(client(run.cas.clients)); err == nil {
		t.Error("etcd answers to a certificate for the API server's clients")
	}
	if resp, err := http.Get("http://" + loopback(run.ports.Etcd) + "/health"); err == nil {
		resp.Body.Close()
		if resp.StatusCode == 200 {
			t.Error("etcd answers without TLS")
		}
	}
}

func (f *fixture) repair(t *testing.T) {
	c := f.ours()
	want := adminsOf(f.settings.AdminGroups)
	whole := func() bool {
		var have binding
		return c.get(t.Context(), bindingPath(adminsBinding), &have) == nil && have.fits(want)
	}
	until(t, "the binding is there", whole)
	if err := c.delete(t.Context(), bindingPath(adminsBinding), nil); err != nil {
		t.Fatal(err)
	}
	until(t, "it comes back after a delete", whole)

	if err := c.merge(t.Context(), bindingPath(adminsBinding), object{"subjects": list{subject{rbacGroup, "User", "eve"}}}, nil); err != nil {
		t.Fatal(err)
	}
	until(t, "its subjects come back", whole)

	if err := c.delete(t.Context(), bindingPath(adminsBinding), nil); err != nil {
		t.Fatal(err)
	}
	other := toClusterAdmin(adminsBinding, nil)
	other.RoleRef.Name = "view"
	_ = c.create(t.Context(), rbacPath+"/clusterrolebindings", other, nil) // unless the repair was faster
	until(t, "its role comes back", whole)

	f.settings.AdminGroups = nil
	f.apply(t)
	if err := c.get(t.Context(), bindingPath(adminsBinding), new(binding)); !isNotFound(err) {
		t.Errorf("without admin groups: %v", err)
	}
	f.settings.AdminGroups = []directory.ID{f.admins}
	f.apply(t)
	f.setGroups(f.admins.String())
	until(t, "Alice is admin again", func() bool { code, _ := f.as("alice", nil)("GET", "/api/v1/nodes", nil); return code == 200 })
}

func (f *fixture) boundGroups(t *testing.T) {
	has, revision := f.m.BoundGroups(f.settings.GUID)
	if !has(f.admins) || revision == 0 {
		t.Errorf("the admin group is not known at revision %d", revision)
	}
	id := newID(t)
	if has(id) {
		t.Error("a group that nobody knows")
	}
	path := rbacPath + "/namespaces/default/rolebindings"
	made := object{"metadata": object{"name": "b"}, "roleRef": roleRef{rbacGroup, "ClusterRole", "view"}, "subjects": list{
		subject{rbacGroup, "Group", id.String()}, subject{rbacGroup, "Group", "system:nodes"}, subject{rbacGroup, "User", newID(t).String()},
	}}
	if err := f.ours().create(t.Context(), path, made, nil); err != nil {
		t.Fatal(err)
	}
	until(t, "the group of a RoleBinding is known", func() bool { has, _ := f.m.BoundGroups(f.settings.GUID); return has(id) })
	_, later := f.m.BoundGroups(f.settings.GUID)
	if has(id) || later <= revision {
		t.Errorf("a set that was given out has changed, or revision %d follows %d", later, revision)
	}
	if err := f.ours().delete(t.Context(), path+"/b", nil); err != nil {
		t.Fatal(err)
	}
	until(t, "it is forgotten", func() bool { has, _ := f.m.BoundGroups(f.settings.GUID); return !has(id) })
	if has, revision := f.m.BoundGroups(newID(t)); has(f.admins) || revision != 0 {
		t.Error("a cluster that does not exist knows a group")
	}
}

func (f *fixture) userPods(t *testing.T) {
	c := f.ours()
	ctx := t.Context()
	phase := func(name string) string {
		var p pod
		if err := c.get(ctx, "/api/v1/namespaces/dev/pods/"+name, &p); err != nil {
			return err.Error()
		}
		if p.Status.PodIP == "" || p.Metadata.Annotations[simulated] != "true" {
			return "not yet"
		}
		return p.Status.Phase
	}
	if out := f.kubectl(t, "create", "namespace", "dev"); !strings.Contains(out, "created") {
		t.Fatal(out)
	}
	until(t, "the namespace has its service account", func() bool {
		return c.get(ctx, "/api/v1/namespaces/dev/serviceaccounts/default", nil) == nil
	})
	if out := f.kubectl(t, "run", "nginx-dev", "--image=nginx", "-n", "dev"); !strings.Contains(out, "created") {
		t.Fatal(out)
	}
	until(t, "the pod runs", func() bool { return phase("nginx-dev") == "Running" })
	for _, args := range [][]string{{"logs", "nginx-dev", "-n", "dev"}, {"exec", "nginx-dev", "-n", "dev", "--", "ls"}} {
		if out := f.kubectl(t, args...); !strings.Contains(out, "simulated") {
			t.Errorf("kubectl %s should say why not: %s", args[0], out)
		}
	}
	f.kubectl(t, "create", "job", "work", "--image=busybox", "-n", "dev")
	until(t, "the job is complete", func() bool {
		return strings.Contains(f.kubectl(t, "get", "job", "work", "-n", "dev"), "Complete")
	})
	began := time.Now()
	f.kubectl(t, "delete", "pod", "nginx-dev", "-n", "dev")
	if !strings.Contains(phase("nginx-dev"), "not found") {
		t.Error("the pod is still there")
	}
	t.Logf("deleting a pod took %v", time.Since(began).Round(time.Millisecond))

	impossible := object{"metadata": object{"name": "nowhere"}, "spec": object{
		"nodeSelector": object{"no": "such"}, "containers": list{object{"name": "c", "image": "nginx"}},
	}}
	if err := c.create(ctx, "/api/v1/namespaces/dev/pods", impossible, nil); err != nil {
		t.Fatal(err)
	}
	until(t, "a pod that fits nowhere says so", func() bool {
		return strings.Contains(f.kubectl(t, "describe", "pod", "nowhere", "-n", "dev"), "0/3 nodes are available") ||
			strings.Contains(f.kubectl(t, "get", "pod", "nowhere", "-n", "dev", "-o", "yaml"), "0/3 nodes are available")
	})
}

func (f *fixture) localAccounts(t *testing.T) {
	earlier, err := f.m.Local(t.Context(), f.settings.GUID)
	if err != nil {
		t.Fatal(err)
	}
	user := f.as("", &earlier)
	if code, body := user("GET", "/api/v1/nodes", nil); code != 200 { // at once: it was returned when it worked
		t.Fatalf("%d %s", code, body)
	}
	_, who := user("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", object{"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"})
	if !strings.Contains(who, localPrefix) || strings.Contains(who, "system:masters") {
		t.Errorf("who am I: %s", who)
	}
	// The binding is nobody's to extend, not even an admin's.
	if err := f.ours().merge(t.Context(), bindingPath(localBinding), object{"subjects": list{subject{rbacGroup, "User", "eve"}}}, nil); err != nil {
		t.Fatal(err)
	}
	until(t, "the local accounts' binding is repaired", func() bool {
		var have binding
		return f.ours().get(t.Context(), bindingPath(localBinding), &have) == nil && len(have.Subjects) == 1 && have.Subjects[0].Name != "eve"
	})

	f.settings.Local = false
	f.apply(t)
	if code, _ := user("GET", "/api/v1/nodes", nil); code != 403 {
		t.Errorf("after disabling: %d", code)
	}
	if _, err := f.m.Local(t.Context(), f.settings.GUID); !fault.Is(err, fault.Conflict) {
		t.Errorf("a credential while local accounts are off: %v", err)
	}
	f.settings.Local = true
	f.apply(t)
	later, err := f.m.Local(t.Context(), f.settings.GUID)
	if err != nil {
		t.Fatal(err)
	}
	if code, _ := f.as("", &later)("GET", "/api/v1/nodes", nil); code != 200 {
		t.Errorf("a new credential: %d", code)
	}
	if code, _ := user("GET", "/api/v1/nodes", nil); code != 403 {
		t.Errorf("an earlier credential lives again: %d", code)
	}
}

func (f *fixture) scale(t *testing.T) {
	names := func() []string {
		var all struct {
			Items []node `json:"items"`
		}
		if err := f.ours().get(t.Context(), "/api/v1/nodes", &all); err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, n := range all.Items {
			out = append(out, n.Metadata.Name)
		}
		return out
	}
	f.settings.Pools = []aks.Pool{{Name: "nodepool1", Count: 1}, {Name: "user", Count: 1}}
	f.apply(t)
	if got := names(); !slices.Equal(got, []string{"aks-nodepool1-12345678-vmss000000", "aks-user-12345678-vmss000000"}) {
		t.Errorf("nodes %v", got)
	}
	until(t, "no pod is left on nodes that are gone", func() bool {
		out := f.kubectl(t, "get", "pods", "-A", "-o", "wide")
		return !strings.Contains(out, "vmss000001") && !strings.Contains(out, "Terminating")
	})
}

func (f *fixture) restart(t *testing.T) {
	cred, err := f.m.Local(t.Context(), f.settings.GUID)
	if err != nil {
		t.Fatal(err)
	}
	before := f.endpoint
	began := time.Now()
	if err := f.m.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("stopped in %v", time.Since(began).Round(time.Millisecond))
	if _, err := f.m.Apply(t.Context(), f.settings); !fault.Is(err, fault.Unavailable) {
		t.Errorf("Apply after Stop: %v", err)
	}
	if f.m.Ready(f.settings.GUID) {
		t.Error("ready though stopped")
	}
	f.m = newManager(f.T, f.m.Dir, f.hooks)
	began = time.Now()
	f.apply(t)
	t.Logf("started again in %v", time.Since(began).Round(time.Millisecond))
	if f.endpoint.URL != before.URL || string(f.endpoint.CA) != string(before.CA) {
		t.Errorf("kubeconfigs are worthless: %s was %s", f.endpoint.URL, before.URL)
	}
	if code, body := f.as("", &cred)("GET", "/api/v1/namespaces/dev", nil); code != 200 {
		t.Errorf("a namespace of before, by a credential of before: %d %s", code, body)
	}
	if !f.m.Ready(f.settings.GUID) {
		t.Error("not ready")
	}
}

func (f *fixture) kill(t *testing.T) {
	nobody := f.as("", nil)
	for _, name := range []string{"kube-controller-manager", "kube-apiserver", "etcd"} {
		record := filepath.Join(f.m.Dir, f.settings.GUID.String(), "run", name+".json")
		pid := func() int {
			var id identity
			text, err := os.ReadFile(record)
			if err != nil || json.Unmarshal(text, &id) != nil {
				return 0
			}
			return id.PID
		}
		old := pid()
		if old == 0 {
			t.Fatalf("%s has no record", name)
		}
		killProcess(t, old)
		began := time.Now()
		until(t, name+" is started again", func() bool { now := pid(); return now != 0 && now != old })
		until(t, "the cluster is ready after a kill of "+name, func() bool {
			code, _ := nobody("GET", "/readyz", nil)
			return code == 200 && f.m.Ready(f.settings.GUID)
		})
		t.Logf("%s was back after %v", name, time.Since(began).Round(time.Millisecond))
	}
	f.apply(t)
	until(t, "the bindings are followed again", func() bool {
		id := newID(t)
		made := object{"metadata": object{"name": id.String()}, "roleRef": roleRef{rbacGroup, "ClusterRole", "view"}, "subjects": list{subject{rbacGroup, "Group", id.String()}}}
		if err := f.ours().create(t.Context(), rbacPath+"/clusterrolebindings", made, nil); err != nil {
			return false
		}
		until(t, "the new group is known", func() bool { has, _ := f.m.BoundGroups(f.settings.GUID); return has(id) })
		return true
	})
}

func (f *fixture) rotateAll(t *testing.T) {
	cred, err := f.m.Local(t.Context(), f.settings.GUID)
	if err != nil {
		t.Fatal(err)
	}
	before := f.endpoint
	if f.endpoint, err = f.m.Rotate(t.Context(), f.settings); err != nil {
		t.Fatal(err)
	}
	if f.endpoint.URL != before.URL || string(f.endpoint.CA) == string(before.CA) {
		t.Errorf("endpoint %s, was %s; CA changed: %v", f.endpoint.URL, before.URL, string(f.endpoint.CA) != string(before.CA))
	}
	if code, _ := f.as("", &cred)("GET", "/api/v1/nodes", nil); code != 401 {
		t.Errorf("a certificate from before: %d", code)
	}
	now := f.endpoint
	f.endpoint = before
	if code, _ := f.as("alice", nil)("GET", "/api/v1/nodes", nil); code != 0 {
		t.Errorf("the old CA still vouches for the API server: %d", code)
	}
	f.endpoint = now
	if code, body := f.as("alice", nil)("GET", "/api/v1/namespaces/dev", nil); code != 200 {
		t.Errorf("the state of before: %d %s", code, body)
	}
}

func (f *fixture) modes(t *testing.T) {
	root := filepath.Join(f.m.Dir, f.settings.GUID.String())
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		public := d.IsDir() || strings.HasSuffix(path, ".crt") || strings.HasPrefix(path, filepath.Join(root, "etcd"))
		if mode := info.Mode().Perm(); !public && mode&0o077 != 0 || path == root && mode != 0o700 {
			t.Errorf("%s has mode %o", path, mode)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(filepath.Join(root, "log", "audit.log"))
	if err != nil || !strings.Contains(string(log), `"username":"alice@gatehouse.internal"`) {
		t.Errorf("the audit log does not know Alice (%d bytes, %v)", len(log), err)
	}
	if strings.Contains(string(log), "requestObject") || strings.Contains(string(log), "responseObject") {
		t.Error("the audit log has bodies")
	}
}

func (f *fixture) deleted(t *testing.T) {
	if err := f.m.Delete(t.Context(), f.settings.GUID); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(f.m.Dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if code, _ := f.as("", nil)("GET", "/readyz", nil); code != 0 {
		t.Errorf("something still answers: %d", code)
	}
	if err := f.m.Delete(t.Context(), f.settings.GUID); err != nil {
		t.Errorf("deleting what is not there: %v", err)
	}
	if _, err := f.m.Local(t.Context(), f.settings.GUID); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a credential of a deleted cluster: %v", err)
	}
}

const settingsEnv = "GATEHOUSE_TEST_SETTINGS"

// playManager is a Gatehouse that starts a cluster and waits to be killed.
func playManager() int {
	dir := os.Getenv("GATEHOUSE_TEST_DIR")
	var s aks.Settings
	if err := json.Unmarshal([]byte(os.Getenv(settingsEnv)), &s); err != nil {
		return 1
	}
	ca, err := pki.Open(filepath.Join(dir, "webhook-ca"), "ca", "ca", nil)
	if err != nil {
		return 1
	}
	m := &Manager{
		Dir: filepath.Join(dir, "clusters"), KubeBinary: os.Getenv("GATEHOUSE_KUBE"),
		Webhook: WebhookTarget{URL: "https://127.0.0.1:1", CA: ca.CertPEM(), Issue: func(guid directory.ID) (pki.KeyPair, error) {
			return ca.Issue(pki.Request{CommonName: guid.String(), Client: true})
		}},
		ServiceAccountIssuer: func(tenant, guid directory.ID) string { return "https://localhost/oidc/" },
	}
	if err := m.Start(context.Background()); err != nil {
		return 1
	}
	if _, err := m.Apply(context.Background(), s); err != nil {
		return 1
	}
	select {}
}

func (f *fixture) killGatehouse(t *testing.T) {
	before := f.endpoint
	if err := f.m.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	settings, err := json.Marshal(f.settings)
	if err != nil {
		t.Fatal(err)
	}
	gatehouse := exec.Command(os.Args[0])
	gatehouse.Env = []string{childEnv + "=manager", "GATEHOUSE_TEST_DIR=" + filepath.Dir(f.m.Dir), "GATEHOUSE_KUBE=" + f.m.KubeBinary, settingsEnv + "=" + string(settings)}
	if err := gatehouse.Start(); err != nil {
		t.Fatal(err)
	}
	records := []string{"etcd", "kube-apiserver"}
	var left []identity
	until(t, "a second Gatehouse has started the API server", func() bool {
		left = nil
		for _, name := range records {
			var id identity
			text, err := os.ReadFile(filepath.Join(f.m.Dir, f.settings.GUID.String(), "run", name+".json"))
			if err != nil || json.Unmarshal(text, &id) != nil {
				return false
			}
			left = append(left, id)
		}
		return true
	})
	gatehouse.Process.Kill()
	gatehouse.Wait()

	f.m = newManager(f.T, f.m.Dir, f.hooks)
	for i, id := range left {
		if now, err := identify(id.PID); err == nil && now == id {
			t.Errorf("%s of the killed Gatehouse still runs", records[i])
		}
	}
	f.apply(t)
	if f.endpoint.URL != before.URL {
		t.Errorf("the API server has moved from %s to %s", before.URL, f.endpoint.URL)
	}
	until(t, "Alice finds what was there", func() bool {
		code, _ := f.as("alice", nil)("GET", "/api/v1/namespaces/dev", nil)
		return code == 200
	})
}
