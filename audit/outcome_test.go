package audit

import (
	"errors"
	"strings"
	"testing"

	"github.com/gatehouse-k8s/gatehouse/fault"
)

// TestConclude is the table of what the REST faces audit.
func TestConclude(t *testing.T) {
	kind := func(k fault.Kind) error { return fault.New(k, "x") }
	for _, c := range []struct {
		name         string
		err          error
		change, read string // the outcome; empty: no event
	}{
		{"done", nil, Allowed, ""},
		{"not permitted", kind(fault.Denied), Denied, Denied},
		{"no token", kind(fault.Unauthenticated), Denied, Denied},
		{"too many", kind(fault.Throttled), Denied, Denied},
		{"wrong", kind(fault.Invalid), "", ""},
		{"not there", kind(fault.NotFound), "", ""},
		{"in conflict", kind(fault.Conflict), "", ""},
		{"database away", kind(fault.Unavailable), Failed, ""},
		{"our mistake", kind(fault.Internal), Failed, ""},
		{"not one of ours", errors.New("inside"), Failed, ""},
	} {
		for change, want := range map[bool]string{true: c.change, false: c.read} {
			var e Event
			if event := e.Conclude(c.err, change); event != (want != "") || event && e.Outcome != want {
				t.Errorf("%s, a change: %t: %+v %t, want %q", c.name, change, e, event, want)
			}
			if e.Outcome == Failed && strings.Contains(e.Reason, "inside") {
				t.Errorf("%s: the reason is %q", c.name, e.Reason)
			}
		}
	}
}
