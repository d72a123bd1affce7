package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/front"
	"github.com/gatehouse-k8s/gatehouse/msi"
)

// foreign are the variables that would lead a client elsewhere, or make it sign in with the credentials of a real
// cloud here.
var foreign = []string{
	"AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_CLIENT_CERTIFICATE_PASSWORD", "AZURE_TENANT_ID",
	"AZURE_SUBSCRIPTION_ID", "AZURE_USERNAME", "AZURE_PASSWORD", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST",
	"AAD_SERVICE_PRINCIPAL_CLIENT_ID", "AAD_SERVICE_PRINCIPAL_CLIENT_SECRET", "AAD_SERVICE_PRINCIPAL_CLIENT_CERTIFICATE",
	"AAD_SERVICE_PRINCIPAL_CLIENT_CERTIFICATE_PASSWORD", "AAD_USER_PRINCIPAL_NAME", "AAD_USER_PRINCIPAL_PASSWORD", "AAD_LOGIN_METHOD",
	"ARM_CLIENT_ID", "ARM_CLIENT_SECRET", "ARM_CLIENT_CERTIFICATE", "ARM_CLIENT_CERTIFICATE_PATH", "ARM_CLIENT_CERTIFICATE_PASSWORD",
	"ARM_TENANT_ID", "ARM_SUBSCRIPTION_ID", "ARM_ENVIRONMENT", "ARM_METADATA_HOSTNAME", "ARM_CLOUD_METADATA_URL", "ARM_OIDC_TOKEN",
	"ARM_OIDC_REQUEST_TOKEN", "ARM_OIDC_REQUEST_URL", "ARM_USE_MSI", "ARM_MSI_ENDPOINT", "IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT", "MSI_SECRET",
	"IDENTITY_SERVER_THUMBPRINT", "IMDS_ENDPOINT", "APPSETTING_WEBSITE_SITE_NAME", "DEFAULT_IDENTITY_CLIENT_ID",
}

const envSynopsis = `env [--data-dir DIR] [--tenant ID|DOMAIN] [--shell sh|fish|powershell] [--identity NAME [--form appservice|imds|arc] [--stop]]

Waits until the server is ready. Another tenant's clients get folders of their own. To use it:
  sh          eval "$(gatehouse env)"
  fish        gatehouse env --shell fish | source
  powershell  gatehouse env --shell powershell | Out-String | Invoke-Expression

With --identity, programs in this shell can also get the tokens of a managed identity of the tenant, as on a resource that it is assigned to
(az login --identity, kubelogin -l msi). That ends with --stop, or with the server.`

func runEnv(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var dir, shell, tenant string
	var identity identityFlags
	fs := flag.NewFlagSet("env", flag.ContinueOnError)
	dataDirFlag(fs, &dir)
	fs.StringVar(&tenant, "tenant", "", "`ID` or domain of the tenant (default: the first)")
	fs.StringVar(&shell, "shell", "sh", "`SHELL` that reads the output: sh, fish or powershell")
	identity.define(fs)
	if err := parse(fs, args, stdout, envSynopsis); err != nil {
		return err
	}
	if err := identity.check(); err != nil {
		return err
	}
	print, ok := shells[shell]
	if !ok {
		return usageError{fmt.Errorf("--shell %q is not known; choose sh, fish or powershell", shell)}
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	s, err := awaitStatus(ctx, dir, stderr)
	if err != nil {
		return err
	}
	t, err := s.tenant(tenant)
	if err != nil {
		return err
	}
	if tenant != "" {
		identity.tenant = t.ID
	}
	opened, err := identity.apply(ctx, dir, stderr)
	if err != nil {
		return err
	}
	var out strings.Builder
	for _, name := range foreign {
		print.unset(&out, name)
	}
	for _, name := range []string{"HTTP_PROXY", "http_proxy"} {
		if ofIdentity(os.Getenv(name)) { // of an earlier --form imds
			print.unset(&out, name)
		}
	}
	vars, dropped := environment(dir, s.facts, t, opened, os.Getenv)
	if len(dropped) > 0 {
		fmt.Fprintf(stderr, "left %s out of NO_PROXY: with it, sign-ins would go to the real cloud\n", strings.Join(dropped, ", "))
	}
	for _, v := range vars {
		print.set(&out, v[0], v[1])
	}
	_, err = io.WriteString(stdout, out.String())
	return err
}

// environment is what clients need, as name and value, to use a tenant; with opened also to get an identity's tokens. dropped are the
// entries of the user's NO_PROXY that would lead clients past the proxy for a name that it answers for.
func environment(dir string, f facts, t tenantStatus, opened *msi.Opened, getenv func(string) string) (vars [][2]string, dropped []string) {
	bundle := filepath.Join(dir, "ca-bundle.crt")
	noProxy := []string{"localhost", "127.0.0.1", "::1"}
	for _, old := range strings.Split(getenv("NO_PROXY")+","+getenv("no_proxy"), ",") {
		switch old = strings.TrimSpace(old); {
		case old == "" || slices.Contains(noProxy, old) || slices.Contains(dropped, old):
		case bypasses(old, f.Domain), opened != nil && opened.Form == msi.IMDS && bypassesMetadata(old):
			dropped = append(dropped, old)
		default:
			noProxy = append(noProxy, old)
		}
	}
	none := strings.Join(noProxy, ",")
	own := dir // of az and the others; those of two tenants know nothing of each other
	if t.ID != f.Tenant {
		own = tenantDir(dir, t.Domain)
	}
	vars = [][2]string{
		{"HTTPS_PROXY", f.Proxy}, {"https_proxy", f.Proxy}, {"NO_PROXY", none}, {"no_proxy", none},
		{"REQUESTS_CA_BUNDLE", bundle}, {"SSL_CERT_FILE", bundle}, {"NODE_EXTRA_CA_CERTS", bundle},
		{"AZURE_CONFIG_DIR", filepath.Join(own, "azure")}, {"KUBECACHEDIR", filepath.Join(own, "kube-cache")},
		{"AZD_CONFIG_DIR", filepath.Join(own, "azd")}, {"KUBECONFIG", filepath.Join(own, "kubeconfig")},
		{"GATEHOUSE_URL", f.URL}, {"GATEHOUSE_TENANT_ID", t.ID}, {"GATEHOUSE_SUBSCRIPTION_ID", t.Subscription},
		{"GATEHOUSE_DOMAIN", t.Domain}, {"GATEHOUSE_ADMIN", t.Admin}, {"GATEHOUSE_DATA_DIR", dir},
	}
	if getenv("AZURE_CLI_TIMEOUT") == "" { // kubelogin waits so long for everything, and people take more than its minute to enter a code
		vars = append(vars, [2]string{"AZURE_CLI_TIMEOUT", "15m"})
	}
	return append(vars, identityVariables(opened)...), dropped
}

// bypasses reports whether an entry of NO_PROXY covers a host name that the proxy answers for: it is "*", the name, or a domain
// that the name is in, with or without a dot, a star or a port.
func bypasses(entry, domain string) bool {
	entry = strings.ToLower(entry)
	if host, _, err := net.SplitHostPort(entry); err == nil {
		entry = host
	}
	entry = strings.TrimLeft(entry, "*.")
	if entry == "" {
		return true
	}
	for host := range front.HostsOf(domain) {
		if host == entry || strings.HasSuffix(host, "."+entry) {
			return true
		}
	}
	return false
}

// shells print assignments for eval, with values that no shell takes for anything else.
var shells = map[string]struct {
	set   func(w io.Writer, name, value string)
	unset func(w io.Writer, name string)
}{
	"sh": {
		func(w io.Writer, name, value string) {
			fmt.Fprintf(w, "export %s='%s'\n", name, strings.ReplaceAll(value, "'", `'\''`))
		},
		func(w io.Writer, name string) { fmt.Fprintf(w, "unset %s\n", name) },
	},
	"fish": {
		func(w io.Writer, name, value string) {
			fmt.Fprintf(w, "set -gx %s '%s'\n", name, strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value))
		},
		func(w io.Writer, name string) { fmt.Fprintf(w, "set -e %s\n", name) },
	},
	"powershell": {
		func(w io.Writer, name, value string) {
			fmt.Fprintf(w, "$env:%s = '%s'\n", name, strings.ReplaceAll(value, "'", "''"))
		},
		func(w io.Writer, name string) {
			fmt.Fprintf(w, "Remove-Item Env:%s -ErrorAction SilentlyContinue\n", name)
		},
	},
}

const (
	startLimit = 90 * time.Second // a first start makes keys and a database; more than that and something is wrong
	comeLimit  = 5 * time.Second  // for a server that was started in the same moment to take its data directory
)

// awaitStatus waits until the server on a data directory is ready, because people start it in the background and go on at once.
func awaitStatus(ctx context.Context, dir string, stderr io.Writer) (status, error) {
	start := time.Now()
	said := false
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var s status
		if err := control(ctx, dir, http.MethodGet, "/status", &s); err == nil && s.Ready {
			return s, nil
		}
		waited := time.Since(start)
		switch {
		case waited > comeLimit && !locked(dir):
			return status{}, fmt.Errorf("no server is running on %s; start one with: gatehouse up --data-dir %s", dir, dir)
		case waited > startLimit:
			return status{}, fmt.Errorf("the server on %s did not get ready within %s; its own output says why", dir, startLimit)
		case !said && waited > time.Second && locked(dir):
			said = true
			fmt.Fprintf(stderr, "waiting for the server on %s to get ready\n", dir)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return status{}, ctx.Err()
		}
	}
}
