package aks

import (
	"encoding/json"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/fault"
)

// unavailable are the properties that promise a protection, or a way to sign in, that Gatehouse does not give. Keeping
// and showing them, as is done with the others, would let people rely on what is not there.
var unavailable = []struct {
	path  []string
	means func(any) bool
	what  string
}{
	{[]string{"apiServerAccessProfile", "authorizedIPRanges"}, isFilled, "Limiting the API server to address ranges"},
	{[]string{"apiServerAccessProfile", "enablePrivateCluster"}, isTrue, "A private cluster"},
	{[]string{"apiServerAccessProfile", "enableVnetIntegration"}, isTrue, "An API server in a virtual network"},
	{[]string{"publicNetworkAccess"}, is("Disabled"), "Closing public access"},
	{[]string{"enablePodSecurityPolicy"}, isTrue, "The pod security policy"},
	{[]string{"addonProfiles", "azurepolicy", "enabled"}, isTrue, "Azure Policy"},
	{[]string{"securityProfile", "azureKeyVaultKms", "enabled"}, isTrue, "Encryption of secrets with Key Vault"},
	{[]string{"securityProfile", "defender", "securityMonitoring", "enabled"}, isTrue, "Microsoft Defender"},
	{[]string{"securityProfile", "customCATrustCertificates"}, isFilled, "Trust in further CAs"},
	{[]string{"podIdentityProfile", "enabled"}, isTrue, "Pod identity"},
}

func isTrue(v any) bool { return v == true || v == "true" }

func is(want string) func(any) bool {
	return func(v any) bool { s, ok := v.(string); return ok && strings.EqualFold(s, want) }
}

func isFilled(v any) bool {
	list, ok := v.([]any)
	return v != nil && (!ok || len(list) > 0)
}

func refuseUnavailable(properties map[string]any) error {
	for _, u := range unavailable {
		if v := lookup(properties, u.path...); u.means(v) {
			shown, _ := json.Marshal(v)
			at := "properties." + strings.Join(u.path, ".")
			return fault.New(fault.Invalid, "%s ('%s': %.100s) is not available in this version of Gatehouse; leave it out.", u.what, at, shown).At(at).WithCode("BadRequest")
		}
	}
	return nil
}
