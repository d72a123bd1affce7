package rbac

import (
	"strings"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// Ids of built-in roles, the same in every tenant (Azure built-in roles).
var (
	Owner       = directory.MustParseID("8e3af657-a8ff-443c-a75c-2fe8c4bcb635")
	Contributor = directory.MustParseID("b24988ac-6180-42a0-ab88-20f7382dd24c")
	Reader      = directory.MustParseID("acdd72a7-3385-48ef-bd42-f606fba81ae7")
)

// Role is a role definition.
type Role struct {
	ID          directory.ID
	Name        string
	Permissions []Permission
}

// Permission allows the actions that match Actions and do not match NotActions. What one permission leaves out
// another may still allow: NotActions are no refusal (Azure RBAC, "Understand role definitions").
type Permission struct {
	Actions    []string // patterns; see Match
	NotActions []string
}

// BuiltIn are the roles that every tenant has.
var BuiltIn = []Role{
	{ID: Owner, Name: "Owner", Permissions: []Permission{{Actions: []string{"*"}}}},
	{ID: Contributor, Name: "Contributor", Permissions: []Permission{{
		Actions: []string{"*"},
		NotActions: []string{
			"Microsoft.Authorization/*/Delete",
			"Microsoft.Authorization/*/Write",
			"Microsoft.Authorization/elevateAccess/Action",
			"Microsoft.Blueprint/blueprintAssignments/write",
			"Microsoft.Blueprint/blueprintAssignments/delete",
			"Microsoft.Compute/galleries/share/action",
			"Microsoft.Purview/consents/write",
			"Microsoft.Purview/consents/delete",
			"Microsoft.Resources/deploymentStacks/manageDenySetting/action",
			"Microsoft.Subscription/cancel/action",
			"Microsoft.Subscription/enable/action",
		},
	}}},
	{ID: Reader, Name: "Reader", Permissions: []Permission{{Actions: []string{"*/read"}}}},
}

// builtIn returns a built-in role, or nil.
func builtIn(id directory.ID) *Role {
	for i := range BuiltIn {
		if BuiltIn[i].ID == id {
			return &BuiltIn[i]
		}
	}
	return nil
}

// Allows reports whether the role allows an action.
func (r *Role) Allows(action string) bool {
	for i := range r.Permissions {
		p := &r.Permissions[i]
		if matchesAny(p.Actions, action) && !matchesAny(p.NotActions, action) {
			return true
		}
	}
	return false
}

func matchesAny(patterns []string, action string) bool {
	for _, p := range patterns {
		if Match(p, action) {
			return true
		}
	}
	return false
}

// Match reports whether a whole action fits a pattern, in any letter case. A star stands for any run of characters,
// slashes included, anywhere and several times; there is no other wildcard.
func Match(pattern, action string) bool {
	pieces := strings.Split(strings.ToLower(pattern), "*")
	rest, ok := strings.CutPrefix(strings.ToLower(action), pieces[0])
	if !ok {
		return false
	}
	if len(pieces) == 1 {
		return rest == ""
	}
	last := len(pieces) - 1
	for _, piece := range pieces[1:last] {
		_, after, found := strings.Cut(rest, piece) // the earliest place leaves the most for what follows
		if !found {
			return false
		}
		rest = after
	}
	return strings.HasSuffix(rest, pieces[last])
}
