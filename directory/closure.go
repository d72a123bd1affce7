package directory

import (
	"slices"
	"time"
)

// MemberOf returns the groups that a principal is a direct member of at a time, in the order of their ids.
func (s *State) MemberOf(principal ID, at time.Time) []ID {
	return peers(s.memberOf, principal, at)
}

// Members returns the direct members of a group at a time, in the order of their ids.
func (s *State) Members(group ID, at time.Time) []ID {
	return peers(s.members, group, at)
}

// GroupsOf returns all groups that a principal is in at a time, through any nesting, in the order of their
// ids, and the Unix time until which the answer cannot change by the clock alone (zero: for ever).
// Nested groups may form circles.
func (s *State) GroupsOf(principal ID, at time.Time) (groups []ID, until int64) {
	found := finder{}
	for from, next := principal, 0; ; next++ {
		list, _ := s.memberOf.Get(from)
		for i := range list {
			e := &list[i]
			if bound := e.Next(at); bound != 0 && (until == 0 || bound < until) {
				until = bound
			}
			if e.Holds(at) && !found.has(groups, e.peer) {
				groups = append(groups, e.peer)
			}
		}
		if next == len(groups) {
			break
		}
		from = groups[next] // what was found is also what is still to be visited
	}
	slices.SortFunc(groups, ID.Compare)
	return groups, until
}

// finder looks for ids in a growing list, to which whoever asks adds what it does not have. Most principals are in so few
// groups that a search beats a map.
type finder struct {
	seen map[ID]struct{}
}

const fewGroups = 32

func (f *finder) has(list []ID, id ID) bool {
	if len(list) <= fewGroups {
		return slices.Contains(list, id)
	}
	if f.seen == nil {
		f.seen = make(map[ID]struct{}, 4*fewGroups)
		for _, known := range list {
			f.seen[known] = struct{}{}
		}
	}
	_, ok := f.seen[id]
	f.seen[id] = struct{}{}
	return ok
}

// IsIn reports whether a principal is in a group at a time, through any nesting.
func (s *State) IsIn(principal, group ID, at time.Time) bool {
	groups, _ := s.GroupsOf(principal, at)
	_, found := slices.BinarySearchFunc(groups, group, ID.Compare)
	return found
}

// TransitiveMembers returns everything that is in a group at a time, through any nesting, in the order of the ids.
func (s *State) TransitiveMembers(group ID, at time.Time) []ID {
	seen := map[ID]bool{group: true}
	queue, out := []ID{group}, []ID(nil)
	for len(queue) > 0 {
		from := queue[0]
		queue = queue[1:]
		list, _ := s.members.Get(from)
		for _, e := range list {
			if e.Holds(at) && !seen[e.peer] {
				seen[e.peer] = true
				out = append(out, e.peer)
				queue = append(queue, e.peer)
			}
		}
	}
	slices.SortFunc(out, ID.Compare)
	return out
}

// membership returns the direct membership of a principal in a group, whenever it holds, or nil.
func (s *State) membership(principal, group ID) *edge {
	list, _ := s.memberOf.Get(principal)
	for i := range list {
		if list[i].peer == group {
			return &list[i]
		}
	}
	return nil
}

func peers(m interface{ Get(ID) ([]edge, bool) }, of ID, at time.Time) []ID {
	list, _ := m.Get(of)
	out := make([]ID, 0, len(list))
	for _, e := range list {
		if e.Holds(at) {
			out = append(out, e.peer)
		}
	}
	slices.SortFunc(out, ID.Compare)
	return out
}
