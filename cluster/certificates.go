package cluster

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/gatehouse-k8s/gatehouse/internal/pki"
)

const (
	leafLife  = 365 * 24 * time.Hour // of the control plane's own certificates, which are renewed while it runs
	adminLife = time.Hour            // of Gatehouse's own, which exists in memory only
	localLife = 2 * 365 * 24 * time.Hour
)

// The first address of the service network is the API server's, by Kubernetes's rule; AKS has the same network.
const (
	serviceNet = "10.0.0.0/16"
	serviceIP  = "10.0.0.1"
	dnsIP      = "10.0.0.10"
)

// authorities are a cluster's CAs. Each vouches for one thing, so that no certificate of one is good for another.
type authorities struct {
	dir                                string
	etcd, serving, clients, frontProxy *pki.Authority
}

func openAuthorities(dir, cluster string) (*authorities, error) {
	a := &authorities{dir: dir}
	for _, ca := range []struct {
		at   **pki.Authority
		name string
	}{
		{&a.etcd, "etcd-ca"},
		{&a.serving, "serving-ca"},
		{&a.clients, "clients-ca"},
		{&a.frontProxy, "front-proxy-ca"},
	} {
		var err error
		if *ca.at, err = pki.Open(dir, ca.name, ca.name+" of cluster "+cluster, nil); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func (a *authorities) file(name string) string { return filepath.Join(a.dir, name) }

// leaf is a certificate that lives in two files. Its users read them again when they change, so that renewing needs no restart.
type leaf struct {
	name  string // NAME.crt and NAME.key
	issue func() (pki.KeyPair, error)
}

func (a *authorities) etcdLeaves() []leaf {
	loop := []net.IP{net.IPv4(127, 0, 0, 1)}
	return []leaf{
		by("etcd", a.etcd, pki.Request{CommonName: "etcd", IPs: loop, Server: true}),
		by("etcd-peer", a.etcd, pki.Request{CommonName: "etcd-peer", DNSNames: []string{"localhost"}, Server: true, Client: true}),
		by("etcd-client", a.etcd, pki.Request{CommonName: "kube-apiserver", Client: true}),
	}
}

func (a *authorities) leaves(webhook func() (pki.KeyPair, error)) []leaf {
	return []leaf{
		by("serving", a.serving, pki.Request{
			CommonName: "kube-apiserver",
			DNSNames:   []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
			IPs:        []net.IP{net.IPv4(127, 0, 0, 1), net.ParseIP(serviceIP)},
			Server:     true,
		}),
		by("front-proxy", a.frontProxy, pki.Request{CommonName: frontProxyName, Client: true}),
		by("controller-manager", a.clients, pki.Request{CommonName: "system:kube-controller-manager", Client: true}),
		{"webhook", webhook},
	}
}

func by(name string, ca *pki.Authority, r pki.Request) leaf {
	r.Lifetime = leafLife
	return leaf{name, func() (pki.KeyPair, error) { return ca.Issue(r) }}
}

// issue writes certificates anew.
func (a *authorities) issue(leaves []leaf) error {
	for _, l := range leaves {
		pair, err := l.issue()
		if err != nil {
			return err
		}
		if err := pair.WriteFiles(a.file(l.name+".crt"), a.file(l.name+".key")); err != nil {
			return err
		}
	}
	return nil
}

// renew keeps certificates fresh until the context ends.
func (a *authorities) renew(ctx context.Context, leaves []leaf, now func() time.Time, log *slog.Logger) {
	for sleep(ctx, time.Hour) {
		for _, l := range leaves {
			if a.fresh(l, now()) {
				continue
			}
			if err := a.issue([]leaf{l}); err != nil {
				log.Error("certificate not renewed, trying again in an hour", "certificate", l.name, "error", err)
			}
		}
	}
}

// fresh reports whether a certificate on disk has more than a third of its life before it.
func (a *authorities) fresh(l leaf, now time.Time) bool {
	text, err := os.ReadFile(a.file(l.name + ".crt"))
	if err != nil {
		return false
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return false
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	return err == nil && now.Before(cert.NotAfter.Add(-cert.NotAfter.Sub(cert.NotBefore)/3))
}

// serviceAccountKey makes the key that signs service account tokens, unless it exists. It is RSA because the
// verifiers of such tokens outside a cluster ask for RS256.
func serviceAccountKey(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return pki.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

// readServiceAccountKey returns the public half of the key in a file.
func readServiceAccountKey(path string) (*rsa.PublicKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM block", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	private, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s holds a %T, not an RSA key", path, key)
	}
	return &private.PublicKey, nil
}

// adminTLS is how Gatehouse itself signs in to a cluster: with a certificate that is made at need, lives for an hour
// and is never written down. It carries system:masters, because whoever is admin of a cluster can delete every
// binding in it and Gatehouse must be able to put its own back.
func (a *authorities) adminTLS() (*tls.Config, error) {
	pair, err := a.clients.Issue(pki.Request{CommonName: adminName, Organizations: []string{"system:masters"}, Client: true, Lifetime: adminLife})
	if err != nil {
		return nil, err
	}
	cert, err := pair.TLS()
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: a.serving.Pool(), Certificates: []tls.Certificate{cert}}, nil
}

// localUser issues the certificate of a local account. It names no group: what it may do hangs on a binding that can
// be withdrawn.
func (a *authorities) localUser(id string) (pki.KeyPair, error) {
	pair, err := a.clients.Issue(pki.Request{CommonName: localPrefix + id, Client: true, Lifetime: localLife})
	if err != nil {
		return pair, fmt.Errorf("local account: %w", err)
	}
	return pair, nil
}
