package arm_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-k8s/gatehouse/audit"
)

// TestAudit: changes and refusals are events, what was merely wrong is none; as in Graph.
func TestAudit(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(t.TempDir(), "audit.log")
	log, err := audit.Open(path)
	w.Must(err)
	w.server.Audit = log
	w.NewUser("bob")
	admin, bob := w.tokenOf("admin"), w.tokenOf("bob")
	group := w.sub() + "/resourceGroups/g"
	for _, c := range []struct {
		name, token, method, path, body string
		status                          int
	}{
		{"a change", admin, "PUT", group, `{"location":"centralus"}`, 201},
		{"a read", admin, "GET", group, "", 200},
		{"a wrong change", admin, "PUT", w.sub() + "/resourceGroups/h", `{"location":5}`, 400},
		{"a change of what is not there", admin, "DELETE", w.sub() + "/resourceGroups/none", "", 404},
		{"a change without an api-version", admin, "PUT", group + "?x=y", `{"location":"centralus"}`, 400},
		{"a change that is not permitted", bob, "PUT", group, `{"location":"centralus"}`, 403},
		{"a read that is not permitted", bob, "GET", group, "", 403},
		{"a list of nothing that may be seen", bob, "GET", w.sub() + "/resourceGroups", "", 403},
		{"without a token", "", "GET", group, "", 401},
	} {
		if got := w.call(c.token, c.method, c.path, c.body); got.Code != c.status {
			t.Errorf("%s: %d, want %d: %s", c.name, got.Code, c.status, got.Body)
		}
	}
	w.Must(log.Close())
	raw, err := os.ReadFile(path)
	w.Must(err)
	var got []string
	for line := range strings.Lines(string(raw)) {
		var e audit.Event
		w.Must(json.Unmarshal([]byte(line), &e))
		got = append(got, fmt.Sprint(e.Action, " ", e.Outcome, " known: ", e.Actor != ""))
	}
	const groups = "Microsoft.Resources/subscriptions/resourceGroups/"
	want := []string{
		groups + "write allowed known: true", groups + "write denied known: true", groups + "read denied known: true", groups + "read denied known: true",
		groups + "read denied known: false",
	}
	if !slices.Equal(got, want) {
		t.Errorf("events\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
