package sts

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// Steps of the device page, beside those of every surface. Each is a form; what it posts is handled by the step's function.
const (
	stepCode    = "code"
	stepConfirm = "confirm"
)

// deviceStart shows the first form. A code in the address only fills the field in: everything is still asked.
func (s *Server) deviceStart(w http.ResponseWriter, r *http.Request) error {
	v := &visit{w: w, r: r, on: devicePage, from: web.ClientIP(r), now: s.now()}
	return s.showCode(v, http.StatusOK, clip(r.URL.Query().Get("otc"), 32), "")
}

// deviceStep handles the form of any step.
func (s *Server) deviceStep(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	v, err := s.step(w, r, devicePage)
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
	case stepConfirm:
		return s.stepConfirm(ctx, v)
	}
	return devicePage.errForeign()
}

// open reports whether a person may still decide on a flow.
func (f *deviceFlow) open(at time.Time) bool {
	return f != nil && f.State == flowPending && at.Before(f.Expires)
}

func (s *Server) stepCode(ctx context.Context, v *visit) error {
	typed := v.form["otc"]
	code := parseUserCode(typed)
	if code == "" {
		return s.showCode(v, http.StatusBadRequest, clip(typed, 32), "That is not a code. Enter the one of nine letters and digits that your device shows; some letters are never in it.")
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

func (s *Server) showCode(v *visit, status int, code, problem string) error {
	v.state = pageState{Step: stepCode}
	return s.showForm(v, status, "code", pageView{Title: "Enter code", Code: code, Error: problem, Step: 1})
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
