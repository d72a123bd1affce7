package aks

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/arm"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/identity"
)

// given is a cluster as a request has it.
type given struct {
	location   string // normal; empty: absent
	tags       *map[string]string
	aad        *aadGiven
	noLocal    *bool
	rbac       *bool
	version    string // empty: the service's default, or as it is
	pools      []poolGiven
	properties map[string]any // the others
	outer      map[string]any // sku
	identity   identityGiven
}

// namePattern is the rule for names (AKS REST reference, "Managed Clusters - Create Or Update").
var namePattern = regexp.MustCompile(`^[a-zA-Z0-9]$|^[a-zA-Z0-9][-_a-zA-Z0-9]{0,61}[a-zA-Z0-9]$`)

func checkName(name string) error {
	if !namePattern.MatchString(name) {
		return invalid("resourceName", "The cluster name '%.100s' is invalid: it has 1 to 63 letters, digits, underscores and hyphens, and begins and ends with a letter or digit.", name)
	}
	return nil
}

// Members that this package gives a meaning, so that they are found in any letter case.
var (
	outerNames    = []string{"location", "tags", "properties", "identity", "sku", "extendedLocation"}
	propertyNames = []string{"aadProfile", "disableLocalAccounts", "enableRBAC", "kubernetesVersion", "agentPoolProfiles"}
)

// readOnly are properties that clients send back as they read them; they are the server's to say.
var readOnly = []string{
	"provisioningState", "powerState", "maxAgentPools", "currentKubernetesVersion", "fqdn", "privateFQDN", "azurePortalFQDN", "identityProfile", "resourceUID", "status",
}

// secrets are taken out of what is kept and shown: nothing here has a use for them.
var secrets = [][]string{{"servicePrincipalProfile", "secret"}, {"windowsProfile", "adminPassword"}}

// parseCluster reads the body of a PUT. Rules that need to know the present cluster are desired's.
func parseCluster(raw []byte) (g given, err error) {
	body, err := parseObject("", raw)
	if err != nil {
		return g, err
	}
	if err := body.canonical(outerNames...); err != nil {
		return g, err
	}
	location, err := member[string](body, "location", "the name of a location")
	if err != nil {
		return g, err
	}
	if location != nil {
		if g.location, err = arm.ParseLocation(*location, "LocationNotAvailableForResourceType"); err != nil {
			return g, err
		}
	}
	if g.tags, err = member[map[string]string](body, "tags", "an object of strings"); err != nil {
		return g, err
	}
	if !isNull(body.m["extendedLocation"]) {
		return g, invalid("extendedLocation", "Edge zones ('extendedLocation') are not available; leave it out.")
	}
	if g.outer, err = others(object{m: map[string]json.RawMessage{"sku": body.m["sku"]}}); err != nil {
		return g, err
	}
	identity, err := body.object("identity")
	if err != nil {
		return g, err
	}
	if err := g.identity.parseIdentity(identity); err != nil {
		return g, err
	}
	properties, err := body.object("properties")
	if err != nil {
		return g, err
	}
	if properties != nil {
		err = g.parseProperties(*properties)
	}
	return g, err
}

func (g *given) parseProperties(o object) (err error) {
	own := slices.Concat(propertyNames, readOnly)
	if err := o.canonical(own...); err != nil {
		return err
	}
	if raw, sent := o.m["aadProfile"]; sent {
		if isNull(raw) {
			g.aad = &aadGiven{managed: new(bool)} // an explicit null asks for a cluster without integration
		} else {
			inner, err := parseObject(aadPath, raw)
			if err != nil {
				return err
			}
			profile, err := parseAAD(inner)
			if err != nil {
				return err
			}
			g.aad = &profile
		}
	}
	if g.noLocal, err = member[bool](o, "disableLocalAccounts", "true or false"); err != nil {
		return err
	}
	if g.rbac, err = member[bool](o, "enableRBAC", "true or false"); err != nil {
		return err
	}
	if version, err := member[string](o, "kubernetesVersion", "a version such as 1.36"); err != nil {
		return err
	} else if version != nil {
		g.version = *version
	}
	if g.pools, err = parsePools(o); err != nil {
		return err
	}
	profile, err := o.object("identityProfile")
	if err != nil {
		return err
	}
	if err := g.identity.parseProfile(profile); err != nil {
		return err
	}
	for _, name := range own {
		delete(o.m, name)
	}
	if g.properties, err = others(o); err != nil {
		return err
	}
	return refuseUnavailable(g.properties)
}

// others decodes what is only kept and shown, without secrets.
func others(o object) (map[string]any, error) {
	out := map[string]any{}
	for name, raw := range o.m {
		if isNull(raw) {
			continue
		}
		v, err := tree(raw)
		if err != nil {
			return nil, errType(o.path(name), raw, "JSON")
		}
		out[name] = v
	}
	prune(out)
	for _, path := range secrets {
		if m, ok := lookup(out, path[:len(path)-1]...).(map[string]any); ok {
			delete(m, sameKey(m, path[len(path)-1]))
		}
	}
	return out, nil
}

// situation is what the rules know beside the request and the cluster.
type situation struct {
	directory    *directory.State
	identities   *identity.State
	mayAssign    func(arm.ResourceID) error // whether the caller may give a user-assigned identity to a resource
	group        *arm.Group
	groups       *arm.State
	clusters     *State
	subscription *arm.Subscription
	name         string       // in the caller's spelling
	guid         directory.ID // of a new cluster
	version      string       // of Kubernetes that runs here
	issuer       func(tenant, guid directory.ID) string
	now          time.Time
}

// desired is the cluster that a request asks for. old is the one that exists; nil: none. It is where all rules about
// clusters are; it writes nothing.
func desired(at situation, old *Cluster, g *given) (*Cluster, error) {
	next, err := at.base(old, g)
	if err != nil {
		return nil, err
	}
	if g.tags != nil {
		next.Tags = *g.tags
	}
	if err := arm.CheckTags(next.Tags); err != nil {
		return nil, err
	}
	if g.rbac != nil && *g.rbac != next.KubernetesRBAC {
		if old != nil {
			return nil, errChange("enableRBAC")
		}
		if g.aad != nil && g.aad.managed != nil && *g.aad.managed {
			return nil, invalid("properties.enableRBAC", "Microsoft Entra integration needs Kubernetes RBAC: 'enableRBAC' must be true with an aadProfile; leave --disable-rbac out.").WithCode("BadRequest")
		}
		return nil, invalid("properties.enableRBAC", "Clusters without Kubernetes RBAC ('enableRBAC': false) are not available: everyone would be their administrator. Leave --disable-rbac out.").WithCode("BadRequest")
	}
	if next.AAD, err = desiredAAD(at.directory, next.Tenant, next.AAD, g.aad); err != nil {
		return nil, err
	}
	if g.noLocal != nil {
		next.NoLocalAccounts = *g.noLocal
	}
	if next.NoLocalAccounts && next.AAD == nil {
		return nil, invalid("properties.disableLocalAccounts", "Local accounts can't be disabled on a cluster without Microsoft Entra integration, because nobody could sign in. "+
			"Enable the integration with the same request or before it: --enable-aad --aad-admin-group-object-ids ID.").WithCode("BadRequest")
	}
	if next.KubernetesVersion, err = at.chooseVersion(old, g.version); err != nil {
		return nil, err
	}
	if next.Pools, err = desiredPools(old, g.pools); err != nil {
		return nil, err
	}
	if next.Rest, err = at.desiredRest(next, old, g); err != nil {
		return nil, err
	}
	next.Outer, err = desiredOuter(old, g)
	return next, err
}

// base is what a request can't choose.
func (at situation) base(old *Cluster, g *given) (*Cluster, error) {
	if old != nil {
		if g.location != "" && g.location != old.Location {
			return nil, fault.New(fault.Conflict, "The cluster '%s' exists in location '%s' and can't move to '%s'; use that location or another name.", old.Name, old.Location, g.location).
				At("location").WithCode("InvalidResourceLocation")
		}
		next := *old
		return &next, nil
	}
	if g.location == "" {
		_, err := arm.ParseLocation("", "LocationRequired")
		return nil, err
	}
	return &Cluster{
		GUID: at.guid, Tenant: at.subscription.Tenant, Subscription: at.subscription.ID, Group: at.group.Name, Name: at.name, Location: g.location,
		KubernetesRBAC: true, Created: at.now,
	}, nil
}

// chooseVersion accepts the one version that runs here, in full or as its minor release.
func (at situation) chooseVersion(old *Cluster, wanted string) (string, error) {
	switch {
	case wanted == "", wanted == at.version, wanted == minor(at.version), old != nil && wanted == old.KubernetesVersion:
		return at.version, nil
	}
	return "", invalid("properties.kubernetesVersion", "Version %.50s is not supported here. Supported: %s (or %s). Leave --kubernetes-version out to take it.", wanted, at.version, minor(at.version)).
		WithCode("K8sVersionNotSupported")
}

// minor is the minor release of a version: 1.36 of 1.36.3.
func minor(version string) string {
	i := strings.LastIndexByte(version, '.')
	return version[:i]
}

// fixed are properties that a cluster keeps for life.
var fixed = [][]string{
	{"dnsPrefix"}, {"fqdnSubdomain"}, {"nodeResourceGroup"}, {"networkProfile", "serviceCidr"}, {"networkProfile", "dnsServiceIP"}, {"servicePrincipalProfile", "clientId"},
}

// desiredRest merges what is only kept and shown, and adds defaults.
func (at situation) desiredRest(next, old *Cluster, g *given) (map[string]json.RawMessage, error) {
	was := any(at.defaults(next))
	if old != nil {
		m, err := decodeAll(old.Rest)
		if err != nil {
			return nil, err
		}
		was = m
	}
	all := merge(was, g.properties)
	if old != nil {
		for _, path := range fixed {
			if a, b := lookup(was, path...), lookup(all, path...); fmt.Sprint(a) != fmt.Sprint(b) {
				return nil, errChange(strings.Join(path, "."))
			}
		}
	}
	for _, name := range []string{"dnsPrefix", "nodeResourceGroup"} {
		if s, ok := lookup(all, name).(string); !ok || len(s) > 90 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' }) {
			return nil, invalid("properties."+name, "The value %.100v of 'properties.%s' is invalid: it must be a name of up to 90 characters.", lookup(all, name), name)
		}
	}
	if old == nil {
		if err := at.nodeGroupFree(lookup(all, "nodeResourceGroup").(string)); err != nil {
			return nil, err
		}
	}
	if err := at.desiredIssuer(next, old, all.(map[string]any)); err != nil {
		return nil, err
	}
	return encodeAll(all.(map[string]any))
}

// nodeGroupFree refuses to make a cluster whose node resource group is something already. The group is the cluster's alone, and the kubelets'
// identity is in it: who may make clusters in one resource group could otherwise take names in another (codes of the service's answers).
func (at situation) nodeGroupFree(name string) error {
	refused := func(code, format string, args ...any) error {
		const remedy = " Choose a name that nothing has, with --node-resource-group."
		return invalid("properties.nodeResourceGroup", format+remedy, args...).WithCode(code)
	}
	if strings.EqualFold(name, at.group.Name) {
		return refused("NodeResourceGroupSameAsResourceGroup", "The node resource group '%s' is the resource group of the cluster itself, which is not allowed.", name)
	}
	if at.groups.Group(at.subscription.ID, name) != nil {
		return refused("NodeResourceGroupAlreadyExists", "The node resource group '%s' exists already, as a resource group of subscription '%s'.", name, at.subscription.ID)
	}
	if at.clusters.ofNodeGroup(at.subscription.ID, name) != nil {
		return refused("NodeResourceGroupAlreadyExists", "The node resource group '%s' exists already in subscription '%s': it is that of another cluster.", name, at.subscription.ID)
	}
	return nil
}

// defaults are the service's for what az leaves open.
func (at situation) defaults(c *Cluster) map[string]any {
	return map[string]any{
		"dnsPrefix":               clip(c.Name, 10) + "-" + clip(c.Group, 16) + "-" + c.Subscription.String()[:6],
		"nodeResourceGroup":       clip("MC_"+c.Group+"_"+c.Name+"_"+c.Location, 80),
		"servicePrincipalProfile": map[string]any{"clientId": "msi"},
		"supportPlan":             "KubernetesOfficial",
		"networkProfile": map[string]any{
			"networkPlugin": "kubenet", "loadBalancerSku": "standard", "outboundType": "loadBalancer",
			"podCidr": "10.244.0.0/16", "serviceCidr": "10.0.0.0/16", "dnsServiceIP": "10.0.0.10",
		},
	}
}

func clip(s string, n int) string { return s[:min(n, len(s))] }

// desiredOuter merges the sku. desiredIdentities adds the identity.
func desiredOuter(old *Cluster, g *given) (map[string]json.RawMessage, error) {
	was := any(map[string]any{"sku": map[string]any{"name": "Base", "tier": "Free"}})
	if old != nil {
		m, err := decodeAll(old.Outer)
		if err != nil {
			return nil, err
		}
		was = m
	}
	all := merge(was, g.outer).(map[string]any)
	if _, ok := all["sku"].(map[string]any); !ok {
		return nil, invalid("sku", "The value of 'sku' is invalid: it must be an object.")
	}
	return encodeAll(all)
}

func decodeAll(m map[string]json.RawMessage) (map[string]any, error) {
	out := make(map[string]any, len(m))
	for name, raw := range m {
		v, err := tree(raw)
		if err != nil {
			return nil, fmt.Errorf("property %s of the cluster's record: %w", name, err)
		}
		out[name] = v
	}
	return out, nil
}

func encodeAll(m map[string]any) (map[string]json.RawMessage, error) {
	out := make(map[string]json.RawMessage, len(m))
	for name, v := range m {
		raw, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		out[name] = raw
	}
	return out, nil
}
