package sts

import (
	"crypto/sha256"
	"encoding/base64"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

const (
	cliRedirect = "http://localhost:41234"
	verifier    = "the-verifier-of-these-tests-is-forty-three-chars"
)

func challenge(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// authorizeURL is the address that MSAL opens for Azure CLI, with some parameters replaced; "-" leaves one out.
func (w *world) authorizeURL(pairs ...string) string {
	v := values("client_id", directory.AzureCLI.String(), "response_type", "code", "redirect_uri", cliRedirect, "scope", aksScope,
		"state", "the state", "nonce", "the nonce", "code_challenge", challenge(verifier), "code_challenge_method", "S256", "client_info", "1")
	for i := 0; i+1 < len(pairs); i += 2 {
		if v.Set(pairs[i], pairs[i+1]); pairs[i+1] == "-" {
			v.Del(pairs[i])
		}
	}
	return "/organizations/oauth2/v2.0/authorize?" + v.Encode()
}

// step posts the form of a sign-in page.
func (w *world) step(b *http.Client, from sheet, pairs ...string) sheet {
	w.t.Helper()
	return w.visit(b, "POST", "/signin", values(append(pairs, "state", from.state)...))
}

// enter signs a user in on the sign-in page.
func (w *world) enter(b *http.Client, from sheet, name, password string, pairs ...string) sheet {
	w.t.Helper()
	w.onPage(from, "signin")
	return w.step(b, from, append(pairs, "loginfmt", name, "passwd", password)...)
}

// landed are the parameters that a redirect brings to the application.
func (w *world) landed(p sheet) url.Values {
	w.t.Helper()
	u, err := url.Parse(p.header.Get("Location"))
	must(w.t, err)
	if p.status != 302 && p.status != 303 || u.Host == "" {
		w.t.Fatalf("HTTP %d, page %q: not sent to the application: %s", p.status, p.page, p.body)
	}
	if u.Fragment != "" {
		v, err := url.ParseQuery(u.EscapedFragment())
		must(w.t, err)
		return v
	}
	return u.Query()
}

var accountMark = regexp.MustCompile(`name="account" value="([^"]*)"`)

// again asks for a code with somebody signed in.
func (w *world) again(b *http.Client, pairs ...string) sheet {
	w.t.Helper()
	return w.confirmed(b, w.visit(b, "GET", w.authorizeURL(pairs...), nil))
}

// confirmed goes on from the page that asks whether the one account shall be used, and from any other with nothing.
func (w *world) confirmed(b *http.Client, p sheet) sheet {
	w.t.Helper()
	if p.page == "pick" && strings.Contains(p.body, "Continue to") {
		p = w.step(b, p, "account", first(accountMark, p.body))
	}
	return p
}

// code signs Alice in for a request and returns the code.
func (w *world) code(b *http.Client, pairs ...string) string {
	w.t.Helper()
	p := w.again(b, pairs...)
	if p.page == "signin" {
		p = w.enter(b, p, aliceName, alicePassword)
	}
	code := w.landed(p).Get("code")
	if code == "" {
		w.t.Fatalf("no code at %q", p.header.Get("Location"))
	}
	return code
}

// redeemCode asks for the tokens of a code as MSAL does, with some parameters replaced.
func (w *world) redeemCode(code string, pairs ...string) answer {
	w.t.Helper()
	v := values("grant_type", "authorization_code", "client_id", directory.AzureCLI.String(), "code", code, "redirect_uri", cliRedirect,
		"code_verifier", verifier, "client_info", "1")
	for i := 0; i+1 < len(pairs); i += 2 {
		if v.Set(pairs[i], pairs[i+1]); pairs[i+1] == "-" {
			v.Del(pairs[i])
		}
	}
	return w.post("/organizations/oauth2/v2.0/token", v)
}

func TestAuthorizationCode(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	p := w.enter(b, w.visit(b, "GET", w.authorizeURL(), nil), aliceName, alicePassword)
	got := w.landed(p)
	if !strings.HasPrefix(p.header.Get("Location"), cliRedirect+"?") || got.Get("state") != "the state" || got.Get("client_info") != clientInfo(w.alice) {
		t.Errorf("sent to %s", p.header.Get("Location"))
	}
	a := w.ok(w.redeemCode(got.Get("code")))
	must(t, w.verify(a.text("access_token")))
	id := claims(t, a.text("id_token"))
	if id["nonce"] != "the nonce" || id["aud"] != directory.AzureCLI.String() || id["preferred_username"] != aliceName || id["auth_time"] != nil {
		t.Errorf("ID token %v", id)
	}
	if a.text("foci") != "1" || a.text("client_info") != clientInfo(w.alice) {
		t.Errorf("answer %s", a.raw)
	}
	must(t, w.verify(w.ok(w.redeem(a.text("refresh_token"), directory.AzureCLI, armScope)).text("access_token")))
	w.ok(w.redeemCode(w.landed(w.again(b)).Get("code"))) // the browser is signed in: no password
}

// TestAuthorizeVersion1: the resource comes with the first request, or with the second.
func TestAuthorizeVersion1(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	for _, resource := range []string{directory.AKSServer.String(), "-"} {
		at := strings.Replace(w.authorizeURL("scope", "-", "resource", resource), "/v2.0/", "/", 1)
		p := w.visit(b, "GET", at, nil)
		if p.page == "signin" {
			p = w.enter(b, p, aliceName, alicePassword)
		} else {
			p = w.step(b, p, "account", first(accountMark, p.body))
		}
		a := w.ok(w.post(w.v1(), values("grant_type", "authorization_code", "client_id", directory.AzureCLI.String(), "code", w.landed(p).Get("code"),
			"redirect_uri", cliRedirect, "code_verifier", verifier, "resource", directory.AKSServer.String())))
		if c := claims(t, a.text("access_token")); c["aud"] != "spn:"+directory.AKSServer.String() || a.text("expires_in") == "" {
			t.Errorf("claims %v", c)
		}
		if claims(t, a.text("id_token"))["nonce"] != "the nonce" {
			t.Error("the ID token has no nonce")
		}
	}
}

func TestResponseModes(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	w.code(b)
	p := w.again(b, "response_mode", "fragment")
	if at := p.header.Get("Location"); !strings.HasPrefix(at, cliRedirect+"#") || w.landed(p).Get("code") == "" {
		t.Errorf("fragment: %q", at)
	}
	p = w.again(b, "response_mode", "form_post", "state", `"><script>`)
	w.onPage(p, "formpost")
	fields := map[string]string{}
	for _, m := range regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`).FindAllStringSubmatch(p.body, -1) {
		fields[m[1]] = html.UnescapeString(m[2])
	}
	if fields["state"] != `"><script>` || !strings.Contains(p.body, `action="`+cliRedirect+`"`) {
		t.Errorf("form_post: %s", p.body)
	}
	w.ok(w.redeemCode(fields["code"]))
	if csp := p.header.Get("Content-Security-Policy"); csp != "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self' https: http://localhost:* http://127.0.0.1:*; frame-ancestors 'none'; base-uri 'none'; script-src 'self'" {
		t.Errorf("policy %q", csp)
	}
}

// TestPrompt: what each value of prompt does, without and with somebody signed in.
func TestPrompt(t *testing.T) {
	w := newWorld(t)
	bob := w.user("bob@"+domain, alicePassword)
	fresh, alices, both := w.browser(), w.browser(), w.browser()
	hint := w.ok(w.redeemCode(w.code(alices))).text("id_token")
	w.code(both)
	bobs := w.browser()
	w.landed(w.enter(bobs, w.visit(bobs, "GET", w.authorizeURL(), nil), bob.UPN, alicePassword))
	w.landed(w.enter(both, w.step(both, w.visit(both, "GET", w.authorizeURL("prompt", "select_account"), nil), "account", "other"), bob.UPN, alicePassword))
	app := w.app(directory.Application{DisplayName: "Wiki", WebRedirectURIs: []string{"https://wiki.test/cb"}})
	wiki := func(pairs ...string) []string {
		return append(pairs, "client_id", app.AppID.String(), "redirect_uri", "https://wiki.test/cb", "scope", "openid")
	}
	w.grant(app, directory.Graph, "openid")
	for _, c := range []struct {
		name    string
		browser *http.Client
		params  []string
		want    string // a page, an error, or "code"
	}{
		{"nobody", fresh, nil, "signin"},
		{"nobody, none", fresh, []string{"prompt", "none"}, "login_required"},
		{"nobody, select_account", fresh, []string{"prompt", "select_account"}, "signin"},
		{"nobody, consent", fresh, []string{"prompt", "consent"}, "signin"},
		{"one", alices, nil, "pick"},
		{"one, none", alices, []string{"prompt", "none"}, "interaction_required"},
		{"one, login", alices, []string{"prompt", "login"}, "signin"},
		{"one, select_account", alices, []string{"prompt", "select_account"}, "pick"},
		{"one, consent", alices, []string{"prompt", "consent"}, "consent"},
		{"one, hint of them", alices, []string{"login_hint", strings.ToUpper(aliceName)}, "pick"},
		{"one, hint of another", alices, []string{"login_hint", bob.UPN}, "signin"},
		{"one, none, hint of another", alices, []string{"login_hint", bob.UPN, "prompt", "none"}, "login_required"},
		{"one, a domain hint", alices, []string{"domain_hint", domain}, "pick"},
		{"one, a domain hint that is a word", alices, []string{"domain_hint", "organizations"}, "pick"},
		{"two", both, nil, "pick"},
		{"two, none", both, []string{"prompt", "none"}, "interaction_required"},
		{"two, none, hint", both, []string{"prompt", "none", "login_hint", bob.UPN}, "interaction_required"},
		{"two, hint", both, []string{"login_hint", bob.UPN}, "pick"},
		{"two, none, an ID token", both, []string{"prompt", "none", "id_token_hint", hint}, "interaction_required"},
		{"a web application: nobody, none", fresh, wiki("prompt", "none"), "login_required"},
		{"a web application: one", alices, wiki(), "code"},
		{"a web application: one, none", alices, wiki("prompt", "none"), "code"},
		{"a web application: two, none", both, wiki("prompt", "none"), "interaction_required"},
		{"a web application: two, hint", both, wiki("login_hint", bob.UPN), "code"},
		{"a web application: two, none, hint", both, wiki("prompt", "none", "login_hint", bob.UPN), "code"},
		{"nobody, none, an ID token", fresh, []string{"prompt", "none", "id_token_hint", hint}, "login_required"},
		{"another, none, an ID token", bobs, []string{"prompt", "none", "id_token_hint", hint}, "login_required"},
		{"an ID token that is none", both, []string{"prompt", "none", "id_token_hint", hint + "x"}, "invalid_request"},
		{"two kinds with none", alices, []string{"prompt", "none login"}, "invalid_request"},
		{"an unknown prompt", alices, []string{"prompt", "create"}, "invalid_request"},
	} {
		p := w.visit(c.browser, "GET", w.authorizeURL(c.params...), nil)
		got := p.page
		if got == "" {
			v := w.landed(p)
			if got = v.Get("error"); v.Get("code") != "" {
				got = "code"
			}
			if v.Get("state") != "the state" {
				t.Errorf("%s: the state is %q", c.name, v.Get("state"))
			}
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestMaxAge(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	began := w.clock()
	w.code(b)
	w.pass(time.Minute)
	w.onPage(w.visit(b, "GET", w.authorizeURL("max_age", "59", "login_hint", aliceName), nil), "signin")
	if got := w.landed(w.visit(b, "GET", w.authorizeURL("max_age", "59", "prompt", "none"), nil)); got.Get("error") != "login_required" {
		t.Errorf("%v", got)
	}
	a := w.ok(w.redeemCode(w.code(b, "max_age", "60")))
	if at := claims(t, a.text("id_token"))["auth_time"]; at != float64(began.Unix()) {
		t.Errorf("auth_time %v", at)
	}
	pick := w.visit(b, "GET", w.authorizeURL("max_age", "0", "prompt", "select_account"), nil)
	w.onPage(w.step(b, pick, "account", first(accountMark, pick.body)), "signin")
}

// TestConsentPage: an application that asks for consent gets a decision.
func TestConsentPage(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	p := w.enter(b, w.visit(b, "GET", w.authorizeURL("prompt", "consent"), nil), aliceName, alicePassword)
	w.onPage(p, "consent")
	if !strings.Contains(p.body, "Microsoft Azure CLI") || !strings.Contains(p.body, "user.read") || !strings.Contains(p.body, "offline_access") {
		t.Errorf("page %s", p.body)
	}
	if q := w.step(b, p, "action", "maybe"); q.status != 400 {
		t.Errorf("no decision: HTTP %d", q.status)
	}
	w.ok(w.redeemCode(w.landed(w.step(b, p, "action", "accept")).Get("code")))
	got := w.landed(w.step(b, p, "action", "cancel"))
	if got.Get("error") != "access_denied" || got.Get("error_subcode") != "cancel" || !strings.HasPrefix(got.Get("error_description"), "AADSTS65004:") || got.Get("code") != "" {
		t.Errorf("%v", got)
	}
	w.setUser(w.alice.ID, func(u *directory.User) { u.Enabled = false })
	w.onPage(w.step(b, p, "action", "accept"), "signin")
}

// TestBrowserSessionEnds: whatever ends a user's sessions ends those in browsers, and the codes that came from them.
func TestBrowserSessionEnds(t *testing.T) {
	for name, end := range map[string]func(*world, *http.Client){
		"disabled": func(w *world, _ *http.Client) { w.setUser(w.alice.ID, func(u *directory.User) { u.Enabled = false }) },
		"password changed": func(w *world, _ *http.Client) {
			_, err := w.dir.ChangePassword(w.t.Context(), directory.Actor{ID: w.alice.ID, Tenant: w.tenant.ID}, alicePassword, "Fresh-Paint-11")
			must(w.t, err)
		},
		"sessions revoked": func(w *world, _ *http.Client) {
			must(w.t, w.dir.RevokeSessions(w.t.Context(), directory.System, w.alice.ID))
		},
		"must change the password": func(w *world, _ *http.Client) { w.setUser(w.alice.ID, func(u *directory.User) { u.MustChange = true }) },
		"signed out": func(w *world, b *http.Client) {
			w.onPage(w.visit(b, "POST", "/signout", values("state", w.visit(b, "GET", "/common/oauth2/v2.0/logout", nil).state)), "done")
		},
		"a day later": func(w *world, _ *http.Client) { w.pass(browserLife) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			b := w.browser()
			w.code(b)
			code := w.code(b)
			w.pass(time.Second)
			end(w, b)
			w.onPage(w.visit(b, "GET", w.authorizeURL(), nil), "signin")
			if got := w.landed(w.visit(b, "GET", w.authorizeURL("prompt", "none"), nil)); got.Get("error") != "login_required" {
				t.Errorf("%v", got)
			}
			if a := w.redeemCode(code); a.status != 400 || a.text("error") != "invalid_grant" {
				t.Errorf("the code of before: %s", a.raw)
			}
		})
	}
}

// TestCodeFollowsTheSession: a person who signs in again in another tab does not spoil a code that is on its way, nor does a third time; a
// sign-out from the newer session does.
func TestCodeFollowsTheSession(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	anew := func() {
		w.pass(time.Second)
		w.landed(w.enter(b, w.visit(b, "GET", w.authorizeURL("prompt", "login"), nil), aliceName, alicePassword))
	}
	first, second := w.code(b), w.code(b)
	anew()
	w.ok(w.redeemCode(first))
	anew()
	third := w.code(b)
	w.ok(w.redeemCode(second))
	last := w.code(b)
	anew()
	w.ok(w.redeemCode(third))
	w.onPage(w.visit(b, "POST", "/signout", values("state", w.visit(b, "GET", "/common/oauth2/v2.0/logout", nil).state)), "done")
	w.code(b) // signs in once more: that is another session
	w.fails(w.redeemCode(last), 50173)
	if elsewhere := w.browser(); w.code(elsewhere) == "" {
		t.Error("no code in another browser")
	}
}

// TestKeepMeSignedIn: the cookie outlives the browser only if the person wants that of every account in it.
func TestKeepMeSignedIn(t *testing.T) {
	w := newWorld(t)
	bob := w.user("bob@"+domain, alicePassword)
	cookie := func(p sheet) *http.Cookie {
		for _, line := range p.header.Values("Set-Cookie") {
			if c, err := http.ParseSetCookie(line); err == nil && c.Name == browserCookie {
				return c
			}
		}
		t.Fatalf("no cookie in %v", p.header)
		return nil
	}
	b := w.browser()
	c := cookie(w.enter(b, w.visit(b, "GET", w.authorizeURL(), nil), aliceName, alicePassword, "LoginOptions", "1"))
	if c.MaxAge != int(keepLife.Seconds()) || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" {
		t.Errorf("cookie %+v", c)
	}
	if c := cookie(w.enter(b, w.visit(b, "GET", w.authorizeURL("prompt", "login"), nil), bob.UPN, alicePassword)); c.MaxAge != 0 {
		t.Errorf("beside one that is not kept: %+v", c)
	}
	w.pass(browserLife)
	if p := w.again(b); w.landed(p).Get("client_info") != clientInfo(w.alice) {
		t.Error("the kept session is not the one that is left")
	}
	w.pass(keepLife)
	w.onPage(w.visit(b, "GET", w.authorizeURL(), nil), "signin")
}

func TestSignOut(t *testing.T) {
	w := newWorld(t)
	app := w.app(directory.Application{DisplayName: "Wiki", WebRedirectURIs: []string{"https://wiki.test/cb"}})
	signIn := func() (*http.Client, string) {
		b := w.browser()
		return b, w.ok(w.redeemCode(w.code(b))).text("id_token")
	}
	out := func(b *http.Client, pairs ...string) sheet {
		return w.visit(b, "GET", "/common/oauth2/v2.0/logout?"+values(pairs...).Encode(), nil)
	}
	b, hint := signIn()
	p := out(b, "id_token_hint", hint, "post_logout_redirect_uri", "http://localhost:5000/", "state", "s")
	if at := p.header.Get("Location"); at != "http://localhost:5000/?state=s" {
		t.Errorf("sent to %q", at)
	}
	w.onPage(w.visit(b, "GET", w.authorizeURL(), nil), "signin")

	b, hint = signIn()
	_, bobs := signIn()
	p = out(b, "client_id", app.AppID.String(), "post_logout_redirect_uri", "https://wiki.test/cb")
	w.onPage(p, "signout")
	if w.landed(w.again(b)).Get("code") == "" {
		t.Error("another site's link signs people out")
	}
	p = w.visit(b, "POST", "/signout", values("state", p.state))
	if at := p.header.Get("Location"); at != "https://wiki.test/cb" {
		t.Errorf("sent to %q", at)
	}
	w.onPage(out(b), "done") // nobody is signed in: nothing to ask
	w.onPage(out(b, "post_logout_redirect_uri", "https://evil.test/"), "done")
	for _, bad := range [][]string{
		{"client_id", app.AppID.String(), "post_logout_redirect_uri", "https://evil.test/"},
		{"client_id", app.AppID.String(), "post_logout_redirect_uri", "https://wiki.test/cb/../x"},
		{"id_token_hint", hint + "x"},
		{"id_token_hint", bobs, "client_id", app.AppID.String()},
	} {
		if p := out(b, bad...); p.status != 400 || p.header.Get("Location") != "" {
			t.Errorf("%v: HTTP %d to %q", bad, p.status, p.header.Get("Location"))
		}
	}
}
