package sts

import (
	"cmp"
	"net/http"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/signin"
)

// conclude fills in how an attempt ended. It is the one place from which attempts reach the server's log, the audit log and the
// sign-in log, so that they agree. An Actor in the event has proved who it is; whoever is only named is in Details["user"].
// A client that is waiting for its user is not an event.
func (s *Server) conclude(e *audit.Event, r *http.Request, err error) {
	if err != nil {
		f := asRefusal(err, r)
		if f.number == 70016 {
			return
		}
		e.Outcome, e.Code, e.Reason = audit.Denied, f.number, f.fault.Message
		if f.fault.Kind == fault.Internal || f.fault.Kind == fault.Unavailable {
			e.Outcome = audit.Failed
		}
	}
	if signIns[e.Action] {
		entry := signInOf(directory.In(s.Feed.View()), e, r)
		if e.Actor == "" {
			e.Subject = cmp.Or(entry.User, entry.Principal)
		}
		s.SignIns.Record(e.Time, entry)
	}
	s.Audit.Record(*e)
	s.log().Info(e.Action, "request", e.Request, "outcome", e.Outcome, "aadsts", e.Code, "method", e.Details["method"],
		"tenant", e.Tenant, "actor", e.Actor, "client", e.Client, "target", e.Target, "address", e.Address)
}

// signIns are the actions that the sign-in log holds. Each proves something about who is there, or gives out what was asked for.
var signIns = map[string]bool{"sign-in": true, "second-factor": true, "authorize": true, "device-code-approve": true}

// means says in Microsoft Graph's words what a method of the audit is. A method that is not here goes by its own name.
var means = map[string]struct {
	name, protocol, incoming string
	interactive              bool // a person did something
}{
	"password":           {"Password", "ropc", "none", true},
	"refresh_token":      {"Refresh token", "oAuth2", "refreshToken", false},
	"authorization_code": {"Authorization code", "oAuth2", "none", false},
	"client_credentials": {"Client credential", "oAuth2", "none", false},
	"device_code":        {"Device code", "deviceCode", "none", false},
	"managed identity":   {"Managed identity", "oAuth2", "none", false},
	signInPage.purpose:   {"Password", "oAuth2", "none", true},
	accountPage.purpose:  {"Password", "oAuth2", "none", true},
	devicePage.purpose:   {"Password", "deviceCode", "none", true},
	"urn:ietf:params:oauth:grant-type:device_code": {"Device code", "deviceCode", "none", false},
	"urn:ietf:params:oauth:grant-type:jwt-bearer":  {"On-behalf-of", "oAuth2", "none", false},
}

// factors are names of what a person showed in place of a password, or beside it, by Details["factor"].
var factors = map[string]string{amrPasskey: "Passkey", directory.MethodTOTP: "Authenticator app", "recovery": "Recovery code"}

// credentialTypes are Microsoft Graph's clientCredentialType, by the first word of Details["credential"].
var credentialTypes = map[string]string{
	"secret": "clientSecret", "assertion": "clientAssertion", "certificate": "certificate", "federated": "federatedIdentityCredential",
}

// signInOf is the entry of an attempt.
func signInOf(dir *directory.State, e *audit.Event, r *http.Request) signin.Entry {
	how := means[e.Details["method"]]
	out := signin.Entry{
		Code: e.Code, Reason: e.Reason, Note: e.Details["note"], Proved: e.Actor != "",
		Method: cmp.Or(how.name, e.Details["method"]), Protocol: how.protocol, Incoming: how.incoming, Session: idOf(e.Details["session"]),
		Address: e.Address, ClientApp: "Mobile Apps and Desktop clients", Request: e.Request,
		Tenant: idOf(e.Tenant), App: idOf(e.Client), Correlation: idOf(e.Details["correlation"]), UserAgent: signin.UserAgent(r.UserAgent()),
	}
	if out.Correlation == "" {
		out.Correlation = idOf(correlationID(r))
	}
	if out.Browser, out.System = signin.Device(r.UserAgent()); out.System == "" {
		_, out.System = signin.Device(r.Header.Get("x-client-os")) // of MSAL
	}
	if m := e.Details["method"]; m == signInPage.purpose || m == devicePage.purpose || m == accountPage.purpose {
		out.ClientApp = "Browser"
	}
	switch e.Action {
	case "authorize", "device-code-approve": // the proof has an entry of its own, now or earlier
		out.Method = "Previously satisfied"
	case "second-factor":
		out.Method = cmp.Or(factors[e.Details["factor"]], "Verification code") // a wrong code is of no kind
	default:
		out.Method = cmp.Or(factors[e.Details["factor"]], e.Details["factor"], out.Method)
	}
	kind, keyID, _ := strings.Cut(e.Details["credential"], " ")
	out.Credential, out.KeyID = credentialTypes[kind], keyID
	nameParties(&out, dir, e)
	return out
}

// nameParties looks up who and what the event's ids and names are, whether proved or not.
func nameParties(out *signin.Entry, dir *directory.State, e *audit.Event) {
	client, _ := directory.ParseID(out.App)
	if app := directory.FirstPartyApp(client); app != nil {
		out.AppName = app.DisplayName
	}
	app := dir.ApplicationByAppID(client)
	if app != nil && out.Tenant == "" && e.Details["user"] == "" {
		out.Tenant = app.Tenant.String() // the request left it open, but this one wants to know
	}
	if _, domain, _ := strings.Cut(e.Details["user"], "@"); out.Tenant == "" && dir.TenantByDomain(domain) != nil {
		out.Tenant = dir.TenantByDomain(domain).ID.String() // here the name tells
	}
	actor, _ := directory.ParseID(e.Actor)
	tenant, _ := directory.ParseID(out.Tenant)
	if app != nil && (app.Tenant == tenant || dir.ServicePrincipalByName(tenant, out.App) != nil) { // else its name is no business of this tenant's
		out.AppName = app.DisplayName
	}
	user, principal := dir.User(actor), dir.ServicePrincipal(actor)
	if user == nil && principal == nil {
		user = dir.UserByUPN(e.Details["user"])
	}
	if user == nil && principal == nil && e.Details["method"] == "client_credentials" {
		principal = dir.ServicePrincipalByName(tenant, out.App)
	}
	out.Kind = signin.NonInteractiveUser
	switch {
	case principal != nil && principal.Type == directory.TypeManagedIdentity:
		out.Kind, out.Credential, out.ClientApp = signin.ManagedIdentity, "managedIdentity", ""
	case principal != nil || e.Details["method"] == "client_credentials":
		out.Kind, out.ClientApp = signin.ServicePrincipal, ""
	case means[e.Details["method"]].interactive:
		out.Kind = signin.InteractiveUser
	}
	if out.UPN = e.Details["user"]; user != nil && (user.Tenant == tenant || actor == user.ID) {
		out.User, out.UserName, out.UPN = user.ID.String(), user.DisplayName, user.UPN
	}
	if principal != nil {
		out.Principal, out.PrincipalName = principal.ID.String(), principal.DisplayName
	}
	if e.Target == "" {
		return
	}
	if resource := findResource(dir, tenant, e.Target); resource != nil {
		out.Resource, out.ResourceName = resource.AppID.String(), resource.DisplayName
	} else {
		out.ResourceName = e.Target
	}
}

// namePerson says in an event who somebody is in the tenant that they want to go to, and the account at home beside. user is nil of whoever is
// nobody there: then it is the account at home, as it is of whoever is at home there.
func namePerson(e *audit.Event, tenant *directory.Tenant, user, home *directory.User) {
	e.Tenant, e.Actor = tenant.ID.String(), home.ID.String()
	if user != nil {
		e.Actor = user.ID.String()
	}
	if home.Tenant != tenant.ID {
		e.Details["home"] = home.Tenant.String() + "/" + home.ID.String()
	}
}

// idOf is an id of an event in its usual form; "" of what is none.
func idOf(text string) string {
	if id, err := directory.ParseID(text); err == nil {
		return id.String()
	}
	return ""
}

// concern names whom and what a code is about, for the logs, before it is known whether who brings it may have it.
func (x *exchange) concern(user directory.ID, what ask) {
	if what.Text != "" {
		x.subject.ask = &what
	}
	if u := x.dir().User(user); u != nil {
		x.subject.name, x.subject.tenant = u.UPN, x.dir().Tenant(u.Tenant)
	}
}

// wanted names the resource that a request asks for, as far as it can be read.
func (a ask) wanted() string {
	if parsed, err := a.parse(); err == nil {
		a = parsed
	}
	if a.resource == "" && a.Text != "" {
		return graphResource
	}
	return clip(a.resource, 200)
}

// refused records why an application that sent a browser here gets no code, if that was not recorded where it happened.
func (s *Server) refused(v *visit, segment string, err error) {
	if err == nil || v.concluded {
		return
	}
	dir := directory.In(s.Feed.View())
	e := audit.Event{
		Time: v.now.UTC(), Request: traceID(v.r), Address: v.from.String(), Action: "authorize", Outcome: audit.Allowed,
		Details: map[string]string{"method": v.on.purpose},
	}
	if q := v.state.Request; q != nil {
		segment, e.Client, e.Target = q.Tenant, q.Client.String(), q.Ask.wanted()
		nameUser(&e, q.Hint)
	} else {
		e.Client = clip(v.form["client_id"], 80)
	}
	if place, err := tenancyOf(dir, segment); err == nil && place.tenant != nil {
		e.Tenant = place.tenant.ID.String()
	}
	if v.user != nil {
		tenant := v.tenant(dir)
		if tenant == nil {
			tenant = dir.Tenant(v.user.Tenant)
		}
		guest := dir.GuestOf(tenant.ID, v.user)
		if guest != nil && guest.External.State != directory.Accepted {
			guest = nil
		}
		namePerson(&e, tenant, guest, v.user)
		nameUser(&e, v.user.UPN)
	}
	s.conclude(&e, v.r, err)
}
