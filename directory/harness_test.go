package directory

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/store"
)

const (
	domain   = "gatehouse.internal"
	password = "Correct-Horse-7"
)

// world is a directory on a real store.
type world struct {
	*Directory
	t      testing.TB
	ctx    context.Context
	tenant *Tenant
	admin  *User

	mu  sync.Mutex
	now time.Time
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, ctx: context.Background(), now: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}
	db, err := store.Open(w.ctx, filepath.Join(t.TempDir(), "test.db"))
	must(t, err)
	db.Now = w.clock
	t.Cleanup(func() { db.Close() })
	f := &feed.Follower{Log: db, Now: w.clock}
	must(t, f.Start(w.ctx, map[string]feed.State{Part: new(State)}))
	w.Directory = &Directory{Feed: f, Hasher: &Hasher{Cost: Cost{Time: 1, Memory: 64, Threads: 1}}, Now: w.clock}
	w.tenant, w.admin = w.newTenant("Contoso", domain)
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) newTenant(name, domain string) (*Tenant, *User) {
	w.t.Helper()
	tenant, admin, err := w.CreateTenant(w.ctx, NewTenant{DisplayName: name, Domain: domain, AdminName: "admin", Password: password}, nil)
	must(w.t, err)
	return tenant, admin
}

func (w *world) user(name string) *User {
	w.t.Helper()
	u, err := w.CreateUser(w.ctx, System, NewUser{User: User{Tenant: w.tenant.ID, UPN: name + "@" + domain, DisplayName: name, Enabled: true}, Password: password})
	must(w.t, err)
	return u
}

func (w *world) group(name string, members ...ID) *Group {
	w.t.Helper()
	g, err := w.CreateGroup(w.ctx, System, NewGroup{
		Group: Group{Tenant: w.tenant.ID, DisplayName: name, MailNickname: name, SecurityEnabled: true}, Members: members})
	must(w.t, err)
	return g
}

func (w *world) app(name string) (*Application, *ServicePrincipal) {
	w.t.Helper()
	a, err := w.CreateApplication(w.ctx, System, Application{Tenant: w.tenant.ID, DisplayName: name})
	must(w.t, err)
	p, err := w.CreateServicePrincipal(w.ctx, System, w.tenant.ID, a.AppID, true)
	must(w.t, err)
	return a, p
}

// assign gives a principal a directory role.
func (w *world) assign(role, principal ID) {
	w.t.Helper()
	must(w.t, w.update(w.ctx, System, func(p *plan) error {
		p.put(KindRoleAssignment, pair(role, principal), w.tenant.ID, struct{}{})
		return nil
	}))
}

func as(id ID) Actor { return Actor{ID: id} }

// wantKind checks how a command failed.
func wantKind(t *testing.T, what string, err error, kind fault.Kind) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Errorf("%s: %v, want a fault of kind %s", what, err, kind)
	}
}
