package cluster

import (
	"path/filepath"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/aks"
)

const (
	adminName      = "gatehouse:admin" // Gatehouse itself
	localPrefix    = aks.LocalUserPrefix
	frontProxyName = "front-proxy-client"
)

// controllers are those that a cluster without machines, volumes and a cloud has use for. Those that sign or approve
// certificate requests are left out on purpose: with them, whoever may approve one could make himself a certificate
// that Gatehouse knows nothing of. So is the one that watches nodes: simulated ones fail with Gatehouse or not at all.
var controllers = []string{
	"clusterrole-aggregation-controller",
	"cronjob-controller",
	"daemonset-controller",
	"deployment-controller",
	"disruption-controller",
	"endpoints-controller",
	"endpointslice-controller",
	"garbage-collector-controller",
	"job-controller",
	"namespace-controller",
	"persistentvolume-protection-controller",
	"persistentvolumeclaim-protection-controller",
	"pod-garbage-collector-controller",
	"replicaset-controller",
	"replicationcontroller-controller",
	"resourcequota-controller",
	"root-ca-certificate-publisher-controller",
	"service-cidr-controller",
	"serviceaccount-controller",
	"serviceaccount-token-controller",
	"statefulset-controller",
	"taint-eviction-controller",
	"ttl-after-finished-controller",
	"validatingadmissionpolicy-status-controller",
}

// layout names the files of a cluster's folder.
type layout struct{ dir string }

func (l layout) path(elem ...string) string {
	return filepath.Join(append([]string{l.dir}, elem...)...)
}
func (l layout) pki(name string) string    { return l.path("pki", name) }
func (l layout) config(name string) string { return l.path("config", name) }

// environment is all that the children see: nothing of ours reaches them, above all no proxy and no credential.
func (l layout) environment() []string {
	return []string{
		"PATH=/usr/local/bin:/usr/bin:/bin",
		"HOME=" + l.path("tmp"),
		"TMPDIR=" + l.path("tmp"),
		"LANG=C.UTF-8",
	}
}

// etcdFlags lets clients in over TLS with a certificate of the cluster's etcd CA. There are no peers; etcd insists on
// listening for them, so it does at a socket in its own folder (a path relative to its working folder).
func (l layout) etcdFlags(p ports) []string {
	const peer = "unixs://localhost:0"
	return []string{
		"--name=default",
		"--data-dir=" + l.path("etcd", "data"),
		"--listen-client-urls=https://" + loopback(p.Etcd),
		"--advertise-client-urls=https://" + loopback(p.Etcd),
		"--client-cert-auth=true",
		"--trusted-ca-file=" + l.pki("etcd-ca.crt"),
		"--cert-file=" + l.pki("etcd.crt"),
		"--key-file=" + l.pki("etcd.key"),
		"--listen-peer-urls=" + peer,
		"--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=default=" + peer,
		"--peer-client-cert-auth=true",
		"--peer-trusted-ca-file=" + l.pki("etcd-ca.crt"),
		"--peer-cert-file=" + l.pki("etcd-peer.crt"),
		"--peer-key-file=" + l.pki("etcd-peer.key"),
		"--enable-grpc-gateway=false",
		"--tls-min-version=TLS1.2",
		"--log-level=warn",
		"--log-outputs=stderr",
	}
}

// apiServerFlags: authentication and authorization beyond these are in the files that configs renders.
func (l layout) apiServerFlags(p ports, issuer string) []string {
	return []string{
		"--bind-address=127.0.0.1",
		"--secure-port=" + portOf(p.API),
		"--advertise-address=127.0.0.1",
		"--endpoint-reconciler-type=none", // a loopback address is no endpoint; without this it complains every 10 s
		"--tls-cert-file=" + l.pki("serving.crt"),
		"--tls-private-key-file=" + l.pki("serving.key"),
		"--tls-min-version=VersionTLS12",
		"--profiling=false",
		"--service-cluster-ip-range=" + serviceNet,

		"--etcd-servers=https://" + loopback(p.Etcd),
		"--etcd-cafile=" + l.pki("etcd-ca.crt"),
		"--etcd-certfile=" + l.pki("etcd-client.crt"),
		"--etcd-keyfile=" + l.pki("etcd-client.key"),

		"--client-ca-file=" + l.pki("clients-ca.crt"),
		"--authentication-config=" + l.config("authentication.json"),
		"--authentication-token-webhook-config-file=" + l.config("token-webhook.json"),
		"--authentication-token-webhook-version=v1",
		"--authentication-token-webhook-cache-ttl=2s",
		"--authorization-config=" + l.config("authorization.json"),
		"--requestheader-client-ca-file=" + l.pki("front-proxy-ca.crt"),
		"--requestheader-allowed-names=" + frontProxyName,
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + l.pki("front-proxy.crt"),
		"--proxy-client-key-file=" + l.pki("front-proxy.key"),
		"--min-request-timeout=60", // a watch is decided once, at its start; this bounds how long that holds

		"--service-account-issuer=" + issuer,
		"--service-account-jwks-uri=" + strings.TrimSuffix(issuer, "/") + "/openid/v1/jwks",
		"--service-account-key-file=" + l.pki("service-accounts.key"),
		"--service-account-signing-key-file=" + l.pki("service-accounts.key"),

		"--enable-admission-plugins=NodeRestriction",
		"--disable-admission-plugins=TaintNodesByCondition", // taints new nodes until a controller that does not run here has looked at them
		"--egress-selector-config-file=" + l.config("egress.json"),

		"--audit-policy-file=" + l.config("audit-policy.json"),
		"--audit-log-path=" + l.path("log", "audit.log"),
		"--audit-log-maxsize=50", // MiB
		"--audit-log-maxbackup=5",
		"--audit-log-maxage=90", // days
	}
}

func (l layout) controllerManagerFlags() []string {
	return []string{
		"--kubeconfig=" + l.config("controller-manager.json"),
		"--secure-port=0", // serves nothing: nobody asks it
		"--leader-elect=false",
		"--profiling=false",
		"--use-service-account-credentials=true",
		"--kube-api-qps=200", // with the default of 20 its start takes 2 s longer
		"--kube-api-burst=300",
		"--service-account-private-key-file=" + l.pki("service-accounts.key"),
		"--root-ca-file=" + l.pki("serving-ca.crt"),
		"--controllers=" + strings.Join(controllers, ","),
	}
}
