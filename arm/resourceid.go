package arm

import (
	"strings"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/rbac"
)

// ResourceID names a resource group, or a resource in one. It keeps the spelling it was written in; compare by Key,
// because every segment matches in any letter case.
type ResourceID struct {
	Subscription directory.ID
	Group        string
	Namespace    string   // of the resource provider; empty for the group itself
	Types        []string // e.g. managedClusters, agentPools: outer to inner
	Names        []string // one for each type

	scope rbac.Scope
}

// ParseResourceID reads /subscriptions/{guid}/resourceGroups/{group}[/providers/{namespace}/{type}/{name}...].
func ParseResourceID(s string) (ResourceID, error) {
	bad := func() (ResourceID, error) {
		return ResourceID{}, fault.New(fault.Invalid, "%.300q is not a resource id; one looks like /subscriptions/GUID/resourceGroups/NAME/providers/NAMESPACE/TYPE/NAME", s).
			WithCode("InvalidResourceId")
	}
	scope, err := rbac.ParseScope(s)
	if err != nil {
		return bad()
	}
	seg := strings.Split(scope.String(), "/")[1:]
	if len(seg) < 4 || len(seg)%2 != 0 || !strings.EqualFold(seg[0], "subscriptions") || !strings.EqualFold(seg[2], "resourceGroups") {
		return bad()
	}
	id := ResourceID{Group: seg[3], scope: scope}
	if id.Subscription, err = directory.ParseID(seg[1]); err != nil {
		return bad()
	}
	if len(seg) == 4 {
		return id, nil
	}
	if len(seg) < 8 || !strings.EqualFold(seg[4], "providers") {
		return bad()
	}
	id.Namespace = seg[5]
	for i := 6; i < len(seg); i += 2 {
		id.Types, id.Names = append(id.Types, seg[i]), append(id.Names, seg[i+1])
	}
	return id, nil
}

// Key is the id in the form that is compared.
func (id ResourceID) Key() string { return id.scope.Key() }

// String is the id as it was written.
func (id ResourceID) String() string { return id.scope.String() }

// Scope is the id as a place for role assignments.
func (id ResourceID) Scope() rbac.Scope { return id.scope }

// Type is the full type, e.g. Microsoft.ContainerService/managedClusters/agentPools.
func (id ResourceID) Type() string {
	if id.Namespace == "" {
		return "Microsoft.Resources/resourceGroups"
	}
	return id.Namespace + "/" + strings.Join(id.Types, "/")
}

// Name is the innermost name.
func (id ResourceID) Name() string {
	if len(id.Names) == 0 {
		return id.Group
	}
	return id.Names[len(id.Names)-1]
}
