// Package guess limits how often a secret may be guessed. It is all that the faces have against guessing, so there is one of it.
//
// Limiters are of this process: with n replicas behind one address an attacker has n times the guesses, at the price of a password
// hash each.
package guess

import (
	"crypto/sha256"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-k8s/gatehouse/internal/cache"
)

// Policy is how often a secret may be guessed wrong.
type Policy struct {
	Wrong      int           // wrong guesses from one place until a lock
	AtOnce     int           // guesses that may be unanswered at once
	Lock       time.Duration // of the first lock; it doubles with each wrong guess after it,
	Doublings  int           // so many times
	Forget     time.Duration // after this long without a wrong guess all is forgotten
	Everywhere int           // wrong guesses from all places together until only places where it was right before are free of locks; zero: any number
}

// Outcome is how a guess ended.
type Outcome int

const (
	NotTried Outcome = iota // nothing was compared; counts for nothing
	Wrong
	Right
)

// Of is the outcome of a check that ended with err, and would have ended with wrong if the secret was.
func Of(err, wrong error) Outcome {
	switch {
	case err == nil:
		return Right
	case errors.Is(err, wrong):
		return Wrong
	}
	return NotTried
}

// Kept is how many keys a Limiter remembers at least.
const Kept = 16 << 10

// Limiter counts wrong guesses for each (subject, address) and locks for a while those that had too many. It is bounded: only what was
// compared and was wrong is remembered, so to push a key out, an attacker must guess wrong for as many others, at the price of a password
// hash each.
type Limiter struct {
	policy   Policy
	now      func() time.Time
	mu       sync.Mutex
	kept     *cache.Cache[key, count]
	familiar *cache.Cache[key, bool] // places from which a guess was right
	flying   map[key]int             // guesses that are unanswered
}

type key struct {
	subject [sha256.Size]byte // of what a client sent, which may be long
	from    netip.Addr        // zero: everywhere
}

type count struct {
	wrong int
	last  time.Time
	until time.Time
}

// New makes a limiter with the time of now.
func New(p Policy, now func() time.Time) *Limiter {
	return &Limiter{policy: p, now: now, kept: cache.New[key, count](Kept), familiar: cache.New[key, bool](Kept), flying: map[key]int{}}
}

// Begin reports whether a guess for a subject may be made now. If so, the caller must call done once, with its outcome; else done is nil and
// wait says when to come again. The zero address counts the guesses from everywhere together.
func (g *Limiter) Begin(subject string, from netip.Addr) (done func(Outcome), wait time.Duration) {
	place := key{sha256.Sum256([]byte(strings.ToLower(subject))), Network(from)}
	everywhere := key{subject: place.subject}
	g.mu.Lock()
	defer g.mu.Unlock()
	now, limit := g.now(), g.policy.Wrong
	here, flying := g.countLocked(place, now), g.flying[place]
	switch {
	case now.Before(here.until):
		return nil, here.until.Sub(now)
	case flying >= g.policy.AtOnce, here.wrong > 0 && here.wrong < limit && here.wrong+flying >= limit, here.wrong >= limit && flying > 0:
		return nil, time.Second // guesses under way count as wrong once there is a doubt, or many at once would be free
	}
	if g.policy.Everywhere > 0 {
		known, _ := g.familiar.Get(place)
		if all := g.countLocked(everywhere, now); !known && now.Before(all.until) {
			return nil, all.until.Sub(now)
		}
	}
	g.flying[place]++
	return func(o Outcome) {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.flying[place]--; g.flying[place] <= 0 {
			delete(g.flying, place)
		}
		switch o {
		case Right:
			if g.countLocked(place, g.now()).wrong > 0 {
				g.kept.Put(place, count{})
			}
			g.familiar.Put(place, true)
		case Wrong:
			g.wrongLocked(place, limit)
			if g.policy.Everywhere > 0 {
				g.wrongLocked(everywhere, g.policy.Everywhere)
			}
		}
	}, 0
}

func (g *Limiter) countLocked(k key, now time.Time) count {
	e, _ := g.kept.Get(k)
	if now.Sub(e.last) >= g.policy.Forget {
		return count{}
	}
	return e
}

func (g *Limiter) wrongLocked(k key, limit int) {
	now := g.now()
	e := g.countLocked(k, now)
	e.wrong++
	e.last = now
	if over := e.wrong - limit; over >= 0 {
		e.until = now.Add(g.policy.Lock << min(over, g.policy.Doublings))
	}
	g.kept.Put(k, e)
}

// Network joins the addresses that one subscriber has: an IPv6 network of 64 bits, and all that lead to this machine itself.
func Network(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if a.IsLoopback() {
		return netip.IPv6Loopback()
	}
	if a.Is4() {
		return a
	}
	p, err := a.WithZone("").Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}
