package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

var testFacts = facts{
	URL: "https://localhost:8443", Proxy: "http://127.0.0.1:8442", Tenant: "t", Subscription: "s",
	Domain: "gatehouse.internal", Admin: "admin@gatehouse.internal",
}

func TestEnvironment(t *testing.T) {
	old := map[string]string{"NO_PROXY": "corp.example, 127.0.0.1,.microsoftonline.com,*", "no_proxy": "graph.microsoft.com:443,azure.com,10.0.0.0/8"}
	got := map[string]string{}
	first := tenantStatus{ID: "t", Subscription: "s", Domain: "gatehouse.internal", Admin: "admin@gatehouse.internal"}
	vars, dropped := environment("/d", testFacts, first, nil, func(name string) string { return old[name] })
	for _, v := range vars {
		got[v[0]] = v[1]
	}
	if want := []string{".microsoftonline.com", "*", "graph.microsoft.com:443", "azure.com"}; !slices.Equal(dropped, want) {
		t.Errorf("dropped %q, want %q", dropped, want)
	}
	for name, want := range map[string]string{
		"HTTPS_PROXY": "http://127.0.0.1:8442", "https_proxy": "http://127.0.0.1:8442",
		"NO_PROXY": "localhost,127.0.0.1,::1,corp.example,10.0.0.0/8", "no_proxy": "localhost,127.0.0.1,::1,corp.example,10.0.0.0/8",
		"REQUESTS_CA_BUNDLE": "/d/ca-bundle.crt", "SSL_CERT_FILE": "/d/ca-bundle.crt", "NODE_EXTRA_CA_CERTS": "/d/ca-bundle.crt",
		"AZURE_CONFIG_DIR": "/d/azure", "KUBECACHEDIR": "/d/kube-cache", "AZD_CONFIG_DIR": "/d/azd", "KUBECONFIG": "/d/kubeconfig",
		"GATEHOUSE_URL": "https://localhost:8443", "GATEHOUSE_TENANT_ID": "t", "GATEHOUSE_SUBSCRIPTION_ID": "s",
		"GATEHOUSE_DOMAIN": "gatehouse.internal", "GATEHOUSE_ADMIN": "admin@gatehouse.internal", "GATEHOUSE_DATA_DIR": "/d",
	} {
		if got[name] != want {
			t.Errorf("%s=%q, want %q", name, got[name], want)
		}
	}
}

// TestEnvironmentOfTenant: the clients of another tenant have folders of their own, and the server is the same.
func TestEnvironmentOfTenant(t *testing.T) {
	got := map[string]string{}
	other := tenantStatus{ID: "o", Subscription: "p", Domain: "fabrikam.example", Admin: "admin@fabrikam.example"}
	vars, _ := environment("/d", testFacts, other, nil, func(string) string { return "" })
	for _, v := range vars {
		got[v[0]] = v[1]
	}
	for name, want := range map[string]string{
		"AZURE_CONFIG_DIR": "/d/tenants/fabrikam.example/azure", "KUBECACHEDIR": "/d/tenants/fabrikam.example/kube-cache",
		"AZD_CONFIG_DIR": "/d/tenants/fabrikam.example/azd", "KUBECONFIG": "/d/tenants/fabrikam.example/kubeconfig",
		"SSL_CERT_FILE": "/d/ca-bundle.crt", "GATEHOUSE_DATA_DIR": "/d", "GATEHOUSE_URL": "https://localhost:8443",
		"GATEHOUSE_TENANT_ID": "o", "GATEHOUSE_SUBSCRIPTION_ID": "p", "GATEHOUSE_DOMAIN": "fabrikam.example", "GATEHOUSE_ADMIN": "admin@fabrikam.example",
	} {
		if got[name] != want {
			t.Errorf("%s=%q, want %q", name, got[name], want)
		}
	}
}

// TestShellQuoting lets a real shell read values that would do harm unquoted.
func TestShellQuoting(t *testing.T) {
	for _, value := range []string{"plain", "two words", "it's", `$HOME "x" \ ` + "`id`", "a;b&c|d", "''"} {
		var script strings.Builder
		shells["sh"].set(&script, "GATEHOUSE_TEST", value)
		out, err := exec.Command("sh", "-c", script.String()+`printf %s "$GATEHOUSE_TEST"`).Output()
		if err != nil || string(out) != value {
			t.Errorf("%q came out as %q (%v) of %s", value, out, err, &script)
		}
	}
	var fish, ps strings.Builder
	shells["fish"].set(&fish, "X", `a'b\c`)
	shells["powershell"].set(&ps, "X", `a'b$c`)
	if want := "set -gx X 'a\\'b\\\\c'\n"; fish.String() != want {
		t.Errorf("fish: %q, want %q", fish.String(), want)
	}
	if want := "$env:X = 'a''b$c'\n"; ps.String() != want {
		t.Errorf("powershell: %q, want %q", ps.String(), want)
	}
}
