package directory

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
)

func TestUserNamesAreUnique(t *testing.T) {
	w := newWorld(t)
	alice := w.user("alice")
	_, err := w.CreateUser(w.ctx, System, NewUser{User: User{Tenant: w.tenant.ID, UPN: "ALICE@" + domain, DisplayName: "x"}, Password: password})
	wantKind(t, "the same name in another letter case", err, fault.Conflict)
	bob := w.user("bob")
	wantKind(t, "taking a name", w.UpdateUser(w.ctx, System, bob.ID, func(u *User) { u.UPN = "Alice@" + domain }), fault.Conflict)
	must(t, w.UpdateUser(w.ctx, System, alice.ID, func(u *User) { u.UPN = "Alice@" + domain })) // one's own, spelled anew
	if u := w.State().UserByUPN("aLICE@" + strings.ToUpper(domain)); u == nil || u.UPN != "Alice@"+domain {
		t.Errorf("found %+v", u)
	}
	must(t, w.DeleteUser(w.ctx, System, alice.ID))
	if again := w.user("alice"); again.ID == alice.ID {
		t.Error("an object id is used again")
	}
}

// TestIdentityStays: whatever a change does, an object keeps its id, its tenant and its time of creation.
func TestIdentityStays(t *testing.T) {
	w := newWorld(t)
	alice, g := w.user("alice"), w.group("g")
	app, _ := w.app("robot")
	other, _ := w.newTenant("Fabrikam", "fabrikam.internal")
	must(t, w.UpdateUser(w.ctx, System, alice.ID, func(u *User) { u.ID, u.Tenant, u.Created = g.ID, other.ID, time.Time{} }))
	must(t, w.UpdateGroup(w.ctx, System, g.ID, func(g *Group) { g.ID, g.Tenant = alice.ID, other.ID }))
	must(t, w.UpdateApplication(w.ctx, System, app.ID, func(a *Application) error {
		a.ID, a.Tenant, a.AppID, a.Passwords = g.ID, other.ID, Graph, []PasswordCredential{{KeyID: g.ID}}
		return nil
	}))
	s := w.State()
	if u := s.User(alice.ID); u == nil || u.Tenant != w.tenant.ID || !u.Created.Equal(alice.Created) {
		t.Errorf("user %+v", u)
	}
	if got := s.Group(g.ID); got == nil || got.Tenant != w.tenant.ID {
		t.Errorf("group %+v", got)
	}
	if got := s.Application(app.ID); got == nil || got.Tenant != w.tenant.ID || got.AppID != app.AppID || len(got.Passwords) != 0 {
		t.Errorf("application %+v", got)
	}
}

// TestLastAdministrator: the tenant keeps an administrator who can sign in.
func TestLastAdministrator(t *testing.T) {
	w := newWorld(t)
	disable := func(u *User) { u.Enabled = false }
	wantKind(t, "disabling the last one", w.UpdateUser(w.ctx, System, w.admin.ID, disable), fault.Invalid)
	wantKind(t, "deleting the last one", w.DeleteUser(w.ctx, System, w.admin.ID), fault.Invalid)
	second := w.user("second")
	must(t, w.UpdateUser(w.ctx, System, second.ID, disable))
	w.assign(GlobalAdministrator, second.ID)
	wantKind(t, "the second one is disabled", w.DeleteUser(w.ctx, System, w.admin.ID), fault.Invalid)
	must(t, w.UpdateUser(w.ctx, System, second.ID, func(u *User) { u.Enabled = true }))
	must(t, w.DeleteUser(w.ctx, System, w.admin.ID))
	wantKind(t, "now the second one is the last", w.DeleteUser(w.ctx, System, second.ID), fault.Invalid)

	app, robot := w.app("robot")
	w.assign(GlobalAdministrator, robot.ID)
	must(t, w.UpdateUser(w.ctx, System, second.ID, disable))
	wantKind(t, "disabling a robot that is the last", w.EnableServicePrincipal(w.ctx, System, robot.ID, false), fault.Invalid)
	wantKind(t, "deleting its application", w.DeleteApplication(w.ctx, System, app.ID), fault.Invalid)
}

// TestTenants: nobody reaches into another tenant, not even by knowing ids.
func TestTenants(t *testing.T) {
	w := newWorld(t)
	alice, g := w.user("alice"), w.group("g")
	app, sp := w.app("robot")
	other, stranger := w.newTenant("Fabrikam", "fabrikam.internal")
	by := as(stranger.ID)
	_, _, err := w.CreateTenant(w.ctx, NewTenant{DisplayName: "x", Domain: domain, AdminName: "admin", Password: password}, nil)
	wantKind(t, "a tenant with our domain", err, fault.Conflict)
	_, err = w.CreateUser(w.ctx, by, NewUser{User: User{Tenant: w.tenant.ID, UPN: "x@" + domain, DisplayName: "x"}, Password: password})
	wantKind(t, "a user here", err, fault.Denied)
	_, err = w.CreateUser(w.ctx, by, NewUser{User: User{Tenant: other.ID, UPN: "x@" + domain, DisplayName: "x"}, Password: password})
	wantKind(t, "a user there with a name of here", err, fault.Invalid)
	_, err = w.CreateGroup(w.ctx, by, NewGroup{Group: Group{Tenant: other.ID, DisplayName: "x", MailNickname: "x", SecurityEnabled: true}, Members: []ID{alice.ID}})
	wantKind(t, "a group there with a member of here", err, fault.NotFound)
	_, err = w.CreateServicePrincipal(w.ctx, by, other.ID, app.AppID, true)
	wantKind(t, "a service principal there of an application here", err, fault.Invalid)
	for what, err := range map[string]error{
		"UpdateUser":             w.UpdateUser(w.ctx, by, alice.ID, func(*User) {}),
		"ResetPassword":          w.ResetPassword(w.ctx, by, alice.ID, "Hacked-By-Them-1", false),
		"RevokeSessions":         w.RevokeSessions(w.ctx, by, alice.ID),
		"DeleteUser":             w.DeleteUser(w.ctx, by, alice.ID),
		"UpdateGroup":            w.UpdateGroup(w.ctx, by, g.ID, func(*Group) {}),
		"DeleteGroup":            w.DeleteGroup(w.ctx, by, g.ID),
		"AddMembers":             w.AddMembers(w.ctx, by, g.ID, feed.Window{}, stranger.ID),
		"AddOwner":               w.AddOwner(w.ctx, by, g.ID, stranger.ID),
		"AddMembers from here":   w.AddMembers(w.ctx, as(w.admin.ID), g.ID, feed.Window{}, stranger.ID),
		"AddOwner from here":     w.AddOwner(w.ctx, as(w.admin.ID), g.ID, stranger.ID),
		"UpdateApplication":      w.UpdateApplication(w.ctx, by, app.ID, func(*Application) error { return nil }),
		"DeleteApplication":      w.DeleteApplication(w.ctx, by, app.ID),
		"DeleteServicePrincipal": w.DeleteServicePrincipal(w.ctx, by, sp.ID),
		"EnableServicePrincipal": w.EnableServicePrincipal(w.ctx, by, sp.ID, false),
	} {
		wantKind(t, what, err, fault.NotFound)
	}
	_, _, err = w.AddAppSecret(w.ctx, by, app.ID, PasswordCredential{})
	wantKind(t, "AddAppSecret", err, fault.NotFound)
	wantKind(t, "AddDomain", w.AddDomain(w.ctx, by, w.tenant.ID, "new.example"), fault.Denied)
	wantKind(t, "AddDomain of another tenant", w.AddDomain(w.ctx, by, other.ID, domain), fault.Conflict)
	if w.State().ServicePrincipalByName(other.ID, app.AppID.String()) != nil {
		t.Error("the other tenant sees our service principal")
	}
}

// TestOwners: owners of a group manage its members and owners and nothing else.
func TestOwners(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	mine, theirs := w.group("mine"), w.group("theirs")
	must(t, w.AddOwner(w.ctx, as(w.admin.ID), mine.ID, alice.ID))
	by := as(alice.ID)
	must(t, w.AddMembers(w.ctx, by, mine.ID, feed.Window{}, bob.ID))
	must(t, w.RemoveMember(w.ctx, by, mine.ID, bob.ID))
	must(t, w.AddOwner(w.ctx, by, mine.ID, bob.ID))
	must(t, w.RemoveOwner(w.ctx, by, mine.ID, bob.ID))
	wantKind(t, "an owner twice", w.AddOwner(w.ctx, by, mine.ID, alice.ID), fault.Invalid)
	wantKind(t, "a group as an owner", w.AddOwner(w.ctx, by, mine.ID, theirs.ID), fault.NotFound)
	wantKind(t, "the group in itself", w.AddMembers(w.ctx, by, mine.ID, feed.Window{}, mine.ID), fault.Invalid)
	for what, err := range map[string]error{
		"rename":           w.UpdateGroup(w.ctx, by, mine.ID, func(g *Group) { g.DisplayName = "x" }),
		"delete":           w.DeleteGroup(w.ctx, by, mine.ID),
		"another group":    w.AddMembers(w.ctx, by, theirs.ID, feed.Window{}, alice.ID),
		"another's owners": w.AddOwner(w.ctx, by, theirs.ID, alice.ID),
		"not an owner":     w.AddMembers(w.ctx, as(bob.ID), mine.ID, feed.Window{}, bob.ID),
	} {
		wantKind(t, what, err, fault.Denied)
	}
	special, err := w.CreateGroup(w.ctx, System, NewGroup{Owners: []ID{alice.ID},
		Group: Group{Tenant: w.tenant.ID, DisplayName: "roles", MailNickname: "roles", SecurityEnabled: true, RoleAssignable: true}})
	must(t, err)
	wantKind(t, "a role-assignable group", w.AddMembers(w.ctx, by, special.ID, feed.Window{}, bob.ID), fault.Denied)
	must(t, w.UpdateUser(w.ctx, System, alice.ID, func(u *User) { u.Enabled = false }))
	wantKind(t, "a disabled owner", w.AddMembers(w.ctx, by, mine.ID, feed.Window{}, bob.ID), fault.Unauthenticated)
}

// TestAddMembersIsWhole: one bad member and none is added.
func TestAddMembersIsWhole(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	g := w.group("g", bob.ID)
	wantKind(t, "one is in already", w.AddMembers(w.ctx, System, g.ID, feed.Window{}, alice.ID, bob.ID), fault.Invalid)
	wantKind(t, "one does not exist", w.AddMembers(w.ctx, System, g.ID, feed.Window{}, alice.ID, GlobalAdministrator), fault.NotFound)
	if got := w.State().Members(g.ID, w.clock()); !slices.Equal(got, []ID{bob.ID}) {
		t.Errorf("members: %v", got)
	}
}

// TestDeleteUserLeavesNothing: a new account of the same name inherits nothing, and the password is gone.
func TestDeleteUserLeavesNothing(t *testing.T) {
	w := newWorld(t)
	alice := w.user("alice")
	g := w.group("g", alice.ID)
	must(t, w.AddOwner(w.ctx, System, g.ID, alice.ID))
	w.assign(GlobalAdministrator, alice.ID)
	must(t, w.DeleteUser(w.ctx, System, alice.ID))
	s := w.State()
	if len(s.Members(g.ID, w.clock())) != 0 || len(s.Owners(g.ID)) != 0 || s.HasRole(alice.ID, GlobalAdministrator) || s.Active(alice.ID) {
		t.Error("something of the deleted user is left")
	}
	if ok, err := w.VerifyPassword(w.ctx, alice, password); ok || err != nil {
		t.Errorf("the password of a deleted user: %t %v", ok, err)
	}
}
