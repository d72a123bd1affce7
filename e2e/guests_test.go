package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

const fabrikam = "fabrikam.example"

// tenant makes another tenant and returns the same server with that tenant's environment.
func (d *deployment) tenant(domain, name string) *deployment {
	d.t.Helper()
	out := d.run("gatehouse", "tenant", "create", "--data-dir", d.dir, "--domain", domain, "--display-name", name)
	if password, err := os.ReadFile(filepath.Join(d.dir, "tenants", domain, "admin-password")); err != nil || strings.Contains(out, strings.TrimSpace(string(password))) {
		d.t.Errorf("%v; printed: %s", err, out)
	}
	script, err := exec.Command(tool(d.t, "gatehouse", "it with `make build`"), "env", "--data-dir", d.dir, "--tenant", domain).Output()
	if err != nil {
		d.t.Fatalf("gatehouse env: %s", explain(err))
	}
	other := *d
	other.cmd, other.env = nil, map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^export ([A-Za-z_]+)='(.*)'$`).FindAllStringSubmatch(string(script), -1) {
		other.env[m[1]] = m[2]
	}
	return &other
}

// password is that of the tenant's administrator.
func (d *deployment) password() string {
	d.t.Helper()
	b, err := os.ReadFile(filepath.Join(d.dir, "tenants", d.env["GATEHOUSE_DOMAIN"], "admin-password"))
	if err != nil {
		d.t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// claimsOf reads a token without checks.
func claimsOf(t testing.TB, token string) map[string]any {
	t.Helper()
	pieces := strings.Split(token, ".")
	if len(pieces) != 3 {
		t.Fatalf("not a token: %.40q", token)
	}
	raw, err := base64.RawURLEncoding.DecodeString(pieces[1])
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]any{}
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestTwoTenants: a second tenant on the server has all that the first has, and neither reaches into the other.
func TestTwoTenants(t *testing.T) {
	a := up(t)
	b := a.tenant(fabrikam, "Fabrikam")
	for name, path := range map[string]string{"folder": "tenants/" + fabrikam, "password": "tenants/" + fabrikam + "/admin-password"} {
		if info, err := os.Stat(filepath.Join(a.dir, path)); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
	for domain, text := range map[string]string{
		fabrikam: "belongs to tenant", "gatehouse.internal": "belongs to tenant", "Fabrikam.Example": "lower case", "../x.example": "not a domain name",
		"login.microsoftonline.com": "answers for", "microsoft.com": "answers for", "token.example": "token", "fabrіkam.example": "not a domain name", "": "--domain is missing",
	} {
		a.refuses([]string{"gatehouse", "tenant", "create", "--data-dir", a.dir, "--domain", domain}, text)
	}
	if list := a.run("gatehouse", "tenant", "list", "--data-dir", a.dir); strings.Count(list, "\n") != 2 || !strings.Contains(list, b.env["GATEHOUSE_TENANT_ID"]) {
		t.Errorf("tenant list:\n%s", list)
	}
	if out := a.run("gatehouse", "status", "--data-dir", a.dir); !strings.Contains(out, "admin@"+fabrikam) || !strings.Contains(out, a.env["GATEHOUSE_ADMIN"]) {
		t.Errorf("status:\n%s", out)
	}
	a.refuses([]string{"gatehouse", "env", "--data-dir", a.dir, "--tenant", "nowhere.example"}, "there is no tenant")

	b.run("az", "login", "-u", "admin@"+fabrikam, "-p", b.password(), "-o", "none")
	var account struct{ ID, TenantID, HomeTenantID string }
	if err := json.Unmarshal([]byte(b.run("az", "account", "show", "-o", "json")), &account); err != nil {
		t.Fatal(err)
	}
	if tid := b.env["GATEHOUSE_TENANT_ID"]; account.ID != b.env["GATEHOUSE_SUBSCRIPTION_ID"] || account.TenantID != tid || account.HomeTenantID != tid {
		t.Errorf("az account show: %+v", account)
	}
	b.run("az", "login", "-u", "admin@"+fabrikam, "-p", b.password(), "--tenant", fabrikam, "-o", "none")
	if got := b.run("az", "ad", "user", "list", "--query", "[].userPrincipalName", "-o", "tsv"); got != "admin@"+fabrikam {
		t.Errorf("users of the second tenant: %q", got)
	}
	a.refuses([]string{"az", "login", "-u", a.env["GATEHOUSE_ADMIN"], "-p", a.adminPassword(), "--tenant", fabrikam}, "AADSTS50034")
	for _, name := range []string{fabrikam, b.env["GATEHOUSE_TENANT_ID"]} {
		for _, host := range []string{"https://login.microsoftonline.com", a.env["GATEHOUSE_URL"]} {
			code, body := a.call("GET", host+"/"+name+"/v2.0/.well-known/openid-configuration", "", nil)
			if code != 200 || !strings.Contains(body, host+"/"+b.env["GATEHOUSE_TENANT_ID"]+"/v2.0") {
				t.Errorf("discovery of %s: %d %s", name, code, body)
			}
		}
	}
	t.Run("attacks", func(t *testing.T) { crossTenantAttacks(t, a, b) })
}

// crossTenantAttacks lets the administrator of B try everything on A, at every face and with every kind of request.
func crossTenantAttacks(t *testing.T, a, b *deployment) {
	a.t, b.t = t, t
	a.loginAdmin()
	alice := a.user("alice", alicePassword)
	group := a.run("az", "ad", "group", "create", "--display-name", "admins", "--mail-nickname", "admins", "--query", "id", "-o", "tsv")
	a.run("az", "group", "create", "-n", "rg", "-l", "centralus", "-o", "none")
	var robot struct{ AppID, Password string }
	if err := json.Unmarshal([]byte(a.run("az", "ad", "sp", "create-for-rbac", "--name", "robot", "-o", "json")), &robot); err != nil {
		t.Fatal(err)
	}
	app := a.run("az", "ad", "app", "show", "--id", robot.AppID, "--query", "id", "-o", "tsv")
	mine := b.run("az", "ad", "user", "create", "--display-name", "Mallory", "--user-principal-name", "mallory@"+fabrikam, "--password", bobPassword, "--query", "id", "-o", "tsv")
	own := b.run("az", "ad", "group", "create", "--display-name", "own", "--mail-nickname", "own", "--query", "id", "-o", "tsv")

	const graph, arm = "https://graph.microsoft.com", "https://management.azure.com"
	tokenOf := func(scope string) string {
		got := b.token("admin@"+fabrikam, b.password(), azureCLI, scope)
		if got.Access == "" {
			t.Fatal(got.Text)
		}
		return got.Access
	}
	graphToken, armToken := tokenOf(graph+"/.default"), tokenOf(arm+"/.default")
	ref := func(id string) any {
		return map[string]string{"@odata.id": graph + "/v1.0/directoryObjects/" + id}
	}
	sub := arm + "/subscriptions/" + a.env["GATEHOUSE_SUBSCRIPTION_ID"]
	const v = "?api-version=2023-01-01"
	cluster := sub + "/resourceGroups/rg/providers/Microsoft.ContainerService/managedClusters/c"
	for _, c := range []struct {
		name, method, url string
		body              any
		status            int
	}{
		{"reads a user by id", "GET", graph + "/v1.0/users/" + alice, nil, 404},
		{"reads a user by name", "GET", graph + "/v1.0/users/" + a.upn("alice"), nil, 404},
		{"reads a user as a directory object", "GET", graph + "/v1.0/directoryObjects/" + alice, nil, 404},
		{"resets a password", "PATCH", graph + "/v1.0/users/" + alice, map[string]any{"passwordProfile": map[string]string{"password": bobPassword}}, 404},
		{"deletes a user", "DELETE", graph + "/v1.0/users/" + alice, nil, 404},
		{"ends sessions", "POST", graph + "/v1.0/users/" + alice + "/revokeSignInSessions", nil, 404},
		{"creates a user in the other's domain", "POST", graph + "/v1.0/users", map[string]any{"accountEnabled": true, "displayName": "x", "mailNickname": "x",
			"userPrincipalName": a.upn("x"), "passwordProfile": map[string]string{"password": bobPassword}}, 400},
		{"reads a group", "GET", graph + "/v1.0/groups/" + group, nil, 404},
		{"reads the members of a group", "GET", graph + "/v1.0/groups/" + group + "/members", nil, 404},
		{"renames a group", "PATCH", graph + "/v1.0/groups/" + group, map[string]string{"displayName": "x"}, 404},
		{"adds its own user to the other's group", "POST", graph + "/v1.0/groups/" + group + "/members/$ref", ref(mine), 404},
		{"adds the other's user to its own group", "POST", graph + "/v1.0/groups/" + own + "/members/$ref", ref(alice), 404},
		{"adds the other's group to its own group", "POST", graph + "/v1.0/groups/" + own + "/members/$ref", ref(group), 404},
		{"makes the other's user an owner", "POST", graph + "/v1.0/groups/" + own + "/owners/$ref", ref(alice), 404},
		{"reads an application", "GET", graph + "/v1.0/applications/" + app, nil, 404},
		{"adds a secret to an application", "POST", graph + "/v1.0/applications/" + app + "/addPassword", map[string]any{}, 404},
		{"makes a service principal of the other's application", "POST", graph + "/v1.0/servicePrincipals", map[string]string{"appId": robot.AppID}, 400},
		{"reads the organization", "GET", graph + "/v1.0/organization/" + a.env["GATEHOUSE_TENANT_ID"], nil, 404},
		{"reads a subscription", "GET", sub + v, nil, 401},
		{"lists resource groups", "GET", sub + "/resourceGroups" + v, nil, 401},
		{"creates a resource group", "PUT", sub + "/resourceGroups/evil" + v, map[string]string{"location": "centralus"}, 401},
		{"deletes a resource group", "DELETE", sub + "/resourceGroups/rg" + v, nil, 401},
		{"reads a cluster", "GET", cluster + v, nil, 401},
		{"creates a cluster", "PUT", cluster + v, map[string]string{"location": "centralus"}, 401},
		{"deletes a cluster", "DELETE", cluster + v, nil, 401},
		{"takes a cluster's admin credential", "POST", cluster + "/listClusterAdminCredential" + v, nil, 401},
	} {
		token := armToken
		if strings.HasPrefix(c.url, graph) {
			token = graphToken
		}
		if code, body := b.call(c.method, c.url, token, c.body); code != c.status {
			t.Errorf("%s: %d %s, want %d", c.name, code, body, c.status)
		}
	}
	for _, face := range []struct{ url, token, never string }{
		{arm + "/subscriptions" + v, armToken, a.env["GATEHOUSE_SUBSCRIPTION_ID"]}, {arm + "/tenants" + v, armToken, a.env["GATEHOUSE_TENANT_ID"]},
		{graph + "/v1.0/users", graphToken, alice}, {graph + "/v1.0/groups", graphToken, group}, {graph + "/v1.0/applications", graphToken, app},
		{graph + "/v1.0/domains", graphToken, a.env["GATEHOUSE_DOMAIN"]},
	} {
		if code, body := b.call("GET", face.url, face.token, nil); code != 200 || strings.Contains(body, face.never) {
			t.Errorf("%s: %d %s", face.url, code, body)
		}
	}
	if got := b.run("az", "ad", "group", "member", "list", "--group", own, "--query", "[].id", "-o", "tsv"); got != "" {
		t.Errorf("the group has got members: %s", got)
	}
	secret := url.Values{"grant_type": {"client_credentials"}, "client_id": {robot.AppID}, "client_secret": {robot.Password}, "scope": {graph + "/.default"}}
	if got := a.grant(secret); got.Access == "" {
		t.Errorf("the application at home: %s", got.Text)
	}
	if got := b.grant(secret); !strings.Contains(got.Text, "AADSTS700016") {
		t.Errorf("the application at the other tenant: %q", got.Text)
	}
	first := a.token(a.upn("alice"), alicePassword, azureCLI, arm+"/.default")
	again := url.Values{"grant_type": {"refresh_token"}, "client_id": {azureCLI}, "refresh_token": {first.Refresh}, "scope": {arm + "/.default"}}
	if got := b.grant(again); !strings.Contains(got.Text, "AADSTS50020") {
		t.Errorf("a refresh token at the other tenant: %q", got.Text)
	}
}

// TestGuest: Alice of the first tenant is invited to the second, accepts in a browser, signs in with az and kubelogin, and administers a cluster
// there for as long as she is in its group.
func TestGuest(t *testing.T) {
	a := up(t)
	a.loginAdmin()
	alice := a.user("alice", alicePassword)
	name := a.upn("alice")
	b := a.tenant(fabrikam, "Fabrikam")
	b.run("az", "login", "-u", "admin@"+fabrikam, "-p", b.password(), "-o", "none")

	invite := func(address string) (guest, link string) {
		body := `{"invitedUserEmailAddress":"` + address + `","inviteRedirectUrl":"` + a.env["GATEHOUSE_URL"] + `/error?code=50126","sendInvitationMessage":true}`
		var got struct {
			InviteRedeemURL       string
			Status                string
			SendInvitationMessage bool
			InvitedUser           struct{ ID string }
		}
		out := b.run("az", "rest", "--method", "post", "--url", "https://graph.microsoft.com/v1.0/invitations", "--body", body)
		if err := json.Unmarshal([]byte(out), &got); err != nil || got.Status != "PendingAcceptance" || got.SendInvitationMessage {
			t.Fatalf("invitation: %v %s", err, out)
		}
		return got.InvitedUser.ID, got.InviteRedeemURL
	}
	guest, link := invite(name)
	upn := "alice_" + a.env["GATEHOUSE_DOMAIN"] + "#EXT#@" + fabrikam
	if got := b.run("az", "ad", "user", "list", "--filter", "userType eq 'Guest'", "--query", "[].userPrincipalName", "-o", "tsv"); got != upn {
		t.Errorf("az ad user list: %q", got)
	}
	state := func() string {
		return b.run("az", "rest", "--url", "https://graph.microsoft.com/v1.0/users/"+guest+"?$select=externalUserState", "--query", "externalUserState", "-o", "tsv")
	}
	b.run("az", "ad", "user", "update", "--id", guest, "--display-name", "Alice (Contoso)")
	b.refuses([]string{"az", "ad", "user", "create", "--display-name", "x", "--user-principal-name", "x_y.example#EXT#@" + fabrikam, "--password", alicePassword}, "userPrincipalName")
	b.refuses([]string{"az", "ad", "user", "update", "--id", guest, "--password", alicePassword}, "belongs to the account")

	group := b.run("az", "ad", "group", "create", "--display-name", "admins", "--mail-nickname", "admins", "--query", "id", "-o", "tsv")
	b.run("az", "ad", "group", "member", "add", "--group", group, "--member-id", guest)
	b.refuses([]string{"az", "ad", "group", "member", "add", "--group", group, "--member-id", alice}, "does not exist")
	b.run("az", "group", "create", "-n", "rg", "-l", "centralus", "-o", "none")
	b.run("az", "aks", "create", "-g", "rg", "-n", "c", "--enable-aad", "--aad-admin-group-object-ids", group, "--generate-ssh-keys", "-o", "none")
	b.run("az", "aks", "get-credentials", "-g", "rg", "-n", "c")
	b.run("az", "logout")
	s := &story{deployment: b, server: b.run("kubectl", "config", "view", "-o", "jsonpath={.clusters[0].cluster.server}")}

	first := a.token(name, alicePassword, azureCLI, aksServer+"/.default")
	atB := func() tokens {
		return b.grant(url.Values{"grant_type": {"refresh_token"}, "client_id": {azureCLI}, "refresh_token": {first.Refresh}, "scope": {aksServer + "/.default"}})
	}
	if got := atB(); !strings.Contains(got.Text, "AADSTS50014") {
		t.Errorf("before the person has accepted: %q", got.Text)
	}
	if code, body := s.api(first.Access, "/api/v1/nodes"); code != http.StatusUnauthorized {
		t.Errorf("a token of home at the cluster: %d %s", code, body)
	}
	ctx := a.browser()
	err := chromedp.Do(ctx, chromedp.Navigate(link), chromedp.WaitVisible(`[data-page=signin]`), chromedp.SendKeys(`input[name=loginfmt]`, name), chromedp.SendKeys(`input[name=passwd]`, alicePassword),
		chromedp.Click(`#idSIButton9`), chromedp.WaitVisible(`[data-page=review]`), chromedp.Click(`#idSIButton9`), chromedp.WaitVisible(`[data-page=message]`))
	if err != nil {
		t.Fatalf("invitation in the browser: %v\n%s", err, a.log)
	}

	// az asks for a token of each tenant that it is shown.
	b.run("az", "login", "-u", name, "-p", alicePassword, "--allow-no-subscriptions", "-o", "none")
	if got := b.run("az", "account", "list", "--query", "length(@)", "-o", "tsv"); got != "2" {
		t.Errorf("az account list: %s", b.run("az", "account", "list"))
	}
	tid := b.env["GATEHOUSE_TENANT_ID"]
	token := b.run("az", "account", "get-access-token", "--resource", aksServer, "--tenant", tid, "--query", "accessToken", "-o", "tsv")
	claims := claimsOf(t, token)
	if claims["oid"] != guest || claims["tid"] != tid || claims["upn"] != nil || claims["unique_name"] != name ||
		claims["idp"] != "https://sts.windows.net/"+a.env["GATEHOUSE_TENANT_ID"]+"/" {
		t.Errorf("claims %v", claims)
	}
	if got := b.run("az", "rest", "--url", "https://graph.microsoft.com/v1.0/me", "--query", "id", "-o", "tsv"); got != alice {
		t.Errorf("/me of the default tenant: %q, want the account at home", got)
	}
	graphToken := b.run("az", "account", "get-access-token", "--resource", "https://graph.microsoft.com", "--tenant", tid, "--query", "accessToken", "-o", "tsv")
	if code, body := b.call("GET", "https://graph.microsoft.com/v1.0/me?$select=id,externalUserState", graphToken, nil); code != 200 || !strings.Contains(body, guest) || !strings.Contains(body, "Accepted") {
		t.Errorf("/me as a guest: %d %s", code, body)
	}
	if code, body := b.call("GET", "https://graph.microsoft.com/v1.0/users", graphToken, nil); code != http.StatusForbidden {
		t.Errorf("a guest lists users: %d %s", code, body)
	}

	// In the cluster she is her object id.
	b.run("kubelogin", "convert-kubeconfig", "-l", "azurecli", "--tenant-id", tid)
	if got := b.run("kubectl", "auth", "whoami", "-o", "jsonpath={.status.userInfo.username} {.status.userInfo.groups}"); !strings.HasPrefix(got, guest+" ") || !strings.Contains(got, group) {
		t.Errorf("whoami: %q", got)
	}
	if out := b.run("kubectl", "get", "nodes"); strings.Count(out, " Ready ") != 3 {
		t.Errorf("nodes:\n%s", out)
	}
	b.run("az", "logout")
	for _, mode := range []string{"interactive", "devicecode"} {
		t.Run("kubelogin "+mode, func(t *testing.T) {
			b.t = t
			args := []string{"kubelogin", "get-token", "-l", mode, "--server-id", aksServer, "--client-id", aksClient, "--tenant-id", tid, "--cache-dir", t.TempDir()}
			out := ""
			if mode == "interactive" {
				out = b.inBrowser(b.browser(), args, chromedp.WaitVisible(`[data-page=signin]`), chromedp.SendKeys(`input[name=loginfmt]`, name),
					chromedp.SendKeys(`input[name=passwd]`, alicePassword), chromedp.Click(`#idSIButton9`), atClient)
			} else {
				out = b.onDevice(name, alicePassword, args...)
			}
			var credential struct{ Status struct{ Token string } }
			if err := json.Unmarshal([]byte(out), &credential); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if c := claimsOf(t, credential.Status.Token); c["oid"] != guest {
				t.Errorf("claims %v", c)
			}
		})
	}
	b.t = t

	// What happens in either tenant reaches the cluster within seconds, with the same token.
	b.run("az", "login", "-u", "admin@"+fabrikam, "-p", b.password(), "-o", "none")
	s.becomes(token, http.StatusOK, "the guest is in")
	b.run("az", "ad", "group", "member", "remove", "--group", group, "--member-id", guest)
	s.becomes(token, http.StatusForbidden, "the guest removed from the group is forbidden")
	b.run("az", "ad", "group", "member", "add", "--group", group, "--member-id", guest)
	s.becomes(token, http.StatusOK, "the guest put back is in")
	a.run("az", "ad", "user", "update", "--id", alice, "--account-enabled", "false")
	s.becomes(token, http.StatusUnauthorized, "the guest disabled at home is unauthorized")
	a.run("az", "ad", "user", "update", "--id", alice, "--account-enabled", "true")
	s.becomes(token, http.StatusOK, "the guest enabled at home is in")
	b.run("az", "ad", "user", "update", "--id", guest, "--account-enabled", "false")
	s.becomes(token, http.StatusUnauthorized, "the guest disabled where it is a guest is unauthorized")
	b.run("az", "ad", "user", "update", "--id", guest, "--account-enabled", "true")
	s.becomes(token, http.StatusOK, "the guest enabled again is in")
	a.run("az", "ad", "user", "update", "--id", alice, "--password", "Another-Horse-9-Battery", "--force-change-password-next-sign-in", "false")
	s.becomes(token, http.StatusUnauthorized, "a new password at home ends the guest's token")
	if got := state(); got != "Accepted" {
		t.Errorf("state %q", got)
	}
	b.run("az", "ad", "user", "delete", "--id", guest)
	a.run("az", "ad", "user", "delete", "--id", alice)
	if _, link := invite("nobody@contoso.example"); link == "" { // who cannot sign in here can still be invited
		t.Error("no link")
	}
}

// onDevice runs a client that prints a page and a code, and enters the code in a browser.
func (d *deployment) onDevice(user, password string, args ...string) string {
	d.t.Helper()
	file, err := os.Create(filepath.Join(d.t.TempDir(), "stderr"))
	if err != nil {
		d.t.Fatal(err)
	}
	defer file.Close()
	var out strings.Builder
	cmd := d.command(context.Background(), args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = &out, file
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	var m []string
	eventually(d.t, within*4, args[0]+" prints a code", func() (bool, string) {
		text, _ := os.ReadFile(file.Name())
		m = regexp.MustCompile(`page (https://\S+) and enter the code ([A-Z0-9]+) to`).FindStringSubmatch(string(text))
		return m != nil, string(text)
	})
	d.enterDeviceCode(m[1], m[2], user, password)
	if err := cmd.Wait(); err != nil {
		text, _ := os.ReadFile(file.Name())
		d.t.Fatalf("%s: %v\n%s%s", strings.Join(args, " "), err, out.String(), text)
	}
	return out.String()
}
