package sts

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
)

// TestStale: a replica that has not heard from its database gives nobody a token.
func TestStale(t *testing.T) {
	w := newWorld(t)
	a := w.ok(w.ropc(aliceName, alicePassword, aksScope))
	w.mu.Lock()
	w.now = w.now.Add(feed.DefaultMaxStaleness + time.Second)
	w.mu.Unlock()
	if got := w.fails(w.redeem(a.text("refresh_token"), directory.AzureCLI, aksScope), 90033); got.status != 503 || got.header.Get("Retry-After") == "" {
		t.Errorf("HTTP %d %v", got.status, got.header)
	}
	w.pass(0)
	w.ok(w.redeem(a.text("refresh_token"), directory.AzureCLI, aksScope))
}

// TestAudit: a sign-in can be followed from the answer to the event, and no event holds a secret.
func TestAudit(t *testing.T) {
	w := newWorld(t)
	a := w.ok(w.ropc(aliceName, alicePassword, aksScope))
	w.fails(w.ropc("hunter2", "x", aksScope), 50034) // a password typed as the user name
	started := w.startDevice(t, aksScope)
	w.fails(w.poll(started), 70016)
	b := w.browser()
	w.next(b, w.confirming(b, started, aliceName, alicePassword), "action", "continue")
	w.ok(w.poll(started))
	events := w.events()
	var got []string
	for _, e := range events {
		got = append(got, fmt.Sprintf("%s %s %s %d", e.Action, e.Details["method"], e.Outcome, e.Code))
	}
	want := []string{
		"sign-in password allowed 0", "sign-in password denied 50034", "sign-in device page allowed 0", "device-code-approve device page allowed 0",
		"sign-in urn:ietf:params:oauth:grant-type:device_code allowed 0",
	}
	if !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	e := events[0]
	if e.Request != a.header.Get("x-ms-request-id") || e.Tenant != w.tenant.ID.String() || e.Actor != w.alice.ID.String() || e.Client != directory.AzureCLI.String() ||
		e.Target != directory.AKSServer.String() || e.Details["session"] != claims(t, a.text("access_token"))["sid"] || !e.Time.Equal(w.clock()) {
		t.Errorf("event %+v", e)
	}
	text, err := json.Marshal(events)
	must(t, err)
	for _, secret := range []string{alicePassword, "hunter2", a.text("refresh_token"), started.text("device_code"), started.text("user_code")} {
		if strings.Contains(string(text), secret) || strings.Contains(w.log.String(), secret) {
			t.Errorf("%q is in the audit or the log", secret)
		}
	}
}
