package directory

import (
	"context"
	"net/url"
	"slices"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/fault"
)

// CreateApplication registers an application in the tenant in a.Tenant. The server chooses the object id and the client id.
func (d *Directory) CreateApplication(ctx context.Context, by Actor, a Application) (*Application, error) {
	err := d.update(ctx, by, func(p *plan) (err error) {
		if err := p.mayWrite(by, a.Tenant, append(applicationRoles, "Application.ReadWrite.OwnedBy")...); err != nil {
			return err
		}
		if p.Tenant(a.Tenant) == nil {
			return fault.New(fault.NotFound, "tenant %s does not exist", a.Tenant)
		}
		if a.ID, err = p.newID(); err != nil {
			return err
		}
		if a.AppID, err = p.newID(); err != nil {
			return err
		}
		a.Created, a.Passwords, a.Federated = p.now, nil, nil
		if err := p.checkApplication(&a, nil); err != nil {
			return err
		}
		if a.Keys, err = p.checkKeys(a.Keys, nil); err != nil {
			return err
		}
		p.put(KindApplication, a.ID.String(), a.Tenant, &a)
		if p.ServicePrincipal(by.ID) != nil { // else it could not go on with what it has made by Application.ReadWrite.OwnedBy
			p.put(KindOwnership, pair(a.ID, by.ID), a.Tenant, struct{}{})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &a, nil
}

// UpdateApplication lets change edit a copy of the application. It may not change the ids, the tenant, the secrets or the
// federated credentials. The application's service principal takes over the display name and the identifier URIs.
func (d *Directory) UpdateApplication(ctx context.Context, by Actor, id ID, change func(*Application) error) error {
	return d.update(ctx, by, func(p *plan) error {
		old, err := p.applicationFor(by, id)
		if err != nil {
			return err
		}
		app := *old
		if err := change(&app); err != nil {
			return err
		}
		app.ID, app.Tenant, app.AppID, app.Created = old.ID, old.Tenant, old.AppID, old.Created
		app.Passwords, app.Federated = old.Passwords, old.Federated
		if err := p.checkApplication(&app, old); err != nil {
			return err
		}
		if app.Keys, err = p.checkKeys(app.Keys, old.Keys); err != nil {
			return err
		}
		p.put(KindApplication, id.String(), app.Tenant, &app)
		if principal := p.ServicePrincipalByName(app.Tenant, app.AppID.String()); principal != nil {
			changed := *principal
			changed.DisplayName, changed.Names = app.DisplayName, principalNames(&app)
			p.put(KindServicePrincipal, changed.ID.String(), changed.Tenant, &changed)
			p.dropRoles(old, &app, principal.ID)
		}
		return nil
	})
}

// DeleteApplication removes an application and, as in Entra, its service principal, with their secrets.
func (d *Directory) DeleteApplication(ctx context.Context, by Actor, id ID) error {
	return d.update(ctx, by, func(p *plan) error {
		app, err := p.applicationFor(by, id)
		if err != nil {
			return err
		}
		if principal := p.ServicePrincipalByName(app.Tenant, app.AppID.String()); principal != nil {
			if err := p.removePrincipal(principal); err != nil {
				return err
			}
		}
		p.unlink(id, app.Tenant)
		p.removeSecrets(id, app.Tenant, app.Passwords)
		p.delete(KindApplication, id.String(), app.Tenant)
		return nil
	})
}

// CreateServicePrincipal makes the account of an application of the same tenant, by its client id. Owners of the application may do it,
// and own what they make.
func (d *Directory) CreateServicePrincipal(ctx context.Context, by Actor, tenant, appID ID, enabled bool) (*ServicePrincipal, error) {
	return d.AddServicePrincipal(ctx, by, ServicePrincipal{Tenant: tenant, AppID: appID, Enabled: enabled})
}

// AddServicePrincipal is CreateServicePrincipal with all that can be said of a service principal: of want, also AssignmentRequired, Tags,
// Notes and Keys count.
func (d *Directory) AddServicePrincipal(ctx context.Context, by Actor, want ServicePrincipal) (*ServicePrincipal, error) {
	var principal ServicePrincipal
	tenant, appID := want.Tenant, want.AppID
	err := d.update(ctx, by, func(p *plan) (err error) {
		app := p.ApplicationByAppID(appID)
		if app == nil || !p.IsOwner(by.ID, app.ID) {
			if err := p.mayWrite(by, tenant, applicationRoles...); err != nil {
				return err
			}
		}
		if other := p.ServicePrincipalByName(tenant, appID.String()); other != nil {
			return fault.New(fault.Conflict, "The service principal cannot be created because the service principal name %s is already in use.", appID).
				At("appId").WithCode("Request_MultipleObjectsWithSameKeyValue")
		}
		if app == nil || app.Tenant != tenant {
			return fault.New(fault.Invalid, "The appId '%s' of the service principal does not reference a valid application object.", appID).
				At("appId").WithCode("Request_BadRequest")
		}
		if principal, err = p.newPrincipal(app); err != nil {
			return err
		}
		if err := p.setPrincipal(&principal, &want); err != nil {
			return err
		}
		p.put(KindServicePrincipal, principal.ID.String(), tenant, &principal)
		if p.IsOwner(by.ID, app.ID) {
			p.put(KindOwnership, pair(principal.ID, by.ID), tenant, struct{}{})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &principal, nil
}

func (p *plan) newPrincipal(app *Application) (ServicePrincipal, error) {
	id, err := p.newID()
	return ServicePrincipal{
		ID: id, Tenant: app.Tenant, AppID: app.AppID, DisplayName: app.DisplayName, Names: principalNames(app),
		Type: TypeApplication, Enabled: true, Created: p.now,
	}, err
}

// setPrincipal takes over what of a service principal is its own, if the rules allow it.
func (p *plan) setPrincipal(principal, want *ServicePrincipal) (err error) {
	old := principal.Keys
	principal.Enabled, principal.AssignmentRequired, principal.Tags, principal.Notes = want.Enabled, want.AssignmentRequired, want.Tags, want.Notes
	if err := checkText("notes", principal.Notes, false, 1024); err != nil {
		return err
	}
	if len(principal.Tags) > maxPermissions {
		return errApplication("tags", "tags has %d entries; it may have %d.", len(principal.Tags), maxPermissions)
	}
	if err := checkTags(principal.Tags); err != nil {
		return err
	}
	principal.Keys, err = p.checkKeys(want.Keys, old)
	return err
}

// EnableServicePrincipal enables or disables a service principal. First-party ones stay as they are: without them
// nobody could sign in to undo it.
func (d *Directory) EnableServicePrincipal(ctx context.Context, by Actor, id ID, enabled bool) error {
	return d.UpdateServicePrincipal(ctx, by, id, func(p *ServicePrincipal) error {
		p.Enabled = enabled
		return nil
	})
}

// UpdateServicePrincipal lets change edit a copy of the service principal. Of what it does, Enabled, Keys, AssignmentRequired, Tags and
// Notes count: the rest follows the application. Owners may not enable or disable it: that is how an administrator stops an application.
// First-party service principals stay as they are.
func (d *Directory) UpdateServicePrincipal(ctx context.Context, by Actor, id ID, change func(*ServicePrincipal) error) error {
	return d.update(ctx, by, func(p *plan) error {
		principal, err := p.principalFor(by, id)
		if err != nil {
			return err
		}
		wanted := *principal
		if err := change(&wanted); err != nil {
			return err
		}
		if principal.Enabled != wanted.Enabled {
			if err := p.mayWrite(by, principal.Tenant, applicationRoles...); err != nil {
				return err
			}
		}
		if principal.Enabled && !wanted.Enabled {
			if err := p.keepAnAdministrator(id); err != nil {
				return err
			}
		}
		if len(wanted.Keys) > 0 && principal.Type == TypeManagedIdentity {
			return fault.New(fault.Invalid, "%s is a managed identity, which has no certificates of its own", principal.DisplayName).WithCode("Request_BadRequest")
		}
		changed := *principal
		if err := p.setPrincipal(&changed, &wanted); err != nil {
			return err
		}
		p.put(KindServicePrincipal, id.String(), changed.Tenant, &changed)
		return nil
	})
}

// DeleteServicePrincipal removes a service principal with its memberships, ownerships, roles and secrets. Its
// application stays.
func (d *Directory) DeleteServicePrincipal(ctx context.Context, by Actor, id ID) error {
	return d.update(ctx, by, func(p *plan) error {
		principal, err := p.principalFor(by, id)
		if err != nil {
			return err
		}
		if principal.Type == TypeManagedIdentity {
			return fault.New(fault.Invalid, "%s is the managed identity of a resource; delete the resource", principal.DisplayName).WithCode("Request_BadRequest")
		}
		return p.removePrincipal(principal)
	})
}

func (p *plan) removePrincipal(principal *ServicePrincipal) error {
	if err := p.keepAnAdministrator(principal.ID); err != nil {
		return err
	}
	p.unlink(principal.ID, principal.Tenant)
	p.removeSecrets(principal.ID, principal.Tenant, principal.Passwords)
	p.delete(KindServicePrincipal, principal.ID.String(), principal.Tenant)
	return nil
}

func (p *plan) removeSecrets(object, tenant ID, credentials []PasswordCredential) {
	for _, c := range credentials {
		p.putSecret(KindAppSecret, pair(object, c.KeyID), tenant, nil, noExpiry)
	}
}

// applicationFor returns an application of the caller's tenant that by may write to.
func (s *State) applicationFor(by Actor, id ID) (*Application, error) {
	a := s.Application(id)
	if a == nil || (!by.system && a.Tenant != s.tenantOf(by.ID)) {
		return nil, ErrNoObject(id.String())
	}
	principal := ID{}
	if sp := s.ServicePrincipalByName(a.Tenant, a.AppID.String()); sp != nil {
		principal = sp.ID
	}
	return a, s.mayOwn(by, a.Tenant, id, principal)
}

// applicationRoles are the app roles of Microsoft Graph that let an application change applications and service principals.
var applicationRoles = []string{"Application.ReadWrite.All", "Directory.ReadWrite.All"}

// mayOwn is the rule for applications and service principals: administrators, applications by their roles, and owners of the object. The
// last two may not touch one whose account has a directory role, because whoever sets its credentials has its rights; an application that
// does not own it may not touch one with an app role of Microsoft Graph that it lacks itself, either. Owners may touch whatever else it
// has: who makes somebody an owner gives that away.
func (s *State) mayOwn(by Actor, tenant, object, principal ID) error {
	if !s.IsOwner(by.ID, object) {
		if err := s.mayWrite(by, tenant, applicationRoles...); err != nil {
			return err
		}
	}
	return s.guarded(by, principal)
}

// principalFor returns a service principal of the caller's tenant that by may write to.
func (s *State) principalFor(by Actor, id ID) (*ServicePrincipal, error) {
	sp := s.ServicePrincipal(id)
	if sp == nil || (!by.system && sp.Tenant != s.tenantOf(by.ID)) {
		return nil, ErrNoObject(id.String())
	}
	if err := s.mayOwn(by, sp.Tenant, id, id); err != nil {
		return nil, err
	}
	if sp.FirstParty {
		return nil, fault.New(fault.Invalid, "%s is a first-party service principal, which every tenant needs; it cannot be changed or deleted", sp.DisplayName).
			WithCode("Request_BadRequest")
	}
	return sp, nil
}

func principalNames(a *Application) []string {
	return append([]string{a.AppID.String()}, a.IdentifierURIs...)
}

// checkApplication applies the rules to an application. old is what it was; nil for a new one.
func (p *plan) checkApplication(a, old *Application) error {
	if err := checkText("displayName", a.DisplayName, true, 256); err != nil {
		return err
	}
	for i, uri := range a.IdentifierURIs {
		if err := checkIdentifierURI(uri); err != nil {
			return err
		}
		sameURI := func(other string) bool { return nameKey(other) == nameKey(uri) }
		if slices.ContainsFunc(a.IdentifierURIs[:i], sameURI) || p.nameTaken(a, sameURI) {
			return fault.New(fault.Invalid, "Another object with the same value for property identifierUris already exists: %s; choose another one.", uri).
				At("identifierUris").WithCode("Request_BadRequest")
		}
	}
	for _, uri := range a.RedirectURIs {
		if err := checkRedirectURI("publicClient.redirectUris", uri, true); err != nil {
			return err
		}
	}
	for _, uri := range a.WebRedirectURIs {
		if err := checkRedirectURI("web.redirectUris", uri, false); err != nil {
			return err
		}
	}
	if a.TokenVersion < 0 || a.TokenVersion > 2 {
		return fault.New(fault.Invalid, "requestedAccessTokenVersion is %d; it may be null, 1 or 2", a.TokenVersion).
			At("api.requestedAccessTokenVersion").WithCode("Request_BadRequest")
	}
	return p.checkPermissions(a, old)
}

// nameTaken reports whether a name is the identifier URI of another application of the tenant, or a name of a
// first-party one: whoever had such a name would receive the tokens that are meant for it.
func (p *plan) nameTaken(a *Application, same func(string) bool) bool {
	for _, first := range FirstParty {
		if slices.ContainsFunc(first.IdentifierURIs, same) {
			return true
		}
	}
	for other := range p.EachApplication(a.Tenant) {
		if other.ID != a.ID && slices.ContainsFunc(other.IdentifierURIs, same) {
			return true
		}
	}
	for other := range p.EachServicePrincipal(a.Tenant) {
		if other.AppID != a.AppID && slices.ContainsFunc(other.Names, same) {
			return true
		}
	}
	return false
}

// nameKey is how names of resources are compared: clients ask with and without a slash at the end.
func nameKey(name string) string { return strings.ToLower(strings.TrimSuffix(name, "/")) }

// checkIdentifierURI accepts the schemes that Entra does (Microsoft Entra "Restrictions on identifier URIs"). Domains
// need not be verified here. "spn:" is how clients mark a name; it must not be part of one.
func checkIdentifierURI(uri string) error {
	u, err := url.Parse(uri)
	ok := err == nil && len(uri) <= 255 && u.Fragment == "" && u.RawQuery == "" && u.User == nil && !strings.ContainsAny(uri, " *\"<>\\")
	if ok {
		switch u.Scheme {
		case "api", "http", "https", "ms-appx":
			ok = u.Host != ""
		case "urn":
			ok = u.Opaque != ""
		default:
			ok = false
		}
	}
	if !ok {
		return fault.New(fault.Invalid, "identifierUris: %.300q is not a URI of the schemes api, https, http, urn or ms-appx, without query and fragment; use one like api://my-server", uri).
			At("identifierUris").WithCode("Request_BadRequest")
	}
	return nil
}

// checkRedirectURI applies Entra's rules ("Redirect URI (reply URL) restrictions"): https, or http to this machine; public
// clients may have a scheme of their own, but none that runs code or reads files in a browser.
func checkRedirectURI(field, uri string, public bool) error {
	u, err := url.Parse(uri)
	ok := err == nil && len(uri) <= 2048 && u.Fragment == "" && !strings.ContainsAny(uri, " *\"<>\\#") && u.User == nil
	if ok {
		switch u.Scheme {
		case "https":
			ok = u.Host != ""
		case "http":
			host := u.Hostname()
			ok = host == "localhost" || host == "127.0.0.1" || host == "::1"
		case "", "javascript", "data", "vbscript", "file", "blob", "about", "ws", "wss", "ftp":
			ok = false
		default:
			ok = public
		}
	}
	if !ok {
		return fault.New(fault.Invalid, "%s: %.300q cannot be a redirect URI; use https, http://localhost or, for a public client, a scheme of its own, without wildcards and fragment", field, uri).
			At(field).WithCode("Request_BadRequest")
	}
	return nil
}
