package e2e

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// signIn is what the tests look at of an entry of the sign-in log.
type signIn struct {
	ID            string `json:"id"`
	UPN           string `json:"userPrincipalName"`
	Principal     string `json:"servicePrincipalName"`
	App           string `json:"appDisplayName"`
	Resource      string `json:"resourceDisplayName"`
	Address       string `json:"ipAddress"`
	CorrelationID string `json:"correlationId"`
	Status        struct {
		Code int `json:"errorCode"`
	} `json:"status"`
}

const signInsURL = "https://graph.microsoft.com/v1.0/auditLogs/signIns"

// signIns reads the log with az.
func (d *deployment) signIns(query string) []signIn {
	d.t.Helper()
	var page struct{ Value []signIn }
	if err := json.Unmarshal([]byte(d.run("az", "rest", "--url", signInsURL+query)), &page); err != nil {
		d.t.Fatal(err)
	}
	return page.Value
}

// TestSignInLog: what az is refused has its code on the screen and in the sign-in log, which az reads.
func TestSignInLog(t *testing.T) {
	d := up(t, "--sign-in-log-retention", "7d")
	d.loginAdmin()
	graph := d.token(d.env["GATEHOUSE_ADMIN"], d.adminPassword(), azureCLI, "https://graph.microsoft.com/.default").Access
	d.user("alice", alicePassword)
	d.user("bob", alicePassword)
	d.user("carol", alicePassword)
	d.run("az", "ad", "user", "update", "--id", d.upn("carol"), "--account-enabled", "false")
	robot := func(name string) (id, certificate string) {
		var sp struct{ AppID, FileWithCertAndPrivateKey string }
		if err := json.Unmarshal([]byte(d.run("az", "ad", "sp", "create-for-rbac", "--name", name, "--create-cert", "--only-show-errors")), &sp); err != nil {
			t.Fatal(err)
		}
		return sp.AppID, sp.FileWithCertAndPrivateKey
	}
	first, _ := robot("first")
	_, other := robot("other")
	status, made := d.call("POST", "https://graph.microsoft.com/v1.0/applications(appId='"+first+"')/addPassword", graph,
		map[string]any{"passwordCredential": map[string]any{"endDateTime": time.Now().Add(5 * time.Second).UTC().Format(time.RFC3339)}}) // long over when it is used, after four runs of az
	if status != 200 {
		t.Fatalf("addPassword: %d %s", status, made)
	}
	for range 10 {
		d.token(d.upn("bob"), "wrong", azureCLI, "https://graph.microsoft.com/.default")
	}
	revoked := d.token(d.upn("alice"), alicePassword, azureCLI, "https://graph.microsoft.com/.default").Refresh
	if status, body := d.call("POST", "https://graph.microsoft.com/v1.0/users/"+d.upn("alice")+"/revokeSignInSessions", graph, nil); status != 200 {
		t.Fatalf("revokeSignInSessions: %d %s", status, body)
	}
	const arm = "Windows Azure Service Management API"
	as := func(name, password string) func() {
		return func() { d.refuses([]string{"az", "login", "-u", d.upn(name), "-p", password}, "AADSTS") }
	}
	byPrincipal := func(secret string) func() {
		return func() {
			d.refuses([]string{"az", "login", "--service-principal", "-u", first, "-p=" + secret, "--tenant", d.env["GATEHOUSE_TENANT_ID"]}, "AADSTS")
		}
	}
	for _, c := range []struct {
		name string
		do   func()
		want signIn
		code int
	}{
		{"wrong password", as("alice", "wrong"), signIn{UPN: d.upn("alice"), App: "Microsoft Azure CLI", Resource: arm}, 50126},
		{"unknown user", as("nobody", "wrong"), signIn{UPN: d.upn("nobody"), App: "Microsoft Azure CLI", Resource: arm}, 50034},
		{"disabled", as("carol", alicePassword), signIn{UPN: d.upn("carol"), App: "Microsoft Azure CLI", Resource: arm}, 50057},
		{"locked", as("bob", alicePassword), signIn{UPN: d.upn("bob"), App: "Microsoft Azure CLI", Resource: arm}, 50053},
		{"expired secret", byPrincipal(field(made, "secretText")), signIn{Principal: "first", App: "first", Resource: arm}, 7000222},
		{"wrong secret", byPrincipal("wrong"), signIn{Principal: "first", App: "first", Resource: arm}, 7000215},
		{"wrong certificate", byPrincipal(other), signIn{Principal: "first", App: "first", Resource: arm}, 700027},
		{"wrong redirect", func() {
			res, err := d.http().Get("https://login.microsoftonline.com/" + d.env["GATEHOUSE_TENANT_ID"] + "/oauth2/v2.0/authorize?client_id=" + azureCLI +
				"&response_type=code&scope=openid&redirect_uri=" + url.QueryEscape("https://evil.example"))
			if err != nil {
				t.Fatal(err)
			}
			if res.Body.Close(); res.StatusCode != http.StatusBadRequest {
				t.Errorf("HTTP %s", res.Status)
			}
		}, signIn{App: "Microsoft Azure CLI"}, 50011},
		{"refresh token revoked", func() {
			if got := d.grant(url.Values{"grant_type": {"refresh_token"}, "client_id": {azureCLI}, "refresh_token": {revoked}, "scope": {"https://management.core.windows.net//.default"}}); !strings.Contains(got.Text, "AADSTS50173") {
				t.Errorf("%+v", got)
			}
		}, signIn{UPN: d.upn("alice"), App: "Microsoft Azure CLI", Resource: arm}, 50173},
	} {
		t.Run(c.name, func(t *testing.T) {
			d.t = t
			c.do()
			found := d.signIns("?$filter=" + url.QueryEscape("status/errorCode eq "+strconv.Itoa(c.code)))
			if len(found) == 0 {
				t.Fatal("no entry")
			}
			got := found[0]
			if got.ID == "" || got.CorrelationID == "" || got.Address != "127.0.0.1" {
				t.Errorf("entry %+v", got)
			}
			got.ID, got.CorrelationID, got.Address, c.want.Status.Code = "", "", "", c.code
			if got != c.want {
				t.Errorf("entry %+v, want %+v", got, c.want)
			}
		})
	}
	d.t = t

	// What somebody has seen in the log is there after a crash.
	before := d.signIns("")
	d.kill()
	d.start()
	after := d.signIns("?$top=999")
	for _, e := range before {
		if !slices.Contains(after, e) {
			t.Errorf("an entry is gone after a crash: %+v", e)
		}
	}
	d.run("az", "logout")
	d.run("az", "login", "-u", d.upn("alice"), "-p", alicePassword, "--allow-no-subscriptions", "-o", "none")
	d.refuses([]string{"az", "rest", "--url", signInsURL}, "Authorization_RequestDenied")
}
