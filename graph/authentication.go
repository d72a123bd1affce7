package graph

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
	"github.com/gatehouse-k8s/gatehouse/sts"
)

// beta is the version under which Microsoft documents the requirements, and nothing else here.
const beta = "/beta"

// passwordMethod is the id that every user's password has as an authentication method.
const passwordMethod = "28c10230-6103-485e-b985-444c60001490"

// mountAuthentication adds the authentication methods of users, and whether they must use a second one (Microsoft Graph "authentication
// methods", "strongAuthenticationRequirements").
func (s *Server) mountAuthentication(m *web.Mux) {
	for _, at := range []struct {
		path         string
		look, change need
		on           onObject
	}{
		{"/users/{id}/authentication", read, write, onUser},
		{"/me/authentication", profile, account, onMe},
	} {
		on := func(answer func(*call, object) error) func(*call) error {
			return at.on(func(c *call, o object) error {
				if err := c.mayManageMethods(o.id); err != nil {
					return err
				}
				return answer(c, o)
			})
		}
		for _, set := range []string{"methods", "passwordMethods", "softwareOathMethods", "fido2Methods"} {
			s.route(m, "GET "+at.path+"/"+set, at.look, on(func(c *call, o object) error { return c.methods(o, set) }))
			s.route(m, "GET "+at.path+"/"+set+"/{method}", at.look, on(func(c *call, o object) error { return c.method(o, set) }))
			if kindOfSet[set] != "" {
				s.route(m, "DELETE "+at.path+"/"+set+"/{method}", at.change, on(func(c *call, o object) error { return c.removeMethod(o, set) }))
			}
		}
		s.routeAt(m, beta, "GET "+at.path+"/requirements", at.look, on((*call).requirements))
	}
	s.routeAt(m, beta, "PATCH /users/{id}/authentication/requirements", write, onUser((*call).setRequirements))
}

// kindOfSet are the collections of methods that can be removed.
var kindOfSet = map[string]string{"softwareOathMethods": directory.MethodTOTP, "fido2Methods": directory.MethodPasskey}

// mayManageMethods: how somebody signs in is for themselves and for administrators to see.
func (c *call) mayManageMethods(user directory.ID) error {
	if user == c.token.Object || c.dir.HasRole(c.token.Object, directory.GlobalAdministrator) {
		return nil
	}
	return errInsufficient("only administrators may see the authentication methods of others")
}

// methodsOf are the methods of a user that a collection holds.
func methodsOf(u *directory.User, set string) []members {
	list := []members{}
	if set == "methods" || set == "passwordMethods" {
		list = append(list, members{{"@odata.type", "#microsoft.graph.passwordAuthenticationMethod"}, {"id", passwordMethod}, {"password", nil}, {"createdDateTime", nil}})
	}
	for _, m := range u.Methods {
		if set != "methods" && kindOfSet[set] != m.Kind {
			continue
		}
		created := m.Created.UTC().Truncate(time.Second)
		if m.Kind == directory.MethodTOTP {
			list = append(list, members{{"@odata.type", "#microsoft.graph.softwareOathAuthenticationMethod"}, {"id", m.ID}, {"secretKey", nil}, {"createdDateTime", created}})
			continue
		}
		var guid any
		if m.AAGUID != "" {
			guid = m.AAGUID
		}
		list = append(list, members{
			{"@odata.type", "#microsoft.graph.fido2AuthenticationMethod"}, {"id", m.ID}, {"displayName", m.Name}, {"createdDateTime", created},
			{"aaGuid", guid}, {"model", nil}, {"attestationCertificates", []string{}}, {"attestationLevel", "notAttested"},
		})
	}
	return list
}

func (c *call) methodsContext(o object, set string) string {
	return c.context("users('" + o.id.String() + "')/authentication/" + set)
}

func (c *call) methods(o object, set string) error {
	list := methodsOf(o.entity.(*directory.User), set)
	if set != "methods" { // of one type: it need not be named
		for i := range list {
			list[i] = list[i][1:]
		}
	}
	return c.reply(http.StatusOK, members{{"@odata.context", c.methodsContext(o, set)}, {"value", list}})
}

func (c *call) method(o object, set string) error {
	want := c.r.PathValue("method")
	for _, m := range methodsOf(o.entity.(*directory.User), set) {
		id, _ := m[1].value.(string)
		if guid, ok := m[1].value.(directory.ID); ok {
			id = guid.String()
		}
		if strings.EqualFold(id, want) {
			return c.reply(http.StatusOK, append(members{{"@odata.context", c.methodsContext(o, set) + "/$entity"}}, m...))
		}
	}
	return directory.ErrNoObject(clip(want, 80))
}

// removeMethod removes a second factor. Of one's own only who has just shown one may: a stolen token must not take away what protects
// the account from its thief.
func (c *call) removeMethod(o object, set string) error {
	text := c.r.PathValue("method")
	id, err := directory.ParseID(text)
	if err != nil {
		return directory.ErrNoObject(clip(text, 80))
	}
	for _, m := range o.entity.(*directory.User).Methods {
		if m.ID != id || m.Kind != kindOfSet[set] {
			continue
		}
		if o.id == c.token.Object && !sts.In(c.view).ProvedMFA(c.token.Session, c.now) {
			return fault.New(fault.Denied, "Removing your own sign-in method needs a sign-in with a second factor in the last 10 minutes. Remove it on your account page, /myaccount, or ask an administrator.").
				WithCode("accessDenied")
		}
		c.detail("method", id.String())
		if err := c.Directory.RemoveMethod(c.r.Context(), c.actor(), o.id, id); err != nil {
			return err
		}
		return c.noContent()
	}
	return directory.ErrNoObject(id.String())
}

func (c *call) requirements(o object) error {
	return c.reply(http.StatusOK, members{{"perUserMfaState", o.entity.(*directory.User).PerUserMFA()}})
}

func (c *call) setRequirements(o object) error {
	b, err := readBody(c.r)
	if err != nil {
		return err
	}
	var state string
	raw := b.take("perUserMfaState")
	if raw == nil || json.Unmarshal(raw, &state) != nil {
		return errBadRequest("The request body must be {\"perUserMfaState\": \"disabled\"}, or \"enabled\" or \"enforced\".").At("perUserMfaState")
	}
	for name := range b {
		if !strings.HasPrefix(name, "@odata.") {
			return errBadRequest("One or more properties are invalid: '%s' is not a property of 'strongAuthenticationRequirements'.", clip(name, 80)).At(clip(name, 80))
		}
	}
	c.detail("perUserMfaState", clip(state, 40))
	if err := c.Directory.SetMFA(c.r.Context(), c.actor(), o.id, state); err != nil {
		return err
	}
	return c.noContent()
}
