// Package aks is the resource provider Microsoft.ContainerService: managed clusters and their
// credentials.
package aks
