package rbac

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// Query asks whether a principal may do an action at a scope.
type Query struct {
	Principal directory.ID
	Groups    []directory.ID // that the principal is in at this time, through any nesting, in the order of their ids
	Action    string         // e.g. Microsoft.ContainerService/managedClusters/read
	Scope     Scope
	At        time.Time
}

// Step is an assignment that was looked at and did not decide.
type Step struct {
	Assignment *Assignment
	Why        string
}

// Decision is the answer with its proof.
type Decision struct {
	Allowed    bool
	By         *Assignment // the assignment that decided; nil when none did
	Considered []Step      // every other one at or above the scope, up to the one that decided
}

// Reason tells the proof in one line, for audit and logs.
func (d Decision) Reason() string {
	if d.By != nil {
		return fmt.Sprintf("assignment %s of role %s to %s at %s", d.By.ID, roleName(d.By.Role), d.By.Principal, d.By.Scope)
	}
	var own []string
	for _, s := range d.Considered {
		if s.Why != otherPrincipal {
			own = append(own, fmt.Sprintf("assignment %s: %s", s.Assignment.ID, s.Why))
		}
	}
	if len(own) == 0 {
		return "no role is assigned at or above the scope"
	}
	return strings.Join(own, "; ")
}

func roleName(id directory.ID) string {
	if r := builtIn(id); r != nil {
		return r.Name
	}
	return id.String()
}

const otherPrincipal = "is for another principal"

// Check decides by the assignments at the scope and above it: one that allows is enough.
func (s *State) Check(q Query) Decision {
	var d Decision
	q.Scope.above(func(key string) {
		if d.Allowed {
			return
		}
		list, _ := s.byScope.Get(key)
		for _, a := range list {
			why := a.objection(&q)
			if why == "" {
				d.Allowed, d.By = true, a
				return
			}
			d.Considered = append(d.Considered, Step{a, why})
		}
	})
	return d
}

// objection says why an assignment does not allow what is asked, or nothing.
func (a *Assignment) objection(q *Query) string {
	if !a.isFor(q) {
		return otherPrincipal
	}
	if !a.Holds(q.At) {
		return "is not in force at this time"
	}
	role := builtIn(a.Role)
	if role == nil {
		return fmt.Sprintf("its role %s does not exist", a.Role)
	}
	if !role.Allows(q.Action) {
		return fmt.Sprintf("role %s does not allow %s", role.Name, q.Action)
	}
	return ""
}

func (a *Assignment) isFor(q *Query) bool {
	if a.Principal == q.Principal {
		return true
	}
	_, found := slices.BinarySearchFunc(q.Groups, a.Principal, directory.ID.Compare)
	return found
}

// Reaches reports whether the principal holds any role in force at, above or below the scope, whatever it allows. The
// query's action does not matter.
func (s *State) Reaches(q Query) bool {
	for _, a := range s.assignments.All() {
		if (a.Scope.Contains(q.Scope) || q.Scope.Contains(a.Scope)) && a.isFor(&q) && a.Holds(q.At) {
			return true
		}
	}
	return false
}
