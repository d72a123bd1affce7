package directory

import (
	"context"
	"crypto/sha256"
	"iter"
	"slices"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/fault"
)

// PermissionGrant lets a client call a resource as its users, with some delegated scopes (Microsoft Graph oAuth2PermissionGrant).
// There is at most one for each client, resource and principal: its id is made of the three.
type PermissionGrant struct {
	ID        ID     `json:"id"`
	Tenant    ID     `json:"tenant"`
	Client    ID     `json:"clientId"`             // the client's service principal
	Resource  ID     `json:"resourceId"`           // the resource's service principal
	Principal ID     `json:"principalId,omitzero"` // a user; zero: every user of the tenant
	Scope     string `json:"scope"`                // values joined by spaces
}

// ForAll reports whether an administrator has consented for everybody (consentType AllPrincipals).
func (g *PermissionGrant) ForAll() bool { return g.Principal.IsZero() }

// holder is what the grant is found by: the user, or the client if it is for everybody.
func (g *PermissionGrant) holder() ID {
	if g.ForAll() {
		return g.Client
	}
	return g.Principal
}

// AppRoleAssignment gives a principal an app role of a resource (Microsoft Graph appRoleAssignment). There is at most one for
// each principal, resource and role: its id is made of the three.
type AppRoleAssignment struct {
	ID        ID    `json:"id"`
	Tenant    ID    `json:"tenant"`
	Principal ID    `json:"principalId"` // a user, group or service principal
	Resource  ID    `json:"resourceId"`  // a service principal
	Role      ID    `json:"appRoleId"`   // zero: assigned, but to no role in particular
	Created   int64 `json:"created"`     // Unix seconds
}

// tripleID is the id of what three ids determine.
func tripleID(what string, a, b, c ID) ID {
	sum := sha256.Sum256(slices.Concat([]byte(what), a[:], b[:], c[:]))
	return ID(sum[:16])
}

func grantID(client, resource, principal ID) ID {
	return tripleID("grant\x00", client, resource, principal)
}

func assignmentID(principal, resource, role ID) ID {
	return tripleID("assignment\x00", principal, resource, role)
}

// Grant returns a permission grant, or nil.
func (s *State) Grant(id ID) *PermissionGrant { return get(s.grants, id) }

// EachGrant visits the permission grants of a tenant, in no order.
func (s *State) EachGrant(tenant ID) iter.Seq[*PermissionGrant] {
	return eachInTenant(s.grants, func(g *PermissionGrant) bool { return g.Tenant == tenant })
}

// Granted returns the scopes of a resource that a client has been granted for a user: by everybody's administrator, or by that user.
func (s *State) Granted(client, resource, user ID) []string {
	var out []string
	for _, principal := range []ID{{}, user} {
		if g := s.Grant(grantID(client, resource, principal)); g != nil {
			out = append(out, strings.Fields(g.Scope)...)
		}
	}
	return out
}

// Consented reports whether a client has been granted anything at all for a user.
func (s *State) Consented(client, user ID) bool {
	all, _ := s.grantsOf.Get(client)
	own, _ := s.grantsOf.Get(user)
	return len(all) > 0 || slices.ContainsFunc(own, func(id ID) bool { return s.Grant(id).Client == client })
}

// Assignment returns an app role assignment, or nil.
func (s *State) Assignment(id ID) *AppRoleAssignment { return get(s.assignments, id) }

// AssignmentsOf returns the app role assignments of a principal itself.
func (s *State) AssignmentsOf(principal ID) []*AppRoleAssignment {
	ids, _ := s.assigned.Get(principal)
	out := make([]*AppRoleAssignment, 0, len(ids))
	for _, id := range ids {
		out = append(out, s.Assignment(id))
	}
	return out
}

// AssignmentsTo visits the app role assignments of a resource, in no order.
func (s *State) AssignmentsTo(resource ID) iter.Seq[*AppRoleAssignment] {
	return eachInTenant(s.assignments, func(a *AppRoleAssignment) bool { return a.Resource == resource })
}

// ApplicationOf returns the registration behind a service principal, or nil: managed identities have none.
func (s *State) ApplicationOf(p *ServicePrincipal) *Application {
	if p.FirstParty {
		return FirstPartyApp(p.AppID)
	}
	return s.ApplicationByAppID(p.AppID)
}

// Assigned returns the assignments that a principal has at a resource now: its own, and of a user those of the groups that it is a direct
// member of. Groups within groups do not count, as in Entra.
func (s *State) Assigned(principal ID, resource ID, groups []ID) []*AppRoleAssignment {
	var out []*AppRoleAssignment
	for _, holder := range append([]ID{principal}, groups...) {
		ids, _ := s.assigned.Get(holder)
		for _, id := range ids {
			if a := s.Assignment(id); a.Resource == resource {
				out = append(out, a)
			}
		}
	}
	return out
}

// RoleValues are the values of the enabled roles among assignments to one application, sorted, each once.
func RoleValues(app *Application, list []*AppRoleAssignment) []string {
	var out []string
	for _, a := range list {
		if r := app.Role(a.Role); r != nil && r.Enabled && r.Value != "" {
			out = append(out, r.Value)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// HasGraphRole reports whether an application has been given one of Microsoft Graph's app roles, by their values.
func (s *State) HasGraphRole(principal ID, values ...string) bool {
	return slices.ContainsFunc(s.graphRoles(principal), func(v string) bool { return slices.Contains(values, v) })
}

// graphRoles are the values of the app roles of Microsoft Graph that an application has.
func (s *State) graphRoles(principal ID) []string {
	p := s.ServicePrincipal(principal)
	if p == nil {
		return nil
	}
	ids, _ := s.assigned.Get(principal)
	if len(ids) == 0 {
		return nil
	}
	graph := s.ServicePrincipalByName(p.Tenant, Graph.String())
	if graph == nil {
		return nil
	}
	return RoleValues(FirstPartyApp(Graph), s.Assigned(principal, graph.ID, nil))
}

// guarded refuses to let somebody who acts by ownership, or by an app role of Microsoft Graph, change a principal that may do more than
// they: with its credentials they would have its rights. Global Administrators may change anybody.
func (s *State) guarded(by Actor, target ID) error {
	if by.system || s.HasRole(by.ID, GlobalAdministrator) {
		return nil
	}
	if roles, _ := s.roles.Get(target); len(roles) > 0 {
		return errInsufficient()
	}
	if s.ServicePrincipal(by.ID) != nil && !s.IsOwner(by.ID, target) {
		own := s.graphRoles(by.ID)
		for _, r := range s.graphRoles(target) {
			if !slices.Contains(own, r) {
				return errInsufficient()
			}
		}
	}
	return nil
}

// CreateGrant grants delegated permissions. The id is the server's to choose.
func (d *Directory) CreateGrant(ctx context.Context, by Actor, g PermissionGrant) (*PermissionGrant, error) {
	err := d.update(ctx, by, func(p *plan) error {
		if err := p.mayWrite(by, g.Tenant, "DelegatedPermissionGrant.ReadWrite.All"); err != nil {
			return err
		}
		for _, id := range []ID{g.Client, g.Resource} {
			if sp := p.ServicePrincipal(id); sp == nil || sp.Tenant != g.Tenant {
				return ErrNoObject(id.String())
			}
		}
		if u := p.User(g.Principal); !g.ForAll() && (u == nil || u.Tenant != g.Tenant) {
			return ErrNoObject(g.Principal.String())
		}
		if g.ID = grantID(g.Client, g.Resource, g.Principal); p.Grant(g.ID) != nil {
			return fault.New(fault.Conflict, "Permission entry already exists: %s. Change that one.", g.ID).WithCode("Request_MultipleObjectsWithSameKeyValue")
		}
		return p.putGrant(g)
	})
	if err != nil {
		return nil, err
	}
	return d.State().Grant(g.ID), nil
}

// UpdateGrant replaces the scopes of a grant.
func (d *Directory) UpdateGrant(ctx context.Context, by Actor, id ID, scope string) error {
	return d.update(ctx, by, func(p *plan) error {
		g, err := p.grantFor(by, id)
		if err != nil {
			return err
		}
		changed := *g
		changed.Scope = scope
		return p.putGrant(changed)
	})
}

// DeleteGrant takes a grant back. Tokens that were issued by it live on until they expire, but nothing new is issued.
func (d *Directory) DeleteGrant(ctx context.Context, by Actor, id ID) error {
	return d.update(ctx, by, func(p *plan) error {
		g, err := p.grantFor(by, id)
		if err != nil {
			return err
		}
		p.delete(KindPermissionGrant, id.String(), g.Tenant)
		return nil
	})
}

func (s *State) grantFor(by Actor, id ID) (*PermissionGrant, error) {
	g := s.Grant(id)
	if g == nil || (!by.system && g.Tenant != s.tenantOf(by.ID)) {
		return nil, ErrNoObject(id.String())
	}
	return g, s.mayWrite(by, g.Tenant, "DelegatedPermissionGrant.ReadWrite.All")
}

// maxScope is the longest scope of a grant, in bytes (Microsoft Graph oAuth2PermissionGrant: 3,850 characters).
const maxScope = 3850

func (p *plan) putGrant(g PermissionGrant) error {
	words := joinScopes(nil, strings.Fields(g.Scope))
	g.Scope = strings.Join(words, " ")
	if g.Scope == "" || len(g.Scope) > maxScope {
		return errApplication("scope", "scope has %d characters; it must name at least one scope, and have at most %d. To take a grant back, delete it.", len(g.Scope), maxScope)
	}
	for _, w := range words {
		if err := checkPermissionValue("scope", w); err != nil {
			return err
		}
	}
	p.put(KindPermissionGrant, g.ID.String(), g.Tenant, &g)
	return nil
}

// joinScopes adds scopes to others, each once, in any letter case.
func joinScopes(list, more []string) []string {
	for _, w := range more {
		if !slices.ContainsFunc(list, func(l string) bool { return strings.EqualFold(l, w) }) {
			list = append(list, w)
		}
	}
	return list
}

// Consent is what somebody agrees to on a page: exactly this, and nothing else.
type Consent struct {
	Client    ID // the client's application id
	Everyone  bool
	Resources []ConsentTo
}

// ConsentTo are the permissions of one resource.
type ConsentTo struct {
	Resource ID       `json:"r"` // its service principal
	Scopes   []string `json:"s,omitempty"`
	Roles    []ID     `json:"o,omitempty"` // app roles for the client itself; with Everyone only
}

// Consent adds what a user agrees to to the grants: of that user or, with Everyone, of all. A scope that only administrators may consent
// to, and Everyone, need a Global Administrator, who also makes the client's service principal if there is none.
func (d *Directory) Consent(ctx context.Context, by Actor, c Consent) error {
	return d.update(ctx, by, func(p *plan) error {
		tenant := p.tenantOf(by.ID)
		admin := p.mayWrite(by, tenant) == nil && p.User(by.ID) != nil
		if c.Everyone && !admin {
			return errInsufficient()
		}
		client, err := p.consentClient(c, tenant)
		if err != nil {
			return err
		}
		var principal ID
		if !c.Everyone {
			principal = by.ID
		}
		for _, to := range c.Resources {
			sp := p.ServicePrincipal(to.Resource)
			if sp == nil || sp.Tenant != tenant || p.ApplicationOf(sp) == nil {
				return ErrNoObject(to.Resource.String())
			}
			if err := p.consentTo(p.ApplicationOf(sp), to, client, principal, tenant, admin); err != nil {
				return err
			}
		}
		return nil
	})
}

// consentClient returns the service principal id of the client.
func (p *plan) consentClient(c Consent, tenant ID) (ID, error) {
	if sp := p.ServicePrincipalByName(tenant, c.Client.String()); sp != nil {
		return sp.ID, nil
	}
	app := p.ApplicationByAppID(c.Client)
	if app == nil || app.Tenant != tenant || !c.Everyone {
		return ID{}, ErrNoObject(c.Client.String())
	}
	sp, err := p.newPrincipal(app)
	p.put(KindServicePrincipal, sp.ID.String(), tenant, &sp)
	return sp.ID, err
}

func (p *plan) consentTo(app *Application, to ConsentTo, client, principal, tenant ID, admin bool) error {
	for _, value := range to.Scopes {
		s := app.ScopeByValue(value)
		if s == nil {
			return errApplication("scope", "%s has no scope %.120q any more; start again.", app.DisplayName, value)
		}
		if s.Type != ScopeUser && !admin {
			return errInsufficient()
		}
	}
	if len(to.Scopes) > 0 {
		g := PermissionGrant{ID: grantID(client, to.Resource, principal), Tenant: tenant, Client: client, Resource: to.Resource, Principal: principal}
		var before []string
		if old := p.Grant(g.ID); old != nil {
			before = strings.Fields(old.Scope)
		}
		g.Scope = strings.Join(joinScopes(before, to.Scopes), " ")
		if err := p.putGrant(g); err != nil {
			return err
		}
	}
	for _, id := range to.Roles {
		r := app.Role(id)
		if r == nil || !r.Enabled || !r.Is(MemberApplication) {
			return errApplication("appRoleId", "%s has no role %s for applications any more; start again.", app.DisplayName, id)
		}
		if !principal.IsZero() || !admin {
			return errInsufficient()
		}
		p.putAssignment(AppRoleAssignment{Tenant: tenant, Principal: client, Resource: to.Resource, Role: id})
	}
	return nil
}

// RequiredConsent is everything that an application says it needs: what an administrator consents to for everybody. The sign-in
// itself is always part of it. Resources that the tenant does not have are left out.
func (s *State) RequiredConsent(tenant ID, app *Application) []ConsentTo {
	graph := s.ServicePrincipalByName(tenant, Graph.String())
	if graph == nil {
		return nil
	}
	out := []ConsentTo{{Resource: graph.ID, Scopes: []string{"openid", "profile", "offline_access"}}}
	for _, r := range app.Required {
		sp := s.ServicePrincipalByName(tenant, r.AppID.String())
		if sp == nil || s.ApplicationOf(sp) == nil {
			continue
		}
		i := slices.IndexFunc(out, func(c ConsentTo) bool { return c.Resource == sp.ID })
		if i < 0 {
			i, out = len(out), append(out, ConsentTo{Resource: sp.ID})
		}
		resource := s.ApplicationOf(sp)
		for _, scope := range app.RequiredScopes(resource) {
			out[i].Scopes = joinScopes(out[i].Scopes, []string{scope.Value})
		}
		for _, role := range app.RequiredRoles(resource) {
			if !slices.Contains(out[i].Roles, role.ID) {
				out[i].Roles = append(out[i].Roles, role.ID)
			}
		}
	}
	return slices.DeleteFunc(out, func(c ConsentTo) bool { return len(c.Scopes)+len(c.Roles) == 0 })
}

// AssignAppRole gives a principal an app role, or none in particular (the zero id). Owners of the resource's service principal may assign
// users and groups; what applications may do is for administrators to decide.
func (d *Directory) AssignAppRole(ctx context.Context, by Actor, a AppRoleAssignment) (*AppRoleAssignment, error) {
	err := d.update(ctx, by, func(p *plan) error {
		resource := p.ServicePrincipal(a.Resource)
		if resource == nil || resource.Tenant != a.Tenant {
			return ErrNoObject(a.Resource.String())
		}
		if p.Application(a.Principal) != nil || p.tenantOf(a.Principal) != a.Tenant {
			return ErrNoObject(a.Principal.String())
		}
		if err := p.mayAssign(by, &a); err != nil {
			return err
		}
		if g := p.Group(a.Principal); g != nil && !g.SecurityEnabled {
			return errApplication("principalId", "%s is not a security group; only security groups can be assigned.", g.DisplayName)
		}
		if err := p.checkRoleFor(&a, resource); err != nil {
			return err
		}
		if a.ID = assignmentID(a.Principal, a.Resource, a.Role); p.Assignment(a.ID) != nil {
			return errApplication("appRoleId", "Permission being assigned already exists on the object: %s.", a.ID)
		}
		a = p.putAssignment(a)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &a, nil
}

// RemoveAppRole takes an assignment back. What it allowed ends at once.
func (d *Directory) RemoveAppRole(ctx context.Context, by Actor, id ID) error {
	return d.update(ctx, by, func(p *plan) error {
		a := p.Assignment(id)
		if a == nil || (!by.system && a.Tenant != p.tenantOf(by.ID)) {
			return ErrNoObject(id.String())
		}
		if err := p.mayAssign(by, a); err != nil {
			return err
		}
		p.delete(KindAppRole, id.String(), a.Tenant)
		return nil
	})
}

func (s *State) mayAssign(by Actor, a *AppRoleAssignment) error {
	resource := s.ServicePrincipal(a.Resource)
	if s.ServicePrincipal(a.Principal) == nil && !resource.FirstParty && s.IsOwner(by.ID, a.Resource) && s.tenantOf(by.ID) == a.Tenant {
		return nil
	}
	return s.mayWrite(by, a.Tenant, "AppRoleAssignment.ReadWrite.All")
}

// checkRoleFor demands that the resource has the role, and that it is for principals of this type.
func (p *plan) checkRoleFor(a *AppRoleAssignment, resource *ServicePrincipal) error {
	if a.Role.IsZero() {
		return nil
	}
	app := p.ApplicationOf(resource)
	var role *AppRole
	if app != nil {
		role = app.Role(a.Role)
	}
	if role == nil || !role.Enabled {
		return errApplication("appRoleId", "Permission being assigned was not found on application '%s': %s is not the id of one of its enabled appRoles.", resource.DisplayName, a.Role)
	}
	member := MemberUser
	if p.ServicePrincipal(a.Principal) != nil {
		member = MemberApplication
	}
	if !role.Is(member) {
		return errApplication("appRoleId", "The app role '%s' of '%s' is for %s; it cannot be assigned to %s.", role.DisplayName, resource.DisplayName, strings.Join(role.MemberTypes, " and "), a.Principal)
	}
	return nil
}

// putAssignment writes an assignment, unless it is there.
func (p *plan) putAssignment(a AppRoleAssignment) AppRoleAssignment {
	a.ID = assignmentID(a.Principal, a.Resource, a.Role)
	if old := p.Assignment(a.ID); old != nil {
		return *old
	}
	a.Created = p.now.Unix()
	p.put(KindAppRole, a.ID.String(), a.Tenant, &a)
	return a
}

// unlinkConsent removes the grants and assignments of an object that goes away.
func (p *plan) unlinkConsent(id, tenant ID) {
	ids, _ := p.assigned.Get(id)
	for _, a := range ids {
		p.delete(KindAppRole, a.String(), tenant)
	}
	if p.ServicePrincipal(id) == nil {
		grants, _ := p.grantsOf.Get(id)
		for _, g := range grants {
			p.delete(KindPermissionGrant, g.String(), tenant)
		}
		return
	}
	for g := range p.EachGrant(tenant) {
		if g.Client == id || g.Resource == id {
			p.delete(KindPermissionGrant, g.ID.String(), tenant)
		}
	}
	for a := range p.AssignmentsTo(id) {
		if a.Principal != id {
			p.delete(KindAppRole, a.ID.String(), tenant)
		}
	}
}

// dropRoles removes the assignments to roles that an application no longer has: one that gets the same id later is another role.
func (p *plan) dropRoles(old, changed *Application, principal ID) {
	gone := slices.DeleteFunc(slices.Clone(old.Roles), func(r AppRole) bool { return changed.Role(r.ID) != nil })
	if len(gone) == 0 {
		return
	}
	for a := range p.AssignmentsTo(principal) {
		if slices.ContainsFunc(gone, func(r AppRole) bool { return r.ID == a.Role }) {
			p.delete(KindAppRole, a.ID.String(), a.Tenant)
		}
	}
}
