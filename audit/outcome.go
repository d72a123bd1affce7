package audit

import "github.com/gatehouse-k8s/gatehouse/fault"

// Conclude fills in how a request ended, and reports whether that is an event. It is the rule of all REST faces for what they audit:
// changes, refusals, and changes that our own failure prevented. A request that was merely wrong changed nothing and was refused nothing.
func (e *Event) Conclude(err error, change bool) bool {
	if err == nil {
		e.Outcome = Allowed
		return change
	}
	switch fault.From(err).Kind {
	case fault.Denied, fault.Unauthenticated, fault.Throttled:
		e.Outcome, e.Reason = Denied, err.Error()
		return true
	case fault.Internal, fault.Unavailable:
		e.Outcome, e.Reason = Failed, "see the log under the request id"
		return change
	}
	return false
}
