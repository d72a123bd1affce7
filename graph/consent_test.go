package graph

import (
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/directory"
)

// robot is an application with a secret, and its service principal.
type robot struct {
	w      *world
	app    *directory.Application
	sp     *directory.ServicePrincipal
	secret string
}

func (w *world) robot(name string, roles ...string) *robot {
	w.t.Helper()
	ctx := w.t.Context()
	r := &robot{w: w}
	var err error
	r.app, err = w.dir.CreateApplication(ctx, directory.System, directory.Application{Tenant: w.tenant.ID, DisplayName: name, PublicClient: true})
	must(w.t, err)
	r.sp, err = w.dir.CreateServicePrincipal(ctx, directory.System, w.tenant.ID, r.app.AppID, true)
	must(w.t, err)
	_, r.secret, err = w.dir.AddAppSecret(ctx, directory.System, r.app.ID, directory.PasswordCredential{})
	must(w.t, err)
	for _, role := range roles {
		r.give(role)
	}
	return r
}

func (w *world) graphPrincipal() *directory.ServicePrincipal {
	return w.dir.State().ServicePrincipalByName(w.tenant.ID, directory.Graph.String())
}

// graphRole is the id of an app role of Microsoft Graph.
func graphRole(t testing.TB, value string) directory.ID {
	t.Helper()
	for _, r := range directory.FirstPartyApp(directory.Graph).Roles {
		if r.Value == value {
			return r.ID
		}
	}
	t.Fatalf("Microsoft Graph has no role %s", value)
	return directory.ID{}
}

// give assigns the robot an app role of Microsoft Graph.
func (r *robot) give(role string) *directory.AppRoleAssignment {
	r.w.t.Helper()
	a, err := r.w.dir.AssignAppRole(r.w.t.Context(), directory.System, directory.AppRoleAssignment{
		Tenant: r.w.tenant.ID, Principal: r.sp.ID, Resource: r.w.graphPrincipal().ID, Role: graphRole(r.w.t, role)})
	must(r.w.t, err)
	return a
}

func (r *robot) token() string {
	r.w.t.Helper()
	return r.w.freshToken(url.Values{"grant_type": {"client_credentials"}, "client_id": {r.app.AppID.String()}, "client_secret": {r.secret}, "scope": {"https://graph.microsoft.com/.default"}})
}

const (
	newGroup = `{"displayName":"x","mailNickname":"x","mailEnabled":false,"securityEnabled":true}`
	newUser  = `{"accountEnabled":true,"displayName":"Eve","mailNickname":"eve","userPrincipalName":"eve%d@` + domain + `","passwordProfile":{"password":"Quite-Good-7-Pass"}}`
)

// TestApplicationPermissions: what an application does here is what it has been given, now.
func TestApplicationPermissions(t *testing.T) {
	w := newWorld(t)
	target := w.robot("target")
	reads := map[string]string{"users": "/users", "groups": "/groups", "members": "/groups/" + w.owned.ID.String() + "/members", "apps": "/applications", "sps": "/servicePrincipals",
		"grants": "/oauth2PermissionGrants", "assignments": "/users/" + w.bob.ID.String() + "/appRoleAssignments", "organization": "/organization", "domains": "/domains"}
	all := []string{"apps", "assignments", "domains", "grants", "groups", "members", "organization", "sps", "users"}
	writes := map[string][3]string{
		"user":       {"PATCH", "/users/" + w.bob.ID.String(), `{"jobTitle":"x"}`},
		"group":      {"PATCH", "/groups/" + w.owned.ID.String(), `{"description":"x"}`},
		"member":     {"POST", "/groups/" + w.owned.ID.String() + "/members/$ref", `{"@odata.id":"https://x/USER"}`},
		"app":        {"PATCH", "/applications/" + target.app.ID.String(), `{"notes":"x"}`},
		"register":   {"POST", "/applications", `{"displayName":"x"}`},
		"grant":      {"POST", "/oauth2PermissionGrants", `{"clientId":"` + target.sp.ID.String() + `","consentType":"Principal","principalId":"USER","resourceId":"` + w.graphPrincipal().ID.String() + `","scope":"User.Read"}`},
		"assignment": {"POST", "/servicePrincipals/" + target.sp.ID.String() + "/appRoleAssignedTo", `{"principalId":"USER","resourceId":"` + target.sp.ID.String() + `","appRoleId":"00000000-0000-0000-0000-000000000000"}`},
	}
	for i, c := range []struct {
		roles  []string
		reads  []string
		writes []string
	}{
		{nil, nil, nil},
		{[]string{"User.Read.All"}, []string{"users"}, nil},
		{[]string{"Group.Read.All"}, []string{"groups", "members"}, nil},
		{[]string{"GroupMember.Read.All"}, []string{"groups", "members"}, nil},
		{[]string{"Application.Read.All"}, []string{"apps", "assignments", "sps"}, nil},
		{[]string{"Directory.Read.All"}, all, nil},
		{[]string{"AuditLog.Read.All"}, nil, nil},
		{[]string{"Organization.Read.All", "Domain.Read.All"}, []string{"domains", "organization"}, nil},
		{[]string{"User.ReadWrite.All"}, []string{"users"}, []string{"user"}},
		{[]string{"Group.ReadWrite.All"}, []string{"groups", "members"}, []string{"group", "member"}},
		{[]string{"GroupMember.ReadWrite.All"}, []string{"groups", "members"}, []string{"member"}},
		{[]string{"Application.ReadWrite.All"}, []string{"apps", "assignments", "sps"}, []string{"app", "register"}},
		{[]string{"Application.ReadWrite.OwnedBy"}, []string{"apps", "sps"}, []string{"register"}},
		{[]string{"AppRoleAssignment.ReadWrite.All"}, []string{"assignments"}, []string{"assignment"}},
		{[]string{"DelegatedPermissionGrant.ReadWrite.All"}, []string{"grants"}, []string{"grant"}},
		{[]string{"Directory.ReadWrite.All"}, all, []string{"app", "group", "member", "register", "user"}},
	} {
		someone := w.user(fmt.Sprintf("u%d@%s", i, domain), directory.Member)
		r := w.robot(fmt.Sprintf("robot %d", i), c.roles...)
		token := r.token()
		var canRead, canWrite []string
		for name, path := range reads {
			if a := w.call(token, "GET", path, ""); a.status == 200 {
				canRead = append(canRead, name)
			} else {
				a.want(403, "Authorization_RequestDenied")
			}
		}
		for name, call := range writes {
			if a := w.call(token, call[0], call[1], strings.ReplaceAll(call[2], "USER", someone.ID.String())); a.status < 300 {
				canWrite = append(canWrite, name)
			} else {
				a.want(403, "Authorization_RequestDenied")
			}
		}
		slices.Sort(canRead)
		slices.Sort(canWrite)
		if !slices.Equal(canRead, c.reads) || !slices.Equal(canWrite, c.writes) {
			t.Errorf("%q: reads %q, want %q; writes %q, want %q", c.roles, canRead, c.reads, canWrite, c.writes)
		}
	}
	// What is taken back is gone with the same token.
	r := w.robot("reader")
	given := r.give("User.Read.All")
	token := r.token()
	w.call(token, "GET", "/users", "").want(200, "")
	must(t, w.dir.RemoveAppRole(t.Context(), directory.System, given.ID))
	w.call(token, "GET", "/users", "").want(403, "Authorization_RequestDenied")
}

// TestEscalation: nobody gains by what they may change more than they have.
func TestEscalation(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	users, groups, apps, owned := w.robot("users", "User.ReadWrite.All"), w.robot("groups", "Group.ReadWrite.All"), w.robot("apps", "Application.ReadWrite.All"), w.robot("owned", "Application.ReadWrite.OwnedBy")
	directoryWriter := w.robot("directory", "Directory.ReadWrite.All")
	strong := w.robot("strong", "AppRoleAssignment.ReadWrite.All")
	equal := w.robot("equal", "Application.ReadWrite.All")
	administrator := w.robot("administrator")
	w.assign(directory.GlobalAdministrator, administrator.sp.ID)
	hers := w.robot("hers")
	for _, object := range []directory.ID{hers.app.ID, hers.sp.ID, administrator.app.ID, administrator.sp.ID} {
		must(t, w.dir.AddOwner(ctx, directory.System, object, w.alice.ID))
	}
	must(t, w.dir.UpdateApplication(ctx, directory.System, hers.app.ID, func(a *directory.Application) error {
		a.Roles = []directory.AppRole{{ID: w.alice.ID, Value: "Clerk", DisplayName: "Clerk", Description: "Clerk", MemberTypes: []string{"User", "Application"}, Enabled: true}}
		return nil
	}))
	must(t, w.dir.EnableServicePrincipal(ctx, directory.System, hers.sp.ID, false))
	roleGroup, err := w.dir.CreateGroup(ctx, directory.System, directory.NewGroup{Group: directory.Group{Tenant: w.tenant.ID, DisplayName: "r", MailNickname: "r", SecurityEnabled: true, RoleAssignable: true}})
	must(t, err)
	ids := strings.NewReplacer("{admin}", w.admin.ID.String(), "{bob}", w.bob.ID.String(), "{alice}", w.alice.ID.String(), "{graph}", w.graphPrincipal().ID.String(), "{roleGroup}", roleGroup.ID.String(),
		"{strong}", strong.app.ID.String(), "{strongSP}", strong.sp.ID.String(), "{equal}", equal.app.ID.String(), "{administrator}", administrator.app.ID.String(), "{administratorSP}", administrator.sp.ID.String(),
		"{hers}", hers.app.ID.String(), "{hersSP}", hers.sp.ID.String(), "{hersAppId}", hers.app.AppID.String(), "{apps}", apps.sp.ID.String(), "{readAll}", graphRole(t, "Directory.Read.All").String())
	const password = `{"passwordProfile":{"password":"Hacked-By-Robot-1"}}`
	secret := `{"passwordCredential":{}}`
	for _, c := range []struct {
		name, who, method, path, body string
		allowed                       bool
	}{
		{"an application changes a user", users.token(), "PATCH", "/users/{bob}", `{"jobTitle":"x"}`, true},
		{"an application makes a user", users.token(), "POST", "/users", fmt.Sprintf(newUser, 1), true},
		{"an application resets a password", users.token(), "PATCH", "/users/{bob}", password, false},
		{"an application resets an administrator's password", users.token(), "PATCH", "/users/{admin}", password, false},
		{"an application looks at how somebody signs in", directoryWriter.token(), "GET", "/users/{bob}/authentication/methods", "", false},
		{"an application disables an administrator", users.token(), "PATCH", "/users/{admin}", `{"accountEnabled":false}`, false},
		{"an application renames an administrator", users.token(), "PATCH", "/users/{admin}", `{"userPrincipalName":"x@` + domain + `"}`, false},
		{"an application deletes an administrator", users.token(), "DELETE", "/users/{admin}", "", false},
		{"Directory.ReadWrite.All deletes no user", directoryWriter.token(), "DELETE", "/users/{bob}", "", false},
		{"an application ends an administrator's sessions", users.token(), "POST", "/users/{admin}/revokeSignInSessions", "", false},
		{"an application makes a group", groups.token(), "POST", "/groups", newGroup, true},
		{"an application makes a group for roles", groups.token(), "POST", "/groups", strings.Replace(newGroup, `{`, `{"isAssignableToRole":true,`, 1), false},
		{"an application puts somebody into a group for roles", groups.token(), "POST", "/groups/{roleGroup}/members/$ref", `{"@odata.id":"https://x/{bob}"}`, false},
		{"an application deletes a group for roles", groups.token(), "DELETE", "/groups/{roleGroup}", "", false},
		{"an application gives one that can as much a secret", apps.token(), "POST", "/applications/{equal}/addPassword", secret, true},
		{"an application gives a stronger one a secret", apps.token(), "POST", "/applications/{strong}/addPassword", secret, false},
		{"an application gives a stronger one's account a secret", apps.token(), "POST", "/servicePrincipals/{strongSP}/addPassword", secret, false},
		{"an application makes itself a stronger one's owner", apps.token(), "POST", "/applications/{strong}/owners/$ref", `{"@odata.id":"https://x/{apps}"}`, false},
		{"an application lets another issuer speak for a stronger one", apps.token(), "POST", "/applications/{strong}/federatedIdentityCredentials", `{"name":"abc","issuer":"https://x.test","subject":"s","audiences":["a"]}`, false},
		{"an application gives an administrator a secret", apps.token(), "POST", "/applications/{administrator}/addPassword", secret, false},
		{"an application deletes an administrator's account", apps.token(), "DELETE", "/servicePrincipals/{administratorSP}", "", false},
		{"an application gives itself a permission", apps.token(), "POST", "/servicePrincipals/{apps}/appRoleAssignments", `{"principalId":"{apps}","resourceId":"{graph}","appRoleId":"{readAll}"}`, false},
		{"an application that may change its own changes another", owned.token(), "PATCH", "/applications/{hers}", `{"notes":"x"}`, false},

		{"an owner changes her application", w.alice.UPN, "PATCH", "/applications/{hers}", `{"notes":"x"}`, true},
		{"an owner gives her application a secret", w.alice.UPN, "POST", "/applications/{hers}/addPassword", secret, true},
		{"an owner says what her application needs", w.alice.UPN, "PATCH", "/applications/{hers}", `{"requiredResourceAccess":[{"resourceAppId":"` + directory.Graph.String() + `","resourceAccess":[{"id":"{readAll}","type":"Role"}]}]}`, true},
		{"an owner gives her application a permission", w.alice.UPN, "POST", "/servicePrincipals/{hersSP}/appRoleAssignments", `{"principalId":"{hersSP}","resourceId":"{graph}","appRoleId":"{readAll}"}`, false},
		{"an owner consents for everybody", w.alice.UPN, "POST", "/oauth2PermissionGrants", `{"clientId":"{hersSP}","consentType":"AllPrincipals","resourceId":"{graph}","scope":"User.Read"}`, false},
		{"an owner consents for somebody else", w.alice.UPN, "POST", "/oauth2PermissionGrants", `{"clientId":"{hersSP}","consentType":"Principal","principalId":"{bob}","resourceId":"{graph}","scope":"User.Read"}`, false},
		{"an owner assigns a user to her application", w.alice.UPN, "POST", "/servicePrincipals/{hersSP}/appRoleAssignedTo", `{"principalId":"{bob}","resourceId":"{hersSP}","appRoleId":"{alice}"}`, true},
		{"an owner assigns an application to hers", w.alice.UPN, "POST", "/servicePrincipals/{hersSP}/appRoleAssignedTo", `{"principalId":"{strongSP}","resourceId":"{hersSP}","appRoleId":"{alice}"}`, false},
		{"an owner enables what an administrator has disabled", w.alice.UPN, "PATCH", "/servicePrincipals/{hersSP}", `{"accountEnabled":true}`, false},
		{"an owner demands assignments", w.alice.UPN, "PATCH", "/servicePrincipals/{hersSP}", `{"appRoleAssignmentRequired":true}`, true},
		{"an owner makes a colleague an owner", w.alice.UPN, "POST", "/applications/{hers}/owners/$ref", `{"@odata.id":"https://x/{bob}"}`, true},
		{"an owner of an administrator's application gives it a secret", w.alice.UPN, "POST", "/applications/{administrator}/addPassword", secret, false},
		{"an owner of an administrator's account gives it a secret", w.alice.UPN, "POST", "/servicePrincipals/{administratorSP}/addPassword", secret, false},
		{"somebody changes another's application", w.gina.UPN, "PATCH", "/applications/{hers}", `{"notes":"x"}`, false},
		{"an owner deletes her application", w.alice.UPN, "DELETE", "/applications/{hers}", "", true},
	} {
		if a := w.call(c.who, c.method, ids.Replace(c.path), ids.Replace(c.body)); (a.status < 300) != c.allowed || !c.allowed && a.status != 403 {
			t.Errorf("%s: %d %s", c.name, a.status, a.body)
		}
	}
	for _, r := range []*robot{users, directoryWriter} {
		w.tokens[r.app.DisplayName] = r.token()
		w.beta(r.app.DisplayName, "PATCH", "/users/"+w.bob.ID.String()+"/authentication/requirements", `{"perUserMfaState":"disabled"}`).want(403, "Authorization_RequestDenied")
	}
	// An application that makes applications owns them, and goes on with them.
	made := w.call(owned.token(), "POST", "/applications", `{"displayName":"mine"}`).want(201, "")
	w.call(owned.token(), "PATCH", "/applications/"+made.text("id"), `{"notes":"x"}`).want(204, "")
	w.call(owned.token(), "POST", "/servicePrincipals", `{"appId":"`+made.text("appId")+`"}`).want(201, "")
	if !slices.ContainsFunc(w.events(), func(e audit.Event) bool {
		return e.Outcome == audit.Denied && e.Actor == apps.sp.ID.String() && e.Target == strong.app.ID.String()
	}) {
		t.Error("a refusal is not in the audit")
	}
}

// TestDelegatedPermissions: a user's token is good for what it was consented to, and for what the user may do.
func TestDelegatedPermissions(t *testing.T) {
	w := newWorld(t)
	r := w.robot("client")
	for i, c := range []struct {
		scope  string
		who    *directory.User
		path   string
		method string
		body   string
		status int
	}{
		{"User.Read", w.bob, "/me", "GET", "", 200},
		{"User.Read", w.bob, "/users", "GET", "", 403},
		{"User.Read.All", w.bob, "/users", "GET", "", 200},
		{"User.Read.All", w.bob, "/groups", "GET", "", 403},
		{"Group.Read.All", w.bob, "/groups", "GET", "", 200},
		{"Application.Read.All", w.bob, "/applications", "GET", "", 200},
		{"User.ReadWrite.All", w.bob, "/users/" + w.alice.ID.String(), "PATCH", `{"jobTitle":"x"}`, 403},
		{"User.ReadWrite.All", w.admin, "/users/" + w.alice.ID.String(), "PATCH", `{"jobTitle":"x"}`, 204},
		{"User.ReadWrite.All", w.admin, "/groups", "POST", newGroup, 403},
		{"Directory.ReadWrite.All", w.admin, "/oauth2PermissionGrants", "POST", `{}`, 403},
		{"User.Read.All", w.gina, "/users", "GET", "", 403},
	} {
		for g := range w.dir.State().EachGrant(w.tenant.ID) {
			must(t, w.dir.DeleteGrant(t.Context(), directory.System, g.ID))
		}
		_, err := w.dir.CreateGrant(t.Context(), directory.System, directory.PermissionGrant{Tenant: w.tenant.ID, Client: r.sp.ID, Resource: w.graphPrincipal().ID, Scope: c.scope})
		must(t, err)
		token := w.freshToken(url.Values{"grant_type": {"password"}, "client_id": {r.app.AppID.String()}, "username": {c.who.UPN}, "password": {password}, "scope": {"https://graph.microsoft.com/.default"}})
		if a := w.call(token, c.method, c.path, c.body); a.status != c.status {
			t.Errorf("%d: %s as %s: %s %s is %d %s, want %d", i, c.scope, c.who.UPN, c.method, c.path, a.status, a.body, c.status)
		}
	}
}

// TestGrants: permission grants as clients keep them.
func TestGrants(t *testing.T) {
	w := newWorld(t)
	r := w.robot("client")
	graph := w.graphPrincipal().ID.String()
	body := func(more string) string {
		return `{"clientId":"` + r.sp.ID.String() + `","resourceId":"` + graph + `",` + more + `}`
	}
	made := w.asAdmin("POST", "/oauth2PermissionGrants", body(`"consentType":"AllPrincipals","principalId":null,"scope":" User.Read  user.read openid "`)).want(201, "")
	if made.text("scope") != "User.Read openid" || made.text("consentType") != "AllPrincipals" || made.json["principalId"] != nil {
		t.Errorf("made %s", made.body)
	}
	w.asAdmin("POST", "/oauth2PermissionGrants", body(`"consentType":"AllPrincipals","scope":"email"`)).want(409, "Request_MultipleObjectsWithSameKeyValue")
	own := w.asAdmin("POST", "/oauth2PermissionGrants", body(`"consentType":"Principal","principalId":"`+w.bob.ID.String()+`","scope":"email"`)).want(201, "")
	for name, bad := range map[string]string{
		"no consent type":             body(`"scope":"x"`),
		"another consent type":        body(`"consentType":"Everybody","scope":"x"`),
		"for all, but for somebody":   body(`"consentType":"AllPrincipals","principalId":"` + w.bob.ID.String() + `","scope":"x"`),
		"for somebody, but for whom?": body(`"consentType":"Principal","scope":"x"`),
		"no scope":                    body(`"consentType":"Principal","principalId":"` + w.alice.ID.String() + `","scope":" "`),
		"no client":                   `{"resourceId":"` + graph + `","consentType":"AllPrincipals","scope":"x"}`,
		"no GUID":                     `{"clientId":"x","resourceId":"` + graph + `","consentType":"AllPrincipals","scope":"x"}`,
		"unknown member":              body(`"consentType":"AllPrincipals","scope":"x","colour":"red"`),
	} {
		if a := w.asAdmin("POST", "/oauth2PermissionGrants", bad); a.status != 400 {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	for name, missing := range map[string]string{
		"a client that is a user":      `{"clientId":"` + w.bob.ID.String() + `","resourceId":"` + graph + `","consentType":"AllPrincipals","scope":"x"}`,
		"a client that is an app id":   `{"clientId":"` + r.app.AppID.String() + `","resourceId":"` + graph + `","consentType":"AllPrincipals","scope":"x"}`,
		"a principal that is a client": body(`"consentType":"Principal","principalId":"` + r.sp.ID.String() + `","scope":"x"`),
	} {
		if a := w.asAdmin("POST", "/oauth2PermissionGrants", missing); a.status != 404 {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	list := func(path string) []string {
		return w.asAdmin("GET", path, "").want(200, "").values("scope")
	}
	for path, want := range map[string][]string{
		"/oauth2PermissionGrants" + filterQuery("consentType eq 'AllPrincipals' and clientId eq '"+r.sp.ID.String()+"'"): {"User.Read openid"},
		"/oauth2PermissionGrants" + filterQuery("principalId eq '"+w.bob.ID.String()+"'"):                                {"email"},
		"/users/" + w.bob.ID.String() + "/oauth2PermissionGrants":                                                        {"email"},
	} {
		if got := list(path); !slices.Equal(got, want) {
			t.Errorf("%s: %q", path, got)
		}
	}
	if got := list("/servicePrincipals/" + r.sp.ID.String() + "/oauth2PermissionGrants"); len(got) != 2 {
		t.Errorf("of the client: %q", got)
	}
	w.asAdmin("PATCH", "/oauth2PermissionGrants/"+made.text("id"), `{"scope":"User.Read profile"}`).want(204, "")
	w.asAdmin("PATCH", "/oauth2PermissionGrants/"+made.text("id"), `{"clientId":"`+r.sp.ID.String()+`"}`).want(400, "Request_BadRequest")
	if got := w.asAdmin("GET", "/oauth2PermissionGrants/"+made.text("id"), "").want(200, "").text("scope"); got != "User.Read profile" {
		t.Errorf("after PATCH: %q", got)
	}
	w.asAdmin("DELETE", "/oAuth2PermissionGrants/"+made.text("id"), "").want(204, "")
	w.asAdmin("GET", "/oauth2PermissionGrants/"+made.text("id"), "").want(404, "Request_ResourceNotFound")
	must(t, w.dir.DeleteUser(t.Context(), directory.System, w.bob.ID))
	w.asAdmin("GET", "/oauth2PermissionGrants/"+own.text("id"), "").want(404, "Request_ResourceNotFound")
}

// TestApplicationProperties: what is written is read again, and what would not be kept is refused.
func TestApplicationProperties(t *testing.T) {
	w := newWorld(t)
	const id1, id2, id3 = "5c1f5bd5-7d0e-4f5c-9d9a-0a2f0e6f8a01", "5c1f5bd5-7d0e-4f5c-9d9a-0a2f0e6f8a02", "5c1f5bd5-7d0e-4f5c-9d9a-0a2f0e6f8a03"
	const whole = `{"displayName":"shop","description":"d","notes":"n","tags":["a","b"],"groupMembershipClaims":"SecurityGroup,DirectoryRole","isFallbackPublicClient":true,"identifierUris":["api://shop"],
		"api":{"requestedAccessTokenVersion":2,"knownClientApplications":["` + id3 + `"],"oauth2PermissionScopes":[{"id":"` + id1 + `","value":"Orders.Read","type":"Admin","isEnabled":true,"adminConsentDisplayName":"a","adminConsentDescription":"b","userConsentDisplayName":"c","userConsentDescription":"d"}],
			"preAuthorizedApplications":[{"appId":"` + id3 + `","delegatedPermissionIds":["` + id1 + `"]}]},
		"appRoles":[{"id":"` + id2 + `","value":"Clerk","displayName":"Clerk","description":"Sells","allowedMemberTypes":["User"],"isEnabled":true}],
		"requiredResourceAccess":[{"resourceAppId":"` + id3 + `","resourceAccess":[{"id":"` + id1 + `","type":"Scope"}]}],
		"optionalClaims":{"idToken":[{"name":"email","essential":true}],"accessToken":[{"name":"aud","additionalProperties":["use_guid"]}],"saml2Token":[{"name":"any"}]},
		"web":{"redirectUris":["https://shop.test/cb"],"homePageUrl":"https://shop.test","logoutUrl":"https://shop.test/out","implicitGrantSettings":{"enableIdTokenIssuance":true,"enableAccessTokenIssuance":false}},
		"info":{"supportUrl":"https://shop.test/help"},"spa":{"redirectUris":[]},"signInAudience":"AzureADMyOrg"}`
	made := w.asAdmin("POST", "/applications", whole).want(201, "")
	path := "/applications/" + made.text("id")
	var want map[string]any
	must(t, json.Unmarshal([]byte(whole), &want))
	got := w.asAdmin("GET", path, "").want(200, "").json
	contains(t, "application", got, want)
	for _, patch := range []string{`{"groupMembershipClaims":null}`, `{"groupMembershipClaims":"None"}`, `{"groupMembershipClaims":"all"}`, `{"api":{"preAuthorizedApplications":[]}}`, `{"optionalClaims":null}`, `{"requiredResourceAccess":[]}`, `{"web":{"homePageUrl":null}}`} {
		w.asAdmin("PATCH", path, patch).want(204, "")
	}
	if got := w.asAdmin("GET", path, ""); got.text("groupMembershipClaims") != "All" || got.at("optionalClaims") != nil || got.text("web/redirectUris/0") != "https://shop.test/cb" || got.text("api/oauth2PermissionScopes/0/value") != "Orders.Read" {
		t.Errorf("a part that was not given is gone: %s", got.body)
	}
	again := func(members string) string {
		return `{"api":{"oauth2PermissionScopes":[{"id":"` + id1 + `","value":"Orders.Read","adminConsentDisplayName":"a","adminConsentDescription":"b",` + members + `}]}}`
	}
	scope := `{"id":"` + id1 + `","value":"Orders.Read","adminConsentDisplayName":"a","adminConsentDescription":"b"}`
	role := `{"id":"` + id2 + `","value":"Clerk","displayName":"Clerk","description":"Sells","allowedMemberTypes":["User"]}`
	for name, bad := range map[string]string{
		"an enabled scope goes":               `{"api":{"oauth2PermissionScopes":[]}}`,
		"an enabled role goes":                `{"appRoles":[]}`,
		"an id twice":                         `{"api":{"oauth2PermissionScopes":[` + scope + `,` + strings.Replace(scope, "Orders.Read", "Other", 1) + `]}}`,
		"a value twice":                       `{"api":{"oauth2PermissionScopes":[` + scope + `,` + strings.Replace(scope, id1, id3, 1) + `]}}`,
		"a scope's id as a role's":            `{"appRoles":[` + role + `,` + strings.NewReplacer(id2, id1, "Clerk", "Boss").Replace(role) + `]}`,
		"no id":                               `{"api":{"oauth2PermissionScopes":[` + scope + `,` + strings.NewReplacer(id1, "", "Orders.Read", "x").Replace(scope) + `]}}`,
		"another type":                        again(`"type":"Everybody"`),
		"a space in the value":                `{"api":{"oauth2PermissionScopes":[` + scope + `,` + strings.NewReplacer(id1, id3, "Orders.Read", "a b").Replace(scope) + `]}}`,
		"a scope of the sign-in":              `{"api":{"oauth2PermissionScopes":[` + scope + `,` + strings.NewReplacer(id1, id3, "Orders.Read", "openid").Replace(scope) + `]}}`,
		"no description":                      `{"api":{"oauth2PermissionScopes":[` + scope + `,{"id":"` + id3 + `","value":"x"}]}}`,
		"a role for nobody":                   `{"appRoles":[` + strings.Replace(role, `["User"]`, `[]`, 1) + `]}`,
		"a role for dogs":                     `{"appRoles":[` + strings.Replace(role, `["User"]`, `["Dog"]`, 1) + `]}`,
		"pre-authorized for an unknown scope": `{"api":{"preAuthorizedApplications":[{"appId":"` + id3 + `","delegatedPermissionIds":["` + id2 + `"]}]}}`,
		"a permission without an id":          `{"requiredResourceAccess":[{"resourceAppId":"` + id3 + `","resourceAccess":[{"id":"","type":"Scope"}]}]}`,
		"a permission of another type":        `{"requiredResourceAccess":[{"resourceAppId":"` + id3 + `","resourceAccess":[{"id":"` + id1 + `","type":"Thing"}]}]}`,
		"another group claim":                 `{"groupMembershipClaims":"Everybody"}`,
		"none and one":                        `{"groupMembershipClaims":"None,All"}`,
		"an optional claim that is not there": `{"optionalClaims":{"idToken":[{"name":"shoe_size"}]}}`,
		"an extension":                        `{"optionalClaims":{"idToken":[{"name":"email","source":"user"}]}}`,
		"a property that is not there":        `{"optionalClaims":{"accessToken":[{"name":"groups","additionalProperties":["sam_account_name"]}]}}`,
		"access tokens in addresses":          `{"web":{"implicitGrantSettings":{"enableAccessTokenIssuance":true}}}`,
		"a single-page application":           `{"spa":{"redirectUris":["https://shop.test"]}}`,
		"several tenants":                     `{"signInAudience":"AzureADMultipleOrgs"}`,
		"mapped claims":                       `{"api":{"acceptMappedClaims":true}}`,
		"a home page that runs code":          `{"web":{"homePageUrl":"javascript:alert(1)"}}`,
		"version 3":                           `{"api":{"requestedAccessTokenVersion":3}}`,
		"a list that is none":                 `{"appRoles":{}}`,
	} {
		if a := w.asAdmin("PATCH", path, bad); a.status != 400 || len(a.text("error/message")) < 20 {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	w.asAdmin("PATCH", path, again(`"isEnabled":false`)).want(204, "")
	w.asAdmin("PATCH", path, `{"api":{"oauth2PermissionScopes":[]}}`).want(204, "")
}

// contains demands that an answer has all that was sent.
func contains(t *testing.T, at string, got, want any) {
	t.Helper()
	switch want := want.(type) {
	case map[string]any:
		object, ok := got.(map[string]any)
		if !ok {
			t.Errorf("%s: %v", at, got)
		}
		for name, v := range want {
			contains(t, at+"."+name, object[name], v)
		}
	case []any:
		list, _ := got.([]any)
		if len(list) != len(want) {
			t.Errorf("%s: %v, want %v", at, got, want)
			return
		}
		for i := range want {
			contains(t, fmt.Sprintf("%s[%d]", at, i), list[i], want[i])
		}
	default:
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", at, got, want)
		}
	}
}
