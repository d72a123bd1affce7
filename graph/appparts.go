package graph

import (
	"encoding/json"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// A list of objects is read into the directory's own types, whose members are named as Graph's.

// objects reads a list; each element begins as fresh, so that what is left out has a default.
func objects[T any](raw json.RawMessage, name string, fresh T) ([]T, error) {
	var given []json.RawMessage
	if err := decode(raw, &given, name, "a list of objects"); err != nil {
		return nil, err
	}
	out := []T{}
	for _, element := range given {
		v := fresh
		if err := json.Unmarshal(element, &v); err != nil {
			return nil, errBadRequest("The property '%s' holds %s, which cannot be read: %s.", name, clip(string(element), 120), clip(err.Error(), 160)).At(name)
		}
		out = append(out, v)
	}
	return out, nil
}

// parts is a complex property whose members are set one by one: those that a request leaves out stay as they are.
func parts(name string, get func(*directory.Application) members, set map[string]func(*directory.Application, json.RawMessage) error) property {
	return property{
		name: name,
		get:  func(_ *directory.State, entity any) any { return get(entity.(*directory.Application)) },
		set: func(entity any, raw json.RawMessage) error {
			var given body
			if err := decode(raw, &given, name, "an object"); err != nil {
				return err
			}
		each:
			for inner, value := range given {
				for known, apply := range set {
					if strings.EqualFold(inner, known) {
						if err := apply(entity.(*directory.Application), value); err != nil {
							return err
						}
						continue each
					}
				}
				if !harmless(value) {
					return errBadRequest("%s.%s cannot be set: this server does not support it. Leave it out.", name, clip(inner, 80)).At(name)
				}
			}
			return nil
		},
	}
}

// part is a member of a complex property that is decoded into a field.
func part[T any](field func(*directory.Application) *T, name, want string) func(*directory.Application, json.RawMessage) error {
	return func(a *directory.Application, raw json.RawMessage) error { return decode(raw, field(a), name, want) }
}

// apiPart is Graph's apiApplication.
var apiPart = parts("api", func(a *directory.Application) members {
	var version any
	if a.TokenVersion != 0 {
		version = a.TokenVersion
	}
	authorized := []members{}
	for _, p := range a.PreAuthorized {
		authorized = append(authorized, members{{"appId", p.AppID}, {"delegatedPermissionIds", nonNilIDs(p.Scopes)}})
	}
	return members{
		{"acceptMappedClaims", nil}, {"knownClientApplications", nonNilIDs(a.KnownClients)}, {"requestedAccessTokenVersion", version},
		{"oauth2PermissionScopes", scopes(a.Scopes)}, {"preAuthorizedApplications", authorized},
	}
}, map[string]func(*directory.Application, json.RawMessage) error{
	"requestedAccessTokenVersion": part(func(a *directory.Application) *int { return &a.TokenVersion }, "api.requestedAccessTokenVersion", "null, 1 or 2"),
	"knownClientApplications":     part(func(a *directory.Application) *[]directory.ID { return &a.KnownClients }, "api.knownClientApplications", "a list of appIds"),
	"oauth2PermissionScopes": func(a *directory.Application, raw json.RawMessage) (err error) {
		a.Scopes, err = objects(raw, "api.oauth2PermissionScopes", directory.Scope{Enabled: true, Type: directory.ScopeUser})
		return err
	},
	"preAuthorizedApplications": func(a *directory.Application, raw json.RawMessage) (err error) {
		a.PreAuthorized, err = objects(raw, "api.preAuthorizedApplications", directory.PreAuthorized{})
		return err
	},
})

// webPart is Graph's webApplication.
var webPart = parts("web", func(a *directory.Application) members {
	return members{
		{"homePageUrl", orNull(a.HomePage)}, {"logoutUrl", orNull(a.LogoutURL)}, {"redirectUris", nonNil(a.WebRedirectURIs)},
		{"implicitGrantSettings", members{{"enableAccessTokenIssuance", false}, {"enableIdTokenIssuance", a.IssueIDToken}}},
	}
}, map[string]func(*directory.Application, json.RawMessage) error{
	"homePageUrl":         part(func(a *directory.Application) *string { return &a.HomePage }, "web.homePageUrl", "a URL or null"),
	"logoutUrl":           part(func(a *directory.Application) *string { return &a.LogoutURL }, "web.logoutUrl", "a URL or null"),
	"redirectUris":        part(func(a *directory.Application) *[]string { return &a.WebRedirectURIs }, "web.redirectUris", "a list of strings"),
	"redirectUriSettings": func(*directory.Application, json.RawMessage) error { return nil }, // the same URIs again, with an index
	"implicitGrantSettings": func(a *directory.Application, raw json.RawMessage) error {
		given := struct{ EnableIDTokenIssuance, EnableAccessTokenIssuance *bool }{}
		if err := decode(raw, &given, "web.implicitGrantSettings", "an object with enableIdTokenIssuance"); err != nil {
			return err
		}
		if given.EnableAccessTokenIssuance != nil && *given.EnableAccessTokenIssuance {
			return errBadRequest("web.implicitGrantSettings.enableAccessTokenIssuance cannot be true: this server never puts access tokens into addresses (RFC 9700 section 2.1.2). Use the authorization code flow.").At("web")
		}
		if given.EnableIDTokenIssuance != nil {
			a.IssueIDToken = *given.EnableIDTokenIssuance
		}
		return nil
	},
})

var publicPart = parts("publicClient", func(a *directory.Application) members {
	return members{{"redirectUris", nonNil(a.RedirectURIs)}}
}, map[string]func(*directory.Application, json.RawMessage) error{
	"redirectUris": part(func(a *directory.Application) *[]string { return &a.RedirectURIs }, "publicClient.redirectUris", "a list of strings"),
})

// spaPart is there to be empty: a browser's script would read tokens from another origin, which the token endpoint does not allow.
var spaPart = parts("spa", func(*directory.Application) members { return members{{"redirectUris", []string{}}} }, nil)

var infoPart = parts("info", func(a *directory.Application) members {
	return members{
		{"logoUrl", nil}, {"marketingUrl", orNull(a.Info.Marketing)}, {"privacyStatementUrl", orNull(a.Info.Privacy)},
		{"supportUrl", orNull(a.Info.Support)}, {"termsOfServiceUrl", orNull(a.Info.Terms)},
	}
}, map[string]func(*directory.Application, json.RawMessage) error{
	"marketingUrl":        part(func(a *directory.Application) *string { return &a.Info.Marketing }, "info.marketingUrl", "a URL or null"),
	"privacyStatementUrl": part(func(a *directory.Application) *string { return &a.Info.Privacy }, "info.privacyStatementUrl", "a URL or null"),
	"supportUrl":          part(func(a *directory.Application) *string { return &a.Info.Support }, "info.supportUrl", "a URL or null"),
	"termsOfServiceUrl":   part(func(a *directory.Application) *string { return &a.Info.Terms }, "info.termsOfServiceUrl", "a URL or null"),
})

// optionalClaims is null when there are none.
func optionalClaims() property {
	p := computed("optionalClaims", complexValue, func(_ *directory.State, a *directory.Application) any {
		o := a.Optional
		if len(o.ID)+len(o.Access)+len(o.SAML2) == 0 {
			return nil
		}
		return members{{"accessToken", claims(o.Access)}, {"idToken", claims(o.ID)}, {"saml2Token", claims(o.SAML2)}}
	})
	p.set = func(entity any, raw json.RawMessage) error {
		return decode(raw, &entity.(*directory.Application).Optional, p.name, "an object with idToken, accessToken and saml2Token, or null")
	}
	return p
}

func claims(list []directory.OptionalClaim) []members {
	out := []members{}
	for _, c := range list {
		out = append(out, members{{"additionalProperties", nonNil(c.Properties)}, {"essential", c.Essential}, {"name", c.Name}, {"source", orNull(c.Source)}})
	}
	return out
}

// groupClaims is null when tokens hold no groups.
func groupClaims() property {
	p := computed("groupMembershipClaims", textValue, func(_ *directory.State, a *directory.Application) any { return orNull(string(a.GroupClaims)) })
	p.set = func(entity any, raw json.RawMessage) error {
		var text string
		if err := decode(raw, &text, p.name, "a string or null"); err != nil {
			return err
		}
		parsed, err := directory.ParseGroupClaims(text)
		entity.(*directory.Application).GroupClaims = parsed
		return err
	}
	return p
}

// required is what the application says it needs.
func required() property {
	p := computed("requiredResourceAccess", complexValue, func(_ *directory.State, a *directory.Application) any {
		out := []members{}
		for _, r := range a.Required {
			access := []members{}
			for _, e := range r.Access {
				access = append(access, members{{"id", e.ID}, {"type", e.Type}})
			}
			out = append(out, members{{"resourceAppId", r.AppID}, {"resourceAccess", access}})
		}
		return out
	})
	p.set = func(entity any, raw json.RawMessage) (err error) {
		entity.(*directory.Application).Required, err = objects(raw, p.name, directory.RequiredResource{})
		return err
	}
	return p
}

// roles are the app roles that an application defines.
func roles() property {
	p := computed("appRoles", complexValue, func(_ *directory.State, a *directory.Application) any { return appRoles(a.Roles) })
	p.set = func(entity any, raw json.RawMessage) (err error) {
		entity.(*directory.Application).Roles, err = objects(raw, p.name, directory.AppRole{Enabled: true})
		return err
	}
	return p
}

func scopes(list []directory.Scope) []members {
	out := []members{}
	for _, s := range list {
		out = append(out, members{
			{"adminConsentDescription", s.AdminText}, {"adminConsentDisplayName", s.AdminName}, {"id", s.ID}, {"isEnabled", s.Enabled}, {"type", s.Type},
			{"userConsentDescription", orNull(s.UserText)}, {"userConsentDisplayName", orNull(s.UserName)}, {"value", s.Value},
		})
	}
	return out
}

func appRoles(list []directory.AppRole) []members {
	out := []members{}
	for _, r := range list {
		out = append(out, members{
			{"allowedMemberTypes", nonNil(r.MemberTypes)}, {"description", r.Description}, {"displayName", r.DisplayName}, {"id", r.ID},
			{"isEnabled", r.Enabled}, {"origin", "Application"}, {"value", orNull(r.Value)},
		})
	}
	return out
}

// idle is a property that clients send, and that has one value here: none.
func idle(name string) property {
	p := constant(name, nil)
	p.set = func(_ any, raw json.RawMessage) error {
		if !harmless(raw) {
			return errBadRequest("%s cannot be set: this server does not support it. Leave it out.", name).At(name)
		}
		return nil
	}
	return p.selectOnly()
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func nonNilIDs(list []directory.ID) []directory.ID {
	if list == nil {
		return []directory.ID{}
	}
	return list
}
