package graph

import (
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/internal/guess"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
	"github.com/gatehouse-k8s/gatehouse/signin"
	"github.com/gatehouse-k8s/gatehouse/sts"
)

// cloudHost is the name under which clients of the public cloud know this API.
const cloudHost = "graph.microsoft.com"

// version is the version of the API, as the first segment of every path but the few that only beta has.
const version = "/v1.0"

// Server is the HTTP face of the directory.
type Server struct {
	Feed      *feed.Follower
	Directory *directory.Directory
	Tokens    *sts.Verifier
	SignIns   *signin.Log // nil: there is no sign-in log
	Audit     *audit.Log
	Base      string           // the public URL, for links that people open, and when a request names no host; e.g. https://localhost:8443
	Log       *slog.Logger     // nil: slog.Default
	Now       func() time.Time // nil: time.Now

	once    sync.Once
	reads   int            // entries of the sign-in log that a page looks at
	guesses *guess.Limiter // of present passwords at changePassword
}

// Handler returns the face.
func (s *Server) Handler() http.Handler {
	s.once.Do(func() { s.guesses, s.reads = guess.New(presentGuesses, s.now), signInsRead })
	m := web.NewMux(s.render)
	s.mountUsers(m)
	s.mountAuthentication(m)
	s.mountInvitations(m)
	s.mountGroups(m)
	s.mountApplications(m)
	s.mountDirectoryObjects(m)
	s.mountOrganization(m)
	s.mountConsent(m)
	s.mountSignIns(m)
	return keySegments(m)
}

// base is what links to this API begin with: the cloud's name for clients that came by it, else the host that the
// request names, which is always reached over TLS.
func (s *Server) base(r *http.Request) string {
	switch {
	case strings.EqualFold(r.Host, cloudHost):
		return "https://" + cloudHost
	case r.Host == "":
		return s.Base
	}
	return "https://" + r.Host
}

// keySegments turns OData's other form of a key into a path segment: /users('a@b') is /users/a@b, and
// /applications(appId='1') is /applications/appId=1.
func keySegments(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.URL.Path, "(") {
			next.ServeHTTP(w, r)
			return
		}
		segments := strings.Split(r.URL.Path, "/")
		for i, segment := range segments {
			segments[i] = keySegment(segment)
		}
		u := *r.URL
		u.Path, u.RawPath = strings.Join(segments, "/"), ""
		r = r.WithContext(r.Context()) // a copy
		r.URL = &u
		next.ServeHTTP(w, r)
	})
}

func keySegment(segment string) string {
	set, key, ok := strings.Cut(segment, "(")
	key, closed := strings.CutSuffix(key, ")")
	if !ok || !closed || set == "" {
		return segment
	}
	name, value, named := strings.Cut(key, "=")
	if !named {
		name, value = "", key
	}
	if len(value) < 2 || value[0] != '\'' || value[len(value)-1] != '\'' {
		return segment
	}
	value = strings.ReplaceAll(value[1:len(value)-1], "''", "'")
	if named {
		value = name + "=" + value
	}
	return set + "/" + value
}

func (s *Server) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

func (s *Server) log() *slog.Logger {
	if s.Log != nil {
		return s.Log
	}
	return slog.Default()
}
