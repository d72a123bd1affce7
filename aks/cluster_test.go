package aks_test

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-k8s/gatehouse/aks"
	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/rbac"
)

// TestAzCreate replays what az aks create --enable-aad sends, version 2.45.
func TestAzCreate(t *testing.T) {
	w := newWorld(t)
	w.makeGroup()
	g := w.group("admins")
	raw, err := os.ReadFile("testdata/az-create.json")
	w.must(err)
	body := strings.NewReplacer("GROUP", g.ID.String(), "TENANT", w.tenant.ID.String()).Replace(string(raw))
	a := w.as("admin", "PUT", w.clusterPath("myManagedCluster"), body).want(201)
	w.finish(a).want(200, `"Succeeded"`)
	got := w.as("admin", "GET", strings.ToUpper(w.clusterPath("myManagedCluster")), nil).want(200)
	if id := got.get("id"); id != strings.Replace(w.clusterPath("myManagedCluster"), "resourceGroups", "resourcegroups", 1) {
		t.Errorf("id: %v", id)
	}
	c := aks.In(w.feed.View()).ByID(w.clusterPath("myManagedCluster"))
	s := w.planes.settings(t)
	if s.GUID != c.GUID || s.Tenant != w.tenant.ID || len(s.AdminGroups) != 1 || s.AdminGroups[0] != g.ID || !s.Local || len(s.Pools) != 1 || s.Pools[0].Count != 3 ||
		len(s.PoolSuffix) != 8 || s.NodeGroup != "MC_rg_myManagedCluster_centralus" || s.Location != "centralus" || s.Subscription != w.subscription {
		t.Errorf("the control plane was told %+v", s)
	}
	if kubelet := got.get("properties.identityProfile.kubeletidentity.objectId"); kubelet != c.Identities.Kubelet.String() || directory.In(w.feed.View()).ServicePrincipal(c.Identities.Kubelet) == nil {
		t.Errorf("the kubelets' identity is %v", kubelet)
	}
	if principal := got.get("identity.principalId"); principal != c.Identities.ControlPlane.String() {
		t.Errorf("the control plane's identity is %v", principal)
	}
	list := w.as("admin", "GET", w.sub()+"/providers/Microsoft.ContainerService/managedClusters", nil).want(200)
	if list.get("value.0.name") != "myManagedCluster" {
		t.Errorf("list: %s", list.Body)
	}
	w.as("admin", "GET", w.sub()+"/resources?$filter=resourceType%20eq%20'microsoft.containerservice/managedclusters'", nil).want(200, "myManagedCluster")
	w.as("admin", "GET", w.sub()+"/resources?$filter=resourceType%20eq%20'Microsoft.Other/things'", nil).want(200, `"value":[]`)
	w.as("admin", "GET", w.sub()+"/resourceGroups/rg/resources", nil).want(200, "myManagedCluster")
}

func TestNames(t *testing.T) {
	w := newWorld(t)
	w.makeGroup()
	for name, status := range map[string]int{
		"a": 201, "A-b_c9": 201, strings.Repeat("a", 63): 201,
		"-bad-": 400, "bad-": 400, "_x": 400, strings.Repeat("a", 64): 400, "a.b": 400, "%C3%A4": 400,
	} {
		if a := w.as("admin", "PUT", w.clusterPath(name), inCentralUS); a.Code != status {
			t.Errorf("%s: %d %s, want %d", name, a.Code, a.Body, status)
		}
	}
	other := strings.Replace(w.clusterPath("c"), "/rg/", "/none/", 1)
	w.as("admin", "PUT", other, inCentralUS).want(404, "ResourceGroupNotFound", "none")
	w.as("admin", "GET", other, nil).want(404, "ResourceGroupNotFound")
	w.as("admin", "GET", w.clusterPath("missing"), nil).want(404, "ResourceNotFound", "missing")
}

// TestKubeconfigs holds the files against testdata, byte by byte.
func TestKubeconfigs(t *testing.T) {
	w := newWorld(t)
	w.makeGroup()
	w.create("with", managed())
	w.create("without", nil)
	proof := managed()
	proof["aadProfile"].(map[string]any)["requireProofOfPossession"] = true
	w.create("proof", proof)
	for _, c := range []struct{ file, cluster, action string }{
		{"user-exec", "with", "listClusterUserCredential"},
		{"user-exec", "with", "listClusterUserCredential?format=EXEC"},
		{"user-exec", "with", "listClusterUserCredential?server-fqdn=public"},
		{"user-exec-pop", "proof", "listClusterUserCredential"},
		{"user-azure", "with", "listClusterUserCredential?format=azure"},
		{"admin", "with", "listClusterAdminCredential"},
		{"user-certificate", "without", "listClusterUserCredential?format=exec"},
	} {
		t.Run(c.action+" "+c.cluster, func(t *testing.T) {
			w.planes.issued = 0
			a := w.as("admin", "POST", w.clusterPath(c.cluster)+"/"+c.action, nil).want(200)
			got, err := base64.StdEncoding.DecodeString(a.get("kubeconfigs.0.value").(string))
			w.must(err)
			want, err := os.ReadFile(filepath.Join("testdata", "kubeconfig", c.file+".yaml"))
			w.must(err)
			if text := strings.NewReplacer(w.tenant.ID.String(), "TENANT", w.sub(), "SUBSCRIPTION").Replace(string(got)); text != string(want) {
				t.Errorf("got\n%s\nwant\n%s", text, want)
			}
			if a.Header().Get("Cache-Control") != "no-store" {
				t.Error("the answer may be kept by caches")
			}
		})
	}
	w.as("admin", "POST", w.clusterPath("with")+"/listClusterUserCredential?format=token", nil).want(400, "token", "exec or azure")
	profile := w.as("admin", "POST", w.clusterPath("with")+"/accessProfiles/clusterAdmin/listCredential", nil).want(200)
	if raw, err := base64.StdEncoding.DecodeString(profile.get("properties.kubeConfig").(string)); err != nil || !strings.Contains(string(raw), "clusterAdmin_rg_with") {
		t.Errorf("access profile: %s %v", raw, err)
	}
	w.as("admin", "POST", w.clusterPath("with")+"/accessProfiles/clusterEve/listCredential", nil).want(404)
}

// TestLocalAccountsOff: no way leads to a static credential, and the control plane knew before the operation ended.
func TestLocalAccountsOff(t *testing.T) {
	const says = "Getting static credential is not allowed because this cluster is set to disable local accounts."
	w := newWorld(t)
	w.makeGroup()
	w.create("c", managed())
	path := w.clusterPath("c")
	off := func(yes bool) answer {
		return w.as("admin", "PUT", path, map[string]any{"location": "centralus", "properties": map[string]any{"disableLocalAccounts": yes}}).want(200)
	}
	refused := func() {
		t.Helper()
		for _, action := range []string{"listClusterAdminCredential", "listClusterMonitoringUserCredential", "accessProfiles/clusterAdmin/listCredential"} {
			w.as("admin", "POST", path+"/"+action, nil).want(400, `"BadRequest"`, says)
		}
	}
	w.as("admin", "POST", path+"/listClusterAdminCredential", nil).want(200)
	g := w.hold("apply")
	a := off(true)
	<-g.entered
	refused() // from the moment it is wanted
	close(g.open)
	w.finish(a).want(200, `"Succeeded"`)
	if w.planes.settings(t).Local {
		t.Error("the operation has ended and local accounts work")
	}
	refused()
	w.as("admin", "POST", path+"/listClusterUserCredential", nil).want(200)
	w.finish(off(false)).want(200, `"Succeeded"`)
	w.as("admin", "POST", path+"/listClusterAdminCredential", nil).want(200)
}

func TestRotation(t *testing.T) {
	w := newWorld(t)
	w.makeGroup()
	w.create("c", managed())
	a := w.as("admin", "POST", w.clusterPath("c")+"/rotateClusterCertificates", nil).want(202)
	w.finish(a).want(200, `"Succeeded"`)
	w.as("admin", "GET", a.Header().Get("Location"), nil).want(204)
	got := w.as("admin", "POST", w.clusterPath("c")+"/listClusterUserCredential", nil).want(200)
	raw, err := base64.StdEncoding.DecodeString(got.get("kubeconfigs.0.value").(string))
	w.must(err)
	if !strings.Contains(string(raw), base64.StdEncoding.EncodeToString([]byte("another CA"))) {
		t.Errorf("the file has the old CA: %s", raw)
	}
}

func TestRefusedActions(t *testing.T) {
	w := newWorld(t)
	w.makeGroup()
	w.create("with", managed())
	w.create("without", nil)
	w.as("admin", "POST", w.clusterPath("with")+"/resetAADProfile", map[string]any{}).want(400, `"BadRequest"`, "Operation 'resetAADProfile' is not allowed for managed AAD enabled cluster.")
	w.as("admin", "POST", w.clusterPath("without")+"/resetAADProfile", map[string]any{}).want(400, "has no Microsoft Entra integration")
	w.as("admin", "POST", w.clusterPath("without")+"/listClusterMonitoringUserCredential", nil).want(400, "not available")
	w.as("admin", "POST", w.clusterPath("without")+"/stop", nil).want(400, "'stop' is not available")
	w.as("admin", "PATCH", w.clusterPath("without"), map[string]any{"properties": map[string]any{}}).want(400, "properties")
	w.as("admin", "PATCH", w.clusterPath("without"), map[string]any{"tags": map[string]any{"a": 1}}).want(400, "tags")
}

func TestAgentPools(t *testing.T) {
	w := newWorld(t)
	w.makeGroup()
	w.create("c", nil)
	pool := w.clusterPath("c") + "/agentPools/np2"
	w.as("admin", "GET", pool, nil).want(404, "ResourceNotFound", "np2")
	w.finish(w.as("admin", "PUT", pool, map[string]any{"properties": map[string]any{"count": 2, "osDiskSizeGB": 0, "mode": "User"}}).want(201))
	w.as("admin", "GET", pool, nil).want(200, `"count":2`, `"osDiskSizeGB":128`, `"provisioningState":"Succeeded"`)
	w.finish(w.as("admin", "PUT", pool, map[string]any{"properties": map[string]any{"count": 5}}).want(200))
	if s := w.planes.settings(t); len(s.Pools) != 2 || s.Pools[1].Count != 5 {
		t.Errorf("the control plane has %+v", s.Pools)
	}
	w.as("admin", "GET", w.clusterPath("c")+"/agentPools", nil).want(200, "nodepool1", "np2")
	w.as("admin", "PUT", w.clusterPath("c")+"/agentPools/Bad", map[string]any{"properties": map[string]any{"count": 5}}).want(400, "Bad")
	w.as("admin", "DELETE", w.clusterPath("c")+"/agentPools/nodepool1", nil).want(400, "System")
	w.finish(w.as("admin", "DELETE", pool, nil).want(202))
	w.as("admin", "DELETE", pool, nil).want(204)
	w.as("admin", "GET", w.clusterPath("c")+"/upgradeProfiles/default", nil).want(200, `"upgrades":[]`)
	w.as("admin", "GET", w.sub()+"/providers/Microsoft.ContainerService/locations/centralus/kubernetesVersions", nil).want(200, `"1.36.3"`)
	w.as("admin", "GET", w.sub()+"/providers/Microsoft.ContainerService/locations/centralus/orchestrators", nil).want(200, `"1.36.3"`)
}

// TestWhoMayDoWhat goes through the roles and the actions.
func TestWhoMayDoWhat(t *testing.T) {
	w := newWorld(t)
	w.makeGroup()
	w.create("c", managed())
	for _, name := range []string{"reader", "contributor", "elsewhere", "nobody", "onecluster"} {
		w.user(name)
	}
	id := func(name string) directory.ID {
		return directory.In(w.feed.View()).UserByUPN(name + "@gatehouse.test").ID
	}
	w.grant(id("reader"), rbac.Reader, w.sub())
	w.grant(id("contributor"), rbac.Contributor, w.sub())
	w.grant(id("elsewhere"), rbac.Owner, w.sub()+"/resourceGroups/r")
	w.grant(id("onecluster"), rbac.Reader, w.clusterPath("C"))
	path := w.clusterPath("c")
	all := []string{"admin", "contributor", "reader", "onecluster", "elsewhere", "nobody"}
	for _, c := range []struct {
		method, path, may string
	}{
		{"GET", path, "admin contributor reader onecluster"},
		{"GET", path + "/agentPools", "admin contributor reader onecluster"},
		{"GET", w.sub() + "/resourceGroups/rg/providers/Microsoft.ContainerService/managedClusters", "admin contributor reader onecluster"},
		{"GET", w.sub() + "/providers/Microsoft.ContainerService/managedClusters", "admin contributor reader onecluster"},
		{"GET", w.sub() + "/resourceGroups/rg", "admin contributor reader"},
		{"POST", path + "/listClusterUserCredential", "admin contributor"},
		{"POST", path + "/listClusterAdminCredential", "admin contributor"},
		{"POST", path + "/LISTCLUSTERADMINCREDENTIAL", "admin contributor"},
		{"POST", path + "/accessProfiles/clusterAdmin/listCredential", "admin contributor"},
		{"POST", path + "/listClusterMonitoringUserCredential", "admin contributor"},
		{"POST", path + "/rotateClusterCertificates", "admin contributor"},
		{"POST", path + "/resetAADProfile", "admin contributor"},
		{"POST", path + "/stop", "admin contributor"},
		{"PUT", path, "admin contributor"},
		{"PUT", w.clusterPath("new"), "admin contributor"},
		{"PATCH", path, "admin contributor"},
		{"PUT", path + "/agentPools/np2", "admin contributor"},
		{"DELETE", path + "/agentPools/np2", "admin contributor"},
		{"DELETE", w.clusterPath("missing"), "admin contributor"},
		{"DELETE", w.sub() + "/resourceGroups/missing", "admin contributor"},
	} {
		for _, who := range all {
			a := w.as(who, c.method, c.path, `{}`)
			if may := strings.Contains(" "+c.may+" ", " "+who+" "); may != (a.Code != 403) {
				t.Errorf("%s %s as %s: %d %s", c.method, c.path, who, a.Code, a.Body)
			} else if !may && !strings.Contains(a.Body.String(), "AuthorizationFailed") {
				t.Errorf("%s %s as %s: %s", c.method, c.path, who, a.Body)
			}
		}
		w.as("", c.method, c.path, `{}`).want(401)
	}
}

// TestEverythingIsAudited: refusals, changes and credentials are events, wrong requests are not, and none of them holds a secret.
func TestEverythingIsAudited(t *testing.T) {
	w := newWorld(t)
	w.makeGroup()
	w.create("c", managed())
	bob := w.user("bob")
	w.as("admin", "POST", w.clusterPath("c")+"/listClusterAdminCredential", nil).want(200)
	w.as("bob", "POST", w.clusterPath("c")+"/listClusterAdminCredential", nil).want(403)
	w.as("admin", "PUT", w.clusterPath("c"), map[string]any{"location": "centralus", "properties": map[string]any{"servicePrincipalProfile": map[string]any{"clientId": "x", "secret": "TheSecret"}}}).want(400)
	want := map[string]bool{}
	for _, e := range w.events() {
		raw, _ := json.Marshal(e)
		if strings.Contains(string(raw), "TheSecret") || strings.Contains(string(raw), "key 1") {
			t.Errorf("an event holds a secret: %s", raw)
		}
		actor := map[string]string{w.admin.ID.String(): "admin", bob.ID.String(): "bob"}[e.Actor]
		what := e.Outcome + " " + actor + " " + e.Action[strings.LastIndex(e.Action, "managedClusters")+len("managedClusters"):]
		if e.Details["credential"] != "" {
			what += " " + e.Details["credential"]
		}
		if e.Details["operation"] != "" {
			what += " ended"
		}
		want[what] = true
		if e.Outcome == audit.Denied && e.Reason == "" {
			t.Errorf("no reason: %s", raw)
		}
	}
	for _, what := range []string{
		"allowed admin /write", "allowed admin /write ended", "allowed admin /listClusterAdminCredential/action",
		"allowed admin /listClusterAdminCredential/action client certificate", "denied bob /listClusterAdminCredential/action",
	} {
		if !want[what] {
			t.Errorf("no event %q among %v", what, want)
		}
	}
	if want["denied admin /write"] {
		t.Error("a request that was merely wrong is an event")
	}
}
