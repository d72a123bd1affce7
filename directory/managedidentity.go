package directory

import (
	"slices"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
)

// NewManagedIdentity makes the record of the service principal of a resource. The caller gives the ids, Tenant, DisplayName,
// Resource, Explicit and Created, writes it in one plan with the resource, and removes it in one plan with it. It has no secret, so
// nobody signs in as it from outside but by its federated credentials.
func NewManagedIdentity(sp ServicePrincipal) feed.Record {
	sp.Names, sp.Type, sp.Enabled = []string{sp.AppID.String()}, TypeManagedIdentity, true
	return sp.record()
}

func (sp *ServicePrincipal) record() feed.Record {
	p := new(plan)
	p.put(KindServicePrincipal, sp.ID.String(), sp.Tenant, sp)
	return p.change.Records[0]
}

// ManagedIdentityRemoval returns the records that delete a resource's service principal with its memberships, ownerships,
// roles and credentials. An id that is none returns nothing.
func (s *State) ManagedIdentityRemoval(id ID) []feed.Record {
	principal := s.managedIdentity(id)
	if principal == nil {
		return nil
	}
	p := &plan{State: s}
	p.unlink(id, principal.Tenant)
	p.delete(KindServicePrincipal, id.String(), principal.Tenant)
	return p.change.Records
}

// ManagedIdentityOf returns the managed identity of a resource by its ARM id in any letter case, or nil.
func (s *State) ManagedIdentityOf(resource string) *ServicePrincipal {
	id, ok := s.resources.Get(strings.ToLower(resource))
	if !ok {
		return nil
	}
	return s.ServicePrincipal(id)
}

// managedIdentity returns a managed identity by object id, or nil.
func (s *State) managedIdentity(id ID) *ServicePrincipal {
	sp := s.ServicePrincipal(id)
	if sp == nil || sp.Type != TypeManagedIdentity {
		return nil
	}
	return sp
}

// ManagedIdentities returns the managed identities of all tenants, ordered by resource.
func (s *State) ManagedIdentities() []*ServicePrincipal {
	var out []*ServicePrincipal
	for _, sp := range s.principals.All() {
		if sp.Type == TypeManagedIdentity {
			out = append(out, sp)
		}
	}
	slices.SortFunc(out, func(a, b *ServicePrincipal) int {
		return strings.Compare(strings.ToLower(a.Resource), strings.ToLower(b.Resource))
	})
	return out
}

// PutIdentityCredential returns the record that gives a managed identity a federated credential, in the place of the one that has its
// name in any letter case, if there is one. The name keeps its first spelling.
func (s *State) PutIdentityCredential(identity ID, c FederatedCredential) (r feed.Record, created bool, err error) {
	sp := s.managedIdentity(identity)
	if sp == nil {
		return r, false, ErrNoObject(identity.String())
	}
	list := slices.Clone(sp.Federated)
	if i := indexFederated(list, c.Name); i >= 0 {
		c.ID, c.Name = list[i].ID, list[i].Name
		list[i] = c
	} else if created = true; len(list) >= maxFederated {
		return r, false, invalidFederated("", "The identity has %d federated identity credentials, which is the most that it can have; delete one first.", maxFederated)
	} else {
		list = append(list, c)
	}
	if err := checkFederated(list); err != nil {
		return r, false, err
	}
	return sp.withFederated(list), created, nil
}

// RemoveIdentityCredential returns the record that takes a federated credential away from a managed identity, by name. One that is
// not there is fault.NotFound.
func (s *State) RemoveIdentityCredential(identity ID, name string) (feed.Record, error) {
	sp := s.managedIdentity(identity)
	if sp == nil || indexFederated(sp.Federated, name) < 0 {
		return feed.Record{}, ErrNoObject(name)
	}
	i := indexFederated(sp.Federated, name)
	return sp.withFederated(slices.Delete(slices.Clone(sp.Federated), i, i+1)), nil
}

func (sp *ServicePrincipal) withFederated(list []FederatedCredential) feed.Record {
	changed := *sp
	changed.Federated = list
	return changed.record()
}

// FederatedNamed returns the federated credential of a managed identity that has a name in any letter case, or nil.
func (sp *ServicePrincipal) FederatedNamed(name string) *FederatedCredential {
	if i := indexFederated(sp.Federated, name); i >= 0 {
		return &sp.Federated[i]
	}
	return nil
}

func indexFederated(list []FederatedCredential, name string) int {
	return slices.IndexFunc(list, func(c FederatedCredential) bool { return strings.EqualFold(c.Name, name) })
}

// FindManagedIdentity finds a managed identity of a tenant by the ARM id of its resource, its client id or object id, or its name, which must
// be that of one identity only. A zero tenant leaves open where to look: an id is found in any, and a name in the first.
func (s *State) FindManagedIdentity(name string, tenant ID) (*ServicePrincipal, error) {
	sp, err := s.findManagedIdentity(name, tenant)
	if err == nil && !tenant.IsZero() && sp.Tenant != tenant {
		return nil, fault.New(fault.Invalid, "the managed identity %s is of tenant %s, not of tenant %s; name its own tenant, or none", sp.Resource, sp.Tenant, tenant)
	}
	return sp, err
}

func (s *State) findManagedIdentity(name string, tenant ID) (*ServicePrincipal, error) {
	if strings.HasPrefix(name, "/") {
		if sp := s.ManagedIdentityOf(strings.TrimSuffix(name, "/")); sp != nil {
			return sp, nil
		}
		return nil, fault.New(fault.NotFound, "no managed identity belongs to the resource %.300q; az identity list shows the user-assigned ones, and a cluster has one if it was made without --assign-identity", name)
	}
	id, err := ParseID(name)
	byID := err == nil
	if all := s.Tenants(); tenant.IsZero() && len(all) > 0 {
		tenant = all[0].ID
	}
	var found []*ServicePrincipal
	for _, sp := range s.ManagedIdentities() {
		if byID && (sp.AppID == id || sp.ID == id) || !byID && sp.Tenant == tenant && strings.EqualFold(sp.DisplayName, name) {
			found = append(found, sp)
		}
	}
	switch len(found) {
	case 0:
		if !byID {
			return nil, fault.New(fault.NotFound, "there is no managed identity %.120q in tenant %s; az identity list shows the user-assigned ones", name, tenant)
		}
		return nil, fault.New(fault.NotFound, "there is no managed identity %.120q; az identity list shows the user-assigned ones", name)
	case 1:
		return found[0], nil
	}
	var resources []string
	for _, sp := range found[:min(len(found), 10)] {
		resources = append(resources, sp.Resource)
	}
	return nil, fault.New(fault.Conflict, "%d managed identities have the name %.120q; give the resource id of one: %s", len(found), name, strings.Join(resources, ", "))
}
