package arm

import (
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
	"github.com/gatehouse-k8s/gatehouse/rbac"
	"github.com/gatehouse-k8s/gatehouse/sts"
)

// Server is the Azure Resource Manager face.
type Server struct {
	Feed      *feed.Follower
	Tokens    *sts.Verifier
	Providers []Provider
	Audit     *audit.Log
	Log       *slog.Logger     // nil: slog.Default
	Now       func() time.Time // nil: time.Now
	Rand      io.Reader        // nil: crypto/rand
	PollHold  time.Duration    // how long a question for an operation waits for its end; zero: 2 s
}

// Provider serves the resources of a namespace. It must not serve anything outside the routes that it is given: those
// authenticate, authorize and audit.
type Provider interface {
	// Namespace tells what the provider has.
	Namespace() Namespace

	// Mount adds its routes.
	Mount(*Routes)

	// Resources returns its tracked resources in a subscription, in any order.
	Resources(v *feed.View, subscription directory.ID) []Resource

	// RemoveGroup returns what begins the deletion of everything that the provider has in a group. empty: there is
	// nothing. Otherwise the deletion of the last resource ends in Removed or NotRemoved.
	RemoveGroup(v *feed.View, g *Group, by *Operation) (records []feed.Record, empty bool)

	// ManagerOf returns the resource that a resource group of this name belongs to, although there is none in the State, or nil.
	ManagerOf(v *feed.View, subscription directory.ID, group string) *ResourceID
}

// Resource is what every tracked resource has.
type Resource struct {
	ID       ResourceID
	Type     string // in the spelling that the provider answers with
	Location string
	Tags     map[string]string
}

// Routes collects the routes of the face. Patterns are those of web.Mux, with literal segments in the spelling of
// actions, because these are made of them.
type Routes struct {
	server *Server
	mux    *web.Mux
}

// Handler answers an authenticated request, or returns why it did not.
type Handler func(w http.ResponseWriter, q *Request) error

// Handle adds a route for callers whose roles allow the action that method and path stand for.
func (r *Routes) Handle(pattern string, h Handler) {
	r.mux.Handle(pattern, r.server.serve(pattern, true, h))
}

// HandleAnyone adds a route for everyone who has signed in. The handler must show only what Request.May allows.
func (r *Routes) HandleAnyone(pattern string, h Handler) {
	r.mux.Handle(pattern, r.server.serve(pattern, false, h))
}

// Handler makes the face.
func (s *Server) Handler() http.Handler {
	mux := web.NewMux(s.render)
	routes := &Routes{s, mux}
	mux.Handle("GET /metadata/endpoints", s.endpoints)
	s.mountSubscriptions(routes)
	s.mountProviders(routes)
	s.mountGroups(routes)
	for _, p := range s.Providers {
		p.Mount(routes)
	}
	return mux
}

// audiences are what tokens for this face may be for: both names of the service, and its application id.
var audiences = []string{"https://management.core.windows.net/", "https://management.azure.com/", directory.ARM.String()}

// serve is the way of every request.
func (s *Server) serve(pattern string, checked bool, h Handler) web.Handler {
	method, path, _ := strings.Cut(pattern, " ")
	literals := strings.Split(strings.Trim(path, "/"), "/")
	return func(w http.ResponseWriter, r *http.Request) error {
		q := &Request{Request: r, View: s.Feed.View(), Now: s.now(), server: s, checked: checked}
		segments := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
		for i, literal := range literals {
			if !strings.HasPrefix(literal, "{") {
				segments[i] = literal
			}
		}
		var scope string
		q.Action, scope = question(method, segments)
		err := q.admit(scope)
		if err == nil {
			err = h(w, q)
		}
		q.record(err, method != http.MethodGet && method != http.MethodHead)
		return err
	}
}

// admit finds out who asks, and whether they may.
func (q *Request) admit(scope string) error {
	token, err := q.server.Tokens.Bearer(q.View, q.Header.Get("Authorization"), audiences...)
	if err != nil {
		return err
	}
	q.Caller = callerOf(q.View, token)
	if err := checkVersion(q.Request); err != nil {
		return err
	}
	if q.Scope, err = rbac.ParseScope(scope); err != nil {
		return err
	}
	if err := q.findSubscription(); err != nil {
		return err
	}
	return q.authorize(q.View)
}

var versionPattern = regexp.MustCompile(`^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])(-preview|-alpha|-beta|-privatepreview)?$`)

// checkVersion accepts every plausible version: shapes differ little between them, and clients send many.
func checkVersion(r *http.Request) error {
	version := r.URL.Query().Get("api-version")
	switch {
	case version == "":
		return fault.New(fault.Invalid, "The api-version query parameter (?api-version=) is required for all requests.").WithCode("MissingApiVersionParameter")
	case !versionPattern.MatchString(strings.ToLower(version)):
		return fault.New(fault.Invalid, "The api-version %.64q is invalid; it must be a date such as 2022-11-01, or one with -preview after it.", version).
			WithCode("InvalidApiVersionParameter")
	}
	return nil
}

func (s *Server) now() time.Time {
	if s.Now != nil {
		return s.Now().UTC()
	}
	return time.Now().UTC()
}

// pollHold lets clients learn of an operation's end at once, although they ask once a second.
func (s *Server) pollHold() time.Duration {
	if s.PollHold != 0 {
		return s.PollHold
	}
	return 2 * time.Second
}

func (s *Server) random() io.Reader {
	if s.Rand != nil {
		return s.Rand
	}
	return rand.Reader
}

func (s *Server) log() *slog.Logger {
	if s.Log != nil {
		return s.Log
	}
	return slog.Default()
}
