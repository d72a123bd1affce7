package sts

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/internal/guess"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// Steps of the device page. Each is a form; what it posts is handled by the step's function.
const (
	stepCode     = "code"
	stepSignIn   = "signin"
	stepPassword = "password"
	stepConfirm  = "confirm"
)

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

// deviceStart shows the first form. A code in the address only fills the field in: everything is still asked.
func (s *Server) deviceStart(w http.ResponseWriter, r *http.Request) error {
	v := &visit{w: w, r: r, on: devicePage, from: web.ClientIP(r), now: s.now()}
	return s.showCode(v, http.StatusOK, clip(r.URL.Query().Get("otc"), 32), "")
}

// deviceStep handles the form of any step.
func (s *Server) deviceStep(w http.ResponseWriter, r *http.Request) error {
	if err := crossOrigin.Check(r); err != nil {
		return fail(90013, "the form was sent from another site; open the device sign-in page yourself")
	}
	if s.Feed.Stale() {
		return fail(90033)
	}
	v := &visit{w: w, r: r, on: devicePage, from: web.ClientIP(r), now: s.now()}
	var err error
	if v.form, err = readForm(w, r); err != nil {
		return err
	}
	ctx := r.Context()
	v.state, err = s.openState(ctx, v)
	if errors.Is(err, errStale) {
		return s.showCode(v, http.StatusBadRequest, "", "This page was open for too long, or your browser does not keep cookies for it. Enter the code again.")
	}
	if err != nil {
		return err
	}
	if v.state.Step == stepCode {
		return s.stepCode(ctx, v)
	}
	if v.flow, err = flowOf(ctx, s.Feed.Log, v.state.Flow); err != nil {
		return err
	}
	if !v.flow.open(v.now) {
		return s.showCode(v, http.StatusBadRequest, "", "This code has been used or has expired. Start the sign-in on your device again to get a new one.")
	}
	if proof := proofSteps[v.state.Step]; proof != nil {
		return proof(s, ctx, v)
	}
	switch v.state.Step {
	case stepReview:
		home, err := s.visitor(v)
		if err != nil {
			return err
		}
		return s.stepReview(ctx, v, home, func() error { return s.goOn(ctx, v, home) })
	case stepConsent:
		return s.stepDeviceConsent(ctx, v)
	}
	return s.stepConfirm(ctx, v)
}

// open reports whether a person may still decide on a flow.
func (f *deviceFlow) open(at time.Time) bool {
	return f != nil && f.State == flowPending && at.Before(f.Expires)
}

func (s *Server) stepCode(ctx context.Context, v *visit) error {
	typed := v.form["otc"]
	code := parseUserCode(typed)
	if code == "" {
		return s.showCode(v, http.StatusBadRequest, clip(typed, 32), "Enter the code of nine letters and digits that your device shows.")
	}
	if !s.codes.take(v.from) {
		return s.showCode(v, http.StatusTooManyRequests, code, "Too many wrong codes came from your address. Wait a minute and try again.")
	}
	if err := s.findFlow(ctx, v, code); err != nil {
		return err
	}
	if !v.flow.open(v.now) {
		return s.showCode(v, http.StatusBadRequest, code, "That code is not right or has expired. Check it, or start the sign-in on your device again.")
	}
	s.codes.giveBack(v.from)
	return s.showSignIn(v, http.StatusOK, "", "")
}

// findFlow puts the flow of a user code into the visit, if there is one.
func (s *Server) findFlow(ctx context.Context, v *visit, code string) error {
	hashed, err := s.vault.hash(ctx, string(KindUserCode), code)
	if err != nil {
		return err
	}
	kept, err := s.Feed.Secret(ctx, KindUserCode, hashed)
	if errors.Is(err, feed.ErrNoSecret) {
		return nil
	}
	if err != nil {
		return err
	}
	v.state.Flow = string(kept.Body)
	v.flow, err = flowOf(ctx, s.Feed.Log, v.state.Flow)
	return err
}

func (s *Server) stepSignIn(ctx context.Context, v *visit) error {
	v.state.Keep = v.form["LoginOptions"] == "1"
	if v.form["credential"] != "" {
		return s.stepPasskey(ctx, v)
	}
	name, password := strings.TrimSpace(v.form["loginfmt"]), v.form["passwd"]
	if name == "" || password == "" {
		return s.showSignIn(v, http.StatusBadRequest, name, "Enter your user name and your password.")
	}
	user, err := s.signIn(ctx, v, name, password)
	if err != nil {
		return s.showSignInError(v, name, err)
	}
	return s.signedIn(ctx, v, user, v.now, amrPassword)
}

// signIn checks a user name and password at home, which is the tenant of the name's domain. If that is not the tenant that is asked for,
// the person must be a guest there. Passwords that were tried are the matter of home, and in its log alone.
func (s *Server) signIn(ctx context.Context, v *visit, name, password string) (*directory.User, error) {
	dir := directory.In(s.Feed.View())
	_, domain, _ := strings.Cut(name, "@")
	home := dir.TenantByDomain(domain)
	logged := home
	if home == nil {
		logged = v.tenant(dir)
	}
	var user *directory.User
	var err error
	if home == nil && looksLikeDomain(domain) {
		err = fail(90072, domain)
	} else if home == nil {
		if _, err = s.Directory.VerifyPassword(ctx, nil, password); err == nil {
			err = fail(50034, "server's")
		}
	} else if user, err = s.checkPassword(ctx, dir, home, name, password, v.from); err == nil {
		err = s.mayEnter(v, user)
	}
	s.recordVisit(v, "sign-in", logged, user, name, err)
	return user, err
}

// showSignInError shows why nobody was signed in. It has the same words for an unknown user and a wrong password.
func (s *Server) showSignInError(v *visit, name string, err error) error {
	f := asRefusal(err, v.r)
	switch f.number {
	case 50126, 50034:
		return s.showSignIn(v, http.StatusBadRequest, name, "Your user name or password is not right.")
	case 50020, 90013, 90072:
		return s.showSignIn(v, http.StatusBadRequest, name, f.fault.Message)
	case 50053:
		return s.showSignIn(v, http.StatusTooManyRequests, name, "There were too many wrong passwords for this account. Wait a few minutes and try again.")
	case 50057:
		return s.showSignIn(v, http.StatusBadRequest, name, "This account is disabled. Ask an administrator to enable it.")
	}
	return err
}

// signedIn goes on with a user who has proved at a moment, and in these ways, who they are.
func (s *Server) signedIn(ctx context.Context, v *visit, user *directory.User, proved time.Time, amr ...string) error {
	v.state.User, v.state.Proved, v.state.AMR, v.state.From = user.ID, proved.UnixNano(), nil, directory.ID{}
	v.proves(amr...)
	return s.goOn(ctx, v, user)
}

// stepPassword replaces a password that has to be changed. It asks for the present one again.
func (s *Server) stepPassword(ctx context.Context, v *visit) error {
	dir := directory.In(s.Feed.View())
	user := dir.User(v.state.User)
	if user == nil || !user.Enabled {
		return fail(50057)
	}
	if v.on == accountPage && v.form["action"] == "cancel" {
		return s.backToAccount(v)
	}
	current, next := v.form["currentPassword"], v.form["newPassword"]
	switch {
	case current == "" || next == "":
		return s.showPassword(v, http.StatusBadRequest, user, "Enter your current password and a new one.")
	case next != v.form["confirmNewPassword"]:
		return s.showPassword(v, http.StatusBadRequest, user, "The two new passwords are not the same.")
	}
	tenant := dir.Tenant(user.Tenant)
	validFrom, err := s.changePassword(ctx, v, dir, tenant, user, current, next)
	s.recordVisit(v, "password-change", tenant, user, user.UPN, err)
	if err != nil {
		return s.showPasswordError(v, user, err)
	}
	user = directory.In(s.Feed.View()).User(user.ID)
	if user == nil {
		return fail(50057)
	}
	// The sign-in goes on from the change, which ended those before: also the one that the person came with. A session that begins at
	// just this moment ends with whatever an administrator did after it.
	v.state.Proved, v.state.From = validFrom, directory.ID{}
	return s.goOn(ctx, v, user)
}

func (s *Server) showPasswordError(v *visit, user *directory.User, err error) error {
	switch f := asRefusal(err, v.r); {
	case f.number == 50126:
		return s.showPassword(v, http.StatusBadRequest, user, "The current password is not right.")
	case f.number == 50053:
		return s.showPassword(v, http.StatusTooManyRequests, user, "There were too many wrong passwords for this account. Wait a few minutes and try again.")
	case fault.Is(err, fault.Invalid): // the rules for new passwords
		return s.showPassword(v, http.StatusBadRequest, user, fault.From(err).Message)
	}
	return err
}

// changePassword changes a user's password, counting wrong present ones.
func (s *Server) changePassword(ctx context.Context, v *visit, dir *directory.State, tenant *directory.Tenant, user *directory.User, current, next string) (validFrom int64, err error) {
	done, err := s.guess(ctx, dir, tenant, user, user.UPN, v.from)
	if err != nil {
		return 0, err
	}
	validFrom, err = s.Directory.ChangePassword(ctx, directory.Actor{ID: user.ID, Tenant: user.Tenant}, current, next)
	done(guess.Of(err, directory.ErrWrongPassword))
	if errors.Is(err, directory.ErrWrongPassword) {
		return 0, fail(50126)
	}
	return validFrom, err
}

// stepConfirm takes the person's decision.
func (s *Server) stepConfirm(ctx context.Context, v *visit) error {
	decision, action := flowDeclined, "device-code-decline"
	switch v.form["action"] {
	case "continue":
		decision, action = flowApproved, "device-code-approve"
	case "cancel":
	default:
		return fail(90013, "choose Continue or Cancel")
	}
	user := directory.In(s.Feed.View()).User(v.state.User)
	if user == nil {
		return fail(50057)
	}
	err := s.decideFlow(ctx, v, decision)
	s.recordVisit(v, action, directory.In(s.Feed.View()).Tenant(user.Tenant), user, user.UPN, err)
	if errors.Is(err, errStale) {
		return s.showCode(v, http.StatusBadRequest, "", "This code has been used or has expired. Start the sign-in on your device again to get a new one.")
	}
	if err != nil {
		return err
	}
	s.clearCookie(v)
	if decision == flowDeclined {
		return s.show(v.w, http.StatusOK, "done", pageView{
			Title: "Cancelled", Heading: "Sign-in cancelled", Text: "Nothing was given to the device. You can close this window.",
		})
	}
	return s.show(v.w, http.StatusOK, "done", pageView{
		Title: "Signed in", Heading: "You are signed in", Good: true, Account: user.UPN,
		Text: "You have signed in to " + s.appName(v.flow.Client) + " on your device. You can close this window.",
	})
}

// decideFlow writes the decision. Under the write lock it looks again at the flow and at the account, which may have been
// disabled, or had its password changed, since it signed in here.
func (s *Server) decideFlow(ctx context.Context, v *visit, decision string) error {
	return s.Feed.Update(ctx, func(view *feed.View, secrets feed.Secrets) (feed.Change, error) {
		flow, err := flowOf(ctx, secrets, v.state.Flow)
		if err != nil {
			return feed.Change{}, err
		}
		if !flow.open(v.now) {
			return feed.Change{}, errStale
		}
		dir, proof := directory.In(view), &Session{Began: v.state.Proved}
		home := dir.User(v.state.User)
		if err := mayBegin(home, proof); err != nil {
			return feed.Change{}, err
		}
		if tenant := dir.Tenant(flow.Tenant); tenant != nil && decision == flowApproved {
			if _, err := enter(dir, home, proof, tenant, flow.Client); err != nil {
				return feed.Change{}, err
			}
		}
		flow.State = decision
		if decision == flowApproved {
			flow.User, flow.Proved, flow.AMR = v.state.User, v.state.Proved, v.state.AMR
		}
		return feed.Change{Secrets: []feed.Secret{
			flow.secret(v.state.Flow),
			{Record: feed.Record{Kind: KindUserCode, Key: flow.UserCode}},
		}}, nil
	})
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
