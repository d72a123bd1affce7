package graph

import (
	"net/url"
	"strings"
	"testing"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

func TestInvitations(t *testing.T) {
	w := newWorld(t)
	other, _ := w.newTenant("Fabrikam", "fabrikam.internal")
	home := w.tenant
	w.tenant = other
	zoe := w.user("zoe@fabrikam.internal", directory.Member)
	w.tenant = home

	const rest = `,"inviteRedirectUrl":"https://contoso.example/welcome"`
	a := w.asAdmin("POST", "/invitations", `{"invitedUserEmailAddress":"Zoe@fabrikam.internal","sendInvitationMessage":true,"invitedUserDisplayName":"Zoe F.",
		"invitedUserMessageInfo":{"customizedMessageBody":"Hello"}`+rest+`}`).want(201, "")
	guest := a.text("invitedUser/id")
	link, err := url.Parse(a.text("inviteRedeemUrl"))
	must(t, err)
	if a.at("sendInvitationMessage") != false || a.text("status") != "PendingAcceptance" || a.text("invitedUserType") != "Guest" || a.text("inviteRedirectUrl") != "https://contoso.example/welcome" ||
		link.Path != "/redeem" || link.Query().Get("user") != guest || link.Query().Get("tenant") != home.ID.String() || a.text("id") == guest {
		t.Errorf("invitation %s", a.body)
	}
	read := func() answer {
		return w.asAdmin("GET", "/users/"+guest+"?$select=id,mail,displayName,userPrincipalName,userType,creationType,externalUserState,externalUserStateChangeDateTime,identities", "").want(200, "")
	}
	u := read()
	for name, want := range map[string]string{
		"mail": "Zoe@fabrikam.internal", "displayName": "Zoe F.", "userPrincipalName": "zoe_fabrikam.internal#EXT#@gatehouse.internal", "userType": "Guest",
		"creationType": "Invitation", "externalUserState": "PendingAcceptance", "externalUserStateChangeDateTime": "2026-11-21T12:00:00Z",
		"identities/0/issuer": "ExternalAzureAD", "identities/0/signInType": "federated", "identities/1/issuerAssignedId": "zoe_fabrikam.internal#EXT#@gatehouse.internal",
	} {
		if u.text(name) != want {
			t.Errorf("%s is %q, want %q", name, u.text(name), want)
		}
	}
	if strings.Contains(u.body, zoe.ID.String()) || strings.Contains(a.body, zoe.ID.String()) {
		t.Error("the inviter learns the account's id at home")
	}
	// An address that exists and one that does not look the same.
	b := w.asAdmin("POST", "/invitations", `{"invitedUserEmailAddress":"nobody@fabrikam.internal"`+rest+`}`).want(201, "")
	if got := w.asAdmin("GET", "/users/"+b.text("invitedUser/id")+"?$select=identities", "").text("identities/0/issuer"); got != "ExternalAzureAD" {
		t.Errorf("issuer of nobody: %q", got)
	}
	c := w.asAdmin("POST", "/invitations", `{"invitedUserEmailAddress":"x@contoso.example","invitedUserType":"Member"`+rest+`}`).want(201, "")
	if got := w.asAdmin("GET", "/users/"+c.text("invitedUser/id")+"?$select=identities,userType", ""); got.text("identities/0/issuer") != "mail" || got.text("userType") != "Member" {
		t.Errorf("somebody of elsewhere: %s", got.body)
	}
	id, err := directory.ParseID(guest)
	must(t, err)
	must(t, w.dir.Accept(t.Context(), zoe, id))
	if u := read(); u.text("externalUserState") != "Accepted" {
		t.Errorf("after accepting: %s", u.body)
	}
	if again := w.asAdmin("POST", "/invitations", `{"invitedUserEmailAddress":"zoe@fabrikam.internal"`+rest+`}`).want(201, ""); again.text("status") != "Completed" || again.text("invitedUser/id") != guest {
		t.Errorf("again: %s", again.body)
	}
	if got := w.asAdmin("GET", "/users"+filterQuery("externalUserState eq 'Accepted'"), "").values("id"); len(got) != 1 || got[0] != guest {
		t.Errorf("accepted guests: %v", got)
	}
	w.asAdmin("PATCH", "/users/"+guest, `{"displayName":"Zoe"}`).want(204, "")
	w.asAdmin("PATCH", "/users/"+guest, `{"externalUserState":"Accepted"}`).want(400, "Request_BadRequest")
	w.asAdmin("PATCH", "/users/"+guest, `{"passwordProfile":{"password":"Correct-Horse-8"}}`).want(400, "Request_BadRequest")

	for body, message := range map[string]string{
		`{}`: "invitedUserEmailAddress", `{"invitedUserEmailAddress":"x@y.example"}`: "inviteRedirectUrl",
		`{"invitedUserEmailAddress":"x@y.example","inviteRedirectUrl":"javascript:alert(1)"}`:    "not a URL",
		`{"invitedUserEmailAddress":"x@y.example","inviteRedirectUrl":"//evil.example"}`:         "not a URL",
		`{"invitedUserEmailAddress":"x@y.example","inviteRedirectUrl":"https://a@evil.example"}`: "not a URL",
		`{"invitedUserEmailAddress":"admin@gatehouse.internal"` + rest + `}`:                     "of this organization",
		`{"invitedUserEmailAddress":"x@y.example","resetRedemption":true` + rest + `}`:           "resetRedemption",
		`{"invitedUserEmailAddress":"x@y.example","invitedUserType":"Robot"` + rest + `}`:        "Member or Guest",
		`{"invitedUserEmailAddress":5` + rest + `}`:                                              "invitedUserEmailAddress",
		`{"invitedUserEmailAddress":"x@y.example","status":"Completed"` + rest + `}`:             "'status' is not a property",
	} {
		if got := w.asAdmin("POST", "/invitations", body).want(400, "Request_BadRequest"); !strings.Contains(got.text("error/message"), message) {
			t.Errorf("%s: %s", body, got.body)
		}
	}
	w.call(w.bob.UPN, "POST", "/invitations", `{"invitedUserEmailAddress":"x@y.example"`+rest+`}`).want(403, "Authorization_RequestDenied")
}
