package sts

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
)

const (
	refreshLife  = 90 * 24 * time.Hour // sliding; a refresh token that was not used this long has expired
	sessionWrite = 24 * time.Hour      // a session's end is moved at most this often
	shortSession = 2 * time.Hour       // of a sign-in without a refresh token: longer than its access token
	sweepBatch   = 1000

	maxSessions = 100 // of one user with one client; a program that signs in anew each time would pile them up for 90 days
	endedAtOnce = 100 // to make room for one, so that a sign-in's work is bounded
)

// newSession begins the session of a user who has proved at a moment who they are.
func (s *Server) newSession(u *directory.User, c *client, proved time.Time, amr ...string) (*Session, error) {
	id, err := directory.NewID(s.random())
	if err != nil {
		return nil, err
	}
	return &Session{ID: id, Tenant: u.Tenant, User: u.ID, Client: c.app.AppID, Began: proved.UnixNano(), AMR: amr}, nil
}

// begin is the commit of a sign-in. It looks at the account again, under the write lock: whoever was disabled, or whose
// sessions were ended, after the proof and before this moment, does not get in.
func (x *exchange) begin(more func(feed.Secrets) (feed.Change, error)) func(*feed.View, feed.Secrets) (feed.Change, error) {
	return func(v *feed.View, secrets feed.Secrets) (feed.Change, error) {
		session := *x.subject.session
		if err := mayBegin(directory.In(v).User(session.User), &session); err != nil {
			return feed.Change{}, err
		}
		if err := x.stillIn(v, &session); err != nil {
			return feed.Change{}, err
		}
		var c feed.Change
		if more != nil {
			var err error
			if c, err = more(secrets); err != nil {
				return feed.Change{}, err
			}
		}
		life := x.lifetimes.session(true)
		session.Expires = x.now.Add(x.lifetimes.session(x.ask.offline)).UTC()
		c.Records = append(c.Records, In(v).makeRoom(&session, life)...)
		c.Records = append(c.Records, sessionRecord(&session))
		return c, nil
	}
}

// makeRoom ends the sessions that are too many beside a new one: those of the same user, client and sort that were unused longest.
// life is how long a session lasts unused.
func (s *State) makeRoom(session *Session, life time.Duration) []feed.Record {
	all, _ := s.byUser.Get(session.User)
	same := slices.DeleteFunc(slices.Clone(all), func(v *Session) bool { return v.Client != session.Client || v.Browser != session.Browser })
	over := min(len(same)-maxSessions+1, endedAtOnce)
	if over <= 0 {
		return nil
	}
	slices.SortFunc(same, func(a, b *Session) int {
		return cmp.Or(a.used(life).Compare(b.used(life)), cmp.Compare(a.Began, b.Began), a.ID.Compare(b.ID))
	})
	var out []feed.Record
	for _, v := range same[:over] {
		out = append(out, endSession(v))
	}
	return out
}

// used is when a session was last used, as far as it is written down: its end moves at most once a day.
func (v *Session) used(life time.Duration) time.Time {
	began := time.Unix(0, v.Began)
	if slid := v.Expires.Add(-life); slid.After(began) {
		return slid
	}
	return began
}

func mayBegin(u *directory.User, session *Session) error {
	switch {
	case u == nil:
		return fail(50126)
	case !u.Enabled:
		return fail(50057)
	case session.Began < u.SessionsValidFrom:
		return fail(50173)
	}
	return nil
}

// due reports whether the end of a session is to be moved: not at each refresh, which would be a write each.
func (x *exchange) due(session *Session) bool {
	life := x.lifetimes.session(true)
	return session.Expires.Sub(x.now) < life-min(sessionWrite, life/4)
}

// use is the commit that writes down that a session was used: its end is as far from now as it was when it began, and a chain has come as
// far as the exchange's.
func (x *exchange) use(v *feed.View, _ feed.Secrets) (feed.Change, error) {
	old := In(v).Session(x.subject.session.ID)
	if old == nil {
		return feed.Change{}, fail(50173)
	}
	session := *old
	session.Expires = x.now.Add(x.lifetimes.session(true)).UTC()
	if x.chain != nil {
		session.Chains, *x.chain = advance(session.Chains, *x.chain)
	}
	return feed.Change{Records: []feed.Record{sessionRecord(&session)}}, nil
}

// sweepSessions removes the sessions that nothing can be done with any more.
func (s *Server) sweepSessions(ctx context.Context) error {
	for {
		var n int
		err := s.Feed.Update(ctx, func(v *feed.View, _ feed.Secrets) (feed.Change, error) {
			n = 0
			var c feed.Change
			for _, ended := range In(v).ended(directory.In(v), s.now()) {
				if n++; n > sweepBatch {
					break
				}
				c.Records = append(c.Records, feed.Record{Kind: KindSession, Key: ended.ID.String(), Tenant: ended.Tenant.String()})
			}
			return c, nil
		})
		if err != nil || n <= sweepBatch {
			return err
		}
	}
}

// ended returns the sessions that have expired or been revoked, or whose user is gone. A disabled user's stay: the
// account may be enabled again.
func (s *State) ended(dir *directory.State, now time.Time) []*Session {
	out := s.Expired(now)
	for _, v := range s.sessions.All() {
		if u := dir.User(v.User); now.Before(v.Expires) && (u == nil || v.Began < u.SessionsValidFrom) {
			out = append(out, v)
		}
	}
	return out
}
