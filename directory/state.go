package directory

import (
	"encoding/json"
	"fmt"
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
	groups       feed.Map[ID, *Group]
	applications feed.Map[ID, *Application]
	appIDs       feed.Map[ID, ID] // client id -> application; client ids are unique on the server
	principals   feed.Map[ID, *ServicePrincipal]
	spNames      feed.Map[spName, ID]

	memberOf feed.Map[ID, []edge] // principal -> the groups it is in
	members  feed.Map[ID, []edge] // group -> its members
	owners   feed.Map[ID, []ID]   // group, application or service principal -> its owners
	owned    feed.Map[ID, []ID]
	roles    feed.Map[ID, []ID] // principal -> role templates
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

// Apply implements feed.State.
func (s *State) Apply(records []feed.Record) (feed.State, error) {
	e := editor{
		tenants: s.tenants.Edit(), domains: s.domains.Edit(), users: s.users.Edit(), upns: s.upns.Edit(),
		groups: s.groups.Edit(), applications: s.applications.Edit(), appIDs: s.appIDs.Edit(),
		principals: s.principals.Edit(), spNames: s.spNames.Edit(),
		memberOf: newEdges(s.memberOf), members: newEdges(s.members),
		owners: newLists(s.owners), owned: newLists(s.owned), roles: newLists(s.roles),
	}
	for i := range records {
		if err := e.apply(&records[i]); err != nil {
			return nil, fmt.Errorf("%s %s: %w", records[i].Kind, records[i].Key, err)
		}
	}
	return &State{
		tenants: e.tenants.Map(), domains: e.domains.Map(), users: e.users.Map(), upns: e.upns.Map(),
		groups: e.groups.Map(), applications: e.applications.Map(), appIDs: e.appIDs.Map(),
		principals: e.principals.Map(), spNames: e.spNames.Map(),
		memberOf: e.memberOf.Map(), members: e.members.Map(),
		owners: e.owners.Map(), owned: e.owned.Map(), roles: e.roles.Map(),
	}, nil
}

type editor struct {
	tenants           *feed.Editor[ID, *Tenant]
	domains           *feed.Editor[string, ID]
	users             *feed.Editor[ID, *User]
	upns              *feed.Editor[string, ID]
	groups            *feed.Editor[ID, *Group]
	applications      *feed.Editor[ID, *Application]
	appIDs            *feed.Editor[ID, ID]
	principals        *feed.Editor[ID, *ServicePrincipal]
	spNames           *feed.Editor[spName, ID]
	memberOf, members *edges
	owners, owned     *lists
	roles             *lists
}

func (e *editor) apply(r *feed.Record) error {
	switch r.Kind {
	case KindMembership:
		group, member, err := parsePair(r.Key)
		if err != nil {
			return err
		}
		var w feed.Window
		if len(r.Body) > 2 { // "{}" is by far the most frequent
			if err := json.Unmarshal(r.Body, &w); err != nil {
				return err
			}
		}
		// A group may have a hundred thousand members, a member is in few groups: look there first.
		known := e.memberOf.has(member, group)
		if !known && r.Body == nil {
			return nil
		}
		e.members.set(group, edge{member, w}, known, r.Body == nil)
		e.memberOf.set(member, edge{group, w}, known, r.Body == nil)
		return nil
	case KindOwnership:
		object, owner, err := parsePair(r.Key)
		if err != nil {
			return err
		}
		e.owners.set(object, owner, r.Body == nil)
		e.owned.set(owner, object, r.Body == nil)
		return nil
	case KindRoleAssignment:
		role, principal, err := parsePair(r.Key)
		if err != nil {
			return err
		}
		e.roles.set(principal, role, r.Body == nil)
		return nil
	}
	id, err := ParseID(r.Key)
	if err != nil {
		return err
	}
	switch r.Kind {
	case KindTenant:
		if old, ok := e.tenants.Get(id); ok {
			for _, d := range old.Domains {
				unindex(e.domains, d, id)
			}
		}
		return put(e.tenants, id, r.Body, func(t *Tenant) {
			for _, d := range t.Domains {
				e.domains.Set(d, id)
			}
		})
	case KindUser:
		if old, ok := e.users.Get(id); ok {
			unindex(e.upns, strings.ToLower(old.UPN), id)
		}
		return put(e.users, id, r.Body, func(u *User) { e.upns.Set(strings.ToLower(u.UPN), id) })
	case KindGroup:
		return put(e.groups, id, r.Body, nil)
	case KindApplication:
		if old, ok := e.applications.Get(id); ok {
			unindex(e.appIDs, old.AppID, id)
		}
		return put(e.applications, id, r.Body, func(a *Application) { e.appIDs.Set(a.AppID, id) })
	case KindServicePrincipal:
		if old, ok := e.principals.Get(id); ok {
			for _, n := range old.Names {
				unindex(e.spNames, spName{old.Tenant, strings.ToLower(n)}, id)
			}
		}
		return put(e.principals, id, r.Body, func(p *ServicePrincipal) {
			for _, n := range p.Names {
				e.spNames.Set(spName{p.Tenant, strings.ToLower(n)}, id)
			}
		})
	}
	return fmt.Errorf("unknown kind of record; was the database written by a newer version?")
}

// unindex takes a name from the object that had it. A feed holds the last change of each record alone, so another object
// may have been given the name before this one is seen to give it up: then it stays.
func unindex[K comparable](m *feed.Editor[K, ID], name K, id ID) {
	if holder, ok := m.Get(name); ok && holder == id {
		m.Delete(name)
	}
}

// put decodes a body into a map, or deletes the entry when there is none.
func put[T any](m *feed.Editor[ID, *T], id ID, body []byte, index func(*T)) error {
	if body == nil {
		m.Delete(id)
		return nil
	}
	v := new(T)
	if err := json.Unmarshal(body, v); err != nil {
		return err
	}
	m.Set(id, v)
	if index != nil {
		index(v)
	}
	return nil
}

// edges edits lists of memberships. A list is copied once per Apply, so that a million records load fast
// while the lists of the state before stay as they were.
type edges struct {
	*feed.Editor[ID, []edge]
	mine map[ID]bool
}

func newEdges(m feed.Map[ID, []edge]) *edges { return &edges{m.Edit(), map[ID]bool{}} }

func (e *edges) has(from, to ID) bool {
	list, _ := e.Get(from)
	return slices.ContainsFunc(list, func(o edge) bool { return o.peer == to })
}

func (e *edges) set(from ID, to edge, known, remove bool) {
	same := func(o edge) bool { return o.peer == to.peer }
	if !known {
		same = nil
	}
	setIn(e.Editor, e.mine, from, to, same, remove)
}

type lists struct {
	*feed.Editor[ID, []ID]
	mine map[ID]bool
}

func newLists(m feed.Map[ID, []ID]) *lists { return &lists{m.Edit(), map[ID]bool{}} }

func (l *lists) set(from, to ID, remove bool) {
	setIn(l.Editor, l.mine, from, to, func(o ID) bool { return o == to }, remove)
}

// setIn puts to into the list of from, or removes it. same finds the entry that it replaces; nil: there is none.
func setIn[T any](m *feed.Editor[ID, []T], mine map[ID]bool, from ID, to T, same func(T) bool, remove bool) {
	list, _ := m.Get(from)
	if !mine[from] {
		list = slices.Clone(list)
		mine[from] = true
	}
	at := -1
	if same != nil {
		at = slices.IndexFunc(list, same)
	}
	switch {
	case at >= 0 && remove:
		list = slices.Delete(list, at, at+1)
	case at >= 0:
		list[at] = to
	case !remove:
		list = append(list, to)
	}
	if len(list) == 0 {
		m.Delete(from)
		delete(mine, from)
		return
	}
	m.Set(from, list)
}

func parsePair(key string) (a, b ID, err error) {
	left, right, _ := strings.Cut(key, "/")
	if a, err = ParseID(left); err == nil {
		b, err = ParseID(right)
	}
	return a, b, err
}

func pair(a, b ID) string { return a.String() + "/" + b.String() }

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
