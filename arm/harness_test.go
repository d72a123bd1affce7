package arm_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/arm"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/rbac"
	"github.com/gatehouse-k8s/gatehouse/store/storetest"
	"github.com/gatehouse-k8s/gatehouse/sts"
)

const (
	password = "Correct-Horse-7"
	armScope = "https://management.azure.com/.default"
)

// world is the face on a real store, with no provider beside its own parts.
type world struct {
	testing.TB
	ctx          context.Context
	feed         *feed.Follower
	dir          *directory.Directory
	keys         *sts.Keys
	tenant       *directory.Tenant
	admin        *directory.User
	subscription directory.ID
	server       *arm.Server
	web, login   http.Handler

	mu  sync.Mutex
	now time.Time
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// pass moves the clock, while the database goes on answering.
func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	w.now = w.now.Add(d)
	w.mu.Unlock()
	w.must(w.feed.CatchUp(w.ctx))
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{TB: t, ctx: context.Background(), now: time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)}
	quiet := slog.New(slog.DiscardHandler)
	w.feed = &feed.Follower{Log: storetest.Open(t, storetest.SQLite(t)), Now: w.clock, Logger: quiet}
	w.must(w.feed.Start(w.ctx, map[string]feed.State{
		directory.Part: new(directory.State), sts.Part: new(sts.State), rbac.Part: new(rbac.State), arm.Part: new(arm.State),
	}))
	w.keys = &sts.Keys{Feed: w.feed, Now: w.clock}
	w.must(w.keys.Ensure(w.ctx))
	w.dir = &directory.Directory{Feed: w.feed, Hasher: &directory.Hasher{Cost: directory.Cost{Time: 1, Memory: 8, Threads: 1}}, Now: w.clock}
	w.tenant, w.admin, w.subscription = w.newTenant("gatehouse.test")
	authorities := &sts.Authorities{Public: "https://localhost:8443"}
	w.login = (&sts.Server{Feed: w.feed, Directory: w.dir, Keys: w.keys, Authorities: authorities, Log: quiet, Now: w.clock}).Handler()
	tokens := sts.NewVerifier(w.feed, authorities, 100)
	tokens.Now = w.clock
	w.server = &arm.Server{Feed: w.feed, Tokens: tokens, Log: quiet, Now: w.clock}
	w.web = w.server.Handler()
	return w
}

// newTenant makes a tenant with an administrator who owns a subscription in it.
func (w *world) newTenant(domain string) (*directory.Tenant, *directory.User, directory.ID) {
	w.Helper()
	subscription := w.newID()
	t, admin, err := w.dir.CreateTenant(w.ctx, directory.NewTenant{DisplayName: domain, Domain: domain, AdminName: "admin", Password: password},
		func(t *directory.Tenant, admin *directory.User) (feed.Change, error) {
			owner, err := rbac.NewAssignment(rand.Reader, t.ID, admin.ID, rbac.Owner, "/subscriptions/"+subscription.String(), t.Created)
			return feed.Change{Records: []feed.Record{arm.NewSubscription(subscription, t.ID, domain, t.Created), owner}}, err
		})
	w.must(err)
	return t, admin, subscription
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) newID() directory.ID {
	id, err := directory.NewID(rand.Reader)
	w.must(err)
	return id
}

func (w *world) user(name string) *directory.User {
	w.Helper()
	u, err := w.dir.CreateUser(w.ctx, directory.System, directory.NewUser{
		User: directory.User{Tenant: w.tenant.ID, UPN: name + "@gatehouse.test", DisplayName: name, Enabled: true}, Password: password,
	})
	w.must(err)
	return u
}

// grant assigns a role and returns what takes it away again.
func (w *world) grant(principal, role directory.ID, scope string) (revoke func()) {
	w.Helper()
	r, err := rbac.NewAssignment(rand.Reader, w.tenant.ID, principal, role, scope, w.clock())
	w.must(err)
	write := func(r feed.Record) {
		w.must(w.feed.Update(w.ctx, func(*feed.View, feed.Secrets) (feed.Change, error) {
			return feed.Change{Records: []feed.Record{r}}, nil
		}))
	}
	write(r)
	return func() { r.Body = nil; write(r) }
}

// token signs a user in for a scope.
func (w *world) token(upn, scope, field string) string {
	w.Helper()
	form := url.Values{"grant_type": {"password"}, "client_id": {directory.AzureCLI.String()}, "username": {upn}, "password": {password}, "scope": {scope}}
	r := httptest.NewRequest("POST", "https://login.microsoftonline.com/organizations/oauth2/v2.0/token", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	rec := httptest.NewRecorder()
	w.login.ServeHTTP(rec, r)
	var got map[string]any
	w.must(json.Unmarshal(rec.Body.Bytes(), &got))
	token, _ := got[field].(string)
	if token == "" {
		w.Fatalf("sign in %s: %d %s", upn, rec.Code, rec.Body)
	}
	return token
}

func (w *world) tokenOf(name string) string {
	return w.token(name+"@gatehouse.test", armScope, "access_token")
}

// answer is what the face said.
type answer struct {
	testing.TB
	what string
	*httptest.ResponseRecorder
}

// call sends a request. Where the path has no query, an api-version is added.
func (w *world) call(token, method, path, body string) answer {
	w.Helper()
	if !strings.Contains(path, "?") {
		path += "?api-version=2021-04-01"
	}
	if strings.HasPrefix(path, "/") {
		path = "https://management.azure.com" + path
	}
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
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

// decode reads the body into a value of a type.
func decode[T any](a answer) (v T) {
	a.Helper()
	if err := json.Unmarshal(a.Body.Bytes(), &v); err != nil {
		a.Fatalf("%s: %v: %s", a.what, err, a.Body)
	}
	return v
}

func (w *world) sub() string { return "/subscriptions/" + w.subscription.String() }
