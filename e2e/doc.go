// Package e2e drives the real binaries with unmodified clients: az, kubelogin, kubectl, a browser. Its tests are the
// stories of the README, run as a new user would.
package e2e
