package main

import (
	"slices"
	"testing"

	"github.com/gatehouse-k8s/gatehouse/msi"
)

// TestIdentityVariables: each form sets what its clients look for, and nothing by which another would be found first.
func TestIdentityVariables(t *testing.T) {
	for form, want := range map[msi.Form][][2]string{
		msi.AppService: {
			{"IDENTITY_ENDPOINT", "http://127.0.0.1:5/msi/token"}, {"IDENTITY_HEADER", "S"}, {"MSI_ENDPOINT", "http://127.0.0.1:5/msi/token"}, {"MSI_SECRET", "S"},
			{"APPSETTING_WEBSITE_SITE_NAME", "gatehouse"},
		},
		msi.IMDS: {{"HTTP_PROXY", "http://gatehouse-identity:S@127.0.0.1:5"}, {"http_proxy", "http://gatehouse-identity:S@127.0.0.1:5"}},
		msi.Arc:  {{"IDENTITY_ENDPOINT", "http://127.0.0.1:5/metadata/identity/oauth2/token"}, {"IMDS_ENDPOINT", "http://127.0.0.1:5"}},
	} {
		got := identityVariables(&msi.Opened{Endpoint: msi.Endpoint{Form: form, Address: "127.0.0.1:5"}, Secret: "S"})
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", form, got, want)
		}
		for _, v := range got {
			if !slices.Contains(foreign, v[0]) && form != msi.IMDS {
				t.Errorf("%s: gatehouse env does not unset %s", form, v[0])
			}
			if form == msi.IMDS && !ofIdentity(v[1]) {
				t.Errorf("%s is not known as one of ours", v[0])
			}
		}
	}
	if identityVariables(nil) != nil || ofIdentity("http://proxy.example:3128") || ofIdentity("http://user@proxy.example") || ofIdentity("") || ofIdentity("%") {
		t.Error("a proxy of the user's is taken for one of ours")
	}
}

func TestBypassesMetadata(t *testing.T) {
	for entry, want := range map[string]bool{
		"169.254.169.254": true, "169.254.169.254:80": true, "169.254.0.0/16": true, "0.0.0.0/0": true, "169.254.*": true, "*": true,
		"169.254.169.25": false, "1": false, "10.0.0.0/8": false, "localhost": false, "::1": false, "fe80::/10": false, "corp.example": false,
	} {
		if got := bypassesMetadata(entry); got != want {
			t.Errorf("%s: %v, want %v", entry, got, want)
		}
	}
	old := map[string]string{"NO_PROXY": "corp.example,169.254.169.254"}
	for form, want := range map[msi.Form][]string{msi.AppService: nil, msi.IMDS: {"169.254.169.254"}} {
		_, dropped := environment("/d", testFacts, tenantStatus{ID: testFacts.Tenant}, &msi.Opened{Endpoint: msi.Endpoint{Form: form}}, func(name string) string { return old[name] })
		if !slices.Equal(dropped, want) {
			t.Errorf("%s: dropped %q, want %q", form, dropped, want)
		}
	}
}
