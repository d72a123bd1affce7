package cluster

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/internal/pki"
)

// object is a Kubernetes object, or a part of one, that is only ever written.
type object = map[string]any

// list is a JSON array in one.
type list = []any

// The paths of the webhooks, which package webhook serves.
const (
	authenticatePath = "/webhook/authenticate"
	authorizePath    = "/webhook/authorize"
)

// noKubelet is a socket that does not exist: what the API server dials for logs, exec and proxies. Kubernetes has no
// way to forbid these; its error then shows this path, so it is a sentence. Without it the API server would call
// whatever real machine has the address of a simulated node or pod.
const noKubelet = "/proc/nodes-and-pods-of-this-cluster-are-simulated"

// configs renders the files that the API server and the controller manager read. They are written in JSON, which
// these programs accept wherever their documents say YAML.
func (l layout) configs(p ports, hook WebhookTarget) map[string]object {
	return map[string]object{
		"authentication.json": {
			"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
			"anonymous": object{"enabled": true, "conditions": list{
				object{"path": "/livez"}, object{"path": "/readyz"}, object{"path": "/healthz"},
			}},
		},
		"authorization.json": {
			"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration",
			"authorizers": list{
				// Only principals of the directory and local accounts: everybody else goes on when Gatehouse is away.
				l.accessWebhook("gatehouse", "Deny", "has(request.extra) && 'oid' in request.extra"),
				// Whoever holds a local account could bind it once more, by its name, in a way that outlives the binding that
				// Gatehouse takes away. So Gatehouse is asked as well; while it is away, its binding is what counts.
				l.accessWebhook("gatehouse-local", "NoOpinion", "request.user.startsWith('"+localPrefix+"')"),
				object{"type": "Node", "name": "node"},
				object{"type": "RBAC", "name": "rbac"},
			},
		},
		"token-webhook.json":      kubeconfig(hook.URL+authenticatePath, hook.CA, l.pki("webhook")),
		"access-webhook.json":     kubeconfig(hook.URL+authorizePath, hook.CA, l.pki("webhook")),
		"controller-manager.json": kubeconfigFile(p.url(), l.pki("serving-ca.crt"), l.pki("controller-manager")),
		"egress.json": {
			"apiVersion": "apiserver.k8s.io/v1beta1", "kind": "EgressSelectorConfiguration",
			"egressSelections": list{object{"name": "cluster", "connection": object{
				"proxyProtocol": "HTTPConnect", "transport": object{"uds": object{"udsName": noKubelet}},
			}}},
		},
		"audit-policy.json": auditPolicy(),
	}
}

// accessWebhook asks Gatehouse about the requests that a CEL expression selects.
func (l layout) accessWebhook(name, failurePolicy, expression string) object {
	return object{"type": "Webhook", "name": name, "webhook": object{
		"subjectAccessReviewVersion":               "v1",
		"matchConditionSubjectAccessReviewVersion": "v1",
		"failurePolicy":                            failurePolicy,
		"timeout":                                  "3s",
		"authorizedTTL":                            "2s",
		"unauthorizedTTL":                          "2s",
		"connectionInfo":                           object{"type": "KubeConfigFile", "kubeConfigFile": l.config("access-webhook.json")},
		"matchConditions":                          list{object{"expression": expression}},
	}}
}

// auditPolicy records who did what and never a body, so that no secret and no token reaches the log. What the
// control plane reads for itself, and the beating of simulated hearts, would only bury the rest.
func auditPolicy() object {
	ours := list{adminName, "system:apiserver", "system:kube-controller-manager"}
	return object{
		"apiVersion": "audit.k8s.io/v1", "kind": "Policy",
		"omitStages": list{"RequestReceived"},
		"rules": list{
			object{"level": "None", "nonResourceURLs": list{"/livez*", "/readyz*", "/healthz*"}},
			object{"level": "None", "users": ours, "verbs": list{"get", "list", "watch"}},
			object{"level": "None", "users": list{adminName}, "resources": list{
				object{"group": "coordination.k8s.io", "resources": list{"leases"}},
				object{"group": "", "resources": list{"nodes/status", "pods/status"}},
			}},
			object{"level": "Metadata"},
		},
	}
}

func kubeconfig(server string, ca []byte, pair string) object {
	return renderKubeconfig(object{"server": server, "certificate-authority-data": base64.StdEncoding.EncodeToString(ca)}, pair)
}

func kubeconfigFile(server, ca, pair string) object {
	return renderKubeconfig(object{"server": server, "certificate-authority": ca}, pair)
}

// renderKubeconfig names key and certificate by file, which its readers follow when they are renewed.
func renderKubeconfig(cluster object, pair string) object {
	return object{
		"apiVersion": "v1", "kind": "Config",
		"clusters":        list{object{"name": "it", "cluster": cluster}},
		"users":           list{object{"name": "me", "user": object{"client-certificate": pair + ".crt", "client-key": pair + ".key"}}},
		"contexts":        list{object{"name": "it", "context": object{"cluster": "it", "user": "me"}}},
		"current-context": "it",
	}
}

func (l layout) writeConfigs(p ports, hook WebhookTarget) error {
	for name, content := range l.configs(p, hook) {
		text, err := json.MarshalIndent(content, "", "  ")
		if err != nil {
			return err
		}
		if err := pki.WriteFile(l.config(name), append(text, '\n'), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func portOf(n int) string { return strconv.Itoa(n) }

// labelValue is a value as Kubernetes accepts it for a label, or nothing.
func labelValue(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == '.':
			return r
		}
		return '-'
	}, s)
	if len(s) > 63 {
		s = s[:63]
	}
	return strings.Trim(s, "-_.")
}
