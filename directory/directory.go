package directory

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"sync/atomic"
	"time"

	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
)

// Directory writes to the directory. Each method checks the caller's rights and every rule against the state at
// the head of the feed, commits once, and returns when this process's view has the change.
type Directory struct {
	Feed   *feed.Follower
	Hasher *Hasher
	Now    func() time.Time // nil: time.Now
	Rand   io.Reader        // nil: crypto/rand

	serverKey atomic.Pointer[[]byte] // for client secrets, once it was read; it never changes
}

// Actor is who asks for a change.
type Actor struct {
	ID     ID // object id of a user or service principal
	Tenant ID
	system bool
}

// System acts for the server itself: at first start, and for what follows from a change somebody else was allowed to make.
var System = Actor{system: true}

// State returns the directory as this process knows it now.
func (d *Directory) State() *State { return In(d.Feed.View()) }

// plan collects the records of one write and sees the state that it starts from.
type plan struct {
	*State
	now     time.Time
	secrets feed.Secrets
	change  feed.Change
	rand    io.Reader
}

func (p *plan) newID() (ID, error) { return NewID(p.rand) }

func (p *plan) put(kind feed.Kind, key string, tenant ID, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own types always encode
	}
	p.change.Records = append(p.change.Records, feed.Record{Kind: kind, Key: key, Tenant: tenant.String(), Body: body})
}

func (p *plan) delete(kind feed.Kind, key string, tenant ID) {
	p.change.Records = append(p.change.Records, feed.Record{Kind: kind, Key: key, Tenant: tenant.String()})
}

func (p *plan) putSecret(kind feed.Kind, key string, tenant ID, body []byte, expires time.Time) {
	p.change.Secrets = append(p.change.Secrets, feed.Secret{
		Record: feed.Record{Kind: kind, Key: key, Tenant: tenant.String(), Body: body}, Expires: expires,
	})
}

// update runs one plan. The caller must still be an enabled account when it commits.
func (d *Directory) update(ctx context.Context, by Actor, do func(*plan) error) error {
	return d.Feed.Update(ctx, func(v *feed.View, secrets feed.Secrets) (feed.Change, error) {
		p := &plan{State: In(v), now: d.now(), secrets: secrets, rand: d.random()}
		if !by.system && !p.Active(by.ID) {
			return feed.Change{}, fault.New(fault.Unauthenticated, "the account %s is disabled or deleted; sign in with another one", by.ID)
		}
		if err := do(p); err != nil {
			return feed.Change{}, err
		}
		return p.change, nil
	})
}

// Active reports whether a principal exists, is enabled and may act: a guest only while the account at home may, too.
func (s *State) Active(id ID) bool {
	if u := s.User(id); u != nil {
		home := s.Home(u)
		return u.Enabled && home != nil && home.Enabled
	}
	if p := s.ServicePrincipal(id); p != nil {
		return p.Enabled
	}
	return false
}

// mayWrite is the rule of this directory for every write: Global Administrators of the tenant, applications that have been given one of
// some app roles of Microsoft Graph, and the server itself.
func (s *State) mayWrite(by Actor, tenant ID, roles ...string) error {
	if by.system || (s.tenantOf(by.ID) == tenant && (s.HasRole(by.ID, GlobalAdministrator) || len(roles) > 0 && s.HasGraphRole(by.ID, roles...))) {
		return nil
	}
	return errInsufficient()
}

func errInsufficient() error {
	return fault.New(fault.Denied, "Insufficient privileges to complete the operation.").WithCode("Authorization_RequestDenied")
}

// ErrNoObject is what Microsoft Graph says of an id that names nothing (in this tenant).
func ErrNoObject(id string) error {
	return fault.New(fault.NotFound, "Resource '%s' does not exist or one of its queried reference-property objects are not present.", id).
		WithCode("Request_ResourceNotFound")
}

func (d *Directory) now() time.Time {
	if d.Now != nil {
		return d.Now().UTC()
	}
	return time.Now().UTC()
}

func (d *Directory) random() io.Reader {
	if d.Rand != nil {
		return d.Rand
	}
	return rand.Reader
}
