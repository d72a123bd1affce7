package cluster

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-k8s/gatehouse/aks"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/internal/pki"
)

// How long processes get to stop by themselves. Killing an API server loses nothing, and etcd has all on disk.
const (
	serverGrace = 4 * time.Second
	etcdGrace   = 2 * time.Second
)

// plane is a cluster's control plane.
type plane struct {
	m    *Manager
	guid directory.ID
	layout
	log *slog.Logger

	busy   chan struct{} // holds one while an operation is on
	ready  atomic.Bool
	groups atomic.Pointer[groupSet] // never nil

	accountsKey atomic.Pointer[rsa.PublicKey] // verifies service account tokens; nil before the first start

	// Of the operation that is on.
	settings aks.Settings
	run      *running // nil when it does not run
}

// running is a control plane that runs.
type running struct {
	ports           ports
	cas             *authorities
	etcd, api, ctrl *process
	client          *client
	bindings        *bindings
	nodes           *nodes
	up              chan struct{} // closed when the API server was ready for the first time
	probe           bell          // rung when a process has started or ended

	ctx    context.Context // of everything that is not a process
	cancel context.CancelFunc
	loops  sync.WaitGroup
}

func newPlane(m *Manager, guid directory.ID) *plane {
	p := &plane{
		m: m, guid: guid, busy: make(chan struct{}, 1),
		layout: layout{filepath.Join(m.Dir, guid.String())},
		log:    m.Log.With("cluster", guid.String()),
	}
	p.groups.Store(new(groupSet))
	return p
}

func (p *plane) accounts() accounts { return accounts{p.path("accounts.json")} }

func (p *plane) apply(ctx context.Context, s aks.Settings) (aks.Endpoint, error) {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	began := time.Now()
	if p.run == nil {
		if err := p.start(ctx, s); err != nil {
			return aks.Endpoint{}, fmt.Errorf("start cluster %s: %w", p.guid, err)
		}
		p.log.Info("API server ready", "url", p.run.ports.url(), "after", time.Since(began).Round(time.Millisecond))
	}
	p.settings = s // also if this fails: what is off by intent hands out no credential
	if err := p.conform(ctx, s); err != nil {
		return aks.Endpoint{}, fmt.Errorf("cluster %s: %w", p.guid, err)
	}
	return aks.Endpoint{URL: p.run.ports.url(), CA: p.run.cas.serving.CertPEM()}, nil
}

// conform brings a running cluster to its settings.
func (p *plane) conform(ctx context.Context, s aks.Settings) error {
	// Accounts end in their file before they end in the cluster, so that a crash between the two leaves none behind.
	if !s.Local {
		if err := p.accounts().clear(); err != nil {
			return err
		}
	}
	all, err := p.accounts().read()
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	errs := make([]error, 3)
	wg.Go(func() {
		errs[0] = errors.Join(
			p.run.bindings.set(ctx, adminsBinding, adminsOf(s.AdminGroups)),
			p.run.bindings.set(ctx, localBinding, localsOf(s.Local, all)),
		)
	})
	wg.Go(func() { errs[1] = p.run.nodes.set(ctx, s) })
	wg.Go(func() { errs[2] = p.awaitControllers(ctx) })
	wg.Go(func() {
		// Scenery: whatever somebody did to kube-system must not stand in the way of who is let in.
		ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
		defer cancel()
		if err := ensureSystem(ctx, p.run.client); err != nil {
			p.log.Warn("some programs of kube-system are missing", "error", err)
		}
	})
	wg.Wait()
	select {
	case <-p.run.bindings.synced:
	case <-ctx.Done():
		errs = append(errs, fmt.Errorf("the cluster's bindings cannot be read: %w", ctx.Err()))
	}
	return errors.Join(errs...)
}

// start brings the processes up. After an error nothing runs.
func (p *plane) start(ctx context.Context, s aks.Settings) (err error) {
	if s.Tenant.IsZero() {
		return errors.New("its settings name no tenant")
	}
	for _, dir := range []string{"pki", "config", "etcd", "log", "run", "tmp"} {
		if err := os.MkdirAll(p.path(dir), 0o700); err != nil {
			return err
		}
	}
	if err := reap(ctx, p.path("run"), p.log); err != nil {
		return err
	}
	r := &running{up: make(chan struct{}), probe: newBell()}
	var moved int
	if r.ports, moved, err = p.m.ports.claim(ctx, p.dir); err != nil {
		return err
	}
	if moved != 0 {
		p.log.Warn("another program has the port of this cluster's API server, which has moved; kubeconfigs that name the old one must be fetched again with `az aks get-credentials`",
			"was", moved, "is", r.ports.API)
	}
	if r.cas, err = openAuthorities(p.path("pki"), p.guid.String()); err != nil {
		return err
	}
	etcdLeaves := r.cas.etcdLeaves()
	leaves := r.cas.leaves(func() (pki.KeyPair, error) { return p.m.Webhook.Issue(p.guid) })
	if err := r.cas.issue(etcdLeaves); err != nil {
		return err
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	p.run = r
	defer func() {
		if err != nil {
			p.stop(ctx)
		}
	}()

	r.etcd = p.process("etcd", etcdGrace, p.etcdFlags(r.ports))
	r.etcd.dir = p.path("etcd")
	r.etcd.start()

	// While etcd starts, everything else is written.
	keyDone := make(chan error, 1)
	go func() { keyDone <- serviceAccountKey(p.pki("service-accounts.key")) }()
	err = errors.Join(r.cas.issue(leaves), p.writeConfigs(r.ports, p.m.Webhook), <-keyDone)
	if err != nil {
		return err
	}
	public, err := readServiceAccountKey(p.pki("service-accounts.key"))
	if err != nil {
		return err
	}
	p.accountsKey.Store(public)
	if err := p.awaitEtcd(ctx); err != nil {
		return err
	}
	r.api = p.process("kube-apiserver", serverGrace, p.apiServerFlags(r.ports, p.m.ServiceAccountIssuer(s.Tenant, p.guid)))
	r.api.start()
	r.ctrl = p.process("kube-controller-manager", serverGrace, p.controllerManagerFlags())

	r.client = &client{url: r.ports.url(), tls: r.cas.adminTLS, now: p.m.Now}
	r.loops.Go(func() { p.watchReady(r) })
	if err := p.awaitReady(ctx); err != nil {
		return err
	}
	r.ctrl.start() // not sooner: it would only take the API server's share of the processors

	var version struct {
		GitVersion string `json:"gitVersion"`
	}
	if err := eventually(ctx, func() error { return r.client.get(ctx, "/version", &version) }); err != nil {
		return err
	}
	r.bindings = newBindings(r.client, &p.groups, p.log)
	r.nodes = &nodes{client: r.client, log: p.log, now: p.m.Now, version: version.GitVersion}
	pods := newPods(r.client, p.log, p.m.Now)
	r.loops.Go(func() { r.bindings.run(r.ctx) })
	r.loops.Go(func() { r.nodes.run(r.ctx) })
	r.loops.Go(func() { pods.run(r.ctx) })
	r.loops.Go(func() { r.cas.renew(r.ctx, append(etcdLeaves, leaves...), p.m.Now, p.log) })
	return nil
}

func (p *plane) process(name string, grace time.Duration, flags []string) *process {
	return &process{
		name: name, binary: p.m.KubeBinary, args: append([]string{name}, flags...), env: p.environment(),
		dir: p.dir, logDir: p.path("log"), runDir: p.path("run"),
		grace: grace, parent: p.m.parent, log: p.log, notify: p.run.probe.ring,
	}
}

// awaitEtcd returns when etcd takes connections; the API server would wait for it, but a second at a time.
func (p *plane) awaitEtcd(ctx context.Context) error {
	for {
		conn, err := net.DialTimeout("tcp", loopback(p.run.ports.Etcd), time.Second)
		if err == nil {
			return conn.Close()
		}
		if err := p.run.etcd.broken(); err != nil {
			return fmt.Errorf("etcd does not start: %w", err)
		}
		if !sleep(ctx, step) {
			return fmt.Errorf("etcd does not listen: %w", ctx.Err())
		}
	}
}

func (p *plane) awaitReady(ctx context.Context) error {
	for {
		select {
		case <-p.run.up:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("the API server does not become ready; see %s: %w", p.path("log", "kube-apiserver.log"), ctx.Err())
		case <-time.After(5 * step):
		}
		for _, proc := range []*process{p.run.etcd, p.run.api} {
			if err := proc.broken(); err != nil {
				return fmt.Errorf("%s does not start: %w", proc.name, err)
			}
		}
	}
}

// awaitControllers returns when the controller manager works: only then can a pod be made in a namespace.
func (p *plane) awaitControllers(ctx context.Context) error {
	for {
		err := p.run.client.get(ctx, "/api/v1/namespaces/default/serviceaccounts/default", nil)
		if err == nil {
			return nil
		}
		if err := p.run.ctrl.broken(); err != nil {
			return fmt.Errorf("%s does not start: %w", p.run.ctrl.name, err)
		}
		if !sleep(ctx, step) {
			return fmt.Errorf("the controller manager does not work; see %s: %w", p.path("log", "kube-controller-manager.log"), err)
		}
	}
}

// watchReady keeps p.ready: it looks in short steps while the API server is not ready, else now and then and when a process has
// started or ended.
func (p *plane) watchReady(r *running) {
	defer p.ready.Store(false)
	for up := false; ; {
		ctx, cancel := context.WithTimeout(r.ctx, 2*time.Second)
		resp, err := r.client.send(ctx, "GET", "/readyz", "", nil)
		if err == nil {
			resp.Body.Close()
		}
		cancel()
		p.ready.Store(err == nil)
		wait := 2 * step
		if err == nil {
			wait = 2 * time.Second
			if !up {
				up = true
				close(r.up)
			}
		}
		select {
		case <-r.ctx.Done():
			return
		case <-r.probe:
			p.ready.Store(false)
		case <-time.After(wait):
		}
	}
}

// stop ends everything that runs, the API server before etcd. The context bounds how gently.
func (p *plane) stop(ctx context.Context) {
	r := p.run
	if r == nil {
		return
	}
	p.run = nil
	r.cancel()
	r.loops.Wait()
	var wg sync.WaitGroup
	for _, proc := range []*process{r.ctrl, r.api} {
		if proc != nil && proc.done != nil {
			wg.Go(func() { proc.stop(ctx) })
		}
	}
	wg.Wait()
	if r.etcd != nil {
		r.etcd.stop(ctx)
	}
	if r.client != nil {
		r.client.close()
	}
	p.ready.Store(false)
	p.groups.Store(p.groups.Load().next(nil))
}

// shutdown is stop for a caller who is no operation: it waits for the one that is on, whose context has ended. If that
// takes too long, the processes end with the pipe that the Manager closes after this.
func (p *plane) shutdown(ctx context.Context) {
	select {
	case p.busy <- struct{}{}:
		p.stop(ctx)
		<-p.busy
	case <-ctx.Done():
		p.log.Warn("an operation does not end; cutting the cluster off")
	}
}

// remove stops the cluster and removes its folder, in a way that the next start finishes if this one cannot.
func (p *plane) remove(ctx context.Context) error {
	p.stop(ctx)
	p.settings = aks.Settings{}
	if _, err := os.Stat(p.dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := reap(ctx, p.path("run"), p.log); err != nil {
		return err
	}
	had, err := readPorts(p.dir)
	if err == nil {
		p.m.ports.release(had)
	}
	going := filepath.Join(p.m.Dir, doomed+p.guid.String())
	if err := os.RemoveAll(going); err != nil {
		return err
	}
	if err := os.Rename(p.dir, going); err != nil {
		return err
	}
	return os.RemoveAll(going)
}

// local makes a credential and returns it when it works.
func (p *plane) local(ctx context.Context) (aks.Credential, error) {
	if p.run == nil {
		return aks.Credential{}, fault.New(fault.Unavailable, "the cluster's API server does not run at present; try again in some seconds")
	}
	if !p.settings.Local {
		return aks.Credential{}, fault.New(fault.Conflict, "local accounts of this cluster are off; switch them on first with `az aks update --enable-local-accounts`")
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	id, all, err := p.accounts().add(p.m.Now())
	if err != nil {
		return aks.Credential{}, err
	}
	if err := p.run.bindings.set(ctx, localBinding, localsOf(true, all)); err != nil {
		return aks.Credential{}, err
	}
	pair, err := p.run.cas.localUser(id)
	if err != nil {
		return aks.Credential{}, err
	}
	return aks.Credential{CertPEM: pair.CertPEM, KeyPEM: pair.KeyPEM}, nil
}

// rotate makes the next start use CAs of its own. The service accounts' key is another matter and stays, as in AKS.
func (p *plane) rotate(ctx context.Context) error {
	p.stop(ctx)
	if err := p.accounts().clear(); err != nil { // their certificates are worth nothing now
		return err
	}
	old, err := filepath.Glob(p.pki("*.crt"))
	if err != nil {
		return err
	}
	for _, cert := range old {
		key := cert[:len(cert)-len(".crt")] + ".key"
		// The certificate goes first: pki takes a CA without one as not made yet, and writes both anew.
		if err := errors.Join(os.Remove(cert), ignoreMissing(os.Remove(key))); err != nil {
			return err
		}
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
