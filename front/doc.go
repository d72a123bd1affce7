// Package front is where every request of a person or a client comes in: one TLS listener for all
// faces, and the loopback proxy that answers for the public cloud's host names.
//
//	browser, SDK --TLS--> Server ---------------------------+
//	                                                        v
//	az, kubelogin --CONNECT--> Proxy --TLS ended here--> Faces.Handler --> STS, Graph, ARM, Portal
//	                             |
//	                             +--any other host--> tunnel, untouched --> (upstream proxy) --> host
//
// A request that the proxy took belongs to the face that the host table gives its host name; the face
// sees that name in r.Host, in lower case and without a port. Every other request belongs to a face by
// the first segment of its path, and is answered only under a name that is known to be ours. So a
// handler that finds a cloud host's name in r.Host knows that its client speaks to the cloud by that name.
//
// The webhooks are not here: they have a listener of their own.
package front
