package front

import (
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/internal/pki"
)

// Face names one of the handlers in Faces.
type Face string

// The faces. ByPath leaves the choice to the first path segment, as under the public URL.
const (
	ByPath Face = ""
	STS    Face = "sts"
	Graph  Face = "graph"
	ARM    Face = "arm"
	Portal Face = "portal"
	OIDC   Face = "oidc"
)

// Hosts says which face answers for a host name. Names are in lower case, without port or final dot.
type Hosts map[string]Face

// cloudHosts are the names of the public cloud that clients have built in. Not among them are
// www.microsoft.com and microsoft.com (the short link of the device page): taking over a whole site for
// one link would be too much, so our device page is always under the public URL.
var cloudHosts = Hosts{
	// One authority under four names, in MSAL's built-in table; guard reads discovery from sts.windows.net.
	"login.microsoftonline.com": STS,
	"login.windows.net":         STS,
	"login.microsoft.com":       STS,
	"sts.windows.net":           STS,

	"graph.microsoft.com":       Graph,
	"main.iam.ad.ext.azure.com": Graph, // where `az ad app permission admin-consent` posts to, hard-coded

	"management.azure.com":        ARM,
	"management.core.windows.net": ARM, // the older name, still the audience of az's tokens
}

// HostsOf returns all names that are answered here: those of the public cloud, and the faces under the
// domain of this installation (login.DOMAIN, graph.DOMAIN, management.DOMAIN). An empty domain has none.
func HostsOf(domain string) Hosts {
	hosts := maps.Clone(cloudHosts)
	if domain = hostName(domain); domain != "" {
		hosts[domain] = ByPath
		hosts["login."+domain] = STS
		hosts["graph."+domain] = Graph
		hosts["management."+domain] = ARM
	}
	return hosts
}

// InterceptionConstraints are the limits of the interception CA: the table's names of the public cloud, the
// domain of this installation and loopback. Name constraints permit the names below these as well; the
// domain needs that, of the others nobody here asks for any.
func InterceptionConstraints(domain string) *pki.Constraints {
	names := append(slices.Sorted(maps.Keys(cloudHosts)), "localhost")
	if domain = hostName(domain); domain != "" {
		names = append(names, domain)
	}
	return &pki.Constraints{
		DNSDomains: names,
		IPRanges: []*net.IPNet{
			{IP: net.IPv4(127, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)},
			{IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)},
		},
	}
}

// hostName brings a host with or without a port into the form that is compared: lower case, without
// https's default port and without the dot that ends a full name. Any other port stays.
func hostName(host string) string {
	return strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(host), ":443"), ".")
}
