package gatehousetest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/arm"
	"github.com/gatehouse-k8s/gatehouse/front"
	"github.com/gatehouse-k8s/gatehouse/graph"
	"github.com/gatehouse-k8s/gatehouse/internal/pki"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// Server is a House that answers: the identity provider, Microsoft Graph and the Resource Manager, at a URL of its own and, through
// a proxy, at the names that they have in the cloud.
type Server struct {
	*House
	URL   string // https://localhost:PORT
	Proxy string // http://127.0.0.1:PORT: what programs find in HTTPS_PROXY
	CAs   []byte // PEM: what they must trust
}

// Start starts a server, which ends with the test.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	listen := func() net.Listener {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	ln, proxy := listen(), listen()
	public := &url.URL{Scheme: "https", Host: "localhost:" + port(ln)}
	o.Public = public.String()
	s := &Server{House: New(t, o), URL: o.Public, Proxy: "http://" + proxy.Addr().String()}

	domain, folder := s.Tenant.DefaultDomain(), t.TempDir()
	serving, err := pki.Open(folder, "serving", "gatehousetest serving CA", &pki.Constraints{DNSDomains: []string{"localhost"}, IPRanges: front.InterceptionConstraints(domain).IPRanges})
	s.Must(err)
	interception, err := pki.Open(folder, "interception", "gatehousetest interception CA", front.InterceptionConstraints(domain))
	s.Must(err)
	s.CAs = append(serving.CertPEM(), interception.CertPEM()...)

	graphs := &graph.Server{
		SignIns: s.SignIns, Feed: s.Feed, Directory: s.Directory, Tokens: s.Tokens, Base: public.String(), Log: s.Log, Now: s.Clock.Now,
	}
	resources := &arm.Server{Feed: s.Feed, Tokens: s.Tokens, Log: s.Log, Now: s.Clock.Now}
	faces := front.Faces{STS: s.Identity.Handler(), Graph: graphs.Handler(), ARM: resources.Handler(), Domain: domain}
	handler := web.Requests(faces.Handler(public, ln.Addr().String()), s.Log)
	certificate := serving.GetCertificate(pki.Request{
		CommonName: "localhost", Server: true, Lifetime: 24 * time.Hour, DNSNames: []string{"localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)},
	})
	s.serve(ln, &front.Server{Handler: handler, Log: s.Log, TLS: &tls.Config{GetCertificate: certificate}})
	s.serve(proxy, &front.Proxy{Handler: handler, Certificates: interception, Domain: domain, Log: s.Log})
	return s
}

func port(ln net.Listener) string {
	_, port, _ := net.SplitHostPort(ln.Addr().String()) // always both
	return port
}

// serve answers on a listener until the test ends.
func (s *Server) serve(ln net.Listener, srv interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
}) {
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	s.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := errors.Join(srv.Shutdown(ctx), <-done); err != nil {
			s.Error(err)
		}
	})
}

// Client returns a client as a program in the environment of `gatehouse env` has it: it trusts the server, and asks it also for what is
// the cloud's.
func (s *Server) Client() *http.Client {
	s.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.CAs)
	proxy, err := url.Parse(s.Proxy)
	s.Must(err)
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		Proxy: func(r *http.Request) (*url.URL, error) {
			if r.URL.Hostname() == "localhost" {
				return nil, nil
			}
			return proxy, nil
		},
	}
	s.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}
