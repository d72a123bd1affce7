package sts

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// authorize is the authorization endpoint (RFC 6749 section 3.1, OpenID Connect Core 1.0 section 3.1.2): where an application sends a
// person's browser to sign in.
func (s *Server) authorize(version int) web.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if s.Feed.Stale() {
			return fail(90033)
		}
		f, err := parseForm(r.URL.RawQuery)
		if err != nil {
			return err
		}
		v := &visit{w: w, r: r, on: signInPage, from: web.ClientIP(r), now: s.now(), form: f}
		q, err := readAuthRequest(directory.In(s.Feed.View()), r.PathValue("tenant"), version, f)
		if q == nil {
			return err
		}
		v.state.Request = q
		if err == nil {
			_, q.Subject, err = s.hinted(f)
		}
		if err == nil {
			err = s.startSignIn(r.Context(), v)
		}
		return s.refuseRequest(v, err)
	}
}

// authorizeForm takes a request that an application posted. The browser asks again with a GET, which brings its cookies along.
func (s *Server) authorizeForm(w http.ResponseWriter, r *http.Request) error {
	return s.again(w, r, authParameters...)
}

// again makes the browser repeat a posted request as a GET, with the parameters named: whatever else was sent, maybe by mistake, does not
// get into an address. Of an ID token only its user goes on.
func (s *Server) again(w http.ResponseWriter, r *http.Request, parameters ...string) error {
	f, err := readForm(w, r)
	if err != nil {
		return err
	}
	_, user, err := s.hinted(f)
	if err != nil {
		return err
	}
	q := url.Values{}
	for _, name := range parameters {
		if f[name] != "" {
			q.Set(name, f[name])
		}
	}
	if !user.IsZero() && q.Get("login_hint") == "" && slices.Contains(parameters, "login_hint") {
		q.Set("login_hint", user.String())
	}
	redirect(w, r, s.Authorities.Public+r.URL.EscapedPath()+"?"+q.Encode())
	return nil
}

// startSignIn decides how a request goes on: at once, with a choice, with a sign-in, or not.
func (s *Server) startSignIn(ctx context.Context, v *visit) error {
	if asked, err := s.askOrigin(ctx, v); asked || err != nil {
		return err
	}
	q := v.state.Request
	signedIn, err := s.accounts(ctx, v)
	if err != nil {
		return err
	}
	able := slices.DeleteFunc(slices.Clone(signedIn), func(a account) bool { return !s.suits(q, a, v.now) })
	switch {
	case q.prompts(promptNone) && len(able) == 0:
		return fail(50058)
	case q.prompts(promptNone) && len(able) > 1:
		return fail(16000)
	case q.prompts(promptLogin) || len(signedIn) == 0:
		return s.showSignIn(v, http.StatusOK, q.name(), "")
	case q.prompts(promptSelect):
		return s.showPick(v, signedIn)
	case len(able) == 1:
		v.silent = true
		return s.proceed(ctx, v, able[0])
	case len(able) == 0 && (q.Hint != "" || !q.Subject.IsZero()):
		return s.showSignIn(v, http.StatusOK, q.name(), "")
	}
	return s.showPick(v, signedIn)
}

// suits reports whether an account can answer a request without any question.
func (s *Server) suits(q *authRequest, a account, now time.Time) bool {
	dir := directory.In(s.Feed.View())
	if !q.place(dir).holds(a.user.Tenant) || !q.fresh(a.session, now) {
		return false
	}
	if !q.Subject.IsZero() && a.user.ID != q.Subject {
		return false
	}
	if t := dir.TenantByDomain(q.Domain); t != nil && t.ID != a.user.Tenant {
		return false
	}
	return q.Hint == "" || strings.EqualFold(q.Hint, a.user.UPN) || strings.EqualFold(q.Hint, a.user.ID.String())
}

// fresh reports whether a sign-in is as recent as the request wants it.
func (q *authRequest) fresh(session *Session, now time.Time) bool {
	return q.MaxAge == nil || now.Sub(time.Unix(0, session.Began)) <= time.Duration(*q.MaxAge)*time.Second
}

// name is what the user name field begins with.
func (q *authRequest) name() string {
	if strings.Contains(q.Hint, "@") {
		return q.Hint
	}
	return ""
}

// authenticated goes on with a user who has just proved who they are.
func (s *Server) authenticated(ctx context.Context, v *visit, user *directory.User) error {
	session, err := s.establish(ctx, v, user)
	if err != nil {
		return err
	}
	v.state.From = directory.ID{}
	return s.proceed(ctx, v, account{session, user})
}

// proceed goes on with an account: it asks for consent if the application wants that, or answers the application.
func (s *Server) proceed(ctx context.Context, v *visit, a account) error {
	q := v.state.Request
	if !q.Subject.IsZero() && a.user.ID != q.Subject { // the application has asked for somebody else (OpenID Connect Core 1.0 section 3.1.2.2)
		return fail(50058)
	}
	t, err := s.check(q, a.user)
	if err != nil {
		return err
	}
	if missing := v.decide(a.user, a.session.AMR, t); missing != nil {
		if q.prompts(promptNone) {
			return missing
		}
		return s.stepUp(ctx, v, a, missing)
	}
	if q.prompts(promptConsent) && v.state.Step != stepConsent {
		return s.showConsent(v, a, t)
	}
	// Any program on this machine can lead the browser here and listen at the redirect URI (RFC 8252 section 8.6, RFC 6749 section 10.2).
	if q.Public && v.silent {
		if q.prompts(promptNone) {
			return fail(50199)
		}
		return s.showPick(v, []account{a})
	}
	code, err := s.issueCode(ctx, v, a)
	s.recordSignIn(v, a, err)
	if err != nil {
		return err
	}
	answer := url.Values{"code": {code}, "session_state": {a.session.ID.String()}}
	if q.Info {
		answer.Set("client_info", clientInfo(a.user))
	}
	return s.respond(v, q, answer)
}

// check demands that the application may still be used and answered as the request says, and by a user's tenant. It returns what the
// tokens will be for; the zero target when the client names that later.
func (s *Server) check(q *authRequest, user *directory.User) (target, error) {
	dir := directory.In(s.Feed.View())
	place, tenant := q.place(dir), dir.Tenant(user.Tenant)
	if !place.holds(user.Tenant) {
		return target{}, fail(50020, user.UPN, place.tenant.DisplayName, q.Client)
	}
	if err := q.answerable(dir, tenancy{tenant: tenant}); err != nil {
		return target{}, err
	}
	if q.Ask.Text == "" {
		return target{}, nil
	}
	asked, err := q.Ask.parse()
	if err != nil {
		return target{}, err
	}
	return asked.resolve(dir, tenant)
}

// answerable demands that the application is still there and may be answered where the request says.
func (q *authRequest) answerable(dir *directory.State, place tenancy) error {
	c, err := findClient(dir, place, q.Client.String())
	if err != nil {
		return err
	}
	if ok, public := matchRedirect(c.app, q.Redirect); !ok || public != q.Public {
		return fail(50011, clip(q.Redirect, 200), q.Client)
	}
	return nil
}

// refuseRequest tells the application why it gets no code. What it must not learn, or cannot be told, the person sees on a page: nothing is
// sent to an address that is not the application's any more.
func (s *Server) refuseRequest(v *visit, err error) error {
	if err == nil {
		return nil
	}
	dir := directory.In(s.Feed.View())
	if gone := v.state.Request.answerable(dir, v.state.Request.place(dir)); gone != nil {
		return gone
	}
	f := asRefusal(err, v.r)
	if f.fault.Kind == fault.Internal || f.fault.Kind == fault.Unavailable || f.fault.Kind == fault.Throttled || f.number == 50011 {
		return err
	}
	entry := catalogue[f.number]
	answer := url.Values{
		"error": {entry.error}, "error_description": {s.describe(f, v.r)},
		"error_uri": {s.Authorities.Public + "/error?code=" + f.fault.Code[len("AADSTS"):]},
	}
	if entry.v1 != "" { // what version 1 has always called it is OpenID Connect's name
		answer.Set("error", entry.v1)
	}
	if f.suberror != "" {
		answer.Set("error_subcode", f.suberror)
	}
	if f.claims != "" {
		answer.Set("claims", f.claims)
	}
	return s.respond(v, v.state.Request, answer)
}

// recordSignIn logs and audits that an application got, or did not get, a code.
func (s *Server) recordSignIn(v *visit, a account, err error) {
	e := audit.Event{
		Time: v.now.UTC(), Request: traceID(v.r), Tenant: a.user.Tenant.String(), Actor: a.user.ID.String(), Client: v.client().String(),
		Address: v.from.String(), Action: "authorize", Outcome: audit.Allowed,
		Details: map[string]string{"method": v.on.purpose, "session": a.session.ID.String(), "user": a.user.UPN},
	}
	s.conclude(&e, v.r, err)
}

// Steps of the sign-in page, beside the device page's signin and password.
const (
	stepPick    = "pick"
	stepConsent = "consent"
)

// signInStep handles the form of any step of the sign-in page.
func (s *Server) signInStep(w http.ResponseWriter, r *http.Request) error {
	if err := crossOrigin.Check(r); err != nil {
		return fail(90013, "the form was sent from another site; start the sign-in in your application again")
	}
	if s.Feed.Stale() {
		return fail(90033)
	}
	v := &visit{w: w, r: r, on: signInPage, from: web.ClientIP(r), now: s.now()}
	var err error
	if v.form, err = readForm(w, r); err != nil {
		return err
	}
	ctx := r.Context()
	v.state, err = s.openState(ctx, v)
	switch {
	case errors.Is(err, errStale) && v.state.Request != nil:
		return s.showSignIn(v, http.StatusBadRequest, v.state.Request.name(), "This page was open for too long, or your browser does not keep cookies for it. Sign in again.")
	case errors.Is(err, errStale):
		return fail(90013, "the form is not one of this page; start the sign-in in your application again")
	case err != nil:
		return err
	}
	switch proof := proofSteps[v.state.Step]; {
	case proof != nil:
		err = proof(s, ctx, v)
	case v.state.Step == stepResume:
		err = s.startSignIn(ctx, v)
	case v.state.Step == stepPick:
		err = s.stepPick(ctx, v)
	case v.state.Step == stepConsent:
		err = s.stepConsent(ctx, v)
	default:
		return fail(90013, "the form is not one of this page; start the sign-in in your application again")
	}
	return s.refuseRequest(v, err)
}

func (s *Server) showPick(v *visit, signedIn []account) error {
	v.state.Step = stepPick
	view := pageView{Title: "Pick an account", App: s.appName(v.client())}
	if view.Confirm = v.silent; view.Confirm {
		view.Title = "Confirm sign-in"
	}
	for _, a := range slices.Backward(signedIn) {
		view.Accounts = append(view.Accounts, accountView{ID: a.session.ID.String(), Name: a.user.DisplayName, UPN: a.user.UPN})
	}
	return s.showForm(v, http.StatusOK, "pick", view)
}

// stepPick takes the choice of an account, which must be signed in in this browser.
func (s *Server) stepPick(ctx context.Context, v *visit) error {
	a, err := s.chosen(ctx, v, v.form["account"])
	if err != nil {
		return err
	}
	if a == nil {
		return s.showSignIn(v, http.StatusOK, "", "")
	}
	if !v.state.Request.fresh(a.session, v.now) || !v.state.Request.place(directory.In(s.Feed.View())).holds(a.user.Tenant) {
		return s.showSignIn(v, http.StatusOK, a.user.UPN, "")
	}
	return s.proceed(ctx, v, *a)
}

// chosen is the account of a session that the browser has; nil when it has no such one.
func (s *Server) chosen(ctx context.Context, v *visit, session string) (*account, error) {
	signedIn, err := s.accounts(ctx, v)
	if err != nil {
		return nil, err
	}
	for _, a := range signedIn {
		if a.session.ID.String() == session {
			return &a, nil
		}
	}
	return nil, nil
}

func (s *Server) showConsent(v *visit, a account, t target) error {
	v.state.Step, v.state.Account = stepConsent, a.session.ID
	view := pageView{
		Title: "Permissions requested", App: s.appName(v.client()), AppID: v.client().String(), Account: a.user.UPN,
		Tenant: directory.In(s.Feed.View()).Tenant(a.user.Tenant).DisplayName, Scopes: scopesOf(v.state.Request, t),
	}
	if u, err := url.Parse(v.state.Request.Redirect); err == nil && u.Host != "" {
		view.Address = u.Host
	}
	return s.showForm(v, http.StatusOK, "consent", view)
}

// scopesOf says in words what an application asks for.
func scopesOf(q *authRequest, t target) []scopeView {
	asked, err := q.Ask.parse()
	if err != nil || t.resource == nil {
		return []scopeView{{Text: "Sign you in and act as you with the resource that it names", Value: "openid"}}
	}
	var out []scopeView
	if asked.resource != "" {
		for _, value := range t.scopes {
			out = append(out, scopeView{Text: "Act as you in " + t.resource.DisplayName, Value: value})
		}
	}
	for _, o := range []struct{ scope, text string }{
		{"openid", "Sign you in"}, {"profile", "See your name and user name"}, {"email", "See your email address"},
	} {
		if asked.wants(o.scope) {
			out = append(out, scopeView{o.text, o.scope})
		}
	}
	if asked.offline {
		out = append(out, scopeView{"Keep this access while you are away", "offline_access"})
	}
	return out
}

// stepConsent takes the person's decision.
func (s *Server) stepConsent(ctx context.Context, v *visit) error {
	a, err := s.chosen(ctx, v, v.state.Account.String())
	if err != nil {
		return err
	}
	if a == nil { // the session has ended since
		return s.showSignIn(v, http.StatusBadRequest, "", "Your session has ended. Sign in again.")
	}
	switch v.form["action"] {
	case "accept":
		return s.proceed(ctx, v, *a)
	case "cancel":
		err := fail(65004).sub("cancel")
		s.recordSignIn(v, *a, err)
		return err
	}
	return s.refuseOnPage(v)
}

func (s *Server) refuseOnPage(v *visit) error {
	return s.show(v.w, http.StatusBadRequest, "message", pageView{Title: "Sign-in failed", Heading: "That did not work", Text: "Choose Accept or Cancel."})
}
