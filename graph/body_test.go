package graph

import (
	"strings"
	"testing"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// TestBodies: a wrong body is refused with a message that names the property.
func TestBodies(t *testing.T) {
	w := newWorld(t)
	group := func(more string) string {
		return `{"displayName":"x","mailNickname":"x","mailEnabled":false,"securityEnabled":true` + more + `}`
	}
	many := strings.TrimPrefix(strings.Repeat(`,"https://x/`+w.bob.ID.String()+`"`, maxBinds+1), ",")
	app, err := w.dir.CreateApplication(t.Context(), directory.System, directory.Application{Tenant: w.tenant.ID, DisplayName: "robot"})
	must(t, err)
	for _, c := range []struct{ method, path, body, message string }{
		{"POST", "/groups", `[]`, "must be a JSON object"},
		{"POST", "/groups", `{"displayName":"x"`, "not the JSON expected"},
		{"POST", "/groups", `{}`, "'displayName'"},
		{"POST", "/groups", group(`,"colour":"red"`), "'colour' is not a property of resource 'Group'"},
		{"POST", "/groups", group(`,"id":"x"`), "'id' of resource 'Group' is read-only"},
		{"POST", "/groups", group(`,"DisplayName":"y"`), "names match in any letter case"},
		{"POST", "/groups", group(`,"description":5`), "'description' must be a string or null; it is 5"},
		{"POST", "/groups", group(`,"groupTypes":["DynamicMembership"]`), "DynamicMembership"},
		{"POST", "/groups", group(`,"visibility":"HiddenMembership"`), "HiddenMembership"},
		{"POST", "/groups", group(`,"members@odata.bind":[` + many + `]`), "members@odata.bind holds 21 references"},
		{"POST", "/groups", group(`,"members@odata.bind":["https://x/y"]`), "'https://x/y' does not end in an object id"},
		{"POST", "/groups/" + w.owned.ID.String() + "/members/$ref", `{}`, `"@odata.id"`},
		{"POST", "/groups/" + w.owned.ID.String() + "/members/$ref", `{"@odata.id":5}`, "@odata.id"},
		{"PATCH", "/groups/" + w.owned.ID.String(), `{"isAssignableToRole":true}`, "can be set at creation only"},
		{"PATCH", "/groups/" + w.owned.ID.String(), `{"securityEnabled":null}`, "must be true or false"},
		{"PATCH", "/groups/" + w.owned.ID.String(), `{"displayName":"x","members@odata.bind":["https://x/` + w.bob.ID.String() + `"]}`, "send two requests"},
		{"POST", "/users", `{"accountEnabled":true,"displayName":"x","mailNickname":"x","userPrincipalName":"x@elsewhere.example","passwordProfile":{"password":"Correct-Horse-7"}}`, "gatehouse.internal"},
		{"POST", "/users", `{"accountEnabled":true,"displayName":"x","mailNickname":"x","userPrincipalName":"system:admin@gatehouse.internal","passwordProfile":{"password":"Correct-Horse-7"}}`, "the character :"},
		{"POST", "/users", `{"accountEnabled":true,"displayName":"x","mailNickname":"x","userPrincipalName":"x@gatehouse.internal","passwordProfile":{"password":"secretsecret"}}`, "password complexity"},
		{"POST", "/users", `{"accountEnabled":true,"displayName":"x","mailNickname":"x","userPrincipalName":"x@gatehouse.internal","passwordProfile":{}}`, "passwordProfile.password"},
		{"POST", "/users", `{"accountEnabled":true,"displayName":"x","mailNickname":"x","userPrincipalName":"x@gatehouse.internal","passwordProfile":"Correct-Horse-7"}`, "'passwordProfile' must be an object"},
		{"PATCH", "/users/" + w.bob.ID.String(), `{"userType":"Robot"}`, "Member or Guest"},
		{"PATCH", "/users/" + w.bob.ID.String(), `{"passwordProfile":{"password":""}}`, "password complexity"},
		{"POST", "/users/" + w.bob.ID.String() + "/getMemberGroups", `{}`, "securityEnabledOnly"},
		{"POST", "/users/" + w.bob.ID.String() + "/checkMemberGroups", `{"groupIds":["x"]}`, "Invalid object identifier 'x'"},
		{"POST", "/users/" + w.bob.ID.String() + "/checkMemberGroups", `{}`, "'ids'"},
		{"POST", "/directoryObjects/getByIds", `{"ids":"x"}`, "'ids' must be a list of object ids"},
		{"PATCH", "/applications/" + app.ID.String(), `{"keyCredentials":[{"key":"x"}]}`, "keyCredentials.key is not base64"},
		{"PATCH", "/applications/" + app.ID.String(), `{"signInAudience":"AzureADMultipleOrgs"}`, "only 'AzureADMyOrg' is supported"},
		{"PATCH", "/applications/" + app.ID.String(), `{"identifierUris":["spn:x"]}`, `"spn:x"`},
		{"PATCH", "/applications/" + app.ID.String(), `{"web":{"redirectUris":["http://evil.example/"]}}`, `"http://evil.example/"`},
		{"PATCH", "/applications/" + app.ID.String(), `{"publicClient":{"redirectUris":["javascript:alert(1)"]}}`, "javascript"},
		{"PATCH", "/applications/" + app.ID.String(), `{"api":{"requestedAccessTokenVersion":3}}`, "requestedAccessTokenVersion is 3"},
		{"POST", "/applications/" + app.ID.String() + "/addPassword", `{"passwordCredential":{"endDateTime":"2020-01-01T00:00:00Z"}}`, "endDateTime 2020-01-01T00:00:00Z has passed"},
		{"POST", "/applications/" + app.ID.String() + "/addPassword", `{"passwordCredential":{"secretText":"mine"}}`, "the server makes the secret"},
		{"POST", "/servicePrincipals", `{"appId":"` + w.bob.ID.String() + `"}`, "does not reference a valid application object"},
	} {
		got := w.asAdmin(c.method, c.path, c.body).want(400, "Request_BadRequest")
		message := got.text("error/message")
		if !strings.Contains(message, c.message) {
			t.Errorf("%s %s %s: message %q, want one with %q", c.method, c.path, c.body, message, c.message)
		}
		for _, secret := range []string{"Correct-Horse-7", "secretsecret"} {
			if strings.Contains(message, secret) {
				t.Errorf("%s %s: the message shows the password: %s", c.method, c.path, message)
			}
		}
	}
	// What answers show may come back.
	w.asAdmin("PATCH", "/groups/"+w.owned.ID.String(), `{"isAssignableToRole":false,"mailEnabled":false,"groupTypes":[],"description":"ours"}`).want(204, "")
	if got := w.asAdmin("GET", "/groups/"+w.owned.ID.String(), "").text("description"); got != "ours" {
		t.Errorf("description is %q", got)
	}
	shown := w.asAdmin("GET", "/applications/"+app.ID.String()+"?$select=api,web,appRoles,signInAudience", "").want(200, "")
	body := strings.Replace(shown.body, `"requestedAccessTokenVersion":null`, `"requestedAccessTokenVersion":2`, 1)
	body = body[strings.Index(body, `"signInAudience"`):]
	w.asAdmin("PATCH", "/applications/"+app.ID.String(), "{"+strings.Replace(body, `"appRoles":[],`, "", 1)).want(204, "")
	if got := w.asAdmin("GET", "/applications/"+app.ID.String(), "").at("api/requestedAccessTokenVersion"); got != 2.0 {
		t.Errorf("requestedAccessTokenVersion is %v", got)
	}
}

// FuzzReference: an id is taken from the end of a reference only.
func FuzzReference(f *testing.F) {
	const id = "0b51e8ba-5a3a-4d2f-9d49-6a8a5e8a7c01"
	for _, ref := range []string{"https://graph.microsoft.com/v1.0/directoryObjects/" + id, "https://localhost:8443/v1.0/users('" + id + "')", id, "//" + id, "https://x/" + id + "?a=b", "https://x/", "%", ""} {
		f.Add(ref)
	}
	f.Fuzz(func(t *testing.T, ref string) {
		got, err := referenceID(ref)
		if err == nil && !strings.Contains(strings.ToLower(ref), got.String()) && !strings.Contains(ref, "%") {
			t.Errorf("%q names %s, which is not in it", ref, got)
		}
	})
}

// FuzzKeySegment: what is no key stays as it is, and a key never leaves its segment.
func FuzzKeySegment(f *testing.F) {
	for _, s := range []string{"users('a@b')", "users('o''hara@b')", "applications(appId='1')", "users(", "users()", "users('')", "('x')", "users('a')b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := keySegment(s)
		if got != s && !(strings.HasPrefix(got, s[:strings.IndexByte(s, '(')]+"/") && strings.HasSuffix(s, "')")) {
			t.Errorf("%q became %q", s, got)
		}
	})
}
