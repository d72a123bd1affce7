package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"time"
)

// pod is the part of a Pod that this package reads.
type pod struct {
	Metadata meta      `json:"metadata"`
	Spec     podSpec   `json:"spec"`
	Status   podStatus `json:"status"`
}

func (p *pod) meta() *meta { return &p.Metadata }

type podSpec struct {
	NodeName        string            `json:"nodeName"`
	SchedulerName   string            `json:"schedulerName"`
	SchedulingGates []struct{}        `json:"schedulingGates"`
	HostNetwork     bool              `json:"hostNetwork"`
	NodeSelector    map[string]string `json:"nodeSelector"`
	Tolerations     []toleration      `json:"tolerations"`
	InitContainers  []container       `json:"initContainers"`
	Containers      []container       `json:"containers"`
	Affinity        struct {
		Node struct {
			Required struct {
				Terms []nodeTerm `json:"nodeSelectorTerms"`
			} `json:"requiredDuringSchedulingIgnoredDuringExecution"`
		} `json:"nodeAffinity"`
	} `json:"affinity"`
}

type container struct {
	Name          string `json:"name"`
	Image         string `json:"image"`
	RestartPolicy string `json:"restartPolicy"` // of an init container: Always makes it a sidecar
}

type podStatus struct {
	Phase      string `json:"phase"`
	PodIP      string `json:"podIP"`
	Conditions []struct {
		Type    string `json:"type"`
		Status  string `json:"status"`
		Message string `json:"message"`
	} `json:"conditions"`
}

func podPath(m *meta) string {
	return "/api/v1/namespaces/" + url.PathEscape(m.Namespace) + "/pods/" + url.PathEscape(m.Name)
}

// atOnce is the DeleteOptions of a kubelet that says: it has stopped. It names the pod's uid so as not to hit a
// successor of the same name.
func atOnce(uid string) object {
	return object{"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "preconditions": object{"uid": uid}}
}

// pods is the scheduler and all the kubelets of the simulated nodes.
type pods struct {
	client *client
	log    *slog.Logger
	now    func() time.Time

	pods  mirror[pod, *pod]
	nodes mirror[node, *node]
	bell  bell

	started map[string]string // uid of each pod that this run has made to run but has not seen running yet: its address
}

func newPods(c *client, log *slog.Logger, now func() time.Time) *pods {
	p := &pods{client: c, log: log, now: now, bell: newBell(), started: map[string]string{}}
	p.pods = mirror[pod, *pod]{client: c, path: "/api/v1/pods", changed: p.bell.ring}
	p.nodes = mirror[node, *node]{client: c, path: "/api/v1/nodes", changed: p.bell.ring}
	return p
}

// run works until the context ends.
func (p *pods) run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { p.pods.run(ctx) })
	wg.Go(func() { p.nodes.run(ctx) })
	defer wg.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.bell:
		}
		nodes, ok := p.nodes.all()
		pods, alsoOK := p.pods.all()
		if ok && alsoOK {
			p.pass(ctx, nodes, pods)
		}
	}
}

// pass does what is to be done for each pod. A failure is tried again with the next pass, which the failure rings for.
func (p *pods) pass(ctx context.Context, nodes map[string]*node, pods map[string]*pod) {
	use := usageOf(nodes, pods)
	waiting := map[string]string{}
	for _, pod := range pods {
		if ip, ok := p.started[pod.Metadata.UID]; ok && pod.Status.Phase == "Pending" {
			waiting[pod.Metadata.UID], use.ips[ip] = ip, true
		}
	}
	p.started = waiting
	for _, pod := range pods {
		if ctx.Err() != nil {
			return
		}
		err := p.step(ctx, use, pod)
		if err == nil || isNotFound(err) || isConflict(err) || ctx.Err() != nil {
			continue // whoever was faster causes an event
		}
		p.log.Debug("simulated pod", "pod", pod.Metadata.key(), "error", err)
		time.AfterFunc(time.Second, p.bell.ring)
	}
}

func (p *pods) step(ctx context.Context, use *usage, pod *pod) error {
	on := use.nodes[pod.Spec.NodeName]
	_, started := p.started[pod.Metadata.UID]
	switch {
	case pod.Metadata.DeletionTimestamp != nil:
		if on == nil {
			return nil // of no node of ours; the API server deletes what no node has
		}
		return p.client.delete(ctx, podPath(&pod.Metadata), atOnce(pod.Metadata.UID))
	case pod.Status.Phase != "Pending" || started:
		return nil
	case pod.Spec.NodeName == "":
		if pod.Spec.SchedulerName != "default-scheduler" || len(pod.Spec.SchedulingGates) > 0 {
			return nil
		}
		chosen, why := use.choose(pod)
		if chosen == nil {
			return p.unschedulable(ctx, pod, why)
		}
		if err := p.bind(ctx, pod, chosen.Metadata.Name); err != nil {
			return err
		}
		on = chosen
	case on == nil:
		return nil
	}
	ip, err := use.place(pod, on)
	if err != nil {
		return err
	}
	if err := p.client.merge(ctx, podPath(&pod.Metadata)+"/status", object{"status": p.running(pod, on, ip)}, nil); err != nil {
		return err
	}
	p.started[pod.Metadata.UID] = ip
	return nil
}

// bind gives a pod to a node; the API server copies the binding's annotation to the pod.
func (p *pods) bind(ctx context.Context, pod *pod, to string) error {
	return p.client.create(ctx, podPath(&pod.Metadata)+"/binding", object{
		"apiVersion": "v1", "kind": "Binding",
		"metadata": object{"name": pod.Metadata.Name, "namespace": pod.Metadata.Namespace, "uid": pod.Metadata.UID, "annotations": object{simulated: "true"}},
		"target":   object{"apiVersion": "v1", "kind": "Node", "name": to},
	}, nil)
}

func (p *pods) unschedulable(ctx context.Context, pod *pod, why string) error {
	for _, c := range pod.Status.Conditions {
		if c.Type == "PodScheduled" && c.Status == "False" && c.Message == why {
			return nil
		}
	}
	return p.client.merge(ctx, podPath(&pod.Metadata)+"/status", object{"status": object{"conditions": list{
		object{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why, "lastTransitionTime": stamp(p.now())},
	}}}, nil)
}

// running is the status of a pod whose containers all run, or, of a Job's, have all done their work: nothing here
// could ever tell when a real one would have.
func (p *pods) running(pod *pod, on *node, ip string) object {
	now := stamp(p.now())
	done := false
	for _, o := range pod.Metadata.OwnerReferences {
		done = done || o.Controller && o.Kind == "Job"
	}
	condition := func(kind string, is bool) object {
		c := object{"type": kind, "status": "True", "lastTransitionTime": now}
		if !is {
			c["status"], c["reason"] = "False", "PodCompleted"
		}
		return c
	}
	containers := func(all []container, done bool) list {
		states := list{}
		for _, c := range all {
			id := "simulated://" + pod.Metadata.UID + "/" + c.Name
			over := done && c.RestartPolicy != "Always"
			state := object{"running": object{"startedAt": now}}
			if over {
				state = object{"terminated": object{"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now, "containerID": id}}
			}
			states = append(states, object{
				"name": c.Name, "image": c.Image, "imageID": "simulated://" + c.Image, "containerID": id,
				"restartCount": 0, "ready": !over, "started": !over, "state": state,
			})
		}
		return states
	}
	status := object{
		"phase":     "Running",
		"startTime": now,
		"hostIP":    on.address(), "hostIPs": list{object{"ip": on.address()}},
		"podIP": ip, "podIPs": list{object{"ip": ip}},
		"conditions": list{
			condition("PodReadyToStartContainers", !done),
			condition("Initialized", true),
			condition("Ready", !done),
			condition("ContainersReady", !done),
			condition("PodScheduled", true),
		},
		"containerStatuses": containers(pod.Spec.Containers, done),
	}
	if done {
		status["phase"] = "Succeeded"
	}
	if len(pod.Spec.InitContainers) > 0 {
		status["initContainerStatuses"] = initDone(containers(pod.Spec.InitContainers, true))
	}
	return status
}

// initDone marks init containers that have ended as ready, which is what a kubelet calls a completed one.
func initDone(states list) list {
	for _, s := range states {
		s.(object)["ready"] = true
	}
	return states
}

func (n *node) address() string {
	for _, a := range n.Status.Addresses {
		if a.Type == "InternalIP" {
			return a.Address
		}
	}
	return ""
}

// place returns the address of a pod on a node: the node's own for a pod in its network, else a free one of the node's range.
func (u *usage) place(pod *pod, on *node) (string, error) {
	if pod.Spec.HostNetwork {
		return on.address(), nil
	}
	if pod.Status.PodIP != "" {
		return pod.Status.PodIP, nil
	}
	ip, network, err := net.ParseCIDR(on.Spec.PodCIDR)
	if err != nil {
		return "", fmt.Errorf("node %s: %w", on.Metadata.Name, err)
	}
	for ip = ip.To4(); ip != nil && network.Contains(ip); ip = next(ip) {
		if text := ip.String(); ip[3] > 1 && ip[3] < 255 && !u.ips[text] { // .1 is the bridge
			u.ips[text] = true
			return text, nil
		}
	}
	return "", fmt.Errorf("node %s has no address left in %s", on.Metadata.Name, on.Spec.PodCIDR)
}

func next(ip net.IP) net.IP {
	out := append(net.IP(nil), ip...)
	for i := len(out) - 1; i >= 0; i-- {
		if out[i]++; out[i] != 0 {
			break
		}
	}
	return out
}
