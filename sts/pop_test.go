package sts

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// keyHolder is a client that proves to have a key, as MSAL does.
type keyHolder struct{ key *rsa.PrivateKey }

func newKeyHolder(t testing.TB, bits int) *keyHolder {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	must(t, err)
	return &keyHolder{key}
}

func (h *keyHolder) n() string { return base64.RawURLEncoding.EncodeToString(h.key.N.Bytes()) }

func (h *keyHolder) thumbprint() string {
	sum := sha256.Sum256([]byte(`{"e":"AQAB","kty":"RSA","n":"` + h.n() + `"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// cnf is the parameters that make a request one for a bound token.
func (h *keyHolder) cnf() []string {
	return []string{"token_type", "pop", "req_cnf", b64(map[string]string{"kid": h.thumbprint(), "xms_ksl": "sw"})}
}

func (h *keyHolder) header() map[string]any {
	return map[string]any{"typ": "pop", "alg": "RS256", "kid": h.thumbprint()}
}

func (h *keyHolder) jwk() map[string]any {
	return map[string]any{"kty": "RSA", "n": h.n(), "e": "AQAB", "alg": "RS256", "kid": h.thumbprint()}
}

const clusterID = "/subscriptions/1/resourcegroups/rg/providers/Microsoft.ContainerService/managedClusters/c"

func (h *keyHolder) claims(token string, at time.Time) map[string]any {
	return map[string]any{"at": token, "ts": at.Unix(), "u": clusterID, "cnf": map[string]any{"jwk": h.jwk()}, "nonce": "0123456789abcdef0123456789abcdef"}
}

func (h *keyHolder) prove(t testing.TB, token string, at time.Time) string {
	return signWith(t, h.key, h.header(), h.claims(token, at))
}

// present checks what came as a webhook does.
func (w *world) present(token string) error {
	raw, view := []byte(token), w.srv.Feed.View()
	t, err := w.verifier.Presented(view, raw, HashToken(raw))
	if err == nil {
		err = w.verifier.Check(view, t, w.clock())
	}
	return err
}

// bound asks for a bound token of Alice.
func (w *world) bound(h *keyHolder, scope string) string {
	w.t.Helper()
	return w.ok(w.post(w.v2(), values(append([]string{"grant_type", "password", "client_id", directory.AzureCLI.String(), "username", aliceName,
		"password", alicePassword, "scope", scope}, h.cnf()...)...))).text("access_token")
}

// TestBoundTokens: every grant binds a token to a key when it is asked to, and only then.
func TestBoundTokens(t *testing.T) {
	w := newWorld(t)
	h := newKeyHolder(t, 2048)
	app := w.app(directory.Application{DisplayName: "robot"})
	_, secret, err := w.dir.AddAppSecret(t.Context(), directory.System, app.ID, directory.PasswordCredential{})
	must(t, err)
	cli, id := directory.AzureCLI.String(), app.AppID.String()
	refresh := w.ok(w.ropc(aliceName, alicePassword, aksScope)).text("refresh_token")
	for name, form := range map[string][]string{
		"password":           {"grant_type", "password", "client_id", cli, "username", aliceName, "password", alicePassword, "scope", aksScope},
		"refresh":            {"grant_type", "refresh_token", "client_id", cli, "refresh_token", refresh, "scope", aksScope},
		"client credentials": {"grant_type", "client_credentials", "client_id", id, "client_secret", secret, "scope", aksScope},
		"code":               {"grant_type", "authorization_code", "client_id", cli, "code", w.code(w.browser()), "redirect_uri", cliRedirect, "code_verifier", verifier},
	} {
		a := w.ok(w.post(w.v2(), values(append(form, h.cnf()...)...)))
		token := a.text("access_token")
		cnf, _ := json.Marshal(claims(t, token)["cnf"])
		if want := `{"kid":"` + h.thumbprint() + `","xms_ksl":"sw"}`; a.text("token_type") != "pop" || string(cnf) != want {
			t.Errorf("%s: %s with cnf %s", name, a.text("token_type"), cnf)
		}
		if id := a.text("id_token"); id != "" && claims(t, id)["cnf"] != nil {
			t.Errorf("%s: the ID token is bound", name)
		}
		if err := w.verify(token); !errors.Is(err, ErrBound) {
			t.Errorf("%s as bearer token: %v", name, err)
		}
		if err := w.present(token); !errors.Is(err, ErrBound) {
			t.Errorf("%s presented as bearer token: %v", name, err)
		}
		must(t, w.present(h.prove(t, token, w.clock())))
		if err := w.present(token); !errors.Is(err, ErrBound) { // also when its signature is known to be right
			t.Errorf("%s as bearer token, after the proof: %v", name, err)
		}
		if refresh := a.text("refresh_token"); refresh != "" { // the binding is asked for anew each time
			again := w.ok(w.redeem(refresh, directory.AzureCLI, aksScope))
			if again.text("token_type") != "Bearer" || claims(t, again.text("access_token"))["cnf"] != nil {
				t.Errorf("%s: refreshed to %s", name, again.raw)
			}
		}
	}
	// Version 1 endpoints, too.
	a := w.ok(w.post(w.v1(), values(append([]string{"grant_type", "client_credentials", "client_id", id, "client_secret", secret,
		"resource", directory.AKSServer.String()}, h.cnf()...)...)))
	if a.text("token_type") != "pop" {
		t.Errorf("version 1: %s", a.raw)
	}
}

// TestRequestsToBind: what is not read as a request for a bound token, and gets no token at all.
func TestRequestsToBind(t *testing.T) {
	w := newWorld(t)
	h := newKeyHolder(t, 2048)
	tp := h.thumbprint()
	good := b64(map[string]string{"kid": tp})
	for _, c := range []struct {
		name, kind, cnf string
		code            int // 0: a token
	}{
		{"a bearer token", "Bearer", "", 0},
		{"a bearer token in lower case", "bearer", "", 0},
		{"a key without xms_ksl", "pop", good, 0},
		{"in upper case", "POP", good, 0},
		{"further members", "pop", b64(map[string]string{"kid": tp, "alg": "RS256"}), 0},
		{"another type", "mac", "", 90013},
		{"no key", "pop", "", 900144},
		{"a key for a bearer token", "Bearer", good, 90013},
		{"a key without a type", "", good, 90013},
		{"padding", "pop", good + "=", 90013},
		{"a line break", "pop", good[:8] + "\n" + good[8:], 90013},
		{"the other alphabet", "pop", "+/" + good, 90013},
		{"no JSON", "pop", "AAAA", 90013},
		{"no object", "pop", b64([]byte(`["` + tp + `"]`)), 90013},
		{"null", "pop", b64([]byte(`null`)), 90013},
		{"no kid", "pop", b64(map[string]string{"xms_ksl": "sw"}), 90013},
		{"KID", "pop", b64(map[string]string{"KID": tp}), 90013},
		{"a kid that is a number", "pop", b64(map[string]int{"kid": 5}), 90013},
		{"a kid that is a list", "pop", b64(map[string][]string{"kid": {tp}}), 90013},
		{"a SHA-1 thumbprint", "pop", b64(map[string]string{"kid": "2jmj7l5rSw0yVb_vlWAYkK_YBwk"}), 90013},
		{"a kid with padding", "pop", b64(map[string]string{"kid": tp + "="}), 90013},
		{"a kid too long", "pop", b64(map[string]string{"kid": tp + "A"}), 90013},
		{"a kid with a line break", "pop", b64(map[string]string{"kid": tp[:42] + "\n" + tp[42:]}), 90013},
		{"a whole key", "pop", b64(map[string]any{"jwk": h.jwk()}), 90013},
		{"another store", "pop", b64(map[string]string{"kid": tp, "xms_ksl": "<hw>"}), 90013},
		{"too long", "pop", b64(map[string]string{"kid": tp, "x": strings.Repeat("x", maxConfirmation)}), 90013},
	} {
		f := values("grant_type", "password", "client_id", directory.AzureCLI.String(), "username", aliceName, "password", alicePassword, "scope", aksScope,
			"token_type", c.kind, "req_cnf", c.cnf)
		if a := w.post(w.v2(), f); a.code() != c.code || c.code == 0 && a.status != 200 {
			t.Errorf("%s: %s", c.name, a.raw)
		}
	}
}

// TestBoundTokensAreNoBearerTokens: no face of this server takes one.
func TestBoundTokensAreNoBearerTokens(t *testing.T) {
	w := newWorld(t)
	h := newKeyHolder(t, 2048)
	token := w.bound(h, "https://graph.microsoft.com/.default openid")
	proof := h.prove(t, token, w.clock())
	must(t, w.present(proof))
	view := w.srv.Feed.View()
	for _, authorization := range []string{"Bearer " + token, "Bearer " + proof, "PoP " + proof} {
		if _, err := w.verifier.Bearer(view, authorization, graphResource); err == nil {
			t.Errorf("%.10s is accepted", authorization)
		}
		if a := w.get("/oidc/userinfo", "Authorization", authorization); a.status != 401 {
			t.Errorf("userinfo with %.10s: %d", authorization, a.status)
		}
	}
	app := w.app(directory.Application{DisplayName: "service", IdentifierURIs: []string{"api://service"}})
	_, secret, err := w.dir.AddAppSecret(t.Context(), directory.System, app.ID, directory.PasswordCredential{})
	must(t, err)
	token = w.bound(h, "api://service/.default")
	for _, assertion := range []string{token, h.prove(t, token, w.clock())} {
		a := w.post(w.v2(), values("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer", "requested_token_use", "on_behalf_of",
			"client_id", app.AppID.String(), "client_secret", secret, "assertion", assertion, "scope", "https://graph.microsoft.com/.default"))
		w.fails(a, 50013)
	}
}

// TestProofsInTime: a proof is good for a quarter of an hour, each time that it is shown.
func TestProofsInTime(t *testing.T) {
	w := newWorld(t)
	h := newKeyHolder(t, 2048)
	token := w.bound(h, aksScope)
	now := w.clock()
	for _, c := range []struct {
		made time.Time
		good bool
	}{
		{now, true}, {now.Add(proofAhead), true}, {now.Add(proofAhead + time.Second), false},
		{now.Add(-proofLife + time.Second), true}, {now.Add(-proofLife), false}, {now.Add(-24 * time.Hour), false},
	} {
		if err := w.present(h.prove(t, token, c.made)); (err == nil) != c.good {
			t.Errorf("made %s from now: %v", c.made.Sub(now), err)
		}
	}
	proof := []byte(h.prove(t, token, now))
	kept, err := w.verifier.Presented(w.srv.Feed.View(), proof, HashToken(proof))
	must(t, err)
	w.pass(proofLife - time.Second)
	must(t, w.verifier.Check(w.srv.Feed.View(), kept, w.clock()))
	if until := w.verifier.Until(w.srv.Feed.View(), kept); !until.Equal(now.Add(proofLife)) {
		t.Errorf("good until %s", until)
	}
	w.pass(time.Second)
	if err := w.verifier.Check(w.srv.Feed.View(), kept, w.clock()); err == nil {
		t.Error("a proof that was accepted before is good for ever")
	}
	must(t, w.present(h.prove(t, token, w.clock()))) // the token itself still is
}

// TestProofsOfLargeTokens: a token with as many groups as one can hold fits into a proof.
func TestProofsOfLargeTokens(t *testing.T) {
	w := newWorld(t)
	for i := range groupLimit {
		_, err := w.dir.CreateGroup(t.Context(), directory.System, directory.NewGroup{
			Group:   directory.Group{Tenant: w.tenant.ID, DisplayName: fmt.Sprint(i), MailNickname: fmt.Sprint("g", i), SecurityEnabled: true},
			Members: []directory.ID{w.alice.ID},
		})
		must(t, err)
	}
	h := newKeyHolder(t, maxKey)
	token := w.bound(h, aksScope)
	if n := len(claims(t, token)["groups"].([]any)); n != groupLimit {
		t.Fatalf("%d groups", n)
	}
	must(t, w.present(h.prove(t, token, w.clock())))
}

// TestForgedProofs: every way to present a bound token without its key, or something else as a proof.
func TestForgedProofs(t *testing.T) {
	w := newWorld(t)
	h, thief, small := newKeyHolder(t, 2048), newKeyHolder(t, 2048), newKeyHolder(t, 1024)
	token, now := w.bound(h, aksScope), w.clock()
	bearer := w.ok(w.ropc(aliceName, alicePassword, aksScope)).text("access_token")
	weak := w.bound(small, aksScope)
	foreign := signWith(t, thief.key, map[string]any{"alg": "RS256", "kid": "x"}, map[string]any{"iss": "https://evil.test/", "cnf": map[string]any{"kid": thief.thumbprint()}})
	good := h.prove(t, token, now)
	must(t, w.present(good))
	pieces := strings.Split(good, ".")
	header := func(k string, v any) map[string]any { return without(h.header(), k, v) }
	body := func(k string, v any) map[string]any { return without(h.claims(token, now), k, v) }
	key := func(k string, v any) map[string]any {
		return body("cnf", map[string]any{"jwk": without(h.jwk(), k, v)})
	}
	own := func(header, claims map[string]any) string { return signWith(t, h.key, header, claims) }
	theirs := func(header, claims map[string]any) string { return signWith(t, thief.key, header, claims) }
	private := h.jwk()
	private["d"] = base64.RawURLEncoding.EncodeToString(h.key.D.Bytes())
	even := base64.RawURLEncoding.EncodeToString(new(big.Int).Add(h.key.N, big.NewInt(1)).Bytes())
	for name, proof := range map[string]string{
		"another key, all of it":                thief.prove(t, token, now),
		"another key that says to be the right": theirs(h.header(), h.claims(token, now)),
		"another key in cnf":                    theirs(h.header(), body("cnf", map[string]any{"jwk": thief.jwk()})),
		"another key in cnf, signed by ours":    own(h.header(), body("cnf", map[string]any{"jwk": thief.jwk()})),
		"another key in the header":             own(header("kid", thief.thumbprint()), h.claims(token, now)),
		"no kid":                                own(header("kid", nil), h.claims(token, now)),
		"an empty kid":                          own(header("kid", ""), h.claims(token, now)),
		"alg none":                              b64(header("alg", "none")) + "." + pieces[1] + ".",
		"alg HS256":                             own(header("alg", "HS256"), h.claims(token, now)),
		"alg PS256":                             own(header("alg", "PS256"), h.claims(token, now)),
		"no alg":                                own(header("alg", nil), h.claims(token, now)),
		"typ JWT":                               own(header("typ", "JWT"), h.claims(token, now)),
		"no typ":                                own(header("typ", nil), h.claims(token, now)),
		"a critical extension":                  own(header("crit", []string{"b64"}), h.claims(token, now)),
		"a bearer token inside":                 own(h.header(), body("at", bearer)),
		"a bearer token inside, thief's key":    thief.prove(t, bearer, now),
		"a proof inside":                        own(h.header(), body("at", good)),
		"a foreign token inside":                thief.prove(t, foreign, now),
		"no token inside":                       own(h.header(), body("at", nil)),
		"an empty token inside":                 own(h.header(), body("at", "")),
		"a token with line breaks inside":       own(h.header(), body("at", token[:9]+"\n"+token[9:])),
		"a changed token inside":                own(h.header(), body("at", token[:len(token)-9]+"A"+token[len(token)-8:])),
		"no time":                               own(h.header(), body("ts", nil)),
		"a time in text":                        own(h.header(), body("ts", fmt.Sprint(now.Unix()))),
		"a time with a fraction":                own(h.header(), body("ts", float64(now.Unix())+0.5)),
		"a time before all":                     own(h.header(), body("ts", -1)),
		"a time after all":                      own(h.header(), body("ts", int64(1)<<62)),
		"TS for ts":                             own(h.header(), without(body("ts", nil), "TS", now.Unix())),
		"no cnf":                                own(h.header(), body("cnf", nil)),
		"a kid for cnf":                         own(h.header(), body("cnf", map[string]any{"kid": h.thumbprint()})),
		"kty EC":                                own(h.header(), key("kty", "EC")),
		"kty oct":                               own(h.header(), key("kty", "oct")),
		"no modulus":                            own(h.header(), key("n", nil)),
		"a modulus of one":                      own(h.header(), key("n", "AQ")),
		"an even modulus":                       own(h.header(), key("n", even)),
		"a modulus with a line break":           own(h.header(), key("n", h.n()[:9]+"\n"+h.n()[9:])),
		"a modulus with a quote":                own(h.header(), key("n", h.n()+`","x":"`)),
		"a modulus with zeros before it":        own(h.header(), key("n", "AAAA"+h.n())),
		"a huge modulus":                        own(h.header(), key("n", strings.Repeat("_", 12000))),
		"an exponent of one":                    own(h.header(), key("e", "AQ")),
		"an exponent of three":                  own(h.header(), key("e", "Aw")),
		"an exponent with zeros before it":      own(h.header(), key("e", "AAEAAQ")),
		"a short key":                           small.prove(t, weak, now),
		"no signature":                          pieces[0] + "." + pieces[1] + ".",
		"two parts":                             pieces[0] + "." + pieces[1],
		"four parts":                            good + ".x",
		"a line break":                          pieces[0] + "." + pieces[1] + ".\n" + pieces[2],
		"padding":                               good + "=",
		"another URI":                           pieces[0] + "." + b64(body("u", "/other")) + "." + pieces[2],
		"too long":                              own(h.header(), body("nonce", strings.Repeat("x", maxProof))),
	} {
		if err := w.present(proof); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for i := range good { // one character changed, anywhere
		c := byte('A')
		if good[i] == c {
			c = 'B'
		}
		if good[i] == '.' {
			c = '_'
		}
		if w.present(good[:i]+string(c)+good[i+1:]) == nil {
			t.Fatalf("character %d changed: accepted", i)
		}
	}
	// What clients may do.
	for name, proof := range map[string]string{
		"typ PoP":                                own(header("typ", "PoP"), h.claims(token, now)),
		"no nonce":                               own(h.header(), body("nonce", nil)),
		"further claims":                         own(h.header(), body("m", "GET")),
		"a private key that should not be there": own(h.header(), body("cnf", map[string]any{"jwk": private})),
	} {
		if err := w.present(proof); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := w.present(thief.prove(t, foreign, now)); !errors.Is(err, ErrForeign) {
		t.Errorf("a foreign token inside: %v", err)
	}
}

// TestKeysOfProofs: which keys a client may have, whatever a token is bound to.
func TestKeysOfProofs(t *testing.T) {
	number := func(bits int, low uint) string {
		n := new(big.Int).SetBit(new(big.Int).SetBit(new(big.Int), bits-1, 1), 0, low)
		return base64.RawURLEncoding.EncodeToString(n.Bytes())
	}
	for _, c := range []struct {
		name string
		key  jwk
		good bool
	}{
		{"2048 bits", jwk{"RSA", number(2048, 1), "AQAB"}, true},
		{"4096 bits", jwk{"RSA", number(4096, 1), "AQAB"}, true},
		{"2047 bits", jwk{"RSA", number(2047, 1), "AQAB"}, false},
		{"4097 bits", jwk{"RSA", number(4097, 1), "AQAB"}, false},
		{"40000 bits", jwk{"RSA", number(40000, 1), "AQAB"}, false},
		{"an even modulus", jwk{"RSA", number(2048, 0), "AQAB"}, false},
		{"rsa", jwk{"rsa", number(2048, 1), "AQAB"}, false},
		{"exponent 1", jwk{"RSA", number(2048, 1), "AQ"}, false},
		{"exponent 3", jwk{"RSA", number(2048, 1), "Aw"}, false},
		{"65537 in another spelling", jwk{"RSA", number(2048, 1), "AAEAAQ"}, false},
		{"no exponent", jwk{"RSA", number(2048, 1), ""}, false},
	} {
		if _, err := c.key.public(); (err == nil) != c.good {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func without(m map[string]any, k string, v any) map[string]any {
	m = maps.Clone(m)
	if m[k] = v; v == nil {
		delete(m, k)
	}
	return m
}
