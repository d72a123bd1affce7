package identity

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
const Part = "identity"

// KindIdentity is the kind of user-assigned identities. Key: the object id of the service principal, which is never used again.
const KindIdentity feed.Kind = "identity/userassigned"

// In returns the user-assigned identities of a view.
func In(v *feed.View) *State { return v.Part(Part).(*State) }

// Identity is a user-assigned managed identity.
type Identity struct {
	Principal    directory.ID      `json:"principalId"` // object id of its service principal
	Client       directory.ID      `json:"clientId"`
	Tenant       directory.ID      `json:"tenantId"`
	Subscription directory.ID      `json:"subscription"`
	Group        string            `json:"resourceGroup"` // in the spelling of its creation
	Name         string            `json:"name"`
	Location     string            `json:"location"`
	Tags         map[string]string `json:"tags,omitempty"`
	Created      time.Time         `json:"created"`
}

const resourceType = namespace + "/userAssignedIdentities"

// ID is the identity's ARM id in the spelling that the service answers with.
func (i *Identity) ID() string { return identityID(i.Subscription, i.Group, i.Name) }

func identityID(subscription directory.ID, group, name string) string {
	return "/subscriptions/" + subscription.String() + "/resourcegroups/" + group + "/providers/" + resourceType + "/" + name
}

// scope is the identity as a place for role assignments.
func (i *Identity) scope() rbac.Scope {
	s, err := rbac.ParseScope(i.ID())
	if err != nil {
		panic(err) // its names were checked
	}
	return s
}

func (i *Identity) record() feed.Record {
	body, err := json.Marshal(i)
	if err != nil {
		panic(err) // our own types always encode
	}
	return feed.Record{Kind: KindIdentity, Key: i.Principal.String(), Tenant: i.Tenant.String(), Body: body}
}

// principal is the record of its service principal.
func (i *Identity) principal() feed.Record {
	return directory.NewManagedIdentity(directory.ServicePrincipal{
		ID: i.Principal, AppID: i.Client, Tenant: i.Tenant, DisplayName: i.Name, Resource: i.ID(), Explicit: true, Created: i.Created,
	})
}

// removal deletes the identity with its service principal, and all that the directory knows of it.
func (i *Identity) removal(dir *directory.State) []feed.Record {
	return append(dir.ManagedIdentityRemoval(i.Principal), feed.Record{Kind: KindIdentity, Key: i.Principal.String(), Tenant: i.Tenant.String()})
}

// State is all user-assigned identities. It is immutable.
type State struct {
	identities feed.Map[directory.ID, *Identity]
	names      feed.Map[string, directory.ID] // ID() in lower case
}

// ByID returns an identity by ARM id in any letter case, or nil.
func (s *State) ByID(id string) *Identity {
	principal, ok := s.names.Get(strings.ToLower(id))
	if !ok {
		return nil
	}
	i, _ := s.identities.Get(principal)
	return i
}

// InGroup returns the identities of a resource group, by name in any letter case.
func (s *State) InGroup(subscription directory.ID, group string) []*Identity {
	return s.where(func(i *Identity) bool { return i.Subscription == subscription && strings.EqualFold(i.Group, group) })
}

// InSubscription returns the identities of a subscription.
func (s *State) InSubscription(subscription directory.ID) []*Identity {
	return s.where(func(i *Identity) bool { return i.Subscription == subscription })
}

// where returns the identities that fit, in the order of their ids.
func (s *State) where(fits func(*Identity) bool) []*Identity {
	var out []*Identity
	for _, i := range s.identities.All() {
		if fits(i) {
			out = append(out, i)
		}
	}
	slices.SortFunc(out, func(a, b *Identity) int { return strings.Compare(strings.ToLower(a.ID()), strings.ToLower(b.ID())) })
	return out
}

// Apply implements feed.State.
func (s *State) Apply(records []feed.Record) (feed.State, error) {
	identities, names := s.identities.Edit(), s.names.Edit()
	for _, r := range records {
		if r.Kind != KindIdentity {
			return nil, fmt.Errorf("unknown kind of record %s; was the database written by a newer version?", r.Kind)
		}
		principal, err := directory.ParseID(r.Key)
		if err != nil {
			return nil, err
		}
		if old, ok := identities.Get(principal); ok {
			name := strings.ToLower(old.ID())
			// A feed holds the last change of each record alone, so another identity may have got the name before this one is gone.
			if holder, _ := names.Get(name); holder == principal {
				names.Delete(name)
			}
		}
		if r.Body == nil {
			identities.Delete(principal)
			continue
		}
		i := new(Identity)
		if err := json.Unmarshal(r.Body, i); err != nil {
			return nil, fmt.Errorf("identity %s: %w", r.Key, err)
		}
		identities.Set(principal, i)
		names.Set(strings.ToLower(i.ID()), principal)
	}
	return &State{identities: identities.Map(), names: names.Map()}, nil
}
