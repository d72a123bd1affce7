package arm

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/rbac"
)

// Part is the name of this package's part of a view.
const Part = "arm"

// Kinds of records of this package.
const (
	KindSubscription feed.Kind = "arm/subscription"  // key: its GUID
	KindGroup        feed.Kind = "arm/resourcegroup" // key: Group.key
	KindOperation    feed.Kind = "arm/operation"     // key: its GUID
	KindFeature      feed.Kind = "arm/feature"       // key: subscription/namespace/name in lower case; there is one when it is registered
)

// In returns the subscriptions, resource groups and operations of a view.
func In(v *feed.View) *State { return v.Part(Part).(*State) }

// Subscription holds resource groups. It belongs to one tenant.
type Subscription struct {
	ID      directory.ID `json:"id"`
	Tenant  directory.ID `json:"tenant"`
	Name    string       `json:"displayName"`
	Created time.Time    `json:"created"`
}

// Scope is the subscription as a place for role assignments.
func (s *Subscription) Scope() rbac.Scope { return mustScope("/subscriptions/" + s.ID.String()) }

// NewSubscription makes the record of a subscription.
func NewSubscription(id, tenant directory.ID, name string, created time.Time) feed.Record {
	return record(KindSubscription, id.String(), tenant, &Subscription{ID: id, Tenant: tenant, Name: name, Created: created})
}

// Group is a resource group.
type Group struct {
	Subscription directory.ID      `json:"subscription"`
	Tenant       directory.ID      `json:"tenant"`
	Name         string            `json:"name"`     // in the spelling of its creation
	Location     string            `json:"location"` // as "centralus"
	Tags         map[string]string `json:"tags,omitempty"`
	ManagedBy    string            `json:"managedBy,omitempty"`
	Deleting     directory.ID      `json:"deleting,omitzero"` // the operation that deletes it
	Created      time.Time         `json:"created"`
}

// ID is the group's resource id.
func (g *Group) ID() string {
	return "/subscriptions/" + g.Subscription.String() + "/resourceGroups/" + g.Name
}

// Scope is the group as a place for role assignments.
func (g *Group) Scope() rbac.Scope { return mustScope(g.ID()) }

func (g *Group) key() string { return groupKey(g.Subscription, g.Name) }

func (g *Group) record() feed.Record { return record(KindGroup, g.key(), g.Tenant, g) }

func groupKey(subscription directory.ID, name string) string {
	return subscription.String() + "/" + strings.ToLower(name)
}

// mustScope is for ids that are made of names that were checked.
func mustScope(id string) rbac.Scope {
	s, err := rbac.ParseScope(id)
	if err != nil {
		panic(err)
	}
	return s
}

func record(kind feed.Kind, key string, tenant directory.ID, v any) feed.Record {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own types always encode
	}
	return feed.Record{Kind: kind, Key: key, Tenant: tenant.String(), Body: body}
}

// State is all subscriptions, resource groups and operations. It is immutable.
type State struct {
	subscriptions feed.Map[directory.ID, *Subscription]
	groups        feed.Map[string, *Group]
	operations    feed.Map[directory.ID, *Operation]
	features      feed.Map[string, bool]
}

// Subscription returns a subscription, or nil.
func (s *State) Subscription(id directory.ID) *Subscription {
	v, _ := s.subscriptions.Get(id)
	return v
}

// Subscriptions returns the subscriptions of a tenant, oldest first.
func (s *State) Subscriptions(tenant directory.ID) []*Subscription {
	var out []*Subscription
	for _, v := range s.subscriptions.All() {
		if v.Tenant == tenant {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b *Subscription) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return a.ID.Compare(b.ID)
	})
	return out
}

// Group returns a resource group by name in any letter case, or nil.
func (s *State) Group(subscription directory.ID, name string) *Group {
	v, _ := s.groups.Get(groupKey(subscription, name))
	return v
}

// Groups returns the resource groups of a subscription in the order of their names.
func (s *State) Groups(subscription directory.ID) []*Group {
	var out []*Group
	for _, v := range s.groups.All() {
		if v.Subscription == subscription {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b *Group) int { return strings.Compare(a.key(), b.key()) })
	return out
}

// Operation returns an operation, or nil.
func (s *State) Operation(id directory.ID) *Operation {
	v, _ := s.operations.Get(id)
	return v
}

// Apply implements feed.State.
func (s *State) Apply(records []feed.Record) (feed.State, error) {
	subscriptions, groups, operations, features := s.subscriptions.Edit(), s.groups.Edit(), s.operations.Edit(), s.features.Edit()
	for _, r := range records {
		var err error
		switch r.Kind {
		case KindSubscription:
			err = put(subscriptions, r, directory.ParseID)
		case KindGroup:
			err = put(groups, r, func(key string) (string, error) { return key, nil })
		case KindOperation:
			err = put(operations, r, directory.ParseID)
		case KindFeature:
			if r.Body == nil {
				features.Delete(r.Key)
			} else {
				features.Set(r.Key, true)
			}
		default:
			err = fmt.Errorf("unknown kind of record; was the database written by a newer version?")
		}
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", r.Kind, r.Key, err)
		}
	}
	return &State{subscriptions: subscriptions.Map(), groups: groups.Map(), operations: operations.Map(), features: features.Map()}, nil
}

// put decodes a record into a map, or deletes its entry when there is no body.
func put[K comparable, V any](m *feed.Editor[K, *V], r feed.Record, parse func(string) (K, error)) error {
	key, err := parse(r.Key)
	if err != nil {
		return err
	}
	if r.Body == nil {
		m.Delete(key)
		return nil
	}
	v := new(V)
	if err := json.Unmarshal(r.Body, v); err != nil {
		return err
	}
	m.Set(key, v)
	return nil
}
