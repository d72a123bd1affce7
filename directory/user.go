package directory

import (
	"context"
	"slices"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
)

// NewUser is what CreateUser takes. The server chooses the id.
type NewUser struct {
	User
	Password string
}

// CreateUser adds a user to the tenant in u.Tenant. A UPN that another user has is a conflict.
func (d *Directory) CreateUser(ctx context.Context, by Actor, u NewUser) (*User, error) {
	if err := CheckPassword(u.Password, u.UPN); err != nil {
		return nil, err
	}
	hash, err := d.Hasher.Hash(ctx, u.Password)
	if err != nil {
		return nil, err
	}
	user := u.User
	err = d.update(ctx, by, func(p *plan) error {
		if err := p.mayWrite(by, user.Tenant); err != nil {
			return err
		}
		if user.ID, err = p.newID(); err != nil {
			return err
		}
		user.Created = p.now
		if user.Type == "" {
			user.Type = Member
		}
		if err := p.checkUser(&user); err != nil {
			return err
		}
		p.put(KindUser, user.ID.String(), user.Tenant, &user)
		p.putSecret(KindPassword, user.ID.String(), user.Tenant, hash, noExpiry)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &user, nil
}

// UpdateUser lets change edit a copy of the user. It may not change the id or the tenant.
func (d *Directory) UpdateUser(ctx context.Context, by Actor, id ID, change func(*User)) error {
	return d.update(ctx, by, func(p *plan) error {
		old, err := p.userFor(by, id)
		if err != nil {
			return err
		}
		user := *old
		change(&user)
		user.ID, user.Tenant, user.Created = old.ID, old.Tenant, old.Created
		if err := p.checkUser(&user); err != nil {
			return err
		}
		if old.Enabled && !user.Enabled {
			if err := p.keepAnAdministrator(id); err != nil {
				return err
			}
		}
		p.put(KindUser, id.String(), user.Tenant, &user)
		return nil
	})
}

// ResetPassword sets a user's password as an administrator does. It ends the user's sessions and tokens.
func (d *Directory) ResetPassword(ctx context.Context, by Actor, id ID, password string, mustChange bool) error {
	u := d.State().User(id)
	if u == nil {
		return ErrNoObject(id.String())
	}
	if _, err := d.State().userFor(by, id); err != nil { // before the expensive hash; checked again below
		return err
	}
	if err := CheckPassword(password, u.UPN); err != nil {
		return err
	}
	hash, err := d.Hasher.Hash(ctx, password)
	if err != nil {
		return err
	}
	return d.update(ctx, by, func(p *plan) error {
		old, err := p.userFor(by, id)
		if err != nil {
			return err
		}
		user := *old
		user.MustChange = mustChange
		user.SessionsValidFrom = p.now.UnixNano()
		p.put(KindUser, id.String(), user.Tenant, &user)
		p.putSecret(KindPassword, id.String(), user.Tenant, hash, noExpiry)
		return nil
	})
}

// RevokeSessions ends all sessions and tokens of a user. Users may do it to themselves.
func (d *Directory) RevokeSessions(ctx context.Context, by Actor, id ID) error {
	return d.update(ctx, by, func(p *plan) error {
		old := p.User(id)
		if old == nil {
			return ErrNoObject(id.String())
		}
		if by.ID != id {
			if err := p.mayWrite(by, old.Tenant); err != nil {
				return err
			}
		}
		user := *old
		user.SessionsValidFrom = p.now.UnixNano()
		p.put(KindUser, id.String(), user.Tenant, &user)
		return nil
	})
}

// DeleteUser removes a user with its memberships, ownerships, roles and password.
func (d *Directory) DeleteUser(ctx context.Context, by Actor, id ID) error {
	return d.update(ctx, by, func(p *plan) error {
		user, err := p.userFor(by, id)
		if err != nil {
			return err
		}
		if err := p.keepAnAdministrator(id); err != nil {
			return err
		}
		p.unlink(id, user.Tenant)
		p.delete(KindUser, id.String(), user.Tenant)
		p.putSecret(KindPassword, id.String(), user.Tenant, nil, noExpiry)
		return nil
	})
}

// userFor returns a user that by may write to.
func (s *State) userFor(by Actor, id ID) (*User, error) {
	u := s.User(id)
	if u == nil || (!by.system && u.Tenant != s.tenantOf(by.ID)) {
		return nil, ErrNoObject(id.String())
	}
	return u, s.mayWrite(by, u.Tenant)
}

func (p *plan) checkUser(u *User) error {
	t := p.Tenant(u.Tenant)
	if t == nil {
		return fault.New(fault.NotFound, "tenant %s does not exist", u.Tenant)
	}
	if err := p.checkUPN(t, u.UPN, u.Type == Guest); err != nil {
		return err
	}
	if other := p.UserByUPN(u.UPN); other != nil && other.ID != u.ID {
		return fault.New(fault.Conflict, "Another object with the same value for property userPrincipalName already exists: %s.", other.UPN).
			At("userPrincipalName").WithCode("Request_BadRequest")
	}
	if err := checkText("displayName", u.DisplayName, true, 256); err != nil {
		return err
	}
	if u.MailNickname == "" {
		u.MailNickname, _, _ = strings.Cut(u.UPN, "@")
	}
	for field, value := range map[string]string{
		"givenName": u.GivenName, "surname": u.Surname, "mail": u.Mail, "mailNickname": u.MailNickname, "jobTitle": u.JobTitle,
		"department": u.Department, "officeLocation": u.OfficeLocation, "mobilePhone": u.MobilePhone,
		"preferredLanguage": u.PreferredLanguage, "usageLocation": u.UsageLocation, "onPremisesImmutableId": u.ImmutableID,
	} {
		if err := checkText(field, value, false, 128); err != nil {
			return err
		}
	}
	return nil
}

// keepAnAdministrator refuses to take away the tenant's last enabled Global Administrator.
func (p *plan) keepAnAdministrator(leaving ID) error {
	if !p.HasRole(leaving, GlobalAdministrator) {
		return nil
	}
	holders := p.Holders(p.tenantOf(leaving), GlobalAdministrator)
	if slices.ContainsFunc(holders, func(id ID) bool { return id != leaving && p.Active(id) }) {
		return nil
	}
	return fault.New(fault.Invalid, "%s is the last enabled Global Administrator of the tenant; make another account one first", leaving).WithCode("Request_BadRequest")
}

// unlink removes everything that points at an object that goes away.
func (p *plan) unlink(id, tenant ID) {
	if list, ok := p.memberOf.Get(id); ok {
		for _, e := range list {
			p.delete(KindMembership, pair(e.peer, id), tenant)
		}
	}
	if list, ok := p.members.Get(id); ok {
		for _, e := range list {
			p.delete(KindMembership, pair(id, e.peer), tenant)
		}
	}
	for _, owner := range p.Owners(id) {
		p.delete(KindOwnership, pair(id, owner), tenant)
	}
	for _, object := range p.Owned(id) {
		p.delete(KindOwnership, pair(object, id), tenant)
	}
	roles, _ := p.roles.Get(id)
	for _, role := range roles {
		p.delete(KindRoleAssignment, pair(role, id), tenant)
	}
}

var _ feed.State = (*State)(nil)
