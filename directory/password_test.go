package directory

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/fault"
)

func TestPasswordRules(t *testing.T) {
	for _, c := range []struct {
		name, password string
		ok             bool
	}{
		{"three kinds of characters", "abcDEF12", true},
		{"lower, digits and symbols", "abc-def-12", true},
		{"other scripts count as symbols", "пароль-Ab", true},
		{"spaces are allowed", "Correct horse 7", true},
		{"too short", "aB1-xyz", false},
		{"too long", strings.Repeat("aB1-", 65), false},
		{"two kinds", "abcdef123", false},
		{"one kind", "abcdefgh", false},
		{"empty", "", false},
		{"the user's name in it", "Xx-alice-99", false},
		{"the user's name in another letter case", "Xx-ALICE-99", false},
		{"a control character", "abcDEF12\x00", false},
	} {
		if err := CheckPassword(c.password, "Alice@"+domain); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		} else if err != nil && c.password != "" && strings.Contains(err.Error(), c.password) {
			t.Errorf("%s: the message shows the password: %v", c.name, err)
		}
	}
	if err := CheckPassword("Ed-and-others-1", "ed@"+domain); err != nil {
		t.Errorf("a very short name does not count: %v", err)
	}
}

func TestHasher(t *testing.T) {
	ctx := context.Background()
	h := &Hasher{Cost: Cost{Time: 1, Memory: 64, Threads: 1}}
	a, err := h.Hash(ctx, password)
	must(t, err)
	b, err := h.Hash(ctx, password)
	must(t, err)
	if bytes.Equal(a, b) || bytes.Contains(a, []byte(password)) || !bytes.HasPrefix(a, []byte("$argon2id$v=19$m=64,t=1,p=1$")) {
		t.Errorf("hashes %s and %s", a, b)
	}
	for name, c := range map[string]struct {
		hash     []byte
		password string
		want     bool
	}{
		"right": {a, password, true}, "salted anew": {b, password, true}, "wrong": {a, password + "x", false},
		"empty": {a, "", false}, "unknown account": {nil, password, false},
	} {
		if got, err := h.Verify(ctx, c.hash, c.password); got != c.want || err != nil {
			t.Errorf("%s: %t %v", name, got, err)
		}
	}
	// A hash made with another cost is checked with that cost, so that the cost may be raised.
	if ok, err := (&Hasher{Cost: Cost{Time: 2, Memory: 128, Threads: 2}}).Verify(ctx, a, password); !ok || err != nil {
		t.Errorf("a hash of an older cost: %t %v", ok, err)
	}
	for _, bad := range []string{"", "x", "$bcrypt$v=19$m=64,t=1,p=1$c2FsdA$a2V5", "$argon2id$v=18$m=64,t=1,p=1$c2FsdA$a2V5", "$argon2id$v=19$m=64,t=1,p=1$!$a2V5"} {
		if ok, err := h.Verify(ctx, []byte(bad), password); ok || err == nil {
			t.Errorf("stored %q: %t %v", bad, ok, err)
		}
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	full := &Hasher{Cost: h.Cost}
	full.init()
	for range cap(full.slots) {
		full.slots <- struct{}{}
	}
	if _, err := full.Hash(ended, password); err != context.Canceled {
		t.Errorf("a caller that has left the queue: %v", err)
	}
}

func TestChangeAndResetPassword(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	const next = "Better-Horse-8"
	verify := func(want string, not string) {
		t.Helper()
		u := w.State().User(alice.ID)
		if ok, err := w.VerifyPassword(w.ctx, u, want); !ok || err != nil {
			t.Errorf("%s: %t %v", want, ok, err)
		}
		if ok, err := w.VerifyPassword(w.ctx, u, not); ok || err != nil {
			t.Errorf("%s: %t %v", not, ok, err)
		}
	}
	if _, err := w.ChangePassword(w.ctx, as(alice.ID), "Wrong-Horse-7", next); err != ErrWrongPassword {
		t.Errorf("a wrong present password: %v", err)
	}
	wantKind(t, "the present one again", changed(w.ChangePassword(w.ctx, as(alice.ID), password, password)), fault.Invalid)
	wantKind(t, "a bad new one", changed(w.ChangePassword(w.ctx, as(alice.ID), password, "short")), fault.Invalid)
	verify(password, next)
	w.advance(time.Minute)
	must(t, changed(w.ChangePassword(w.ctx, as(alice.ID), password, next)))
	verify(next, password)
	if got := w.State().User(alice.ID).SessionsValidFrom; got != w.clock().UnixNano() {
		t.Errorf("sessions are valid from %d", got)
	}

	wantKind(t, "Bob resets Alice's password", w.ResetPassword(w.ctx, as(bob.ID), alice.ID, password, false), fault.Denied)
	wantKind(t, "Bob does so with a bad one", w.ResetPassword(w.ctx, as(bob.ID), alice.ID, "x", false), fault.Denied)
	wantKind(t, "an empty one", w.ResetPassword(w.ctx, as(w.admin.ID), alice.ID, "", false), fault.Invalid)
	verify(next, password)
	must(t, w.ResetPassword(w.ctx, as(w.admin.ID), alice.ID, password, true))
	verify(password, next)
	if !w.State().User(alice.ID).MustChange {
		t.Error("the password need not be changed")
	}
	must(t, changed(w.ChangePassword(w.ctx, as(alice.ID), password, next)))
	if w.State().User(alice.ID).MustChange {
		t.Error("the password has to be changed again")
	}
	wantKind(t, "an account without a password", changed(w.ChangePassword(w.ctx, as(MustParseID("00000000-0000-4000-8000-000000000001")), password, next)), fault.NotFound)
}

func TestAppSecrets(t *testing.T) {
	w := newWorld(t)
	app, sp := w.app("robot")
	by := as(w.admin.ID)
	verify := func(object ID, list []PasswordCredential, secret string) *PasswordCredential {
		t.Helper()
		c, err := w.VerifyAppSecret(w.ctx, object, list, secret)
		must(t, err)
		return c
	}
	if verify(app.ID, nil, "") != nil {
		t.Error("an application without a secret has one")
	}
	first, secret1, err := w.AddAppSecret(w.ctx, by, app.ID, PasswordCredential{DisplayName: "one"})
	must(t, err)
	second, secret2, err := w.AddAppSecret(w.ctx, by, app.ID, PasswordCredential{End: w.clock().Add(time.Hour)})
	must(t, err)
	third, secret3, err := w.AddAppSecret(w.ctx, by, sp.ID, PasswordCredential{})
	must(t, err)
	if len(secret1) != 43 || secret1 == secret2 || first.Hint != secret1[:3] || !first.End.Equal(w.clock().AddDate(2, 0, 0)) || !first.Start.Equal(w.clock()) {
		t.Errorf("a credential: %+v", first)
	}
	list := w.State().Application(app.ID).Passwords
	if len(list) != 2 || list[1].KeyID != second.KeyID {
		t.Fatalf("credentials: %+v", list)
	}
	for want, secret := range map[ID]string{first.KeyID: secret1, second.KeyID: secret2} {
		if c := verify(app.ID, list, secret); c == nil || c.KeyID != want {
			t.Errorf("secret of %s: %+v", want, c)
		}
	}
	for name, wrong := range map[string]string{"empty": "", "of another object": secret3, "longer": secret1 + "x", "the key id": first.KeyID.String()} {
		if verify(app.ID, list, wrong) != nil {
			t.Errorf("%s is a secret", name)
		}
	}
	if c := verify(sp.ID, w.State().ServicePrincipal(sp.ID).Passwords, secret3); c == nil || c.KeyID != third.KeyID {
		t.Errorf("the service principal's own: %+v", c)
	}
	kept, err := w.Feed.Secret(w.ctx, KindAppSecret, pair(app.ID, first.KeyID))
	must(t, err)
	if bytes.Contains(kept.Body, []byte(secret1)) || len(kept.Body) != 32 {
		t.Errorf("the store holds %q", kept.Body)
	}

	must(t, w.RemoveAppSecret(w.ctx, by, app.ID, first.KeyID))
	wantKind(t, "removing twice", w.RemoveAppSecret(w.ctx, by, app.ID, first.KeyID), fault.Invalid)
	if verify(app.ID, list, secret1) != nil { // even with the list from before
		t.Error("a removed secret is still good")
	}
	_, _, err = w.AddAppSecret(w.ctx, by, app.ID, PasswordCredential{End: w.clock()})
	wantKind(t, "a secret that has ended", err, fault.Invalid)
	_, _, err = w.AddAppSecret(w.ctx, as(w.user("bob").ID), app.ID, PasswordCredential{})
	wantKind(t, "a secret by Bob", err, fault.Denied)
	graph := w.State().ServicePrincipalByName(w.tenant.ID, Graph.String())
	_, _, err = w.AddAppSecret(w.ctx, by, graph.ID, PasswordCredential{})
	wantKind(t, "a secret for Microsoft Graph", err, fault.Invalid)

	must(t, w.DeleteApplication(w.ctx, by, app.ID))
	if verify(app.ID, list, secret2) != nil || verify(sp.ID, []PasswordCredential{third}, secret3) != nil {
		t.Error("secrets outlive their application")
	}
	if w.State().ServicePrincipal(sp.ID) != nil || w.State().ApplicationByAppID(app.AppID) != nil {
		t.Error("the application is still there")
	}
}

// changed is the error of a password change.
func changed(_ int64, err error) error { return err }
