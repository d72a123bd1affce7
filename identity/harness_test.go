package identity_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/arm"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/identity"
	"github.com/gatehouse-k8s/gatehouse/rbac"
	"github.com/gatehouse-k8s/gatehouse/store/storetest"
	"github.com/gatehouse-k8s/gatehouse/sts"
)

const password = "Correct-Horse-7"

// world is Azure Resource Manager with managed identities on a real store.
type world struct {
	testing.TB
	ctx          context.Context
	feed         *feed.Follower
	dir          *directory.Directory
	tenant       *directory.Tenant
	subscription directory.ID
	web, login   http.Handler
	tokens       map[string]string
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{TB: t, ctx: context.Background(), tokens: map[string]string{}}
	quiet := slog.New(slog.DiscardHandler)
	w.feed = &feed.Follower{Log: storetest.Open(t, storetest.SQLite(t)), Logger: quiet}
	w.must(w.feed.Start(w.ctx, map[string]feed.State{
		directory.Part: new(directory.State), sts.Part: new(sts.State), rbac.Part: new(rbac.State), arm.Part: new(arm.State), identity.Part: new(identity.State),
	}))
	keys := &sts.Keys{Feed: w.feed}
	w.must(keys.Ensure(w.ctx))
	w.dir = &directory.Directory{Feed: w.feed, Hasher: &directory.Hasher{Cost: directory.Cost{Time: 1, Memory: 8, Threads: 1}}}
	w.subscription = w.newID()
	var err error
	w.tenant, _, err = w.dir.CreateTenant(w.ctx, directory.NewTenant{DisplayName: "Test", Domain: "gatehouse.test", AdminName: "admin", Password: password},
		func(t *directory.Tenant, admin *directory.User) (feed.Change, error) {
			owner, err := rbac.NewAssignment(rand.Reader, t.ID, admin.ID, rbac.Owner, "/subscriptions/"+w.subscription.String(), t.Created)
			return feed.Change{Records: []feed.Record{arm.NewSubscription(w.subscription, t.ID, "Test", t.Created), owner}}, err
		})
	w.must(err)
	authorities := &sts.Authorities{Public: "https://localhost:8443"}
	w.login = (&sts.Server{Feed: w.feed, Directory: w.dir, Keys: keys, Authorities: authorities, Log: quiet}).Handler()
	server := &arm.Server{Feed: w.feed, Tokens: sts.NewVerifier(w.feed, authorities, 100), Log: quiet, Providers: []arm.Provider{&identity.Provider{}}}
	w.web = server.Handler()
	w.as("admin", "PUT", w.sub()+"/resourcegroups/rg", `{"location": "centralus"}`).want(201)
	return w
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

// grant assigns a role.
func (w *world) grant(principal, role directory.ID, scope string) {
	w.Helper()
	r, err := rbac.NewAssignment(rand.Reader, w.tenant.ID, principal, role, scope, time.Now())
	w.must(err)
	w.write(r)
}

func (w *world) write(records ...feed.Record) {
	w.Helper()
	w.must(w.feed.Update(w.ctx, func(*feed.View, feed.Secrets) (feed.Change, error) { return feed.Change{Records: records}, nil }))
}

func (w *world) token(name string) string {
	w.Helper()
	if t := w.tokens[name]; t != "" {
		return t
	}
	form := url.Values{"grant_type": {"password"}, "client_id": {directory.AzureCLI.String()}, "username": {name + "@gatehouse.test"}, "password": {password},
		"scope": {"https://management.core.windows.net//.default"}}
	r := httptest.NewRequest("POST", "https://login.microsoftonline.com/"+w.tenant.ID.String()+"/oauth2/v2.0/token", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	rec := httptest.NewRecorder()
	w.login.ServeHTTP(rec, r)
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal(rec.Body.Bytes(), &answer); err != nil || answer.Token == "" {
		w.Fatalf("sign in %s: %d %s", name, rec.Code, rec.Body)
	}
	w.tokens[name] = answer.Token
	return answer.Token
}

// answer is what the face said.
type answer struct {
	testing.TB
	what string
	*httptest.ResponseRecorder
}

// as sends a request with a user's token, in the version of az.
func (w *world) as(name, method, path string, body any) answer {
	w.Helper()
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
	r := httptest.NewRequest(method, "https://management.azure.com"+path+"?api-version=2022-01-31-preview", content)
	r.Header.Set("Authorization", "Bearer "+w.token(name))
	rec := httptest.NewRecorder()
	w.web.ServeHTTP(rec, r)
	return answer{w.TB, name + " " + method + " " + path, rec}
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

// shown is an identity as clients read it.
type shown struct {
	ID, Name, Type, Location string
	Tags                     map[string]string
	Properties               struct{ TenantID, PrincipalID, ClientID directory.ID }
}

func (a answer) identity() (s shown) {
	a.Helper()
	if err := json.Unmarshal(a.Body.Bytes(), &s); err != nil {
		a.Fatalf("%s: %v: %s", a.what, err, a.Body)
	}
	return s
}

func (w *world) sub() string { return "/subscriptions/" + w.subscription.String() }

func (w *world) path(name string) string { return w.in("rg", name) }

func (w *world) in(group, name string) string {
	return w.sub() + "/resourceGroups/" + group + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/" + name
}

func (w *world) principal(id directory.ID) *directory.ServicePrincipal {
	return directory.In(w.feed.View()).ServicePrincipal(id)
}
