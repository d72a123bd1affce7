package sts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
)

// Steps by which a person shows, or enrols, a second factor. All surfaces have them.
const (
	stepSecond = "second"
	stepEnrol  = "enrol"
	stepCodes  = "codes"
)

// proofSteps are the steps by which people prove who they are, alike on every surface.
var proofSteps = map[string]func(*Server, context.Context, *visit) error{
	stepSignIn:   (*Server).stepSignIn,
	stepPassword: (*Server).stepPassword,
	stepSecond:   (*Server).stepSecond,
	stepEnrol:    (*Server).stepEnrol,
	stepCodes:    (*Server).stepCodes,
}

// proves notes what a person has just shown.
func (v *visit) proves(amr ...string) {
	for _, a := range amr {
		if !slices.Contains(v.state.AMR, a) {
			v.state.AMR = append(slices.Clone(v.state.AMR), a)
		}
	}
	v.state.Fresh = v.now.UnixNano()
}

// continues takes up the session of an account that is signed in, whose person is to show more than it has.
func (v *visit) continues(a account) {
	v.state.User, v.state.From = a.user.ID, a.session.ID
	v.state.Proved, v.state.AMR, v.state.Fresh = a.session.Began, a.session.AMR, a.session.fresh()
}

// goOn asks a person who has shown something for what is missing still, or leads on to what they came for. The browser gets a new
// cookie, so that whoever knew the one before, or keeps a form of an earlier step, has nothing.
func (s *Server) goOn(ctx context.Context, v *visit, user *directory.User) error {
	if err := s.setCookie(v); err != nil {
		return err
	}
	missing := s.decide(v, user, v.state.AMR, target{})
	var number int
	if missing != nil {
		number = asRefusal(missing, v.r).number
	}
	switch {
	case number == 50076:
		return s.showSecond(ctx, v, http.StatusOK, user, "")
	case user.MustChange:
		return s.showPassword(v, http.StatusOK, user, "")
	case number == 50079:
		return s.showEnrol(ctx, v, http.StatusOK, user, "")
	case missing != nil:
		return missing
	}
	switch v.on {
	case signInPage:
		return s.authenticated(ctx, v, user)
	case accountPage:
		return s.entered(ctx, v, user)
	}
	if s.pending(v, user) != nil {
		return s.showReview(v, user)
	}
	return s.deviceConsent(v, user)
}

// stepUp asks a person who is signed in for what a decision misses. Whoever enrols must have proved just now who they are: else an
// unlocked screen would do to add a factor.
func (s *Server) stepUp(ctx context.Context, v *visit, a account, missing error) error {
	switch asRefusal(missing, v.r).number {
	case 50076:
	case 50079:
		if !a.session.recent(v.now) {
			return s.showSignIn(v, http.StatusOK, a.user.UPN, "")
		}
	default:
		return missing
	}
	v.continues(a)
	return s.goOn(ctx, v, a.user)
}

// recentProof is how long somebody who has proved who they are may change how they do it.
const recentProof = 10 * time.Minute

// formProof is how long what was shown counts in the forms after it, however long they are kept open.
const formProof = time.Hour

// fresh is when the person of a session last showed all that its AMR says, or a part of it, Unix nanoseconds. A session that began with a change
// of the password may have begun later.
func (s *Session) fresh() int64 {
	if s.Fresh != 0 {
		return s.Fresh
	}
	return s.Began
}

func (s *Session) recent(now time.Time) bool { return within(recentProof, s.fresh(), now) }

func within(life time.Duration, since int64, now time.Time) bool {
	return now.UnixNano()-since < int64(life)
}

// visitor is the user of a form of a later step, if what was shown before still counts: nobody has ended the session that it was shown in, or all of
// them, and it was not too long ago.
func (s *Server) visitor(v *visit) (*directory.User, error) {
	view := s.Feed.View()
	user := directory.In(view).User(v.state.User)
	if err := mayBegin(user, &Session{Began: v.state.Proved}); err != nil {
		return nil, err
	}
	if v.state.From.IsZero() {
		if !within(formProof, v.state.Fresh, v.now) {
			return nil, fail(50173)
		}
		return user, nil
	}
	if a, ok := accountOf(view, v.state.From, v.now); !ok || a.user.ID != user.ID {
		return nil, fail(50173)
	}
	return user, nil
}

func (s *Server) showSecond(ctx context.Context, v *visit, status int, user *directory.User, problem string) error {
	v.state.Step, v.state.Seed, v.state.Ceremony = stepSecond, nil, nil
	view := pageView{Title: "Verify your identity", Account: user.UPN, Error: problem, HasTOTP: hasMethod(user, directory.MethodTOTP)}
	if v.on == devicePage {
		view.Step = 2
	}
	var err error
	if hasMethod(user, directory.MethodPasskey) {
		if view.Passkey, err = s.askPasskey(ctx, v, user); err != nil {
			return err
		}
	}
	return s.showForm(v, status, "second", view)
}

func hasMethod(u *directory.User, kind string) bool {
	return slices.ContainsFunc(u.Methods, func(m directory.Method) bool { return m.Kind == kind })
}

// stepSecond takes a second factor: a passkey's answer or a code.
func (s *Server) stepSecond(ctx context.Context, v *visit) error {
	user, err := s.visitor(v)
	if err != nil {
		return err
	}
	if v.form["credential"] == "" && v.form["code"] == "" {
		return s.showSecond(ctx, v, http.StatusBadRequest, user, "Enter a code.")
	}
	how := amrPasskey
	if v.form["credential"] != "" {
		_, err = s.takePasskey(ctx, v, user)
	} else if how, err = s.Directory.UseCode(ctx, user.ID, v.form["code"]); err != nil && isRefusal(err) {
		f := fail(500121, strings.TrimSuffix(fault.From(err).Message, "."))
		f.fault = f.fault.Wrap(err)
		err = f
	}
	s.recordProof(v, "second-factor", user, how, err)
	if err != nil {
		return s.showSecondError(ctx, v, user, err)
	}
	v.proves(amrMFA)
	if how == amrPasskey {
		v.proves(amrPasskey)
	}
	v.state.Ceremony = nil
	return s.goOn(ctx, v, user)
}

// isRefusal reports whether an error is an answer to the person, and not a failure of this server.
func isRefusal(err error) bool {
	kind := fault.From(err).Kind
	return kind != fault.Internal && kind != fault.Unavailable
}

func (s *Server) showSecondError(ctx context.Context, v *visit, user *directory.User, err error) error {
	if asRefusal(err, v.r).number != 500121 {
		return err
	}
	status, text := http.StatusBadRequest, "The passkey was not accepted. Try again, or choose another way."
	if cause := fault.From(err).Cause; cause != nil && v.form["code"] != "" {
		if text = fault.From(cause).Message; errors.Is(err, directory.ErrCodeLocked) {
			status = http.StatusTooManyRequests
		}
	}
	return s.showSecond(ctx, v, status, user, text)
}

// showEnrol shows how to enrol a second factor: with a seed that this form alone knows, sealed, or with a new passkey. On the account
// page the person has chosen one of the two.
func (s *Server) showEnrol(ctx context.Context, v *visit, status int, user *directory.User, problem string) error {
	v.state.Step = stepEnrol
	view := pageView{Title: "Set up a second factor", Account: user.UPN, Error: problem, Own: v.state.Then != ""}
	if v.on == devicePage {
		view.Step = 2
	}
	var err error
	if v.state.Method.IsZero() {
		if v.state.Method, err = directory.NewID(s.random()); err != nil {
			return err
		}
	}
	if v.state.Then != actPasskey {
		if v.state.Seed == nil { // the same after a wrong code: the app has it already
			v.state.Seed = make([]byte, directory.TOTPSeedSize)
			if _, err := io.ReadFull(s.random(), v.state.Seed); err != nil {
				return fmt.Errorf("make a seed: %w", err)
			}
		}
		issuer := strings.ReplaceAll(directory.In(s.Feed.View()).Tenant(user.Tenant).DisplayName, ":", " ")
		if view.QR, err = qrOf(directory.TOTPURI(v.state.Seed, issuer, user.UPN)); err != nil {
			return err
		}
		view.Secret = inFours(directory.TOTPText(v.state.Seed))
	}
	if v.state.Then != actTOTP {
		if view.Passkey, err = s.newPasskey(ctx, v, user); err != nil {
			return err
		}
	}
	return s.showForm(v, status, "enrol", view)
}

// inFours writes a text in groups of four, which people read more easily.
func inFours(text string) string {
	var groups []string
	for group := range slices.Chunk([]byte(text), 4) {
		groups = append(groups, string(group))
	}
	return strings.Join(groups, " ")
}

// stepEnrol takes the first code of an authenticator app, or a new passkey.
func (s *Server) stepEnrol(ctx context.Context, v *visit) error {
	user, err := s.visitor(v)
	if err != nil {
		return err
	}
	if v.on == accountPage && v.form["action"] == "cancel" {
		return s.backToAccount(v)
	}
	// Whoever has a factor must have shown it before adding another: not even a form that was open before may go round that.
	shown := slices.Contains(v.state.AMR, amrMFA)
	switch {
	case user.HasSecondFactor() && !shown:
		return s.goOn(ctx, v, user)
	case !within(recentProof, v.state.Fresh, v.now):
		return s.showSignIn(v, http.StatusBadRequest, user.UPN, "This took too long. Sign in again, then set it up.")
	}
	var recovery []string
	kind := directory.MethodTOTP
	switch {
	case v.form["credential"] != "":
		kind = directory.MethodPasskey
		recovery, err = s.addPasskey(ctx, v, user)
	case v.form["code"] == "" || v.state.Seed == nil:
		return s.showEnrol(ctx, v, http.StatusBadRequest, user, "Enter the code that the app shows.")
	default:
		recovery, err = s.Directory.AddTOTP(ctx, user.ID, v.state.Method, v.state.Seed, v.form["code"], shown)
	}
	s.recordProof(v, "security-info-add", user, kind, err)
	if err != nil {
		return s.showEnrolError(ctx, v, user, err)
	}
	v.proves(amrMFA)
	if kind == directory.MethodPasskey {
		v.proves(amrPasskey)
	}
	v.state.Seed, v.state.Ceremony, v.state.Method, v.state.Then = nil, nil, directory.ID{}, ""
	if user = directory.In(s.Feed.View()).User(user.ID); user == nil {
		return fail(50057)
	}
	if len(recovery) > 0 {
		return s.showCodes(v, user, recovery)
	}
	return s.goOn(ctx, v, user)
}

func (s *Server) showEnrolError(ctx context.Context, v *visit, user *directory.User, err error) error {
	switch {
	case asRefusal(err, v.r).number == 500121:
		return s.showEnrol(ctx, v, http.StatusBadRequest, user, "The passkey was not accepted. Try again, or use an authenticator app.")
	case errors.Is(err, directory.ErrWrongCode):
		return s.showEnrol(ctx, v, http.StatusBadRequest, user, "That code is not right. Check that the clock of your phone is right, wait for the next code and try again.")
	case fault.Is(err, fault.Invalid), fault.Is(err, fault.Conflict):
		return s.showEnrol(ctx, v, http.StatusBadRequest, user, fault.From(err).Message)
	}
	return err
}

// showCodes shows recovery codes, this once.
func (s *Server) showCodes(v *visit, user *directory.User, codes []string) error {
	v.state.Step = stepCodes
	view := pageView{Title: "Your recovery codes", Account: user.UPN, Codes: codes}
	if v.on == devicePage {
		view.Step = 2
	}
	return s.showForm(v, http.StatusOK, "codes", view)
}

func (s *Server) stepCodes(ctx context.Context, v *visit) error {
	user, err := s.visitor(v)
	if err != nil {
		return err
	}
	return s.goOn(ctx, v, user)
}

// stepPasskey signs in whoever a passkey says, without a password.
func (s *Server) stepPasskey(ctx context.Context, v *visit) error {
	user, err := s.takePasskey(ctx, v, nil)
	if err == nil {
		switch {
		case !user.Enabled:
			err = fail(50057)
		default:
			err = s.mayEnter(v, user)
		}
	}
	s.recordProof(v, "sign-in", user, amrPasskey, err)
	if err != nil {
		switch asRefusal(err, v.r).number {
		case 500121, 50034:
			return s.showSignIn(v, http.StatusBadRequest, "", "That passkey was not accepted here. Try again, or sign in with your password.")
		}
		return s.showSignInError(v, "", err)
	}
	v.state.Ceremony = nil
	return s.signedIn(ctx, v, user, v.now, amrPasskey, amrMFA)
}

// recordProof logs and audits that somebody showed, or changed, how they sign in.
func (s *Server) recordProof(v *visit, action string, user *directory.User, how string, err error) {
	var tenant *directory.Tenant
	name := ""
	if user != nil {
		tenant, name = directory.In(s.Feed.View()).Tenant(user.Tenant), user.UPN
	}
	s.recordVisitAs(v, action, tenant, user, name, how, err)
}
