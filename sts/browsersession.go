package sts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
)

// KindBrowser is a secret: the accounts that are signed in in one browser, under the hash of its cookie.
const KindBrowser feed.Kind = "sts/browser"

const (
	browserCookie = "__Host-gatehouse-session"
	browserLife   = 24 * time.Hour // of a session that ends with the browser
	keepLife      = refreshLife    // of one that the person wanted to keep
	maxAccounts   = 10             // in one browser; the oldest sign-in makes room
)

// browser is what a browser's cookie stands for, if the browser has the other half of it, too.
type browser struct {
	Sessions []directory.ID `json:"sessions"` // oldest first
	Keep     bool           `json:"keep,omitempty"`
	Origin   []byte         `json:"origin"` // SHA-256 of the origin's half
}

// account is somebody who is signed in in a browser.
type account struct {
	session *Session
	user    *directory.User
}

// browserKey is the key of the browser's secret; "" without a cookie of ours.
func (s *Server) browserKey(ctx context.Context, r *http.Request) (string, error) {
	c, err := r.Cookie(browserCookie)
	if err != nil || len(c.Value) != 43 {
		return "", nil
	}
	return s.vault.hash(ctx, string(KindBrowser), c.Value)
}

func browserOf(ctx context.Context, secrets feed.Secrets, key string) (*browser, error) {
	b := new(browser)
	if key == "" {
		return b, nil
	}
	kept, err := secrets.Secret(ctx, KindBrowser, key)
	if errors.Is(err, feed.ErrNoSecret) {
		return b, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read a browser's session: %w", err)
	}
	if err := json.Unmarshal(kept.Body, b); err != nil {
		return nil, fmt.Errorf("a browser's session: %w", err)
	}
	return b, nil
}

// browserAt is the record of a visit's cookie, whether or not the visit shows the other half.
func (s *Server) browserAt(ctx context.Context, v *visit) (*browser, error) {
	key, err := s.browserKey(ctx, v.r)
	if err != nil {
		return nil, err
	}
	return browserOf(ctx, s.Feed.Log, key)
}

// accounts returns whose sessions of a browser are in force.
func (b *browser) accounts(view *feed.View, now time.Time) []account {
	var out []account
	for _, id := range b.Sessions {
		if a, ok := accountOf(view, id, now); ok {
			out = append(out, a)
		}
	}
	return out
}

// accountOf returns the account of a browser session in force.
func accountOf(v *feed.View, id directory.ID, now time.Time) (account, bool) {
	session := In(v).Session(id)
	if session == nil || !session.Browser || !now.Before(session.Expires) {
		return account{}, false
	}
	user := directory.In(v).User(session.User)
	if mayBegin(user, session) != nil || user.MustChange {
		return account{}, false
	}
	return account{session, user}, true
}

// establish begins the browser session of a user who has proved who they are, as the visit's state says. The browser gets a new cookie:
// whoever knew, or planted, the one before has nothing. The record of the one before is taken over only if it is this origin's. When more was
// shown in a session that there was, the new one takes its place and lasts no longer.
func (s *Server) establish(ctx context.Context, v *visit, user *directory.User) (*Session, error) {
	value, err := s.randomText(32, "a cookie")
	if err != nil {
		return nil, err
	}
	key, err := s.vault.hash(ctx, string(KindBrowser), value)
	if err != nil {
		return nil, err
	}
	old, err := s.browserKey(ctx, v.r)
	if err != nil {
		return nil, err
	}
	id, err := directory.NewID(s.random())
	if err != nil {
		return nil, err
	}
	if err := s.ensureOrigin(v); err != nil {
		return nil, err
	}
	life := s.Lifetimes.browser(v.state.Keep)
	session := &Session{
		ID: id, Tenant: user.Tenant, User: user.ID, Client: v.client(), Began: v.state.Proved, AMR: v.state.AMR, Fresh: v.state.Fresh,
		Expires: v.now.Add(life).UTC(), Browser: true,
	}
	keep := false
	err = s.Feed.Update(ctx, func(view *feed.View, secrets feed.Secrets) (feed.Change, error) {
		if err := mayBegin(directory.In(view).User(user.ID), session); err != nil {
			return feed.Change{}, err
		}
		kept, err := browserOf(ctx, secrets, old)
		if err != nil {
			return feed.Change{}, err
		}
		before := v.own(kept)
		b := browser{Keep: v.state.Keep, Origin: v.origin.Hash}
		if from := v.state.From; !from.IsZero() {
			a, ok := accountOf(view, from, v.now)
			if !ok || a.user.ID != user.ID || !slices.Contains(before.Sessions, from) {
				return feed.Change{}, fail(50173)
			}
			b.Keep, session.Expires = before.Keep, a.session.Expires
		}
		c := feed.Change{Records: In(view).makeRoom(session, s.Lifetimes.session(true))}
		for _, id := range before.Sessions {
			switch a, ok := accountOf(view, id, v.now); {
			case !ok:
			case a.user.ID == user.ID:
				session.Seat = a.session.seat()
				c.Records = append(c.Records, endSession(a.session))
			default:
				b.Sessions = append(b.Sessions, id)
				b.Keep = b.Keep && before.Keep // else a session that was to end with the browser would not
			}
		}
		for len(b.Sessions) >= maxAccounts {
			if oldest := In(view).Session(b.Sessions[0]); oldest != nil {
				c.Records = append(c.Records, endSession(oldest))
			}
			b.Sessions = slices.Delete(b.Sessions, 0, 1)
		}
		b.Sessions = append(b.Sessions, session.ID)
		c.Records = append(c.Records, sessionRecord(session))
		keep = b.Keep
		if before.Origin != nil {
			c.Secrets = append(c.Secrets, feed.Secret{Record: feed.Record{Kind: KindBrowser, Key: old}})
		}
		c.Secrets = append(c.Secrets, feed.Secret{Record: record(KindBrowser, key, &b), Expires: v.now.Add(keepLife)})
		return c, nil
	})
	if err != nil {
		return nil, err
	}
	cookie := hostCookie(browserCookie, value)
	if keep {
		cookie.MaxAge = int(s.Lifetimes.browser(true).Seconds())
	}
	http.SetCookie(v.w, cookie)
	return session, nil
}

// forget ends sessions of a browser. A browser that has none left loses its cookie, too; one in which nobody is signed in writes nothing.
func (s *Server) forget(ctx context.Context, v *visit, leaving []account) error {
	key, err := s.browserKey(ctx, v.r)
	if err != nil || key == "" {
		return err
	}
	if len(leaving) == 0 {
		if v.r.Method == http.MethodPost { // a GET may be an image's, on another page
			dropCookie(v)
		}
		return nil
	}
	var stays int
	err = s.Feed.Update(ctx, func(view *feed.View, secrets feed.Secrets) (feed.Change, error) {
		b, err := browserOf(ctx, secrets, key)
		if err != nil {
			return feed.Change{}, err
		}
		var c feed.Change
		for _, a := range leaving {
			b.Sessions = slices.DeleteFunc(b.Sessions, func(id directory.ID) bool { return id == a.session.ID })
			if session := In(view).Session(a.session.ID); session != nil {
				c.Records = append(c.Records, endSession(session))
			}
		}
		if stays = len(b.Sessions); stays == 0 {
			c.Secrets = []feed.Secret{{Record: feed.Record{Kind: KindBrowser, Key: key}}}
		} else {
			c.Secrets = []feed.Secret{{Record: record(KindBrowser, key, b), Expires: v.now.Add(keepLife)}}
		}
		return c, nil
	})
	if err == nil && stays == 0 {
		dropCookie(v)
	}
	return err
}

func dropCookie(v *visit) {
	cookie := hostCookie(browserCookie, "")
	cookie.MaxAge = -1
	http.SetCookie(v.w, cookie)
}

func sessionRecord(session *Session) feed.Record {
	r := record(KindSession, session.ID.String(), session)
	r.Tenant = session.Tenant.String()
	return r
}

func endSession(session *Session) feed.Record {
	return feed.Record{Kind: KindSession, Key: session.ID.String(), Tenant: session.Tenant.String()}
}
