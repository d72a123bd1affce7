package main

import (
	"context"
	"fmt"
	"os"

	"github.com/hashicorp/go-azure-sdk/sdk/auth"
	"github.com/hashicorp/go-azure-sdk/sdk/environments"
)

// terraformWays are how Terraform's azuread and azurerm providers sign in: they are made with this library, which does all of it by itself.
var terraformWays = map[string]acquire{
	"terraform-secret": provider(func(c *auth.Credentials) error {
		c.EnableAuthenticatingUsingClientSecret, c.ClientSecret = true, secret()
		return nil
	}),
	"terraform-certificate": provider(func(c *auth.Credentials) error {
		c.EnableAuthenticatingUsingClientCertificate, c.ClientCertificatePath = true, os.Getenv("AZURE_CLIENT_CERTIFICATE_PATH")
		c.ClientCertificatePassword = os.Getenv("AZURE_CLIENT_CERTIFICATE_PASSWORD")
		return nil
	}),
	"terraform-oidc": provider(func(c *auth.Credentials) (err error) {
		c.EnableAuthenticationUsingOIDC = true
		c.OIDCAssertionToken, err = text("AZURE_FEDERATED_TOKEN_FILE")
		return err
	}),
	"terraform-cli": provider(func(c *auth.Credentials) error {
		c.EnableAuthenticatingUsingAzureCLI = true
		return nil
	}),
}

// provider signs in to Microsoft Graph as the azuread provider does, whatever the scope.
func provider(configure func(*auth.Credentials) error) acquire {
	return func(ctx context.Context, _ string) (string, error) {
		cloud := environments.AzurePublic()
		c := auth.Credentials{Environment: *cloud, TenantID: tenant(), ClientID: client()}
		if err := configure(&c); err != nil {
			return "", err
		}
		a, err := auth.NewAuthorizerFromCredentials(ctx, c, cloud.MicrosoftGraph)
		if err != nil {
			return "", err
		}
		t, err := a.Token(ctx, nil)
		if err != nil {
			return "", fmt.Errorf("sign in to %s: %w", cloud.MicrosoftGraph.Name(), err)
		}
		return t.AccessToken, nil
	}
}
