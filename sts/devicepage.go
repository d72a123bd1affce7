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
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

const (
	pagePurpose = "device page"
	pageLife    = 15 * time.Minute
	pageCookie  = "__Host-gatehouse-device" // the prefix makes browsers insist on Secure, Path=/ and no Domain
)

// Steps of the device page. Each is a form; what it posts is handled by the step's function.
const (
	stepCode     = "code"
	stepSignIn   = "signin"
	stepPassword = "password"
	stepConfirm  = "confirm"
)

// pageState is what a form carries from step to step: sealed, so that nobody but this server can have made it, and bound to
// the browser's cookie, so that a form of one browser is worth nothing in another.
type pageState struct {
	Step   string       `json:"s"`
	Cookie []byte       `json:"c"` // SHA-256 of the cookie
	Until  int64        `json:"u"` // Unix seconds
	Flow   string       `json:"f,omitempty"`
	User   directory.ID `json:"o,omitzero"`
	Proved int64        `json:"p,omitempty"` // when the password was checked, Unix nanoseconds
}

// visit is one request for the device page.
type visit struct {
	w     http.ResponseWriter
	r     *http.Request
	from  netip.Addr
	now   time.Time
	form  form
	state pageState
	flow  *deviceFlow
}

// deviceStart shows the first form. A code in the address only fills the field in: everything is still asked.
func (s *Server) deviceStart(w http.ResponseWriter, r *http.Request) error {
	v := &visit{w: w, r: r, from: web.ClientIP(r), now: s.now()}
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
	v := &visit{w: w, r: r, from: web.ClientIP(r), now: s.now()}
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
	switch v.state.Step {
	case stepSignIn:
		return s.stepSignIn(ctx, v)
	case stepPassword:
		return s.stepPassword(ctx, v)
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
	done, ok := s.codes.begin("user code", v.from)
	if !ok {
		return s.showCode(v, http.StatusTooManyRequests, "", "Too many wrong codes came from your address. Wait a few minutes and try again.")
	}
	hashed, err := s.vault.hash(ctx, string(KindUserCode), code)
	if err != nil {
		done(false)
		return err
	}
	kept, err := s.Feed.Secret(ctx, KindUserCode, hashed)
	if err == nil {
		v.state.Flow = string(kept.Body)
		v.flow, err = flowOf(ctx, s.Feed.Log, v.state.Flow)
	}
	if err != nil && !errors.Is(err, feed.ErrNoSecret) {
		done(false)
		return err
	}
	found := v.flow.open(v.now)
	done(found)
	if !found {
		return s.showCode(v, http.StatusBadRequest, code, "That code is not right or has expired. Check it, or start the sign-in on your device again.")
	}
	return s.showSignIn(v, http.StatusOK, "", "")
}

func (s *Server) stepSignIn(ctx context.Context, v *visit) error {
	name, password := strings.TrimSpace(v.form["loginfmt"]), v.form["passwd"]
	if name == "" || password == "" {
		return s.showSignIn(v, http.StatusBadRequest, name, "Enter your user name and your password.")
	}
	user, err := s.signIn(ctx, v, name, password)
	if err != nil {
		return s.showSignInError(v, name, err)
	}
	return s.signedIn(ctx, v, user, v.now)
}

// signIn checks a user name and password for the flow's tenant, or for that of the name's domain.
func (s *Server) signIn(ctx context.Context, v *visit, name, password string) (*directory.User, error) {
	dir := directory.In(s.Feed.View())
	tenant := dir.Tenant(v.flow.Tenant)
	if v.flow.Tenant.IsZero() {
		_, domain, _ := strings.Cut(name, "@")
		tenant = dir.TenantByDomain(domain)
	}
	var user *directory.User
	var err error
	if tenant == nil {
		_, err = s.Directory.VerifyPassword(ctx, nil, password)
		if err == nil {
			err = fail(50034, clip(name, 120), "any")
		}
	} else if user, err = s.checkPassword(ctx, dir, tenant, name, password, v.from); err == nil {
		err = s.mayUse(dir, v.flow, tenant)
	}
	s.recordVisit(v, "sign-in", tenant, user, name, err)
	return user, err
}

// mayUse demands that a flow's application may be used in a tenant.
func (s *Server) mayUse(dir *directory.State, flow *deviceFlow, tenant *directory.Tenant) error {
	_, err := findClient(dir, tenancy{tenant: tenant}, flow.Client.String())
	return err
}

// showSignInError shows why nobody was signed in. It has the same words for an unknown user and a wrong password.
func (s *Server) showSignInError(v *visit, name string, err error) error {
	f := asRefusal(err, v.r)
	switch f.number {
	case 50126, 50034:
		return s.showSignIn(v, http.StatusBadRequest, name, "Your user name or password is not right.")
	case 50053:
		return s.showSignIn(v, http.StatusTooManyRequests, name, "There were too many wrong passwords for this account. Wait a few minutes and try again.")
	case 50057:
		return s.showSignIn(v, http.StatusBadRequest, name, "This account is disabled. Ask an administrator to enable it.")
	}
	return err
}

// signedIn goes on with a user who has proved who they are. The browser gets a new cookie, so that whoever knew the one before
// has nothing.
func (s *Server) signedIn(ctx context.Context, v *visit, user *directory.User, proved time.Time) error {
	v.state.User, v.state.Proved = user.ID, proved.UnixNano()
	if err := s.setCookie(v); err != nil {
		return err
	}
	if user.MustChange {
		return s.showPassword(v, http.StatusOK, user, "")
	}
	return s.showConfirm(v, user)
}

// stepPassword replaces a password that has to be changed. It asks for the present one again.
func (s *Server) stepPassword(ctx context.Context, v *visit) error {
	dir := directory.In(s.Feed.View())
	user := dir.User(v.state.User)
	if user == nil || !user.Enabled {
		return fail(50057)
	}
	current, next := v.form["currentPassword"], v.form["newPassword"]
	switch {
	case current == "" || next == "":
		return s.showPassword(v, http.StatusBadRequest, user, "Enter your current password and a new one.")
	case next != v.form["confirmNewPassword"]:
		return s.showPassword(v, http.StatusBadRequest, user, "The two new passwords are not the same.")
	case next == current:
		return s.showPassword(v, http.StatusBadRequest, user, "The new password is the current one. Choose another.")
	}
	tenant := dir.Tenant(user.Tenant)
	_, err := s.checkPassword(ctx, dir, tenant, user.UPN, current, v.from)
	if err == nil {
		err = s.Directory.ResetPassword(ctx, directory.System, user.ID, next, false)
	}
	s.recordVisit(v, "password-change", tenant, user, user.UPN, err)
	if fault.Is(err, fault.Invalid) {
		message := fault.From(err).Message
		if f := asRefusal(err, v.r); f.number == 50126 {
			message = "The current password is not right."
		}
		return s.showPassword(v, http.StatusBadRequest, user, message)
	}
	if err != nil {
		return err
	}
	user = directory.In(s.Feed.View()).User(user.ID)
	if user == nil {
		return fail(50057)
	}
	return s.signedIn(ctx, v, user, time.Unix(0, max(user.SessionsValidFrom, s.now().UnixNano())))
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
	err := s.decide(ctx, v, decision)
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
		Title: "Signed in", Heading: "You are signed in", Good: true,
		Text: "You have signed in to " + s.appName(v.flow) + " on your device. You can close this window.",
	})
}

// decide writes the decision. Under the write lock it looks again at the flow and at the account, which may have been
// disabled, or had its password changed, since it signed in here.
func (s *Server) decide(ctx context.Context, v *visit, decision string) error {
	return s.Feed.Update(ctx, func(view *feed.View, secrets feed.Secrets) (feed.Change, error) {
		flow, err := flowOf(ctx, secrets, v.state.Flow)
		if err != nil {
			return feed.Change{}, err
		}
		if !flow.open(v.now) {
			return feed.Change{}, errStale
		}
		if err := mayBegin(directory.In(view).User(v.state.User), &Session{Began: v.state.Proved}); err != nil {
			return feed.Change{}, err
		}
		flow.State = decision
		if decision == flowApproved {
			flow.User, flow.Proved = v.state.User, v.state.Proved
		}
		return feed.Change{Secrets: []feed.Secret{
			flow.secret(v.state.Flow),
			{Record: feed.Record{Kind: KindUserCode, Key: flow.UserCode}},
		}}, nil
	})
}

func (s *Server) showCode(v *visit, status int, code, problem string) error {
	v.state = pageState{Step: stepCode}
	return s.showForm(v, status, "code", pageView{Title: "Enter code", Code: code, Error: problem, Step: 1})
}

func (s *Server) showSignIn(v *visit, status int, name, problem string) error {
	v.state.Step = stepSignIn
	view := pageView{Title: "Sign in", Name: clip(name, maxName), Error: problem, Step: 2, App: s.appName(v.flow)}
	if t := directory.In(s.Feed.View()).Tenant(v.flow.Tenant); t != nil {
		view.Tenant = t.DisplayName
	}
	return s.showForm(v, status, "signin", view)
}

func (s *Server) showPassword(v *visit, status int, u *directory.User, problem string) error {
	v.state.Step = stepPassword
	return s.showForm(v, status, "password", pageView{Title: "Update your password", Account: u.UPN, Error: problem, Step: 2})
}

func (s *Server) showConfirm(v *visit, u *directory.User) error {
	v.state.Step = stepConfirm
	dir := directory.In(s.Feed.View())
	tenant := dir.Tenant(u.Tenant)
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
		Title: "Confirm sign-in", Step: 3, App: s.appName(v.flow), AppID: v.flow.Client.String(), Account: u.UPN, Tenant: tenant.DisplayName,
		Resource: t.resource.DisplayName, Address: v.flow.Address, Asked: ago(v.now.Sub(v.flow.Asked)),
		SameMachine: from.IsLoopback() && v.from.IsLoopback(), SameAddress: from == v.from,
	})
}

// showForm shows a step with its state, which it binds to the browser's cookie.
func (s *Server) showForm(v *visit, status int, name string, view pageView) error {
	if v.state.Cookie == nil {
		v.state.Cookie = cookieHash(v.r)
	}
	if v.state.Cookie == nil {
		if err := s.setCookie(v); err != nil {
			return err
		}
	}
	v.state.Until = v.now.Add(pageLife).Unix()
	text, err := json.Marshal(v.state)
	if err != nil {
		return err
	}
	if view.State, err = s.vault.seal(v.r.Context(), pagePurpose, text); err != nil {
		return err
	}
	return s.show(v.w, status, name, view)
}

// openState reads the state that a form carried; errStale when it is not this browser's, or too old.
func (s *Server) openState(ctx context.Context, v *visit) (pageState, error) {
	var state pageState
	text, err := s.vault.open(ctx, pagePurpose, v.form["state"])
	if errors.Is(err, errSealed) {
		return state, errStale
	}
	if err != nil {
		return state, err
	}
	if err := json.Unmarshal(text, &state); err != nil {
		return pageState{}, fmt.Errorf("the page's state: %w", err)
	}
	cookie := cookieHash(v.r)
	if cookie == nil || subtle.ConstantTimeCompare(cookie, state.Cookie) != 1 || v.now.Unix() >= state.Until {
		return pageState{}, errStale
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
	http.SetCookie(v.w, &http.Cookie{Name: pageCookie, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	return nil
}

func (s *Server) clearCookie(v *visit) {
	http.SetCookie(v.w, &http.Cookie{Name: pageCookie, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: -1})
}

func cookieHash(r *http.Request) []byte {
	c, err := r.Cookie(pageCookie)
	if err != nil || len(c.Value) != 43 {
		return nil
	}
	sum := sha256.Sum256([]byte(c.Value))
	return sum[:]
}

// appName is how the flow's application is called.
func (s *Server) appName(flow *deviceFlow) string {
	if c, err := findClient(directory.In(s.Feed.View()), tenancy{word: organizations}, flow.Client.String()); err == nil {
		return c.app.DisplayName
	}
	return flow.Client.String()
}

func (s *Server) recordVisit(v *visit, action string, tenant *directory.Tenant, user *directory.User, name string, err error) {
	e := audit.Event{
		Time: v.now.UTC(), Request: traceID(v.r), Client: v.flow.Client.String(), Address: v.from.String(), Action: action, Outcome: audit.Allowed,
		Details: map[string]string{"method": "device page", "user": clip(name, 120), "codeAddress": v.flow.Address},
	}
	if tenant != nil {
		e.Tenant = tenant.ID.String()
	}
	if user != nil {
		e.Actor = user.ID.String()
	}
	s.conclude(&e, v.r, err)
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
