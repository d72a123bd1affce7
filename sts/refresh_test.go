package sts

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
)

// redeem sends a refresh token as MSAL does.
func (w *world) redeem(refresh string, client directory.ID, scope string) answer {
	w.t.Helper()
	return w.post("/"+w.tenant.ID.String()+"/oauth2/v2.0/token", values("grant_type", "refresh_token", "client_id", client.String(),
		"client_info", "1", "refresh_token", refresh, "scope", scope))
}

func TestRefresh(t *testing.T) {
	w := newWorld(t)
	cli := directory.AzureCLI
	before := w.ok(w.ropc(aliceName, alicePassword, armScope))
	session := claims(t, before.text("access_token"))["sid"]
	w.pass(time.Hour)

	after := w.ok(w.redeem(before.text("refresh_token"), cli, aksScope))
	c := claims(t, after.text("access_token"))
	if c["aud"] != directory.AKSServer.String() || c["sid"] != session || c["iat"] != float64(w.clock().Unix()) || w.verify(after.text("access_token")) != nil {
		t.Errorf("claims %v", c)
	}
	if after.text("refresh_token") == before.text("refresh_token") || after.text("id_token") == "" || after.text("client_info") != before.text("client_info") || after.text("foci") != "1" {
		t.Errorf("answer %s", after.raw)
	}
	w.ok(w.redeem(before.text("refresh_token"), cli, "https://graph.microsoft.com/.default")) // the old one stays valid
	same := w.ok(w.redeem(after.text("refresh_token"), cli, ""))
	if aud := claims(t, same.text("access_token"))["aud"]; aud != directory.AKSServer.String() {
		t.Errorf("without a scope it is for %v", aud)
	}
	v1 := w.ok(w.post(w.v1(), values("grant_type", "refresh_token", "client_id", cli.String(), "refresh_token", same.text("refresh_token"), "resource", "https://management.azure.com/")))
	if v1.text("refresh_token") == "" || v1.text("resource") != "https://management.azure.com/" {
		t.Errorf("version 1: %s", v1.raw)
	}
	w.ok(w.redeem(v1.text("refresh_token"), cli, "")) // what was asked for at version 1 is understood at version 2
	w.ok(w.post("/organizations/oauth2/v2.0/token", values("grant_type", "refresh_token", "client_id", cli.String(), "refresh_token", before.text("refresh_token"), "scope", armScope)))
	w.ok(w.post("/common/oauth2/v2.0/token", values("grant_type", "refresh_token", "client_id", cli.String(), "refresh_token", before.text("refresh_token"), "scope", armScope)))

	a := w.fails(w.redeem(before.text("refresh_token"), directory.AKSClient, aksScope), 70000)
	if a.text("suberror") != "client_mismatch" || a.text("error") != "invalid_grant" || a.status != 400 {
		t.Errorf("a client outside the family: %s", a.raw)
	}
	if a := w.ropc(aliceName, alicePassword, "https://graph.microsoft.com/.default"); a.text("refresh_token") != "" || a.text("id_token") != "" {
		t.Error("a refresh token that nobody asked for")
	}
}

// TestRefreshAfter: what ends a refresh token, with the code that clients and people see.
func TestRefreshAfter(t *testing.T) {
	ctx := t.Context()
	for _, c := range []struct {
		name string
		do   func(w *world)
		code int
		sub  string
	}{
		{"the account is disabled", func(w *world) { w.setUser(w.alice.ID, func(u *directory.User) { u.Enabled = false }) }, 50057, ""},
		{"the account is deleted", func(w *world) { must(t, w.dir.DeleteUser(ctx, directory.System, w.alice.ID)) }, 50173, "bad_token"},
		{"the password was reset", func(w *world) {
			must(t, w.dir.ResetPassword(ctx, directory.System, w.alice.ID, "Another-Pass-3", false))
		}, 50173, "bad_token"},
		{"the password was changed", func(w *world) {
			_, err := w.dir.ChangePassword(ctx, directory.Actor{ID: w.alice.ID, Tenant: w.tenant.ID}, alicePassword, "Another-Pass-3")
			must(t, err)
		}, 50173, "bad_token"},
		{"the sessions were revoked", func(w *world) { must(t, w.dir.RevokeSessions(ctx, directory.System, w.alice.ID)) }, 50173, "bad_token"},
		{"the sessions were revoked and swept", func(w *world) {
			must(t, w.dir.RevokeSessions(ctx, directory.System, w.alice.ID))
			must(t, w.srv.Sweep(ctx))
		}, 50173, "bad_token"},
		{"90 days without use", func(w *world) { w.pass(refreshLife) }, 700082, "bad_token"},
		{"90 days without use, swept", func(w *world) { w.pass(refreshLife); must(t, w.srv.Sweep(ctx)) }, 700082, "bad_token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			a := w.ok(w.ropc(aliceName, alicePassword, aksScope))
			w.pass(time.Second)
			c.do(w)
			if got := w.fails(w.redeem(a.text("refresh_token"), directory.AzureCLI, aksScope), c.code); got.text("suberror") != c.sub {
				t.Errorf("suberror %q", got.text("suberror"))
			}
			if err := w.verify(a.text("access_token")); err == nil {
				t.Error("the access token still verifies")
			}
		})
	}
}

// TestSessionSlides: a session that is used lasts, and is written at most once a day.
func TestSessionSlides(t *testing.T) {
	w := newWorld(t)
	token := w.ok(w.ropc(aliceName, alicePassword, aksScope)).text("refresh_token")
	for range 5 {
		w.pass(60 * 24 * time.Hour)
		token = w.ok(w.redeem(token, directory.AzureCLI, aksScope)).text("refresh_token")
	}
	at := w.srv.Feed.View().Revision
	for range 5 {
		w.pass(time.Hour)
		token = w.ok(w.redeem(token, directory.AzureCLI, aksScope)).text("refresh_token")
	}
	if now := w.srv.Feed.View().Revision; now != at {
		t.Errorf("five refreshes in five hours wrote %d revisions", now-at)
	}
	w.pass(20 * time.Hour)
	w.ok(w.redeem(token, directory.AzureCLI, aksScope))
	if now := w.srv.Feed.View().Revision; now != at+1 {
		t.Errorf("a refresh after a day wrote %d revisions", now-at)
	}
}

func TestSweep(t *testing.T) {
	w := newWorld(t)
	w.ok(w.ropc(aliceName, alicePassword, "https://graph.microsoft.com/.default")) // no refresh token: a short session
	w.ok(w.ropc(aliceName, alicePassword, aksScope))
	count := func() int {
		must(t, w.srv.Sweep(t.Context()))
		return len(In(w.srv.Feed.View()).SessionsOf(w.alice.ID))
	}
	if n := count(); n != 2 {
		t.Errorf("%d sessions in force", n)
	}
	w.pass(shortSession)
	if n := count(); n != 1 {
		t.Errorf("%d sessions after the short one", n)
	}
	w.setUser(w.alice.ID, func(u *directory.User) { u.Enabled = false })
	if n := count(); n != 1 {
		t.Error("disabling an account for a while ended its sessions")
	}
	must(t, w.dir.DeleteUser(t.Context(), directory.System, w.alice.ID))
	if n := count(); n != 0 {
		t.Errorf("%d sessions of a deleted user", n)
	}
}

// TestSealed: one bit changed anywhere, a text sealed for something else, and garbage do not open; a new key opens the old.
func TestSealed(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	sealed, err := w.srv.vault.seal(ctx, "a", []byte("text"))
	must(t, err)
	if text, err := w.srv.vault.open(ctx, "a", sealed); err != nil || string(text) != "text" {
		t.Fatalf("%q, %v", text, err)
	}
	raw, err := base64.RawURLEncoding.DecodeString(sealed)
	must(t, err)
	for i := range raw {
		raw[i] ^= 1
		if _, err := w.srv.vault.open(ctx, "a", base64.RawURLEncoding.EncodeToString(raw)); err != errSealed {
			t.Errorf("byte %d changed: %v", i, err)
		}
		raw[i] ^= 1
	}
	for _, bad := range []string{"", "A", sealed + "A", sealed[:len(sealed)-2], strings.Repeat("A", maxSealed+1), "!" + sealed[1:], "AQAAAAE"} {
		if _, err := w.srv.vault.open(ctx, "a", bad); err != errSealed {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
	if _, err := w.srv.vault.open(ctx, "b", sealed); err != errSealed {
		t.Errorf("sealed for another purpose: %v", err)
	}

	other := &vault{feed: w.srv.Feed, now: w.clock, random: w.srv.random()} // another replica
	w.pass(sealLife)
	must(t, w.srv.vault.roll(ctx))
	must(t, w.srv.vault.roll(ctx))
	if n := len(w.srv.vault.ring.Load().Keys); n != 2 {
		t.Errorf("%d keys after one roll", n)
	}
	if _, err := other.open(ctx, "a", sealed); err != nil {
		t.Error(err)
	}
	fresh, err := w.srv.vault.seal(ctx, "a", []byte("new"))
	must(t, err)
	w.pass(sealLife)
	must(t, w.srv.vault.roll(ctx))
	newest, err := w.srv.vault.seal(ctx, "a", []byte("newest"))
	must(t, err)
	for _, s := range []string{sealed, fresh, newest} {
		if _, err := other.open(ctx, "a", s); err != nil {
			t.Errorf("another replica: %v", err)
		}
	}
	for range 4 {
		w.pass(sealLife)
		must(t, w.srv.vault.roll(ctx))
	}
	if _, err := w.srv.vault.open(ctx, "a", sealed); err != errSealed {
		t.Error("a key is kept for ever")
	}
	h1, err := w.srv.vault.hash(ctx, "x", "code")
	must(t, err)
	h2, err := other.hash(ctx, "x", "code")
	must(t, err)
	h3, err := other.hash(ctx, "y", "code")
	must(t, err)
	if h1 != h2 || h1 == h3 {
		t.Error("hashes of codes change with the token keys, or not with the purpose")
	}
}

// TestSessionsAreBounded: a program that signs in anew each time keeps the newest sessions, and does not end those of others.
func TestSessionsAreBounded(t *testing.T) {
	w := newWorld(t)
	other := w.ok(w.post(w.v2(), values("grant_type", "password", "client_id", directory.AKSClient.String(), "username", aliceName,
		"password", alicePassword, "scope", aksScope)))
	var all []answer
	signIn := func(n int) {
		for range n {
			w.pass(time.Second)
			all = append(all, w.ok(w.ropc(aliceName, alicePassword, aksScope)))
		}
	}
	signIn(maxSessions)
	w.pass(48 * time.Hour)
	w.ok(w.redeem(all[0].text("refresh_token"), directory.AzureCLI, aksScope)) // the first one is used again
	signIn(2)
	if n := len(In(w.srv.Feed.View()).SessionsOf(w.alice.ID)); n != maxSessions+1 {
		t.Errorf("%d sessions, want %d of the one client and one of the other", n, maxSessions)
	}
	for i, code := range map[int]int{0: 0, 1: 50173, 2: 50173, 3: 0, maxSessions + 1: 0} {
		if got := w.redeem(all[i].text("refresh_token"), directory.AzureCLI, aksScope); got.code() != code {
			t.Errorf("sign-in %d: AADSTS%d, want %d", i, got.code(), code)
		}
	}
	w.ok(w.redeem(other.text("refresh_token"), directory.AKSClient, aksScope))
}

// TestSessionIndex: the index of users agrees with the sessions, whatever is put, moved and removed, in one change or several.
func TestSessionIndex(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	state := new(State)
	for range 300 {
		var records []feed.Record
		for range 1 + random.IntN(20) {
			v := Session{ID: directory.ID{15: byte(random.IntN(40))}, User: directory.ID{15: byte(random.IntN(4))}, Began: random.Int64()}
			if random.IntN(3) == 0 {
				records = append(records, endSession(&v))
			} else {
				records = append(records, sessionRecord(&v))
			}
		}
		before := map[directory.ID]int{}
		for i := range 4 {
			user := directory.ID{15: byte(i)}
			before[user] = len(state.SessionsOf(user))
		}
		next, err := state.Apply(records)
		must(t, err)
		for user, n := range before {
			if got := len(state.SessionsOf(user)); got != n {
				t.Fatalf("a change altered the state before it: %d sessions of %d", got, n)
			}
		}
		state = next.(*State)
		want := map[directory.ID]map[directory.ID]bool{}
		total := 0
		for id, v := range state.sessions.All() {
			if want[v.User] == nil {
				want[v.User] = map[directory.ID]bool{}
			}
			want[v.User][id] = true
			total++
		}
		for i := range 4 {
			user := directory.ID{15: byte(i)}
			for _, v := range state.SessionsOf(user) {
				if !want[user][v.ID] {
					t.Fatalf("the index has a session too many")
				}
				total--
			}
		}
		if total != 0 {
			t.Fatalf("the index misses %d sessions", total)
		}
	}
}

// TestUnknownSealingKey: whoever names a key that was never there gets no look at the database for it, and keeps nobody waiting.
func TestUnknownSealingKey(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	sealed, err := w.srv.vault.seal(ctx, "a", []byte("text"))
	must(t, err)
	raw, err := base64.RawURLEncoding.DecodeString(sealed)
	must(t, err)
	w.srv.vault.mu.Lock() // as if the ring were being read, for ever
	defer w.srv.vault.mu.Unlock()
	binary.BigEndian.PutUint32(raw[1:5], 0xffffffff)
	if _, err := w.srv.vault.open(ctx, "a", base64.RawURLEncoding.EncodeToString(raw)); !errors.Is(err, errSealed) {
		t.Errorf("a key that was never there: %v", err)
	}
	if _, err := w.srv.vault.open(ctx, "a", sealed); err != nil {
		t.Errorf("a key that is there: %v", err)
	}
}
