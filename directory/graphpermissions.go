package directory

// graphScopes are the delegated permissions of Microsoft Graph that package graph honours, with the ids that they have in the public
// cloud (Microsoft Graph permissions reference).
var graphScopes = []Scope{
	forUsers("37f7f235-527c-4136-accd-4a02d197296e", "openid", "Sign you in"),
	forUsers("14dad69e-099b-42c9-810b-d002981feec1", "profile", "See your name and user name"),
	forUsers("64a6cdd6-aab1-4aaf-94b8-3cc8405e90d0", "email", "See your email address"),
	forUsers("7427e0e9-2fba-42fe-b0c0-848c9e6a8182", "offline_access", "Keep this access while you are away"),
	forUsers("e1fe6dd8-ba31-4d61-89e7-88639da4683d", "User.Read", "Sign you in and read your profile"),
	forAdmins("a154be20-db9c-4678-8ab7-66f6cc099a59", "User.Read.All", "Read everybody's profile"),
	forAdmins("204e0828-b5ca-4ad8-b9f3-f32a958e7cc4", "User.ReadWrite.All", "Read and change everybody's profile"),
	forAdmins("5f8c59db-677d-491f-a6b8-5f174b11ec1d", "Group.Read.All", "Read all groups"),
	forAdmins("4e46008b-f24c-477d-8fff-7bb4ec7aafe0", "Group.ReadWrite.All", "Read and change all groups"),
	forAdmins("bc024368-1153-4739-b217-4326f2e966d0", "GroupMember.Read.All", "Read who is in which group"),
	forAdmins("f81125ac-d3b7-4573-a3b2-7099cc39df9e", "GroupMember.ReadWrite.All", "Read and change who is in which group"),
	forAdmins("06da0dbc-49e2-44d2-8312-53f166ab848a", "Directory.Read.All", "Read the directory"),
	forAdmins("c5366453-9fb0-48a5-a156-24f0c49a4b84", "Directory.ReadWrite.All", "Read and change the directory"),
	forAdmins("0e263e50-5827-48a4-b97c-d940288653c7", "Directory.AccessAsUser.All", "Do in the directory whatever you can do there"),
	forAdmins("c79f8feb-a9db-4090-85f9-90d820caa0eb", "Application.Read.All", "Read all applications"),
	forAdmins("bdfbf15f-ee85-4955-8675-146e8e5296b5", "Application.ReadWrite.All", "Read and change all applications"),
	forAdmins("84bccea3-f856-4a8a-967b-dbe0a3d53a64", "AppRoleAssignment.ReadWrite.All", "Give applications permissions, and people roles in applications"),
	forAdmins("41ce6ca6-6826-4807-84f1-1c82854f7ee5", "DelegatedPermissionGrant.ReadWrite.All", "Consent to permissions for everybody"),
	forAdmins("e4c9e354-4dc5-45b8-9e7c-e1393b0b1a20", "AuditLog.Read.All", "Read the audit and sign-in logs"),
	forAdmins("4908d5b9-3fb2-4b1e-9336-1888b7937185", "Organization.Read.All", "Read about the organization"),
	forAdmins("2f9ee017-59c1-4f1d-9472-bd5529a7b311", "Domain.Read.All", "Read the domains"),
}

// graphRoles are the application permissions of Microsoft Graph that package graph and this one honour.
var graphRoles = []AppRole{
	forApps("df021288-bdef-4463-88db-98f22de89214", "User.Read.All", "Read everybody's profile"),
	forApps("741f803b-c850-494e-b5df-cde7c675a1ca", "User.ReadWrite.All", "Read and change everybody's profile"),
	forApps("5b567255-7703-4780-807c-7be8301ae99b", "Group.Read.All", "Read all groups"),
	forApps("62a82d76-70ea-41e2-9197-370581804d09", "Group.ReadWrite.All", "Read and change all groups"),
	forApps("98830695-27a2-44f7-8c18-0c3ebc9698f6", "GroupMember.Read.All", "Read who is in which group"),
	forApps("dbaae8cf-10b5-4b86-a4a1-f871c94c6695", "GroupMember.ReadWrite.All", "Read and change who is in which group"),
	forApps("7ab1d382-f21e-4acd-a863-ba3e13f7da61", "Directory.Read.All", "Read the directory"),
	forApps("19dbc75e-c2e2-444c-a770-ec69d8559fc7", "Directory.ReadWrite.All", "Read and change the directory"),
	forApps("9a5d68dd-52b0-4cc2-bd40-abcf44ac3a30", "Application.Read.All", "Read all applications"),
	forApps("1bfefb4e-e0b5-418b-a88f-73c46d2cc8e9", "Application.ReadWrite.All", "Read and change all applications"),
	forApps("18a4783c-866b-4cc7-a460-3d5e5662c884", "Application.ReadWrite.OwnedBy", "Make applications, and change those that it owns"),
	forApps("06b708a9-e830-4db3-a914-8e69da51d44f", "AppRoleAssignment.ReadWrite.All", "Give applications, itself among them, permissions"),
	forApps("8e8e4742-1d95-4f68-9d56-6ee75648c72a", "DelegatedPermissionGrant.ReadWrite.All", "Consent to permissions for everybody"),
	forApps("b0afded3-3588-46d8-8b3d-9842eff778da", "AuditLog.Read.All", "Read the audit and sign-in logs"),
	forApps("498476ce-e0fe-48b0-b801-37ba7e2685c6", "Organization.Read.All", "Read about the organization"),
	forApps("dbb9058a-0e50-45d7-ae91-66909b5d4664", "Domain.Read.All", "Read the domains"),
}

func forUsers(id, value, text string) Scope {
	return Scope{ID: MustParseID(id), Value: value, Type: ScopeUser, Enabled: true, AdminName: text, AdminText: text, UserName: text, UserText: text}
}

func forAdmins(id, value, text string) Scope {
	s := forUsers(id, value, text)
	s.Type = ScopeAdmin
	return s
}

func forApps(id, value, text string) AppRole {
	return AppRole{ID: MustParseID(id), Value: value, DisplayName: text, Description: text, MemberTypes: []string{MemberApplication}, Enabled: true}
}
