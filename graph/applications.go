package graph

import (
	"encoding/json"
	"iter"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// applicationKind is Graph's application. Lists are never null: az takes the length of some.
var applicationKind = &kind{
	name: "application", set: "applications",
	properties: []property{
		identifier("id", func(a *directory.Application) directory.ID { return a.ID }),
		identifier("appId", func(a *directory.Application) directory.ID { return a.AppID }),
		moment("createdDateTime", func(a *directory.Application) time.Time { return a.Created }),
		text("displayName", func(a *directory.Application) *string { return &a.DisplayName }),
		groupClaims(),
		texts("identifierUris", func(a *directory.Application) *[]string { return &a.IdentifierURIs }),
		nullableFlag("isFallbackPublicClient", func(a *directory.Application) *bool { return &a.PublicClient }),
		fixed("signInAudience", "AzureADMyOrg"),
		apiPart,
		roles(),
		text("description", func(a *directory.Application) *string { return &a.Description }),
		infoPart,
		certificates("keyCredentials", func(a *directory.Application) *[]directory.KeyCredential { return &a.Keys }),
		text("notes", func(a *directory.Application) *string { return &a.Notes }),
		optionalClaims(),
		computed("passwordCredentials", complexValue, func(_ *directory.State, a *directory.Application) any { return credentials(a.Passwords) }),
		publicPart,
		required(),
		spaPart,
		texts("tags", func(a *directory.Application) *[]string { return &a.Tags }),
		webPart,
		idle("addIns"), idle("defaultRedirectUri"), idle("isDeviceOnlyAuthSupported"), idle("oauth2RequirePostResponse"),
		idle("samlMetadataUrl"), idle("serviceManagementReference"), idle("tokenEncryptionKeyId"),
	},
	relations: map[string]relation{"owners": (*call).ownersOf},
}

// nullableFlag is a flag for which null is false.
func nullableFlag[T any](name string, field func(*T) *bool) property {
	p := flag(name, field)
	p.set = func(entity any, raw json.RawMessage) error {
		return decode(raw, field(entity.(*T)), name, "true, false or null")
	}
	return p
}

// fixed is a property that has one value here. Clients may send that value.
func fixed(name, value string) property {
	p := constant(name, value)
	p.value = textValue
	p.set = func(_ any, raw json.RawMessage) error {
		var v string
		if err := decode(raw, &v, name, "a string"); err != nil {
			return err
		}
		if v != value {
			return errBadRequest("%s is '%s'; only '%s' is supported.", name, clip(v, 80), value).At(name)
		}
		return nil
	}
	return p
}

// harmless reports whether a value asks for nothing: null, false, an empty string or list, or an object of such values.
func harmless(raw json.RawMessage) bool {
	var v any
	return json.Unmarshal(raw, &v) == nil && isNothing(v)
}

func isNothing(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case string:
		return v == ""
	case []any:
		return len(v) == 0
	case map[string]any:
		for _, inner := range v {
			if !isNothing(inner) {
				return false
			}
		}
		return true
	}
	return false
}

func (s *Server) mountApplications(m *web.Mux) {
	on := onKind(applicationKind)
	s.route(m, "GET /applications", read, func(c *call) error {
		return c.collection("applications", schemaOf(applicationKind), c.applications())
	})
	s.route(m, "GET /applications/$count", read, func(c *call) error { return c.count(schemaOf(applicationKind), c.applications()) })
	s.route(m, "POST /applications", write, (*call).createApplication)
	s.route(m, "GET /applications/{id}", read, on((*call).showObject))
	s.route(m, "PATCH /applications/{id}", write, on((*call).patchApplication))
	s.route(m, "DELETE /applications/{id}", write, on(func(c *call, o object) error {
		if err := c.Directory.DeleteApplication(c.r.Context(), c.actor(), o.id); err != nil {
			return err
		}
		return c.noContent()
	}))
	s.relation(m, "/applications/{id}/owners", read, on, (*call).ownersOf)
	s.references(m, "/applications/{id}/owners", on, ownerReferences)
	s.passwords(m, "/applications/{id}", on)
	s.federated(m, "/applications/{id}", on)
	s.mountServicePrincipals(m)
}

func (c *call) applications() iter.Seq[object] {
	return func(yield func(object) bool) {
		for a := range c.dir.EachApplication(c.tenant) {
			if !yield(object{applicationKind, a.ID, a}) {
				return
			}
		}
	}
}

func (c *call) createApplication() error {
	b, err := readBody(c.r)
	if err != nil {
		return err
	}
	if err := b.require(applicationKind, "displayName"); err != nil {
		return err
	}
	all, err := b.settings(applicationKind)
	if err != nil {
		return err
	}
	app := directory.Application{Tenant: c.tenant}
	if err := apply(&app, all); err != nil {
		return err
	}
	made, err := c.Directory.CreateApplication(c.r.Context(), c.actor(), app)
	if err != nil {
		return err
	}
	c.changed(made.ID)
	return c.created(object{applicationKind, made.ID, made})
}

func (c *call) patchApplication(o object) error {
	b, err := readBody(c.r)
	if err != nil {
		return err
	}
	all, err := b.settings(applicationKind)
	if err != nil {
		return err
	}
	err = c.Directory.UpdateApplication(c.r.Context(), c.actor(), o.id, func(a *directory.Application) error { return apply(a, all) })
	if err != nil {
		return err
	}
	c.note(all)
	return c.noContent()
}
