package sts

import (
	"net/http"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// TestProofAttacks: what somebody tries who knows a password, or sits at an open screen, to get round the second factor, one line each.
func TestProofAttacks(t *testing.T) {
	const fresh = "Fresh-Paint-11"
	factors := func(w *world) []directory.Method { return directory.In(w.srv.Feed.View()).User(w.alice.ID).Methods }
	enrol := func(w *world, b *http.Client) sheet { // Alice's own first factor, on her account page
		p := w.manage(b, w.atHome(b, w.alice), "action", "totp")
		p = w.manage(b, w.manage(b, p, "code", w.totp(w.seedOf(p))))
		w.onPage(p, "account")
		return p
	}
	for _, c := range []struct {
		name string
		try  func(t *testing.T, w *world, b *http.Client)
	}{
		{"another person's passkey in the place of a code, in a browser", func(t *testing.T, w *world, b *http.Client) {
			w.withPasskeys(t)
			_, key := w.withPasskey(t, "mallory")
			w.enrolled(w.alice)
			w.setMFA(w.alice, directory.MFAEnforced)
			signin := w.visit(b, "GET", w.authorizeURL(), nil)
			p := w.enter(b, signin, aliceName, alicePassword)
			w.onPage(p, "second")
			key.count++
			w.onPage(w.step(b, p, "credential", key.sign("webauthn.get", options(t, signin).Challenge)), "second")
		}},
		{"another person's passkey in the place of a code, at the device page", func(t *testing.T, w *world, b *http.Client) {
			w.withPasskeys(t)
			_, key := w.withPasskey(t, "mallory")
			w.enrolled(w.alice)
			w.setMFA(w.alice, directory.MFAEnforced)
			started := w.startDevice(t, aksScope)
			signin := w.next(b, w.visit(b, "GET", "/devicelogin", nil), "otc", started.text("user_code"))
			w.onPage(signin, "signin")
			p := w.next(b, signin, "loginfmt", aliceName, "passwd", alicePassword)
			w.onPage(p, "second")
			key.count++
			w.onPage(w.next(b, p, "credential", key.sign("webauthn.get", options(t, signin).Challenge)), "second")
		}},
		{"another person's passkey on the account page", func(t *testing.T, w *world, b *http.Client) {
			w.withPasskeys(t)
			_, key := w.withPasskey(t, "mallory")
			w.enrolled(w.alice)
			w.setMFA(w.alice, directory.MFAEnforced)
			signin := w.visit(b, "GET", "/myaccount", nil)
			p := w.manage(b, signin, "loginfmt", aliceName, "passwd", alicePassword)
			w.onPage(p, "second")
			key.count++
			w.onPage(w.manage(b, p, "credential", key.sign("webauthn.get", options(t, signin).Challenge)), "second")
		}},
		{"a change of the password makes an old factor a recent one", func(t *testing.T, w *world, b *http.Client) {
			enrol(w, b)
			w.pass(12 * time.Hour)
			p := w.manage(b, w.visit(b, "GET", "/myaccount", nil), "action", "password")
			p = w.manage(b, p, "currentPassword", alicePassword, "newPassword", fresh, "confirmNewPassword", fresh)
			w.onPage(p, "account")
			w.onPage(w.manage(b, p, "action", "remove "+factors(w)[0].ID.String()), "second")
			if len(factors(w)) == 0 {
				t.Error("the factor was removed with the password alone")
			}
		}},
		{"the form of a new password outlives a revocation", func(t *testing.T, w *world, b *http.Client) {
			form := w.manage(b, enrol(w, b), "action", "password")
			w.onPage(form, "password")
			must(t, w.dir.RevokeSessions(t.Context(), directory.System, w.alice.ID))
			w.pass(time.Minute)
			w.manage(b, form, "currentPassword", alicePassword, "newPassword", fresh, "confirmNewPassword", fresh)
			w.fails(w.ropc(aliceName, fresh, aksScope), 50126)
		}},
		{"the form of a new factor outlives a sign-out", func(t *testing.T, w *world, b *http.Client) {
			form := w.manage(b, w.atHome(b, w.alice), "action", "totp")
			p := w.visit(b, "GET", "/common/oauth2/v2.0/logout", nil)
			w.onPage(w.visit(b, "POST", "/signout", values("state", p.state)), "done")
			w.manage(b, form, "code", w.totp(w.seedOf(form)))
			if len(factors(w)) != 0 {
				t.Error("a factor was added")
			}
		}},
		{"the form of a new factor outlives its session", func(t *testing.T, w *world, b *http.Client) {
			form := w.manage(b, w.atHome(b, w.alice), "action", "totp")
			owner, id := w.browser(), w.sessionsOf(w.alice)[0].ID.String()
			w.pass(time.Second)
			w.onPage(w.manage(owner, w.atHome(owner, w.alice), "action", "end "+id), "account")
			w.manage(b, form, "code", w.totp(w.seedOf(form)))
			if len(factors(w)) != 0 {
				t.Error("a factor was added")
			}
		}},
		{"the form of a new factor is kept open", func(t *testing.T, w *world, b *http.Client) {
			p := w.manage(b, w.atHome(b, w.alice), "action", "totp")
			seed := w.seedOf(p)
			w.pass(recentProof - time.Minute)
			p = w.manage(b, p, "code", "000000")
			w.onPage(p, "enrol")
			w.pass(time.Minute)
			w.onPage(w.manage(b, p, "code", w.totp(seed)), "signin")
			if len(factors(w)) != 0 {
				t.Error("a factor was added")
			}
		}},
		{"a second form of a first factor, open before the first was added", func(t *testing.T, w *world, b *http.Client) {
			early := w.manage(b, w.atHome(b, w.alice), "action", "totp")
			seed := w.seedOf(early)
			w.enrolled(w.alice)
			w.onPage(w.manage(b, early, "code", w.totp(seed)), "second")
			if _, err := w.dir.AddTOTP(t.Context(), w.alice.ID, w.alice.ID, seed, w.totp(seed), false); err == nil {
				t.Error("a factor was added without the one that there is")
			}
		}},
		{"an image on another page takes the session away", func(t *testing.T, w *world, b *http.Client) {
			w.code(b)
			w.load(b, "GET", "/common/oauth2/v2.0/logout", nil, "Sec-Fetch-Dest", "image", "Sec-Fetch-Site", "same-site")
			w.landed(w.again(b))
		}},
		{"a member opens the link of somebody else's invitation", func(t *testing.T, w *world, b *http.Client) {
			guest, err := w.dir.Invite(t.Context(), directory.System, directory.Invitation{Tenant: w.tenant.ID, Address: "x@elsewhere.example", Redirect: "https://evil.example/x"})
			must(t, err)
			w.code(b)
			if p := w.confirmed(b, w.visit(b, "GET", "/redeem?tenant="+w.tenant.ID.String()+"&user="+guest.ID.String(), nil)); p.header.Get("Location") != "" {
				t.Errorf("sent to %s", p.header.Get("Location"))
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			c.try(t, w, w.browser())
		})
	}
}
