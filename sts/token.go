package sts

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// exchange is one request at the token endpoint, filled in as the pipeline learns more.
type exchange struct {
	version   int // of the endpoint
	authority Authority
	address   netip.Addr
	now       time.Time
	view      *feed.View
	lifetimes Lifetimes
	place     tenancy
	form      form
	client    *client
	subject   subject
	bound     *Confirmation // the key that the token shall be bound to; nil: a bearer token
	ask       ask
	target    target
	chain     *Chain // of the refresh token that was redeemed; nil: there is none
	note      string // what the logs shall say beside the outcome
}

func (x *exchange) dir() *directory.State { return directory.In(x.view) }

// subject is who a token shall speak for: a user with a session, or the client itself.
type subject struct {
	name     string                                              // what the request called the user, for the audit; may name nobody
	tenant   *directory.Tenant                                   // nil until it is known
	user     *directory.User                                     // in that tenant; nil: the client itself
	home     *directory.User                                     // who signed in: the user itself, but of a guest the account at home
	session  *Session                                            // of home
	public   bool                                                // signed in to a redirect URI of public clients: no credential is needed
	nonce    string                                              // for the ID token
	authTime int64                                               // for the ID token, Unix seconds
	ask      *ask                                                // what the grant is for; nil: what the request says
	commit   func(*feed.View, feed.Secrets) (feed.Change, error) // what must be written before a token leaves; nil: nothing
}

// A grant says who is asking. The endpoint does everything else. It may fill in the subject's name before it fails.
type grant func(s *Server, ctx context.Context, x *exchange) error

// grants are the values of grant_type.
var grants = map[string]grant{
	"authorization_code": (*Server).redeemCode,
	"password":           (*Server).password,
	"refresh_token":      (*Server).refresh,
	"client_credentials": (*Server).clientCredentials,
	"device_code":        (*Server).redeemDeviceCode, // version 1 clients
	"urn:ietf:params:oauth:grant-type:device_code": (*Server).redeemDeviceCode,
	"urn:ietf:params:oauth:grant-type:jwt-bearer":  (*Server).onBehalfOf,
}

// token is the token endpoint.
func (s *Server) token(version int) web.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		x := &exchange{version: version, authority: s.Authorities.Of(r), address: web.ClientIP(r), now: s.now(), view: s.Feed.View(), lifetimes: s.Lifetimes}
		answer, err := s.issue(w, r, x)
		s.record(r, x, err)
		if err != nil {
			return err
		}
		noStore(w)
		s.echoHeaders(w, r)
		return web.WriteJSON(w, http.StatusOK, answer)
	}
}

// issue is the pipeline that every grant goes through.
func (s *Server) issue(w http.ResponseWriter, r *http.Request, x *exchange) (answer any, err error) {
	ctx := r.Context()
	if err := crossOrigin.Check(r); err != nil { // a page elsewhere could lock its visitor out with wrong guesses
		return nil, fail(90013, "the request was sent by a page of another site")
	}
	if s.Feed.Stale() {
		return nil, fail(90033) // this replica may have missed that somebody was disabled
	}
	if x.form, err = readForm(w, r); err != nil {
		return nil, err
	}
	subject, err := s.grantOf(x.form)
	if err != nil {
		return nil, err
	}
	if x.bound, err = confirmationOf(x.form); err != nil {
		return nil, err
	}
	if x.place, err = tenancyOf(x.dir(), r.PathValue("tenant")); err != nil {
		return nil, err
	}
	if err := s.identify(r, x); err != nil {
		return nil, err
	}
	if err := subject(s, ctx, x); err != nil {
		return nil, err
	}
	if err := x.client.admit(x.dir(), x.subject.tenant); err != nil {
		return nil, err
	}
	if err := x.resolve(); err != nil {
		return nil, err
	}
	if err := x.decide(); err != nil {
		return nil, err
	}
	if err := s.settle(ctx, x); err != nil {
		return nil, err
	}
	return s.mint(ctx, x)
}

func (s *Server) grantOf(f form) (grant, error) {
	name, err := f.need("grant_type")
	if err != nil {
		return nil, err
	}
	g, ok := grants[name]
	if !ok {
		return nil, fail(70003, clip(name, 80))
	}
	return g, nil
}

// identify finds the client and checks the credential that it shows.
func (s *Server) identify(r *http.Request, x *exchange) error {
	auth, err := readClientAuth(r, x.form)
	if err != nil {
		return err
	}
	if x.form["grant_type"] == "client_credentials" {
		x.client = findIdentity(x.dir(), x.place, auth.id)
	}
	if x.client == nil {
		if x.client, err = findClient(x.dir(), x.place, auth.id); err != nil {
			return err
		}
	}
	if x.place.word == consumers {
		return fail(9002346, x.client.app.AppID)
	}
	return s.verifyCredential(r.Context(), x, auth)
}

// resolve finds what the token is for, and whether the client may have it.
func (x *exchange) resolve() (err error) {
	if x.subject.ask != nil {
		x.ask = *x.subject.ask
	} else if x.ask, err = askOf(x.form, x.version); err != nil {
		return err
	}
	if x.target, err = x.ask.resolve(x.dir(), x.subject.tenant); err != nil {
		return err
	}
	return x.permit()
}

// wanted names the resource of a request that did not come so far that it was found.
func (x *exchange) wanted() string {
	if x.subject.ask != nil {
		return x.subject.ask.wanted()
	}
	a, _ := askOf(x.form, x.version)
	return a.wanted()
}

// settle writes what must be written before a token leaves, and takes the view that has it.
func (s *Server) settle(ctx context.Context, x *exchange) error {
	if x.subject.commit == nil {
		return nil
	}
	if err := s.Feed.Update(ctx, x.subject.commit); err != nil {
		return err
	}
	x.view = s.Feed.View()
	return nil
}

// record logs and audits an attempt. A client that is waiting for its user is not an event.
func (s *Server) record(r *http.Request, x *exchange, err error) {
	e := audit.Event{
		Time: x.now.UTC(), Request: traceID(r), Address: x.address.String(), Action: "sign-in", Outcome: audit.Allowed,
		Details: map[string]string{"method": methodOf(x.form), "correlation": correlationID(r)},
	}
	switch {
	case x.subject.tenant != nil:
		e.Tenant = x.subject.tenant.ID.String()
	case x.place.tenant != nil:
		e.Tenant = x.place.tenant.ID.String()
	}
	if x.client != nil {
		e.Client = x.client.app.AppID.String()
		if x.client.credential != "" {
			e.Details["credential"] = x.client.credential
		}
		if x.subject.user == nil && x.client.proved && x.client.principal != nil && x.form["grant_type"] == "client_credentials" {
			e.Actor = x.client.principal.ID.String()
		}
	} else if id := x.form["client_id"]; id != "" {
		e.Client = clip(id, 80)
	}
	if x.subject.user != nil {
		e.Actor = x.subject.user.ID.String()
	} else if x.subject.home != nil {
		e.Actor = x.subject.home.ID.String()
	}
	if x.subject.home != nil && x.subject.user != x.subject.home {
		e.Details["home"] = x.subject.home.Tenant.String() + "/" + x.subject.home.ID.String()
	}
	if x.subject.session != nil {
		e.Details["session"] = x.subject.session.ID.String()
	}
	if x.note != "" {
		e.Details["note"] = x.note
	}
	nameUser(&e, x.subject.name)
	if e.Target = x.target.audience; e.Target == "" {
		e.Target = x.wanted()
	}
	s.conclude(&e, r, err)
}

// nameUser adds the name that was tried. What is not of a user name's form may be a password in the wrong field.
func nameUser(e *audit.Event, name string) {
	if strings.Contains(name, "@") {
		e.Details["user"] = clip(name, 120)
	}
}

// methodOf is the grant type of a request, if it is one of ours: anything else is whatever a stranger wrote there.
func methodOf(f form) string {
	if name := f["grant_type"]; grants[name] != nil {
		return name
	}
	return "unknown"
}
