package graph

import (
	"iter"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// principalKind is Graph's servicePrincipal.
var principalKind = &kind{
	name: "servicePrincipal", set: "servicePrincipals",
	properties: []property{
		identifier("id", func(p *directory.ServicePrincipal) directory.ID { return p.ID }),
		flag("accountEnabled", func(p *directory.ServicePrincipal) *bool { return &p.Enabled }),
		computed("alternativeNames", textsValue, func(_ *directory.State, p *directory.ServicePrincipal) any { return alternativeNames(p) }),
		computed("appDisplayName", textValue, func(_ *directory.State, p *directory.ServicePrincipal) any { return p.DisplayName }),
		identifier("appId", func(p *directory.ServicePrincipal) directory.ID { return p.AppID }),
		computed("appOwnerOrganizationId", textValue, func(dir *directory.State, p *directory.ServicePrincipal) any {
			if app := dir.ApplicationOf(p); app != nil {
				return directory.OwnerTenant(app).String()
			}
			return nil
		}),
		flag("appRoleAssignmentRequired", func(p *directory.ServicePrincipal) *bool { return &p.AssignmentRequired }),
		computed("appRoles", complexValue, func(dir *directory.State, p *directory.ServicePrincipal) any {
			if app := dir.ApplicationOf(p); app != nil {
				return appRoles(app.Roles)
			}
			return []any{}
		}),
		moment("createdDateTime", func(p *directory.ServicePrincipal) time.Time { return p.Created }),
		computed("displayName", textValue, func(_ *directory.State, p *directory.ServicePrincipal) any { return p.DisplayName }),
		certificates("keyCredentials", func(p *directory.ServicePrincipal) *[]directory.KeyCredential { return &p.Keys }),
		computed("oauth2PermissionScopes", complexValue, func(dir *directory.State, p *directory.ServicePrincipal) any {
			if app := dir.ApplicationOf(p); app != nil {
				return scopes(app.Scopes)
			}
			return []any{}
		}),
		computed("passwordCredentials", complexValue, func(_ *directory.State, p *directory.ServicePrincipal) any { return credentials(p.Passwords) }),
		computed("replyUrls", textsValue, func(dir *directory.State, p *directory.ServicePrincipal) any {
			urls := []string{}
			if app := dir.ApplicationOf(p); app != nil {
				urls = append(append(urls, app.RedirectURIs...), app.WebRedirectURIs...)
			}
			return urls
		}),
		computed("servicePrincipalNames", textsValue, func(_ *directory.State, p *directory.ServicePrincipal) any { return nonNil(p.Names) }),
		computed("servicePrincipalType", textValue, func(_ *directory.State, p *directory.ServicePrincipal) any { return p.Type }),
		text("notes", func(p *directory.ServicePrincipal) *string { return &p.Notes }),
		texts("tags", func(p *directory.ServicePrincipal) *[]string { return &p.Tags }),
	},
	relations: map[string]relation{"memberOf": (*call).memberOf, "owners": (*call).ownersOf},
}

func (s *Server) mountServicePrincipals(m *web.Mux) {
	on := onKind(principalKind)
	s.route(m, "GET /servicePrincipals", read, func(c *call) error {
		return c.collection("servicePrincipals", schemaOf(principalKind), c.principals())
	})
	s.route(m, "GET /servicePrincipals/$count", read, func(c *call) error { return c.count(schemaOf(principalKind), c.principals()) })
	s.route(m, "POST /servicePrincipals", write, (*call).createPrincipal)
	s.route(m, "GET /servicePrincipals/{id}", read, on((*call).showObject))
	s.route(m, "PATCH /servicePrincipals/{id}", write, on((*call).patchPrincipal))
	s.route(m, "DELETE /servicePrincipals/{id}", write, on(func(c *call, o object) error {
		if err := c.Directory.DeleteServicePrincipal(c.r.Context(), c.actor(), o.id); err != nil {
			return err
		}
		return c.noContent()
	}))
	s.memberships(m, "/servicePrincipals/{id}", read, on)
	s.owned(m, "/servicePrincipals/{id}", read, on)
	s.relation(m, "/servicePrincipals/{id}/owners", read, on, (*call).ownersOf)
	s.references(m, "/servicePrincipals/{id}/owners", on, ownerReferences)
	s.passwords(m, "/servicePrincipals/{id}", on)
}

func (c *call) principals() iter.Seq[object] {
	return func(yield func(object) bool) {
		for p := range c.dir.EachServicePrincipal(c.tenant) {
			if !yield(object{principalKind, p.ID, p}) {
				return
			}
		}
	}
}

func (c *call) createPrincipal() error {
	b, err := readBody(c.r)
	if err != nil {
		return err
	}
	var text string
	raw := b.take("appId")
	if raw == nil {
		return errBadRequest("A value is required for property 'appId' of resource 'ServicePrincipal'.").At("appId")
	}
	if err := decode(raw, &text, "appId", "a string"); err != nil {
		return err
	}
	appID, err := directory.ParseID(text)
	if err != nil {
		return errBadRequest("The appId '%s' of the service principal is not a GUID; give the application's appId.", clip(text, 80)).At("appId")
	}
	all, err := b.settings(principalKind)
	if err != nil {
		return err
	}
	wanted := directory.ServicePrincipal{Tenant: c.tenant, AppID: appID, Enabled: true}
	if err := apply(&wanted, all); err != nil {
		return err
	}
	made, err := c.Directory.AddServicePrincipal(c.r.Context(), c.actor(), wanted)
	if err != nil {
		return err
	}
	c.changed(made.ID)
	c.detail("appId", appID.String())
	c.refresh()
	return c.created(object{principalKind, made.ID, made})
}

// patchPrincipal changes accountEnabled and keyCredentials. The rest follows the application.
func (c *call) patchPrincipal(o object) error {
	b, err := readBody(c.r)
	if err != nil {
		return err
	}
	all, err := b.settings(principalKind)
	if err != nil {
		return err
	}
	err = c.Directory.UpdateServicePrincipal(c.r.Context(), c.actor(), o.id, func(p *directory.ServicePrincipal) error { return apply(p, all) })
	if err != nil {
		return err
	}
	c.note(all)
	return c.noContent()
}

// alternativeNames say of a managed identity which resource it belongs to, and whether it is a resource of its own.
func alternativeNames(p *directory.ServicePrincipal) []string {
	switch {
	case p.Resource == "":
		return []string{}
	case p.Explicit:
		return []string{"isExplicit=True", p.Resource}
	}
	return []string{"isExplicit=False", p.Resource}
}
