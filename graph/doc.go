// Package graph is Microsoft Graph v1.0 over the directory: the part that az, the Azure SDKs and Terraform use to manage
// users, groups and applications.
//
//	/v1.0/users            list create show update delete; {id} is an object id or a user principal name
//	     /{id}/memberOf transitiveMemberOf ownedObjects getMemberGroups checkMemberGroups getMemberObjects
//	           checkMemberObjects revokeSignInSessions
//	     /me               the same for the caller, and changePassword
//	     /groups           list create show update delete
//	     /{id}/members transitiveMembers owners memberOf ..., members/$ref and owners/$ref to add, {id}/$ref to remove
//	     /applications     list create show update delete, addPassword removePassword
//	     /servicePrincipals  the same, and memberOf ..., appRoleAssignedTo; owners of both
//	     /oauth2PermissionGrants    list create show update delete
//	     /{users|groups|servicePrincipals}/{id}/appRoleAssignments
//	     /directoryObjects/{id}, /directoryObjects/getByIds
//	     /organization /domains   read only
//	     /auditLogs/signIns, /auditLogs/signIns/{id}   the sign-in log, read only
//
// A request goes through one pipeline (see call.go): the bearer token is verified for Graph's audience against the view
// that answers the request, the token's scopes, or the roles that an application has now, and the caller's place in the directory are held
// against what the route needs (see permission.go), then the route answers. Every write and every refusal is audited. Rules about the directory itself,
// who may write among them, are checked by package directory under the store's write lock.
//
// Reads come from one immutable view and touch no SQL, but for those of the sign-in log. Lists are in the order of their ids, and a page's token is the
// place after its last entry, so that paging neither repeats nor skips an object that stays, whatever else changes.
package graph
