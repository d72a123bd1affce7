package sts

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
)

// Consent: what a client may do as a user is what has been granted to it, by that user or by an administrator for everybody, or what the
// resource has authorized it for. First-party clients need none. A target says what is missing (see target.permit); the token
// endpoint refuses then, the pages ask. What a page shows is sealed into its form, and what is granted is that and nothing else.

// offlineAccess is the scope of a refresh token.
const offlineAccess = "offline_access"

// permit decides which scopes a user's token holds and which of those that are asked for nobody has consented to. It also holds client
// and resource against the rule that only those who have been assigned may use them.
func (t *target) permit(dir *directory.State, a ask, c *client, user *directory.User, at time.Time) error {
	groups := dir.MemberOf(user.ID, at)
	for _, sp := range []*directory.ServicePrincipal{c.principal, t.principal} {
		if sp.AssignmentRequired && len(dir.Assigned(user.ID, sp.ID, groups)) == 0 {
			return fail(50105, sp.AppID, sp.DisplayName, user.UPN)
		}
	}
	if c.firstParty() {
		return t.allow(dir, a, user)
	}
	g := consents{dir, c, user}
	want, have := t.asked, t.consented(g)
	if a.resource != "" && a.values == nil {
		if want = have; len(have) == 0 {
			want = c.app.RequiredScopes(t.resource) // nothing yet: it may be asked for
		}
		if len(want) == 0 {
			return fail(650057, c.app.AppID, c.app.DisplayName, t.resource.AppID, t.resource.DisplayName)
		}
	}
	t.scopes = join(scopeValues(have), scopeValues(want))
	if t.resource.AppID == directory.Graph {
		t.scopes = join(slices.Clone(a.oidc), t.scopes)
	}
	missing := slices.DeleteFunc(slices.Clone(want), func(s directory.Scope) bool { return g.covers(t.principal, t.resource, s) })
	signIn := a.signIn()
	t.wanted = consentTo(t.principal.ID, scopeValues(want), nil)
	t.missing = consentTo(t.principal.ID, scopeValues(missing), nil)
	own := t.resource.AppID == c.app.AppID
	implied := !own && len(want) > 0 && len(missing) == 0
	if graph := findResource(dir, user.Tenant, graphResource); graph != nil {
		t.wanted = consentTo(graph.ID, signIn, t.wanted)
		t.missing = consentTo(graph.ID, g.withoutSignIn(graph, signIn, implied), t.missing)
	}
	return t.answer(a)
}

// allow fills the scopes of a first-party client: those asked for, or all.
func (t *target) allow(dir *directory.State, a ask, user *directory.User) error {
	asked := t.asked
	if a.values == nil && a.resource != "" {
		asked = slices.DeleteFunc(t.resource.Delegated(), isSignIn)
	}
	if t.scopes = scopeValues(asked); a.resource == "" {
		t.scopes = a.oidc
	}
	if len(t.scopes) == 0 {
		return fail(70011, clip(a.Text, 120), "all scopes that application '"+t.resource.DisplayName+"' declares are disabled")
	}
	t.wanted = consentTo(t.principal.ID, scopeValues(asked), nil)
	if graph := findResource(dir, user.Tenant, graphResource); graph != nil {
		t.wanted = consentTo(graph.ID, a.signIn(), t.wanted)
	}
	return t.answer(a)
}

// consented are the scopes of the resource that the client may use for the user already, but for those of the sign-in.
func (t *target) consented(g consents) []directory.Scope {
	if t.resource.AppID == g.client.app.AppID && len(t.asked) > 0 {
		return nil // its own scopes: those that it asks for
	}
	return slices.DeleteFunc(t.resource.Delegated(), func(s directory.Scope) bool { return isSignIn(s) || !g.covers(t.principal, t.resource, s) })
}

// consents are what a client may do as a user.
type consents struct {
	dir    *directory.State
	client *client
	user   *directory.User
}

// covers reports whether a scope needs no further consent. An application may call itself.
func (g consents) covers(sp *directory.ServicePrincipal, app *directory.Application, s directory.Scope) bool {
	return app.AppID == g.client.app.AppID || holds(g.dir.Granted(g.client.principal.ID, sp.ID, g.user.ID), s.Value) ||
		app.PreAuthorizes(g.client.app.AppID, s.ID)
}

// withoutSignIn are those of the sign-in's scopes that nobody has consented to. Whoever has consented to anything has consented to
// the sign-in that it needs, as in Entra: clients ask for openid, profile and offline_access always. An email address is not part of that.
func (g consents) withoutSignIn(graph *directory.ServicePrincipal, scopes []string, implied bool) []string {
	implied = implied || g.dir.Consented(g.client.principal.ID, g.user.ID)
	granted := g.dir.Granted(g.client.principal.ID, graph.ID, g.user.ID)
	return slices.DeleteFunc(slices.Clone(scopes), func(s string) bool { return holds(granted, s) || implied && s != "email" })
}

// static is what a client is asked to have consent for when a version 1 request does not name a resource: what its registration says.
func (g consents) static() (missing []directory.ConsentTo) {
	for _, to := range g.dir.RequiredConsent(g.user.Tenant, g.client.app) {
		sp := g.dir.ServicePrincipal(to.Resource)
		app := g.dir.ApplicationOf(sp)
		scopes := slices.DeleteFunc(to.Scopes, func(v string) bool { s := app.ScopeByValue(v); return s == nil || g.covers(sp, app, *s) })
		if app.AppID == directory.Graph {
			scopes = slices.DeleteFunc(scopes, func(v string) bool {
				return isSignIn(directory.Scope{Value: v}) && !holds(g.withoutSignIn(sp, []string{v}, false), v)
			})
		}
		missing = consentTo(to.Resource, scopes, missing)
	}
	return missing
}

// signIn are the scopes of the sign-in that a request asks for.
func (a ask) signIn() []string {
	if a.offline {
		return append(slices.Clone(a.oidc), offlineAccess)
	}
	return a.oidc
}

func isSignIn(s directory.Scope) bool {
	return slices.Contains([]string{"openid", "profile", "email", offlineAccess}, s.Value)
}

func holds(list []string, value string) bool {
	return slices.ContainsFunc(list, func(v string) bool { return strings.EqualFold(v, value) })
}

func scopeValues(list []directory.Scope) []string {
	var out []string
	for _, s := range list {
		out = append(out, s.Value)
	}
	return out
}

func join(list, more []string) []string {
	for _, v := range more {
		if !holds(list, v) {
			list = append(list, v)
		}
	}
	return list
}

// consentTo puts scopes of a resource before what else there is to consent to.
func consentTo(resource directory.ID, scopes []string, others []directory.ConsentTo) []directory.ConsentTo {
	if len(scopes) == 0 {
		return others
	}
	out := []directory.ConsentTo{{Resource: resource, Scopes: join(nil, scopes)}}
	for _, o := range others {
		if o.Resource == resource && len(o.Roles) == 0 {
			out[0].Scopes = join(out[0].Scopes, o.Scopes)
		} else {
			out = append(out, o)
		}
	}
	return out
}

// permit holds an exchange against what has been consented to, and against assignments.
func (x *exchange) permit() error {
	if x.subject.user != nil {
		if err := x.target.permit(x.dir(), x.ask, x.client, x.subject.user, x.now); err != nil {
			return err
		}
		if len(x.target.missing) > 0 {
			return fail(65001, x.client.app.AppID, x.client.app.DisplayName)
		}
		return nil
	}
	sp, self := x.target.principal, x.client.principal
	if sp.AssignmentRequired && sp.ID != self.ID && len(x.dir().Assigned(self.ID, sp.ID, nil)) == 0 {
		return fail(501051, x.client.app.AppID, x.client.app.DisplayName, sp.AppID, sp.DisplayName)
	}
	return nil
}

// showConsent asks for consent to some permissions; or says that an administrator is needed, if one is. Consent is given in a tenant: a guest
// gives it as the guest.
func (s *Server) showConsent(v *visit, user *directory.User, lines []directory.ConsentTo) error {
	dir := directory.In(s.Feed.View())
	v.state.Step, v.state.Consent = stepConsent, lines
	admin := dir.HasRole(user.ID, directory.GlobalAdministrator)
	view := pageView{
		Title: "Permissions requested", App: s.appName(v.client()), AppID: v.client().String(), Account: cmp.Or(dir.Home(user), user).UPN,
		Tenant: dir.Tenant(user.Tenant).DisplayName, Device: v.on == devicePage, ForAll: v.forAdmin(),
	}
	if v.on == devicePage {
		view.Step = 3
	} else {
		view.Address = hostOf(v.state.Request.Redirect)
	}
	needed := view.ForAll
	for _, l := range lines {
		scopes, forAdmins := linesOf(dir, l, view.ForAll)
		view.Scopes = append(view.Scopes, scopes...)
		needed = needed || forAdmins
	}
	if needed && !admin {
		view.Title = "Need admin approval"
		return s.showForm(v, 200, "approval", view)
	}
	view.Everyone = admin && !view.ForAll && s.grantable(v.client())
	return s.showForm(v, 200, "consent", view)
}

// grantable reports whether consent to a client is kept: what a first-party client may do is not for people to decide.
func (s *Server) grantable(client directory.ID) bool { return directory.FirstPartyApp(client) == nil }

// linesOf says in words what somebody would consent to, for themselves or for all, and whether only administrators can.
func linesOf(dir *directory.State, to directory.ConsentTo, all bool) (lines []scopeView, admin bool) {
	sp := dir.ServicePrincipal(to.Resource)
	if sp == nil || dir.ApplicationOf(sp) == nil {
		return nil, true
	}
	app, of := dir.ApplicationOf(sp), sp.DisplayName
	if sp.AppID == directory.Graph {
		of = ""
	}
	for _, value := range to.Scopes {
		line := scopeView{Text: value, Value: value, Of: of}
		if s := app.ScopeByValue(value); s != nil {
			line.Value = s.Value
			if line.Text = s.UserName; line.Text == "" || all {
				line.Text = s.AdminName
			}
			admin = admin || s.Type != directory.ScopeUser
		}
		lines = append(lines, line)
	}
	for _, id := range to.Roles {
		if r := app.Role(id); r != nil {
			lines = append(lines, scopeView{Text: r.DisplayName + ", without anybody signed in", Value: r.Value, Of: of})
		}
		admin = true
	}
	return lines, admin
}

// consent grants what the form's page has shown.
func (s *Server) consent(ctx context.Context, v *visit, user *directory.User) error {
	if !s.grantable(v.client()) {
		return nil
	}
	everyone := v.form["everyone"] == "1" || v.forAdmin()
	err := s.Directory.Consent(ctx, directory.Actor{ID: user.ID, Tenant: user.Tenant}, directory.Consent{
		Client: v.client(), Everyone: everyone, Resources: v.state.Consent,
	})
	if fault.Is(err, fault.Denied) {
		err = fail(90094, v.client(), s.appName(v.client()))
	}
	s.recordConsent(v, user, everyone, err)
	return err
}

func (s *Server) recordConsent(v *visit, user *directory.User, everyone bool, err error) {
	dir := directory.In(s.Feed.View())
	e := audit.Event{
		Time: v.now.UTC(), Request: traceID(v.r), Tenant: user.Tenant.String(), Actor: user.ID.String(), Client: v.client().String(),
		Address: v.from.String(), Action: "consent", Outcome: audit.Allowed,
		Details: map[string]string{"method": v.on.purpose, "user": user.UPN, "consentType": "Principal"},
	}
	if everyone {
		e.Details["consentType"] = "AllPrincipals"
	}
	for _, to := range v.state.Consent {
		if sp := dir.ServicePrincipal(to.Resource); sp != nil {
			what := slices.Clone(to.Scopes)
			for _, r := range to.Roles {
				what = append(what, r.String())
			}
			e.Details["to "+sp.AppID.String()] = strings.Join(what, " ")
		}
	}
	s.conclude(&e, v.r, err)
}

// stepConsent takes the person's decision on the sign-in page.
func (s *Server) stepConsent(ctx context.Context, v *visit, a account) error {
	user, _, err := s.entry(v, a)
	if err != nil {
		return err
	}
	switch v.form["action"] {
	case "accept":
		if err := s.consent(ctx, v, user); err != nil {
			return err
		}
		v.state.Agreed = true
		return s.proceed(ctx, v, a)
	case "other":
		v.state.Consent = nil
		return s.showSignIn(v, 200, "", "")
	case "cancel":
		err := fail(65004).sub("cancel")
		s.recordSignIn(v, a, err)
		return err
	}
	return s.refuseOnPage(v)
}

// deviceConsent goes on with a user on the device page: it asks for what nobody has consented to yet.
func (s *Server) deviceConsent(v *visit, home *directory.User) error {
	dir := directory.In(s.Feed.View())
	user, tenant, err := s.entry(v, account{&Session{Began: v.state.Proved}, home})
	if err != nil {
		return err
	}
	asked, err := v.flow.Ask.parse()
	if err != nil {
		return err
	}
	c, err := findClient(dir, tenancy{tenant: tenant}, v.flow.Client.String())
	if err != nil {
		return err
	}
	t, err := asked.resolve(dir, tenant)
	if err == nil {
		err = t.permit(dir, asked, c, user, v.now)
	}
	if err != nil {
		return err
	}
	if len(t.missing) > 0 {
		return s.showConsent(v, user, t.missing)
	}
	return s.showConfirm(v, home)
}

// stepDeviceConsent takes the person's decision on the device page.
func (s *Server) stepDeviceConsent(ctx context.Context, v *visit) error {
	home, err := s.visitor(v)
	if err != nil {
		return err
	}
	user, _, err := s.entry(v, account{&Session{Began: v.state.Proved}, home})
	if err != nil {
		return err
	}
	switch v.form["action"] {
	case "accept":
		if err := s.consent(ctx, v, user); err != nil {
			return err
		}
		return s.deviceConsent(v, home)
	case "other":
		return s.showSignIn(v, 200, "", "")
	case "cancel":
		return s.stepConfirm(ctx, v)
	}
	return s.refuseOnPage(v)
}
