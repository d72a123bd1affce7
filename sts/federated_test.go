package sts

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

const exchangeAudience = "api://AzureADTokenExchange"

// keySet is a JWKS with the test's key under one kid.
func keySet(kids ...string) []byte {
	keys := []any{map[string]string{"kty": "EC", "kid": "ec", "crv": "P-256"}, map[string]string{"kty": "oct", "kid": "oct", "k": "AAAA"}}
	for _, kid := range kids {
		keys = append(keys, map[string]string{"kty": "RSA", "kid": kid, "use": "sig", "n": b64(testKey().N.Bytes()), "e": "AQAB"})
	}
	raw, _ := json.Marshal(map[string]any{"keys": keys})
	return raw
}

// federate adds a federated credential to an application.
func (w *world) federate(app *directory.Application, name, issuer, subject, audience string) {
	w.t.Helper()
	_, err := w.dir.AddFederatedCredential(context.Background(), directory.System, app.ID,
		directory.FederatedCredential{Name: name, Issuer: issuer, Subject: subject, Audiences: []string{audience}})
	must(w.t, err)
}

// TestFederatedAssertions: what matches, and every way in which a token does not.
func TestFederatedAssertions(t *testing.T) {
	w := newWorld(t)
	const issuer, subject = "https://issuer.test/pool", "repo:a/b"
	w.srv.Issuers.Local = func(_ context.Context, at string) ([]byte, bool, error) {
		return keySet("one"), strings.HasPrefix(at, "https://issuer.test/"), nil
	}
	app, bare := w.robot("robot"), w.robot("bare")
	w.federate(app, "main", issuer, subject, exchangeAudience)
	w.federate(app, "second", "https://issuer.test/second", "x", "other")
	now := w.clock()
	head := map[string]any{"alg": "RS256", "kid": "one"}
	body := map[string]any{"iss": issuer, "sub": subject, "aud": []string{"x", exchangeAudience}, "exp": now.Add(time.Hour).Unix()}
	good := sign(t, testKey(), head, body)
	a := w.ok(w.assert(w.v2(), app, good))
	if got := claims(t, a.text("access_token")); got["appidacr"] != "2" {
		t.Errorf("claims: %v", got)
	}
	pieces := strings.Split(good, ".")
	for _, c := range []struct {
		name      string
		app       *directory.Application
		assertion string
		code      int
	}{
		{"an application without any", bare, good, 70021},
		{"another issuer", app, sign(t, testKey(), head, with(body, "iss", "https://evil.test/pool")), 700211},
		{"the issuer with a slash", app, sign(t, testKey(), head, with(body, "iss", issuer+"/")), 700211},
		{"the issuer in capitals", app, sign(t, testKey(), head, with(body, "iss", "https://ISSUER.test/pool")), 700211},
		{"another subject", app, sign(t, testKey(), head, with(body, "sub", "repo:a/c")), 700213},
		{"the subject of the other issuer", app, sign(t, testKey(), head, with(body, "sub", "x")), 700213},
		{"the subject in capitals", app, sign(t, testKey(), head, with(body, "sub", "REPO:a/b")), 7002138},
		{"no subject", app, sign(t, testKey(), head, with(body, "sub", nil)), 700213},
		{"a subject that is a list", app, sign(t, testKey(), head, with(body, "sub", []string{subject})), 50027},
		{"a second subject in capitals", app, sign(t, testKey(), head, with(body, "sub", "repo:a/c", "SUB", subject)), 700213},
		{"another audience", app, sign(t, testKey(), head, with(body, "aud", "api://azureadtokenexchange")), 700212},
		{"the audience of the other credential", app, sign(t, testKey(), head, with(body, "aud", "other")), 700212},
		{"no audience", app, sign(t, testKey(), head, with(body, "aud", nil)), 700212},
		{"alg none", app, b64(with(head, "alg", "none")) + "." + pieces[1] + ".", 50027},
		{"HS256 with the public key", app, sign(t, testKey(), with(head, "alg", "HS256"), body), 50027},
		{"PS256", app, sign(t, testKey(), with(head, "alg", "PS256"), body), 50027},
		{"another key", app, sign(t, otherKey(), head, body), 50027},
		{"a kid that is not there", app, sign(t, testKey(), with(head, "kid", "two"), body), 50027},
		{"no kid", app, sign(t, testKey(), with(head, "kid", nil), body), 50027},
		{"the kid of an EC key", app, sign(t, testKey(), with(head, "kid", "ec"), body), 50027},
		{"a key in the header", app, sign(t, otherKey(), with(head, "kid", "mine", "jwk", map[string]string{"kty": "RSA"}), body), 50027},
		{"a key set's address in the header", app, sign(t, otherKey(), with(head, "jku", "https://evil.test/keys"), body), 50027},
		{"expired", app, sign(t, testKey(), head, with(body, "exp", now.Add(-5*time.Minute).Unix())), 700024},
		{"not valid yet", app, sign(t, testKey(), head, with(body, "nbf", now.Add(time.Hour).Unix())), 700024},
		{"for ever", app, sign(t, testKey(), head, with(body, "exp", nil)), 50027},
	} {
		w.run(c.name, func(*testing.T) { w.fails(w.assert(w.v2(), c.app, c.assertion), c.code) })
	}
	w.run("a tenant of the cloud that is not here", func(*testing.T) {
		const entra = "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0"
		w.srv.Issuers.Local = func(_ context.Context, at string) ([]byte, bool, error) { return keySet("one"), at == entra, nil }
		w.federate(app, "entra", entra, subject, exchangeAudience)
		w.ok(w.assert(w.v2(), app, sign(t, testKey(), head, with(body, "iss", entra))))
		w.fails(w.assert(w.v2(), app, sign(t, testKey(), head, with(body, "iss", entra, "sub", "x"))), 700213)
	})
	w.run("the issuer does not answer", func(t *testing.T) {
		w.srv.Issuers.Local = func(context.Context, string) ([]byte, bool, error) {
			return nil, true, errors.New("secret detail 10.1.2.3")
		}
		if a := w.fails(w.assert(w.v2(), app, good), 50166); strings.Contains(a.raw, "10.1.2.3") || a.status != 401 {
			t.Errorf("HTTP %d %s", a.status, a.raw)
		}
	})
}

// TestOwnTokenAsAssertion: a token of this server may prove a client if it speaks for an application, never if for a user.
func TestOwnTokenAsAssertion(t *testing.T) {
	w := newWorld(t)
	w.app(directory.Application{DisplayName: "exchange", IdentifierURIs: []string{exchangeAudience}})
	app, source := w.robot("robot"), w.robot("source")
	_, secret, err := w.dir.AddAppSecret(t.Context(), directory.System, source.ID, directory.PasswordCredential{})
	must(t, err)
	own := w.http.URL + "/" + w.tenant.ID.String() + "/"
	w.federate(app, "identity", own, w.principal(source).ID.String(), exchangeAudience)
	w.federate(app, "cloud-name", cloudSTS+"/"+w.tenant.ID.String()+"/", "x", exchangeAudience)
	machine := w.ok(w.post(w.v2(), values("grant_type", "client_credentials", "client_id", source.AppID.String(), "client_secret", secret,
		"scope", exchangeAudience+"/.default"))).text("access_token")
	w.ok(w.assert(w.v2(), app, machine))

	bound := w.ok(w.post(w.v2(), values(append(newKeyHolder(t, 2048).cnf(), "grant_type", "client_credentials", "client_id", source.AppID.String(), "client_secret", secret,
		"scope", exchangeAudience+"/.default")...))).text("access_token")
	w.run("a bound token without its proof", func(*testing.T) { w.fails(w.assert(w.v2(), app, bound), 50027) })

	user := w.ok(w.ropc(aliceName, alicePassword, exchangeAudience+"/.default")).text("access_token")
	w.run("another subject", func(*testing.T) { w.fails(w.assert(w.v2(), app, user), 7002137) })
	w.federate(app, "user", own, claims(t, user)["sub"].(string), exchangeAudience)
	w.run("a user's token", func(*testing.T) { w.fails(w.assert(w.v2(), app, user), 700229) })
	pieces := strings.Split(machine, ".")
	forged := pieces[0] + "." + b64(with(claims(t, machine), "x", 1)) + "." + pieces[2]
	w.run("a forged one", func(*testing.T) { w.fails(w.assert(w.v2(), app, forged), 50027) })
	must(t, w.dir.EnableServicePrincipal(t.Context(), directory.System, w.principal(source).ID, false))
	w.run("of an application that was disabled", func(*testing.T) { w.fails(w.assert(w.v2(), app, machine), 50027) })
}

// TestIssuerFetch: keys are fetched once, again for a new kid, not without end, and never from where a redirect or a document leads astray.
func TestIssuerFetch(t *testing.T) {
	var asked atomic.Int64
	var answer atomic.Pointer[http.HandlerFunc]
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		(*answer.Load())(w, r)
	}))
	defer srv.Close()
	serve := func(h http.HandlerFunc) { answer.Store(&h) }
	documents := func(issuer, keys string, set []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration") {
				json.NewEncoder(w).Encode(map[string]string{"issuer": issuer, "jwks_uri": keys})
				return
			}
			w.Write(set)
		}
	}
	fresh := func(private ...string) *Issuers {
		i := &Issuers{Private: private}
		i.client().Transport.(*http.Transport).TLSClientConfig = srv.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		return i
	}
	host := srv.Listener.Addr().String()
	issuer, now := srv.URL+"/a/", time.Unix(1e9, 0)
	ctx := t.Context()

	i := fresh(host)
	serve(documents(issuer, srv.URL+"/keys", keySet("one")))
	key, err := i.key(ctx, issuer, "one", now)
	must(t, err)
	if key.N.Cmp(testKey().N) != 0 || asked.Load() != 2 {
		t.Errorf("%d requests", asked.Load())
	}
	for range 10 {
		_, err := i.key(ctx, issuer, "one", now.Add(time.Minute))
		must(t, err)
		if _, err := i.key(ctx, issuer, "two", now.Add(issuerPause-1)); !errors.Is(err, errNoKey) {
			t.Errorf("an unknown key: %v", err)
		}
	}
	if asked.Load() != 2 {
		t.Errorf("unknown keys made %d requests", asked.Load()-2)
	}
	serve(documents(issuer, srv.URL+"/keys", keySet("two")))
	_, err = i.key(ctx, issuer, "two", now.Add(issuerPause))
	must(t, err)
	if _, err := i.key(ctx, issuer, "one", now.Add(issuerPause)); !errors.Is(err, errNoKey) {
		t.Errorf("a key that was taken back: %v", err)
	}
	serve(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	_, err = i.key(ctx, issuer, "two", now.Add(2*issuerFresh))
	must(t, err) // for a while
	if _, err := i.key(ctx, issuer, "two", now.Add(issuerPause+issuerKeep)); err == nil {
		t.Error("keys are used for ever while the issuer does not answer")
	}

	// While somebody asks for a key that may not exist, those that are known are there.
	i = fresh(host)
	serve(documents(issuer, srv.URL+"/keys", keySet("one")))
	_, err = i.key(ctx, issuer, "one", now)
	must(t, err)
	reached, goOn, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	serve(func(w http.ResponseWriter, _ *http.Request) {
		close(reached)
		<-goOn
		w.WriteHeader(500)
	})
	go func() {
		defer close(done)
		i.key(ctx, issuer, "two", now.Add(issuerPause))
	}()
	<-reached
	_, err = i.key(ctx, issuer, "one", now.Add(issuerPause))
	must(t, err)
	close(goOn)
	<-done

	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(keySet("one")) }))
	defer plain.Close()
	for name, h := range map[string]http.HandlerFunc{
		"another issuer in the document": documents("https://other.test/", srv.URL+"/keys", keySet("one")),
		"no slash in the document":       documents(strings.TrimSuffix(issuer, "/"), srv.URL+"/keys", keySet("one")),
		"keys over http":                 documents(issuer, plain.URL, keySet("one")),
		"keys in a file":                 documents(issuer, "file:///etc/passwd", keySet("one")),
		"keys at a private address":      documents(issuer, strings.Replace(srv.URL, "127.0.0.1", "127.0.0.2", 1)+"/keys", keySet("one")),
		"keys with a user":               documents(issuer, strings.Replace(srv.URL, "https://", "https://a:b@", 1)+"/keys", keySet("one")),
		"a redirect to another host": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://169.254.169.254/latest/meta-data", http.StatusFound)
		},
		"a redirect to http":    func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, plain.URL, http.StatusFound) },
		"a redirect to itself":  func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) },
		"a document too large":  documents(issuer, srv.URL+"/keys", append(keySet("one"), []byte(strings.Repeat(" ", issuerDocument))...)),
		"keys that are no keys": documents(issuer, srv.URL+"/keys", []byte("<html>")),
	} {
		serve(h)
		if _, err := fresh(host).key(ctx, issuer, "one", now); err == nil || errors.Is(err, errNoKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	before := asked.Load()
	serve(documents(issuer, srv.URL+"/keys", keySet("one")))
	for _, private := range [][]string{nil, {"127.0.0.1"}, {"localhost"}, {"127.0.0.1:1"}} {
		if _, err := fresh(private...).key(ctx, issuer, "one", now); err == nil || !strings.Contains(err.Error(), "not a public address") {
			t.Errorf("loopback with %v allowed: %v", private, err)
		}
	}
	if _, err := fresh("169.254.169.254").key(ctx, "https://169.254.169.254", "one", now); err == nil || !strings.Contains(err.Error(), "link-local") {
		t.Errorf("the metadata address, although it is allowed: %v", err)
	}
	if asked.Load() != before {
		t.Error("a request reached a loopback address")
	}
}

func TestKeySets(t *testing.T) {
	n := testKey().N.Bytes()
	good := map[string]string{"kty": "RSA", "kid": "k", "use": "sig", "alg": "RS256", "n": b64(n), "e": "AQAB"}
	change := func(k, v string) map[string]string {
		m := maps.Clone(good)
		m[k] = v
		return m
	}
	for name, c := range map[string]struct {
		key  map[string]string
		want bool
	}{
		"good": {good, true}, "for encryption": {change("use", "enc"), false}, "for another algorithm": {change("alg", "RS512"), false},
		"EC": {change("kty", "EC"), false}, "no id": {change("kid", ""), false}, "short": {change("n", b64(n[:128])), false},
		"exponent 1": {change("e", "AQ"), false}, "even exponent": {change("e", "Ag"), false}, "no exponent": {change("e", ""), false},
		"padded": {change("n", base64.URLEncoding.EncodeToString(n)), true}, "huge": {change("n", b64(new(big.Int).Lsh(big.NewInt(1), 9000).Bytes())), false},
	} {
		raw, _ := json.Marshal(map[string]any{"keys": []any{c.key}})
		keys, err := parseJWKS(raw)
		if err != nil || (len(keys) == 1) != c.want {
			t.Errorf("%s: %v %v", name, keys, err)
		}
	}
}
