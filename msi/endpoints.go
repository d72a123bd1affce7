package msi

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/sts"
)

// Form is one of the forms that clients know.
type Form string

// The forms.
const (
	AppService Form = "appservice"
	IMDS       Form = "imds"
	Arc        Form = "arc"
)

// ParseForm reads a form's name; empty is AppService.
func ParseForm(s string) (Form, error) {
	switch f := Form(strings.ToLower(s)); f {
	case "":
		return AppService, nil
	case AppService, IMDS, Arc:
		return f, nil
	}
	return "", fault.New(fault.Invalid, "the form %.40q is not known; choose appservice, imds or arc", s)
}

// maxEndpoints bounds the listeners that are open at a time.
const maxEndpoints = 64

// Tokens issues the tokens. sts.Server does.
type Tokens interface {
	IdentityToken(r *http.Request, identity directory.ID, resource string) (*sts.IdentityToken, error)
}

// Endpoints are the listeners that are open.
type Endpoints struct {
	Feed   *feed.Follower
	Tokens Tokens
	Proxy  *url.URL // where an IMDS endpoint sends what is for other hosts; nil: nowhere
	Keys   string   // the folder of Arc's key files; empty: where clients look for it
	Audit  *audit.Log
	Log    *slog.Logger     // nil: slog.Default
	Now    func() time.Time // nil: time.Now

	mu     sync.Mutex
	open   map[key]*endpoint
	closed bool
}

// key names an endpoint: there is one for each identity and form.
type key struct {
	identity directory.ID // object id
	form     Form
}

// Endpoint describes an open listener.
type Endpoint struct {
	Form     Form         `json:"form"`
	Resource string       `json:"resource"` // ARM id of what the identity belongs to
	Name     string       `json:"name"`
	Client   directory.ID `json:"clientId"`
	Tenant   directory.ID `json:"tenantId"`
	Address  string       `json:"address"` // 127.0.0.1:port
	Since    time.Time    `json:"since"`
}

// Opened is an endpoint with what opens it.
type Opened struct {
	Endpoint
	Secret string `json:"secret"` // empty for Arc, whose secrets are files
}

// Open opens a listener for an identity, by the name and tenant that directory.State.FindManagedIdentity takes. One that is open already is
// returned again, with its secret: whoever may open it may know that. Only the owner of the data directory may.
func (e *Endpoints) Open(name string, tenant directory.ID, form Form) (*Opened, error) {
	sp, err := directory.In(e.Feed.View()).FindManagedIdentity(name, tenant)
	if err != nil {
		return nil, err
	}
	if form == Arc && sp.Explicit {
		return nil, fault.New(fault.Invalid, "%s is a user-assigned identity, and the Arc form has system-assigned ones only; leave --form arc out, or give the resource id of a cluster", sp.Resource)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, fault.New(fault.Unavailable, "the server is stopping")
	}
	e.pruneLocked()
	k := key{sp.ID, form}
	if p := e.open[k]; p != nil {
		e.note(p, owner, "handed out again")
		return &Opened{p.Endpoint, p.secret}, nil
	}
	if len(e.open) >= maxEndpoints {
		return nil, fault.New(fault.Conflict, "%d identity endpoints are open, which is the most that can be; close one first: gatehouse env --identity NAME --stop", len(e.open))
	}
	p := &endpoint{
		Endpoint: Endpoint{Form: form, Resource: sp.Resource, Name: sp.DisplayName, Client: sp.AppID, Tenant: sp.Tenant, Since: e.now().UTC()},
		identity: sp.ID, endpoints: e,
	}
	if form != Arc {
		p.secret = rand.Text()
	} else if p.challenges, err = newChallenges(cmp.Or(e.Keys, keyFolder), e.now); err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for identity %s: %w", sp.Resource, err)
	}
	p.Address = ln.Addr().String()
	p.server = &http.Server{
		Handler: p.handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 32 << 10,
		ErrorLog: slog.NewLogLogger(e.log().Handler(), slog.LevelDebug),
	}
	go func() {
		if err := p.server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			e.log().Error("an identity endpoint ended", "identity", sp.Resource, "err", err)
			e.drop(k, p)
		}
	}()
	if e.open == nil {
		e.open = map[key]*endpoint{}
	}
	e.open[k] = p
	e.note(p, owner, "opened")
	return &Opened{p.Endpoint, p.secret}, nil
}

// Close closes the listeners of an identity; an empty form closes those of all forms. It returns which were open; if none was, that
// is fault.NotFound. Name and tenant may be those that Open took, also if the identity has been deleted since. Only the owner of the data
// directory may.
func (e *Endpoints) Close(name string, tenant directory.ID, form Form) ([]Endpoint, error) {
	dir := directory.In(e.Feed.View())
	sp, missing := dir.FindManagedIdentity(name, tenant)
	if missing != nil && !fault.Is(missing, fault.NotFound) {
		return nil, missing // several have the name
	}
	e.mu.Lock()
	var ended []*endpoint
	for k, p := range e.open {
		if (form == "" || k.form == form) && (sp != nil && sp.ID == k.identity || sp == nil && dir.ServicePrincipal(k.identity) == nil && p.called(name, tenant)) {
			ended = append(ended, p)
			delete(e.open, k)
		}
	}
	e.mu.Unlock()
	if len(ended) == 0 {
		if missing != nil {
			return nil, missing
		}
		return nil, fault.New(fault.NotFound, "no endpoint is open for the identity %.300s; gatehouse status lists those that are", name)
	}
	out := describe(ended)
	for _, p := range ended {
		p.stop()
		e.note(p, owner, "closed")
	}
	return out, nil
}

// List returns the open endpoints, ordered by resource.
func (e *Endpoints) List() []Endpoint {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pruneLocked()
	all := make([]*endpoint, 0, len(e.open))
	for _, p := range e.open {
		all = append(all, p)
	}
	return describe(all)
}

// Sweep closes the endpoints whose identity is gone. Until then they only refuse.
func (e *Endpoints) Sweep() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pruneLocked()
}

// Shutdown closes all endpoints, for good.
func (e *Endpoints) Shutdown(context.Context) error {
	e.mu.Lock()
	all := e.open
	e.open, e.closed = nil, true
	e.mu.Unlock()
	for _, p := range all {
		p.stop()
	}
	return nil
}

// Who opens and closes endpoints, as an audit event's address. Neither has an account.
const (
	owner     = "control socket" // of the data directory
	ourselves = ""
)

// note records what has become of an endpoint. The secret of one that is handed out again serves as well as that of a new one.
func (e *Endpoints) note(p *endpoint, by, what string) {
	e.Audit.Record(audit.Event{
		Time: e.now().UTC(), Tenant: p.Tenant.String(), Address: by, Action: "identity endpoint", Target: p.Resource, Outcome: audit.Allowed,
		Details: map[string]string{"change": what, "identity": p.identity.String(), "form": string(p.Form), "address": p.Address},
	})
	e.log().Info("identity endpoint "+what, "identity", p.Resource, "form", p.Form, "address", p.Address)
}

func (e *Endpoints) pruneLocked() {
	dir := directory.In(e.Feed.View())
	for k, p := range e.open {
		if dir.ServicePrincipal(k.identity) == nil {
			delete(e.open, k)
			p.stop()
			e.note(p, ourselves, "closed, as the identity is gone")
		}
	}
}

func (e *Endpoints) drop(k key, p *endpoint) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.open[k] == p {
		delete(e.open, k)
	}
	p.stop()
}

func describe(all []*endpoint) []Endpoint {
	out := make([]Endpoint, 0, len(all))
	for _, p := range all {
		out = append(out, p.Endpoint)
	}
	slices.SortFunc(out, func(a, b Endpoint) int {
		return cmp.Or(strings.Compare(a.Resource, b.Resource), strings.Compare(string(a.Form), string(b.Form)))
	})
	return out
}

func (e *Endpoints) now() time.Time {
	if e.Now != nil {
		return e.Now()
	}
	return time.Now()
}

func (e *Endpoints) log() *slog.Logger {
	if e.Log != nil {
		return e.Log
	}
	return slog.Default()
}
