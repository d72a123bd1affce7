// Package identity is the resource provider Microsoft.ManagedIdentity: user-assigned managed identities, their federated credentials,
// and the system-assigned identities of other resources.
//
//   - .../resourceGroups/{g}/providers/Microsoft.ManagedIdentity/userAssignedIdentities[/{n}]     PUT GET PATCH DELETE
//   - .../userAssignedIdentities/{n}/federatedIdentityCredentials[/{c}]                           PUT GET DELETE
//     POST  .../userAssignedIdentities/{n}/listAssociatedResources
//     GET   {resource}/providers/Microsoft.ManagedIdentity/identities/default
//
// An identity is two records that are written and deleted together: the resource here, and its service principal in the directory, which
// also holds the federated credentials. There are no long-running operations.
package identity
