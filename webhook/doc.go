// Package webhook answers API servers: who a token belongs to, and whether its owner is refused whatever the cluster's
// own roles say.
//
//	POST /webhook/authenticate   TokenReview, authentication.k8s.io/v1
//	POST /webhook/authorize      SubjectAccessReview, authorization.k8s.io/v1
//
// They have a listener of their own that takes only client certificates of a CA used for nothing else. The certificate's
// common name is the cluster's GUID: the certificate, and nothing in the request, says which cluster asks.
//
//	body ─▶ scan ─▶ SHA-256 ─▶ cache ──┬─ made at this revision ──────────────────────────▶ encoded answer
//	                                   ├─ made before ──────────────────▶ decide ─▶ encode ─▶ answer
//	                                   └─ none ─▶ foreign issuer? ─▶ RSA ─▶ decide ─▶ encode ─▶ answer
//
// A token is a bearer token, or a proof of possession with a bound token inside; a cluster may require the latter. A proof names the
// cluster that it is for, and is good for 15 minutes.
//
// An answer is made from the directory as it is now. Of a token only its verified claims are kept, and with them the
// encoded answer, for one position of the change feed, one set of bound groups, and until the first moment at which the
// clock alone could change it. A replica that has lost its database lets nobody in.
package webhook
