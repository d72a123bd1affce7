package e2e

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// foreignIssuer is another OpenID provider, on loopback https, such as the one of a pipeline.
type foreignIssuer struct {
	host  string // 127.0.0.1:PORT
	other string // the same at a port that is not allowed
	key   *rsa.PrivateKey
	asked atomic.Int64
}

// newForeignIssuer starts one and makes the programs that the test starts trust its certificate.
func newForeignIssuer(t *testing.T) *foreignIssuer {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	f := &foreignIssuer{key: key}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.asked.Add(1)
		self := "https://" + r.Host
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			json.NewEncoder(w).Encode(map[string]string{"issuer": self, "jwks_uri": self + "/keys"})
		case "/keys":
			json.NewEncoder(w).Encode(map[string]any{"keys": []any{map[string]string{
				"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "one", "e": "AQAB", "n": base64.RawURLEncoding.EncodeToString(key.N.Bytes()),
			}}})
		default:
			http.NotFound(w, r)
		}
	})
	srv, second := httptest.NewTLSServer(handler), httptest.NewTLSServer(handler)
	t.Cleanup(srv.Close)
	t.Cleanup(second.Close)
	f.host, f.other = srv.Listener.Addr().String(), second.Listener.Addr().String()
	file := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", file)
	return f
}

// sign makes a token.
func (f *foreignIssuer) sign(t *testing.T, issuer, subject string) string {
	now := time.Now()
	return forge(t, map[string]any{"alg": "RS256", "typ": "JWT", "kid": "one"},
		map[string]any{"iss": issuer, "sub": subject, "aud": exchange, "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(10 * time.Minute).Unix()},
		func(input string) []byte {
			sum := sha256.Sum256([]byte(input))
			sig, err := rsa.SignPKCS1v15(rand.Reader, f.key, crypto.SHA256, sum[:])
			if err != nil {
				t.Fatal(err)
			}
			return sig
		})
}
