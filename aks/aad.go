package aks

import (
	"slices"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
)

// aadGiven is aadProfile as a request has it. What is absent or empty text is nil.
type aadGiven struct {
	managed, azureRBAC *bool
	proof              *bool
	groups             *[]string
	tenant             *string
	legacy             string // the first member given that only the legacy integration has
}

const (
	aadPath = "properties.aadProfile"

	// aadProof is a member that AKS does not have. Clients that know AKS's alone leave it out, so leaving it out changes nothing.
	aadProof = "requireProofOfPossession"
)

var (
	aadLegacy = []string{"clientAppID", "serverAppID", "serverAppSecret"}
	aadNames  = append([]string{"managed", "adminGroupObjectIDs", "adminUsers", "enableAzureRBAC", "tenantID", aadProof}, aadLegacy...)
)

// parseAAD reads aadProfile strictly: a member that is not known here may be the one that was to keep people out.
func parseAAD(o object) (g aadGiven, err error) {
	if err := o.canonical(aadNames...); err != nil {
		return g, err
	}
	for name := range o.m {
		if !slices.Contains(aadNames, name) {
			return g, invalid(o.path(name), "The property '%.100s' is not known; aadProfile has %s.", o.path(name), strings.Join(aadNames, ", "))
		}
	}
	if g.managed, err = member[bool](o, "managed", "true or false"); err != nil {
		return g, err
	}
	if g.azureRBAC, err = member[bool](o, "enableAzureRBAC", "true or false"); err != nil {
		return g, err
	}
	if g.proof, err = member[bool](o, aadProof, "true or false"); err != nil {
		return g, err
	}
	if g.groups, err = member[[]string](o, "adminGroupObjectIDs", "a list of group object ids"); err != nil {
		return g, err
	}
	if users, err := member[[]string](o, "adminUsers", "a list"); err != nil || users != nil && len(*users) > 0 {
		return g, invalid(o.path("adminUsers"), "The property '%s' is not supported; put the users into a group and give its id in adminGroupObjectIDs.", o.path("adminUsers"))
	}
	if g.tenant, err = member[string](o, "tenantID", "a tenant id"); err != nil {
		return g, err
	}
	if g.tenant != nil && *g.tenant == "" {
		g.tenant = nil
	}
	for _, name := range aadLegacy {
		v, err := member[string](o, name, "a string")
		if err != nil {
			return g, err
		}
		if v != nil && *v != "" && g.legacy == "" {
			g.legacy = name
		}
	}
	return g, nil
}

func (g *aadGiven) empty() bool { return g.managed == nil && g.onlyManaged() }

func (g *aadGiven) onlyManaged() bool {
	return g.azureRBAC == nil && g.proof == nil && g.groups == nil && g.tenant == nil && g.legacy == ""
}

// none reports whether the request says that there shall be no integration, and nothing else about it.
func (g *aadGiven) none() bool { return g.managed != nil && !*g.managed && g.onlyManaged() }

// desiredAAD is the profile that a cluster has after a request. old is the one it has; nil: none. What the request leaves
// out stays as it is, because clients send back what they read, in part or whole. The integration can be switched on and
// changed but not off, and there is no way back to the legacy one (AKS, "Enable Microsoft Entra integration", limitations).
func desiredAAD(dir *directory.State, home directory.ID, old *AADProfile, given *aadGiven) (*AADProfile, error) {
	switch {
	case given == nil || given.empty() || old == nil && given.none():
		return old, nil
	case old == nil || !old.Managed:
		return enableAAD(dir, home, old, given)
	case given.managed != nil && !*given.managed:
		return nil, errChange("aadProfile.managed")
	case given.legacy != "":
		return nil, errChange("aadProfile." + given.legacy)
	}
	next := *old
	return &next, next.set(dir, old, given)
}

// enableAAD switches the managed integration on, for a cluster that has none or the legacy one.
func enableAAD(dir *directory.State, home directory.ID, old *AADProfile, given *aadGiven) (*AADProfile, error) {
	managed := given.managed != nil && *given.managed
	switch {
	case managed && given.legacy != "":
		return nil, invalid(aadPath+"."+given.legacy, "The property '%s.%s' belongs to the legacy integration and can't be used with managed: true; leave it out.", aadPath, given.legacy)
	case !managed && old != nil:
		return nil, errChange("aadProfile")
	case !managed && given.legacy != "":
		return nil, invalid(aadPath, "The legacy integration with applications of one's own ('%s.%s') is closed to new clusters. Use the managed one: "+
			"aadProfile with managed: true and adminGroupObjectIDs, or az aks create --enable-aad --aad-admin-group-object-ids ID.", aadPath, given.legacy)
	case !managed:
		return nil, invalid(aadPath+".managed", "The property '%s.managed' must be true; leave aadProfile out for a cluster without Microsoft Entra integration.", aadPath)
	}
	next := &AADProfile{Managed: true, Tenant: home, AdminGroups: []directory.ID{}}
	return next, next.set(dir, nil, given)
}

// set takes over what is given.
func (p *AADProfile) set(dir *directory.State, old *AADProfile, given *aadGiven) error {
	if given.azureRBAC != nil && *given.azureRBAC {
		return fault.New(fault.Invalid, "Azure RBAC for Kubernetes ('%s.enableAzureRBAC') is not available in this version of Gatehouse. "+
			"Leave it off and use Kubernetes RBAC: bind roles to groups by their object id.", aadPath).At(aadPath + ".enableAzureRBAC").WithCode("BadRequest")
	}
	if given.tenant != nil {
		id, err := directory.ParseID(*given.tenant)
		if err != nil {
			return invalid(aadPath+".tenantID", "The value %.100q of '%s.tenantID' is not a GUID; az account show --query tenantId prints that of your tenant.", *given.tenant, aadPath)
		}
		p.Tenant = id
	}
	if given.proof != nil {
		p.RequireProof = *given.proof
	}
	if given.groups != nil {
		p.AdminGroups = []directory.ID{}
		for _, text := range *given.groups {
			id, err := directory.ParseID(text)
			if err != nil {
				return invalid(aadPath+".adminGroupObjectIDs", "The value %.100q in '%s.adminGroupObjectIDs' is not a GUID; az ad group show --group NAME --query id prints the id of a group.", text, aadPath)
			}
			if !slices.Contains(p.AdminGroups, id) {
				p.AdminGroups = append(p.AdminGroups, id)
			}
		}
	}
	return p.checkGroups(dir, old)
}

// maxAdminGroups bounds the binding to cluster-admin; a group may hold any number of others.
const maxAdminGroups = 1000

// checkGroups demands that groups exist, if their tenant is hosted here. A group that the cluster had before may have been
// deleted since: its id is never given to another, and demanding it would block every other update.
func (p *AADProfile) checkGroups(dir *directory.State, old *AADProfile) error {
	if len(p.AdminGroups) > maxAdminGroups {
		return invalid(aadPath+".adminGroupObjectIDs", "There are %d admin groups; at most %d are allowed. Put them into one group and give its id.", len(p.AdminGroups), maxAdminGroups)
	}
	if dir.Tenant(p.Tenant) == nil {
		return nil
	}
	var missing []string
	for _, id := range p.AdminGroups {
		if old != nil && old.Tenant == p.Tenant && slices.Contains(old.AdminGroups, id) {
			continue
		}
		if g := dir.Group(id); g == nil || g.Tenant != p.Tenant {
			missing = append(missing, id.String())
		}
	}
	if len(missing) > 0 {
		return invalid(aadPath+".adminGroupObjectIDs", "There is no group with the id %s in tenant %s; az ad group list shows the groups.", strings.Join(missing, ", "), p.Tenant)
	}
	return nil
}
