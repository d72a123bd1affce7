package e2e

import (
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestManagedIdentities walks managed identities with unmodified clients: made with az, given to clusters, used by az and kubelogin (and so
// azidentity) in each form that hands out their tokens, and gone with their resource.
func TestManagedIdentities(t *testing.T) {
	s := &identities{story: &story{deployment: up(t, "--verbose")}}
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"az identity", s.create},
		{"a cluster with identities", s.cluster},
		{"App Service form", s.appService},
		{"metadata service form", s.imds},
		{"Arc form", s.arc},
		{"workload identity", s.workload},
		{"identities of one's own for a cluster", s.assign},
		{"a disabled identity", s.disabled},
		{"gone with its resource", s.gone},
		{"no secret in any log", s.logs},
	} {
		if !t.Run(step.name, func(t *testing.T) { s.t = t; step.run(t) }) {
			t.FailNow() // each step stands on the one before
		}
	}
	s.t = t
}

type identities struct {
	*story
	id, client, principal string // of the user-assigned identity robot
	clusterID             string
	system                string // object id of the cluster's own identity
	secrets               []string
}

const identityNamespace = "/providers/Microsoft.ManagedIdentity/"

func (s *identities) create(t *testing.T) {
	s.loginAdmin()
	s.run("az", "group", "create", "--name", "rg", "--location", "centralus")
	var made struct{ ID, ClientID, PrincipalID, TenantID, Location string }
	out := s.run("az", "identity", "create", "-g", "rg", "-n", "robot", "--tags", "env=test")
	if err := json.Unmarshal([]byte(out), &made); err != nil || made.ClientID == "" || made.TenantID != s.env["GATEHOUSE_TENANT_ID"] || made.Location != "centralus" {
		t.Fatalf("%v: %s", err, out)
	}
	s.id, s.client, s.principal = made.ID, made.ClientID, made.PrincipalID
	if again := s.run("az", "identity", "create", "-g", "RG", "-n", "ROBOT", "--query", "principalId", "-o", "tsv"); again != s.principal {
		t.Errorf("a second create: %s, want %s", again, s.principal)
	}
	if got := s.run("az", "identity", "list", "--query", "[].name", "-o", "tsv"); got != "robot" {
		t.Errorf("list: %q", got)
	}
	if got := s.run("az", "identity", "show", "--ids", s.id, "--query", "principalId", "-o", "tsv"); got != s.principal {
		t.Errorf("show: %q", got)
	}
	if got := s.run("az", "resource", "list", "--resource-type", "Microsoft.ManagedIdentity/userAssignedIdentities", "--query", "[].name", "-o", "tsv"); got != "robot" {
		t.Errorf("resource list: %q", got)
	}
	if got := s.run("az", "ad", "sp", "show", "--id", s.client, "--query", "[id, servicePrincipalType, alternativeNames[1]]", "-o", "tsv"); got != s.principal+"\nManagedIdentity\n"+s.id {
		t.Errorf("service principal: %q", got)
	}
	s.refuses([]string{"az", "ad", "sp", "delete", "--id", s.client}, "managed identity of a resource")
	s.refuses([]string{"az", "identity", "create", "-g", "rg", "-n", "a"}, "3 to 128")
	s.refuses([]string{"az", "identity", "show", "-g", "rg", "-n", "nobody"}, "was not found")
	if got := s.run("az", "identity", "list-operations", "--query", "length(@)", "-o", "tsv"); got == "0" {
		t.Error("no operations")
	}
}

func (s *identities) cluster(t *testing.T) {
	s.group = s.run("az", "ad", "group", "create", "--display-name", "robots", "--mail-nickname", "robots", "--query", "id", "-o", "tsv")
	s.run("az", "ad", "group", "member", "add", "--group", "robots", "--member-id", s.principal)
	s.run("az", "aks", "create", "-g", "rg", "-n", "c1", "--enable-aad", "--aad-admin-group-object-ids", s.group, "--enable-oidc-issuer", "--generate-ssh-keys", "-o", "none")
	s.run("az", "aks", "get-credentials", "-g", "rg", "-n", "c1")
	s.server = s.run("kubectl", "config", "view", "-o", "jsonpath={.clusters[0].cluster.server}")
	s.clusterID = s.run("az", "aks", "show", "-g", "rg", "-n", "c1", "--query", "id", "-o", "tsv")
	s.system = s.run("az", "aks", "show", "-g", "rg", "-n", "c1", "--query", "identity.principalId", "-o", "tsv")
	got := s.run("az", "rest", "--method", "get", "--uri", "https://management.azure.com"+s.clusterID+identityNamespace+"identities/default?api-version=2023-01-31",
		"--query", "properties.principalId", "-o", "tsv")
	if got != s.system || s.system == "" {
		t.Errorf("the system-assigned identity is %q, the cluster says %q", got, s.system)
	}
	kubelet := s.run("az", "aks", "show", "-g", "rg", "-n", "c1", "--query", "identityProfile.kubeletidentity.objectId", "-o", "tsv")
	if got := s.run("az", "ad", "sp", "show", "--id", kubelet, "--query", "displayName", "-o", "tsv"); got != "c1-agentpool" {
		t.Errorf("the kubelets' identity: %q", got)
	}
}

// shell is a shell that has the environment for an identity, and folders of its own for what clients keep.
func (s *identities) shell(t *testing.T, args ...string) *story {
	t.Helper()
	bin := tool(t, "gatehouse", "it with `make build`")
	out, err := exec.Command(bin, append([]string{"env", "--data-dir", s.dir, "--identity"}, args...)...).Output()
	if err != nil {
		t.Fatal(explain(err))
	}
	inner := *s.story
	d := *s.deployment
	inner.deployment = &d
	d.t = t
	d.env = maps.Clone(s.env)
	for _, m := range regexp.MustCompile(`(?m)^export ([A-Za-z_]+)='(.*)'$`).FindAllStringSubmatch(string(out), -1) {
		d.env[m[1]] = m[2]
		if m[1] == "IDENTITY_HEADER" {
			s.secrets = append(s.secrets, m[2])
		}
		if m[1] == "HTTP_PROXY" {
			_, rest, _ := strings.Cut(m[2], ":")
			_, rest, _ = strings.Cut(rest, ":")
			secret, _, _ := strings.Cut(rest, "@")
			s.secrets = append(s.secrets, secret)
		}
	}
	d.env["AZURE_CONFIG_DIR"] = filepath.Join(t.TempDir(), "azure")
	return &inner
}

// close closes the endpoints of an identity.
func (s *identities) close(name string) {
	s.t.Helper()
	s.run("gatehouse", "env", "--data-dir", s.dir, "--identity", name, "--stop")
	if got := s.run("gatehouse", "status", "--data-dir", s.dir); strings.Contains(got, "\nidentity ") {
		s.t.Errorf("still open:\n%s", got)
	}
}

func kubeloginMSI(s *story, args ...string) result {
	return s.try("kubelogin", append([]string{"get-token", "-l", "msi", "--server-id", aksServer}, args...)...)
}

// getToken runs kubelogin -l msi and returns the token.
func getToken(t *testing.T, s *story, args ...string) string {
	t.Helper()
	r := kubeloginMSI(s, args...)
	var credential struct {
		Status struct{ Token string }
	}
	if err := json.Unmarshal([]byte(r.stdout), &credential); err != nil || credential.Status.Token == "" {
		t.Fatalf("kubelogin %v: %v: %s%s\nserver:\n%s", args, err, r.stdout, r.stderr, s.log)
	}
	return credential.Status.Token
}

// login signs az in with an identity and asks it for a token for clusters.
func login(t *testing.T, s *story, args ...string) string {
	t.Helper()
	s.run("az", append([]string{"login", "--identity", "--allow-no-subscriptions", "-o", "none"}, args...)...)
	return s.run("az", "account", "get-access-token", "--resource", aksServer, "--query", "accessToken", "-o", "tsv")
}

// works uses an identity in every way that a form has, with each of these ways to choose it.
func (s *identities) works(t *testing.T, shell *story, kubelogin, az [][]string) {
	t.Helper()
	for _, args := range kubelogin {
		s.becomes(getToken(t, shell, args...), http.StatusOK, "kubelogin "+strings.Join(args, " "))
	}
	for _, args := range az {
		s.becomes(login(t, shell, args...), http.StatusOK, "az login --identity "+strings.Join(args, " "))
	}
	for _, flag := range []string{"--client-id", "--identity-resource-id"} {
		other := map[string]string{"--client-id": s.principal, "--identity-resource-id": s.id + "2"}[flag]
		if r := kubeloginMSI(shell, flag, other); r.code == 0 || !strings.Contains(r.stderr, "Identity not found") {
			t.Errorf("kubelogin %s %s: %d %s%s", flag, other, r.code, r.stdout, r.stderr)
		}
	}
}

func (s *identities) appService(t *testing.T) {
	shell := s.shell(t, "robot")
	s.works(t, shell, [][]string{nil, {"--client-id", s.client}, {"--identity-resource-id", s.id}}, [][]string{nil, {"-u", s.client}})
	_, claims, _ := parts(t, getToken(t, shell))
	life := claims["exp"].(float64) - claims["iat"].(float64)
	if claims["oid"] != s.principal || claims["appid"] != s.client || claims["xms_mirid"] != s.id || claims["idtyp"] != "app" || claims["aud"] != aksServer ||
		claims["appidacr"] != "2" || life != 24*3600 || claims["scp"] != nil {
		t.Errorf("claims: %v", claims)
	}
	// As kubectl runs it.
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	shell.run("az", "account", "show")
	s.run("az", "aks", "get-credentials", "-g", "rg", "-n", "c1", "-f", kubeconfig)
	shell.env["KUBECONFIG"] = kubeconfig
	shell.run("kubelogin", "convert-kubeconfig", "-l", "msi")
	if out := shell.run("kubectl", "get", "nodes"); strings.Count(out, " Ready ") != 3 {
		t.Errorf("nodes:\n%s", out)
	}
	if got := s.run("gatehouse", "status", "--data-dir", s.dir); !strings.Contains(got, s.id+": appservice form, at 127.0.0.1:") {
		t.Errorf("status:\n%s", got)
	}
	// A second shell gets the same endpoint; one whose secret is not right gets nothing.
	if again := s.shell(t, s.client); again.env["IDENTITY_ENDPOINT"] != shell.env["IDENTITY_ENDPOINT"] {
		t.Error("a second shell got another endpoint")
	}
	shell.env["IDENTITY_HEADER"], shell.env["MSI_SECRET"] = "wrong", "wrong"
	if r := kubeloginMSI(shell); r.code == 0 || !strings.Contains(r.stderr, "missing or wrong") {
		t.Errorf("a wrong secret: %s%s", r.stdout, r.stderr)
	}
	shell.refuses([]string{"az", "login", "--identity", "--allow-no-subscriptions"}, "missing or wrong")
	s.close("robot")
}

func (s *identities) imds(t *testing.T) {
	shell := s.shell(t, s.id, "--form", "imds")
	s.works(t, shell, [][]string{nil, {"--client-id", s.client}, {"--identity-resource-id", s.id}},
		[][]string{nil, {"-u", s.client}, {"-u", s.id}, {"-u", s.principal}})
	shell.refuses([]string{"az", "login", "--identity", "-u", s.group, "--allow-no-subscriptions"}, "check your managed service identity id")
	s.close(s.id)
}

// arc gives kubelogin the cluster's own identity.
func (s *identities) arc(t *testing.T) {
	s.refuses([]string{"gatehouse", "env", "--data-dir", s.dir, "--identity", "robot", "--form", "arc"}, "user-assigned")
	const folder = "/var/opt/azcmagent/tokens"
	_, err := os.Stat(folder)
	made := os.IsNotExist(err)
	r := s.try("gatehouse", "env", "--data-dir", s.dir, "--identity", s.clusterID, "--form", "arc")
	if r.code != 0 && strings.Contains(r.stderr, folder) && os.Geteuid() != 0 {
		t.Skipf("skipped: %s", r.stderr)
	}
	if made {
		t.Cleanup(func() {
			os.Remove(folder) // only if it is empty
			os.Remove(filepath.Dir(folder))
		})
	}
	shell := s.shell(t, strings.ToUpper(s.clusterID), "--form", "arc")
	s.run("az", "ad", "group", "member", "add", "--group", "robots", "--member-id", s.system)
	token := getToken(t, shell)
	if _, claims, _ := parts(t, token); claims["oid"] != s.system || claims["xms_mirid"] != s.clusterID {
		t.Errorf("claims: %v", claims)
	}
	s.becomes(token, http.StatusOK, "the cluster's own identity is in")
	if left, err := os.ReadDir(folder); err != nil || len(left) != 0 {
		t.Errorf("key files are left: %v %v", left, err)
	}
	s.close(s.clusterID)
}

// workload lets a service account act as the identity, which is what workload identity in AKS is.
func (s *identities) workload(t *testing.T) {
	admin := filepath.Join(t.TempDir(), "admin")
	s.run("az", "aks", "get-credentials", "-g", "rg", "-n", "c1", "--admin", "-f", admin)
	s.run("kubectl", "--kubeconfig", admin, "create", "serviceaccount", "builder")
	file := filepath.Join(t.TempDir(), "token")
	token := s.run("kubectl", "--kubeconfig", admin, "create", "token", "builder", "--audience", exchange)
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	get := []string{"kubelogin", "get-token", "-l", "workloadidentity", "--server-id", aksServer, "--tenant-id", s.env["GATEHOUSE_TENANT_ID"],
		"--client-id", s.client, "--federated-token-file", file, "--authority-host", "https://login.microsoftonline.com/"}
	s.refuses(get, "AADSTS70021")
	issuer := s.run("az", "aks", "show", "-g", "rg", "-n", "c1", "--query", "oidcIssuerProfile.issuerUrl", "-o", "tsv")
	on := []string{"-g", "rg", "--identity-name", "robot"}
	credential := func(verb string, args ...string) string {
		return s.run("az", append(append([]string{"identity", "federated-credential", verb}, on...), args...)...)
	}
	credential("create", "-n", "builder", "--issuer", issuer, "--subject", "system:serviceaccount:default:nobody")
	s.refuses(get, "AADSTS700213")
	credential("update", "-n", "Builder", "--issuer", issuer, "--subject", "system:serviceaccount:default:builder")
	if got := credential("list", "--query", "[].[name, subject, audiences[0]]", "-o", "tsv"); got != "builder\tsystem:serviceaccount:default:builder\t"+exchange {
		t.Errorf("list: %q", got)
	}
	var got struct{ Status struct{ Token string } }
	out := s.run(get[0], get[1:]...)
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, claims, _ := parts(t, got.Status.Token); claims["oid"] != s.principal || claims["xms_mirid"] != s.id {
		t.Errorf("claims: %v", claims)
	}
	s.becomes(got.Status.Token, http.StatusOK, "the service account is in as the identity")
	s.refuses(append([]string{"az", "identity", "federated-credential", "create"}, append(on, "-n", "second", "--issuer", issuer, "--subject", "system:serviceaccount:default:builder")...),
		"must be unique")
	if got := credential("show", "-n", "builder", "--query", "issuer", "-o", "tsv"); got != issuer {
		t.Errorf("show: %q", got)
	}
	credential("delete", "-n", "builder", "-y")
	if err := os.RemoveAll(filepath.Join(s.dir, "..", "home", ".cache")); err != nil { // kubelogin's tokens
		t.Fatal(err)
	}
	s.refuses(get, "AADSTS70021")
}

func (s *identities) assign(t *testing.T) {
	s.run("az", "aks", "create", "-g", "rg", "-n", "c2", "--enable-aad", "--aad-admin-group-object-ids", s.group, "--assign-identity", s.id,
		"--generate-ssh-keys", "-o", "none")
	got := s.run("az", "aks", "show", "-g", "rg", "-n", "c2", "--query", "[identity.type, identity.principalId, identity.userAssignedIdentities.*.principalId | [0]]", "-o", "tsv")
	if got != "UserAssigned\nNone\n"+s.principal {
		t.Errorf("identity: %q", got)
	}
	if got := s.run("az", "identity", "list-resources", "-g", "rg", "-n", "robot", "--query", "[].name", "-o", "tsv"); got != "c2" {
		t.Errorf("list-resources: %q", got)
	}
	s.refuses([]string{"az", "aks", "create", "-g", "rg", "-n", "c3", "--assign-identity", s.id + "2", "--generate-ssh-keys"}, "does not exist")
	s.run("az", "aks", "delete", "-g", "rg", "-n", "c2", "-y")
	if got := s.run("az", "ad", "sp", "show", "--id", s.client, "--query", "id", "-o", "tsv"); got != s.principal {
		t.Errorf("the identity went with the cluster: %q", got)
	}
}

func (s *identities) disabled(t *testing.T) {
	shell := s.shell(t, "robot")
	token := getToken(t, shell)
	s.becomes(token, http.StatusOK, "before")
	enable := func(yes string) {
		s.run("az", "ad", "sp", "update", "--id", s.client, "--set", "accountEnabled="+yes)
	}
	enable("false")
	s.becomes(token, http.StatusUnauthorized, "a disabled identity's token")
	if r := kubeloginMSI(shell); r.code == 0 || !strings.Contains(r.stderr, "AADSTS7000112") {
		t.Errorf("a disabled identity: %s%s", r.stdout, r.stderr)
	}
	enable("true")
	s.becomes(getToken(t, shell), http.StatusOK, "enabled again")
}

func (s *identities) gone(t *testing.T) {
	shell := s.shell(t, "robot")
	token := getToken(t, shell)
	s.run("az", "identity", "delete", "-g", "rg", "-n", "robot")
	s.run("az", "identity", "delete", "-g", "rg", "-n", "robot") // is deleted already
	s.becomes(token, http.StatusUnauthorized, "a deleted identity's token")
	if r := kubeloginMSI(shell); r.code == 0 {
		t.Errorf("a deleted identity: %s", r.stdout)
	}
	s.refuses([]string{"az", "ad", "sp", "show", "--id", s.client}, "does not exist")
	if got := s.run("az", "ad", "group", "member", "list", "--group", "robots", "--query", "[].id", "-o", "tsv"); strings.Contains(got, s.principal) {
		t.Errorf("it is a member still: %q", got)
	}
	s.refuses([]string{"gatehouse", "env", "--data-dir", s.dir, "--identity", "robot"}, "no managed identity")
	// Another one of the same name is somebody else.
	again := s.run("az", "identity", "create", "-g", "rg", "-n", "robot", "--query", "principalId", "-o", "tsv")
	if again == s.principal {
		t.Error("an object id was used again")
	}
	s.becomes(getToken(t, s.shell(t, "robot")), http.StatusForbidden, "the new one is in no group")
	s.run("az", "group", "delete", "-n", "rg", "-y")
	s.refuses([]string{"az", "ad", "sp", "show", "--id", again}, "does not exist")
	s.refuses([]string{"az", "ad", "sp", "show", "--id", s.system}, "does not exist")
	if got := s.run("gatehouse", "status", "--data-dir", s.dir); strings.Contains(got, "\nidentity ") {
		t.Errorf("an endpoint is open:\n%s", got)
	}
}

func (s *identities) logs(t *testing.T) {
	audit, err := os.ReadFile(filepath.Join(s.dir, "audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	if len(s.secrets) < 3 {
		t.Fatalf("%d secrets were seen", len(s.secrets))
	}
	for _, secret := range s.secrets {
		if strings.Contains(s.log.String(), secret) || strings.Contains(string(audit), secret) {
			t.Errorf("a secret is in a log")
		}
	}
	if !strings.Contains(string(audit), `"method":"managed identity"`) {
		t.Error("no sign-in of an identity is in the audit log")
	}
}
