package sts

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// client is the application that asks for a token.
type client struct {
	app       *directory.Application // its registration; of first-party applications their definition
	principal *directory.ServicePrincipal
	proved    bool // it has shown a credential
	certified bool // and that was an assertion

	credential string // the kind of what it showed and, once it is known, which one; for the audit
}

// firstParty reports whether the client is one of the cloud's own, which need no consent.
func (c *client) firstParty() bool { return c.app.Tenant.IsZero() }

// clientAuth is what a request says about its client (RFC 6749 section 2.3).
type clientAuth struct {
	id            string
	secret        string
	assertion     string
	assertionType string
}

func readClientAuth(r *http.Request, f form) (clientAuth, error) {
	a := clientAuth{id: f["client_id"], secret: f["client_secret"], assertion: f["client_assertion"], assertionType: f["client_assertion_type"]}
	user, password, ok := r.BasicAuth()
	if !ok {
		if r.Header.Get("Authorization") != "" {
			return a, fail(9002313, "the Authorization header must be Basic, with the form-encoded client id and secret")
		}
		return a, nil
	}
	// RFC 6749 section 2.3.1: both are form-encoded before they are joined.
	id, err1 := url.QueryUnescape(user)
	secret, err2 := url.QueryUnescape(password)
	switch {
	case err1 != nil || err2 != nil:
		return a, fail(9002313, "the client id or secret in the Authorization header is not form-encoded")
	case a.secret != "" || a.assertion != "":
		return a, fail(9002313, "the client authenticates both in the Authorization header and in the body; use one of them")
	case a.id != "" && !strings.EqualFold(a.id, id):
		return a, fail(9002313, "client_id in the body is not the one in the Authorization header")
	}
	return clientAuth{id: id, secret: secret}, nil
}

// findClient looks a client up. Where the tenancy names a tenant, it must have a service principal there;
// else admit demands that once the tenant is known.
func findClient(dir *directory.State, place tenancy, id string) (*client, error) {
	if id == "" {
		return nil, fail(900144, "client_id")
	}
	appID, err := directory.ParseID(id)
	if err != nil {
		return nil, fail(700016, clip(id, 80), place.segment())
	}
	c := &client{app: directory.FirstPartyApp(appID)}
	if c.app == nil {
		c.app = dir.ApplicationByAppID(appID)
	}
	if c.app == nil {
		return nil, fail(700016, appID, place.segment())
	}
	if place.tenant != nil {
		return c, c.admit(dir, place.tenant)
	}
	return c, nil
}

// admit demands that the client may be used in a tenant.
func (c *client) admit(dir *directory.State, tenant *directory.Tenant) error {
	c.principal = dir.ServicePrincipalByName(tenant.ID, c.app.AppID.String())
	switch {
	case c.principal == nil && c.app.Tenant == tenant.ID:
		return fail(7000229, c.app.AppID, tenant.ID)
	case c.principal == nil:
		return fail(700016, c.app.AppID, tenant.DisplayName)
	case !c.principal.Enabled:
		return fail(7000112, c.app.AppID, c.app.DisplayName)
	}
	return nil
}

// verifyCredential checks the credential that the request carries, if any. Whether one is needed is for the grants to say.
func (s *Server) verifyCredential(ctx context.Context, x *exchange, a clientAuth) error {
	c, id := x.client, x.client.app.AppID
	switch {
	case a.assertion != "" && a.secret != "":
		return fail(9002313, "the client authenticates both with client_secret and with client_assertion; use one of them")
	case a.assertion != "" && c.app.PublicClient && len(c.certificates())+len(c.app.Federated) == 0:
		return fail(700025, id)
	case a.assertion != "":
		c.credential = "assertion"
		return s.verifyAssertion(ctx, x, a)
	case a.secret == "":
		return nil
	}
	c.credential = "secret"
	match, err := s.Directory.VerifyAppSecret(ctx, c.app.ID, c.app.Passwords, a.secret)
	if err != nil {
		return err
	}
	held := len(c.app.Passwords)
	if match == nil && c.principal != nil {
		held += len(c.principal.Passwords)
		if match, err = s.Directory.VerifyAppSecret(ctx, c.principal.ID, c.principal.Passwords, a.secret); err != nil {
			return err
		}
	}
	if match != nil {
		c.credential = "secret " + match.KeyID.String()
	}
	switch {
	case match == nil && held == 0 && c.app.PublicClient:
		return fail(700025, id)
	case match == nil || x.now.Before(match.Start):
		return fail(7000215, id)
	case !x.now.Before(match.End):
		return fail(7000222, id, match.End.UTC().Format("2006-01-02 15:04:05Z"))
	}
	c.proved = true
	return nil
}

// requireCredential demands a credential of every client that is not registered as public.
func (c *client) requireCredential() error {
	if c.proved || c.app.PublicClient {
		return nil
	}
	return fail(7000218)
}

// acr is the value of appidacr and azpacr: 0 for a public client, 1 for one that showed a secret, 2 for one that showed an assertion.
func (c *client) acr() string {
	switch {
	case c.certified:
		return "2"
	case c.proved:
		return "1"
	}
	return "0"
}
