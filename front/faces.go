package front

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/fault"
)

// Faces are the handlers behind the listener and the proxy. A face that is nil is not found.
type Faces struct {
	STS, Graph, ARM, Portal http.Handler
	OIDC                    http.Handler // the clusters as issuers of service account tokens

	// Ready answers /readyz and /healthz; nil is always ready. Those who ask see its text only if it is a
	// *fault.Error.
	Ready func() error

	Domain string // as the proxy's

	// ServeCloudHosts answers for the table's names also when they were not asked for through the proxy:
	// for an installation where DNS leads the names of the cloud to the listener.
	ServeCloudHosts bool
}

// pathFaces gives the first segment of a path its face; what is not listed belongs to STS, whose paths
// begin with a tenant.
var pathFaces = map[string]Face{
	"v1.0": Graph, "beta": Graph,
	"subscriptions": ARM, "tenants": ARM, "providers": ARM, "metadata": ARM,
	"oidc":   OIDC,
	"assets": Portal, "portal": Portal,
}

// userInfo is the path of OpenID Connect's userinfo endpoint: the identity provider's, though it is at Graph's name, and
// though the issuers of clusters are beside it.
const userInfo = "oidc/userinfo"

// Handler dispatches to the faces.
//
// Except for the probes /livez, /readyz and /healthz, a request must name a host that is ours: the public
// URL's, one of also (HOST or HOST:PORT), localhost or a loopback address with any port (as through a
// forwarded port), or the very address that it came in on. Others are answered 421, so that a web page
// cannot reach a listener on loopback by pointing its own name there (DNS rebinding).
func (f Faces) Handler(publicURL *url.URL, also ...string) http.Handler {
	handlers := map[Face]http.Handler{STS: f.STS, Graph: f.Graph, ARM: f.ARM, Portal: f.Portal, OIDC: f.OIDC}
	hosts := HostsOf(f.Domain)
	names := map[string]bool{hostName(publicURL.Host): true}
	for _, name := range also {
		names[hostName(name)] = true
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.probe(w, r) {
			return
		}
		name := hostName(r.Host)
		face, listed := hosts[name]
		switch {
		case listed && (f.ServeCloudHosts || tookOver(r.Context())):
			r = r.WithContext(r.Context()) // a copy
			r.Host = name
		case names[name] || isLocal(name, r):
			face = ByPath
		case listed:
			http.Error(w, fmt.Sprintf("gatehouse answers for %s through its proxy only; run: eval \"$(gatehouse env)\"; or use %s", name, publicURL), http.StatusMisdirectedRequest)
			return
		default:
			http.Error(w, fmt.Sprintf("gatehouse does not answer for the host %q; use %s, or restart it with the public URL that you want", r.Host, publicURL), http.StatusMisdirectedRequest)
			return
		}
		if face == ByPath || face == Graph && strings.EqualFold(strings.Trim(r.URL.Path, "/"), userInfo) {
			face = faceOfPath(r.URL.Path)
		}
		h := handlers[face]
		if h == nil {
			http.NotFound(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// faceOfPath ignores the case, as the cloud does, and further slashes at the beginning: az asks for
// //metadata/endpoints when its endpoint ends in a slash.
func faceOfPath(path string) Face {
	if strings.EqualFold(strings.Trim(path, "/"), userInfo) {
		return STS
	}
	if face, ok := pathFaces[firstSegment(path)]; ok {
		return face
	}
	return STS
}

func firstSegment(path string) string {
	first, _, _ := strings.Cut(strings.TrimLeft(path, "/"), "/")
	return strings.ToLower(first)
}

// probe answers the health probes, whatever host they name: a kubelet asks by the pod's address.
func (f Faces) probe(w http.ResponseWriter, r *http.Request) bool {
	var err error
	switch r.URL.Path {
	case "/livez":
	case "/readyz", "/healthz":
		if f.Ready != nil {
			err = f.Ready()
		}
	default:
		return false
	}
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		http.Error(w, "not ready: "+fault.From(err).Message, http.StatusServiceUnavailable)
		return true
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, "ok\n")
	return true
}

// isLocal reports whether a request names this machine in a way that no DNS record of a stranger can.
func isLocal(name string, r *http.Request) bool {
	host, port, err := net.SplitHostPort(name)
	if err != nil {
		host, port = strings.Trim(name, "[]"), "443"
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	if ip.Unmap().IsLoopback() {
		return true
	}
	came, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return false
	}
	at, err := addrPort(came)
	return err == nil && at.Addr() == ip.Unmap() && fmt.Sprint(at.Port()) == port
}

// addrPort returns a TCP address in the form that can be compared.
func addrPort(a net.Addr) (netip.AddrPort, error) {
	at, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, errors.New("not a TCP address")
	}
	ap := at.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port()), nil
}

// tookOverKey marks the context of requests whose TLS the proxy ended; the value is the host's name.
type tookOverKey struct{}

func tookOver(ctx context.Context) bool {
	_, ok := ctx.Value(tookOverKey{}).(string)
	return ok
}
