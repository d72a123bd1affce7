package sts

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// TestOnBehalfOf: a service gets a token for the next one, in the user's session; and every assertion that it must not get one for.
func TestOnBehalfOf(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	app := w.app(directory.Application{DisplayName: "service", IdentifierURIs: []string{"api://service", "https://service.test/"}})
	w.grant(app, directory.Graph, "User.Read Directory.Read.All")
	_, secret, err := w.dir.AddAppSecret(ctx, directory.System, app.ID, directory.PasswordCredential{})
	must(t, err)
	w.app(directory.Application{DisplayName: "other", IdentifierURIs: []string{"api://other"}})
	id := app.AppID.String()
	const graphScope = "https://graph.microsoft.com/.default"
	exchange := func(assertion string, more ...string) answer {
		f := values("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer", "requested_token_use", "on_behalf_of", "client_id", id, "client_secret", secret,
			"assertion", assertion, "scope", graphScope)
		for i := 0; i+1 < len(more); i += 2 {
			f.Set(more[i], more[i+1])
		}
		return w.post(w.v2(), f)
	}
	user := func(scope string) string { return w.ok(w.ropc(aliceName, alicePassword, scope)).text("access_token") }
	good := user("api://service/.default openid offline_access")
	for _, scope := range []string{"api://service/.default", id + "/.default", "spn:" + id + "/.default", "https://service.test//.default", "https://service.test/.default"} {
		from := user(scope)
		got := claims(t, w.ok(exchange(from)).text("access_token"))
		if got["oid"] != w.alice.ID.String() || got["sid"] != claims(t, from)["sid"] || got["appid"] != id || got["aud"] != "https://graph.microsoft.com" || got["idtyp"] != "user" {
			t.Errorf("%s: %v", scope, got)
		}
	}
	// With offline_access there is a refresh token of the same session; without it there is none.
	if a := w.ok(exchange(good)); a.text("refresh_token") != "" {
		t.Error("a refresh token that was not asked for")
	}
	long := w.ok(exchange(good, "scope", graphScope+" offline_access"))
	again := w.ok(w.post(w.v2(), values("grant_type", "refresh_token", "client_id", id, "client_secret", secret, "refresh_token", long.text("refresh_token"))))
	if claims(t, again.text("access_token"))["sid"] != claims(t, good)["sid"] {
		t.Error("the refreshed token belongs to another session")
	}

	machine := w.ok(w.post(w.v2(), values("grant_type", "client_credentials", "client_id", id, "client_secret", secret, "scope", "api://service/.default"))).text("access_token")
	full := w.ok(w.ropc(aliceName, alicePassword, "api://service/.default openid offline_access"))
	resign := func(k string, v any) string {
		c := maps.Clone(claims(t, good))
		c[k] = v
		token, err := w.srv.Keys.Sign(ctx, c, true)
		must(t, err)
		return token
	}
	pieces := strings.Split(good, ".")
	for _, c := range []struct {
		name, assertion string
		more            []string
		code            int
	}{
		{"for another application", user("api://other/.default"), nil, 50013},
		{"for ARM", user(armScope), nil, 50013},
		{"of an application", machine, nil, 7000114},
		{"an ID token", full.text("id_token"), nil, 50013},
		{"a refresh token", full.text("refresh_token"), nil, 50013},
		{"alg none", b64(map[string]any{"alg": "none"}) + "." + pieces[1] + ".", nil, 50013},
		{"signed by another key", signWith(t, otherKey(), part(t, good, 0), claims(t, good)), nil, 50013},
		{"of another tenant", resign("tid", directory.Graph.String()), nil, 50013},
		{"of a foreign issuer", resign("iss", "https://evil.test/"), nil, 50013},
		{"expired", resign("exp", w.clock().Unix()), nil, 500133},
		{"of an unknown session", resign("sid", directory.Graph.String()), nil, 50173},
		{"of another user's session", resign("oid", w.admin.ID.String()), nil, 50173},
		{"nothing", "", nil, 900144},
		{"too long", strings.Repeat("A", MaxToken+1), nil, 50013},
		{"without a secret", good, []string{"client_secret", ""}, 7000218},
		{"with a wrong secret", good, []string{"client_secret", "x"}, 7000215},
		{"by a public client", good, []string{"client_id", directory.AzureCLI.String(), "client_secret", ""}, 7000218},
		{"without its use", good, []string{"requested_token_use", ""}, 900144},
		{"with another use", good, []string{"requested_token_use", "x"}, 90013},
		{"for no resource", good, []string{"scope", ""}, 900144},
	} {
		w.run(c.name, func(*testing.T) { w.fails(exchange(c.assertion, c.more...), c.code) })
	}
	w.setUser(w.alice.ID, func(u *directory.User) { u.Enabled = false })
	w.run("of a disabled user", func(*testing.T) { w.fails(exchange(good), 50057) })
	w.setUser(w.alice.ID, func(u *directory.User) { u.Enabled = true })
	w.ok(exchange(good))
	w.setUser(w.alice.ID, func(u *directory.User) { u.SessionsValidFrom = w.clock().Add(time.Second).UnixNano() })
	w.run("of sessions that were revoked", func(*testing.T) { w.fails(exchange(good), 50173) })
}
