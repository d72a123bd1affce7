package graph

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
	"github.com/gatehouse-k8s/gatehouse/sts"
)

// errorBody is Graph's envelope (Microsoft Graph "error responses").
type errorBody struct {
	Error struct {
		Code    string     `json:"code"`
		Message string     `json:"message"`
		Inner   innerError `json:"innerError"`
	} `json:"error"`
}

type innerError struct {
	Date            string `json:"date"`
	RequestID       string `json:"request-id"`
	ClientRequestID string `json:"client-request-id"`
}

// statuses hold the codes whose status is not that of the error's kind.
var statuses = map[string]int{
	codeBadRequest:     http.StatusBadRequest, // also where the directory speaks of a conflict
	"MethodNotAllowed": http.StatusMethodNotAllowed,
}

// Codes of errors that this package makes itself.
const (
	codeBadRequest  = "Request_BadRequest"
	codeUnsupported = "Request_UnsupportedQuery"
)

// render is the one place that writes errors.
func (s *Server) render(w http.ResponseWriter, r *http.Request, err error) {
	e := fault.From(err)
	id := web.RequestID(r.Context())
	if id == "" {
		id = web.NewGUID()
	}
	var body errorBody
	body.Error.Code, body.Error.Message = codeOf(e), e.Message
	body.Error.Inner = innerError{Date: s.now().UTC().Format("2006-01-02T15:04:05"), RequestID: id, ClientRequestID: clientRequestID(r, id)}
	status, ok := statuses[e.Code]
	if !ok {
		status = web.Status(e.Kind)
	}
	switch e.Kind {
	case fault.Internal:
		s.log().Error("graph request failed", "request", id, "method", r.Method, "path", r.URL.Path, "err", err)
	case fault.Unauthenticated:
		s.log().Info("graph token refused", "request", id, "path", r.URL.Path, "why", err.Error())
		body.Error.Message = tokenMessage(e)
		w.Header().Set("WWW-Authenticate", `Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", client_id="00000003-0000-0000-c000-000000000000"`)
	}
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(e.RetryAfter))
	}
	w.Header().Set("request-id", id)
	w.Header().Set("client-request-id", body.Error.Inner.ClientRequestID)
	if err := web.WriteJSON(w, status, &body); err != nil {
		s.log().Error("an error could not be rendered", "request", id, "err", err)
	}
}

func codeOf(e *fault.Error) string {
	if e.Kind == fault.Unauthenticated {
		return "InvalidAuthenticationToken"
	}
	if e.Code != "" {
		return e.Code
	}
	switch e.Kind {
	case fault.NotFound:
		return "Request_ResourceNotFound"
	case fault.Denied:
		return "Authorization_RequestDenied"
	case fault.Throttled:
		return "TooManyRequests"
	case fault.Unavailable:
		return "ServiceUnavailable"
	case fault.Internal:
		return "InternalServerError"
	}
	return codeBadRequest
}

// tokenMessage tells a client what to do about its token, and nothing about the account behind it.
func tokenMessage(e *fault.Error) string {
	switch e.Code {
	case "AuthenticationFailed":
		return "Access token is empty: send the header 'Authorization: Bearer <token>'."
	case "ExpiredAuthenticationToken":
		return "Lifetime validation failed, the token is expired; sign in again."
	case "InvalidAuthenticationTokenAudience":
		return "Access token validation failure. Invalid audience: ask for a token for https://" + cloudHost + "/."
	}
	if errors.Is(e, sts.ErrBound) {
		return e.Message
	}
	return "Access token validation failure; the token is not valid, or no longer. Sign in again."
}

// clientRequestID returns the id that the client gave the request, or ours.
func clientRequestID(r *http.Request, id string) string {
	for _, name := range []string{"client-request-id", "x-ms-client-request-id"} {
		if given := r.Header.Get(name); given != "" && len(given) <= 128 && printable(given) {
			return given
		}
	}
	return id
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// errBadRequest makes a refusal of what the client wrote.
func errBadRequest(format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, format, args...).WithCode(codeBadRequest)
}

// errUnsupported makes a refusal of a query that is well formed but not answered.
func errUnsupported(format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, format, args...).WithCode(codeUnsupported)
}
