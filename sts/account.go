package sts

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// accountClient is what sessions call the account page, as the cloud's own "My Profile" is called.
var accountClient = directory.MustParseID("8c59ead7-d703-4a27-9e55-c96a0054c8d2")

// stepAccount is the account page itself; each of its buttons is one of the actions.
const stepAccount = "account"

// Actions of the account page. remove and end name what they are about after a space.
const (
	actTOTP       = "totp"
	actPasskey    = "passkey"
	actCodes      = "codes"
	actRemove     = "remove"
	actEnd        = "end"
	actEverywhere = "everywhere"
	actPassword   = "password"
	actSwitch     = "switch"
)

// sessionsShown bounds the list of sessions, which a program with the password could make long.
const sessionsShown = 50

// accountPageView is what the account page shows of a person.
type accountPageView struct {
	Name, UPN, Tenant, MFA string
	Methods                []methodView
	CanPasskey             bool
	Recovery               int // codes left
	Sessions               []sessionView
	More                   int // sessions that are not shown
}

type methodView struct{ ID, Name, Added string }

type sessionView struct {
	ID, App, Began, How string
	Browser, Here       bool
}

// account is the page where people see and change how they sign in. It knows them by their browser's session.
func (s *Server) account(w http.ResponseWriter, r *http.Request) error {
	if s.Feed.Stale() {
		return fail(90033)
	}
	return s.openLatest(r.Context(), &visit{w: w, r: r, on: accountPage, from: web.ClientIP(r), now: s.now()})
}

// openLatest shows the account that signed in last.
func (s *Server) openLatest(ctx context.Context, v *visit) error {
	if asked, err := s.askOrigin(ctx, v); asked || err != nil {
		return err
	}
	signedIn, err := s.accounts(ctx, v)
	if err != nil {
		return err
	}
	if len(signedIn) == 0 {
		return s.showSignIn(v, http.StatusOK, "", "")
	}
	return s.open(ctx, v, signedIn[len(signedIn)-1], "")
}

// open shows an account, whose session must suffice as for any other application.
func (s *Server) open(ctx context.Context, v *visit, a account, notice string) error {
	if missing := s.decide(v, a.user, a.session.AMR, target{}); missing != nil {
		return s.stepUp(ctx, v, a, missing)
	}
	return s.showAccount(ctx, v, http.StatusOK, a, notice, "")
}

// backToAccount leads to the page anew, whatever a form held.
func (s *Server) backToAccount(v *visit) error {
	redirect(v.w, v.r, s.Authorities.Public+accountPage.path)
	return nil
}

// accountStep handles the form of any step of the account page.
func (s *Server) accountStep(w http.ResponseWriter, r *http.Request) error {
	if err := crossOrigin.Check(r); err != nil {
		return fail(90013, "the form was sent from another site; open your account page yourself")
	}
	if s.Feed.Stale() {
		return fail(90033)
	}
	v := &visit{w: w, r: r, on: accountPage, from: web.ClientIP(r), now: s.now()}
	var err error
	if v.form, err = readForm(w, r); err != nil {
		return err
	}
	ctx := r.Context()
	v.state, err = s.openState(ctx, v)
	if errors.Is(err, errStale) {
		return fail(90013, "the page was open for too long, or the form is not this browser's; open your account page again")
	}
	if err != nil {
		return err
	}
	if proof := proofSteps[v.state.Step]; proof != nil {
		err := proof(s, ctx, v)
		if f := new(refusal); errors.As(err, &f) && f.number == 50173 { // the session that was to be changed has ended
			return s.backToAccount(v)
		}
		return err
	}
	switch v.state.Step {
	case stepResume:
		return s.openLatest(ctx, v)
	case stepPick:
		a, err := s.chosen(ctx, v, v.form["account"])
		if err != nil {
			return err
		}
		v.state = pageState{}
		if a == nil {
			return s.showSignIn(v, http.StatusOK, "", "")
		}
		return s.open(ctx, v, *a, "")
	case stepAccount:
		a, err := s.chosen(ctx, v, v.state.Account.String())
		if err != nil {
			return err
		}
		if a == nil {
			return s.backToAccount(v)
		}
		if missing := s.decide(v, a.user, a.session.AMR, target{}); missing != nil {
			return s.stepUp(ctx, v, *a, missing)
		}
		return s.act(ctx, v, *a, v.form["action"])
	}
	return fail(90013, "the form is not one of this page; open your account page again")
}

// entered goes on with a person who has proved who they are: to the page, or to what they wanted to do there.
func (s *Server) entered(ctx context.Context, v *visit, user *directory.User) error {
	session, err := s.establish(ctx, v, user)
	if err != nil {
		return err
	}
	a := account{session, user}
	if then := v.state.Then; then != "" {
		v.state.Then = ""
		return s.act(ctx, v, a, then)
	}
	return s.showAccount(ctx, v, http.StatusOK, a, "", "")
}

// act does what a button of the page says. How somebody signs in is changed only by who has just proved to be that person: with a
// second factor where there is one.
func (s *Server) act(ctx context.Context, v *visit, a account, action string) error {
	verb, arg, _ := strings.Cut(action, " ")
	switch verb {
	case actTOTP, actPasskey, actCodes, actRemove:
		if !a.proved(v.now) {
			return s.demandProof(ctx, v, a, action)
		}
	}
	id, _ := directory.ParseID(arg) // of what is not there
	v.state = pageState{Cookie: v.state.Cookie}
	switch verb {
	case actTOTP, actPasskey:
		v.continues(a)
		v.state.Then = verb
		return s.showEnrol(ctx, v, http.StatusOK, a.user, "")
	case actCodes:
		codes, err := s.Directory.RenewRecovery(ctx, a.user.ID)
		s.recordProof(v, "security-info-recovery-codes", a.user, "recovery", err)
		if err != nil {
			return s.showRefused(ctx, v, a, err)
		}
		v.continues(a)
		return s.showCodes(v, a.user, codes)
	case actRemove:
		err := s.Directory.RemoveMethod(ctx, directory.Actor{ID: a.user.ID, Tenant: a.user.Tenant}, a.user.ID, id)
		s.recordProof(v, "security-info-remove", a.user, id.String(), err)
		if err != nil {
			return s.showRefused(ctx, v, a, err)
		}
		return s.showAgain(ctx, v, a, "The sign-in method was removed.")
	case actEnd:
		err := s.endOne(ctx, a.user, id)
		s.recordEnd(v, a, id.String(), err)
		if err != nil {
			return s.showRefused(ctx, v, a, err)
		}
		return s.showAgain(ctx, v, a, "The session was ended. What was signed in with it has to sign in again.")
	case actEverywhere:
		err := s.Directory.RevokeSessions(ctx, directory.Actor{ID: a.user.ID, Tenant: a.user.Tenant}, a.user.ID)
		s.recordEnd(v, a, "all", err)
		if err != nil {
			return err
		}
		s.clearCookie(v)
		return s.show(v.w, http.StatusOK, "done", pageView{
			Title: "Signed out everywhere", Heading: "You are signed out everywhere", Good: true, Account: a.user.UPN,
			Text: "Every session of " + a.user.UPN + " has ended, here and on all devices.",
		})
	case actPassword:
		v.continues(a)
		return s.showPassword(v, http.StatusOK, a.user, "")
	case actSwitch:
		signedIn, err := s.accounts(ctx, v)
		if err != nil {
			return err
		}
		return s.showPick(v, signedIn)
	}
	return s.showAccount(ctx, v, http.StatusBadRequest, a, "", "That is not one of the buttons of this page.")
}

// proved reports whether the person has shown just now all that they can show.
func (a account) proved(now time.Time) bool {
	return a.session.recent(now) && (!a.user.HasSecondFactor() || a.session.has(amrMFA))
}

// demandProof asks for a second factor, or of who has none for the password, and remembers what for.
func (s *Server) demandProof(ctx context.Context, v *visit, a account, action string) error {
	v.state = pageState{Cookie: v.state.Cookie, Then: action}
	if !a.user.HasSecondFactor() {
		return s.showSignIn(v, http.StatusOK, a.user.UPN, "")
	}
	v.continues(a)
	return s.showSecond(ctx, v, http.StatusOK, a.user, "")
}

// endOne ends one session of a user.
func (s *Server) endOne(ctx context.Context, user *directory.User, id directory.ID) error {
	return s.Feed.Update(ctx, func(view *feed.View, _ feed.Secrets) (feed.Change, error) {
		session := In(view).Session(id)
		if session == nil || session.User != user.ID {
			return feed.Change{}, fault.New(fault.NotFound, "That session has ended already.")
		}
		return feed.Change{Records: []feed.Record{endSession(session)}}, nil
	})
}

// showRefused shows the page with the reason why nothing was done; other errors are not for the person.
func (s *Server) showRefused(ctx context.Context, v *visit, a account, err error) error {
	if !isRefusal(err) {
		return err
	}
	text := fault.From(err).Message
	if fault.Is(err, fault.NotFound) {
		text = "That is not there any more."
	}
	return s.showAccount(ctx, v, http.StatusBadRequest, a, "", text)
}

// showAgain shows the page as it is after a change, which may have ended the session that it was made in.
func (s *Server) showAgain(ctx context.Context, v *visit, a account, notice string) error {
	now, ok := accountOf(s.Feed.View(), a.session.ID, v.now)
	if !ok {
		return s.backToAccount(v)
	}
	return s.open(ctx, v, now, notice)
}

func (s *Server) showAccount(ctx context.Context, v *visit, status int, a account, notice, problem string) error {
	view := s.Feed.View()
	if u := directory.In(view).User(a.user.ID); u != nil {
		a.user = u
	}
	v.state = pageState{Cookie: v.state.Cookie, Step: stepAccount, Account: a.session.ID}
	left, err := s.Directory.RecoveryLeft(ctx, a.user.ID)
	if err != nil {
		return err
	}
	rp, err := s.relyingParty()
	if err != nil {
		return err
	}
	p := &accountPageView{
		Name: a.user.DisplayName, UPN: a.user.UPN, Tenant: directory.In(view).Tenant(a.user.Tenant).DisplayName, MFA: a.user.PerUserMFA(),
		Recovery: left, CanPasskey: rp != nil,
	}
	for _, m := range a.user.Methods {
		p.Methods = append(p.Methods, methodView{ID: m.ID.String(), Name: m.Name, Added: moment(m.Created)})
	}
	for _, session := range In(view).SessionsOf(a.user.ID) {
		if session.Began < a.user.SessionsValidFrom || !v.now.Before(session.Expires) {
			continue
		}
		if len(p.Sessions) == sessionsShown {
			p.More++
			continue
		}
		p.Sessions = append(p.Sessions, sessionView{
			ID: session.ID.String(), App: s.appName(session.Client), Began: moment(time.Unix(0, session.Began)), How: session.how(),
			Browser: session.Browser, Here: session.ID == a.session.ID,
		})
	}
	return s.showForm(v, status, "account", pageView{Title: "Your account", Error: problem, Notice: notice, Person: p})
}

// has reports whether a session was begun, or continued, in a way.
func (s *Session) has(amr string) bool {
	for _, a := range s.AMR {
		if a == amr {
			return true
		}
	}
	return false
}

// how says in words how the person of a session proved who they are.
func (s *Session) how() string {
	switch pwd, key, mfa := s.has(amrPassword), s.has(amrPasskey), s.has(amrMFA); {
	case pwd && key:
		return "password and passkey"
	case key:
		return "passkey"
	case pwd && mfa:
		return "password and second factor"
	case pwd:
		return "password"
	}
	return strings.Join(s.AMR, ", ")
}

// moment writes a time for people.
func moment(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04 UTC") }

// recordEnd logs and audits that somebody ended a session of theirs.
func (s *Server) recordEnd(v *visit, a account, what string, err error) {
	e := audit.Event{
		Time: v.now.UTC(), Request: traceID(v.r), Tenant: a.user.Tenant.String(), Actor: a.user.ID.String(), Address: v.from.String(), Client: accountClient.String(),
		Action: "session-end", Outcome: audit.Allowed, Details: map[string]string{"session": what, "method": v.on.purpose, "user": a.user.UPN},
	}
	s.conclude(&e, v.r, err)
}
