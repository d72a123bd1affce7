package sts

import (
	"context"
	"net/http"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// TestRelyingParty: a generic OpenID Connect library signs a person in, given nothing but the issuer.
func TestRelyingParty(t *testing.T) {
	w := newWorld(t)
	app := w.app(directory.Application{DisplayName: "Wiki", WebRedirectURIs: []string{"https://wiki.test/cb"}})
	_, secret, err := w.dir.AddAppSecret(t.Context(), directory.System, app.ID, directory.PasswordCredential{})
	must(t, err)
	w.setUser(w.alice.ID, func(u *directory.User) { u.Mail = "alice@mail.test" })
	ctx := oidc.ClientContext(t.Context(), w.http.Client())
	provider, err := oidc.NewProvider(ctx, w.http.URL+"/"+w.tenant.ID.String()+"/v2.0")
	must(t, err)
	for name, style := range map[string]oauth2.AuthStyle{"client_secret_basic": oauth2.AuthStyleInHeader, "client_secret_post": oauth2.AuthStyleInParams, "found out": oauth2.AuthStyleAutoDetect} {
		t.Run(name, func(t *testing.T) { signInTo(t, w, ctx, provider, app, secret, style) })
	}
}

func signInTo(t *testing.T, w *world, ctx context.Context, provider *oidc.Provider, app *directory.Application, secret string, style oauth2.AuthStyle) {
	endpoint := provider.Endpoint()
	endpoint.AuthStyle = style
	config := oauth2.Config{
		ClientID: app.AppID.String(), ClientSecret: secret, Endpoint: endpoint, RedirectURL: "https://wiki.test/cb",
		Scopes: []string{oidc.ScopeOpenID, "profile", "email", oidc.ScopeOfflineAccess},
	}
	verifier := oauth2.GenerateVerifier()
	at := config.AuthCodeURL("S", oidc.Nonce("N"), oauth2.S256ChallengeOption(verifier))
	b := w.browser()
	p := w.visit(b, http.MethodGet, at[len(w.http.URL):], nil)
	p = w.enter(b, p, aliceName, alicePassword)
	if p.page == "consent" { // at the first sign-in only
		p = w.step(b, p, "action", "accept")
	}
	got := w.landed(p)
	if got.Get("state") != "S" {
		t.Errorf("state %q", got.Get("state"))
	}
	token, err := config.Exchange(ctx, got.Get("code"), oauth2.VerifierOption(verifier))
	must(t, err)
	raw, _ := token.Extra("id_token").(string)
	id, err := provider.VerifierContext(ctx, &oidc.Config{ClientID: config.ClientID, Now: w.clock}).Verify(ctx, raw)
	must(t, err)
	var claims struct{ Email, Name, Oid string }
	must(t, id.Claims(&claims))
	if id.Nonce != "N" || claims.Email != "alice@mail.test" || claims.Name != "Alice Adams" || claims.Oid != w.alice.ID.String() {
		t.Errorf("nonce %q, claims %+v", id.Nonce, claims)
	}
	if token.RefreshToken == "" {
		t.Error("no refresh token")
	}
	info, err := provider.UserInfo(ctx, oauth2.StaticTokenSource(token))
	must(t, err)
	if info.Subject != id.Subject || info.Email != claims.Email {
		t.Errorf("userinfo %+v, ID token's subject %q", info, id.Subject)
	}
}
