package sts

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
)

const identityResource = "/subscriptions/s/resourcegroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/robot"

// identity writes a managed identity.
func (w *world) identity() directory.ServicePrincipal {
	w.t.Helper()
	var ids [2]directory.ID
	for i := range ids {
		var err error
		ids[i], err = directory.NewID(w.srv.random())
		must(w.t, err)
	}
	sp := directory.ServicePrincipal{ID: ids[0], AppID: ids[1], Tenant: w.tenant.ID, DisplayName: "robot", Resource: identityResource, Explicit: true, Created: w.clock()}
	w.write(directory.NewManagedIdentity(sp))
	return sp
}

func (w *world) write(records ...feed.Record) {
	w.t.Helper()
	must(w.t, w.srv.Feed.Update(w.t.Context(), func(*feed.View, feed.Secrets) (feed.Change, error) { return feed.Change{Records: records}, nil }))
}

func (w *world) identityToken(id directory.ID, resource string) (*IdentityToken, error) {
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = "127.0.0.1:1"
	return w.srv.IdentityToken(r, id, resource)
}

// TestIdentityToken checks the claims in both versions of tokens.
func TestIdentityToken(t *testing.T) {
	w := newWorld(t)
	sp := w.identity()
	app := w.app(directory.Application{DisplayName: "v2", IdentifierURIs: []string{"api://v2"}, TokenVersion: 2})
	tenant := w.tenant.ID.String()
	for resource, want := range map[string]map[string]any{
		directory.AKSServer.String():  {"aud": directory.AKSServer.String(), "iss": "https://sts.windows.net/" + tenant + "/", "ver": "1.0", "appid": sp.AppID.String(), "appidacr": "2", "idp": "https://sts.windows.net/" + tenant + "/"},
		"https://graph.microsoft.com": {"aud": "https://graph.microsoft.com", "iss": "https://sts.windows.net/" + tenant + "/", "ver": "1.0", "appid": sp.AppID.String(), "appidacr": "2", "idp": "https://sts.windows.net/" + tenant + "/"},
		"api://v2":                    {"aud": app.AppID.String(), "iss": "https://login.microsoftonline.com/" + tenant + "/v2.0", "ver": "2.0", "azp": sp.AppID.String(), "azpacr": "2"},
	} {
		token, err := w.identityToken(sp.ID, resource)
		must(t, err)
		must(t, w.verify(token.Access))
		got := claims(t, token.Access)
		for name, v := range map[string]any{
			"oid": sp.ID.String(), "sub": sp.ID.String(), "tid": tenant, "idtyp": "app", "xms_mirid": identityResource,
			"iat": float64(w.clock().Unix()), "nbf": float64(w.clock().Add(-5 * time.Minute).Unix()), "exp": float64(w.clock().Add(24 * time.Hour).Unix()),
		} {
			want[name] = v
		}
		for name, v := range want {
			if got[name] != v {
				t.Errorf("%s: %s is %v, want %v", resource, name, got[name], v)
			}
		}
		delete(got, "uti")
		if len(got) != len(want) {
			t.Errorf("%s: the claims are %v, want %v and uti", resource, got, want)
		}
		if !token.Expires.Equal(w.clock().Add(24*time.Hour)) || token.ClientID != sp.AppID || token.Resource != resource || token.Type != "Bearer" || token.Life != 24*time.Hour {
			t.Errorf("%s: %+v", resource, token)
		}
	}
}

func TestIdentityTokenRefusals(t *testing.T) {
	w := newWorld(t)
	sp, robot := w.identity(), w.robot("app")
	aks := directory.AKSServer.String()
	for name, c := range map[string]struct {
		id       directory.ID
		resource string
		code     string
	}{
		"no resource":            {sp.ID, "", "AADSTS900144"},
		"an unknown resource":    {sp.ID, "https://nowhere.example", "AADSTS500011"},
		"a resource and a scope": {sp.ID, aks + "/.default", "AADSTS500011"},
		"two resources":          {sp.ID, aks + " " + aks, "AADSTS500011"},
		"itself":                 {sp.ID, sp.AppID.String(), "AADSTS500011"}, // an identity is no resource
		"an application":         {w.principal(robot).ID, aks, "Request_ResourceNotFound"},
		"a user":                 {w.alice.ID, aks, "Request_ResourceNotFound"},
		"its client id":          {sp.AppID, aks, "Request_ResourceNotFound"},
		"nobody":                 {directory.ID{}, aks, "Request_ResourceNotFound"},
	} {
		if token, err := w.identityToken(c.id, c.resource); err == nil || fault.From(err).Code != c.code || token != nil {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
	}
	must(t, w.dir.EnableServicePrincipal(t.Context(), directory.System, sp.ID, false))
	if _, err := w.identityToken(sp.ID, aks); err == nil || fault.From(err).Code != "AADSTS7000112" {
		t.Errorf("disabled: %v", err)
	}
	var methods, denied int
	for _, e := range w.events() {
		if e.Details["method"] == "managed identity" {
			methods++
			if e.Outcome == "denied" && e.Code != 0 && e.Reason != "" {
				denied++
			}
		}
	}
	if methods != 10 || denied != 10 {
		t.Errorf("%d events, %d refusals with a code, want 10 of each", methods, denied)
	}
}

// TestIdentityAsClient: an identity proves itself with a federated credential, for its own tokens and for nothing else.
func TestIdentityAsClient(t *testing.T) {
	w := newWorld(t)
	sp := w.identity()
	const issuer, subject = "https://issuer.test/pool", "system:serviceaccount:default:builder"
	w.srv.Issuers.Local = func(_ context.Context, at string) ([]byte, bool, error) { return keySet("one"), at == issuer, nil }
	app := &directory.Application{AppID: sp.AppID}
	now := w.clock()
	good := sign(t, testKey(), map[string]any{"alg": "RS256", "kid": "one"},
		map[string]any{"iss": issuer, "sub": subject, "aud": exchangeAudience, "exp": now.Add(time.Hour).Unix()})
	w.fails(w.assert(w.v2(), app, good), 70021)
	r, created, err := directory.In(w.srv.Feed.View()).PutIdentityCredential(sp.ID, directory.FederatedCredential{
		Name: "builder", Issuer: issuer, Subject: subject, Audiences: []string{exchangeAudience},
	})
	must(t, err)
	if !created {
		t.Error("not created")
	}
	w.write(r)
	a := w.ok(w.assert(w.v2(), app, good))
	got := claims(t, a.text("access_token"))
	if got["oid"] != sp.ID.String() || got["xms_mirid"] != identityResource || got["appidacr"] != "2" || got["exp"].(float64)-got["iat"].(float64) != 24*3600 || a.body["expires_in"] != float64(24*3600) {
		t.Errorf("%v %s", got, a.raw)
	}
	must(t, w.verify(a.text("access_token")))
	assertion := []string{"client_id", sp.AppID.String(), "client_assertion", good, "client_assertion_type", assertionType, "scope", aksScope}
	for _, grant := range [][]string{
		{"grant_type", "password", "username", aliceName, "password", alicePassword},
		{"grant_type", "refresh_token", "refresh_token", "x"},
		{"grant_type", "authorization_code", "code", "x", "redirect_uri", "http://localhost"},
		{"grant_type", "urn:ietf:params:oauth:grant-type:device_code", "device_code", "x"},
		{"grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion", a.text("access_token"), "requested_token_use", "on_behalf_of"},
	} {
		w.fails(w.post(w.v2(), values(append(grant, assertion...)...)), 700016)
	}
	w.fails(w.post("/"+w.tenant.ID.String()+"/oauth2/v2.0/devicecode", values("client_id", sp.AppID.String(), "scope", aksScope)), 700016)
	w.fails(w.post(w.v2(), values("grant_type", "client_credentials", "client_id", sp.AppID.String(), "scope", aksScope)), 7000218)
	w.fails(w.post(w.v2(), values("grant_type", "client_credentials", "client_id", sp.AppID.String(), "client_secret", "x", "scope", aksScope)), 7000215)
	w.fails(w.assert("/common/oauth2/v2.0/token", app, good), 700016)
	must(t, w.dir.EnableServicePrincipal(t.Context(), directory.System, sp.ID, false))
	w.fails(w.assert(w.v2(), app, good), 7000112)
	if a := w.get("/"+w.tenant.ID.String()+"/oauth2/v2.0/authorize?client_id="+sp.AppID.String()+"&response_type=code&redirect_uri=http://localhost", "Accept", "text/html"); a.status != http.StatusBadRequest || !strings.Contains(a.raw, "700016") {
		t.Errorf("authorize: %d", a.status)
	}
}
