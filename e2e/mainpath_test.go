package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

const (
	alicePassword = "Correct-Horse-7-Battery"
	bobPassword   = "Quite-Another-8-Staple"

	// within is the product's promise for a change of membership, account or setting to reach new requests.
	within = 5 * time.Second
)

// TestMainPath walks the README: from an empty folder to `kubectl get nodes`, then everything that must be refused on
// the same cluster.
func TestMainPath(t *testing.T) {
	s := &story{deployment: up(t)}
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"sign in", s.signIn},
		{"people and groups", s.people},
		{"create the cluster", s.create},
		{"device code in a browser", s.deviceCode},
		{"interactive in a browser", s.interactive},
		{"convert to azurecli", s.azurecli},
		{"an outsider is forbidden", s.outsider},
		{"tokens that must be refused", s.badTokens},
		{"membership and account follow within seconds", s.follows},
		{"what Bob cannot do", s.bobTries},
		{"local accounts", s.localAccounts},
		{"five thousand groups", s.manyGroups},
		{"withdrawn key", s.withdrawnKey},
		{"wrong input", s.wrongInput},
	} {
		if !t.Run(step.name, func(t *testing.T) { s.t = t; step.run(t) }) {
			t.FailNow() // each step stands on the one before
		}
	}
	s.t = t
}

// story is the state that one step leaves to the next.
type story struct {
	*deployment
	alice, bob, group string // object ids
	server            string // URL of the API server
	old               string // a kubeconfig of a local account
}

func (s *story) signIn(t *testing.T) {
	s.loginAdmin()
	if got := s.run("az", "account", "show", "--query", "user.name", "-o", "tsv"); got != s.env["GATEHOUSE_ADMIN"] {
		t.Errorf("az account show: %q", got)
	}
	if got := s.run("az", "account", "show", "--query", "id", "-o", "tsv"); got != s.env["GATEHOUSE_SUBSCRIPTION_ID"] {
		t.Errorf("subscription: %q", got)
	}
	s.refuses([]string{"az", "login", "-u", s.env["GATEHOUSE_ADMIN"], "-p", "wrong"}, "AADSTS50126")
}

func (s *story) people(t *testing.T) {
	s.group = s.run("az", "ad", "group", "create", "--display-name", "myAKSAdminGroup", "--mail-nickname", "myAKSAdminGroup", "--query", "id", "-o", "tsv")
	if out := s.run("az", "ad", "group", "list", "--filter", "displayname eq 'myAKSAdminGroup'", "-o", "table"); !strings.Contains(out, "myAKSAdminGroup") {
		t.Errorf("group list: %s", out)
	}
	s.alice = s.user("alice", alicePassword)
	s.bob = s.user("bob", bobPassword)
	if got := s.run("az", "ad", "user", "show", "--id", s.upn("ALICE"), "--query", "userPrincipalName", "-o", "tsv"); got != s.upn("alice") {
		t.Errorf("user show by name in another case: %q", got)
	}
	s.run("az", "ad", "group", "member", "add", "--group", "myAKSAdminGroup", "--member-id", s.alice)
	s.refuses([]string{"az", "ad", "group", "member", "add", "--group", "myAKSAdminGroup", "--member-id", s.alice}, "already exist")
	if got := s.run("az", "ad", "group", "member", "check", "--group", "myAKSAdminGroup", "--member-id", s.alice, "--query", "value", "-o", "tsv"); got != "true" {
		t.Errorf("member check: %q", got)
	}
	if got := s.run("az", "ad", "group", "member", "list", "--group", "myAKSAdminGroup", "--query", "[].userPrincipalName", "-o", "tsv"); got != s.upn("alice") {
		t.Errorf("member list: %q", got)
	}
	if got := s.run("az", "ad", "signed-in-user", "show", "--query", "userPrincipalName", "-o", "tsv"); got != s.env["GATEHOUSE_ADMIN"] {
		t.Errorf("signed-in user: %q", got)
	}
}

func (s *story) create(t *testing.T) {
	s.run("az", "group", "create", "--name", "myResourceGroup", "--location", "centralus")
	start := time.Now()
	s.run("az", "aks", "create", "--resource-group", "myResourceGroup", "--name", "myManagedCluster", "--enable-aad",
		"--aad-admin-group-object-ids", s.group, "--aad-tenant-id", s.env["GATEHOUSE_TENANT_ID"], "--generate-ssh-keys", "-o", "none")
	t.Logf("az aks create took %s", time.Since(start).Round(100*time.Millisecond))
	var profile struct {
		Managed   bool     `json:"managed"`
		Groups    []string `json:"adminGroupObjectIDs"`
		Tenant    string   `json:"tenantId"`
		ServerApp *string  `json:"serverAppId"`
	}
	out := s.run("az", "aks", "show", "-g", "myResourceGroup", "-n", "myManagedCluster", "--query", "aadProfile")
	if err := json.Unmarshal([]byte(out), &profile); err != nil {
		t.Fatal(err)
	}
	if !profile.Managed || len(profile.Groups) != 1 || profile.Groups[0] != s.group || profile.Tenant != s.env["GATEHOUSE_TENANT_ID"] || profile.ServerApp != nil {
		t.Errorf("aadProfile: %s", out)
	}
	s.run("az", "aks", "get-credentials", "--resource-group", "myResourceGroup", "--name", "myManagedCluster")
	s.server = s.run("kubectl", "config", "view", "-o", "jsonpath={.clusters[0].cluster.server}")
}

// deviceCode lets kubectl call kubelogin, reads the code that it prints and enters it in a browser as Alice.
func (s *story) deviceCode(t *testing.T) {
	out := s.byDeviceCode(s.upn("alice"), alicePassword, "kubectl", "get", "nodes")
	nodes := regexp.MustCompile(`(?m)^aks-nodepool1-\d{8}-vmss00000[0-2]\s+Ready\s+agent\s+\S+\s+v1\.36\.3$`).FindAllString(out, -1)
	if len(nodes) != 3 {
		t.Errorf("want three Ready nodes with the role agent:\n%s", out)
	}
}

func (s *story) azurecli(t *testing.T) {
	s.run("kubelogin", "convert-kubeconfig", "-l", "azurecli")
	s.run("az", "login", "-u", s.upn("alice"), "-p", alicePassword, "--allow-no-subscriptions", "-o", "none")
	if out := s.run("kubectl", "get", "nodes"); strings.Count(out, " Ready ") != 3 {
		t.Errorf("nodes:\n%s", out)
	}
	if out := s.run("kubectl", "get", "pods", "--all-namespaces"); !strings.Contains(out, "coredns") || !strings.Contains(out, "Running") {
		t.Errorf("pods:\n%s", out)
	}
	if out := s.run("kubectl", "auth", "whoami", "-o", "json"); !strings.Contains(out, s.upn("alice")) || !strings.Contains(out, s.group) || !strings.Contains(out, s.alice) {
		t.Errorf("whoami:\n%s", out)
	}
	s.run("kubectl", "version")
	s.loginAdmin()
}

// api calls the cluster's API server with a bearer token, as one new request on a new connection.
func (s *story) api(token, path string) (int, string) {
	s.t.Helper()
	c := s.kubeClient()
	defer c.CloseIdleConnections()
	req, err := http.NewRequest(http.MethodGet, s.server+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := c.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(b)
}

// becomes waits until a token gets a status from the API server.
func (s *story) becomes(token string, status int, what string) {
	s.t.Helper()
	took := eventually(s.t, within, what, func() (bool, string) {
		code, body := s.api(token, "/api/v1/nodes")
		return code == status, http.StatusText(code) + " " + body
	})
	s.t.Logf("%s after %s", what, took.Round(10*time.Millisecond))
}

func (s *story) aksToken(name, password string) string {
	s.t.Helper()
	got := s.token(s.upn(name), password, azureCLI, aksServer+"/.default")
	if got.Access == "" {
		s.t.Fatalf("no token for %s: %s", name, got.Text)
	}
	return got.Access
}

func (s *story) outsider(t *testing.T) {
	code, body := s.api(s.aksToken("bob", bobPassword), "/api/v1/nodes")
	if want := `nodes is forbidden: User \"` + s.upn("bob") + `\" cannot list resource \"nodes\"`; code != http.StatusForbidden || !strings.Contains(body, want) {
		t.Errorf("Bob: %d %s", code, body)
	}
	// As kubectl prints it.
	s.run("az", "login", "-u", s.upn("bob"), "-p", bobPassword, "--allow-no-subscriptions", "-o", "none")
	s.refuses([]string{"kubectl", "get", "nodes"},
		`Error from server (Forbidden): nodes is forbidden: User "`+s.upn("bob")+`" cannot list resource "nodes"`)
	s.loginAdmin()
	if code, body := s.api("", "/version"); code != http.StatusUnauthorized {
		t.Errorf("anonymous /version: %d %s", code, body)
	}
	if code, body := s.api("", "/readyz"); code != http.StatusOK {
		t.Errorf("anonymous /readyz: %d %s", code, body)
	}
}

func (s *story) follows(t *testing.T) {
	token := s.aksToken("alice", alicePassword)
	s.becomes(token, http.StatusOK, "Alice is in")
	s.run("az", "ad", "group", "member", "remove", "--group", "myAKSAdminGroup", "--member-id", s.alice)
	s.becomes(token, http.StatusForbidden, "Alice removed from the group is forbidden")
	s.run("az", "ad", "group", "member", "add", "--group", "myAKSAdminGroup", "--member-id", s.alice)
	s.becomes(token, http.StatusOK, "Alice put back is in")
	s.run("az", "ad", "user", "update", "--id", s.alice, "--account-enabled", "false")
	s.becomes(token, http.StatusUnauthorized, "Alice disabled is unauthorized")
	s.run("az", "ad", "user", "update", "--id", s.alice, "--account-enabled", "true")
	s.becomes(token, http.StatusOK, "Alice enabled is in")
	// Revoked sessions and a deleted account end a token, too.
	carol := s.user("carol", alicePassword)
	s.run("az", "ad", "group", "member", "add", "--group", "myAKSAdminGroup", "--member-id", carol)
	first := s.aksToken("carol", alicePassword)
	s.becomes(first, http.StatusOK, "Carol is in")
	s.run("az", "rest", "--method", "post", "--url", "https://graph.microsoft.com/v1.0/users/"+carol+"/revokeSignInSessions")
	s.becomes(first, http.StatusUnauthorized, "Carol's sessions revoked: unauthorized")
	second := s.aksToken("carol", alicePassword)
	s.becomes(second, http.StatusOK, "Carol is in with a new session")
	s.run("az", "ad", "user", "delete", "--id", carol)
	s.becomes(second, http.StatusUnauthorized, "Carol deleted is unauthorized")
	// Through three levels of nesting, with the same token.
	var chain []string
	for _, name := range []string{"outer", "middle", "inner"} {
		id := s.run("az", "ad", "group", "create", "--display-name", name, "--mail-nickname", name, "--query", "id", "-o", "tsv")
		into := s.group
		if len(chain) > 0 {
			into = chain[len(chain)-1]
		}
		s.run("az", "ad", "group", "member", "add", "--group", into, "--member-id", id)
		chain = append(chain, id)
	}
	s.run("az", "ad", "group", "member", "remove", "--group", "myAKSAdminGroup", "--member-id", s.alice)
	s.becomes(token, http.StatusForbidden, "Alice is out again")
	s.run("az", "ad", "group", "member", "add", "--group", "inner", "--member-id", s.alice)
	s.becomes(token, http.StatusOK, "Alice is in through three levels of nesting")
	s.run("az", "ad", "group", "member", "add", "--group", "myAKSAdminGroup", "--member-id", s.alice)
}

func (s *story) localAccounts(t *testing.T) {
	s.old = filepath.Join(t.TempDir(), "old")
	at := []string{"-g", "myResourceGroup", "-n", "myManagedCluster"}
	admin := func(file string) []string {
		return append([]string{"az", "aks", "get-credentials", "--admin", "--overwrite-existing", "-f", file}, at...)
	}
	s.run(admin(s.old)[0], admin(s.old)[1:]...)
	nodes := []string{"kubectl", "--kubeconfig", s.old, "get", "nodes"}
	s.run(nodes[0], nodes[1:]...)
	if b, err := os.ReadFile(s.old); err != nil || strings.Contains(string(b), "\n    token:") {
		t.Errorf("the admin kubeconfig holds a static token (%v)", err)
	}
	// A back door: a binding of its own for the local user, which Gatehouse does not know of.
	who := s.run("kubectl", "--kubeconfig", s.old, "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
	s.run("kubectl", "--kubeconfig", s.old, "create", "clusterrolebinding", "back-door", "--clusterrole=cluster-admin", "--user="+who)
	s.run("az", append([]string{"aks", "update", "--disable-local-accounts", "-o", "none"}, at...)...)
	s.refuses(admin(filepath.Join(t.TempDir(), "new")), "BadRequest", "Getting static credential is not allowed because this cluster is set to disable local accounts.")
	took := eventually(t, within, "an earlier admin kubeconfig stops working", func() (bool, string) {
		r := s.try(nodes[0], nodes[1:]...)
		return r.code != 0 && strings.Contains(r.stderr, "Forbidden"), r.stdout + r.stderr
	})
	t.Logf("an earlier admin kubeconfig stopped working after %s", took)
	s.run("az", append([]string{"aks", "update", "--enable-local-accounts", "-o", "none"}, at...)...)
	fresh := filepath.Join(t.TempDir(), "fresh")
	s.run(admin(fresh)[0], admin(fresh)[1:]...)
	s.run("kubectl", "--kubeconfig", fresh, "get", "nodes")
}
