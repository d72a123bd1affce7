package graph

import (
	"encoding/json"
	"iter"
	"strings"
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
		constant("groupMembershipClaims", nil),
		texts("identifierUris", func(a *directory.Application) *[]string { return &a.IdentifierURIs }),
		nullableFlag("isFallbackPublicClient", func(a *directory.Application) *bool { return &a.PublicClient }),
		fixed("signInAudience", "AzureADMyOrg"),
		{
			name: "api",
			get: func(_ *directory.State, entity any) any {
				a := entity.(*directory.Application)
				var version any
				if a.TokenVersion != 0 {
					version = a.TokenVersion
				}
				return members{
					{"acceptMappedClaims", nil}, {"knownClientApplications", []any{}}, {"requestedAccessTokenVersion", version},
					{"oauth2PermissionScopes", scopes(a.Scopes)}, {"preAuthorizedApplications", []any{}},
				}
			},
			set: setAPI,
		},
		computed("appRoles", complexValue, func(_ *directory.State, a *directory.Application) any { return appRoles(a.Roles) }),
		certificates("keyCredentials", func(a *directory.Application) *[]directory.KeyCredential { return &a.Keys }),
		computed("passwordCredentials", complexValue, func(_ *directory.State, a *directory.Application) any { return credentials(a.Passwords) }),
		redirects("publicClient", func(a *directory.Application) *[]string { return &a.RedirectURIs }),
		redirects("web", func(a *directory.Application) *[]string { return &a.WebRedirectURIs }),
		emptyList("requiredResourceAccess"),
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

// emptyList is a list that nothing can be put into yet. Clients send it empty.
func emptyList(name string) property {
	p := constant(name, []any{})
	p.set = func(_ any, raw json.RawMessage) error {
		var v []json.RawMessage
		if err := decode(raw, &v, name, "a list"); err != nil {
			return err
		}
		if len(v) > 0 {
			return errBadRequest("%s cannot be set: this server does not support it. Leave it empty.", name).At(name)
		}
		return nil
	}
	return p
}

// redirects is a complex property that holds redirect URIs.
func redirects(name string, field func(*directory.Application) *[]string) property {
	return property{
		name: name,
		get: func(_ *directory.State, entity any) any {
			return members{{"redirectUris", nonNil(*field(entity.(*directory.Application)))}}
		},
		set: func(entity any, raw json.RawMessage) error {
			var given body
			if err := decode(raw, &given, name, "an object with redirectUris"); err != nil {
				return err
			}
			for inner, value := range given {
				if !strings.EqualFold(inner, "redirectUris") {
					if harmless(value) {
						continue
					}
					return errBadRequest("%s.%s cannot be set: this server does not support it. Leave it out.", name, clip(inner, 80)).At(name)
				}
				if err := decode(value, field(entity.(*directory.Application)), name+".redirectUris", "a list of strings"); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// setAPI reads the one member of api that can be set so far. The empty lists that answers show may come back.
func setAPI(entity any, raw json.RawMessage) error {
	var given body
	if err := decode(raw, &given, "api", "an object"); err != nil {
		return err
	}
	for inner, value := range given {
		if strings.EqualFold(inner, "requestedAccessTokenVersion") {
			if err := decode(value, &entity.(*directory.Application).TokenVersion, "api.requestedAccessTokenVersion", "null, 1 or 2"); err != nil {
				return err
			}
		} else if !harmless(value) {
			return errBadRequest("api.%s cannot be set: this server does not support it. Leave it out.", clip(inner, 80)).At("api")
		}
	}
	return nil
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

func scopes(list []directory.Permission) []members {
	out := []members{}
	for _, p := range list {
		out = append(out, members{
			{"adminConsentDescription", p.Text}, {"adminConsentDisplayName", p.Value}, {"id", p.ID}, {"isEnabled", true}, {"type", "User"},
			{"userConsentDescription", nil}, {"userConsentDisplayName", nil}, {"value", p.Value},
		})
	}
	return out
}

func appRoles(list []directory.Permission) []members {
	out := []members{}
	for _, p := range list {
		out = append(out, members{
			{"allowedMemberTypes", []string{"Application"}}, {"description", p.Text}, {"displayName", p.Value}, {"id", p.ID},
			{"isEnabled", true}, {"origin", "Application"}, {"value", p.Value},
		})
	}
	return out
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
