package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestSDKs signs in with the libraries that programs for Azure are made with: azidentity, MSAL for Go, and the one inside Terraform's
// azuread provider.
func TestSDKs(t *testing.T) {
	foreign := newForeignIssuer(t)
	s := &sdks{workloads: &workloads{story: &story{deployment: up(t, "--private-issuers", foreign.host)}, foreign: foreign}}
	tool(t, "azsdk", "it with `make bin/e2e/azsdk`")
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"a robot with a certificate", s.createForRBAC},
		{"its other credentials, and alice", s.prepare},
		{"applications", s.applications},
		{"users", s.users},
		{"device code", s.deviceCode},
		{"browser", s.browserCredential},
		{"on behalf of", s.onBehalfOf},
		{"with az", s.azureCLI},
	} {
		if !t.Run(step.name, func(t *testing.T) { s.t = t; step.run(t) }) {
			t.FailNow() // each step stands on the one before
		}
	}
	s.t = t
}

type sdks struct {
	*workloads
	robot, person map[string]string // what the libraries read
}

func (s *sdks) prepare(t *testing.T) {
	tenant := s.env["GATEHOUSE_TENANT_ID"]
	s.user("alice", alicePassword)
	s.federate("pipeline", "https://"+s.foreign.host, "job")
	file := func(name, text string) string {
		path := filepath.Join(s.dirs, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	s.robot = map[string]string{
		"AZURE_TENANT_ID": tenant, "AZURE_CLIENT_ID": s.app, "AZURE_CLIENT_CERTIFICATE_PATH": s.pem,
		"AZURE_CLIENT_SECRET":        s.run("az", "ad", "app", "credential", "reset", "--id", s.app, "--append", "--query", "password", "-o", "tsv"),
		"AZURE_FEDERATED_TOKEN_FILE": file("federated", s.foreign.sign(t, "https://"+s.foreign.host, "job")),
	}
	s.person = map[string]string{"AZURE_TENANT_ID": tenant, "AZURE_CLIENT_ID": azureCLI, "AZURE_USERNAME": s.upn("alice"), "AZURE_PASSWORD": alicePassword}
	s.run("az", "ad", "app", "update", "--id", s.app, "--identifier-uris", "api://robot")
	user := s.deployment.token(s.upn("alice"), alicePassword, azureCLI, "api://robot/.default")
	if user.Access == "" {
		t.Fatal(user.Text)
	}
	s.robot["USER_ASSERTION_FILE"] = file("assertion", user.Access)
}

// in runs something with further variables.
func (s *sdks) in(env map[string]string, run func() string) string {
	s.t.Helper()
	for k, v := range env {
		s.env[k] = v
	}
	defer func() {
		for k := range env {
			delete(s.env, k)
		}
	}()
	return run()
}

// get signs in with a library and returns the token's claims.
func (s *sdks) get(t *testing.T, env map[string]string, way, scope string) (token string, claims map[string]any) {
	t.Helper()
	token = execToken(t, s.in(env, func() string { return s.run("azsdk", way, scope) }))
	_, claims, _ = parts(t, token)
	return token, claims
}

func (s *sdks) applications(t *testing.T) {
	for way, acr := range map[string]string{
		"azidentity-secret": "1", "azidentity-certificate": "2", "azidentity-assertion": "2", "azidentity-workload": "2", "azidentity-environment": "1",
		"azidentity-default": "1", "msal-confidential": "1",
	} {
		if _, c := s.get(t, s.robot, way, aksServer+"/.default"); c["appid"] != s.app || c["appidacr"] != acr || c["aud"] != aksServer || c["idtyp"] != "app" {
			t.Errorf("%s: %v", way, c)
		}
	}
	pfx := filepath.Join(s.dirs, "robot.pfx")
	s.openssl(t, "pkcs12", "-export", "-in", s.pem, "-out", pfx, "-passout", "pass:secret", "-certpbe", "PBE-SHA1-3DES", "-keypbe", "PBE-SHA1-3DES", "-macalg", "sha1")
	withPFX := map[string]string{"AZURE_TENANT_ID": s.robot["AZURE_TENANT_ID"], "AZURE_CLIENT_ID": s.app, "AZURE_CLIENT_CERTIFICATE_PATH": pfx, "AZURE_CLIENT_CERTIFICATE_PASSWORD": "secret"}
	for way, env := range map[string]map[string]string{"terraform-secret": s.robot, "terraform-certificate": withPFX, "terraform-oidc": s.robot} {
		token, c := s.get(t, env, way, "-")
		if c["appid"] != s.app || c["aud"] != "https://graph.microsoft.com" {
			t.Errorf("%s: %v", way, c)
		}
		// The robot has no role in the directory: it is known, and may not.
		if code, body := s.call("GET", "https://graph.microsoft.com/v1.0/applications", token, nil); code != http.StatusForbidden {
			t.Errorf("%s: /applications: %d %s", way, code, body)
		}
	}
	wrong := map[string]string{"AZURE_TENANT_ID": s.robot["AZURE_TENANT_ID"], "AZURE_CLIENT_ID": s.app, "AZURE_CLIENT_SECRET": "wrong"}
	for _, way := range []string{"azidentity-secret", "msal-confidential", "terraform-secret"} {
		s.in(wrong, func() string { s.refuses([]string{"azsdk", way, aksServer + "/.default"}, "AADSTS7000215"); return "" })
	}
}

func (s *sdks) users(t *testing.T) {
	for _, way := range []string{"azidentity-password", "msal-public", "msal-public-cp1", "msal-public-organizations"} {
		if _, c := s.get(t, s.person, way, aksServer+"/.default"); c["upn"] != s.upn("alice") || c["aud"] != aksServer {
			t.Errorf("%s: %v", way, c)
		}
	}
	token, _ := s.get(t, s.person, "azidentity-password", "https://graph.microsoft.com/.default")
	if code, body := s.call("GET", "https://graph.microsoft.com/v1.0/me", token, nil); code != http.StatusOK || !strings.Contains(body, s.upn("alice")) {
		t.Errorf("/me: %d %s", code, body)
	}
}

func (s *sdks) deviceCode(t *testing.T) {
	out := s.in(s.person, func() string {
		return s.byDeviceCode(s.upn("alice"), alicePassword, "azsdk", "azidentity-devicecode", aksServer+"/.default")
	})
	if _, c, _ := parts(t, execToken(t, out)); c["upn"] != s.upn("alice") {
		t.Errorf("claims %v", c)
	}
}

func (s *sdks) browserCredential(t *testing.T) {
	out := s.in(s.person, func() string {
		return s.inBrowser(s.browser(), []string{"azsdk", "azidentity-browser", aksServer + "/.default"},
			chromedp.WaitVisible(`[data-page=signin]`),
			chromedp.SendKeys(`input[name=loginfmt]`, s.upn("alice")), chromedp.SendKeys(`input[name=passwd]`, alicePassword),
			chromedp.Click(`#idSIButton9`), atClient)
	})
	if _, c, _ := parts(t, execToken(t, out)); c["upn"] != s.upn("alice") {
		t.Errorf("claims %v", c)
	}
}

func (s *sdks) onBehalfOf(t *testing.T) {
	s.run("az", "ad", "app", "permission", "grant", "--id", s.app, "--api", graphID, "--scope", "User.Read", "-o", "none")
	for _, way := range []string{"azidentity-onbehalfof", "msal-onbehalfof"} {
		token, c := s.get(t, s.robot, way, "https://graph.microsoft.com/.default")
		if c["upn"] != s.upn("alice") || c["appid"] != s.app {
			t.Errorf("%s: %v", way, c)
		}
		if code, body := s.call("GET", "https://graph.microsoft.com/v1.0/me", token, nil); code != http.StatusOK || !strings.Contains(body, s.upn("alice")) {
			t.Errorf("%s: /me: %d %s", way, code, body)
		}
	}
}

// azureCLI is how people use Terraform and SDKs on their own machine.
func (s *sdks) azureCLI(t *testing.T) {
	env := map[string]string{"AZURE_TENANT_ID": s.robot["AZURE_TENANT_ID"], "AZURE_TOKEN_CREDENTIALS": "dev"} // whether this machine has an IMDS must not matter
	for way, aud := range map[string]string{"azidentity-cli": aksServer, "azidentity-default": aksServer, "terraform-cli": "https://graph.microsoft.com"} {
		_, c := s.get(t, env, way, aksServer+"/.default")
		if got := strings.TrimSuffix(c["aud"].(string), "/"); got != aud || c["upn"] != s.env["GATEHOUSE_ADMIN"] {
			t.Errorf("%s: %v", way, c)
		}
	}
}
