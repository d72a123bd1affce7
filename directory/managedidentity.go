package directory

import (
	"time"

	"github.com/gatehouse-k8s/gatehouse/feed"
)

// NewManagedIdentity makes the record of the service principal of a resource. It has no secret, so nobody signs in as it
// from outside; the caller makes both ids, and removes it with the resource.
func NewManagedIdentity(id, appID, tenant ID, name string, created time.Time) feed.Record {
	p := new(plan)
	p.put(KindServicePrincipal, id.String(), tenant, &ServicePrincipal{
		ID: id, Tenant: tenant, AppID: appID, DisplayName: name, Names: []string{appID.String()},
		Type: TypeManagedIdentity, Enabled: true, Created: created,
	})
	return p.change.Records[0]
}

// ManagedIdentityRemoval returns the records that delete a resource's service principal with its memberships, ownerships and
// roles. An id that is none returns nothing.
func (s *State) ManagedIdentityRemoval(id ID) []feed.Record {
	principal := s.ServicePrincipal(id)
	if principal == nil || principal.Type != TypeManagedIdentity {
		return nil
	}
	p := &plan{State: s}
	p.unlink(id, principal.Tenant)
	p.delete(KindServicePrincipal, id.String(), principal.Tenant)
	return p.change.Records
}
