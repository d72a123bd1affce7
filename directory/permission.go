package directory

import (
	"cmp"
	"slices"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/fault"
)

// Who may consent to a scope (Microsoft Graph permissionScope.type).
const (
	ScopeUser  = "User"  // anybody, for themselves
	ScopeAdmin = "Admin" // administrators
)

// Scope is a delegated permission that an application exposes: what a client may do there as its user (Microsoft Graph permissionScope).
type Scope struct {
	ID        ID     `json:"id"`
	Value     string `json:"value"`
	Type      string `json:"type"` // ScopeUser or ScopeAdmin
	Enabled   bool   `json:"isEnabled"`
	AdminName string `json:"adminConsentDisplayName,omitempty"`
	AdminText string `json:"adminConsentDescription,omitempty"`
	UserName  string `json:"userConsentDisplayName,omitempty"`
	UserText  string `json:"userConsentDescription,omitempty"`
}

// Who may hold an app role (Microsoft Graph appRole.allowedMemberTypes).
const (
	MemberUser        = "User" // and groups
	MemberApplication = "Application"
)

// AppRole is a role that an application defines, and that users, groups and applications are assigned to (Microsoft Graph appRole).
type AppRole struct {
	ID          ID       `json:"id"`
	Value       string   `json:"value,omitempty"` // of the roles claim; a role without one is in no token
	DisplayName string   `json:"displayName"`
	Description string   `json:"description"`
	MemberTypes []string `json:"allowedMemberTypes"`
	Enabled     bool     `json:"isEnabled"`
}

// Is reports whether principals of a member type may hold the role.
func (r *AppRole) Is(memberType string) bool { return slices.Contains(r.MemberTypes, memberType) }

// PreAuthorized is a client that needs no consent for some scopes of an application.
type PreAuthorized struct {
	AppID  ID   `json:"appId"`
	Scopes []ID `json:"delegatedPermissionIds"`
}

// Kinds of permission in ResourceAccess.
const (
	AccessScope = "Scope"
	AccessRole  = "Role"
)

// RequiredResource is what an application says that it needs of a resource. It grants nothing: it is what ".default" asks
// consent for, and what an administrator's consent grants.
type RequiredResource struct {
	AppID  ID               `json:"resourceAppId"`
	Access []ResourceAccess `json:"resourceAccess"`
}

// ResourceAccess is one permission: the id of a scope or of an app role.
type ResourceAccess struct {
	ID   ID     `json:"id"`
	Type string `json:"type"` // AccessScope or AccessRole
}

// GroupClaims says which groups tokens hold: some of the constants below, joined by commas (Microsoft Graph groupMembershipClaims).
type GroupClaims string

// Values of GroupClaims.
const (
	ClaimSecurityGroup    = "SecurityGroup"
	ClaimDirectoryRole    = "DirectoryRole"
	ClaimApplicationGroup = "ApplicationGroup"
	ClaimAll              = "All"
)

// Has reports whether a value is among the claims.
func (c GroupClaims) Has(value string) bool {
	return slices.Contains(strings.Split(string(c), ","), value)
}

// ParseGroupClaims reads the values in any letter case, with spaces after the commas. "None" is none.
func ParseGroupClaims(text string) (GroupClaims, error) {
	var out []string
	for word := range strings.SplitSeq(text, ",") {
		word = strings.TrimSpace(word)
		known := []string{ClaimSecurityGroup, ClaimDirectoryRole, ClaimApplicationGroup, ClaimAll, "None"}
		i := slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, word) })
		switch {
		case word == "" && text == "":
		case i < 0:
			return "", errApplication("groupMembershipClaims", "groupMembershipClaims: %.80q is not one of None, SecurityGroup, DirectoryRole, ApplicationGroup and All.", word)
		case known[i] == "None" && strings.Contains(text, ","):
			return "", errApplication("groupMembershipClaims", "groupMembershipClaims: None cannot be combined with others.")
		case known[i] != "None" && !slices.Contains(out, known[i]):
			out = append(out, known[i])
		}
	}
	return GroupClaims(strings.Join(out, ",")), nil
}

// OptionalClaims are claims that an application asks for beyond the usual ones, for each kind of token.
type OptionalClaims struct {
	ID     []OptionalClaim `json:"idToken,omitempty"`
	Access []OptionalClaim `json:"accessToken,omitempty"`
	SAML2  []OptionalClaim `json:"saml2Token,omitempty"` // kept for clients; no SAML token is issued
}

// OptionalClaim names a claim (Microsoft identity platform, "Optional claims reference").
type OptionalClaim struct {
	Name       string   `json:"name"`
	Source     string   `json:"source,omitempty"`
	Essential  bool     `json:"essential,omitempty"`
	Properties []string `json:"additionalProperties,omitempty"`
}

// Info is where people read about an application (Microsoft Graph informationalUrl).
type Info struct {
	Marketing string `json:"marketingUrl,omitempty"`
	Privacy   string `json:"privacyStatementUrl,omitempty"`
	Support   string `json:"supportUrl,omitempty"`
	Terms     string `json:"termsOfServiceUrl,omitempty"`
}

// userImpersonation is the scope of an application that declares none: to be called as the user, which is what legacy server applications
// are registered for.
var userImpersonation = []Scope{{Value: "user_impersonation", Type: ScopeUser, Enabled: true, UserName: "Access it as you", AdminName: "Access it as the user"}}

// Delegated returns the scopes that clients can ask for, the enabled ones, in a slice of the caller's own.
func (a *Application) Delegated() []Scope {
	if len(a.Scopes) == 0 {
		return slices.Clone(userImpersonation)
	}
	return slices.DeleteFunc(slices.Clone(a.Scopes), func(s Scope) bool { return !s.Enabled })
}

// ScopeByValue returns a scope that clients can ask for, in any letter case, or nil.
func (a *Application) ScopeByValue(value string) *Scope {
	list := a.Delegated()
	i := slices.IndexFunc(list, func(s Scope) bool { return strings.EqualFold(s.Value, value) })
	if i < 0 {
		return nil
	}
	return &list[i]
}

// Role returns an app role by its id, or nil.
func (a *Application) Role(id ID) *AppRole {
	i := slices.IndexFunc(a.Roles, func(r AppRole) bool { return r.ID == id })
	if i < 0 {
		return nil
	}
	return &a.Roles[i]
}

// RequiredScopes are the scopes of a resource that the application says it needs, and that can be asked for.
func (a *Application) RequiredScopes(resource *Application) []Scope {
	var out []Scope
	for _, id := range a.required(resource.AppID, AccessScope) {
		for _, s := range resource.Delegated() {
			if s.ID == id {
				out = append(out, s)
			}
		}
	}
	return out
}

// RequiredRoles are the app roles of a resource that the application says it needs for itself, and that it can have.
func (a *Application) RequiredRoles(resource *Application) []AppRole {
	var out []AppRole
	for _, id := range a.required(resource.AppID, AccessRole) {
		if r := resource.Role(id); r != nil && r.Enabled && r.Is(MemberApplication) {
			out = append(out, *r)
		}
	}
	return out
}

func (a *Application) required(resource ID, kind string) []ID {
	var ids []ID
	for _, r := range a.Required {
		for _, access := range r.Access {
			if r.AppID == resource && access.Type == kind && !slices.Contains(ids, access.ID) { // az adds what is there again
				ids = append(ids, access.ID)
			}
		}
	}
	return ids
}

// PreAuthorizes reports whether a client needs no consent for a scope.
func (a *Application) PreAuthorizes(client ID, scope ID) bool {
	return slices.ContainsFunc(a.PreAuthorized, func(p PreAuthorized) bool { return p.AppID == client && slices.Contains(p.Scopes, scope) })
}

// maxPermissions is how many scopes, roles and other entries an application's lists hold together (Microsoft Entra "Application manifest
// limits": 1,200 for the whole manifest).
const maxPermissions = 1200

// checkPermissions applies Entra's rules for what an application exposes and asks for. old is what it was; nil for a new one.
func (p *plan) checkPermissions(a, old *Application) error {
	if old == nil {
		old = new(Application)
	}
	if n := len(a.Scopes) + len(a.Roles) + len(a.PreAuthorized) + len(a.Required) + len(a.KnownClients) + len(a.Tags); n > maxPermissions {
		return errApplication("", "The application's lists have %d entries; they may have %d together.", n, maxPermissions)
	}
	ids, values := map[ID]bool{}, map[string]bool{}
	unique := func(field string, id ID, value string) error {
		switch {
		case id.IsZero():
			return errApplication(field, "%s: an entry has no id; make a new GUID for it.", field)
		case ids[id]:
			return errApplication(field, "%s: the id %s is there twice; ids of scopes and app roles are unique within an application.", field, id)
		case value != "" && values[strings.ToLower(field+value)]:
			return errApplication(field, "%s: the value %q is there twice; values are unique.", field, value)
		}
		ids[id], values[strings.ToLower(field+value)] = true, true
		return nil
	}
	for i := range a.Scopes {
		s := &a.Scopes[i]
		if err := s.check(); err != nil {
			return err
		}
		if err := unique("api.oauth2PermissionScopes", s.ID, s.Value); err != nil {
			return err
		}
	}
	for i := range a.Roles {
		r := &a.Roles[i]
		if err := r.check(); err != nil {
			return err
		}
		// One entry may be both a scope and a role of a name, with ids of their own.
		if err := unique("appRoles", r.ID, r.Value); err != nil {
			return err
		}
	}
	for _, s := range old.Scopes {
		if s.Enabled && !slices.ContainsFunc(a.Scopes, func(n Scope) bool { return n.ID == s.ID }) {
			return errApplication("api.oauth2PermissionScopes", "Permission (scope or role) '%s' cannot be deleted or updated unless disabled first.", s.Value).
				WithCode("CannotDeleteOrUpdateEnabledEntitlement")
		}
	}
	for _, r := range old.Roles {
		if r.Enabled && a.Role(r.ID) == nil {
			return errApplication("appRoles", "Permission (scope or role) '%s' cannot be deleted or updated unless disabled first.", cmp.Or(r.Value, r.DisplayName)).
				WithCode("CannotDeleteOrUpdateEnabledEntitlement")
		}
	}
	for _, pre := range a.PreAuthorized {
		for _, id := range pre.Scopes {
			if !slices.ContainsFunc(a.Scopes, func(s Scope) bool { return s.ID == id }) {
				return errApplication("api.preAuthorizedApplications", "api.preAuthorizedApplications: %s is not the id of one of this application's oauth2PermissionScopes.", id)
			}
		}
	}
	for _, r := range a.Required {
		if r.AppID.IsZero() {
			return errApplication("requiredResourceAccess", "requiredResourceAccess: an entry has no resourceAppId; give the appId of the resource.")
		}
		for _, access := range r.Access {
			if access.Type != AccessScope && access.Type != AccessRole {
				return errApplication("requiredResourceAccess", "requiredResourceAccess: the type of %s is %.40q; it is Scope or Role.", access.ID, access.Type)
			}
			if access.ID.IsZero() {
				return errApplication("requiredResourceAccess", "requiredResourceAccess: an entry of resource %s has no id; give the id of a scope or app role.", r.AppID)
			}
		}
	}
	if err := a.Optional.check(); err != nil {
		return err
	}
	return a.checkTexts()
}

// Optional claims that tokens here can hold, and what more can be said about them.
var (
	optionalClaims = []string{"acct", "aud", "auth_time", "email", "family_name", "given_name", "groups", "idtyp", "ipaddr", "login_hint",
		"preferred_username", "sid", "upn", "xms_cc"}
	claimProperties = []string{"include_user_token", "use_guid"}
)

func (o *OptionalClaims) check() error {
	const field = "optionalClaims"
	if len(o.ID)+len(o.Access)+len(o.SAML2) > maxPermissions {
		return errApplication(field, "optionalClaims has more than %d entries.", maxPermissions)
	}
	for _, c := range slices.Concat(o.ID, o.Access) {
		if !slices.Contains(optionalClaims, c.Name) {
			return errApplication(field, "optionalClaims: %.80q is not a claim that this server issues; it can be one of %s.", c.Name, strings.Join(optionalClaims, ", "))
		}
		if c.Source != "" {
			return errApplication(field, "optionalClaims: the source of %q is %.80q; there are no extension properties here, leave it out.", c.Name, c.Source)
		}
		for _, p := range c.Properties {
			if !slices.Contains(claimProperties, p) {
				return errApplication(field, "optionalClaims: %.80q of %q is not supported; additionalProperties can be %s.", p, c.Name, strings.Join(claimProperties, " and "))
			}
		}
	}
	for _, c := range o.SAML2 {
		if err := checkText(field+".saml2Token", c.Name, true, 120); err != nil {
			return err
		}
	}
	return nil
}

func (a *Application) checkTexts() error {
	for _, f := range []struct {
		name, value string
		limit       int
	}{
		{"notes", a.Notes, 1024}, {"description", a.Description, 1024},
		{"web.homePageUrl", a.HomePage, 256}, {"web.logoutUrl", a.LogoutURL, 256},
		{"info.marketingUrl", a.Info.Marketing, 2048}, {"info.privacyStatementUrl", a.Info.Privacy, 2048},
		{"info.supportUrl", a.Info.Support, 2048}, {"info.termsOfServiceUrl", a.Info.Terms, 2048},
	} {
		if err := checkText(f.name, f.value, false, f.limit); err != nil {
			return err
		}
		if strings.HasSuffix(f.name, "Url") && f.value != "" && !strings.HasPrefix(f.value, "https://") && !strings.HasPrefix(f.value, "http://") {
			return errApplication(f.name, "%s: %.200q is not an http or https URL.", f.name, f.value)
		}
	}
	return checkTags(a.Tags)
}

func checkTags(tags []string) error {
	for _, t := range tags {
		if err := checkText("tags", t, true, 256); err != nil {
			return err
		}
	}
	return nil
}

func (s *Scope) check() error {
	const field = "api.oauth2PermissionScopes"
	if s.Type == "" {
		s.Type = ScopeUser
	}
	if s.Type != ScopeUser && s.Type != ScopeAdmin {
		return errApplication(field, "%s: the type of %q is %.40q; it is User or Admin.", field, s.Value, s.Type)
	}
	if s.Value == "" || s.AdminName == "" || s.AdminText == "" {
		return errApplication(field, "%s: a scope needs value, adminConsentDisplayName and adminConsentDescription.", field)
	}
	for _, oidc := range []string{"openid", "profile", "email", "offline_access", ".default"} {
		if strings.EqualFold(s.Value, oidc) {
			return errApplication(field, "%s: %q is a scope of every sign-in; choose another value.", field, s.Value)
		}
	}
	for name, text := range map[string]string{
		"adminConsentDisplayName": s.AdminName, "adminConsentDescription": s.AdminText,
		"userConsentDisplayName": s.UserName, "userConsentDescription": s.UserText,
	} {
		if err := checkText(field+"."+name, text, false, 850); err != nil {
			return err
		}
	}
	return checkPermissionValue(field, s.Value)
}

func (r *AppRole) check() error {
	const field = "appRoles"
	if err := checkText(field+".displayName", r.DisplayName, true, 100); err != nil {
		return err
	}
	if err := checkText(field+".description", r.Description, true, 1024); err != nil {
		return err
	}
	if len(r.MemberTypes) == 0 {
		return errApplication(field, "%s: %q has no allowedMemberTypes; give User, Application or both.", field, r.DisplayName)
	}
	for _, t := range r.MemberTypes {
		if t != MemberUser && t != MemberApplication {
			return errApplication(field, "%s: allowedMemberTypes of %q holds %.40q; it may hold User and Application.", field, r.DisplayName, t)
		}
	}
	return checkPermissionValue(field, r.Value)
}

// checkPermissionValue accepts what can stand in a space-separated claim (Microsoft Graph permissionScope.value, appRole.value).
func checkPermissionValue(field, value string) error {
	bad := func(r rune) bool {
		return !isAlphanumeric(r) && !strings.ContainsRune(":!#$%&'()*+,-./;<=>?@[]^_`{|}~", r)
	}
	if len(value) > 120 || strings.HasPrefix(value, ".") || strings.ContainsFunc(value, bad) {
		return errApplication(field, "%s: the value %.130q is invalid: at most 120 letters, digits and punctuation, without spaces, and not beginning with a dot.", field, value)
	}
	return nil
}

func errApplication(field, format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, format, args...).At(field).WithCode("Request_BadRequest")
}
