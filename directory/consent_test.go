package directory

import (
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-k8s/gatehouse/fault"
)

// consentWorld has a resource with a scope of each kind and a role of each kind, and a client of it.
type consentWorld struct {
	*world
	api, client     *Application
	apiSP, clientSP *ServicePrincipal
	alice           *User
}

func newConsentWorld(t *testing.T) *consentWorld {
	w := &consentWorld{world: newWorld(t)}
	w.api, w.apiSP = w.app("api")
	w.client, w.clientSP = w.app("client")
	w.alice = w.user("alice")
	must(t, w.UpdateApplication(w.ctx, System, w.api.ID, func(a *Application) error {
		a.Scopes = []Scope{
			{ID: ID{1}, Value: "Read", AdminName: "Read", AdminText: "Read", Enabled: true},
			{ID: ID{2}, Value: "Delete", Type: ScopeAdmin, AdminName: "Delete", AdminText: "Delete", Enabled: true},
			{ID: ID{3}, Value: "Old", AdminName: "Old", AdminText: "Old"},
		}
		a.Roles = []AppRole{
			{ID: ID{4}, Value: "Clerk", DisplayName: "Clerk", Description: "Clerk", MemberTypes: []string{MemberUser}, Enabled: true},
			{ID: ID{5}, Value: "Robot", DisplayName: "Robot", Description: "Robot", MemberTypes: []string{MemberApplication}, Enabled: true},
			{ID: ID{6}, Value: "Off", DisplayName: "Off", Description: "Off", MemberTypes: []string{MemberUser, MemberApplication}},
		}
		return nil
	}))
	return w
}

// TestConsent: who may agree to what.
func TestConsent(t *testing.T) {
	const denied, invalid, missing = fault.Denied, fault.Invalid, fault.NotFound
	for _, c := range []struct {
		name    string
		admin   bool
		consent func(*consentWorld) Consent
		want    fault.Kind
		ok      bool
	}{
		{"a user to a scope for users", false, func(w *consentWorld) Consent { return w.consent(false, "Read") }, 0, true},
		{"a user to a scope for administrators", false, func(w *consentWorld) Consent { return w.consent(false, "Delete") }, denied, false},
		{"a user for everybody", false, func(w *consentWorld) Consent { return w.consent(true, "Read") }, denied, false},
		{"a user to a role", false, func(w *consentWorld) Consent {
			return Consent{Client: w.client.AppID, Resources: []ConsentTo{{Resource: w.apiSP.ID, Roles: []ID{{5}}}}}
		}, denied, false},
		{"an administrator to a role, but not for everybody", true, func(w *consentWorld) Consent {
			return Consent{Client: w.client.AppID, Resources: []ConsentTo{{Resource: w.apiSP.ID, Roles: []ID{{5}}}}}
		}, denied, false},
		{"an administrator to all of it", true, func(w *consentWorld) Consent { return w.consent(true, "Read", "Delete") }, 0, true},
		{"an administrator to a role for users", true, func(w *consentWorld) Consent {
			return Consent{Client: w.client.AppID, Everyone: true, Resources: []ConsentTo{{Resource: w.apiSP.ID, Roles: []ID{{4}}}}}
		}, invalid, false},
		{"an administrator to a disabled role", true, func(w *consentWorld) Consent {
			return Consent{Client: w.client.AppID, Everyone: true, Resources: []ConsentTo{{Resource: w.apiSP.ID, Roles: []ID{{6}}}}}
		}, invalid, false},
		{"to a disabled scope", true, func(w *consentWorld) Consent { return w.consent(true, "Old") }, invalid, false},
		{"to an unknown scope", true, func(w *consentWorld) Consent { return w.consent(true, "Write") }, invalid, false},
		{"one good and one bad", false, func(w *consentWorld) Consent { return w.consent(false, "Read", "Delete") }, denied, false},
		{"to a resource that is a user", true, func(w *consentWorld) Consent {
			return Consent{Client: w.client.AppID, Resources: []ConsentTo{{Resource: w.alice.ID, Scopes: []string{"Read"}}}}
		}, missing, false},
		{"for an unknown client", true, func(w *consentWorld) Consent {
			return Consent{Client: w.alice.ID, Everyone: true, Resources: []ConsentTo{{Resource: w.apiSP.ID, Scopes: []string{"Read"}}}}
		}, missing, false},
	} {
		w := newConsentWorld(t)
		by := w.alice.ID
		if c.admin {
			by = w.admin.ID
		}
		err := w.Consent(w.ctx, as(by), c.consent(w))
		n := 0
		for range w.State().EachGrant(w.tenant.ID) {
			n++
		}
		switch {
		case c.ok && (err != nil || n != 1):
			t.Errorf("%s: %v, %d grants", c.name, err, n)
		case !c.ok && (!fault.Is(err, c.want) || n != 0 || len(w.State().AssignmentsOf(w.clientSP.ID)) != 0):
			t.Errorf("%s: %v, %d grants", c.name, err, n)
		}
	}
}

func (w *consentWorld) consent(everyone bool, scopes ...string) Consent {
	return Consent{Client: w.client.AppID, Everyone: everyone, Resources: []ConsentTo{{Resource: w.apiSP.ID, Scopes: scopes}}}
}

// TestConsentAdds: one consent adds to another, and one person's is not another's.
func TestConsentAdds(t *testing.T) {
	w := newConsentWorld(t)
	bob := w.user("bob")
	must(t, w.Consent(w.ctx, as(w.alice.ID), w.consent(false, "Read")))
	must(t, w.Consent(w.ctx, as(w.admin.ID), w.consent(false, "Delete")))
	must(t, w.Consent(w.ctx, as(w.alice.ID), w.consent(false, "read")))
	s := w.State()
	for user, want := range map[ID]string{w.alice.ID: "Read", w.admin.ID: "Delete", bob.ID: ""} {
		if got := strings.Join(s.Granted(w.clientSP.ID, w.apiSP.ID, user), " "); got != want || s.Consented(w.clientSP.ID, user) != (want != "") {
			t.Errorf("granted %q, want %q", got, want)
		}
	}
	must(t, w.Consent(w.ctx, as(w.admin.ID), w.consent(true, "Delete")))
	if got := w.State().Granted(w.clientSP.ID, w.apiSP.ID, bob.ID); !slices.Equal(got, []string{"Delete"}) || !w.State().Consented(w.clientSP.ID, bob.ID) {
		t.Errorf("granted to everybody: %q", got)
	}
}

// TestAppRoleAssignments: roles are for whom they say, and count at once and only while they are there.
func TestAppRoleAssignments(t *testing.T) {
	w := newConsentWorld(t)
	g := w.group("clerks", w.alice.ID)
	assign := func(principal, role ID) (*AppRoleAssignment, error) {
		return w.AssignAppRole(w.ctx, as(w.admin.ID), AppRoleAssignment{Tenant: w.tenant.ID, Principal: principal, Resource: w.apiSP.ID, Role: role})
	}
	for name, c := range map[string]struct{ principal, role ID }{
		"a role for users to an application":      {w.clientSP.ID, ID{4}},
		"a role for applications to a user":       {w.alice.ID, ID{5}},
		"a role for applications to a group":      {g.ID, ID{5}},
		"a disabled role":                         {w.alice.ID, ID{6}},
		"a role that the resource does not have":  {w.alice.ID, ID{7}},
		"a scope in place of a role":              {w.alice.ID, ID{1}},
		"a role that is the object's id, perhaps": {w.alice.ID, w.api.ID},
	} {
		_, err := assign(c.principal, c.role)
		wantKind(t, name, err, fault.Invalid)
	}
	for name, principal := range map[string]ID{"an application's registration": w.client.ID, "nobody": {9}} {
		_, err := assign(principal, ID{})
		wantKind(t, name, err, fault.NotFound)
	}
	_, err := w.AssignAppRole(w.ctx, as(w.alice.ID), AppRoleAssignment{Tenant: w.tenant.ID, Principal: w.alice.ID, Resource: w.apiSP.ID, Role: ID{4}})
	wantKind(t, "somebody to themselves", err, fault.Denied)
	made, err := assign(g.ID, ID{4})
	must(t, err)
	_, err = assign(g.ID, ID{4})
	wantKind(t, "twice", err, fault.Invalid)
	values := func() []string {
		s := w.State()
		return RoleValues(s.Application(w.api.ID), s.Assigned(w.alice.ID, w.apiSP.ID, s.MemberOf(w.alice.ID, w.now)))
	}
	if got := values(); !slices.Equal(got, []string{"Clerk"}) {
		t.Errorf("roles %q", got)
	}
	setRoles := func(change func([]AppRole) []AppRole) error {
		return w.UpdateApplication(w.ctx, System, w.api.ID, func(a *Application) error { a.Roles = change(slices.Clone(a.Roles)); return nil })
	}
	wantKind(t, "an enabled role goes", setRoles(func(r []AppRole) []AppRole { return r[1:] }), fault.Invalid)
	before := w.State().Application(w.api.ID).Roles
	must(t, setRoles(func(r []AppRole) []AppRole { r[0].Enabled = false; return r }))
	if got := values(); got != nil {
		t.Errorf("a disabled role: %q", got)
	}
	must(t, setRoles(func(r []AppRole) []AppRole { return r[1:] }))
	must(t, setRoles(func(r []AppRole) []AppRole { return before }))
	if w.State().Assignment(made.ID) != nil || values() != nil {
		t.Error("an assignment outlived its role and holds for one that came later")
	}
}

// TestConsentGoesWithItsObjects: nothing is left of a grant or assignment when one of its ends is deleted.
func TestConsentGoesWithItsObjects(t *testing.T) {
	for name, remove := range map[string]func(*consentWorld) error{
		"the client":                func(w *consentWorld) error { return w.DeleteServicePrincipal(w.ctx, System, w.clientSP.ID) },
		"the client's registration": func(w *consentWorld) error { return w.DeleteApplication(w.ctx, System, w.client.ID) },
		"the resource":              func(w *consentWorld) error { return w.DeleteServicePrincipal(w.ctx, System, w.apiSP.ID) },
		"the user, for their own":   func(w *consentWorld) error { return w.DeleteUser(w.ctx, System, w.alice.ID) },
		"the group, for the group's": func(w *consentWorld) error {
			return w.DeleteGroup(w.ctx, System, w.State().MemberOf(w.alice.ID, w.now)[0])
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newConsentWorld(t)
			g := w.group("clerks", w.alice.ID)
			must(t, w.Consent(w.ctx, as(w.alice.ID), w.consent(false, "Read")))
			must(t, w.Consent(w.ctx, as(w.admin.ID), Consent{Client: w.client.AppID, Everyone: true, Resources: []ConsentTo{{Resource: w.apiSP.ID, Scopes: []string{"Read"}, Roles: []ID{{5}}}}}))
			for _, p := range []ID{g.ID, w.alice.ID} {
				_, err := w.AssignAppRole(w.ctx, System, AppRoleAssignment{Tenant: w.tenant.ID, Principal: p, Resource: w.apiSP.ID, Role: ID{4}})
				must(t, err)
			}
			must(t, remove(w))
			s := w.State()
			exists := func(id ID) bool { return id.IsZero() || s.tenantOf(id) == w.tenant.ID }
			for _, grant := range s.grants.All() {
				if !exists(grant.Client) || !exists(grant.Resource) || !exists(grant.Principal) {
					t.Errorf("left: %+v", grant)
				}
			}
			for _, a := range s.assignments.All() {
				if !exists(a.Principal) || !exists(a.Resource) {
					t.Errorf("left: %+v", a)
				}
			}
			for holder, ids := range s.grantsOf.All() {
				for _, id := range ids {
					if s.Grant(id) == nil || s.Grant(id).holder() != holder {
						t.Errorf("the index of %s holds %s", holder, id)
					}
				}
			}
			for holder, ids := range s.assigned.All() {
				for _, id := range ids {
					if s.Assignment(id) == nil || s.Assignment(id).Principal != holder {
						t.Errorf("the index of %s holds %s", holder, id)
					}
				}
			}
		})
	}
}
