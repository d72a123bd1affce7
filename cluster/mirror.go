package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// mirror holds what a cluster has of one kind of object, a moment behind it. It lists and watches; when a watch
// ends, which the API server sees to every minute or two, it lists again, so that nothing missed stays missed.
type mirror[T any, P interface {
	*T
	meta() *meta
}] struct {
	client  *client
	path    string
	changed func() // called after each change, from one goroutine; must not block

	mu     sync.Mutex
	items  map[string]P // by key
	synced bool
}

// all returns what there is, and whether it has ever been listed. The map is the caller's, the objects are not.
func (m *mirror[T, P]) all() (map[string]P, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.items), m.synced
}

// run follows the cluster until the context ends.
func (m *mirror[T, P]) run(ctx context.Context) {
	const first, last = 50 * time.Millisecond, 2 * time.Second
	wait := first
	for {
		if err := m.round(ctx); err == nil {
			wait = first
		} else {
			wait = min(2*wait, last) // the API server is away
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

// round lists once and watches until the watch ends; that is no error.
func (m *mirror[T, P]) round(ctx context.Context) error {
	var all struct {
		Metadata struct {
			ResourceVersion string `json:"resourceVersion"`
		} `json:"metadata"`
		Items []P `json:"items"`
	}
	if err := m.client.get(ctx, m.path, &all); err != nil {
		return err
	}
	items := make(map[string]P, len(all.Items))
	for _, item := range all.Items {
		if item != nil {
			items[item.meta().key()] = item
		}
	}
	m.mu.Lock()
	m.items, m.synced = items, true
	m.mu.Unlock()
	m.changed()

	resp, err := m.client.send(ctx, http.MethodGet, m.path+"?watch=1&resourceVersion="+url.QueryEscape(all.Metadata.ResourceVersion), "", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return m.watch(resp.Body)
}

// watch applies the events of a watch until its end.
func (m *mirror[T, P]) watch(body io.Reader) error {
	events := json.NewDecoder(body)
	for {
		var e struct {
			Type   string          `json:"type"`
			Object json.RawMessage `json:"object"`
		}
		if err := events.Decode(&e); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		switch e.Type {
		case "ADDED", "MODIFIED", "DELETED":
		case "BOOKMARK":
			continue
		default: // ERROR, such as 410 Gone
			return fmt.Errorf("watch %s: %.300s", m.path, e.Object)
		}
		item := P(new(T))
		if err := json.Unmarshal(e.Object, item); err != nil {
			return fmt.Errorf("watch %s: %w", m.path, err)
		}
		m.mu.Lock()
		if e.Type == "DELETED" {
			delete(m.items, item.meta().key())
		} else {
			m.items[item.meta().key()] = item
		}
		m.mu.Unlock()
		m.changed()
	}
}

// bell can be rung any number of times before it is heard once.
type bell chan struct{}

func newBell() bell { return make(bell, 1) }

func (s bell) ring() {
	select {
	case s <- struct{}{}:
	default:
	}
}
