package sts

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// TestPasswordAnswers holds the wire shape of both versions, as MSAL and ADAL read it.
func TestPasswordAnswers(t *testing.T) {
	w := newWorld(t)
	v2 := w.ok(w.ropc(aliceName, alicePassword, armScope))
	if keys := slices.Sorted(maps.Keys(v2.body)); !slices.Equal(keys, []string{"access_token", "client_info", "expires_in", "ext_expires_in", "foci", "id_token", "refresh_token", "scope", "token_type"}) {
		t.Errorf("version 2 has %v", keys) // no expires_on: guard reads it as a number
	}
	if v2.text("scope") != "https://management.core.windows.net//user_impersonation https://management.core.windows.net//.default" {
		t.Errorf("scope %q", v2.text("scope"))
	}
	seconds, ok := v2.body["expires_in"].(float64)
	if !ok || seconds < 3600 || seconds > 5400 || v2.body["ext_expires_in"] != seconds || v2.text("token_type") != "Bearer" || v2.text("foci") != "1" {
		t.Errorf("answer %s", v2.raw)
	}
	info, err := base64.RawURLEncoding.DecodeString(v2.text("client_info"))
	if err != nil || string(info) != fmt.Sprintf(`{"uid":"%s","utid":"%s"}`, w.alice.ID, w.tenant.ID) {
		t.Errorf("client_info %s, %v", info, err)
	}
	for name, want := range map[string]string{"Cache-Control": "no-store, no-cache", "Pragma": "no-cache", "Content-Type": "application/json; charset=utf-8"} {
		if got := v2.header.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}

	v1 := w.ok(w.post(w.v1()+"?api-version=1.0", values("grant_type", "password", "client_id", directory.AzureCLI.String(),
		"username", aliceName, "password", alicePassword, "resource", "https://management.azure.com/")))
	if keys := slices.Sorted(maps.Keys(v1.body)); !slices.Equal(keys, []string{"access_token", "expires_in", "expires_on", "ext_expires_in", "foci", "id_token", "not_before", "refresh_token", "resource", "scope", "token_type"}) {
		t.Errorf("version 1 has %v", keys)
	}
	for name, v := range v1.body {
		if _, ok := v.(string); !ok {
			t.Errorf("%s is a %T in version 1", name, v)
		}
	}
	on, _ := strconv.ParseInt(v1.text("expires_on"), 10, 64)
	in, _ := strconv.ParseInt(v1.text("expires_in"), 10, 64)
	if on-in != w.clock().Unix() || v1.text("resource") != "https://management.azure.com/" || v1.text("scope") != "user_impersonation" {
		t.Errorf("answer %s", v1.raw)
	}
}

// TestClaims compares whole tokens. Values that differ by run are left out by name.
func TestClaims(t *testing.T) {
	w := newWorld(t)
	api := w.app(directory.Application{DisplayName: "API", IdentifierURIs: []string{"api://shop"}, TokenVersion: 2, PublicClient: true,
		Scopes: []directory.Scope{
			{ID: directory.MustParseID("11111111-0000-0000-0000-000000000001"), Value: "Orders.Read", AdminName: "Read", AdminText: "Read", Enabled: true},
			{ID: directory.MustParseID("11111111-0000-0000-0000-000000000002"), Value: "Orders.Write", AdminName: "Write", AdminText: "Write", Enabled: true}}})
	group, err := w.dir.CreateGroup(t.Context(), directory.System, directory.NewGroup{
		Group: directory.Group{Tenant: w.tenant.ID, DisplayName: "g", MailNickname: "g", SecurityEnabled: true}, Members: []directory.ID{w.alice.ID}})
	must(t, err)
	daemon := w.app(directory.Application{DisplayName: "Daemon"})
	_, secret, err := w.dir.AddAppSecret(t.Context(), directory.System, daemon.ID, directory.PasswordCredential{})
	must(t, err)
	sp := w.principal(daemon)

	tid, oid, now := w.tenant.ID.String(), w.alice.ID.String(), float64(w.clock().Unix())
	issuer1, issuer2 := w.http.URL+"/"+tid+"/", w.http.URL+"/"+tid+"/v2.0"
	cli := directory.AzureCLI.String()
	user := []string{"grant_type", "password", "client_id", cli, "username", aliceName, "password", alicePassword}
	app := []string{"grant_type", "client_credentials", "client_id", daemon.AppID.String(), "client_secret", secret}
	m := func(pairs ...any) map[string]any {
		out := map[string]any{"tid": tid, "iat": now, "nbf": now - 300}
		for i := 0; i < len(pairs); i += 2 {
			out[pairs[i].(string)] = pairs[i+1]
		}
		return out
	}
	v1User := []any{"iss", issuer1, "idp", issuer1, "appid", cli, "appidacr", "0", "acr", "1", "amr", []any{"pwd"}, "oid", oid, "upn", aliceName, "unique_name", aliceName,
		"name", "Alice Adams", "given_name", "Alice", "family_name", "Adams", "ipaddr", "127.0.0.1", "ver", "1.0", "idtyp", "user"}
	for _, c := range []struct {
		name  string
		path  string
		form  []string
		token string
		want  map[string]any
	}{
		{"a user's token for the AKS server is version 1 and has groups", w.v2(), append(user, "scope", aksScope), "access_token",
			m(append(v1User, "aud", directory.AKSServer.String(), "scp", "user.read", "groups", []any{group.ID.String()})...)},
		{"by id at a version 1 endpoint the audience gets spn:", w.v1(), append(user, "resource", directory.AKSServer.String()), "access_token",
			m(append(v1User, "aud", "spn:"+directory.AKSServer.String(), "scp", "user.read", "groups", []any{group.ID.String()})...)},
		{"spn: is kept", w.v2(), append(user, "scope", "spn:"+directory.AKSServer.String()+"/.default"), "access_token",
			m(append(v1User, "aud", "spn:"+directory.AKSServer.String(), "scp", "user.read", "groups", []any{group.ID.String()})...)},
		{"a resource keeps its slash", w.v2(), append(user, "scope", armScope), "access_token",
			m(append(v1User, "aud", "https://management.core.windows.net/", "scp", "user_impersonation")...)},
		{"and does not get one", w.v2(), append(user, "scope", "https://MANAGEMENT.azure.com/.default"), "access_token",
			m(append(v1User, "aud", "https://management.azure.com", "scp", "user_impersonation")...)},
		{"scopes without a resource are Graph's", w.v2(), append(user, "scope", "user.read openid"), "access_token",
			m(append(v1User, "aud", "https://graph.microsoft.com", "scp", "User.Read")...)},
		{"a sign-in alone", w.v2(), append(user, "scope", "openid profile"), "access_token",
			m(append(v1User, "aud", "https://graph.microsoft.com", "scp", "openid profile")...)},
		{"the resource chooses version 2, and its id is the audience", w.v1(), append(user, "resource", "api://shop"), "access_token",
			m("iss", issuer2, "aud", api.AppID.String(), "azp", cli, "azpacr", "0", "oid", oid, "name", "Alice Adams", "preferred_username", aliceName,
				"scp", "Orders.Read Orders.Write", "ver", "2.0", "idtyp", "user")},
		{"only the scopes asked for", w.v2(), append(user, "scope", "api://shop/orders.write"), "access_token",
			m("iss", issuer2, "aud", api.AppID.String(), "azp", cli, "azpacr", "0", "oid", oid, "name", "Alice Adams", "preferred_username", aliceName,
				"scp", "Orders.Write", "ver", "2.0", "idtyp", "user")},
		{"an application's token", w.v2(), append(app, "scope", "https://management.azure.com/.default openid offline_access profile"), "access_token",
			m("iss", issuer1, "idp", issuer1, "aud", "https://management.azure.com", "appid", daemon.AppID.String(), "appidacr", "1", "oid", sp.ID.String(), "sub", sp.ID.String(), "ver", "1.0", "idtyp", "app")},
		{"an application's token of version 2", w.v2(), append(app, "scope", "api://shop/.default"), "access_token",
			m("iss", issuer2, "aud", api.AppID.String(), "azp", daemon.AppID.String(), "azpacr", "1", "oid", sp.ID.String(), "sub", sp.ID.String(), "ver", "2.0", "idtyp", "app")},
		{"an ID token of version 2", w.v2(), append(user, "scope", armScope), "id_token",
			m("iss", issuer2, "aud", cli, "oid", oid, "name", "Alice Adams", "preferred_username", aliceName, "ver", "2.0")},
		{"an ID token without profile", w.v2(), append(user, "scope", "openid"), "id_token",
			m("iss", issuer2, "aud", cli, "oid", oid, "ver", "2.0")},
		{"an ID token of version 1", w.v1(), append(user, "resource", "https://management.azure.com/"), "id_token",
			m("iss", issuer1, "aud", cli, "oid", oid, "upn", aliceName, "unique_name", aliceName, "amr", []any{"pwd"}, "ipaddr", "127.0.0.1",
				"name", "Alice Adams", "given_name", "Alice", "family_name", "Adams", "ver", "1.0")},
	} {
		w.run(c.name, func(t *testing.T) {
			a := w.ok(w.post(c.path, values(c.form...)))
			got := claims(t, a.text(c.token))
			for _, varying := range []string{"exp", "uti", "sid"} {
				delete(got, varying)
			}
			if _, fixed := c.want["sub"]; !fixed {
				if s, _ := got["sub"].(string); len(s) != 43 {
					t.Errorf("sub %q", s)
				}
				delete(got, "sub")
			}
			if g, w := fmt.Sprint(got), fmt.Sprint(c.want); g != w {
				t.Errorf("claims\n%s\nwant\n%s", g, w)
			}
			if c.token == "access_token" {
				if err := w.verify(a.text("access_token")); err != nil {
					t.Error(err)
				}
			} else if err := w.verify(a.text("id_token")); err == nil || !strings.Contains(err.Error(), "ID token") {
				t.Errorf("an ID token passes for an access token: %v", err)
			}
			header := part(t, a.text(c.token), 0)
			if v1 := got["ver"] == "1.0"; header["alg"] != "RS256" || header["typ"] != "JWT" || (header["x5t"] == header["kid"]) != v1 {
				t.Errorf("header %v", header)
			}
		})
	}
}

func TestSubjectIsPairwise(t *testing.T) {
	bob := directory.MustParseID("00000000-0000-0000-0000-00000000000b")
	alice := directory.MustParseID("00000000-0000-0000-0000-00000000000a")
	first, again := pairwise(alice, directory.ARM), pairwise(alice, directory.ARM)
	if first == pairwise(alice, directory.Graph) || first == pairwise(bob, directory.ARM) || first != again {
		t.Error("the subject is not one for each user and application")
	}
}

// TestIssuerFollowsTheHost: through the cloud's names the token is Microsoft's, through ours it is ours, and both verify.
func TestIssuerFollowsTheHost(t *testing.T) {
	w := newWorld(t)
	form := values("grant_type", "password", "client_id", directory.AzureCLI.String(), "username", aliceName, "password", alicePassword, "scope", aksScope)
	for host, want := range map[string]string{
		"login.microsoftonline.com": "https://sts.windows.net/" + w.tenant.ID.String() + "/",
		"LOGIN.windows.net":         "https://sts.windows.net/" + w.tenant.ID.String() + "/",
		"":                          w.http.URL + "/" + w.tenant.ID.String() + "/",
		"login.evil.test":           w.http.URL + "/" + w.tenant.ID.String() + "/",
	} {
		var headers []string
		if host != "" {
			headers = []string{"Host", host}
		}
		a := w.ok(w.post(w.v2(), form, headers...))
		if got := claims(t, a.text("access_token"))["iss"]; got != want {
			t.Errorf("%s: iss %v, want %s", host, got, want)
		}
		if err := w.verify(a.text("access_token")); err != nil {
			t.Error(err)
		}
	}
}

// TestGroupOverage: 200 groups are in the token, 201 are a reference in the form that go-oidc reads.
func TestGroupOverage(t *testing.T) {
	w := newWorld(t)
	add := func(n int, security bool) {
		for i := range n {
			_, err := w.dir.CreateGroup(t.Context(), directory.System, directory.NewGroup{
				Group:   directory.Group{Tenant: w.tenant.ID, DisplayName: "g" + strconv.Itoa(i), MailNickname: "g", SecurityEnabled: security, MailEnabled: true, Types: []string{"Unified"}},
				Members: []directory.ID{w.alice.ID}})
			must(t, err)
		}
	}
	add(200, true)
	add(1, false) // a mail group does not count
	c := claims(t, w.ok(w.ropc(aliceName, alicePassword, aksScope)).text("access_token"))
	if list, _ := c["groups"].([]any); len(list) != 200 || c["_claim_names"] != nil {
		t.Errorf("%d groups, %v", len(list), c["_claim_names"])
	}
	add(1, true)
	c = claims(t, w.ok(w.ropc(aliceName, alicePassword, aksScope)).text("access_token"))
	text, err := json.Marshal([]any{c["groups"], c["_claim_names"], c["_claim_sources"]})
	must(t, err)
	if want := fmt.Sprintf(`[null,{"groups":"src1"},{"src1":{"endpoint":"%s/v1.0/users/%s/getMemberObjects"}}]`, w.http.URL, w.alice.ID); string(text) != want {
		t.Errorf("overage %s", text)
	}
}

// TestRefusals is the table of what the token endpoint refuses, and how.
func TestRefusals(t *testing.T) {
	w := newWorld(t)
	cli, tid := directory.AzureCLI.String(), w.tenant.ID.String()
	nobody := "99999999-9999-9999-9999-999999999999"
	off := w.user("off@"+domain, alicePassword)
	w.setUser(off.ID, func(u *directory.User) { u.Enabled = false })
	fresh := w.user("fresh@"+domain, alicePassword)
	w.setUser(fresh.ID, func(u *directory.User) { u.MustChange = true })
	confidential := w.app(directory.Application{DisplayName: "Web", IdentifierURIs: []string{"api://web"}}).AppID.String()
	disabled := w.app(directory.Application{DisplayName: "Disabled", IdentifierURIs: []string{"api://off"}})
	must(t, w.dir.EnableServicePrincipal(t.Context(), directory.System, w.principal(disabled).ID, false))

	user := func(pairs ...string) url.Values {
		v := values("grant_type", "password", "client_id", cli, "username", aliceName, "password", alicePassword, "scope", aksScope)
		for i := 0; i < len(pairs); i += 2 {
			if v.Set(pairs[i], pairs[i+1]); pairs[i+1] == "" {
				v.Del(pairs[i])
			}
		}
		return v
	}
	at := func(segment string) string { return "/" + segment + "/oauth2/v2.0/token" }
	for _, c := range []struct {
		name   string
		path   string
		form   url.Values
		code   int
		status int
		error  string
	}{
		{"no grant type", w.v2(), user("grant_type", ""), 900144, 400, "invalid_request"},
		{"an unknown grant type", w.v2(), user("grant_type", "magic"), 70003, 400, "unsupported_grant_type"},
		{"an unknown tenant", at(nobody), user(), 90002, 400, "invalid_tenant"},
		{"an unknown domain", at("nobody.test"), user(), 90002, 400, "invalid_tenant"},
		{"no tenant's name", at("x"), user(), 900023, 400, "invalid_request"},
		{"the tenant comes before the client", at(nobody), user("client_id", nobody), 90002, 400, "invalid_tenant"},
		{"the client comes before the password", w.v2(), user("client_id", nobody, "password", "x"), 700016, 400, "unauthorized_client"},
		{"no client", w.v2(), user("client_id", ""), 900144, 400, "invalid_request"},
		{"a client that is no GUID", w.v2(), user("client_id", "https://management.azure.com/"), 700016, 400, "unauthorized_client"},
		{"a disabled client", w.v2(), user("client_id", disabled.AppID.String()), 7000112, 400, "unauthorized_client"},
		{"a confidential client without its secret", w.v2(), user("client_id", confidential), 7000218, 401, "invalid_client"},
		{"a public client with a secret", w.v2(), user("client_secret", "x"), 700025, 401, "invalid_client"},
		{"an assertion of a public client", w.v2(), user("client_assertion", "x"), 700025, 401, "invalid_client"},
		{"no user name", w.v2(), user("username", ""), 900144, 400, "invalid_request"},
		{"no password", w.v2(), user("password", ""), 900144, 400, "invalid_request"},
		{"a wrong password", w.v2(), user("password", "x"), 50126, 400, "invalid_grant"},
		{"an unknown user", w.v2(), user("username", "nobody@"+domain), 50034, 400, "invalid_grant"},
		{"an endless user name", w.v2(), user("username", strings.Repeat("x", 9000)+"@"+domain), 50034, 400, "invalid_grant"},
		{"a disabled user", w.v2(), user("username", off.UPN), 50057, 400, "invalid_grant"},
		{"a disabled user and a wrong password", w.v2(), user("username", off.UPN, "password", "x"), 50126, 400, "invalid_grant"},
		{"a password that must be changed", w.v2(), user("username", fresh.UPN), 50055, 400, "invalid_grant"},
		{"the password comes before the resource", w.v2(), user("password", "x", "scope", "api://nobody/.default"), 50126, 400, "invalid_grant"},
		{"at common", at("common"), user(), 9001023, 400, "invalid_grant"},
		{"at consumers", at("consumers"), user(), 9002346, 400, "invalid_request"},
		{"at organizations with an unknown domain", at("organizations"), user("username", "a@nobody.test"), 50059, 400, "invalid_request"},
		{"at organizations without a domain", at("organizations"), user("username", "alice"), 50059, 400, "invalid_request"},
		{"no scope", w.v2(), user("scope", ""), 900144, 400, "invalid_request"},
		{"a scope that names nothing", w.v2(), user("scope", "offline_access"), 700023, 400, "invalid_scope"},
		{"an unknown resource", w.v2(), user("scope", "api://nobody/.default"), 500011, 400, "invalid_resource"},
		{"a disabled resource", w.v2(), user("scope", "api://off/.default"), 500014, 400, "invalid_resource"},
		{"two resources", w.v2(), user("scope", "https://graph.microsoft.com/.default https://management.azure.com/.default"), 700022, 400, "invalid_scope"},
		{"an unknown scope", w.v2(), user("scope", "https://graph.microsoft.com/Everything"), 70011, 400, "invalid_scope"},
		{".default and another scope", w.v2(), user("scope", "https://graph.microsoft.com/.default https://graph.microsoft.com/User.Read"), 70011, 400, "invalid_scope"},
		{"an endless scope", w.v2(), user("scope", strings.Repeat("a", 2000)+"/.default"), 70011, 400, "invalid_scope"},
		{"resource at version 2", w.v2(), user("scope", "", "resource", "https://graph.microsoft.com"), 901002, 400, "invalid_request"},
		{"no resource at version 1", w.v1(), user(), 900144, 400, "invalid_request"},
		{"proof of possession without a key", w.v2(), user("token_type", "pop"), 900144, 400, "invalid_request"},
		{"an unknown token type", w.v2(), user("token_type", "mac"), 90013, 400, "invalid_request"},
		{"client credentials without a secret", w.v2(), user("grant_type", "client_credentials", "client_id", confidential), 7000218, 401, "invalid_client"},
		{"client credentials of a public client", w.v2(), user("grant_type", "client_credentials"), 7000218, 401, "invalid_client"},
		{"client credentials at common", at("common"), user("grant_type", "client_credentials"), 50059, 400, "invalid_request"},
		{"client credentials at organizations", at("organizations"), user("grant_type", "client_credentials"), 50059, 400, "invalid_request"},
		{"no refresh token", w.v2(), user("grant_type", "refresh_token"), 900144, 400, "invalid_request"},
		{"a refresh token of somebody else's making", w.v2(), user("grant_type", "refresh_token", "refresh_token", "0.AXoA"), 70000, 400, "invalid_grant"},
	} {
		w.run(c.name, func(t *testing.T) {
			a := w.fails(w.post(c.path, c.form), c.code)
			if a.status != c.status || a.text("error") != c.error {
				t.Errorf("HTTP %d %s, want %d %s", a.status, a.text("error"), c.status, c.error)
			}
			if a.text("access_token") != "" {
				t.Error("an error with a token")
			}
		})
	}
	if n := len(In(w.srv.Feed.View()).SessionsOf(w.alice.ID)); n != 0 {
		t.Errorf("refused requests left %d sessions", n)
	}
	for _, e := range w.events() {
		if e.Outcome != "denied" || e.Code == 0 || e.Request == "" || e.Action != "sign-in" || e.Address != "127.0.0.1" {
			t.Errorf("event %+v", e)
		}
	}
	if log := w.log.String(); strings.Contains(log, alicePassword) || !strings.Contains(log, "aadsts=50126") || !strings.Contains(log, tid) {
		t.Error("the log holds the password, or not the codes")
	}
}

// TestErrorBody is Entra's error body.
func TestErrorBody(t *testing.T) {
	w := newWorld(t)
	correlation := "AAAAAAAA-1111-2222-3333-444444444444"
	a := w.send("POST", w.v2(), values("grant_type", "password", "client_id", directory.AzureCLI.String(), "username", aliceName, "password", "x", "scope", aksScope).Encode(),
		"Content-Type", "application/x-www-form-urlencoded; charset=utf-8", "client-request-id", correlation, "return-client-request-id", "true")
	trace := a.header.Get("x-ms-request-id")
	want := map[string]any{
		"error": "invalid_grant", "error_codes": []any{50126.0}, "timestamp": "2026-11-21 12:00:00Z", "trace_id": trace, "correlation_id": strings.ToLower(correlation),
		"error_uri": w.http.URL + "/error?code=50126",
		"error_description": "AADSTS50126: Error validating credentials due to invalid username or password. Trace ID: " + trace +
			" Correlation ID: " + strings.ToLower(correlation) + " Timestamp: 2026-11-21 12:00:00Z",
	}
	if fmt.Sprint(a.body) != fmt.Sprint(want) || a.header.Get("client-request-id") != strings.ToLower(correlation) || len(trace) != 36 {
		t.Errorf("body %s\nheader %v", a.raw, a.header)
	}
	hostile := w.post(w.v2(), nil, "client-request-id", "x\" onload=", "return-client-request-id", "true")
	if hostile.text("correlation_id") != hostile.text("trace_id") {
		t.Errorf("correlation id %q", hostile.text("correlation_id"))
	}
}

func TestRequestsThatAreNotForms(t *testing.T) {
	w := newWorld(t)
	form := values("grant_type", "password").Encode()
	for name, c := range map[string]struct {
		method, kind, body string
		code, status       int
	}{
		"JSON":                 {"POST", "application/json", `{"grant_type":"password"}`, 9002313, 400},
		"no type":              {"POST", "", form, 9002313, 400},
		"a parameter twice":    {"POST", "application/x-www-form-urlencoded", form + "&grant_type=password", 9000411, 400},
		"bad escapes":          {"POST", "application/x-www-form-urlencoded", "grant_type=%zz", 9002313, 400},
		"not UTF-8":            {"POST", "application/x-www-form-urlencoded", "grant_type=%ff", 9002313, 400},
		"too large":            {"POST", "application/x-www-form-urlencoded", "x=" + strings.Repeat("y", maxForm), 9002313, 400},
		"GET":                  {"GET", "", "", 900561, 405},
		"secrets in the query": {"POST", "application/x-www-form-urlencoded", "", 900144, 400},
	} {
		w.run(name, func(t *testing.T) {
			path := w.v2()
			if name == "secrets in the query" {
				path += "?" + form
			}
			if a := w.fails(w.send(c.method, path, c.body, "Content-Type", c.kind), c.code); a.status != c.status {
				t.Errorf("HTTP %d", a.status)
			}
		})
	}
	if a := w.get("/nothing/here"); a.status != 404 || a.text("error") != "invalid_request" {
		t.Errorf("unknown path: %d %s", a.status, a.raw)
	}
}

// TestCaseAndDomain: paths in any letter case, the tenant by its domain, the client id in upper case, the user name in any.
func TestCaseAndDomain(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/" + strings.ToUpper(w.tenant.ID.String()) + "/OAuth2/V2.0/Token", "/" + domain + "/oauth2/v2.0/token", "/Organizations/oauth2/v2.0/token", "//" + domain + "/oauth2/v2.0/token"} {
		a := w.ok(w.post(path, values("grant_type", "password", "client_id", strings.ToUpper(directory.AzureCLI.String()),
			"username", strings.ToUpper(aliceName), "password", alicePassword, "scope", aksScope)))
		if c := claims(t, a.text("access_token")); c["tid"] != w.tenant.ID.String() || c["upn"] != aliceName || c["appid"] != directory.AzureCLI.String() {
			t.Errorf("%s: %v", path, c)
		}
	}
}

// TestOtherTenant: a second directory on the same server knows nobody of the first.
func TestOtherTenant(t *testing.T) {
	w := newWorld(t)
	other, _, err := w.dir.CreateTenant(t.Context(), directory.NewTenant{DisplayName: "Other", Domain: "other.test", AdminName: "admin", Password: adminPassword}, nil)
	must(t, err)
	at := "/" + other.ID.String() + "/oauth2/v2.0/token"
	form := values("grant_type", "password", "client_id", directory.AzureCLI.String(), "username", aliceName, "password", alicePassword, "scope", aksScope)
	w.fails(w.post(at, form), 50034)
	a := w.ok(w.ropc(aliceName, alicePassword, aksScope))
	w.fails(w.post(at, values("grant_type", "refresh_token", "client_id", directory.AzureCLI.String(), "refresh_token", a.text("refresh_token"), "scope", aksScope)), 50020)
	app := w.app(directory.Application{DisplayName: "Mine", PublicClient: true})
	w.grant(app, directory.AKSServer, "user.read")
	form.Set("client_id", app.AppID.String())
	w.ok(w.post(w.v2(), form))
	w.fails(w.post(at, form), 700016)
	form.Set("username", "admin@other.test")
	form.Set("password", adminPassword)
	w.fails(w.post("/organizations/oauth2/v2.0/token", form), 700016)
}

func TestClientSecrets(t *testing.T) {
	w := newWorld(t)
	app := w.app(directory.Application{DisplayName: "Daemon", PublicClient: true})
	_, first, err := w.dir.AddAppSecret(t.Context(), directory.System, app.ID, directory.PasswordCredential{DisplayName: "one", End: w.clock().Add(time.Hour)})
	must(t, err)
	credential, second, err := w.dir.AddAppSecret(t.Context(), directory.System, app.ID, directory.PasswordCredential{DisplayName: "two"})
	must(t, err)
	if first == second || credential.Hint != second[:3] || len(second) != 43 {
		t.Errorf("secrets %d and %d bytes, hint %q", len(first), len(second), credential.Hint)
	}
	ask := func(secret string, headers ...string) answer {
		return w.post(w.v2(), values("grant_type", "client_credentials", "client_id", app.AppID.String(), "client_secret", secret,
			"scope", "https://management.azure.com/.default"), headers...)
	}
	for _, s := range []string{first, second} {
		a := w.ok(ask(s))
		if keys := slices.Sorted(maps.Keys(a.body)); !slices.Equal(keys, []string{"access_token", "expires_in", "ext_expires_in", "token_type"}) {
			t.Errorf("answer has %v", keys)
		}
	}
	w.ok(ask("", "Authorization", basic(app.AppID.String(), second)))
	w.fails(ask("", "Authorization", basic(app.AppID.String(), "x")), 7000215)
	w.fails(ask(second, "Authorization", basic(app.AppID.String(), second)), 9002313)
	w.fails(ask("", "Authorization", basic(directory.AzureCLI.String(), second)), 9002313)
	w.fails(ask("", "Authorization", "Bearer x"), 9002313)
	if a := ask("", "Authorization", basic(app.AppID.String(), "x")); !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Basic ") {
		t.Error("a refused Basic credential is not answered with WWW-Authenticate")
	}
	w.fails(ask(credential.KeyID.String()), 7000215)
	for _, scope := range []string{"https://management.azure.com/user_impersonation", "openid profile"} {
		w.fails(w.post(w.v2(), values("grant_type", "client_credentials", "client_id", app.AppID.String(), "client_secret", second, "scope", scope)), 1002012)
	}
	v1 := w.ok(w.post(w.v1(), values("grant_type", "client_credentials", "client_id", app.AppID.String(), "client_secret", second, "resource", "https://management.azure.com/")))
	if keys := slices.Sorted(maps.Keys(v1.body)); !slices.Equal(keys, []string{"access_token", "expires_in", "expires_on", "ext_expires_in", "not_before", "resource", "token_type"}) {
		t.Errorf("version 1 has %v", keys)
	}
	w.pass(time.Hour)
	w.fails(ask(first), 7000222)
	token := w.ok(ask(second)).text("access_token")
	must(t, w.verify(token))

	// Disabling the service principal ends its tokens and refuses new ones.
	sp := w.principal(app)
	must(t, w.dir.EnableServicePrincipal(t.Context(), directory.System, sp.ID, false))
	if w.verify(token) == nil {
		t.Error("the token of a disabled service principal verifies")
	}
	w.fails(ask(second), 7000112)
	must(t, w.dir.DeleteServicePrincipal(t.Context(), directory.System, sp.ID))
	w.fails(ask(second), 7000229)
	if strings.Contains(w.log.String(), second) {
		t.Error("the log holds a client secret")
	}
}

func basic(id, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))
}
