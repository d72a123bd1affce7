package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/aks"
	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/sts"
)

const (
	authentication = "authentication.k8s.io/v1"
	actionTokens   = "tokenreview" // of audit events

	// toldGroups is up to how many groups an API server is told all: it keeps them with every cached request, and one user
	// with 5,000 took it gigabytes.
	toldGroups = 200
)

// notOurs answers tokens that this server cannot have signed. An error beside it would be a line in the API server's log
// for each call of whatever the token belongs to.
var notOurs = []byte(`{"apiVersion":"` + authentication + `","kind":"TokenReview","status":{"authenticated":false}}`)

// answerKey names a token of a cluster.
type answerKey struct {
	token   sts.Hash
	cluster directory.ID
}

// answer is what is kept of a token that was verified. It is immutable.
type answer struct {
	token *sts.Token
	body  []byte // nil: it was refused last time

	// The body is right at this position and revision, in [from, until).
	position    feed.Position
	bound       int64
	from, until time.Time
}

func (a *answer) holds(at feed.Position, bound int64, now time.Time) bool {
	return a.body != nil && a.position == at && a.bound == bound && !now.Before(a.from) && now.Before(a.until)
}

// authenticate answers a TokenReview.
func (s *Server) authenticate(w http.ResponseWriter, r *http.Request) error {
	cluster, err := caller(r)
	if err != nil {
		return err
	}
	return withBody(r, func(body []byte) error {
		q, err := scanTokenReview(body)
		if err != nil {
			return err
		}
		if err := wantVersion(q.apiVersion, authentication, q.kind, "TokenReview", "--authentication-token-webhook-version=v1"); err != nil {
			return err
		}
		view := s.Feed.View() // after the body has come, however long that took
		c, err := in(view, cluster)
		if err != nil {
			return err
		}
		return write(w, s.review(view, c, q.token))
	})
}

// review decides on a token, by what it remembers where that still holds.
func (s *Server) review(view *feed.View, c *aks.Cluster, token []byte) []byte {
	now := s.now().Round(0) // tokens and windows are of the wall clock
	if s.Feed.Stale() {
		return s.refuse(c, nil, audit.Failed, "the database has been silent for too long; nobody is authenticated until it answers", now)
	}
	key := answerKey{sts.HashToken(token), c.GUID}
	has, bound := s.boundGroups(c.GUID)
	before, known := s.answers.Get(key)
	if known && before.holds(view.Position, bound, now) {
		return before.body
	}
	next := &answer{position: view.Position, bound: bound, from: now}
	if known {
		next.token = before.token
	} else {
		var err error
		if next.token, err = s.Tokens.Presented(view, token, key.token); errors.Is(err, sts.ErrForeign) {
			return notOurs
		} else if err != nil {
			return s.refuse(c, nil, audit.Denied, fault.From(err).Message, now)
		}
	}
	id, err := s.decide(view, c, next.token, now, has)
	if err == nil {
		next.body, next.until = id.encode(), id.until
	}
	if err == nil || next.token.Proof == nil { // anybody who has one bound token can make proofs that are refused, as many as they like
		s.answers.Put(key, next)
	}
	if err != nil {
		return s.refuse(c, next.token, audit.Denied, fault.From(err).Message, now)
	}
	if !known || before.body == nil {
		s.allowed(c, next.token, id.name, now)
	}
	return next.body
}

// identity is what an API server is told of a token's owner.
type identity struct {
	name   string
	object directory.ID
	groups []directory.ID
	until  time.Time // the clock alone cannot change any of it before
}

// decide says whose a verified token is, or why it is refused. It depends on its arguments alone.
func (s *Server) decide(view *feed.View, c *aks.Cluster, t *sts.Token, now time.Time, bound func(directory.ID) bool) (identity, error) {
	switch {
	case c.AAD == nil:
		return identity{}, fault.New(fault.Unauthenticated, "the cluster has no Microsoft Entra integration")
	case t.Tenant != c.AAD.Tenant:
		return identity{}, fault.New(fault.Unauthenticated, "the token is of tenant %s and the cluster trusts tenant %s", t.Tenant, c.AAD.Tenant)
	case !isAudience(c.AAD, t.Audience):
		return identity{}, fault.New(fault.Unauthenticated, "the token is for %q and not for the cluster", t.Audience)
	case t.Proof == nil && c.AAD.RequireProof:
		return identity{}, fault.New(fault.Unauthenticated, "the cluster requires proof of possession and this is a bearer token; kubelogin proves with --pop-enabled --pop-claims u=%s", c.ID())
	case t.Proof != nil && !strings.EqualFold(t.Proof.URI, c.ID()):
		return identity{}, fault.New(fault.Unauthenticated, "the proof of possession is for %.200q and not for the cluster, %s", t.Proof.URI, c.ID())
	}
	if err := s.Tokens.Check(view, t, now); err != nil {
		return identity{}, err
	}
	dir := directory.In(view)
	p, ok := principalOf(dir, t.Object)
	if !ok || isReserved(p.name) {
		return identity{}, fault.New(fault.Unauthenticated, "principal %s has no name that may be told to a cluster: %q", t.Object, p.name)
	}
	id := identity{name: p.name, object: t.Object, until: s.Tokens.Until(view, t)}
	var until int64
	id.groups, until = dir.GroupsOf(t.Object, now)
	if change := time.Unix(until, 0); until != 0 && change.Before(id.until) {
		id.until = change
	}
	if len(id.groups) > toldGroups {
		id.groups = slices.DeleteFunc(id.groups, func(g directory.ID) bool { return !bound(g) && !slices.Contains(c.AAD.AdminGroups, g) })
	}
	return id, nil
}

// isAudience reports whether a token with this audience is for the cluster: the AKS server's id and no other spelling of
// it; with legacy integration the server application's id, or the name that version 1 tokens may have instead.
func isAudience(p *aks.AADProfile, audience string) bool {
	if p.Managed {
		return audience == directory.AKSServer.String()
	}
	app := p.ServerApp.String()
	return !p.ServerApp.IsZero() && (audience == app || audience == "spn:"+app)
}

// encode makes the TokenReview that says yes. status.audiences stays empty: echoing what was asked made the token good for
// other audiences inside the cluster. There is no uid, as on AKS: extra.oid is the name that never comes back.
func (id *identity) encode() []byte {
	name, err := json.Marshal(id.name)
	if err != nil {
		panic(err) // strings always encode
	}
	b := make([]byte, 0, 200+len(name)+39*len(id.groups))
	b = append(b, `{"apiVersion":"`+authentication+`","kind":"TokenReview","status":{"authenticated":true,"user":{"username":`...)
	b = append(b, name...)
	b = append(b, `,"groups":[`...)
	for i, g := range id.groups {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendID(b, g)
	}
	b = append(b, `],"extra":{"oid":[`...)
	b = appendID(b, id.object)
	return append(b, `]}}}}`...)
}

func appendID(b []byte, id directory.ID) []byte {
	b, _ = id.AppendText(append(b, '"'))
	return append(b, '"')
}

// refuse makes the TokenReview that says no. Why is for the log: the answer leads there and tells no more.
func (s *Server) refuse(c *aks.Cluster, t *sts.Token, outcome, reason string, now time.Time) []byte {
	x := refusal{action: actionTokens, outcome: outcome, reason: reason}
	if t != nil {
		x.actor, x.client = t.Object, t.Client()
	}
	text := "the token was refused"
	if request := s.note(c, x, now); request != "" {
		text += "; Gatehouse's log has the reason under request " + request
	}
	return []byte(`{"apiVersion":"` + authentication + `","kind":"TokenReview","status":{"authenticated":false,"error":"` + text + `"}}`)
}

// allowed writes the audit event of a token that is let in for the first time, or again.
func (s *Server) allowed(c *aks.Cluster, t *sts.Token, name string, now time.Time) {
	s.Audit.Record(audit.Event{
		Time: now.UTC(), Tenant: t.Tenant.String(), Actor: t.Object.String(), Client: t.Client(),
		Action: actionTokens, Target: c.ID(), Outcome: audit.Allowed, Details: map[string]string{"cluster": c.GUID.String(), "user": name},
	})
}

// wantVersion accepts one kind of object in one version.
func wantVersion(version []byte, wantedVersion string, kind []byte, wantedKind, remedy string) error {
	if string(version) == wantedVersion && string(kind) == wantedKind {
		return nil
	}
	got := fmt.Sprintf("%.64q of %.64q", kind, version)
	return fault.New(fault.Invalid, "this is a %s; only %s of %s is answered here: start the API server with %s", got, wantedKind, wantedVersion, remedy)
}
