package e2e

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

const (
	graphID   = "00000003-0000-0000-c000-000000000000"
	userRead  = "e1fe6dd8-ba31-4d61-89e7-88639da4683d" // delegated
	readAll   = "7ab1d382-f21e-4acd-a863-ba3e13f7da61" // Directory.Read.All for applications
	orderRead = "5c1f5bd5-7d0e-4f5c-9d9a-0a2f0e6f8a01"
	orderRole = "5c1f5bd5-7d0e-4f5c-9d9a-0a2f0e6f8a02"
	alicePass = "Correct-Horse-7-Battery"
)

// TestApplications registers an API and a client of it with az, and walks through every way of consent that az has.
func TestApplications(t *testing.T) {
	a := &applications{deployment: up(t)}
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"register", a.register},
		{"owners", a.owners},
		{"no consent", a.refused},
		{"permission add, list, grant, list-grants", a.permissions},
		{"admin-consent", a.adminConsent},
		{"an application's own permissions", a.ownPermissions},
		{"app roles in tokens", a.roles},
		{"service principals", a.principals},
		{"an entry is disabled before it goes", a.disable},
		{"delete", a.remove},
	} {
		if !t.Run(step.name, func(t *testing.T) { a.t = t; step.run(t) }) {
			t.FailNow() // each step stands on the one before
		}
	}
	a.t = t
}

type applications struct {
	*deployment
	api, client string // application ids
	secret      string // of the client
	alice       string // object id
}

func (a *applications) json(into any, args ...string) {
	a.t.Helper()
	out := a.run("az", append(args, "-o", "json")...)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		a.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (a *applications) register(t *testing.T) {
	a.loginAdmin()
	a.alice = a.user("alice", alicePass)
	a.api = a.run("az", "ad", "app", "create", "--display-name", "shop", "--identifier-uris", "api://shop", "--query", "appId", "-o", "tsv",
		"--app-roles", clerk("true"))
	a.run("az", "ad", "app", "update", "--id", a.api, "--set", `api={"oauth2PermissionScopes":[{"id":"`+orderRead+`","value":"Orders.Read","type":"User",`+
		`"adminConsentDisplayName":"Read orders","adminConsentDescription":"Read orders","isEnabled":true}]}`)
	a.run("az", "ad", "app", "update", "--id", a.api, "--set", "groupMembershipClaims=All")
	a.run("az", "ad", "sp", "create", "--id", a.api, "-o", "none")
	var app struct {
		Groups string `json:"groupMembershipClaims"`
		API    struct {
			Scopes []struct{ ID, Value string } `json:"oauth2PermissionScopes"`
		}
		Roles []struct{ ID string } `json:"appRoles"`
	}
	a.json(&app, "ad", "app", "show", "--id", a.api)
	if app.Groups != "All" || len(app.API.Scopes) != 1 || app.API.Scopes[0].ID != orderRead || len(app.Roles) != 1 || app.Roles[0].ID != orderRole {
		t.Errorf("%+v", app)
	}
	a.client = a.run("az", "ad", "app", "create", "--display-name", "till", "--is-fallback-public-client", "--public-client-redirect-uris", "http://localhost", "--query", "appId", "-o", "tsv")
	a.run("az", "ad", "sp", "create", "--id", a.client, "-o", "none")
	if again := a.run("az", "ad", "app", "create", "--display-name", "till", "--query", "appId", "-o", "tsv"); again != a.client {
		t.Errorf("created again: %s, want the one that there is, %s", again, a.client)
	}
}

func (a *applications) owners(t *testing.T) {
	owners := func() string {
		return a.run("az", "ad", "app", "owner", "list", "--id", a.api, "--query", "[].userPrincipalName", "-o", "tsv")
	}
	a.run("az", "ad", "app", "owner", "add", "--id", a.api, "--owner-object-id", a.alice)
	if got := owners(); got != a.upn("alice") {
		t.Errorf("owners %q", got)
	}
	// An owner changes the application, and no other one.
	a.run("az", "login", "-u", a.upn("alice"), "-p", alicePass, "--allow-no-subscriptions", "-o", "none")
	a.run("az", "ad", "app", "update", "--id", a.api, "--set", "notes=hers")
	a.refuses([]string{"az", "ad", "app", "update", "--id", a.client, "--set", "notes=hers"}, "Insufficient privileges")
	a.refuses([]string{"az", "ad", "app", "permission", "grant", "--id", a.api, "--api", graphID, "--scope", "Directory.ReadWrite.All"}, "Insufficient privileges")
	a.refuses([]string{"az", "ad", "app", "permission", "admin-consent", "--id", a.api}, "Insufficient privileges")
	a.loginAdmin()
	a.run("az", "ad", "app", "owner", "remove", "--id", a.api, "--owner-object-id", a.alice)
	if got := owners(); got != "" {
		t.Errorf("owners %q after the removal", got)
	}
}

func (a *applications) refused(t *testing.T) {
	if got := a.token(a.upn("alice"), alicePass, a.client, "api://shop/Orders.Read"); got.Error != "invalid_grant" || !strings.Contains(got.Text, "AADSTS65001") {
		t.Errorf("%+v", got)
	}
}

func (a *applications) permissions(t *testing.T) {
	a.run("az", "ad", "app", "permission", "add", "--id", a.client, "--api", a.api, "--api-permissions", orderRead+"=Scope")
	if got := a.run("az", "ad", "app", "permission", "list", "--id", a.client, "--query", "[].resourceAccess[].id", "-o", "tsv"); got != orderRead {
		t.Errorf("permissions %q", got)
	}
	a.run("az", "ad", "app", "permission", "grant", "--id", a.client, "--api", a.api, "--scope", "Orders.Read", "-o", "none")
	a.run("az", "ad", "app", "permission", "grant", "--id", a.client, "--api", a.api, "--scope", "Orders.Read", "-o", "none") // az replaces the one before
	var grants []struct {
		Scope, ConsentType, ResourceDisplayName string
	}
	a.json(&grants, "ad", "app", "permission", "list-grants", "--id", a.client, "--show-resource-name")
	if len(grants) != 1 || grants[0].Scope != "Orders.Read" || grants[0].ConsentType != "AllPrincipals" || grants[0].ResourceDisplayName != "shop" {
		t.Errorf("grants %+v", grants)
	}
	got := a.token(a.upn("alice"), alicePass, a.client, "api://shop/.default")
	if got.Access == "" {
		t.Fatalf("%+v", got)
	}
	if _, claims, _ := parts(t, got.Access); claims["scp"] != "Orders.Read" || claims["aud"] != "api://shop" || claims["appid"] != a.client {
		t.Errorf("claims %v", claims)
	}
}

func (a *applications) adminConsent(t *testing.T) {
	a.run("az", "ad", "app", "permission", "add", "--id", a.client, "--api", graphID, "--api-permissions", userRead+"=Scope", readAll+"=Role")
	a.run("az", "ad", "app", "permission", "admin-consent", "--id", a.client)
	var grants []struct{ Scope string }
	a.json(&grants, "ad", "app", "permission", "list-grants", "--id", a.client)
	if !slices.ContainsFunc(grants, func(g struct{ Scope string }) bool { return strings.Contains(g.Scope, "User.Read") }) {
		t.Errorf("grants %+v", grants)
	}
	a.run("az", "ad", "app", "permission", "delete", "--id", a.client, "--api", a.api, "--api-permissions", orderRead)
	if got := a.run("az", "ad", "app", "permission", "list", "--id", a.client, "--query", "[].resourceAppId", "-o", "tsv"); got != graphID {
		t.Errorf("after the removal: %q", got)
	}
}

func (a *applications) ownPermissions(t *testing.T) {
	a.secret = a.run("az", "ad", "app", "credential", "reset", "--id", a.client, "--query", "password", "-o", "tsv")
	app := a.appToken("https://graph.microsoft.com/.default")
	users := func() int {
		code, _ := a.call(http.MethodGet, "https://graph.microsoft.com/v1.0/users", app.Access, nil)
		return code
	}
	if _, claims, _ := parts(t, app.Access); !strings.Contains(strings.Join(texts(claims["roles"]), " "), "Directory.Read.All") {
		t.Errorf("roles %v", claims["roles"])
	}
	if got := users(); got != http.StatusOK {
		t.Errorf("reading users: %d", got)
	}
	if code, body := a.call(http.MethodPost, "https://graph.microsoft.com/v1.0/groups", app.Access,
		map[string]any{"displayName": "x", "mailNickname": "x", "mailEnabled": false, "securityEnabled": true}); code != http.StatusForbidden {
		t.Errorf("making a group: %d %s", code, body)
	}
	// Taken back, it ends at once, with the same token.
	assignments := "https://graph.microsoft.com/v1.0/servicePrincipals(appId='" + a.client + "')/appRoleAssignments"
	id := a.run("az", "rest", "--url", assignments, "--query", "value[0].id", "-o", "tsv")
	a.run("az", "rest", "--method", "delete", "--url", assignments+"/"+id)
	if got := users(); got != http.StatusForbidden {
		t.Errorf("reading users after the permission was taken back: %d", got)
	}
}

func (a *applications) appToken(scope string) tokens {
	return a.grant(url.Values{"grant_type": {"client_credentials"}, "client_id": {a.client}, "client_secret": {a.secret}, "scope": {scope}})
}

func (a *applications) roles(t *testing.T) {
	shop := a.run("az", "ad", "sp", "show", "--id", a.api, "--query", "id", "-o", "tsv")
	assign := func(principal string) {
		body := `{"principalId":"` + principal + `","resourceId":"` + shop + `","appRoleId":"` + orderRole + `"}`
		a.run("az", "rest", "--method", "post", "--url", "https://graph.microsoft.com/v1.0/servicePrincipals/"+shop+"/appRoleAssignedTo", "--body", body)
	}
	group := a.run("az", "ad", "group", "create", "--display-name", "clerks", "--mail-nickname", "clerks", "--query", "id", "-o", "tsv")
	a.run("az", "ad", "group", "member", "add", "--group", group, "--member-id", a.alice)
	assign(group)
	assign(a.run("az", "ad", "sp", "show", "--id", a.client, "--query", "id", "-o", "tsv"))
	user := a.token(a.upn("alice"), alicePass, a.client, "api://shop/.default")
	for name, token := range map[string]string{"alice": user.Access, "till": a.appToken("api://shop/.default").Access} {
		_, claims, _ := parts(t, token)
		if got := texts(claims["roles"]); !slices.Equal(got, []string{"Clerk"}) {
			t.Errorf("%s: roles %v", name, got)
		}
		if got := texts(claims["groups"]); name == "alice" && !slices.Equal(got, []string{group}) {
			t.Errorf("%s: groups %v", name, got)
		}
	}
}

func (a *applications) principals(t *testing.T) {
	if got := a.run("az", "ad", "sp", "list", "--display-name", "shop", "--query", "[].appId", "-o", "tsv"); got != a.api {
		t.Errorf("sp list: %q", got)
	}
	if got := a.run("az", "ad", "sp", "owner", "list", "--id", a.api, "-o", "json"); got != "[]" {
		t.Errorf("sp owners: %s", got)
	}
	a.secret = a.run("az", "ad", "sp", "credential", "reset", "--id", a.client, "--query", "password", "-o", "tsv")
	if got := a.appToken("api://shop/.default"); got.Access == "" {
		t.Errorf("%+v", got)
	}
	var robot struct{ AppID, Password, Tenant string }
	a.json(&robot, "ad", "sp", "create-for-rbac", "--name", "robot")
	if robot.AppID == "" || robot.Password == "" || robot.Tenant != a.env["GATEHOUSE_TENANT_ID"] {
		t.Errorf("create-for-rbac: app %q, tenant %q", robot.AppID, robot.Tenant)
	}
}

func (a *applications) disable(t *testing.T) {
	a.refuses([]string{"az", "ad", "app", "update", "--id", a.api, "--set", "appRoles=[]"}, "unless disabled first")
	a.run("az", "ad", "app", "update", "--id", a.api, "--app-roles", clerk("false"))
	if _, claims, _ := parts(t, a.appToken("api://shop/.default").Access); claims["roles"] != nil {
		t.Errorf("a disabled role is in a token: %v", claims["roles"])
	}
	a.run("az", "ad", "app", "update", "--id", a.api, "--set", "appRoles=[]")
}

func (a *applications) remove(t *testing.T) {
	a.run("az", "ad", "sp", "delete", "--id", a.client)
	a.run("az", "ad", "app", "delete", "--id", a.client)
	a.run("az", "ad", "app", "delete", "--id", a.api)
	if got := a.run("az", "ad", "app", "list", "--query", "[].displayName", "-o", "tsv"); got != "robot" {
		t.Errorf("left: %q", got)
	}
	if got := a.run("az", "rest", "--url", "https://graph.microsoft.com/v1.0/oauth2PermissionGrants", "--query", "value", "-o", "json"); got != "[]" {
		t.Errorf("grants left: %s", got)
	}
}

// clerk is the API's only app role.
func clerk(enabled string) string {
	return `[{"id":"` + orderRole + `","value":"Clerk","displayName":"Clerk","description":"Sells","allowedMemberTypes":["User","Application"],"isEnabled":` + enabled + `}]`
}

// texts are the elements of a list of strings.
func texts(v any) []string {
	var out []string
	list, _ := v.([]any)
	for _, e := range list {
		s, _ := e.(string)
		out = append(out, s)
	}
	return out
}
