package sts

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// onBehalfOf is the on-behalf-of grant (Microsoft identity platform, "OAuth 2.0 On-Behalf-Of flow"): a service that was called with a
// user's token gets one for the next service. The new token belongs to the user's session, and ends with it.
func (s *Server) onBehalfOf(_ context.Context, x *exchange) error {
	if use, err := x.form.need("requested_token_use"); err != nil {
		return err
	} else if use != "on_behalf_of" {
		return fail(90013, "requested_token_use is '"+clip(use, 40)+"'; it must be on_behalf_of")
	}
	if !x.client.proved {
		return fail(7000218)
	}
	raw, err := x.form.need("assertion")
	if err != nil {
		return err
	}
	t, err := s.userAssertion(x, raw)
	if err != nil {
		return err
	}
	user, session := x.dir().User(t.Object), In(x.view).Session(t.Session)
	home := x.dir().Home(user)
	switch {
	case home == nil || user.Tenant != t.Tenant:
		return fail(50173)
	case !home.Enabled:
		x.subject.home = home
		return fail(50057)
	case session == nil || session.User != home.ID || session.Began < home.SessionsValidFrom || !x.now.Before(session.Expires):
		x.subject.home = home
		return fail(50173)
	}
	return x.speakFor(home, session, x.dir().Tenant(t.Tenant))
}

// userAssertion checks that an assertion is an access token of a user for the client that presents it.
func (s *Server) userAssertion(x *exchange, raw string) (*Token, error) {
	if len(raw) > MaxToken {
		return nil, fail(50013, "it is too long")
	}
	t, err := s.tokens.Signed(x.view, []byte(raw), HashToken([]byte(raw)))
	switch {
	case errors.Is(err, ErrBound):
		return nil, fail(50013, "it is bound to a key (proof of possession), which its user alone can prove to have")
	case err != nil:
		return nil, fail(50013, "it is not a token that this server signed")
	}
	key := In(x.view).Key(t.KeyID)
	switch {
	case key == nil || !key.InForce(x.now):
		return nil, fail(50013, "its signing key has been withdrawn")
	case !s.Authorities.Trusts(t.Issuer, t.Tenant) || !x.place.holds(t.Tenant):
		return nil, fail(50013, "its issuer is not this tenant")
	case t.AppOnly():
		return nil, fail(7000114, x.client.app.AppID)
	case t.Client() == "" || t.Scopes == "":
		return nil, fail(50013, "it is not an access token with delegated scopes")
	case !x.client.isAudience(t.Audience):
		return nil, fail(50013, "its audience is not the application "+x.client.app.AppID.String())
	case x.now.Unix() >= t.Expires, x.now.Unix() < t.NotBefore:
		return nil, fail(500133, stamp(x.now), stamp(time.Unix(t.Expires, 0)))
	}
	return t, nil
}

// isAudience reports whether an audience is the client: its id, as "spn:" too, or one of its identifier URIs.
func (c *client) isAudience(aud string) bool {
	bare, _ := cutPrefixFold(aud, "spn:")
	if id, err := directory.ParseID(bare); err == nil {
		return id == c.app.AppID
	}
	for _, uri := range c.app.IdentifierURIs {
		if strings.EqualFold(strings.TrimSuffix(uri, "/"), strings.TrimSuffix(aud, "/")) {
			return true
		}
	}
	return false
}
