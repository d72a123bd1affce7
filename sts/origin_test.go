package sts

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdpnetwork "github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// elsewhere is a program that has all cookies of a browser, as whatever listens at another port of the host has.
func (w *world) elsewhere(b *http.Client) *http.Client {
	w.t.Helper()
	at, err := url.Parse(w.http.URL)
	must(w.t, err)
	thief := w.browser()
	thief.Jar.SetCookies(at, b.Jar.Cookies(at))
	return thief
}

// with acts as a browser whose script has another half of the session, or as one without scripts: "".
func (w *world) with(half string, act func()) {
	mine := w.half
	defer func() { w.half = mine }()
	w.half = half
	act()
}

var otherHalf = strings.Repeat("o", 43)

// TestOriginAttacks: what a program at another port of this host, or one on this machine, tries with the browser of Alice, one line each. In
// the end she is signed in as before.
func TestOriginAttacks(t *testing.T) {
	type attack struct {
		*world
		t      *testing.T
		b      *http.Client // Alice's
		bob    *directory.User
		nobody func(what string, thief *http.Client)
	}
	for _, c := range []struct {
		name string
		try  func(a attack)
	}{
		{"the cookies alone", func(a attack) { a.with("", func() { a.nobody("no half", a.elsewhere(a.b)) }) }},
		{"the cookies with a half of its own", func(a attack) { a.with(otherHalf, func() { a.nobody("another half", a.elsewhere(a.b)) }) }},
		{"the cookies with the hash that the record holds", func(a attack) {
			a.with(base64.RawURLEncoding.EncodeToString(hashOrigin(a.half).Hash), func() { a.nobody("the hash", a.elsewhere(a.b)) })
		}},
		{"the cookies with a half that is none", func(a attack) {
			for _, half := range []string{"x", strings.Repeat("h", 42), strings.Repeat("h", 44), strings.Repeat("h", 43) + "\n"} {
				a.with(half, func() { a.nobody(half, a.elsewhere(a.b)) })
			}
		}},
		{"a sign-in beside the session that the cookie is of", func(a attack) {
			for _, half := range []string{"", otherHalf} {
				thief := a.elsewhere(a.b)
				a.with(half, func() {
					p := a.load(thief, "GET", a.authorizeURL("prompt", "login"), nil)
					if p.page == "resume" {
						p = a.resume(thief, p)
					}
					a.landed(a.enter(thief, p, a.bob.UPN, alicePassword))
				})
				a.with(otherHalf, func() {
					if p := a.visit(thief, "GET", a.authorizeURL("prompt", "select_account"), nil); strings.Contains(p.body, aliceName) {
						a.t.Errorf("half %q: Alice's session was taken over", half)
					}
				})
				a.nobody("Alice's half with the thief's cookie", thief)
			}
		}},
		{"a sign-out with the cookie", func(a attack) {
			thief, before := a.elsewhere(a.b), a.srv.Feed.View().Position
			a.with(otherHalf, func() { a.onPage(a.visit(thief, "GET", "/common/oauth2/v2.0/logout", nil), "done") })
			if after := a.srv.Feed.View().Position; after != before {
				a.t.Errorf("something was written: from %v to %v", before, after)
			}
		}},
		{"a cookie of its own session planted", func(a attack) {
			thief := a.browser()
			a.with(otherHalf, func() {
				a.landed(a.enter(thief, a.visit(thief, "GET", a.authorizeURL(), nil), a.bob.UPN, alicePassword))
			})
			victim := a.elsewhere(thief)
			a.nobody("the planted cookie", victim)
			a.landed(a.enter(victim, a.visit(victim, "GET", a.authorizeURL(), nil), aliceName, alicePassword))
			a.with(otherHalf, func() {
				if p := a.visit(thief, "GET", "/myaccount", nil); !strings.Contains(p.body, a.bob.UPN) {
					a.t.Error("a sign-in over a planted cookie ended the session that it is of")
				}
			})
		}},
		{"an open form, with the cookies but without its state", func(a attack) {
			p := a.visit(a.b, "GET", a.authorizeURL("prompt", "consent"), nil)
			a.onPage(p, "consent")
			thief := a.elsewhere(a.b)
			a.with(otherHalf, func() {
				mine := a.load(thief, "GET", a.authorizeURL("prompt", "consent"), nil)
				if got := a.step(thief, mine, "action", "accept"); got.header.Get("Location") != "" {
					a.t.Errorf("sent to %s", got.header.Get("Location"))
				}
			})
		}},
		{"an open form, with the cookies and its state, but not the half", func(a attack) {
			p := a.visit(a.b, "GET", a.authorizeURL("prompt", "consent"), nil)
			a.onPage(p, "consent")
			for _, half := range []string{"", otherHalf} {
				a.with(half, func() {
					if got := a.step(a.elsewhere(a.b), p, "action", "accept"); got.page != "signin" || got.status != 400 {
						a.t.Errorf("half %q: HTTP %d, page %q, to %q", half, got.status, got.page, got.header.Get("Location"))
					}
				})
			}
		}},
		{"the account page's form with another half", func(a attack) {
			p := a.visit(a.b, "GET", "/myaccount", nil)
			a.onPage(p, "account")
			a.with(otherHalf, func() {
				if got := a.manage(a.elsewhere(a.b), p, "action", "everywhere"); got.status != 400 {
					a.t.Errorf("HTTP %d, page %q", got.status, got.page)
				}
			})
		}},
		{"the resume form from another site", func(a attack) {
			p := a.load(a.b, "GET", a.authorizeURL(), nil)
			a.onPage(p, "resume")
			if got := a.load(a.b, "POST", "/signin", values("state", p.state, "origin", a.half), "Sec-Fetch-Site", "same-site"); got.status != 400 {
				a.t.Errorf("HTTP %d, page %q", got.status, got.page)
			}
		}},
		{"one surface's resume form at another", func(a attack) {
			for from, to := range map[string]string{a.authorizeURL(): "/myaccount", "/myaccount": "/signout", "/common/oauth2/logout": "/signin"} {
				p := a.load(a.b, "GET", from, nil)
				a.onPage(p, "resume")
				if got := a.load(a.b, "POST", to, values("state", p.state, "origin", a.half)); got.status != 400 || got.page != "message" {
					a.t.Errorf("%s: HTTP %d, page %q", to, got.status, got.page)
				}
			}
		}},
		{"a program leads the browser to the sign-in and listens at its answer", func(a attack) {
			for _, more := range [][]string{nil, {"login_hint", aliceName}, {"response_mode", "form_post"}, {"state", "accept"}} {
				p := a.visit(a.b, "GET", a.authorizeURL(more...), nil)
				if a.onPage(p, "pick"); p.header.Get("Location") != "" || !strings.Contains(p.body, "Continue to Microsoft Azure CLI?") {
					a.t.Errorf("%v: to %q, page %s", more, p.header.Get("Location"), p.body)
				}
			}
			if got := a.landed(a.visit(a.b, "GET", a.authorizeURL("prompt", "none"), nil)); got.Get("error") != "interaction_required" || got.Has("code") {
				a.t.Errorf("prompt=none: %v", got)
			}
		}},
		{"the same, in a frame", func(a attack) {
			p := a.load(a.b, "GET", a.authorizeURL("prompt", "none"), nil, "Sec-Fetch-Dest", "iframe")
			if got := a.landed(p); got.Get("error") != "login_required" || got.Has("code") {
				a.t.Errorf("%v", got)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			a := attack{world: w, t: t, b: w.browser(), bob: w.user("bob@"+domain, alicePassword)}
			w.code(a.b)
			a.nobody = func(what string, thief *http.Client) {
				t.Helper()
				for path, want := range map[string]string{w.authorizeURL(): "signin", "/myaccount": "signin", "/common/oauth2/v2.0/logout": "done"} {
					p := w.load(thief, "GET", path, nil)
					if p.page == "resume" {
						p = w.resume(thief, p)
					}
					if p.page != want {
						t.Errorf("%s: %s shows %q", what, path, p.page)
					}
				}
			}
			c.try(a)
			if p := w.visit(a.b, "GET", "/myaccount", nil); p.page != "account" || !strings.Contains(p.body, aliceName) {
				t.Errorf("Alice is not signed in any more: page %q", p.page)
			}
			if w.landed(w.again(a.b)).Get("code") == "" {
				t.Error("Alice gets no code any more")
			}
		})
	}
}

// TestWithoutScripts: a browser without scripts finishes what it began, and says nothing about who is signed in afterwards.
func TestWithoutScripts(t *testing.T) {
	w := newWorld(t)
	w.half = ""
	b := w.browser()
	p := w.visit(b, "GET", w.authorizeURL("prompt", "consent"), nil)
	p = w.enter(b, p, aliceName, alicePassword)
	w.onPage(p, "consent")
	w.ok(w.redeemCode(w.landed(w.step(b, p, "action", "accept")).Get("code")))

	p = w.visit(b, "GET", w.authorizeURL(), nil)
	w.onPage(p, "resume")
	p = w.resume(b, p)
	w.onPage(p, "signin")
	w.landed(w.enter(b, p, aliceName, alicePassword))
	p = w.resume(b, w.visit(b, "GET", w.authorizeURL("prompt", "none"), nil))
	if got := w.landed(p); got.Get("error") != "login_required" {
		t.Errorf("prompt=none: %v", got)
	}

	p = w.resume(b, w.visit(b, "GET", "/myaccount", nil))
	w.onPage(p, "signin")
	p = w.manage(b, p, "loginfmt", aliceName, "passwd", alicePassword)
	w.onPage(p, "account")
	p = w.manage(b, p, "action", "switch")
	w.onPage(p, "pick")
	p = w.manage(b, p, "account", first(accountMark, p.body))
	w.onPage(p, "account")

	p = w.visit(b, "GET", "/common/oauth2/v2.0/logout", nil)
	w.onPage(w.resume(b, p), "done")
	if w.cookies(b, browserCookie) != "" {
		t.Error("the cookie is still there")
	}

	// A script that came late finds the session that began without it as little as anybody does, and goes on.
	p = w.enter(b, w.visit(b, "GET", w.authorizeURL("prompt", "consent"), nil), aliceName, alicePassword)
	w.onPage(p, "consent")
	w.with(otherHalf, func() {
		w.landed(w.step(b, p, "action", "accept"))
		w.onPage(w.visit(b, "GET", w.authorizeURL(), nil), "signin")
	})
}

// TestResumeOnce: the page that brings the half is never shown twice, and not where nobody can be signed in.
func TestResumeOnce(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	w.onPage(w.load(b, "GET", w.authorizeURL(), nil), "signin")
	w.code(b)
	for path, surface := range map[string]string{w.authorizeURL(): "/signin", "/myaccount": "/myaccount", "/common/oauth2/v2.0/logout": "/signout"} {
		for _, half := range []string{"", w.half, otherHalf} {
			p := w.load(b, "GET", path, nil)
			if w.onPage(p, "resume"); first(actionMark, p.body) != surface {
				t.Errorf("%s: the form goes to %s", path, first(actionMark, p.body))
			}
			if !strings.HasSuffix(p.header.Get("Content-Security-Policy"), "script-src 'self'") {
				t.Errorf("%s: policy %q", path, p.header.Get("Content-Security-Policy"))
			}
			if p = w.load(w.elsewhere(b), "POST", surface, values("state", p.state, "origin", half)); p.page == "resume" {
				t.Errorf("%s: again with %q", path, half)
			}
		}
	}
	w.pass(browserLife)
	for path, want := range map[string]string{w.authorizeURL(): "signin", "/myaccount": "signin", "/common/oauth2/v2.0/logout": "done"} {
		w.onPage(w.load(b, "GET", path, nil), want)
	}
}

// TestSessionAtAnotherPortInChromium: a real browser sends the session's cookie to a plain-http listener at another port of its host. There it
// is worth nothing, and here the session goes on, with scripts.
func TestSessionAtAnotherPortInChromium(t *testing.T) {
	w := newWorld(t)
	w.srv.Authorities.Public = strings.Replace(w.http.URL, "127.0.0.1", "localhost", 1)
	public := w.srv.Authorities.Public
	stolen := make(chan []*http.Cookie, 10)
	listener := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/thief" {
			stolen <- r.Cookies()
		}
		rw.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(rw, `<p id="came-%t">here</p>`, r.FormValue("code") != "")
	}))
	t.Cleanup(listener.Close)
	here := strings.Replace(listener.URL, "127.0.0.1", "localhost", 1)
	do, shoot := w.chromium(t)
	authorize := func(pairs ...string) chromedp.Action[chromedp.Void] {
		return chromedp.Navigate(public + w.authorizeURL(append([]string{"redirect_uri", here}, pairs...)...))
	}
	at := func(page string) chromedp.Action[chromedp.Void] {
		return chromedp.WaitVisible(`[data-page=` + page + `]`)
	}
	scripts := func(off bool) chromedp.Action[chromedp.Void] {
		return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
			_, err := cdp.Call(ctx, target, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: off})
			return err
		})
	}
	do(authorize(), at("signin"), chromedp.KeyEvent(aliceName+"\t"+alicePassword+"\r"), chromedp.WaitVisible(`#came-true`))
	do(authorize(), at("pick"))
	shoot("w-continue")
	do(chromedp.Click(`.accounts button`), chromedp.WaitVisible(`#came-true`))
	do(chromedp.Navigate(public+"/myaccount"), at("account"))

	do(chromedp.Navigate(here+"/thief"), chromedp.WaitVisible(`#came-false`))
	thief := w.browser()
	to, err := url.Parse(w.http.URL)
	must(t, err)
	thief.Jar.SetCookies(to, <-stolen)
	if w.cookies(thief, browserCookie) == "" {
		t.Fatal("this Chromium does not send the cookie to other ports: correct what origin.go says")
	}
	for _, half := range []string{"", otherHalf} {
		w.with(half, func() {
			for _, path := range []string{w.authorizeURL(), "/myaccount"} {
				p := w.load(thief, "GET", path, nil)
				w.onPage(p, "resume")
				w.onPage(w.resume(thief, p), "signin")
			}
		})
	}

	script := func(blocked bool) chromedp.Action[chromedp.Void] {
		return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
			pattern := &cdpnetwork.BlockPattern{URLPattern: "*://*:*/*/origin.js*", Block: blocked}
			_, err := cdp.Call(ctx, target, cdpnetwork.SetBlockedURLs, cdpnetwork.SetBlockedURLsParams{URLPatterns: []*cdpnetwork.BlockPattern{pattern}})
			return err
		})
	}
	do(script(true), authorize(), at("resume")) // and stays there
	shoot("x-resume")
	do(script(false), scripts(true), authorize(), at("resume"))
	do(chromedp.Click(`#idSIButton9`), at("signin"))
	do(scripts(false), authorize(), at("pick"))
	do(chromedp.Navigate(public+"/common/oauth2/v2.0/logout"), at("signout"), chromedp.Click(`#idSIButton9`), at("done"))
	do(authorize(), at("signin"))
}
