package sts

import (
	"crypto/sha256"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-k8s/gatehouse/internal/cache"
)

const (
	guessLimit    = 10             // wrong guesses until a lock
	guessInFlight = 16             // guesses that may be unanswered at once
	guessForget   = 24 * time.Hour // after this long without a wrong guess all is forgotten
	guessKept     = 16 << 10       // keys that are remembered at least
	lockFirst     = time.Minute    // doubles with each wrong guess after a lock
	lockDoublings = 5

	adminPause = time.Second      // between tries for a locked administrator at the machine itself
	adminWait  = 10 * time.Second // for one's turn
)

// guesses counts wrong guesses for each (subject, address) and locks for a while those that had too many. It is
// bounded: to push a key out, an attacker must guess wrong for as many other keys, at the price of a password
// hash each.
type guesses struct {
	now  func() time.Time
	mu   sync.Mutex
	kept *cache.Cache[guessKey, *guess]
}

type guessKey struct {
	subject [sha256.Size]byte // of what a client sent, which may be long
	from    netip.Addr
}

type guess struct {
	wrong    int
	inFlight int
	last     time.Time
	until    time.Time
}

func newGuesses(now func() time.Time) *guesses {
	return &guesses{now: now, kept: cache.New[guessKey, *guess](guessKept)}
}

// begin reports whether a guess may be made now. If so, the caller must call done with its outcome.
func (g *guesses) begin(subject string, from netip.Addr) (done func(right bool), ok bool) {
	key := guessKey{sha256.Sum256([]byte(strings.ToLower(subject))), network64(from)}
	g.mu.Lock()
	defer g.mu.Unlock()
	e, known := g.kept.Get(key)
	if !known {
		e = new(guess)
		g.kept.Put(key, e)
	}
	now := g.now()
	if e.inFlight == 0 && now.Sub(e.last) > guessForget {
		*e = guess{}
	}
	// Guesses under way count as wrong once there is a doubt, or many at once would be free.
	if now.Before(e.until) || e.inFlight >= guessInFlight || (e.wrong > 0 && e.wrong < guessLimit && e.wrong+e.inFlight >= guessLimit) || (e.wrong >= guessLimit && e.inFlight > 0) {
		return nil, false
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
		if over := e.wrong - guessLimit; over >= 0 {
			e.until = e.last.Add(lockFirst << min(over, lockDoublings))
		}
	}, true
}

// network64 joins the addresses that one subscriber has: an IPv6 network of 64 bits, and all that lead to this machine itself.
func network64(a netip.Addr) netip.Addr {
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

// Limits of meters, for each address and minute.
const (
	startLimit = 120 // device codes asked for: each is a write that an unknown caller causes
	codeLimit  = 10  // wrong user codes
)

// meter counts requests for each address and minute.
type meter struct {
	now   func() time.Time
	limit int
	mu    sync.Mutex
	kept  *cache.Cache[netip.Addr, *minute]
}

type minute struct {
	at    int64
	count int
}

func newMeter(now func() time.Time, limit int) *meter {
	return &meter{now: now, limit: limit, kept: cache.New[netip.Addr, *minute](guessKept)}
}

// take reports whether one more is within the limit.
func (m *meter) take(from netip.Addr) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.minuteLocked(from)
	if e.count >= m.limit {
		return false
	}
	e.count++
	return true
}

// giveBack undoes a take that shall not count. It undoes no other: whoever has something that does not count
// cannot pay with it for what does.
func (m *meter) giveBack(from netip.Addr) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.minuteLocked(from); e.count > 0 {
		e.count--
	}
}

func (m *meter) minuteLocked(from netip.Addr) *minute {
	from = network64(from)
	e, ok := m.kept.Get(from)
	if !ok {
		e = new(minute)
		m.kept.Put(from, e)
	}
	if at := m.now().Unix() / 60; at != e.at {
		*e = minute{at: at}
	}
	return e
}
