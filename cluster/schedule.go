package cluster

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// What follows is the part of Kubernetes's scheduling that decides where a pod may go at all: node names and labels,
// taints, cordons and the number of pods. Processors and memory do not run out on a simulated machine.

type toleration struct {
	Key      string `json:"key"`
	Operator string `json:"operator"`
	Value    string `json:"value"`
	Effect   string `json:"effect"`
}

func (t toleration) covers(x taint) bool {
	if t.Effect != "" && t.Effect != x.Effect || t.Key != "" && t.Key != x.Key {
		return false
	}
	return t.Operator == "Exists" || t.Key != "" && t.Value == x.Value
}

type nodeTerm struct {
	Labels []requirement `json:"matchExpressions"`
	Fields []requirement `json:"matchFields"`
}

type requirement struct {
	Key      string   `json:"key"`
	Operator string   `json:"operator"`
	Values   []string `json:"values"`
}

func (r requirement) holds(value string, has bool) bool {
	switch r.Operator {
	case "In":
		return has && slices.Contains(r.Values, value)
	case "NotIn":
		return !has || !slices.Contains(r.Values, value)
	case "Exists":
		return has
	case "DoesNotExist":
		return !has
	case "Gt", "Lt":
		if !has || len(r.Values) != 1 {
			return false
		}
		a, err := strconv.ParseInt(value, 10, 64)
		b, err2 := strconv.ParseInt(r.Values[0], 10, 64)
		return err == nil && err2 == nil && (r.Operator == "Gt" && a > b || r.Operator == "Lt" && a < b)
	}
	return false
}

// matches reports whether a node meets all of a term's requirements. A term without any matches nothing.
func (t nodeTerm) matches(n *node) bool {
	for _, r := range t.Labels {
		if value, has := n.Metadata.Labels[r.Key]; !r.holds(value, has) {
			return false
		}
	}
	for _, r := range t.Fields {
		if r.Key != "metadata.name" || !r.holds(n.Metadata.Name, true) {
			return false
		}
	}
	return len(t.Labels)+len(t.Fields) > 0
}

// usage is what the pods of a cluster occupy of its simulated nodes.
type usage struct {
	nodes map[string]*node // by name
	pods  map[string]int   // of each node
	ips   map[string]bool
}

func usageOf(nodes map[string]*node, pods map[string]*pod) *usage {
	u := &usage{nodes: map[string]*node{}, pods: map[string]int{}, ips: map[string]bool{}}
	for _, n := range nodes {
		if n.Metadata.Labels[simulated] == "true" {
			u.nodes[n.Metadata.Name] = n
		}
	}
	for _, p := range pods {
		if p.Status.Phase == "Succeeded" || p.Status.Phase == "Failed" {
			continue
		}
		if p.Spec.NodeName != "" {
			u.pods[p.Spec.NodeName]++
		}
		if p.Status.PodIP != "" {
			u.ips[p.Status.PodIP] = true
		}
	}
	return u
}

// choose returns the emptiest node that a pod may go to, and counts the pod there; or why there is none.
func (u *usage) choose(p *pod) (*node, string) {
	var best *node
	reasons := map[string]int{}
	for _, n := range u.nodes {
		if reason := u.refuses(n, p); reason != "" {
			reasons[reason]++
			continue
		}
		if best == nil || u.pods[n.Metadata.Name] < u.pods[best.Metadata.Name] ||
			u.pods[n.Metadata.Name] == u.pods[best.Metadata.Name] && n.Metadata.Name < best.Metadata.Name {
			best = n
		}
	}
	if best != nil {
		u.pods[best.Metadata.Name]++
		return best, ""
	}
	var parts []string
	for reason, count := range reasons {
		parts = append(parts, fmt.Sprintf("%d %s", count, reason))
	}
	slices.Sort(parts)
	why := fmt.Sprintf("0/%d nodes are available", len(u.nodes))
	if len(parts) > 0 {
		why += ": " + strings.Join(parts, ", ")
	}
	return nil, why + "."
}

// refuses returns why a node does not take a pod, or nothing.
func (u *usage) refuses(n *node, p *pod) string {
	if n.Spec.Unschedulable && !tolerates(p, taint{Key: "node.kubernetes.io/unschedulable", Effect: "NoSchedule"}) {
		return "node(s) were unschedulable"
	}
	for key, value := range p.Spec.NodeSelector {
		if has, ok := n.Metadata.Labels[key]; !ok || has != value {
			return "node(s) didn't match Pod's node affinity/selector"
		}
	}
	if terms := p.Spec.Affinity.Node.Required.Terms; len(terms) > 0 && !slices.ContainsFunc(terms, func(t nodeTerm) bool { return t.matches(n) }) {
		return "node(s) didn't match Pod's node affinity/selector"
	}
	for _, t := range n.Spec.Taints {
		if t.Effect != "PreferNoSchedule" && !tolerates(p, t) {
			return fmt.Sprintf("node(s) had untolerated taint {%s: %s}", t.Key, t.Value)
		}
	}
	if most, err := strconv.Atoi(n.Status.Allocatable["pods"]); err == nil && u.pods[n.Metadata.Name] >= most {
		return "Too many pods"
	}
	return ""
}

func tolerates(p *pod, t taint) bool {
	return slices.ContainsFunc(p.Spec.Tolerations, func(x toleration) bool { return x.covers(t) })
}
