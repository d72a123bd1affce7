package sts

import (
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

func TestLifetimesAsInEntra(t *testing.T) {
	w := newWorld(t)
	seen := map[float64]bool{}
	for range 8 {
		a := w.ok(w.ropc(aliceName, alicePassword, aksScope))
		in := a.body["expires_in"].(float64)
		if seen[in] = true; in < 3600 || in > 5400 {
			t.Errorf("expires_in %v", in)
		}
		if id := claims(t, a.text("id_token")); id["exp"].(float64)-id["iat"].(float64) != 3600 {
			t.Errorf("ID token %v", id)
		}
	}
	if len(seen) < 2 {
		t.Error("all access tokens expire at once")
	}
}

// TestLifetimes: what is configured holds, and nothing ends before the tokens that were made in it.
func TestLifetimes(t *testing.T) {
	w := newWorld(t)
	w.srv.Lifetimes = Lifetimes{Access: 8 * time.Hour, Refresh: 4 * time.Hour, Session: 30 * time.Minute}
	short := w.ok(w.ropc(aliceName, alicePassword, directory.AKSServer.String()+"/.default")) // no refresh token
	long := w.ok(w.ropc(aliceName, alicePassword, aksScope))
	for _, a := range []answer{short, long} {
		c := claims(t, a.text("access_token"))
		if a.body["expires_in"] != float64(8*3600) || c["exp"].(float64)-c["iat"].(float64) != 8*3600 {
			t.Errorf("expires_in %v, claims %v", a.body["expires_in"], c)
		}
	}
	w.pass(4*time.Hour - time.Second)
	again := w.ok(w.redeem(long.text("refresh_token"), directory.AzureCLI, aksScope))
	w.pass(time.Second)
	a := w.fails(w.redeem(long.text("refresh_token"), directory.AzureCLI, aksScope), 700082)
	if !strings.Contains(a.text("error_description"), "was inactive for 0.04:00:00.") {
		t.Errorf("%s", a.raw)
	}
	w.pass(4*time.Hour - time.Second)
	for range 10 { // each use renews it
		w.pass(-time.Second)
		again = w.ok(w.redeem(again.text("refresh_token"), directory.AzureCLI, aksScope))
		w.pass(3 * time.Hour)
	}
	must(t, w.verify(again.text("access_token")))
	w.pass(5*time.Hour - time.Second)
	must(t, w.verify(again.text("access_token"))) // to its end, though the refresh token has expired
	w.pass(time.Second)
	if w.verify(again.text("access_token")) == nil {
		t.Error("an access token outlives its life")
	}
}

func TestSessionLifetime(t *testing.T) {
	for _, c := range []struct {
		limit             time.Duration
		session, longLast time.Duration
	}{
		{0, 24 * time.Hour, 90 * 24 * time.Hour},
		{30 * time.Minute, 30 * time.Minute, 30 * time.Minute},
		{7 * 24 * time.Hour, 24 * time.Hour, 7 * 24 * time.Hour},
	} {
		for _, keep := range []bool{false, true} {
			w := newWorld(t)
			w.srv.Lifetimes.Session = c.limit
			b, life, more := w.browser(), c.session, []string(nil)
			if keep {
				life, more = c.longLast, []string{"LoginOptions", "1"}
			}
			p := w.enter(b, w.visit(b, "GET", w.authorizeURL(), nil), aliceName, alicePassword, more...)
			w.landed(p)
			w.pass(life - time.Second)
			if w.landed(w.again(b)).Get("code") == "" {
				t.Errorf("limit %s, keep %v: ended early", c.limit, keep)
			}
			w.pass(time.Second)
			if got := w.landed(w.visit(b, "GET", w.authorizeURL("prompt", "none"), nil)).Get("error"); got != "login_required" {
				t.Errorf("limit %s, keep %v: not ended: %q", c.limit, keep, got)
			}
		}
	}
}
