package sts

import (
	"fmt"
	"net/http"

	"github.com/gatehouse-k8s/gatehouse/fault"
)

// aadsts is one error of the identity provider's numbered list (Microsoft Entra "AADSTS error codes").
type aadsts struct {
	status   int
	error    string // the OAuth error, of version 2 endpoints
	v1       string // of version 1 endpoints, where it differs
	page     string // of the authorize endpoint, where it differs
	suberror string
	text     string // a format
	help     string // what to do, for the error page
}

// catalogue holds every error that this server can answer with.
var catalogue = map[int]aadsts{
	16000: {status: 400, error: "interaction_required", text: "Several accounts are signed in in this browser. Name one with login_hint, or let the user choose with prompt=select_account.",
		help: "Name the account with login_hint, or let the user choose."},
	50000: {status: 500, error: "server_error", text: "There was an error issuing a token; the server's log has the details under the trace id.",
		help: "Try again. If it happens again, give the trace id to whoever runs this server."},
	50011: {status: 400, error: "invalid_request", text: "The redirect URI '%s' specified in the request does not match the redirect URIs configured for the application '%s'. Make sure the redirect URI sent in the request matches one added to the application, to the letter.",
		help: "Add the redirect URI to the application's registration, or correct it in the application."},
	50012: {status: 401, error: "invalid_client", text: "The audience '%s' of the client assertion is not an endpoint of this tenant; use '%s'.",
		help: "Make the assertion for the token endpoint of the tenant."},
	50013: {status: 400, error: "invalid_grant", text: "Assertion failed validation: %s. Present the access token that the user called this application with.",
		help: "The application must present the token that it was called with."},
	50014: {status: 400, error: "invalid_grant", text: "The account '%s' was invited to tenant '%s' and has not accepted yet. Open the link of the invitation, or sign in to that tenant in a browser.",
		help: "Accept the invitation: open its link, or sign in to the tenant in a browser."},
	50020: {status: 400, error: "invalid_grant", text: "User account '%s' does not exist in tenant '%s' and cannot access the application '%s' in that tenant. Sign in with an account of that tenant, or have this one added to it.",
		help: "Sign in with an account of the tenant, or ask its administrator to add yours."},
	50027: {status: 401, error: "invalid_client", text: "The client assertion is invalid: %s.",
		help: "Check how the client makes its assertion."},
	50034: {status: 400, error: "invalid_grant", text: "The user account {EmailHidden} does not exist in the %s directory. To sign into this application, the account must be added to the directory.", // the name may be a password in the wrong field
		help: "Check the spelling of the user name, or ask an administrator to add the account."},
	50049: {status: 400, error: "invalid_instance", text: "Unknown or invalid instance '%s'; give an https URL of a host that this server answers for.",
		help: "Set the authority host of the client to this server's public URL."},
	50053: {status: 400, error: "invalid_grant", text: "The account is locked, you've tried to sign in too many times with an incorrect user ID or password. Wait a few minutes and try again.",
		help: "Wait a few minutes and try again. An administrator can reset the password."},
	50055: {status: 400, error: "invalid_grant", suberror: "user_password_expired", text: "The password is expired. Change it at %s by signing in there, or ask an administrator to reset it.",
		help: "Sign in with a browser: the page then asks for a new password."},
	50057: {status: 400, error: "invalid_grant", text: "The user account is disabled. Ask an administrator to enable it.",
		help: "Ask an administrator to enable the account."},
	50058: {status: 400, error: "login_required", text: "A silent sign-in request was sent but no user is signed in. Send the user to sign in without prompt=none.",
		help: "Sign in with a page: the application asked for a sign-in without one."},
	50059: {status: 400, error: "invalid_request", text: "No tenant-identifying information found in either the request or implied by any provided credentials. Name the tenant in place of '%s'.",
		help: "Name the tenant in the authority URL, by its id or domain."},
	50076: {status: 400, error: "invalid_grant", v1: "interaction_required", suberror: "basic_action", text: "Due to a configuration change made by your administrator, or because you moved to a new location, you must use multi-factor authentication to access '%s'.",
		help: "Sign in with a browser or with a device code: the page then asks for the second factor."},
	50079: {status: 400, error: "invalid_grant", v1: "interaction_required", suberror: "basic_action", text: "Due to a configuration change made by your administrator, or because you moved to a new location, you must enroll in multi-factor authentication to access '%s'.",
		help: "Sign in with a browser or with a device code: the page then leads through setting up a second factor."},
	50126: {status: 400, error: "invalid_grant", text: "Error validating credentials due to invalid username or password.",
		help: "Check the user name and the password and try again."},
	50147: {status: 400, error: "invalid_request", text: "Missing code_challenge. Public clients must send one, with code_challenge_method S256 (RFC 7636).",
		help: "Use a client library that sends a code challenge (PKCE)."},
	50166: {status: 401, error: "invalid_client", text: "The keys of the issuer '%s' could not be fetched. It must publish its OpenID configuration and its key set under https at a public address; the server's log has the details under the trace id.",
		help: "Check that the issuer's documents can be reached, or ask whoever runs this server to allow its address."},
	50173: {status: 400, error: "invalid_grant", suberror: "bad_token", text: "The provided grant has expired due to it being revoked, a fresh auth token is needed. The user might have changed or reset their password, or the sessions were revoked.",
		help: "Sign in again."},
	50199: {status: 400, error: "interaction_required", text: "For security reasons, user confirmation is required for this request. Please repeat the request allowing user interaction.",
		help: "Send the user to sign in without prompt=none: programs get nothing from a browser without a click."},
	54005: {status: 400, error: "invalid_grant", text: "OAuth2 code was already redeemed, please retry with a new code.",
		help: "Start the sign-in again."},
	50105: {status: 400, error: "invalid_grant", page: "interaction_required", text: "Your administrator has configured the application %s ('%s') to block users unless they are specifically granted ('assigned') access to it. The user '%s' is not a direct member of a group with access, nor had access directly assigned.",
		help: "Ask an administrator to assign you, or one of your groups, to the application."},
	65001: {status: 400, error: "invalid_grant", page: "consent_required", suberror: "consent_required", text: "The user or administrator has not consented to use the application with ID '%s' named '%s'. Send an interactive authorization request for this user and resource.",
		help: "Sign in to the application with a browser, where it can ask for your consent, or ask an administrator to consent."},
	65004: {status: 400, error: "access_denied", text: "User declined to consent to access the app.",
		help: "Start the sign-in again and accept, if you want to use the application."},
	70000: {status: 400, error: "invalid_grant", suberror: "bad_token", text: "Provided grant is invalid or malformed. The value of '%s' is not one that this server issued, or not to this client.",
		help: "Sign in again."},
	700005: {status: 400, error: "invalid_grant", text: "Provided Authorization Code is intended to use against other tenant, thus rejected. Redeem it at the tenant that it was asked for.",
		help: "The application must redeem the code at the tenant where it sent the user to sign in."},
	70003: {status: 400, error: "unsupported_grant_type", text: "The app requested an unsupported grant type '%s'. Supported are authorization_code, password, refresh_token, client_credentials, device code and on-behalf-of.",
		help: "Use another login mode."},
	70005: {status: 400, error: "unsupported_response_type", text: "The response_type '%s' is not supported; use code, id_token or code id_token.",
		help: "Use the authorization code flow: response_type=code."},
	70007: {status: 400, error: "invalid_request", text: "The response_mode '%s' is not supported; use query, fragment or form_post.",
		help: "Use query, fragment or form_post."},
	70008: {status: 400, error: "invalid_grant", text: "The provided authorization code has expired. Send the user to sign in again; codes live 10 minutes.",
		help: "Start the sign-in again."},
	70011: {status: 400, error: "invalid_scope", text: "The provided request must include a valid 'scope' input parameter. The scope '%s' is not valid: %s.",
		help: "Ask for {resource}/.default, or for scopes that the resource declares."},
	70021: {status: 400, error: "invalid_request", text: "No matching federated identity record found for presented assertion: application '%s' has none. Assertion Issuer: '%s'. Assertion Subject: '%s'. Assertion Audience: '%s'. Add one with az ad app federated-credential create.",
		help: "Add a federated credential to the application."},
	70016: {status: 400, error: "authorization_pending", text: "OAuth 2.0 device flow error. Authorization is pending. Continue polling.",
		help: "Enter the code at the device sign-in page."},
	70018: {status: 400, error: "bad_verification_code", text: "Invalid verification code. Start the sign-in again to get a new one.",
		help: "Check the code, or start the sign-in again to get a new one."},
	70020: {status: 400, error: "expired_token", v1: "code_expired", text: "The provided value for the input parameter 'device_code' is not valid. This device code has expired.",
		help: "Start the sign-in again to get a new code."},
	70028: {status: 400, error: "authorization_declined", v1: "access_denied", text: "The user declined the sign-in on the device page.",
		help: "Start the sign-in again, and confirm it on the page."},
	90094: {status: 400, error: "access_denied", text: "Administrator consent is required for the application '%s' ('%s'): it asks for permissions that only an administrator can grant.",
		help: "Ask an administrator to consent."},
	90002: {status: 400, error: "invalid_tenant", text: "Tenant '%s' not found. Check to make sure you have the correct tenant ID or domain and are signing into the correct cloud.",
		help: "Check the tenant's id or domain."},
	90013: {status: 400, error: "invalid_request", text: "Invalid input received from the user: %s.",
		help: "Correct the request; the description names what is wrong."},
	90072: {status: 400, error: "invalid_grant", text: "Accounts of '%s' cannot sign in here: that organization is not on this server. Sign in with an account of one that is, be it as a guest of another.",
		help: "Sign in with an account of an organization on this server. Guests from elsewhere can be invited, but not sign in."},
	90033: {status: 503, error: "temporarily_unavailable", text: "A transient error has occurred. Please try again in a few seconds.",
		help: "Try again in a few seconds."},
	90055: {status: 429, error: "temporarily_unavailable", text: "There are too many incoming requests from %s. Wait a minute and try again.",
		help: "Wait a minute and try again."},
	500112: {status: 400, error: "invalid_grant", text: "The reply address does not match the reply address provided when requesting the authorization code. Send the same redirect_uri in both requests.",
		help: "Start the sign-in again; if it happens again, the application is at fault."},
	501481: {status: 400, error: "invalid_grant", text: "The code_verifier does not match the code_challenge supplied in the authorization request.",
		help: "Start the sign-in again; if it happens again, the application is at fault."},
	501491: {status: 400, error: "invalid_request", text: "The code_challenge must be 43 characters of base64url with S256, or 43 to 128 unreserved characters with plain (RFC 7636 section 4.2).",
		help: "Use a client library that makes the code challenge (PKCE)."},
	500011: {status: 400, error: "invalid_resource", text: "The resource principal named %s was not found in the tenant named %s. Check the name; it is an application's id or one of its identifier URIs.",
		help: "Check the resource; in Azure CLI it is the value of --resource or --scope."},
	500014: {status: 400, error: "invalid_resource", text: "The service principal for resource '%s' is disabled. Ask an administrator to enable it.",
		help: "Ask an administrator to enable the application."},
	501051: {status: 400, error: "invalid_grant", text: "Application '%s'(%s) is not assigned to a role for the application '%s'(%s). Assign it one of the application's app roles.",
		help: "Ask an administrator to assign the application to a role of the resource."},
	650057: {status: 400, error: "invalid_resource", text: "Invalid resource. The client has requested access to a resource which is not listed in the requested permissions in the client's application registration. Client app ID: %s(%s). Resource app ID: %s(%s). Add one with az ad app permission add, or ask for a scope by its name.",
		help: "Add the permission to the application's registration, or ask for a scope by its name."},
	700051: {status: 400, error: "unsupported_response_type", text: "response_type 'token' is not enabled for the application '%s': this server never puts access tokens into addresses. Use response_type=code.",
		help: "Use the authorization code flow: response_type=code."},
	700054: {status: 400, error: "unsupported_response_type", text: "response_type 'id_token' is not enabled for the application '%s'. Set web.implicitGrantSettings.enableIdTokenIssuance, or use response_type=code.",
		help: "Use response_type=code, or enable ID tokens in the application's registration."},
	700016: {status: 400, error: "unauthorized_client", text: "Application with identifier '%s' was not found in the directory '%s'. Check the client id, and that you use the right tenant.",
		help: "Check the client id and the tenant."},
	700023: {status: 400, error: "invalid_scope", text: "The scope '%s' names no resource; ask for {resource}/.default.",
		help: "Ask for {resource}/.default."},
	700022: {status: 400, error: "invalid_scope", text: "The scope names more than one resource, '%s' and '%s'; ask for one resource at a time.",
		help: "Ask for one resource at a time."},
	700025: {status: 401, error: "invalid_client", text: "Client '%s' is public so neither 'client_assertion' nor 'client_secret' should be presented.",
		help: "Leave the client secret out."},
	700021: {status: 401, error: "invalid_client", text: "Client assertion application identifier doesn't match 'client_id' parameter: issuer and subject must both be '%s', or those of a federated identity credential.",
		help: "Check the client id that the assertion is made for."},
	700024: {status: 401, error: "invalid_client", text: "Client assertion is not within its valid time range. Current time: %s, assertion valid from %s, expiry time of assertion %s. %s",
		help: "Check the clock of the machine that makes the assertion."},
	700027: {status: 401, error: "invalid_client", text: "The certificate that signed the client assertion is not accepted for application '%s'. [Reason - %s]",
		help: "Check which certificate is registered for the application, and which one the client uses."},
	700082: {status: 400, error: "invalid_grant", suberror: "bad_token", text: "The refresh token has expired due to inactivity. The token was issued on %s and was inactive for %s.",
		help: "Sign in again."},
	700211: {status: 401, error: "invalid_client", text: "No matching federated identity record found for presented assertion issuer '%s'. The issuer of a federated identity credential must be the same, letter by letter.",
		help: "Check the issuer of the application's federated credentials."},
	700212: {status: 401, error: "invalid_client", text: "No matching federated identity record found for presented assertion audience '%s'. Normally it is api://AzureADTokenExchange.",
		help: "Check the audience of the application's federated credentials."},
	700213: {status: 401, error: "invalid_client", text: "No matching federated identity record found for presented assertion subject '%s'. The subject of a federated identity credential must be the same, letter by letter.",
		help: "Check the subject of the application's federated credentials."},
	700229: {status: 401, error: "invalid_client", text: "Only app-only tokens can be used as Federated Identity Credentials for AAD issuer; this assertion speaks for a user.",
		help: "Use a token of an application, such as a managed identity."},
	900023: {status: 400, error: "invalid_request", text: "Specified tenant identifier '%s' is neither a valid DNS name, nor a valid external domain.",
		help: "Name the tenant by its id or by one of its domains."},
	500121: {status: 400, error: "invalid_grant", text: "Authentication failed during strong authentication request: %s.",
		help: "Try again with a new code, another method or a recovery code. An administrator can remove your sign-in methods."},
	500133: {status: 400, error: "invalid_grant", text: "Assertion is not within its valid time range. Current time: %s, expiry time of assertion: %s. The user must call the application again with a fresh token.",
		help: "Sign in again."},
	900144: {status: 400, error: "invalid_request", text: "The request body must contain the following parameter: '%s'.",
		help: "Add the parameter that the description names."},
	900561: {status: 405, error: "invalid_request", text: "The endpoint does not accept %s requests.",
		help: "This address is for programs, not for browsers."},
	901002: {status: 400, error: "invalid_request", text: "The 'resource' request parameter isn't supported at version 2 endpoints; use 'scope'.",
		help: "Use 'scope' instead of 'resource'."},
	1002012: {status: 400, error: "invalid_scope", text: "The provided value for scope %s is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI).",
		help: "Ask for {resource}/.default."},
	7000112: {status: 400, error: "unauthorized_client", text: "Application '%s' (%s) is disabled. Ask an administrator to enable it.",
		help: "Ask an administrator to enable the application."},
	7000114: {status: 400, error: "invalid_grant", text: "Application '%s' is not allowed to make application on-behalf-of calls: the assertion speaks for an application. Ask for a token with client_credentials.",
		help: "On-behalf-of needs a token of a user."},
	7000215: {status: 401, error: "invalid_client", text: "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '%s'.",
		help: "Check the client secret, or make a new one."},
	7000218: {status: 401, error: "invalid_client", text: "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
		help: "Send the client secret, or use a client that is registered as public."},
	7000222: {status: 401, error: "invalid_client", text: "The provided client secret keys for app '%s' are expired since %s. Make a new one.",
		help: "Make a new client secret."},
	7000229: {status: 401, error: "invalid_client", text: "The client application %s is missing service principal in the tenant %s. Ask an administrator to add it.",
		help: "Ask an administrator to add the application to the tenant."},
	7002137: {status: 401, error: "invalid_client", text: "No matching federated identity record found for presented assertion subject '%s'. The subject of this directory's tokens is the object id of the service principal.",
		help: "Check the subject of the application's federated credentials."},
	7002138: {status: 401, error: "invalid_client", text: "No matching federated identity record found for presented assertion subject '%s'. A federated identity credential has it with other upper and lower case letters; the subject must be the same, letter by letter.",
		help: "Check the letter case of the subject of the application's federated credentials."},
	9000411: {status: 400, error: "invalid_request", text: "The request is not properly formatted. The parameter '%s' is duplicated.",
		help: "Send every parameter once."},
	9001023: {status: 400, error: "invalid_grant", text: "The grant type is not supported over the /common or /consumers endpoints. Please use the /organizations or tenant-specific endpoint.",
		help: "Name the tenant in the authority URL, or use organizations."},
	9002313: {status: 400, error: "invalid_request", text: "Invalid request. Request is malformed or invalid: %s.",
		help: "Correct the request; the description names what is wrong."},
	9002346: {status: 400, error: "invalid_request", text: "Application '%s' is for work accounts only. Use the tenant-specific endpoint or /organizations in place of /consumers.",
		help: "Name the tenant in the authority URL, or use organizations."},
}

// refusal is an error of the catalogue with its values filled in.
type refusal struct {
	fault    *fault.Error
	number   int
	suberror string
	claims   string // JSON: what the client shall ask for when it sends the user to a page
}

func (r *refusal) Error() string { return r.fault.Code + ": " + r.fault.Error() }
func (r *refusal) Unwrap() error { return r.fault }

// fail makes the error of a number. args fill the catalogue's text.
func fail(number int, args ...any) *refusal {
	e, ok := catalogue[number]
	if !ok {
		panic(fmt.Sprintf("sts: AADSTS%d is not in the catalogue", number))
	}
	f := fault.New(kindOf(e.status), e.text, args...).WithCode(fmt.Sprintf("AADSTS%d", number))
	if e.status == http.StatusTooManyRequests || e.status == http.StatusServiceUnavailable {
		f.RetryAfter = 60
	}
	return &refusal{fault: f, number: number, suberror: e.suberror}
}

// sub replaces the catalogue's suberror.
func (r *refusal) sub(suberror string) *refusal {
	r.suberror = suberror
	return r
}

func kindOf(status int) fault.Kind {
	switch status {
	case http.StatusUnauthorized:
		return fault.Unauthenticated
	case http.StatusTooManyRequests:
		return fault.Throttled
	case http.StatusServiceUnavailable:
		return fault.Unavailable
	case http.StatusInternalServerError:
		return fault.Internal
	}
	return fault.Invalid
}
