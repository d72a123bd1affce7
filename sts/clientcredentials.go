package sts

import "context"

// clientCredentials is the client credentials grant (RFC 6749 section 4.4): the application speaks for itself.
func (s *Server) clientCredentials(_ context.Context, x *exchange) error {
	if x.place.tenant == nil {
		return fail(50059, x.place.word)
	}
	if !x.client.proved {
		return fail(7000218)
	}
	x.subject.tenant = x.place.tenant
	a, err := askOf(x.form, x.version)
	if err != nil {
		return err
	}
	// Clients append the OpenID scopes here, too; they mean nothing without a user.
	if a.resource == "" || a.values != nil {
		return fail(1002012, clip(a.Text, 120))
	}
	a.oidc, a.offline = nil, false
	x.subject.ask = &a
	return nil
}
