package sts

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/directory"
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
			s.refused(v, r.PathValue("tenant"), err)
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
	able := slices.DeleteFunc(slices.Clone(signedIn), func(a account) bool { return !s.suits(v, a) })
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
func (s *Server) suits(v *visit, a account) bool {
	q, dir := v.state.Request, directory.In(s.Feed.View())
	if !q.fresh(a.session, v.now) {
		return false
	}
	if _, _, err := s.entry(v, a); err != nil && (q.prompts(promptNone) || s.pending(v, a.user) == nil) {
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

// proceed goes on with an account: it asks for consent if there is none yet, or the application wants that, or answers the application.
func (s *Server) proceed(ctx context.Context, v *visit, a account) error {
	q := v.state.Request
	v.user = a.user
	if !q.Subject.IsZero() && a.user.ID != q.Subject { // the application has asked for somebody else (OpenID Connect Core 1.0 section 3.1.2.2)
		return fail(50058)
	}
	if q.Admin {
		return s.proceedAdmin(ctx, v, a)
	}
	user, _, err := s.entry(v, a)
	if s.pending(v, a.user) != nil {
		v.state.Account = a.session.ID
		return s.showReview(v, a.user)
	}
	if err != nil {
		s.recordSignIn(v, a, err)
		return err
	}
	switch {
	case q.Redeem.IsZero():
	case q.Redeem != user.ID: // a member of the tenant, say, whom the inviter's address is no business of
		return fail(90013, "the invitation is for another account than "+a.user.UPN)
	default:
		return s.redeemed(v, a, user)
	}
	c, t, err := s.check(q, user, v.now)
	if err != nil {
		return err
	}
	if missing := s.decide(v, a.user, a.session.AMR, t); missing != nil {
		if q.prompts(promptNone) {
			return missing
		}
		return s.stepUp(ctx, v, a, missing)
	}
	switch {
	case len(t.missing) > 0 && q.prompts(promptNone):
		return fail(65001, c.app.AppID, c.app.DisplayName)
	case q.prompts(promptConsent) && !v.state.Agreed:
		v.state.Account = a.session.ID
		return s.showConsent(v, user, t.wanted)
	case len(t.missing) > 0:
		v.state.Account = a.session.ID
		return s.showConsent(v, user, t.missing)
	// Any program on this machine can lead the browser here and listen at the redirect URI (RFC 8252 section 8.6, RFC 6749 section 10.2).
	case q.Public && v.silent && q.prompts(promptNone):
		return fail(50199)
	case q.Public && v.silent:
		return s.showPick(v, []account{a})
	}
	answer := url.Values{"session_state": {a.session.ID.String()}}
	err = s.fill(ctx, v, a, user, c, answer)
	s.recordSignIn(v, a, err)
	if err != nil {
		return err
	}
	if q.Info {
		answer.Set("client_info", clientInfo(a.user))
	}
	return s.respond(v, q, answer)
}

// fill puts a code and an ID token into the answer, as the request wants them.
func (s *Server) fill(ctx context.Context, v *visit, a account, user *directory.User, c *client, answer url.Values) error {
	q := v.state.Request
	code := ""
	if !q.NoCode {
		var err error
		if code, err = s.issueCode(ctx, v, a, user.Tenant); err != nil {
			return err
		}
		answer.Set("code", code)
	}
	if !q.IDToken {
		return nil
	}
	view := s.Feed.View()
	if _, ok := accountOf(view, a.session.ID, v.now); !ok {
		return fail(50058)
	}
	x := &exchange{version: q.Version, authority: s.Authorities.Own(), address: v.from, now: v.now, view: view, client: c}
	x.subject = subject{tenant: x.dir().Tenant(user.Tenant), user: user, home: a.user, session: a.session, nonce: q.Nonce}
	if q.MaxAge != nil {
		x.subject.authTime = time.Unix(0, a.session.Began).Unix()
	}
	if q.Ask.Text != "" {
		var err error
		if x.ask, err = q.Ask.parse(); err != nil {
			return err
		}
	}
	claims, err := s.idClaims(x)
	if err != nil {
		return err
	}
	if code != "" {
		sum := sha256.Sum256([]byte(code))
		claims.CodeHash = base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2])
	}
	token, err := s.Keys.Sign(ctx, claims, q.Version == 1)
	answer.Set("id_token", token)
	return err
}

// check demands that the application may still be used and answered as the request says, and in the tenant of whom tokens will speak of. It returns what the
// tokens will be for; of a request that leaves it to the client to name that later, only what is missing.
func (s *Server) check(q *authRequest, user *directory.User, at time.Time) (*client, target, error) {
	dir := directory.In(s.Feed.View())
	tenant := dir.Tenant(user.Tenant)
	c, err := q.answerable(dir, tenancy{tenant: tenant})
	if err != nil {
		return nil, target{}, err
	}
	if q.Ask.Text == "" {
		t := target{}
		if !c.firstParty() {
			t.missing = consents{dir, c, user}.static()
			t.wanted = t.missing
		}
		return c, t, nil
	}
	asked, err := q.Ask.parse()
	if err != nil {
		return nil, target{}, err
	}
	t, err := asked.resolve(dir, tenant)
	if err == nil {
		err = t.permit(dir, asked, c, user, at)
	}
	return c, t, err
}

// answerable demands that the application is still there and may be answered where the request says.
func (q *authRequest) answerable(dir *directory.State, place tenancy) (*client, error) {
	if q.Admin {
		place = tenancy{word: organizations} // it need not be in the tenant yet
	}
	c, err := findClient(dir, place, q.Client.String())
	if err != nil {
		return nil, err
	}
	if ok, public := matchRedirect(c.app, q.Redirect); !ok || public != q.Public {
		return nil, fail(50011, clip(q.Redirect, 200), q.Client)
	}
	return c, nil
}

// refuseRequest tells the application why it gets no code. What it must not learn, or cannot be told, the person sees on a page: nothing is
// sent to an address that is not the application's any more.
func (s *Server) refuseRequest(v *visit, err error) error {
	if err == nil || !v.state.Request.Redeem.IsZero() {
		return err
	}
	dir := directory.In(s.Feed.View())
	if _, gone := v.state.Request.answerable(dir, v.state.Request.place(dir)); gone != nil {
		s.refused(v, "", gone)
		return gone
	}
	s.refused(v, "", err)
	f := asRefusal(err, v.r)
	if onPageOnly(v.state.Request, f) {
		return err
	}
	entry := catalogue[f.number]
	answer := url.Values{
		"error": {cmp.Or(entry.page, entry.error)}, "error_description": {s.describe(f, v.r)},
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
		Time: v.now.UTC(), Request: traceID(v.r), Client: v.client().String(), Address: v.from.String(), Action: "authorize", Target: v.wanted(),
		Outcome: audit.Allowed, Details: map[string]string{"method": v.on.purpose, "session": a.session.ID.String(), "user": a.user.UPN},
	}
	user, tenant, _ := s.entry(v, a)
	namePerson(&e, tenant, user, a.user)
	v.concluded = err != nil
	s.conclude(&e, v.r, err)
}

// Steps of the sign-in page, beside those of every surface.
const (
	stepPick    = "pick"
	stepConsent = "consent"
)

// signInStep handles the form of any step of the sign-in page.
func (s *Server) signInStep(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	v, err := s.step(w, r, signInPage)
	switch {
	case errors.Is(err, errStale) && v.state.Request != nil:
		return s.showSignIn(v, http.StatusBadRequest, v.state.Request.name(), "This page was open for too long, or your browser does not keep cookies for it. Sign in again.")
	case errors.Is(err, errStale):
		return signInPage.errForeign()
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
	case v.state.Step == stepReview:
		err = s.resume(ctx, v, func(a account) error {
			return s.stepReview(ctx, v, a.user, func() error { return s.proceed(ctx, v, a) })
		})
	case v.state.Step == stepConsent:
		err = s.resume(ctx, v, func(a account) error { return s.stepConsent(ctx, v, a) })
	default:
		return signInPage.errForeign()
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
	if !v.state.Request.fresh(a.session, v.now) {
		return s.showSignIn(v, http.StatusOK, a.user.UPN, "")
	}
	if _, _, err := s.entry(v, *a); err != nil && s.pending(v, a.user) == nil {
		return s.showSignIn(v, http.StatusBadRequest, "", asRefusal(err, v.r).fault.Message)
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

// resume goes on with the account that a question was put to, if its session is still in force.
func (s *Server) resume(ctx context.Context, v *visit, next func(account) error) error {
	a, err := s.chosen(ctx, v, v.state.Account.String())
	if err != nil {
		return err
	}
	if a == nil {
		return s.showSignIn(v, http.StatusBadRequest, "", "Your session has ended. Sign in again.")
	}
	return next(*a)
}

func (s *Server) refuseOnPage(v *visit) error {
	return s.show(v.w, http.StatusBadRequest, "message", pageView{Title: "Sign-in failed", Heading: "That did not work", Text: "Choose Accept or Cancel."})
}
