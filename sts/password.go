package sts

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/internal/guess"
)

// maxName is the longest user name that is looked up, in bytes.
const maxName = 256

// password is the resource owner password grant (RFC 6749 section 4.3).
func (s *Server) password(ctx context.Context, x *exchange) error {
	if x.place.word == common {
		return fail(9001023)
	}
	name, err := x.form.need("username")
	if err != nil {
		return err
	}
	x.subject.name = name
	if x.subject.tenant = x.place.tenant; x.subject.tenant == nil {
		_, domain, _ := strings.Cut(name, "@")
		if x.subject.tenant = x.dir().TenantByDomain(domain); x.subject.tenant == nil {
			return fail(50059, x.place.word)
		}
	}
	if err := x.client.admit(x.dir(), x.subject.tenant); err != nil {
		return err
	}
	if err := x.client.requireCredential(); err != nil {
		return err
	}
	password, err := x.form.need("password")
	if err != nil {
		return err
	}
	user, err := s.checkPassword(ctx, x.dir(), x.subject.tenant, name, password, x.address)
	if err != nil {
		return err
	}
	x.subject.home = user
	if user.MustChange {
		return fail(50055, s.Authorities.Public+"/devicelogin")
	}
	// The session begins when the check began: a password that was changed meanwhile has ended it already.
	session, err := s.newSession(user, x.client, x.now, amrPassword)
	if err != nil {
		return err
	}
	if err := x.speakFor(user, session, x.subject.tenant); err != nil {
		return err
	}
	x.subject.commit = x.begin(nil)
	return nil
}

// checkPassword returns the enabled user of a tenant who has this name and password. It takes as long for a
// user who does not exist.
func (s *Server) checkPassword(ctx context.Context, dir *directory.State, tenant *directory.Tenant, name, password string, from netip.Addr) (*directory.User, error) {
	var user *directory.User
	if len(name) <= maxName {
		user = dir.UserByUPN(name)
	}
	if user != nil && user.Tenant != tenant.ID {
		user = nil
	}
	done, err := s.guess(ctx, dir, tenant, user, name, from)
	if err != nil {
		return nil, err
	}
	right, err := s.Directory.VerifyPassword(ctx, user, password)
	switch {
	case err != nil:
		done(guess.NotTried)
		return nil, err
	case right:
		done(guess.Right)
	default:
		done(guess.Wrong)
	}
	switch {
	case user == nil:
		return nil, fail(50034, tenant.DisplayName)
	case !right:
		return nil, fail(50126)
	case !user.Enabled:
		return nil, fail(50057)
	}
	return user, nil
}

// guess asks whether a password may be tried for a name now; if so, done must be called with the outcome. A Global
// Administrator is never locked out at the machine itself: where others would be, one try at a time is let through, a second
// apart, so that a program on this machine cannot guess fast either. Another machine that tries many names is slowed down for all of them.
func (s *Server) guess(ctx context.Context, dir *directory.State, tenant *directory.Tenant, user *directory.User, name string, from netip.Addr) (done func(guess.Outcome), err error) {
	counted, _ := s.passwords.Begin(tenant.ID.String()+"/"+name, from)
	switch {
	case counted != nil && from.IsLoopback():
		return counted, nil
	case counted != nil && !s.sprays.take(from):
		counted(guess.NotTried)
		return nil, fail(90055, from)
	case counted != nil:
		return func(o guess.Outcome) {
			if o != guess.Wrong {
				s.sprays.giveBack(from)
			}
			counted(o)
		}, nil
	case user != nil && from.IsLoopback() && dir.HasRole(user.ID, directory.GlobalAdministrator):
		select {
		case s.patience <- struct{}{}:
			return func(guess.Outcome) { time.AfterFunc(adminPause, func() { <-s.patience }) }, nil
		case <-time.After(adminWait):
		case <-ctx.Done():
		}
	}
	return nil, fail(50053)
}
