package front

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gatehouse-k8s/gatehouse/internal/pki"
)

const testDomain = "gatehouse.internal"

// startProxy runs a proxy in front of the echo faces; change sets further fields.
func startProxy(t *testing.T, change func(*Proxy)) (*Proxy, *url.URL) {
	t.Helper()
	p := &Proxy{
		Handler:      testFaces().Handler(mustURL(t, "https://localhost:8443")),
		Certificates: authority(t, InterceptionConstraints(testDomain)),
		Domain:       testDomain,
	}
	if change != nil {
		change(p)
	}
	ln, err := ListenLoopback("127.0.0.1:0", "--proxy-listen")
	if err != nil {
		t.Fatal(err)
	}
	run(t, p, ln)
	return p, mustURL(t, "http://"+ln.Addr().String())
}

// clientOf returns a client that uses a proxy and trusts the given roots.
func clientOf(t *testing.T, proxy *url.URL, roots *x509.CertPool, h2 bool) *http.Client {
	transport := &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: h2}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func get(t *testing.T, c *http.Client, url string) (*http.Response, string) {
	t.Helper()
	res, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(text)
}

// say sends raw text to the proxy and returns its answer; the connection stays open.
func say(t *testing.T, proxy *url.URL, text string) (*http.Response, net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", proxy.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	method, _, _ := strings.Cut(text, " ")
	res, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	return res, conn, r
}

func connectTo(addr string) string {
	return "CONNECT " + addr + " HTTP/1.1\r\nHost: " + addr + "\r\n\r\n"
}

func TestProxyAnswersForTheCloud(t *testing.T) {
	p, proxy := startProxy(t, nil)
	for _, h2 := range []bool{false, true} {
		c := clientOf(t, proxy, p.Certificates.Pool(), h2)
		for host, want := range map[string]string{
			"login.microsoftonline.com":     "sts login.microsoftonline.com /common",
			"LOGIN.microsoftonline.com:443": "sts login.microsoftonline.com /common",
			"graph.microsoft.com":           "graph graph.microsoft.com /common",
			"management.azure.com":          "arm management.azure.com /common",
			"login.gatehouse.internal":      "sts login.gatehouse.internal /common",
		} {
			res, got := get(t, c, "https://"+host+"/common")
			if got != want || (res.ProtoMajor == 2) != h2 {
				t.Errorf("%s: %q by %s", host, got, res.Proto)
			}
			if leaf := res.TLS.PeerCertificates[0]; len(leaf.DNSNames) != 1 || leaf.DNSNames[0] != hostName(host) {
				t.Errorf("%s has a certificate for %v", host, leaf.DNSNames)
			}
		}
	}
}

func TestEveryNameOfTheTableGetsACertificateThatItsConstraintsAllow(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	var a *pki.Authority
	for range 2 { // made, then loaded
		var err error
		if a, err = pki.Open(dir, "interception", "Test CA", InterceptionConstraints(testDomain)); err != nil {
			t.Fatal(err)
		}
	}
	for host := range HostsOf(testDomain) {
		if _, err := a.Issue(pki.Request{DNSNames: []string{host}, Server: true}); err != nil {
			t.Error(err)
		}
	}
	for _, host := range []string{"microsoft.com", "www.microsoft.com", "azure.com", "portal.azure.com", "windows.net", "example.com", "internal"} {
		if _, err := a.Issue(pki.Request{DNSNames: []string{host}, Server: true}); err == nil {
			t.Errorf("a certificate for %s was issued", host)
		}
	}
	if _, err := a.Issue(pki.Request{IPs: []net.IP{net.IPv4(192, 0, 2, 1)}, Server: true}); err == nil {
		t.Error("a certificate for a foreign address was issued")
	}
}

func TestARequestForAnotherHostThanItsTunnelIsMisdirected(t *testing.T) {
	p, proxy := startProxy(t, nil)
	r, err := http.NewRequestWithContext(t.Context(), "GET", "https://graph.microsoft.com/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "login.microsoftonline.com"
	res, err := clientOf(t, proxy, p.Certificates.Pool(), false).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusMisdirectedRequest {
		t.Error(res.Status)
	}
}

func TestTheClientMaySpeakBeforeItsTunnelIsOpen(t *testing.T) {
	p, proxy := startProxy(t, nil)
	conn, err := net.Dial("tcp", proxy.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// The first record of TLS goes out in one write with the CONNECT, whose answer is skipped when it comes.
	early := &earlyConn{Conn: conn, before: connectTo("graph.microsoft.com:443")}
	c := tls.Client(early, &tls.Config{RootCAs: p.Certificates.Pool(), ServerName: "graph.microsoft.com"})
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
}

type earlyConn struct {
	net.Conn
	before string
	read   *bufio.Reader
}

func (c *earlyConn) Write(b []byte) (int, error) {
	n := len(c.before)
	m, err := c.Conn.Write(append([]byte(c.before), b...))
	c.before = ""
	return max(0, m-n), err
}

func (c *earlyConn) Read(b []byte) (int, error) {
	if c.read == nil {
		c.read = bufio.NewReader(c.Conn)
		if _, err := http.ReadResponse(c.read, &http.Request{Method: "CONNECT"}); err != nil {
			return 0, err
		}
	}
	return c.read.Read(b)
}

func TestOtherHostsPassThrough(t *testing.T) {
	origin := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "the real one") }))
	defer origin.Close()
	_, proxy := startProxy(t, nil)
	roots := x509.NewCertPool()
	roots.AddCert(origin.Certificate())
	res, got := get(t, clientOf(t, proxy, roots, false), origin.URL)
	if got != "the real one" || !res.TLS.PeerCertificates[0].Equal(origin.Certificate()) {
		t.Errorf("got %q from %v", got, res.TLS.PeerCertificates[0].Subject)
	}
}

func TestHalfClose(t *testing.T) {
	ln := listen(t)
	defer ln.Close()
	go func() { // answers only when it has read all
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		text, _ := io.ReadAll(conn)
		fmt.Fprintf(conn, "got %s", text)
	}()
	_, proxy := startProxy(t, nil)
	res, conn, r := say(t, proxy, connectTo(ln.Addr().String())+"early ")
	if res.StatusCode != 200 {
		t.Fatal(res.Status)
	}
	io.WriteString(conn, "and late")
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(r); err != nil || string(text) != "got early and late" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestShutdownCutsTunnelsAndLeavesNothingRunning(t *testing.T) {
	ln := listen(t)
	defer ln.Close()
	p := &Proxy{Certificates: authority(t, InterceptionConstraints("")), Handler: http.NotFoundHandler()}
	front := listen(t)
	served := make(chan error, 1)
	go func() { served <- p.Serve(front) }()
	proxy := mustURL(t, "http://"+front.Addr().String())

	res, _, through := say(t, proxy, connectTo(ln.Addr().String()))
	if res.StatusCode != 200 {
		t.Fatal(res.Status)
	}
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	_, _, here := say(t, proxy, connectTo("graph.microsoft.com:443")) // and says nothing more

	ctx, cancel := context.WithCancel(t.Context())
	cancel()        // do not wait for the silent one
	p.Shutdown(ctx) // whose connection may be too new to be told of
	for _, r := range []io.Reader{through, far, here} {
		io.Copy(io.Discard, r) // ends
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if err := p.Serve(listen(t)); err != nil {
		t.Errorf("Serve after Shutdown: %v", err)
	}
}

func TestShutdownEndsADial(t *testing.T) {
	dialing := make(chan bool)
	p := &Proxy{
		Certificates: authority(t, InterceptionConstraints("")),
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			close(dialing)
			<-ctx.Done()
			return nil, ctx.Err()
		},
	}
	ln := listen(t)
	go p.Serve(ln)
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, connectTo("example.com:443"))
	<-dialing
	if err := p.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// upstream is another proxy, which writes down what it was asked for and leads everything to one address.
type upstream struct {
	leadsTo string
	mu      sync.Mutex
	asked   []string
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	u.asked = append(u.asked, fmt.Sprintf("%s %s %s", r.Method, r.RequestURI, r.Header.Get("Proxy-Authorization")))
	u.mu.Unlock()
	switch {
	case r.Host == "denied.example:443":
		http.Error(w, "no", http.StatusProxyAuthRequired)
	case r.Host == "gone.example:443":
		http.Error(w, "no", http.StatusServiceUnavailable)
	case r.Method == http.MethodConnect:
		server, err := net.Dial("tcp", u.leadsTo)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		client, err := accept(w)
		if err != nil {
			server.Close()
			return
		}
		pipe(r.Context(), client, server)
	default:
		fmt.Fprintf(w, "upstream saw %s", r.RequestURI)
	}
}

func TestUpstreamProxy(t *testing.T) {
	origin := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "origin of ", r.Host) }))
	defer origin.Close()
	roots := x509.NewCertPool()
	roots.AddCert(origin.Certificate())

	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			up := &upstream{leadsTo: origin.Listener.Addr().String()}
			s := httptest.NewUnstartedServer(up)
			if scheme == "https" {
				s.StartTLS()
			} else {
				s.Start()
			}
			t.Cleanup(s.Close)
			via := mustURL(t, s.URL)
			via.User = url.UserPassword("user", "pass word")
			_, proxy := startProxy(t, func(p *Proxy) {
				p.Upstream = func(r *http.Request) (*url.URL, error) {
					if r.URL.Host == origin.Listener.Addr().String() { // as NO_PROXY would have it
						return nil, nil
					}
					return via, nil
				}
				if s.TLS != nil {
					p.upstreamRoots = x509.NewCertPool()
					p.upstreamRoots.AddCert(s.Certificate())
				}
			})
			c := clientOf(t, proxy, roots, false)

			if _, got := get(t, c, "https://example.com/x"); got != "origin of example.com" { // httptest's certificate has this name
				t.Errorf("through upstream: %q", got)
			}
			if _, got := get(t, c, "http://plain.example/y"); got != "upstream saw http://plain.example/y" {
				t.Errorf("plain: %q", got)
			}
			get(t, c, origin.URL) // not through upstream
			up.mu.Lock()
			asked := strings.Join(up.asked, "\n")
			up.mu.Unlock()
			const basic = "Basic dXNlcjpwYXNzIHdvcmQ="
			if want := "CONNECT example.com:443 " + basic + "\nGET http://plain.example/y " + basic; asked != want {
				t.Errorf("upstream was asked\n%s\nwant\n%s", asked, want)
			}

			for host, want := range map[string]string{"denied.example:443": "HTTPS_PROXY=", "gone.example:443": "503"} {
				res, _, _ := say(t, proxy, connectTo(host))
				text, _ := io.ReadAll(res.Body)
				if res.StatusCode != http.StatusBadGateway || !strings.Contains(string(text), want) || strings.Contains(string(text), "pass word") {
					t.Errorf("%s: %s %s", host, res.Status, text)
				}
			}
		})
	}
}

func TestUpstreamProxyThatCannotBeUsed(t *testing.T) {
	for name, via := range map[string]func(*http.Request) (*url.URL, error){
		"an address that cannot be read": func(*http.Request) (*url.URL, error) {
			return nil, errors.New(`invalid proxy address "user:secret@x"`)
		},
		"another scheme": func(*http.Request) (*url.URL, error) {
			return &url.URL{Scheme: "socks5", User: url.UserPassword("user", "secret"), Host: "127.0.0.1:1"}, nil
		},
	} {
		var out strings.Builder
		_, proxy := startProxy(t, func(p *Proxy) {
			p.Upstream = via
			p.Log = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
		})
		res, _, _ := say(t, proxy, connectTo("example.com:443"))
		text, _ := io.ReadAll(res.Body)
		if res.StatusCode != http.StatusBadGateway {
			t.Errorf("%s: %s", name, res.Status)
		}
		if strings.Contains(string(text)+out.String(), "secret") {
			t.Errorf("%s: the password is told: %s", name, text)
		}
	}
}

func TestLoops(t *testing.T) {
	t.Run("a client asks for the proxy itself", func(t *testing.T) {
		_, proxy := startProxy(t, nil)
		for _, addr := range []string{proxy.Host, "localhost:" + proxy.Port()} {
			if res, _, _ := say(t, proxy, connectTo(addr)); res.StatusCode != http.StatusLoopDetected {
				t.Errorf("CONNECT %s: %s", addr, res.Status)
			}
			if res, _, _ := say(t, proxy, "GET http://"+addr+"/ HTTP/1.1\r\nHost: x\r\n\r\n"); res.StatusCode != http.StatusLoopDetected {
				t.Errorf("GET %s: %s", addr, res.Status)
			}
		}
	})
	t.Run("the environment names the proxy itself", func(t *testing.T) {
		origin := httptest.NewServer(http.NotFoundHandler())
		defer origin.Close()
		var self *url.URL
		_, self = startProxy(t, func(p *Proxy) {
			p.Upstream = func(*http.Request) (*url.URL, error) { return self, nil }
		})
		if res, _, _ := say(t, self, connectTo(origin.Listener.Addr().String())); res.StatusCode != 200 {
			t.Error(res.Status)
		}
	})
	t.Run("two proxies name each other", func(t *testing.T) {
		var (
			one, two *url.URL
			asked    atomic.Int32 // how often either went on to the other
		)
		_, one = startProxy(t, func(p *Proxy) {
			p.Upstream = func(*http.Request) (*url.URL, error) { asked.Add(1); return two, nil }
		})
		_, two = startProxy(t, func(p *Proxy) {
			p.Upstream = func(*http.Request) (*url.URL, error) { asked.Add(1); return one, nil }
		})
		if res, _, _ := say(t, one, connectTo("example.com:443")); res.StatusCode != http.StatusBadGateway || asked.Swap(0) != 2 {
			t.Error(res.Status)
		}
		if res, _, _ := say(t, one, "GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n"); res.StatusCode != http.StatusLoopDetected || asked.Swap(0) != 2 {
			t.Error(res.Status)
		}
	})
}

func TestPlainHTTPIsForwarded(t *testing.T) {
	var seen http.Header
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header.Clone()
		w.Header().Set("Connection", "X-Hop")
		w.Header().Set("X-Hop", "1")
		w.Header().Set("X-End", "1")
		fmt.Fprint(w, r.Method, " ", r.Host, " ", r.RequestURI)
	}))
	defer origin.Close()
	_, proxy := startProxy(t, nil)
	host := origin.Listener.Addr().String()
	res, _, _ := say(t, proxy, "GET http://"+host+"/a%2Fb?x=1;y HTTP/1.1\r\nHost: "+host+"\r\n"+
		"Connection: X-One\r\nX-One: 1\r\nX-Two: 2\r\nX-Forwarded-For: 192.0.2.1\r\nProxy-Authorization: Basic eA==\r\nProxy-Connection: keep-alive\r\n\r\n")
	text, err := io.ReadAll(res.Body)
	if want := "GET " + host + " /a%2Fb?x=1;y"; err != nil || string(text) != want {
		t.Errorf("%q, want %q, %v", text, want, err)
	}
	for name, want := range map[string]string{
		"X-One": "", "Proxy-Authorization": "", "Proxy-Connection": "", "Accept-Encoding": "", "User-Agent": "",
		"X-Two": "2", "X-Forwarded-For": "192.0.2.1",
	} {
		if got := seen.Get(name); got != want {
			t.Errorf("%s arrived as %q, want %q", name, got, want)
		}
	}
	if res.Header.Get("X-Hop") != "" || res.Header.Get("X-End") != "1" {
		t.Errorf("the answer has %v", res.Header)
	}
}

func TestRefusals(t *testing.T) {
	_, proxy := startProxy(t, func(p *Proxy) {
		p.Dial = func(_ context.Context, _, addr string) (net.Conn, error) {
			t.Errorf("%s was dialled", addr)
			return nil, errors.New("must not be dialled")
		}
	})
	plain := func(url string) string { return "GET " + url + " HTTP/1.1\r\nHost: x\r\n\r\n" }
	for name, c := range map[string]struct {
		text string
		want int
	}{
		"a cloud host on another port":                {connectTo("login.microsoftonline.com:8443"), 403},
		"a cloud host on the port of plain HTTP":      {connectTo("Graph.Microsoft.com.:80"), 403},
		"a cloud host by plain HTTP":                  {plain("http://management.azure.com/"), 403},
		"a cloud host by plain HTTP, well hidden":     {plain("http://MANAGEMENT.azure.com.:8080/"), 403},
		"a cloud host in letters that look alike":     {plain("http://management。azure。com/"), 400},
		"the domain by plain HTTP":                    {plain("http://gatehouse.internal/"), 403},
		"a name under the domain":                     {connectTo("x.gatehouse.internal:443"), 404},
		"a name under the domain, by plain HTTP":      {plain("http://x.gatehouse.internal/"), 403},
		"a request that is meant for a web site":      {plain("/"), 400},
		"https without a tunnel":                      {plain("https://example.com/"), 400},
		"another scheme":                              {plain("ftp://example.com/"), 400},
		"a tunnel to nowhere":                         {connectTo("example.com"), 400},
		"a tunnel with a user name":                   {connectTo("login.microsoftonline.com@example.com:443"), 400},
		"a tunnel to a name in letters of its own":    {connectTo("login.microsoftonline。com:443"), 400},
		"a CONNECT with a path instead of an address": {"CONNECT /x HTTP/1.1\r\nHost: example.com:443\r\n\r\n", 400},
	} {
		if res, _, _ := say(t, proxy, c.text); res.StatusCode != c.want {
			t.Errorf("%s: %s, want %d", name, res.Status, c.want)
		}
	}
}

func TestUnreachable(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want int
	}{
		"nobody there": {errors.New("connection refused"), 502},
		"too slow":     {context.DeadlineExceeded, 504},
	} {
		_, proxy := startProxy(t, func(p *Proxy) {
			p.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, c.err }
		})
		for _, text := range []string{connectTo("example.com:443"), "GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n"} {
			res, _, _ := say(t, proxy, text)
			if body, _ := io.ReadAll(res.Body); res.StatusCode != c.want || !strings.Contains(string(body), "example.com") {
				t.Errorf("%s: %s %s", name, res.Status, body)
			}
		}
	}
}

func TestLoopbackOnly(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:8442", "not an address"} {
		ln, err := ListenLoopback(addr, "--proxy-listen")
		if err == nil {
			ln.Close()
			t.Errorf("listens on %s", addr)
		}
	}
	if _, err := ListenLoopback("0.0.0.0:8442", "--proxy-listen"); err == nil || !strings.Contains(err.Error(), "127.0.0.1:8442 with --proxy-listen") {
		t.Errorf("got %v", err)
	}

	wide := &wideListener{Listener: listen(t)}
	if err := new(Proxy).Serve(wide); err == nil {
		t.Error("serves a listener that is not on loopback")
	}
	if !wide.closed {
		t.Error("leaves it open")
	}

	p := &Proxy{Certificates: authority(t, InterceptionConstraints(""))}
	p.init()
	for peer, want := range map[string]int{"192.0.2.1:5": 403, "[2001:db8::1]:5": 403, "@": 403, "127.0.0.1:5": 400, "[::1]:5": 400, "[::ffff:127.0.0.1]:5": 400} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = peer
		w := httptest.NewRecorder()
		p.serve(w, r)
		if w.Code != want {
			t.Errorf("%s: %d, want %d", peer, w.Code, want)
		}
	}
}

type wideListener struct {
	net.Listener
	closed bool
}

func (l *wideListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4zero, Port: 1} }
func (l *wideListener) Close() error {
	l.closed = true
	return l.Listener.Close()
}

// The environment is read once in a process, so this test asks another one.
func TestFromEnvironment(t *testing.T) {
	if os.Getenv("FRONT_TEST_CHILD") != "" {
		find := FromEnvironment()
		os.Setenv("HTTPS_PROXY", "http://changed.example:1")
		for _, host := range []string{"example.com:443", "direct.example:443", "127.0.0.1:8443"} {
			u, err := find(&http.Request{URL: &url.URL{Scheme: "https", Host: host}})
			fmt.Println("answer:", host, u, err)
		}
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFromEnvironment$")
	cmd.Env = append(os.Environ(), "FRONT_TEST_CHILD=1", "HTTPS_PROXY=http://up.example:3128", "https_proxy=http://up.example:3128", "NO_PROXY=direct.example", "no_proxy=direct.example", "REQUEST_METHOD=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"example.com:443 http://up.example:3128 <nil>", "direct.example:443 <nil> <nil>", "127.0.0.1:8443 <nil> <nil>"} {
		if !strings.Contains(string(out), "answer: "+want+"\n") {
			t.Errorf("%s is missing in\n%s", want, out)
		}
	}
}

func TestParseAuthority(t *testing.T) {
	for s, want := range map[string]string{
		"example.com:443":                        "example.com 443",
		"Example.COM.:65535":                     "Example.COM. 65535",
		"a_b-c.example:1":                        "a_b-c.example 1",
		"192.0.2.1:443":                          "192.0.2.1 443",
		"[2001:db8::1]:443":                      "2001:db8::1 443",
		"":                                       "",
		"example.com":                            "",
		"example.com:":                           "",
		":443":                                   "",
		"example.com:0":                          "",
		"example.com:65536":                      "",
		"example.com:+443":                       "",
		"example.com:0443":                       "",
		"example.com:https":                      "",
		"a:b:443":                                "",
		"::1:443":                                "",
		"[example.com]:443":                      "",
		"[192.0.2.1]:443":                        "",
		"[fe80::1%eth0]:443":                     "",
		"[::1]443":                               "",
		"a..b:443":                               "",
		".a:443":                                 "",
		"a..:443":                                "",
		".:443":                                  "",
		"user@example.com:443":                   "",
		"a/b:443":                                "",
		"a b:443":                                "",
		"a%2e:443":                               "",
		"a\x00:443":                              "",
		"ａ.example:443":                          "",
		strings.Repeat("a", 64) + ".example:443": "",
		strings.Repeat("a.", 127) + "a:443":      "",
		"example.com:443\r\nProxy-Authorization: Basic eA==:443": "",
	} {
		host, port, err := parseAuthority(s)
		got := strings.TrimSpace(host + " " + port)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", s, got, err)
		}
	}
}

func FuzzParseAuthority(f *testing.F) {
	for _, s := range []string{"example.com:443", "[::1]:443", "[::1%lo]:1", "LOGIN.microsoftonline.com.:443", "a..b:1", "::1:443", "a:b:443", "x@y:443", "\u3002:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, port, err := parseAuthority(s)
		if err != nil {
			if host+port != "" {
				t.Error("an error and a result")
			}
			return
		}
		if net.JoinHostPort(host, port) != s {
			t.Errorf("%q became %q", s, net.JoinHostPort(host, port))
		}
		if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`/\@%?#"'<>`, r) }) {
			t.Errorf("%q was taken", s)
		}
		if strings.Contains(host, ":") {
			if _, err := netip.ParseAddr(host); err != nil {
				t.Error(err)
			}
		}
	})
}
