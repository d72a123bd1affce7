package directory

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

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
	user := u.User
	if err := d.State().mayWrite(by, user.Tenant, userRoles...); err != nil { // before the expensive hash; checked again below
		return nil, err
	}
	hash, err := d.newHash(ctx, u.Password, user.UPN)
	if err != nil {
		return nil, err
	}
	err = d.update(ctx, by, func(p *plan) error {
		if err := p.mayWrite(by, user.Tenant, userRoles...); err != nil {
			return err
		}
		if user.ID, err = p.newID(); err != nil {
			return err
		}
		user.Created, user.External = p.now, nil
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

// endSessions ends every session and token of the user that began before now. Two that happen at once are still one after the other:
// what began with the first ends with the second.
func (u *User) endSessions(now time.Time) {
	u.SessionsValidFrom = max(now.UnixNano(), u.SessionsValidFrom+1)
}

// UserPatch is what PatchUser takes.
type UserPatch struct {
	Change     func(*User) // edits a copy; it may not change id, tenant or second factors. May be nil
	Password   string      // the new one; empty: it stays
	MustChange *bool       // whether the password must be changed at the next sign-in; nil: as it is, or no with a new one
}

// PatchUser changes a user in one write, as an administrator does. A new password ends the user's sessions and tokens.
func (d *Directory) PatchUser(ctx context.Context, by Actor, id ID, patch UserPatch) error {
	var hash []byte
	if patch.Password != "" {
		u, err := d.State().passwordFor(by, id) // before the expensive hash; checked again below
		if err != nil {
			return err
		}
		if hash, err = d.newHash(ctx, patch.Password, u.UPN); err != nil {
			return err
		}
	}
	return d.update(ctx, by, func(p *plan) error {
		rule := p.userFor
		if hash != nil || patch.MustChange != nil {
			rule = p.passwordFor
		}
		old, err := rule(by, id)
		if err != nil {
			return err
		}
		user := *old
		if patch.Change != nil {
			patch.Change(&user)
		}
		user.ID, user.Tenant, user.Created, user.MFA, user.Methods, user.External = old.ID, old.Tenant, old.Created, old.MFA, old.Methods, old.External
		if user.External != nil && user.UPN != old.UPN {
			return fault.New(fault.Invalid, "Property userPrincipalName cannot be changed: %s was invited as %s; delete the guest and invite the other address.", old.UPN, old.External.Address).
				At("userPrincipalName").WithCode("Request_BadRequest")
		}
		if user.External != nil && (hash != nil || patch.MustChange != nil) {
			return fault.New(fault.Invalid, "The password of a guest belongs to the account %s in its own organization; it is changed there.", user.External.Address).
				At("passwordProfile").WithCode("Request_BadRequest")
		}
		if hash != nil {
			user.MustChange = false
			user.endSessions(p.now)
			p.putSecret(KindPassword, id.String(), user.Tenant, hash, noExpiry)
		}
		if patch.MustChange != nil {
			user.MustChange = *patch.MustChange
		}
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

// UpdateUser lets change edit a copy of the user. It may not change the id or the tenant.
func (d *Directory) UpdateUser(ctx context.Context, by Actor, id ID, change func(*User)) error {
	return d.PatchUser(ctx, by, id, UserPatch{Change: change})
}

// ResetPassword sets a user's password as an administrator does. It ends the user's sessions and tokens.
func (d *Directory) ResetPassword(ctx context.Context, by Actor, id ID, password string, mustChange bool) error {
	if password == "" {
		return CheckPassword(password, "")
	}
	return d.PatchUser(ctx, by, id, UserPatch{Password: password, MustChange: &mustChange})
}

// ErrWrongPassword is what ChangePassword says of a wrong present password.
var ErrWrongPassword = fault.New(fault.Invalid, "The currentPassword is not the account's present password; give the one you signed in with.").
	At("currentPassword").WithCode("Request_BadRequest")

// ChangePassword replaces a user's own password, given the present one. It ends the user's sessions and tokens, and returns the
// SessionsValidFrom that it wrote: a session of whoever changed it begins there, and ends with whatever ends sessions after it. The
// caller limits how often it may be tried.
func (d *Directory) ChangePassword(ctx context.Context, by Actor, current, next string) (validFrom int64, err error) {
	u := d.State().User(by.ID)
	if u == nil {
		return 0, ErrNoObject(by.ID.String())
	}
	kept, err := d.Feed.Secret(ctx, KindPassword, u.ID.String())
	if err != nil && !errors.Is(err, feed.ErrNoSecret) {
		return 0, fmt.Errorf("read the password hash of %s: %w", u.ID, err)
	}
	if ok, err := d.Hasher.Verify(ctx, kept.Body, current); err != nil || !ok {
		return 0, cmp.Or(err, error(ErrWrongPassword))
	}
	if next == current {
		return 0, fault.New(fault.Invalid, "The newPassword is the present one; choose another.").At("newPassword").WithCode("Request_BadRequest")
	}
	hash, err := d.newHash(ctx, next, u.UPN)
	if err != nil {
		return 0, err
	}
	err = d.update(ctx, by, func(p *plan) error {
		old := p.User(u.ID)
		now, err := p.secrets.Secret(ctx, KindPassword, u.ID.String())
		if err != nil && !errors.Is(err, feed.ErrNoSecret) {
			return fmt.Errorf("read the password hash of %s: %w", u.ID, err)
		}
		if old == nil || !bytes.Equal(now.Body, kept.Body) { // reset by somebody else since it was checked
			return ErrWrongPassword
		}
		user := *old
		user.MustChange = false
		user.endSessions(p.now)
		validFrom = user.SessionsValidFrom
		p.put(KindUser, user.ID.String(), user.Tenant, &user)
		p.putSecret(KindPassword, user.ID.String(), user.Tenant, hash, noExpiry)
		return nil
	})
	return validFrom, err
}

// newHash hashes a password that the rules allow.
func (d *Directory) newHash(ctx context.Context, password, upn string) ([]byte, error) {
	if err := CheckPassword(password, upn); err != nil {
		return nil, err
	}
	return d.Hasher.Hash(ctx, password)
}

// RevokeSessions ends all sessions and tokens of a user. Users may do it to themselves.
func (d *Directory) RevokeSessions(ctx context.Context, by Actor, id ID) error {
	return d.update(ctx, by, func(p *plan) error {
		old, err := p.userFor(by, id)
		if old == nil || (err != nil && by.ID != id) {
			return err
		}
		user := *old
		user.endSessions(p.now)
		p.put(KindUser, id.String(), user.Tenant, &user)
		return nil
	})
}

// DeleteUser removes a user with its memberships, ownerships, roles and password.
func (d *Directory) DeleteUser(ctx context.Context, by Actor, id ID) error {
	return d.update(ctx, by, func(p *plan) error {
		user, err := p.userFor(by, id)
		if err == nil {
			err = p.mayWrite(by, user.Tenant, "User.ReadWrite.All")
		}
		if err != nil {
			return err
		}
		if err := p.keepAnAdministrator(id); err != nil {
			return err
		}
		p.unlink(id, user.Tenant)
		p.delete(KindUser, id.String(), user.Tenant)
		p.putSecret(KindPassword, id.String(), user.Tenant, nil, noExpiry)
		p.putSecret(KindFactors, id.String(), user.Tenant, nil, noExpiry)
		return nil
	})
}

// userFor returns a user that by may write to.
func (s *State) userFor(by Actor, id ID) (*User, error) {
	u := s.User(id)
	if u == nil || (!by.system && u.Tenant != s.tenantOf(by.ID)) {
		return nil, ErrNoObject(id.String())
	}
	if err := s.mayWrite(by, u.Tenant, userRoles...); err != nil {
		return u, err
	}
	return u, s.guarded(by, id)
}

// userRoles are the app roles of Microsoft Graph that let an application make and change users: none with a directory role, and no
// password. Deleting one needs the first.
var userRoles = []string{"User.ReadWrite.All", "Directory.ReadWrite.All"}

// passwordFor returns a user whose password, and second factors, by may set: that is for administrators alone.
func (s *State) passwordFor(by Actor, id ID) (*User, error) {
	u, err := s.userFor(by, id)
	if err == nil {
		err = s.mayWrite(by, u.Tenant)
	}
	return u, err
}

func (p *plan) checkUser(u *User) error {
	t := p.Tenant(u.Tenant)
	if t == nil {
		return fault.New(fault.NotFound, "tenant %s does not exist", u.Tenant)
	}
	if err := p.checkUPN(t, u.UPN, u.External != nil); err != nil {
		return err
	}
	if other := p.UserByUPN(u.UPN); other != nil && other.ID != u.ID {
		return fault.New(fault.Conflict, "Another object with the same value for property userPrincipalName already exists: %s.", other.UPN).
			At("userPrincipalName").WithCode("Request_BadRequest")
	}
	if u.Type != Member && u.Type != Guest {
		return fault.New(fault.Invalid, "userType is %q; it may be Member or Guest", u.Type).At("userType").WithCode("Request_BadRequest")
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
	if len(u.BusinessPhones) > 1 {
		return fault.New(fault.Invalid, "businessPhones holds %d numbers; one is allowed", len(u.BusinessPhones)).At("businessPhones").WithCode("Request_BadRequest")
	}
	for _, number := range u.BusinessPhones {
		if err := checkText("businessPhones", number, false, 64); err != nil {
			return err
		}
	}
	return nil
}

// keepAnAdministrator refuses to take away the tenant's last enabled Global Administrator. A guest does not count: another tenant may
// take its account away.
func (p *plan) keepAnAdministrator(leaving ID) error {
	if !p.HasRole(leaving, GlobalAdministrator) {
		return nil
	}
	holders := p.Holders(p.tenantOf(leaving), GlobalAdministrator)
	// A managed identity does not count: it goes with its resource, and nobody is asked here then.
	if slices.ContainsFunc(holders, func(id ID) bool {
		return id != leaving && p.Active(id) && p.managedIdentity(id) == nil && (p.User(id) == nil || p.User(id).External == nil)
	}) {
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
	p.unlinkConsent(id, tenant)
}

var _ feed.State = (*State)(nil)
