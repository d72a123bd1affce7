package sts

import (
	"net/http"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// Host names of the public cloud.
const (
	cloudLogin = "https://login.microsoftonline.com"
	cloudSTS   = "https://sts.windows.net"
	cloudGraph = "https://graph.microsoft.com"
)

// Authority is a family of URLs under which the identity provider is reached. One tenant has two: the
// public cloud's, for clients that come through the proxy, and this server's own.
type Authority struct {
	Login string // e.g. https://login.microsoftonline.com; no slash at the end
	STS   string // base of version 1 issuers
	Graph string // base of the userinfo endpoint
}

// Issuer returns the issuer of tokens of a version. tenant is a GUID or, in the documents of "common", the literal "{tenantid}".
func (a Authority) Issuer(tenant string, version int) string {
	if version == 2 {
		return a.Login + "/" + tenant + "/v2.0"
	}
	return a.STS + "/" + tenant + "/"
}

// cloudAuthority is the family of the public cloud's names.
var cloudAuthority = Authority{Login: cloudLogin, STS: cloudSTS, Graph: cloudGraph}

// Authorities tells the two apart.
type Authorities struct {
	Public string // the public URL, without a slash at the end
}

// Of returns the authority that a request came to.
func (a *Authorities) Of(r *http.Request) Authority {
	switch strings.ToLower(r.Host) {
	case "login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net":
		return cloudAuthority
	}
	return a.Own()
}

// Own is the authority under the public URL.
func (a *Authorities) Own() Authority {
	return Authority{Login: a.Public, STS: a.Public, Graph: a.Public}
}

// own reports whether an issuer is one of a tenant's here.
func (a *Authorities) own(issuer string) bool { return !a.Tenant(issuer).IsZero() }

// Trusts reports whether tokens of a tenant may carry this issuer.
func (a *Authorities) Trusts(issuer string, tenant directory.ID) bool {
	return a.Tenant(issuer) == tenant && !tenant.IsZero()
}

// Tenant returns the tenant that an issuer of ours names, or the zero id when the issuer is foreign.
func (a *Authorities) Tenant(issuer string) directory.ID {
	rest, ok := strings.CutPrefix(issuer, cloudSTS+"/")
	if ok {
		rest, ok = strings.CutSuffix(rest, "/")
	} else if rest, ok = strings.CutPrefix(issuer, cloudLogin+"/"); ok {
		rest, ok = strings.CutSuffix(rest, "/v2.0")
	} else if rest, ok = strings.CutPrefix(issuer, a.Public+"/"); ok {
		var v2 bool
		if rest, v2 = strings.CutSuffix(rest, "/v2.0"); !v2 {
			rest, ok = strings.CutSuffix(rest, "/")
		}
	}
	if !ok {
		return directory.ID{}
	}
	id, err := directory.ParseID(rest)
	if err != nil || id.String() != rest {
		return directory.ID{}
	}
	return id
}
