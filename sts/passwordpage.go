package sts

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/internal/guess"
)

// Steps of every surface.
const (
	stepSignIn   = "signin"
	stepPassword = "password"
)

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
		err = fail(50034, "server's") // without the time of a hash: that there can be no such account is no secret
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

func (s *Server) showPassword(v *visit, status int, u *directory.User, problem string) error {
	v.state.Step = stepPassword
	view := pageView{Title: "Update your password", Account: u.UPN, Error: problem, Own: v.on == accountPage && !u.MustChange}
	if v.on == devicePage {
		view.Step = 2
	}
	return s.showForm(v, status, "password", view)
}

// stepPassword replaces a password that has to be changed. It asks for the present one again.
func (s *Server) stepPassword(ctx context.Context, v *visit) error {
	user, err := s.visitor(v)
	if err != nil {
		return err
	}
	dir := directory.In(s.Feed.View())
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
	// A second factor that was shown long ago does not become a recent one by the password.
	if !slices.Contains(v.state.AMR, amrMFA) || !within(recentProof, v.state.Fresh, v.now) {
		v.state.AMR = nil
		v.proves(amrPassword)
	}
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
