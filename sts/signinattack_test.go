package sts

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// TestSignInAttacks: what somebody tries with the pages of a sign-in and a sign-out, one line each. Each starts in a world of its own, in which
// Alice is signed in in the browser.
func TestSignInAttacks(t *testing.T) {
	const cb = "https://wiki.test/cb"
	type attack struct {
		*world
		t    *testing.T
		wiki *directory.Application
		bob  *directory.User
	}
	for _, c := range []struct {
		name string
		try  func(a attack)
	}{
		{"the application takes another person for the one it asked for", func(a attack) {
			hint := a.ok(a.redeemCode(a.code(a.browser()))).text("id_token")
			other := a.browser()
			p := a.enter(other, a.visit(other, "GET", a.authorizeURL("id_token_hint", hint), nil), a.bob.UPN, alicePassword)
			if got := a.landed(p); got.Get("error") != "login_required" || got.Has("code") {
				a.t.Errorf("asked for Alice, signed in as Bob: %v", got)
			}
		}},
		{"an ID token whose key was withdrawn signs its user out", func(a attack) {
			b := a.browser()
			hint := a.ok(a.redeemCode(a.code(b))).text("id_token")
			must(a.t, a.srv.Keys.Withdraw(a.t.Context(), part(a.t, hint, 0)["kid"].(string)))
			a.onPage(a.visit(b, "GET", "/common/oauth2/v2.0/logout?"+values("id_token_hint", hint).Encode(), nil), "message")
			if a.landed(a.again(b)).Get("code") == "" {
				a.t.Error("signed out")
			}
		}},
		{"one person's ID token signs out another in the same browser", func(a attack) {
			b := a.browser()
			hint := a.ok(a.redeemCode(a.code(b))).text("id_token")
			a.landed(a.enter(b, a.step(b, a.visit(b, "GET", a.authorizeURL("prompt", "select_account"), nil), "account", "other"), a.bob.UPN, alicePassword))
			a.onPage(a.visit(b, "GET", "/common/oauth2/v2.0/logout?"+values("id_token_hint", hint).Encode(), nil), "done")
			if a.landed(a.again(b, "login_hint", a.bob.UPN)).Get("code") == "" {
				a.t.Error("Bob is signed out, too")
			}
			a.onPage(a.visit(b, "GET", a.authorizeURL("login_hint", aliceName), nil), "signin")
		}},
		{"made-up cookies make the sign-out write", func(a attack) {
			before := a.srv.Feed.View().Position
			for i := range 3 {
				a.get("/common/oauth2/logout", "Cookie", browserCookie+"="+fmt.Sprintf("%043d", i))
			}
			if after := a.srv.Feed.View().Position; after.Revision > before.Revision+1 { // the first one may make the keys that hash cookies
				a.t.Errorf("from %v to %v", before, after)
			}
		}},
		{"the sign-out's form at the sign-in", func(a attack) {
			b := a.browser()
			a.code(b)
			p := a.visit(b, "GET", "/common/oauth2/v2.0/logout", nil)
			if got := a.visit(b, "POST", "/signin", values("state", p.state)); got.status != 400 || strings.Contains(a.log.String(), "panic") {
				a.t.Errorf("HTTP %d", got.status)
			}
		}},
		{"an answer for an application that was deleted meanwhile", func(a attack) {
			b := a.browser()
			p := a.visit(b, "GET", a.authorizeURL("client_id", a.wiki.AppID.String(), "redirect_uri", cb), nil)
			must(a.t, a.dir.DeleteApplication(a.t.Context(), directory.System, a.wiki.ID))
			if got := a.enter(b, p, aliceName, alicePassword); got.header.Get("Location") != "" {
				a.t.Errorf("sent to %s", got.header.Get("Location"))
			}
		}},
		{"an answer to a redirect URI that was taken away meanwhile", func(a attack) {
			b := a.browser()
			p := a.visit(b, "GET", a.authorizeURL("client_id", a.wiki.AppID.String(), "redirect_uri", cb, "prompt", "consent", "scope", "openid"), nil)
			p = a.enter(b, p, aliceName, alicePassword)
			a.onPage(p, "consent")
			must(a.t, a.dir.UpdateApplication(a.t.Context(), directory.System, a.wiki.ID, func(a *directory.Application) error { a.WebRedirectURIs = nil; return nil }))
			if got := a.step(b, p, "action", "cancel"); got.header.Get("Location") != "" {
				a.t.Errorf("sent to %s", got.header.Get("Location"))
			}
		}},
		{"a secret that was posted goes on in an address", func(a attack) {
			b := a.browser()
			hint := a.ok(a.redeemCode(a.code(b))).text("id_token")
			for _, at := range []string{a.authorizeURL(), "/common/oauth2/v2.0/logout?client_id=" + a.wiki.AppID.String()} {
				u, err := url.Parse(at)
				must(a.t, err)
				v := u.Query()
				v.Set("client_secret", "S3cret")
				if v.Get("client_id") == directory.AzureCLI.String() {
					v.Set("id_token_hint", hint)
				}
				p := a.visit(b, "POST", u.Path, v, "Sec-Fetch-Site", "cross-site")
				to := p.header.Get("Location")
				if to == "" || strings.Contains(to, "S3cret") || strings.Contains(to, hint) {
					a.t.Errorf("sent to %q", to)
				}
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			a := attack{world: w, t: t, wiki: w.app(directory.Application{DisplayName: "Wiki", WebRedirectURIs: []string{cb}}), bob: w.user("bob@"+domain, alicePassword)}
			c.try(a)
		})
	}
}
