package sts

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/signin"
)

const (
	otherDomain = "fabrikam.test"
	welcome     = "https://fabrikam.test/welcome"
)

// other makes a second tenant on the server.
func (w *world) other() *directory.Tenant {
	w.t.Helper()
	n := directory.NewTenant{DisplayName: "Fabrikam", Domain: otherDomain, AdminName: "admin", Password: adminPassword}
	tenant, _, err := w.dir.CreateTenant(context.Background(), n, nil)
	must(w.t, err)
	return tenant
}

func (w *world) invite(tenant *directory.Tenant, address string) *directory.User {
	w.t.Helper()
	guest, err := w.dir.Invite(context.Background(), directory.System, directory.Invitation{Tenant: tenant.ID, Address: address, Redirect: welcome})
	must(w.t, err)
	return guest
}

// guest makes a user of the first tenant a guest who has accepted.
func (w *world) guest(tenant *directory.Tenant, home *directory.User) *directory.User {
	w.t.Helper()
	guest := w.invite(tenant, home.UPN)
	must(w.t, w.dir.Accept(context.Background(), home, guest.ID))
	return w.dir.State().User(guest.ID)
}

// at sends a form to the token endpoint of a tenant.
func (w *world) at(tenant string, pairs ...string) answer {
	w.t.Helper()
	return w.post("/"+tenant+"/oauth2/v2.0/token", values(append([]string{"client_id", directory.AzureCLI.String(), "client_info", "1", "scope", armScope}, pairs...)...))
}

// TestGuestTokens: the session of the account at home gives tokens of the other tenant, which speak of the guest there.
func TestGuestTokens(t *testing.T) {
	w := newWorld(t)
	b := w.other()
	before := w.ok(w.ropc(aliceName, alicePassword, armScope))
	refresh := func(tenant string, more ...string) answer {
		return w.at(tenant, append([]string{"grant_type", "refresh_token", "refresh_token", before.text("refresh_token")}, more...)...)
	}
	w.fails(refresh(b.ID.String()), 50020)
	guest := w.invite(b, aliceName)
	if guest.UPN != "alice.a_gatehouse.test#EXT#@fabrikam.test" || guest.External.Home != w.alice.ID {
		t.Fatalf("guest %+v", guest)
	}
	w.fails(refresh(b.ID.String()), 50014)
	guest = w.guest(b, w.alice)

	for _, version := range []string{"1.0", "2.0"} {
		var a answer
		if version == "2.0" {
			a = w.ok(refresh(otherDomain))
		} else {
			a = w.ok(w.post("/"+otherDomain+"/oauth2/token", values("grant_type", "refresh_token", "client_id", directory.AzureCLI.String(), "client_info", "1",
				"refresh_token", before.text("refresh_token"), "resource", "https://management.azure.com/", "scope", "openid")))
		}
		must(t, w.verify(a.text("access_token")))
		c, id := claims(t, a.text("access_token")), claims(t, a.text("id_token"))
		home := w.http.URL + "/" + w.tenant.ID.String() + "/"
		for name, want := range map[string]any{"tid": b.ID.String(), "oid": guest.ID.String(), "idp": home, "unique_name": aliceName, "upn": nil, "name": guest.DisplayName} {
			if c[name] != want {
				t.Errorf("access token: %s is %v, want %v", name, c[name], want)
			}
		}
		for name, want := range map[string]any{"tid": b.ID.String(), "oid": guest.ID.String(), "idp": home, "ver": version, "upn": nil} {
			if id[name] != want {
				t.Errorf("ID token %s: %s is %v, want %v", version, name, id[name], want)
			}
		}
		if name := map[string]string{"1.0": "unique_name", "2.0": "preferred_username"}[version]; id[name] != aliceName {
			t.Errorf("ID token %s: %v", version, id)
		}
		if a.text("client_info") != clientInfo(w.alice) {
			t.Errorf("client_info is not that of home: %s", a.text("client_info"))
		}
		if own := claims(t, before.text("access_token")); c["sid"] != own["sid"] || c["sub"] == own["sub"] {
			t.Errorf("session %v, subject %v of %v", c["sid"], c["sub"], own)
		}
		if version == "2.0" { // and back
			c := claims(t, w.ok(w.at(w.tenant.ID.String(), "grant_type", "refresh_token", "refresh_token", a.text("refresh_token"))).text("access_token"))
			if c["tid"] != w.tenant.ID.String() || c["oid"] != w.alice.ID.String() || c["idp"] != c["iss"] {
				t.Errorf("at home again: %v", c)
			}
		}
	}
	if c := claims(t, w.ok(refresh("organizations")).text("access_token")); c["tid"] != w.tenant.ID.String() {
		t.Errorf("organizations: %v", c["tid"])
	}
	// Guests have no password anywhere but at home.
	w.fails(w.at(otherDomain, "grant_type", "password", "username", aliceName, "password", alicePassword), 50034)
	w.fails(w.at(otherDomain, "grant_type", "password", "username", guest.UPN, "password", alicePassword), 50126)
	w.fails(w.at("organizations", "grant_type", "password", "username", guest.UPN, "password", ""), 900144)
}

// TestGuestAfter: what ends a guest's tokens, at once, wherever it is done.
func TestGuestAfter(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		name string
		do   func(w *world, guest *directory.User) error
		code int
	}{
		{"disabled at home", func(w *world, _ *directory.User) error {
			return w.dir.UpdateUser(ctx, directory.System, w.alice.ID, func(u *directory.User) { u.Enabled = false })
		}, 50057},
		{"disabled as a guest", func(w *world, g *directory.User) error {
			return w.dir.UpdateUser(ctx, directory.System, g.ID, func(u *directory.User) { u.Enabled = false })
		}, 50057},
		{"deleted at home", func(w *world, _ *directory.User) error { return w.dir.DeleteUser(ctx, directory.System, w.alice.ID) }, 50173},
		{"deleted as a guest", func(w *world, g *directory.User) error { return w.dir.DeleteUser(ctx, directory.System, g.ID) }, 50020},
		{"deleted as a guest, and invited again", func(w *world, g *directory.User) error {
			err := w.dir.DeleteUser(ctx, directory.System, g.ID)
			w.invite(w.dir.State().Tenant(g.Tenant), aliceName)
			return err
		}, 50014},
		{"revoked at home", func(w *world, _ *directory.User) error {
			return w.dir.RevokeSessions(ctx, directory.System, w.alice.ID)
		}, 50173},
		{"revoked as a guest", func(w *world, g *directory.User) error { return w.dir.RevokeSessions(ctx, directory.System, g.ID) }, 50173},
		{"revoked by the guest", func(w *world, g *directory.User) error {
			return w.dir.RevokeSessions(ctx, directory.Actor{ID: g.ID, Tenant: g.Tenant}, g.ID)
		}, 50173},
		{"a new password at home", func(w *world, _ *directory.User) error {
			return w.dir.ResetPassword(ctx, directory.System, w.alice.ID, "Fresh-Paint-11", false)
		}, 50173},
		{"signed in in the other tenant's view of home", func(w *world, _ *directory.User) error { return nil }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			guest := w.guest(w.other(), w.alice)
			a := w.ok(w.ropc(aliceName, alicePassword, armScope))
			a = w.ok(w.at(otherDomain, "grant_type", "refresh_token", "refresh_token", a.text("refresh_token")))
			must(t, w.verify(a.text("access_token")))
			w.pass(time.Second)
			must(t, c.do(w, guest))
			if err := w.verify(a.text("access_token")); (err == nil) != (c.code == 0) {
				t.Errorf("the access token: %v", err)
			}
			if got := w.at(otherDomain, "grant_type", "refresh_token", "refresh_token", a.text("refresh_token")); got.code() != c.code {
				t.Errorf("the refresh token: %s", got.raw)
			}
		})
	}
}

// TestGuestNameTakenOver: an account that is given the name of one that was invited is not the guest.
func TestGuestNameTakenOver(t *testing.T) {
	ctx := context.Background()
	for _, accepted := range []bool{true, false} {
		w := newWorld(t)
		b := w.other()
		w.invite(b, aliceName)
		if accepted {
			w.guest(b, w.alice)
		}
		must(t, w.dir.DeleteUser(ctx, directory.System, w.alice.ID))
		mallory := w.user(aliceName, alicePassword)
		a := w.ok(w.ropc(aliceName, alicePassword, armScope))
		w.fails(w.at(otherDomain, "grant_type", "refresh_token", "refresh_token", a.text("refresh_token")), 50020)
		if err := w.dir.Accept(ctx, mallory, w.dir.State().UserByUPN("alice.a_gatehouse.test#EXT#@fabrikam.test").ID); err == nil {
			t.Error("it accepts the invitation")
		}
	}
	w := newWorld(t) // who was nobody yet when invited may accept, and keeps it under another name
	b := w.other()
	guest := w.invite(b, "zoe@"+domain)
	zoe := w.user("zoe@"+domain, alicePassword)
	must(t, w.dir.Accept(ctx, zoe, guest.ID))
	w.setUser(zoe.ID, func(u *directory.User) { u.UPN = "zoe.new@" + domain })
	w.user("zoe@"+domain, alicePassword)
	for name, code := range map[string]int{"zoe.new@": 0, "zoe@": 50020} {
		a := w.ok(w.ropc(name+domain, alicePassword, armScope))
		if a = w.at(otherDomain, "grant_type", "refresh_token", "refresh_token", a.text("refresh_token")); a.code() != code {
			t.Errorf("%s: %s", name, a.raw)
		}
	}
}

func (w *world) authorizeAt(tenant string, pairs ...string) string {
	return strings.Replace(w.authorizeURL(pairs...), "/organizations/", "/"+tenant+"/", 1)
}

// TestGuestInBrowser: the person reviews once what the other organization wants, then signs in there like everybody.
func TestGuestInBrowser(t *testing.T) {
	w := newWorld(t)
	b := w.other()
	br := w.browser()
	p := w.enter(br, w.visit(br, "GET", w.authorizeAt(otherDomain), nil), aliceName, alicePassword)
	if w.onPage(p, "signin"); !strings.Contains(p.alert, "does not exist in tenant &#39;Fabrikam&#39;") && !strings.Contains(p.alert, "does not exist in tenant 'Fabrikam'") {
		t.Errorf("not invited: %q", p.alert)
	}
	p = w.enter(br, p, "carol@contoso.test", "x")
	if w.onPage(p, "signin"); !strings.Contains(p.alert, "contoso.test") || !strings.Contains(p.alert, "not on this server") {
		t.Errorf("of elsewhere: %q", p.alert)
	}
	guest := w.invite(b, aliceName)
	p = w.enter(br, p, aliceName, alicePassword)
	w.onPage(p, "review")
	if got := w.landed(w.step(br, p, "action", "cancel")); got.Get("error") != "access_denied" || got.Get("error_subcode") != "cancel" {
		t.Errorf("cancelled: %v", got)
	}
	if got := w.landed(w.visit(br, "GET", w.authorizeAt(otherDomain, "prompt", "none"), nil)); got.Get("error") != "login_required" {
		t.Errorf("prompt=none: %v", got)
	}
	p = w.visit(br, "GET", w.authorizeAt(otherDomain), nil) // the browser is signed in, at home
	w.onPage(p, "review")
	w.pass(time.Second)
	must(t, w.dir.RevokeSessions(t.Context(), directory.System, w.alice.ID))
	if p := w.step(br, p, "action", "accept"); p.page != "signin" || w.dir.State().User(guest.ID).External.State != directory.PendingAcceptance {
		t.Errorf("accepted with a session that was revoked: %s", p.page)
	}
	w.pass(time.Second)
	p = w.enter(br, w.visit(br, "GET", w.authorizeAt(otherDomain), nil), aliceName, alicePassword)
	if p := w.step(w.browser(), p, "action", "accept"); p.page == "review" || w.dir.State().User(guest.ID).External.State != directory.PendingAcceptance {
		t.Errorf("accepted in another browser: %s", p.page)
	}
	p = w.visit(br, "GET", w.authorizeAt(otherDomain), nil)
	w.onPage(w.step(br, p, "action", "what"), "message")
	p = w.visit(br, "GET", w.authorizeAt(otherDomain), nil)
	got := w.landed(w.step(br, p, "action", "accept"))
	if got.Get("client_info") != clientInfo(w.alice) {
		t.Errorf("client_info %q", got.Get("client_info"))
	}
	redeem := func(tenant, code string) answer {
		return w.at(tenant, "grant_type", "authorization_code", "code", code, "redirect_uri", cliRedirect, "code_verifier", verifier, "scope", "")
	}
	w.fails(redeem(domain, got.Get("code")), 700005)
	a := w.ok(redeem(otherDomain, got.Get("code")))
	if c := claims(t, a.text("access_token")); c["oid"] != guest.ID.String() || c["tid"] != b.ID.String() {
		t.Errorf("claims %v", c)
	}
	code := w.landed(w.confirmed(br, w.visit(br, "GET", w.authorizeAt(otherDomain), nil))).Get("code") // no review any more
	w.ok(redeem("organizations", code))
	code = w.landed(w.confirmed(br, w.visit(br, "GET", w.authorizeAt(otherDomain, "id_token_hint", a.text("id_token")), nil))).Get("code")
	w.ok(redeem(otherDomain, code))
	code = w.landed(w.again(br)).Get("code")
	w.fails(redeem(otherDomain, code), 700005)

	code = w.landed(w.confirmed(br, w.visit(br, "GET", w.authorizeAt(otherDomain), nil))).Get("code") // disabled between code and token
	w.setUser(guest.ID, func(u *directory.User) { u.Enabled = false })
	w.fails(redeem(otherDomain, code), 50057)
	w.setUser(guest.ID, func(u *directory.User) { u.Enabled = true })
	if p := w.visit(br, "GET", "/common/oauth2/v2.0/logout?id_token_hint="+url.QueryEscape(a.text("id_token")), nil); p.page != "done" {
		t.Errorf("sign-out by the ID token of the guest: %s", p.page)
	}
}

// TestAccountsOfBothTenants: a browser may hold accounts of several tenants. Each request gets one that may enter its tenant.
func TestAccountsOfBothTenants(t *testing.T) {
	w := newWorld(t)
	b := w.other()
	br := w.browser()
	w.code(br)
	admin := "admin@" + otherDomain
	w.landed(w.enter(br, w.visit(br, "GET", w.authorizeURL("prompt", "login"), nil), admin, adminPassword))
	tid := func(p sheet) any {
		t.Helper()
		return claims(t, w.ok(w.redeemCode(w.landed(p).Get("code"))).text("access_token"))["tid"]
	}
	for _, c := range []struct{ tenant, hint, want string }{
		{otherDomain, "", b.ID.String()}, {domain, "", w.tenant.ID.String()}, {"common", aliceName, w.tenant.ID.String()}, {"organizations", admin, b.ID.String()},
	} {
		if got := tid(w.confirmed(br, w.visit(br, "GET", w.authorizeAt(c.tenant, "login_hint", c.hint), nil))); got != c.want {
			t.Errorf("%s for %q: tenant %v, want %s", c.tenant, c.hint, got, c.want)
		}
	}
	account := func(p sheet, name string) string {
		t.Helper()
		w.onPage(p, "pick")
		m := regexp.MustCompile(`value="([^"]+)" data-test-id="` + regexp.QuoteMeta(name)).FindStringSubmatch(p.body)
		if m == nil {
			t.Fatalf("%s cannot be picked: %s", name, p.body)
		}
		return m[1]
	}
	p := w.visit(br, "GET", w.authorizeAt(otherDomain, "prompt", "select_account"), nil)
	if p = w.step(br, p, "account", account(p, aliceName)); p.page != "signin" || !strings.Contains(p.alert, "Fabrikam") {
		t.Errorf("an account that is not invited: %s %q", p.page, p.alert)
	}
	w.guest(b, w.alice)
	p = w.visit(br, "GET", w.authorizeAt(otherDomain), nil) // now two may
	p = w.step(br, p, "account", account(p, aliceName))
	if got := tid(p); got != b.ID.String() {
		t.Errorf("the guest: tenant %v", got)
	}
	if got := w.landed(w.visit(br, "GET", w.authorizeAt(otherDomain, "prompt", "none"), nil)); got.Get("error") != "interaction_required" {
		t.Errorf("prompt=none with two: %v", got)
	}
}

// TestInvitationLink: it leads through the sign-in at home to the organization's own page, and lets nobody else in.
func TestInvitationLink(t *testing.T) {
	w := newWorld(t)
	b := w.other()
	guest := w.invite(b, aliceName)
	link := "/redeem?tenant=" + b.ID.String() + "&user=" + guest.ID.String()
	bob := w.user("bob@"+domain, alicePassword)
	br := w.browser()
	if p := w.enter(br, w.visit(br, "GET", link, nil), bob.UPN, alicePassword); p.page != "signin" || p.alert == "" {
		t.Errorf("somebody who was not invited: %s", p.page)
	}
	w.invite(b, bob.UPN)
	for _, state := range []string{directory.PendingAcceptance, directory.Accepted} {
		p := w.enter(br, w.visit(br, "GET", link, nil), bob.UPN, alicePassword)
		if p.page != "signin" || !strings.Contains(p.alert, "for another account") || w.dir.State().User(guest.ID).External.State != directory.PendingAcceptance {
			t.Errorf("somebody else who was invited, %s: %s %q", state, p.page, p.alert)
		}
		w.guest(b, bob)
	}
	w.landed(w.enter(br, w.visit(br, "GET", w.authorizeURL(), nil), bob.UPN, alicePassword))
	w.onPage(w.visit(br, "GET", link, nil), "pick")
	br = w.browser()
	p := w.step(br, w.enter(br, w.visit(br, "GET", link, nil), aliceName, alicePassword), "action", "cancel")
	w.onPage(p, "done")
	if got := w.step(w.browser(), p, "action", "accept"); got.header.Get("Location") != "" {
		t.Errorf("a cancelled invitation is accepted from another browser: sent to %q", got.header.Get("Location"))
	}
	br = w.browser()
	p = w.enter(br, w.visit(br, "GET", link, nil), aliceName, alicePassword)
	w.onPage(p, "review")
	p = w.step(br, p, "action", "accept")
	if p.header.Get("Location") != welcome || strings.Contains(p.header.Get("Location"), "code=") {
		t.Errorf("sent to %q", p.header.Get("Location"))
	}
	if u := w.dir.State().User(guest.ID); u.External.State != directory.Accepted || u.External.Redirect != "" {
		t.Errorf("guest %+v", u.External)
	}
	p = w.visit(br, "GET", link, nil) // again: nothing to do
	if p.page == "review" || p.page == "signin" {
		t.Errorf("a second time: %s", p.page)
	}
	for _, bad := range []string{"", "?tenant=x&user=y", "?tenant=" + w.tenant.ID.String() + "&user=" + guest.ID.String(), "?tenant=" + w.tenant.ID.String() + "&user=" + w.alice.ID.String()} {
		if p := w.visit(br, "GET", "/redeem"+bad, nil); p.page != "message" || p.status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", bad, p.status, p.page)
		}
	}
}

// TestGuestOnDevicePage: a device asks for the other tenant, and the person accepts on the way.
func TestGuestOnDevicePage(t *testing.T) {
	w := newWorld(t)
	b := w.other()
	guest := w.invite(b, aliceName)
	start := func(tenant string) answer {
		return w.ok(w.post("/"+tenant+"/oauth2/v2.0/devicecode", values("client_id", directory.AKSClient.String(), "scope", aksScope)))
	}
	poll := func(tenant string, a answer) answer {
		return w.post("/"+tenant+"/oauth2/v2.0/token", values("grant_type", "urn:ietf:params:oauth:grant-type:device_code", "client_id", directory.AKSClient.String(),
			"device_code", a.text("device_code")))
	}
	begin := func(a answer) (*http.Client, sheet) {
		br := w.browser()
		p := w.next(br, w.visit(br, "GET", "/devicelogin", nil), "otc", a.text("user_code"))
		return br, w.next(br, p, "loginfmt", aliceName, "passwd", alicePassword)
	}
	a := start(otherDomain)
	br, p := begin(a)
	w.onPage(p, "review")
	w.pass(time.Second)
	must(t, w.dir.RevokeSessions(t.Context(), directory.System, w.alice.ID))
	if p := w.next(br, p, "action", "accept"); p.page != "message" || w.dir.State().User(guest.ID).External.State != directory.PendingAcceptance {
		t.Errorf("accepted after the proof was revoked: %s", p.page)
	}
	w.pass(time.Second)
	br, p = begin(a)
	p = w.next(br, p, "action", "accept")
	w.onPage(p, "confirm")
	if !strings.Contains(p.body, "Fabrikam") {
		t.Error("the page does not name the organization")
	}
	w.onPage(w.next(br, p, "action", "continue"), "done")
	w.fails(poll(domain, a), 70018)
	if c := claims(t, w.ok(poll(otherDomain, a)).text("access_token")); c["oid"] != guest.ID.String() || c["tid"] != b.ID.String() {
		t.Errorf("claims %v", c)
	}
	a = start("organizations") // of any tenant: the one where the device redeems it
	br, p = begin(a)
	w.onPage(w.next(br, p, "action", "continue"), "done")
	if c := claims(t, w.ok(poll(otherDomain, a)).text("access_token")); c["tid"] != b.ID.String() {
		t.Errorf("claims %v", c)
	}
	a = start(otherDomain) // disabled between the page and the poll
	br, p = begin(a)
	w.onPage(w.next(br, p, "action", "continue"), "done")
	w.setUser(guest.ID, func(u *directory.User) { u.Enabled = false })
	w.fails(poll(otherDomain, a), 50057)
	_, p = begin(start(otherDomain))
	if p.page != "signin" || !strings.Contains(p.alert, "disabled") {
		t.Errorf("disabled: %s %q", p.page, p.alert)
	}
}

// TestGuestOnBehalfOf: a service of the other tenant goes on in the guest's name, there and nowhere else.
func TestGuestOnBehalfOf(t *testing.T) {
	w := newWorld(t)
	b := w.other()
	guest := w.guest(b, w.alice)
	home := w.tenant
	w.tenant = b
	app := w.app(directory.Application{DisplayName: "API", IdentifierURIs: []string{"api://fabrikam"}})
	w.grant(app, directory.ARM, "user_impersonation")
	_, secret, err := w.dir.AddAppSecret(context.Background(), directory.System, app.ID, directory.PasswordCredential{})
	must(t, err)
	w.tenant = home
	a := w.ok(w.ropc(aliceName, alicePassword, armScope))
	a = w.ok(w.at(otherDomain, "grant_type", "refresh_token", "refresh_token", a.text("refresh_token"), "scope", "api://fabrikam/.default"))
	obo := func(tenant string) answer {
		return w.at(tenant, "grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer", "requested_token_use", "on_behalf_of", "client_id", app.AppID.String(),
			"client_secret", secret, "assertion", a.text("access_token"))
	}
	got := w.ok(obo(otherDomain))
	if c := claims(t, got.text("access_token")); c["oid"] != guest.ID.String() || c["tid"] != b.ID.String() {
		t.Errorf("claims %v", c)
	}
	must(t, w.verify(got.text("access_token")))
	w.fails(obo(domain), 700016)
	w.setUser(w.alice.ID, func(u *directory.User) { u.Enabled = false })
	w.fails(obo(otherDomain), 50057)
}

// TestGuestConsent: what a guest consents to in a tenant is granted to the guest there, and nothing at home.
func TestGuestConsent(t *testing.T) {
	w := newWorld(t)
	home, b := w.tenant, w.other()
	guest := w.invite(b, aliceName)
	w.tenant = b
	app := w.app(directory.Application{DisplayName: "Till", PublicClient: true, RedirectURIs: []string{"http://localhost"}})
	w.tenant = home
	br := w.browser()
	at := w.authorizeAt(otherDomain, "client_id", app.AppID.String(), "scope", "openid profile offline_access https://graph.microsoft.com/User.Read")
	p := w.enter(br, w.visit(br, "GET", at, nil), aliceName, alicePassword)
	w.onPage(p, "review")
	p = w.step(br, p, "action", "accept")
	w.onPage(p, "consent")
	if !strings.Contains(p.body, aliceName) || !strings.Contains(p.body, "Fabrikam") || strings.Contains(p.body, "EXT") {
		t.Errorf("the page does not say who and where: %s", p.body)
	}
	code := w.landed(w.step(br, p, "action", "accept")).Get("code")
	c := claims(t, w.ok(w.redeemCode(code, "client_id", app.AppID.String())).text("access_token"))
	if c["oid"] != guest.ID.String() || c["tid"] != b.ID.String() {
		t.Errorf("claims %v", c)
	}
	dir := directory.In(w.srv.Feed.View())
	for g := range dir.EachGrant(home.ID) {
		t.Errorf("granted at home: %+v", g)
	}
	n := 0
	for g := range dir.EachGrant(b.ID) {
		if n++; g.Principal != guest.ID {
			t.Errorf("granted to %s", g.Principal)
		}
	}
	if n == 0 {
		t.Error("nothing is granted")
	}

	started := w.ok(w.post("/"+otherDomain+"/oauth2/v2.0/devicecode", values("client_id", app.AppID.String(), "scope", "openid email"))) // and on a device
	d := w.browser()
	p = w.next(d, w.visit(d, "GET", "/devicelogin", nil), "otc", started.text("user_code"))
	p = w.next(d, p, "loginfmt", aliceName, "passwd", alicePassword)
	w.onPage(p, "consent")
	w.onPage(w.next(d, p, "action", "accept"), "confirm")
	for g := range directory.In(w.srv.Feed.View()).EachGrant(b.ID) {
		if g.Principal != guest.ID {
			t.Errorf("granted to %s", g.Principal)
		}
	}
}

// TestGuestSecondFactor: either tenant may demand a second factor, and it is the one of home.
func TestGuestSecondFactor(t *testing.T) {
	w := newWorld(t)
	guest := w.guest(w.other(), w.alice)
	a := w.ok(w.ropc(aliceName, alicePassword, armScope))
	at := func(tenant string) answer {
		return w.at(tenant, "grant_type", "refresh_token", "refresh_token", a.text("refresh_token"))
	}
	before := w.ok(at(otherDomain))
	w.setMFA(guest, directory.MFAEnforced)
	w.fails(at(otherDomain), 50079)
	w.ok(at(domain))
	if w.verify(before.text("access_token")) == nil || w.verify(a.text("access_token")) != nil {
		t.Error("what the tenant demands is not demanded of its tokens, or of those of home as well")
	}
	seed, _ := w.enrolled(w.alice)
	w.fails(at(otherDomain), 50076)
	w.ok(at(domain))

	br := w.browser()
	p := w.enter(br, w.visit(br, "GET", w.authorizeAt(otherDomain), nil), aliceName, alicePassword)
	w.onPage(p, "second")
	p = w.step(br, p, "code", w.totp(seed))
	got := w.ok(w.redeemCode(w.landed(p).Get("code")))
	if c := claims(t, got.text("access_token")); c["oid"] != guest.ID.String() {
		t.Errorf("claims %v", c)
	}
	must(t, w.verify(got.text("access_token")))
	w.setMFA(guest, directory.MFADisabled)
	w.ok(at(otherDomain))
	w.setMFA(w.alice, directory.MFAEnforced)
	w.fails(at(otherDomain), 50076)
}

// TestGuestPagesInChromium walks through an invitation in a real browser, whose policy must let the person through to the organization's page.
func TestGuestPagesInChromium(t *testing.T) {
	w := newWorld(t)
	do, shoot := w.chromium(t)
	arrived := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		fmt.Fprint(rw, `<p id="arrived">Welcome</p>`)
	}))
	t.Cleanup(arrived.Close)
	b := w.other()
	guest, err := w.dir.Invite(t.Context(), directory.System, directory.Invitation{
		Tenant: b.ID, Address: aliceName, Redirect: strings.Replace(arrived.URL, "127.0.0.1", "localhost", 1)})
	must(t, err)
	link := chromedp.Navigate(w.http.URL + "/redeem?tenant=" + b.ID.String() + "&user=" + guest.ID.String())
	submit := chromedp.Click(`#idSIButton9`)
	do(link, chromedp.WaitVisible(`[data-page=signin]`))
	shoot("g-invited")
	do(chromedp.SendKeys(`input[name=loginfmt]`, "x@contoso.test"), chromedp.SendKeys(`input[name=passwd]`, "x"), submit, chromedp.WaitVisible(`[role=alert]`))
	shoot("h-of-elsewhere")
	do(chromedp.SetValue(`input[name=loginfmt]`, aliceName), chromedp.SendKeys(`input[name=passwd]`, alicePassword), submit, chromedp.WaitVisible(`[data-page=review]`))
	shoot("i-review")
	do(chromedp.Click(`#idBtn_Back`), chromedp.WaitVisible(`[data-page=done]`))
	shoot("j-not-accepted")
	do(link, chromedp.WaitVisible(`[data-page=review]`), submit, chromedp.WaitVisible(`#arrived`))
	if got := w.dir.State().User(guest.ID).External.State; got != directory.Accepted {
		t.Errorf("state %s", got)
	}
}

// TestGuestAudit: what is tried with a password is the matter of home; tokens of a tenant are in its own log, with the account at home beside.
func TestGuestAudit(t *testing.T) {
	w := newWorld(t)
	b := w.other()
	guest := w.guest(b, w.alice)
	br := w.browser()
	p := w.enter(br, w.visit(br, "GET", w.authorizeAt(otherDomain), nil), aliceName, "wrong")
	got := w.landed(w.enter(br, p, aliceName, alicePassword))
	w.ok(w.redeemCode(got.Get("code")))
	var seen []string
	for _, e := range w.events() {
		switch {
		case e.Code == 50126 && e.Tenant != w.tenant.ID.String():
			t.Errorf("a wrong password in the log of another tenant: %+v", e)
		case e.Code == 50126:
			seen = append(seen, "wrong")
		case e.Details["method"] == "authorization_code":
			if seen = append(seen, "token"); e.Tenant != b.ID.String() || e.Actor != guest.ID.String() || e.Details["home"] != w.tenant.ID.String()+"/"+w.alice.ID.String() {
				t.Errorf("token: %+v", e)
			}
		}
	}
	if strings.Join(seen, " ") != "wrong token" {
		t.Errorf("events %v", seen)
	}
}

// TestGuestIDTokenLogged: a sign-in to an application of another organization is in the log of that one, as the guest's. Home sees that a
// password was tried, but not the name of an application that it does not have.
func TestGuestIDTokenLogged(t *testing.T) {
	w := newWorld(t)
	b := w.other()
	guest := w.guest(b, w.alice)
	app, err := w.dir.CreateApplication(t.Context(), directory.System, directory.Application{
		Tenant: b.ID, DisplayName: "private", WebRedirectURIs: []string{"https://b.example/cb"}, IssueIDToken: true,
	})
	must(t, err)
	_, err = w.dir.CreateServicePrincipal(t.Context(), directory.System, b.ID, app.AppID, true)
	must(t, err)
	br := w.browser()
	ask := []string{"client_id", app.AppID.String(), "redirect_uri", "https://b.example/cb", "response_type", "id_token", "scope", "openid", "code_challenge", "-", "code_challenge_method", "-"}
	p := w.enter(br, w.visit(br, "GET", w.authorizeAt(otherDomain, append(ask, "nonce", "n")...), nil), aliceName, alicePassword)
	w.onPage(p, "consent")
	w.landed(w.step(br, p, "action", "cancel"))
	p = w.visit(br, "GET", w.authorizeAt(otherDomain, append(ask, "nonce", "n", "prompt", "none")...), nil)
	if got := w.landed(p); got.Get("error") == "" {
		t.Fatalf("%v", got)
	}
	p = w.visit(br, "GET", w.authorizeAt(otherDomain, append(ask, "nonce", "n")...), nil)
	w.landed(w.step(br, p, "action", "accept"))
	lines := func(tenant directory.ID) string {
		all, err := w.srv.SignIns.Find(t.Context(), signin.Query{Tenant: tenant.String(), Limit: 1000})
		must(t, err)
		var out []string
		for _, e := range slices.Backward(all) {
			out = append(out, fmt.Sprintf("%d %s %q %s", e.Code, e.UPN, e.AppName, e.Method))
		}
		return strings.Join(out, "\n")
	}
	if got, want := lines(w.tenant.ID), "0 "+aliceName+" \"\" Password"; got != want {
		t.Errorf("at home\n%s\nwant\n%s", got, want)
	}
	if got, want := lines(b.ID), "65004 "+guest.UPN+" \"private\" Previously satisfied\n65001 "+guest.UPN+" \"private\" Previously satisfied\n0 "+guest.UPN+" \"private\" Previously satisfied"; got != want {
		t.Errorf("at the other organization\n%s\nwant\n%s", got, want)
	}
	for _, e := range w.events() {
		if e.Action == "authorize" && (e.Actor != guest.ID.String() || e.Details["home"] != w.tenant.ID.String()+"/"+w.alice.ID.String()) {
			t.Errorf("audit: %+v", e)
		}
	}
}
