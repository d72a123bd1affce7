package msi

import (
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/fault"
)

// ProxyUser is the user name that stands before an IMDS endpoint's secret in HTTP_PROXY, by which such a value is known as one of ours.
const ProxyUser = "gatehouse-identity"

// imdsHost is the cloud's fixed address of the instance metadata service.
const imdsHost = "169.254.169.254"

// imds is the form of virtual machines ("How to use managed identities to acquire an access token", REST).
func (p *endpoint) imds(w http.ResponseWriter, r *http.Request) error {
	q, err := p.metadata(r)
	if err != nil {
		return err
	}
	return p.token(w, r, q)
}

// asProxy answers what is for the metadata address, and sends the rest where it is for: HTTP_PROXY leads all plain HTTP here. Nothing is
// answered or sent on without the secret.
func (p *endpoint) asProxy(here http.Handler) http.Handler {
	var elsewhere http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.render(w, r, fault.New(fault.Invalid, "this proxy answers for http://%s only", imdsHost))
	})
	if to := p.endpoints.Proxy; to != nil {
		elsewhere = &httputil.ReverseProxy{
			Rewrite:   func(*httputil.ProxyRequest) {}, // headers of this hop, the secret among them, are taken out anyway
			Transport: &http.Transport{Proxy: http.ProxyURL(to), DisableCompression: true, IdleConnTimeout: time.Minute},
			ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
				http.Error(w, err.Error(), http.StatusBadGateway)
			},
			ErrorLog: slog.NewLogLogger(p.endpoints.log().Handler(), slog.LevelDebug),
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, ok := (&http.Request{Header: http.Header{"Authorization": r.Header.Values("Proxy-Authorization")}}).BasicAuth()
		switch {
		case !r.URL.IsAbs() || r.URL.Scheme != "http" || r.URL.User != nil:
			p.render(w, r, p.refuse(r, fault.Invalid, "this is a proxy for plain HTTP; set HTTP_PROXY as gatehouse env prints it"))
		case !ok || user != ProxyUser || !p.matches(password):
			w.Header().Set("Proxy-Authenticate", `Basic realm="gatehouse identity endpoint"`)
			http.Error(w, p.refuse(r, fault.Unauthenticated, "the secret in Proxy-Authorization is missing or wrong").Error(), http.StatusProxyAuthRequired)
		case r.URL.Host == imdsHost || r.URL.Host == imdsHost+":80":
			here.ServeHTTP(w, r)
		case addressed(r.URL.Hostname()):
			p.render(w, r, p.refuse(r, fault.Denied, "of the link-local and loopback addresses, this proxy answers for "+imdsHost+" only"))
		default:
			elsewhere.ServeHTTP(w, r)
		}
	})
}

// addressed reports whether a host is a link-local or loopback address in any spelling: another way to say the metadata address, or a way
// back to this machine.
func addressed(host string) bool {
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && (addr.Unmap().IsLinkLocalUnicast() || addr.Unmap().IsLoopback())
}
