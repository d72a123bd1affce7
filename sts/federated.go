package sts

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// verifyFederated proves a client by another issuer's token (Microsoft Entra "workload identity federation"). Nothing is fetched
// before issuer, subject and audience match a credential that an administrator has set up.
func (s *Server) verifyFederated(ctx context.Context, x *exchange, raw string, token *jws) error {
	// The cloud's own issuers are ours as far as their tenant is here; another tenant's are like any other issuer's.
	ours := x.dir().Tenant(s.Authorities.Tenant(token.claims.Issuer)) != nil
	found, err := x.client.federated(&token.claims, ours)
	if err != nil {
		return err
	}
	if token.Alg != "RS256" {
		return fail(50027, "its algorithm is '"+clip(token.Alg, 20)+"', and of other issuers only RS256 is accepted")
	}
	if ours {
		err = s.verifyOwn(x, raw)
	} else {
		err = s.verifyForeign(ctx, x, token)
	}
	if err != nil {
		return err
	}
	if err := checkTimes(&token.claims, x.now); err != nil {
		return err
	}
	x.client.proved, x.client.certified, x.client.credential = true, true, "federated "+found.Name
	return nil
}

// federated finds the credential that a token matches, letter by letter.
func (c *client) federated(t *foreignClaims, ours bool) (*directory.FederatedCredential, error) {
	all := c.app.Federated
	if len(all) == 0 {
		return nil, fail(70021, c.app.AppID, clip(t.Issuer, 200), clip(t.Subject, 200), clip(strings.Join(t.Audience, ", "), 200))
	}
	issued := matching(all, func(f directory.FederatedCredential) bool { return f.Issuer == t.Issuer })
	if issued == nil {
		return nil, fail(700211, clip(t.Issuer, 200))
	}
	about := matching(issued, func(f directory.FederatedCredential) bool { return f.Subject == t.Subject })
	if about == nil {
		switch {
		case matching(issued, func(f directory.FederatedCredential) bool { return strings.EqualFold(f.Subject, t.Subject) }) != nil:
			return nil, fail(7002138, clip(t.Subject, 200))
		case ours:
			return nil, fail(7002137, clip(t.Subject, 200))
		}
		return nil, fail(700213, clip(t.Subject, 200))
	}
	meant := matching(about, func(f directory.FederatedCredential) bool { return slices.Contains(t.Audience, f.Audiences[0]) })
	if meant == nil {
		return nil, fail(700212, clip(strings.Join(t.Audience, ", "), 200))
	}
	return &meant[0], nil
}

func matching(all []directory.FederatedCredential, fits func(directory.FederatedCredential) bool) []directory.FederatedCredential {
	var out []directory.FederatedCredential
	for _, f := range all {
		if fits(f) {
			out = append(out, f)
		}
	}
	return out
}

// verifyForeign checks a token's signature with the keys that its issuer publishes.
func (s *Server) verifyForeign(ctx context.Context, x *exchange, token *jws) error {
	key, err := s.Issuers.key(ctx, token.claims.Issuer, token.KeyID, x.now)
	if err != nil {
		// What exactly went wrong with another server is for the log: a client could learn from it what our network looks like.
		s.log().Warn("the keys of a federated issuer could not be had", "issuer", token.claims.Issuer, "kid", clip(token.KeyID, 80), "err", err)
		if errors.Is(err, errNoKey) {
			return fail(50027, "its issuer publishes no RSA key with the kid '"+clip(token.KeyID, 80)+"'")
		}
		return fail(50166, clip(token.claims.Issuer, 200))
	}
	if token.verify(key) != nil {
		return fail(50027, "its signature is wrong")
	}
	return nil
}

// verifyOwn checks a token that this server signed itself: it must speak for an application, such as a managed identity.
func (s *Server) verifyOwn(x *exchange, raw string) error {
	t, err := s.tokens.Signed(x.view, []byte(raw), HashToken([]byte(raw)))
	if errors.Is(err, ErrBound) {
		return fail(50027, "it is bound to a key, and a client assertion carries no proof of that key")
	}
	if err != nil {
		return fail(50027, "its signature is wrong")
	}
	if !t.AppOnly() {
		return fail(700229)
	}
	if err := s.tokens.Check(x.view, t, x.now); err != nil {
		return fail(50027, "it is not valid any more")
	}
	return nil
}
