package sts

import (
	"context"
	"slices"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
)

// Chain is how far the refresh tokens of one session and one public client have come. Tokens have a generation: the successors of one
// token, however many, are of the same one, and it is newer than that of the token. A client goes on with the newest that it has.
//
// A token of a generation that was used, or of an older one, is a *reuse*. At the same time it means little: az, kubelogin and Terraform
// share a cache and refresh together, and whoever did not get the answer asks again. Long after the generation was first used, though,
// nobody should still hold a token of it but a thief, or the person whom the thief was faster than. That is noted in the sign-in
// log; a strict server refuses the token, too, and ends the session, because it cannot know which of the two it speaks to
// (RFC 9700 section 4.14.2). Two copies of a cache that both go on are noticed this way, whoever began: each redeems every generation.
//
// Tokens of clients that show a credential have no chain: a thief cannot redeem them (RFC 9700 section 2.2.2), and the replicas of a
// service that calls on behalf of a user each hold one of the same session.
type Chain struct {
	Client directory.ID `json:"client"`
	Newest int64        `json:"newest"` // the newest generation that was used
	Used   int64        `json:"used"`   // when it first was, Unix nanoseconds
	Mark   int64        `json:"mark"`   // a generation that was first used at Marked: reuseGrace after that it is over
	Marked int64        `json:"marked"`
	Over   int64        `json:"over,omitempty"` // this one is over already, and what is older
}

const (
	reuseGrace = 10 * time.Minute // after a generation was first used a strict server still takes it, and older ones
	chainsKept = 16 << 10         // chains that are remembered at least, beside what sessions hold
)

// over is the newest generation that was first used reuseGrace ago, as far as the chain remembers: a strict server takes it no more.
func (c Chain) over(now time.Time) int64 {
	switch grace := now.UnixNano() - int64(reuseGrace); {
	case c.Used <= grace:
		return c.Newest
	case c.Marked <= grace:
		return c.Mark
	}
	return c.Over
}

// use is the chain after a newer generation was first used. A client that refreshes all the time does not move the mark all the time, or
// the older generations would never be over.
func (c Chain) use(generation int64, now time.Time) Chain {
	if over := c.over(now); now.UnixNano()-c.Marked >= int64(reuseGrace) {
		c.Over, c.Mark, c.Marked = over, generation, now.UnixNano()
	}
	c.Newest, c.Used = generation, now.UnixNano()
	return c
}

// next is the generation of the tokens that replace those of the newest one: a time, so that those that a family's clients get from each
// other fit in, and newer even where the clocks of two replicas differ.
func (c Chain) next() int64 { return max(c.Used, c.Newest+1) }

type chainKey struct{ session, client directory.ID }

// follow compares a refresh token with its chain, and sets the exchange's: how far it has come, nil if the client has none. It reports
// whether that must be written before a token leaves. A request that is refused later on uses nothing: see sealRefresh.
//
// A server that is not strict keeps chains in memory and writes them when it writes the session anyway, once a day: a write for
// each refresh would cost more than the refresh.
func (s *Server) follow(ctx context.Context, x *exchange, t refreshToken) (write bool, err error) {
	if x.client.proved {
		return false, nil
	}
	key := chainKey{x.subject.session.ID, t.Client}
	at := chainOf(x.subject.session.Chains, t.Client)
	write = s.Strict && t.Generation > at.Newest
	if kept, ok := s.chains.Get(key); ok && kept.Newest > at.Newest {
		at = kept
	}
	switch {
	case t.Generation > at.Newest:
		at = at.use(t.Generation, x.now)
	case t.Generation <= at.over(x.now):
		x.note = "The refresh token of " + stamp(t.issued()) + " was used long after it had been replaced"
		if s.Strict {
			x.note += "; the session was ended."
			return false, s.endReused(ctx, x.subject.session.ID)
		}
		x.note += "."
	case t.Generation < at.Newest:
		x.note = "The refresh token of " + stamp(t.issued()) + " was used again after a newer one."
	}
	x.chain = &at
	return write, nil
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

// advance returns the chains with one of them moved on, and that one. It never moves back, whatever order writes come in: of two who use a
// generation for the first time at once, the second goes on from what the first has written.
func advance(chains []Chain, to Chain) ([]Chain, Chain) {
	out := slices.Clone(chains)
	for i, c := range out {
		if c.Client == to.Client {
			if c.Newest < to.Newest {
				out[i] = to
			}
			return out, out[i]
		}
	}
	return append(out, to), to
}
