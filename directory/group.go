package directory

import (
	"context"
	"slices"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
)

// NewGroup is what CreateGroup takes. The server chooses the id.
type NewGroup struct {
	Group
	Owners  []ID
	Members []ID
}

// CreateGroup adds a group to the tenant in g.Tenant. Display names need not be unique.
func (d *Directory) CreateGroup(ctx context.Context, by Actor, g NewGroup) (*Group, error) {
	group := g.Group
	err := d.update(ctx, by, func(p *plan) error {
		err := p.mayWrite(by, group.Tenant, p.groupRoles(&group)...)
		if err != nil {
			return err
		}
		if p.Tenant(group.Tenant) == nil {
			return fault.New(fault.NotFound, "tenant %s does not exist", group.Tenant)
		}
		if group.ID, err = p.newID(); err != nil {
			return err
		}
		group.Created = p.now
		if err := checkGroup(&group); err != nil {
			return err
		}
		p.put(KindGroup, group.ID.String(), group.Tenant, &group)
		for _, id := range g.Owners {
			if err := p.checkOwner(group.Tenant, id); err != nil {
				return err
			}
			p.put(KindOwnership, pair(group.ID, id), group.Tenant, struct{}{})
		}
		for _, id := range g.Members {
			if err := p.checkMember(&group, id); err != nil {
				return err
			}
			p.put(KindMembership, pair(group.ID, id), group.Tenant, feed.Window{})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &group, nil
}

// UpdateGroup lets change edit a copy of the group. It may not change the id or the tenant.
func (d *Directory) UpdateGroup(ctx context.Context, by Actor, id ID, change func(*Group)) error {
	return d.update(ctx, by, func(p *plan) error {
		old, err := p.groupFor(by, id, p.mayChange(id))
		if err != nil {
			return err
		}
		group := *old
		change(&group)
		group.ID, group.Tenant, group.Created = old.ID, old.Tenant, old.Created
		if err := checkGroup(&group); err != nil {
			return err
		}
		p.put(KindGroup, id.String(), group.Tenant, &group)
		return nil
	})
}

// DeleteGroup removes a group with all its memberships and ownerships.
func (d *Directory) DeleteGroup(ctx context.Context, by Actor, id ID) error {
	return d.update(ctx, by, func(p *plan) error {
		group, err := p.groupFor(by, id, p.mayChange(id))
		if err != nil {
			return err
		}
		p.unlink(id, group.Tenant)
		p.delete(KindGroup, id.String(), group.Tenant)
		return nil
	})
}

// AddMembers makes principals or groups members of a group, within a window. Owners of the group may do it. A
// member that is in the group already is an error, as in Graph; then none is added.
func (d *Directory) AddMembers(ctx context.Context, by Actor, group ID, w feed.Window, members ...ID) error {
	return d.update(ctx, by, func(p *plan) error {
		g, err := p.groupFor(by, group, p.mayManage(group))
		if err != nil {
			return err
		}
		for _, id := range members {
			if err := p.checkMember(g, id); err != nil {
				return err
			}
			if e := p.membership(id, group); e != nil && (e.Until == 0 || p.now.Unix() < e.Until) {
				return errReferenceExists("members")
			}
			p.put(KindMembership, pair(group, id), g.Tenant, w)
		}
		return nil
	})
}

// RemoveMember takes a member out of a group. Owners of the group may do it.
func (d *Directory) RemoveMember(ctx context.Context, by Actor, group, member ID) error {
	return d.update(ctx, by, func(p *plan) error {
		g, err := p.groupFor(by, group, p.mayManage(group))
		if err != nil {
			return err
		}
		if p.membership(member, group) == nil {
			return ErrNoObject(member.String())
		}
		p.delete(KindMembership, pair(group, member), g.Tenant)
		return nil
	})
}

// AddOwner makes a user or service principal an owner of a group, application or service principal. Owners may do it.
func (d *Directory) AddOwner(ctx context.Context, by Actor, object, owner ID) error {
	return d.update(ctx, by, func(p *plan) error {
		tenant, err := p.ownedFor(by, object)
		if err != nil {
			return err
		}
		if err := p.checkOwner(tenant, owner); err != nil {
			return err
		}
		if p.IsOwner(owner, object) {
			return errReferenceExists("owners")
		}
		p.put(KindOwnership, pair(object, owner), tenant, struct{}{})
		return nil
	})
}

// RemoveOwner takes an owner away from a group, application or service principal. Owners may do it.
func (d *Directory) RemoveOwner(ctx context.Context, by Actor, object, owner ID) error {
	return d.update(ctx, by, func(p *plan) error {
		tenant, err := p.ownedFor(by, object)
		if err != nil {
			return err
		}
		if !p.IsOwner(owner, object) {
			return ErrNoObject(owner.String())
		}
		p.delete(KindOwnership, pair(object, owner), tenant)
		return nil
	})
}

// ownedFor returns the tenant of an object whose owners by may change.
func (p *plan) ownedFor(by Actor, object ID) (ID, error) {
	if p.Application(object) != nil {
		_, err := p.applicationFor(by, object)
		return p.tenantOf(object), err
	}
	if p.ServicePrincipal(object) != nil {
		_, err := p.principalFor(by, object)
		return p.tenantOf(object), err
	}
	_, err := p.groupFor(by, object, p.mayManage(object))
	return p.tenantOf(object), err
}

// groupFor returns a group of the caller's tenant that by may write to by a rule.
func (s *State) groupFor(by Actor, id ID, rule func(Actor, ID) error) (*Group, error) {
	g := s.Group(id)
	if g == nil || (!by.system && g.Tenant != s.tenantOf(by.ID)) {
		return nil, ErrNoObject(id.String())
	}
	return g, rule(by, g.Tenant)
}

// mayManage is the rule for a group's members and owners: owners of the group may, too. A role-assignable group hands
// out directory roles, so its owners may not (Graph: "RoleManagement.ReadWrite.Directory").
func (s *State) mayManage(group ID) func(Actor, ID) error {
	return func(by Actor, tenant ID) error {
		if g := s.Group(group); g != nil && !g.RoleAssignable && !by.system && s.IsOwner(by.ID, group) {
			return nil
		}
		roles := s.groupRoles(s.Group(group))
		if len(roles) > 0 {
			roles = append(roles, "GroupMember.ReadWrite.All")
		}
		return s.mayWrite(by, tenant, roles...)
	}
}

// mayChange is the rule for a group itself.
func (s *State) mayChange(group ID) func(Actor, ID) error {
	return func(by Actor, tenant ID) error { return s.mayWrite(by, tenant, s.groupRoles(s.Group(group))...) }
}

// groupRoles are the app roles of Microsoft Graph that let an application change a group.
func (s *State) groupRoles(g *Group) []string {
	if g == nil || g.RoleAssignable {
		return nil
	}
	return []string{"Group.ReadWrite.All", "Directory.ReadWrite.All"}
}

func checkGroup(g *Group) error {
	if err := checkText("displayName", g.DisplayName, true, 256); err != nil {
		return err
	}
	if err := checkText("description", g.Description, false, 1024); err != nil {
		return err
	}
	if err := checkText("mailNickname", g.MailNickname, true, 64); err != nil {
		return err
	}
	if strings.ContainsAny(g.MailNickname, "@()\\[]\";:<>, \t") {
		return fault.New(fault.Invalid, "Invalid value specified for property 'mailNickname' of resource 'Group': %q holds a space or one of @()\\[]\";:<>,", g.MailNickname).
			At("mailNickname").WithCode("Request_BadRequest")
	}
	for _, t := range g.Types {
		if t != "Unified" {
			return fault.New(fault.Invalid, "groupTypes holds %q; it may hold Unified. Members of dynamic groups cannot be computed here", t).At("groupTypes").WithCode("Request_BadRequest")
		}
	}
	if g.MailEnabled != (len(g.Types) > 0) {
		return fault.New(fault.Invalid, "mailEnabled is %t and groupTypes %q: Unified groups are mail-enabled, and no others", g.MailEnabled, g.Types).At("mailEnabled").WithCode("Request_BadRequest")
	}
	if !slices.Contains([]string{"", "Public", "Private"}, g.Visibility) {
		return fault.New(fault.Invalid, "visibility is %q; it may be Public or Private: every member of the tenant may see who is in a group", g.Visibility).At("visibility").WithCode("Request_BadRequest")
	}
	if g.RoleAssignable && !g.SecurityEnabled {
		return fault.New(fault.Invalid, "a group that is assignable to roles must be securityEnabled").At("isAssignableToRole").WithCode("Request_BadRequest")
	}
	if !g.SecurityEnabled && !g.MailEnabled {
		return fault.New(fault.Invalid, "a group must be securityEnabled or mailEnabled; set securityEnabled to true").At("securityEnabled").WithCode("Request_BadRequest")
	}
	return nil
}

// checkMember accepts users, groups and service principals of the group's tenant, and not the group itself.
func (p *plan) checkMember(g *Group, id ID) error {
	if id == g.ID {
		return fault.New(fault.Invalid, "A group cannot be a member of itself: %s.", id).At("members").WithCode("Request_BadRequest")
	}
	if p.Application(id) != nil || p.tenantOf(id) != g.Tenant {
		return ErrNoObject(id.String())
	}
	return nil
}

// checkOwner accepts users and service principals of a tenant.
func (p *plan) checkOwner(tenant, id ID) error {
	if (p.User(id) == nil && p.ServicePrincipal(id) == nil) || p.tenantOf(id) != tenant {
		return ErrNoObject(id.String())
	}
	return nil
}

func errReferenceExists(property string) error {
	return fault.New(fault.Invalid, "One or more added object references already exist for the following modified properties: '%s'.", property).
		At(property).WithCode("Request_BadRequest")
}
