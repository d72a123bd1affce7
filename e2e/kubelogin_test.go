package e2e

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// TestKubelogin goes through the login modes of unmodified kubelogin that no other story has, each plain, with --legacy and with
// --pop-enabled, against a real API server; then makes the cluster one that requires proof of possession.
func TestKubelogin(t *testing.T) {
	foreign := newForeignIssuer(t)
	s := &modes{workloads: &workloads{story: &story{deployment: up(t, "--private-issuers", foreign.host)}, foreign: foreign}}
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"a robot with a certificate", s.createForRBAC},
		{"the cluster", s.createCluster},
		{"alice, and a secret", s.people},
		{"service principal", s.servicePrincipal},
		{"user name and password", s.ropc},
		{"device code --legacy", s.legacyDeviceCode},
		{"azurecli has no proof", s.azurecliWithoutProof},
		{"a pipeline's token", s.azurePipelines},
		{"kubectl with a proof", s.kubectlProof},
		{"the cluster requires proofs", s.requireProof},
		{"interactive with a proof, as handed out", s.interactiveProof},
		{"proofs that are refused", s.badProofs},
		{"bearer tokens again", s.noProof},
	} {
		if !t.Run(step.name, func(t *testing.T) { s.t = t; step.run(t) }) {
			t.FailNow() // each step stands on the one before
		}
	}
	s.t = t
}

type modes struct {
	*workloads
	id     string // ARM id of the cluster
	secret string // of the robot
}

func (m *modes) people(t *testing.T) {
	m.alice = m.user("alice", alicePassword)
	m.run("az", "ad", "group", "member", "add", "--group", "robots", "--member-id", m.alice)
	m.secret = m.run("az", "ad", "app", "credential", "reset", "--id", m.app, "--append", "--query", "password", "-o", "tsv")
	m.id = m.run("az", "aks", "show", "-g", "rg", "-n", "c1", "--query", "id", "-o", "tsv")
}

// pop are the flags for a proof for the cluster.
func (m *modes) pop() []string { return []string{"--pop-enabled", "--pop-claims", "u=" + m.id} }

// mode runs kubelogin with empty caches, and demands what the API server answers to the token.
func (m *modes) mode(t *testing.T, status int, args ...string) (header, claims map[string]any) {
	t.Helper()
	token := m.getToken(append(args, "--cache-dir", t.TempDir())...)
	header, claims, _ = parts(t, token)
	if proof := header["typ"] == "pop"; proof != slices.Contains(args, "--pop-enabled") {
		t.Errorf("kubelogin %s: the token's typ is %v", strings.Join(args, " "), header["typ"])
	} else if proof {
		_, claims, _ = parts(t, claims["at"].(string))
		if cnf, _ := claims["cnf"].(map[string]any); cnf["kid"] != header["kid"] || cnf["xms_ksl"] != "sw" {
			t.Errorf("kubelogin %s: cnf %v of key %v", strings.Join(args, " "), cnf, header["kid"])
		}
	}
	m.becomes(token, status, "kubelogin "+args[1])
	return header, claims
}

// legacy holds the rule for --legacy: version 1 puts spn: before the id, which is for clusters of the older integration and refused here.
func (m *modes) legacy(t *testing.T, args ...string) {
	t.Helper()
	if _, claims := m.mode(t, http.StatusUnauthorized, args...); claims["aud"] != "spn:"+aksServer {
		t.Errorf("kubelogin %s: aud %v", strings.Join(args, " "), claims["aud"])
	}
}

func (m *modes) servicePrincipal(t *testing.T) {
	for acr, credential := range map[string][]string{"1": {"--client-secret", m.secret}, "2": {"--client-certificate", m.pem}} {
		args := append([]string{"-l", "spn"}, credential...)
		for _, more := range [][]string{nil, m.pop()} {
			if _, claims := m.mode(t, http.StatusOK, append(args, more...)...); claims["appid"] != m.app || claims["appidacr"] != acr || claims["aud"] != aksServer {
				t.Errorf("kubelogin %v %v: %v", args[2], more, claims)
			}
		}
		m.legacy(t, append(args, "--legacy")...)
	}
	m.forget()
	m.refuses(append([]string{"kubelogin", "get-token", "-l", "spn", "--server-id", aksServer, "--tenant-id", m.env["GATEHOUSE_TENANT_ID"], "--client-id", m.app,
		"--client-secret", "wrong", "--cache-dir", t.TempDir()}, m.pop()...), "AADSTS7000215")
}

func (m *modes) ropc(t *testing.T) {
	args := []string{"-l", "ropc", "--client-id", aksClient, "--username", m.upn("alice"), "--password", alicePassword}
	for _, more := range [][]string{nil, {"--legacy"}, m.pop()} { // there is no older way in this mode
		if _, claims := m.mode(t, http.StatusOK, append(args, more...)...); claims["upn"] != m.upn("alice") || claims["aud"] != aksServer {
			t.Errorf("%v: %v", more, claims)
		}
	}
}

func (m *modes) legacyDeviceCode(t *testing.T) {
	out := m.byDeviceCode(m.upn("alice"), alicePassword, "kubelogin", "get-token", "-l", "devicecode", "--legacy", "--server-id", aksServer,
		"--client-id", aksClient, "--tenant-id", m.env["GATEHOUSE_TENANT_ID"])
	token := execToken(t, out)
	if _, claims, _ := parts(t, token); claims["aud"] != "spn:"+aksServer || claims["upn"] != m.upn("alice") {
		t.Errorf("claims %v", claims)
	}
	m.becomes(token, http.StatusUnauthorized, "kubelogin -l devicecode --legacy")
}

// azurecliWithoutProof: this mode, like devicecode, leaves the flag out without a word.
func (m *modes) azurecliWithoutProof(t *testing.T) {
	token := m.getToken(append([]string{"-l", "azurecli"}, m.pop()...)...)
	if header, _, _ := parts(t, token); header["typ"] != "JWT" {
		t.Errorf("typ %v", header["typ"])
	}
}

// azurePipelines plays the pipeline service, which gives its jobs tokens of its own issuer.
func (m *modes) azurePipelines(t *testing.T) {
	const connection, access = "0f0f0f0f-1111-2222-3333-444444444444", "the job's own token"
	issuer, subject := "https://"+m.foreign.host, "sc://org/project/connection"
	pipeline := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if r.Method != http.MethodPost || r.URL.Path != "/job/oidctoken" || q.Get("api-version") != "7.1" || q.Get("serviceConnectionId") != connection ||
			r.Header.Get("Authorization") != "Bearer "+access || r.Header.Get("X-TFS-FedAuthRedirect") != "Suppress" {
			http.Error(w, "not what a job asks", http.StatusUnauthorized)
			return
		}
		json.NewEncoder(w).Encode(map[string]string{"oidcToken": m.foreign.sign(t, issuer, subject)})
	}))
	defer pipeline.Close()
	m.env["SYSTEM_OIDCREQUESTURI"], m.env["SYSTEM_ACCESSTOKEN"] = pipeline.URL+"/job/oidctoken", access
	defer func() { delete(m.env, "SYSTEM_OIDCREQUESTURI"); delete(m.env, "SYSTEM_ACCESSTOKEN") }()
	args := []string{"-l", "azurepipelines", "--azure-pipelines-service-connection-id", connection}
	m.forget()
	m.refuses(append([]string{"kubelogin", "get-token", "--server-id", aksServer, "--tenant-id", m.env["GATEHOUSE_TENANT_ID"], "--client-id", m.app}, args...), "AADSTS70021")
	m.federate("pipeline", issuer, subject)
	if _, claims := m.mode(t, http.StatusOK, args...); claims["appid"] != m.app || claims["appidacr"] != "2" {
		t.Errorf("claims %v", claims)
	}
}

// kubectlProof: every request of a command carries the same proof.
func (m *modes) kubectlProof(t *testing.T) {
	m.run("kubelogin", append([]string{"convert-kubeconfig", "-l", "spn", "--client-id", m.app, "--client-secret", m.secret, "--cache-dir", t.TempDir()}, m.pop()...)...)
	for range 2 { // the second time with the key and token that kubelogin kept
		if out := m.run("kubectl", "get", "nodes,pods", "--all-namespaces"); strings.Count(out, " Ready ") != 3 || !strings.Contains(out, "coredns") {
			t.Errorf("nodes and pods:\n%s", out)
		}
	}
	if out := m.run("kubectl", "auth", "whoami", "-o", "json"); !strings.Contains(out, m.group) {
		t.Errorf("whoami:\n%s", out)
	}
}

func (m *modes) requireProof(t *testing.T) {
	bearer := m.getToken("-l", "spn", "--client-secret", m.secret)
	m.becomes(bearer, http.StatusOK, "a bearer token")
	m.run("az", "resource", "update", "--ids", m.id, "--set", "properties.aadProfile.requireProofOfPossession=true", "-o", "none")
	m.becomes(bearer, http.StatusUnauthorized, "a bearer token is refused")
	m.mode(t, http.StatusOK, append([]string{"-l", "spn", "--client-secret", m.secret}, m.pop()...)...)
	m.mode(t, http.StatusUnauthorized, "-l", "ropc", "--client-id", aksClient, "--username", m.upn("alice"), "--password", alicePassword)
	// Clients that do not know the setting keep it.
	m.run("az", "aks", "update", "-g", "rg", "-n", "c1", "--aad-admin-group-object-ids", m.group, "-o", "none")
	if got := m.run("az", "resource", "show", "--ids", m.id, "--query", "properties.aadProfile.requireProofOfPossession", "-o", "tsv"); got != "true" {
		t.Errorf("after az aks update: %q", got)
	}
	m.becomes(bearer, http.StatusUnauthorized, "a bearer token is refused still")
}

// interactiveProof uses the kubeconfig of such a cluster as it is.
func (m *modes) interactiveProof(t *testing.T) {
	m.run("az", "aks", "get-credentials", "-g", "rg", "-n", "c1", "--overwrite-existing")
	m.forget()
	out := m.inBrowser(m.browser(), []string{"kubectl", "get", "nodes"},
		chromedp.WaitVisible(`[data-page=signin]`),
		chromedp.SendKeys(`input[name=loginfmt]`, m.upn("alice")), chromedp.SendKeys(`input[name=passwd]`, alicePassword),
		chromedp.Click(`#idSIButton9`), atClient)
	if strings.Count(out, " Ready ") != 3 {
		t.Errorf("nodes:\n%s", out)
	}
	m.run("kubectl", "get", "nodes") // without a browser now
}

// badProofs signs proofs itself, with a key that it had a token bound to.
func (m *modes) badProofs(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	n := base64.RawURLEncoding.EncodeToString(key.N.Bytes())
	sum := sha256.Sum256([]byte(`{"e":"AQAB","kty":"RSA","n":"` + n + `"}`))
	tp := base64.RawURLEncoding.EncodeToString(sum[:])
	at := m.grant(url.Values{
		"grant_type": {"client_credentials"}, "client_id": {m.app}, "client_secret": {m.secret}, "scope": {aksServer + "/.default"},
		"token_type": {"pop"}, "req_cnf": {base64.RawURLEncoding.EncodeToString([]byte(`{"kid":"` + tp + `","xms_ksl":"sw"}`))},
	}).Access
	prove := func(at, u string, made time.Time) string {
		return forge(t, map[string]any{"typ": "pop", "alg": "RS256", "kid": tp},
			map[string]any{"at": at, "ts": made.Unix(), "u": u, "cnf": map[string]any{"jwk": map[string]any{"kty": "RSA", "n": n, "e": "AQAB"}}},
			func(input string) []byte {
				sum := sha256.Sum256([]byte(input))
				sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
				if err != nil {
					t.Fatal(err)
				}
				return sig
			})
	}
	now := time.Now()
	m.becomes(prove(at, m.id, now), http.StatusOK, "a proof of our own")
	stolen := m.getToken(append([]string{"-l", "spn", "--client-secret", m.secret, "--cache-dir", t.TempDir()}, m.pop()...)...)
	_, inside, _ := parts(t, stolen)
	for what, token := range map[string]string{
		"the token without its proof":  at,
		"a proof for another cluster":  prove(at, strings.TrimSuffix(m.id, "c1")+"c2", now),
		"a proof of 16 minutes ago":    prove(at, m.id, now.Add(-16*time.Minute)),
		"a proof of in two minutes":    prove(at, m.id, now.Add(2*time.Minute)),
		"a proof of another's token":   prove(inside["at"].(string), m.id, now),
		"a proof made by kubelogin, u": m.getToken("-l", "spn", "--client-secret", m.secret, "--pop-enabled", "--pop-claims", "u="+m.id+"2", "--cache-dir", t.TempDir()),
	} {
		if code, body := m.api(token, "/api/v1/nodes"); code != http.StatusUnauthorized {
			t.Errorf("%s: %d %s", what, code, body)
		}
	}
	// Nor is the token a bearer token anywhere else.
	arm := m.grant(url.Values{
		"grant_type": {"client_credentials"}, "client_id": {m.app}, "client_secret": {m.secret}, "scope": {"https://management.azure.com/.default"},
		"token_type": {"pop"}, "req_cnf": {base64.RawURLEncoding.EncodeToString([]byte(`{"kid":"` + tp + `"}`))},
	}).Access
	if code, body := m.call("GET", "https://management.azure.com/subscriptions?api-version=2022-12-01", arm, nil); code != http.StatusUnauthorized || !strings.Contains(body, "bound to a key") {
		t.Errorf("ARM: %d %s", code, body)
	}
}

func (m *modes) noProof(t *testing.T) {
	m.run("az", "resource", "update", "--ids", m.id, "--set", "properties.aadProfile.requireProofOfPossession=false", "-o", "none")
	m.becomes(m.getToken("-l", "spn", "--client-secret", m.secret), http.StatusOK, "a bearer token is let in again")
}
