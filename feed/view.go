package feed

import (
	"fmt"
	"time"
)

// State is one noun's fold of its records: immutable, shared by all readers.
type State interface {
	// Apply returns the state after these records, all of kinds of this part, in order. The receiver stays as it was.
	Apply(records []Record) (State, error)
}

// View is the state of everything at one position. Take one at the start of a request and decide by it to the end.
type View struct {
	Position
	parts map[string]State
}

// Part returns the state of a noun, by the first piece of its kinds. Noun packages wrap it in a typed
// function (directory.In, aks.In). An unknown part is a mistake in the wiring and panics.
func (v *View) Part(name string) State {
	s, ok := v.parts[name]
	if !ok {
		panic(fmt.Sprintf("feed: part %q is not in the view", name))
	}
	return s
}

// apply folds records into a new view. Records of parts that this process does not fold are passed over.
func (v *View) apply(records []Record, to Position) (*View, error) {
	byPart := map[string][]Record{}
	for _, r := range records {
		p := r.Kind.Part()
		if _, ok := v.parts[p]; ok {
			byPart[p] = append(byPart[p], r)
		}
	}
	next := &View{Position: to, parts: make(map[string]State, len(v.parts))}
	for name, s := range v.parts {
		next.parts[name] = s
		if rs := byPart[name]; len(rs) > 0 {
			n, err := s.Apply(rs)
			if err != nil {
				return nil, fmt.Errorf("apply %d records to %s at revision %d: %w", len(rs), name, to.Revision, err)
			}
			next.parts[name] = n
		}
	}
	return next, nil
}

// Window is when something holds: [From, Until), evaluated at the request's time, so that an expiry needs no job.
// A zero bound is open. Times are Unix seconds, which keeps a million memberships small.
type Window struct {
	From  int64 `json:"from,omitempty"`
	Until int64 `json:"until,omitempty"`
}

// Holds reports whether t lies in the window.
func (w Window) Holds(t time.Time) bool {
	u := t.Unix()
	return (w.From == 0 || u >= w.From) && (w.Until == 0 || u < w.Until)
}

// Next returns the first bound after t, or zero when none comes: until then Holds cannot change its answer.
func (w Window) Next(t time.Time) int64 {
	u := t.Unix()
	if w.From > u {
		return w.From
	}
	if w.Until > u {
		return w.Until
	}
	return 0
}
