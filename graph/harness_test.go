package graph

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
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
	"github.com/gatehouse-k8s/gatehouse/sts"
)

const (
	domain   = "gatehouse.internal"
	password = "Correct-Horse-7"
)

// world is a directory with real parts around it: store, identity provider, audit file. Requests go through the same
// handlers as in the server.
type world struct {
	t       testing.TB
	mu      sync.Mutex
	now     time.Time
	log     *lockedBuffer
	audited string

	closeAudit func() error

	feed    *feed.Follower
	dir     *directory.Directory
	sts     http.Handler
	signIns *signin.Log
	face    *Server
	graph   http.Handler
	tenant  *directory.Tenant
	admin   *directory.User
	alice   *directory.User // a member who owns the group "owned"
	bob     *directory.User // a member
	gina    *directory.User // a guest
	owned   *directory.Group

	tokens map[string]string
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newWorld(t testing.TB) *world {
	t.Helper()
	ctx := context.Background()
	w := &world{
		t: t, now: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC), log: new(lockedBuffer),
		audited: filepath.Join(t.TempDir(), "audit.log"), tokens: map[string]string{},
	}
	db, err := store.Open(ctx, filepath.Join(t.TempDir(), "test.db"))
	must(t, err)
	db.Now = w.clock
	t.Cleanup(func() { db.Close() })
	w.feed = &feed.Follower{Log: db, Now: w.clock}
	must(t, w.feed.Start(ctx, map[string]feed.State{directory.Part: new(directory.State), sts.Part: new(sts.State)}))
	events, err := audit.Open(w.audited)
	must(t, err)
	w.closeAudit = sync.OnceValue(events.Close)
	t.Cleanup(func() { w.closeAudit() })

	w.dir = &directory.Directory{Feed: w.feed, Hasher: &directory.Hasher{Cost: directory.Cost{Time: 1, Memory: 64, Threads: 1}}, Now: w.clock}
	keys := &sts.Keys{Feed: w.feed, Now: w.clock}
	must(t, keys.Ensure(ctx))
	w.tenant, w.admin = w.newTenant("Contoso", domain)
	w.alice, w.bob = w.user("alice@"+domain, directory.Member), w.user("bob@"+domain, directory.Member)
	w.gina = w.user("gina@"+domain, directory.Guest)
	w.owned = w.group("owned", directory.NewGroup{Owners: []directory.ID{w.alice.ID}})

	authorities := &sts.Authorities{Public: "https://localhost:8443"}
	logger := slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	verifier := sts.NewVerifier(w.feed, authorities, 1000)
	verifier.Now = w.clock
	w.signIns = signin.NewLog(db, logger)
	t.Cleanup(func() { must(t, w.signIns.Close(ctx)) })
	identity := &sts.Server{SignIns: w.signIns, Feed: w.feed, Directory: w.dir, Keys: keys, Authorities: authorities, Audit: events, Log: logger, Now: w.clock}
	face := &Server{SignIns: w.signIns, Feed: w.feed, Directory: w.dir, Tokens: verifier, Audit: events, Log: logger, Now: w.clock}
	w.sts = web.Requests(identity.Handler(), logger)
	w.face = face
	w.graph = web.Requests(face.Handler(), logger)
	return w
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

func (w *world) newTenant(name, domain string) (*directory.Tenant, *directory.User) {
	w.t.Helper()
	t, admin, err := w.dir.CreateTenant(context.Background(), directory.NewTenant{DisplayName: name, Domain: domain, AdminName: "admin", Password: password}, nil)
	must(w.t, err)
	return t, admin
}

func (w *world) user(upn, kind string) *directory.User {
	w.t.Helper()
	name, _, _ := strings.Cut(upn, "@")
	name = strings.ToUpper(name[:1]) + name[1:]
	u, err := w.dir.CreateUser(context.Background(), directory.System, directory.NewUser{
		User: directory.User{Tenant: w.tenant.ID, UPN: upn, DisplayName: name, Type: kind, Enabled: true}, Password: password,
	})
	must(w.t, err)
	return u
}

func (w *world) assign(role, principal directory.ID) {
	w.t.Helper()
	body := []byte("{}")
	must(w.t, w.feed.Update(context.Background(), func(*feed.View, feed.Secrets) (feed.Change, error) {
		return feed.Change{Records: []feed.Record{{Kind: directory.KindRoleAssignment, Key: role.String() + "/" + principal.String(), Tenant: w.tenant.ID.String(), Body: body}}}, nil
	}))
}

func (w *world) group(name string, g directory.NewGroup) *directory.Group {
	w.t.Helper()
	g.Tenant, g.DisplayName, g.MailNickname, g.SecurityEnabled = w.tenant.ID, name, strings.ReplaceAll(name, " ", ""), true
	made, err := w.dir.CreateGroup(context.Background(), directory.System, g)
	must(w.t, err)
	return made
}

// token signs a user in as az does.
func (w *world) token(upn string) string {
	w.t.Helper()
	if w.tokens[upn] == "" {
		w.tokens[upn] = w.freshToken(url.Values{
			"grant_type": {"password"}, "client_id": {directory.AzureCLI.String()}, "username": {upn}, "password": {password},
			"scope": {"https://graph.microsoft.com//.default offline_access openid profile"},
		})
	}
	return w.tokens[upn]
}

func (w *world) freshToken(form url.Values) string {
	w.t.Helper()
	a := w.requestToken(form)
	if a.status != http.StatusOK {
		w.t.Fatalf("token: %d %s", a.status, a.body)
	}
	return a.text("access_token")
}

func (w *world) requestToken(form url.Values) answer {
	w.t.Helper()
	r := httptest.NewRequest("POST", "https://login.microsoftonline.com/"+w.tenant.ID.String()+"/oauth2/v2.0/token", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	rec := httptest.NewRecorder()
	w.sts.ServeHTTP(rec, r)
	return newAnswer(w.t, rec)
}

// answer is a response with its decoded body.
type answer struct {
	t      testing.TB
	status int
	header http.Header
	body   string
	json   map[string]any
}

func newAnswer(t testing.TB, rec *httptest.ResponseRecorder) answer {
	t.Helper()
	a := answer{t: t, status: rec.Code, header: rec.Header(), body: rec.Body.String()}
	if strings.HasPrefix(rec.Header().Get("Content-Type"), "application/json") {
		if err := json.Unmarshal(rec.Body.Bytes(), &a.json); err != nil {
			t.Fatalf("the body is not JSON: %v\n%s", err, a.body)
		}
	}
	return a
}

// at follows names, and numbers into lists, into the body: "error.code", "value.0.id".
func (a answer) at(path string) any {
	var v any = a.json
	for name := range strings.SplitSeq(path, "/") {
		switch inner := v.(type) {
		case map[string]any:
			v = inner[name]
		case []any:
			i := slices.Index([]string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}, name)
			if i < 0 || i >= len(inner) {
				return nil
			}
			v = inner[i]
		default:
			return nil
		}
	}
	return v
}

func (a answer) text(path string) string {
	s, _ := a.at(path).(string)
	return s
}

// values returns a member of each element of "value", or the elements themselves if name is empty.
func (a answer) values(name string) []string {
	out := []string{}
	list, _ := a.json["value"].([]any)
	for _, v := range list {
		if m, ok := v.(map[string]any); ok {
			v = m[name]
		}
		s, _ := v.(string)
		out = append(out, s)
	}
	return out
}

func (a answer) want(status int, code string) answer {
	a.t.Helper()
	if a.status != status || a.text("error/code") != code {
		a.t.Errorf("answer is %d %s, want %d %q", a.status, a.body, status, code)
	}
	return a
}

// call sends a request through the cloud's host name with somebody's token; who may be "" for none, or a token.
func (w *world) call(who, method, path, body string, header ...string) answer {
	w.t.Helper()
	return w.callHost("graph.microsoft.com", who, method, path, body, header...)
}

func (w *world) callHost(host, who, method, path, body string, header ...string) answer {
	w.t.Helper()
	r := httptest.NewRequest(method, "https://"+host+"/v1.0"+path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	if strings.Contains(who, "@") {
		who = w.token(who)
	}
	if who != "" {
		r.Header.Set("Authorization", "Bearer "+who)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	w.graph.ServeHTTP(rec, r)
	return newAnswer(w.t, rec)
}

func (w *world) asAdmin(method, path, body string, header ...string) answer {
	w.t.Helper()
	return w.call(w.admin.UPN, method, path, body, header...)
}

// filterQuery escapes a $filter completely, as az does.
func filterQuery(text string) string { return "?$filter=" + url.QueryEscape(text) }

// events ends the audit and returns what it holds.
func (w *world) events() []audit.Event {
	w.t.Helper()
	must(w.t, w.closeAudit())
	f, err := os.Open(w.audited)
	must(w.t, err)
	defer f.Close()
	var all []audit.Event
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var e audit.Event
		must(w.t, json.Unmarshal(lines.Bytes(), &e))
		all = append(all, e)
	}
	return all
}
