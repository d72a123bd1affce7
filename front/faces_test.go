package front

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/gatehouse-k8s/gatehouse/fault"
)

// echo is a face that answers with its name and the host that it was asked by.
func echo(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s", name, r.Host, r.URL.Path)
	})
}

func testFaces() Faces {
	return Faces{STS: echo("sts"), Graph: echo("graph"), ARM: echo("arm"), Portal: echo("portal"), OIDC: echo("oidc"), Domain: "gatehouse.internal"}
}

func mustURL(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// ask sends a request to a handler and returns the status and the first word of the answer.
func ask(h http.Handler, ctx context.Context, host, path string) (int, string) {
	r := httptest.NewRequestWithContext(ctx, "GET", "https://placeholder"+path, nil)
	r.Host = host
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	first, _, _ := strings.Cut(w.Body.String(), " ")
	return w.Code, first
}

func TestDispatchByPath(t *testing.T) {
	h := testFaces().Handler(mustURL(t, "https://localhost:8443"))
	for path, want := range map[string]string{
		"/v1.0/me":          "graph",
		"/V1.0/me":          "graph",
		"/beta/users":       "graph",
		"/subscriptions":    "arm",
		"/Subscriptions/x":  "arm",
		"/tenants":          "arm",
		"/providers/x":      "arm",
		"/metadata/x":       "arm",
		"//metadata/x":      "arm",
		"/":                 "sts",
		"/portal":           "portal",
		"/portal/clusters":  "portal",
		"/assets/a.css":     "portal",
		"/common/oauth2":    "sts",
		"/v2.0/me":          "sts",
		"/subscriptionsx":   "sts",
		"/x/subscriptions":  "sts",
		"/oidc/t/c/":        "oidc",
		"/OIDC/t/c/":        "oidc",
		"/../subscriptions": "sts",
	} {
		if code, got := ask(h, t.Context(), "localhost:8443", path); code != 200 || got != want {
			t.Errorf("%s: %d from %q, want %s", path, code, got, want)
		}
	}
}

func TestDispatchByHost(t *testing.T) {
	f := testFaces()
	public := mustURL(t, "https://localhost:8443")
	through := context.WithValue(t.Context(), tookOverKey{}, "any")
	for host, want := range map[string]string{
		"login.microsoftonline.com":     "sts",
		"LOGIN.MicrosoftOnline.com:443": "sts",
		"login.microsoftonline.com.":    "sts",
		"login.windows.net":             "sts",
		"login.microsoft.com":           "sts",
		"sts.windows.net":               "sts",
		"graph.microsoft.com":           "graph",
		"main.iam.ad.ext.azure.com":     "graph",
		"management.azure.com":          "arm",
		"management.core.windows.net":   "arm",
		"login.gatehouse.internal":      "sts",
		"graph.gatehouse.internal":      "graph",
		"management.gatehouse.internal": "arm",
		"gatehouse.internal":            "sts",
	} {
		if code, got := ask(f.Handler(public), through, host, "/"); code != 200 || got != want {
			t.Errorf("%s: %d from %q, want %s", host, code, got, want)
		}
		if code, _ := ask(f.Handler(public), t.Context(), host, "/"); code != http.StatusMisdirectedRequest {
			t.Errorf("%s, not through the proxy: %d", host, code)
		}
		dns := f
		dns.ServeCloudHosts = true
		if code, got := ask(dns.Handler(public), t.Context(), host, "/"); code != 200 || got != want {
			t.Errorf("%s, by DNS: %d from %q, want %s", host, code, got, want)
		}
	}
	for _, host := range []string{"microsoft.com", "www.microsoft.com", "login.microsoftonline.com:8443", "x.login.microsoftonline.com", "other.gatehouse.internal", ""} {
		if code, _ := ask(f.Handler(public), through, host, "/"); code != http.StatusMisdirectedRequest {
			t.Errorf("%q: %d", host, code)
		}
	}
}

// TestUserInfoUnderGraph: the one path at Graph's name that is the identity provider's.
func TestUserInfoUnderGraph(t *testing.T) {
	through := context.WithValue(t.Context(), tookOverKey{}, "any")
	h := testFaces().Handler(mustURL(t, "https://localhost:8443"))
	for at, want := range map[string]string{
		"graph.microsoft.com/oidc/userinfo": "sts", "graph.microsoft.com//OIDC/userinfo": "sts", "graph.microsoft.com/v1.0/oidc": "graph",
		"graph.microsoft.com/subscriptions": "graph", "management.azure.com/oidc/userinfo": "arm",
	} {
		host, path, _ := strings.Cut(at, "/")
		if code, got := ask(h, through, host, "/"+path); code != 200 || got != want {
			t.Errorf("%s: %d from %q, want %s", at, code, got, want)
		}
	}
}

func TestFacesSeeTheCloudHostsPlainName(t *testing.T) {
	h := testFaces().Handler(mustURL(t, "https://localhost:8443"))
	r := httptest.NewRequest("GET", "https://LOGIN.microsoftonline.COM:443/x", nil)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), tookOverKey{}, "any")))
	if got := w.Body.String(); got != "sts login.microsoftonline.com /x" {
		t.Error(got)
	}
	if r.Host != "LOGIN.microsoftonline.COM:443" {
		t.Error("the caller's request was changed")
	}
}

func TestHostGuard(t *testing.T) {
	h := testFaces().Handler(mustURL(t, "https://Id.Example.com:8443"), "gatehouse.svc", "10.9.9.9:8443")
	at := func(ip string) context.Context {
		return context.WithValue(t.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: net.ParseIP(ip), Port: 8443}))
	}
	for _, c := range []struct {
		name string
		host string
		ctx  context.Context
		ok   bool
	}{
		{"the public URL", "id.example.com:8443", t.Context(), true},
		{"the public URL in capitals", "ID.example.COM:8443", t.Context(), true},
		{"the public URL's host with another port", "id.example.com", t.Context(), false},
		{"a further name", "gatehouse.svc:443", t.Context(), true},
		{"a further address", "10.9.9.9:8443", t.Context(), true},
		{"localhost", "localhost:8443", t.Context(), true},
		{"localhost through a forwarded port", "LOCALHOST:9999", t.Context(), true},
		{"localhost without a port", "localhost", t.Context(), true},
		{"IPv4 loopback", "127.0.0.1:8443", t.Context(), true},
		{"IPv6 loopback", "[::1]:8443", t.Context(), true},
		{"IPv6 loopback without a port", "[::1]", t.Context(), true},
		{"the address it came in on", "192.0.2.7:8443", at("192.0.2.7"), true},
		{"the IPv6 address it came in on", "[2001:db8::7]:8443", at("2001:db8::7"), true},
		{"another port of that address", "192.0.2.7:443", at("192.0.2.7"), false},
		{"another address", "192.0.2.8:8443", at("192.0.2.7"), false},
		{"an address of an unknown listener", "192.0.2.7:8443", t.Context(), false},
		{"a name that a stranger pointed at us", "evil.example:8443", at("127.0.0.1"), false},
		{"a name that begins like ours", "localhost.evil.example", t.Context(), false},
		{"a name that looks like an address", "127.0.0.1.evil.example:8443", t.Context(), false},
		{"no name", "", t.Context(), false},
	} {
		code, _ := ask(h, c.ctx, c.host, "/tenant/x")
		if ok := code == 200; ok != c.ok || !ok && code != http.StatusMisdirectedRequest {
			t.Errorf("%s (%s): %d", c.name, c.host, code)
		}
	}
}

func TestPublicURLOnTheDefaultPort(t *testing.T) {
	h := testFaces().Handler(mustURL(t, "https://id.example.com"))
	for _, host := range []string{"id.example.com", "id.example.com:443"} {
		if code, _ := ask(h, t.Context(), host, "/"); code != 200 {
			t.Errorf("%s: %d", host, code)
		}
	}
}

func TestAMissingFaceIsNotFound(t *testing.T) {
	h := Faces{}.Handler(mustURL(t, "https://localhost:8443"))
	for _, path := range []string{"/", "/v1.0/me", "/subscriptions", "/common"} {
		if code, _ := ask(h, t.Context(), "localhost:8443", path); code != http.StatusNotFound {
			t.Errorf("%s: %d", path, code)
		}
	}
}

func TestProbes(t *testing.T) {
	var err error
	f := testFaces()
	f.Ready = func() error { return err }
	h := f.Handler(mustURL(t, "https://localhost:8443"))
	probe := func(path string) (int, string) {
		r := httptest.NewRequest("GET", "https://10.1.2.3"+path, nil) // as a kubelet asks
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		text, _ := io.ReadAll(w.Body)
		return w.Code, string(text)
	}
	for _, path := range []string{"/livez", "/readyz", "/healthz"} {
		if code, text := probe(path); code != 200 || text != "ok\n" {
			t.Errorf("%s: %d %q", path, code, text)
		}
	}
	err = errors.New("postgres://user:password@db")
	if code, _ := probe("/livez"); code != 200 {
		t.Errorf("/livez: %d", code)
	}
	for _, path := range []string{"/readyz", "/healthz"} {
		if code, text := probe(path); code != http.StatusServiceUnavailable || strings.Contains(text, "password") {
			t.Errorf("%s: %d %q", path, code, text)
		}
	}
	err = fault.New(fault.Unavailable, "the directory is 31 s old")
	if code, text := probe("/readyz"); code != http.StatusServiceUnavailable || text != "not ready: the directory is 31 s old\n" {
		t.Errorf("%d %q", code, text)
	}
}
