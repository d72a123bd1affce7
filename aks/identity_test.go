package aks_test

import (
	"strings"
	"testing"

	"github.com/gatehouse-k8s/gatehouse/aks"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/rbac"
)

// own makes a user-assigned identity and returns its resource id and its object id.
func (w *world) own(name string) (id, principal string) {
	w.Helper()
	a := w.as("admin", "PUT", w.sub()+"/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/"+name, map[string]any{"location": "centralus"}).want(201)
	return a.get("id").(string), a.get("properties.principalId").(string)
}

func assigned(ids ...string) map[string]any {
	all := map[string]any{}
	for _, id := range ids {
		all[id] = map[string]any{}
	}
	return map[string]any{"type": "UserAssigned", "userAssignedIdentities": all}
}

func kubelet(id string) map[string]any {
	return map[string]any{"identityProfile": map[string]any{"kubeletidentity": map[string]any{"resourceId": id, "clientId": "x", "objectId": "y"}}}
}

// TestUserAssigned: a cluster with identities of the user's shows them, uses none of its own, and leaves them behind.
func TestUserAssigned(t *testing.T) {
	w := newWorld(t)
	w.makeGroup()
	id, principal := w.own("plane")
	node, nodePrincipal := w.own("node")
	a := w.as("admin", "PUT", w.clusterPath("c"), map[string]any{"location": "centralus", "identity": assigned(strings.ToUpper(id)), "properties": kubelet(node)}).want(201)
	w.finish(a).want(200, `"Succeeded"`)
	got := w.as("admin", "GET", w.clusterPath("c"), nil).want(200)
	if got.get("identity.type") != "UserAssigned" || got.get("identity.principalId") != nil ||
		at(got.get("identity.userAssignedIdentities").(map[string]any)[strings.ToUpper(id)], "principalId") != principal ||
		got.get("properties.identityProfile.kubeletidentity.objectId") != nodePrincipal || got.get("properties.identityProfile.kubeletidentity.resourceId") != node {
		t.Errorf("%s", got.Body)
	}
	if n := len(directory.In(w.feed.View()).ManagedIdentities()); n != 2 {
		t.Errorf("%d managed identities, want the two that the user made", n)
	}
	for _, i := range []string{id, node} {
		w.as("admin", "POST", i+"/listAssociatedResources", nil).want(200, `"totalCount":1`, `"name":"c"`)
	}
	// What clients send back as they read it changes nothing, also when the identity is gone.
	w.as("admin", "DELETE", id, nil).want(200)
	back := map[string]any{"location": "centralus", "identity": assigned(id), "properties": kubelet(strings.ToUpper(node))}
	w.finish(w.as("admin", "PUT", w.clusterPath("c"), back).want(200)).want(200, `"Succeeded"`)
	w.finish(w.as("admin", "PUT", w.clusterPath("c"), inCentralUS).want(200)).want(200, `"Succeeded"`)
	if got := w.as("admin", "GET", w.clusterPath("c"), nil); got.get("identity.type") != "UserAssigned" {
		t.Errorf("%s", got.Body)
	}
	w.finish(w.as("admin", "DELETE", w.clusterPath("c"), nil).want(202))
	w.as("admin", "GET", node, nil).want(200, nodePrincipal)
	if directory.In(w.feed.View()).ManagedIdentityOf(node) == nil {
		t.Error("the user's identity went with the cluster")
	}
}

// TestIdentityChanges goes from the cluster's own identity to one of the user's and back.
func TestIdentityChanges(t *testing.T) {
	w := newWorld(t)
	w.makeGroup()
	id, _ := w.own("plane")
	other, otherPrincipal := w.own("other")
	w.create("c", nil)
	cluster := func() *aks.Cluster { return aks.In(w.feed.View()).ByID(w.clusterPath("c")) }
	first := cluster().Identities.ControlPlane
	w.as("admin", "GET", w.clusterPath("c")+"/providers/Microsoft.ManagedIdentity/identities/default", nil).want(200, first.String())
	put := func(identity any) {
		t.Helper()
		w.finish(w.as("admin", "PUT", w.clusterPath("c"), map[string]any{"location": "centralus", "identity": identity}).want(200)).want(200, `"Succeeded"`)
	}
	put(assigned(id))
	if directory.In(w.feed.View()).ServicePrincipal(first) != nil || !cluster().Identities.ControlPlane.IsZero() {
		t.Error("the cluster's own identity is left")
	}
	w.as("admin", "GET", w.clusterPath("c")+"/providers/Microsoft.ManagedIdentity/identities/default", nil).want(404)
	put(assigned(other))
	if got := cluster().Identities.Assigned; len(got) != 1 || got[0].Principal.String() != otherPrincipal {
		t.Errorf("%+v", got)
	}
	put(map[string]any{"type": "systemassigned"})
	second := cluster().Identities
	if second.ControlPlane == first || second.ControlPlane.IsZero() || second.Assigned != nil || directory.In(w.feed.View()).ManagedIdentityOf(w.clusterPath("c")) == nil {
		t.Errorf("%+v", second)
	}
	sp := directory.In(w.feed.View()).ServicePrincipal(second.ControlPlane)
	if sp.Explicit || sp.DisplayName != "c" || sp.Resource != cluster().ID() {
		t.Errorf("%+v", sp)
	}
	w.finish(w.as("admin", "DELETE", w.clusterPath("c"), nil).want(202))
	if n := len(directory.In(w.feed.View()).ManagedIdentities()); n != 2 {
		t.Errorf("%d managed identities are left, want the user's two", n)
	}
}

func TestIdentityRefusals(t *testing.T) {
	w := newWorld(t)
	w.makeGroup()
	id, _ := w.own("plane")
	other, _ := w.own("other")
	w.create("c", nil)
	for what, c := range map[string]struct {
		cluster    string
		identity   any
		properties any
		text       string
	}{
		"a kind that is not known":    {"n", map[string]any{"type": "Both"}, nil, "SystemAssigned, UserAssigned or None"},
		"none of the user's":          {"n", map[string]any{"type": "UserAssigned"}, nil, "exactly one"},
		"an identity taken away":      {"n", map[string]any{"type": "UserAssigned", "userAssignedIdentities": map[string]any{id: nil}}, nil, "exactly one"},
		"two of the user's":           {"n", assigned(id, other), nil, "exactly one"},
		"one that is not there":       {"n", assigned(id + "2"), nil, "does not exist"},
		"a resource of another kind":  {"n", assigned(w.clusterPath("c")), nil, "not the resource id"},
		"no resource id":              {"n", assigned("plane"), nil, "not the resource id"},
		"the cluster's own with one":  {"n", map[string]any{"type": "SystemAssigned", "userAssignedIdentities": map[string]any{id: map[string]any{}}}, nil, "UserAssigned"},
		"a list":                      {"n", map[string]any{"type": "UserAssigned", "userAssignedIdentities": []string{id}}, nil, "resource ids"},
		"text":                        {"n", "UserAssigned", nil, "an object"},
		"the kubelets' alone":         {"n", nil, kubelet(id), "control plane"},
		"a kubelets' that is not":     {"n", assigned(id), kubelet(other + "2"), "does not exist"},
		"other kubelets' on update":   {"c", nil, kubelet(id), "PropertyChangeNotAllowed"},
		"an update to no identity":    {"c", map[string]any{"type": "None"}, nil, "PropertyChangeNotAllowed"},
		"the kubelets' in two letter": {"n", assigned(id), map[string]any{"identityProfile": map[string]any{"kubeletidentity": map[string]any{}, "KubeletIdentity": map[string]any{}}}, "twice"},
	} {
		body := map[string]any{"location": "centralus"}
		if c.identity != nil {
			body["identity"] = c.identity
		}
		if c.properties != nil {
			body["properties"] = c.properties
		}
		if a := w.as("admin", "PUT", w.clusterPath(c.cluster), body); a.Code != 400 || !strings.Contains(a.Body.String(), c.text) {
			t.Errorf("%s: %d %s", what, a.Code, a.Body)
		}
	}
	// Who may make clusters may not for that give them identities of others.
	eve := w.user("eve")
	w.as("admin", "PUT", w.sub()+"/resourcegroups/eves", map[string]any{"location": "centralus"}).want(201)
	w.grant(eve.ID, rbac.Owner, w.sub()+"/resourceGroups/eves")
	path := strings.Replace(w.clusterPath("e"), "/rg/", "/eves/", 1)
	body := map[string]any{"location": "centralus", "identity": assigned(id)}
	w.as("eve", "PUT", path, body).want(403, "LinkedAuthorizationFailed", "assign/action", id)
	w.grant(eve.ID, rbac.Reader, id)
	w.as("eve", "PUT", path, body).want(403, "LinkedAuthorizationFailed")
	w.grant(eve.ID, rbac.Contributor, id)
	w.finish(w.as("eve", "PUT", path, body).want(201))
}

// TestNodeResourceGroup: the node resource group is the cluster's alone, so that who may make clusters takes no names in groups of others.
func TestNodeResourceGroup(t *testing.T) {
	w := newWorld(t)
	w.makeGroup()
	group := func(name string) answer {
		return w.as("admin", "PUT", w.sub()+"/resourceGroups/"+name, map[string]any{"location": "centralus"})
	}
	group("victim").want(201)
	bob := w.user("bob")
	w.grant(bob.ID, rbac.Contributor, w.sub()+"/resourceGroups/rg")
	put := func(name string, properties map[string]any) answer {
		return w.as("bob", "PUT", w.clusterPath(name), map[string]any{"location": "centralus", "properties": properties})
	}
	nodes := func(name string) map[string]any { return map[string]any{"nodeResourceGroup": name} }
	w.finish(put("a", nodes("Nodes")).want(201))
	w.finish(put("b", nil).want(201))
	for what, c := range map[string]struct {
		properties map[string]any
		code       string
	}{
		"a resource group":                   {nodes("victim"), "NodeResourceGroupAlreadyExists"},
		"a resource group in other letters":  {nodes("VICTIM"), "NodeResourceGroupAlreadyExists"},
		"a property in other letters":        {map[string]any{"NodeResourceGroup": "victim"}, "NodeResourceGroupAlreadyExists"},
		"the cluster's own":                  {nodes("RG"), "NodeResourceGroupSameAsResourceGroup"},
		"that of another cluster":            {nodes("nodes"), "NodeResourceGroupAlreadyExists"},
		"what another cluster has by itself": {nodes("MC_rg_b_centralus"), "NodeResourceGroupAlreadyExists"},
	} {
		if a := put("n", c.properties); a.Code != 400 || a.get("error.code") != c.code || a.get("error.target") != "properties.nodeResourceGroup" ||
			!strings.Contains(a.Body.String(), "--node-resource-group") {
			t.Errorf("%s: %d %s", what, a.Code, a.Body)
		}
	}
	w.as("admin", "PUT", w.sub()+"/resourceGroups/victim/providers/Microsoft.ManagedIdentity/userAssignedIdentities/n-agentpool", map[string]any{"location": "centralus"}).want(201)
	w.finish(put("a", nodes("Nodes")).want(200)) // one's own is no other's
	// Nor is it made later.
	if a := group("nodes").want(400, "ResourceGroupManagedByMismatch"); !strings.Contains(a.Body.String(), w.clusterPath("a")[len(w.sub())+len("/resourceGroups/"):]) {
		t.Errorf("the cluster is not named: %s", a.Body)
	}
	w.finish(w.as("bob", "DELETE", w.clusterPath("a"), nil).want(202))
	group("nodes").want(201)
	group("nodes").want(200)
}

// TestIdentityMadeAgain: an identity that was deleted and made again is another one, although its id is the same.
func TestIdentityMadeAgain(t *testing.T) {
	w := newWorld(t)
	w.makeGroup()
	id, first := w.own("plane")
	bob := w.user("bob")
	w.grant(bob.ID, rbac.Contributor, w.clusterPath("c"))
	body := map[string]any{"location": "centralus", "identity": assigned(id)}
	shown := func(want string) {
		t.Helper()
		got := w.as("admin", "GET", w.clusterPath("c"), nil).want(200).get("identity.userAssignedIdentities")
		if p := at(got.(map[string]any)[id], "principalId"); p != want {
			t.Errorf("the cluster shows %v, want %s", p, want)
		}
	}
	w.finish(w.as("admin", "PUT", w.clusterPath("c"), body).want(201))
	w.finish(w.as("bob", "PUT", w.clusterPath("c"), body).want(200)) // what is given already takes no right
	w.as("admin", "DELETE", id, nil).want(200)
	w.finish(w.as("bob", "PUT", w.clusterPath("c"), body).want(200))
	shown(first)
	_, second := w.own("plane")
	w.as("admin", "POST", id+"/listAssociatedResources", nil).want(200, `"totalCount":0`)
	w.as("bob", "PUT", w.clusterPath("c"), body).want(403, "LinkedAuthorizationFailed")
	w.finish(w.as("bob", "PUT", w.clusterPath("c"), inCentralUS).want(200)) // which does not block other updates
	shown(first)
	w.finish(w.as("admin", "PUT", w.clusterPath("c"), body).want(200))
	shown(second)
	w.as("admin", "POST", id+"/listAssociatedResources", nil).want(200, `"totalCount":1`)
}
