package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/confidential"
	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/public"
)

// msalWays are the two kinds of client of MSAL for Go.
var msalWays = map[string]acquire{
	"msal-public":               msalPublic,
	"msal-confidential":         msalConfidential,
	"msal-onbehalfof":           msalOnBehalfOf,
	"msal-public-cp1":           msalCapable,
	"msal-public-organizations": msalOrganizations,
}

const graphScope = "https://graph.microsoft.com/User.Read"

// msalPublic signs a user in, finds the token in the cache, and uses the refresh token silently: for another resource, and after a claims
// challenge.
func msalPublic(ctx context.Context, scope string) (string, error) {
	app, err := public.New(client(), public.WithAuthority(authority()))
	if err != nil {
		return "", err
	}
	return silently(ctx, app, scope)
}

// msalCapable says that it understands continuous access evaluation, as Azure CLI does.
func msalCapable(ctx context.Context, scope string) (string, error) {
	app, err := public.New(client(), public.WithAuthority(authority()), public.WithClientCapabilities([]string{"CP1"}))
	if err != nil {
		return "", err
	}
	return silently(ctx, app, scope)
}

// msalOrganizations does not know its tenant before the user has signed in.
func msalOrganizations(ctx context.Context, scope string) (string, error) {
	app, err := public.New(client(), public.WithAuthority("https://login.microsoftonline.com/organizations"))
	if err != nil {
		return "", err
	}
	return silently(ctx, app, scope)
}

func silently(ctx context.Context, app public.Client, scope string) (string, error) {
	scopes := []string{scope}
	first, err := app.AcquireTokenByUsernamePassword(ctx, scopes, os.Getenv("AZURE_USERNAME"), os.Getenv("AZURE_PASSWORD"))
	if err != nil {
		return "", err
	}
	accounts, err := app.Accounts(ctx)
	if err != nil || len(accounts) != 1 || accounts[0].HomeAccountID != first.Account.HomeAccountID || accounts[0].PreferredUsername != os.Getenv("AZURE_USERNAME") {
		return "", fmt.Errorf("accounts %+v, signed in as %+v: %w", accounts, first.Account, err)
	}
	silent := public.WithSilentAccount(accounts[0])
	cached, err := app.AcquireTokenSilent(ctx, scopes, silent)
	if err != nil || cached.AccessToken != first.AccessToken {
		return "", fmt.Errorf("the token is not found in the cache: %w", err)
	}
	graph, err := app.AcquireTokenSilent(ctx, []string{graphScope}, silent)
	if err != nil || graph.AccessToken == first.AccessToken {
		return "", fmt.Errorf("no token for another resource by the refresh token: %w", err)
	}
	again, err := app.AcquireTokenSilent(ctx, scopes, silent, public.WithClaims(`{"access_token":{"nbf":{"essential":true,"value":"1"}}}`))
	if err != nil || again.AccessToken == first.AccessToken {
		return "", fmt.Errorf("no new token for a claims challenge: %w", err)
	}
	if err := app.RemoveAccount(ctx, accounts[0]); err != nil {
		return "", err
	}
	if _, err := app.AcquireTokenSilent(ctx, scopes, silent); err == nil {
		return "", errors.New("a token after the account was removed")
	}
	return again.AccessToken, nil
}

func confidentialClient() (confidential.Client, error) {
	c, err := confidential.NewCredFromSecret(secret())
	if err != nil {
		return confidential.Client{}, err
	}
	return confidential.New(authority(), client(), c)
}

func msalConfidential(ctx context.Context, scope string) (string, error) {
	app, err := confidentialClient()
	if err != nil {
		return "", err
	}
	first, err := app.AcquireTokenByCredential(ctx, []string{scope})
	if err != nil {
		return "", err
	}
	again, err := app.AcquireTokenByCredential(ctx, []string{scope})
	if err != nil || again.AccessToken != first.AccessToken {
		return "", fmt.Errorf("the token is not found in the cache: %w", err)
	}
	return again.AccessToken, nil
}

func msalOnBehalfOf(ctx context.Context, scope string) (string, error) {
	app, err := confidentialClient()
	if err != nil {
		return "", err
	}
	assertion, err := text("USER_ASSERTION_FILE")
	if err != nil {
		return "", err
	}
	t, err := app.AcquireTokenOnBehalfOf(ctx, assertion, []string{scope})
	return t.AccessToken, err
}
