package graph

import (
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
	"github.com/gatehouse-k8s/gatehouse/sts"
)

// call is one authenticated request: who asks, and the state that it is answered from.
type call struct {
	*Server
	w http.ResponseWriter
	r *http.Request

	view   *feed.View
	dir    *directory.State
	token  *sts.Token
	tenant directory.ID
	now    time.Time
	need   need // of the route

	target  string            // for the audit: what was changed
	details map[string]string // for the audit
}

// need is what a route asks of its caller.
type need int

const (
	profile need = iota // a signed-in user of any kind: reads about themselves
	account             // the same, for a change of one's own account
	read                // may read the directory
	write               // changes the directory; package directory decides who may
	logs                // reads the sign-in log
)

// audiences are the names of this API in tokens.
var audiences = []string{"https://" + cloudHost, directory.Graph.String(), "spn:" + directory.Graph.String()}

// route adds a route under the API's version.
func (s *Server) route(m *web.Mux, pattern string, n need, answer func(*call) error) {
	s.routeAt(m, version, pattern, n, answer)
}

// routeAt adds a route under a version.
func (s *Server) routeAt(m *web.Mux, version, pattern string, n need, answer func(*call) error) {
	method, path, _ := strings.Cut(pattern, " ")
	in := areaOf(path)
	m.Handle(method+" "+version+path, func(w http.ResponseWriter, r *http.Request) error {
		c := &call{Server: s, w: w, r: r, view: s.Feed.View(), now: s.now(), need: n}
		c.dir = directory.In(c.view)
		err := c.admit(in)
		if err == nil {
			err = answer(c)
		}
		c.record(pattern, err)
		return err
	})
}

// admit authenticates the caller and holds it against what the route needs.
func (c *call) admit(in area) (err error) {
	n := c.need
	if c.token, err = c.Tokens.Bearer(c.view, c.r.Header.Get("Authorization"), audiences...); err != nil {
		return err
	}
	c.tenant = c.token.Tenant
	if n == logs {
		return c.mayReadLogs(in)
	}
	if c.token.AppOnly() {
		switch {
		case n == profile || n == account:
			return fault.New(fault.Invalid, "/me request is only valid with delegated authentication flow; this token speaks for an application, use /servicePrincipals/%s", c.token.Object).
				WithCode("Request_BadRequest")
		case n == read && !c.permits(in.read), n != read && !c.permits(in.write):
			return errInsufficient("the application holds neither a directory role nor one of the permissions for this")
		}
		return nil
	}
	user := c.dir.User(c.token.Object)
	switch {
	case n == profile:
		return nil
	case n == read && !c.permits(in.read), n != read && !c.permits(in.write):
		return errInsufficient("the token's scopes do not suffice: " + c.token.Scopes)
	case n == account:
		return nil
	case user == nil || user.Type != directory.Member:
		return errInsufficient("guests may only read about themselves")
	}
	return nil
}

// errInsufficient is Graph's answer to everyone who may not; why is for the audit and the log.
func errInsufficient(why string) error {
	return fault.New(fault.Denied, "Insufficient privileges to complete the operation.").WithCode("Authorization_RequestDenied").Wrap(reason(why))
}

type reason string

func (r reason) Error() string { return string(r) }

// record audits writes and refusals.
func (c *call) record(pattern string, err error) {
	e := audit.Event{
		Time: c.now.UTC(), Request: web.RequestID(c.r.Context()), Address: web.ClientIP(c.r).String(),
		Action: pattern, Target: c.target, Details: maps.Clone(c.details),
	}
	if e.Target == "" {
		e.Target = c.r.PathValue("id")
	}
	if c.token != nil {
		e.Tenant, e.Actor, e.Client = c.tenant.String(), c.token.Object.String(), c.token.Client()
	}
	if e.Conclude(err, c.need == write || c.need == account) {
		c.Audit.Record(e)
	}
}

// changed notes what a write was done to.
func (c *call) changed(id directory.ID) { c.target = id.String() }

// detail notes a further fact about a write. It must not be secret.
func (c *call) detail(name, value string) {
	if c.details == nil {
		c.details = map[string]string{}
	}
	c.details[name] = value
}

// refresh takes the newest view, so that an answer shows the write before it.
func (c *call) refresh() {
	c.view = c.Feed.View()
	c.dir = directory.In(c.view)
}

func (c *call) actor() directory.Actor { return c.token.Actor() }
