package sts

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

func b64(v any) string {
	raw, ok := v.([]byte)
	if !ok {
		raw, _ = json.Marshal(v)
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

func signWith(t testing.TB, key *rsa.PrivateKey, header, claims any) string {
	t.Helper()
	text := b64(header) + "." + b64(claims)
	sum := sha256.Sum256([]byte(text))
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	must(t, err)
	return text + "." + b64(sig)
}

// TestForgedTokens: every way to pass off a token that this server did not sign, or not as this.
func TestForgedTokens(t *testing.T) {
	w := newWorld(t)
	good := w.ok(w.ropc(aliceName, alicePassword, aksScope)).text("access_token")
	must(t, w.verify(good))
	header, body := part(t, good, 0), claims(t, good)
	kid := header["kid"].(string)
	public := In(w.srv.Feed.View()).Key(kid)
	der, err := x509.MarshalPKIXPublicKey(public.public)
	must(t, err)
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: public.Certificate})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	own, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	pieces := strings.Split(good, ".")
	hs256 := func(secret []byte) string {
		text := b64(map[string]any{"alg": "HS256", "typ": "JWT", "kid": kid}) + "." + pieces[1]
		m := hmac.New(sha256.New, secret)
		m.Write([]byte(text))
		return text + "." + b64(m.Sum(nil))
	}
	with := func(m map[string]any, k string, v any) map[string]any {
		m = maps.Clone(m)
		m[k] = v
		return m
	}
	jwk := public.JWK("")
	forged := map[string]string{
		"alg none, no signature":              b64(map[string]any{"alg": "none", "typ": "JWT", "kid": kid}) + "." + pieces[1] + ".",
		"alg none, the old signature":         b64(map[string]any{"alg": "none", "typ": "JWT", "kid": kid}) + "." + pieces[1] + "." + pieces[2],
		"alg NONE":                            b64(map[string]any{"alg": "NONE", "kid": kid}) + "." + pieces[1] + ".",
		"no alg":                              b64(map[string]any{"kid": kid}) + "." + pieces[1] + "." + pieces[2],
		"HS256 with the public key as PEM":    hs256(keyPEM),
		"HS256 with the certificate as PEM":   hs256(certPEM),
		"HS256 with the public key as DER":    hs256(der),
		"HS256 with the modulus":              hs256(public.public.N.Bytes()),
		"RS384":                               b64(with(header, "alg", "RS384")) + "." + pieces[1] + "." + pieces[2],
		"PS256":                               b64(with(header, "alg", "PS256")) + "." + pieces[1] + "." + pieces[2],
		"another key under our kid":           signWith(t, own, header, body),
		"another key under its own kid":       signWith(t, own, with(header, "kid", "other"), body),
		"another key, no kid":                 signWith(t, own, map[string]any{"alg": "RS256", "x5t": kid}, body),
		"a key inside the token":              signWith(t, own, with(header, "jwk", jwk), body),
		"a key set's address in the token":    signWith(t, own, with(header, "jku", "https://evil.test/keys"), body),
		"a kid that is a path":                signWith(t, own, with(header, "kid", "../../../../dev/null"), body),
		"a kid that is SQL":                   signWith(t, own, with(header, "kid", "' OR '1'='1"), body),
		"a kid with a NUL":                    signWith(t, own, with(header, "kid", kid+"\x00"), body),
		"a kid of 8 KB":                       signWith(t, own, with(header, "kid", strings.Repeat(kid, 200)), body),
		"an empty kid":                        signWith(t, own, with(header, "kid", ""), body),
		"a kid that is a number":              signWith(t, own, with(header, "kid", 0), body),
		"a kid that is a list":                signWith(t, own, with(header, "kid", []string{kid}), body),
		"our kid in the other letter case":    b64(with(header, "kid", strings.ToLower(kid)+"A")) + "." + pieces[1] + "." + pieces[2],
		"a critical extension":                b64(with(header, "crit", []string{"exp"})) + "." + pieces[1] + "." + pieces[2],
		"other claims":                        pieces[0] + "." + b64(with(body, "oid", w.admin.ID.String())) + "." + pieces[2],
		"the signature of another token":      pieces[0] + "." + pieces[1] + "." + strings.Split(w.ok(w.ropc(aliceName, alicePassword, aksScope)).text("access_token"), ".")[2],
		"no signature":                        pieces[0] + "." + pieces[1] + ".",
		"two parts":                           pieces[0] + "." + pieces[1],
		"four parts":                          good + ".x",
		"a newline inside":                    pieces[0] + "." + pieces[1] + ".\n" + pieces[2],
		"padding":                             good + "=",
		"the signature in the other alphabet": strings.NewReplacer("-", "+", "_", "/").Replace(pieces[2]) + "." + pieces[0] + "." + pieces[1],
		"empty":                               "",
		"dots":                                "..",
		"too long":                            pieces[0] + "." + strings.Repeat("A", MaxToken) + "." + pieces[2],
	}
	for name, token := range forged {
		if err := w.verify(token); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for i := range len(good) { // one character changed, anywhere
		c := byte('A')
		if good[i] == c {
			c = 'B'
		}
		if good[i] == '.' {
			c = '_'
		}
		if err := w.verify(good[:i] + string(c) + good[i+1:]); err == nil {
			t.Fatalf("character %d changed: accepted", i)
		}
	}
	must(t, w.verify(good))
}

// TestMisusedTokens: tokens that this server did sign, but not for this.
func TestMisusedTokens(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	a := w.ok(w.ropc(aliceName, alicePassword, aksScope))
	good := a.text("access_token")
	body := claims(t, good)
	sign := func(k string, v any) string {
		c := maps.Clone(body)
		if c[k] = v; v == nil {
			delete(c, k)
		}
		token, err := w.srv.Keys.Sign(ctx, c, true)
		must(t, err)
		return token
	}
	must(t, w.verify(sign("x", "y")))
	other, otherAdmin, err := w.dir.CreateTenant(ctx, directory.NewTenant{DisplayName: "Other", Domain: "other.test", AdminName: "admin", Password: adminPassword}, nil)
	must(t, err)
	now := w.clock()
	for name, token := range map[string]string{
		"an ID token":                         a.text("id_token"),
		"a refresh token":                     a.text("refresh_token"),
		"another tenant's issuer":             sign("iss", w.http.URL+"/"+other.ID.String()+"/"),
		"another tenant":                      sign("tid", other.ID.String()),
		"a foreign issuer":                    sign("iss", "https://evil.test/"+w.tenant.ID.String()+"/"),
		"an issuer with another ending":       sign("iss", w.http.URL+"/"+w.tenant.ID.String()),
		"an issuer that goes on":              sign("iss", w.http.URL+"/"+w.tenant.ID.String()+"/v2.0/x"),
		"an issuer in upper case":             sign("iss", w.http.URL+"/"+strings.ToUpper(w.tenant.ID.String())+"/"),
		"expired":                             sign("exp", now.Unix()),
		"without an expiry":                   sign("exp", nil),
		"not valid yet":                       sign("nbf", now.Add(time.Minute).Unix()),
		"without a session":                   sign("sid", nil),
		"with an unknown session":             sign("sid", w.tenant.ID.String()),
		"with another user's session":         sign("oid", w.admin.ID.String()),
		"of another tenant's user":            sign("oid", otherAdmin.ID.String()),
		"of nobody":                           sign("oid", nil),
		"without scopes":                      sign("scp", nil),
		"without a client":                    sign("appid", nil),
		"of a user who says to be an app":     sign("idtyp", "app"),
		"with a tenant that is not text":      sign("tid", 5),
		"with an expiry that is not a number": sign("exp", "never"),
	} {
		if err := w.verify(token); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestWithdrawnKey(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	a := w.ok(w.ropc(aliceName, alicePassword, aksScope))
	must(t, w.verify(a.text("access_token")))
	kid := part(t, a.text("access_token"), 0)["kid"].(string)
	must(t, w.srv.Keys.Withdraw(ctx, kid))
	if err := w.verify(a.text("access_token")); err == nil {
		t.Error("a token that was seen before survives its key")
	}
	if strings.Contains(w.get("/common/discovery/v2.0/keys").raw, kid) {
		t.Error("a withdrawn key is published")
	}
	b := w.ok(w.redeem(a.text("refresh_token"), directory.AzureCLI, aksScope)) // the session is not the key's
	must(t, w.verify(b.text("access_token")))
	if next := part(t, b.text("access_token"), 0)["kid"]; next == kid || !strings.Contains(w.get("/common/discovery/v2.0/keys").raw, fmt.Sprint(next)) {
		t.Errorf("signed with %v", next)
	}
}

// TestRollover: the next key is published before it signs, and the old one stays until its last token has expired.
func TestRollover(t *testing.T) {
	w := newWorld(t)
	first := w.ok(w.ropc(aliceName, alicePassword, aksScope)).text("access_token")
	old := part(t, first, 0)["kid"].(string)
	must(t, w.srv.Keys.Roll(t.Context()))
	published := func() int { return len(w.get("/common/discovery/keys").body["keys"].([]any)) }
	if n := published(); n != 2 {
		t.Errorf("%d keys are published", n)
	}
	signs := func() string {
		return part(t, w.ok(w.ropc(aliceName, alicePassword, aksScope)).text("access_token"), 0)["kid"].(string)
	}
	if signs() != old {
		t.Error("a new key signs at once")
	}
	w.pass(keyLead)
	if signs() == old {
		t.Error("the new key does not sign")
	}
	w.pass(keyGrace)
	if n := published(); n != 1 {
		t.Errorf("%d keys are published at the end", n)
	}
}

// TestLockout: guesses are counted for each account and address; the administrator is never locked out at the machine.
func TestLockout(t *testing.T) {
	w := newWorld(t)
	bob := w.user("bob@"+domain, alicePassword)
	for range passwordGuesses.Wrong {
		w.fails(w.ropc(aliceName, "x", aksScope), 50126)
	}
	w.fails(w.ropc(strings.ToUpper(aliceName), alicePassword, aksScope), 50053)
	w.ok(w.ropc(bob.UPN, alicePassword, aksScope))
	for range passwordGuesses.Wrong {
		w.fails(w.ropc("nobody@"+domain, "x", aksScope), 50034)
	}
	w.fails(w.ropc("nobody@"+domain, "x", aksScope), 50053) // as for one who exists
	w.pass(passwordGuesses.Lock)
	w.fails(w.ropc(aliceName, "x", aksScope), 50126)
	w.pass(passwordGuesses.Lock)
	w.fails(w.ropc(aliceName, alicePassword, aksScope), 50053) // the second lock is longer
	w.pass(passwordGuesses.Lock)
	w.ok(w.ropc(aliceName, alicePassword, aksScope))
	w.fails(w.ropc(aliceName, "x", aksScope), 50126)
	w.ok(w.ropc(aliceName, alicePassword, aksScope))

	for range passwordGuesses.Wrong + 1 { // the last is one that anybody else would not have
		w.fails(w.ropc(adminName, "x", aksScope), 50126)
	}
	w.ok(w.ropc(adminName, adminPassword, aksScope))
}

// TestSameWork: what is wrong with a name or a password cannot be told by the time of an answer, because each costs one hash of a password, also
// where there is nothing to compare with; and nothing costs more.
func TestSameWork(t *testing.T) {
	w := newWorld(t)
	disabled := w.user("disabled@"+domain, alicePassword)
	w.setUser(disabled.ID, func(u *directory.User) { u.Enabled = false })
	guest := w.invite(w.tenant, "somebody@elsewhere.example") // who has no password here
	locked := w.user("locked@"+domain, alicePassword)
	for range passwordGuesses.Wrong {
		w.ropc(locked.UPN, "x", aksScope)
		w.ropc("nobody.locked@"+domain, "x", aksScope)
	}
	for _, c := range []struct {
		what, name, password string
		hashes               uint64
	}{
		{"the right password", aliceName, alicePassword, 1},
		{"a wrong password", aliceName, "x", 1},
		{"an unknown user", "nobody@" + domain, "x", 1},
		{"a disabled user", disabled.UPN, "x", 1},
		{"a disabled user's right password", disabled.UPN, alicePassword, 1},
		{"a user without a password", guest.UPN, "x", 1},
		{"a locked user", locked.UPN, "x", 0},
		{"an unknown user, locked", "nobody.locked@" + domain, "x", 0},
	} {
		for where, try := range map[string]func(){
			"token endpoint": func() { w.ropc(c.name, c.password, aksScope) },
			"sign-in page": func() {
				b := w.browser()
				w.enter(b, w.visit(b, "GET", w.authorizeURL(), nil), c.name, c.password)
			},
			"device page": func() {
				b, started := w.browser(), w.startDevice(t, aksScope)
				p := w.next(b, w.visit(b, "GET", "/devicelogin", nil), "otc", started.text("user_code"))
				w.next(b, p, "loginfmt", c.name, "passwd", c.password)
			},
		} {
			before := w.dir.Hasher.Made()
			if try(); w.dir.Hasher.Made()-before != c.hashes {
				t.Errorf("%s at the %s: %d hashes, want %d", c.what, where, w.dir.Hasher.Made()-before, c.hashes)
			}
		}
	}
}

// TestNothingSecretIsWritten: what clients prove themselves with is in no log, whether they get in or not.
func TestNothingSecretIsWritten(t *testing.T) {
	w := newWorld(t)
	cert := newCertificate(t, testKey(), w.clock().Add(-time.Hour), w.clock().Add(time.Hour))
	app := w.robot("robot", cert)
	w.grant(app, directory.Graph, "User.Read")
	_, secret, err := w.dir.AddAppSecret(t.Context(), directory.System, app.ID, directory.PasswordCredential{})
	must(t, err)
	id := app.AppID.String()
	assertion := func(sub string) string {
		return sign(t, cert.key, map[string]any{"alg": "RS256", "typ": "JWT", "x5t": cert.x5t()}, map[string]any{
			"aud": w.http.URL + w.v2(), "iss": id, "sub": sub, "exp": w.clock().Add(time.Minute).Unix(), "jti": "1",
		})
	}
	user := w.ok(w.ropc(aliceName, alicePassword, id+"/.default openid offline_access"))
	good, bad := assertion(id), assertion(w.alice.ID.String())
	w.ok(w.assert(w.v2(), app, good))
	w.assert(w.v2(), app, bad)
	refresh, access := user.text("refresh_token"), user.text("access_token")
	post := func(pairs ...string) {
		w.post(w.v2(), values(append(pairs, "client_id", id, "client_secret", secret, "scope", "https://graph.microsoft.com/.default")...))
	}
	post("grant_type", "client_credentials")
	post("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer", "requested_token_use", "on_behalf_of", "assertion", access)
	post("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer", "requested_token_use", "on_behalf_of", "assertion", access+"x")
	post("grant_type", "refresh_token", "refresh_token", refresh)
	post("grant_type", "authorization_code", "code", "hunter2-code", "redirect_uri", "http://localhost")
	post("grant_type", "password", "username", "hunter2-Wr0ngField", "password", "x") // the password in the wrong field
	w.get("/oidc/userinfo", "Authorization", "Bearer "+access)
	w.events()
	audited, err := os.ReadFile(w.audited)
	must(t, err)
	for name, text := range map[string]string{"log": w.log.String(), "audit log": string(audited)} {
		for what, value := range map[string]string{
			"client secret": secret, "assertion": good, "refused assertion": bad, "refresh token": refresh, "access token": access, "password": alicePassword,
			"code": "hunter2-code", "password in the place of a name": "hunter2-Wr0ngField",
		} {
			for _, piece := range []string{value, url.QueryEscape(value), value[len(value)/2:]} {
				if strings.Contains(text, piece) {
					t.Errorf("the %s holds the %s", name, what)
				}
			}
		}
	}
}
