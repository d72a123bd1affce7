package sts

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestConfiguration(t *testing.T) {
	w := newWorld(t)
	tid, own := w.tenant.ID.String(), w.http.URL
	const cloud = "login.microsoftonline.com"
	for _, c := range []struct {
		name, path, host                         string
		issuer, token, jwks, userinfo, graphHost string
	}{
		{"version 1 by id", "/" + tid + "/.well-known/openid-configuration", cloud,
			"https://sts.windows.net/" + tid + "/", "https://" + cloud + "/" + tid + "/oauth2/token", "https://" + cloud + "/" + tid + "/discovery/keys",
			"https://" + cloud + "/" + tid + "/openid/userinfo", "graph.microsoft.com"},
		{"guard asks at the issuer's host", "/" + tid + "/.well-known/openid-configuration", "sts.windows.net",
			"https://sts.windows.net/" + tid + "/", "https://" + cloud + "/" + tid + "/oauth2/token", "https://" + cloud + "/" + tid + "/discovery/keys",
			"https://" + cloud + "/" + tid + "/openid/userinfo", "graph.microsoft.com"},
		{"version 2 by domain has the id", "/" + domain + "/v2.0/.well-known/openid-configuration?", cloud,
			"https://" + cloud + "/" + tid + "/v2.0", "https://" + cloud + "/" + tid + "/oauth2/v2.0/token", "https://" + cloud + "/" + tid + "/discovery/v2.0/keys",
			"https://graph.microsoft.com/oidc/userinfo", "graph.microsoft.com"},
		{"common keeps its word", "/Common/v2.0/.well-known/openid-configuration", cloud,
			"https://" + cloud + "/{tenantid}/v2.0", "https://" + cloud + "/common/oauth2/v2.0/token", "https://" + cloud + "/common/discovery/v2.0/keys",
			"https://graph.microsoft.com/oidc/userinfo", "graph.microsoft.com"},
		{"organizations, version 1", "/organizations/.well-known/openid-configuration", cloud,
			"https://sts.windows.net/{tenantid}/", "https://" + cloud + "/organizations/oauth2/token", "https://" + cloud + "/organizations/discovery/keys",
			"https://" + cloud + "/organizations/openid/userinfo", "graph.microsoft.com"},
		{"consumers", "/consumers/v2.0/.well-known/openid-configuration", cloud,
			"https://" + cloud + "/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0", "https://" + cloud + "/consumers/oauth2/v2.0/token", "https://" + cloud + "/consumers/discovery/v2.0/keys",
			"https://graph.microsoft.com/oidc/userinfo", "graph.microsoft.com"},
		{"through the public URL, version 1", "/" + tid + "/.well-known/openid-configuration", "",
			own + "/" + tid + "/", own + "/" + tid + "/oauth2/token", own + "/" + tid + "/discovery/keys", own + "/" + tid + "/openid/userinfo", strings.TrimPrefix(own, "https://")},
		{"through the public URL, version 2", "/" + tid + "/v2.0/.well-known/openid-configuration", "",
			own + "/" + tid + "/v2.0", own + "/" + tid + "/oauth2/v2.0/token", own + "/" + tid + "/discovery/v2.0/keys", own + "/oidc/userinfo", strings.TrimPrefix(own, "https://")},
	} {
		w.run(c.name, func(t *testing.T) {
			var headers []string
			if c.host != "" {
				headers = []string{"Host", c.host}
			}
			a := w.ok(w.get(c.path, headers...))
			at, err := url.Parse(strings.TrimSuffix(c.token, "token"))
			must(t, err)
			page := own + at.Path // a browser does not come through the proxy
			for name, want := range map[string]string{
				"issuer": c.issuer, "token_endpoint": c.token, "jwks_uri": c.jwks, "userinfo_endpoint": c.userinfo, "msgraph_host": c.graphHost,
				"authorization_endpoint":        page + "authorize",
				"device_authorization_endpoint": strings.ReplaceAll(c.token, "token", "devicecode"), // as MSAL for Go makes it
				"end_session_endpoint":          page + "logout",
				"cloud_instance_name":           "microsoftonline.com",
			} {
				if got := a.text(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			if algs, _ := a.body["id_token_signing_alg_values_supported"].([]any); len(algs) != 1 || algs[0] != "RS256" {
				t.Errorf("algorithms %v", algs)
			}
		})
	}
	a := w.fails(w.get("/00000000-0000-0000-0000-000000000000/v2.0/.well-known/openid-configuration"), 90002)
	if a.status != 400 || a.text("error") != "invalid_tenant" {
		t.Errorf("unknown tenant: %s", a.raw)
	}
	w.fails(w.get("/not_a_name/.well-known/openid-configuration"), 900023)
}

func TestJWKS(t *testing.T) {
	w := newWorld(t)
	tid := w.tenant.ID.String()
	for path, issuer := range map[string]string{
		"/common/discovery/keys": "", "/" + tid + "/discovery/keys?appid=x": "",
		"/common/discovery/v2.0/keys": w.http.URL + "/{tenantid}/v2.0", "/" + tid + "/discovery/v2.0/keys": w.http.URL + "/" + tid + "/v2.0",
	} {
		a := w.ok(w.get(path))
		if c := a.header.Get("Cache-Control"); strings.Contains(c, "max-age") || !strings.Contains(c, "no-store") {
			t.Errorf("%s: Cache-Control %q keeps clients from finding a new key", path, c)
		}
		var set struct{ Keys []JWK }
		must(t, json.Unmarshal([]byte(a.raw), &set))
		if len(set.Keys) != 1 {
			t.Fatalf("%s: %s", path, a.raw)
		}
		k := set.Keys[0]
		if k.Kid == "" || k.Kid != k.X5t || k.Kty != "RSA" || k.Use != "sig" || k.E != "AQAB" || len(k.X5c) != 1 || len(k.N) != 342 || k.Issuer != issuer {
			t.Errorf("%s: %+v", path, k)
		}
		for _, private := range []string{`"d"`, `"p"`, `"q"`, `"dp"`} {
			if strings.Contains(a.raw, private) {
				t.Errorf("%s publishes %s", path, private)
			}
		}
	}
}

func TestInstanceDiscovery(t *testing.T) {
	w := newWorld(t)
	public, err := url.Parse(w.http.URL)
	must(t, err)
	ask := func(version, endpoint string) answer {
		return w.get("/common/discovery/instance?api-version="+version+"&authorization_endpoint="+endpoint, "Host", "login.microsoftonline.com")
	}
	// As MSAL for Python has it hard-coded, with the URL not escaped.
	a := w.ok(ask("1.1", "https://login.microsoftonline.com/common/oauth2/authorize"))
	if got := a.text("tenant_discovery_endpoint"); got != "https://login.microsoftonline.com/common/.well-known/openid-configuration" {
		t.Errorf("document %q", got)
	}
	var body struct{ Metadata []network }
	must(t, json.Unmarshal([]byte(a.raw), &body))
	if len(body.Metadata) != 2 || !slices.Equal(body.Metadata[0].Aliases, []string{"login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net"}) ||
		body.Metadata[0].Cache != "login.windows.net" || !slices.Equal(body.Metadata[1].Aliases, []string{public.Host, public.Hostname()}) {
		t.Errorf("metadata %+v", body.Metadata)
	}
	a = w.ok(ask("1.1", url.QueryEscape("https://login.windows.net/"+domain+"/oauth2/v2.0/authorize")))
	if got := a.text("tenant_discovery_endpoint"); got != "https://login.windows.net/"+domain+"/v2.0/.well-known/openid-configuration" {
		t.Errorf("document %q", got)
	}
	a = w.ok(ask("1.0", url.QueryEscape(w.http.URL+"/"+w.tenant.ID.String()+"/oauth2/v2.0/authorize")))
	if got := a.text("tenant_discovery_endpoint"); got != w.http.URL+"/"+w.tenant.ID.String()+"/v2.0/.well-known/openid-configuration" {
		t.Errorf("document %q", got)
	}
	for _, evil := range []string{
		"https://evil.test/common/oauth2/authorize", "http://login.microsoftonline.com/common/oauth2/authorize",
		"https://login.microsoftonline.com:8443/common/oauth2/authorize", "https://login.microsoftonline.com@evil.test/common/oauth2/authorize", "%00", "x",
	} {
		a := w.fails(ask("1.1", url.QueryEscape(evil)), 50049)
		if a.status != 400 || a.text("error") != "invalid_instance" {
			t.Errorf("%s: %s", evil, a.raw)
		}
	}
	w.fails(ask("1.1", "https://login.microsoftonline.com/nobody.test/oauth2/authorize"), 90002)
	w.fails(w.get("/common/discovery/instance"), 900144)
}

func TestUserRealm(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/common/userrealm/" + aliceName + "?api-version=1.0", "/common/UserRealm/nobody%40" + strings.ToUpper(domain) + "?api-version=1.0"} {
		a := w.ok(w.get(path))
		for name, want := range map[string]string{"account_type": "Managed", "domain_name": domain, "cloud_instance_name": "microsoftonline.com", "cloud_audience_urn": "urn:federation:MicrosoftOnline", "ver": "1.0"} {
			if got := a.text(name); got != want {
				t.Errorf("%s: %s is %q", path, name, got)
			}
		}
	}
	if a := w.ok(w.get("/common/userrealm/a@nobody.test")); a.text("account_type") != "Unknown" {
		t.Errorf("a foreign domain is %s", a.raw)
	}
}
