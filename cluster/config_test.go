package cluster

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/config anew")

// TestConfig holds what the processes are told against testdata/config, so that a change of any of it is seen in review.
func TestConfig(t *testing.T) {
	l := layout{"/data/clusters/GUID"}
	p := ports{API: 20001, Etcd: 20002}
	golden(t, "etcd.flags", lines(l.etcdFlags(p)))
	golden(t, "kube-apiserver.flags", lines(l.apiServerFlags(p, "https://localhost:8443/oidc/TENANT/GUID/")))
	golden(t, "kube-controller-manager.flags", lines(l.controllerManagerFlags()))
	golden(t, "environment", lines(l.environment()))
	for name, content := range l.configs(p, WebhookTarget{URL: "https://127.0.0.1:9443", CA: []byte("CA\n")}) {
		text, err := json.MarshalIndent(content, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, append(text, '\n'))
	}
}

func lines(all []string) []byte { return []byte(strings.Join(all, "\n") + "\n") }

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", "config", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s differs; run `go test -run TestConfig -update ./cluster` if that is meant:\n%s", path, got)
	}
}

func TestNoControllerSignsCertificates(t *testing.T) {
	for _, c := range controllers {
		if strings.HasPrefix(c, "certificatesigningrequest") || strings.HasPrefix(c, "*") {
			t.Errorf("controller %s", c)
		}
	}
	if !slices.IsSorted(controllers) {
		t.Error("keep the list sorted")
	}
}

func TestFilesArePrivate(t *testing.T) {
	l := layout{t.TempDir()}
	if err := os.Mkdir(l.path("config"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := l.writeConfigs(ports{}, WebhookTarget{}); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(l.path("config"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f.Name(), info.Mode(), err)
		}
	}
}

func TestServiceAccountKeyStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sa.key")
	var texts []string
	for range 2 {
		if err := serviceAccountKey(path); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(text))
	}
	if texts[0] != texts[1] {
		t.Error("the key changed: every service account token would be worthless")
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
}

func TestLabelValue(t *testing.T) {
	for in, want := range map[string]string{
		"MC_rg_name_centralus":  "MC_rg_name_centralus",
		"MC_a(b)_c":             "MC_a-b-_c",
		"_x_":                   "x",
		"":                      "",
		strings.Repeat("a", 80): strings.Repeat("a", 63),
	} {
		if got := labelValue(in); got != want {
			t.Errorf("labelValue(%q) = %q, want %q", in, got, want)
		}
	}
}
