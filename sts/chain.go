package sts

import (
	"context"
	"slices"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
)

// Chain is how far the refresh tokens of one session and one public client have come. Each redemption gives a token that is newer than
// the one redeemed; a client goes on with the newest that it has.
//
// A token that is older than one that has been used is a *reuse*. Alone it means little: az, kubelogin and Terraform share a cache and
// refresh at the same time, and then some of them bring a token that another has just replaced. So reuse is noted in the sign-in log,
// and no more. Long after the newer token was used, though, nobody should still hold the older one but a thief, or the person
// whom the thief was faster than. A strict server then refuses it and ends the session, because it cannot know which of the two it
// speaks to (RFC 9700 section 4.14.2).
//
// Tokens of clients that show a credential have no chain: a thief cannot redeem them (RFC 9700 section 2.2.2), and the replicas of a
// service that calls on behalf of a user each hold one of the same session.
type Chain struct {
	Client directory.ID `json:"client"`
	Newest int64        `json:"newest"` // when the newest token that was used had been issued, Unix nanoseconds; the others, too
	Mark   int64        `json:"mark"`   // the same of one that was first used at Marked: older ones are over reuseGrace after that
	Marked int64        `json:"marked"`
	Over   int64        `json:"over,omitempty"` // older ones are over already
}

const (
	reuseGrace = 10 * time.Minute // after a newer token was used a strict server still takes the older ones
	chainsKept = 16 << 10         // chains that are remembered at least, beside what sessions hold
)

// over is when the oldest token that a strict server takes had been issued.
func (c Chain) over(now time.Time) int64 {
	if now.UnixNano()-c.Marked >= int64(reuseGrace) {
		return c.Mark
	}
	return c.Over
}

// use is the chain after a newer token was used. A client that refreshes all the time does not move the mark all the time, or the
// older tokens would never be over.
func (c Chain) use(issued, now time.Time) Chain {
	c.Newest = issued.UnixNano()
	if now.UnixNano()-c.Marked >= int64(reuseGrace) {
		c.Over, c.Mark, c.Marked = c.Mark, c.Newest, now.UnixNano()
	}
	return c
}

type chainKey struct{ session, client directory.ID }

// follow compares a refresh token with its chain. It returns how far the chain has come, nil if the client has none, and whether
// that must be written before a token leaves.
//
// A server that is not strict keeps chains in memory and writes them when it writes the session anyway, once a day: a write for
// each refresh would cost more than the refresh.
func (s *Server) follow(ctx context.Context, x *exchange, client directory.ID, issued time.Time) (next *Chain, write bool, err error) {
	if x.client.proved {
		return nil, false, nil
	}
	key, nanos := chainKey{x.subject.session.ID, client}, issued.UnixNano()
	at := chainOf(x.subject.session.Chains, client)
	write = s.Strict && nanos > at.Newest
	if kept, ok := s.chains.Get(key); ok && kept.Newest > at.Newest {
		at = kept
	}
	switch {
	case nanos > at.Newest:
		at = at.use(issued, x.now)
		s.chains.Put(key, at)
	case nanos == at.Newest:
	case s.Strict && nanos < at.over(x.now):
		x.note = "The refresh token of " + stamp(issued) + " was used again long after a newer one; the session was ended."
		return nil, false, s.endReused(ctx, x.subject.session.ID)
	default:
		x.note = "The refresh token of " + stamp(issued) + " was used again after a newer one."
	}
	return &at, write, nil
}

// endReused ends the session of a refresh token that a strict server refuses.
func (s *Server) endReused(ctx context.Context, session directory.ID) error {
	err := s.Feed.Update(ctx, func(v *feed.View, _ feed.Secrets) (feed.Change, error) {
		if found := In(v).Session(session); found != nil {
			return feed.Change{Records: []feed.Record{endSession(found)}}, nil
		}
		return feed.Change{}, nil
	})
	if err != nil {
		return err
	}
	return fail(50173)
}

// chainOf returns a client's chain; that of a client that has redeemed nothing yet is the zero one.
func chainOf(chains []Chain, client directory.ID) Chain {
	for _, c := range chains {
		if c.Client == client {
			return c
		}
	}
	return Chain{Client: client}
}

// advance returns the chains with one of them moved on. It never moves back, whatever order writes come in.
func advance(chains []Chain, to Chain) []Chain {
	out := slices.Clone(chains)
	for i, c := range out {
		if c.Client == to.Client {
			if c.Newest < to.Newest {
				out[i] = to
			}
			return out
		}
	}
	return append(out, to)
}
