package e2e

import (
	"strings"
	"testing"

	"github.com/gatehouse-k8s/gatehouse/store/storetest"
)

// TestPostgres runs the server on PostgreSQL: what was written is there after a restart.
func TestPostgres(t *testing.T) {
	url := storetest.Postgres(t)
	d := up(t, "--database", url, "--listen", freePort(t), "--proxy-listen", freePort(t))
	d.loginAdmin()
	d.user("alice", alicePassword)
	d.stop()
	d.start()
	if got := d.run("az", "ad", "user", "show", "--id", d.upn("alice"), "--query", "displayName", "-o", "tsv"); got != "Alice" {
		t.Errorf("after a restart: %q", got)
	}
	if out := d.run("gatehouse", "status", "--data-dir", d.dir); !strings.Contains(out, "ready") {
		t.Errorf("status: %s", out)
	}
}
