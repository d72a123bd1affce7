package sts

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// TestReuse is what becomes of a refresh token of a generation that was used: by default it is noted, and a strict server ends the
// session once all that share a cache must have a newer one.
func TestReuse(t *testing.T) {
	const (
		fine  = ""
		noted = "was used again after a newer one."
		late  = "was used long after it had been replaced."
		ended = "the session was ended."
	)
	cli := directory.AzureCLI
	type step struct {
		token int           // 0: of the sign-in; n: of the n-th step
		after time.Duration // since the step before
		note  string
	}
	for _, c := range []struct {
		name   string
		strict bool
		steps  []step
	}{
		{"each token once", true, []step{{0, time.Hour, fine}, {1, time.Hour, fine}, {2, time.Hour, fine}}},
		{"the newest token again and again", true, []step{{0, time.Hour, fine}, {0, time.Minute, fine}, {0, 8 * time.Minute, fine}, {0, time.Minute, ended}}},
		{"the newest token again and again, by default", false, []step{{0, time.Hour, fine}, {0, 10 * time.Minute, late}, {0, 24 * time.Hour, late}, {1, 0, fine}}},
		{"the answer got lost", true, []step{{0, time.Hour, fine}, {0, 9 * time.Minute, fine}, {2, time.Hour, fine}, {3, time.Hour, fine}}},
		{"two at the same time", true, []step{{0, time.Hour, fine}, {0, 0, fine}, {1, time.Second, fine}, {2, time.Second, fine}}},
		{"a redeemed token while its successor is unused", true, []step{{0, time.Hour, fine}, {0, 10 * time.Minute, ended}}},
		{"an older token within the grace", true, []step{{0, time.Hour, fine}, {1, 5 * time.Minute, fine}, {0, 4 * time.Minute, noted}, {2, time.Hour, fine}}},
		{"an older token that was replaced long before the newer one was used", true, []step{{0, time.Hour, fine}, {1, time.Hour, fine}, {0, 0, ended}}},
		{"an older token after the grace", true, []step{{0, time.Hour, fine}, {1, time.Hour, fine}, {0, 10 * time.Minute, ended}}},
		{"an older token after the grace, by default", false, []step{{0, time.Hour, fine}, {1, time.Hour, fine}, {0, 30 * time.Hour, late}, {2, time.Hour, fine}}},
		{"who brought an older token goes on", true, []step{{0, time.Hour, fine}, {1, 5 * time.Minute, fine}, {0, 4 * time.Minute, noted}, {3, time.Hour, fine}, {4, time.Hour, fine}}},
		{"an old token of a client that refreshes all the time", true, []step{
			{0, time.Minute, fine}, {1, 4 * time.Minute, fine}, {2, 4 * time.Minute, fine}, {3, 4 * time.Minute, fine}, {4, 4 * time.Minute, fine}, {5, 4 * time.Minute, fine}, {0, 4 * time.Minute, ended},
		}},
		{"a token that its line used just after it got it", true, []step{{0, time.Hour, fine}, {1, 5 * time.Minute, fine}, {1, 10 * time.Minute, ended}}},
		{"two lines that begin apart", true, []step{{0, time.Hour, fine}, {0, 30 * time.Minute, ended}}},
		{"two lines that begin together", true, []step{{0, time.Hour, fine}, {0, 5 * time.Minute, fine}, {1, 30 * time.Minute, fine}, {2, 30 * time.Minute, ended}}},
		{"two lines, each often", true, []step{
			{0, time.Hour, fine}, {0, time.Minute, fine}, {1, 4 * time.Minute, fine}, {3, 4 * time.Minute, fine}, {4, 4 * time.Minute, fine}, {5, 4 * time.Minute, fine}, {6, 4 * time.Minute, fine}, {2, 4 * time.Minute, ended},
		}},
		{"two lines, by default", false, []step{{0, time.Hour, fine}, {0, 30 * time.Minute, late}, {1, 30 * time.Minute, fine}, {2, 30 * time.Minute, late}, {3, 30 * time.Minute, fine}, {4, 30 * time.Minute, late}}},
		{"two lines from one token", true, []step{{0, time.Hour, fine}, {0, time.Minute, fine}, {2, time.Hour, fine}, {1, time.Hour, ended}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.srv.Strict = c.strict
			tokens := []string{w.ok(w.ropc(aliceName, alicePassword, aksScope)).text("refresh_token")}
			for i, s := range c.steps {
				w.pass(s.after)
				got := w.redeem(tokens[s.token], cli, aksScope)
				if s.note == ended {
					w.fails(got, 50173)
					w.fails(w.redeem(tokens[len(tokens)-1], cli, aksScope), 50173) // the thief's, or the person's: nobody can tell
				} else {
					w.ok(got)
				}
				tokens = append(tokens, got.text("refresh_token"))
				events := w.events()
				e := events[len(events)-1]
				if s.note == ended {
					e = events[len(events)-2]
				}
				if note := e.Details["note"]; (note != "") != (s.note != "") || !strings.HasSuffix(note, s.note) {
					t.Fatalf("step %d: note %q, want %q", i+1, note, s.note)
				}
			}
		})
	}
}

// TestStrictRemembers: what a strict server refuses does not hang on the process that saw the newer token.
func TestStrictRemembers(t *testing.T) {
	w := newWorld(t)
	w.srv.Strict = true
	old := w.ok(w.ropc(aliceName, alicePassword, aksScope)).text("refresh_token")
	w.pass(time.Hour)
	newer := w.ok(w.redeem(old, directory.AzureCLI, aksScope)).text("refresh_token")
	w.pass(time.Hour)
	w.fails(w.redeem(newer, directory.AzureCLI, "nonsense"), 70011) // which leaves nothing behind
	w.ok(w.redeem(newer, directory.AzureCLI, aksScope))
	w.pass(reuseGrace)
	other := &Server{Feed: w.srv.Feed, Directory: w.dir, Keys: w.srv.Keys, Authorities: w.srv.Authorities, Now: w.clock, Strict: true}
	w.http.Config.Handler = other.Handler()
	w.fails(w.redeem(old, directory.AzureCLI, aksScope), 50173)
	if n := len(In(w.srv.Feed.View()).SessionsOf(w.alice.ID)); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

// TestChainsAreOfPublicClients: a service that holds several refresh tokens of one session may use them in any order.
func TestChainsAreOfPublicClients(t *testing.T) {
	w := newWorld(t)
	w.srv.Strict = true
	app := w.app(directory.Application{DisplayName: "service"})
	w.grant(app, directory.ARM, "user_impersonation")
	_, secret, err := w.dir.AddAppSecret(t.Context(), directory.System, app.ID, directory.PasswordCredential{})
	must(t, err)
	ask := func(pairs ...string) answer {
		form := values(append(pairs, "client_id", app.AppID.String(), "client_secret", secret, "scope", armScope)...)
		return w.post(w.v2(), url.Values(form))
	}
	first := w.ok(ask("grant_type", "password", "username", aliceName, "password", alicePassword)).text("refresh_token")
	w.pass(time.Hour)
	second := w.ok(ask("grant_type", "refresh_token", "refresh_token", first)).text("refresh_token")
	w.pass(time.Hour)
	w.ok(ask("grant_type", "refresh_token", "refresh_token", second))
	w.pass(time.Hour)
	w.ok(ask("grant_type", "refresh_token", "refresh_token", first))
	for _, e := range w.events() {
		if e.Details["note"] != "" {
			t.Errorf("noted: %s", e.Details["note"])
		}
	}
}

// TestRefusedRefreshUsesNothing: a token that bought nothing is not used up, however long ago that was, and whatever replica is asked.
func TestRefusedRefreshUsesNothing(t *testing.T) {
	for _, strict := range []bool{true, false} {
		w := newWorld(t)
		w.srv.Strict = strict
		token := w.ok(w.ropc(aliceName, alicePassword, aksScope)).text("refresh_token")
		w.pass(time.Hour)
		w.fails(w.redeem(token, directory.AzureCLI, "nonsense"), 70011)
		w.pass(time.Hour)
		w.ok(w.redeem(token, directory.AzureCLI, aksScope))
		for _, e := range w.events() {
			if e.Details["note"] != "" {
				t.Errorf("strict %t: noted: %s", strict, e.Details["note"])
			}
		}
	}
}

// TestGenerationsOfSkewedClocks: a replica whose clock is behind gives tokens that are newer than the one it got all the same.
func TestGenerationsOfSkewedClocks(t *testing.T) {
	w := newWorld(t)
	w.srv.Strict = true
	token := w.ok(w.ropc(aliceName, alicePassword, aksScope)).text("refresh_token")
	w.pass(-time.Second)
	token = w.ok(w.redeem(token, directory.AzureCLI, aksScope)).text("refresh_token")
	for range 3 {
		w.pass(time.Hour)
		token = w.ok(w.redeem(token, directory.AzureCLI, aksScope)).text("refresh_token")
	}
}

// TestTwoUseOneGenerationAtOnce: whatever order the writes come in, the successors are of one generation, so that both lines do not live on.
func TestTwoUseOneGenerationAtOnce(t *testing.T) {
	var c Chain
	start := time.Unix(1000, 0)
	first, second := c.use(1, start), c.use(1, start.Add(time.Second))
	chains, kept := advance(nil, first)
	chains, second = advance(chains, second)
	if kept.next() != second.next() || chains[0] != first {
		t.Errorf("generations %d and %d of %+v", kept.next(), second.next(), chains)
	}
}

// TestRefreshTokenOfEarlierVersion: one that names no generation is of the time at which it was issued, and is noticed like others.
func TestRefreshTokenOfEarlierVersion(t *testing.T) {
	w := newWorld(t)
	w.srv.Strict = true
	text, err := w.srv.vault.open(t.Context(), refreshPurpose, w.ok(w.ropc(aliceName, alicePassword, aksScope)).text("refresh_token"))
	must(t, err)
	var token refreshToken
	must(t, json.Unmarshal(text, &token))
	token.Generation = 0
	text, err = json.Marshal(token)
	must(t, err)
	old, err := w.srv.vault.seal(t.Context(), refreshPurpose, text)
	must(t, err)
	w.pass(time.Hour)
	next := w.ok(w.redeem(old, directory.AzureCLI, aksScope)).text("refresh_token")
	w.pass(time.Hour)
	w.ok(w.redeem(next, directory.AzureCLI, aksScope))
	w.fails(w.redeem(old, directory.AzureCLI, aksScope), 50173)
}
