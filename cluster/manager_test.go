package cluster

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-k8s/gatehouse/aks"
	"github.com/gatehouse-k8s/gatehouse/fault"
)

// anyFile stands for gatehouse-kube where nothing is started.
func anyFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gatehouse-kube")
	if err := os.WriteFile(path, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestStartFinishesDeletions(t *testing.T) {
	dir := t.TempDir()
	keep, doom := newID(t).String(), doomed+newID(t).String()
	for _, path := range []string{keep, doom, ".deleted-by-hand", "notes"} {
		if err := os.MkdirAll(filepath.Join(dir, path, "pki"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, keep, "ports.json"), []byte(`{"api":20007,"etcd":20008}`), 0o600); err != nil {
		t.Fatal(err)
	}
	m := &Manager{Dir: dir, KubeBinary: anyFile(t)}
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer m.Stop(t.Context())
	for path, want := range map[string]bool{keep: true, doom: false, ".deleted-by-hand": true, "notes": true} {
		if _, err := os.Stat(filepath.Join(dir, path)); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
	if !m.ports.taken[20007] || !m.ports.taken[20008] {
		t.Error("the ports of a cluster that does not run could be given to another")
	}
}

func TestMissingBinaryIsOneClearError(t *testing.T) {
	m := &Manager{Dir: t.TempDir(), KubeBinary: "/nowhere/gatehouse-kube"}
	if err := m.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "/nowhere/gatehouse-kube") || !strings.Contains(err.Error(), "make build") {
		t.Error(err)
	}
}

func TestCallsOutsideOfStartAndStop(t *testing.T) {
	m := &Manager{Dir: t.TempDir(), KubeBinary: anyFile(t)}
	id := newID(t)
	calls := func() {
		t.Helper()
		if _, err := m.Apply(t.Context(), aks.Settings{GUID: id}); !fault.Is(err, fault.Unavailable) {
			t.Errorf("Apply: %v", err)
		}
		if err := m.Delete(t.Context(), id); !fault.Is(err, fault.Unavailable) {
			t.Errorf("Delete: %v", err)
		}
		if has, revision := m.BoundGroups(id); has(id) || revision != 0 || m.Ready(id) {
			t.Error("something is known of a cluster that does not run")
		}
	}
	calls()
	if err := m.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Local(t.Context(), id); !fault.Is(err, fault.Unavailable) {
		t.Errorf("Local: %v", err)
	}
	for range 2 {
		if err := m.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
	calls()
}

func TestAStartThatFailsLeavesNothingRunning(t *testing.T) {
	m := &Manager{Dir: t.TempDir(), KubeBinary: anyFile(t)}
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer m.Stop(t.Context())
	s := aks.Settings{GUID: newID(t)}
	if _, err := m.Apply(t.Context(), s); err == nil || !strings.Contains(err.Error(), "tenant") {
		t.Errorf("settings without a tenant: %v", err)
	}
	if m.known(s.GUID).run != nil {
		t.Error("it runs")
	}
	if err := m.Delete(t.Context(), s.GUID); err != nil {
		t.Error(err)
	}
}
