package sts

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
	"github.com/gatehouse-k8s/gatehouse/signin"
	"github.com/gatehouse-k8s/gatehouse/store"
)

const (
	domain        = "gatehouse.test"
	adminName     = "admin@gatehouse.test"
	adminPassword = "Correct-Horse-7"
	aliceName     = "Alice.A@gatehouse.test"
	alicePassword = "Battery-Staple-9"
)

// world is a server on a real store, with a tenant, a clock that stands still, and what the server logged and audited.
type world struct {
	t        testing.TB
	srv      *Server
	verifier *Verifier
	dir      *directory.Directory
	tenant   *directory.Tenant
	admin    *directory.User
	alice    *directory.User
	http     *httptest.Server
	log      *lockedBuffer
	audited  string // the audit file
	half     string // what the pages' script puts into forms; "": browsers run no scripts

	mu  sync.Mutex
	now time.Time
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// pass moves the clock. The server hears from its database meanwhile, as it does when it runs.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	w.mu.Lock()
	w.now = w.now.Add(d)
	w.mu.Unlock()
	must(w.t, w.srv.Feed.CatchUp(context.Background()))
}

// run is a subtest on the same server.
func (w *world) run(name string, f func(t *testing.T)) {
	outer := w.t
	defer func() { w.t = outer }()
	outer.(*testing.T).Run(name, func(t *testing.T) {
		w.t = t
		f(t)
	})
}

func newWorld(t testing.TB) *world {
	t.Helper()
	ctx := context.Background()
	w := &world{t: t, now: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC), log: new(lockedBuffer), half: strings.Repeat("h", 43), audited: filepath.Join(t.TempDir(), "audit.log")}
	db, err := store.Open(ctx, filepath.Join(t.TempDir(), "test.db"))
	must(t, err)
	db.Now = w.clock
	t.Cleanup(func() { db.Close() })
	f := &feed.Follower{Log: db, Now: w.clock}
	must(t, f.Start(ctx, map[string]feed.State{directory.Part: new(directory.State), Part: new(State)}))
	log, err := audit.Open(w.audited)
	must(t, err)
	t.Cleanup(func() { w.srv.Audit.Close() })

	w.dir = &directory.Directory{Feed: f, Hasher: &directory.Hasher{Cost: directory.Cost{Time: 1, Memory: 64, Threads: 1}}, Now: w.clock}
	keys := &Keys{Feed: f, Now: w.clock}
	must(t, keys.Ensure(ctx))
	w.tenant, w.admin, err = w.dir.CreateTenant(ctx, directory.NewTenant{DisplayName: "Test Directory", Domain: domain, AdminName: "admin", Password: adminPassword}, nil)
	must(t, err)
	w.alice = w.user(aliceName, alicePassword)

	w.http = httptest.NewUnstartedServer(nil)
	authorities := &Authorities{}
	logger := slog.New(slog.NewTextHandler(w.log, nil))
	signIns := signin.NewLog(db, logger)
	t.Cleanup(func() { must(t, signIns.Close(ctx)) })
	w.srv = &Server{SignIns: signIns, Feed: f, Directory: w.dir, Keys: keys, Authorities: authorities, Audit: log, Log: logger, Now: w.clock}
	w.verifier = NewVerifier(f, authorities, 1000)
	w.verifier.Now = w.clock
	w.http.Config.Handler = web.Requests(w.srv.Handler(), logger)
	w.http.Config.ErrorLog = slog.NewLogLogger(logger.Handler(), slog.LevelDebug)
	w.http.StartTLS()
	t.Cleanup(w.http.Close)
	authorities.Public = w.http.URL
	return w
}

func (w *world) user(upn, password string) *directory.User {
	w.t.Helper()
	u, err := w.dir.CreateUser(context.Background(), directory.System, directory.NewUser{
		User:     directory.User{Tenant: w.tenant.ID, UPN: upn, DisplayName: "Alice Adams", GivenName: "Alice", Surname: "Adams", Enabled: true},
		Password: password,
	})
	must(w.t, err)
	return u
}

// app registers an application and adds its service principal.
func (w *world) app(a directory.Application) *directory.Application {
	w.t.Helper()
	a.Tenant = w.tenant.ID
	made, err := w.dir.CreateApplication(context.Background(), directory.System, a)
	must(w.t, err)
	_, err = w.dir.CreateServicePrincipal(context.Background(), directory.System, made.Tenant, made.AppID, true)
	must(w.t, err)
	return made
}

// principal is the service principal of an application.
func (w *world) principal(a *directory.Application) *directory.ServicePrincipal {
	w.t.Helper()
	p := directory.In(w.srv.Feed.View()).ServicePrincipalByName(w.tenant.ID, a.AppID.String())
	if p == nil {
		w.t.Fatalf("%s has no service principal", a.DisplayName)
	}
	return p
}

// grant consents for everybody to scopes of a resource, by its application id.
func (w *world) grant(a *directory.Application, resource directory.ID, scope string) *directory.PermissionGrant {
	w.t.Helper()
	to := directory.In(w.srv.Feed.View()).ServicePrincipalByName(w.tenant.ID, resource.String())
	g, err := w.dir.CreateGrant(context.Background(), directory.System, directory.PermissionGrant{
		Tenant: w.tenant.ID, Client: w.principal(a).ID, Resource: to.ID, Scope: scope,
	})
	must(w.t, err)
	return g
}

func (w *world) setUser(id directory.ID, change func(*directory.User)) {
	w.t.Helper()
	must(w.t, w.dir.UpdateUser(context.Background(), directory.System, id, change))
}

// answer is a decoded JSON body with its status.
type answer struct {
	status int
	header http.Header
	body   map[string]any
	raw    string
}

func (a answer) text(name string) string { s, _ := a.body[name].(string); return s }

// code is the AADSTS number of an error, 0 of a success.
func (a answer) code() int {
	list, _ := a.body["error_codes"].([]any)
	if len(list) != 1 {
		return 0
	}
	n, _ := list[0].(float64)
	return int(n)
}

func (w *world) post(path string, values url.Values, headers ...string) answer {
	w.t.Helper()
	return w.send("POST", path, values.Encode(), append([]string{"Content-Type", "application/x-www-form-urlencoded"}, headers...)...)
}

func (w *world) get(path string, headers ...string) answer {
	return w.send("GET", path, "", headers...)
}

func (w *world) send(method, path, body string, headers ...string) answer {
	w.t.Helper()
	r, err := http.NewRequest(method, w.http.URL+path, strings.NewReader(body))
	must(w.t, err)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
	}
	resp, err := w.http.Client().Do(r)
	must(w.t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	must(w.t, err)
	a := answer{status: resp.StatusCode, header: resp.Header, raw: string(raw)}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		must(w.t, json.Unmarshal(raw, &a.body))
	}
	return a
}

// form makes a form of pairs.
func values(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			v.Set(pairs[i], pairs[i+1])
		}
	}
	return v
}

func (w *world) v2() string { return "/" + w.tenant.ID.String() + "/oauth2/v2.0/token" }
func (w *world) v1() string { return "/" + w.tenant.ID.String() + "/oauth2/token" }

const (
	aksScope = "6dae42f8-4368-4678-94ff-3960e28e3630/.default openid offline_access profile"
	armScope = "https://management.core.windows.net//.default openid offline_access profile"
)

func (w *world) ropc(name, password, scope string) answer {
	w.t.Helper()
	return w.post(w.v2(), values("grant_type", "password", "client_id", directory.AzureCLI.String(), "client_info", "1",
		"username", name, "password", password, "scope", scope))
}

// ok demands a success.
func (w *world) ok(a answer) answer {
	w.t.Helper()
	if a.status != http.StatusOK {
		w.t.Fatalf("HTTP %d: %s", a.status, a.raw)
	}
	return a
}

// fails demands an AADSTS code.
func (w *world) fails(a answer, code int) answer {
	w.t.Helper()
	if a.code() != code {
		w.t.Fatalf("AADSTS%d is wanted, got HTTP %d: %s", code, a.status, a.raw)
	}
	return a
}

// claims reads the claims of a token without checks.
func claims(t testing.TB, token string) map[string]any {
	t.Helper()
	return part(t, token, 1)
}

func part(t testing.TB, token string, i int) map[string]any {
	t.Helper()
	pieces := strings.Split(token, ".")
	if len(pieces) != 3 {
		t.Fatalf("not a JWT: %q", token)
	}
	raw, err := base64.RawURLEncoding.DecodeString(pieces[i])
	must(t, err)
	m := map[string]any{}
	must(t, json.Unmarshal(raw, &m))
	return m
}

// verify checks an access token as every use does.
func (w *world) verify(token string) error {
	raw := []byte(token)
	view := w.srv.Feed.View()
	t, err := w.verifier.Signed(view, raw, HashToken(raw))
	if err != nil {
		return err
	}
	return w.verifier.Check(view, t, w.clock())
}

// browser is a client with cookies that does not follow redirects.
func (w *world) browser() *http.Client {
	jar, err := cookiejar.New(nil)
	must(w.t, err)
	c := *w.http.Client()
	c.Jar = jar
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

func (w *world) events() []audit.Event {
	w.t.Helper()
	must(w.t, w.srv.Audit.Close())
	raw, err := os.ReadFile(w.audited)
	must(w.t, err)
	var out []audit.Event
	for line := range bytes.Lines(raw) {
		var e audit.Event
		must(w.t, json.Unmarshal(line, &e))
		out = append(out, e)
	}
	w.srv.Audit, err = audit.Open(w.audited)
	must(w.t, err)
	return out
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
