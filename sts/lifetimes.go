package sts

import (
	"crypto/rand"
	"fmt"
	"io"
	"math/big"
	"time"
)

// Lifetimes are how long what the server hands out is good. What is zero is as in Entra.
type Lifetimes struct {
	Access  time.Duration // of access tokens; zero: drawn, 60 to 90 minutes
	Refresh time.Duration // a refresh token expires when it was not used this long; zero: 90 days
	Session time.Duration // at most, of a sign-in in a browser; zero: 90 days if the person wants to keep it, else 24 hours
}

// The ranges of Lifetimes. Entra's are the same (Microsoft identity platform, "Configurable token lifetimes"); keys stay published, and
// what is sealed can be opened, for the longest.
const (
	MinAccessLife  = 10 * time.Minute
	MaxAccessLife  = 24 * time.Hour
	MinRefreshLife = 10 * time.Minute
	MaxRefreshLife = refreshLife
	MinSessionLife = 10 * time.Minute
	MaxSessionLife = refreshLife
)

// access draws the life of an access token. Tokens that were asked for together do not all come back together.
func (l Lifetimes) access(random io.Reader) (time.Duration, error) {
	if l.Access != 0 {
		return l.Access, nil
	}
	n, err := rand.Int(random, big.NewInt(int64(accessRange/time.Second)+1))
	if err != nil {
		return 0, fmt.Errorf("draw a token's life: %w", err)
	}
	return accessLife + time.Duration(n.Int64())*time.Second, nil
}

// refresh is how long a refresh token waits for its use.
func (l Lifetimes) refresh() time.Duration {
	if l.Refresh != 0 {
		return l.Refresh
	}
	return refreshLife
}

// session is how long a sign-in lasts that is not renewed: longer than the access token, and as long as the refresh token if it has one.
func (l Lifetimes) session(offline bool) time.Duration {
	life := max(shortSession, l.Access)
	if offline {
		life = max(life, l.refresh())
	}
	return life
}

// browser is how long a sign-in in a browser lasts.
func (l Lifetimes) browser(keep bool) time.Duration {
	life := browserLife
	if keep {
		life = keepLife
	}
	if l.Session != 0 {
		life = min(life, l.Session)
	}
	return life
}
