package sts

import (
	"context"
	"net/http"
	"net/url"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// A guest has two accounts: the one at home, which is who signs in, whose password and state are checked and to whom sessions belong, and
// the one in the tenant where the guest is, which is whom tokens of that tenant speak of. One session serves all tenants of a person.

// enter returns whom tokens of a tenant speak of, for a person with a session of the account at home. Every grant and page asks it, and
// asks again under the lock of its commit.
func enter(dir *directory.State, home *directory.User, session *Session, tenant *directory.Tenant, app directory.ID) (*directory.User, error) {
	if home.Tenant == tenant.ID {
		return home, nil
	}
	guest := dir.GuestOf(tenant.ID, home)
	switch {
	case guest == nil:
		return nil, fail(50020, home.UPN, tenant.DisplayName, app)
	case !guest.Enabled:
		return nil, fail(50057)
	case guest.External.State != directory.Accepted:
		return nil, fail(50014, home.UPN, tenant.DisplayName)
	case session.Began < guest.SessionsValidFrom:
		return nil, fail(50173)
	}
	return guest, nil
}

// entry returns whom tokens will speak of when an account of the browser goes on with a visit, and of which tenant they will be: the one that
// is asked for, else home.
func (s *Server) entry(v *visit, a account) (*directory.User, *directory.Tenant, error) {
	dir := directory.In(s.Feed.View())
	tenant := v.tenant(dir)
	if tenant == nil {
		tenant = dir.Tenant(a.user.Tenant)
	}
	user, err := enter(dir, a.user, a.session, tenant, v.client())
	if guest := dir.GuestOf(tenant.ID, a.user); guest != nil && !v.means(guest) {
		err = fail(90013, "the invitation is for another account than "+a.user.UPN)
	}
	return user, tenant, err
}

// means reports whether a visit can be about a guest: one that began with the link of an invitation is about that one alone.
func (v *visit) means(guest *directory.User) bool {
	return v.on != signInPage || v.state.Request.Redeem.IsZero() || v.state.Request.Redeem == guest.ID
}

// mayEnter demands that somebody who has just proved who they are may go on with a visit, be it that the person is asked first.
func (s *Server) mayEnter(v *visit, user *directory.User) error {
	_, tenant, err := s.entry(v, account{&Session{Began: v.now.UnixNano()}, user})
	if v.on != accountPage && !v.forAdmin() {
		if _, err := findClient(directory.In(s.Feed.View()), tenancy{tenant: tenant}, v.client().String()); err != nil {
			return err
		}
	}
	if s.pending(v, user) != nil {
		return nil
	}
	return err
}

// speakFor makes a person with a session the subject of an exchange, in a tenant; nil: at home.
func (x *exchange) speakFor(home *directory.User, session *Session, tenant *directory.Tenant) (err error) {
	if tenant == nil {
		tenant = x.dir().Tenant(home.Tenant)
	}
	x.subject.name, x.subject.home, x.subject.session, x.subject.tenant = home.UPN, home, session, tenant
	x.subject.user, err = enter(x.dir(), home, session, tenant, x.client.app.AppID)
	return err
}

// pending returns the guest that a person has not yet accepted to be, in the tenant that a visit asks for; nil when there is nothing to accept.
func (s *Server) pending(v *visit, home *directory.User) *directory.User {
	dir := directory.In(s.Feed.View())
	tenant := v.tenant(dir)
	if tenant == nil {
		return nil
	}
	guest := dir.GuestOf(tenant.ID, home)
	if guest == nil || !guest.Enabled || guest.External.State != directory.PendingAcceptance || !v.means(guest) {
		return nil
	}
	return guest
}

// stepReview is the step at which a person accepts to become a guest, on either page.
const stepReview = "review"

func (s *Server) showReview(v *visit, home *directory.User) error {
	v.state.Step = stepReview
	dir := directory.In(s.Feed.View())
	tenant := v.tenant(dir)
	return s.showForm(v, http.StatusOK, "review", pageView{
		Title: "Review permissions", Tenant: tenant.DisplayName, Domain: tenant.DefaultDomain(), Account: home.UPN, Home: dir.Tenant(home.Tenant).DisplayName,
	})
}

// stepReview takes the decision of a person whose proof is still good. next goes on with whoever has accepted.
func (s *Server) stepReview(ctx context.Context, v *visit, home *directory.User, next func() error) error {
	tenant := v.tenant(directory.In(s.Feed.View()))
	if tenant == nil {
		return fail(50173)
	}
	guest := s.pending(v, home)
	switch v.form["action"] {
	case "accept":
		if guest == nil { // accepted elsewhere meanwhile, or taken back
			return next()
		}
		err := s.Directory.Accept(ctx, home, guest.ID)
		s.recordVisit(v, "invitation-accept", tenant, guest, home.UPN, err)
		if err != nil {
			return err
		}
		return next()
	case "cancel":
		err := fail(65004).sub("cancel")
		s.recordVisit(v, "invitation-accept", tenant, guest, home.UPN, err)
		if v.on == devicePage || !v.state.Request.Redeem.IsZero() {
			s.clearCookie(v)
			return s.show(v.w, http.StatusOK, "done", pageView{
				Title: "Cancelled", Heading: "You have not accepted", Text: "Nothing was given to " + tenant.DisplayName + ". You can close this window.",
			})
		}
		return err
	}
	return s.refuseOnPage(v)
}

// redeem is where the link of an invitation leads: the person signs in at home and accepts. The link opens nothing by itself, and as
// object ids are no secrets it does not show who was invited.
func (s *Server) redeem(w http.ResponseWriter, r *http.Request) error {
	if s.Feed.Stale() {
		return fail(90033)
	}
	f, err := parseForm(r.URL.RawQuery)
	if err != nil {
		return err
	}
	dir := directory.In(s.Feed.View())
	tenantID, err1 := directory.ParseID(f["tenant"])
	guestID, err2 := directory.ParseID(f["user"])
	tenant, guest := dir.Tenant(tenantID), dir.User(guestID)
	if err1 != nil || err2 != nil || tenant == nil || guest == nil || guest.Tenant != tenantID || guest.External == nil {
		return fail(90013, "the invitation does not exist, or was taken back; ask for a new one")
	}
	v := &visit{w: w, r: r, on: signInPage, from: web.ClientIP(r), now: s.now(), form: f}
	v.state.Request = &authRequest{
		Tenant: tenantID.String(), Client: directory.InvitationPortal, Redirect: guest.External.Redirect, Redeem: guestID,
	}
	return s.refuseRequest(v, s.startSignIn(r.Context(), v))
}

// redeemed ends a visit that began with the link of an invitation.
func (s *Server) redeemed(v *visit, a account, guest *directory.User) error {
	q, tenant := v.state.Request, directory.In(s.Feed.View()).Tenant(guest.Tenant)
	if u, err := url.Parse(q.Redirect); err == nil && isHTTP(q.Redirect) && u.Host != "" {
		redirect(v.w, v.r, q.Redirect)
		return nil
	}
	return s.show(v.w, http.StatusOK, "done", pageView{
		Title: "Welcome", Heading: "You are a guest of " + tenant.DisplayName, Good: true, Text: "Sign in there with " + a.user.UPN + ". You can close this window.",
	})
}

// stillIn demands, under the lock of a commit, that the subject may still speak as it does.
func (x *exchange) stillIn(v *feed.View, session *Session) error {
	dir := directory.In(v)
	home, tenant := dir.User(session.User), dir.Tenant(x.subject.tenant.ID)
	if home == nil || tenant == nil {
		return fail(50173)
	}
	_, err := enter(dir, home, session, tenant, x.client.app.AppID)
	return err
}
