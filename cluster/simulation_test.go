package cluster

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/aks"
	"github.com/gatehouse-k8s/gatehouse/directory"
)

func TestNodeNames(t *testing.T) {
	for i, want := range map[int]string{
		0:     "aks-nodepool1-12345678-vmss000000",
		10:    "aks-nodepool1-12345678-vmss00000a",
		36:    "aks-nodepool1-12345678-vmss000010",
		46655: "aks-nodepool1-12345678-vmss000zzz",
	} {
		if got := nodeName("nodepool1", "12345678", i); got != want {
			t.Errorf("%d: %s, want %s", i, got, want)
		}
	}
}

func TestNodesKeepTheirNumbers(t *testing.T) {
	s := aks.Settings{PoolSuffix: "1", Pools: []aks.Pool{{Name: "a", Count: 2}, {Name: "b", Count: 2}}}
	ranges := func(index map[string]int) string {
		t.Helper()
		all, err := nodesOf(s, index, "v1", time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, pool := range []string{"a", "b"} {
			for i := range 2 {
				out = append(out, all[nodeName(pool, "1", i)]["spec"].(object)["podCIDR"].(string))
			}
		}
		return strings.Join(out, " ")
	}
	if got := ranges(nil); got != "10.244.0.0/24 10.244.1.0/24 10.244.2.0/24 10.244.3.0/24" {
		t.Error(got)
	}
	// Pool a has grown by one while both nodes of b exist.
	if got := ranges(map[string]int{nodeName("a", "1", 0): 0, nodeName("b", "1", 0): 1, nodeName("b", "1", 1): 2}); got != "10.244.0.0/24 10.244.3.0/24 10.244.1.0/24 10.244.2.0/24" {
		t.Error(got)
	}
	for _, i := range []int{0, 255, 256, maxNodes - 1} {
		if got, ok := numberOf(podRange(i)); !ok || got != i {
			t.Errorf("%d: %s is %d, %v", i, podRange(i), got, ok)
		}
	}
	s.Pools = []aks.Pool{{Name: "a", Count: maxNodes + 1}}
	if _, err := nodesOf(s, nil, "v1", time.Time{}); err == nil {
		t.Error("more nodes than there are addresses")
	}
}

func TestPoolOptions(t *testing.T) {
	pool := aks.Pool{Name: "gpu", Count: 1, Rest: map[string]json.RawMessage{
		"vmSize": []byte(`"Standard_NC6"`), "mode": []byte(`"User"`), "maxPods": []byte(`30`),
		"nodeLabels": []byte(`{"tier":"x","kubernetes.io/role":"evil"}`), "nodeTaints": []byte(`["sku=gpu:NoSchedule","broken"]`),
	}}
	n := nodeObject(aks.Settings{GUID: directory.ID{1}, PoolSuffix: "1"}, pool, "n", 0, 0, "v1.2.3", time.Time{})
	labels := n["metadata"].(object)["labels"].(map[string]string)
	for key, want := range map[string]string{
		"tier": "x", "kubernetes.io/role": "agent", "node.kubernetes.io/instance-type": "Standard_NC6", "kubernetes.azure.com/mode": "user", simulated: "true",
	} {
		if labels[key] != want {
			t.Errorf("label %s = %q, want %q", key, labels[key], want)
		}
	}
	if got := fmt.Sprint(n["spec"].(object)["taints"]); got != "[{sku gpu NoSchedule}]" {
		t.Errorf("taints %s", got)
	}
	if got := n["status"].(object)["allocatable"].(map[string]string)["pods"]; got != "30" {
		t.Errorf("pods %s", got)
	}
}

// TestSchedule: which of three nodes a pod goes to. Node a has label zone=1, b is tainted, c is cordoned and a is full in the end.
func TestSchedule(t *testing.T) {
	nodes := map[string]*node{}
	for name, text := range map[string]string{
		"a": `{"metadata":{"name":"a","labels":{"gatehouse.dev/simulated":"true","zone":"1","size":"4"}},"status":{"allocatable":{"pods":"2"}}}`,
		"b": `{"metadata":{"name":"b","labels":{"gatehouse.dev/simulated":"true","zone":"2"}},"spec":{"taints":[{"key":"sku","value":"gpu","effect":"NoSchedule"}]}}`,
		"c": `{"metadata":{"name":"c","labels":{"gatehouse.dev/simulated":"true","zone":"3"}},"spec":{"unschedulable":true}}`,
		"x": `{"metadata":{"name":"x"}}`, // no node of ours
	} {
		nodes["/"+name] = new(node)
		if err := json.Unmarshal([]byte(text), nodes["/"+name]); err != nil {
			t.Fatal(err)
		}
	}
	affinity := func(term string) string {
		return `{"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[` + term + `]}}}}`
	}
	for name, c := range map[string]struct{ spec, want string }{
		"nothing asked":                    {`{}`, "a"},
		"a label that a node has":          {`{"nodeSelector":{"zone":"1"}}`, "a"},
		"a label that none has":            {`{"nodeSelector":{"zone":"9"}}`, ""},
		"a tainted node, not tolerated":    {`{"nodeSelector":{"zone":"2"}}`, ""},
		"a tainted node, tolerated":        {`{"nodeSelector":{"zone":"2"},"tolerations":[{"key":"sku","operator":"Equal","value":"gpu","effect":"NoSchedule"}]}`, "b"},
		"another value tolerated":          {`{"nodeSelector":{"zone":"2"},"tolerations":[{"key":"sku","value":"cpu"}]}`, ""},
		"everything tolerated":             {`{"nodeSelector":{"zone":"3"},"tolerations":[{"operator":"Exists"}]}`, "c"},
		"the node of a DaemonSet's pod":    {affinity(`{"matchFields":[{"key":"metadata.name","operator":"In","values":["a"]}]}`), "a"},
		"a node that is not there":         {affinity(`{"matchFields":[{"key":"metadata.name","operator":"In","values":["z"]}]}`), ""},
		"an empty term matches nothing":    {affinity(`{}`), ""},
		"the second of two terms":          {affinity(`{},{"matchExpressions":[{"key":"zone","operator":"Exists"}]}`), "a"},
		"a label that must not be":         {affinity(`{"matchExpressions":[{"key":"zone","operator":"DoesNotExist"}]}`), ""},
		"a label that must not have it":    {affinity(`{"matchExpressions":[{"key":"zone","operator":"NotIn","values":["1"]}]}`), ""},
		"more than":                        {affinity(`{"matchExpressions":[{"key":"size","operator":"Gt","values":["3"]}]}`), "a"},
		"not more than":                    {affinity(`{"matchExpressions":[{"key":"size","operator":"Gt","values":["4"]}]}`), ""},
		"an operator that nobody knows of": {affinity(`{"matchExpressions":[{"key":"size","operator":"About","values":["4"]}]}`), ""},
	} {
		p := new(pod)
		if err := json.Unmarshal([]byte(`{"spec":`+c.spec+`}`), p); err != nil {
			t.Fatal(err)
		}
		got := ""
		if n, why := usageOf(nodes, nil).choose(p); n != nil {
			got = n.Metadata.Name
		} else if !strings.HasPrefix(why, "0/3 nodes are available: ") {
			t.Errorf("%s: %s", name, why)
		}
		if got != c.want {
			t.Errorf("%s: node %q, want %q", name, got, c.want)
		}
	}

	u := usageOf(nodes, map[string]*pod{"done": {Spec: podSpec{NodeName: "a"}, Status: podStatus{Phase: "Succeeded"}}})
	for i, want := range []bool{true, true, false} {
		if n, why := u.choose(new(pod)); (n != nil) != want {
			t.Errorf("pod %d on a node for two: %v %s", i, n, why)
		}
	}
}

func TestPodAddresses(t *testing.T) {
	n := &node{}
	n.Spec.PodCIDR = "10.244.7.0/24"
	u := &usage{ips: map[string]bool{"10.244.7.2": true}}
	if ip, err := u.place(new(pod), n); ip != "10.244.7.3" || err != nil {
		t.Error(ip, err)
	}
	if ip, err := u.place(new(pod), n); ip != "10.244.7.4" || err != nil {
		t.Error(ip, err)
	}
	for range 250 {
		u.place(new(pod), n)
	}
	if ip, err := u.place(new(pod), n); err == nil {
		t.Errorf("a 255th address: %s", ip)
	}
}

func TestPodsOfJobsAreDone(t *testing.T) {
	p := &pods{now: time.Now}
	x := &pod{Spec: podSpec{Containers: []container{{Name: "c"}}, InitContainers: []container{{Name: "i"}, {Name: "sidecar", RestartPolicy: "Always"}}}}
	if got := p.running(x, new(node), "10.244.0.2")["phase"]; got != "Running" {
		t.Error(got)
	}
	x.Metadata.OwnerReferences = []owner{{Kind: "Job", Controller: true}}
	status := p.running(x, new(node), "10.244.0.2")
	if status["phase"] != "Succeeded" || status["containerStatuses"].(list)[0].(object)["state"].(object)["terminated"] == nil {
		t.Errorf("%v", status)
	}
}

func TestAccounts(t *testing.T) {
	a := accounts{t.TempDir() + "/accounts.json"}
	now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	first, all, err := a.add(now)
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	second, all, err := a.add(now.Add(localLife))
	if err != nil || len(all) != 2 || first == second {
		t.Fatal(all, err)
	}
	if _, all, err = a.add(now.Add(localLife + time.Second)); err != nil || len(all) != 2 || all[0].ID != second {
		t.Errorf("an expired account stays: %v, %v", all, err)
	}
	many := make([]account, maxAccounts)
	for i := range many {
		many[i] = account{fmt.Sprint(i), now}
	}
	if err := a.write(many); err != nil {
		t.Fatal(err)
	}
	if _, all, err = a.add(now); err != nil || len(all) != maxAccounts || all[0].ID != "1" {
		t.Errorf("%d accounts, %v", len(all), err)
	}
	if err := a.clear(); err != nil {
		t.Fatal(err)
	}
	if all, err := a.read(); len(all) != 0 || err != nil {
		t.Error(all, err)
	}
	if err := a.clear(); err != nil {
		t.Error(err)
	}
}

func TestOwnBindings(t *testing.T) {
	id := directory.ID{0xaa}
	want := adminsOf([]directory.ID{id})
	if adminsOf(nil) != nil || localsOf(false, []account{{ID: "x"}}) != nil {
		t.Error("a binding of nobody")
	}
	if b := localsOf(true, nil); b == nil || len(b.Subjects) != 0 {
		t.Error("local accounts that are on need a binding, without subjects at first")
	}
	for name, change := range map[string]func(*binding){
		"another subject": func(b *binding) { b.Subjects = append(b.Subjects, subject{rbacGroup, "User", "eve"}) },
		"no subject":      func(b *binding) { b.Subjects = nil },
		"another role":    func(b *binding) { b.RoleRef.Name = "view" },
		"no label":        func(b *binding) { b.Metadata.Labels = nil },
	} {
		have := adminsOf([]directory.ID{id})
		if !have.fits(want) {
			t.Fatal("equal bindings do not fit")
		}
		if change(have); have.fits(want) {
			t.Errorf("%s: fits", name)
		}
	}
}
