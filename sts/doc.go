// Package sts is the identity provider: discovery, keys, sign-in, tokens.
//
// {tenant} is a GUID, a verified domain, common, organizations or consumers. Paths match in any letter case.
//
//	GET  /common/discovery/instance                            is this authority one of ours?
//	GET  /common/userrealm/{user}                              how does this account sign in?
//	GET  /{tenant}[/v2.0]/.well-known/openid-configuration     OpenID Connect Discovery 1.0
//	GET  /{tenant}/discovery[/v2.0]/keys                       RFC 7517; never cacheable
//	POST /{tenant}/oauth2[/v2.0]/token                         RFC 6749; one file a grant
//	POST /{tenant}/oauth2[/v2.0]/devicecode                    RFC 8628
//	     /devicelogin, /{tenant}/oauth2/deviceauth             the page where a person enters the code
//	GET  /{tenant}/oauth2[/v2.0]/authorize                     RFC 6749 section 3.1, RFC 7636; POST asks again with GET
//	GET  /{tenant}[/v2.0]/adminconsent                         an administrator consents for everybody
//	POST /signin, /signout                                     the forms of the sign-in pages
//	     /myaccount                                            where people see and change how they sign in
//	GET  /{tenant}/oauth2[/v2.0]/logout                        OpenID Connect RP-Initiated Logout 1.0
//	     /oidc/userinfo, /{tenant}/openid/userinfo             OpenID Connect Core 1.0 section 5.3
//	GET  /redeem?tenant=&user=                                 where the link of an invitation leads
//	GET  /error?code=NNN                                       what an error_uri explains
//
// Every request for a token takes the same way (Server.issue):
//
//	form ▶ tenant ▶ client and its credential ▶ grant: who is asking ▶ resource, scopes, consent ▶ decide ▶ commit ▶ mint ▶ audit
//
// A grant only says who is asking, and what must commit before a token may leave: a session, a code that is used up. That commit
// looks at the account once more, under the store's write lock.
//
// A client proves itself with a secret, with a JWT that it signed with a registered certificate's key, or with a JWT of an issuer that a
// federated credential of it names.
//
// Each sign-in of a user is a Session record. Access tokens name it (sid), refresh tokens are sealed texts that name it, and
// nothing outlives it: a revoked session, a new password or a disabled account stops them all at their next use. A session knows how far
// its refresh tokens have come (Chain), so that the use of an old one shows.
//
// Every attempt ends in Server.conclude, which writes the server's log, the audit log and the sign-in log.
//
// A device's sign-in goes from pending to approved or declined, once, by a person on the page, and from approved to redeemed,
// once, by the device that holds the device code:
//
//	code ▶ sign in [▶ second factor] [▶ new password] [▶ enrol] ▶ confirm ▶ approved ──poll──▶ redeemed
//	                                                                └─────▶ declined
//
// A sign-in in a browser begins with a request that an application sends it with, and ends with a code there:
//
//	                        ┌──────────── one account fits ───────────┐
//	authorize [▶ resume] ▶ pick ▶ sign in [▶ second factor] [▶ new password] [▶ enrol] ▶ session ▶ [consent] ▶ code ──token──▶ redeemed
//	    │                                                                                              └─────▶ access_denied
//	    └ prompt=none, and nobody or several fit ▶ login_required, interaction_required
//
// Who is signed in is known only after the step resume, which brings what a cookie must not be alone (see origin.go). A program on the machine
// (a public client) gets no code without a click: if one account fits, the page pick asks whether to go on with it.
//
// Whether a second factor is needed is decided in one place (decide), which every grant and every page asks. A session remembers what
// was shown in it (AMR): one with two factors satisfies every later request, one without is asked for the second when it is needed.
//
// The session of a browser is a Session like others, in which no token is issued: each code begins one of its own. A cookie finds it,
// and the browser must have its other half, which stays with the origin.
// Until client and redirect URI are known to be right, errors are pages; then they go to the application.
//
// A guest of a tenant is an account there for which another tenant's account signs in. The session is of the account at home; tokens of the
// tenant speak of the guest (guest.go). Before the first one the person accepts:
//
//	sign in at home ▶ [review ▶ accept] ▶ code, or a device's confirm
//
// The pages keep no state on the server: each form carries it sealed, bound to the browser by a cookie and to the origin by its half.
//
// Consent is a permission grant in the directory: of one user or, by an administrator, of all (see consent.go). Pages show what is missing and
// grant just that; without a page it is AADSTS65001. The cloud's own clients need none.
//
// A Verifier checks the tokens that this server signed: bearer tokens, and tokens that are bound to a key inside a proof that the key signed.
package sts
