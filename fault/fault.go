// Package fault is the closed set of ways in which a request can fail.
//
// Every package returns these errors; each protocol (OAuth, Microsoft Graph, ARM, Kubernetes) has one
// renderer that turns them into its own envelope. Message is written for the person who made the
// request: it names the field, the value and what to do next. The cause is for the log alone.
package fault

import (
	"errors"
	"fmt"
)

// Kind says what went wrong in the only terms a protocol renderer needs.
type Kind int

// The kinds. An error that is not an *Error counts as Internal.
const (
	Internal        Kind = iota // our own failure; nothing of it is shown
	NotFound                    // the thing named does not exist, or the caller may not know that it does
	Conflict                    // the request contradicts the present state
	Invalid                     // the request itself is wrong
	Denied                      // the caller is known and may not
	Unauthenticated             // the caller is not known
	Throttled                   // too many requests; RetryAfter says when to come back
	Unavailable                 // this replica cannot answer safely now (stale, starting, stopping)
)

var kindNames = [...]string{"internal", "not found", "conflict", "invalid", "denied", "unauthenticated", "throttled", "unavailable"}

func (k Kind) String() string { return kindNames[k] }

// Error is a failure with a message for the person who caused it.
type Error struct {
	Kind    Kind
	Code    string // the protocol's own code where it is more exact than the kind, e.g. "PropertyChangeNotAllowed"
	Target  string // the field or parameter at fault, if one is
	Message string // what was wrong, with the value, and what to do next
	Cause   error  // for the log; never shown

	RetryAfter int // seconds, with Throttled and Unavailable
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Message + ": " + e.Cause.Error()
	}
	return e.Message
}

func (e *Error) Unwrap() error { return e.Cause }

// New makes an error of a kind from a format and its values.
func New(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// Throttle makes a Throttled error that says when to come back, in seconds.
func Throttle(after int, format string, args ...any) *Error {
	e := New(Throttled, format, args...)
	e.RetryAfter = after
	return e
}

// WithCode adds the protocol's own code to an error made here.
func (e *Error) WithCode(code string) *Error {
	e.Code = code
	return e
}

// At names the field or parameter at fault.
func (e *Error) At(target string) *Error {
	e.Target = target
	return e
}

// Wrap adds the cause that the log shall show.
func (e *Error) Wrap(cause error) *Error {
	e.Cause = cause
	return e
}

// From returns the *Error in err's chain, or an Internal one that wraps err and tells nothing.
func From(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Kind: Internal, Message: "something went wrong on the server; its log has the details under the request id", Cause: err}
}

// Is reports whether err is, or wraps, an error of this kind.
func Is(err error, kind Kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == kind
}
