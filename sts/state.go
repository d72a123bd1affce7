package sts

import (
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
	Browser bool         `json:"browser,omitempty"` // of a browser, which signs in to further applications with it; no token names it
	Fresh   int64        `json:"fresh,omitempty"`   // when the person last proved something to a browser's session, Unix nanoseconds; 0: when it began
}

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
	var out []*Session
	for _, v := range s.sessions.All() {
		if v.User == user {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b *Session) int { return int(b.Began - a.Began) })
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
	sessions := s.sessions.Edit()
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
				sessions.Delete(id)
				continue
			}
			v := new(Session)
			if err := json.Unmarshal(r.Body, v); err != nil {
				return nil, fmt.Errorf("session %s: %w", r.Key, err)
			}
			sessions.Set(id, v)
		default:
			return nil, fmt.Errorf("unknown kind of record %s; was the database written by a newer version?", r.Kind)
		}
	}
	next.sessions = sessions.Map()
	return next, nil
}
