package aks

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"strings"
)

// poolGiven is a node pool as a request has it. A nil member is absent.
type poolGiven struct {
	name  string
	count *int
	rest  map[string]any
}

const (
	poolsPath = "properties.agentPoolProfiles"

	maxPools = 100 // as the service
	maxNodes = 3072
)

var poolPattern = regexp.MustCompile(`^[a-z][a-z0-9]{0,11}$`)

// poolReadOnly are the server's to say.
var poolReadOnly = []string{"provisioningState", "powerState", "currentOrchestratorVersion", "nodeImageVersion", "eTag", "status", "orchestratorVersion"}

func parsePools(o object) ([]poolGiven, error) {
	list, err := member[[]json.RawMessage](o, "agentPoolProfiles", "a list of node pools")
	if err != nil || list == nil {
		return nil, err
	}
	var pools []poolGiven
	seen := map[string]bool{}
	for i, raw := range *list {
		inner, err := parseObject(fmt.Sprintf("%s[%d]", poolsPath, i), raw)
		if err != nil {
			return nil, err
		}
		name, err := member[string](inner, "name", "a name")
		if err != nil {
			return nil, err
		}
		if name == nil {
			return nil, invalid(inner.path("name"), "The node pool at '%s' has no name; give one, such as nodepool1.", inner.at)
		}
		p, err := parsePool(*name, inner)
		if err != nil {
			return nil, err
		}
		if seen[p.name] {
			return nil, invalid(inner.path("name"), "There are two node pools with the name '%s'; give each its own.", p.name)
		}
		seen[p.name] = true
		pools = append(pools, p)
	}
	return pools, nil
}

// parsePool reads a node pool's properties.
func parsePool(name string, o object) (p poolGiven, err error) {
	if err := o.canonical(append([]string{"name", "count", "mode", "vmSize", "osSKU", "osType", "maxPods", "nodeLabels", "nodeTaints"}, poolReadOnly...)...); err != nil {
		return p, err
	}
	if !poolPattern.MatchString(name) {
		return p, invalid(o.path("name"), "The node pool name '%.50s' is invalid: it has 1 to 12 lower-case letters and digits and begins with a letter.", name)
	}
	p.name = name
	if p.count, err = member[int](o, "count", "a number of nodes"); err != nil {
		return p, err
	}
	if p.count != nil && (*p.count < 0 || *p.count > 1000) {
		return p, invalid(o.path("count"), "The value %d of '%s' is invalid: a node pool has 0 to 1000 nodes.", *p.count, o.path("count"))
	}
	if err := checkPool(o); err != nil {
		return p, err
	}
	for _, name := range append([]string{"name", "count"}, poolReadOnly...) {
		delete(o.m, name)
	}
	p.rest, err = others(o)
	return p, err
}

// checkPool checks what simulated nodes are made of.
func checkPool(o object) error {
	for _, name := range []string{"vmSize", "osSKU", "osType"} {
		if s, err := member[string](o, name, "a string"); err != nil {
			return err
		} else if s != nil && !labelValue.MatchString(*s) {
			return invalid(o.path(name), "The value %.100q of '%s' is invalid: it has up to 63 letters, digits, dots, dashes and underscores.", *s, o.path(name))
		}
	}
	if s, err := member[string](o, "osType", "a string"); err != nil {
		return err
	} else if s != nil && *s != "" && !strings.EqualFold(*s, "Linux") {
		return invalid(o.path("osType"), "The value %.50q of '%s' is not available; simulated nodes run Linux.", *s, o.path("osType"))
	}
	if s, err := member[string](o, "mode", "System or User"); err != nil {
		return err
	} else if s != nil && *s != "" && *s != "System" && *s != "User" {
		return invalid(o.path("mode"), "The value %.50q of '%s' is invalid: it must be System or User.", *s, o.path("mode"))
	}
	if n, err := member[int](o, "maxPods", "a number of pods"); err != nil {
		return err
	} else if n != nil && *n != 0 && (*n < 10 || *n > 250) {
		return invalid(o.path("maxPods"), "The value %d of '%s' is invalid: it must be from 10 to 250.", *n, o.path("maxPods"))
	}
	labels, err := member[map[string]string](o, "nodeLabels", "an object of strings")
	if err != nil {
		return err
	}
	if labels != nil {
		for k, v := range *labels {
			if !labelName.MatchString(k) || !labelValue.MatchString(v) {
				return invalid(o.path("nodeLabels"), "The label %.100q with value %.100q of '%s' is not one that Kubernetes takes.", k, v, o.path("nodeLabels"))
			}
		}
	}
	taints, err := member[[]string](o, "nodeTaints", "a list of strings such as key=value:NoSchedule")
	if err != nil {
		return err
	}
	if taints != nil {
		for _, t := range *taints {
			if !taintPattern.MatchString(t) {
				return invalid(o.path("nodeTaints"), "The taint %.100q of '%s' is invalid: it must be of the form key=value:NoSchedule, :PreferNoSchedule or :NoExecute.", t, o.path("nodeTaints"))
			}
		}
	}
	return nil
}

// Kubernetes, "Labels and Selectors", syntax.
const (
	labelValueText = `(?:[A-Za-z0-9](?:[-._A-Za-z0-9]{0,61}[A-Za-z0-9])?)?`
	labelNameText  = `(?:[a-z0-9](?:[-.a-z0-9]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[-._A-Za-z0-9]{0,61}[A-Za-z0-9])?`
)

var (
	labelValue   = regexp.MustCompile(`^` + labelValueText + `$`)
	labelName    = regexp.MustCompile(`^` + labelNameText + `$`)
	taintPattern = regexp.MustCompile(`^` + labelNameText + `(?:=` + labelValueText + `)?:(?:NoSchedule|PreferNoSchedule|NoExecute)$`)
)

// desiredPools merges pools by name. Pools that a request leaves out stay; a new cluster that names none gets one.
func desiredPools(old *Cluster, given []poolGiven) ([]Pool, error) {
	var pools []Pool
	if old != nil {
		pools = append(pools, old.Pools...)
	} else if len(given) == 0 {
		given = []poolGiven{{name: "nodepool1"}}
	}
	for _, g := range given {
		i := poolIndex(pools, g.name)
		if i < 0 {
			i = len(pools)
			pools = append(pools, newPool(g.name, old == nil))
		}
		var err error
		if pools[i], err = pools[i].with(g); err != nil {
			return nil, err
		}
	}
	return pools, checkPools(pools)
}

func checkPools(pools []Pool) error {
	nodes, system := 0, 0
	for _, p := range pools {
		nodes += p.Count
		if p.text("mode") == "System" {
			system += p.Count
		}
	}
	switch {
	case len(pools) > maxPools:
		return invalid(poolsPath, "There are %d node pools; at most %d are allowed.", len(pools), maxPools)
	case nodes > maxNodes:
		return invalid(poolsPath, "The node pools have %d nodes together; at most %d are allowed.", nodes, maxNodes)
	case system == 0:
		return invalid(poolsPath, "A cluster needs a node pool of mode System with at least one node.")
	}
	return nil
}

func poolIndex(pools []Pool, name string) int {
	for i := range pools {
		if pools[i].Name == name {
			return i
		}
	}
	return -1
}

// newPool is a pool with the service's defaults. The pools of a new cluster are for its system, unless they say otherwise.
func newPool(name string, first bool) Pool {
	rest := func(mode string) map[string]json.RawMessage {
		return map[string]json.RawMessage{
			"vmSize": json.RawMessage(`"Standard_DS2_v2"`), "osDiskSizeGB": json.RawMessage(`128`), "osType": json.RawMessage(`"Linux"`),
			"osSKU": json.RawMessage(`"Ubuntu"`), "type": json.RawMessage(`"VirtualMachineScaleSets"`), "mode": json.RawMessage(mode),
			"maxPods": json.RawMessage(`110`), "enableAutoScaling": json.RawMessage(`false`), "enableFIPS": json.RawMessage(`false`),
		}
	}
	if first {
		return Pool{Name: name, Count: 3, Rest: rest(`"System"`)}
	}
	return Pool{Name: name, Count: 1, Rest: rest(`"User"`)}
}

// with returns the pool as a request wants it. Labels and tags are replaced as a whole, so that they can be removed.
func (p Pool) with(g poolGiven) (Pool, error) {
	if g.count != nil {
		p.Count = *g.count
	}
	was, err := decodeAll(p.Rest)
	if err != nil {
		return p, err
	}
	given := maps.Clone(g.rest)
	for _, name := range []string{"osDiskSizeGB", "maxPods"} { // az sends 0 for the service's default
		if key := sameKey(given, name); given[key] == json.Number("0") {
			delete(given, key)
		}
	}
	all := merge(was, given).(map[string]any)
	for name := range replaced {
		if v := lookup(given, name); v != nil {
			all[sameKey(all, name)] = v
		}
	}
	p.Rest, err = encodeAll(all)
	return p, err
}

// text returns one of the pool's properties that is a string.
func (p *Pool) text(name string) string {
	var s string
	if json.Unmarshal(p.Rest[name], &s) != nil {
		return ""
	}
	return s
}
