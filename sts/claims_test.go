package sts

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// TestRightsInTokens: which app roles, groups and directory roles tokens hold, by the registration of the application that reads them.
func TestRightsInTokens(t *testing.T) {
	s := newShop(t)
	ctx := t.Context()
	s.grant(s.client, s.api.AppID, "Orders.Read")
	role := func(n int, value string, members ...string) directory.AppRole {
		return directory.AppRole{ID: scope(n, value, "").ID, Value: value, DisplayName: value, Description: value, MemberTypes: members, Enabled: true}
	}
	off := role(103, "Off", directory.MemberUser)
	set := func(id directory.ID, change func(*directory.Application)) {
		must(t, s.dir.UpdateApplication(ctx, directory.System, id, func(a *directory.Application) error { change(a); return nil }))
	}
	roles := []directory.AppRole{role(101, "Clerk", directory.MemberUser), role(102, "Robot", directory.MemberApplication), off, role(104, "Boss", directory.MemberUser)}
	for _, a := range []*directory.Application{s.api, s.client} {
		set(a.ID, func(a *directory.Application) { a.Roles = slices.Clone(roles) })
	}
	group := func(name string, security bool, members ...directory.ID) directory.ID {
		g := directory.Group{Tenant: s.tenant.ID, DisplayName: name, MailNickname: name, SecurityEnabled: security, MailEnabled: !security}
		if !security {
			g.Types = []string{"Unified"}
		}
		made, err := s.dir.CreateGroup(ctx, directory.System, directory.NewGroup{Group: g, Members: members})
		must(t, err)
		return made.ID
	}
	assign := func(to *directory.Application, principal directory.ID, role directory.AppRole) {
		_, err := s.dir.AssignAppRole(ctx, directory.System, directory.AppRoleAssignment{Tenant: s.tenant.ID, Principal: principal, Resource: s.principal(to).ID, Role: role.ID})
		must(t, err)
	}
	inner := group("inner", true, s.alice.ID)
	outer := group("outer", true, inner)
	mail := group("mail", false, s.alice.ID)
	assign(s.api, inner, roles[0])
	assign(s.api, s.alice.ID, roles[2])
	assign(s.api, outer, roles[3]) // nested: does not count
	assign(s.client, s.alice.ID, roles[3])
	set(s.api.ID, func(a *directory.Application) { a.Roles = slices.Clone(a.Roles); a.Roles[2].Enabled = false })

	ids := func(list ...directory.ID) any {
		var out []string
		for _, id := range list {
			out = append(out, id.String())
		}
		if slices.Sort(out); out == nil {
			return nil
		}
		return out
	}
	texts := func(v any) any {
		var out []string
		for _, e := range anys(v) {
			out = append(out, e.(string))
		}
		if slices.Sort(out); out == nil {
			return nil
		}
		return out
	}
	for _, c := range []struct {
		claims directory.GroupClaims
		want   any
	}{
		{"", nil},
		{directory.ClaimSecurityGroup, ids(inner, outer)},
		{directory.ClaimAll, ids(inner, outer, mail)},
		{directory.ClaimApplicationGroup, ids(inner)},
		{directory.ClaimDirectoryRole, nil},
		{directory.ClaimDirectoryRole + "," + directory.ClaimSecurityGroup, ids(inner, outer)},
	} {
		set(s.api.ID, func(a *directory.Application) { a.GroupClaims = c.claims })
		a := s.ok(s.password("api://shop/Orders.Read openid"))
		access, id := claims(t, a.text("access_token")), claims(t, a.text("id_token"))
		if got := texts(access["groups"]); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: groups %v, want %v", c.claims, got, c.want)
		}
		if id["groups"] != nil {
			t.Errorf("%q of the resource: groups in the ID token %v", c.claims, id["groups"])
		}
		if !reflect.DeepEqual(texts(access["roles"]), []string{"Clerk"}) || !reflect.DeepEqual(texts(id["roles"]), []string{"Boss"}) {
			t.Errorf("roles %v, in the ID token %v", access["roles"], id["roles"])
		}
	}
	set(s.client.ID, func(a *directory.Application) { a.GroupClaims = directory.ClaimAll })
	must(t, s.dir.UpdateApplication(ctx, directory.System, s.api.ID, func(a *directory.Application) error { a.GroupClaims = directory.ClaimAll; return nil }))
	a := s.ok(s.post(s.v2(), values("grant_type", "password", "client_id", s.client.AppID.String(), "username", adminName, "password", adminPassword, "scope", "api://shop/Orders.Read openid")))
	for _, token := range []string{"access_token", "id_token"} {
		if got := claims(t, a.text(token))["wids"]; !reflect.DeepEqual(texts(got), []string{directory.GlobalAdministrator.String()}) {
			t.Errorf("%s: wids %v", token, got)
		}
	}
	// Exactly 200 groups are in the token; of more it says where they are.
	for n := 3; n < 200; n++ {
		group(fmt.Sprintf("g%d", n), true, s.alice.ID)
	}
	ask := func() (map[string]any, map[string]any) {
		a := s.ok(s.password("api://shop/Orders.Read openid"))
		return claims(t, a.text("access_token")), claims(t, a.text("id_token"))
	}
	if access, id := ask(); len(anys(access["groups"])) != 200 || len(anys(id["groups"])) != 200 {
		t.Errorf("200 groups: %d and %d in the tokens", len(anys(access["groups"])), len(anys(id["groups"])))
	}
	group("g200", true, s.alice.ID)
	access, id := ask()
	for name, c := range map[string]map[string]any{"access": access, "ID": id} {
		if c["groups"] != nil || c["_claim_names"] == nil || c["_claim_sources"] == nil {
			t.Errorf("201 groups, %s token: %v", name, c)
		}
	}
}

func anys(v any) []any { list, _ := v.([]any); return list }

// TestOptionalClaims: each optional claim is in the tokens of whoever asks for it, and in no other's.
func TestOptionalClaims(t *testing.T) {
	names := []string{"acct", "auth_time", "email", "family_name", "given_name", "ipaddr", "login_hint", "preferred_username", "upn"}
	list := []directory.OptionalClaim{}
	for _, n := range names {
		list = append(list, directory.OptionalClaim{Name: n})
	}
	s := newShop(t)
	s.setUser(s.alice.ID, func(u *directory.User) { u.Mail = "alice@mail.test" })
	s.grant(s.client, s.api.AppID, "Orders.Read")
	set := func(id directory.ID, change func(*directory.Application)) {
		must(t, s.dir.UpdateApplication(t.Context(), directory.System, id, func(a *directory.Application) error { change(a); return nil }))
	}
	set(s.api.ID, func(a *directory.Application) { a.TokenVersion = 2 })
	ask := func(pairs ...string) (access, id map[string]any) {
		f := values(append([]string{"grant_type", "password", "client_id", s.client.AppID.String(), "username", aliceName, "password", alicePassword, "scope", "api://shop/Orders.Read openid"}, pairs...)...)
		a := s.ok(s.post(s.v2(), f))
		return claims(t, a.text("access_token")), claims(t, a.text("id_token"))
	}
	holds := func(c map[string]any, but ...string) (out []string) {
		for _, n := range names {
			if _, ok := c[n]; ok && !slices.Contains(but, n) {
				out = append(out, n)
			}
		}
		return out
	}
	access, id := ask()
	if got := holds(access, "preferred_username"); got != nil { // which version 2 tokens have anyway
		t.Errorf("nobody asked for %q", got)
	}
	if got := holds(id); got != nil {
		t.Errorf("nobody asked for %q", got)
	}
	set(s.api.ID, func(a *directory.Application) { a.Optional.Access = list })
	if access, id = ask(); !slices.Equal(holds(access), names) || holds(id) != nil || access["email"] != "alice@mail.test" || access["upn"] != aliceName || access["acct"] != 0.0 {
		t.Errorf("of the resource: %v, ID token %v", access, holds(id))
	}
	set(s.api.ID, func(a *directory.Application) { a.Optional = directory.OptionalClaims{} })
	set(s.client.ID, func(a *directory.Application) { a.Optional.ID = list })
	if access, id = ask(); !slices.Equal(holds(id), names) || holds(access, "preferred_username") != nil {
		t.Errorf("of the client: %v, access token %v", holds(id), holds(access))
	}
	// xms_cc needs both: the resource that asks and the client that says it.
	const cp1 = `{"access_token":{"xms_cc":{"values":["cp1"]}}}`
	if access, _ = ask("claims", cp1); access["xms_cc"] != nil {
		t.Errorf("xms_cc %v", access["xms_cc"])
	}
	set(s.api.ID, func(a *directory.Application) {
		a.TokenVersion = 0
		a.Optional.Access = []directory.OptionalClaim{{Name: "xms_cc"}, {Name: "aud", Properties: []string{"use_guid"}}}
	})
	if access, _ = ask(); access["xms_cc"] != nil || access["aud"] != s.api.AppID.String() {
		t.Errorf("xms_cc %v, aud %v", access["xms_cc"], access["aud"])
	}
	if access, _ = ask("claims", cp1); !reflect.DeepEqual(access["xms_cc"], []any{"CP1"}) {
		t.Errorf("xms_cc %v", access["xms_cc"])
	}
}

// TestResponseTypes: ID tokens come with the answer only where the registration says so, never in a query, and bound to nonce and code.
func TestResponseTypes(t *testing.T) {
	s := newShop(t)
	s.grant(s.client, directory.Graph, "openid profile")
	b := s.browser()
	s.enter(b, s.visit(b, "GET", s.authorizeURL(), nil), aliceName, alicePassword)
	ask := func(pairs ...string) (url.Values, string) {
		p := s.confirmed(b, s.visit(b, "GET", s.at("openid profile", pairs...), nil))
		u, _ := url.Parse(p.header.Get("Location"))
		return s.landed(p), u.RawQuery
	}
	for name, c := range map[string]struct {
		pairs []string
		code  string
	}{
		"not registered for it":        {[]string{"response_type", "id_token"}, "AADSTS700054"},
		"nor for the hybrid":           {[]string{"response_type", "code id_token"}, "AADSTS700054"},
		"an access token":              {[]string{"response_type", "token"}, "AADSTS700051"},
		"an access token and a code":   {[]string{"response_type", "code token"}, "AADSTS700051"},
		"an access token and ID token": {[]string{"response_type", "id_token token"}, "AADSTS700051"},
		"nothing known":                {[]string{"response_type", "none"}, "AADSTS70005"},
	} {
		if got, _ := ask(c.pairs...); !strings.HasPrefix(got.Get("error_description"), c.code) || got.Get("error") != "unsupported_response_type" || got.Get("state") == "" {
			t.Errorf("%s: %v", name, got)
		}
	}
	must(t, s.dir.UpdateApplication(t.Context(), directory.System, s.client.ID, func(a *directory.Application) error { a.IssueIDToken = true; return nil }))
	for name, c := range map[string]struct {
		pairs []string
		code  string
	}{
		"no nonce":   {[]string{"response_type", "id_token", "nonce", "-"}, "AADSTS900144"},
		"by query":   {[]string{"response_type", "id_token", "response_mode", "query"}, "AADSTS70007"},
		"no openid":  {[]string{"response_type", "id_token", "scope", "https://graph.microsoft.com/User.Read"}, "AADSTS70011"},
		"with token": {[]string{"response_type", "code id_token token"}, "AADSTS700051"},
	} {
		if got, query := ask(c.pairs...); !strings.HasPrefix(got.Get("error_description"), c.code) || got.Get("id_token") != "" || query != "" {
			t.Errorf("%s: %v, query %q", name, got, query)
		}
	}
	for _, kind := range []string{"id_token", "code id_token", "id_token code"} {
		got, query := ask("response_type", kind)
		if query != "" || got.Get("id_token") == "" || (got.Get("code") != "") != strings.Contains(kind, "code") {
			t.Fatalf("%s: %v, query %q", kind, got, query)
		}
		c := claims(t, got.Get("id_token"))
		if c["nonce"] != "the nonce" || c["aud"] != s.client.AppID.String() || c["oid"] != s.alice.ID.String() || c["iss"] != s.http.URL+"/"+s.tenant.ID.String()+"/v2.0" {
			t.Errorf("%s: %v", kind, c)
		}
		if code := got.Get("code"); code != "" {
			sum := sha256.Sum256([]byte(code))
			if c["c_hash"] != base64.RawURLEncoding.EncodeToString(sum[:16]) {
				t.Errorf("c_hash %v", c["c_hash"])
			}
			s.ok(s.redeem(got))
		} else if c["c_hash"] != nil {
			t.Errorf("c_hash without a code: %v", c)
		}
		if s.verify(got.Get("id_token")) == nil {
			t.Error("an ID token passes for an access token")
		}
	}
}
