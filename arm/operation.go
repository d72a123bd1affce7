package arm

import (
	"context"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
	"github.com/gatehouse-k8s/gatehouse/rbac"
)

// Statuses of operations (resource provider contract, "Asynchronous Operations").
const (
	InProgress = "InProgress"
	Succeeded  = "Succeeded"
	Failed     = "Failed"
	Canceled   = "Canceled"
)

// operationKept is how long the outcome of an operation can be read after its end.
const operationKept = time.Hour

// Operation is a long-running operation. Its record is written in the same revision as what it begins and what it ends.
type Operation struct {
	ID           directory.ID  `json:"id"`
	Tenant       directory.ID  `json:"tenant"`
	Subscription directory.ID  `json:"subscription"`
	By           directory.ID  `json:"by"`                  // who began it, and may read it whatever their roles
	Namespace    string        `json:"namespace,omitempty"` // of the provider that runs it; empty: a resource group's
	Location     string        `json:"location,omitempty"`
	Resource     string        `json:"resource"` // the id of what it works on
	Action       string        `json:"action"`
	Request      string        `json:"request,omitempty"` // the id of the request that began it
	Status       string        `json:"status"`
	Error        *ErrorMessage `json:"error,omitempty"` // why it failed or was canceled
	Started      time.Time     `json:"started"`
	Ended        time.Time     `json:"ended,omitzero"`
}

// ErrorMessage is a failure as ARM's envelope has it.
type ErrorMessage struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Begin makes an operation that the request starts. Its Location and Resource are the caller's to set, where the
// namespace is not empty.
func (q *Request) Begin(namespace string) (*Operation, error) {
	id, err := directory.NewID(q.server.random())
	if err != nil {
		return nil, err
	}
	return &Operation{
		ID: id, Tenant: q.Subscription.Tenant, Subscription: q.Subscription.ID, By: q.Caller.ID, Namespace: namespace,
		Resource: q.Scope.String(), Action: q.Action, Request: web.RequestID(q.Context()), Status: InProgress, Started: q.Now,
	}, nil
}

// Record is what writes the operation.
func (o *Operation) Record() feed.Record { return record(KindOperation, o.ID.String(), o.Tenant, o) }

// End returns the operation with its outcome; a nil why is success.
func (o *Operation) End(status string, why *ErrorMessage, at time.Time) *Operation {
	ended := *o
	ended.Status, ended.Error, ended.Ended = status, why, at
	return &ended
}

// Done reports whether the operation has come to its end.
func (o *Operation) Done() bool { return o.Status != InProgress }

func (o *Operation) statusPath() string { return o.base() + "operations/" + o.ID.String() }

func (o *Operation) resultPath() string { return o.base() + "operationresults/" + o.ID.String() }

func (o *Operation) base() string {
	base := "/subscriptions/" + o.Subscription.String() + "/"
	if o.Namespace != "" {
		base += "providers/" + o.Namespace + "/locations/" + o.Location + "/"
	}
	return base
}

// SweepOperations deletes the operations that ended more than an hour ago.
func SweepOperations(ctx context.Context, f *feed.Follower, now time.Time) error {
	old := func(v *feed.View) []feed.Record {
		var out []feed.Record
		for id, o := range In(v).operations.All() {
			if o.Done() && now.Sub(o.Ended) >= operationKept {
				out = append(out, feed.Record{Kind: KindOperation, Key: id.String(), Tenant: o.Tenant.String()})
			}
		}
		return out
	}
	if len(old(f.View())) == 0 {
		return nil
	}
	return f.Update(ctx, func(v *feed.View, _ feed.Secrets) (feed.Change, error) {
		return feed.Change{Records: old(v)}, nil
	})
}

// Removed returns what goes with a resource that has been deleted: the role assignments at and below it. If the
// resource was the last of its group, and the group is being deleted, the group goes too and its operation ends.
func Removed(v *feed.View, resource rbac.Scope, subscription directory.ID, group string, last bool, now time.Time) []feed.Record {
	if g := In(v).Group(subscription, group); last && g != nil && !g.Deleting.IsZero() {
		return removeGroup(v, g, now)
	}
	return rbac.In(v).Removal(resource)
}

// removeGroup returns what deletes an empty group and ends the operation that does so.
func removeGroup(v *feed.View, g *Group, now time.Time) []feed.Record {
	out := rbac.In(v).Removal(g.Scope())
	out = append(out, feed.Record{Kind: KindGroup, Key: g.key(), Tenant: g.Tenant.String()})
	if o := In(v).Operation(g.Deleting); o != nil && !o.Done() {
		out = append(out, o.End(Succeeded, nil, now).Record())
	}
	return out
}

// NotRemoved returns what follows when a resource could not be deleted: the group that was to go with it stays, and
// its operation tells why.
func NotRemoved(v *feed.View, subscription directory.ID, group string, why *ErrorMessage, now time.Time) []feed.Record {
	g := In(v).Group(subscription, group)
	if g == nil || g.Deleting.IsZero() {
		return nil
	}
	var out []feed.Record
	if o := In(v).Operation(g.Deleting); o != nil && !o.Done() {
		out = append(out, o.End(Failed, why, now).Record())
	}
	kept := *g
	kept.Deleting = directory.ID{}
	return append(out, kept.record())
}
