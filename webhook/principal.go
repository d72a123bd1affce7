package webhook

import (
	"strings"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// principal is a user or service principal as clusters see it.
type principal struct {
	name    string // the Kubernetes user name
	tenant  directory.ID
	enabled bool
}

// principalOf returns the principal of an object id. Its name is the UPN, in the directory's spelling, of a user who is a
// member of the tenant. Guests and others whose account is of another tenant, service principals and managed identities are called by their object id, as on AKS.
func principalOf(dir *directory.State, id directory.ID) (principal, bool) {
	if u := dir.User(id); u != nil {
		p := principal{u.UPN, u.Tenant, dir.Active(id)}
		if u.Type != directory.Member || u.External != nil {
			p.name = id.String()
		}
		return p, true
	}
	if sp := dir.ServicePrincipal(id); sp != nil {
		return principal{id.String(), sp.Tenant, sp.Enabled}, true
	}
	return principal{}, false
}

// isReserved reports whether a name could pass for one of Kubernetes or AKS itself. The directory makes none; should it
// ever, it goes no further.
func isReserved(name string) bool {
	lower := strings.ToLower(name)
	return name == "" || strings.HasPrefix(lower, "system:") || strings.HasPrefix(lower, "aks:")
}
