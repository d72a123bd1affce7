package gatehousetest_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/gatehousetest"
)

// TestStart signs in as a program does, calls Graph and the Resource Manager by their names in the cloud, and lets an OpenID Connect
// library read the server's metadata under its own.
func TestStart(t *testing.T) {
	s := gatehousetest.Start(t, gatehousetest.Options{})
	client := s.Client()
	alice := s.NewUser("alice")
	s.NewGroup("admins", alice.ID)
	token := func(upn, scope string) string {
		t.Helper()
		res, err := client.PostForm("https://login.microsoftonline.com/"+s.Tenant.ID.String()+"/oauth2/v2.0/token", url.Values{
			"grant_type": {"password"}, "client_id": {directory.AzureCLI.String()}, "username": {upn}, "password": {gatehousetest.Password}, "scope": {scope},
		})
		s.Must(err)
		defer res.Body.Close()
		var got struct {
			Token string `json:"access_token"`
		}
		s.Must(json.NewDecoder(res.Body).Decode(&got))
		return got.Token
	}
	list := func(address, token string) (status, n int) {
		t.Helper()
		req, err := http.NewRequest("GET", address, nil)
		s.Must(err)
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := client.Do(req)
		s.Must(err)
		defer res.Body.Close()
		var got struct{ Value []any }
		s.Must(json.NewDecoder(res.Body).Decode(&got))
		return res.StatusCode, len(got.Value)
	}
	if status, n := list("https://graph.microsoft.com/v1.0/me/memberOf", token(alice.UPN, "https://graph.microsoft.com/.default")); status != 200 || n != 1 {
		t.Errorf("Graph: %d, %d groups", status, n)
	}
	const arm = "https://management.azure.com/"
	if status, n := list(arm+"subscriptions?api-version=2022-12-01", token(s.Admin.UPN, arm+".default")); status != 200 || n != 1 {
		t.Errorf("the Resource Manager: %d, %d subscriptions", status, n)
	}
	if _, err := oidc.NewProvider(oidc.ClientContext(t.Context(), client), s.URL+"/"+s.Tenant.ID.String()+"/v2.0"); err != nil {
		t.Errorf("the metadata under the server's own name: %v", err)
	}
}

// TestClock: a token runs out when the test says so.
func TestClock(t *testing.T) {
	h := gatehousetest.New(t, gatehousetest.Options{Clock: gatehousetest.At(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))})
	token := h.Token(h.Admin.UPN, "https://graph.microsoft.com/.default")
	check := func() error {
		_, err := h.Tokens.Bearer(h.Feed.View(), "Bearer "+token, "https://graph.microsoft.com")
		return err
	}
	if err := check(); err != nil {
		t.Errorf("a new token: %v", err)
	}
	h.Advance(2 * time.Hour)
	if check() == nil {
		t.Error("an expired token is good")
	}
}
