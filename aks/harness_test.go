package aks_test

import (
	"bytes"
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/aks"
	"github.com/gatehouse-k8s/gatehouse/arm"
	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/gatehousetest"
	"github.com/gatehouse-k8s/gatehouse/identity"
)

const password = gatehousetest.Password

// world is Azure Resource Manager with managed clusters on a real store; only the control planes are stand-ins.
type world struct {
	*gatehousetest.House
	ctx          context.Context
	feed         *feed.Follower
	dir          *directory.Directory
	tenant       *directory.Tenant
	admin        *directory.User
	subscription directory.ID
	planes       *planes
	provisioner  *aks.Provisioner
	server       *arm.Server
	web          http.Handler
	tokens       map[string]string
	audited      string
}

func newWorld(t testing.TB) *world {
	t.Helper()
	h := gatehousetest.New(t, gatehousetest.Options{Parts: map[string]feed.State{aks.Part: new(aks.State), identity.Part: new(identity.State)}})
	w := &world{
		House: h, ctx: context.Background(), planes: newPlanes(), tokens: map[string]string{},
		feed: h.Feed, dir: h.Directory, tenant: h.Tenant, admin: h.Admin, subscription: h.Subscription,
	}
	w.audited = filepath.Join(t.TempDir(), "audit.log")
	events, err := audit.Open(w.audited)
	w.must(err)
	w.server = &arm.Server{Feed: h.Feed, Tokens: h.Tokens, Audit: events, Log: h.Log, PollHold: 20 * time.Millisecond}
	w.boot()
	t.Cleanup(func() { w.halt() })
	return w
}

// boot starts a provisioner, as a new process does.
func (w *world) boot() {
	w.Helper()
	w.provisioner = &aks.Provisioner{
		Feed: w.feed, ControlPlanes: w.planes, Issuer: (&aks.Issuers{Public: "https://gatehouse.test"}).URL, Audit: w.server.Audit, Log: slog.New(slog.DiscardHandler),
		Pause: func(ctx context.Context, _ int) bool { return w.planes.retry(ctx) },
	}
	w.server.Providers = []arm.Provider{w.provisioner, &identity.Provider{Users: aks.UsersOf}}
	w.web = w.server.Handler()
	w.must(w.provisioner.Start(w.ctx))
}

func (w *world) halt() {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, 10*time.Second)
	defer cancel()
	w.must(w.provisioner.Stop(ctx))
}

func (w *world) must(err error) {
	w.Helper()
	w.Must(err)
}

func (w *world) newID() directory.ID { return w.NewID() }

func (w *world) user(name string) *directory.User {
	w.Helper()
	return w.NewUser(name)
}

func (w *world) group(name string, members ...directory.ID) *directory.Group {
	w.Helper()
	return w.NewGroup(name, members...)
}

func (w *world) grant(principal, role directory.ID, scope string) {
	w.Helper()
	w.Grant(principal, role, scope)
}

// token signs a user in, as az login -u -p does.
func (w *world) token(name string) string {
	w.Helper()
	if w.tokens[name] == "" {
		w.tokens[name] = w.Token(name+"@gatehouse.test", "https://management.core.windows.net//.default")
	}
	return w.tokens[name]
}

// answer is what the face said.
type answer struct {
	testing.TB
	what string
	*httptest.ResponseRecorder
}

const host = "https://management.azure.com"

// as sends a request with a user's token. A path without an api-version gets az's.
func (w *world) as(name, method, path string, body any, headers ...string) answer {
	w.Helper()
	if strings.HasPrefix(path, host) {
		path = strings.TrimPrefix(path, host)
	} else if !strings.Contains(path, "api-version=") {
		sep := "?"
		if strings.Contains(path, "?") {
			sep = "&"
		}
		path += sep + "api-version=2022-11-01"
	}
	var content io.Reader
	switch body := body.(type) {
	case nil:
	case string:
		content = strings.NewReader(body)
	default:
		raw, err := json.Marshal(body)
		w.must(err)
		content = bytes.NewReader(raw)
	}
	r := httptest.NewRequest(method, host+path, content)
	if name != "" {
		r.Header.Set("Authorization", "Bearer "+w.token(name))
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	w.web.ServeHTTP(rec, r)
	return answer{w.TB, method + " " + path, rec}
}

func (a answer) want(status int, texts ...string) answer {
	a.Helper()
	if a.Code != status {
		a.Fatalf("%s: %d, want %d: %s", a.what, a.Code, status, a.Body)
	}
	for _, text := range texts {
		if !strings.Contains(a.Body.String(), text) {
			a.Fatalf("%s: want %q in %s", a.what, text, a.Body)
		}
	}
	return a
}

// get returns a value of the JSON body by a path such as "properties.aadProfile.managed" or "value.0.name".
func (a answer) get(path string) any {
	a.Helper()
	var v any
	if err := json.Unmarshal(a.Body.Bytes(), &v); err != nil {
		a.Fatalf("%s: %v: %s", a.what, err, a.Body)
	}
	return at(v, path)
}

func at(v any, path string) any {
	if path == "" {
		return v
	}
	for _, name := range strings.Split(path, ".") {
		switch now := v.(type) {
		case map[string]any:
			v = now[name]
		case []any:
			var i int
			if _, err := fmt.Sscan(name, &i); err != nil || i >= len(now) {
				return nil
			}
			v = now[i]
		default:
			return nil
		}
	}
	return v
}

func (w *world) sub() string { return "/subscriptions/" + w.subscription.String() }

func (w *world) clusterPath(name string) string {
	return w.sub() + "/resourceGroups/rg/providers/Microsoft.ContainerService/managedClusters/" + name
}

func (w *world) makeGroup() {
	w.Helper()
	w.as("admin", "PUT", w.sub()+"/resourcegroups/rg", map[string]any{"location": "centralus"}).want(201)
}

// finish polls an operation to its end, as clients do, and returns its status.
func (w *world) finish(a answer) answer {
	w.Helper()
	poll := a.Header().Get("Azure-AsyncOperation")
	if poll == "" || a.Header().Get("Retry-After") == "" {
		a.Fatalf("%s: no operation to poll: %v", a.what, a.Header())
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		status := w.as("admin", "GET", poll, nil).want(200)
		if status.get("status") != "InProgress" {
			return status
		}
		if time.Now().After(deadline) {
			w.Fatalf("%s: still in progress", a.what)
		}
	}
}

// create makes a cluster and waits for it.
func (w *world) create(name string, properties map[string]any) {
	w.Helper()
	a := w.as("admin", "PUT", w.clusterPath(name), map[string]any{"location": "centralus", "properties": properties}).want(201)
	w.finish(a).want(200, `"Succeeded"`)
}

func managed(groups ...directory.ID) map[string]any {
	ids := []string{}
	for _, g := range groups {
		ids = append(ids, g.String())
	}
	return map[string]any{"aadProfile": map[string]any{"managed": true, "enableAzureRBAC": false, "adminGroupObjectIDs": ids}}
}

func (w *world) events() []audit.Event {
	w.Helper()
	w.must(w.server.Audit.Close())
	raw, err := os.ReadFile(w.audited)
	w.must(err)
	var out []audit.Event
	for line := range strings.Lines(string(raw)) {
		var e audit.Event
		w.must(json.Unmarshal([]byte(line), &e))
		out = append(out, e)
	}
	w.server.Audit, w.provisioner.Audit = nil, nil
	return out
}

// planes stands in for package cluster. A hook sees each call and may hold it up or let it fail.
type planes struct {
	mu      sync.Mutex
	applied map[directory.ID]aks.Settings
	calls   []string
	hook    func(ctx context.Context, call string, guid directory.ID) error
	issued  int
	turns   chan struct{}
}

func newPlanes() *planes {
	return &planes{applied: map[directory.ID]aks.Settings{}, turns: make(chan struct{})}
}

func (p *planes) on(hook func(ctx context.Context, call string, guid directory.ID) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hook = hook
}

func (p *planes) call(ctx context.Context, what string, guid directory.ID) error {
	p.mu.Lock()
	p.calls = append(p.calls, what)
	hook := p.hook
	p.mu.Unlock()
	if hook != nil {
		return hook(ctx, what, guid)
	}
	return nil
}

// retry lets a worker try again when the test says so.
func (p *planes) retry(ctx context.Context) bool {
	select {
	case <-p.turns:
		return true
	case <-ctx.Done():
		return false
	}
}

func (p *planes) Apply(ctx context.Context, s aks.Settings) (aks.Endpoint, error) {
	if err := p.call(ctx, "apply", s.GUID); err != nil {
		return aks.Endpoint{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.applied[s.GUID] = s
	return aks.Endpoint{URL: "https://127.0.0.1:45678", CA: []byte("-----BEGIN CERTIFICATE-----\nZmFrZQ==\n-----END CERTIFICATE-----\n")}, nil
}

func (p *planes) Delete(ctx context.Context, guid directory.ID) error {
	if err := p.call(ctx, "delete", guid); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.applied, guid)
	return nil
}

func (p *planes) Local(ctx context.Context, guid directory.ID) (aks.Credential, error) {
	if err := p.call(ctx, "local", guid); err != nil {
		return aks.Credential{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.applied[guid].Local {
		return aks.Credential{}, errors.New("local accounts are off")
	}
	p.issued++
	return aks.Credential{CertPEM: fmt.Appendf(nil, "cert %d", p.issued), KeyPEM: fmt.Appendf(nil, "key %d", p.issued)}, nil
}

func (p *planes) ServiceAccountKeys(directory.ID) ([]*rsa.PublicKey, error) {
	return []*rsa.PublicKey{{N: big.NewInt(1<<62 + 1), E: 65537}}, nil
}

func (p *planes) Rotate(ctx context.Context, s aks.Settings) (aks.Endpoint, error) {
	if err := p.call(ctx, "rotate", s.GUID); err != nil {
		return aks.Endpoint{}, err
	}
	return aks.Endpoint{URL: "https://127.0.0.1:45678", CA: []byte("another CA")}, nil
}

// settings returns what the control plane of the only cluster was last told.
func (p *planes) settings(t testing.TB) aks.Settings {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.applied) != 1 {
		t.Fatalf("%d control planes run, want 1", len(p.applied))
	}
	for _, s := range p.applied {
		return s
	}
	panic("unreachable")
}
