// Package gatehousetest gives Go tests a Gatehouse, as net/http/httptest gives them a web server: the real store, directory, identity
// provider and resource manager, on a temporary file, with a clock that the test sets.
//
// New makes the parts, for tests of one of them. Start puts them behind a listener and the proxy that answers for the cloud's host names,
// for tests of programs that sign in. Neither runs clusters: those are processes of their own.
package gatehousetest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/arm"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/rbac"
	"github.com/gatehouse-k8s/gatehouse/seal"
	"github.com/gatehouse-k8s/gatehouse/signin"
	"github.com/gatehouse-k8s/gatehouse/store"
	"github.com/gatehouse-k8s/gatehouse/sts"
)

// Password is the password of everybody that this package makes.
const Password = "Correct-Horse-7"

// Options say what a House is like. The zero value works.
type Options struct {
	Clock  *Clock                // nil: real time
	Domain string                // of the tenant; empty: gatehouse.test
	Parts  map[string]feed.State // of the view, beside those of directory, sts, rbac and arm
	Public string                // URL under which people reach the identity provider; empty: https://localhost:8443
}

// House is what a Gatehouse is built on: one replica with a tenant, its administrator and a subscription that the administrator owns.
type House struct {
	testing.TB
	Clock     *Clock
	DB        *store.DB
	Feed      *feed.Follower
	Directory *directory.Directory
	Keys      *sts.Keys
	Tokens    *sts.Verifier
	Identity  *sts.Server
	SignIns   *signin.Log
	Log       *slog.Logger // drops what is written to it

	Tenant       *directory.Tenant
	Admin        *directory.User
	Subscription directory.ID
}

// New makes a House that ends with the test.
func New(t testing.TB, o Options) *House {
	t.Helper()
	ctx := context.Background()
	h := &House{TB: t, Clock: o.Clock, Log: slog.New(slog.DiscardHandler)}
	if h.Clock == nil {
		h.Clock = new(Clock)
	}
	folder := t.TempDir()
	var err error
	h.DB, err = store.Open(ctx, filepath.Join(folder, "gatehouse.db"))
	h.Must(err)
	t.Cleanup(func() { h.Must(h.DB.Close()) })
	h.DB.Now = h.Clock.Now
	sealed, err := seal.Open(ctx, h.DB, seal.Options{Master: seal.OwnFile(filepath.Join(folder, "master-key")), Now: h.Clock.Now, Logger: h.Log})
	h.Must(err)
	h.Feed = &feed.Follower{Log: sealed, Now: h.Clock.Now, Logger: h.Log}
	parts := map[string]feed.State{
		directory.Part: new(directory.State), sts.Part: new(sts.State), rbac.Part: new(rbac.State), arm.Part: new(arm.State),
	}
	for name, empty := range o.Parts {
		parts[name] = empty
	}
	h.Must(h.Feed.Start(ctx, parts))
	h.Keys = &sts.Keys{Feed: h.Feed, Now: h.Clock.Now}
	h.Must(h.Keys.Ensure(ctx))
	cheap := directory.Cost{Time: 1, Memory: 8, Threads: 1}
	h.Directory = &directory.Directory{Feed: h.Feed, Hasher: &directory.Hasher{Cost: cheap}, Now: h.Clock.Now}
	authorities := &sts.Authorities{Public: or(o.Public, "https://localhost:8443")}
	h.Tokens = sts.NewVerifier(h.Feed, authorities, 1000)
	h.Tokens.Now = h.Clock.Now
	h.SignIns = signin.NewLog(h.DB, h.Log)
	t.Cleanup(func() { h.Must(h.SignIns.Close(ctx)) })
	h.Identity = &sts.Server{Feed: h.Feed, SignIns: h.SignIns, Directory: h.Directory, Keys: h.Keys, Authorities: authorities, Log: h.Log, Now: h.Clock.Now}
	h.Tenant, h.Admin, h.Subscription = h.NewTenant(or(o.Domain, "gatehouse.test"))
	return h
}

func or(value, otherwise string) string {
	if value != "" {
		return value
	}
	return otherwise
}

// Must ends the test on an error.
func (h *House) Must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

// Advance moves the clock, while the database goes on answering.
func (h *House) Advance(d time.Duration) {
	h.Helper()
	h.Clock.Advance(d)
	h.Must(h.Feed.CatchUp(context.Background()))
}

// NewID makes an id.
func (h *House) NewID() directory.ID {
	h.Helper()
	id, err := directory.NewID(rand.Reader)
	h.Must(err)
	return id
}

// NewTenant makes a tenant with an administrator, admin@domain, who owns a subscription in it.
func (h *House) NewTenant(domain string) (*directory.Tenant, *directory.User, directory.ID) {
	h.Helper()
	subscription := h.NewID()
	t, admin, err := h.Directory.CreateTenant(context.Background(), directory.NewTenant{DisplayName: domain, Domain: domain, AdminName: "admin", Password: Password},
		func(t *directory.Tenant, admin *directory.User) (feed.Change, error) {
			owner, err := rbac.NewAssignment(rand.Reader, t.ID, admin.ID, rbac.Owner, "/subscriptions/"+subscription.String(), t.Created)
			return feed.Change{Records: []feed.Record{arm.NewSubscription(subscription, t.ID, domain, t.Created), owner}}, err
		})
	h.Must(err)
	return t, admin, subscription
}

// NewUser makes a member of the tenant, name@domain.
func (h *House) NewUser(name string) *directory.User {
	h.Helper()
	u, err := h.Directory.CreateUser(context.Background(), directory.System, directory.NewUser{
		User:     directory.User{Tenant: h.Tenant.ID, UPN: name + "@" + h.Tenant.DefaultDomain(), DisplayName: name, Enabled: true},
		Password: Password,
	})
	h.Must(err)
	return u
}

// NewGroup makes a security group of the tenant.
func (h *House) NewGroup(name string, members ...directory.ID) *directory.Group {
	h.Helper()
	g, err := h.Directory.CreateGroup(context.Background(), directory.System, directory.NewGroup{
		Group:   directory.Group{Tenant: h.Tenant.ID, DisplayName: name, MailNickname: name, SecurityEnabled: true},
		Members: members,
	})
	h.Must(err)
	return g
}

// Grant assigns a role at a scope and returns what takes it away again.
func (h *House) Grant(principal, role directory.ID, scope string) (revoke func()) {
	h.Helper()
	r, err := rbac.NewAssignment(rand.Reader, h.Tenant.ID, principal, role, scope, h.Clock.Now())
	h.Must(err)
	h.Put(r)
	return func() {
		r.Body = nil
		h.Put(r)
	}
}

// Put writes records as they are.
func (h *House) Put(records ...feed.Record) {
	h.Helper()
	h.Must(h.Feed.Update(context.Background(), func(*feed.View, feed.Secrets) (feed.Change, error) {
		return feed.Change{Records: records}, nil
	}))
}

// SignIn signs somebody in with a password, as `az login -u -p` does, and returns the answer of the token endpoint.
func (h *House) SignIn(upn, scope string) map[string]any {
	h.Helper()
	form := url.Values{"grant_type": {"password"}, "client_id": {directory.AzureCLI.String()}, "username": {upn}, "password": {Password}, "scope": {scope}}
	r := httptest.NewRequest("POST", "https://login.microsoftonline.com/organizations/oauth2/v2.0/token", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer := httptest.NewRecorder()
	h.Identity.Handler().ServeHTTP(answer, r)
	var got map[string]any
	if err := json.Unmarshal(answer.Body.Bytes(), &got); err != nil || answer.Code != 200 {
		h.Fatalf("sign in %s: %d %s", upn, answer.Code, answer.Body)
	}
	return got
}

// Token is the access token of SignIn.
func (h *House) Token(upn, scope string) string {
	h.Helper()
	return h.SignIn(upn, scope)["access_token"].(string)
}

// Clock is set by hand, or goes by itself while it is zero. It is safe for concurrent use.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// At returns a clock that stands still at a time.
func At(now time.Time) *Clock { return &Clock{now: now} }

// Now reads the clock.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now.IsZero() {
		return time.Now()
	}
	return c.now
}

// Advance moves a clock that is set by hand.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now.IsZero() {
		panic("gatehousetest: this clock goes by itself; make one with At")
	}
	c.now = c.now.Add(d)
}
