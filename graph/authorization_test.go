package graph

import (
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/directory"
)

// TestAuthorization is the table of who may do what. Names in braces are replaced by ids.
func TestAuthorization(t *testing.T) {
	w := newWorld(t)
	admins := w.group("admins", directory.NewGroup{Members: []directory.ID{w.alice.ID}})
	other, otherAdmin := w.newTenant("Fabrikam", "fabrikam.internal")
	stranger, err := w.dir.CreateGroup(t.Context(), directory.System, directory.NewGroup{Group: directory.Group{
		Tenant: other.ID, DisplayName: "strangers", MailNickname: "strangers", SecurityEnabled: true}})
	must(t, err)
	app, err := w.dir.CreateApplication(t.Context(), directory.System, directory.Application{Tenant: w.tenant.ID, DisplayName: "robot"})
	must(t, err)
	ids := strings.NewReplacer("{admins}", admins.ID.String(), "{owned}", w.owned.ID.String(), "{alice}", w.alice.ID.String(),
		"{bob}", w.bob.ID.String(), "{gina}", w.gina.ID.String(), "{admin}", w.admin.ID.String(), "{app}", app.ID.String(), "{appId}", app.AppID.String(),
		"{stranger}", stranger.ID.String(), "{otherAdmin}", otherAdmin.ID.String(), "{other}", other.ID.String())
	ref := func(name string) string {
		return `{"@odata.id": "https://graph.microsoft.com/v1.0/directoryObjects/` + name + `"}`
	}
	const (
		denied  = "Authorization_RequestDenied"
		missing = "Request_ResourceNotFound"
	)
	admin, alice, bob, gina := w.admin.UPN, w.alice.UPN, w.bob.UPN, w.gina.UPN
	for _, c := range []struct {
		name, who, method, path, body string
		status                        int
		code                          string
	}{
		{"a member reads users", bob, "GET", "/users", "", 200, ""},
		{"a member reads groups", bob, "GET", "/groups/{admins}/members", "", 200, ""},
		{"a member asks who is in what", bob, "POST", "/directoryObjects/{alice}/getMemberGroups", `{"securityEnabledOnly":false}`, 200, ""},
		{"a member reads the organization", bob, "GET", "/organization", "", 200, ""},
		{"Bob adds himself to the admin group", bob, "POST", "/groups/{admins}/members/$ref", ref("{bob}"), 403, denied},
		{"Bob adds himself by PATCH", bob, "PATCH", "/groups/{admins}", `{"members@odata.bind":["https://graph.microsoft.com/v1.0/directoryObjects/{bob}"]}`, 403, denied},
		{"Bob makes himself an owner", bob, "POST", "/groups/{admins}/owners/$ref", ref("{bob}"), 403, denied},
		{"Bob removes a member", bob, "DELETE", "/groups/{admins}/members/{alice}/$ref", "", 403, denied},
		{"Bob resets a password", bob, "PATCH", "/users/{alice}", `{"passwordProfile":{"password":"Hacked-By-Bob-1"}}`, 403, denied},
		{"Bob resets his own password as an administrator does", bob, "PATCH", "/users/{bob}", `{"passwordProfile":{"password":"Hacked-By-Bob-1"}}`, 403, denied},
		{"Bob resets a password to a bad one", bob, "PATCH", "/users/{alice}", `{"passwordProfile":{"password":"x"}}`, 403, denied},
		{"Bob enables an account", bob, "PATCH", "/users/{alice}", `{"accountEnabled":true}`, 403, denied},
		{"Bob changes himself", bob, "PATCH", "/me", `{"jobTitle":"Boss"}`, 403, denied},
		{"Bob changes nothing", bob, "PATCH", "/users/{alice}", `{}`, 403, denied},
		{"Bob deletes a user", bob, "DELETE", "/users/{alice}", "", 403, denied},
		{"Bob creates a user", bob, "POST", "/users", `{"accountEnabled":true,"displayName":"Eve","mailNickname":"eve","userPrincipalName":"eve@` + domain + `","passwordProfile":{"password":"Hacked-By-Bob-1"}}`, 403, denied},
		{"Bob creates a user with a bad password", bob, "POST", "/users", `{"accountEnabled":true,"displayName":"Eve","mailNickname":"eve","userPrincipalName":"eve@` + domain + `","passwordProfile":{"password":"x"}}`, 403, denied},
		{"Bob creates a group", bob, "POST", "/groups", `{"displayName":"x","mailNickname":"x","mailEnabled":false,"securityEnabled":true}`, 403, denied},
		{"Bob renames a group", bob, "PATCH", "/groups/{admins}", `{"displayName":"x"}`, 403, denied},
		{"Bob deletes a group", bob, "DELETE", "/groups/{admins}", "", 403, denied},
		{"Bob registers an application", bob, "POST", "/applications", `{"displayName":"x"}`, 403, denied},
		{"Bob makes a secret for an application", bob, "POST", "/applications/{app}/addPassword", `{}`, 403, denied},
		{"Bob makes a service principal", bob, "POST", "/servicePrincipals", `{"appId":"{appId}"}`, 403, denied},
		{"Bob ends the administrator's sessions", bob, "POST", "/users/{admin}/revokeSignInSessions", "", 403, denied},

		{"an owner adds a member", alice, "POST", "/groups/{owned}/members/$ref", ref("{bob}"), 204, ""},
		{"an owner removes a member", alice, "DELETE", "/groups/{owned}/members/{bob}/$ref", "", 204, ""},
		{"an owner adds members by PATCH", alice, "PATCH", "/groups/{owned}", `{"members@odata.bind":["https://graph.microsoft.com/v1.0/directoryObjects/{bob}"]}`, 204, ""},
		{"an owner adds an owner", alice, "POST", "/groups/{owned}/owners/$ref", ref("{admin}"), 204, ""},
		{"an owner does not rename the group", alice, "PATCH", "/groups/{owned}", `{"displayName":"mine"}`, 403, denied},
		{"an owner does not delete the group", alice, "DELETE", "/groups/{owned}", "", 403, denied},
		{"an owner of one group has nothing to say in another", alice, "POST", "/groups/{admins}/members/$ref", ref("{bob}"), 403, denied},

		{"a guest reads about themselves", gina, "GET", "/me", "", 200, ""},
		{"a guest reads their groups", gina, "GET", "/me/memberOf", "", 200, ""},
		{"a guest reads their groups with themselves", gina, "GET", "/me?$expand=memberOf($select=id)", "", 200, ""},
		{"a guest reads no members through their groups", gina, "GET", "/me/memberOf?$expand=members($select=userPrincipalName,mobilePhone)", "", 400, "Request_BadRequest"},
		{"a guest reads no owners through their groups", gina, "GET", "/me/memberOf/microsoft.graph.group?$expand=owners", "", 400, "Request_BadRequest"},
		{"a guest reads no members through any group", gina, "GET", "/me/transitiveMemberOf?expand=members", "", 400, "Request_BadRequest"},
		{"a guest reads no owners through what they own", gina, "GET", "/me/ownedObjects?$expand=owners", "", 400, "Request_BadRequest"},
		{"a guest reads no owners through themselves", gina, "GET", "/me?$expand=owners", "", 400, "Request_BadRequest"},
		{"a guest reads no users", gina, "GET", "/users", "", 403, denied},
		{"a guest reads no groups", gina, "GET", "/groups/{admins}", "", 403, denied},
		{"a guest reads not even their own entry", gina, "GET", "/users/{gina}", "", 403, denied},
		{"a guest asks for no names", gina, "POST", "/directoryObjects/getByIds", `{"ids":["{alice}"]}`, 403, denied},

		{"another tenant's group does not exist", admin, "GET", "/groups/{stranger}", "", 404, missing},
		{"another tenant's group does not exist as an object", admin, "GET", "/directoryObjects/{stranger}", "", 404, missing},
		{"another tenant's group cannot be changed", admin, "PATCH", "/groups/{stranger}", `{"displayName":"ours"}`, 404, missing},
		{"another tenant's group cannot be deleted", admin, "DELETE", "/groups/{stranger}", "", 404, missing},
		{"another tenant's group gets no member", admin, "POST", "/groups/{stranger}/members/$ref", ref("{bob}"), 404, missing},
		{"another tenant's user gets in no group", admin, "POST", "/groups/{admins}/members/$ref", ref("{otherAdmin}"), 404, missing},
		{"another tenant's user is not in the way of a new group", admin, "POST", "/groups", `{"displayName":"x","mailNickname":"x","mailEnabled":false,"securityEnabled":true,"owners@odata.bind":["https://x/{otherAdmin}"]}`, 404, missing},
		{"another tenant's user does not exist by name", admin, "GET", "/users/admin@fabrikam.internal", "", 404, missing},
		{"another tenant's user keeps the password", admin, "PATCH", "/users/{otherAdmin}", `{"passwordProfile":{"password":"Hacked-By-Admin-1"}}`, 404, missing},
		{"another tenant is not the organization", admin, "GET", "/organization/{other}", "", 404, missing},
		{"another tenant's domain is not ours", admin, "GET", "/domains/fabrikam.internal", "", 404, missing},

		{"the last administrator cannot be disabled", admin, "PATCH", "/users/{admin}", `{"accountEnabled":false}`, 400, "Request_BadRequest"},
		{"the last administrator cannot be deleted", admin, "DELETE", "/users/{admin}", "", 400, "Request_BadRequest"},

		{"without a token", "", "GET", "/users", "", 401, "InvalidAuthenticationToken"},
		{"with something else", "abc.def.ghi", "GET", "/users", "", 401, "InvalidAuthenticationToken"},
	} {
		got := w.call(c.who, c.method, ids.Replace(c.path), ids.Replace(c.body))
		if got.status != c.status || got.text("error/code") != c.code {
			t.Errorf("%s: %d %s, want %d %q", c.name, got.status, got.body, c.status, c.code)
		}
		if c.code == denied && got.text("error/message") != "Insufficient privileges to complete the operation." {
			t.Errorf("%s: message %q", c.name, got.text("error/message"))
		}
	}
	seen := w.asAdmin("POST", "/directoryObjects/getByIds", `{"ids":["`+stranger.ID.String()+`","`+otherAdmin.ID.String()+`"]}`).want(200, "")
	if len(seen.values("id")) != 0 {
		t.Errorf("getByIds shows another tenant: %s", seen.body)
	}
	if all := w.asAdmin("GET", "/users?$top=999", "").want(200, "").body; strings.Contains(all, "fabrikam.internal") {
		t.Errorf("the list shows another tenant: %s", all)
	}
}

// TestTokens: what a token is good for is decided by its audience, its scopes and the account behind it now.
func TestTokens(t *testing.T) {
	w := newWorld(t)
	ask := func(upn, scope string) string {
		return w.freshToken(url.Values{"grant_type": {"password"}, "client_id": {directory.AzureCLI.String()}, "username": {upn}, "password": {password}, "scope": {scope}})
	}
	w.call(ask(w.admin.UPN, "https://management.azure.com/.default"), "GET", "/me", "").want(401, "InvalidAuthenticationToken")
	w.call(ask(w.admin.UPN, directory.AKSServer.String()+"/.default"), "GET", "/me", "").want(401, "InvalidAuthenticationToken")
	for _, name := range []string{"https://graph.microsoft.com/.default", "https://graph.microsoft.com//.default", directory.Graph.String() + "/.default"} {
		w.call(ask(w.admin.UPN, name), "GET", "/users", "").want(200, "")
	}
	small := ask(w.admin.UPN, "https://graph.microsoft.com/User.Read")
	w.call(small, "GET", "/me", "").want(200, "")
	w.call(small, "GET", "/users", "").want(403, "Authorization_RequestDenied")
	w.group("readers", directory.NewGroup{Members: []directory.ID{w.admin.ID, w.bob.ID}})
	w.call(small, "GET", "/me/memberOf", "").want(200, "")
	if got := w.call(small, "GET", "/me/memberOf?$expand=members", "").want(400, "Request_BadRequest"); !strings.Contains(got.text("error/message"), "'$expand' is not supported here") || strings.Contains(got.body, w.bob.UPN) {
		t.Errorf("members of one's groups: %s", got.body)
	}
	w.call(small, "POST", "/me/changePassword", `{"currentPassword":"a","newPassword":"b"}`).want(403, "Authorization_RequestDenied")
	reader := ask(w.admin.UPN, "https://graph.microsoft.com/Directory.Read.All")
	w.call(reader, "GET", "/users", "").want(200, "")
	w.call(reader, "PATCH", "/users/"+w.bob.ID.String(), `{"jobTitle":"x"}`).want(403, "Authorization_RequestDenied")

	w.token(w.bob.UPN)
	w.advance(time.Second)
	w.asAdmin("POST", "/users/"+w.bob.ID.String()+"/revokeSignInSessions", "").want(200, "")
	w.call(w.bob.UPN, "GET", "/me", "").want(401, "InvalidAuthenticationToken")
	w.call(w.alice.UPN, "GET", "/me", "").want(200, "")
	w.advance(3 * time.Hour)
	w.asAdmin("GET", "/me", "").want(503, "ServiceUnavailable") // the database was silent for hours of the test's clock
	must(t, w.feed.CatchUp(t.Context()))
	expired := w.call(w.alice.UPN, "GET", "/me", "").want(401, "InvalidAuthenticationToken")
	if !strings.Contains(expired.text("error/message"), "expired") || !strings.HasPrefix(expired.header.Get("WWW-Authenticate"), "Bearer ") {
		t.Errorf("an expired token: %s %v", expired.body, expired.header)
	}
}

// TestChangePassword: the owner of an account changes the password, guesses are few.
func TestChangePassword(t *testing.T) {
	w := newWorld(t)
	change := func(current, next string) answer {
		return w.call(w.bob.UPN, "POST", "/me/changePassword", `{"currentPassword":"`+current+`","newPassword":"`+next+`"}`)
	}
	change("Wrong-Horse-7", "Better-Horse-8").want(400, "Request_BadRequest")
	change(password, password).want(400, "Request_BadRequest")
	change(password, "short").want(400, "Request_BadRequest")
	w.advance(time.Second)
	change(password, "Better-Horse-8").want(204, "")
	change("Better-Horse-8", "Best-Horse-9").want(401, "InvalidAuthenticationToken") // the change ended all sessions
	if a := w.requestToken(url.Values{"grant_type": {"password"}, "client_id": {directory.AzureCLI.String()}, "username": {w.bob.UPN}, "password": {password}, "scope": {"https://graph.microsoft.com/.default"}}); a.status == 200 {
		t.Error("the old password still signs in")
	}

	for range presentGuesses.Wrong {
		w.call(w.alice.UPN, "POST", "/me/changePassword", `{"currentPassword":"Wrong-Horse-7","newPassword":"Better-Horse-8"}`).want(400, "Request_BadRequest")
	}
	limited := w.call(w.alice.UPN, "POST", "/me/changePassword", `{"currentPassword":"`+password+`","newPassword":"Better-Horse-8"}`).want(429, "TooManyRequests")
	if limited.header.Get("Retry-After") == "" {
		t.Errorf("no Retry-After: %v", limited.header)
	}
	w.advance(presentGuesses.Lock)
	must(t, w.feed.CatchUp(t.Context()))
	w.call(w.alice.UPN, "POST", "/me/changePassword", `{"currentPassword":"`+password+`","newPassword":"Better-Horse-8"}`).want(204, "")
	w.call("", "POST", "/me/changePassword", `{}`).want(401, "InvalidAuthenticationToken")
}

// TestAudit: every write and every refusal leaves an event, and no event holds a secret.
func TestAudit(t *testing.T) {
	w := newWorld(t)
	made := w.asAdmin("POST", "/groups", `{"displayName":"x","mailNickname":"x","mailEnabled":false,"securityEnabled":true}`).want(201, "")
	w.call(w.bob.UPN, "PATCH", "/users/"+w.alice.ID.String(), `{"passwordProfile":{"password":"Hacked-By-Bob-1"}}`).want(403, "Authorization_RequestDenied")
	refused := w.call("nonsense", "GET", "/users", "").want(401, "InvalidAuthenticationToken")
	w.asAdmin("PATCH", "/users/"+w.alice.ID.String(), `{"passwordProfile":{"password":"Reset-By-Admin-1"}}`).want(204, "")
	w.asAdmin("GET", "/users", "").want(200, "")
	w.asAdmin("POST", "/groups", `{}`).want(400, "Request_BadRequest")

	var got []audit.Event
	for _, e := range w.events() {
		if strings.HasPrefix(e.Action, "POST /") || strings.HasPrefix(e.Action, "GET /") || strings.HasPrefix(e.Action, "PATCH /") {
			got = append(got, e)
		}
	}
	want := []audit.Event{
		{Action: "POST /groups", Actor: w.admin.ID.String(), Target: made.text("id"), Outcome: audit.Allowed, Request: made.header.Get("x-ms-request-id")},
		{Action: "PATCH /users/{id}", Actor: w.bob.ID.String(), Target: w.alice.ID.String(), Outcome: audit.Denied},
		{Action: "GET /users", Outcome: audit.Denied, Request: refused.text("error/innerError/request-id")},
		{Action: "PATCH /users/{id}", Actor: w.admin.ID.String(), Target: w.alice.ID.String(), Outcome: audit.Allowed},
	}
	if len(got) != len(want) {
		t.Fatalf("%d events, want %d: %+v", len(got), len(want), got)
	}
	for i, e := range got {
		x := want[i]
		if e.Action != x.Action || e.Actor != x.Actor || e.Target != x.Target || e.Outcome != x.Outcome || (x.Request != "" && e.Request != x.Request) || e.Request == "" {
			t.Errorf("event %d is %+v, want %+v", i, e, x)
		}
	}
	if raw, err := os.ReadFile(w.audited); err != nil || strings.Contains(string(raw), "Hacked-By-Bob") || strings.Contains(string(raw), "Reset-By-Admin") {
		t.Errorf("the audit shows a password (%v)", err)
	}
	if got[3].Details["passwordProfile"] != "reset" {
		t.Errorf("the reset is not told as one: %+v", got[3])
	}
}
