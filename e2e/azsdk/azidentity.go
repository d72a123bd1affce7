package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// azidentityWays are the credentials of the Azure SDK for Go. Each is asked twice: the second token must come from its cache.
var azidentityWays = map[string]acquire{
	"azidentity-secret": credential(func() (azcore.TokenCredential, error) {
		return azidentity.NewClientSecretCredential(tenant(), client(), secret(), nil)
	}),
	"azidentity-certificate": credential(func() (azcore.TokenCredential, error) {
		raw, err := file("AZURE_CLIENT_CERTIFICATE_PATH")
		if err != nil {
			return nil, err
		}
		certs, key, err := azidentity.ParseCertificates(raw, nil)
		if err != nil {
			return nil, err
		}
		return azidentity.NewClientCertificateCredential(tenant(), client(), certs, key, nil)
	}),
	"azidentity-assertion": credential(func() (azcore.TokenCredential, error) {
		return azidentity.NewClientAssertionCredential(tenant(), client(), func(context.Context) (string, error) { return text("AZURE_FEDERATED_TOKEN_FILE") }, nil)
	}),
	"azidentity-workload": credential(func() (azcore.TokenCredential, error) { return azidentity.NewWorkloadIdentityCredential(nil) }),
	"azidentity-password": credential(func() (azcore.TokenCredential, error) {
		//lint:ignore SA1019 programs still use it
		return azidentity.NewUsernamePasswordCredential(tenant(), client(), os.Getenv("AZURE_USERNAME"), os.Getenv("AZURE_PASSWORD"), nil)
	}),
	"azidentity-devicecode": credential(func() (azcore.TokenCredential, error) {
		return azidentity.NewDeviceCodeCredential(&azidentity.DeviceCodeCredentialOptions{
			TenantID: tenant(), ClientID: client(),
			UserPrompt: func(_ context.Context, m azidentity.DeviceCodeMessage) error {
				_, err := fmt.Fprintln(os.Stderr, m.Message)
				return err
			},
		})
	}),
	"azidentity-browser": credential(func() (azcore.TokenCredential, error) {
		return azidentity.NewInteractiveBrowserCredential(&azidentity.InteractiveBrowserCredentialOptions{TenantID: tenant(), ClientID: client()})
	}),
	"azidentity-onbehalfof": credential(func() (azcore.TokenCredential, error) {
		assertion, err := text("USER_ASSERTION_FILE")
		if err != nil {
			return nil, err
		}
		return azidentity.NewOnBehalfOfCredentialWithSecret(tenant(), client(), assertion, secret(), nil)
	}),
	"azidentity-environment": credential(func() (azcore.TokenCredential, error) { return azidentity.NewEnvironmentCredential(nil) }),
	"azidentity-cli": credential(func() (azcore.TokenCredential, error) {
		return azidentity.NewAzureCLICredential(&azidentity.AzureCLICredentialOptions{TenantID: tenant()})
	}),
	"azidentity-default": credential(func() (azcore.TokenCredential, error) { return azidentity.NewDefaultAzureCredential(nil) }),
}

func credential(make func() (azcore.TokenCredential, error)) acquire {
	return func(ctx context.Context, scope string) (string, error) {
		c, err := make()
		if err != nil {
			return "", err
		}
		var tokens [2]string
		for i := range tokens {
			t, err := c.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{scope}})
			if err != nil {
				return "", err
			}
			tokens[i] = t.Token
		}
		if _, cli := c.(*azidentity.AzureCLICredential); tokens[0] != tokens[1] && !cli {
			return "", errors.New("the second token did not come from the cache")
		}
		return tokens[1], nil
	}
}
