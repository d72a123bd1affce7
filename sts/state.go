package sts

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
)

// Part is the name of this package's part of a view.
const Part = "sts"

// Kinds of records of this package.
const (
	KindKey     feed.Kind = "sts/key"     // the public half; the private half is the secret of the same kind and key
	KindSession feed.Kind = "sts/session" // key: the session's id
)

// In returns the keys and sessions of a view.
func In(v *feed.View) *State { return v.Part(Part).(*State) }

// State is the public half of the signing keys, and the sessions that are in force. It is immutable.
type State struct {
	keys     map[string]*Key // few
	sessions feed.Map[directory.ID, *Session]
	byUser   feed.Map[directory.ID, []*Session] // in no order
}

// Session is one sign-in and all tokens that come from it. Deleting it ends them.
type Session struct {
	ID      directory.ID `json:"id"`
	Tenant  directory.ID `json:"tenant"`
	User    directory.ID `json:"user"`
	Client  directory.ID `json:"client"` // the client it began with
	Began   int64        `json:"began"`  // Unix nanoseconds; against User.SessionsValidFrom
	AMR     []string     `json:"amr"`    // how the user proved who they are (RFC 8176)
	Expires time.Time    `json:"expires"`
	Browser bool         `json:"browser,omitempty"` // of a browser, which signs in to further applications with it; no access token names it, but ID tokens of the authorize endpoint do
	Seat    directory.ID `json:"seat,omitzero"`     // of a browser's session that took the place of another: the first one's id
	Chains  []Chain      `json:"chains,omitempty"`  // of refresh tokens, one for each public client that has redeemed some
	Fresh   int64        `json:"fresh,omitempty"`   // when the person last proved something to a browser's session, Unix nanoseconds; 0: when it began
}

// seat is what a browser's session shares with those that it took the place of, and with those that will take its own: codes hold on to it.
func (v *Session) seat() directory.ID { return cmp.Or(v.Seat, v.ID) }

// Session returns a session in force, or nil.
func (s *State) Session(id directory.ID) *Session {
	v, _ := s.sessions.Get(id)
	return v
}

// ProvedMFA reports whether the person of a session showed a second factor in the last ten minutes.
func (s *State) ProvedMFA(id directory.ID, now time.Time) bool {
	v := s.Session(id)
	return v != nil && v.has(amrMFA) && v.recent(now)
}

// SessionsOf returns the sessions of a user, newest first.
func (s *State) SessionsOf(user directory.ID) []*Session {
	all, _ := s.byUser.Get(user)
	out := slices.Clone(all)
	slices.SortFunc(out, func(a, b *Session) int { return cmp.Compare(b.Began, a.Began) })
	return out
}

// Expired returns the sessions that have run out at a time, for the sweeper.
func (s *State) Expired(at time.Time) []*Session {
	var out []*Session
	for _, v := range s.sessions.All() {
		if !at.Before(v.Expires) {
			out = append(out, v)
		}
	}
	return out
}

// Apply implements feed.State.
func (s *State) Apply(records []feed.Record) (feed.State, error) {
	next := &State{keys: make(map[string]*Key, len(s.keys)+1)}
	for id, k := range s.keys {
		next.keys[id] = k
	}
	sessions := sessionEditor{all: s.sessions.Edit(), byUser: s.byUser.Edit(), owned: map[directory.ID]bool{}}
	for _, r := range records {
		switch r.Kind {
		case KindKey:
			if r.Body == nil {
				delete(next.keys, r.Key)
				continue
			}
			k, err := decodeKey(r.Body)
			if err != nil {
				return nil, fmt.Errorf("signing key %s: %w", r.Key, err)
			}
			next.keys[r.Key] = k
		case KindSession:
			id, err := directory.ParseID(r.Key)
			if err != nil {
				return nil, err
			}
			if r.Body == nil {
				sessions.set(id, nil)
				continue
			}
			v := new(Session)
			if err := json.Unmarshal(r.Body, v); err != nil {
				return nil, fmt.Errorf("session %s: %w", r.Key, err)
			}
			sessions.set(id, v)
		default:
			return nil, fmt.Errorf("unknown kind of record %s; was the database written by a newer version?", r.Kind)
		}
	}
	next.sessions, next.byUser = sessions.all.Map(), sessions.byUser.Map()
	return next, nil
}

// sessionEditor changes the sessions and their index together.
type sessionEditor struct {
	all    *feed.Editor[directory.ID, *Session]
	byUser *feed.Editor[directory.ID, []*Session]
	owned  map[directory.ID]bool // users whose list is this editor's own copy
}

// set puts a session, or removes it.
func (e *sessionEditor) set(id directory.ID, v *Session) {
	old, known := e.all.Get(id)
	if known {
		list := e.own(old.User)
		e.put(old.User, slices.DeleteFunc(list, func(s *Session) bool { return s.ID == id }))
	}
	if v == nil {
		e.all.Delete(id)
		return
	}
	e.all.Set(id, v)
	e.put(v.User, append(e.own(v.User), v))
}

func (e *sessionEditor) own(user directory.ID) []*Session {
	list, _ := e.byUser.Get(user)
	if !e.owned[user] {
		e.owned[user] = true
		list = slices.Clone(list)
	}
	return list
}

func (e *sessionEditor) put(user directory.ID, list []*Session) {
	if len(list) == 0 {
		e.byUser.Delete(user)
		delete(e.owned, user)
		return
	}
	e.byUser.Set(user, list)
}
