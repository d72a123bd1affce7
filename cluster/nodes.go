package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-k8s/gatehouse/aks"
)

const (
	simulated = "gatehouse.dev/simulated" // label of nodes and system pods, annotation of all pods that "run" here

	leasePeriod  = 10 * time.Second // as a kubelet's
	statusPeriod = 5 * time.Minute
	defaultSize  = "Standard_DS2_v2"
	maxPods      = 110 // of a node whose pool does not say
)

// node is the part of a Node that this package reads.
type node struct {
	Metadata meta `json:"metadata"`
	Spec     struct {
		PodCIDR       string  `json:"podCIDR"`
		Unschedulable bool    `json:"unschedulable"`
		Taints        []taint `json:"taints"`
	} `json:"spec"`
	Status struct {
		Allocatable map[string]string `json:"allocatable"`
		Addresses   []struct {
			Type    string `json:"type"`
			Address string `json:"address"`
		} `json:"addresses"`
	} `json:"status"`
}

func (n *node) meta() *meta { return &n.Metadata }

type taint struct {
	Key    string `json:"key"`
	Value  string `json:"value,omitempty"`
	Effect string `json:"effect"`
}

// poolOptions are what simulated nodes take from the rest of a pool's properties.
type poolOptions struct {
	VMSize     string            `json:"vmSize"`
	Mode       string            `json:"mode"`
	OSSKU      string            `json:"osSKU"`
	MaxPods    int               `json:"maxPods"`
	NodeLabels map[string]string `json:"nodeLabels"`
	NodeTaints []string          `json:"nodeTaints"` // key=value:Effect
}

func optionsOf(p aks.Pool) poolOptions {
	o := poolOptions{VMSize: defaultSize, Mode: "System", OSSKU: "Ubuntu", MaxPods: maxPods}
	read := func(name string, into any) {
		if text, ok := p.Rest[name]; ok {
			_ = json.Unmarshal(text, into) // of a wrong type: aks refuses such a pool, so the default will do
		}
	}
	read("vmSize", &o.VMSize)
	read("mode", &o.Mode)
	read("osSKU", &o.OSSKU)
	read("maxPods", &o.MaxPods)
	read("nodeLabels", &o.NodeLabels)
	read("nodeTaints", &o.NodeTaints)
	if o.MaxPods <= 0 {
		o.MaxPods = maxPods
	}
	return o
}

// nodeName is what AKS calls the i-th machine of a pool; scale sets count in base 36.
func nodeName(pool, suffix string, i int) string {
	number := strconv.FormatInt(int64(i), 36)
	return "aks-" + pool + "-" + suffix + "-vmss" + strings.Repeat("0", max(0, 6-len(number))) + number
}

// maxNodes is for how many nodes there are ranges of pod addresses, 10.244.0.0/24 to 10.255.255.0/24.
const maxNodes = 12 * 256

// nodesOf returns the nodes that a cluster should have, by name. index holds the numbers of those that exist, which
// their addresses hang on; new ones get the lowest free numbers.
func nodesOf(s aks.Settings, index map[string]int, version string, now time.Time) (map[string]object, error) {
	taken := map[int]bool{}
	for _, i := range index {
		taken[i] = true
	}
	out := map[string]object{}
	free := 0
	for _, pool := range s.Pools {
		for i := range pool.Count {
			name := nodeName(pool.Name, s.PoolSuffix, i)
			number, ok := index[name]
			if !ok {
				for taken[free] {
					free++
				}
				number, taken[free] = free, true
			}
			if number >= maxNodes {
				return nil, fmt.Errorf("a simulated cluster has at most %d nodes; make its pools smaller", maxNodes)
			}
			out[name] = nodeObject(s, pool, name, i, number, version, now)
		}
	}
	return out, nil
}

// podRange is the addresses of the pods of a node, and numberOf which node has them.
func podRange(index int) string { return fmt.Sprintf("10.%d.%d.0/24", 244+index/256, index%256) }

func numberOf(podCIDR string) (int, bool) {
	var high, low int
	if _, err := fmt.Sscanf(podCIDR, "10.%d.%d.0/24", &high, &low); err != nil || high < 244 {
		return 0, false
	}
	return (high-244)*256 + low, true
}

func nodeObject(s aks.Settings, pool aks.Pool, name string, inPool, index int, version string, now time.Time) object {
	o := optionsOf(pool)
	group := strings.ToLower(s.NodeGroup)
	region := strings.ToLower(strings.ReplaceAll(s.Location, " ", ""))
	labels := map[string]string{}
	maps.Copy(labels, o.NodeLabels)
	maps.Copy(labels, map[string]string{
		simulated:                                "true",
		"agentpool":                              pool.Name,
		"kubernetes.azure.com/agentpool":         pool.Name,
		"kubernetes.azure.com/cluster":           labelValue(s.NodeGroup),
		"kubernetes.azure.com/mode":              labelValue(strings.ToLower(o.Mode)),
		"kubernetes.azure.com/os-sku":            labelValue(o.OSSKU),
		"kubernetes.azure.com/role":              "agent",
		"kubernetes.io/role":                     "agent", // what kubectl shows as ROLES
		"kubernetes.io/arch":                     "amd64",
		"kubernetes.io/os":                       "linux",
		"kubernetes.io/hostname":                 name,
		"beta.kubernetes.io/arch":                "amd64",
		"beta.kubernetes.io/os":                  "linux",
		"beta.kubernetes.io/instance-type":       labelValue(o.VMSize),
		"node.kubernetes.io/instance-type":       labelValue(o.VMSize),
		"topology.kubernetes.io/region":          labelValue(region),
		"topology.kubernetes.io/zone":            "0",
		"failure-domain.beta.kubernetes.io/zone": "0",
	})
	var taints []taint
	for _, t := range o.NodeTaints {
		if t, ok := parseTaint(t); ok {
			taints = append(taints, t)
		}
	}
	cidr := podRange(index)
	size := map[string]string{"cpu": "2", "memory": "7116360Ki", "ephemeral-storage": "129886128Ki", "hugepages-1Gi": "0", "hugepages-2Mi": "0", "pods": strconv.Itoa(o.MaxPods)}
	usable := maps.Clone(size)
	usable["cpu"], usable["memory"], usable["ephemeral-storage"] = "1900m", "5444168Ki", "119703055367" // what AKS leaves of it to pods
	return object{
		"apiVersion": "v1", "kind": "Node",
		"metadata": object{
			"name":        name,
			"labels":      labels,
			"annotations": object{simulated: "true", "node.alpha.kubernetes.io/ttl": "0", "volumes.kubernetes.io/controller-managed-attach-detach": "true"},
		},
		"spec": object{
			"podCIDR": cidr, "podCIDRs": list{cidr},
			"taints": taints,
			"providerID": fmt.Sprintf("azure:///subscriptions/%s/resourceGroups/%s/providers/Microsoft.Compute/virtualMachineScaleSets/aks-%s-%s-vmss/virtualMachines/%d",
				s.Subscription, group, pool.Name, s.PoolSuffix, inPool),
		},
		"status": object{
			"capacity": size, "allocatable": usable,
			"conditions": conditions(now, now),
			"addresses": list{
				object{"type": "InternalIP", "address": nodeIP(index)},
				object{"type": "Hostname", "address": name},
			},
			"daemonEndpoints": object{"kubeletEndpoint": object{"Port": 10250}},
			"nodeInfo": object{
				"architecture": "amd64", "operatingSystem": "linux",
				"kubeletVersion": version, "kubeProxyVersion": version,
				"osImage": "Ubuntu 24.04 LTS (simulated)", "kernelVersion": "6.8.0-azure", "containerRuntimeVersion": "containerd://2.0.0",
				"machineID": strings.ReplaceAll(s.GUID.String(), "-", ""), "systemUUID": "", "bootID": "",
			},
		},
	}
}

// nodeIP is the address of a node in the subnet that AKS makes by default, 10.224.0.0/16. Azure keeps the first four.
func nodeIP(index int) string {
	n := index + 4
	return fmt.Sprintf("10.224.%d.%d", n/256%256, n%256)
}

func parseTaint(s string) (taint, bool) {
	rest, effect, ok := strings.Cut(s, ":")
	key, value, _ := strings.Cut(rest, "=")
	return taint{key, value, effect}, ok && key != "" && effect != ""
}

// conditions is a healthy kubelet's report. since is when it became so.
func conditions(now, since time.Time) list {
	one := func(kind, status, reason, message string) object {
		return object{"type": kind, "status": status, "reason": reason, "message": message,
			"lastHeartbeatTime": stamp(now), "lastTransitionTime": stamp(since)}
	}
	return list{
		one("MemoryPressure", "False", "KubeletHasSufficientMemory", "simulated node has sufficient memory"),
		one("DiskPressure", "False", "KubeletHasNoDiskPressure", "simulated node has no disk pressure"),
		one("PIDPressure", "False", "KubeletHasSufficientPID", "simulated node has sufficient PID"),
		one("Ready", "True", "KubeletReady", "simulated node is posting ready status"),
	}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// nodes keeps the simulated nodes of a cluster alive.
type nodes struct {
	client  *client
	log     *slog.Logger
	now     func() time.Time
	version string // of Kubernetes, such as v1.36.3

	mu    sync.Mutex
	want  map[string]object
	since time.Time
}

// set makes the nodes of a cluster those of its pools, and returns when they are there and Ready.
func (n *nodes) set(ctx context.Context, s aks.Settings) error {
	var have struct {
		Items []node `json:"items"`
	}
	if err := eventually(ctx, func() error {
		return n.client.get(ctx, "/api/v1/nodes?labelSelector="+url.QueryEscape(simulated+"=true"), &have)
	}); err != nil {
		return err
	}
	index := map[string]int{}
	for _, x := range have.Items {
		if i, ok := numberOf(x.Spec.PodCIDR); ok {
			index[x.Metadata.Name] = i
		}
	}
	want, err := nodesOf(s, index, n.version, n.now())
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.want, n.since = want, n.now()
	n.mu.Unlock()

	var gone []string
	there := map[string]bool{}
	for _, x := range have.Items {
		there[x.Metadata.Name] = true
		if want[x.Metadata.Name] == nil {
			gone = append(gone, x.Metadata.Name)
		}
	}
	var missing []string
	for name := range want {
		if !there[name] {
			missing = append(missing, name)
		}
	}
	return errors.Join(
		each(missing, func(name string) error { return n.add(ctx, name, want[name]) }),
		each(gone, func(name string) error { return n.remove(ctx, name) }),
	)
}

// each calls f for all of a list, a few at a time.
func each(names []string, f func(string) error) error {
	const atOnce = 8
	errs := make([]error, len(names))
	slots := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i, name := range names {
		slots <- struct{}{}
		wg.Go(func() {
			errs[i] = f(name)
			<-slots
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// add makes a node, with the status of a healthy one, and its lease.
func (n *nodes) add(ctx context.Context, name string, as object) error {
	return eventually(ctx, func() error {
		var made node
		err := n.client.create(ctx, "/api/v1/nodes", as, &made)
		if isConflict(err) { // it is there, perhaps without the label that makes it ours
			err = n.client.merge(ctx, "/api/v1/nodes/"+name, object{"metadata": as["metadata"]}, &made)
		}
		if err != nil {
			return err
		}
		lease := object{
			"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
			"metadata": object{"name": name, "ownerReferences": list{owner{APIVersion: "v1", Kind: "Node", Name: name, UID: made.Metadata.UID}}},
			"spec":     object{"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": microStamp(n.now())},
		}
		if err := n.client.create(ctx, leases, lease, nil); err != nil && !isConflict(err) {
			if isNotFound(err) { // the API server makes the namespace soon after its start
				return &statusError{Code: 503, Message: err.Error()}
			}
			return err
		}
		return nil
	})
}

const leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"

func microStamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

// remove deletes a node and what ran on it.
func (n *nodes) remove(ctx context.Context, name string) error {
	return eventually(ctx, func() error {
		if err := n.client.delete(ctx, "/api/v1/nodes/"+name, nil); err != nil {
			return err
		}
		var on struct {
			Items []struct {
				Metadata meta `json:"metadata"`
			} `json:"items"`
		}
		if err := n.client.get(ctx, "/api/v1/pods?fieldSelector="+url.QueryEscape("spec.nodeName="+name), &on); err != nil {
			return err
		}
		for _, p := range on.Items {
			if err := n.client.delete(ctx, podPath(&p.Metadata), atOnce(p.Metadata.UID)); err != nil {
				return err
			}
		}
		return nil
	})
}

// run renews leases, reports health and puts back nodes that somebody deleted, until the context ends.
func (n *nodes) run(ctx context.Context) {
	reported := n.now()
	for sleep(ctx, leasePeriod) {
		n.mu.Lock()
		want, since := n.want, n.since
		n.mu.Unlock()
		now := n.now()
		report := now.Sub(reported) >= statusPeriod
		if report {
			reported = now
		}
		names := make([]string, 0, len(want))
		for name := range want {
			names = append(names, name)
		}
		// One error tells of all: the API server is away. It is supervised and reported elsewhere.
		if err := each(names, func(name string) error { return n.beat(ctx, name, want[name], now, since, report) }); err != nil && ctx.Err() == nil {
			n.log.Debug("simulated nodes miss a heartbeat", "error", err)
		}
	}
}

func (n *nodes) beat(ctx context.Context, name string, as object, now, since time.Time, report bool) error {
	ctx, cancel := context.WithTimeout(ctx, leasePeriod)
	defer cancel()
	err := n.client.merge(ctx, leases+"/"+name, object{"spec": object{"renewTime": microStamp(now)}}, nil)
	if err == nil && report {
		err = n.client.merge(ctx, "/api/v1/nodes/"+name+"/status", object{"status": object{"conditions": conditions(now, since)}}, nil)
	}
	if !isNotFound(err) {
		return err
	}
	// A lease ends with its node. Somebody may have scaled the pool down in the meantime.
	n.mu.Lock()
	_, wanted := n.want[name]
	n.mu.Unlock()
	if !wanted {
		return nil
	}
	return n.add(ctx, name, as)
}
