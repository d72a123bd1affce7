package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSteps prints how long each step of the main path takes, from an empty folder to the first nodes. It asserts no time:
// `make bench` runs it for people to read.
func TestSteps(t *testing.T) {
	if os.Getenv("GATEHOUSE_BENCH") == "" {
		t.Skip("skipped: set GATEHOUSE_BENCH=1, or run `make bench`")
	}
	var d *deployment
	admin := filepath.Join(t.TempDir(), "admin")
	at := []string{"-g", "rg", "-n", "c"}
	group := ""
	start := time.Now()
	for _, step := range []struct {
		name string
		run  func()
	}{
		{"gatehouse up, first start", func() { d = up(t) }},
		{"az login", func() { d.loginAdmin() }},
		{"az ad group create", func() {
			group = d.run("az", "ad", "group", "create", "--display-name", "g", "--mail-nickname", "g", "--query", "id", "-o", "tsv")
		}},
		{"az group create", func() { d.run("az", "group", "create", "-n", "rg", "-l", "centralus") }},
		{"az aks create", func() {
			d.run("az", append([]string{"aks", "create", "--enable-aad", "--aad-admin-group-object-ids", group, "--generate-ssh-keys"}, at...)...)
		}},
		{"az aks get-credentials", func() { d.run("az", append([]string{"aks", "get-credentials", "--admin", "-f", admin}, at...)...) }},
		{"kubectl get nodes", func() {
			if out := d.run("kubectl", "--kubeconfig", admin, "get", "nodes"); strings.Count(out, " Ready ") != 3 {
				t.Fatalf("nodes:\n%s", out)
			}
		}},
	} {
		began := time.Now()
		step.run()
		t.Logf("%-28s %7s", step.name, time.Since(began).Round(10*time.Millisecond))
	}
	t.Logf("%-28s %7s", "in all", time.Since(start).Round(10*time.Millisecond))
}
