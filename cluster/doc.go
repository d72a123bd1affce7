// Package cluster brings clusters under management. It runs the embedded ones, as child processes of this one, and
// keeps in each what Gatehouse owns there: the bindings that admit people, and simulated nodes and pods.
//
//	Manager ── plane (one a cluster) ─┬─ process etcd ─ kube-apiserver ─ kube-controller-manager   (supervised)
//	                                  └─ client ── mirrors ─┬─ bindings   who is admin; which groups are bound at all
//	                                                        ├─ nodes      one simulated machine for each of a pool
//	                                                        └─ pods       a kubelet and a scheduler for these
//
// A cluster is a folder, DIR/<guid>, open to its owner alone:
//
//	pki/       a CA for each use (etcd, serving, clients, front-proxy), certificates, the service accounts' key
//	config/    what kube-apiserver and kube-controller-manager are told, rewritten at each start
//	etcd/      the cluster's state
//	log/       what each process printed, and audit.log
//	run/       which processes run, so that a later Gatehouse can end what an earlier one left
//	ports.json, accounts.json
//
// Nodes and pods are simulated by this package rather than by kwok: that would cost 100 MB of memory for each
// cluster and shows its own name in the place of the Kubernetes version.
package cluster
