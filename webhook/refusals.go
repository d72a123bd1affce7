package webhook

import (
	"sync"
	"time"

	"github.com/gatehouse-k8s/gatehouse/aks"
	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// refusal is one no: to whom, and why. Two equal ones within a minute are one line of the log.
type refusal struct {
	action  string       // of the audit event
	outcome string       // audit.Denied or audit.Failed
	cluster directory.ID // who asked
	actor   directory.ID // zero: not known
	client  string
	reason  string
}

const (
	refusalsPerMinute = 600 // different ones
	longestReason     = 300 // bytes; a stranger chooses what is in a token
)

// refusals bounds what refusals can write. Whoever repeats a bad token, or invents new ones, fills neither disk nor log.
type refusals struct {
	mu     sync.Mutex
	minute int64
	ids    map[refusal]string // of the requests that were written
	passed int                // over without a line, since the last one
}

// admit returns the id under which a refusal is, or is to be, written; "" when there are too many. If it is new,
// passed is how many were not written since the last that was.
func (q *refusals) admit(x refusal, now time.Time) (request string, isNew bool, passed int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if m := now.Unix() / 60; m != q.minute || q.ids == nil {
		q.minute, q.ids = m, map[refusal]string{}
	}
	if id, again := q.ids[x]; again || len(q.ids) >= refusalsPerMinute {
		q.passed++
		return id, false, 0
	}
	request = web.NewGUID()
	q.ids[x] = request
	passed, q.passed = q.passed, 0
	return request, true, passed
}

// note writes a refusal to log and audit and returns the id to find it by, which is that of the first of equal ones.
func (s *Server) note(c *aks.Cluster, x refusal, now time.Time) (request string) {
	if len(x.reason) > longestReason {
		x.reason = x.reason[:longestReason] + "..."
	}
	x.cluster = c.GUID
	quota := &s.ofPrincipals
	if x.actor.IsZero() {
		quota = &s.ofStrangers
	}
	request, isNew, passed := quota.admit(x, now)
	if !isNew {
		return request
	}
	event := audit.Event{
		Time: now.UTC(), Request: request, Client: x.client, Action: x.action, Target: c.ID(), Outcome: x.outcome, Reason: x.reason,
		Details: map[string]string{"cluster": c.GUID.String()},
	}
	attrs := []any{"request", request, "action", x.action, "cluster", c.GUID, "reason", x.reason}
	if c.AAD != nil {
		event.Tenant = c.AAD.Tenant.String()
	}
	if !x.actor.IsZero() {
		event.Actor = x.actor.String()
		attrs = append(attrs, "actor", x.actor)
	}
	if passed > 0 {
		attrs = append(attrs, "passedOver", passed)
	}
	s.Audit.Record(event)
	s.log().Warn("refused", attrs...)
	return request
}
