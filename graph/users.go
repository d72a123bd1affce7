package graph

import (
	"encoding/json"
	"iter"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/internal/guess"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// userKind is Graph's user. The default answer is the short one of the real service.
var userKind = &kind{
	name: "user", set: "users",
	properties: []property{
		texts("businessPhones", func(u *directory.User) *[]string { return &u.BusinessPhones }),
		text("displayName", func(u *directory.User) *string { return &u.DisplayName }),
		text("givenName", func(u *directory.User) *string { return &u.GivenName }),
		text("jobTitle", func(u *directory.User) *string { return &u.JobTitle }),
		text("mail", func(u *directory.User) *string { return &u.Mail }),
		text("mobilePhone", func(u *directory.User) *string { return &u.MobilePhone }),
		text("officeLocation", func(u *directory.User) *string { return &u.OfficeLocation }),
		text("preferredLanguage", func(u *directory.User) *string { return &u.PreferredLanguage }),
		text("surname", func(u *directory.User) *string { return &u.Surname }),
		text("userPrincipalName", func(u *directory.User) *string { return &u.UPN }),
		identifier("id", func(u *directory.User) directory.ID { return u.ID }),

		flag("accountEnabled", func(u *directory.User) *bool { return &u.Enabled }).selectOnly(),
		text("userType", func(u *directory.User) *string { return &u.Type }).selectOnly(),
		text("mailNickname", func(u *directory.User) *string { return &u.MailNickname }).selectOnly(),
		text("department", func(u *directory.User) *string { return &u.Department }).selectOnly(),
		text("usageLocation", func(u *directory.User) *string { return &u.UsageLocation }).selectOnly(),
		text("onPremisesImmutableId", func(u *directory.User) *string { return &u.ImmutableID }).selectOnly(),
		moment("createdDateTime", func(u *directory.User) time.Time { return u.Created }).selectOnly(),
		computed("creationType", textValue, ofGuest(func(*directory.External) any { return "Invitation" })).selectOnly(),
		computed("externalUserState", textValue, ofGuest(func(e *directory.External) any { return e.State })).selectOnly(),
		computed("externalUserStateChangeDateTime", timeValue, ofGuest(func(e *directory.External) any { return e.Changed.UTC().Truncate(time.Second) })).selectOnly(),
		computed("identities", complexValue, identities).selectOnly(),
		moment("signInSessionsValidFromDateTime", func(u *directory.User) time.Time {
			if u.SessionsValidFrom == 0 {
				return u.Created
			}
			return time.Unix(0, u.SessionsValidFrom)
		}).selectOnly(),
	},
	relations: map[string]relation{"memberOf": (*call).memberOf}, // anybody may expand these of /me
}

func (s *Server) mountUsers(m *web.Mux) {
	s.route(m, "GET /users", read, func(c *call) error { return c.collection("users", schemaOf(userKind), c.users()) })
	s.route(m, "GET /users/$count", read, func(c *call) error { return c.count(schemaOf(userKind), c.users()) })
	s.route(m, "POST /users", write, (*call).createUser)
	s.route(m, "GET /users/{id}", read, onUser((*call).showObject))
	s.route(m, "PATCH /users/{id}", write, onUser((*call).patchUser))
	s.route(m, "DELETE /users/{id}", write, onUser((*call).deleteUser))
	s.route(m, "POST /users/{id}/revokeSignInSessions", write, onUser((*call).revokeSessions))
	s.memberships(m, "/users/{id}", read, onUser)
	s.owned(m, "/users/{id}", read, onUser)

	s.route(m, "GET /me", profile, onMe((*call).showObject))
	s.route(m, "PATCH /me", write, onMe((*call).patchUser))
	s.route(m, "POST /me/revokeSignInSessions", account, onMe((*call).revokeSessions))
	s.route(m, "POST /me/changePassword", account, (*call).changePassword)
	s.memberships(m, "/me", profile, onMe)
	s.owned(m, "/me", profile, onMe)
}

// onObject is how a route finds the object that its path names.
type onObject func(answer func(*call, object) error) func(*call) error

// onUser finds a user by object id or user principal name.
func onUser(answer func(*call, object) error) func(*call) error {
	return func(c *call) error {
		key := c.r.PathValue("id")
		u := c.dir.UserByUPN(key)
		if id, err := directory.ParseID(key); err == nil {
			u = c.dir.User(id)
		}
		if u == nil || u.Tenant != c.tenant {
			return directory.ErrNoObject(clip(key, 200))
		}
		c.changed(u.ID)
		return answer(c, object{userKind, u.ID, u})
	}
}

// onMe finds the caller, whom the token's check has found already.
func onMe(answer func(*call, object) error) func(*call) error {
	return func(c *call) error {
		u := c.dir.User(c.token.Object)
		if u == nil {
			return directory.ErrNoObject(c.token.Object.String())
		}
		c.changed(u.ID)
		return answer(c, object{userKind, u.ID, u})
	}
}

func (c *call) users() iter.Seq[object] {
	return func(yield func(object) bool) {
		for u := range c.dir.EachUser(c.tenant) {
			if !yield(object{userKind, u.ID, u}) {
				return
			}
		}
	}
}

// showObject answers GET of one object of any kind.
func (c *call) showObject(o object) error {
	q, err := parseQuery(c.r, schemaOf(o.kind), ofEntity)
	if err != nil {
		return err
	}
	return c.entity(http.StatusOK, o, q)
}

func (c *call) createUser() error {
	b, err := readBody(c.r)
	if err != nil {
		return err
	}
	if err := b.require(userKind, "accountEnabled", "displayName", "mailNickname", "userPrincipalName", "passwordProfile"); err != nil {
		return err
	}
	password, err := b.passwordProfile()
	if err != nil {
		return err
	}
	if password.Password == "" {
		return errBadRequest("A value is required for property 'passwordProfile.password' of resource 'User'.").At("passwordProfile.password")
	}
	all, err := b.settings(userKind)
	if err != nil {
		return err
	}
	user := directory.User{Tenant: c.tenant, MustChange: true} // Graph: a new user changes the password, unless told otherwise
	if password.MustChange != nil {
		user.MustChange = *password.MustChange
	}
	if err := apply(&user, all); err != nil {
		return err
	}
	made, err := c.Directory.CreateUser(c.r.Context(), c.actor(), directory.NewUser{User: user, Password: password.Password})
	if err != nil {
		return err
	}
	c.changed(made.ID)
	return c.created(object{userKind, made.ID, made})
}

func (c *call) patchUser(o object) error {
	b, err := readBody(c.r)
	if err != nil {
		return err
	}
	password, err := b.passwordProfile()
	if err != nil {
		return err
	}
	all, err := b.settings(userKind)
	if err != nil {
		return err
	}
	probe := *o.entity.(*directory.User)
	if err := check(c.dir, &probe, all); err != nil { // so that it cannot fail below
		return err
	}
	patch := directory.UserPatch{Password: password.Password, MustChange: password.MustChange}
	if len(all) > 0 {
		patch.Change = func(u *directory.User) { apply(u, all) }
	}
	if err := c.Directory.PatchUser(c.r.Context(), c.actor(), o.id, patch); err != nil {
		return err
	}
	c.note(all)
	if password.Password != "" {
		c.detail("passwordProfile", "reset")
	}
	return c.noContent()
}

func (c *call) deleteUser(o object) error {
	if err := c.Directory.DeleteUser(c.r.Context(), c.actor(), o.id); err != nil {
		return err
	}
	return c.noContent()
}

func (c *call) revokeSessions(o object) error {
	if err := c.Directory.RevokeSessions(c.r.Context(), c.actor(), o.id); err != nil {
		return err
	}
	return c.reply(http.StatusOK, members{{"@odata.context", c.context("Edm.Boolean")}, {"value", true}})
}

// passwordProfile is the part of a user that no answer ever shows.
type passwordProfile struct {
	Password   string
	MustChange *bool
}

func (b body) passwordProfile() (p passwordProfile, err error) {
	raw := b.take("passwordProfile")
	if raw == nil || isNull(raw) {
		return p, nil
	}
	var given body
	if json.Unmarshal(raw, &given) != nil { // the text may hold a password: it is in no message
		return p, errBadRequest("The property 'passwordProfile' must be an object with password and forceChangePasswordNextSignIn.").At("passwordProfile")
	}
	for name, raw := range given {
		switch strings.ToLower(name) {
		case "@odata.type":
		case "password":
			if json.Unmarshal(raw, &p.Password) != nil {
				return p, errBadRequest("The property 'passwordProfile.password' must be a string.").At("passwordProfile.password")
			}
			if p.Password == "" && !isNull(raw) {
				return p, directory.CheckPassword("", "")
			}
		case "forcechangepasswordnextsignin":
			if json.Unmarshal(raw, &p.MustChange) != nil {
				return p, errBadRequest("The property 'passwordProfile.forceChangePasswordNextSignIn' must be true or false.").At("passwordProfile")
			}
		case "forcechangepasswordnextsigninwithmfa":
			if s := strings.TrimSpace(string(raw)); s != "false" && s != "null" {
				return p, errUnsupportedProperty("passwordProfile.forceChangePasswordNextSignInWithMfa")
			}
		default:
			return p, errBadRequest("One or more properties are invalid: '%s' is not a property of 'passwordProfile'.", clip(name, 80)).At("passwordProfile")
		}
	}
	return p, nil
}

func errUnsupportedProperty(name string) error {
	return errBadRequest("The property '%s' is not supported; leave it out.", name).At(name)
}

// presentGuesses is how often a present password may be guessed with a stolen token, from wherever. Sign-in has limits of its own, which
// these leave alone: a thief of a token locks nobody out.
var presentGuesses = guess.Policy{Wrong: 5, AtOnce: 5, Lock: 15 * time.Minute, Forget: 15 * time.Minute}

// changePassword lets users replace their own password, who know it.
func (c *call) changePassword() error {
	b, err := readBody(c.r)
	if err != nil {
		return err
	}
	var current, next string
	for name, into := range map[string]*string{"currentPassword": &current, "newPassword": &next} {
		if json.Unmarshal(b.take(name), into) != nil || *into == "" { // in no message: it may be a password
			return errBadRequest("The request body must be {\"currentPassword\": \"...\", \"newPassword\": \"...\"}; '%s' is missing or is not a string.", name).At(name)
		}
	}
	done, wait := c.guesses.Begin(c.token.Object.String(), netip.Addr{})
	if done == nil {
		seconds := int(wait.Seconds()) + 1
		err := fault.New(fault.Throttled, "Too many wrong passwords for this account; try again in %d seconds.", seconds)
		err.RetryAfter = seconds
		return err
	}
	_, err = c.Directory.ChangePassword(c.r.Context(), c.actor(), current, next)
	done(guess.Of(err, directory.ErrWrongPassword))
	if err != nil {
		return err
	}
	c.changed(c.token.Object)
	return c.noContent()
}
