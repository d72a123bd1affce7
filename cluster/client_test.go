package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// apiServer is a client of a handler, over TLS and HTTP/2.
func apiServer(t *testing.T, h http.HandlerFunc) *client {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	return &client{url: srv.URL, now: time.Now, tls: func() (*tls.Config, error) { return &tls.Config{RootCAs: pool}, nil }}
}

func refuse(w http.ResponseWriter, code int, reason, message string) {
	w.WriteHeader(code)
	fmt.Fprintf(w, `{"kind":"Status","code":%d,"reason":%q,"message":%q}`, code, reason, message)
}

func TestClientSendsWhatItIsGiven(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1") // must not be used
	var got []string
	c := apiServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, fmt.Sprint(r.Proto, " ", r.Method, " ", r.URL, " ", r.Header.Get("Content-Type"), " ", string(body)))
		fmt.Fprint(w, `{"metadata":{"name":"x"}}`)
	})
	ctx := t.Context()
	var out node
	for _, err := range []error{
		c.get(ctx, "/a?b=c", &out),
		c.create(ctx, "/a", object{"x": 1}, nil),
		c.update(ctx, "/a/x", object{"x": 2}, nil),
		c.merge(ctx, "/a/x", object{"x": 3}, nil),
		c.delete(ctx, "/a/x", nil),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want := []string{
		"HTTP/2.0 GET /a?b=c  ",
		`HTTP/2.0 POST /a application/json {"x":1}`,
		`HTTP/2.0 PUT /a/x application/json {"x":2}`,
		`HTTP/2.0 PATCH /a/x application/merge-patch+json {"x":3}`,
		"HTTP/2.0 DELETE /a/x  ",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") || out.Metadata.Name != "x" {
		t.Errorf("got\n%s\nwant\n%s\n%+v", strings.Join(got, "\n"), strings.Join(want, "\n"), out)
	}
}

func TestClientErrors(t *testing.T) {
	c := apiServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/gone":
			refuse(w, 404, "NotFound", `nodes "x" not found`)
		case "/twice":
			refuse(w, 409, "AlreadyExists", "already exists")
		case "/text":
			http.Error(w, "boom", 500)
		case "/away":
			http.Redirect(w, r, "https://elsewhere.invalid/", http.StatusFound)
		case "/mean": // a body that claims another code
			w.WriteHeader(403)
			fmt.Fprint(w, `{"code":200,"message":"no"}`)
		case "/nonsense":
			fmt.Fprint(w, `{`)
		}
	})
	for path, want := range map[string]struct {
		code  int
		again bool
		text  string
	}{
		"/gone":  {404, false, `GET /gone: nodes "x" not found (404 NotFound)`},
		"/twice": {409, true, "already exists"},
		"/text":  {500, true, "boom"},
		"/away":  {302, false, ""},
		"/mean":  {403, false, "no (403"},
	} {
		err := c.get(t.Context(), path, new(node))
		if !refusedWith(err, want.code) || passing(err) != want.again || !strings.Contains(err.Error(), want.text) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := c.get(t.Context(), "/nonsense", new(node)); err == nil {
		t.Error("half an answer is no error")
	}
	if err := c.delete(t.Context(), "/gone", nil); err != nil {
		t.Errorf("deleting what is not there: %v", err)
	}
}

func TestEventually(t *testing.T) {
	busy := &statusError{Code: 429}
	never := &statusError{Code: 403}
	tries := 0
	if err := eventually(t.Context(), func() error {
		if tries++; tries < 3 {
			return busy
		}
		return nil
	}); err != nil || tries != 3 {
		t.Errorf("after %d tries: %v", tries, err)
	}
	if err := eventually(t.Context(), func() error { return never }); !errors.Is(err, never) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := eventually(ctx, func() error { cancel(); return busy }); !errors.Is(err, busy) {
		t.Error(err)
	}
}

func TestClientRenewsItsCertificate(t *testing.T) {
	c := apiServer(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "{}") })
	made := 0
	inner := c.tls
	c.tls = func() (*tls.Config, error) { made++; return inner() }
	now := time.Now()
	c.now = func() time.Time { return now }
	for _, step := range []struct {
		after time.Duration
		want  int
	}{{0, 1}, {time.Minute, 1}, {clientRenew, 2}, {time.Minute, 2}, {-2 * clientRenew, 3}} {
		now = now.Add(step.after)
		if err := c.get(t.Context(), "/", nil); err != nil {
			t.Fatal(err)
		}
		if made != step.want {
			t.Errorf("%v later: %d certificates, want %d", step.after, made, step.want)
		}
	}
}

func TestMirrorFollowsAndHeals(t *testing.T) {
	var lists atomic.Int32
	c := apiServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("watch") == "" {
			switch lists.Add(1) {
			case 1:
				fmt.Fprint(w, `{"metadata":{"resourceVersion":"7"},"items":[{"metadata":{"name":"a"}},{"metadata":{"name":"b","namespace":"n"}}]}`)
			default:
				fmt.Fprint(w, `{"metadata":{"resourceVersion":"9"},"items":[{"metadata":{"name":"c"}}]}`)
			}
			return
		}
		if r.URL.Query().Get("resourceVersion") == "7" {
			fmt.Fprintln(w, `{"type":"DELETED","object":{"metadata":{"name":"a"}}}`)
			fmt.Fprintln(w, `{"type":"BOOKMARK","object":{"metadata":{}}}`)
			fmt.Fprintln(w, `{"type":"ADDED","object":{"metadata":{"name":"d"}}}`)
			fmt.Fprintln(w, `{"type":"ERROR","object":{"code":410}}`)
			return
		}
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	changes := make(chan string, 100)
	m := &mirror[node, *node]{client: c, path: "/nodes"}
	m.changed = func() {
		all, _ := m.all()
		var names []string
		for _, k := range []string{"/a", "n/b", "/c", "/d"} {
			if all[k] != nil {
				names = append(names, k)
			}
		}
		changes <- strings.Join(names, " ")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { m.run(ctx); close(done) }()
	for _, want := range []string{"/a n/b", "n/b", "n/b /d", "/c"} {
		if got := <-changes; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	cancel()
	<-done
}

// FuzzWatch: nothing that an API server sends ends the process, and what it means is a JSON object with a name.
func FuzzWatch(f *testing.F) {
	for _, s := range []string{
		`{"type":"ADDED","object":{"metadata":{"name":"a","namespace":"n"}}}`,
		`{"type":"ADDED","object":null}`, `{"type":"MODIFIED"}`, `{"type":"DELETED","object":{"metadata":null}}`,
		`{"type":"ERROR","object":{}}`, `null`, `[]`, `{"type":"ADDED","object":{"spec":{"affinity":null}}}`, "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		m := &mirror[pod, *pod]{path: "/pods", items: map[string]*pod{}, changed: func() {}}
		_ = m.watch(strings.NewReader(body))
		for key, p := range m.items {
			if p == nil || p.Metadata.key() != key {
				t.Errorf("%q: %v", key, p)
			}
			newUsage := usageOf(map[string]*node{"/n": {Metadata: meta{Name: "n", Labels: map[string]string{simulated: "true"}}}}, m.items)
			newUsage.choose(p)
		}
	})
}
