package cluster

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/gatehouse-k8s/gatehouse/internal/pki"
)

// Ports are chosen where nothing else hands them out: below the ports that Linux gives to outgoing connections
// (32768 on) and below those of NodePort services (30000 on). So the port that a kubeconfig names is, as a rule,
// still free after a restart.
const (
	firstPort = 20000
	portCount = 10000
)

// ports are a cluster's ports on 127.0.0.1.
type ports struct {
	API  int `json:"api"`
	Etcd int `json:"etcd"`
}

func (p ports) url() string { return "https://" + loopback(p.API) }

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func free(port int) bool {
	ln, err := net.Listen("tcp", loopback(port))
	if err != nil {
		return false
	}
	ln.Close()
	return true
}

// portBook remembers which ports belong to clusters, running or not, so that none is given to another.
type portBook struct {
	patience time.Duration // how long a start waits for the port that kubeconfigs name before it takes another

	mu    sync.Mutex
	taken map[int]bool
}

func (b *portBook) keep(p ports) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.taken == nil {
		b.taken = map[int]bool{}
	}
	b.taken[p.API], b.taken[p.Etcd] = true, true
}

func (b *portBook) release(p ports) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.taken, p.API)
	delete(b.taken, p.Etcd)
}

// choose returns a free port and keeps it.
func (b *portBook) choose() (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.taken == nil {
		b.taken = map[int]bool{}
	}
	for range 200 {
		n, err := rand.Int(rand.Reader, big.NewInt(portCount))
		if err != nil {
			return 0, err
		}
		port := firstPort + int(n.Int64())
		if !b.taken[port] && free(port) {
			b.taken[port] = true
			return port, nil
		}
	}
	return 0, fmt.Errorf("no free port among %d to %d on 127.0.0.1", firstPort, firstPort+portCount-1)
}

func readPorts(dir string) (ports, error) {
	var p ports
	text, err := os.ReadFile(filepath.Join(dir, "ports.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return p, fmt.Errorf("%s: %w; remove the file to have ports chosen anew", filepath.Join(dir, "ports.json"), err)
	}
	return p, nil
}

// claim returns the ports a cluster will use: those of last time if they are free. moved is the API server's
// earlier port if another program has it now; kubeconfigs that name it must be fetched again.
func (b *portBook) claim(ctx context.Context, dir string) (p ports, moved int, err error) {
	p, err = readPorts(dir)
	if err != nil {
		return p, 0, err
	}
	before := p
	if p.API != 0 {
		wait, cancel := context.WithTimeout(ctx, b.patience)
		for !free(p.API) {
			if !sleep(wait, step) {
				moved, p.API = p.API, 0
				break
			}
		}
		cancel()
		if err := ctx.Err(); err != nil {
			return p, 0, err
		}
	}
	if p.Etcd != 0 && !free(p.Etcd) {
		p.Etcd = 0
	}
	b.release(before)
	b.keep(p)
	for _, port := range []*int{&p.API, &p.Etcd} {
		if *port == 0 {
			if *port, err = b.choose(); err != nil {
				return p, moved, err
			}
		}
	}
	if p == before {
		return p, 0, nil
	}
	text, err := json.Marshal(p)
	if err != nil {
		return p, moved, err
	}
	return p, moved, pki.WriteFile(filepath.Join(dir, "ports.json"), text, 0o600)
}
