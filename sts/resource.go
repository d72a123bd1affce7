package sts

import (
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// maxAsk is the longest scope or resource, in bytes: it is kept in refresh tokens.
const maxAsk = 1500

// ask is what a request wants a token for.
type ask struct {
	Text string `json:"text"` // the scope (version 2) or resource (version 1) as the client wrote it
	V1   bool   `json:"v1,omitempty"`

	resource string   // as written; empty: Microsoft Graph, for sign-in scopes alone
	values   []string // the scopes wanted of the resource; nil: all (".default")
	echo     []string // what to repeat in the answer
	oidc     []string // openid, profile, email: what an ID token shall tell
	offline  bool     // a refresh token is wanted
}

// askOf reads scope or resource, whichever the endpoint takes.
func askOf(f form, version int) (ask, error) {
	if version == 2 {
		if f["resource"] != "" && f["scope"] == "" {
			return ask{}, fail(901002)
		}
		return parseScope(f["scope"])
	}
	return parseResource(f["resource"])
}

// wants reports whether an OpenID scope was asked for.
func (a ask) wants(scope string) bool { return slices.Contains(a.oidc, scope) }

// parse reads Text again, after it was kept.
func (a ask) parse() (ask, error) {
	if a.V1 {
		return parseResource(a.Text)
	}
	return parseScope(a.Text)
}

// parseResource reads the resource parameter of version 1. Users always get a refresh token there.
func parseResource(resource string) (ask, error) {
	if resource == "" {
		return ask{}, fail(900144, "resource")
	}
	if strings.ContainsAny(resource, " \t\r\n") || len(resource) > maxAsk {
		return ask{}, fail(500011, clip(resource, 120), "any")
	}
	return ask{Text: resource, V1: true, resource: resource, oidc: []string{"openid", "profile"}, offline: true}, nil
}

// parseScope reads the scope parameter of version 2: scopes of one resource, each {resource}/{value}, and the OpenID
// scopes. A value without a resource is Microsoft Graph's. Of "{resource}/.default" exactly one slash belongs to the
// suffix: the resource keeps the slash that it ends in (Microsoft identity platform, "Trailing slash and /.default").
func parseScope(scope string) (ask, error) {
	a := ask{Text: scope}
	if len(scope) > maxAsk {
		return a, fail(70011, clip(scope, 120), "it has "+strconv.Itoa(len(scope))+" bytes, and at most "+strconv.Itoa(maxAsk)+" are read")
	}
	words := strings.Fields(scope)
	if len(words) == 0 {
		return a, fail(900144, "scope")
	}
	var all, named bool
	for _, w := range words {
		switch strings.ToLower(w) {
		case "openid", "profile", "email":
			a.oidc = append(a.oidc, strings.ToLower(w))
			continue
		case "offline_access":
			a.offline = true
			continue
		}
		resource, value := "", w
		if i := strings.LastIndexByte(w, '/'); i >= 0 {
			resource, value = w[:i], w[i+1:]
		}
		if value == "" || (resource == "" && strings.Contains(w, "/")) || strings.ContainsFunc(w, func(r rune) bool { return r < 0x21 || r == 0x7f || r == '"' || r == '\\' }) {
			return a, fail(70011, clip(w, 120), "it is not of the form {resource}/{scope}")
		}
		if resource == "" {
			resource = graphResource
		}
		if named && !strings.EqualFold(a.resource, resource) {
			return a, fail(700022, clip(a.resource, 120), clip(resource, 120))
		}
		named, a.resource = true, resource
		a.echo = append(a.echo, w)
		if value == ".default" {
			all = true
		} else {
			a.values = append(a.values, value)
		}
	}
	if all && len(a.values) > 0 {
		return a, fail(70011, clip(scope, 120), ".default cannot be combined with other scopes of the resource")
	}
	if !named && len(a.oidc) == 0 {
		return a, fail(700023, clip(scope, 120))
	}
	return a, nil
}

const graphResource = "https://graph.microsoft.com"

// target is the resource that a token is made for.
type target struct {
	resource  *directory.Application
	principal *directory.ServicePrincipal // the resource's account in the tenant
	audience  string                      // of version 1 tokens: as it was asked for
	version   int                         // of the token; the resource chooses it
	asked     []directory.Scope           // those of the request; none: all, or those of the sign-in alone

	// Of a user's token, filled by permit.
	scopes  []string              // delegated scopes
	echo    string                // the scope member of the answer
	wanted  []directory.ConsentTo // all that is asked for
	missing []directory.ConsentTo // what of it nobody has consented to
}

// resolve finds the resource in a tenant, and the scopes that are asked for.
func (a ask) resolve(dir *directory.State, tenant *directory.Tenant) (target, error) {
	name := a.resource
	if name == "" {
		name = graphResource
	}
	principal := findResource(dir, tenant.ID, name)
	if principal == nil {
		return target{}, fail(500011, clip(name, 120), tenant.DisplayName)
	}
	if !principal.Enabled {
		return target{}, fail(500014, clip(name, 120))
	}
	app := dir.ApplicationOf(principal)
	if app == nil { // a managed identity, or an application that was deleted
		return target{}, fail(500011, clip(name, 120), tenant.DisplayName)
	}
	t := target{resource: app, principal: principal, version: 1, audience: audience(name, principal, a.V1)}
	if wantsClaim(app.Optional.Access, "aud", "use_guid") {
		t.audience = app.AppID.String()
	}
	if app.TokenVersion == 2 {
		t.version, t.audience = 2, app.AppID.String()
	}
	for _, want := range a.values {
		scope := app.ScopeByValue(want)
		if scope == nil {
			return t, fail(70011, clip(want, 120), "application '"+app.DisplayName+"' does not declare it")
		}
		if !holds(scopeValues(t.asked), scope.Value) {
			t.asked = append(t.asked, *scope)
		}
	}
	return t, nil
}

// findResource finds a service principal by app id, "spn:" and app id, or identifier URI with or without a slash at its end.
func findResource(dir *directory.State, tenant directory.ID, name string) *directory.ServicePrincipal {
	if rest, ok := cutPrefixFold(name, "spn:"); ok {
		name = rest
	}
	for _, n := range []string{name, name + "/", strings.TrimSuffix(name, "/")} {
		if p := dir.ServicePrincipalByName(tenant, n); p != nil {
			return p
		}
	}
	return nil
}

// audience is the aud of a version 1 token: the resource as it was asked for, but in the directory's spelling. Asked for by
// id at a version 1 endpoint it gets the prefix "spn:", asked for at version 2 it does not.
func audience(asked string, p *directory.ServicePrincipal, v1 bool) string {
	bare, spn := cutPrefixFold(asked, "spn:")
	if id, err := directory.ParseID(strings.TrimSuffix(bare, "/")); err == nil {
		if v1 || spn {
			return "spn:" + id.String()
		}
		return id.String()
	}
	trimmed := strings.TrimSuffix(bare, "/")
	for _, n := range p.Names {
		if canonical := strings.TrimSuffix(n, "/"); strings.EqualFold(canonical, trimmed) {
			if strings.HasSuffix(bare, "/") {
				return canonical + "/"
			}
			return canonical
		}
	}
	return asked
}

// answer fills the scope member: what the token holds, in the form in which it is asked for.
func (t *target) answer(a ask) error {
	if a.resource == "" || a.V1 {
		t.echo = strings.Join(t.scopes, " ")
		return nil
	}
	var echo []string
	for _, s := range t.scopes {
		echo = append(echo, a.resource+"/"+s)
	}
	for _, e := range a.echo {
		if !slices.ContainsFunc(echo, func(s string) bool { return strings.EqualFold(s, e) }) {
			echo = append(echo, e) // clients look for what they asked for, in their own words
		}
	}
	t.echo = strings.Join(echo, " ")
	return nil
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}
