package msi

import (
	"net/http"
	"sync"
	"time"

	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// refusals are the reasons for which an endpoint has refused. Every program of this machine, and every web page on it, can cause refusals: those
// for one reason are written once a minute, so that nobody fills the log, or the audit log's quota for refusals of unknown callers, with them.
type refusals struct {
	mu       sync.Mutex
	byReason map[string]refusal // reasons must be few: nothing that a stranger chooses is in them
}

type refusal struct {
	minute int64
	passed int // over without a line, since the last one
}

// admit reports whether a refusal is to be written, and how many were not since the last that was.
func (q *refusals) admit(reason string, now time.Time) (write bool, passed int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.byReason == nil {
		q.byReason = map[string]refusal{}
	}
	minute := now.Unix() / 60
	last, known := q.byReason[reason]
	if known && last.minute == minute {
		last.passed++
		q.byReason[reason] = last
		return false, 0
	}
	q.byReason[reason] = refusal{minute: minute}
	return true, last.passed
}

// refuse makes the refusal of a request that should not have come, and records it. The reason must not hold what the request chose.
func (p *endpoint) refuse(r *http.Request, kind fault.Kind, reason string) *fault.Error {
	now := p.endpoints.now()
	if write, passed := p.refusals.admit(reason, now); write {
		id := web.RequestID(r.Context())
		p.endpoints.Audit.Record(audit.Event{
			Time: now.UTC(), Request: id, Address: web.ClientIP(r).String(), Action: "identity endpoint", Target: p.Resource, Outcome: audit.Denied, Reason: reason,
		})
		attrs := []any{"request", id, "identity", p.Resource, "form", p.Form, "reason", reason}
		if passed > 0 {
			attrs = append(attrs, "passedOver", passed)
		}
		p.endpoints.log().Warn("identity endpoint refused a request", attrs...)
	}
	return fault.New(kind, "%s", reason)
}
