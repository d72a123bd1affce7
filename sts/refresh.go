package sts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

const refreshPurpose = "refresh token"

// refreshToken is what a sealed refresh token says. Whether it is still good depends on its session and account.
type refreshToken struct {
	Session directory.ID `json:"s"`
	User    directory.ID `json:"u"` // at home
	Client  directory.ID `json:"c"`
	Family  bool         `json:"f,omitempty"` // any client of the family may use it
	Public  bool         `json:"p,omitempty"` // the client was public when it got it
	Proved  bool         `json:"k,omitempty"` // the client showed a credential when it got it, and must again
	Issued  int64        `json:"i"`           // Unix seconds
	Nanos   int64        `json:"n,omitempty"` // and nanoseconds after it
	Ask     ask          `json:"a"`           // what it was issued for, when a request does not say

	Generation int64 `json:"g"` // in its Chain
}

func (t refreshToken) issued() time.Time { return time.Unix(t.Issued, t.Nanos).UTC() }

// refresh is the refresh token grant (RFC 6749 section 6). The token works for every resource. The old one stays valid beside the
// new one, as in Entra, unless the server is strict: see chain.go.
func (s *Server) refresh(ctx context.Context, x *exchange) error {
	sealed, err := x.form.need("refresh_token")
	if err != nil {
		return err
	}
	text, err := s.vault.open(ctx, refreshPurpose, sealed)
	if errors.Is(err, errSealed) {
		return fail(70000, "refresh_token")
	}
	if err != nil {
		return err
	}
	var t refreshToken
	if err := json.Unmarshal(text, &t); err != nil {
		return err
	}
	id := x.client.app.AppID
	if t.Client != id && (!t.Family || !directory.InFamily(id)) {
		return fail(70000, "refresh_token").sub("client_mismatch")
	}
	if t.Proved && !x.client.proved { // whatever else the application may do without one
		return fail(7000218)
	}
	if x.subject.public = t.Public; !t.Public {
		if err := x.client.requireCredential(); err != nil {
			return err
		}
	}
	issued := t.issued()
	if t.Generation == 0 { // of an earlier version
		t.Generation = issued.UnixNano()
	}
	if x.now.Sub(issued) >= x.lifetimes.refresh() {
		return x.inactive(issued)
	}
	user, session := x.dir().User(t.User), In(x.view).Session(t.Session)
	switch {
	case user == nil:
		return fail(50173)
	case !user.Enabled:
		x.subject.home = user
		return fail(50057)
	case session == nil || session.User != user.ID || session.Began < user.SessionsValidFrom:
		x.subject.home = user
		return fail(50173)
	case !x.now.Before(session.Expires):
		return x.inactive(issued)
	}
	if err := x.speakFor(user, session, x.place.tenant); err != nil {
		return err
	}
	if x.form["scope"] == "" && x.form["resource"] == "" {
		before, err := t.Ask.parse()
		if err != nil {
			return err
		}
		x.subject.ask = &before
	}
	write, err := s.follow(ctx, x, t)
	if err != nil {
		return err
	}
	if write || x.due(session) {
		x.subject.commit = x.use
	}
	return nil
}

// inactive refuses a refresh token that has not been used for too long.
func (x *exchange) inactive(issued time.Time) error {
	life := x.lifetimes.refresh().Truncate(time.Second)
	rest := time.Time{}.Add(life % (24 * time.Hour)).Format(time.TimeOnly)
	return fail(700082, issued.Format("2006-01-02T15:04:05.0000000Z"), fmt.Sprintf("%d.%s", life/(24*time.Hour), rest))
}

// sealRefresh makes the refresh token of an answer.
func (s *Server) sealRefresh(ctx context.Context, x *exchange) (string, error) {
	id, generation := x.client.app.AppID, x.now.UnixNano()
	if x.chain != nil {
		s.chains.Put(chainKey{x.subject.session.ID, x.chain.Client}, *x.chain)
		if x.chain.Client == id { // another client of the family has a chain of its own
			generation = x.chain.next()
		}
	}
	text, err := json.Marshal(refreshToken{
		Session: x.subject.session.ID, User: x.subject.home.ID, Client: id,
		Family: directory.InFamily(id), Public: x.subject.public, Proved: x.client.proved, Generation: generation,
		Issued: x.now.Unix(), Nanos: int64(x.now.Nanosecond()), Ask: ask{Text: x.ask.Text, V1: x.ask.V1},
	})
	if err != nil {
		return "", err
	}
	return s.vault.seal(ctx, refreshPurpose, text)
}
