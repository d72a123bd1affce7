package rbac

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
)

// Part is the name of this package's part of a view.
const Part = "rbac"

// KindAssignment is the kind of role assignments. Key: the assignment's GUID.
const KindAssignment feed.Kind = "rbac/assignment"

// In returns the role assignments of a view.
func In(v *feed.View) *State { return v.Part(Part).(*State) }

// Assignment gives a principal a role at a scope and below, within its window.
type Assignment struct {
	ID        directory.ID `json:"id"`
	Tenant    directory.ID `json:"tenant"`
	Principal directory.ID `json:"principal"` // a user, group or service principal
	Role      directory.ID `json:"role"`
	Scope     Scope        `json:"scope"`
	Created   time.Time    `json:"created"`
	feed.Window
}

// NewAssignment makes the record of an assignment without end. random makes its id.
func NewAssignment(random io.Reader, tenant, principal, role directory.ID, scope string, created time.Time) (feed.Record, error) {
	at, err := ParseScope(scope)
	if err != nil {
		return feed.Record{}, err
	}
	if builtIn(role) == nil {
		return feed.Record{}, fmt.Errorf("assign role %s: there is no such role", role)
	}
	id, err := directory.NewID(random)
	if err != nil {
		return feed.Record{}, err
	}
	a := &Assignment{ID: id, Tenant: tenant, Principal: principal, Role: role, Scope: at, Created: created}
	return a.Record()
}

// Record is what writes the assignment.
func (a *Assignment) Record() (feed.Record, error) {
	body, err := json.Marshal(a)
	return feed.Record{Kind: KindAssignment, Key: a.ID.String(), Tenant: a.Tenant.String(), Body: body}, err
}

// State is all role assignments. It is immutable.
type State struct {
	assignments feed.Map[directory.ID, *Assignment]
	byScope     feed.Map[string, []*Assignment] // by Scope.Key
}

// AtOrBelow returns the assignments whose scope a scope contains, in no order: those that go when it goes.
func (s *State) AtOrBelow(scope Scope) []*Assignment {
	var out []*Assignment
	for _, a := range s.assignments.All() {
		if scope.Contains(a.Scope) {
			out = append(out, a)
		}
	}
	return out
}

// Removal returns the records that delete all assignments at a scope and below, so that what is made there later under
// the same name inherits nothing.
func (s *State) Removal(scope Scope) []feed.Record {
	var out []feed.Record
	for _, a := range s.AtOrBelow(scope) {
		out = append(out, feed.Record{Kind: KindAssignment, Key: a.ID.String(), Tenant: a.Tenant.String()})
	}
	return out
}

// Apply implements feed.State.
func (s *State) Apply(records []feed.Record) (feed.State, error) {
	all, byScope := s.assignments.Edit(), s.byScope.Edit()
	for _, r := range records {
		if r.Kind != KindAssignment {
			return nil, fmt.Errorf("unknown kind of record %s; was the database written by a newer version?", r.Kind)
		}
		id, err := directory.ParseID(r.Key)
		if err != nil {
			return nil, err
		}
		if old, ok := all.Get(id); ok {
			without(byScope, old)
			all.Delete(id)
		}
		if r.Body == nil {
			continue
		}
		a := new(Assignment)
		if err := json.Unmarshal(r.Body, a); err != nil {
			return nil, fmt.Errorf("role assignment %s: %w", r.Key, err)
		}
		all.Set(id, a)
		list, _ := byScope.Get(a.Scope.Key())
		byScope.Set(a.Scope.Key(), append(list[:len(list):len(list)], a))
	}
	return &State{assignments: all.Map(), byScope: byScope.Map()}, nil
}

// without takes an assignment out of its scope's list, which older states share.
func without(byScope *feed.Editor[string, []*Assignment], a *Assignment) {
	list, _ := byScope.Get(a.Scope.Key())
	var kept []*Assignment
	for _, other := range list {
		if other.ID != a.ID {
			kept = append(kept, other)
		}
	}
	if len(kept) == 0 {
		byScope.Delete(a.Scope.Key())
		return
	}
	byScope.Set(a.Scope.Key(), kept)
}
