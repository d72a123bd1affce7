package webhook_test

import (
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/sts"
)

// TestAttacks tries what somebody would who has any token, and wants in.
func TestAttacks(t *testing.T) {
	h := newHouse(t)
	alice := h.newUser("alice")
	good := h.tokenOf(alice)
	h.wantUser(good, "alice@example.test")
	head, rest, _ := strings.Cut(good, ".")
	payload, sig, _ := strings.Cut(rest, ".")
	b64 := base64.RawURLEncoding.EncodeToString
	key := sts.In(h.feed.View()).Signing(h.clock.Now())

	t.Run("one bit changed", func(t *testing.T) {
		for i, part := range []string{payload, sig} {
			raw := segment(good, i+1)
			for _, at := range []int{0, len(raw) / 3, len(raw) / 2, len(raw) - 1} {
				raw[at] ^= 1
				changed := strings.Replace(good, part, b64(raw), 1)
				raw[at] ^= 1
				if a := h.ask(changed); a.Status.Authenticated || a.Status.User.Username != "" {
					t.Errorf("bit 0 of byte %d of part %d changed: authenticated", at, i+1)
				}
			}
		}
		// The last character of base64url holds bits that mean nothing; a second spelling is refused all the same.
		for _, last := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=" {
			if changed := good[:len(good)-1] + string(last); changed != good && h.ask(changed).Status.Authenticated {
				t.Errorf("the last character changed to %c: authenticated", last)
			}
		}
	})

	forged := func(header string, c claims, sign func(input string) []byte) string {
		input := b64([]byte(header)) + "." + b64(encode(c))
		return input + "." + b64(sign(input))
	}
	hs256 := func(secret []byte) func(string) []byte {
		return func(input string) []byte {
			m := hmac.New(sha256.New, secret)
			m.Write([]byte(input))
			return m.Sum(nil)
		}
	}
	cert, err := x509.ParseCertificate(key.Certificate)
	h.must(err)
	public := cert.PublicKey.(*rsa.PublicKey)
	spki, err := x509.MarshalPKIXPublicKey(public)
	h.must(err)
	nothing := func(string) []byte { return nil }
	kid := `,"kid":"` + key.ID + `"}`

	elsewhere := newHouse(t) // another server: same issuer and claims, keys of its own
	otherTenant, _ := h.newTenant("other.test")
	mallory := &directory.User{ID: h.newID(), Tenant: otherTenant.ID, UPN: "mallory@other.test", DisplayName: "m", Enabled: true, Type: directory.Member}
	h.put(directory.KindUser, mallory.ID.String(), mallory)
	bob := h.newUser("bob")
	app := h.newServicePrincipal()

	for _, c := range []struct{ name, token, reason string }{
		{"expired", h.sign(h.claims(alice).with("exp", h.clock.Now().Unix())), "expired"},
		{"without an end", h.sign(h.claims(alice).with("exp", nil)), "expired"},
		{"not yet valid", h.sign(h.claims(alice).with("nbf", h.clock.Now().Unix()+1)), "not valid before"},
		{"of another server with the same claims", elsewhere.sign(h.claims(alice)), "not one of ours"},
		{"of another server with our key's name", forged(`{"alg":"RS256"`+kid, h.claims(alice), func(string) []byte { return segment(elsewhere.sign(h.claims(alice)), 2) }), "signature is wrong"},
		{"alg none", forged(`{"alg":"none"`+kid, h.claims(alice), nothing), "only RS256"},
		{"alg None", forged(`{"alg":"nOnE"`+kid, h.claims(alice), nothing), "only RS256"},
		{"no alg", forged(`{"typ":"JWT"`+kid, h.claims(alice), nothing), "only RS256"},
		{"HS256 with the public key's DER", forged(`{"alg":"HS256"`+kid, h.claims(alice), hs256(spki)), "only RS256"},
		{"HS256 with the public key's PEM", forged(`{"alg":"HS256"`+kid, h.claims(alice), hs256(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))), "only RS256"},
		{"HS256 with the modulus", forged(`{"alg":"HS256"`+kid, h.claims(alice), hs256(public.N.Bytes())), "only RS256"},
		{"RS256 in the header, signed with HMAC", forged(`{"alg":"RS256"`+kid, h.claims(alice), hs256(spki)), "signature is wrong"},
		{"RS512", forged(`{"alg":"RS512"`+kid, h.claims(alice), nothing), "only RS256"},
		{"a key of its own in the header", forged(`{"alg":"RS256","jwk":{"kty":"RSA","n":"AQAB","e":"AQAB"},"kid":"mine"}`, h.claims(alice), nothing), "not one of ours"},
		{"a critical extension", forged(`{"alg":"RS256","crit":["exp"]`+kid, h.claims(alice), nothing), "only RS256"},
		{"no signature", head + "." + payload + ".", "signature is wrong"},
		{"an ID token", h.sign(h.claims(alice).with("appid", nil).with("scp", nil).with("aud", directory.AKSServer)), "ID token"},
		{"an ID token for the client", h.sign(h.claims(alice).with("appid", nil).with("aud", directory.AKSClient)), "is for"},
		{"a user's token without a scope", h.sign(h.claims(alice).with("scp", nil)), "no delegated scope"},
		{"of another tenant", h.sign(h.claims(mallory)), "trusts tenant"},
		{"issuer of another tenant", h.sign(h.claims(alice).with("iss", "https://sts.windows.net/"+otherTenant.ID.String()+"/")), "is not one of tenant"},
		{"tid of another tenant", h.sign(h.claims(alice).with("tid", otherTenant.ID)), "trusts tenant"},
		{"oid of another tenant's user", h.sign(h.claims(alice).with("oid", mallory.ID)), "is not in tenant"},
		{"another user's session", h.sign(h.claims(alice).with("sid", h.newSession(bob).ID)), "ended or revoked"},
		{"no session", h.sign(h.claims(alice).with("sid", nil)), "ended or revoked"},
		{"a user that was never there", h.sign(h.claims(alice).with("oid", h.newID())), "is not in tenant"},
		{"no oid", h.sign(h.claims(alice).with("oid", nil)), "is not in tenant"},
		{"an application's token with a user's id", h.sign(h.appClaims(app).with("oid", alice.ID)), "is not in tenant"},
		{"a user's token with an application's id", h.sign(h.claims(alice).with("oid", app.ID)), "is not in tenant"},
		{"two audiences", h.sign(h.claims(alice).with("aud", []any{directory.AKSServer, directory.Graph})), "not what this server signs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.TB = t
			h.wantRefused(c.token, c.reason)
			h.wantRefused(c.token, c.reason) // and what was remembered of it changes nothing
		})
	}
	h.TB = t
	h.wantUser(good, "alice@example.test")
	if strings.Contains(h.log.String(), sig) || strings.Contains(h.log.String(), payload) {
		t.Error("a token is in the log")
	}
}

// TestForeignTokens holds that tokens of other issuers, which may be a service account's, leave no trace.
func TestForeignTokens(t *testing.T) {
	h := newHouse(t)
	alice := h.newUser("alice")
	for _, issuer := range []any{
		"https://kubernetes.default.svc.cluster.local", publicURL + "/oidc/" + h.tenant.ID.String() + "/" + h.cluster.GUID.String() + "/",
		"kubernetes/serviceaccount", "https://sts.windows.net/common/", "https://sts.windows.net/" + strings.ToUpper(h.tenant.ID.String()) + "/",
		"https://sts.windows.net/" + directory.ID{}.String() + "/", "", nil, 5,
	} {
		a := h.ask(h.sign(h.claims(alice).with("iss", issuer)))
		if a.Status.Authenticated || a.Status.Error != "" {
			t.Errorf("issuer %v: %+v", issuer, a.Status)
		}
	}
	for _, token := range []string{"", "x", ".", "..", "...", "a.b.c", "0123456789abcdef.0123456789", strings.Repeat("a", 100_000), h.tokenOf(alice) + ".x"} {
		if a := h.ask(token); a.Status.Authenticated || a.Status.Error != "" {
			t.Errorf("token %.20q: %+v", token, a.Status)
		}
	}
	if h.log.String() != "" {
		t.Errorf("logged: %s", h.log)
	}
	if events := h.events(); len(events) > 0 {
		t.Errorf("audited: %v", events)
	}
}
