package directory

import (
	"iter"
	"slices"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/feed"
)

// Part is the name of this package's part of a view.
const Part = "directory"

// In returns the directory of a view.
func In(v *feed.View) *State { return v.Part(Part).(*State) }

// State is the whole directory at one position of the feed. It is immutable. Objects that its methods
// return are shared: copy before changing one.
type State struct {
	tenants      feed.Map[ID, *Tenant]
	domains      feed.Map[string, ID] // lower case -> tenant
	users        feed.Map[ID, *User]
	upns         feed.Map[string, ID] // lower case -> user
	guests       feed.Map[guestKey, ID]
	groups       feed.Map[ID, *Group]
	applications feed.Map[ID, *Application]
	appIDs       feed.Map[ID, ID] // client id -> application; client ids are unique on the server
	principals   feed.Map[ID, *ServicePrincipal]
	spNames      feed.Map[spName, ID]
	resources    feed.Map[string, ID] // ARM id in lower case -> its managed identity

	memberOf feed.Map[ID, []edge] // principal -> the groups it is in
	members  feed.Map[ID, []edge] // group -> its members
	owners   feed.Map[ID, []ID]   // group, application or service principal -> its owners
	owned    feed.Map[ID, []ID]
	roles    feed.Map[ID, []ID] // principal -> role templates

	grants      feed.Map[ID, *PermissionGrant]
	grantsOf    feed.Map[ID, []ID] // user -> grants for that user alone; client -> its grants for everybody
	assignments feed.Map[ID, *AppRoleAssignment]
	assigned    feed.Map[ID, []ID] // principal -> its app role assignments
}

// edge is one direct membership, seen from either end.
type edge struct {
	peer ID
	feed.Window
}

type spName struct {
	tenant ID
	name   string // lower case
}

// Tenant returns a tenant, or nil.
func (s *State) Tenant(id ID) *Tenant { return get(s.tenants, id) }

// TenantByDomain returns the tenant that has verified a domain, or nil.
func (s *State) TenantByDomain(domain string) *Tenant {
	id, ok := s.domains.Get(strings.ToLower(domain))
	if !ok {
		return nil
	}
	return s.Tenant(id)
}

// Tenants returns all tenants, oldest first.
func (s *State) Tenants() []*Tenant {
	all := values(s.tenants)
	slices.SortFunc(all, func(a, b *Tenant) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return a.ID.Compare(b.ID)
	})
	return all
}

// User returns a user, or nil.
func (s *State) User(id ID) *User { return get(s.users, id) }

// UserByUPN returns the user of a user principal name, in any letter case, or nil.
func (s *State) UserByUPN(upn string) *User {
	id, ok := s.upns.Get(strings.ToLower(upn))
	if !ok {
		return nil
	}
	return s.User(id)
}

// Group returns a group, or nil.
func (s *State) Group(id ID) *Group { return get(s.groups, id) }

// Application returns an app registration by object id, or nil.
func (s *State) Application(id ID) *Application { return get(s.applications, id) }

// ApplicationByAppID returns an app registration by client id, or nil. First-party applications
// have none in any tenant here: see FirstPartyApp.
func (s *State) ApplicationByAppID(appID ID) *Application {
	id, ok := s.appIDs.Get(appID)
	if !ok {
		return nil
	}
	return s.Application(id)
}

// FirstPartyApp returns the definition of a first-party application, or nil.
func FirstPartyApp(appID ID) *Application {
	for i := range FirstParty {
		if FirstParty[i].AppID == appID {
			return &FirstParty[i]
		}
	}
	return nil
}

// ServicePrincipal returns a service principal by object id, or nil.
func (s *State) ServicePrincipal(id ID) *ServicePrincipal { return get(s.principals, id) }

// ServicePrincipalByName returns the service principal of a tenant that has a name: its app id or one of
// its identifier URIs, compared without regard to case. It never matches object ids.
func (s *State) ServicePrincipalByName(tenant ID, name string) *ServicePrincipal {
	id, ok := s.spNames.Get(spName{tenant, strings.ToLower(name)})
	if !ok {
		return nil
	}
	return s.ServicePrincipal(id)
}

// Users returns the users of a tenant in the order of their ids.
func (s *State) Users(tenant ID) []*User {
	return inTenant(s.users, tenant, func(u *User) (ID, ID) { return u.Tenant, u.ID })
}

// Groups returns the groups of a tenant in the order of their ids.
func (s *State) Groups(tenant ID) []*Group {
	return inTenant(s.groups, tenant, func(g *Group) (ID, ID) { return g.Tenant, g.ID })
}

// Applications returns the app registrations of a tenant in the order of their ids.
func (s *State) Applications(tenant ID) []*Application {
	return inTenant(s.applications, tenant, func(a *Application) (ID, ID) { return a.Tenant, a.ID })
}

// ServicePrincipals returns the service principals of a tenant in the order of their ids.
func (s *State) ServicePrincipals(tenant ID) []*ServicePrincipal {
	return inTenant(s.principals, tenant, func(p *ServicePrincipal) (ID, ID) { return p.Tenant, p.ID })
}

// EachUser visits the users of a tenant, in no order.
func (s *State) EachUser(tenant ID) iter.Seq[*User] {
	return eachInTenant(s.users, func(u *User) bool { return u.Tenant == tenant })
}

// EachGroup visits the groups of a tenant, in no order.
func (s *State) EachGroup(tenant ID) iter.Seq[*Group] {
	return eachInTenant(s.groups, func(g *Group) bool { return g.Tenant == tenant })
}

// EachApplication visits the app registrations of a tenant, in no order.
func (s *State) EachApplication(tenant ID) iter.Seq[*Application] {
	return eachInTenant(s.applications, func(a *Application) bool { return a.Tenant == tenant })
}

// EachServicePrincipal visits the service principals of a tenant, in no order.
func (s *State) EachServicePrincipal(tenant ID) iter.Seq[*ServicePrincipal] {
	return eachInTenant(s.principals, func(p *ServicePrincipal) bool { return p.Tenant == tenant })
}

// Owners returns the owners of a group, application or service principal.
func (s *State) Owners(object ID) []ID {
	ids, _ := s.owners.Get(object)
	return ids
}

// Owned returns what a principal owns.
func (s *State) Owned(principal ID) []ID {
	ids, _ := s.owned.Get(principal)
	return ids
}

// IsOwner reports whether a principal owns an object.
func (s *State) IsOwner(principal, object ID) bool {
	return slices.Contains(s.Owners(object), principal)
}

// RolesOf returns the templates of the directory roles that a principal holds.
func (s *State) RolesOf(principal ID) []ID {
	ids, _ := s.roles.Get(principal)
	return ids
}

// HasRole reports whether a principal holds a directory role.
func (s *State) HasRole(principal, role ID) bool {
	ids, _ := s.roles.Get(principal)
	return slices.Contains(ids, role)
}

// Holders returns the principals of a tenant that hold a directory role.
func (s *State) Holders(tenant, role ID) []ID {
	var out []ID
	for principal, roles := range s.roles.All() {
		if slices.Contains(roles, role) && s.tenantOf(principal) == tenant {
			out = append(out, principal)
		}
	}
	return out
}

func (s *State) tenantOf(id ID) ID {
	if u := s.User(id); u != nil {
		return u.Tenant
	}
	if g := s.Group(id); g != nil {
		return g.Tenant
	}
	if p := s.ServicePrincipal(id); p != nil {
		return p.Tenant
	}
	if a := s.Application(id); a != nil {
		return a.Tenant
	}
	return ID{}
}

func get[K comparable, V any](m feed.Map[K, *V], k K) *V {
	v, _ := m.Get(k)
	return v
}

func values[K comparable, V any](m feed.Map[K, V]) []V {
	out := make([]V, 0, m.Len())
	for _, v := range m.All() {
		out = append(out, v)
	}
	return out
}

func eachInTenant[T any](m feed.Map[ID, *T], in func(*T) bool) iter.Seq[*T] {
	return func(yield func(*T) bool) {
		for _, v := range m.All() {
			if in(v) && !yield(v) {
				return
			}
		}
	}
}

func inTenant[T any](m feed.Map[ID, *T], tenant ID, ids func(*T) (tenant, id ID)) []*T {
	var out []*T
	for _, v := range m.All() {
		if t, _ := ids(v); t == tenant {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b *T) int {
		_, x := ids(a)
		_, y := ids(b)
		return x.Compare(y)
	})
	return out
}
