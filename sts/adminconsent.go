package sts

import (
	"context"
	"net/http"
	"net/url"
	"slices"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// adminConsent is where an application sends an administrator to consent for everybody (Microsoft identity platform, "Admin consent"):
// to what its registration says or, at version 2, to the scopes of one resource that the request names.
func (s *Server) adminConsent(version int) web.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if s.Feed.Stale() {
			return fail(90033)
		}
		f, err := parseForm(r.URL.RawQuery)
		if err != nil {
			return err
		}
		v := &visit{w: w, r: r, on: signInPage, from: web.ClientIP(r), now: s.now(), form: f}
		q, err := readAdminConsent(directory.In(s.Feed.View()), r.PathValue("tenant"), version, f)
		if q == nil {
			return err
		}
		v.state.Request = q
		if err == nil {
			err = s.startSignIn(r.Context(), v)
		}
		return s.refuseRequest(v, err)
	}
}

// readAdminConsent reads the parameters. The application need not be in the tenant yet: an administrator's consent adds it.
func readAdminConsent(dir *directory.State, segment string, version int, f form) (*authRequest, error) {
	place, err := tenancyOf(dir, segment)
	if err != nil {
		return nil, err
	}
	c, err := findClient(dir, tenancy{word: organizations}, f["client_id"])
	if err != nil {
		return nil, err
	}
	redirect, err := f.need("redirect_uri")
	if err != nil {
		return nil, err
	}
	public, err := checkRedirect(c.app, redirect)
	if err != nil {
		return nil, err
	}
	q := &authRequest{Version: version, Tenant: place.segment(), Client: c.app.AppID, Redirect: redirect, Public: public, Mode: modeQuery, State: f["state"], Admin: true}
	if version == 2 && f["scope"] != "" {
		q.Ask, err = parseScope(f["scope"])
	}
	return q, err
}

// proceedAdmin goes on with an account that may be an administrator's.
func (s *Server) proceedAdmin(ctx context.Context, v *visit, a account) error {
	dir, q := directory.In(s.Feed.View()), v.state.Request
	if !q.place(dir).holds(a.user.Tenant) {
		return fail(50020, a.user.UPN, q.place(dir).tenant.DisplayName, q.Client)
	}
	c, err := q.answerable(dir, q.place(dir))
	if err != nil {
		return err
	}
	if missing := s.decide(v, a.user, a.session.AMR, target{}); missing != nil {
		return s.stepUp(ctx, v, a, missing)
	}
	if v.state.Agreed {
		answer := url.Values{"admin_consent": {"True"}, "tenant": {a.user.Tenant.String()}}
		if q.Version == 2 {
			answer.Set("scope", q.Ask.Text)
		}
		return s.respond(v, q, answer)
	}
	if c.app.Tenant != a.user.Tenant {
		return fail(700016, q.Client, dir.Tenant(a.user.Tenant).DisplayName)
	}
	lines, err := q.adminLines(dir, c.app)
	if err != nil {
		return err
	}
	v.state.Account = a.session.ID
	return s.showConsent(v, a.user, lines)
}

// adminLines are what an administrator is asked to consent to.
func (q *authRequest) adminLines(dir *directory.State, app *directory.Application) ([]directory.ConsentTo, error) {
	asked, err := q.Ask, error(nil)
	if asked.Text != "" {
		asked, err = asked.parse()
	}
	if err != nil {
		return nil, err
	}
	if asked.Text == "" || asked.values == nil && asked.resource != "" {
		return dir.RequiredConsent(app.Tenant, app), nil
	}
	t, err := asked.resolve(dir, dir.Tenant(app.Tenant))
	if err != nil {
		return nil, err
	}
	graph := findResource(dir, app.Tenant, graphResource)
	if graph == nil {
		return nil, fail(500011, graphResource, dir.Tenant(app.Tenant).DisplayName)
	}
	signIn := join([]string{"openid", "profile", offlineAccess}, asked.signIn())
	return consentTo(graph.ID, signIn, consentTo(t.principal.ID, scopeValues(t.asked), nil)), nil
}

// hostOf is the host of a redirect URI, for people.
func hostOf(redirect string) string {
	u, err := url.Parse(redirect)
	if err != nil {
		return ""
	}
	return u.Host
}

// onPageOnly are refusals that a person must see: the application cannot do anything about them, or must not be told.
func onPageOnly(q *authRequest, f *refusal) bool {
	return slices.Contains([]fault.Kind{fault.Internal, fault.Unavailable, fault.Throttled}, f.fault.Kind) || f.number == 50011 ||
		f.number == 50105 && !q.prompts(promptNone)
}
