package graph

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

func (s *Server) mountInvitations(m *web.Mux) {
	s.route(m, "POST /invitations", write, (*call).invite)
}

// invite adds a guest (Microsoft Graph "Create invitation"). No mail is sent: the answer says so, and its link is for the caller to pass on.
func (c *call) invite() error {
	b, err := readBody(c.r)
	if err != nil {
		return err
	}
	n := directory.Invitation{Tenant: c.tenant}
	var mail, reset bool
	var id directory.ID
	for _, p := range []struct {
		name, want string
		into       any
	}{
		{"invitedUserEmailAddress", "an address such as alice@fabrikam.example", &n.Address}, {"inviteRedirectUrl", "a URL", &n.Redirect},
		{"invitedUserDisplayName", "a string", &n.DisplayName}, {"invitedUserType", "Guest or Member", &n.Type},
		{"sendInvitationMessage", "true or false", &mail}, {"resetRedemption", "true or false", &reset}, {"invitedUser", "an object", new(map[string]any)},
		{"invitedUserMessageInfo", "an object", new(map[string]any)}, // the mail's words
	} {
		if raw := b.take(p.name); raw != nil && !isNull(raw) && json.Unmarshal(raw, p.into) != nil {
			return errBadRequest("The property '%s' must be %s; it is %s.", p.name, p.want, clip(string(raw), 80)).At(p.name)
		}
	}
	b.take("@odata.type")
	for name := range b {
		return errBadRequest("One or more properties are invalid: '%s' is not a property of 'invitation'.", clip(name, 80)).At(name)
	}
	u, err := url.Parse(n.Redirect)
	switch {
	case n.Address == "":
		return errBadRequest("A value is required for property 'invitedUserEmailAddress' of resource 'Invitation'.").At("invitedUserEmailAddress")
	case n.Redirect == "":
		return errBadRequest("A value is required for property 'inviteRedirectUrl' of resource 'Invitation': where the person goes after accepting.").At("inviteRedirectUrl")
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || len(n.Redirect) > 2048:
		return errBadRequest("The inviteRedirectUrl %q is not a URL of the form https://HOST/PATH.", clip(n.Redirect, 200)).At("inviteRedirectUrl")
	case reset:
		return errUnsupportedProperty("resetRedemption")
	}
	guest, err := c.Directory.Invite(c.r.Context(), c.actor(), n)
	if err != nil {
		return err
	}
	c.changed(guest.ID)
	c.detail("invitedUserEmailAddress", guest.External.Address)
	if id, err = directory.NewID(rand.Reader); err != nil {
		return err
	}
	status := "PendingAcceptance"
	if guest.External.State == directory.Accepted {
		status = "Completed"
	}
	link := strings.TrimSuffix(c.Base, "/") + "/redeem?" + url.Values{"tenant": {c.tenant.String()}, "user": {guest.ID.String()}}.Encode()
	return c.reply(http.StatusCreated, members{
		{"@odata.context", c.context("invitations/$entity")}, {"id", id}, {"inviteRedeemUrl", link}, {"invitedUserDisplayName", guest.DisplayName},
		{"invitedUserEmailAddress", guest.Mail}, {"invitedUserType", guest.Type}, {"inviteRedirectUrl", n.Redirect}, {"sendInvitationMessage", false},
		{"resetRedemption", false}, {"status", status}, {"invitedUserMessageInfo", nil}, {"invitedUser", members{{"id", guest.ID}}},
	})
}

// ofGuest makes the value of a property that only guests have.
func ofGuest(get func(*directory.External) any) func(*directory.State, *directory.User) any {
	return func(_ *directory.State, u *directory.User) any {
		if u.External == nil {
			return nil
		}
		return get(u.External)
	}
}

// identities say how a user signs in (Microsoft Graph objectIdentity). Of a guest whose home is on this server they name another directory, of
// others the address alone.
func identities(dir *directory.State, u *directory.User) any {
	list := []members{{{"signInType", "userPrincipalName"}, {"issuer", dir.Tenant(u.Tenant).DefaultDomain()}, {"issuerAssignedId", u.UPN}}}
	if u.External == nil {
		return list
	}
	_, domain, _ := strings.Cut(u.External.Address, "@")
	issuer := "mail"
	if dir.TenantByDomain(domain) != nil { // not whether there is such an account: that is nobody's business here
		issuer = "ExternalAzureAD"
	}
	return append([]members{{{"signInType", "federated"}, {"issuer", issuer}, {"issuerAssignedId", nil}}}, list...)
}
