package arm_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/arm"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/rbac"
)

func TestWhoIsLetIn(t *testing.T) {
	w := newWorld(t)
	w.NewUser("bob")
	bob, admin := w.tokenOf("bob"), w.tokenOf("admin")
	graph := w.token("admin@gatehouse.test", "https://graph.microsoft.com/.default", "access_token")
	aks := w.token("admin@gatehouse.test", directory.AKSServer.String()+"/.default", "access_token")
	id := w.token("admin@gatehouse.test", armScope+" openid", "id_token")
	classic := w.token("admin@gatehouse.test", "https://management.core.windows.net//.default", "access_token")
	for _, c := range []struct {
		name, token string
		status      int
		code        string
	}{
		{"a token for management.azure.com", admin, 200, ""},
		{"a token for management.core.windows.net", classic, 200, ""},
		{"no token", "", 401, "AuthenticationFailed"},
		{"a token for Graph", graph, 401, "InvalidAuthenticationTokenAudience"},
		{"a token for AKS", aks, 401, "InvalidAuthenticationTokenAudience"},
		{"an ID token", id, 401, "InvalidAuthenticationToken"},
		{"a token with another signature", admin[:len(admin)-8] + "AAAAAAAA", 401, "InvalidAuthenticationToken"},
		{"no JWT", "opaque", 401, "InvalidAuthenticationToken"},
		{"somebody without a role", bob, 403, "AuthorizationFailed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := w.call(c.token, "GET", w.sub(), "")
			a.want(c.status, c.code)
			if c.status == 401 {
				want := `Bearer authorization_uri="https://login.microsoftonline.com/` + w.Tenant.ID.String() + `", error="invalid_token"`
				if got := a.Header().Get("WWW-Authenticate"); !strings.HasPrefix(got, want) {
					t.Errorf("WWW-Authenticate: %s, want %s", got, want)
				}
				if strings.Contains(a.Body.String(), "signature") {
					t.Errorf("the answer tells too much: %s", a.Body)
				}
			}
		})
	}
	w.Advance(2 * time.Hour)
	w.call(admin, "GET", w.sub(), "").want(401, "ExpiredAuthenticationToken", "sign in again")
}

func TestDisabledUserIsOutAtOnce(t *testing.T) {
	w := newWorld(t)
	bob := w.NewUser("bob")
	w.Grant(bob.ID, rbac.Owner, w.sub())
	token := w.tokenOf("bob")
	w.call(token, "GET", w.sub(), "").want(200)
	w.Must(w.Directory.UpdateUser(w.ctx, directory.System, bob.ID, func(u *directory.User) { u.Enabled = false }))
	for _, path := range []string{"/tenants", "/subscriptions", w.sub()} {
		w.call(token, "GET", path, "").want(401, "InvalidAuthenticationToken")
	}
}

func TestAuthorizationFailedSaysAll(t *testing.T) {
	w := newWorld(t)
	bob := w.NewUser("bob")
	got := decode[struct {
		Error struct{ Code, Message string }
	}](w.call(w.tokenOf("bob"), "DELETE", w.sub()+"/resourcegroups/RG", "").want(403))
	want := fmt.Sprintf("The client 'bob@gatehouse.test' with object id '%s' does not have authorization to perform action "+
		"'Microsoft.Resources/subscriptions/resourceGroups/delete' over scope '%s/resourceGroups/RG' or the scope is invalid. "+
		"If access was recently granted, please refresh your credentials.", bob.ID, w.sub())
	if got.Error.Code != "AuthorizationFailed" || got.Error.Message != want {
		t.Errorf("%+v, want %s", got.Error, want)
	}
}

func TestVersions(t *testing.T) {
	w := newWorld(t)
	token := w.tokenOf("admin")
	for query, want := range map[string]string{
		"x=1":                                "MissingApiVersionParameter",
		"api-version=":                       "MissingApiVersionParameter",
		"api-version=latest":                 "InvalidApiVersionParameter",
		"api-version=2021-13-01":             "InvalidApiVersionParameter",
		"api-version=2021-04-01%00":          "InvalidApiVersionParameter",
		"api-version=2021-04-01":             "",
		"api-version=2026-01-02-preview":     "",
		"API-VERSION=2021-04-01":             "MissingApiVersionParameter", // the parameter's name has one spelling here
		"api-version=2015-01-01&$filter=%27": "",
	} {
		a := w.call(token, "GET", w.sub()+"?"+query, "")
		if status := 400; want == "" {
			a.want(200)
		} else {
			a.want(status, want)
		}
	}
}

// TestNoRoleNoSubscriptions: such a person signs in and sees the tenant, as az login needs it.
func TestNoRoleNoSubscriptions(t *testing.T) {
	w := newWorld(t)
	bob := w.NewUser("bob")
	token := w.tokenOf("bob")
	type items struct{ Value []map[string]any }
	if got := decode[items](w.call(token, "GET", "/tenants", "").want(200)); len(got.Value) != 1 || got.Value[0]["tenantId"] != w.Tenant.ID.String() {
		t.Errorf("tenants: %v", got)
	}
	w.call(token, "GET", "/subscriptions", "").want(200, `"value":[]`)
	w.Grant(bob.ID, rbac.Reader, w.sub()+"/resourceGroups/rg")
	got := decode[items](w.call(token, "GET", "/subscriptions", "").want(200))
	if len(got.Value) != 1 || got.Value[0]["subscriptionId"] != w.Subscription.String() || got.Value[0]["state"] != "Enabled" {
		t.Errorf("with a role in a group: %v", got)
	}
}

func TestGroupRolesCount(t *testing.T) {
	w := newWorld(t)
	bob := w.NewUser("bob")
	inner, err := w.Directory.CreateGroup(w.ctx, directory.System, directory.NewGroup{
		Group: directory.Group{Tenant: w.Tenant.ID, DisplayName: "inner", MailNickname: "inner", SecurityEnabled: true}, Members: []directory.ID{bob.ID}})
	w.Must(err)
	outer, err := w.Directory.CreateGroup(w.ctx, directory.System, directory.NewGroup{
		Group: directory.Group{Tenant: w.Tenant.ID, DisplayName: "outer", MailNickname: "outer", SecurityEnabled: true}, Members: []directory.ID{inner.ID}})
	w.Must(err)
	token := w.tokenOf("bob")
	w.Grant(outer.ID, rbac.Reader, w.sub())
	w.call(token, "GET", w.sub(), "").want(200)
	w.Must(w.Directory.RemoveMember(w.ctx, directory.System, inner.ID, bob.ID))
	w.call(token, "GET", w.sub(), "").want(403)
}

func TestOtherTenants(t *testing.T) {
	w := newWorld(t)
	_, _, other := w.NewTenant("other.test")
	mine := w.tokenOf("admin")
	w.call(mine, "GET", "/subscriptions/"+other.String(), "").want(401, "InvalidAuthenticationTokenTenant")
	w.call(mine, "GET", "/subscriptions/"+w.NewID().String(), "").want(404, "SubscriptionNotFound")
	w.call(mine, "GET", "/subscriptions/nonsense", "").want(400, "InvalidSubscriptionId")
	if body := w.call(mine, "GET", "/subscriptions", "").want(200).Body.String(); strings.Contains(body, other.String()) {
		t.Error("the list shows another tenant's subscription")
	}
}

func TestGroups(t *testing.T) {
	w := newWorld(t)
	token := w.tokenOf("admin")
	path := w.sub() + "/resourcegroups/My.Group_1"
	w.call(token, "GET", path, "").want(404, "ResourceGroupNotFound")
	w.call(token, "HEAD", path, "").want(404)
	w.call(token, "PUT", path, `{"location":"Central US","tags":{"env":"test"}}`).want(201, `"location":"centralus"`, `"provisioningState":"Succeeded"`)
	w.call(token, "HEAD", strings.ToUpper(path), "").want(204)
	w.call(token, "GET", w.sub()+"/resourceGroups/MY.GROUP_1", "").want(200, `"name":"My.Group_1"`, "/resourceGroups/My.Group_1")
	w.call(token, "PUT", path, `{"location":"centralus"}`).want(200)
	w.call(token, "PUT", path, `{"location":"westeurope"}`).want(409, "InvalidResourceGroupLocation", "centralus")
	w.call(token, "PATCH", path, `{"tags":{"env":"prod"}}`).want(200, `"env":"prod"`)
	w.call(token, "PUT", w.sub()+"/resourceGroups/other", `{"location":"centralus"}`).want(201)
	if body := w.call(token, "GET", w.sub()+"/resourceGroups?api-version=2021-04-01&$filter=tagname%20eq%20'env'%20and%20tagvalue%20eq%20'prod'", "").want(200, "My.Group_1").Body.String(); strings.Contains(body, "other") {
		t.Errorf("the filter lets pass %s", body)
	}
	a := w.call(token, "DELETE", path, "").want(202)
	w.call(token, "GET", a.Header().Get("Location"), "").want(204)
	w.call(token, "GET", path, "").want(404)
	w.call(token, "DELETE", path, "").want(404, "ResourceGroupNotFound")
	w.Advance(2 * time.Hour)
	w.Must(arm.SweepOperations(w.ctx, w.Feed, w.Clock.Now()))
	w.call(w.tokenOf("admin"), "GET", a.Header().Get("Location"), "").want(404, "OperationNotFound")
}

func TestGroupsThatCannotBe(t *testing.T) {
	w := newWorld(t)
	token := w.tokenOf("admin")
	for _, c := range []struct{ name, body, code, says string }{
		{"ends.", `{"location":"centralus"}`, "InvalidResourceGroup", "ends."},
		{strings.Repeat("a", 91), `{"location":"centralus"}`, "InvalidResourceGroup", "90"},
		{"a;b", `{"location":"centralus"}`, "InvalidResourceGroup", "a;b"},
		{"a", `{"location":"atlantis"}`, "LocationNotAvailableForResourceGroup", "atlantis"},
		{"a", `{}`, "LocationRequired", "location"},
		{"a", ``, "LocationRequired", "location"},
		{"a", `{"location":5}`, "InvalidRequestContent", "location"},
		{"a", `{"location"`, "InvalidRequestContent", "JSON"},
		{"a", `{"location":"centralus","tags":{"a/b":"c"}}`, "InvalidTagName", "a/b"},
	} {
		w.call(token, "PUT", w.sub()+"/resourceGroups/"+c.name, c.body).want(400, c.code, c.says)
	}
}

// TestDeletedGroupLeavesNoRoles: who had a role in a group has none in a new one of the same name.
func TestDeletedGroupLeavesNoRoles(t *testing.T) {
	w := newWorld(t)
	bob := w.NewUser("bob")
	path := w.sub() + "/resourceGroups/rg"
	admin, token := w.tokenOf("admin"), w.tokenOf("bob")
	w.call(admin, "PUT", path, `{"location":"centralus"}`).want(201)
	w.Grant(bob.ID, rbac.Owner, strings.ToUpper(path))
	w.call(token, "GET", path, "").want(200)
	w.call(admin, "DELETE", path, "").want(202)
	w.call(admin, "PUT", path, `{"location":"centralus"}`).want(201)
	w.call(token, "GET", path, "").want(403)
}

// TestListsShowWhatOneMayRead also holds that a refusal does not tell what exists.
func TestListsShowWhatOneMayRead(t *testing.T) {
	w := newWorld(t)
	bob := w.NewUser("bob")
	admin, token := w.tokenOf("admin"), w.tokenOf("bob")
	for _, name := range []string{"one", "two"} {
		w.call(admin, "PUT", w.sub()+"/resourceGroups/"+name, `{"location":"centralus"}`).want(201)
	}
	w.call(token, "GET", w.sub()+"/resourceGroups", "").want(403, "AuthorizationFailed")
	w.Grant(bob.ID, rbac.Reader, w.sub()+"/resourceGroups/TWO")
	if body := w.call(token, "GET", w.sub()+"/resourceGroups", "").want(200, "two").Body.String(); strings.Contains(body, "one") {
		t.Errorf("Bob sees %s", body)
	}
	there, missing := w.call(token, "GET", w.sub()+"/resourceGroups/one", "").want(403), w.call(token, "GET", w.sub()+"/resourceGroups/none", "").want(403)
	if strings.ReplaceAll(there.Body.String(), "/one", "/none") != missing.Body.String() {
		t.Error("the refusals tell whether a group exists")
	}
}

// TestRoleTakenAwayMeanwhile: the right is checked again where the write happens.
func TestRoleTakenAwayMeanwhile(t *testing.T) {
	w := newWorld(t)
	bob := w.NewUser("bob")
	revoke := w.Grant(bob.ID, rbac.Owner, w.sub())
	token := w.tokenOf("bob")
	w.server.Providers = []arm.Provider{meddler{revoke}}
	w.web = w.server.Handler()
	w.call(token, "PUT", w.sub()+"/providers/Test.Meddler/things/a", "").want(403, "AuthorizationFailed")
}

// meddler revokes the caller's role between the first check and the write.
type meddler struct{ revoke func() }

func (m meddler) Namespace() arm.Namespace { return arm.Namespace{Name: "Test.Meddler"} }

func (m meddler) Mount(r *arm.Routes) {
	r.Handle("PUT /subscriptions/{subscription}/providers/Test.Meddler/things/{thing}", func(_ http.ResponseWriter, q *arm.Request) error {
		m.revoke()
		return q.Update(func(*feed.View) (feed.Change, error) { panic("planned for somebody without the right") })
	})
}

func (m meddler) Resources(*feed.View, directory.ID) []arm.Resource { return nil }

func (m meddler) RemoveGroup(*feed.View, *arm.Group, *arm.Operation) ([]feed.Record, bool) {
	return nil, true
}

func (m meddler) ManagerOf(*feed.View, directory.ID, string) *arm.ResourceID { return nil }

func TestProvidersAndFeatures(t *testing.T) {
	w := newWorld(t)
	token := w.tokenOf("admin")
	w.call(token, "GET", w.sub()+"/providers/microsoft.resources", "").want(200, `"registrationState":"Registered"`, `"namespace":"Microsoft.Resources"`)
	w.call(token, "POST", w.sub()+"/providers/Microsoft.Resources/register", "").want(200, "Registered")
	w.call(token, "GET", w.sub()+"/providers/Microsoft.Unknown", "").want(404, "InvalidResourceNamespace", "Microsoft.Unknown")
	feature := w.sub() + "/providers/Microsoft.Features/providers/Microsoft.Resources/features/SomePreview"
	w.call(token, "GET", feature, "").want(200, `"state":"NotRegistered"`)
	w.call(token, "POST", feature+"/register", "").want(200, `"state":"Registered"`, `"name":"Microsoft.Resources/SomePreview"`)
	w.call(token, "GET", strings.ToLower(feature), "").want(200, `"state":"Registered"`)
	w.call(token, "GET", w.sub()+"/locations", "").want(200, `"name":"centralus"`)
}

func TestEndpoints(t *testing.T) {
	w := newWorld(t)
	w.call("", "GET", "https://management.azure.com//metadata/endpoints?api-version=2015-01-01", "").
		want(200, `"graphEndpoint":"https://graph.microsoft.com"`, `"loginEndpoint":"https://login.microsoftonline.com"`, `"audiences":["https://management.core.windows.net/"`)
	w.call("", "GET", "https://localhost:8443/metadata/endpoints?api-version=2019-05-01", "").
		want(200, `[{`, `"name":"Gatehouse"`, `"resourceManager":"https://localhost:8443"`, `"loginEndpoint":"https://localhost:8443"`)
	w.call("", "GET", "https://management.gatehouse.internal:8443/metadata/endpoints?api-version=2022-09-01", "").
		want(200, `"loginEndpoint":"https://login.gatehouse.internal:8443"`, `"graph":"https://graph.gatehouse.internal:8443"`)
	w.call("", "GET", "https://localhost:8443/metadata/endpoints?x=", "").want(400, "MissingApiVersionParameter")
}

func TestUnknownPlaces(t *testing.T) {
	w := newWorld(t)
	token := w.tokenOf("admin")
	w.call(token, "GET", "/nowhere", "").want(404, `"error":{"code":"NotFound"`)
	w.call(token, "DELETE", "/tenants", "").want(405, "MethodNotAllowed")
}
