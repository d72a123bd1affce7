package sts

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/internal/cache"
)

// MaxToken is the longest token that is looked at, in bytes.
const MaxToken = 16 << 10

// Claims are the claims of an access token that decisions use. Groups and roles in a token are for other
// readers: here they come from the directory.
type Claims struct {
	Issuer    string       `json:"iss"`
	Audience  string       `json:"aud"`
	Tenant    directory.ID `json:"tid"`
	Object    directory.ID `json:"oid"`
	AppID     string       `json:"appid"` // the client, version 1 tokens
	AZP       string       `json:"azp"`   // the client, version 2 tokens
	Scopes    string       `json:"scp"`
	IDType    string       `json:"idtyp"`
	Session   directory.ID `json:"sid"`
	IssuedAt  int64        `json:"iat"`
	NotBefore int64        `json:"nbf"`
	Expires   int64        `json:"exp"`

	Confirmation *Confirmation `json:"cnf"` // nil: a bearer token
}

// Client is the id of the client that the token was given to.
func (c *Claims) Client() string {
	if c.AZP != "" {
		return c.AZP
	}
	return c.AppID
}

// AppOnly reports whether the token speaks for an application and not for a user.
func (c *Claims) AppOnly() bool { return c.IDType == "app" }

// Token is a token whose signature has been checked. One that is bound to a key has a Proof: there is no other way to get one.
type Token struct {
	Claims
	KeyID string
	Proof *Proof
}

// Hash names a token in caches without holding it.
type Hash [sha256.Size]byte

// HashToken hashes a token.
func HashToken(token []byte) Hash { return sha256.Sum256(token) }

// Verifier checks tokens that this server signed.
type Verifier struct {
	Feed      *feed.Follower
	Authority *Authorities
	Now       func() time.Time // nil: time.Now

	seen *cache.Cache[Hash, *Token]
}

// NewVerifier makes a verifier that remembers the claims of up to about limit tokens.
func NewVerifier(f *feed.Follower, a *Authorities, limit int) *Verifier {
	return &Verifier{Feed: f, Authority: a, seen: cache.New[Hash, *Token](limit)}
}

// errToken makes a refusal. Its text is for the log: a client learns only that it is not authenticated.
func errToken(format string, args ...any) error {
	return fault.New(fault.Unauthenticated, format, args...).WithCode("InvalidAuthenticationToken")
}

// ErrForeign is in the chain of what Signed returns for anything that does not name a tenant of this server as its issuer: a
// cluster's own service account token, say. Nothing was computed for it, and nothing of it may be logged.
var ErrForeign = errors.New("the issuer is foreign")

// ErrRevoked is in the chain of the refusal of a token that was good once: a new one may be.
var ErrRevoked = errors.New("revoked")

func errRevoked(format string, args ...any) error {
	return fault.New(fault.Unauthenticated, format, args...).WithCode("InvalidAuthenticationToken").Wrap(ErrRevoked)
}

// Signed checks that this server signed the bearer token with a key in force, or did so before: one signature check for
// each token, then its hash is enough. It says nothing about time, account or session: use Check on every use.
func (v *Verifier) Signed(view *feed.View, token []byte, hash Hash) (*Token, error) {
	t, err := v.signed(view, token, hash)
	if err == nil && t.Confirmation != nil {
		return nil, errUnbound()
	}
	return t, err
}

// signed is Signed, of bound tokens too.
func (v *Verifier) signed(view *feed.View, token []byte, hash Hash) (*Token, error) {
	if t, ok := v.seen.Get(hash); ok {
		return t, nil
	}
	t, err := verify(In(view), token, v.Authority.own)
	if err != nil {
		return nil, err
	}
	v.seen.Put(hash, t)
	return t, nil
}

// verify checks a compact JWS (RFC 7515 section 5.2). Only RS256 with a key of ours named by kid is known: there is no
// other algorithm to be confused with, and no key is ever taken from the token.
func verify(state *State, token []byte, ours func(issuer string) bool) (*Token, error) {
	headerB64, rest, ok := bytes.Cut(token, []byte{'.'})
	payloadB64, sigB64, ok2 := bytes.Cut(rest, []byte{'.'})
	if !ok || !ok2 || bytes.IndexByte(sigB64, '.') >= 0 || len(token) > MaxToken {
		return nil, errForeign("this is not a signed JWT of three parts and at most %d bytes", MaxToken)
	}
	if bytes.ContainsAny(token, "\r\n") { // which Go's decoder would pass over (RFC 7515 section 2 does not)
		return nil, errForeign("this is not a signed JWT: it holds line breaks")
	}
	b64 := base64.RawURLEncoding.Strict()
	t := new(Token)
	raw, err := b64.AppendDecode(nil, payloadB64)
	if err == nil {
		err = json.Unmarshal(raw, &t.Claims)
	}
	if !ours(t.Issuer) { // whatever else there is: a type that is wrong does not keep the issuer from being read
		return nil, errForeign("the token is not of an issuer of this server")
	}
	if err != nil {
		return nil, errToken("the token's claims are not what this server signs: %s", err)
	}
	var header struct {
		Alg  string          `json:"alg"`
		Kid  string          `json:"kid"`
		Crit json.RawMessage `json:"crit"`
	}
	raw, err = b64.AppendDecode(raw[:0], headerB64)
	if err != nil || json.Unmarshal(raw, &header) != nil {
		return nil, errToken("the token's header is not base64url JSON")
	}
	if header.Alg != "RS256" || header.Crit != nil {
		return nil, errToken("the token's algorithm is %q (crit %s); only RS256 is accepted", header.Alg, header.Crit)
	}
	key := state.Key(header.Kid)
	if key == nil {
		return nil, errToken("the token is signed with key %.64q, which is not one of ours", header.Kid)
	}
	sig, err := b64.AppendDecode(nil, sigB64)
	if err != nil {
		return nil, errToken("the token's signature is not base64url")
	}
	sum := sha256.Sum256(token[:len(headerB64)+1+len(payloadB64)])
	if err := rsa.VerifyPKCS1v15(key.public, crypto.SHA256, sum[:], sig); err != nil {
		return nil, errToken("the token's signature is wrong for key %s", key.ID)
	}
	t.KeyID = key.ID
	return t, nil
}

func errForeign(format string, args ...any) error {
	return fault.New(fault.Unauthenticated, format, args...).WithCode("InvalidAuthenticationToken").Wrap(ErrForeign)
}

// Check is what must hold at each use of a verified access token: key, issuer, times, kind, proof, account and session. It
// reads the view alone. The audience is the caller's to check, and so is the URI of a proof.
func (v *Verifier) Check(view *feed.View, t *Token, now time.Time) error {
	state, dir := In(view), directory.In(view)
	key := state.Key(t.KeyID)
	if key == nil || !key.InForce(now) {
		return errRevoked("signing key %s has been withdrawn or has retired", t.KeyID)
	}
	unix := now.Unix()
	switch {
	case !v.Authority.Trusts(t.Issuer, t.Tenant):
		return errToken("issuer %q is not one of tenant %s", t.Issuer, t.Tenant)
	case unix >= t.Expires:
		return fault.New(fault.Unauthenticated, "the token expired at %s; sign in again", time.Unix(t.Expires, 0).UTC().Format(time.RFC3339)).WithCode("ExpiredAuthenticationToken")
	case unix < t.NotBefore:
		return errToken("the token is not valid before %s", time.Unix(t.NotBefore, 0).UTC().Format(time.RFC3339))
	case t.Client() == "":
		return errToken("this is an ID token; an access token is needed")
	}
	if t.Proof != nil {
		if err := t.Proof.inTime(now); err != nil {
			return err
		}
	}
	if t.AppOnly() {
		p := dir.ServicePrincipal(t.Object)
		switch {
		case p == nil || p.Tenant != t.Tenant:
			return errToken("service principal %s is not in tenant %s", t.Object, t.Tenant)
		case !p.Enabled:
			return errToken("service principal %s is disabled", p.ID)
		}
		return nil
	}
	if t.Scopes == "" {
		return errToken("the token has no delegated scope; an access token is needed")
	}
	u := dir.User(t.Object)
	home := dir.Home(u)
	switch {
	case u == nil || u.Tenant != t.Tenant:
		return errToken("user %s is not in tenant %s", t.Object, t.Tenant)
	case !u.Enabled:
		return errToken("user %s is disabled", u.UPN)
	case home == nil:
		return errToken("the account at home of guest %s is gone", u.UPN)
	case !home.Enabled:
		return errToken("user %s, the account at home of guest %s, is disabled", home.UPN, u.UPN)
	}
	return state.CheckSession(u, home, t.Session, now)
}

// Until is when Check, having passed in a view, will fail in that view by the clock alone.
func (v *Verifier) Until(view *feed.View, t *Token) time.Time {
	state := In(view)
	until := time.Unix(t.Expires, 0)
	if key := state.Key(t.KeyID); key != nil && !key.Retires.IsZero() && key.Retires.Before(until) {
		until = key.Retires
	}
	if session := state.Session(t.Session); session != nil && !t.AppOnly() && session.Expires.Before(until) {
		until = session.Expires
	}
	if t.Proof != nil && t.Proof.until().Before(until) {
		until = t.Proof.until()
	}
	return until
}

// CheckSession reports why a user's session is no longer in force, or nil. It belongs to the account at home, which is the user itself but
// for guests; revoking the sessions of either ends it for the user.
func (s *State) CheckSession(u, home *directory.User, id directory.ID, now time.Time) error {
	session := s.Session(id)
	switch {
	case session == nil || session.User != home.ID:
		return errRevoked("session %s of %s has been ended or revoked", id, u.UPN)
	case !now.Before(session.Expires):
		return errRevoked("session %s of %s has expired", id, u.UPN)
	case session.Began < max(u.SessionsValidFrom, home.SessionsValidFrom):
		from := time.Unix(0, max(u.SessionsValidFrom, home.SessionsValidFrom)).UTC().Format(time.RFC3339)
		return errRevoked("all sessions of %s before %s have been revoked", u.UPN, from)
	case decide(circumstances{user: home, as: u, amr: session.AMR}) != nil:
		return errRevoked("session %s of %s began without the second factor that is now demanded", id, u.UPN)
	}
	return nil
}

// Bearer verifies the bearer token of an API request completely, for one of the resource's audiences, and
// returns it. It is for ARM and Graph; the webhook keeps its own order of checks.
func (v *Verifier) Bearer(view *feed.View, authorization string, audiences ...string) (*Token, error) {
	scheme, token, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return nil, fault.New(fault.Unauthenticated, "Authentication failed. The 'Authorization' header is missing or is not of the form 'Bearer <token>'.").WithCode("AuthenticationFailed")
	}
	if v.Feed.Stale() {
		return nil, fault.New(fault.Unavailable, "the database has been silent for too long to trust what this replica knows; try again")
	}
	raw := []byte(token)
	t, err := v.Signed(view, raw, HashToken(raw))
	if err != nil {
		return nil, err
	}
	if err := v.Check(view, t, v.now()); err != nil {
		return nil, err
	}
	for _, a := range audiences {
		if strings.EqualFold(strings.TrimSuffix(t.Audience, "/"), strings.TrimSuffix(a, "/")) {
			return t, nil
		}
	}
	return nil, fault.New(fault.Unauthenticated, "The access token has been obtained for wrong audience or resource '%s'. It should exactly match with one of the allowed audiences '%s'.",
		t.Audience, strings.Join(audiences, "','")).WithCode("InvalidAuthenticationTokenAudience")
}

func (v *Verifier) now() time.Time {
	if v.Now != nil {
		return v.Now()
	}
	return time.Now()
}

// Actor is who the token speaks for.
func (t *Token) Actor() directory.Actor { return directory.Actor{ID: t.Object, Tenant: t.Tenant} }

func (t *Token) String() string { return fmt.Sprintf("token of %s for %s", t.Object, t.Audience) } // never the token itself
