// Package aks is the resource provider Microsoft.ContainerService: managed clusters, their credentials, and
// what Kubernetes verbs mean as Azure data actions.
package aks
