package directory

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/feed"
)

// Apply implements feed.State.
func (s *State) Apply(records []feed.Record) (feed.State, error) {
	e := editor{
		tenants: s.tenants.Edit(), domains: s.domains.Edit(), users: s.users.Edit(), upns: s.upns.Edit(), guests: s.guests.Edit(),
		groups: s.groups.Edit(), applications: s.applications.Edit(), appIDs: s.appIDs.Edit(),
		principals: s.principals.Edit(), spNames: s.spNames.Edit(), resources: s.resources.Edit(),
		memberOf: newEdges(s.memberOf), members: newEdges(s.members),
		owners: newLists(s.owners), owned: newLists(s.owned), roles: newLists(s.roles),
		grants: s.grants.Edit(), grantsOf: newLists(s.grantsOf), assignments: s.assignments.Edit(), assigned: newLists(s.assigned),
	}
	for i := range records {
		if err := e.apply(&records[i]); err != nil {
			return nil, fmt.Errorf("%s %s: %w", records[i].Kind, records[i].Key, err)
		}
	}
	return &State{
		tenants: e.tenants.Map(), domains: e.domains.Map(), users: e.users.Map(), upns: e.upns.Map(), guests: e.guests.Map(),
		groups: e.groups.Map(), applications: e.applications.Map(), appIDs: e.appIDs.Map(),
		principals: e.principals.Map(), spNames: e.spNames.Map(), resources: e.resources.Map(),
		memberOf: e.memberOf.Map(), members: e.members.Map(),
		owners: e.owners.Map(), owned: e.owned.Map(), roles: e.roles.Map(),
		grants: e.grants.Map(), grantsOf: e.grantsOf.Map(), assignments: e.assignments.Map(), assigned: e.assigned.Map(),
	}, nil
}

type editor struct {
	tenants           *feed.Editor[ID, *Tenant]
	domains           *feed.Editor[string, ID]
	users             *feed.Editor[ID, *User]
	upns              *feed.Editor[string, ID]
	guests            *feed.Editor[guestKey, ID]
	groups            *feed.Editor[ID, *Group]
	applications      *feed.Editor[ID, *Application]
	appIDs            *feed.Editor[ID, ID]
	principals        *feed.Editor[ID, *ServicePrincipal]
	spNames           *feed.Editor[spName, ID]
	resources         *feed.Editor[string, ID]
	memberOf, members *edges
	owners, owned     *lists
	roles             *lists

	grants             *feed.Editor[ID, *PermissionGrant]
	assignments        *feed.Editor[ID, *AppRoleAssignment]
	grantsOf, assigned *lists
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
			if old.External != nil {
				unindex(e.guests, old.guestKey(), id)
			}
		}
		return put(e.users, id, r.Body, func(u *User) {
			e.upns.Set(strings.ToLower(u.UPN), id)
			if u.External != nil {
				e.guests.Set(u.guestKey(), id)
			}
		})
	case KindGroup:
		return put(e.groups, id, r.Body, nil)
	case KindApplication:
		if old, ok := e.applications.Get(id); ok {
			unindex(e.appIDs, old.AppID, id)
		}
		return put(e.applications, id, r.Body, func(a *Application) { e.appIDs.Set(a.AppID, id) })
	case KindPermissionGrant:
		if old, ok := e.grants.Get(id); ok {
			e.grantsOf.set(old.holder(), id, true)
		}
		return put(e.grants, id, r.Body, func(g *PermissionGrant) { e.grantsOf.set(g.holder(), id, false) })
	case KindAppRole:
		if old, ok := e.assignments.Get(id); ok {
			e.assigned.set(old.Principal, id, true)
		}
		return put(e.assignments, id, r.Body, func(a *AppRoleAssignment) { e.assigned.set(a.Principal, id, false) })
	case KindServicePrincipal:
		if old, ok := e.principals.Get(id); ok {
			for _, n := range old.Names {
				unindex(e.spNames, spName{old.Tenant, strings.ToLower(n)}, id)
			}
			unindex(e.resources, strings.ToLower(old.Resource), id)
		}
		return put(e.principals, id, r.Body, func(p *ServicePrincipal) {
			for _, n := range p.Names {
				e.spNames.Set(spName{p.Tenant, strings.ToLower(n)}, id)
			}
			if p.Resource != "" {
				e.resources.Set(strings.ToLower(p.Resource), id)
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
