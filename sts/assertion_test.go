package sts

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"maps"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// certificate is a self-signed certificate with its key.
type certificate struct {
	key *rsa.PrivateKey
	der []byte
}

// testKey is one RSA key for every certificate of a role; making keys is what tests would spend their time with.
var testKey = sync.OnceValue(newKey)
var otherKey = sync.OnceValue(newKey)

func newKey() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
}

func newCertificate(t testing.TB, key *rsa.PrivateKey, from, to time.Time) certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	must(t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "robot"}, NotBefore: from, NotAfter: to},
		&x509.Certificate{SerialNumber: serial}, &key.PublicKey, key)
	must(t, err)
	return certificate{key, der}
}

func (c certificate) x5t() string {
	sum := sha1.Sum(c.der)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (c certificate) x5t256() string {
	sum := sha256.Sum256(c.der)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// sign makes a compact JWS by the algorithm that its header names.
func sign(t testing.TB, key *rsa.PrivateKey, header, body map[string]any) string {
	t.Helper()
	text := b64(header) + "." + b64(body)
	var sig []byte
	var err error
	switch header["alg"] {
	case "PS256":
		sum := sha256.Sum256([]byte(text))
		sig, err = rsa.SignPSS(rand.Reader, key, crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	case "RS512":
		sum := sha512.Sum512([]byte(text))
		sig, err = rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA512, sum[:])
	case "HS256":
		der, _ := x509.MarshalPKIXPublicKey(&key.PublicKey)
		m := hmac.New(sha256.New, der)
		m.Write([]byte(text))
		sig = m.Sum(nil)
	case "none":
	default:
		sum := sha256.Sum256([]byte(text))
		sig, err = rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	}
	must(t, err)
	return text + "." + b64(sig)
}

// robot is a confidential application with certificates.
func (w *world) robot(name string, certs ...certificate) *directory.Application {
	w.t.Helper()
	a := directory.Application{DisplayName: name}
	for _, c := range certs {
		a.Keys = append(a.Keys, directory.KeyCredential{Certificate: c.der})
	}
	return w.app(a)
}

// assert asks for a token with an assertion.
func (w *world) assert(path string, app *directory.Application, assertion string, more ...string) answer {
	w.t.Helper()
	f := values("grant_type", "client_credentials", "client_id", app.AppID.String(), "client_assertion_type", assertionType, "client_assertion", assertion)
	if strings.Contains(path, "v2.0") {
		f.Set("scope", aksScope)
	} else {
		f.Set("resource", directory.AKSServer.String())
	}
	for i := 0; i+1 < len(more); i += 2 {
		f.Set(more[i], more[i+1])
	}
	return w.post(path, f)
}

func with(m map[string]any, pairs ...any) map[string]any {
	m = maps.Clone(m)
	for i := 0; i+1 < len(pairs); i += 2 {
		if k := pairs[i].(string); pairs[i+1] == nil {
			delete(m, k)
		} else {
			m[k] = pairs[i+1]
		}
	}
	return m
}

// TestCertificateAssertions: the forms in which MSAL for Go and Python and ADAL send them, and every name of the audience.
func TestCertificateAssertions(t *testing.T) {
	w := newWorld(t)
	now := w.clock()
	cert := newCertificate(t, testKey(), now.Add(-time.Hour), now.Add(90*24*time.Hour))
	app := w.robot("robot", cert)
	id, tid := app.AppID.String(), w.tenant.ID.String()
	body := map[string]any{"iss": id, "sub": id, "aud": w.http.URL + w.v2(), "jti": "1", "nbf": now.Unix(), "exp": now.Add(10 * time.Minute).Unix()}
	std := func(s string) string { // standard base64 with padding
		raw, _ := base64.RawURLEncoding.DecodeString(s)
		return base64.StdEncoding.EncodeToString(raw)
	}
	padded := func(s string) string { return s + strings.Repeat("=", (4-len(s)%4)%4) }
	for name, c := range map[string]struct {
		path         string
		header, body map[string]any
	}{
		"MSAL for Go":            {w.v2(), map[string]any{"alg": "PS256", "typ": "JWT", "x5t#S256": std(cert.x5t256()), "x5c": []string{std(b64(cert.der))}}, body},
		"MSAL for Python":        {w.v2(), map[string]any{"alg": "RS256", "x5t": padded(cert.x5t())}, with(body, "nbf", nil, "iat", now.Unix())},
		"ADAL":                   {w.v1(), map[string]any{"alg": "RS256", "x5t": padded(cert.x5t()), "x5c": []string{"x"}}, with(body, "aud", cloudLogin+w.v1()+"?api-version=1.0", "exp", now.Add(24*time.Hour).Unix())},
		"Terraform":              {w.v2(), map[string]any{"alg": "RS256", "typ": "JWT", "kid": padded(cert.x5t())}, body},
		"both thumbprints":       {w.v2(), map[string]any{"alg": "PS256", "x5t": std(cert.x5t()), "x5t#S256": cert.x5t256()}, body},
		"aud in a list":          {w.v2(), map[string]any{"alg": "RS256", "x5t": cert.x5t()}, with(body, "aud", []string{w.http.URL + w.v2()})},
		"aud by domain":          {w.v2(), map[string]any{"alg": "RS256", "x5t": cert.x5t()}, with(body, "aud", cloudLogin+"/"+domain+"/oauth2/v2.0/token")},
		"aud: issuer, version 1": {w.v2(), map[string]any{"alg": "RS256", "x5t": cert.x5t()}, with(body, "aud", cloudSTS+"/"+tid+"/")},
		"aud: issuer, version 2": {w.v2(), map[string]any{"alg": "RS256", "x5t": cert.x5t()}, with(body, "aud", w.http.URL+"/"+tid+"/v2.0")},
		"aud: the other version": {w.v2(), map[string]any{"alg": "RS256", "x5t": cert.x5t()}, with(body, "aud", "https://login.windows.net"+w.v1())},
		"a clock behind":         {w.v2(), map[string]any{"alg": "RS256", "x5t": cert.x5t()}, with(body, "exp", now.Add(-4*time.Minute).Unix())},
		"a clock ahead":          {w.v2(), map[string]any{"alg": "RS256", "x5t": cert.x5t()}, with(body, "nbf", now.Add(4*time.Minute).Unix())},
		"iss in capitals":        {w.v2(), map[string]any{"alg": "RS256", "x5t": cert.x5t()}, with(body, "iss", strings.ToUpper(id))},
	} {
		w.run(name, func(t *testing.T) {
			a := w.ok(w.assert(c.path, app, sign(t, cert.key, c.header, c.body)))
			got := claims(t, a.text("access_token"))
			if got["appidacr"] != "2" || got["oid"] != w.principal(app).ID.String() || got["idtyp"] != "app" {
				t.Errorf("claims: %v", got)
			}
			must(t, w.verify(a.text("access_token")))
		})
	}
	if got := w.events(); got[len(got)-1].Details["credential"] != "certificate "+app.Keys[0].KeyID.String() {
		t.Errorf("audited: %+v", got[len(got)-1])
	}
}

// TestPrincipalCertificate: az ad sp credential reset puts the certificate on the service principal.
func TestPrincipalCertificate(t *testing.T) {
	w := newWorld(t)
	now := w.clock()
	cert := newCertificate(t, testKey(), now.Add(-time.Hour), now.Add(time.Hour))
	app := w.robot("robot")
	must(t, w.dir.UpdateServicePrincipal(t.Context(), directory.System, w.principal(app).ID, func(p *directory.ServicePrincipal) error {
		p.Keys = []directory.KeyCredential{{Certificate: cert.der}}
		return nil
	}))
	id := app.AppID.String()
	a := sign(t, cert.key, map[string]any{"alg": "PS256", "x5t#S256": cert.x5t256()}, map[string]any{"iss": id, "sub": id, "aud": w.http.URL + w.v2(), "exp": now.Add(10 * time.Minute).Unix()})
	w.ok(w.assert(w.v2(), app, a))
	must(t, w.dir.EnableServicePrincipal(t.Context(), directory.System, w.principal(app).ID, false))
	w.fails(w.assert(w.v2(), app, a), 7000112)
}

// TestForgedAssertions is the table of attacks on certificate assertions.
func TestForgedAssertions(t *testing.T) {
	w := newWorld(t)
	now := w.clock()
	cert := newCertificate(t, testKey(), now.Add(-time.Hour), now.Add(90*24*time.Hour))
	rivals := newCertificate(t, otherKey(), now.Add(-time.Hour), now.Add(90*24*time.Hour))
	short := newCertificate(t, testKey(), now.Add(-time.Hour), now.Add(time.Minute))
	app, rival, expiring := w.robot("robot", cert), w.robot("rival", rivals), w.robot("expiring", short)
	other, _, err := w.dir.CreateTenant(t.Context(), directory.NewTenant{DisplayName: "Other", Domain: "other.test", AdminName: "admin", Password: adminPassword}, nil)
	must(t, err)
	id := app.AppID.String()
	head := map[string]any{"alg": "RS256", "x5t": cert.x5t()}
	body := map[string]any{"iss": id, "sub": id, "aud": w.http.URL + w.v2(), "exp": now.Add(10 * time.Minute).Unix()}
	good := sign(t, cert.key, head, body)
	w.ok(w.assert(w.v2(), app, good))
	pieces := strings.Split(good, ".")
	jwk := map[string]any{"kty": "RSA", "n": base64.RawURLEncoding.EncodeToString(rivals.key.N.Bytes()), "e": "AQAB"}
	w.pass(2 * time.Minute) // the short certificate has expired now
	for _, c := range []struct {
		name      string
		app       *directory.Application
		assertion string
		code      int
	}{
		{"alg none", app, b64(with(head, "alg", "none")) + "." + pieces[1] + ".", 700027},
		{"alg none with the signature", app, b64(with(head, "alg", "none")) + "." + pieces[1] + "." + pieces[2], 700027},
		{"alg in small letters", app, b64(with(head, "alg", "rs256")) + "." + pieces[1] + "." + pieces[2], 700027},
		{"HS256 with the public key", app, sign(t, cert.key, with(head, "alg", "HS256"), body), 700027},
		{"RS512", app, sign(t, cert.key, with(head, "alg", "RS512"), body), 700027},
		{"RS256 said to be PS256", app, b64(with(head, "alg", "PS256")) + "." + pieces[1] + "." + pieces[2], 700027},
		{"another key under our thumbprint", app, sign(t, rivals.key, head, body), 700027},
		{"the thumbprint of another application", app, sign(t, rivals.key, with(head, "x5t", rivals.x5t()), body), 700027},
		{"two thumbprints of two certificates", app, sign(t, cert.key, with(head, "x5t#S256", rivals.x5t256()), body), 700027},
		{"no thumbprint", app, sign(t, cert.key, with(head, "x5t", nil), body), 700027},
		{"another thumbprint as kid alone", app, sign(t, cert.key, with(head, "x5t", nil, "kid", rivals.x5t()), body), 700027},
		{"the right kid beside another thumbprint", app, sign(t, cert.key, with(with(head, "x5t", rivals.x5t()), "kid", cert.x5t()), body), 700027},
		{"X5T in capitals", app, sign(t, cert.key, with(head, "x5t", nil, "X5T", cert.x5t()), body), 700027},
		{"a key in the header", app, sign(t, rivals.key, with(head, "jwk", jwk), body), 700027},
		{"a key set's address in the header", app, sign(t, rivals.key, with(head, "jku", "https://evil.test/keys"), body), 700027},
		{"a certificate in the header", app, sign(t, rivals.key, map[string]any{"alg": "RS256", "x5t": rivals.x5t(), "x5c": []string{base64.StdEncoding.EncodeToString(rivals.der)}}, body), 700027},
		{"a certificate's address in the header", app, sign(t, rivals.key, with(head, "x5u", "https://evil.test/cert"), body), 700027},
		{"a critical extension", app, sign(t, cert.key, with(head, "crit", []string{"exp"}), body), 50027},
		{"an expired certificate", expiring, sign(t, short.key, with(head, "x5t", short.x5t()), with(body, "iss", expiring.AppID, "sub", expiring.AppID)), 700027},
		{"other claims", app, pieces[0] + "." + b64(with(body, "x", 1)) + "." + pieces[2], 700027},
		{"no signature", app, pieces[0] + "." + pieces[1] + ".", 700027},
		{"sub is another", app, sign(t, cert.key, head, with(body, "sub", rival.AppID)), 700021},
		{"iss is another", app, sign(t, cert.key, head, with(body, "iss", rival.AppID)), 700021},
		{"no iss", app, sign(t, cert.key, head, with(body, "iss", nil)), 700021},
		{"SUB beside sub", app, sign(t, cert.key, head, with(body, "sub", rival.AppID, "SUB", id)), 700021},
		{"of another application", app, sign(t, rivals.key, with(head, "x5t", rivals.x5t()), with(body, "iss", rival.AppID, "sub", rival.AppID)), 700021},
		{"for another server", app, sign(t, cert.key, head, with(body, "aud", "https://evil.test"+w.v2())), 50012},
		{"for a longer host", app, sign(t, cert.key, head, with(body, "aud", cloudLogin+".evil.test"+w.v2())), 50012},
		{"for another tenant", app, sign(t, cert.key, head, with(body, "aud", w.http.URL+"/"+other.ID.String()+"/oauth2/v2.0/token")), 50012},
		{"for another tenant by domain", app, sign(t, cert.key, head, with(body, "aud", w.http.URL+"/other.test/oauth2/v2.0/token")), 50012},
		{"for another endpoint", app, sign(t, cert.key, head, with(body, "aud", w.http.URL+"/"+w.tenant.ID.String()+"/oauth2/v2.0/devicecode")), 50012},
		{"for common", app, sign(t, cert.key, head, with(body, "aud", w.http.URL+"/common/oauth2/v2.0/token")), 50012},
		{"for two", app, sign(t, cert.key, head, with(body, "aud", []string{w.http.URL + w.v2(), "https://evil.test"})), 50012},
		{"for nobody", app, sign(t, cert.key, head, with(body, "aud", nil)), 50012},
		{"expired", app, sign(t, cert.key, head, with(body, "exp", now.Add(-5*time.Minute).Unix())), 700024},
		{"not valid yet", app, sign(t, cert.key, head, with(body, "nbf", now.Add(time.Hour).Unix())), 700024},
		{"for ever", app, sign(t, cert.key, head, with(body, "exp", now.Add(48*time.Hour).Unix())), 700024},
		{"without an expiry", app, sign(t, cert.key, head, with(body, "exp", nil)), 50027},
		{"an expiry as text", app, sign(t, cert.key, head, with(body, "exp", "9999999999")), 50027},
		{"not a JWT", app, "x", 50027},
		{"five parts", app, good + ".x.y", 50027},
		{"a line break", app, pieces[0] + "." + pieces[1] + ".\n" + pieces[2], 50027},
		{"padding", app, good + "=", 50027},
		{"too long", app, good + strings.Repeat("A", MaxToken), 50027},
	} {
		w.run(c.name, func(*testing.T) { w.fails(w.assert(w.v2(), c.app, c.assertion), c.code) })
	}
	otherToken := "/" + other.ID.String() + "/oauth2/v2.0/token"
	w.run("replayed at another tenant", func(*testing.T) { w.fails(w.assert(otherToken, app, good), 700016) })
	w.run("another type", func(*testing.T) {
		w.fails(w.assert(w.v2(), app, good, "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"), 90013)
	})
	w.run("a secret beside it", func(*testing.T) { w.fails(w.assert(w.v2(), app, good, "client_secret", "x"), 9002313) })
	must(t, w.dir.UpdateApplication(t.Context(), directory.System, app.ID, func(a *directory.Application) error { a.Keys = nil; return nil }))
	w.run("a certificate that was taken away", func(*testing.T) { w.fails(w.assert(w.v2(), app, good), 700027) })
}
