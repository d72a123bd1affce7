package cluster

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-k8s/gatehouse/aks"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/internal/pki"
)

// WebhookTarget says how an API server reaches Gatehouse's webhooks.
type WebhookTarget struct {
	URL string // https://HOST:PORT
	CA  []byte // PEM of what signed the listener's certificate

	// Issue makes the client certificate that tells the webhook listener which cluster asks. It is called at each
	// start of the cluster and again before the certificate expires.
	Issue func(guid directory.ID) (pki.KeyPair, error)
}

// Manager runs the embedded clusters. It implements aks.ControlPlanes. Its fields are set before Start and not changed after.
type Manager struct {
	Dir        string // holds a folder for each cluster; the caller sees to it that no other process manages it
	KubeBinary string // gatehouse-kube; empty: there is none, and Apply says so
	Webhook    WebhookTarget

	// ServiceAccountIssuer returns the https URL that a cluster's service account tokens name as their issuer.
	ServiceAccountIssuer func(tenant, guid directory.ID) string

	Log *slog.Logger     // nil: none
	Now func() time.Time // nil: time.Now

	ctx    context.Context // ends with Stop
	cancel context.CancelFunc
	parent *os.File // what children hold; they end when alive is closed, by us or by our death
	alive  *os.File
	ports  portBook

	mu      sync.Mutex // held while planes is replaced
	planes  atomic.Pointer[map[directory.ID]*plane]
	running bool // between Start and Stop
}

var _ aks.ControlPlanes = (*Manager)(nil)

const (
	doomed    = ".deleted-"      // before the name of a folder whose removal was begun
	startTime = 90 * time.Second // for a cluster to come up, on a machine that has much else to do
)

// errStopped answers calls around Start and Stop.
var errStopped = fault.New(fault.Unavailable, "clusters are not running here at present; try again in some seconds")

// Start ends what an earlier run may have left behind and prepares for Apply. It starts no cluster: whoever keeps their
// settings calls Apply for each.
func (m *Manager) Start(ctx context.Context) error {
	if m.Log == nil {
		m.Log = slog.New(slog.DiscardHandler)
	}
	if m.Now == nil {
		m.Now = time.Now
	}
	if m.KubeBinary == "" {
		m.Log.Warn("gatehouse-kube was not found: clusters cannot run")
	} else if err := m.findBinary(); err != nil {
		return err
	}
	if err := os.MkdirAll(m.Dir, 0o700); err != nil {
		return err
	}
	if err := m.sweep(ctx); err != nil {
		return fmt.Errorf("clusters: %w", err)
	}
	parent, alive, err := os.Pipe()
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.parent, m.alive = parent, alive
	m.ports.patience = 5 * time.Second
	m.planes.Store(&map[directory.ID]*plane{})
	m.running = true
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return nil
}

func (m *Manager) findBinary() error {
	info, err := os.Stat(m.KubeBinary)
	if err != nil || info.IsDir() {
		return fmt.Errorf("gatehouse-kube, the Kubernetes that clusters run, is not at %q; run `make build`, or name it with --kube-binary or GATEHOUSE_KUBE", m.KubeBinary)
	}
	path, err := filepath.Abs(m.KubeBinary) // children work in folders of their own
	if err != nil {
		return err
	}
	m.KubeBinary = path
	return nil
}

// sweep ends leftover processes, finishes deletions and learns which ports clusters have.
func (m *Manager) sweep(ctx context.Context) error {
	entries, err := os.ReadDir(m.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		dir := filepath.Join(m.Dir, e.Name())
		_, err := directory.ParseID(strings.TrimPrefix(e.Name(), doomed))
		if !e.IsDir() || err != nil {
			continue
		}
		if err := reap(ctx, filepath.Join(dir, "run"), m.Log); err != nil {
			return err
		}
		if strings.HasPrefix(e.Name(), doomed) {
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
			continue
		}
		p, err := readPorts(dir)
		if err != nil {
			return err
		}
		m.ports.keep(p)
	}
	return nil
}

// Stop ends all clusters, side by side, and keeps their state. It takes less than 10 s, or until the context ends.
func (m *Manager) Stop(ctx context.Context) error {
	m.mu.Lock()
	running := m.running
	m.running = false
	m.mu.Unlock()
	if !running {
		return nil
	}
	m.cancel()
	ctx, cancel := context.WithTimeout(ctx, 9*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for _, p := range *m.planes.Load() {
		wg.Go(func() { p.shutdown(ctx) })
	}
	wg.Wait()
	return errors.Join(m.alive.Close(), m.parent.Close())
}

// plane returns the cluster, which need not exist yet.
func (m *Manager) plane(guid directory.ID) (*plane, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.running {
		return nil, errStopped
	}
	planes := *m.planes.Load()
	p := planes[guid]
	if p == nil {
		p = newPlane(m, guid)
		planes = maps.Clone(planes)
		planes[guid] = p
		m.planes.Store(&planes)
	}
	return p, nil
}

// known returns a cluster that there has been a call for, or nil. It takes no lock: webhooks ask at each request.
func (m *Manager) known(guid directory.ID) *plane {
	planes := m.planes.Load()
	if planes == nil {
		return nil
	}
	return (*planes)[guid]
}

// begin takes a cluster for one operation. The operation's context ends with the Manager too. The caller calls end.
func (m *Manager) begin(ctx context.Context, guid directory.ID) (_ *plane, _ context.Context, end func(), err error) {
	p, err := m.plane(guid)
	if err != nil {
		return nil, nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	detach := context.AfterFunc(m.ctx, cancel)
	end = func() { detach(); cancel() }
	select {
	case p.busy <- struct{}{}:
		release := end
		end = func() { <-p.busy; release() }
	case <-ctx.Done():
	}
	if m.ctx.Err() != nil { // also if the cluster was free: it must not start once Stop has been there
		end()
		return nil, nil, nil, errStopped
	}
	if err := ctx.Err(); err != nil {
		end()
		return nil, nil, nil, fmt.Errorf("cluster %s: %w", guid, err)
	}
	return p, ctx, end, nil
}

// Apply implements aks.ControlPlanes.
func (m *Manager) Apply(ctx context.Context, s aks.Settings) (aks.Endpoint, error) {
	p, ctx, end, err := m.begin(ctx, s.GUID)
	if err != nil {
		return aks.Endpoint{}, err
	}
	defer end()
	if m.KubeBinary == "" {
		return aks.Endpoint{}, fault.New(fault.Unavailable, "gatehouse-kube, the Kubernetes that clusters run, was not found; run `make build`, or name it with --kube-binary or GATEHOUSE_KUBE, and start again")
	}
	return p.apply(ctx, s)
}

// Delete implements aks.ControlPlanes.
func (m *Manager) Delete(ctx context.Context, guid directory.ID) error {
	p, ctx, end, err := m.begin(ctx, guid)
	if err != nil {
		return err
	}
	defer end()
	if err := p.remove(ctx); err != nil {
		return fmt.Errorf("delete cluster %s: %w", guid, err)
	}
	return nil
}

// Local implements aks.ControlPlanes.
func (m *Manager) Local(ctx context.Context, guid directory.ID) (aks.Credential, error) {
	p, ctx, end, err := m.begin(ctx, guid)
	if err != nil {
		return aks.Credential{}, err
	}
	defer end()
	return p.local(ctx)
}

// Rotate implements aks.ControlPlanes.
func (m *Manager) Rotate(ctx context.Context, s aks.Settings) (aks.Endpoint, error) {
	p, ctx, end, err := m.begin(ctx, s.GUID)
	if err != nil {
		return aks.Endpoint{}, err
	}
	defer end()
	if err := p.rotate(ctx); err != nil {
		return aks.Endpoint{}, fmt.Errorf("rotate the certificates of cluster %s: %w", s.GUID, err)
	}
	return p.apply(ctx, s)
}

// ServiceAccountKeys implements aks.ControlPlanes.
func (m *Manager) ServiceAccountKeys(guid directory.ID) ([]*rsa.PublicKey, error) {
	if p := m.known(guid); p != nil {
		if key := p.accountsKey.Load(); key != nil {
			return []*rsa.PublicKey{key}, nil
		}
	}
	return nil, fault.New(fault.Unavailable, "the cluster has not been started here yet; try again in some seconds")
}

// Ready reports whether a cluster's API server answers at present.
func (m *Manager) Ready(guid directory.ID) bool {
	p := m.known(guid)
	return p != nil && p.ready.Load()
}

// BoundGroups returns which groups the RoleBindings and ClusterRoleBindings of a cluster name, a moment behind it, and
// a revision that changes with that set. It is cheap; has stays as it is and may be kept. Of a cluster that does not
// run here it knows no group.
func (m *Manager) BoundGroups(guid directory.ID) (has func(directory.ID) bool, revision int64) {
	set := new(groupSet)
	if p := m.known(guid); p != nil {
		set = p.groups.Load()
	}
	return set.has, set.revision
}
