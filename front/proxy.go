package front

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-k8s/gatehouse/internal/pki"
)

const (
	dialTimeout  = 15 * time.Second // to a host, including what an upstream proxy has to say
	leafLifetime = 90 * 24 * time.Hour
)

// Proxy is an HTTP proxy on loopback, for the users of this machine. It ends TLS for the host names of
// HostsOf(Domain) and has Handler answer; every other host gets a tunnel, or plain HTTP forwarded, by way
// of the upstream proxy if there is one. It asks nobody for a password, so everything that it reaches, and
// an upstream proxy under its user's name, is open to every program on this machine.
type Proxy struct {
	Handler      http.Handler   // Faces.Handler; gets requests whose r.Host is a name of the table
	Certificates *pki.Authority // the interception CA, with InterceptionConstraints(Domain)
	Domain       string

	// Upstream names the proxy to go through for a request, or nil, as http.Transport.Proxy does. One that
	// is this very proxy counts as nil. A nil Upstream uses none.
	Upstream func(*http.Request) (*url.URL, error)

	// Dial opens connections; nil uses a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	Log *slog.Logger

	upstreamRoots *x509.CertPool // for an upstream proxy that speaks TLS; nil is the system's

	once      sync.Once
	log       *slog.Logger
	hosts     Hosts
	leaves    map[string]func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	self      netip.AddrPort // set before the first request
	via       string         // how we call ourselves in Via
	outer     *http.Server   // speaks the proxy protocol
	inner     *Server        // answers on the connections whose TLS ends here
	ended     *handover      // from outer to inner
	transport *http.Transport
	forwarder *httputil.ReverseProxy
	running   sync.WaitGroup     // requests of outer, also after their connection was hijacked
	cut       context.CancelFunc // ends what only passes through
	open      context.Context    // ends with the last of the connections that are answered here
	end       context.CancelFunc
}

// FromEnvironment is a Proxy.Upstream that follows HTTP_PROXY, HTTPS_PROXY and NO_PROXY as they are at the
// first call in this process (see http.ProxyFromEnvironment): call it before the environment is changed.
func FromEnvironment() func(*http.Request) (*url.URL, error) {
	http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: "https", Host: "example.com"}}) // reads it
	return http.ProxyFromEnvironment
}

// ListenLoopback is Listen for the proxy: an address that other machines can reach is an error.
func ListenLoopback(addr, flagName string) (net.Listener, error) {
	at, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	if err := mustBeLoopback(at); err != nil {
		return nil, fmt.Errorf("%w with --%s", err, strings.TrimLeft(flagName, "-"))
	}
	return Listen(at.String(), flagName)
}

func mustBeLoopback(a net.Addr) error {
	if at, err := addrPort(a); err != nil || !at.Addr().IsLoopback() {
		return fmt.Errorf("the proxy must not listen on %v: it serves anyone who reaches it; choose a loopback address such as 127.0.0.1:8442", a)
	}
	return nil
}

func (p *Proxy) init() {
	p.once.Do(func() {
		p.log = logger(p.Log)
		p.hosts = HostsOf(p.Domain)
		p.leaves = map[string]func(*tls.ClientHelloInfo) (*tls.Certificate, error){}
		for host := range p.hosts {
			p.leaves[host] = p.Certificates.GetCertificate(pki.Request{
				CommonName: host, DNSNames: []string{host}, Server: true, Lifetime: leafLifetime,
			})
		}
		p.via = "gatehouse-" + rand.Text()

		var passing context.Context
		passing, p.cut = context.WithCancel(context.Background())
		p.open, p.end = context.WithCancel(context.Background())
		p.outer = newHTTPServer(http.HandlerFunc(p.serve), p.Log)
		p.outer.BaseContext = func(net.Listener) context.Context { return passing }
		p.ended = newHandover()
		p.inner = &Server{
			Handler: http.HandlerFunc(p.answer),
			Log:     p.Log,
			TLS: &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
				return p.leaves[hello.Conn.(*intercepted).host](hello)
			}},
			connContext: func(ctx context.Context, c net.Conn) context.Context {
				return context.WithValue(ctx, tookOverKey{}, c.(*tls.Conn).NetConn().(*intercepted).host)
			},
		}
		p.transport = &http.Transport{
			Proxy:                 p.upstream,
			DialContext:           p.dial,
			TLSClientConfig:       &tls.Config{RootCAs: p.upstreamRoots}, // of the upstream proxy
			TLSHandshakeTimeout:   dialTimeout,
			IdleConnTimeout:       time.Minute,
			ExpectContinueTimeout: time.Second,
			DisableCompression:    true, // what the client did not ask for
		}
		p.forwarder = p.newForwarder()
	})
}

// Serve works on a listener, which it closes, until Shutdown; then it returns nil. It refuses a listener
// that other machines can reach.
func (p *Proxy) Serve(ln net.Listener) error {
	if err := mustBeLoopback(ln.Addr()); err != nil {
		ln.Close()
		return err
	}
	p.init()
	p.self, _ = addrPort(ln.Addr())
	inner := make(chan error, 1)
	go func() { inner <- p.inner.Serve(p.ended) }()
	err := p.outer.Serve(ln)
	if errors.Is(err, http.ErrServerClosed) {
		return <-inner
	}
	p.ended.Close()
	<-inner
	return err
}

// Shutdown cuts what only passes through, lets the requests that are answered here finish until the
// context, or 5 s, has ended, and returns when no connection is left. The proxy does not start again.
func (p *Proxy) Shutdown(ctx context.Context) error {
	p.init()
	p.cut()
	soon, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	shutdown(soon, p.outer) // whatever is left there has nothing to finish
	p.running.Wait()        // not for long: what they wait for is closed
	p.transport.CloseIdleConnections()
	err := p.inner.Shutdown(ctx)
	p.end()
	return err
}

// serve is the handler of the proxy protocol.
func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	p.running.Add(1)
	defer p.running.Done()
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	switch {
	case err != nil || !peer.Addr().Unmap().IsLoopback():
		refuse(w, http.StatusForbidden, "this proxy serves programs on its own machine only")
	case strings.Contains(strings.Join(r.Header.Values("Via"), ","), p.via):
		refuse(w, http.StatusLoopDetected, "this request has been here before; the upstream proxy leads back to this one")
	case r.Method == http.MethodConnect:
		p.connect(w, r)
	case r.URL.IsAbs():
		p.forward(w, r)
	default:
		refuse(w, http.StatusBadRequest, "this is a proxy, not a web site; to use it run: eval \"$(gatehouse env)\"")
	}
}

// connect opens a tunnel, to ourselves if the host is one of ours.
func (p *Proxy) connect(w http.ResponseWriter, r *http.Request) {
	host, port, err := parseAuthority(r.RequestURI)
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	name := hostName(host)
	_, listed := p.hosts[name]
	switch {
	case listed && port == "443":
		p.log.Debug("proxy: answering here", "host", name)
		client, err := accept(w)
		if err != nil {
			p.log.Debug("proxy: client went away", "host", name, "error", err)
			return
		}
		p.ended.give(intercept(p.open, client, name))
	case listed:
		refuse(w, http.StatusForbidden, fmt.Sprintf("%s is answered here, on port 443 only, not %s", name, port))
	case p.underDomain(name):
		refuse(w, http.StatusNotFound, fmt.Sprintf("there is no host %s; names under %s are answered here and go nowhere else", name, p.Domain))
	default:
		p.tunnel(w, r, net.JoinHostPort(host, port))
	}
}

func (p *Proxy) underDomain(name string) bool {
	domain := hostName(p.Domain)
	return domain != "" && strings.HasSuffix(name, "."+domain)
}

// tunnel passes bytes between the client and a host until both are done, or the proxy stops.
func (p *Proxy) tunnel(w http.ResponseWriter, r *http.Request, addr string) {
	server, err := p.reach(r.Context(), addr, r.Header.Values("Via"))
	if err != nil {
		p.fail(w, addr, err)
		return
	}
	defer server.Close()
	client, err := accept(w)
	if err != nil {
		p.log.Debug("proxy: client went away", "host", addr, "error", err)
		return
	}
	p.log.Debug("proxy: tunnel", "host", addr)
	pipe(r.Context(), client, server)
}

// newForwarder makes what passes plain HTTP requests on, without the headers that are for one hop
// (RFC 9110 section 7.6.1).
func (p *Proxy) newForwarder() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.RawQuery = r.In.URL.RawQuery // as it was written, not as Go would parse it
			for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
				if v, ok := r.In.Header[name]; ok { // a reverse proxy would drop them, but they are not ours
					r.Out.Header[name] = v
				}
			}
			r.Out.Header.Add("Via", "1.1 "+p.via)
		},
		ModifyResponse: func(r *http.Response) error {
			r.Header.Add("Via", "1.1 "+p.via)
			return nil
		},
		Transport:    p.transport,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) { p.fail(w, r.URL.Host, err) },
		ErrorLog:     slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
}

func (p *Proxy) forward(w http.ResponseWriter, r *http.Request) {
	host, _, err := parseAuthority(net.JoinHostPort(r.URL.Hostname(), cmp.Or(r.URL.Port(), "80")))
	name := hostName(host)
	_, listed := p.hosts[name]
	switch {
	case err != nil:
		refuse(w, http.StatusBadRequest, err.Error())
	case r.URL.Scheme != "http":
		refuse(w, http.StatusBadRequest, fmt.Sprintf("the scheme %q needs CONNECT", r.URL.Scheme))
	case listed || p.underDomain(name):
		refuse(w, http.StatusForbidden, name+" is answered here by https only")
	default:
		p.log.Debug("proxy: forward", "host", r.URL.Host)
		p.forwarder.ServeHTTP(w, r)
	}
}

// answer is the handler of the connections whose TLS ended here. A request for another host than the one
// its tunnel was opened for is misdirected (RFC 9110 section 7.4).
func (p *Proxy) answer(w http.ResponseWriter, r *http.Request) {
	host, _ := r.Context().Value(tookOverKey{}).(string)
	if hostName(r.Host) != host {
		refuse(w, http.StatusMisdirectedRequest, fmt.Sprintf("this connection is for %s, not for %q", host, r.Host))
		return
	}
	r = r.WithContext(r.Context()) // a copy
	r.Host = host
	p.Handler.ServeHTTP(w, r)
}

// fail tells the client that a host cannot be reached, and why.
func (p *Proxy) fail(w http.ResponseWriter, host string, err error) {
	p.log.Debug("proxy: failed", "host", host, "error", err)
	status := http.StatusBadGateway
	switch {
	case errors.Is(err, errLoop):
		status = http.StatusLoopDetected
	case errors.Is(err, context.DeadlineExceeded):
		status = http.StatusGatewayTimeout
	}
	refuse(w, status, fmt.Sprintf("%s cannot be reached: %v", host, err))
}

func refuse(w http.ResponseWriter, status int, text string) {
	http.Error(w, "gatehouse proxy: "+text, status)
}
