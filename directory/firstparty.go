package directory

// The first-party applications that every tenant has: the clients people sign in with and the
// resources they ask tokens for (ids as in the public cloud).
var (
	AKSServer = MustParseID("6dae42f8-4368-4678-94ff-3960e28e3630")
	AKSClient = MustParseID("80faf920-1908-4b52-b5ef-a8e7bedfc67a")
	AzureCLI  = MustParseID("04b07795-8ddb-461a-bbee-02f9e1bf7b46")
	ARM       = MustParseID("797f4846-ba00-4fd7-ba43-dac1f8f63013")
	Graph     = MustParseID("00000003-0000-0000-c000-000000000000")
	// IAMExtension is what `az ad app permission admin-consent` asks a token for.
	IAMExtension = MustParseID("74658136-14ec-4630-ad9b-26e160ff0fc6")
	// InvitationPortal is what a person signs in to who accepts an invitation.
	InvitationPortal = MustParseID("4660504c-45b3-4674-a709-71951a6b0763")
)

// microsoftTenant owns the first-party applications.
var microsoftTenant = MustParseID("f8cdef31-a31e-4b4a-93e4-5f571e91255a")

// FirstParty lists the first-party applications. As clients they need no consent.
var FirstParty = []Application{
	{
		AppID: AKSServer, DisplayName: "Azure Kubernetes Service AAD Server",
		Scopes: []Scope{forUsers("34a47c2f-cd0d-47b4-a93c-2c41130c671c", "user.read", "Use clusters as you")}, GroupClaims: ClaimSecurityGroup,
	},
	{
		AppID: AKSClient, DisplayName: "Azure Kubernetes Service AAD Client",
		PublicClient: true, RedirectURIs: []string{"http://localhost"},
	},
	{
		AppID: AzureCLI, DisplayName: "Microsoft Azure CLI",
		PublicClient: true, RedirectURIs: []string{"http://localhost"},
	},
	{
		AppID: ARM, DisplayName: "Windows Azure Service Management API",
		IdentifierURIs: []string{"https://management.azure.com/", "https://management.core.windows.net/"},
		Scopes:         []Scope{forUsers("41094075-9dad-400e-a0bd-54e686782033", "user_impersonation", "Manage Azure resources as you")},
	},
	{
		AppID: Graph, DisplayName: "Microsoft Graph",
		IdentifierURIs: []string{"https://graph.microsoft.com/"},
		Scopes:         graphScopes, Roles: graphRoles,
	},
	{
		AppID: IAMExtension, DisplayName: "ADIbizaUX",
	},
	{
		AppID: InvitationPortal, DisplayName: "Microsoft Invitation Acceptance Portal",
	},
}

// family holds the clients that may redeem each other's refresh tokens (foci).
var family = map[ID]bool{AzureCLI: true}

// InFamily reports whether a client shares refresh tokens with the other first-party clients.
func InFamily(appID ID) bool { return family[appID] }

// OwnerTenant returns the tenant in which an application is registered; of first-party ones that is none of this server's.
func OwnerTenant(a *Application) ID {
	if a.Tenant.IsZero() {
		return microsoftTenant
	}
	return a.Tenant
}
