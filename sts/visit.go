package sts

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

const pageLife = 15 * time.Minute

// surface is one of the places where people sign in. Each seals its state for itself and has a cookie of its own, so that
// a form of one is worth nothing at the other.
type surface struct {
	path    string // where forms go
	purpose string // of sealed states
	cookie  string // that binds forms to a browser; the prefix makes browsers insist on Secure, Path=/ and no Domain
	anew    string // what a person does to begin again
}

var (
	devicePage  = &surface{"/devicelogin", "device page", "__Host-gatehouse-device", "open the device sign-in page yourself"}
	signInPage  = &surface{"/signin", "sign-in page", "__Host-gatehouse-signin", "start the sign-in in your application again"}
	accountPage = &surface{"/myaccount", "account page", "__Host-gatehouse-account", "open your account page again"}
)

// errStale: a form's state is not this browser's, or too old.
var errStale = errors.New("the page's state is not, or no longer, good")

// pageState is what a form carries from step to step: sealed, so that nobody but this server can have made it, and bound to
// the browser's cookie and the origin's half, so that a form of one browser is worth nothing in another, nor at another port.
type pageState struct {
	Step   string       `json:"s"`
	Cookie []byte       `json:"c"`           // SHA-256 of the cookie
	Origin originProof  `json:"d,omitzero"`  // what the page was given out to
	Until  int64        `json:"u"`           // Unix seconds
	Flow   string       `json:"f,omitempty"` // of the device page
	User   directory.ID `json:"o,omitzero"`
	Proved int64        `json:"p,omitempty"` // when the sign-in began that the user proved, Unix nanoseconds
	AMR    []string     `json:"m,omitempty"` // what the user has shown
	Fresh  int64        `json:"e,omitempty"` // when the user last showed something, Unix nanoseconds
	From   directory.ID `json:"b,omitzero"`  // the browser session in which the user shows more

	// Of the second factor: what is being enrolled or asked for.
	Method   directory.ID          `json:"i,omitzero"`
	Seed     []byte                `json:"t,omitempty"`
	Ceremony *webauthn.SessionData `json:"w,omitempty"`
	Then     string                `json:"h,omitempty"` // what the person of the account page wants to do

	// Of the sign-in page.
	Request *authRequest `json:"r,omitempty"`
	Next    string       `json:"n,omitempty"` // where a sign-out leads
	Account directory.ID `json:"a,omitzero"`  // the browser session that goes on
	Keep    bool         `json:"k,omitempty"` // the person wants to stay signed in

	Consent []directory.ConsentTo `json:"g,omitempty"` // what the consent page shows, and nothing else, is granted
	Agreed  bool                  `json:"-"`           // the person has just accepted
}

// visit is one request for a page on which people sign in.
type visit struct {
	w     http.ResponseWriter
	r     *http.Request
	on    *surface
	from  netip.Addr
	now   time.Time
	form  form
	state pageState
	user  *directory.User // who is signed in, once that is known
	flow  *deviceFlow     // of the device page; the sign-in page has its request in the state

	origin    originProof // of the form; a GET has none
	silent    bool        // nobody has clicked or typed anything yet
	concluded bool        // its failure has been recorded
}

// client is the application that the person signs in to.
func (v *visit) client() directory.ID {
	switch v.on {
	case devicePage:
		return v.flow.Client
	case accountPage:
		return accountClient
	}
	return v.state.Request.Client
}

// wanted names the resource that the application asks for.
func (v *visit) wanted() string {
	switch {
	case v.on == devicePage:
		return v.flow.Ask.wanted()
	case v.state.Request != nil:
		return v.state.Request.Ask.wanted()
	}
	return "" // the account page is for nothing else
}

// tenant is where the application wants accounts from; nil: anywhere.
func (v *visit) tenant(dir *directory.State) *directory.Tenant {
	switch v.on {
	case devicePage:
		return dir.Tenant(v.flow.Tenant)
	case accountPage:
		return nil
	}
	return v.state.Request.place(dir).tenant
}

// forAdmin reports whether an administrator's consent is asked for: then the application may not be in the tenant yet.
func (v *visit) forAdmin() bool { return v.state.Request != nil && v.state.Request.Admin }

// showForm shows a step with its state, which it binds to the browser's cookie.
func (s *Server) showForm(v *visit, status int, name string, view pageView) error {
	if v.state.Cookie == nil {
		v.state.Cookie = cookieHash(v.r, v.on.cookie)
	}
	if v.state.Cookie == nil {
		if err := s.setCookie(v); err != nil {
			return err
		}
	}
	v.state.Origin = v.origin
	v.state.Until = v.now.Add(pageLife).Unix()
	text, err := json.Marshal(v.state)
	if err != nil {
		return err
	}
	if view.State, err = s.vault.seal(v.r.Context(), v.on.purpose, text); err != nil {
		return err
	}
	if len(view.State) > maxSealed {
		return fail(90013, "the request's parameters are too long together; shorten state")
	}
	if view.Origin = v.on != devicePage; view.Origin || view.Passkey != "" {
		allowScript(v.w)
	}
	switch {
	case v.state.Request != nil:
		allowForm(v.w, v.state.Request.Redirect)
	case v.state.Next != "":
		allowForm(v.w, v.state.Next)
	}
	view.Action = v.on.path
	return s.show(v.w, status, name, view)
}

// step opens the form of any step of a surface. The error is errStale, with the visit, when the form is not this browser's, or too old.
func (s *Server) step(w http.ResponseWriter, r *http.Request, on *surface) (*visit, error) {
	if err := crossOrigin.Check(r); err != nil {
		return nil, fail(90013, "the form was sent from another site; "+on.anew)
	}
	if s.Feed.Stale() { // this replica may have missed that somebody was disabled
		return nil, fail(90033)
	}
	v := &visit{w: w, r: r, on: on, from: web.ClientIP(r), now: s.now()}
	var err error
	if v.form, err = readForm(w, r); err != nil {
		return nil, err
	}
	v.state, err = s.openState(r.Context(), v)
	return v, err
}

// errForeign is the refusal of a form that is none of the surface's.
func (on *surface) errForeign() error {
	return fail(90013, "the form is not one of this page; "+on.anew)
}

// openState reads the state that a form carried; errStale when it is not this browser's, or too old. Then of a genuine state
// the request is left, which anybody may begin again.
func (s *Server) openState(ctx context.Context, v *visit) (pageState, error) {
	var state pageState
	text, err := s.vault.open(ctx, v.on.purpose, v.form["state"])
	if errors.Is(err, errSealed) {
		return state, errStale
	}
	if err != nil {
		return state, err
	}
	if err := json.Unmarshal(text, &state); err != nil {
		return pageState{}, fmt.Errorf("the page's state: %w", err)
	}
	cookie := cookieHash(v.r, v.on.cookie)
	if cookie == nil || subtle.ConstantTimeCompare(cookie, state.Cookie) != 1 || v.now.Unix() >= state.Until {
		return pageState{Request: state.Request}, errStale
	}
	if v.origin, err = takeOrigin(state, v.form); err != nil {
		return pageState{Request: state.Request}, err
	}
	return state, nil
}

// setCookie gives the browser a new cookie and binds the state to it.
func (s *Server) setCookie(v *visit) error {
	value, err := s.randomText(32, "a cookie")
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(value))
	v.state.Cookie = sum[:]
	http.SetCookie(v.w, hostCookie(v.on.cookie, value))
	return nil
}

func (s *Server) clearCookie(v *visit) {
	c := hostCookie(v.on.cookie, "")
	c.MaxAge = -1
	http.SetCookie(v.w, c)
}

// hostCookie is a cookie that no script reads, no other host sets and no other site's form sends. It has no port: whatever listens at another
// port of this host sees it and can set it, so that it proves nothing by itself (see origin.go).
func hostCookie(name, value string) *http.Cookie {
	return &http.Cookie{Name: name, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
}

func cookieHash(r *http.Request, name string) []byte {
	c, err := r.Cookie(name)
	if err != nil || len(c.Value) != 43 {
		return nil
	}
	sum := sha256.Sum256([]byte(c.Value))
	return sum[:]
}

// appName is how an application is called.
func (s *Server) appName(id directory.ID) string {
	if id == accountClient {
		return "Your account"
	}
	if c, err := findClient(directory.In(s.Feed.View()), tenancy{word: organizations}, id.String()); err == nil {
		return c.app.DisplayName
	}
	return id.String()
}

func (s *Server) recordVisit(v *visit, action string, tenant *directory.Tenant, user *directory.User, name string, err error) {
	s.recordVisitAs(v, action, tenant, user, name, "", err)
}

// recordVisitAs is recordVisit with how the person proved who they are.
func (s *Server) recordVisitAs(v *visit, action string, tenant *directory.Tenant, user *directory.User, name, how string, err error) {
	e := audit.Event{
		Time: v.now.UTC(), Request: traceID(v.r), Client: v.client().String(), Address: v.from.String(), Action: action, Target: v.wanted(),
		Outcome: audit.Allowed, Details: map[string]string{"method": v.on.purpose},
	}
	v.concluded = err != nil
	if v.flow != nil {
		e.Details["codeAddress"] = v.flow.Address
	}
	if how != "" {
		e.Details["factor"] = how
	}
	nameUser(&e, name)
	if tenant != nil {
		e.Tenant = tenant.ID.String()
	}
	if user != nil {
		e.Actor = user.ID.String()
	}
	s.conclude(&e, v.r, err)
}
