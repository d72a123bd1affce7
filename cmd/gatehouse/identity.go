package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/msi"
)

// identityFlags are the flags of env for the tokens of a managed identity.
type identityFlags struct {
	name, form string
	tenant     string // id of the one that --tenant names; empty: left out
	stop       bool
}

func (i *identityFlags) define(fs *flag.FlagSet) {
	fs.StringVar(&i.name, "identity", "", "hand out the tokens of the managed identity `NAME` to programs in this shell: a resource id, a client id, or the name if it is that of one only in the tenant")
	fs.StringVar(&i.form, "form", "", "`appservice`, imds or arc: how programs ask for them (default appservice; with --stop, all)")
	fs.BoolVar(&i.stop, "stop", false, "hand them out no longer")
}

func (i *identityFlags) check() error {
	if i.name == "" && (i.form != "" || i.stop) {
		return usageError{errors.New("--form and --stop need --identity NAME")}
	}
	if _, err := msi.ParseForm(i.form); err != nil {
		return usageError{err}
	}
	return nil
}

// apply opens or closes the identity's endpoint on the server. It returns the one that was opened; nil: none.
func (i *identityFlags) apply(ctx context.Context, dir string, stderr io.Writer) (*msi.Opened, error) {
	if i.name == "" {
		return nil, nil
	}
	path := "/identities?" + url.Values{"name": {i.name}, "tenant": {i.tenant}, "form": {i.form}}.Encode()
	if i.stop {
		var closed []msi.Endpoint
		if err := control(ctx, dir, http.MethodDelete, path, &closed); err != nil {
			return nil, err
		}
		for _, c := range closed {
			fmt.Fprintf(stderr, "closed the endpoint for %s (%s form)\n", c.Resource, c.Form)
		}
		return nil, nil
	}
	opened := new(msi.Opened)
	if err := control(ctx, dir, http.MethodPost, path, opened); err != nil {
		return nil, err
	}
	same := "--data-dir " + quoted(dir)
	if i.tenant != "" {
		same += " --tenant " + i.tenant
	}
	fmt.Fprintf(stderr, "programs in this shell can act as %s; to end that: gatehouse env %s --identity %s --stop\n", opened.Resource, same, quoted(i.name))
	return opened, nil
}

// identityVariables lead clients to an endpoint. Libraries look for them in different orders, and what they find first must work:
// azidentity and MSAL take IDENTITY_ENDPOINT with IDENTITY_HEADER; az 2.45 sends a secret only where APPSETTING_WEBSITE_SITE_NAME is set,
// and then MSI_SECRET to MSI_ENDPOINT; where none of these is set, both ask the fixed metadata address, by way of HTTP_PROXY.
func identityVariables(o *msi.Opened) [][2]string {
	if o == nil {
		return nil
	}
	at := "http://" + o.Address
	switch o.Form {
	case msi.AppService:
		endpoint := at + "/msi/token"
		return [][2]string{
			{"IDENTITY_ENDPOINT", endpoint}, {"IDENTITY_HEADER", o.Secret}, {"MSI_ENDPOINT", endpoint}, {"MSI_SECRET", o.Secret},
			{"APPSETTING_WEBSITE_SITE_NAME", "gatehouse"},
		}
	case msi.IMDS:
		proxy := "http://" + msi.ProxyUser + ":" + o.Secret + "@" + o.Address
		return [][2]string{{"HTTP_PROXY", proxy}, {"http_proxy", proxy}}
	default:
		return [][2]string{{"IDENTITY_ENDPOINT", at + "/metadata/identity/oauth2/token"}, {"IMDS_ENDPOINT", at}}
	}
}

// ofIdentity reports whether a proxy's URL is that of an identity's endpoint.
func ofIdentity(proxy string) bool {
	u, err := url.Parse(proxy)
	return err == nil && u.User != nil && u.User.Username() == msi.ProxyUser
}

// bypassesMetadata reports whether an entry of NO_PROXY covers the metadata address. On a virtual machine of the real cloud, the
// machine's own identity would answer.
func bypassesMetadata(entry string) bool {
	metadata := netip.MustParseAddr("169.254.169.254")
	if prefix, err := netip.ParsePrefix(entry); err == nil {
		return prefix.Contains(metadata)
	}
	if host, _, err := net.SplitHostPort(entry); err == nil {
		entry = host
	}
	prefix, wild := strings.CutSuffix(entry, "*")
	return entry == metadata.String() || wild && strings.HasPrefix(metadata.String(), prefix)
}
