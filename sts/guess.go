package sts

import (
	"net/netip"
	"sync"
	"time"

	"github.com/gatehouse-k8s/gatehouse/internal/cache"
	"github.com/gatehouse-k8s/gatehouse/internal/guess"
)

// passwordGuesses is the policy for passwords, for each (account, address), and for each account.
var passwordGuesses = guess.Policy{Wrong: 10, AtOnce: 16, Lock: time.Minute, Doublings: 5, Forget: 24 * time.Hour, Everywhere: 100}

const (
	adminPause = time.Second      // between tries for a locked administrator at the machine itself
	adminWait  = 10 * time.Second // for one's turn
)

// Limits of meters, for each address and minute.
const (
	startLimit = 120 // device codes asked for: each is a write that an unknown caller causes
	codeLimit  = 10  // wrong user codes
	sprayLimit = 60  // wrong passwords, whoever's
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
	return &meter{now: now, limit: limit, kept: cache.New[netip.Addr, *minute](guess.Kept)}
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
	from = guess.Network(from)
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
