package sts

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"
)

// axeFile is axe-core, the accessibility checker; `make test` brings it.
const axeFile = "../bin/e2e/axe.min.js"

var axe = sync.OnceValues(func() (string, error) {
	script, err := os.ReadFile(axeFile)
	return string(script), err
})

// checkAccessible holds the page, as it is shown now, against axe-core: names, labels, roles, landmarks, contrast (WCAG 2.2 AA and axe's best
// practices). It wants nothing found.
func checkAccessible(t *testing.T, ctx context.Context, page string) {
	t.Helper()
	script, err := axe()
	if err != nil {
		t.Logf("axe-core is missing, so %s is not checked for accessibility: make bin/e2e/axe.min.js (needs npm)", page)
		if os.Getenv("CI") != "" {
			t.Error(err)
		}
		return
	}
	// The checker runs beside the page's own scripts, which the content security policy still binds.
	_, err = chromedp.Run(ctx, chromedp.Evaluate[chromedp.Void](script+"\n;0"))
	must(t, err)
	found, err := chromedp.Run(ctx, chromedp.Evaluate[[]string](`axe.run(document, {resultTypes: ["violations"]}).then(r =>
		r.violations.flatMap(v => v.nodes.map(n => [v.impact, v.id, v.help, n.target.join(" "), n.failureSummary].join("; "))))`, chromedp.EvalAwaitPromise))
	must(t, err)
	if len(found) > 0 {
		t.Errorf("%s is not accessible:\n%s", page, strings.Join(found, "\n"))
	}
}
