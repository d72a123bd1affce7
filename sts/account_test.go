package sts

import (
	"context"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// manage posts a form of the account page.
func (w *world) manage(b *http.Client, from sheet, pairs ...string) sheet {
	w.t.Helper()
	return w.visit(b, "POST", "/myaccount", values(append(pairs, "state", from.state)...))
}

// home signs a user in on the account page.
func (w *world) atHome(b *http.Client, u *directory.User) sheet {
	w.t.Helper()
	p := w.visit(b, "GET", "/myaccount", nil)
	w.onPage(p, "signin")
	return w.manage(b, p, "loginfmt", u.UPN, "passwd", alicePassword)
}

var noticeMark = regexp.MustCompile(`(?s)role="status"><p>(.*?)</p>`)

func (w *world) sessionsOf(u *directory.User) []*Session {
	return In(w.srv.Feed.View()).SessionsOf(u.ID)
}

// TestAccountPage walks through everything that people can do there.
func TestAccountPage(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	p := w.atHome(b, w.alice)
	w.onPage(p, "account")
	for _, want := range []string{"Alice Adams", aliceName, "Test Directory", "this one", "with password", "You have no second factor"} {
		if !strings.Contains(p.body, want) {
			t.Errorf("the page does not show %q", want)
		}
	}
	p = w.manage(b, p, "action", "totp")
	w.onPage(p, "enrol")
	seed := w.seedOf(p)
	p = w.manage(b, p, "code", w.totp(seed))
	w.onPage(p, "codes")
	p = w.manage(b, p)
	w.onPage(p, "account")
	if !strings.Contains(p.body, "Authenticator app") || !strings.Contains(p.body, "10 left") || !strings.Contains(p.body, "password and second factor") {
		t.Errorf("after enrolling: %s", p.body)
	}
	if n := len(w.sessionsOf(w.alice)); n != 1 {
		t.Errorf("%d sessions", n)
	}

	// The browser's session serves applications, too, and what they got is listed here.
	tokens := w.ok(w.redeemCode(w.code(b)))
	cli := w.ok(w.ropc(aliceName, alicePassword, aksScope))
	p = w.visit(b, "GET", "/myaccount", nil)
	if n := strings.Count(p.body, "Microsoft Azure CLI"); n < 2 {
		t.Errorf("the sessions are not listed: %s", p.body)
	}
	id := claims(t, cli.text("access_token"))["sid"].(string)
	p = w.manage(b, p, "action", "end "+id)
	w.onPage(p, "account")
	w.fails(w.redeem(cli.text("refresh_token"), directory.AzureCLI, armScope), 50173)
	w.ok(w.redeem(tokens.text("refresh_token"), directory.AzureCLI, armScope))
	if p = w.manage(b, p, "action", "end "+id); p.page != "account" || p.status != 400 {
		t.Errorf("ended twice: HTTP %d %q", p.status, p.page)
	}

	// New recovery codes need a factor that was shown just now.
	w.pass(recentProof)
	p = w.manage(b, w.visit(b, "GET", "/myaccount", nil), "action", "codes")
	w.onPage(p, "second")
	p = w.manage(b, p, "code", w.totp(seed))
	w.onPage(p, "codes")
	p = w.manage(b, p)
	w.onPage(p, "account")

	// A new password ends the others, and this browser stays.
	p = w.manage(b, p, "action", "password")
	w.onPage(p, "password")
	wrong := w.manage(b, p, "currentPassword", "x", "newPassword", "Fresh-Paint-11", "confirmNewPassword", "Fresh-Paint-11")
	w.onPage(wrong, "password")
	w.pass(time.Second)
	p = w.manage(b, wrong, "currentPassword", alicePassword, "newPassword", "Fresh-Paint-11", "confirmNewPassword", "Fresh-Paint-11")
	w.onPage(p, "account")
	w.fails(w.redeem(tokens.text("refresh_token"), directory.AzureCLI, armScope), 50173)
	w.onPage(w.visit(b, "GET", "/myaccount", nil), "account")
	if !strings.Contains(p.body, "password and second factor") {
		t.Error("the session forgot what was shown in it")
	}

	method := directory.In(w.srv.Feed.View()).User(w.alice.ID).Methods[0].ID.String()
	p = w.manage(b, p, "action", "remove "+method)
	if p.page == "second" { // if the proof is too old by now
		p = w.manage(b, p, "code", w.totp(seed))
	}
	w.onPage(p, "account")
	if directory.In(w.srv.Feed.View()).User(w.alice.ID).HasSecondFactor() || first(noticeMark, p.body) == "" {
		t.Error("not removed")
	}
	p = w.manage(b, p, "action", "everywhere")
	w.onPage(p, "done")
	w.onPage(w.visit(b, "GET", "/myaccount", nil), "signin")
	var actions []string
	for _, e := range w.events() {
		actions = append(actions, e.Action)
	}
	for _, want := range []string{"security-info-add", "second-factor", "security-info-recovery-codes", "password-change", "security-info-remove", "session-end"} {
		if !strings.Contains(strings.Join(actions, " "), want) {
			t.Errorf("%s is not in the audit: %q", want, actions)
		}
	}
}

// TestAccountPasskey: passkeys are added and removed there, and open it.
func TestAccountPasskey(t *testing.T) {
	w := newWorld(t).withPasskeys(t)
	a := newAuthenticator(t, "alice")
	b := w.browser()
	p := w.manage(b, w.atHome(b, w.alice), "action", "passkey")
	w.onPage(p, "enrol")
	if strings.Contains(p.body, "<svg") {
		t.Error("an authenticator app is offered, too")
	}
	p = w.manage(b, p, "credential", a.create(p))
	w.onPage(p, "codes")
	p = w.manage(b, p)
	w.onPage(p, "account")
	p = w.manage(b, p, "action", "passkey")
	w.onPage(p, "enrol")
	if c := options(t, p); len(c.Exclude) != 1 || c.Exclude[0].ID != b64(a.id) {
		t.Errorf("the same authenticator is not excluded: %+v", c)
	}
	w.pass(time.Second)
	c := w.browser()
	p = w.visit(c, "GET", "/myaccount", nil)
	p = w.manage(c, p, "credential", a.get(p))
	w.onPage(p, "account")
	if !strings.Contains(p.body, "with passkey") {
		t.Error("does not say how")
	}
	p = w.manage(c, p, "action", "remove "+w.named("Alice.A").Methods[0].ID.String())
	w.onPage(p, "account")
	if w.named("Alice.A").HasSecondFactor() {
		t.Error("not removed")
	}
}

// TestAccountNeedsProof: whoever finds a browser signed in changes nothing about how its person signs in.
func TestAccountNeedsProof(t *testing.T) {
	w := newWorld(t)
	seed, _ := w.enrolled(w.alice)
	method := directory.In(w.srv.Feed.View()).User(w.alice.ID).Methods[0].ID.String()
	b := w.browser()
	p := w.atHome(b, w.alice)
	w.onPage(p, "account")
	for _, action := range []string{"totp", "passkey", "codes", "remove " + method} {
		if got := w.manage(b, p, "action", action); got.page != "second" {
			t.Errorf("%s with the password alone: page %q", action, got.page)
		}
	}
	p = w.manage(b, w.visit(b, "GET", "/myaccount", nil), "action", "totp")
	p = w.manage(b, p, "code", w.totp(seed))
	w.onPage(p, "enrol") // what was wanted goes on
	p = w.manage(b, p, "action", "cancel")
	if p.status != 303 || p.header.Get("Location") != w.http.URL+"/myaccount" {
		t.Errorf("cancel: HTTP %d to %q", p.status, p.header.Get("Location"))
	}
	w.pass(recentProof)
	p = w.visit(b, "GET", "/myaccount", nil)
	if got := w.manage(b, p, "action", "remove "+method); got.page != "second" {
		t.Errorf("later: page %q", got.page)
	}
	bob := w.user("bob@"+domain, alicePassword)
	c := w.browser()
	w.onPage(w.atHome(c, bob), "account")
	w.pass(recentProof)
	p = w.manage(c, w.visit(c, "GET", "/myaccount", nil), "action", "totp")
	w.onPage(p, "signin")
	p = w.manage(c, p, "loginfmt", bob.UPN, "passwd", alicePassword)
	w.onPage(p, "enrol")
}

// TestAccountAttacks: one line each.
func TestAccountAttacks(t *testing.T) {
	w := newWorld(t)
	bob := w.user("bob@"+domain, alicePassword)
	b, c := w.browser(), w.browser()
	mine, theirs := w.atHome(b, w.alice), w.atHome(c, bob)
	w.onPage(mine, "account")
	w.onPage(theirs, "account")
	session := w.sessionsOf(bob)[0].ID.String()
	cookie := w.cookies(b, browserCookie)
	refused := func(what string, p sheet) {
		t.Helper()
		if p.status < 400 && p.status != 303 || p.page == "enrol" || p.page == "codes" {
			t.Errorf("%s: HTTP %d, page %q", what, p.status, p.page)
		}
	}
	refused("another user's session", w.manage(b, mine, "action", "end "+session))
	refused("another user's form", w.manage(b, theirs, "action", "totp"))
	refused("no cookie", w.manage(w.browser(), mine, "action", "totp"))
	refused("from another site", w.visit(b, "POST", "/myaccount", values("state", mine.state, "action", "everywhere"), "Sec-Fetch-Site", "cross-site"))
	refused("from another origin", w.visit(b, "POST", "/myaccount", values("state", mine.state, "action", "everywhere"), "Sec-Fetch-Site", "", "Origin", "https://evil.test"))
	refused("no state", w.manage(b, sheet{}, "action", "everywhere"))
	refused("no action", w.manage(b, mine))
	refused("another action", w.manage(b, mine, "action", "admin"))
	refused("a form of the sign-in page", w.manage(b, w.visit(b, "GET", w.authorizeURL("prompt", "login"), nil), "action", "totp"))
	refused("a link that does something", w.visit(b, "GET", "/myaccount?action=everywhere", nil).orOK())
	if len(w.sessionsOf(bob)) != 1 || len(w.sessionsOf(w.alice)) != 1 {
		t.Error("a session was ended")
	}
	planted := w.browser()
	p := w.visit(planted, "GET", "/myaccount", nil)
	before := w.cookies(planted, accountPage.cookie)
	w.onPage(w.manage(planted, p, "loginfmt", bob.UPN, "passwd", alicePassword), "account")
	if w.cookies(planted, accountPage.cookie) == before || w.cookies(planted, browserCookie) == cookie {
		t.Error("a cookie from before the sign-in is good after it")
	}
	w.pass(pageLife)
	refused("a page that was open too long", w.manage(b, mine, "action", "everywhere"))
	must(t, w.dir.RevokeSessions(context.Background(), directory.System, w.alice.ID))
	w.onPage(w.visit(b, "GET", "/myaccount", nil), "signin")
}

// orOK passes a page that shows itself and does nothing.
func (p sheet) orOK() sheet {
	if p.page == "account" {
		p.status = 400
	}
	return p
}

// TestPasswordChangeLosesRace: an administrator's reset in the same instant as the person's own change wins.
func TestPasswordChangeLosesRace(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	p := w.manage(b, w.atHome(b, w.alice), "action", "password")
	w.onPage(p, "password")
	// The reset comes between the change of the password and the session that goes on from it.
	reset := false
	w.srv.Rand = readerFunc(func(out []byte) (int, error) {
		if changed := directory.In(w.srv.Feed.View()).User(w.alice.ID).SessionsValidFrom != 0; changed && !reset {
			reset = true
			must(t, w.dir.ResetPassword(context.Background(), directory.System, w.alice.ID, "Admin-Chose-12", false))
		}
		clear(out)
		out[0] = 7
		return len(out), nil
	})
	p = w.manage(b, p, "currentPassword", alicePassword, "newPassword", "Fresh-Paint-11", "confirmNewPassword", "Fresh-Paint-11")
	if !reset {
		t.Fatal("the reset did not come in between")
	}
	if p.page == "account" {
		t.Error("the session outlives the reset")
	}
	for _, session := range w.sessionsOf(w.alice) {
		if In(w.srv.Feed.View()).CheckSession(w.named("Alice.A"), w.named("Alice.A"), session.ID, w.clock()) == nil {
			t.Error("a session is in force")
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestAccountSwitch: with several accounts in a browser the person chooses.
func TestAccountSwitch(t *testing.T) {
	w := newWorld(t)
	bob := w.user("bob@"+domain, alicePassword)
	b := w.browser()
	w.onPage(w.atHome(b, w.alice), "account")
	p := w.manage(b, w.visit(b, "GET", "/myaccount", nil), "action", "switch")
	w.onPage(p, "pick")
	p = w.manage(b, p, "account", "other")
	p = w.manage(b, p, "loginfmt", bob.UPN, "passwd", alicePassword)
	w.onPage(p, "account")
	p = w.manage(b, p, "action", "switch")
	p = w.manage(b, p, "account", w.sessionsOf(w.alice)[0].ID.String())
	if w.onPage(p, "account"); !strings.Contains(p.body, aliceName) {
		t.Error("not the one that was chosen")
	}
}
