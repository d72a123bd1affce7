package cluster

import "context"

// workload is one of the programs that AKS runs in kube-system. Here each is a real Deployment or DaemonSet, whose
// pods are simulated like all others.
type workload struct {
	name       string
	replicas   int // 0: one on each node
	containers []string
	host       bool // in the node's network
	port       int  // of its service; 0 without
	serviceIP  string
	service    string
}

var system = []workload{
	{name: "azure-ip-masq-agent", containers: []string{"azure-ip-masq-agent"}, host: true},
	{name: "cloud-node-manager", containers: []string{"cloud-node-manager"}, host: true},
	{name: "coredns", replicas: 2, containers: []string{"coredns"}, port: 53, service: "kube-dns", serviceIP: dnsIP},
	{name: "coredns-autoscaler", replicas: 1, containers: []string{"autoscaler"}},
	{name: "konnectivity-agent", replicas: 2, containers: []string{"konnectivity-agent"}},
	{name: "kube-proxy", containers: []string{"kube-proxy"}, host: true},
	{name: "metrics-server", replicas: 2, containers: []string{"metrics-server", "metrics-server-vpa"}, port: 443, service: "metrics-server"},
}

const (
	kubeSystem = "/namespaces/kube-system/"
	imageRepo  = "mcr.microsoft.com/oss/kubernetes/"
)

// object returns the Deployment or DaemonSet, and the collection it belongs to.
func (w workload) object() (path string, o object) {
	labels := object{"k8s-app": w.name}
	var containers list
	for _, name := range w.containers {
		containers = append(containers, object{"name": name, "image": imageRepo + name + ":simulated"})
	}
	spec := object{
		"selector": object{"matchLabels": labels},
		"template": object{
			"metadata": object{
				"labels":      object{"k8s-app": w.name, "kubernetes.azure.com/managedby": "aks", simulated: "true"},
				"annotations": object{simulated: "true"},
			},
			"spec": object{
				"serviceAccountName":           w.name,
				"automountServiceAccountToken": false,
				"priorityClassName":            "system-node-critical",
				"hostNetwork":                  w.host,
				"tolerations":                  list{object{"operator": "Exists"}},
				"containers":                   containers,
			},
		},
	}
	o = object{
		"apiVersion": "apps/v1", "kind": "DaemonSet",
		"metadata": object{"name": w.name, "namespace": "kube-system", "labels": object{"k8s-app": w.name, "kubernetes.azure.com/managedby": "aks", simulated: "true"}},
		"spec":     spec,
	}
	path = "/apis/apps/v1" + kubeSystem + "daemonsets"
	if w.replicas > 0 {
		o["kind"], spec["replicas"] = "Deployment", w.replicas
		path = "/apis/apps/v1" + kubeSystem + "deployments"
	}
	return path, o
}

// ensureSystem makes what is missing of the programs in kube-system. What a person has changed there stays changed.
func ensureSystem(ctx context.Context, c *client) error {
	ensure := func(path string, o object) error {
		return eventually(ctx, func() error {
			// Looking first, because of what exists Kubernetes may say that its address is taken before it says that it exists.
			err := c.get(ctx, path+"/"+o["metadata"].(object)["name"].(string), nil)
			if isNotFound(err) {
				err = c.create(ctx, path, o, nil)
			}
			if isNotFound(err) { // the API server makes the namespace soon after its start
				return &statusError{Code: 503, Message: err.Error()}
			}
			return err
		})
	}
	names := []string{}
	byName := map[string]workload{}
	for _, w := range system {
		names = append(names, w.name)
		byName[w.name] = w
	}
	return each(names, func(name string) error {
		w := byName[name]
		account := object{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": object{"name": w.name}}
		if err := ensure("/api/v1"+kubeSystem+"serviceaccounts", account); err != nil {
			return err
		}
		path, o := w.object()
		if err := ensure(path, o); err != nil {
			return err
		}
		if w.service == "" {
			return nil
		}
		ports := list{object{"name": "main", "port": w.port, "protocol": "TCP"}}
		if w.port == 53 {
			ports = list{object{"name": "dns", "port": 53, "protocol": "UDP"}, object{"name": "dns-tcp", "port": 53, "protocol": "TCP"}}
		}
		spec := object{"selector": object{"k8s-app": w.name}, "ports": ports}
		if w.serviceIP != "" {
			spec["clusterIP"] = w.serviceIP
		}
		return ensure("/api/v1"+kubeSystem+"services", object{
			"apiVersion": "v1", "kind": "Service", "metadata": object{"name": w.service, "labels": object{"k8s-app": w.name}}, "spec": spec,
		})
	})
}
