package graph

import (
	"slices"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// area is a part of the API with permissions of its own (Microsoft Graph permissions reference). Whoever holds one of the
// permissions may read, or change, what is in it, as far as the directory lets them.
type area struct{ read, write []string }

// Permissions for all of the directory. Delegated, they lead as far as the user may go; AccessAsUser is delegated only.
var (
	directoryRead  = []string{"Directory.Read.All", "Directory.ReadWrite.All", "Directory.AccessAsUser.All"}
	directoryWrite = []string{"Directory.ReadWrite.All", "Directory.AccessAsUser.All"}
)

// areas by the first segment of a path, or by the one that is named for its permissions wherever it stands.
var areas = map[string]area{
	"users": {
		read:  append([]string{"User.Read.All", "User.ReadWrite.All"}, directoryRead...),
		write: append([]string{"User.ReadWrite.All"}, directoryWrite...),
	},
	"groups": {
		read:  append([]string{"Group.Read.All", "Group.ReadWrite.All", "GroupMember.Read.All", "GroupMember.ReadWrite.All"}, directoryRead...),
		write: append([]string{"Group.ReadWrite.All"}, directoryWrite...),
	},
	"members": { // of a group: the directory knows what GroupMember lets an application do
		read:  append([]string{"Group.Read.All", "Group.ReadWrite.All", "GroupMember.Read.All", "GroupMember.ReadWrite.All"}, directoryRead...),
		write: append([]string{"Group.ReadWrite.All", "GroupMember.ReadWrite.All"}, directoryWrite...),
	},
	"applications": {
		read:  append([]string{"Application.Read.All", "Application.ReadWrite.All", "Application.ReadWrite.OwnedBy"}, directoryRead...),
		write: append([]string{"Application.ReadWrite.All", "Application.ReadWrite.OwnedBy"}, directoryWrite...),
	},
	"approleassignments": {
		read:  append([]string{"Application.Read.All", "Application.ReadWrite.All", "AppRoleAssignment.ReadWrite.All"}, directoryRead...),
		write: []string{"AppRoleAssignment.ReadWrite.All", "Directory.AccessAsUser.All"},
	},
	"oauth2permissiongrants": {
		read:  append([]string{"DelegatedPermissionGrant.ReadWrite.All"}, directoryRead...),
		write: []string{"DelegatedPermissionGrant.ReadWrite.All", "Directory.AccessAsUser.All"},
	},
	"organization": {read: append([]string{"Organization.Read.All"}, directoryRead...), write: directoryWrite},
	"domains":      {read: append([]string{"Domain.Read.All"}, directoryRead...), write: directoryWrite},
	"auditlogs":    {read: []string{"AuditLog.Read.All", "Directory.AccessAsUser.All"}},
}

// areaOf finds the area of a route. What has none of its own needs a permission for all of the directory.
func areaOf(path string) area {
	segments := strings.Split(strings.ToLower(strings.Trim(path, "/")), "/")
	for _, s := range segments {
		if s == "approleassignedto" {
			s = "approleassignments"
		}
		if s == "approleassignments" || s == "oauth2permissiongrants" {
			return areas[s]
		}
	}
	if slices.Contains(segments, "authentication") { // how people sign in: no permission to change their profiles leads there
		return area{directoryRead, directoryWrite}
	}
	first := segments[0]
	switch {
	case first == "serviceprincipals":
		first = "applications"
	case first == "me":
		first = "users"
	case first == "groups" && len(segments) > 2 && segments[2] == "members":
		first = "members"
	}
	if a, ok := areas[first]; ok {
		return a
	}
	return area{directoryRead, directoryWrite}
}

// permits reports whether the token's application, or the user through the token, has a permission. What an application has is read from
// the directory, not from the token: a role that was taken back is gone at once.
func (c *call) permits(any []string) bool {
	if c.token.AppOnly() {
		return c.dir.HasRole(c.token.Object, directory.GlobalAdministrator) || c.dir.HasGraphRole(c.token.Object, any...)
	}
	return slices.ContainsFunc(strings.Fields(c.token.Scopes), func(s string) bool { return slices.Contains(any, s) })
}
