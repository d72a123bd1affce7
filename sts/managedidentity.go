package sts

import (
	"context"
	"net/http"
	"time"

	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// identityLife is the life of a managed identity's tokens (Microsoft Entra "Configurable token lifetimes": 24 hours). Deleting or
// disabling the identity ends them at once.
const identityLife = 24 * time.Hour

// IdentityToken is an access token of a managed identity.
type IdentityToken struct {
	Access   string
	Type     string // Bearer
	ClientID directory.ID
	Resource string // as it was asked for
	From     time.Time
	Expires  time.Time
	Life     time.Duration
}

// IdentityToken issues an access token of a managed identity, by its object id, for a resource: an application's id or one of its
// identifier URIs. It is for the endpoints that hand such tokens to programs on this machine, and asks for no credential: whoever
// calls it has found out that the request r may have the token. An identity that is gone is fault.NotFound; other refusals are those of the
// token endpoint.
func (s *Server) IdentityToken(r *http.Request, identity directory.ID, resource string) (*IdentityToken, error) {
	x := &exchange{version: 1, authority: cloudAuthority, address: web.ClientIP(r), now: s.now(), view: s.Feed.View()}
	answer, err := s.issueToIdentity(r.Context(), x, identity, resource)
	s.recordIdentity(r, x, identity, err)
	if err != nil {
		return nil, err
	}
	return &IdentityToken{
		Access: answer.AccessToken, Type: answer.TokenType, ClientID: x.client.app.AppID, Resource: resource,
		From: x.now.Add(-backdate), Expires: x.now.Add(identityLife), Life: identityLife,
	}, nil
}

// issueToIdentity takes the steps of issue that are left where the client is known and shows no credential.
func (s *Server) issueToIdentity(ctx context.Context, x *exchange, identity directory.ID, resource string) (*answerV1, error) {
	if s.Feed.Stale() {
		return nil, fail(90033) // this replica may have missed that the identity was disabled
	}
	sp := x.dir().ServicePrincipal(identity)
	if sp == nil || sp.Type != directory.TypeManagedIdentity {
		return nil, directory.ErrNoObject(identity.String())
	}
	x.place = tenancy{tenant: x.dir().Tenant(sp.Tenant)}
	x.subject.tenant = x.place.tenant
	x.client = identityClient(sp)
	x.client.proved, x.client.certified, x.client.credential = true, true, "managed identity"
	if err := x.client.admit(x.dir(), x.subject.tenant); err != nil {
		return nil, err
	}
	a, err := parseResource(resource)
	if err != nil {
		return nil, err
	}
	// Asked for by id, the audience is that id without the prefix spn: that version 1 endpoints add.
	a.V1, a.oidc, a.offline = false, nil, false
	x.subject.ask = &a
	if err := x.resolve(); err != nil {
		return nil, err
	}
	answer, err := s.mint(ctx, x)
	if err != nil {
		return nil, err
	}
	v1 := answer.(answerV1)
	return &v1, nil
}

// findIdentity finds the client that a managed identity is, by its client id; nil: there is none. It is a client for its own
// tokens only, by a federated credential: nobody signs in through it.
func findIdentity(dir *directory.State, place tenancy, id string) *client {
	if place.tenant == nil {
		return nil
	}
	appID, err := directory.ParseID(id)
	if err != nil {
		return nil
	}
	sp := dir.ServicePrincipalByName(place.tenant.ID, appID.String())
	if sp == nil || sp.Type != directory.TypeManagedIdentity {
		return nil
	}
	return identityClient(sp)
}

// identityClient is a managed identity as the client of a request. It has no registration: this stands in for it.
func identityClient(sp *directory.ServicePrincipal) *client {
	return &client{principal: sp, app: &directory.Application{
		Tenant: sp.Tenant, AppID: sp.AppID, DisplayName: sp.DisplayName, Federated: sp.Federated, Created: sp.Created,
	}}
}

// identity returns the managed identity that a token speaks for, or nil.
func (x *exchange) identity() *directory.ServicePrincipal {
	if x.subject.user != nil || x.client.principal == nil || x.client.principal.Type != directory.TypeManagedIdentity {
		return nil
	}
	return x.client.principal
}

// recordIdentity logs and audits an attempt of a managed identity.
func (s *Server) recordIdentity(r *http.Request, x *exchange, identity directory.ID, err error) {
	e := audit.Event{
		Time: x.now.UTC(), Request: traceID(r), Address: x.address.String(), Action: "sign-in", Outcome: audit.Allowed, Actor: identity.String(), Target: x.target.audience,
		Details: map[string]string{"method": "managed identity", "correlation": correlationID(r)},
	}
	if x.client != nil {
		e.Tenant, e.Client = x.client.app.Tenant.String(), x.client.app.AppID.String()
		e.Details["resource"] = x.client.principal.Resource
	}
	s.conclude(&e, r, err)
}
