package aks_test

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gatehouse-k8s/gatehouse/aks"
)

// TestIssuer: a cluster's issuer documents are public once it is asked for, for good, under the URL that the server chooses.
func TestIssuer(t *testing.T) {
	w := newWorld(t)
	w.makeGroup()
	properties := managed(w.group("admins").ID)
	w.create("plain", properties)
	properties["OIDCIssuerProfile"] = map[string]any{"enabled": true, "issuerURL": "https://evil.test/"} // in another spelling
	w.create("c1", properties)
	issuers := &aks.Issuers{Feed: w.feed, ControlPlanes: w.planes, Public: "https://gatehouse.test"}
	face := issuers.Handler()
	get := func(url string) *httptest.ResponseRecorder {
		rec := httptest.NewRecorder()
		face.ServeHTTP(rec, httptest.NewRequest("GET", url, nil))
		return rec
	}
	url, _ := w.as("admin", "GET", w.clusterPath("c1"), nil).want(200).get("properties.oidcIssuerProfile.issuerURL").(string)
	if !strings.HasPrefix(url, "https://gatehouse.test/oidc/"+w.tenant.ID.String()+"/") {
		t.Fatalf("issuerURL: %q", url)
	}
	var document struct {
		Issuer string `json:"issuer"`
		JWKS   string `json:"jwks_uri"`
	}
	if rec := get(url + ".well-known/openid-configuration"); json.Unmarshal(rec.Body.Bytes(), &document) != nil || document.Issuer != url {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	published := get(document.JWKS)
	if published.Code != 200 || !strings.Contains(published.Body.String(), `"alg":"RS256"`) {
		t.Errorf("%d %s", published.Code, published.Body)
	}
	inside, known, err := issuers.KeySet(t.Context(), url)
	if err != nil || !known || string(inside) != strings.TrimSpace(published.Body.String()) {
		t.Errorf("%s %v %v", inside, known, err)
	}

	var plain *aks.Cluster
	for _, c := range aks.In(w.feed.View()).All() {
		if c.Name == "plain" {
			plain = c
		}
	}
	off := issuers.URL(plain.Tenant, plain.GUID)
	for name, at := range map[string]string{
		"not enabled": off, "another tenant": strings.Replace(url, w.tenant.ID.String(), w.subscription.String(), 1), "no cluster": strings.Replace(url, url[len(url)-37:len(url)-1], w.subscription.String(), 1),
		"no GUIDs": "https://gatehouse.test/oidc/a/b/",
	} {
		if rec := get(at + "openid/v1/jwks"); rec.Code != 404 {
			t.Errorf("%s: %d %s", name, rec.Code, rec.Body)
		}
		if _, known, err := issuers.KeySet(t.Context(), at); !known || err == nil {
			t.Errorf("%s: %v %v", name, known, err)
		}
	}
	for _, at := range []string{strings.TrimSuffix(url, "/"), url + "/", strings.ToUpper(url)} {
		if raw, _, err := issuers.KeySet(t.Context(), at); err == nil && raw != nil {
			t.Errorf("the issuer %q has keys", at)
		}
	}
	if _, known, _ := issuers.KeySet(t.Context(), "https://gatehouse.test.evil/oidc/"); known {
		t.Error("a foreign issuer is known")
	}

	// It can be enabled later and never disabled; workload identity needs it.
	body := func(enabled bool) map[string]any {
		return map[string]any{"location": "centralus", "properties": map[string]any{"oidcIssuerProfile": map[string]any{"enabled": enabled}}}
	}
	w.as("admin", "PUT", w.clusterPath("c1"), body(false)).want(400, "can't be disabled")
	w.as("admin", "PUT", w.clusterPath("plain"), map[string]any{"location": "centralus", "properties": map[string]any{
		"securityProfile": map[string]any{"workloadIdentity": map[string]any{"enabled": true}}}}).want(400, "needs the OIDC issuer")
	w.finish(w.as("admin", "PUT", w.clusterPath("plain"), body(true))).want(200, "Succeeded")
	if rec := get(off + "openid/v1/jwks"); rec.Code != 200 {
		t.Errorf("enabled later: %d %s", rec.Code, rec.Body)
	}
}
