package sts

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// oauthError is Entra's error body: RFC 6749 section 5.2 and its own members.
type oauthError struct {
	Error         string `json:"error"`
	Description   string `json:"error_description"`
	Codes         []int  `json:"error_codes"`
	Timestamp     string `json:"timestamp"`
	TraceID       string `json:"trace_id"`
	CorrelationID string `json:"correlation_id"`
	URI           string `json:"error_uri,omitempty"`
	Suberror      string `json:"suberror,omitempty"`
	Claims        string `json:"claims,omitempty"` // JSON in a string
}

// render is the OAuth renderer.
func (s *Server) render(w http.ResponseWriter, r *http.Request, err error) {
	f := asRefusal(err, r)
	entry := catalogue[f.number]
	status := entry.status
	if fault.Is(err, fault.NotFound) {
		status = http.StatusNotFound
	}
	trace, correlation := traceID(r), correlationID(r)
	if status >= http.StatusInternalServerError && r.Context().Err() == nil {
		s.log().Error("request failed", "request", trace, "path", r.URL.Path, "err", err)
	}
	at := s.now().UTC().Format("2006-01-02 15:04:05Z")
	body := oauthError{
		Error:       entry.error,
		Description: s.describe(f, r),
		Codes:       []int{f.number}, Timestamp: at, TraceID: trace, CorrelationID: correlation,
		URI:      s.Authorities.Public + "/error?code=" + strconv.Itoa(f.number),
		Suberror: f.suberror, Claims: f.claims,
	}
	if entry.v1 != "" && !strings.Contains(strings.ToLower(r.URL.Path), "/v2.0/") {
		body.Error = entry.v1
	}
	noStore(w)
	s.echoHeaders(w, r)
	if f.fault.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(f.fault.RetryAfter))
	}
	if status == http.StatusUnauthorized && r.Header.Get("Authorization") != "" {
		w.Header().Set("WWW-Authenticate", `Basic realm="`+s.Authorities.Public+`"`) // RFC 6749 section 5.2
	}
	if err := web.WriteJSON(w, status, body); err != nil {
		s.log().Error("an error could not be written", "request", trace, "err", err)
	}
}

// describe is the text of an error, with what finds it in the log.
func (s *Server) describe(f *refusal, r *http.Request) string {
	return "AADSTS" + strconv.Itoa(f.number) + ": " + f.fault.Message + " Trace ID: " + traceID(r) + " Correlation ID: " + correlationID(r) +
		" Timestamp: " + s.now().UTC().Format("2006-01-02 15:04:05Z")
}

// asRefusal gives every error a number of the catalogue.
func asRefusal(err error, r *http.Request) *refusal {
	var own *refusal
	if errors.As(err, &own) {
		return own
	}
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return fail(9002313, "the body is larger than "+strconv.FormatInt(tooLarge.Limit, 10)+" bytes")
	}
	f := fault.From(err)
	switch {
	case f.Code == "MethodNotAllowed":
		return fail(900561, r.Method)
	case f.Kind == fault.Internal:
		return fail(50000)
	case f.Kind == fault.Unavailable:
		return fail(90033)
	case f.Kind == fault.Throttled:
		return fail(90055, web.ClientIP(r))
	}
	return fail(9002313, strings.TrimSuffix(f.Message, "."))
}

// echoHeaders sets the headers that clients and support expect of every answer.
func (s *Server) echoHeaders(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("x-ms-request-id", traceID(r))
	w.Header().Set("x-ms-ests-server", "gatehouse")
	if strings.EqualFold(r.Header.Get("return-client-request-id"), "true") {
		w.Header().Set("client-request-id", correlationID(r))
	}
}

// traceID is the request's id, which its log lines have too.
func traceID(r *http.Request) string {
	if id := web.RequestID(r.Context()); id != "" {
		return id
	}
	return "00000000-0000-0000-0000-000000000000"
}

// correlationID is the id that the client gave the request, if it is a GUID, or the trace id.
func correlationID(r *http.Request) string {
	if id, err := directory.ParseID(r.Header.Get("client-request-id")); err == nil {
		return id.String()
	}
	return traceID(r)
}

// epoch writes a time as version 1 answers do: Unix seconds in a string.
func epoch(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }
