package sts

import (
	"bytes"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// enrolled gives a user an authenticator app, and returns its seed and the recovery codes.
func (w *world) enrolled(u *directory.User) (seed []byte, recovery []string) {
	w.t.Helper()
	seed = bytes.Repeat(u.ID[:1], directory.TOTPSeedSize)
	id, err := directory.NewID(w.srv.random())
	must(w.t, err)
	recovery, err = w.dir.AddTOTP(w.t.Context(), u.ID, id, seed, directory.TOTPCode(seed, w.clock()), true)
	must(w.t, err)
	w.pass(time.Minute)
	return seed, recovery
}

func (w *world) setMFA(u *directory.User, state string) {
	w.t.Helper()
	must(w.t, w.dir.SetMFA(w.t.Context(), directory.System, u.ID, state))
}

// totp is the code that an app shows now. The clock moves on, so that the next one is another.
func (w *world) totp(seed []byte) string {
	w.t.Helper()
	w.pass(30 * time.Second)
	return directory.TOTPCode(seed, w.clock())
}

var secretMark = regexp.MustCompile(`id="secret">([A-Z2-7 ]+)<`)

// seedOf reads the key that an enrolment page shows.
func (w *world) seedOf(p sheet) []byte {
	w.t.Helper()
	seed, err := base32.StdEncoding.DecodeString(strings.ReplaceAll(first(secretMark, p.body), " ", ""))
	must(w.t, err)
	if len(seed) != directory.TOTPSeedSize {
		w.t.Fatalf("a seed of %d bytes on page %q", len(seed), p.page)
	}
	return seed
}

func amrOf(t testing.TB, a answer) []string {
	t.Helper()
	var out []string
	list, _ := claims(t, a.text("access_token"))["amr"].([]any)
	for _, v := range list {
		out = append(out, v.(string))
	}
	return out
}

func TestDecide(t *testing.T) {
	user := func(state string, enrolled bool) *directory.User {
		u := &directory.User{MFA: state}
		if enrolled {
			u.Methods = []directory.Method{{Kind: directory.MethodTOTP}}
		}
		return u
	}
	pwd, mfa, key := []string{"pwd"}, []string{"pwd", "mfa"}, []string{"fido", "mfa"}
	for _, c := range []struct {
		what string
		circumstances
		want int
	}{
		{"a program", circumstances{}, 0},
		{"a program of which more is wanted", circumstances{wanted: true}, 0},
		{"nothing is set", circumstances{user: user("", false), amr: pwd}, 0},
		{"nothing is set, on a page", circumstances{user: user("", false), amr: pwd, page: true}, 0},
		{"enrolled of one's own will", circumstances{user: user("disabled", true), amr: pwd, page: true}, 0},
		{"enrolled of one's own will, and the application wants it", circumstances{user: user("disabled", true), amr: pwd, wanted: true}, 50076},
		{"the application wants it, and there is none", circumstances{user: user("", false), amr: pwd, wanted: true}, 50079},
		{"the application wants it and gets it", circumstances{user: user("", true), amr: mfa, wanted: true}, 0},
		{"enabled, without a page", circumstances{user: user("enabled", false), amr: pwd}, 0},
		{"enabled, on a page", circumstances{user: user("enabled", false), amr: pwd, page: true}, 50079},
		{"enforced and not enrolled", circumstances{user: user("enforced", false), amr: pwd}, 50079},
		{"enforced", circumstances{user: user("enforced", true), amr: pwd}, 50076},
		{"enforced, on a page", circumstances{user: user("enforced", true), amr: pwd, page: true}, 50076},
		{"enforced and shown", circumstances{user: user("enforced", true), amr: mfa}, 0},
		{"enforced, with a passkey", circumstances{user: user("enforced", true), amr: key, page: true}, 0},
		{"enforced, nothing shown", circumstances{user: user("enforced", true)}, 50076},
	} {
		got := 0
		if err := decide(c.circumstances); err != nil {
			got = err.(*refusal).number
		}
		if got != c.want {
			t.Errorf("%s: %d, want %d", c.what, got, c.want)
		}
	}
}

var demands = []struct {
	form   form
	wanted bool
	fails  bool
}{
	{form{}, false, false},
	{form{"claims": `{"access_token":{"xms_cc":{"values":["CP1"]}}}`}, false, false}, // az always sends it
	{form{"claims": `{"access_token":{"nbf":{"essential":true,"value":"1700000000"}}}`}, false, false},
	{form{"claims": `{"id_token":null,"other":7}`}, false, false},
	{form{"claims": `{"access_token":{"capolids":{"essential":true,"values":["x"]}}}`}, true, false},
	{form{"claims": `{"access_token":{"acrs":{"essential":true,"value":"c1"}}}`}, true, false},
	{form{"claims": `{"access_token":{"acrs":null}}`}, true, false},
	{form{"claims": `{"id_token":{"amr":{"essential":true,"values":["mfa"]}}}`}, true, false},
	{form{"claims": `{"id_token":{"amr":{"value":"ngcmfa"}}}`}, true, false},
	{form{"claims": `{"id_token":{"amr":null,"auth_time":{"essential":true}}}`}, false, false},
	{form{"claims": `{"id_token":{"amr":{"values":["pwd"]}}}`}, false, false},
	{form{"claims": `{"userinfo":{"acr":{"values":["possessionorinherence"]}}}`}, true, false},
	{form{"claims": `{"id_token":{"acr":{"essential":true,"values":["1"]}}}`}, false, false},
	{form{"claims": `{"id_token":{"acr":{"values":["phr"]}}}`}, false, false},
	{form{"claims": `{"id_token":{"acr":{"essential":true,"values":["phr"]}}}`}, false, true},
	{form{"claims": `{"id_token":{"amr":{"values":["mfa", 7, null]}}}`}, true, false},
	{form{"claims": `{"id_token":{"amr":"mfa"}}`}, false, true},
	{form{"claims": `{"id_token":[]}`}, false, true},
	{form{"claims": `[]`}, false, true},
	{form{"claims": `null`}, false, true},
	{form{"claims": `{`}, false, true},
	{form{"acr_values": "urn:x c1"}, true, false},
	{form{"acr_values": "urn:x c123 c"}, false, false},
	{form{"amr_values": "ngcmfa"}, true, false},
	{form{"amr_values": "mfa", "claims": `{}`}, true, false},
}

func TestWantsMFA(t *testing.T) {
	for _, d := range demands {
		got, err := wantsMFA(d.form)
		if got != d.wanted || (err != nil) != d.fails {
			t.Errorf("%v: %v, %v", d.form, got, err)
		}
	}
}

// FuzzWantsMFA: what is asked for is found whatever stands beside it, and what cannot be read is refused.
func FuzzWantsMFA(f *testing.F) {
	for _, d := range demands {
		f.Add(d.form["claims"])
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := wantsMFA(form{"claims": text})
		if text == "" {
			return
		}
		var object map[string]any
		if json.Unmarshal([]byte(text), &object) != nil || object == nil {
			if err == nil {
				t.Errorf("%q is no object, and is accepted", text)
			}
			return
		}
		if err != nil {
			return
		}
		if token, ok := object["access_token"].(map[string]any); ok {
			if _, asked := token["acrs"]; asked && !got {
				t.Errorf("%q asks for an authentication context", text)
			}
		}
	})
}

// TestROPCNeedsSecondFactor: a program that has the password alone is told so in Entra's words, and a session that began earlier gets
// no new tokens.
func TestROPCNeedsSecondFactor(t *testing.T) {
	w := newWorld(t)
	first := w.ok(w.ropc(aliceName, alicePassword, aksScope))
	before := first.text("refresh_token")
	w.setMFA(w.alice, directory.MFAEnabled)
	must(t, w.verify(first.text("access_token")))
	w.ok(w.ropc(aliceName, alicePassword, aksScope))
	w.ok(w.redeem(before, directory.AzureCLI, armScope))
	w.setMFA(w.alice, directory.MFAEnforced)
	if w.verify(first.text("access_token")) == nil {
		t.Error("a token from before goes on")
	}
	a := w.fails(w.ropc(aliceName, alicePassword, aksScope), 50079)
	if a.status != 400 || a.text("error") != "invalid_grant" || a.text("suberror") != "basic_action" {
		t.Errorf("not enrolled: %s", a.raw)
	}
	w.enrolled(w.alice)
	a = w.fails(w.ropc(aliceName, alicePassword, aksScope), 50076)
	var challenge map[string]map[string]*claimRequest
	must(t, json.Unmarshal([]byte(a.text("claims")), &challenge))
	if a.status != 400 || a.text("error") != "invalid_grant" || a.text("suberror") != "basic_action" || len(challenge["access_token"]["capolids"].orEmpty().texts()) != 1 ||
		!strings.Contains(a.text("error_description"), directory.AKSServer.String()) {
		t.Errorf("enrolled: %s", a.raw)
	}
	if wanted, err := wantsMFA(form{"claims": a.text("claims")}); !wanted || err != nil {
		t.Error("our own challenge asks for nothing")
	}
	v1 := w.fails(w.post(w.v1(), values("grant_type", "password", "client_id", directory.AzureCLI.String(), "username", aliceName, "password", alicePassword,
		"resource", directory.AKSServer.String())), 50076)
	if v1.text("error") != "interaction_required" {
		t.Errorf("version 1: %s", v1.raw)
	}
	w.fails(w.redeem(before, directory.AzureCLI, armScope), 50076)
	w.fails(w.ropc(aliceName, "wrong", aksScope), 50126) // the password comes first
	bob := w.user("bob@"+domain, alicePassword)
	v := values("grant_type", "password", "client_id", directory.AzureCLI.String(), "username", bob.UPN, "password", alicePassword, "scope", aksScope,
		"claims", `{"id_token":{"amr":{"values":["mfa"]}}}`)
	w.fails(w.post(w.v2(), v), 50079)
	w.setMFA(w.alice, directory.MFADisabled)
	w.ok(w.ropc(aliceName, alicePassword, aksScope))
}

// TestSecondFactorOnSignIn: who must is asked for a code after the password, once for each session of the browser.
func TestSecondFactorOnSignIn(t *testing.T) {
	w := newWorld(t)
	seed, recovery := w.enrolled(w.alice)
	w.setMFA(w.alice, directory.MFAEnforced)
	b := w.browser()
	p := w.enter(b, w.visit(b, "GET", w.authorizeURL(), nil), aliceName, alicePassword)
	w.onPage(p, "second")
	if signedIn := w.visit(b, "GET", w.authorizeURL("prompt", "none"), nil); w.landed(signedIn).Get("error") != "login_required" {
		t.Error("the password alone made a session")
	}
	p = w.step(b, p, "code", "123")
	w.onPage(p, "second")
	p = w.step(b, p)
	w.onPage(p, "second")
	p = w.step(b, p, "code", w.totp(seed))
	a := w.ok(w.redeemCode(w.landed(p).Get("code")))
	if got := amrOf(t, w.ok(w.redeem(a.text("refresh_token"), directory.AzureCLI, armScope))); !reflect.DeepEqual(got, []string{"pwd", "mfa"}) {
		t.Errorf("amr %v", got)
	}
	if c := claims(t, w.ok(w.redeem(a.text("refresh_token"), directory.AzureCLI, armScope)).text("access_token")); c["acr"] != "1" {
		t.Errorf("acr %v", c["acr"])
	}
	w.ok(w.redeemCode(w.code(b))) // again, without a question
	p = w.enter(b, w.visit(b, "GET", w.authorizeURL("prompt", "login"), nil), aliceName, alicePassword)
	w.onPage(p, "second") // a fresh sign-in is asked afresh
	w.ok(w.redeemCode(w.landed(w.step(b, p, "code", recovery[0])).Get("code")))
	p = w.enter(b, w.visit(b, "GET", w.authorizeURL("prompt", "login"), nil), aliceName, alicePassword)
	p = w.step(b, p, "code", recovery[0])
	w.onPage(p, "second") // once only
	if !strings.Contains(p.alert, "recovery codes") {
		t.Errorf("says %q", p.alert)
	}
}

// TestEnrolOnSignIn: who must and has none is led through enrolment before anything is given, and comes out with recovery codes.
func TestEnrolOnSignIn(t *testing.T) {
	for _, state := range []string{directory.MFAEnabled, directory.MFAEnforced} {
		w := newWorld(t)
		w.setMFA(w.alice, state)
		b := w.browser()
		p := w.enter(b, w.visit(b, "GET", w.authorizeURL(), nil), aliceName, alicePassword)
		w.onPage(p, "enrol")
		seed := w.seedOf(p)
		if !strings.Contains(p.body, `<svg viewBox="0 0 `) {
			t.Error("no QR code")
		}
		p = w.step(b, p, "code", "000000")
		w.onPage(p, "enrol")
		if !bytes.Equal(seed, w.seedOf(p)) {
			t.Error("a wrong code changes the key, which the app has already")
		}
		p = w.step(b, p, "code", w.totp(seed))
		w.onPage(p, "codes")
		if n := strings.Count(p.body, "<li>"); n != 10 {
			t.Errorf("%d recovery codes", n)
		}
		if got := directory.In(w.srv.Feed.View()).User(w.alice.ID); got.PerUserMFA() != directory.MFAEnforced || len(got.Methods) != 1 {
			t.Errorf("%s: %+v", state, got)
		}
		a := w.ok(w.redeemCode(w.landed(w.step(b, p)).Get("code"), "scope", armScope))
		a = w.ok(w.redeem(a.text("refresh_token"), directory.AzureCLI, armScope))
		if got := amrOf(t, a); !reflect.DeepEqual(got, []string{"pwd", "mfa"}) {
			t.Errorf("amr %v", got)
		}
	}
}

// TestStepUp: a session that began with the password alone is asked for the second factor when it is needed, and not refused.
func TestStepUp(t *testing.T) {
	w := newWorld(t)
	seed, _ := w.enrolled(w.alice)
	b := w.browser()
	w.code(b) // of one's own will: not asked
	w.pass(time.Hour)
	const claims = `{"id_token":{"amr":{"essential":true,"values":["mfa"]}}}`
	none := w.landed(w.visit(b, "GET", w.authorizeURL("prompt", "none", "claims", claims), nil))
	if none.Get("error") != "interaction_required" || none.Get("claims") == "" || none.Get("code") != "" {
		t.Errorf("without a page: %v", none)
	}
	p := w.visit(b, "GET", w.authorizeURL("claims", claims), nil)
	w.onPage(p, "second")
	before := w.cookies(b, browserCookie)
	code := w.landed(w.step(b, p, "code", w.totp(seed))).Get("code")
	if after := w.cookies(b, browserCookie); after == before {
		t.Error("the cookie from before has more rights now")
	}
	w.ok(w.redeemCode(code, "claims", claims))
	w.ok(w.redeemCode(w.code(b, "claims", claims))) // it stays so
	w.ok(w.redeemCode(w.landed(w.again(b)).Get("code")))
	w.pass(23 * time.Hour) // and lasts no longer than it would have
	w.onPage(w.visit(b, "GET", w.authorizeURL(), nil), "signin")

	// Who has none must sign in again before adding one: the screen may have been left unlocked.
	bob := w.user("bob@"+domain, alicePassword)
	c := w.browser()
	w.landed(w.enter(c, w.visit(c, "GET", w.authorizeURL(), nil), bob.UPN, alicePassword))
	w.onPage(w.visit(c, "GET", w.authorizeURL("claims", claims), nil), "enrol")
	w.pass(recentProof)
	w.onPage(w.visit(c, "GET", w.authorizeURL("claims", claims), nil), "signin")
}

// cookies returns the value of a cookie of a browser.
func (w *world) cookies(b *http.Client, name string) string {
	at, err := url.Parse(w.http.URL)
	must(w.t, err)
	for _, c := range b.Jar.Cookies(at) {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

// TestSecondFactorOnDevicePage: the page asks, and what was shown there is what the device's tokens say.
func TestSecondFactorOnDevicePage(t *testing.T) {
	w := newWorld(t)
	seed, _ := w.enrolled(w.alice)
	w.setMFA(w.alice, directory.MFAEnforced)
	started := w.startDevice(t, aksScope)
	b := w.browser()
	p := w.next(b, w.next(b, w.visit(b, "GET", "/devicelogin", nil), "otc", started.text("user_code")), "loginfmt", aliceName, "passwd", alicePassword)
	w.onPage(p, "second")
	if early := w.next(b, p, "action", "continue"); early.page != "second" {
		t.Errorf("confirmed without the second factor: %q", early.page)
	}
	p = w.next(b, w.next(b, p, "code", ""), "code", w.totp(seed))
	w.onPage(p, "confirm")
	w.onPage(w.next(b, p, "action", "continue"), "done")
	if got := amrOf(t, w.ok(w.poll(started))); !reflect.DeepEqual(got, []string{"pwd", "mfa"}) {
		t.Errorf("amr %v", got)
	}
	bob := w.user("bob@"+domain, alicePassword)
	asked := w.ok(w.post("/"+w.tenant.ID.String()+"/oauth2/v2.0/devicecode", values("client_id", directory.AKSClient.String(), "scope", aksScope,
		"claims", `{"access_token":{"capolids":{"essential":true,"values":["x"]}}}`)))
	c := w.browser()
	p = w.next(c, w.next(c, w.visit(c, "GET", "/devicelogin", nil), "otc", asked.text("user_code")), "loginfmt", bob.UPN, "passwd", alicePassword)
	w.onPage(p, "enrol")
	p = w.next(c, p, "code", w.totp(w.seedOf(p)))
	w.onPage(p, "codes")
	p = w.next(c, p)
	w.onPage(p, "confirm")
	w.onPage(w.next(c, p, "action", "continue"), "done")
	w.ok(w.poll(asked))
	pending := w.startDevice(t, aksScope)
	d := w.browser()
	p = w.confirming(d, pending, bob.UPN, alicePassword)
	w.onPage(w.next(d, p, "action", "continue"), "done")
	w.setMFA(bob, directory.MFAEnforced) // between the page and the poll
	w.fails(w.poll(pending), 50076)
}

// TestMustChangeComesAfter: the second factor is asked for before the password may be changed, so that one who found the password out
// cannot make it theirs.
func TestMustChangeComesAfter(t *testing.T) {
	w := newWorld(t)
	seed, _ := w.enrolled(w.alice)
	w.setMFA(w.alice, directory.MFAEnforced)
	w.setUser(w.alice.ID, func(u *directory.User) { u.MustChange = true })
	b := w.browser()
	p := w.enter(b, w.visit(b, "GET", w.authorizeURL(), nil), aliceName, alicePassword)
	w.onPage(p, "second")
	p = w.step(b, p, "code", w.totp(seed))
	w.onPage(p, "password")
	p = w.step(b, p, "currentPassword", alicePassword, "newPassword", "Fresh-Paint-11", "confirmNewPassword", "Fresh-Paint-11")
	a := w.ok(w.redeemCode(w.landed(p).Get("code")))
	a = w.ok(w.redeem(a.text("refresh_token"), directory.AzureCLI, armScope))
	if got := amrOf(t, a); !reflect.DeepEqual(got, []string{"pwd", "mfa"}) {
		t.Errorf("amr %v", got)
	}
}

// TestSecondFactorAttacks: one line each.
func TestSecondFactorAttacks(t *testing.T) {
	w := newWorld(t)
	seed, _ := w.enrolled(w.alice)
	w.setMFA(w.alice, directory.MFAEnforced)
	mallory := w.user("mallory@"+domain, alicePassword)
	malloryKey, _ := w.enrolled(mallory)
	w.setMFA(mallory, directory.MFAEnforced)
	in := func(b *http.Client) sheet {
		p := w.enter(b, w.visit(b, "GET", w.authorizeURL(), nil), aliceName, alicePassword)
		w.onPage(p, "second")
		return p
	}
	refused := func(what string, p sheet) {
		t.Helper()
		u, err := url.Parse(p.header.Get("Location"))
		must(t, err)
		if u.Query().Get("code") != "" || p.page == "codes" || p.page == "account" || p.page == "confirm" {
			t.Errorf("%s: HTTP %d, page %q, %s", what, p.status, p.page, p.header.Get("Location"))
		}
	}
	b := w.browser()
	signin := w.visit(b, "GET", w.authorizeURL(), nil)
	second := w.enter(b, signin, aliceName, alicePassword)
	refused("the first form again", w.step(b, signin, "loginfmt", aliceName, "passwd", alicePassword))
	refused("the first form with a code", w.step(b, signin, "loginfmt", aliceName, "passwd", alicePassword, "code", w.totp(seed)))
	refused("a choice of account", w.step(b, second, "account", w.alice.ID.String()))
	refused("consent", w.step(b, second, "action", "accept"))
	refused("no code", w.step(b, second))
	refused("a code of another user's app", w.step(b, second, "code", w.totp(malloryKey)))
	refused("no passkey", w.step(b, second, "credential", `{}`))
	refused("a form at the device page", w.visit(b, "POST", "/devicelogin", values("state", second.state, "code", w.totp(seed))))
	refused("a form at the account page", w.visit(b, "POST", "/myaccount", values("state", second.state, "code", w.totp(seed))))
	refused("from another site", w.visit(b, "POST", "/signin", values("state", second.state, "code", w.totp(seed)), "Sec-Fetch-Site", "cross-site"))
	refused("in another browser", w.step(w.browser(), second, "code", w.totp(seed)))
	changed := sheet{state: second.state[:len(second.state)-3] + "AAA"}
	refused("a form that was changed", w.step(b, changed, "code", w.totp(seed)))

	b = w.browser()
	second = in(b)
	code := w.totp(seed)
	if w.landed(w.step(b, second, "code", code)).Get("code") == "" {
		t.Fatal("a right code is refused")
	}
	refused("the same form again", w.step(b, second, "code", w.totp(seed)))
	c := w.browser()
	refused("the same code elsewhere", w.step(c, in(c), "code", code))

	// An attacker has the password: the factor is neither replaced nor added to, not with a form from before there was one either.
	late := w.user("late@"+domain, alicePassword)
	w.setMFA(late, directory.MFAEnforced)
	d := w.browser()
	enrol := w.enter(d, w.visit(d, "GET", w.authorizeURL(), nil), late.UPN, alicePassword)
	w.onPage(enrol, "enrol")
	w.enrolled(late) // by the person, meanwhile
	refused("enrolling in a form from before", w.step(d, enrol, "code", w.totp(w.seedOf(enrol))))
	if got := directory.In(w.srv.Feed.View()).User(late.ID); len(got.Methods) != 1 {
		t.Errorf("%d factors", len(got.Methods))
	}
	// The form of an attacker's enrolment in the browser of somebody else adds nothing there.
	fresh := w.user("fresh@"+domain, alicePassword)
	w.setMFA(fresh, directory.MFAEnforced)
	theirs, victims := w.browser(), w.browser()
	mine := w.enter(theirs, w.visit(theirs, "GET", w.authorizeURL(), nil), fresh.UPN, alicePassword)
	w.enter(victims, w.visit(victims, "GET", w.authorizeURL(), nil), fresh.UPN, alicePassword)
	refused("an attacker's seed by a forged form", w.step(victims, mine, "code", w.totp(w.seedOf(mine))))
	w.pass(pageLife)
	refused("a form that was open too long", w.step(theirs, mine, "code", w.totp(w.seedOf(mine))))
	if got := directory.In(w.srv.Feed.View()).User(fresh.ID); got.HasSecondFactor() {
		t.Error("the attacker's seed is enrolled")
	}
	e := w.browser()
	second = in(e)
	w.pass(time.Second)
	must(t, w.dir.RevokeSessions(t.Context(), directory.System, w.alice.ID))
	refused("after all sessions were revoked", w.step(e, second, "code", w.totp(seed)))
	w.pass(time.Second)
	e = w.browser()
	second = in(e)
	w.setUser(w.alice.ID, func(u *directory.User) { u.Enabled = false })
	refused("after the account was disabled", w.step(e, second, "code", w.totp(seed)))
}

// TestCodeGuesses: an account takes few wrong codes, from wherever they come.
func TestCodeGuesses(t *testing.T) {
	w := newWorld(t)
	seed, recovery := w.enrolled(w.alice)
	w.setMFA(w.alice, directory.MFAEnforced)
	b := w.browser()
	p := w.enter(b, w.visit(b, "GET", w.authorizeURL(), nil), aliceName, alicePassword)
	for range 10 {
		p = w.step(b, p, "code", directory.TOTPCode([]byte("guess"), w.clock()))
		w.onPage(p, "second")
	}
	other := w.browser()
	p = w.enter(other, w.visit(other, "GET", w.authorizeURL(), nil), aliceName, alicePassword)
	locked := w.step(other, p, "code", directory.TOTPCode(seed, w.clock()))
	if locked.page != "second" || locked.status != http.StatusTooManyRequests || !strings.Contains(locked.alert, "too many wrong codes") {
		t.Errorf("locked: HTTP %d %q %q", locked.status, locked.page, locked.alert)
	}
	w.landed(w.step(other, locked, "code", recovery[4]))
	var denied int
	for _, e := range w.events() {
		if e.Action == "second-factor" && e.Code == 500121 {
			denied++
		}
	}
	if denied != 11 {
		t.Errorf("%d refusals are in the audit", denied)
	}
	if strings.Contains(w.log.String(), recovery[4]) || strings.Contains(w.log.String(), directory.TOTPText(seed)) {
		t.Error("the log holds a secret")
	}
}

// TestQR holds the drawing against the encoder: what is dark is drawn, and nothing else.
func TestQR(t *testing.T) {
	view, err := qrOf("otpauth://totp/x:y?secret=" + strings.Repeat("A", 32))
	must(t, err)
	dark := map[[2]int]bool{}
	var x, y, n int
	for piece := range strings.SplitSeq(strings.TrimPrefix(view.Path, "M"), "M") {
		if _, err := fmt.Sscanf(piece, "%d %dh%d", &x, &y, &n); err != nil {
			t.Fatalf("%q: %v", piece, err)
		}
		for i := range n {
			dark[[2]int{x + i, y}] = true
		}
	}
	finder := []string{"1111111", "1000001", "1011101", "1011101", "1011101", "1000001", "1111111"}
	for _, corner := range [][2]int{{4, 4}, {view.Size - 11, 4}, {4, view.Size - 11}} {
		for dy, row := range finder {
			for dx, c := range row {
				if dark[[2]int{corner[0] + dx, corner[1] + dy}] != (c == '1') {
					t.Fatalf("the pattern at %v is wrong", corner)
				}
			}
		}
	}
	for at := range dark {
		if slices.Min(at[:]) < qrMargin || slices.Max(at[:]) >= view.Size-qrMargin {
			t.Fatalf("%v is in the quiet zone", at)
		}
	}
	if _, err := qrOf(strings.Repeat("x", 5000)); err == nil {
		t.Error("a text that does not fit")
	}
}
