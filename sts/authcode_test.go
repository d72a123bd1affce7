package sts

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// TestRedirectURIs: where an application may be answered. Whatever is not sent back there is a page, never a redirect.
func TestRedirectURIs(t *testing.T) {
	w := newWorld(t)
	app := w.app(directory.Application{
		DisplayName: "Wiki", WebRedirectURIs: []string{"https://wiki.test/cb", "http://localhost:3000/web"},
		RedirectURIs: []string{"http://127.0.0.1/done", "http://[::1]", "wiki://auth", "https://wiki.test/native"},
	})
	cli := directory.AzureCLI.String()
	for _, c := range []struct {
		client, uri string
		want        bool
	}{
		{cli, "http://localhost", true},
		{cli, "http://localhost/", true},
		{cli, "http://localhost:1", true},
		{cli, "http://localhost:65535/", true},
		{cli, "http://localhost:0", false},
		{cli, "http://localhost:65536", false},
		{cli, "http://localhost:080", false},
		{cli, "http://localhost:+80", false},
		{cli, "http://localhost:", false},
		{cli, "http://localhost:80:90", false},
		{cli, "http://localhost/x", false},
		{cli, "http://localhost:80/x", false},
		{cli, "http://localhost:80//", false},
		{cli, "http://localhost?x", false},
		{cli, "http://localhost:80?x=y", false},
		{cli, "http://localhost:80#x", false},
		{cli, "http://LOCALHOST:80", false},
		{cli, "HTTP://localhost:80", false},
		{cli, "https://localhost:80", false},
		{cli, "http://127.0.0.1:80", false},
		{cli, "http://[::1]:80", false},
		{cli, "http://localhost.evil.test", false},
		{cli, "http://localhost@evil.test", false},
		{cli, "http://localhost:80@evil.test/", false},
		{cli, "http://user@localhost:80", false},
		{cli, "http://evil.test/http://localhost", false},
		{cli, "http://localhost\\@evil.test", false},
		{cli, "http://localhost%2eevil.test", false},
		{cli, "http://localhost:80%2e", false},
		{cli, "http://localhost:80/%2e%2e/", false},
		{cli, " http://localhost", false},
		{cli, "http://localhost\r\nX: y", false},
		{cli, "//localhost", false},
		{cli, "javascript:alert(1)", false},
		{cli, "", false},
		{app.AppID.String(), "https://wiki.test/cb", true},
		{app.AppID.String(), "https://wiki.test/cb/", false},
		{app.AppID.String(), "https://wiki.test/CB", false},
		{app.AppID.String(), "https://wiki.test/cb?x", false},
		{app.AppID.String(), "https://wiki.test/cb#x", false},
		{app.AppID.String(), "https://wiki.test/cb/../cb", false},
		{app.AppID.String(), "https://wiki.test/%63b", false},
		{app.AppID.String(), "https://wiki.test:443/cb", false},
		{app.AppID.String(), "https://wiki.test.evil.test/cb", false},
		{app.AppID.String(), "https://wiki.test@evil.test/cb", false},
		{app.AppID.String(), "http://wiki.test/cb", false},
		{app.AppID.String(), "http://localhost:3000/web", true},
		{app.AppID.String(), "http://localhost:3001/web", false},
		{app.AppID.String(), "http://127.0.0.1:9/done", true},
		{app.AppID.String(), "http://127.0.0.1:9/", false},
		{app.AppID.String(), "http://localhost:9/done", false},
		{app.AppID.String(), "http://127.1:9/done", false},
		{app.AppID.String(), "http://[::1]:9", true},
		{app.AppID.String(), "wiki://auth", true},
		{app.AppID.String(), "wiki://auth:9", false},
		{app.AppID.String(), "https://wiki.test/native", true},
	} {
		p := w.visit(w.browser(), "GET", w.authorizeURL("client_id", c.client, "redirect_uri", c.uri), nil)
		if ok := p.page == "signin"; ok != c.want {
			t.Errorf("%q: HTTP %d, page %q, to %q", c.uri, p.status, p.page, p.header.Get("Location"))
		}
		if !c.want && (p.header.Get("Location") != "" || p.page != "message" || p.status != 400) {
			t.Errorf("%q: HTTP %d, page %q, to %q", c.uri, p.status, p.page, p.header.Get("Location"))
		}
	}
}

// FuzzRedirect: what matches a loopback URI leads to loopback, for every parser that we have.
func FuzzRedirect(f *testing.F) {
	for _, s := range []string{"http://localhost:80", "http://localhost@evil.test", "http://localhost:80@evil.test/", "http://127.0.0.1:9/done", "http://localhost:\n80"} {
		f.Add(s)
	}
	app := &directory.Application{RedirectURIs: []string{"http://localhost", "http://127.0.0.1/done", "http://[::1]/"}, WebRedirectURIs: []string{"https://wiki.test/cb"}}
	f.Fuzz(func(t *testing.T, uri string) {
		ok, public := matchRedirect(app, uri)
		if !ok || !public {
			if ok && uri != "https://wiki.test/cb" {
				t.Errorf("%q matches", uri)
			}
			return
		}
		u, err := url.Parse(uri)
		if err != nil || u.Scheme != "http" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
			(u.Hostname() != "localhost" && u.Hostname() != "127.0.0.1" && u.Hostname() != "::1") {
			t.Errorf("%q matches: %+v %v", uri, u, err)
		}
	})
}

// TestBadRequests: once the redirect URI is right, the application is told what is wrong.
func TestBadRequests(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	w.code(b) // even with somebody signed in
	for _, c := range []struct {
		name   string
		params []string
		want   string
		code   string
	}{
		{"no PKCE from a public client", []string{"code_challenge", "-", "code_challenge_method", "-"}, "invalid_request", "AADSTS50147:"},
		{"a method without a challenge", []string{"code_challenge", "-"}, "invalid_request", "AADSTS50147:"},
		{"a short challenge", []string{"code_challenge", "abc"}, "invalid_request", "AADSTS501491:"},
		{"a long challenge", []string{"code_challenge", strings.Repeat("a", 44)}, "invalid_request", "AADSTS501491:"},
		{"a challenge of other letters", []string{"code_challenge", strings.Repeat("+", 43)}, "invalid_request", "AADSTS501491:"},
		{"a short plain challenge", []string{"code_challenge", strings.Repeat("a", 42), "code_challenge_method", "plain"}, "invalid_request", "AADSTS501491:"},
		{"another method", []string{"code_challenge_method", "S512"}, "invalid_request", "AADSTS90013:"},
		{"the implicit flow", []string{"response_type", "token"}, "unsupported_response_type", "AADSTS700051:"},
		{"no response type", []string{"response_type", "-"}, "invalid_request", "AADSTS900144:"},
		{"another response mode", []string{"response_mode", "web_message"}, "invalid_request", "AADSTS70007:"},
		{"no scope", []string{"scope", "-"}, "invalid_request", "AADSTS900144:"},
		{"two resources", []string{"scope", "a/x b/y"}, "invalid_scope", "AADSTS700022:"},
		{"an unknown resource", []string{"scope", "api://nowhere/.default"}, "invalid_resource", "AADSTS500011:"},
		{"claims that are no JSON", []string{"claims", "x"}, "invalid_request", "AADSTS90013:"},
		{"a request object", []string{"request", "e30.e30."}, "invalid_request", "AADSTS90013:"},
		{"max_age", []string{"max_age", "-1"}, "invalid_request", "AADSTS90013:"},
	} {
		p := w.visit(b, "GET", w.authorizeURL(c.params...), nil)
		got := w.landed(p)
		if got.Get("error") != c.want || !strings.HasPrefix(got.Get("error_description"), c.code) || got.Get("state") != "the state" || got.Get("code") != "" {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	for name, at := range map[string]string{
		"an unknown client":       w.authorizeURL("client_id", w.tenant.ID.String()),
		"no client":               w.authorizeURL("client_id", "-"),
		"no redirect URI":         w.authorizeURL("redirect_uri", "-"),
		"a parameter twice":       w.authorizeURL() + "&redirect_uri=https://evil.test",
		"an unknown tenant":       strings.Replace(w.authorizeURL(), "organizations", "nowhere.test", 1),
		"personal accounts":       strings.Replace(w.authorizeURL(), "organizations", "consumers", 1),
		"a state of 20 KB":        strings.Replace(w.authorizeURL("prompt", "login"), "the+state", strings.Repeat("s", 20<<10), 1),
		"an answer with a script": w.authorizeURL("redirect_uri", `"><script>alert(1)</script>`),
	} {
		p := w.visit(b, "GET", at, nil)
		if name == "a state of 20 KB" && p.status == 302 && w.landed(p).Get("error") != "" {
			continue // the application gets it back, with the reason
		}
		if p.page != "message" || p.header.Get("Location") != "" || strings.Contains(p.body, "<script") {
			t.Errorf("%s: HTTP %d, page %q, to %q", name, p.status, p.page, p.header.Get("Location"))
		}
	}
}

// TestCodeAttacks: a code is worth a token once, to the client that asked, with the proof that it asked.
func TestCodeAttacks(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	app := w.app(directory.Application{DisplayName: "Wiki", WebRedirectURIs: []string{"https://wiki.test/cb"}})
	w.grant(app, directory.AKSServer, "user.read")
	_, secret, err := w.dir.AddAppSecret(t.Context(), directory.System, app.ID, directory.PasswordCredential{})
	must(t, err)
	wiki := []string{"client_id", app.AppID.String(), "redirect_uri", "https://wiki.test/cb"}
	noPKCE := append([]string{"code_challenge", "-", "code_challenge_method", "-"}, wiki...)
	for _, c := range []struct {
		name   string
		ask    []string
		redeem []string
		want   int
	}{
		{"another verifier", nil, []string{"code_verifier", verifier + "x"}, 501481},
		{"no verifier", nil, []string{"code_verifier", "-"}, 501481},
		{"the challenge for a verifier", nil, []string{"code_verifier", challenge(verifier)}, 501481},
		{"a short verifier", nil, []string{"code_verifier", "abc"}, 501481},
		{"plain, another verifier", []string{"code_challenge", verifier, "code_challenge_method", "plain"}, []string{"code_verifier", verifier + "x"}, 501481},
		{"plain, hashed", []string{"code_challenge", challenge(verifier), "code_challenge_method", "plain"}, nil, 501481},
		{"plain", []string{"code_challenge", verifier, "code_challenge_method", "-"}, nil, 0},
		{"the challenge taken out", noPKCE, append([]string{"client_secret", secret}, wiki...), 501481},
		{"without PKCE, with a secret", noPKCE, append([]string{"code_verifier", "-", "client_secret", secret}, wiki...), 0},
		{"without PKCE, without a secret", noPKCE, append([]string{"code_verifier", "-"}, wiki...), 7000218},
		{"with PKCE, without a secret", wiki, wiki, 7000218},
		{"with PKCE and a wrong secret", wiki, append([]string{"client_secret", "x"}, wiki...), 7000215},
		{"with PKCE and a secret", wiki, append([]string{"client_secret", secret}, wiki...), 0},
		{"another client", nil, []string{"client_id", directory.AKSClient.String()}, 70000},
		{"another client of one that has a secret", wiki, []string{"redirect_uri", "https://wiki.test/cb"}, 70000},
		{"another redirect URI", nil, []string{"redirect_uri", "http://localhost:41235"}, 500112},
		{"the redirect URI with a slash", nil, []string{"redirect_uri", cliRedirect + "/"}, 500112},
		{"no redirect URI", nil, []string{"redirect_uri", "-"}, 900144},
		{"no code", nil, []string{"code", "-"}, 900144},
		{"a device code's grant", nil, []string{"grant_type", "device_code"}, 70018},
		{"a code for a refresh token", nil, []string{"grant_type", "refresh_token", "refresh_token", "x"}, 70000},
	} {
		code := w.code(b, c.ask...)
		if a := w.redeemCode(code, c.redeem...); a.code() != c.want || (c.want == 0) != (a.status == 200) {
			t.Errorf("%s: HTTP %d %s", c.name, a.status, a.raw)
		}
	}
	w.fails(w.redeemCode("x"), 70000)
	late := w.code(b)
	w.pass(codeLife - time.Second)
	ok := w.code(b)
	w.pass(time.Second)
	if a := w.redeemCode(late); a.code() != 70008 && a.code() != 70000 {
		t.Errorf("after ten minutes: %s", a.raw)
	}
	w.ok(w.redeemCode(ok))
}

// TestCodeReplay: a code that comes again gives nothing, and ends what it gave before.
func TestCodeReplay(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	code := w.code(b)
	a := w.ok(w.redeemCode(code))
	must(t, w.verify(a.text("access_token")))
	w.fails(w.redeemCode(code), 54005)
	if w.verify(a.text("access_token")) == nil {
		t.Error("the access token of a stolen code is good")
	}
	w.fails(w.redeem(a.text("refresh_token"), directory.AzureCLI, aksScope), 50173)

	code = w.code(b)
	a = w.ok(w.redeemCode(code))
	w.pass(codeLife)
	w.fails(w.redeemCode(code, "client_id", directory.AKSClient.String()), 54005)
	if w.verify(a.text("access_token")) == nil {
		t.Error("a thief with another client goes unnoticed")
	}

	code = w.code(b) // at the same time: one may get a token, and none keeps it
	answers := make(chan answer, 4)
	for range cap(answers) {
		go func() { answers <- w.redeemCode(code) }()
	}
	var got []answer
	for range cap(answers) {
		got = append(got, <-answers)
	}
	good := 0
	for _, a := range got {
		if a.status == http.StatusOK && w.verify(a.text("access_token")) == nil {
			good++
		}
	}
	if good > 0 {
		t.Errorf("%d tokens of a code that came four times are good", good)
	}
}

// TestRefreshOfCode: the refresh token of a confidential client needs its credential, that of a native one does not.
func TestRefreshOfCode(t *testing.T) {
	w := newWorld(t)
	app := w.app(directory.Application{DisplayName: "Wiki", WebRedirectURIs: []string{"https://wiki.test/cb"}, RedirectURIs: []string{"wiki://auth"}})
	w.grant(app, directory.AKSServer, "user.read")
	_, secret, err := w.dir.AddAppSecret(t.Context(), directory.System, app.ID, directory.PasswordCredential{})
	must(t, err)
	id := app.AppID
	b := w.browser()
	native := w.ok(w.redeemCode(w.code(b, "client_id", id.String(), "redirect_uri", "wiki://auth"), "client_id", id.String(), "redirect_uri", "wiki://auth"))
	w.ok(w.redeem(native.text("refresh_token"), id, aksScope))
	web := w.ok(w.redeemCode(w.code(b, "client_id", id.String(), "redirect_uri", "https://wiki.test/cb"),
		"client_id", id.String(), "redirect_uri", "https://wiki.test/cb", "client_secret", secret))
	w.fails(w.redeem(web.text("refresh_token"), id, aksScope), 7000218)

	// One that also has flows without a credential must show again what it showed.
	must(t, w.dir.UpdateApplication(t.Context(), directory.System, app.ID, func(a *directory.Application) error { a.PublicClient = true; return nil }))
	again := w.ok(w.redeemCode(w.code(b, "client_id", id.String(), "redirect_uri", "https://wiki.test/cb"),
		"client_id", id.String(), "redirect_uri", "https://wiki.test/cb", "client_secret", secret))
	refresh := func(token string, pairs ...string) answer {
		return w.post(w.v2(), values(append(pairs, "grant_type", "refresh_token", "client_id", id.String(), "refresh_token", token, "scope", aksScope)...))
	}
	w.fails(refresh(again.text("refresh_token")), 7000218)
	next := w.ok(refresh(again.text("refresh_token"), "client_secret", secret))
	w.fails(refresh(next.text("refresh_token")), 7000218)
	without := w.ok(w.post(w.v2(), values("grant_type", "password", "client_id", id.String(), "username", aliceName, "password", alicePassword, "scope", aksScope)))
	w.ok(refresh(without.text("refresh_token")))
	must(t, w.dir.UpdateApplication(t.Context(), directory.System, app.ID, func(a *directory.Application) error { a.PublicClient = false; return nil }))
	w.fails(refresh(without.text("refresh_token")), 7000218)
}

// TestSignInForgery: forms that this browser was not given, or not by us, and cookies that somebody planted.
func TestSignInForgery(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	signin := w.visit(b, "GET", w.authorizeURL(), nil)
	form := values("state", signin.state, "loginfmt", aliceName, "passwd", alicePassword)
	refused := func(what string, p sheet) {
		t.Helper()
		if p.header.Get("Location") != "" || p.status < 400 || strings.Contains(strings.Join(p.header.Values("Set-Cookie"), ""), browserCookie) {
			t.Errorf("%s: HTTP %d, page %q, to %q", what, p.status, p.page, p.header.Get("Location"))
		}
	}
	for _, path := range []string{"/signin", "/signout"} {
		refused("cross-site "+path, w.visit(b, "POST", path, form, "Sec-Fetch-Site", "cross-site"))
		refused("same-site "+path, w.visit(b, "POST", path, form, "Sec-Fetch-Site", "same-site"))
		refused("another origin "+path, w.visit(b, "POST", path, form, "Sec-Fetch-Site", "", "Origin", "https://evil.test"))
		refused("no state "+path, w.visit(b, "POST", path, values("loginfmt", aliceName, "passwd", alicePassword)))
	}
	refused("a sign-in's state at the sign-out", w.visit(b, "POST", "/signout", form))
	refused("no cookie", w.visit(w.browser(), "POST", "/signin", form))
	refused("the device page's state", w.visit(b, "POST", "/signin", values("state", w.visit(b, "GET", "/devicelogin", nil).state, "loginfmt", aliceName, "passwd", alicePassword)))
	if p := w.visit(b, "POST", "/devicelogin", form); p.page != "code" || p.status != 400 {
		t.Errorf("a sign-in's state at the device page: HTTP %d, %q", p.status, p.page)
	}

	// Session fixation: the cookie that somebody planted is not the one that is signed in afterwards.
	at, err := url.Parse(w.http.URL)
	must(t, err)
	mallory := w.browser()
	w.user("mallory@"+domain, alicePassword)
	w.landed(w.enter(mallory, w.visit(mallory, "GET", w.authorizeURL(), nil), "mallory@"+domain, alicePassword))
	victim := w.browser()
	victim.Jar.SetCookies(at, mallory.Jar.Cookies(at))
	w.landed(w.enter(victim, w.visit(victim, "GET", w.authorizeURL("prompt", "login"), nil), aliceName, alicePassword))
	got := w.visit(mallory, "GET", w.authorizeURL("prompt", "select_account"), nil)
	if strings.Contains(got.body, aliceName) {
		t.Error("who planted a cookie is signed in as the victim")
	}

	// Somebody else's session cannot be picked, nor consented for.
	pick := w.visit(victim, "GET", w.authorizeURL("prompt", "select_account"), nil)
	other := w.browser()
	w.code(other)
	for _, session := range In(w.srv.Feed.View()).SessionsOf(w.alice.ID) {
		if w.visit(victim, "GET", w.authorizeURL("prompt", "none", "login_hint", aliceName), nil); !strings.Contains(pick.body, session.ID.String()) {
			w.onPage(w.step(victim, pick, "account", session.ID.String()), "signin")
		}
	}

	w.pass(pageLife)
	if p := w.step(b, signin, "loginfmt", aliceName, "passwd", alicePassword); p.page != "signin" || p.status != 400 || !strings.Contains(p.alert, "open for too long") {
		t.Errorf("an old page: HTTP %d %q %q", p.status, p.page, p.alert)
	}
}

// TestSignInInFrame: neither a page nor its answer can be framed by another site.
func TestSignInInFrame(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	w.code(b)
	for _, params := range [][]string{{"prompt", "login"}, {"prompt", "select_account"}, {"prompt", "consent"}, {"prompt", "none", "response_mode", "form_post"}, {"client_id", "x"}} {
		p := w.visit(b, "GET", w.authorizeURL(params...), nil)
		if !strings.Contains(p.header.Get("Content-Security-Policy"), "frame-ancestors 'none'") || p.header.Get("X-Frame-Options") != "DENY" ||
			p.header.Get("Cache-Control") != "no-store, no-cache" || p.header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%v: %v", params, p.header)
		}
	}
}

// TestAuthorizeUnderCloudHost: a browser that came by the cloud's name, or with a POST, is led to the public URL with its question.
func TestAuthorizeUnderCloudHost(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	at := w.authorizeURL()
	p := w.visit(b, "GET", at, nil, "Host", "login.microsoftonline.com")
	if p.status != 302 || p.header.Get("Location") != w.http.URL+at {
		t.Errorf("HTTP %d to %q", p.status, p.header.Get("Location"))
	}
	u, err := url.Parse(at)
	must(t, err)
	for _, host := range []string{"login.microsoftonline.com", strings.TrimPrefix(w.http.URL, "https://")} {
		p = w.visit(b, "POST", u.Path, u.Query(), "Sec-Fetch-Site", "cross-site", "Host", host)
		if p.status != 303 || p.header.Get("Location") != w.http.URL+at {
			t.Errorf("HTTP %d to %q", p.status, p.header.Get("Location"))
		}
	}
}

// TestSignInLogsNoSecrets: neither codes nor passwords, nor cookies, get into the log or the audit file.
func TestSignInLogsNoSecrets(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	code := w.code(b)
	w.ok(w.redeemCode(code))
	at, err := url.Parse(w.http.URL)
	must(t, err)
	secrets := []string{code, alicePassword, verifier, "the state", "the nonce"}
	for _, c := range b.Jar.Cookies(at) {
		secrets = append(secrets, c.Value)
	}
	var actions []string
	log := w.log.String()
	for _, e := range w.events() {
		actions = append(actions, e.Action+" "+e.Details["method"])
		log += e.Reason + e.Target
		for _, d := range e.Details {
			log += d
		}
	}
	for _, s := range secrets {
		if strings.Contains(log, s) {
			t.Errorf("the log holds %q", s)
		}
	}
	if got := strings.Join(actions, ", "); got != "sign-in sign-in page, authorize sign-in page, sign-in authorization_code" {
		t.Errorf("audited: %s", got)
	}
}
