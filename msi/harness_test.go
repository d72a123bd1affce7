package msi

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/store/storetest"
	"github.com/gatehouse-k8s/gatehouse/sts"
)

// world is endpoints on a real store with a real identity provider, with two identities: robot, which is user-assigned, and one that is
// part of a cluster.
type world struct {
	testing.TB
	ctx      context.Context
	feed     *feed.Follower
	dir      *directory.Directory
	tenant   *directory.Tenant
	verifier *sts.Verifier
	ends     *Endpoints
	log      *lockedBuffer
	events   *audit.Log // nil once logs has closed it
	audited  string

	robot, system directory.ServicePrincipal

	mu  sync.Mutex
	now time.Time
}

const (
	robotID   = "/subscriptions/0e1e0d1c-0000-4000-8000-000000000001/resourcegroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/robot"
	clusterID = "/subscriptions/0e1e0d1c-0000-4000-8000-000000000001/resourcegroups/rg/providers/Microsoft.ContainerService/managedClusters/c1"
	aks       = "6dae42f8-4368-4678-94ff-3960e28e3630"
)

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	w.now = w.now.Add(d)
	w.mu.Unlock()
	w.must(w.feed.CatchUp(w.ctx))
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

// identity writes an identity and returns it.
func (w *world) identity(name, resource string, explicit bool) directory.ServicePrincipal {
	w.Helper()
	sp := directory.ServicePrincipal{ID: w.newID(), AppID: w.newID(), Tenant: w.tenant.ID, DisplayName: name, Resource: resource, Explicit: explicit, Created: w.clock()}
	w.write(directory.NewManagedIdentity(sp))
	return sp
}

func (w *world) write(records ...feed.Record) {
	w.Helper()
	w.must(w.feed.Update(w.ctx, func(*feed.View, feed.Secrets) (feed.Change, error) { return feed.Change{Records: records}, nil }))
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{TB: t, ctx: context.Background(), now: time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC), log: new(lockedBuffer)}
	logger := slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	w.feed = &feed.Follower{Log: storetest.Open(t, storetest.SQLite(t)), Now: w.clock, Logger: logger}
	w.must(w.feed.Start(w.ctx, map[string]feed.State{directory.Part: new(directory.State), sts.Part: new(sts.State)}))
	keys := &sts.Keys{Feed: w.feed, Now: w.clock}
	w.must(keys.Ensure(w.ctx))
	w.dir = &directory.Directory{Feed: w.feed, Hasher: &directory.Hasher{Cost: directory.Cost{Time: 1, Memory: 8, Threads: 1}}, Now: w.clock}
	var err error
	w.tenant, _, err = w.dir.CreateTenant(w.ctx, directory.NewTenant{DisplayName: "Test", Domain: "gatehouse.test", AdminName: "admin", Password: "Correct-Horse-7"}, nil)
	w.must(err)
	w.robot, w.system = w.identity("robot", robotID, true), w.identity("c1", clusterID, false)
	w.audited = filepath.Join(t.TempDir(), "audit.log")
	w.events, err = audit.Open(w.audited)
	w.must(err)
	authorities := &sts.Authorities{Public: "https://localhost:8443"}
	w.verifier = sts.NewVerifier(w.feed, authorities, 100)
	w.verifier.Now = w.clock
	server := &sts.Server{Feed: w.feed, Directory: w.dir, Keys: keys, Authorities: authorities, Audit: w.events, Log: logger, Now: w.clock}
	w.ends = &Endpoints{Feed: w.feed, Tokens: server, Keys: filepath.Join(t.TempDir(), "tokens"), Audit: w.events, Log: logger, Now: w.clock}
	t.Cleanup(func() {
		w.must(w.ends.Shutdown(w.ctx))
		if w.events != nil {
			w.must(w.events.Close())
		}
	})
	return w
}

func (w *world) open(name string, form Form) *Opened {
	w.Helper()
	o, err := w.ends.Open(name, directory.ID{}, form)
	w.must(err)
	return o
}

// logs closes the audit log and returns all that was logged.
func (w *world) logs() string {
	w.Helper()
	w.must(w.events.Close())
	w.events = nil
	return w.log.String() + w.read(w.audited)
}

// said is an answer.
type said struct {
	status int
	header http.Header
	raw    string
	body   map[string]any
}

func (s said) text(name string) string { v, _ := s.body[name].(string); return v }

// send writes a request as it is, which clients would not let us do, and reads the answer. Lines end in \n here.
func (w *world) send(addr, request string) said {
	w.Helper()
	c, err := net.Dial("tcp", addr)
	w.must(err)
	defer c.Close()
	_, err = io.WriteString(c, strings.ReplaceAll(request, "\n", "\r\n")+"\r\n\r\n")
	w.must(err)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	w.must(err)
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	w.must(err)
	s := said{status: res.StatusCode, header: res.Header, raw: string(raw)}
	json.Unmarshal(raw, &s.body)
	return s
}

// Requests that each form answers with a token.
func appServiceRequest(o *Opened) string {
	return "GET /msi/token?api-version=2019-08-01&resource=" + aks + " HTTP/1.1\nHost: " + o.Address + "\nX-IDENTITY-HEADER: " + o.Secret + "\nConnection: close"
}

func imdsRequest(o *Opened) string {
	return "GET http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=" + aks + " HTTP/1.1\nHost: 169.254.169.254\n" +
		"Proxy-Authorization: " + basic(ProxyUser, o.Secret) + "\nMetadata: true\nConnection: close"
}

func arcRequest(o *Opened, more string) string {
	return "GET /metadata/identity/oauth2/token?api-version=2020-06-01&resource=" + aks + " HTTP/1.1\nHost: " + o.Address + "\nMetadata: true\n" + more + "Connection: close"
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// challenge asks an Arc endpoint for a challenge and returns the path of the key file.
func (w *world) challenge(o *Opened) string {
	w.Helper()
	s := w.send(o.Address, arcRequest(o, ""))
	path, ok := strings.CutPrefix(s.header.Get("WWW-Authenticate"), "Basic realm=")
	if s.status != http.StatusUnauthorized || !ok {
		w.Fatalf("challenge: %d %v %s", s.status, s.header, s.raw)
	}
	return path
}

func (w *world) read(path string) string {
	w.Helper()
	b, err := os.ReadFile(path)
	w.must(err)
	return string(b)
}

// verify checks an access token as every use does, and returns its claims.
func (w *world) verify(token string) (*sts.Token, error) {
	view, raw := w.feed.View(), []byte(token)
	t, err := w.verifier.Signed(view, raw, sts.HashToken(raw))
	if err != nil {
		return nil, err
	}
	return t, w.verifier.Check(view, t, w.clock())
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
