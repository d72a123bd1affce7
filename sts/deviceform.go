package sts

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

const pageLife = 15 * time.Minute

// surface is one of the places where people sign in. Each seals its state for itself and has a cookie of its own, so that
// a form of one is worth nothing at the other.
type surface struct {
	path    string // where forms go
	purpose string // of sealed states
	cookie  string // that binds forms to a browser; the prefix makes browsers insist on Secure, Path=/ and no Domain
}

var (
	devicePage  = &surface{"/devicelogin", "device page", "__Host-gatehouse-device"}
	signInPage  = &surface{"/signin", "sign-in page", "__Host-gatehouse-signin"}
	accountPage = &surface{"/myaccount", "account page", "__Host-gatehouse-account"}
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

func (s *Server) showCode(v *visit, status int, code, problem string) error {
	v.state = pageState{Step: stepCode}
	return s.showForm(v, status, "code", pageView{Title: "Enter code", Code: code, Error: problem, Step: 1})
}

func (s *Server) showSignIn(v *visit, status int, name, problem string) error {
	v.state.Step = stepSignIn
	view := pageView{Title: "Sign in", Name: clip(name, maxName), Error: problem, App: s.appName(v.client()), Device: v.on == devicePage, Keep: v.state.Keep}
	if view.Device {
		view.Step = 2
	}
	if t := v.tenant(directory.In(s.Feed.View())); t != nil {
		view.Tenant = t.DisplayName
	}
	v.state.From = directory.ID{}
	var err error
	if view.Passkey, err = s.askPasskey(v.r.Context(), v, nil); err != nil {
		return err
	}
	return s.showForm(v, status, "signin", view)
}

func (s *Server) showPassword(v *visit, status int, u *directory.User, problem string) error {
	v.state.Step = stepPassword
	view := pageView{Title: "Update your password", Account: u.UPN, Error: problem, Own: v.on == accountPage && !u.MustChange}
	if v.on == devicePage {
		view.Step = 2
	}
	return s.showForm(v, status, "password", view)
}

func (s *Server) showConfirm(v *visit, u *directory.User) error {
	v.state.Step = stepConfirm
	dir := directory.In(s.Feed.View())
	tenant := v.tenant(dir)
	if tenant == nil {
		tenant = dir.Tenant(u.Tenant)
	}
	asked, err := v.flow.Ask.parse()
	if err != nil {
		return err
	}
	t, err := asked.resolve(dir, tenant)
	if err != nil {
		return err
	}
	from, _ := netip.ParseAddr(v.flow.Address)
	return s.showForm(v, http.StatusOK, "confirm", pageView{
		Title: "Confirm sign-in", Step: 3, App: s.appName(v.flow.Client), AppID: v.flow.Client.String(), Account: u.UPN, Tenant: tenant.DisplayName,
		Resource: t.resource.DisplayName, Address: v.flow.Address, Asked: ago(v.now.Sub(v.flow.Asked)),
		SameMachine: from.IsLoopback() && v.from.IsLoopback(), SameAddress: from == v.from,
	})
}

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
	raw := make([]byte, 32)
	if _, err := io.ReadFull(s.random(), raw); err != nil {
		return fmt.Errorf("make a cookie: %w", err)
	}
	value := base64.RawURLEncoding.EncodeToString(raw)
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

// ago says in words how long ago something was.
func ago(d time.Duration) string {
	switch minutes := int(d.Minutes()); {
	case minutes < 1:
		return "less than a minute ago"
	case minutes == 1:
		return "a minute ago"
	default:
		return fmt.Sprintf("%d minutes ago", minutes)
	}
}
