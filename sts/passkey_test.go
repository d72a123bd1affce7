package sts

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"html"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// authenticator makes passkeys and signs with them, also as no honest one would.
type authenticator struct {
	t      *testing.T
	key    *ecdsa.PrivateKey
	id     []byte
	handle []byte
	count  uint32
	origin string
	rpID   string
	flags  byte
}

const (
	userPresent, userVerified, attested = 0x01, 0x04, 0x40
	passkeyOrigin                       = "https://localhost:8443"
)

// withPasskeys makes the public URL one that passkeys can be had under: the test's address cannot.
func (w *world) withPasskeys(t *testing.T) *world {
	w.srv.Authorities.Public = passkeyOrigin
	return w
}

func newAuthenticator(t *testing.T, name string) *authenticator {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return &authenticator{t: t, key: key, id: []byte(name + "-credential"), origin: passkeyOrigin, rpID: "localhost", flags: userPresent | userVerified}
}

var optionsMark = regexp.MustCompile(`data-options="([^"]*)"`)

type ceremony struct {
	Challenge string `json:"challenge"`
	RPID      string `json:"rpId"`
	UV        string `json:"userVerification"`
	RP        struct {
		ID string `json:"id"`
	} `json:"rp"`
	User struct {
		ID string `json:"id"`
	} `json:"user"`
	Selection struct {
		Resident string `json:"residentKey"`
		UV       string `json:"userVerification"`
	} `json:"authenticatorSelection"`
	Allow   []struct{ ID string } `json:"allowCredentials"`
	Exclude []struct{ ID string } `json:"excludeCredentials"`
}

// options reads what a page's script asks for.
func options(t *testing.T, p sheet) (c ceremony) {
	t.Helper()
	must(t, json.Unmarshal([]byte(html.UnescapeString(first(optionsMark, p.body))), &c))
	if c.Challenge == "" {
		t.Fatalf("page %q asks for no passkey", p.page)
	}
	return c
}

func (a *authenticator) clientData(kind, challenge string) []byte {
	text, err := json.Marshal(map[string]any{"type": kind, "challenge": challenge, "origin": a.origin, "crossOrigin": false})
	must(a.t, err)
	return text
}

func (a *authenticator) authData(flags byte) []byte {
	sum := sha256.Sum256([]byte(a.rpID))
	return binary.BigEndian.AppendUint32(append(sum[:], flags), a.count)
}

// create answers a registration, with attestation none (WebAuthn sections 6.5.4 and 8.7).
func (a *authenticator) create(p sheet) string {
	c := options(a.t, p)
	handle, err := base64.RawURLEncoding.DecodeString(c.User.ID)
	must(a.t, err)
	a.handle = handle
	point, err := a.key.PublicKey.Bytes()
	must(a.t, err)
	data := append(a.authData(a.flags|attested), make([]byte, 16)...)
	data = append(binary.BigEndian.AppendUint16(data, uint16(len(a.id))), a.id...)
	data = append(data, 0xa5, 1, 2, 3, 0x26, 0x20, 1, 0x21, 0x58, 32) // COSE: EC2, ES256, P-256
	data = append(append(append(data, point[1:33]...), 0x22, 0x58, 32), point[33:]...)
	object := append([]byte("\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x58"), byte(len(data)))
	return a.answer(map[string]any{"clientDataJSON": b64(a.clientData("webauthn.create", c.Challenge)), "attestationObject": b64(append(object, data...))})
}

// get answers a request for a signature.
func (a *authenticator) get(p sheet) string {
	a.count++
	return a.sign("webauthn.get", options(a.t, p).Challenge)
}

func (a *authenticator) sign(kind, challenge string) string {
	client, data := a.clientData(kind, challenge), a.authData(a.flags)
	hash := sha256.Sum256(client)
	sum := sha256.Sum256(append(data[:len(data):len(data)], hash[:]...))
	sig, err := ecdsa.SignASN1(rand.Reader, a.key, sum[:])
	must(a.t, err)
	return a.answer(map[string]any{"clientDataJSON": b64(client), "authenticatorData": b64(data), "signature": b64(sig), "userHandle": b64(a.handle)})
}

func (a *authenticator) answer(response map[string]any) string {
	text, err := json.Marshal(map[string]any{"id": b64(a.id), "rawId": b64(a.id), "type": "public-key", "response": response, "clientExtensionResults": map[string]any{}})
	must(a.t, err)
	return string(text)
}

// withPasskey is a user who must use a second factor and has a passkey, enrolled on the sign-in page.
func (w *world) withPasskey(t *testing.T, name string) (*directory.User, *authenticator) {
	t.Helper()
	u := w.user(name+"@"+domain, alicePassword)
	w.setMFA(u, directory.MFAEnforced)
	a := newAuthenticator(t, name)
	b := w.browser()
	p := w.enter(b, w.visit(b, "GET", w.authorizeURL(), nil), u.UPN, alicePassword)
	w.onPage(p, "enrol")
	c := options(t, p)
	if c.RP.ID != "localhost" || c.Selection.Resident != "required" || c.Selection.UV != "required" || c.User.ID != b64(u.ID[:]) {
		t.Errorf("asks for %+v", c)
	}
	p = w.step(b, p, "credential", a.create(p))
	w.onPage(p, "codes")
	w.landed(w.step(b, p))
	w.pass(time.Second)
	return u, a
}

// TestPasskey: it signs in by itself, and is the second factor after a password.
func TestPasskey(t *testing.T) {
	w := newWorld(t).withPasskeys(t)
	u, a := w.withPasskey(t, "pat")
	amr := func(p sheet) []string {
		t.Helper()
		first := w.ok(w.redeemCode(w.landed(p).Get("code")))
		return amrOf(t, w.ok(w.redeem(first.text("refresh_token"), directory.AzureCLI, armScope)))
	}
	b := w.browser()
	p := w.visit(b, "GET", w.authorizeURL(), nil)
	if !strings.Contains(p.header.Get("Content-Security-Policy"), "script-src 'self'") {
		t.Error("the page's script may not run")
	}
	if c := options(t, p); c.RPID != "localhost" || c.UV != "required" || len(c.Allow) != 0 {
		t.Errorf("asks for %+v", c)
	}
	if got := amr(w.step(b, p, "credential", a.get(p))); !reflect.DeepEqual(got, []string{"fido", "mfa"}) {
		t.Errorf("by itself: amr %v", got)
	}
	c := w.browser()
	p = w.enter(c, w.visit(c, "GET", w.authorizeURL(), nil), u.UPN, alicePassword)
	w.onPage(p, "second")
	if got := options(t, p); len(got.Allow) != 1 || got.Allow[0].ID != b64(a.id) {
		t.Errorf("asks for %+v", got)
	}
	if got := amr(w.step(c, p, "credential", a.get(p))); !reflect.DeepEqual(got, []string{"pwd", "mfa", "fido"}) {
		t.Errorf("after the password: amr %v", got)
	}
	started := w.startDevice(t, aksScope)
	d := w.browser()
	p = w.next(d, w.visit(d, "GET", "/devicelogin", nil), "otc", started.text("user_code"))
	p = w.next(d, p, "credential", a.get(p))
	w.onPage(p, "confirm")
	w.onPage(w.next(d, p, "action", "continue"), "done")
	if got := amrOf(t, w.ok(w.poll(started))); !reflect.DeepEqual(got, []string{"fido", "mfa"}) {
		t.Errorf("on the device page: amr %v", got)
	}
}

// TestPasskeyAttacks: one line each. Each begins with a genuine passkey and a page that asks for it.
func TestPasskeyAttacks(t *testing.T) {
	w := newWorld(t).withPasskeys(t)
	u, a := w.withPasskey(t, "pat")
	_, other := w.withPasskey(t, "eve")
	for what, forge := range map[string]func(p sheet, a authenticator) string{
		"a page of another origin":       func(p sheet, a authenticator) string { a.origin = "https://evil.test"; return a.get(p) },
		"another port":                   func(p sheet, a authenticator) string { a.origin = "https://localhost:9443"; return a.get(p) },
		"without TLS":                    func(p sheet, a authenticator) string { a.origin = "http://localhost:8443"; return a.get(p) },
		"another relying party":          func(p sheet, a authenticator) string { a.rpID = "evil.test"; return a.get(p) },
		"without user verification":      func(p sheet, a authenticator) string { a.flags = userPresent; return a.get(p) },
		"without the user":               func(p sheet, a authenticator) string { a.flags = userVerified; return a.get(p) },
		"another challenge":              func(p sheet, a authenticator) string { return a.sign("webauthn.get", b64(make([]byte, 32))) },
		"a registration for a signature": func(p sheet, a authenticator) string { return a.sign("webauthn.create", options(t, p).Challenge) },
		"another key": func(p sheet, a authenticator) string {
			a.key = newAuthenticator(t, "x").key
			return a.get(p)
		},
		"the handle of another user": func(p sheet, a authenticator) string { a.handle = other.handle; return a.get(p) },
		"the handle of nobody":       func(p sheet, a authenticator) string { a.handle = make([]byte, 16); return a.get(p) },
		"no handle, by itself":       func(p sheet, a authenticator) string { a.handle = []byte{}; return a.get(p) },
		"an unknown credential":      func(p sheet, a authenticator) string { a.id = []byte("unknown"); return a.get(p) },
		"a counter that stays":       func(p sheet, a authenticator) string { a.count -= 1; return a.get(p) },
		"a counter that goes back": func(p sheet, a authenticator) string {
			a.count = 0
			return a.sign("webauthn.get", options(t, p).Challenge)
		},
		"nothing": func(sheet, authenticator) string { return "{}" },
		"no JSON": func(sheet, authenticator) string { return "\x00" },
	} {
		b := w.browser()
		// The genuine count moves on, so that only what is said makes the difference.
		p := w.visit(b, "GET", w.authorizeURL(), nil)
		w.landed(w.step(b, p, "credential", a.get(p)))
		b = w.browser()
		p = w.visit(b, "GET", w.authorizeURL(), nil)
		if got := w.step(b, p, "credential", forge(p, *a)); got.page != "signin" || got.status != 400 {
			t.Errorf("%s: HTTP %d, page %q, %s", what, got.status, got.page, got.header.Get("Location"))
		}
		if what == "no handle, by itself" {
			continue // once the user is known, none is needed
		}
		p = w.enter(b, w.visit(b, "GET", w.authorizeURL("prompt", "login"), nil), u.UPN, alicePassword)
		w.onPage(p, "second")
		if got := w.step(b, p, "credential", forge(p, *a)); got.page != "second" || got.status != 400 {
			t.Errorf("%s, as second factor: HTTP %d, page %q", what, got.status, got.page)
		}
	}
	b := w.browser()
	p := w.enter(b, w.visit(b, "GET", w.authorizeURL(), nil), u.UPN, alicePassword)
	if got := w.step(b, p, "credential", other.get(p)); got.page != "second" || got.status != 400 {
		t.Errorf("another user's passkey as the second factor: HTTP %d, page %q", got.status, got.page)
	}
	p = w.visit(b, "GET", w.authorizeURL("prompt", "login"), nil)
	answer := a.get(p)
	w.landed(w.step(b, p, "credential", answer))
	if got := w.step(b, p, "credential", answer); got.page != "signin" {
		t.Errorf("the same answer again: HTTP %d, page %q, %s", got.status, got.page, got.header.Get("Location"))
	}
	if strings.Contains(w.visit(w.browser(), "GET", w.authorizeURL(), nil).body, "allowCredentials") {
		t.Error("the page tells whose passkeys there are")
	}
	w.setUser(u.ID, func(u *directory.User) { u.Enabled = false })
	p = w.visit(b, "GET", w.authorizeURL("prompt", "login"), nil)
	if got := w.step(b, p, "credential", a.get(p)); got.page != "signin" {
		t.Errorf("a disabled account: HTTP %d, page %q", got.status, got.page)
	}
	must(t, w.dir.RemoveMethod(t.Context(), directory.System, w.named("eve").ID, w.named("eve").Methods[0].ID))
	p = w.visit(b, "GET", w.authorizeURL("prompt", "login"), nil)
	if got := w.step(b, p, "credential", other.get(p)); got.page != "signin" {
		t.Errorf("a passkey that was removed: HTTP %d, page %q", got.status, got.page)
	}
}

func (w *world) named(name string) *directory.User {
	return directory.In(w.srv.Feed.View()).UserByUPN(name + "@" + domain)
}

// TestPasskeyRegistrationAttacks: what is no fresh passkey of this page is not kept.
func TestPasskeyRegistrationAttacks(t *testing.T) {
	w := newWorld(t).withPasskeys(t)
	u := w.user("new@"+domain, alicePassword)
	w.setMFA(u, directory.MFAEnforced)
	_, taken := w.withPasskey(t, "pat")
	b := w.browser()
	p := w.enter(b, w.visit(b, "GET", w.authorizeURL(), nil), u.UPN, alicePassword)
	old := newAuthenticator(t, "old").create(p)
	for what, forge := range map[string]func(a *authenticator) string{
		"of another origin":         func(a *authenticator) string { a.origin = "https://evil.test"; return a.create(p) },
		"of another relying party":  func(a *authenticator) string { a.rpID = "evil.test"; return a.create(p) },
		"without user verification": func(a *authenticator) string { a.flags = userPresent; return a.create(p) },
		"for an earlier page":       func(*authenticator) string { return old },
		"a signature":               func(*authenticator) string { return taken.get(p) },
		"nothing":                   func(*authenticator) string { return "{}" },
	} {
		p = w.step(b, p, "code", "000000")
		w.onPage(p, "enrol")
		if p = w.step(b, p, "credential", forge(newAuthenticator(t, "new"))); p.page != "enrol" || p.status != 400 {
			t.Fatalf("%s: HTTP %d, page %q", what, p.status, p.page)
		}
	}
	if directory.In(w.srv.Feed.View()).User(u.ID).HasSecondFactor() {
		t.Error("something was kept")
	}
}

// TestNoPasskeyAtAddress: an address can be no relying party, so none is asked for there.
func TestNoPasskeyAtAddress(t *testing.T) {
	w := newWorld(t)
	p := w.visit(w.browser(), "GET", w.authorizeURL(), nil)
	if strings.Contains(p.body, "passkey") {
		t.Error("a passkey is asked for at an address")
	}
	if got := w.step(w.browser(), p, "credential", "{}"); got.status < 400 {
		t.Errorf("a passkey at an address: HTTP %d", got.status)
	}
}

// FuzzPasskeyAnswer: whatever a browser says its passkey said, nobody is signed in by it.
func FuzzPasskeyAnswer(f *testing.F) {
	w := newWorld(f)
	w.srv.Authorities.Public = passkeyOrigin
	b := w.browser()
	p := w.visit(b, "GET", w.authorizeURL(), nil)
	for _, s := range []string{"{}", "[]", `{"id":"AA","rawId":"AA","type":"public-key","response":{"clientDataJSON":"e30","authenticatorData":"AA","signature":"AA","userHandle":"AAAAAAAAAAAAAAAAAAAAAA"}}`,
		`{"id":"AA","rawId":"AA","type":"public-key","response":{"clientDataJSON":"e30","attestationObject":"o2NmbXRkbm9uZQ"}}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, answer string) {
		w.t = t
		if answer == "" {
			return
		}
		if got := w.step(b, p, "credential", strings.ToValidUTF8(answer, "")); got.status < 400 {
			t.Errorf("HTTP %d", got.status)
		}
	})
}
