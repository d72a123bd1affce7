package sts

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

const stepSignOut = "signout"

// signOutPage seals for itself: its form is none of a sign-in.
var signOutPage = &surface{"/signout", "sign-out page", signInPage.cookie}

// logoutForm takes a request that an application posted. The browser asks again with a GET, which brings its cookies along; an ID token
// stays out of the address, so the page will ask.
func (s *Server) logoutForm(w http.ResponseWriter, r *http.Request) error {
	return s.again(w, r, "client_id", "post_logout_redirect_uri", "state")
}

// logout is the end session endpoint (OpenID Connect RP-Initiated Logout 1.0). An ID token of somebody who is signed in here shows that
// the application means this person; else the page asks, so that no other site can sign people out.
func (s *Server) logout(w http.ResponseWriter, r *http.Request) error {
	f, err := parseForm(r.URL.RawQuery)
	if err != nil {
		return err
	}
	v := &visit{w: w, r: r, on: signOutPage, from: web.ClientIP(r), now: s.now(), form: f}
	dir := directory.In(s.Feed.View())
	if _, err := tenancyOf(dir, r.PathValue("tenant")); err != nil {
		return err
	}
	clientID, user, err := s.hinted(f)
	if err != nil {
		return err
	}
	next, err := afterLogout(dir, clientID, f)
	if err != nil {
		return err
	}
	v.state = pageState{User: user, Next: next}
	return s.startSignOut(v)
}

// startSignOut decides whether the person is asked.
func (s *Server) startSignOut(v *visit) error {
	ctx := v.r.Context()
	if asked, err := s.askOrigin(ctx, v); asked || err != nil {
		return err
	}
	signedIn, err := s.accounts(ctx, v)
	if err != nil {
		return err
	}
	if meant := slices.IndexFunc(signedIn, func(a account) bool { return a.user.ID == v.state.User }); meant >= 0 {
		return s.signOut(v, signedIn[meant:meant+1], v.state.Next)
	}
	if len(signedIn) == 0 {
		return s.signOut(v, nil, v.state.Next)
	}
	v.state.Step = stepSignOut
	view := pageView{Title: "Sign out"}
	for _, a := range signedIn {
		view.Accounts = append(view.Accounts, accountView{Name: a.user.DisplayName, UPN: a.user.UPN})
	}
	return s.showForm(v, http.StatusOK, "signout", view)
}

// signOutStep is the button of the page that asks.
func (s *Server) signOutStep(w http.ResponseWriter, r *http.Request) error {
	if err := crossOrigin.Check(r); err != nil {
		return fail(90013, "the form was sent from another site; open the sign-out page yourself")
	}
	v := &visit{w: w, r: r, on: signOutPage, from: web.ClientIP(r), now: s.now()}
	var err error
	if v.form, err = readForm(w, r); err != nil {
		return err
	}
	v.state, err = s.openState(r.Context(), v)
	switch {
	case errors.Is(err, errStale):
		return fail(90013, "the page was open for too long; open it again")
	case err != nil:
		return err
	case v.state.Step == stepResume:
		return s.startSignOut(v)
	case v.state.Step != stepSignOut:
		return fail(90013, "the form is not one of this page; open it again")
	}
	signedIn, err := s.accounts(r.Context(), v)
	if err != nil {
		return err
	}
	return s.signOut(v, signedIn, v.state.Next)
}

func (s *Server) signOut(v *visit, leaving []account, next string) error {
	err := s.forget(v.r.Context(), v, leaving)
	for _, a := range leaving {
		e := audit.Event{
			Time: v.now.UTC(), Request: traceID(v.r), Tenant: a.user.Tenant.String(), Actor: a.user.ID.String(), Address: v.from.String(),
			Action: "sign-out", Outcome: audit.Allowed, Details: map[string]string{"session": a.session.ID.String()},
		}
		s.conclude(&e, v.r, err)
	}
	if err != nil {
		return err
	}
	if next != "" {
		redirect(v.w, v.r, next)
		return nil
	}
	return s.show(v.w, http.StatusOK, "done", pageView{
		Title: "Signed out", Heading: "You are signed out", Good: true, Text: "You have signed out of your account in this browser. It is a good idea to close it.",
	})
}

// hinted reads id_token_hint: the client and user of an ID token that was signed here. It may have expired, and its key may have retired, but
// must not have been withdrawn. Of a guest it is the account at home, which is who signs in.
func (s *Server) hinted(f form) (client string, user directory.ID, err error) {
	client = f["client_id"]
	hint := f["id_token_hint"]
	if hint == "" {
		return client, user, nil
	}
	raw := []byte(hint)
	view := s.Feed.View()
	t, err := s.tokens.Signed(view, raw, HashToken(raw))
	if err != nil || t.Client() != "" || !s.Authorities.Trusts(t.Issuer, t.Tenant) {
		return "", user, fail(90013, "id_token_hint is not an ID token of this server")
	}
	if key := In(view).Key(t.KeyID); key == nil || key.Withdrawn {
		return "", user, fail(90013, "id_token_hint is signed with a key that has been withdrawn")
	}
	if client != "" && !strings.EqualFold(client, t.Audience) {
		return "", user, fail(90013, "client_id is not the one that id_token_hint is for")
	}
	if home := directory.In(view).Home(directory.In(view).User(t.Object)); home != nil {
		return t.Audience, home.ID, nil
	}
	return t.Audience, t.Object, nil
}

// afterLogout is where the browser goes after a sign-out: to one of the redirect URIs of the application that asks, or nowhere.
func afterLogout(dir *directory.State, clientID string, f form) (string, error) {
	uri := f["post_logout_redirect_uri"]
	if uri == "" || clientID == "" {
		return "", nil
	}
	c, err := findClient(dir, tenancy{word: organizations}, clientID)
	if err != nil {
		return "", err
	}
	if ok, _ := matchRedirect(c.app, uri); !ok || !isHTTP(uri) {
		return "", fail(50011, clip(uri, 200), c.app.AppID)
	}
	if state := f["state"]; state != "" {
		u, err := url.Parse(uri)
		if err != nil {
			return "", fail(50011, clip(uri, 200), c.app.AppID)
		}
		if u.RawQuery != "" {
			u.RawQuery += "&"
		}
		u.RawQuery += url.Values{"state": {state}}.Encode()
		return u.String(), nil
	}
	return uri, nil
}
