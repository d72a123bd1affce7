package sts

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

const (
	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" // RFC 7523 section 2.2

	skew          = 5 * time.Minute // that the clocks of others may be wrong by
	assertionLife = 24 * time.Hour  // of a client's own assertion, as ADAL makes them
)

// verifyAssertion proves a client by a JWT (RFC 7523 section 2.2): one that it signed itself with the key of a certificate that is
// registered for it, or one that another issuer signed and a federated credential of it names. Assertions are not single-use:
// clients send one for as long as it lives, from many processes; what it opens is as short as a client secret's tokens.
func (s *Server) verifyAssertion(ctx context.Context, x *exchange, a clientAuth) error {
	c := x.client
	if a.assertionType != assertionType {
		return fail(90013, "client_assertion_type must be "+assertionType)
	}
	token, err := parseJWS(a.assertion)
	if err != nil {
		return fail(50027, err.Error())
	}
	id := c.app.AppID.String()
	// A client id is no URL, so the two kinds cannot be taken for each other.
	if strings.HasPrefix(token.claims.Issuer, "https://") {
		return s.verifyFederated(ctx, x, a.assertion, token)
	}
	if !strings.EqualFold(token.claims.Issuer, id) || !strings.EqualFold(token.claims.Subject, id) {
		return fail(700021, id)
	}
	key, err := c.certificate(token, x.now)
	if err != nil {
		return err
	}
	if err := s.checkOwnAssertion(x, token); err != nil {
		return err
	}
	c.proved, c.certified, c.credential = true, true, "certificate "+key.KeyID.String()
	return nil
}

// certificates are those of the application and of its service principal.
func (c *client) certificates() []directory.KeyCredential {
	if c.principal == nil {
		return c.app.Keys
	}
	return slices.Concat(c.app.Keys, c.principal.Keys)
}

// certificate finds the registered certificate that signed a token.
func (c *client) certificate(token *jws, now time.Time) (*directory.KeyCredential, error) {
	wrong := func(why string) error { return fail(700027, c.app.AppID, why) }
	if token.Alg != "RS256" && token.Alg != "PS256" {
		return nil, wrong("The algorithm '" + clip(token.Alg, 20) + "' is not supported; sign with RS256 or PS256.")
	}
	keys, thumbprint := c.certificates(), token.Thumbprint
	if thumbprint == "" && token.SHA256 == "" {
		thumbprint = token.KeyID // where Terraform's providers put it
	}
	if thumbprint == "" && token.SHA256 == "" {
		return nil, wrong("The header names no certificate; set x5t or x5t#S256.")
	}
	i := slices.IndexFunc(keys, func(k directory.KeyCredential) bool {
		one, two := k.SHA1(), k.SHA256()
		return (thumbprint == "" || sameThumbprint(thumbprint, one[:])) && (token.SHA256 == "" || sameThumbprint(token.SHA256, two[:]))
	})
	if i < 0 {
		return nil, wrong("The key was not found: no certificate with the thumbprint " + clip(thumbprint+token.SHA256, 80) + " is registered.")
	}
	public, err := keys[i].PublicKey()
	if err != nil {
		return nil, err
	}
	switch {
	case token.verify(public) != nil:
		return nil, wrong("The key was found, but the signature is not of it.")
	case !keys[i].Covers(now):
		return nil, wrong(fmt.Sprintf("The key used is expired or not valid yet: it is good from %s to %s.", stamp(keys[i].Start), stamp(keys[i].End)))
	}
	return &keys[i], nil
}

// sameThumbprint compares a thumbprint as clients write it: base64 in either alphabet, with padding or without.
func sameThumbprint(text string, want []byte) bool {
	text = strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(text, "="))
	return text == base64.RawURLEncoding.EncodeToString(want)
}

// checkOwnAssertion checks the audience and the times of an assertion that a client made itself.
func (s *Server) checkOwnAssertion(x *exchange, token *jws) error {
	t := &token.claims
	// One audience only: with two, somebody else whom it was sent to could use it here.
	if len(t.Audience) != 1 || !s.isOurEndpoint(x, t.Audience[0]) {
		return fail(50012, clip(strings.Join(t.Audience, "', '"), 200), s.Authorities.Own().Login+"/"+x.clientTenant().ID.String()+"/oauth2/v2.0/token")
	}
	if err := checkTimes(t, x.now); err != nil {
		return err
	}
	if life := t.Expires.time().Sub(x.now); life > assertionLife+skew {
		return fail(700024, stamp(x.now), "unknown", stamp(t.Expires.time()), "An assertion lives 24 hours at most.")
	}
	return nil
}

// checkTimes checks exp and nbf.
func checkTimes(t *foreignClaims, now time.Time) error {
	if t.Expires == 0 {
		return fail(50027, "it has no expiry (exp)")
	}
	from := "unknown"
	if t.NotBefore != 0 {
		from = stamp(t.NotBefore.time())
	}
	if !now.Before(t.Expires.time().Add(skew)) || t.NotBefore != 0 && now.Before(t.NotBefore.time().Add(-skew)) {
		return fail(700024, stamp(now), from, stamp(t.Expires.time()), "Check the clock of the machine that made it.")
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// clientTenant is the tenant of the request, or where that is open the client's own.
func (x *exchange) clientTenant() *directory.Tenant {
	if x.place.tenant != nil {
		return x.place.tenant
	}
	if t := x.dir().Tenant(x.client.app.Tenant); t != nil {
		return t
	}
	return new(directory.Tenant) // a first-party client: it has no certificate to get here with
}

// isOurEndpoint reports whether an audience is the token endpoint or the issuer of the client's tenant: version 1 or 2, named by id or
// domain (or by the word that the request itself used), under any name of this server. ADAL leaves its api-version in the URL.
func (s *Server) isOurEndpoint(x *exchange, aud string) bool {
	aud = strings.TrimSuffix(aud, "?api-version=1.0")
	tenant := x.clientTenant()
	names := append([]string{tenant.ID.String()}, tenant.Domains...)
	if x.place.tenant == nil {
		names = append(names, x.place.word)
	}
	bases := []string{s.Authorities.Public, cloudSTS}
	for _, host := range cloudHosts {
		bases = append(bases, "https://"+host)
	}
	for _, base := range bases {
		rest, ok := strings.CutPrefix(aud, base+"/")
		if !ok {
			continue
		}
		segment, rest, _ := strings.Cut(rest, "/")
		if !slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, segment) }) {
			continue
		}
		switch rest {
		case "oauth2/token", "oauth2/v2.0/token", "v2.0", "":
			return true
		}
	}
	return false
}
