// Package guess limits how often a secret may be guessed. It is all that the faces have against guessing, so there is one of it.
//
// Limiters are of this process: with n replicas behind one address an attacker has n times the guesses, at the price of a password
// hash each.
package guess

import (
	"crypto/sha256"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-k8s/gatehouse/internal/cache"
)

// Policy is how often a secret may be guessed wrong.
type Policy struct {
	Wrong     int           // wrong guesses until a lock
	AtOnce    int           // guesses that may be unanswered at once
	Lock      time.Duration // of the first lock; it doubles with each wrong guess after it,
	Doublings int           // so many times
	Forget    time.Duration // after this long without a wrong guess all is forgotten
}

// Kept is how many keys a Limiter remembers at least.
const Kept = 16 << 10

// Limiter counts wrong guesses for each (subject, address) and locks for a while those that had too many. It is
// bounded: to push a key out, an attacker must guess wrong for as many other keys, at the price of a password
// hash each.
type Limiter struct {
	policy Policy
	now    func() time.Time
	mu     sync.Mutex
	kept   *cache.Cache[key, *count]
}

type key struct {
	subject [sha256.Size]byte // of what a client sent, which may be long
	from    netip.Addr
}

type count struct {
	wrong    int
	inFlight int
	last     time.Time
	until    time.Time
}

// New makes a limiter with the time of now.
func New(p Policy, now func() time.Time) *Limiter {
	return &Limiter{policy: p, now: now, kept: cache.New[key, *count](Kept)}
}

// Begin reports whether a guess for a subject may be made now. If so, the caller must call done with its outcome; else done is nil and
// wait says when to come again. The zero address counts the guesses from everywhere together.
func (g *Limiter) Begin(subject string, from netip.Addr) (done func(right bool), wait time.Duration) {
	k := key{sha256.Sum256([]byte(strings.ToLower(subject))), Network(from)}
	g.mu.Lock()
	defer g.mu.Unlock()
	e, known := g.kept.Get(k)
	if !known {
		e = new(count)
		g.kept.Put(k, e)
	}
	now := g.now()
	if e.inFlight == 0 && now.Sub(e.last) >= g.policy.Forget {
		*e = count{}
	}
	// Guesses under way count as wrong once there is a doubt, or many at once would be free.
	limit := g.policy.Wrong
	switch {
	case now.Before(e.until):
		return nil, e.until.Sub(now)
	case e.inFlight >= g.policy.AtOnce, e.wrong > 0 && e.wrong < limit && e.wrong+e.inFlight >= limit, e.wrong >= limit && e.inFlight > 0:
		return nil, time.Second
	}
	e.inFlight++
	return func(right bool) {
		g.mu.Lock()
		defer g.mu.Unlock()
		e.inFlight--
		if right {
			e.wrong, e.until = 0, time.Time{}
			return
		}
		e.wrong++
		e.last = g.now()
		if over := e.wrong - limit; over >= 0 {
			e.until = e.last.Add(g.policy.Lock << min(over, g.policy.Doublings))
		}
	}, 0
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
