// Package msi hands the tokens of managed identities to programs on this machine, in the three forms that clients know:
//
//	App Service  GET /msi/token                          a secret in a header: X-IDENTITY-HEADER, or secret in the older version
//	IMDS         GET http://169.254.169.254/metadata/... through a proxy of one's own, with a secret in Proxy-Authorization
//	Arc          GET /metadata/identity/oauth2/token     first a challenge that names a file, then what is in the file
//
// Such an endpoint gives a token to whoever can reach it, so none is on a shared listener: each has one on loopback of its own, for one
// identity and one form, opened by name through the control socket and closed by name, or with the server. The forms of the cloud
// guard against other machines and against pages in browsers; the secrets guard against other users of this machine as well.
//
//	Host ▶ headers of browsers and proxies ▶ secret ▶ Metadata ▶ which identity ▶ sts: principal, resource, token, audit
//
// The IMDS form asks for its secret first: what is for other hosts passes through, for those who have it.
package msi
