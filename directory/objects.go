package directory

import (
	"time"

	"github.com/gatehouse-k8s/gatehouse/feed"
)

// Kinds of records of this package.
const (
	KindTenant           feed.Kind = "directory/tenant"
	KindUser             feed.Kind = "directory/user"
	KindGroup            feed.Kind = "directory/group"
	KindApplication      feed.Kind = "directory/application"
	KindServicePrincipal feed.Kind = "directory/serviceprincipal"
	KindMembership       feed.Kind = "directory/membership"     // key group/member
	KindOwnership        feed.Kind = "directory/ownership"      // key object/owner
	KindRoleAssignment   feed.Kind = "directory/roleassignment" // key role template/principal
	KindPermissionGrant  feed.Kind = "directory/permissiongrant"
	KindAppRole          feed.Kind = "directory/approleassignment"

	// KindPassword is a secret: the argon2id hash of a user's password, under the user's id.
	KindPassword feed.Kind = "directory/password"
	// KindAppSecret is a secret: the HMAC of a client secret, under application or service principal id/key id.
	KindAppSecret feed.Kind = "directory/appsecret"
)

// GlobalAdministrator is the role template id of the directory role that may write everything
// (Microsoft Entra built-in roles).
var GlobalAdministrator = MustParseID("62e90394-69f5-4237-9190-012177145e10")

// Tenant is one directory.
type Tenant struct {
	ID          ID        `json:"id"`
	DisplayName string    `json:"displayName"`
	Domains     []string  `json:"domains"` // verified, in lower case; the first is the default
	Created     time.Time `json:"created"`
}

// DefaultDomain is the domain that new users get.
func (t *Tenant) DefaultDomain() string { return t.Domains[0] }

// User types of Microsoft Graph.
const (
	Member = "Member"
	Guest  = "Guest"
)

// User is a person's account.
type User struct {
	ID                ID        `json:"id"`
	Tenant            ID        `json:"tenant"`
	UPN               string    `json:"userPrincipalName"` // in the spelling it was given
	DisplayName       string    `json:"displayName"`
	GivenName         string    `json:"givenName,omitempty"`
	Surname           string    `json:"surname,omitempty"`
	Mail              string    `json:"mail,omitempty"`
	MailNickname      string    `json:"mailNickname,omitempty"`
	JobTitle          string    `json:"jobTitle,omitempty"`
	Department        string    `json:"department,omitempty"`
	OfficeLocation    string    `json:"officeLocation,omitempty"`
	MobilePhone       string    `json:"mobilePhone,omitempty"`
	BusinessPhones    []string  `json:"businessPhones,omitempty"`
	PreferredLanguage string    `json:"preferredLanguage,omitempty"`
	UsageLocation     string    `json:"usageLocation,omitempty"`
	ImmutableID       string    `json:"onPremisesImmutableId,omitempty"`
	Type              string    `json:"userType"` // Member or Guest
	Enabled           bool      `json:"accountEnabled"`
	MustChange        bool      `json:"forceChangePasswordNextSignIn,omitempty"`
	Created           time.Time `json:"created"`
	External          *External `json:"external,omitempty"` // of who was invited: the account at home that signs in; nil: signs in here

	// SessionsValidFrom ends every session and token that began before it, in Unix nanoseconds: set by a password
	// change and by revoking all sessions (Graph signInSessionsValidFromDateTime).
	SessionsValidFrom int64 `json:"sessionsValidFrom,omitempty"`

	MFA     string   `json:"perUserMfaState,omitempty"` // see PerUserMFA
	Methods []Method `json:"methods,omitempty"`         // second factors; their secret halves are under KindFactors
}

// Group is a set of principals.
type Group struct {
	ID              ID        `json:"id"`
	Tenant          ID        `json:"tenant"`
	DisplayName     string    `json:"displayName"`
	Description     string    `json:"description,omitempty"`
	MailNickname    string    `json:"mailNickname"`
	MailEnabled     bool      `json:"mailEnabled"`
	SecurityEnabled bool      `json:"securityEnabled"`
	Types           []string  `json:"groupTypes,omitempty"` // "Unified" for Microsoft 365 groups
	Visibility      string    `json:"visibility,omitempty"`
	RoleAssignable  bool      `json:"isAssignableToRole,omitempty"`
	Created         time.Time `json:"created"`
}

// PasswordCredential describes a client secret; the secret itself is kept as a hash under KindAppSecret.
type PasswordCredential struct {
	KeyID       ID        `json:"keyId"`
	DisplayName string    `json:"displayName,omitempty"`
	Hint        string    `json:"hint"` // the first three characters, as Graph shows them
	Start       time.Time `json:"start"`
	End         time.Time `json:"end"`
}

// KeyCredential is a certificate that an application proves itself with. Only its public half is ever seen here.
type KeyCredential struct {
	KeyID       ID        `json:"keyId"`
	DisplayName string    `json:"displayName,omitempty"`
	Certificate []byte    `json:"certificate"` // DER
	Start       time.Time `json:"start"`       // within the certificate's own validity
	End         time.Time `json:"end"`
}

// FederatedCredential lets the tokens of another issuer prove an application (Microsoft Graph
// federatedIdentityCredential). All three of issuer, subject and audience match letter by letter.
type FederatedCredential struct {
	ID          ID       `json:"id"`
	Name        string   `json:"name"`
	Issuer      string   `json:"issuer"`
	Subject     string   `json:"subject"`
	Audiences   []string `json:"audiences"` // exactly one
	Description string   `json:"description,omitempty"`
}

// Application is an app registration.
type Application struct {
	ID              ID                    `json:"id"`
	Tenant          ID                    `json:"tenant"`
	AppID           ID                    `json:"appId"` // the client id
	DisplayName     string                `json:"displayName"`
	IdentifierURIs  []string              `json:"identifierUris,omitempty"`
	RedirectURIs    []string              `json:"redirectUris,omitempty"` // of the public client: devices, command lines
	WebRedirectURIs []string              `json:"webRedirectUris,omitempty"`
	PublicClient    bool                  `json:"isFallbackPublicClient,omitempty"` // may sign in without a credential
	Passwords       []PasswordCredential  `json:"passwordCredentials,omitempty"`
	Keys            []KeyCredential       `json:"keyCredentials,omitempty"`
	Federated       []FederatedCredential `json:"federatedIdentityCredentials,omitempty"`
	Scopes          []Scope               `json:"scopes,omitempty"`
	Roles           []AppRole             `json:"roles,omitempty"`
	TokenVersion    int                   `json:"requestedAccessTokenVersion,omitempty"` // 2, else version 1 tokens
	Created         time.Time             `json:"created"`

	PreAuthorized []PreAuthorized    `json:"preAuthorizedApplications,omitempty"`
	KnownClients  []ID               `json:"knownClientApplications,omitempty"`
	Required      []RequiredResource `json:"requiredResourceAccess,omitempty"`
	GroupClaims   GroupClaims        `json:"groupMembershipClaims,omitempty"`
	Optional      OptionalClaims     `json:"optionalClaims,omitzero"`
	IssueIDToken  bool               `json:"enableIdTokenIssuance,omitempty"` // from the authorize endpoint itself

	// What people and portals read about it.
	Tags        []string `json:"tags,omitempty"`
	Notes       string   `json:"notes,omitempty"`
	Description string   `json:"description,omitempty"`
	HomePage    string   `json:"homePageUrl,omitempty"`
	LogoutURL   string   `json:"logoutUrl,omitempty"`
	Info        Info     `json:"info,omitzero"`
}

// Types of service principals.
const (
	TypeApplication     = "Application"
	TypeManagedIdentity = "ManagedIdentity"
)

// ServicePrincipal is an application's account in a tenant.
type ServicePrincipal struct {
	ID          ID                   `json:"id"`
	Tenant      ID                   `json:"tenant"`
	AppID       ID                   `json:"appId"`
	DisplayName string               `json:"displayName"`
	Names       []string             `json:"servicePrincipalNames"` // the app id and the identifier URIs
	Type        string               `json:"servicePrincipalType"`
	Enabled     bool                 `json:"accountEnabled"`
	Passwords   []PasswordCredential `json:"passwordCredentials,omitempty"`
	Keys        []KeyCredential      `json:"keyCredentials,omitempty"`
	FirstParty  bool                 `json:"firstParty,omitempty"` // owned by the cloud's own tenant; see FirstParty
	Created     time.Time            `json:"created"`

	AssignmentRequired bool     `json:"appRoleAssignmentRequired,omitempty"` // only who has been assigned gets tokens for, or through, it
	Tags               []string `json:"tags,omitempty"`
	Notes              string   `json:"notes,omitempty"`

	// Of a managed identity only, whose resource they describe:
	Resource  string                `json:"resource,omitempty"` // its ARM id
	Explicit  bool                  `json:"explicit,omitempty"` // the resource is the identity itself, user-assigned; else the identity is part of it
	Federated []FederatedCredential `json:"federatedIdentityCredentials,omitempty"`
}
