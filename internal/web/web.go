// Package web is the little that all HTTP faces share: handlers that return errors, routes that do not
// care about letter case, request ids, limits.
package web

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/fault"
)

// Handler answers a request or returns why it did not. One that returns an error must not have written anything.
type Handler func(w http.ResponseWriter, r *http.Request) error

// Renderer writes an error in the envelope of one protocol.
type Renderer func(w http.ResponseWriter, r *http.Request, err error)

// Mux routes by the patterns of http.ServeMux, but literal segments match in any letter case, as the Azure services
// have it. Wildcards keep the caller's spelling.
type Mux struct {
	mux    *http.ServeMux
	render Renderer
}

// NewMux makes a mux whose errors, its own 404 and 405 among them, are written by render.
func NewMux(render Renderer) *Mux {
	return &Mux{mux: http.NewServeMux(), render: render}
}

// Handle adds a route.
func (m *Mux) Handle(pattern string, h Handler) {
	method, path, ok := strings.Cut(pattern, " ")
	if !ok {
		method, path = "", pattern
	}
	segments := strings.Split(path, "/")
	lowered := make([]string, len(segments))
	for i, s := range segments {
		lowered[i] = s
		if !strings.HasPrefix(s, "{") {
			lowered[i] = strings.ToLower(s)
		}
	}
	m.mux.Handle(strings.TrimSpace(method+" "+strings.Join(lowered, "/")), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		restore(r, segments)
		if err := h(w, r); err != nil {
			m.render(w, r, err)
		}
	}))
}

type originalPath struct{}

// restore sets the path values to the caller's spelling, which matching on the lowered path has lost.
func restore(r *http.Request, segments []string) {
	if path, ok := r.Context().Value(originalPath{}).(string); ok {
		r.URL.Path = path
	}
	pieces := strings.Split(r.URL.Path, "/")
	for i, s := range segments {
		if !strings.HasPrefix(s, "{") || s == "{$}" || i >= len(pieces) {
			continue
		}
		name := strings.Trim(s, "{}")
		if rest, ok := strings.CutSuffix(name, "..."); ok {
			r.SetPathValue(rest, strings.Join(pieces[i:], "/"))
		} else {
			r.SetPathValue(name, pieces[i])
		}
	}
}

// ServeHTTP implements http.Handler.
func (m *Mux) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// Several slashes in a row count as one: az sends "//metadata" when an endpoint is configured with a slash at its end.
	path := r.URL.Path
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	lowered := strings.ToLower(path)
	if path != r.URL.Path || lowered != path || r.URL.RawPath != "" {
		r = r.WithContext(context.WithValue(r.Context(), originalPath{}, path))
		u := *r.URL
		u.Path, u.RawPath = lowered, ""
		r.URL = &u
	}
	handler, pattern := m.mux.Handler(r)
	if pattern == "" {
		r.URL.Path = path
		m.render(w, r, m.unrouted(r, lowered))
		return
	}
	handler.ServeHTTP(w, r) // which sets the path values itself
}

func (m *Mux) unrouted(r *http.Request, lowered string) error {
	probe := r.Clone(r.Context())
	probe.URL.Path = lowered
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		probe.Method = method
		if _, pattern := m.mux.Handler(probe); pattern != "" {
			return fault.New(fault.Invalid, "the method %s is not supported for %s", r.Method, r.URL.Path).WithCode("MethodNotAllowed")
		}
	}
	return fault.New(fault.NotFound, "there is nothing at %s", r.URL.Path)
}

type requestKey struct{}

// Requests gives every request an id, limits its body and logs its outcome: never the query, which may hold codes.
func Requests(next http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := NewGUID()
		start := time.Now()
		r = r.WithContext(context.WithValue(r.Context(), requestKey{}, id))
		w.Header().Set("x-ms-request-id", id)
		if c := r.Header.Get("x-ms-client-request-id"); c != "" && strings.EqualFold(r.Header.Get("x-ms-return-client-request-id"), "true") && len(c) <= 128 {
			w.Header().Set("x-ms-client-request-id", c)
		}
		r.Body = http.MaxBytesReader(w, r.Body, MaxBody)
		// A deadline costs HTTP/2 a message between goroutines. There a client may say that the length is 0, or nonsense, which net/http
		// takes for 0, and still keep its body open.
		if r.ContentLength != 0 || r.Header["Content-Length"] != nil {
			http.NewResponseController(w).SetReadDeadline(start.Add(bodyTime)) // a writer without deadlines is a test's
		}
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		defer func() {
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler {
					panic(p)
				}
				log.Error("handler panicked", "request", id, "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
				if !rec.wrote {
					http.Error(w, "internal error; request id "+id, http.StatusInternalServerError)
				}
				return
			}
			if log.Enabled(r.Context(), slog.LevelInfo) {
				log.Info("request", "id", id, "method", r.Method, "host", r.Host, "path", r.URL.Path, "status", rec.status, "ms", time.Since(start).Milliseconds())
			}
		}()
		next.ServeHTTP(rec, r)
	})
}

// MaxBody is the largest request body that any face accepts, in bytes.
const MaxBody = 4 << 20

// bodyTime is how long a request may take to arrive, so that idle senders cannot hold the connections that others need.
const bodyTime = 30 * time.Second

type recorder struct {
	http.ResponseWriter
	status int
	wrote  bool
}

func (r *recorder) WriteHeader(status int) {
	if !r.wrote {
		r.status, r.wrote = status, true
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	r.wrote = true
	return r.ResponseWriter.Write(b)
}

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// RequestID returns the id of the request that ctx belongs to, or "".
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}

// NewGUID makes a random GUID for request ids.
func NewGUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// ClientIP is the address the request came from, or the zero address when it is not an IP.
func ClientIP(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	addr, _ := netip.ParseAddr(host)
	return addr.Unmap()
}

// WriteJSON writes v with a status.
func WriteJSON(w http.ResponseWriter, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	w.Write(append(body, '\n')) // a client that has gone away needs no answer
	return nil
}

// ReadJSON reads the body into v. An empty body leaves v as it is.
func ReadJSON(r *http.Request, v any) error {
	body, err := io.ReadAll(r.Body)
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return fault.New(fault.Invalid, "the request body is larger than %d bytes; send less", tooLarge.Limit)
	}
	if err != nil {
		return fault.New(fault.Invalid, "the request body ended early; send it again").Wrap(err)
	}
	if len(body) == 0 {
		return nil
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fault.New(fault.Invalid, "the request body is not the JSON expected here: %s", err)
	}
	return nil
}

// Status is the HTTP status that fits a kind of failure where the protocol has no other rule.
func Status(k fault.Kind) int {
	switch k {
	case fault.NotFound:
		return http.StatusNotFound
	case fault.Conflict:
		return http.StatusConflict
	case fault.Invalid:
		return http.StatusBadRequest
	case fault.Denied:
		return http.StatusForbidden
	case fault.Unauthenticated:
		return http.StatusUnauthorized
	case fault.Throttled:
		return http.StatusTooManyRequests
	case fault.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}
