package e2e

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const exchange = "api://AzureADTokenExchange"

// TestWorkloads lets programs sign in without a secret: with a certificate, with the token of a cluster's service account, with the
// token of another issuer, each by unmodified clients.
func TestWorkloads(t *testing.T) {
	foreign := newForeignIssuer(t)
	s := &workloads{story: &story{deployment: up(t, "--private-issuers", foreign.host)}, foreign: foreign}
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"a certificate of az's making", s.createForRBAC},
		{"the cluster", s.createCluster},
		{"az login with the certificate", s.azLogin},
		{"kubelogin with the certificate", s.kubeloginCertificate},
		{"the cluster's issuer documents", s.documents},
		{"a service account's token", s.serviceAccount},
		{"federated credentials with az", s.credentials},
		{"another issuer's token", s.foreignToken},
		{"on behalf of a user", s.onBehalfOf},
		{"credentials reset and listed", s.reset},
	} {
		if !t.Run(step.name, func(t *testing.T) { s.t = t; step.run(t) }) {
			t.FailNow() // each step stands on the one before
		}
	}
	s.t = t
}

type workloads struct {
	*story
	foreign *foreignIssuer
	dirs    string // for files of the test
	app     string // client id
	pem     string // file with its certificate and private key
	admin   string // kubeconfig of a local account
	issuer  string // of the cluster's service account tokens
	token   string // file with a service account's token
}

func (w *workloads) createForRBAC(t *testing.T) {
	w.dirs = filepath.Join(w.dir, "..")
	w.loginAdmin()
	var made struct {
		App  string `json:"appId"`
		File string `json:"fileWithCertAndPrivateKey"`
	}
	out := w.run("az", "ad", "sp", "create-for-rbac", "--name", "robot", "--create-cert")
	if err := json.Unmarshal([]byte(out), &made); err != nil || made.File == "" {
		t.Fatalf("%v: %s", err, out)
	}
	w.app, w.pem = made.App, made.File
	var key struct {
		Thumbprint string  `json:"customKeyIdentifier"`
		Type       string  `json:"type"`
		Key        *string `json:"key"`
	}
	out = w.run("az", "ad", "app", "credential", "list", "--id", w.app, "--cert", "--query", "[0]")
	if err := json.Unmarshal([]byte(out), &key); err != nil || len(key.Thumbprint) != 40 || key.Type != "AsymmetricX509Cert" || key.Key != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func (w *workloads) createCluster(t *testing.T) {
	w.group = w.run("az", "ad", "group", "create", "--display-name", "robots", "--mail-nickname", "robots", "--query", "id", "-o", "tsv")
	sp := w.run("az", "ad", "sp", "show", "--id", w.app, "--query", "id", "-o", "tsv")
	w.run("az", "ad", "group", "member", "add", "--group", "robots", "--member-id", sp)
	w.run("az", "group", "create", "--name", "rg", "--location", "centralus")
	w.run("az", "aks", "create", "-g", "rg", "-n", "c1", "--enable-aad", "--aad-admin-group-object-ids", w.group, "--enable-oidc-issuer",
		"--generate-ssh-keys", "-o", "none")
	w.issuer = w.run("az", "aks", "show", "-g", "rg", "-n", "c1", "--query", "oidcIssuerProfile.issuerUrl", "-o", "tsv")
	if !strings.HasPrefix(w.issuer, w.env["GATEHOUSE_URL"]+"/oidc/"+w.env["GATEHOUSE_TENANT_ID"]+"/") || !strings.HasSuffix(w.issuer, "/") {
		t.Fatalf("issuer: %q", w.issuer)
	}
	w.run("az", "aks", "get-credentials", "-g", "rg", "-n", "c1")
	w.server = w.run("kubectl", "config", "view", "-o", "jsonpath={.clusters[0].cluster.server}")
	w.admin = filepath.Join(w.dirs, "admin.kubeconfig")
	w.run("az", "aks", "get-credentials", "-g", "rg", "-n", "c1", "--admin", "-f", w.admin)
}

func (w *workloads) azLogin(t *testing.T) {
	defer func() { w.loginAdmin() }()
	tenant := w.env["GATEHOUSE_TENANT_ID"]
	w.run("az", "login", "--service-principal", "-u", w.app, "-p", w.pem, "--tenant", tenant, "--allow-no-subscriptions", "-o", "none")
	token := w.run("az", "account", "get-access-token", "--resource", aksServer, "--query", "accessToken", "-o", "tsv")
	if _, claims, _ := parts(t, token); claims["appidacr"] != "2" || claims["appid"] != w.app {
		t.Errorf("claims: %v", claims)
	}
	w.becomes(token, http.StatusOK, "the robot is in")
	// A key that is not registered for this application.
	other := filepath.Join(w.dirs, "other.pem")
	w.openssl(t, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=other", "-days", "2", "-keyout", other, "-out", other+".crt")
	joinFiles(t, other, other+".crt")
	w.refuses([]string{"az", "login", "--service-principal", "-u", w.app, "-p", other, "--tenant", tenant, "--allow-no-subscriptions"}, "AADSTS700027", "The key was not found")
}

func (w *workloads) openssl(t *testing.T, args ...string) {
	t.Helper()
	if r := w.try(tool(t, "openssl", "the Debian package openssl"), args...); r.code != 0 {
		t.Fatalf("openssl %v: %s", args, r.stderr)
	}
}

func joinFiles(t *testing.T, to, from string) {
	t.Helper()
	a, err1 := os.ReadFile(to)
	b, err2 := os.ReadFile(from)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if err := os.WriteFile(to, append(a, b...), 0o600); err != nil {
		t.Fatal(err)
	}
}

// forget removes the tokens that kubelogin has cached, so that its next run asks the server.
func (w *workloads) forget() {
	w.t.Helper()
	if err := os.RemoveAll(filepath.Join(w.dirs, "home", ".cache")); err != nil {
		w.t.Fatal(err)
	}
}

// getToken runs kubelogin get-token and returns the token.
func (w *workloads) getToken(args ...string) string {
	w.t.Helper()
	w.forget()
	out := w.run("kubelogin", append([]string{"get-token", "--server-id", aksServer, "--tenant-id", w.env["GATEHOUSE_TENANT_ID"], "--client-id", w.app}, args...)...)
	return execToken(w.t, out)
}

// execToken reads the token that an exec plugin printed.
func execToken(t testing.TB, out string) string {
	t.Helper()
	var credential struct {
		Status struct{ Token string }
	}
	if err := json.Unmarshal([]byte(out), &credential); err != nil || credential.Status.Token == "" {
		t.Fatalf("%v: %s", err, out)
	}
	return credential.Status.Token
}

func (w *workloads) kubeloginCertificate(t *testing.T) {
	// The algorithms of before 2020: what ADAL's library reads.
	pfx := filepath.Join(w.dirs, "robot.pfx")
	w.openssl(t, "pkcs12", "-export", "-in", w.pem, "-out", pfx, "-passout", "pass:secret", "-certpbe", "PBE-SHA1-3DES", "-keypbe", "PBE-SHA1-3DES", "-macalg", "sha1")
	for _, args := range [][]string{
		{"--client-certificate", w.pem},
		{"--client-certificate", pfx, "--client-certificate-password", "secret"},
	} {
		w.becomes(w.getToken(append([]string{"-l", "spn"}, args...)...), http.StatusOK, "kubelogin -l spn "+strings.Join(args, " "))
		// ADAL's tokens are for clusters of the older integration: the prefix spn: in the audience is what --legacy is for.
		token := w.getToken(append([]string{"-l", "spn", "--legacy"}, args...)...)
		if _, claims, _ := parts(t, token); claims["aud"] != "spn:"+aksServer || claims["appidacr"] != "2" {
			t.Errorf("--legacy: %v", claims)
		}
	}
	// As kubectl runs it.
	w.run("kubelogin", "convert-kubeconfig", "-l", "spn", "--client-id", w.app, "--client-certificate", w.pem)
	w.forget()
	if out := w.run("kubectl", "get", "nodes"); strings.Count(out, " Ready ") != 3 {
		t.Errorf("nodes:\n%s", out)
	}
}

func (w *workloads) documents(t *testing.T) {
	var document struct {
		Issuer string `json:"issuer"`
		JWKS   string `json:"jwks_uri"`
	}
	_, body := w.call("GET", w.issuer+".well-known/openid-configuration", "", nil)
	if err := json.Unmarshal([]byte(body), &document); err != nil || document.Issuer != w.issuer || document.JWKS != w.issuer+"openid/v1/jwks" {
		t.Fatalf("%v: %s", err, body)
	}
	code, published := w.call("GET", document.JWKS, "", nil)
	own := w.run("kubectl", "--kubeconfig", w.admin, "get", "--raw", "/openid/v1/jwks")
	var a, b any
	if json.Unmarshal([]byte(published), &a) != nil || json.Unmarshal([]byte(own), &b) != nil || code != http.StatusOK {
		t.Fatalf("%d %s\n%s", code, published, own)
	}
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	if string(x) != string(y) {
		t.Errorf("the API server publishes %s, Gatehouse %s", y, x)
	}
	if code, body := w.call("GET", strings.Replace(w.issuer, w.env["GATEHOUSE_TENANT_ID"], w.group, 1)+"openid/v1/jwks", "", nil); code != http.StatusNotFound {
		t.Errorf("another tenant's: %d %s", code, body)
	}
	w.refuses([]string{"az", "resource", "update", "-g", "rg", "-n", "c1", "--resource-type", "Microsoft.ContainerService/managedClusters", "--api-version", "2024-09-01",
		"--set", "properties.oidcIssuerProfile.enabled=false"}, "can't be disabled")
}

func (w *workloads) federate(name, issuer, subject string) {
	w.t.Helper()
	parameters, _ := json.Marshal(map[string]any{"name": name, "issuer": issuer, "subject": subject, "audiences": []string{exchange}, "description": "test"})
	w.run("az", "ad", "app", "federated-credential", "create", "--id", w.app, "--parameters", string(parameters))
}

func (w *workloads) serviceAccount(t *testing.T) {
	w.run("kubectl", "--kubeconfig", w.admin, "create", "serviceaccount", "builder")
	w.token = filepath.Join(w.dirs, "token")
	issue := func(audience string) {
		token := w.run("kubectl", "--kubeconfig", w.admin, "create", "token", "builder", "--audience", audience)
		if err := os.WriteFile(w.token, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	issue(exchange)
	get := []string{"kubelogin", "get-token", "-l", "workloadidentity", "--server-id", aksServer, "--tenant-id", w.env["GATEHOUSE_TENANT_ID"],
		"--client-id", w.app, "--federated-token-file", w.token, "--authority-host", "https://login.microsoftonline.com/"}
	w.forget()
	w.refuses(get, "AADSTS70021")
	w.federate("builder", w.issuer, "system:serviceaccount:default:builder")
	w.becomes(w.getToken(get[2:]...), http.StatusOK, "the service account is in as the robot")
	// As kubectl runs it, and under the server's own name.
	w.run("kubelogin", "convert-kubeconfig", "-l", "workloadidentity", "--client-id", w.app, "--tenant-id", w.env["GATEHOUSE_TENANT_ID"],
		"--federated-token-file", w.token, "--authority-host", "https://login.microsoftonline.com/")
	w.forget()
	if out := w.run("kubectl", "get", "nodes"); strings.Count(out, " Ready ") != 3 {
		t.Errorf("nodes:\n%s", out)
	}
	issue("somebody-else")
	w.forget()
	w.refuses(get, "AADSTS700212")
	w.run("kubectl", "--kubeconfig", w.admin, "create", "serviceaccount", "intruder")
	token := w.run("kubectl", "--kubeconfig", w.admin, "create", "token", "intruder", "--audience", exchange)
	if err := os.WriteFile(w.token, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	w.forget()
	w.refuses(get, "AADSTS700213")
}

func (w *workloads) credentials(t *testing.T) {
	if got := w.run("az", "ad", "app", "federated-credential", "list", "--id", w.app, "--query", "[].name", "-o", "tsv"); got != "builder" {
		t.Errorf("list: %q", got)
	}
	show := func(query string) string {
		return w.run("az", "ad", "app", "federated-credential", "show", "--id", w.app, "--federated-credential-id", "builder", "--query", query, "-o", "tsv")
	}
	if got := show("issuer"); got != w.issuer {
		t.Errorf("show: %q", got)
	}
	w.run("az", "ad", "app", "federated-credential", "update", "--id", w.app, "--federated-credential-id", show("id"), "--parameters",
		`{"subject": "system:serviceaccount:default:Builder", "audiences": ["`+exchange+`"]}`)
	token := w.run("kubectl", "--kubeconfig", w.admin, "create", "token", "builder", "--audience", exchange)
	if err := os.WriteFile(w.token, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	w.forget()
	w.refuses([]string{"kubelogin", "get-token", "-l", "workloadidentity", "--server-id", aksServer, "--tenant-id", w.env["GATEHOUSE_TENANT_ID"],
		"--client-id", w.app, "--federated-token-file", w.token, "--authority-host", "https://login.microsoftonline.com/"}, "AADSTS7002138")
	w.run("az", "ad", "app", "federated-credential", "delete", "--id", w.app, "--federated-credential-id", "builder")
	if got := w.run("az", "ad", "app", "federated-credential", "list", "--id", w.app, "--query", "length(@)", "-o", "tsv"); got != "0" {
		t.Errorf("after the deletion: %q", got)
	}
	w.refuses([]string{"az", "ad", "app", "federated-credential", "create", "--id", w.app, "--parameters",
		`{"name": "two", "issuer": "https://a.example", "subject": "s", "audiences": ["a", "b"]}`}, "exactly one")
}

// federated asks for a token with another issuer's.
func (w *workloads) federated(assertion string) tokens {
	w.t.Helper()
	return w.grant(url.Values{
		"grant_type": {"client_credentials"}, "client_id": {w.app}, "scope": {aksServer + "/.default"}, "client_assertion": {assertion},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
	})
}

func (w *workloads) foreignToken(t *testing.T) {
	here, there := "https://"+w.foreign.host, "https://"+w.foreign.other
	w.federate("pipeline", here, "repo:a/b:ref:refs/heads/main")
	w.federate("elsewhere", there, "repo:a/b:ref:refs/heads/main")
	if got := w.federated(w.foreign.sign(t, here, "repo:a/b:ref:refs/heads/main")); got.Access == "" {
		t.Fatalf("%s\nserver:\n%s", got.Text, w.log)
	} else {
		w.becomes(got.Access, http.StatusOK, "the pipeline is in as the robot")
	}
	asked := w.foreign.asked.Load()
	w.federated(w.foreign.sign(t, here, "repo:a/b:ref:refs/heads/main"))
	if now := w.foreign.asked.Load(); now != asked {
		t.Errorf("the second token asked the issuer %d times", now-asked)
	}
	// The same machine at a port that was not allowed.
	if got := w.federated(w.foreign.sign(t, there, "repo:a/b:ref:refs/heads/main")); !strings.Contains(got.Text, "AADSTS50166") || w.foreign.asked.Load() != asked {
		t.Errorf("a loopback address: %+v", got)
	}
	// A user's token of this server.
	user := w.adminToken(t)
	w.federate("self", "https://sts.windows.net/"+w.env["GATEHOUSE_TENANT_ID"]+"/", subjectOf(t, user))
	if got := w.federated(user); !strings.Contains(got.Text, "AADSTS700212") { // its audience is another
		t.Errorf("a user's token: %+v", got)
	}
}

func (w *workloads) adminToken(t *testing.T) string {
	got := w.deployment.token(w.env["GATEHOUSE_ADMIN"], w.adminPassword(), azureCLI, aksServer+"/.default")
	if got.Access == "" {
		t.Fatal(got.Text)
	}
	return got.Access
}

func subjectOf(t *testing.T, token string) string {
	_, claims, _ := parts(t, token)
	return claims["sub"].(string)
}

// onBehalfOf is what guard does: it exchanges the user's token for one for Graph.
func (w *workloads) onBehalfOf(t *testing.T) {
	w.run("az", "ad", "app", "update", "--id", w.app, "--identifier-uris", "api://robot")
	secret := w.run("az", "ad", "app", "credential", "reset", "--id", w.app, "--append", "--query", "password", "-o", "tsv")
	w.run("az", "ad", "app", "permission", "grant", "--id", w.app, "--api", graphID, "--scope", "User.Read", "-o", "none")
	user := w.deployment.token(w.env["GATEHOUSE_ADMIN"], w.adminPassword(), azureCLI, "api://robot/.default")
	if user.Access == "" {
		t.Fatal(user.Text)
	}
	obo := func(assertion string) tokens {
		return w.grant(url.Values{
			"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "requested_token_use": {"on_behalf_of"}, "client_id": {w.app}, "client_secret": {secret},
			"assertion": {assertion}, "scope": {"https://graph.microsoft.com/.default"},
		})
	}
	got := obo(user.Access)
	if got.Access == "" {
		t.Fatal(got.Text)
	}
	if code, body := w.call("GET", "https://graph.microsoft.com/v1.0/me", got.Access, nil); code != http.StatusOK || !strings.Contains(body, w.env["GATEHOUSE_ADMIN"]) {
		t.Errorf("/me: %d %s", code, body)
	}
	if got := obo(w.adminToken(t)); !strings.Contains(got.Text, "AADSTS50013") {
		t.Errorf("a token for another audience: %+v", got)
	}
}

func (w *workloads) reset(t *testing.T) {
	count := func() string {
		return w.run("az", "ad", "app", "credential", "list", "--id", w.app, "--cert", "--query", "length(@)", "-o", "tsv")
	}
	// --append sends the certificate that is there back without its key.
	w.run("az", "ad", "app", "credential", "reset", "--id", w.app, "--create-cert", "--append", "-o", "none")
	if got := count(); got != "2" {
		t.Errorf("after --append: %s", got)
	}
	w.getToken("-l", "spn", "--client-certificate", w.pem)
	file := w.run("az", "ad", "app", "credential", "reset", "--id", w.app, "--create-cert", "--query", "fileWithCertAndPrivateKey", "-o", "tsv")
	if got := count(); got != "1" {
		t.Errorf("after a reset: %s", got)
	}
	w.getToken("-l", "spn", "--client-certificate", file)
	w.forget()
	w.refuses([]string{"kubelogin", "get-token", "-l", "spn", "--server-id", aksServer, "--tenant-id", w.env["GATEHOUSE_TENANT_ID"], "--client-id", w.app,
		"--client-certificate", w.pem}, "AADSTS700027")
	key := w.run("az", "ad", "app", "credential", "list", "--id", w.app, "--cert", "--query", "[0].keyId", "-o", "tsv")
	w.run("az", "ad", "app", "credential", "delete", "--id", w.app, "--key-id", key, "--cert")
	if got := count(); got != "0" {
		t.Errorf("after the deletion: %s", got)
	}
	// The same on the service principal.
	file = w.run("az", "ad", "sp", "credential", "reset", "--id", w.app, "--create-cert", "--query", "fileWithCertAndPrivateKey", "-o", "tsv")
	w.getToken("-l", "spn", "--client-certificate", file)
}
