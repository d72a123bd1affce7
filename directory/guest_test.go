package directory

import (
	"strings"
	"testing"

	"github.com/gatehouse-k8s/gatehouse/fault"
)

// TestInvite: who may be invited, by what name the guest goes, and what nobody can do to it.
func TestInvite(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	other, otherAdmin := w.newTenant("Fabrikam", "fabrikam.example")
	by := Actor{ID: otherAdmin.ID, Tenant: other.ID}
	invite := func(address string) (*User, error) {
		return w.Invite(ctx, by, Invitation{Tenant: other.ID, Address: address})
	}
	long := strings.Repeat("x", 60)
	for _, c := range []struct{ address, upn, refusal string }{
		{"Alice.A@" + domain, "alice.a_" + domain + "#EXT#@fabrikam.example", ""},
		{"bob+k8s@elsewhere.example", "bob_k8s_elsewhere.example#EXT#@fabrikam.example", ""},
		{".dot@elsewhere.example", "dot_elsewhere.example#EXT#@fabrikam.example", ""},
		{long + "@elsewhere.example", "", ""},
		{"x@" + strings.Repeat("long-label.", 8) + "example", "", ""},
		{"admin@fabrikam.example", "", "of this organization"},
		{"ADMIN@FABRIKAM.example", "", "of this organization"},
		{"alice", "", "name@domain"},
		{"@" + domain, "", "name@domain"},
		{"a@b@" + domain, "", "name@domain"},
		{"a_b#EXT#@" + domain, "", "name@domain"},
		{"system:admin@" + domain, "", "name@domain"},
		{"аlice@" + domain, "", "name@domain"}, // Cyrillic
		{"alice@localhost", "", "name@domain"},
		{"x\n@" + domain, "", "name@domain"},
		{"", "", "name@domain"},
	} {
		u, err := invite(c.address)
		switch {
		case c.refusal != "":
			if err == nil || !strings.Contains(err.Error(), c.refusal) {
				t.Errorf("%q: %v, want %q", c.address, err, c.refusal)
			}
		case err != nil:
			t.Errorf("%q: %v", c.address, err)
		case c.upn != "" && u.UPN != c.upn || !strings.HasSuffix(u.UPN, "#EXT#@fabrikam.example") || u.Type != Guest:
			t.Errorf("%q: %+v", c.address, u)
		}
	}
	first, err := invite("zoe_x@" + domain)
	must(t, err)
	if again, err := invite("ZOE_X@" + domain); err != nil || again.ID != first.ID {
		t.Errorf("a second invitation: %+v %v", again, err)
	}
	twin, err := invite("zoe+x@" + domain)
	if err != nil || twin.ID == first.ID || twin.UPN != "zoe_x_"+domain+"_"+twin.ID.String()[:8]+"#EXT#@fabrikam.example" {
		t.Fatalf("another address with the same name: %+v %v", twin, err)
	}

	for name, change := range map[string]func(*User){
		"another name":            func(u *User) { u.UPN = "zoe@fabrikam.example" },
		"the name of another":     func(u *User) { u.UPN = twin.UPN },
		"the name of a stranger":  func(u *User) { u.UPN = "eve_x.example#EXT#@" + domain },
		"a name of the same form": func(u *User) { u.UPN = "other#EXT#@fabrikam.example" },
	} {
		if err := w.UpdateUser(ctx, by, first.ID, change); err == nil {
			t.Errorf("a guest gets %s", name)
		}
	}
	must(t, w.UpdateUser(ctx, by, first.ID, func(u *User) { u.External = nil; u.DisplayName = "Zoe" }))
	if u := w.State().User(first.ID); u.External == nil || u.DisplayName != "Zoe" {
		t.Errorf("an update cuts the link: %+v", u)
	}
	if err := w.ResetPassword(ctx, by, first.ID, "Correct-Horse-8", false); err == nil {
		t.Error("a guest gets a password")
	}
	for _, upn := range []string{"a_b.example#EXT#@fabrikam.example", "a#b@fabrikam.example"} {
		for _, kind := range []string{Guest, Member} {
			if _, err := w.CreateUser(ctx, by, NewUser{User: User{Tenant: other.ID, UPN: upn, DisplayName: "x", Type: kind, Enabled: true, External: &External{Home: first.ID, State: Accepted}}, Password: "Correct-Horse-8"}); err == nil {
				t.Errorf("%s %s is made by hand", kind, upn)
			}
		}
	}
	made, err := w.CreateUser(ctx, by, NewUser{User: User{Tenant: other.ID, UPN: "x@fabrikam.example", DisplayName: "x", Enabled: true, External: &External{Home: otherAdmin.ID, State: Accepted}}, Password: "Correct-Horse-8"})
	if err != nil || made.External != nil {
		t.Errorf("a user with a link of the caller's making: %+v %v", made, err)
	}
	if _, err := w.Invite(ctx, Actor{ID: otherAdmin.ID, Tenant: other.ID}, Invitation{Tenant: w.tenant.ID, Address: "x@fabrikam.example"}); err == nil {
		t.Error("an administrator invites to another tenant")
	}
	if _, err := w.Invite(ctx, Actor{ID: made.ID, Tenant: other.ID}, Invitation{Tenant: other.ID, Address: "y@" + domain}); err == nil {
		t.Error("a user who is no administrator invites")
	}
	if s := w.State(); s.Active(first.ID) || s.Home(s.User(first.ID)) != nil || s.Home(nil) != nil {
		t.Error("a guest who has not accepted is active")
	}
}

// TestGuestAdministrator: an administrator from another tenant acts while the account at home may, and is not the one that a tenant must keep.
func TestGuestAdministrator(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	other, boss := w.newTenant("Fabrikam", "fabrikam.example")
	guest, err := w.Invite(ctx, System, Invitation{Tenant: w.tenant.ID, Address: boss.UPN})
	must(t, err)
	w.assign(GlobalAdministrator, guest.ID)
	rename := func() error {
		return w.UpdateUser(ctx, as(guest.ID), w.admin.ID, func(u *User) { u.JobTitle = "x" })
	}
	wantKind(t, "before accepting", rename(), fault.Unauthenticated)
	must(t, w.Accept(ctx, boss, guest.ID))
	must(t, w.Accept(ctx, boss, guest.ID))
	must(t, rename())
	if err := w.DeleteUser(ctx, System, w.admin.ID); err == nil {
		t.Error("a tenant is left with an administrator from elsewhere alone")
	}
	second, err := w.CreateUser(ctx, System, NewUser{User: User{Tenant: other.ID, UPN: "second@fabrikam.example", DisplayName: "x", Enabled: true}, Password: password})
	must(t, err)
	wantKind(t, "somebody else accepts", w.Accept(ctx, second, guest.ID), fault.NotFound)
	must(t, w.update(ctx, System, func(p *plan) error {
		p.put(KindRoleAssignment, pair(GlobalAdministrator, second.ID), other.ID, struct{}{})
		return nil
	}))
	must(t, w.UpdateUser(ctx, System, boss.ID, func(u *User) { u.Enabled = false }))
	wantKind(t, "disabled at home", rename(), fault.Unauthenticated)
	wantKind(t, "disabled, accepting", w.Accept(ctx, boss, guest.ID), fault.Unauthenticated)
	must(t, w.DeleteUser(ctx, System, boss.ID))
	wantKind(t, "deleted at home", rename(), fault.Unauthenticated)
	must(t, w.DeleteUser(ctx, System, guest.ID))
}
