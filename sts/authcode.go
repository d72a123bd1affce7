package sts

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
)

// KindCode is a secret: an authorization code, under its hash.
const KindCode feed.Kind = "sts/code"

const (
	codeLife   = 10 * time.Minute
	codeMemory = 24 * time.Hour // a used code is remembered this long, to notice that it comes again
)

// authCode is what a code stands for.
type authCode struct {
	Client    directory.ID `json:"client"`
	Redirect  string       `json:"redirect"`
	Public    bool         `json:"public,omitempty"`
	Challenge string       `json:"challenge,omitempty"`
	Plain     bool         `json:"plain,omitempty"`
	Ask       ask          `json:"ask"`
	Nonce     string       `json:"nonce,omitempty"`
	Aged      bool         `json:"aged,omitempty"` // the client wants to know when the user signed in
	User      directory.ID `json:"user"`           // at home
	Tenant    directory.ID `json:"tenant"`         // of the tokens
	Seat      directory.ID `json:"seat"`           // of the browser's session
	Proved    int64        `json:"proved"`         // Unix nanoseconds
	AMR       []string     `json:"amr"`
	Expires   time.Time    `json:"expires"`

	// Of a code that was used.
	Session  directory.ID `json:"session,omitzero"`   // that it bought
	Replayed bool         `json:"replayed,omitempty"` // it came again
}

// issueCode makes a code for an account that is signed in.
func (s *Server) issueCode(ctx context.Context, v *visit, a account, tenant directory.ID) (string, error) {
	code, err := s.randomText(48, "a code")
	if err != nil {
		return "", err
	}
	key, err := s.vault.hash(ctx, string(KindCode), code)
	if err != nil {
		return "", err
	}
	q := v.state.Request
	kept := &authCode{
		Client: q.Client, Redirect: q.Redirect, Public: q.Public, Challenge: q.Challenge, Plain: q.Plain, Ask: q.Ask, Nonce: q.Nonce, Aged: q.MaxAge != nil,
		User: a.user.ID, Tenant: tenant, Seat: a.session.seat(), Proved: a.session.Began, AMR: a.session.AMR, Expires: v.now.Add(codeLife).UTC(),
	}
	return code, s.Feed.Update(ctx, func(view *feed.View, _ feed.Secrets) (feed.Change, error) {
		if _, ok := accountOf(view, a.session.ID, v.now); !ok {
			return feed.Change{}, fail(50058)
		}
		return feed.Change{Secrets: []feed.Secret{kept.secret(key, kept.Expires)}}, nil
	})
}

func (c *authCode) secret(key string, until time.Time) feed.Secret {
	return feed.Secret{Record: record(KindCode, key, c), Expires: until}
}

// codeOf reads a code; nil when there is none under this key.
func codeOf(ctx context.Context, secrets feed.Secrets, key string) (*authCode, error) {
	kept, err := secrets.Secret(ctx, KindCode, key)
	if errors.Is(err, feed.ErrNoSecret) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read a code: %w", err)
	}
	c := new(authCode)
	if err := json.Unmarshal(kept.Body, c); err != nil {
		return nil, fmt.Errorf("a code: %w", err)
	}
	return c, nil
}

// redeemCode is the authorization code grant (RFC 6749 section 4.1.3, RFC 7636 section 4.5).
func (s *Server) redeemCode(ctx context.Context, x *exchange) error {
	text, err := x.form.need("code")
	if err != nil {
		return err
	}
	if x.form["redirect_uri"] == "" {
		return fail(900144, "redirect_uri")
	}
	key, err := s.vault.hash(ctx, string(KindCode), text)
	if err != nil {
		return err
	}
	// What is no code at all need not wait for the write lock.
	known, err := codeOf(ctx, s.Feed.Log, key)
	if err != nil {
		return err
	}
	if known == nil {
		return fail(70000, "code")
	}
	x.concern(known.User, known.Ask)
	session, err := directory.NewID(s.random())
	if err != nil {
		return err
	}
	code, err := s.useCode(ctx, x, key, session)
	if err != nil {
		return err
	}
	x.view = s.Feed.View() // it is at least as new as the code
	home, tenant := x.dir().User(code.User), x.dir().Tenant(code.Tenant)
	if home == nil || tenant == nil {
		return fail(50173)
	}
	begun := &Session{ID: session, Tenant: home.Tenant, User: home.ID, Client: code.Client, Began: code.Proved, AMR: code.AMR}
	if err := x.speakFor(home, begun, tenant); err != nil {
		return err
	}
	x.subject.public, x.subject.nonce = code.Public, code.Nonce
	if code.Aged {
		x.subject.authTime = time.Unix(0, code.Proved).Unix()
	}
	if code.Ask.Text != "" {
		asked, err := code.Ask.parse()
		if err != nil {
			return err
		}
		x.subject.ask = &asked
	}
	begin := x.begin(func(secrets feed.Secrets) (feed.Change, error) {
		code, err := codeOf(ctx, secrets, key) // again, under the lock: it may have come twice meanwhile
		if err == nil && (code == nil || code.Replayed) {
			err = fail(54005)
		}
		return feed.Change{}, err
	})
	x.subject.commit = func(v *feed.View, secrets feed.Secrets) (feed.Change, error) {
		if !seated(v, code.User, code.Seat, x.now) {
			return feed.Change{}, fail(50173)
		}
		return begin(v, secrets)
	}
	return nil
}

// seated reports whether the session in which a code was given out is in force, or the one that took its place: a person may sign in
// again, or show more, in another tab. A sign-out ends it, and whatever else ends sessions.
func seated(v *feed.View, user, seat directory.ID, now time.Time) bool {
	return slices.ContainsFunc(In(v).SessionsOf(user), func(session *Session) bool {
		_, ok := accountOf(v, session.ID, now)
		return ok && session.seat() == seat
	})
}

// useCode uses a code up for a session, in a write of its own: whatever happens to the rest of the request, it buys no second one. A
// code that comes again has been stolen from one of the two who had it, so the session that it bought ends (RFC 6749 section 4.1.2).
func (s *Server) useCode(ctx context.Context, x *exchange, key string, session directory.ID) (*authCode, error) {
	var code *authCode
	var replayed bool
	err := s.Feed.Update(ctx, func(v *feed.View, secrets feed.Secrets) (feed.Change, error) {
		var err error
		replayed = false
		if code, err = codeOf(ctx, secrets, key); err != nil {
			return feed.Change{}, err
		}
		if code != nil && !code.Session.IsZero() {
			var c feed.Change
			if bought := In(v).Session(code.Session); bought != nil {
				c.Records = append(c.Records, endSession(bought))
			}
			replayed, code.Replayed = true, true
			c.Secrets = append(c.Secrets, code.secret(key, x.now.Add(codeMemory)))
			return c, nil
		}
		if err := code.redeemable(x); err != nil {
			return feed.Change{}, err
		}
		code.Session = session
		return feed.Change{Secrets: []feed.Secret{code.secret(key, x.now.Add(codeMemory))}}, nil
	})
	if err == nil && replayed {
		err = fail(54005)
	}
	return code, err
}

// redeemable says why a code gives this client no token.
func (c *authCode) redeemable(x *exchange) error {
	switch {
	case c == nil || c.Client != x.client.app.AppID:
		return fail(70000, "code")
	case !x.place.holds(c.Tenant):
		return fail(700005)
	case !c.Public && !x.client.proved:
		return fail(7000218)
	case !x.now.Before(c.Expires):
		return fail(70008)
	case c.Redirect != x.form["redirect_uri"]:
		return fail(500112)
	case !c.verified(x.form["code_verifier"]):
		return fail(501481)
	}
	return nil
}

// verified checks the proof that who brings the code asked for it. A verifier without a challenge is refused, too: then somebody took
// the challenge out of the request (RFC 9700 section 4.8.2).
func (c *authCode) verified(verifier string) bool {
	if c.Challenge == "" || !isVerifier(verifier) {
		return c.Challenge == "" && verifier == ""
	}
	if !c.Plain {
		sum := sha256.Sum256([]byte(verifier))
		verifier = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	return subtle.ConstantTimeCompare([]byte(verifier), []byte(c.Challenge)) == 1
}
