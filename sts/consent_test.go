package sts

import (
	"context"
	"fmt"
	"html"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/directory"
)

const shopRedirect = "http://localhost:5000"

// shop is a tenant's own resource and a client of it.
type shop struct {
	*world
	api, client *directory.Application
}

func scope(n int, value, kind string) directory.Scope {
	return directory.Scope{ID: directory.MustParseID(fmt.Sprintf("11111111-0000-0000-0000-%012d", n)), Value: value, Type: kind,
		AdminName: "Admin: " + value, AdminText: value, UserName: "User: " + value, Enabled: true}
}

func newShop(t testing.TB) *shop {
	s := &shop{world: newWorld(t)}
	off := scope(4, "Orders.Old", directory.ScopeUser)
	off.Enabled = false
	s.api = s.app(directory.Application{DisplayName: "Shop", IdentifierURIs: []string{"api://shop"}, Scopes: []directory.Scope{
		scope(1, "Orders.Read", directory.ScopeUser), scope(2, "Orders.Write", directory.ScopeUser), scope(3, "Orders.Delete", directory.ScopeAdmin), off,
	}})
	s.client = s.app(directory.Application{DisplayName: "Till", PublicClient: true, RedirectURIs: []string{"http://localhost"}})
	return s
}

// require says in the client's registration what it needs.
func (s *shop) require(resource directory.ID, access ...directory.ResourceAccess) {
	s.t.Helper()
	must(s.t, s.dir.UpdateApplication(s.t.Context(), directory.System, s.client.ID, func(a *directory.Application) error {
		a.Required = append(a.Required, directory.RequiredResource{AppID: resource, Access: access})
		return nil
	}))
}

func (s *shop) at(scope string, pairs ...string) string {
	return s.authorizeURL(append([]string{"client_id", s.client.AppID.String(), "redirect_uri", shopRedirect, "scope", scope}, pairs...)...)
}

func (s *shop) password(scope string) answer {
	return s.post(s.v2(), values("grant_type", "password", "client_id", s.client.AppID.String(), "username", aliceName, "password", alicePassword, "scope", scope))
}

// redeem exchanges the code of an answer.
func (s *shop) redeem(got url.Values) answer {
	return s.post(s.v2(), values("grant_type", "authorization_code", "client_id", s.client.AppID.String(), "code", got.Get("code"),
		"redirect_uri", shopRedirect, "code_verifier", verifier))
}

var lineMark = regexp.MustCompile(`<li>[^<]* <small>([^<,]*)`)

// shown are the permissions on a page.
func shown(p sheet) []string {
	var out []string
	for _, m := range lineMark.FindAllStringSubmatch(p.body, -1) {
		out = append(out, html.UnescapeString(m[1]))
	}
	slices.Sort(out)
	return out
}

// granted are all scopes that grants give the client for Alice, or for everybody.
func (s *shop) granted(everybody bool) []string {
	var out []string
	for g := range directory.In(s.srv.Feed.View()).EachGrant(s.tenant.ID) {
		if g.Client == s.principal(s.client).ID && g.ForAll() == everybody && (everybody || g.Principal == s.alice.ID) {
			out = append(out, strings.Fields(g.Scope)...)
		}
	}
	slices.Sort(out)
	return out
}

// TestWhoNeedsConsent: each way to be allowed, and each way not to be, at the page, without a page, and at the token endpoint.
func TestWhoNeedsConsent(t *testing.T) {
	const read, write, remove = "api://shop/Orders.Read", "api://shop/Orders.Write", "api://shop/Orders.Delete"
	sp := func(s *shop, a *directory.Application) directory.ID { return s.principal(a).ID }
	grantTo := func(user func(*shop) directory.ID, scope string) func(*shop) {
		return func(s *shop) {
			g := directory.PermissionGrant{Tenant: s.tenant.ID, Client: sp(s, s.client), Resource: sp(s, s.api), Scope: scope}
			if user != nil {
				g.Principal = user(s)
			}
			_, err := s.dir.CreateGrant(s.t.Context(), directory.System, g)
			must(s.t, err)
		}
	}
	alice := func(s *shop) directory.ID { return s.alice.ID }
	admin := func(s *shop) directory.ID { return s.admin.ID }
	for _, c := range []struct {
		name  string
		setup func(*shop)
		scope string
		page  string // "": the application gets a code
		code  int    // of the token endpoint
		scp   string
	}{
		{"nothing granted", nil, read, "consent", 65001, ""},
		{"a sign-in alone", nil, "openid profile", "consent", 65001, ""},
		{"granted for everybody", grantTo(nil, "Orders.Read"), read, "", 0, "Orders.Read"},
		{"granted for everybody, with the sign-in that clients always ask for", grantTo(nil, "Orders.Read"), read + " openid profile offline_access", "", 0, "Orders.Read"},
		{"an email address is not part of that", grantTo(nil, "Orders.Read"), read + " openid email", "consent", 65001, ""},
		{"granted for her", grantTo(alice, "Orders.Read"), read, "", 0, "Orders.Read"},
		{"granted for somebody else", grantTo(admin, "Orders.Read"), read, "consent", 65001, ""},
		{"another scope granted", grantTo(alice, "Orders.Write"), read, "consent", 65001, ""},
		{"two asked, one granted", grantTo(alice, "Orders.Write"), read + " " + write, "consent", 65001, ""},
		{"a token holds what is granted", grantTo(alice, "Orders.Write Orders.Read"), read, "", 0, "Orders.Read Orders.Write"},
		{".default is what is granted", grantTo(alice, "Orders.Write"), "api://shop/.default", "", 0, "Orders.Write"},
		{".default of nothing", nil, "api://shop/.default", "", 650057, ""},
		{".default of what is required", func(s *shop) {
			s.require(s.api.AppID, directory.ResourceAccess{ID: s.api.Scopes[0].ID, Type: directory.AccessScope})
		}, "api://shop/.default", "consent", 65001, ""},
		{"a disabled scope was granted", grantTo(alice, "Orders.Old Orders.Read"), "api://shop/.default", "", 0, "Orders.Read"},
		{"a disabled scope is asked for", grantTo(alice, "Orders.Old"), "api://shop/Orders.Old", "", 70011, ""},
		{"an unknown scope was granted", grantTo(alice, "Orders.All Orders.Read"), read, "", 0, "Orders.Read"},
		{"a scope for administrators", nil, remove, "approval", 65001, ""},
		{"a scope for administrators among others", nil, read + " " + remove, "approval", 65001, ""},
		{"a scope for administrators, granted", grantTo(nil, "Orders.Delete"), remove, "", 0, "Orders.Delete"},
		{"pre-authorized", func(s *shop) {
			must(s.t, s.dir.UpdateApplication(s.t.Context(), directory.System, s.api.ID, func(a *directory.Application) error {
				a.PreAuthorized = []directory.PreAuthorized{{AppID: s.client.AppID, Scopes: []directory.ID{a.Scopes[0].ID}}}
				return nil
			}))
		}, read + " openid profile offline_access", "", 0, "Orders.Read"},
		{"pre-authorized for another scope", func(s *shop) {
			must(s.t, s.dir.UpdateApplication(s.t.Context(), directory.System, s.api.ID, func(a *directory.Application) error {
				a.PreAuthorized = []directory.PreAuthorized{{AppID: s.client.AppID, Scopes: []directory.ID{a.Scopes[1].ID}}}
				return nil
			}))
		}, read, "consent", 65001, ""},
		{"its own resource", func(s *shop) { s.grant(s.client, directory.Graph, "openid") }, "CLIENT/.default openid", "", 0, "user_impersonation"},
		{"a resource that declares no scope", func(s *shop) {
			bare := s.app(directory.Application{DisplayName: "Bare", IdentifierURIs: []string{"api://bare"}})
			s.grant(s.client, bare.AppID, "user_impersonation")
		}, "api://bare/.default", "", 0, "user_impersonation"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newShop(t)
			if c.setup != nil {
				c.setup(s)
			}
			asked := strings.ReplaceAll(c.scope, "CLIENT", s.client.AppID.String())
			a := s.password(asked)
			if a.code() != c.code || c.code == 65001 && (a.status != 400 || a.text("error") != "invalid_grant" || a.text("suberror") != "consent_required") {
				t.Errorf("password: HTTP %d %s", a.status, a.raw)
			}
			if c.code == 0 {
				if got := claims(t, a.text("access_token"))["scp"]; got != c.scp {
					t.Errorf("scp %q, want %q", got, c.scp)
				}
			}
			b := s.browser()
			p := s.enter(b, s.visit(b, "GET", s.at(asked), nil), aliceName, alicePassword)
			if p.page != c.page {
				t.Errorf("page %q, want %q: %s", p.page, c.page, p.body)
			}
			silent := s.landed(s.visit(b, "GET", s.at(asked, "prompt", "none"), nil))
			if c.code == 0 && s.landed(s.confirmed(b, s.visit(b, "GET", s.at(asked), nil))).Get("code") == "" {
				t.Error("no code with a click")
			}
			switch want := map[int]string{0: "interaction_required", 65001: "consent_required", 70011: "invalid_scope", 650057: "invalid_resource"}[c.code]; {
			case silent.Get("error") != want:
				t.Errorf("prompt=none: %v", silent)
			}
		})
	}
}

// TestConsentIsWhatIsShown: whatever is asked for, the page shows it, accepting grants just that, and a token then holds just that.
func TestConsentIsWhatIsShown(t *testing.T) {
	s := newShop(t)
	random := rand.New(rand.NewPCG(1, 2))
	all := []string{"api://shop/Orders.Read", "api://shop/Orders.Write", "api://SHOP/orders.write", "openid", "profile", "email", "offline_access"}
	for range 25 {
		var asked []string
		for _, v := range all {
			if random.IntN(2) == 0 {
				asked = append(asked, v)
			}
		}
		if !slices.ContainsFunc(asked, func(v string) bool { return v != "offline_access" }) {
			continue
		}
		for g := range directory.In(s.srv.Feed.View()).EachGrant(s.tenant.ID) {
			must(t, s.dir.DeleteGrant(t.Context(), directory.System, g.ID))
		}
		b := s.browser()
		p := s.enter(b, s.visit(b, "GET", s.at(strings.Join(asked, " ")), nil), aliceName, alicePassword)
		s.onPage(p, "consent")
		lines := shown(p)
		token := s.ok(s.redeem(s.landed(s.step(b, p, "action", "accept"))))
		granted := s.granted(false)
		if !slices.Equal(lines, granted) || len(s.granted(true)) != 0 {
			t.Errorf("asked %q: shown %q, granted %q", asked, lines, granted)
		}
		ofShop := strings.Contains(strings.Join(asked, " "), "://")
		want := slices.DeleteFunc(slices.Clone(granted), func(v string) bool { return v == "offline_access" || ofShop != strings.HasPrefix(v, "Orders.") })
		scp := strings.Fields(claims(t, token.text("access_token"))["scp"].(string))
		if slices.Sort(scp); !slices.Equal(scp, want) {
			t.Errorf("asked %q: granted %q, scp %q", asked, granted, scp)
		}
		if (token.text("refresh_token") != "") != slices.Contains(lines, "offline_access") {
			t.Errorf("asked %q: refresh token %t", asked, token.text("refresh_token") != "")
		}
		// It is remembered: nobody is asked again.
		if got := s.landed(s.confirmed(b, s.visit(b, "GET", s.at(strings.Join(asked, " ")), nil))); got.Get("code") == "" {
			t.Errorf("asked %q again: %v", asked, got)
		}
	}
}

// TestConsentAttacks: nobody is made to consent, and nobody consents to more, or for others, than they may.
func TestConsentAttacks(t *testing.T) {
	const read, remove = "api://shop/Orders.Read", "api://shop/Orders.Delete"
	for _, c := range []struct {
		name string
		do   func(*testing.T, *shop, *http.Client) // with Alice signed in
	}{
		{"another site posts the form", func(t *testing.T, s *shop, b *http.Client) {
			p := s.visit(b, "GET", s.at(read), nil)
			s.visit(b, "POST", "/signin", values("state", p.state, "action", "accept"), "Sec-Fetch-Site", "cross-site")
		}},
		{"the form is posted from another browser", func(t *testing.T, s *shop, b *http.Client) {
			p := s.visit(b, "GET", s.at(read), nil)
			other := s.browser()
			s.enter(other, s.visit(other, "GET", s.authorizeURL(), nil), adminName, adminPassword)
			s.step(other, p, "action", "accept")
		}},
		{"the form of one of her accounts is posted as another", func(t *testing.T, s *shop, b *http.Client) {
			p := s.visit(b, "GET", s.at(read), nil)
			s.enter(b, s.visit(b, "GET", s.authorizeURL("prompt", "login"), nil), adminName, adminPassword)
			s.step(b, p, "action", "accept", "account", s.admin.ID.String(), "everyone", "1")
		}},
		{"fields name other scopes, another client, another user", func(t *testing.T, s *shop, b *http.Client) {
			p := s.visit(b, "GET", s.at("openid"), nil)
			s.step(b, p, "action", "accept", "scope", remove, "client_id", s.api.AppID.String(), "principalId", s.admin.ID.String())
			if got := s.granted(false); !slices.Equal(got, []string{"openid"}) {
				t.Errorf("granted %q", got)
			}
			for g := range directory.In(s.srv.Feed.View()).EachGrant(s.tenant.ID) {
				must(t, s.dir.DeleteGrant(t.Context(), directory.System, g.ID))
			}
		}},
		{"the page was opened for little, the address then asks for more", func(t *testing.T, s *shop, b *http.Client) {
			p := s.visit(b, "GET", s.at("openid"), nil)
			s.visit(b, "POST", "/signin?scope="+url.QueryEscape(read), values("state", p.state, "action", "cancel"))
		}},
		{"somebody who is no administrator consents for everybody", func(t *testing.T, s *shop, b *http.Client) {
			p := s.visit(b, "GET", s.at(read), nil)
			if strings.Contains(p.body, `name="everyone"`) {
				t.Error("the box is shown")
			}
			got := s.landed(s.step(b, p, "action", "accept", "everyone", "1"))
			if !strings.HasPrefix(got.Get("error_description"), "AADSTS90094:") || got.Get("code") != "" {
				t.Errorf("%v", got)
			}
		}},
		{"accept on the page that says an administrator is needed", func(t *testing.T, s *shop, b *http.Client) {
			p := s.visit(b, "GET", s.at(remove), nil)
			s.onPage(p, "approval")
			if got := s.landed(s.step(b, p, "action", "accept")); !strings.HasPrefix(got.Get("error_description"), "AADSTS90094:") {
				t.Errorf("%v", got)
			}
		}},
		{"an administrator's consent by somebody else", func(t *testing.T, s *shop, b *http.Client) {
			p := s.visit(b, "GET", s.adminAt(1), nil)
			s.onPage(p, "approval")
			if got := s.landed(s.step(b, p, "action", "accept")); got.Get("admin_consent") != "" || got.Get("error") == "" {
				t.Errorf("%v", got)
			}
		}},
		{"the scope becomes one for administrators while the page is open", func(t *testing.T, s *shop, b *http.Client) {
			p := s.visit(b, "GET", s.at(read), nil)
			must(t, s.dir.UpdateApplication(t.Context(), directory.System, s.api.ID, func(a *directory.Application) error {
				a.Scopes = slices.Clone(a.Scopes)
				a.Scopes[0].Type = directory.ScopeAdmin
				return nil
			}))
			s.step(b, p, "action", "accept")
		}},
		{"the scope is disabled while the page is open", func(t *testing.T, s *shop, b *http.Client) {
			p := s.visit(b, "GET", s.at(read), nil)
			must(t, s.dir.UpdateApplication(t.Context(), directory.System, s.api.ID, func(a *directory.Application) error {
				a.Scopes = slices.Clone(a.Scopes)
				a.Scopes[0].Enabled = false
				return nil
			}))
			s.step(b, p, "action", "accept")
		}},
		{"her sessions were ended while the page was open", func(t *testing.T, s *shop, b *http.Client) {
			p := s.visit(b, "GET", s.at(read), nil)
			must(t, s.dir.RevokeSessions(t.Context(), directory.System, s.alice.ID))
			s.onPage(s.step(b, p, "action", "accept"), "signin")
		}},
		{"no", func(t *testing.T, s *shop, b *http.Client) {
			got := s.landed(s.step(b, s.visit(b, "GET", s.at(read), nil), "action", "cancel"))
			if got.Get("error") != "access_denied" || !strings.HasPrefix(got.Get("error_description"), "AADSTS65004:") {
				t.Errorf("%v", got)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newShop(t)
			b := s.browser()
			s.enter(b, s.visit(b, "GET", s.authorizeURL(), nil), aliceName, alicePassword)
			s.pass(1) // so that what ends sessions comes after the sign-in
			c.do(t, s, b)
			for g := range directory.In(s.srv.Feed.View()).EachGrant(s.tenant.ID) {
				t.Errorf("granted: %+v", g)
			}
			if s.password(read).code() == 0 {
				t.Error("a token without consent")
			}
		})
	}
}

// TestConsentTakenBack: what a grant allowed ends with it, also for those who hold codes and refresh tokens.
func TestConsentTakenBack(t *testing.T) {
	s := newShop(t)
	const read = "api://shop/Orders.Read offline_access"
	g := s.grant(s.client, s.api.AppID, "Orders.Read")
	b := s.browser()
	got := s.landed(s.enter(b, s.visit(b, "GET", s.at(read), nil), aliceName, alicePassword))
	refresh := s.ok(s.password(read)).text("refresh_token")
	redeem := func(scope string) answer {
		return s.post(s.v2(), values("grant_type", "refresh_token", "client_id", s.client.AppID.String(), "refresh_token", refresh, "scope", scope))
	}
	s.ok(redeem(""))
	s.fails(redeem("api://shop/Orders.Write"), 65001)
	must(t, s.dir.DeleteGrant(t.Context(), directory.System, g.ID))
	s.fails(redeem(""), 65001)
	s.fails(s.redeem(got), 65001)
}

func (s *shop) adminAt(version int, pairs ...string) string {
	v := values(append([]string{"client_id", s.client.AppID.String(), "redirect_uri", shopRedirect, "state", "S"}, pairs...)...)
	return "/" + s.tenant.ID.String() + map[int]string{1: "/adminconsent?", 2: "/v2.0/adminconsent?"}[version] + v.Encode()
}

// TestAdminConsent: an administrator consents for everybody to what the registration says, or to what the request says; and adds the
// application to the tenant if it was not there.
func TestAdminConsent(t *testing.T) {
	graphRole := directory.MustParseID("7ab1d382-f21e-4acd-a863-ba3e13f7da61")
	for _, c := range []struct {
		name    string
		version int
		pairs   []string
		want    []string
		role    bool
	}{
		{"version 1", 1, nil, []string{"Orders.Delete", "offline_access", "openid", "profile"}, true},
		{"version 2 with .default", 2, []string{"scope", "https://graph.microsoft.com/.default"}, []string{"Orders.Delete", "offline_access", "openid", "profile"}, true},
		{"version 2 with scopes", 2, []string{"scope", "api://shop/Orders.Write email"}, []string{"Orders.Write", "email", "offline_access", "openid", "profile"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newShop(t)
			s.require(s.api.AppID, directory.ResourceAccess{ID: s.api.Scopes[2].ID, Type: directory.AccessScope})
			s.require(directory.Graph, directory.ResourceAccess{ID: graphRole, Type: directory.AccessRole})
			must(t, s.dir.DeleteServicePrincipal(t.Context(), directory.System, s.principal(s.client).ID))
			b := s.browser()
			p := s.enter(b, s.visit(b, "GET", s.adminAt(c.version, c.pairs...), nil), adminName, adminPassword)
			s.onPage(p, "consent")
			if got := s.landed(s.step(b, p, "action", "cancel")); got.Get("error") != "access_denied" || got.Get("state") != "S" || got.Get("admin_consent") != "" {
				t.Errorf("no: %v", got)
			}
			got := s.landed(s.step(b, p, "action", "accept"))
			if got.Get("admin_consent") != "True" || got.Get("tenant") != s.tenant.ID.String() || got.Get("state") != "S" || got.Get("code") != "" {
				t.Errorf("yes: %v", got)
			}
			if all := s.granted(true); !slices.Equal(all, c.want) || len(s.granted(false)) != 0 {
				t.Errorf("granted %q, want %q", all, c.want)
			}
			roles := directory.In(s.srv.Feed.View()).AssignmentsOf(s.principal(s.client).ID)
			if (len(roles) == 1 && roles[0].Role == graphRole) != c.role {
				t.Errorf("roles %+v", roles)
			}
			for _, role := range []string{"Read the directory, without anybody signed in"} {
				if strings.Contains(p.body, role) != c.role {
					t.Errorf("the page does not show what is granted: %s", p.body)
				}
			}
			if !slices.ContainsFunc(s.events(), func(e audit.Event) bool {
				return e.Action == "consent" && e.Outcome == audit.Allowed && e.Details["consentType"] == "AllPrincipals" && e.Actor == s.admin.ID.String()
			}) {
				t.Error("no audit event")
			}
		})
	}
}

// TestConsentForEverybody: an administrator may tick the box on the usual page.
func TestConsentForEverybody(t *testing.T) {
	s := newShop(t)
	b := s.browser()
	p := s.enter(b, s.visit(b, "GET", s.at("api://shop/Orders.Delete openid"), nil), adminName, adminPassword)
	s.onPage(p, "consent")
	s.landed(s.step(b, p, "action", "accept", "everyone", "1"))
	if got := s.granted(true); !slices.Equal(got, []string{"Orders.Delete", "openid"}) {
		t.Errorf("granted %q", got)
	}
	s.ok(s.password("api://shop/Orders.Delete openid profile"))
}

// TestDeviceConsent: the device page asks for consent, too.
func TestDeviceConsent(t *testing.T) {
	s := newShop(t)
	start := func() answer {
		return s.ok(s.post("/"+s.tenant.ID.String()+"/oauth2/v2.0/devicecode", values("client_id", s.client.AppID.String(), "scope", "api://shop/Orders.Read")))
	}
	poll := func(a answer) answer {
		return s.post(s.v2(), values("grant_type", "urn:ietf:params:oauth:grant-type:device_code", "client_id", s.client.AppID.String(), "device_code", a.text("device_code")))
	}
	walk := func(b *http.Client, a answer) sheet {
		p := s.next(b, s.visit(b, "GET", "/devicelogin", nil), "otc", a.text("user_code"))
		p = s.next(b, p, "loginfmt", aliceName, "passwd", alicePassword)
		s.onPage(p, "consent")
		if got := shown(p); !slices.Equal(got, []string{"Orders.Read"}) {
			t.Errorf("shown %q", got)
		}
		return p
	}
	b := s.browser()
	declined := start()
	s.onPage(s.next(b, walk(b, declined), "action", "cancel"), "done")
	s.fails(poll(declined), 70028)
	accepted := start()
	p := s.next(b, walk(b, accepted), "action", "accept")
	s.onPage(p, "confirm")
	s.fails(poll(accepted), 70016)
	s.onPage(s.next(b, p, "action", "continue"), "done")
	if got := claims(t, s.ok(poll(accepted)).text("access_token"))["scp"]; got != "Orders.Read" {
		t.Errorf("scp %v", got)
	}
}

// TestAssignmentRequired: only who has been assigned uses an application that demands it.
func TestAssignmentRequired(t *testing.T) {
	s := newShop(t)
	ctx := context.Background()
	s.grant(s.client, s.api.AppID, "Orders.Read")
	demand := func(a *directory.Application) {
		must(t, s.dir.UpdateServicePrincipal(ctx, directory.System, s.principal(a).ID, func(p *directory.ServicePrincipal) error {
			p.AssignmentRequired = true
			return nil
		}))
	}
	assign := func(to, principal directory.ID) {
		_, err := s.dir.AssignAppRole(ctx, directory.System, directory.AppRoleAssignment{Tenant: s.tenant.ID, Principal: principal, Resource: to})
		must(t, err)
	}
	const read = "api://shop/Orders.Read"
	demand(s.client)
	s.fails(s.password(read), 50105)
	b := s.browser()
	if p := s.enter(b, s.visit(b, "GET", s.at(read), nil), aliceName, alicePassword); p.page != "message" || !strings.Contains(p.body, "AADSTS50105") {
		t.Errorf("page %q: %s", p.page, p.body)
	}
	if got := s.landed(s.visit(b, "GET", s.at(read, "prompt", "none"), nil)); got.Get("error") != "interaction_required" {
		t.Errorf("prompt=none: %v", got)
	}
	inner, err := s.dir.CreateGroup(ctx, directory.System, directory.NewGroup{Group: directory.Group{Tenant: s.tenant.ID, DisplayName: "in", MailNickname: "in", SecurityEnabled: true}, Members: []directory.ID{s.alice.ID}})
	must(t, err)
	outer, err := s.dir.CreateGroup(ctx, directory.System, directory.NewGroup{Group: directory.Group{Tenant: s.tenant.ID, DisplayName: "out", MailNickname: "out", SecurityEnabled: true}, Members: []directory.ID{inner.ID}})
	must(t, err)
	assign(s.principal(s.client).ID, outer.ID)
	s.fails(s.password(read), 50105) // a group within a group does not count
	assign(s.principal(s.client).ID, inner.ID)
	s.ok(s.password(read))
	demand(s.api)
	s.fails(s.password(read), 50105)
	assign(s.principal(s.api).ID, s.alice.ID)
	s.ok(s.password(read))

	daemon := s.app(directory.Application{DisplayName: "Daemon"})
	_, secret, err := s.dir.AddAppSecret(ctx, directory.System, daemon.ID, directory.PasswordCredential{})
	must(t, err)
	ask := func() answer {
		return s.post(s.v2(), values("grant_type", "client_credentials", "client_id", daemon.AppID.String(), "client_secret", secret, "scope", "api://shop/.default"))
	}
	s.fails(ask(), 501051)
	assign(s.principal(s.api).ID, s.principal(daemon).ID)
	s.ok(ask())
}
