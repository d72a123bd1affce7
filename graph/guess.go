package graph

import (
	"sync"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
)

// How often a present password may be guessed with a stolen token.
const (
	maxGuesses  = 5
	guessWindow = 15 * time.Minute
)

// guesses counts wrong passwords of each account. Only accounts with a token come here, so there are no more of
// them than users. Sign-in has limits of its own, which these leave alone: a thief of a token locks nobody out.
type guesses struct {
	now func() time.Time
	mu  sync.Mutex
	of  map[directory.ID]guessed
}

type guessed struct {
	wrong int
	since time.Time
}

func newGuesses(now func() time.Time) *guesses {
	return &guesses{now: now, of: map[directory.ID]guessed{}}
}

// allow counts an attempt as wrong until right takes it back, so that attempts at the same time count, too.
func (g *guesses) allow(id directory.ID) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	seen := g.of[id]
	if now.Sub(seen.since) >= guessWindow {
		seen = guessed{since: now}
	}
	if seen.wrong >= maxGuesses {
		wait := int(seen.since.Add(guessWindow).Sub(now).Seconds()) + 1
		err := fault.New(fault.Throttled, "Too many wrong passwords for this account; try again in %d seconds.", wait)
		err.RetryAfter = wait
		return err
	}
	seen.wrong++
	g.of[id] = seen
	return nil
}

// right forgets an account's attempts.
func (g *guesses) right(id directory.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.of, id)
}
