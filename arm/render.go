package arm

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
	"github.com/gatehouse-k8s/gatehouse/sts"
)

// codes are the error codes for failures that have none of their own.
var codes = map[fault.Kind]string{
	fault.Internal:        "InternalServerError",
	fault.NotFound:        "NotFound",
	fault.Conflict:        "Conflict",
	fault.Invalid:         "BadRequest",
	fault.Denied:          "AuthorizationFailed",
	fault.Unauthenticated: "InvalidAuthenticationToken",
	fault.Throttled:       "TooManyRequests",
	fault.Unavailable:     "ServiceUnavailable",
}

// statuses are those of codes that differ from their kind's.
var statuses = map[string]int{
	"PreconditionFailed": http.StatusPreconditionFailed,
	"MethodNotAllowed":   http.StatusMethodNotAllowed,
}

type envelope struct {
	Error errorBody `json:"error"`
}

type errorBody struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Target  string `json:"target,omitempty"`
}

// Message is a failure as operations keep it.
func Message(err error) *ErrorMessage {
	e := fault.From(err)
	code := e.Code
	if code == "" {
		code = codes[e.Kind]
	}
	return &ErrorMessage{Code: code, Message: e.Message}
}

// render writes an error in ARM's envelope (resource provider contract, "Error Response Content"). Whatever is not an
// error of ours shows nothing of the inside.
func (s *Server) render(w http.ResponseWriter, r *http.Request, err error) {
	e := fault.From(err)
	if e.Kind == fault.Internal {
		s.log().Error("request failed", "request", web.RequestID(r.Context()), "method", r.Method, "path", r.URL.Path, "err", err)
	}
	message := Message(err)
	if e.Kind == fault.Unauthenticated {
		message.Message = s.challenge(w, r, e)
	}
	status := web.Status(e.Kind)
	if own, ok := statuses[message.Code]; ok {
		status = own
	}
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(e.RetryAfter))
	}
	w.Header().Set("x-ms-error-code", message.Code)
	body := envelope{errorBody{Code: message.Code, Message: message.Message, Target: e.Target}}
	if err := web.WriteJSON(w, status, body); err != nil {
		s.log().Error("an error could not be written", "err", err)
	}
}

// challenge adds the header that says where to sign in (RFC 6750 section 3), and returns what the caller is told. Why
// exactly a token is not accepted is for the log: only that it has expired, is for something else, or is bound to a key, helps
// an honest client.
func (s *Server) challenge(w http.ResponseWriter, r *http.Request, e *fault.Error) string {
	s.log().Info("request not authenticated", "request", web.RequestID(r.Context()), "path", r.URL.Path, "reason", e.Message)
	message, problem := e.Message, "invalid_token"
	if (e.Code == "" || e.Code == "InvalidAuthenticationToken") && !errors.Is(e, sts.ErrBound) {
		message = "The access token is invalid or no longer in force. Sign in again; with the Azure CLI: az logout, then az login"
	}
	if errors.Is(e, sts.ErrRevoked) {
		problem = "insufficient_claims\", claims=\"" + freshToken(s.now())
	}
	tenant := "common"
	if seg := strings.Split(strings.Trim(r.URL.Path, "/"), "/"); len(seg) > 1 && strings.EqualFold(seg[0], "subscriptions") {
		if id, err := directory.ParseID(seg[1]); err == nil {
			if sub := In(s.Feed.View()).Subscription(id); sub != nil {
				tenant = sub.Tenant.String()
			}
		}
	}
	w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer authorization_uri="%s/%s", error="%s", error_description="%s"`,
		addressesFor(r).login, tenant, problem, quotable(message)))
	return message
}

// freshToken is a claims challenge (Microsoft identity platform "claims challenges"): it makes a client that understands it
// ask for a token issued after now, instead of showing the one in its cache again.
func freshToken(now time.Time) string {
	return base64.StdEncoding.EncodeToString(fmt.Appendf(nil, `{"access_token":{"nbf":{"essential":true,"value":"%d"}}}`, now.Unix()))
}

// quotable leaves out what may not stand in a quoted string of a header (RFC 9110 section 5.6.4).
func quotable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return -1
		}
		return r
	}, s)
}
