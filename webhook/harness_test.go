package webhook_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
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
	"github.com/gatehouse-k8s/gatehouse/rbac"
	"github.com/gatehouse-k8s/gatehouse/store"
	"github.com/gatehouse-k8s/gatehouse/sts"
	"github.com/gatehouse-k8s/gatehouse/webhook"
)

const publicURL = "https://localhost:8443"

// house is a whole Gatehouse as far as webhooks need one: the real store, directory, keys and one cluster.
type house struct {
	testing.TB
	ctx    context.Context
	clock  *gatehousetest.Clock
	db     *store.DB
	feed   *feed.Follower
	dir    *directory.Directory
	keys   *sts.Keys
	tokens *sts.Verifier
	server *webhook.Server
	web    http.Handler

	tenant  *directory.Tenant
	admin   *directory.User
	cluster *aks.Cluster
	log     *buffer
	audit   string // path of the events

	bound         map[directory.ID]bool
	boundRevision int64
}

// buffer is a log that can be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func newHouse(t testing.TB) *house {
	t.Helper()
	return build(t, gatehousetest.At(time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)))
}

func build(t testing.TB, c *gatehousetest.Clock) *house {
	t.Helper()
	g := gatehousetest.New(t, gatehousetest.Options{Clock: c, Domain: "example.test", Parts: parts(), Public: publicURL})
	h := &house{
		TB: t, ctx: context.Background(), log: new(buffer), bound: map[directory.ID]bool{},
		clock: c, db: g.DB, feed: g.Feed, dir: g.Directory, keys: g.Keys, tokens: g.Tokens, tenant: g.Tenant, admin: g.Admin,
	}
	h.cluster = h.newCluster(&aks.AADProfile{Managed: true, Tenant: h.tenant.ID})

	h.audit = t.TempDir() + "/audit.jsonl"
	events, err := audit.Open(h.audit)
	h.must(err)
	t.Cleanup(func() { h.server.Audit.Close() }) // unless a test has read the events
	h.server = &webhook.Server{
		Feed: h.feed, Tokens: h.tokens, Audit: events, Log: slog.New(slog.NewTextHandler(h.log, nil)), Now: h.clock.Now,
		BoundGroups: func(directory.ID) (func(directory.ID) bool, int64) {
			groups := h.bound
			return func(id directory.ID) bool { return groups[id] }, h.boundRevision
		},
	}
	h.web = h.server.Handler()
	return h
}

func parts() map[string]feed.State {
	return map[string]feed.State{
		directory.Part: new(directory.State), sts.Part: new(sts.State), rbac.Part: new(rbac.State), arm.Part: new(arm.State), aks.Part: new(aks.State),
	}
}

func (h *house) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

// advance moves the clock; the replica stays in touch with its database.
func (h *house) advance(d time.Duration) {
	h.clock.Advance(d)
	h.must(h.feed.CatchUp(h.ctx))
}

func (h *house) newTenant(domain string) (*directory.Tenant, *directory.User) {
	t, admin, err := h.dir.CreateTenant(h.ctx, directory.NewTenant{DisplayName: domain, Domain: domain, AdminName: "admin", Password: "Correct horse 1"}, nil)
	h.must(err)
	return t, admin
}

func (h *house) newID() directory.ID {
	id, err := directory.NewID(rand.Reader)
	h.must(err)
	return id
}

// put writes one record as it is.
func (h *house) put(kind feed.Kind, key string, v any) {
	h.Helper()
	var body []byte
	if v != nil {
		body = encode(v)
	}
	h.must(h.feed.Update(h.ctx, func(*feed.View, feed.Secrets) (feed.Change, error) {
		return feed.Change{Records: []feed.Record{{Kind: kind, Key: key, Body: body}}}, nil
	}))
}

func encode(v any) []byte {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return body
}

func (h *house) newCluster(p *aks.AADProfile) *aks.Cluster {
	guid := h.newID()
	return h.putCluster(&aks.Cluster{GUID: guid, Tenant: h.tenant.ID, Group: "rg", Name: "c-" + guid.String(), AAD: p})
}

func (h *house) putCluster(c *aks.Cluster) *aks.Cluster {
	h.put(aks.KindCluster, c.GUID.String(), c)
	return c
}

func (h *house) newUser(name string) *directory.User {
	h.Helper()
	u, err := h.dir.CreateUser(h.ctx, directory.System, directory.NewUser{
		User:     directory.User{Tenant: h.tenant.ID, UPN: name + "@" + h.tenant.DefaultDomain(), DisplayName: name, Enabled: true},
		Password: "Correct horse 1",
	})
	h.must(err)
	return u
}

func (h *house) newServicePrincipal() *directory.ServicePrincipal {
	p := &directory.ServicePrincipal{ID: h.newID(), Tenant: h.tenant.ID, AppID: h.newID(), DisplayName: "app", Type: directory.TypeApplication, Enabled: true}
	h.put(directory.KindServicePrincipal, p.ID.String(), p)
	return p
}

func (h *house) newGroup(members ...directory.ID) directory.ID {
	h.Helper()
	g, err := h.dir.CreateGroup(h.ctx, directory.System, directory.NewGroup{
		Group:   directory.Group{Tenant: h.tenant.ID, DisplayName: "group", MailNickname: "group", SecurityEnabled: true},
		Members: members,
	})
	h.must(err)
	return g.ID
}

func (h *house) newSession(u *directory.User) *sts.Session {
	s := &sts.Session{
		ID: h.newID(), Tenant: u.Tenant, User: u.ID, Client: directory.AKSClient,
		Began: h.clock.Now().UnixNano(), AMR: []string{"pwd"}, Expires: h.clock.Now().Add(24 * time.Hour),
	}
	h.put(sts.KindSession, s.ID.String(), s)
	return s
}

type claims map[string]any

// with returns the claims with others in place; a nil value removes one.
func (c claims) with(name string, value any) claims {
	c = maps.Clone(c)
	if c[name] = value; value == nil {
		delete(c, name)
	}
	return c
}

// claims are those of a good access token of a user, of a new session.
func (h *house) claims(u *directory.User) claims {
	now := h.clock.Now()
	return claims{
		"aud": directory.AKSServer, "iss": "https://sts.windows.net/" + u.Tenant.String() + "/", "tid": u.Tenant,
		"iat": now.Unix(), "nbf": now.Add(-5 * time.Minute).Unix(), "exp": now.Add(time.Hour).Unix(),
		"appid": directory.AKSClient, "appidacr": "0", "idtyp": "user", "oid": u.ID, "sub": "pairwise", "scp": "user.read",
		"sid": h.newSession(u).ID, "upn": u.UPN, "unique_name": u.UPN, "ver": "1.0", "amr": []string{"pwd"},
	}
}

func (h *house) appClaims(p *directory.ServicePrincipal) claims {
	now := h.clock.Now()
	return claims{
		"aud": directory.AKSServer, "iss": "https://sts.windows.net/" + p.Tenant.String() + "/", "tid": p.Tenant,
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		"appid": p.AppID, "idtyp": "app", "oid": p.ID, "sub": p.ID, "ver": "1.0",
	}
}

func (h *house) sign(c claims) string {
	h.Helper()
	token, err := h.keys.Sign(h.ctx, c, true)
	h.must(err)
	return token
}

func (h *house) tokenOf(u *directory.User) string { return h.sign(h.claims(u)) }

// tokenReview is the answer, as an API server reads it.
type tokenReview struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Status     struct {
		Authenticated bool     `json:"authenticated"`
		Error         string   `json:"error"`
		Audiences     []string `json:"audiences"`
		User          struct {
			Username string              `json:"username"`
			UID      string              `json:"uid"`
			Groups   []string            `json:"groups"`
			Extra    map[string][]string `json:"extra"`
		} `json:"user"`
	} `json:"status"`
}

// question is a TokenReview as API server 1.36 writes it.
func question(token string) string {
	return fmt.Sprintf(`{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","metadata":{"creationTimestamp":null},`+
		`"spec":{"token":%q,"audiences":["https://localhost:8443/oidc/x/y/"]},"status":{"user":{}}}`, token)
}

func (h *house) ask(token string) tokenReview { return h.askAs(h.cluster.GUID.String(), token) }

func (h *house) askAs(name, token string) tokenReview {
	h.Helper()
	w := h.post(h.web, name, "/webhook/authenticate", question(token))
	if w.Code != http.StatusOK {
		h.Fatalf("TokenReview: status %d: %s", w.Code, w.Body)
	}
	var answer tokenReview
	h.must(json.Unmarshal(w.Body.Bytes(), &answer))
	return answer
}

// post sends a request that carries a client certificate of this name.
func (h *house) post(to http.Handler, name, path, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", path, strings.NewReader(body))
	r.TLS = certified(name)
	w := httptest.NewRecorder()
	to.ServeHTTP(w, r)
	return w
}

// certified is a connection whose client showed a certificate of this name.
func certified(name string) *tls.ConnectionState {
	cert := &x509.Certificate{Subject: pkix.Name{CommonName: name}}
	return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}, VerifiedChains: [][]*x509.Certificate{{cert}}}
}

// wantRefused fails unless a token is refused with a reason that the log has, and the answer has not.
func (h *house) wantRefused(token, reason string) {
	h.Helper()
	a := h.ask(token)
	if a.Status.Authenticated || a.Status.User.Username != "" || len(a.Status.User.Groups) > 0 {
		h.Fatalf("authenticated as %+v", a.Status.User)
	}
	_, request, ok := strings.Cut(a.Status.Error, "under request ")
	if !ok || !strings.HasPrefix(a.Status.Error, "the token was refused; ") {
		h.Fatalf("error %q names no request", a.Status.Error)
	}
	for line := range strings.Lines(h.log.String()) {
		if strings.Contains(line, request) {
			if !strings.Contains(line, reason) {
				h.Fatalf("logged is %s; want %q", line, reason)
			}
			return
		}
	}
	h.Fatalf("the log has no request %s:\n%s", request, h.log)
}

func (h *house) wantUser(token, name string, groups ...directory.ID) {
	h.Helper()
	a := h.ask(token)
	if !a.Status.Authenticated {
		h.Fatalf("not authenticated: %s\n%s", a.Status.Error, h.log)
	}
	if a.Status.User.Username != name {
		h.Errorf("user name %q; want %q", a.Status.User.Username, name)
	}
	if got, want := fmt.Sprint(a.Status.User.Groups), fmt.Sprint(groups); got != want {
		h.Errorf("groups %s; want %s", got, want)
	}
}

func segment(token string, i int) []byte {
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[i])
	if err != nil {
		panic(err)
	}
	return raw
}
