package graph

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// TestAzGroups replays what az ad group sends and checks what it reads.
func TestAzGroups(t *testing.T) {
	w := newWorld(t)
	w.asAdmin("GET", "/groups"+filterQuery("displayName eq 'myAKSAdminGroup' and mailNickname eq 'myAKSAdminGroup'"), "").want(200, "")
	made := w.asAdmin("POST", "/groups", `{"displayName": "myAKSAdminGroup", "mailNickname": "myAKSAdminGroup", "mailEnabled": false, "securityEnabled": true}`).want(201, "")
	id := made.text("id")
	for _, field := range []string{"id", "displayName", "mailNickname", "mailEnabled", "securityEnabled", "groupTypes", "createdDateTime"} {
		if made.at(field) == nil {
			t.Errorf("the new group has no %s: %s", field, made.body)
		}
	}
	if _, has := made.json["value"]; has {
		t.Error("a single object has a member 'value', which az takes for a list")
	}
	for _, filter := range []string{"displayname eq 'myAKSAdminGroup'", "startswith(displayName,'MYAKS')"} {
		if got := w.asAdmin("GET", "/groups"+filterQuery(filter), "").want(200, "").values("id"); !slices.Equal(got, []string{id}) {
			t.Errorf("%s: %v, want %s", filter, got, id)
		}
	}
	w.asAdmin("GET", "/groups/"+id, "").want(200, "")

	ref := `{"@odata.id": "https://graph.microsoft.com/v1.0/directoryObjects/` + w.alice.ID.String() + `"}`
	w.asAdmin("POST", "/groups/"+id+"/members/$ref", ref).want(204, "")
	again := w.asAdmin("POST", "/groups/"+id+"/members/$ref", ref).want(400, "Request_BadRequest")
	if !strings.HasPrefix(again.text("error/message"), "One or more added object references already exist") {
		t.Errorf("a duplicate member: %s", again.body)
	}
	list := w.asAdmin("GET", "/groups/"+id+"/members", "").want(200, "")
	if list.text("value/0/id") != w.alice.ID.String() || list.text("value/0/@odata.type") != "#microsoft.graph.user" {
		t.Errorf("members: %s", list.body)
	}
	for _, spelling := range []string{id, strings.ToUpper(id)} {
		in := w.asAdmin("POST", "/directoryObjects/"+w.alice.ID.String()+"/checkMemberGroups", `{"groupIds": ["`+spelling+`"]}`).want(200, "")
		if got := in.values(""); !slices.Equal(got, []string{spelling}) {
			t.Errorf("checkMemberGroups of %s: %v", spelling, got)
		}
	}
	if got := w.asAdmin("POST", "/directoryObjects/"+w.bob.ID.String()+"/checkMemberGroups", `{"groupIds": ["`+id+`"]}`).want(200, "").values(""); len(got) != 0 {
		t.Errorf("Bob is in %v", got)
	}
	w.asAdmin("GET", "/groups/"+id+"/owners", "").want(200, "")
	w.asAdmin("POST", "/groups/"+id+"/owners/$ref", ref).want(204, "")
	w.asAdmin("DELETE", "/groups/"+id+"/owners/"+w.alice.ID.String()+"/$ref", "").want(204, "")
	w.asAdmin("DELETE", "/groups/"+id+"/members/"+w.alice.ID.String()+"/$ref", "").want(204, "")
	w.asAdmin("DELETE", "/groups/"+id+"/members/"+w.alice.ID.String()+"/$ref", "").want(404, "Request_ResourceNotFound")
	w.asAdmin("DELETE", "/groups/"+id, "").want(204, "")
	gone := w.asAdmin("GET", "/groups/"+id, "").want(404, "Request_ResourceNotFound")
	if want := "Resource '" + id + "' does not exist or one of its queried reference-property objects are not present."; gone.text("error/message") != want {
		t.Errorf("a deleted group: %s", gone.body)
	}
}

// TestNestedGroups looks through three levels and a circle.
func TestNestedGroups(t *testing.T) {
	w := newWorld(t)
	inner := w.group("inner", directory.NewGroup{Members: []directory.ID{w.alice.ID}})
	middle := w.group("middle", directory.NewGroup{Members: []directory.ID{inner.ID}})
	outer := w.group("outer", directory.NewGroup{Members: []directory.ID{middle.ID}})
	w.asAdmin("POST", "/groups/"+inner.ID.String()+"/members/$ref", `{"@odata.id":"https://localhost:8443/v1.0/groups/`+outer.ID.String()+`"}`).want(204, "")

	all := []string{inner.ID.String(), middle.ID.String(), outer.ID.String()}
	slices.Sort(all)
	for _, path := range []string{"/users/alice@" + domain, "/me", "/directoryObjects/" + w.alice.ID.String(), "/users('ALICE@" + domain + "')"} {
		if got := w.call(w.alice.UPN, "POST", path+"/getMemberGroups", `{"securityEnabledOnly": false}`).want(200, "").values(""); !slices.Equal(got, all) {
			t.Errorf("POST %s/getMemberGroups: %v, want %v", path, got, all)
		}
	}
	if got := w.asAdmin("GET", "/users/"+w.alice.ID.String()+"/transitiveMemberOf/microsoft.graph.group?$select=id", "").want(200, "").values("id"); !slices.Equal(got, all) {
		t.Errorf("transitiveMemberOf: %v, want %v", got, all)
	}
	if got := w.asAdmin("GET", "/me/memberOf/$count", "", "ConsistencyLevel", "eventual").want(200, "").body; got != "0" {
		t.Errorf("the administrator is in %s groups, want 0", got)
	}
	if got := w.asAdmin("GET", "/groups/"+outer.ID.String()+"/transitiveMembers/microsoft.graph.user", "").want(200, "").values("id"); !slices.Equal(got, []string{w.alice.ID.String()}) {
		t.Errorf("transitiveMembers: %v", got)
	}
	if got := w.asAdmin("GET", "/groups/"+outer.ID.String()+"/members", "").want(200, "").values("@odata.type"); !slices.Equal(got, []string{"#microsoft.graph.group"}) {
		t.Errorf("members of outer: %v", got)
	}
	w.asAdmin("POST", "/groups/"+outer.ID.String()+"/getMemberGroups", `{"securityEnabledOnly": true}`).want(400, "Request_BadRequest")
}

// TestAzUsers replays what az ad user and az ad signed-in-user send.
func TestAzUsers(t *testing.T) {
	w := newWorld(t)
	made := w.asAdmin("POST", "/users", `{"userPrincipalName": "Carol@`+domain+`", "displayName": "Carol", "passwordProfile": {"password": "Correct-Horse-7", "forceChangePasswordNextSignIn": false}, "mailNickname": "carol", "accountEnabled": true}`).want(201, "")
	id := made.text("id")
	if made.text("userPrincipalName") != "Carol@"+domain || strings.Contains(made.body, "Horse") {
		t.Errorf("the new user: %s", made.body)
	}
	w.asAdmin("POST", "/users", `{"userPrincipalName": "carol@`+domain+`", "displayName": "Carol", "passwordProfile": {"password": "Correct-Horse-7"}, "mailNickname": "carol", "accountEnabled": true}`).want(400, "Request_BadRequest")
	for _, path := range []string{"/users/" + id, "/users/carol@" + domain, "/users('carol@" + domain + "')", "/directoryObjects/" + strings.ToUpper(id)} {
		if got := w.asAdmin("GET", path, "").want(200, ""); got.text("id") != id {
			t.Errorf("GET %s: %s", path, got.body)
		}
	}
	if got := w.asAdmin("GET", "/users/"+url.PathEscape(w.gina.UPN), "").want(200, "").text("id"); got != w.gina.ID.String() {
		t.Errorf("a UPN with %%23: %s", got)
	}
	if got := w.asAdmin("GET", "/users"+filterQuery("userPrincipalName eq 'CAROL@"+domain+"' and startswith(displayName,'car')"), "").want(200, "").values("id"); !slices.Equal(got, []string{id}) {
		t.Errorf("list by UPN: %v", got)
	}
	w.token("carol@" + domain)
	w.call("carol@"+domain, "GET", "/me", "").want(200, "")
	w.asAdmin("PATCH", "/users/"+id, `{"accountEnabled": false}`).want(204, "")
	w.call("carol@"+domain, "GET", "/me", "").want(401, "InvalidAuthenticationToken")
	w.asAdmin("PATCH", "/users/"+id, `{"accountEnabled": true, "JobTitle": "Pilot"}`).want(204, "")
	if got := w.call("carol@"+domain, "GET", "/me", "").want(200, "").text("jobTitle"); got != "Pilot" {
		t.Errorf("jobTitle is %q", got)
	}
	w.advance(time.Second)
	w.asAdmin("PATCH", "/users/"+id, `{"passwordProfile": {"password": "Another-Horse-8", "forceChangePasswordNextSignIn": true}}`).want(204, "")
	w.call("carol@"+domain, "GET", "/me", "").want(401, "InvalidAuthenticationToken")
	w.asAdmin("DELETE", "/users/"+id, "").want(204, "")
	w.asAdmin("GET", "/users/"+id, "").want(404, "Request_ResourceNotFound")

	names := w.asAdmin("POST", "/directoryObjects/getByIds", `{"ids": ["`+w.alice.ID.String()+`", "`+w.owned.ID.String()+`", "`+id+`"], "types": ["user", "group", "servicePrincipal", "directoryObjectPartnerReference"]}`).want(200, "")
	if got := names.values("@odata.type"); !slices.Equal(got, []string{"#microsoft.graph.user", "#microsoft.graph.group"}) {
		t.Errorf("getByIds: %s", names.body)
	}
	if got := w.call(w.alice.UPN, "GET", "/me/ownedObjects", "").want(200, "").values("id"); !slices.Equal(got, []string{w.owned.ID.String()}) {
		t.Errorf("ownedObjects: %v", got)
	}
}

// TestAzServicePrincipal replays az ad sp create-for-rbac, az login with the secret, and az ad sp credential reset.
func TestAzServicePrincipal(t *testing.T) {
	w := newWorld(t)
	w.asAdmin("GET", "/servicePrincipals"+filterQuery("displayName eq 'robot'"), "").want(200, "")
	w.asAdmin("GET", "/applications"+filterQuery("startswith(displayName,'robot')"), "").want(200, "")
	app := w.asAdmin("POST", "/applications", `{"displayName": "robot", "keyCredentials": []}`).want(201, "")
	for _, list := range []string{"identifierUris", "requiredResourceAccess", "passwordCredentials", "keyCredentials", "api/oauth2PermissionScopes", "appRoles"} {
		if _, ok := app.at(list).([]any); !ok {
			t.Errorf("%s of the new application is no list: %s", list, app.body)
		}
	}
	id, appID := app.text("id"), app.text("appId")
	secret := w.asAdmin("POST", "/applications/"+id+"/addPassword", `{"passwordCredential": {"displayName": "rbac", "endDateTime": "2027-11-21T12:00:00Z", "startDateTime": "2026-11-21T12:00:00Z"}}`).want(200, "")
	if secret.text("endDateTime") != "2027-11-21T12:00:00Z" || len(secret.text("secretText")) < 40 || secret.text("hint") != secret.text("secretText")[:3] {
		t.Errorf("the credential: %s", secret.body)
	}
	sp := w.asAdmin("POST", "/servicePrincipals", `{"appId": "`+appID+`", "accountEnabled": true}`).want(201, "")
	if sp.text("servicePrincipalNames/0") != appID || sp.text("appOwnerOrganizationId") != w.tenant.ID.String() || sp.text("servicePrincipalType") != "Application" {
		t.Errorf("the service principal: %s", sp.body)
	}
	w.asAdmin("POST", "/servicePrincipals", `{"appId": "`+appID+`", "accountEnabled": true}`).want(409, "Request_MultipleObjectsWithSameKeyValue")

	credentials := func(secret string) url.Values {
		return url.Values{"grant_type": {"client_credentials"}, "client_id": {appID}, "client_secret": {secret}, "scope": {"https://graph.microsoft.com/.default"}}
	}
	token := w.freshToken(credentials(secret.text("secretText")))
	w.call(token, "GET", "/users", "").want(403, "Authorization_RequestDenied")
	w.call(token, "POST", "/groups", `{"displayName":"x","mailNickname":"x","mailEnabled":false,"securityEnabled":true}`).want(403, "Authorization_RequestDenied")
	w.call(token, "GET", "/me", "").want(400, "Request_BadRequest")

	found := w.asAdmin("GET", "/servicePrincipals"+filterQuery("servicePrincipalNames/any(c:c eq '"+strings.ToUpper(appID)+"')"), "").want(200, "")
	if !slices.Equal(found.values("id"), []string{sp.text("id")}) || strings.Contains(found.body, secret.text("secretText")) {
		t.Errorf("sp show: %s", found.body)
	}
	w.asAdmin("POST", "/applications/"+id+"/removePassword", `{"keyId": "`+secret.text("keyId")+`"}`).want(204, "")
	w.asAdmin("POST", "/applications/"+id+"/removePassword", `{"keyId": "`+secret.text("keyId")+`"}`).want(400, "Request_BadRequest")
	if a := w.requestToken(credentials(secret.text("secretText"))); a.status != 401 {
		t.Errorf("the removed secret: %d %s", a.status, a.body)
	}
	reset := w.asAdmin("POST", "/servicePrincipals/"+sp.text("id")+"/addPassword", `{"passwordCredential": {"displayName": null, "endDateTime": "2027-11-21T12:00:00Z", "startDateTime": "2026-11-21T12:00:00Z"}}`).want(200, "")
	w.freshToken(credentials(reset.text("secretText")))

	w.asAdmin("PATCH", "/applications/"+id, `{"identifierUris": ["api://robot"], "web": {"redirectUris": ["https://robot.example/cb"]}}`).want(204, "")
	if got := w.asAdmin("GET", "/applications"+filterQuery("identifierUris/any(s:s eq 'API://robot')"), "").want(200, "").values("appId"); !slices.Equal(got, []string{appID}) {
		t.Errorf("by identifier URI: %v", got)
	}
	if got := w.asAdmin("GET", "/servicePrincipals(appId='"+appID+"')", "").want(200, "").text("servicePrincipalNames/1"); got != "api://robot" {
		t.Errorf("the service principal's second name is %q", got)
	}
	for _, taken := range []string{"https://graph.microsoft.com", "https://management.azure.com/", "HTTPS://MANAGEMENT.CORE.WINDOWS.NET"} {
		w.asAdmin("PATCH", "/applications/"+id, `{"identifierUris": ["`+taken+`"]}`).want(400, "Request_BadRequest")
	}
	w.asAdmin("PATCH", "/servicePrincipals/"+sp.text("id"), `{"accountEnabled": false}`).want(204, "")
	w.call(token, "GET", "/users", "").want(401, "InvalidAuthenticationToken")
	w.asAdmin("DELETE", "/applications/"+id, "").want(204, "")
	w.asAdmin("GET", "/servicePrincipals/"+sp.text("id"), "").want(404, "Request_ResourceNotFound")
	if a := w.requestToken(credentials(reset.text("secretText"))); a.status != 400 && a.status != 401 {
		t.Errorf("the secret of a deleted application: %d %s", a.status, a.body)
	}
	log := w.log.String()
	for _, s := range []string{secret.text("secretText"), reset.text("secretText"), token} {
		if strings.Contains(log, s) {
			t.Error("a secret is in the log")
		}
	}
}

// TestFirstParty: the service principals that sign-in stands on are there and stay.
func TestFirstParty(t *testing.T) {
	w := newWorld(t)
	for _, appID := range []directory.ID{directory.AKSServer, directory.AKSClient, directory.AzureCLI, directory.ARM, directory.Graph} {
		found := w.asAdmin("GET", "/servicePrincipals"+filterQuery("servicePrincipalNames/any(c:c eq '"+appID.String()+"')"), "").want(200, "")
		id := found.text("value/0/id")
		if found.text("value/0/appId") != appID.String() {
			t.Fatalf("%s: %s", appID, found.body)
		}
		w.asAdmin("DELETE", "/servicePrincipals/"+id, "").want(400, "Request_BadRequest")
		w.asAdmin("PATCH", "/servicePrincipals/"+id, `{"accountEnabled": false}`).want(400, "Request_BadRequest")
		w.asAdmin("POST", "/servicePrincipals/"+id+"/addPassword", `{}`).want(400, "Request_BadRequest")
	}
}
