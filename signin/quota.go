package signin

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// How many attempts are listed one by one in a minute. Whoever can reach the server can make attempts, and must not be able to
// fill the database, or to bury what matters under them.
const (
	strangers = 600 // that prove nothing, together,
	guesses   = 10  // after so many for each account that they name
	callers   = 600 // of each account that proved who it is
)

// quota counts the attempts of a minute and names those that are left out. It holds one number for each account that there is.
type quota struct {
	minute  int64
	proved  map[string]int
	guessed map[string]int
	unknown int
	left    map[string]int // tenant -> attempts that were left out
}

func newQuota() quota {
	return quota{proved: map[string]int{}, guessed: map[string]int{}, left: map[string]int{}}
}

// admit reports whether an attempt is listed.
func (q *quota) admit(e *Entry) bool {
	account := cmp.Or(e.User, e.Principal)
	switch {
	case e.Proved:
		if q.proved[account]++; q.proved[account] <= callers {
			return true
		}
	case account != "" && q.guessed[account] < guesses:
		q.guessed[account]++
		return true
	default:
		if q.unknown++; q.unknown <= strangers {
			return true
		}
	}
	q.left[e.Tenant]++
	return false
}

// turn begins a new minute, if one has begun, and returns an entry for each tenant that says what was left out of the one before.
func (q *quota) turn(at time.Time) []Entry {
	minute := at.Unix() / 60
	if minute <= q.minute { // an earlier one is of a request that took long
		return nil
	}
	var out []Entry
	for tenant, n := range q.left {
		out = append(out, Entry{
			Tenant: tenant, Kind: NonInteractiveUser, Code: 90055, Reason: "There were too many attempts within a minute.",
			Note: fmt.Sprintf("%d further attempts of that minute are not listed.", n),
		})
	}
	slices.SortFunc(out, func(a, b Entry) int { return cmp.Compare(a.Note, b.Note) })
	*q = newQuota()
	q.minute = minute
	return out
}
