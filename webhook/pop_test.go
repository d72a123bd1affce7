package webhook_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/aks"
	"github.com/gatehouse-k8s/gatehouse/directory"
)

// holder is a client that proves to have a key, as kubelogin does.
type holder struct {
	*house
	key   *rsa.PrivateKey
	n, tp string // modulus, thumbprint
}

func (h *house) newKeyHolder() *holder {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	h.must(err)
	n := base64.RawURLEncoding.EncodeToString(key.N.Bytes())
	sum := sha256.Sum256([]byte(`{"e":"AQAB","kty":"RSA","n":"` + n + `"}`))
	return &holder{h, key, n, base64.RawURLEncoding.EncodeToString(sum[:])}
}

// bind makes claims those of a token for the holder alone.
func (p *holder) bind(c claims) claims {
	return c.with("cnf", map[string]string{"kid": p.tp, "xms_ksl": "sw"})
}

// prove presents a token to a cluster.
func (p *holder) prove(token, u string, made time.Time) string {
	b64 := func(v any) string { return base64.RawURLEncoding.EncodeToString(encode(v)) }
	text := b64(claims{"alg": "RS256", "kid": p.tp, "typ": "pop"}) + "." + b64(claims{
		"at": token, "ts": made.Unix(), "u": u, "nonce": "0123456789abcdef0123456789abcdef",
		"cnf": claims{"jwk": claims{"kty": "RSA", "n": p.n, "e": "AQAB", "alg": "RS256", "kid": p.tp}},
	})
	sum := sha256.Sum256([]byte(text))
	sig, err := rsa.SignPKCS1v15(rand.Reader, p.key, crypto.SHA256, sum[:])
	p.must(err)
	return text + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func TestProofOfPossession(t *testing.T) {
	h := newHouse(t)
	alice := h.newUser("alice")
	group := h.newGroup(alice.ID)
	p, thief := h.newKeyHolder(), h.newKeyHolder()
	c := p.bind(h.claims(alice))
	token := h.sign(c)
	u := h.cluster.ID()
	proof := p.prove(token, u, h.clock.Now())
	h.wantUser(proof, "alice@example.test", group)
	h.wantUser(p.prove(token, strings.ToUpper(u), h.clock.Now()), "alice@example.test", group)
	app := h.newServicePrincipal()
	h.wantUser(p.prove(h.sign(p.bind(h.appClaims(app))), u, h.clock.Now()), app.ID.String())

	other := h.newCluster(&aks.AADProfile{Managed: true, Tenant: h.tenant.ID})
	for _, x := range []struct{ name, token, reason string }{
		{"as a bearer token", token, "without the proof of possession"},
		{"for another cluster", p.prove(token, other.ID(), h.clock.Now()), "and not for the cluster"},
		{"for nothing", p.prove(token, "", h.clock.Now()), "and not for the cluster"},
		{"for more than the cluster", p.prove(token, u+"/", h.clock.Now()), "and not for the cluster"},
		{"by somebody else", thief.prove(token, u, h.clock.Now()), "another key"},
		{"too old", p.prove(token, u, h.clock.Now().Add(-15*time.Minute)), "is good for 15m0s"},
		{"from the future", p.prove(token, u, h.clock.Now().Add(61*time.Second)), "of the future"},
		{"of a bearer token", p.prove(h.tokenOf(alice), u, h.clock.Now()), "not bound to a key"},
		{"of an expired token", p.prove(h.sign(c.with("exp", h.clock.Now().Unix())), u, h.clock.Now()), "expired"},
		{"of an ID token", p.prove(h.sign(c.with("appid", nil)), u, h.clock.Now()), "ID token"},
		{"of a token for something else", p.prove(h.sign(c.with("aud", directory.Graph)), u, h.clock.Now()), "is for"},
	} {
		t.Run(x.name, func(t *testing.T) {
			h.TB = t
			h.wantRefused(x.token, x.reason)
			h.wantRefused(x.token, x.reason) // and what was remembered of it changes nothing
		})
	}
	h.TB = t
	h.wantUser(proof, "alice@example.test", group)
	if a := h.askAs(other.GUID.String(), proof); a.Status.Authenticated { // the same proof, replayed
		t.Errorf("another cluster takes it: %+v", a)
	}
	for _, part := range append(strings.Split(proof, "."), strings.Split(token, ".")[1:]...) {
		if strings.Contains(h.log.String(), part) {
			t.Error("a part of a proof is in the log")
		}
	}
}

// TestProofsAge: a remembered proof is refused when it gets old, to the second.
func TestProofsAge(t *testing.T) {
	h := newHouse(t)
	p := h.newKeyHolder()
	proof := p.prove(h.sign(p.bind(h.claims(h.newUser("alice")))), h.cluster.ID(), h.clock.Now())
	h.wantUser(proof, "alice@example.test")
	h.advance(15*time.Minute - time.Second)
	h.wantUser(proof, "alice@example.test")
	h.advance(time.Second)
	h.wantRefused(proof, "is good for 15m0s")
	h.advance(-17 * time.Minute) // and a clock that was put back does not make it good
	h.wantRefused(proof, "of the future")
}

// TestRequiredProof: the setting of a cluster counts from the next request on.
func TestRequiredProof(t *testing.T) {
	h := newHouse(t)
	alice := h.newUser("alice")
	p := h.newKeyHolder()
	bearer := h.tokenOf(alice)
	proof := p.prove(h.sign(p.bind(h.claims(alice))), h.cluster.ID(), h.clock.Now())
	for _, required := range []bool{false, true, false, true} {
		changed := *h.cluster
		changed.AAD = &aks.AADProfile{Managed: true, Tenant: h.tenant.ID, RequireProof: required}
		h.putCluster(&changed)
		h.wantUser(proof, "alice@example.test")
		if !required {
			h.wantUser(bearer, "alice@example.test")
			continue
		}
		h.wantRefused(bearer, "--pop-enabled --pop-claims")
		h.wantRefused(bearer, "u="+h.cluster.ID())
	}
}

// TestForeignProofs holds that proofs with tokens of other issuers leave no trace.
func TestForeignProofs(t *testing.T) {
	h := newHouse(t)
	p := h.newKeyHolder()
	c := p.bind(h.claims(h.newUser("alice")))
	good := p.prove(h.sign(c), h.cluster.ID(), h.clock.Now())
	parts := strings.Split(good, ".")
	for _, proof := range []string{
		p.prove(h.sign(c.with("iss", "https://kubernetes.default.svc")), h.cluster.ID(), h.clock.Now()), p.prove("", "", h.clock.Now()), p.prove("a.b.c", "", h.clock.Now()),
		parts[0] + "..", parts[0] + ".e30.", parts[0] + "." + parts[1] + ".=", parts[0], good + ".x", parts[0] + "." + strings.Repeat("A", 100_000) + "." + parts[2],
	} {
		if a := h.ask(proof); a.Status.Authenticated || a.Status.Error != "" {
			t.Errorf("proof %.20q: %+v", proof, a.Status)
		}
	}
	if h.log.String() != "" {
		t.Errorf("logged: %s", h.log)
	}
}
