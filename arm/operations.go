package arm

import (
	"net/http"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// pollAfter is the Retry-After of operations, in seconds. Without one clients wait for 30 s.
const pollAfter = "1"

// PollStatus adds the headers that send a client to the operation's status, and with result also to its outcome.
func (q *Request) PollStatus(w http.ResponseWriter, o *Operation, result bool) {
	w.Header().Set("Azure-AsyncOperation", q.url(o.statusPath()))
	if result {
		w.Header().Set("Location", q.url(o.resultPath()))
	}
	w.Header().Set("Retry-After", pollAfter)
}

// Operations adds the routes under which the operations of a provider are read. They need no role of the caller who
// began the operation: a role at one resource would not reach the subscription, where these are.
func (r *Routes) Operations(namespace string) {
	base := "GET /subscriptions/{subscription}/providers/" + namespace + "/locations/{location}/"
	r.HandleAnyone(base+"operations/{operation}", operationStatus)
	r.HandleAnyone(base+"operationresults/{operation}", operationResult)
}

// operation finds the operation that a path names, for its beginner and for who may read the subscription's operations.
// To anybody else one that exists looks like one that does not.
func (q *Request) operation() (*Operation, error) {
	id, err := directory.ParseID(q.PathValue("operation"))
	if err != nil {
		return nil, err
	}
	o := In(q.View).Operation(id)
	if o != nil && o.Subscription != q.Subscription.ID {
		o = nil
	}
	if (o == nil || o.By != q.Caller.ID) && !q.May(q.Action, q.Scope) {
		return nil, q.denied(q.Action, q.Scope)
	}
	if o == nil {
		return nil, fault.New(fault.NotFound, "The operation '%s' does not exist; outcomes are kept for %s.", id, operationKept).WithCode("OperationNotFound")
	}
	return o, nil
}

// awaitOperation is operation, after a short wait for its end.
func (q *Request) awaitOperation() (*Operation, error) {
	hold := time.NewTimer(q.server.pollHold())
	defer hold.Stop()
	for {
		changed := q.server.Feed.Changed()
		q.View = q.server.Feed.View()
		o, err := q.operation()
		if err != nil || o.Done() {
			return o, err
		}
		select {
		case <-changed:
		case <-hold.C:
			return o, nil
		case <-q.Context().Done():
			return o, nil
		}
	}
}

// operationStatus answers with the status document (resource provider contract, "Azure-AsyncOperation resource format").
func operationStatus(w http.ResponseWriter, q *Request) error {
	o, err := q.awaitOperation()
	if err != nil {
		return err
	}
	doc := struct {
		ID        string        `json:"id"`
		Name      string        `json:"name"`
		Status    string        `json:"status"`
		StartTime time.Time     `json:"startTime"`
		EndTime   time.Time     `json:"endTime,omitzero"`
		Error     *ErrorMessage `json:"error,omitempty"`
	}{o.statusPath(), o.ID.String(), o.Status, o.Started, o.Ended, o.Error}
	if !o.Done() {
		w.Header().Set("Retry-After", pollAfter)
	}
	return web.WriteJSON(w, http.StatusOK, doc)
}

// operationResult answers 202 until the operation has ended, then with its outcome. None of the operations here has
// anything to tell beyond that.
func operationResult(w http.ResponseWriter, q *Request) error {
	o, err := q.awaitOperation()
	if err != nil {
		return err
	}
	switch {
	case !o.Done():
		w.Header().Set("Location", q.url(o.resultPath()))
		w.Header().Set("Retry-After", pollAfter)
		w.WriteHeader(http.StatusAccepted)
		return nil
	case o.Status != Succeeded && o.Error != nil:
		return fault.New(fault.Conflict, "%s", o.Error.Message).WithCode(o.Error.Code)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
