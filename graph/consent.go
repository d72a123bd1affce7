package graph

import (
	"encoding/json"
	"iter"
	"net/http"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// Values of consentType.
const (
	consentAll = "AllPrincipals"
	consentOne = "Principal"
)

// grantKind is Graph's oAuth2PermissionGrant.
var grantKind = &kind{
	name: "oAuth2PermissionGrant", set: "oauth2PermissionGrants",
	properties: []property{
		identifier("id", func(g *directory.PermissionGrant) directory.ID { return g.ID }),
		identifier("clientId", func(g *directory.PermissionGrant) directory.ID { return g.Client }),
		computed("consentType", textValue, func(_ *directory.State, g *directory.PermissionGrant) any {
			if g.ForAll() {
				return consentAll
			}
			return consentOne
		}),
		computed("principalId", textValue, func(_ *directory.State, g *directory.PermissionGrant) any {
			if g.ForAll() {
				return nil
			}
			return g.Principal.String()
		}),
		identifier("resourceId", func(g *directory.PermissionGrant) directory.ID { return g.Resource }),
		text("scope", func(g *directory.PermissionGrant) *string { return &g.Scope }),
	},
}

// assignmentKind is Graph's appRoleAssignment.
var assignmentKind = &kind{
	name: "appRoleAssignment", set: "appRoleAssignments",
	properties: []property{
		identifier("id", func(a *directory.AppRoleAssignment) directory.ID { return a.ID }),
		identifier("appRoleId", func(a *directory.AppRoleAssignment) directory.ID { return a.Role }),
		moment("createdDateTime", func(a *directory.AppRoleAssignment) time.Time { return time.Unix(a.Created, 0) }),
		constant("deletedDateTime", nil),
		computed("principalDisplayName", textValue, func(dir *directory.State, a *directory.AppRoleAssignment) any {
			_, name := principalOf(dir, a.Principal)
			return orNull(name)
		}),
		identifier("principalId", func(a *directory.AppRoleAssignment) directory.ID { return a.Principal }),
		computed("principalType", textValue, func(dir *directory.State, a *directory.AppRoleAssignment) any {
			kind, _ := principalOf(dir, a.Principal)
			return kind
		}),
		computed("resourceDisplayName", textValue, func(dir *directory.State, a *directory.AppRoleAssignment) any {
			_, name := principalOf(dir, a.Resource)
			return orNull(name)
		}),
		identifier("resourceId", func(a *directory.AppRoleAssignment) directory.ID { return a.Resource }),
	},
}

func principalOf(dir *directory.State, id directory.ID) (kind, name string) {
	if u := dir.User(id); u != nil {
		return "User", u.DisplayName
	}
	if g := dir.Group(id); g != nil {
		return "Group", g.DisplayName
	}
	if p := dir.ServicePrincipal(id); p != nil {
		return "ServicePrincipal", p.DisplayName
	}
	return "", ""
}

func (s *Server) mountConsent(m *web.Mux) {
	const grants = "/oauth2PermissionGrants"
	list := func(which func(*directory.PermissionGrant, directory.ID) bool) func(*call, object) error {
		return func(c *call, o object) error {
			return c.collection(grantKind.set, schemaOf(grantKind), c.grants(func(g *directory.PermissionGrant) bool { return which(g, o.id) }))
		}
	}
	s.route(m, "GET "+grants, read, func(c *call) error {
		return c.collection(grantKind.set, schemaOf(grantKind), c.grants(func(*directory.PermissionGrant) bool { return true }))
	})
	s.route(m, "POST "+grants, write, (*call).createGrant)
	s.route(m, "GET "+grants+"/{id}", read, onGrant(func(c *call, g *directory.PermissionGrant) error {
		return c.showObject(object{grantKind, g.ID, g})
	}))
	s.route(m, "PATCH "+grants+"/{id}", write, onGrant((*call).patchGrant))
	s.route(m, "DELETE "+grants+"/{id}", write, onGrant(func(c *call, g *directory.PermissionGrant) error {
		c.noteGrant(g)
		if err := c.Directory.DeleteGrant(c.r.Context(), c.actor(), g.ID); err != nil {
			return err
		}
		return c.noContent()
	}))
	s.route(m, "GET /servicePrincipals/{id}"+grants, read, onKind(principalKind)(list(func(g *directory.PermissionGrant, id directory.ID) bool { return g.Client == id })))
	s.route(m, "GET /users/{id}"+grants, read, onUser(list(func(g *directory.PermissionGrant, id directory.ID) bool { return g.Principal == id })))

	for path, on := range map[string]onObject{"/users/{id}": onUser, "/groups/{id}": onKind(groupKind), "/servicePrincipals/{id}": onKind(principalKind)} {
		s.assignments(m, path+"/appRoleAssignments", on, false)
	}
	s.assignments(m, "/servicePrincipals/{id}/appRoleAssignedTo", onKind(principalKind), true)

	m.Handle("POST /api/RegisteredApplications/{appId}/Consent", s.adminConsent)
}

func (c *call) grants(which func(*directory.PermissionGrant) bool) iter.Seq[object] {
	return func(yield func(object) bool) {
		for g := range c.dir.EachGrant(c.tenant) {
			if which(g) && !yield(object{grantKind, g.ID, g}) {
				return
			}
		}
	}
}

// onGrant finds the grant that a path names.
func onGrant(answer func(*call, *directory.PermissionGrant) error) func(*call) error {
	return func(c *call) error {
		key := c.r.PathValue("id")
		if id, err := directory.ParseID(key); err == nil {
			if g := c.dir.Grant(id); g != nil && g.Tenant == c.tenant {
				c.changed(g.ID)
				return answer(c, g)
			}
		}
		return directory.ErrNoObject(clip(key, 200))
	}
}

func (c *call) createGrant() error {
	b, err := readBody(c.r)
	if err != nil {
		return err
	}
	g := directory.PermissionGrant{Tenant: c.tenant}
	if g.Client, err = b.takeID("clientId", true); err != nil {
		return err
	}
	if g.Resource, err = b.takeID("resourceId", true); err != nil {
		return err
	}
	if g.Principal, err = b.takeID("principalId", false); err != nil {
		return err
	}
	var consentType string
	if err := decode(orEmpty(b.take("consentType")), &consentType, "consentType", "AllPrincipals or Principal"); err != nil {
		return err
	}
	switch {
	case consentType != consentAll && consentType != consentOne:
		return errBadRequest("consentType is '%s'; it must be AllPrincipals or Principal.", clip(consentType, 80)).At("consentType")
	case (consentType == consentAll) != g.ForAll():
		return errBadRequest("principalId is given with consentType Principal, and only then.").At("principalId")
	}
	b.take("startTime") // of an older version
	b.take("expiryTime")
	all, err := b.settings(grantKind)
	if err != nil {
		return err
	}
	if err := apply(&g, all); err != nil {
		return err
	}
	made, err := c.Directory.CreateGrant(c.r.Context(), c.actor(), g)
	if err != nil {
		return err
	}
	c.changed(made.ID)
	c.noteGrant(made)
	return c.created(object{grantKind, made.ID, made})
}

func (c *call) patchGrant(g *directory.PermissionGrant) error {
	b, err := readBody(c.r)
	if err != nil {
		return err
	}
	all, err := b.settings(grantKind)
	if err != nil {
		return err
	}
	changed := *g
	if err := apply(&changed, all); err != nil {
		return err
	}
	c.noteGrant(&changed)
	if err := c.Directory.UpdateGrant(c.r.Context(), c.actor(), g.ID, changed.Scope); err != nil {
		return err
	}
	return c.noContent()
}

func (c *call) noteGrant(g *directory.PermissionGrant) {
	c.detail("clientId", g.Client.String())
	c.detail("resourceId", g.Resource.String())
	c.detail("scope", clip(g.Scope, 200))
	if !g.ForAll() {
		c.detail("principalId", g.Principal.String())
	}
}

// assignments adds the app role assignments of a principal or, with to, those to a resource.
func (s *Server) assignments(m *web.Mux, path string, on onObject, to bool) {
	schema := schemaOf(assignmentKind)
	s.route(m, "GET "+path, read, on(func(c *call, o object) error {
		return c.collection(assignmentKind.set, schema, func(yield func(object) bool) {
			if to {
				for a := range c.dir.AssignmentsTo(o.id) {
					if !yield(object{assignmentKind, a.ID, a}) {
						return
					}
				}
				return
			}
			for _, a := range c.dir.AssignmentsOf(o.id) {
				if !yield(object{assignmentKind, a.ID, a}) {
					return
				}
			}
		})
	}))
	one := func(answer func(*call, *directory.AppRoleAssignment) error) func(*call) error {
		return on(func(c *call, o object) error {
			key := c.r.PathValue("assignment")
			if id, err := directory.ParseID(key); err == nil {
				if a := c.dir.Assignment(id); a != nil && a.Tenant == c.tenant && (to && a.Resource == o.id || !to && a.Principal == o.id) {
					return answer(c, a)
				}
			}
			return directory.ErrNoObject(clip(key, 200))
		})
	}
	s.route(m, "GET "+path+"/{assignment}", read, one(func(c *call, a *directory.AppRoleAssignment) error {
		return c.showObject(object{assignmentKind, a.ID, a})
	}))
	s.route(m, "POST "+path, write, on(func(c *call, o object) error { return c.assign(o, to) }))
	s.route(m, "DELETE "+path+"/{assignment}", write, one(func(c *call, a *directory.AppRoleAssignment) error {
		c.noteAssignment(a)
		if err := c.Directory.RemoveAppRole(c.r.Context(), c.actor(), a.ID); err != nil {
			return err
		}
		return c.noContent()
	}))
}

func (c *call) assign(o object, to bool) error {
	b, err := readBody(c.r)
	if err != nil {
		return err
	}
	a := directory.AppRoleAssignment{Tenant: c.tenant}
	if a.Principal, err = b.takeID("principalId", true); err != nil {
		return err
	}
	if a.Resource, err = b.takeID("resourceId", true); err != nil {
		return err
	}
	if a.Role, err = b.takeID("appRoleId", true); err != nil {
		return err
	}
	switch {
	case to && a.Resource != o.id:
		return errBadRequest("resourceId is %s; under the appRoleAssignedTo of %s it must be that one.", a.Resource, o.id).At("resourceId")
	case !to && a.Principal != o.id:
		return errBadRequest("principalId is %s; under the appRoleAssignments of %s it must be that one.", a.Principal, o.id).At("principalId")
	}
	if _, err := b.settings(assignmentKind); err != nil {
		return err
	}
	c.noteAssignment(&a)
	made, err := c.Directory.AssignAppRole(c.r.Context(), c.actor(), a)
	if err != nil {
		return err
	}
	return c.entity(http.StatusCreated, object{assignmentKind, made.ID, made}, &query{schema: schemaOf(assignmentKind)})
}

func (c *call) noteAssignment(a *directory.AppRoleAssignment) {
	c.detail("principalId", a.Principal.String())
	c.detail("resourceId", a.Resource.String())
	c.detail("appRoleId", a.Role.String())
}

// takeID takes an object id out of a body. null and "" are none.
func (b body) takeID(name string, required bool) (directory.ID, error) {
	var text string
	if err := decode(orEmpty(b.take(name)), &text, name, "a GUID"); err != nil {
		return directory.ID{}, err
	}
	if text == "" && !required {
		return directory.ID{}, nil
	}
	id, err := directory.ParseID(text)
	if err != nil {
		return id, errBadRequest("The property '%s' must be a GUID; it is '%s'.", name, clip(text, 80)).At(name)
	}
	return id, nil
}

func orEmpty(raw json.RawMessage) json.RawMessage {
	if raw == nil {
		return json.RawMessage(`""`)
	}
	return raw
}

// adminConsent grants an application, for everybody, all that it says it needs: an endpoint of the portal, at main.iam.ad.ext.azure.com, where az
// posts with a token for the portal's own application. The body is empty.
func (s *Server) adminConsent(w http.ResponseWriter, r *http.Request) error {
	c := &call{Server: s, w: w, r: r, view: s.Feed.View(), now: s.now(), need: write}
	c.dir = directory.In(c.view)
	err := c.grantRequired()
	c.record("POST /api/RegisteredApplications/{appId}/Consent", err)
	return err
}

func (c *call) grantRequired() (err error) {
	portal := directory.IAMExtension.String()
	if c.token, err = c.Tokens.Bearer(c.view, c.r.Header.Get("Authorization"), portal, "spn:"+portal); err != nil {
		return err
	}
	c.tenant = c.token.Tenant
	if c.token.AppOnly() {
		return errInsufficient("an application cannot consent")
	}
	if !strings.EqualFold(c.r.URL.Query().Get("onBehalfOfAll"), "true") {
		return errBadRequest("onBehalfOfAll must be true: this endpoint consents for everybody.").At("onBehalfOfAll")
	}
	key := c.r.PathValue("appId")
	appID, err := directory.ParseID(key)
	if err != nil {
		return directory.ErrNoObject(clip(key, 80))
	}
	app := c.dir.ApplicationByAppID(appID)
	if app == nil || app.Tenant != c.tenant {
		return directory.ErrNoObject(key)
	}
	c.changed(app.ID)
	err = c.Directory.Consent(c.r.Context(), c.actor(), directory.Consent{
		Client: appID, Everyone: true, Resources: c.dir.RequiredConsent(c.tenant, app),
	})
	if err != nil {
		return err
	}
	return c.noContent()
}
