package arm

import (
	"net/http"
	"time"

	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
	"github.com/gatehouse-k8s/gatehouse/rbac"
	"github.com/gatehouse-k8s/gatehouse/sts"
)

// Request is a request whose caller is known.
type Request struct {
	*http.Request
	View         *feed.View // decide by it to the end
	Now          time.Time
	Caller       Caller
	Action       string     // what is asked, e.g. Microsoft.ContainerService/managedClusters/write
	Scope        rbac.Scope // and where
	Subscription *Subscription

	server  *Server
	checked bool
}

// Caller is who asks.
type Caller struct {
	ID     directory.ID
	Tenant directory.ID
	Name   string // the user principal name, or an application's client id
	Client string // the application that the token was given to
}

func callerOf(v *feed.View, t *sts.Token) Caller {
	c := Caller{ID: t.Object, Tenant: t.Tenant, Name: t.Client(), Client: t.Client()}
	if u := directory.In(v).User(t.Object); u != nil {
		c.Name = u.UPN
	}
	return c
}

// findSubscription sets the subscription that the path names, if it names one.
func (q *Request) findSubscription() error {
	text := q.PathValue("subscription")
	if text == "" {
		return nil
	}
	id, err := directory.ParseID(text)
	if err != nil {
		return fault.New(fault.Invalid, "The provided subscription identifier '%.64s' is malformed or invalid; az account list shows yours.", text).
			WithCode("InvalidSubscriptionId")
	}
	sub := In(q.View).Subscription(id)
	switch {
	case sub == nil:
		return fault.New(fault.NotFound, "The subscription '%s' could not be found.", id).WithCode("SubscriptionNotFound")
	case sub.Tenant != q.Caller.Tenant:
		return fault.New(fault.Unauthenticated, "The access token is from the wrong tenant '%s'. It must be from the tenant '%s' that the subscription '%s' belongs to; "+
			"sign in there: az login --tenant %[2]s", q.Caller.Tenant, sub.Tenant, id).WithCode("InvalidAuthenticationTokenTenant")
	}
	q.Subscription = sub
	return nil
}

// decide asks by the directory and the assignments of a view.
func (q *Request) decide(v *feed.View, action string, scope rbac.Scope) rbac.Decision {
	return rbac.In(v).Check(q.query(v, action, scope))
}

func (q *Request) query(v *feed.View, action string, scope rbac.Scope) rbac.Query {
	groups, _ := directory.In(v).GroupsOf(q.Caller.ID, q.Now)
	return rbac.Query{Principal: q.Caller.ID, Groups: groups, Action: action, Scope: scope, At: q.Now}
}

// authorize checks that the caller is still active and may do what the request asks.
func (q *Request) authorize(v *feed.View) error {
	if !directory.In(v).Active(q.Caller.ID) {
		return fault.New(fault.Unauthenticated, "the account %s has been disabled or deleted", q.Caller.ID).WithCode("InvalidAuthenticationToken")
	}
	if !q.checked {
		return nil
	}
	if d := q.decide(v, q.Action, q.Scope); !d.Allowed {
		return q.denied(q.Action, q.Scope).Wrap(errReason(d.Reason()))
	}
	return nil
}

type errReason string

func (e errReason) Error() string { return string(e) }

// denied makes ARM's refusal (Azure RBAC, "Troubleshoot", AuthorizationFailed).
func (q *Request) denied(action string, scope rbac.Scope) *fault.Error {
	return fault.New(fault.Denied, "The client '%s' with object id '%s' does not have authorization to perform action '%s' over scope '%s' or the scope is invalid. "+
		"If access was recently granted, please refresh your credentials.", q.Caller.Name, q.Caller.ID, action, scope).WithCode("AuthorizationFailed")
}

// May reports whether the caller may do an action at a scope.
func (q *Request) May(action string, scope rbac.Scope) bool { return q.MayIn(q.View, action, scope) }

// MayIn is May by another view, such as that of an Update's plan.
func (q *Request) MayIn(v *feed.View, action string, scope rbac.Scope) bool {
	return q.decide(v, action, scope).Allowed
}

// Visible returns the items of a list that the caller may read, at their scopes. Who may read none of them, and not
// the list's own scope either, is refused.
func Visible[T any](q *Request, all []T, scope func(T) rbac.Scope) ([]T, error) {
	query := q.query(q.View, q.Action, q.Scope)
	out := []T{}
	for _, item := range all {
		query.Scope = scope(item)
		if rbac.In(q.View).Check(query).Allowed {
			out = append(out, item)
		}
	}
	if len(out) == 0 && !q.May(q.Action, q.Scope) {
		return nil, q.denied(q.Action, q.Scope)
	}
	return out, nil
}

// Update makes one write. The caller's right is checked again at the head of the feed, so that a role taken away in
// between is gone.
func (q *Request) Update(plan func(*feed.View) (feed.Change, error)) error {
	return q.server.Feed.Update(q.Context(), func(v *feed.View, _ feed.Secrets) (feed.Change, error) {
		if err := q.authorize(v); err != nil {
			return feed.Change{}, err
		}
		return plan(v)
	})
}

// Audit adds an event about something that the answer holds. What the request did at all is recorded anyway.
func (q *Request) Audit(details map[string]string) {
	e := q.event()
	e.Outcome, e.Details = audit.Allowed, details
	q.server.Audit.Record(e)
}

func (q *Request) record(err error, change bool) {
	if e := q.event(); e.Conclude(err, change) {
		q.server.Audit.Record(e)
	}
}

func (q *Request) event() audit.Event {
	e := audit.Event{
		Request: web.RequestID(q.Context()), Client: q.Caller.Client, Address: web.ClientIP(q.Request).String(), Action: q.Action, Target: q.Scope.String(),
	}
	if !q.Caller.ID.IsZero() { // else nobody knows who asks
		e.Tenant, e.Actor = q.Caller.Tenant.String(), q.Caller.ID.String()
	}
	return e
}

// Version is the request's api-version.
func (q *Request) Version() string { return q.URL.Query().Get("api-version") }

// url makes an absolute URL that the client can reach, because it is the one it came by.
func (q *Request) url(path string) string {
	return origin(q.Request) + path + "?api-version=" + q.Version()
}

func origin(r *http.Request) string {
	scheme := "http://"
	if r.TLS != nil {
		scheme = "https://"
	}
	return scheme + r.Host
}

// list is the answer of every list (resource provider contract, "Collection GET").
func list[T any](items []T) map[string]any {
	if items == nil {
		items = []T{}
	}
	return map[string]any{"value": items}
}

// WriteList answers with a list.
func WriteList[T any](w http.ResponseWriter, items []T) error {
	return web.WriteJSON(w, http.StatusOK, list(items))
}

// ErrResourceNotFound is ARM's answer for a resource that does not exist.
func ErrResourceNotFound(kind, name, group string) error {
	return fault.New(fault.NotFound, "The Resource '%s/%s' under resource group '%s' was not found.", kind, name, group).
		WithCode("ResourceNotFound")
}

// ErrGroupNotFound is ARM's answer for a resource group that does not exist.
func ErrGroupNotFound(name string) error {
	return fault.New(fault.NotFound, "Resource group '%s' could not be found. Create it first: az group create --name %s --location LOCATION", name, name).
		WithCode("ResourceGroupNotFound")
}

// LiveGroup returns a group that resources may be written to.
func LiveGroup(v *feed.View, subscription directory.ID, name string) (*Group, error) {
	g := In(v).Group(subscription, name)
	switch {
	case g == nil:
		return nil, ErrGroupNotFound(name)
	case !g.Deleting.IsZero():
		return nil, fault.New(fault.Conflict, "The resource group '%s' is in deprovisioning state and cannot perform this operation; wait until it is deleted, then create it again.", g.Name).
			WithCode("ResourceGroupBeingDeleted")
	}
	return g, nil
}
