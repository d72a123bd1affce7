package e2e

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// kubeClient trusts the cluster's own CA, as the kubeconfig names it.
func (s *story) kubeClient() *http.Client {
	s.t.Helper()
	out := s.clusterCA()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(out) {
		s.t.Fatal("the kubeconfig has no CA")
	}
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
}

func (s *story) clusterCA() []byte {
	s.t.Helper()
	b, err := os.ReadFile(s.env["KUBECONFIG"])
	if err != nil {
		s.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "certificate-authority-data: ")
	line, _, _ := strings.Cut(rest, "\n")
	der, err := base64.StdEncoding.DecodeString(strings.TrimSpace(line))
	if err != nil {
		s.t.Fatal(err)
	}
	return der
}

// parts takes a token apart.
func parts(t *testing.T, token string) (header, claims map[string]any, signed []string) {
	t.Helper()
	signed = strings.Split(token, ".")
	for i, into := range []*map[string]any{&header, &claims} {
		raw, err := base64.RawURLEncoding.DecodeString(signed[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, into); err != nil {
			t.Fatal(err)
		}
	}
	return header, claims, signed
}

// forge puts a token together, with whatever sign makes of its first two parts.
func forge(t *testing.T, header, claims map[string]any, sign func(input string) []byte) string {
	t.Helper()
	enc := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	input := enc(header) + "." + enc(claims)
	return input + "." + base64.RawURLEncoding.EncodeToString(sign(input))
}

// badTokens tries what attackers try first. Each must be 401 at the real API server.
func (s *story) badTokens(t *testing.T) {
	good := s.token(s.upn("alice"), alicePassword, azureCLI, aksServer+"/.default")
	s.becomes(good.Access, http.StatusOK, "the token that the bad ones are made of works")
	header, claims, signed := parts(t, good.Access)
	with := func(m map[string]any, k string, v any) map[string]any {
		out := map[string]any{k: v}
		for key, value := range m {
			if key != k {
				out[key] = value
			}
		}
		return out
	}
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rs256 := func(input string) []byte {
		sum := sha256.Sum256([]byte(input))
		sig, err := rsa.SignPKCS1v15(rand.Reader, stranger, crypto.SHA256, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
	hs256 := func(key []byte) func(string) []byte {
		return func(input string) []byte {
			m := hmac.New(sha256.New, key)
			m.Write([]byte(input))
			return m.Sum(nil)
		}
	}
	der, public := s.signingCertificate(header["kid"].(string))
	flipped := []byte(signed[1])
	flipped[len(flipped)/2] ^= 1
	old := with(with(claims, "exp", time.Now().Add(-time.Hour).Unix()), "iat", time.Now().Add(-2*time.Hour).Unix())
	graph := s.token(s.upn("alice"), alicePassword, azureCLI, "https://graph.microsoft.com/.default")
	arm := s.token(s.upn("alice"), alicePassword, azureCLI, "https://management.azure.com/.default")
	for name, token := range map[string]string{
		"one byte of the claims changed":  signed[0] + "." + string(flipped) + "." + signed[2],
		"signature cut":                   signed[0] + "." + signed[1] + ".",
		"expired":                         forge(t, header, old, rs256),
		"signed by another key":           forge(t, header, claims, rs256),
		"another key under its own kid":   forge(t, with(header, "kid", "stranger"), claims, rs256),
		"key offered in the header":       forge(t, with(with(header, "kid", "x"), "jwk", map[string]any{"kty": "RSA", "n": base64.RawURLEncoding.EncodeToString(stranger.N.Bytes()), "e": "AQAB"}), claims, rs256),
		"alg none":                        forge(t, with(header, "alg", "none"), claims, func(string) []byte { return nil }),
		"HS256 with the public key (PEM)": forge(t, with(header, "alg", "HS256"), claims, hs256(public)),
		"HS256 with the certificate":      forge(t, with(header, "alg", "HS256"), claims, hs256(der)),
		"an ID token":                     good.ID,
		"a Graph token":                   graph.Access,
		"an ARM token":                    arm.Access,
		"a refresh token":                 good.Refresh,
		"not a token":                     "hello",
	} {
		if token == "" {
			t.Errorf("%s: the test has no token to try", name)
			continue
		}
		if code, body := s.api(token, "/api/v1/nodes"); code != http.StatusUnauthorized {
			t.Errorf("%s: %d %s", name, code, body)
		}
	}
}

// signingCertificate returns the certificate of a published key, and its public key as PEM.
func (s *story) signingCertificate(kid string) (der, public []byte) {
	s.t.Helper()
	res, err := s.http().Get("https://login.microsoftonline.com/common/discovery/v2.0/keys")
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	var set struct {
		Keys []struct {
			Kid string   `json:"kid"`
			X5c []string `json:"x5c"`
		} `json:"keys"`
	}
	if err := json.NewDecoder(res.Body).Decode(&set); err != nil {
		s.t.Fatal(err)
	}
	for _, k := range set.Keys {
		if k.Kid != kid {
			continue
		}
		der, err := base64.StdEncoding.DecodeString(k.X5c[0])
		if err != nil {
			s.t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			s.t.Fatal(err)
		}
		pkix, err := x509.MarshalPKIXPublicKey(cert.PublicKey)
		if err != nil {
			s.t.Fatal(err)
		}
		return der, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pkix})
	}
	s.t.Fatalf("key %s is not published", kid)
	return nil, nil
}

// bobTries lets Bob try to help himself, with tokens that are his own.
func (s *story) bobTries(t *testing.T) {
	graph := s.token(s.upn("bob"), bobPassword, azureCLI, "https://graph.microsoft.com/.default").Access
	arm := s.token(s.upn("bob"), bobPassword, azureCLI, "https://management.azure.com/.default").Access
	base := "https://graph.microsoft.com/v1.0"
	cluster := "https://management.azure.com/subscriptions/" + s.env["GATEHOUSE_SUBSCRIPTION_ID"] +
		"/resourceGroups/myResourceGroup/providers/Microsoft.ContainerService/managedClusters/myManagedCluster"
	for _, c := range []struct {
		name, method, url, token string
		body                     any
		status                   int
		code                     string
	}{
		{"add himself to the admin group", "POST", base + "/groups/" + s.group + "/members/$ref", graph,
			map[string]string{"@odata.id": base + "/directoryObjects/" + s.bob}, 403, "Authorization_RequestDenied"},
		{"own the admin group", "POST", base + "/groups/" + s.group + "/owners/$ref", graph,
			map[string]string{"@odata.id": base + "/directoryObjects/" + s.bob}, 403, "Authorization_RequestDenied"},
		{"reset a password", "PATCH", base + "/users/" + s.alice, graph,
			map[string]any{"passwordProfile": map[string]any{"password": "Hacked-By-Bob-1"}}, 403, "Authorization_RequestDenied"},
		{"enable an account", "PATCH", base + "/users/" + s.alice, graph, map[string]any{"accountEnabled": true}, 403, "Authorization_RequestDenied"},
		{"create a user", "POST", base + "/users", graph, map[string]any{"displayName": "Eve", "userPrincipalName": s.upn("eve"),
			"mailNickname": "eve", "accountEnabled": true, "passwordProfile": map[string]any{"password": "Hacked-By-Bob-1"}}, 403, "Authorization_RequestDenied"},
		{"read the admin credential", "POST", cluster + "/listClusterAdminCredential?api-version=2022-11-01", arm, nil, 403, "AuthorizationFailed"},
		{"read the user credential", "POST", cluster + "/listClusterUserCredential?api-version=2022-11-01", arm, nil, 403, "AuthorizationFailed"},
		{"read the cluster", "GET", cluster + "?api-version=2022-11-01", arm, nil, 403, "AuthorizationFailed"},
		{"delete the cluster", "DELETE", cluster + "?api-version=2022-11-01", arm, nil, 403, "AuthorizationFailed"},
		{"use an ARM token for Graph", "GET", base + "/me", arm, nil, 401, "InvalidAuthenticationToken"},
		{"use a Graph token for ARM", "GET", cluster + "?api-version=2022-11-01", graph, nil, 401, "InvalidAuthenticationToken"},
	} {
		if status, body := s.call(c.method, c.url, c.token, c.body); status != c.status || !strings.Contains(body, c.code) {
			t.Errorf("%s: %d %s, want %d %s", c.name, status, body, c.status, c.code)
		}
	}
	if status, body := s.call("GET", base+"/groups/"+s.group, graph, nil); status != 200 {
		t.Errorf("a member may read the directory: %d %s", status, body)
	}
	s.run("az", "ad", "user", "update", "--id", s.bob, "--account-enabled", "false")
	if status, body := s.call("GET", base+"/me", graph, nil); status != 401 {
		t.Errorf("Graph with the token of a disabled user: %d %s", status, body)
	}
	if status, body := s.call("GET", "https://management.azure.com/tenants?api-version=2020-01-01", arm, nil); status != 401 {
		t.Errorf("ARM with the token of a disabled user: %d %s", status, body)
	}
	s.run("az", "ad", "user", "update", "--id", s.bob, "--account-enabled", "true")
}

// withdrawnKey comes late in the story, because every token so far was signed with the key.
func (s *story) withdrawnKey(t *testing.T) {
	token := s.aksToken("alice", alicePassword)
	s.becomes(token, http.StatusOK, "Alice is in")
	header, _, _ := parts(t, token)
	s.run("gatehouse", "keys", "--data-dir", s.dir, "--withdraw", header["kid"].(string))
	s.becomes(token, http.StatusUnauthorized, "a token of a withdrawn key is refused")
	s.becomes(s.aksToken("alice", alicePassword), http.StatusOK, "a token of the new key is good")
	s.run("az", "group", "list") // az's own token was signed with it, too: a claims challenge makes it get another one
}
