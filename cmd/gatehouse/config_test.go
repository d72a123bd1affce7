package main

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/sts"
)

func TestParseUp(t *testing.T) {
	for _, c := range []struct {
		args string
		fail string // "" for success
	}{
		{"", ""},
		{"--listen 127.0.0.1:9443 --public-url https://Gate.example:9443/", ""},
		{"--listen 9443", "--listen"},
		{"--proxy-listen nowhere", "--proxy-listen"},
		{"--public-url http://x", "--public-url"},
		{"--public-url https://x/path", "--public-url"},
		{"--public-url https://user@x", "--public-url"},
		{"--public-url https://token.example", "token"},
		{"--domain mytokens.example", "token"},
		{"--private-issuers Git.example:8443,10.0.0.7", ""},
		{"--private-issuers https://git.example", "private-issuers"},
		{"--private-issuers a,,b", "private-issuers"},
		{"--sign-in-log-retention 7d --refresh-tokens strict", ""},
		{"--refresh-tokens entra", ""},
		{"--sign-in-log-retention 0", "sign-in-log-retention"},
		{"--sign-in-log-retention 7", "write it like"},
		{"--refresh-tokens never", "never"},
		{"--access-token-lifetime 10m --refresh-token-lifetime 14d --session-lifetime 8h", ""},
		{"--access-token-lifetime 24h --refresh-token-lifetime 90d --session-lifetime 2160h", ""},
		{"--access-token-lifetime 9m59s", "it must be 10m to 24h"},
		{"--access-token-lifetime 24h1s", "-access-token-lifetime"},
		{"--refresh-token-lifetime 91d", "it must be 10m to 90d"},
		{"--session-lifetime 90", "write it like 45m, 8h or 30d"},
		{"--session-lifetime -1d", "write it like 45m, 8h or 30d"},
		{"--session-lifetime 0s", "it must be 10m to 90d"},
		{"--session-lifetime 99999d", "session-lifetime"},
		{"--nonsense", "nonsense"},
		{"extra", `"extra"`},
	} {
		got, err := parseUp(strings.Fields(c.args), io.Discard)
		switch {
		case c.fail == "" && err != nil:
			t.Errorf("up %s: %v", c.args, err)
		case c.fail != "" && (err == nil || !strings.Contains(err.Error(), c.fail)):
			t.Errorf("up %s: error %v, want one with %q", c.args, err, c.fail)
		case strings.Contains(c.args, "Git.example") && !slices.Equal(got.PrivateIssuers, []string{"git.example:8443", "10.0.0.7"}):
			t.Errorf("up %s: private issuers %q", c.args, got.PrivateIssuers)
		case c.fail == "" && got.StrictRefresh != strings.Contains(c.args, "strict"):
			t.Errorf("up %s: strict %t", c.args, got.StrictRefresh)
		case c.fail == "" && (got.SignInRetention != 0) != strings.Contains(c.args, "retention"):
			t.Errorf("up %s: retention %s", c.args, got.SignInRetention)
		case strings.Contains(c.args, "14d") && got.Lifetimes != (sts.Lifetimes{Access: 10 * time.Minute, Refresh: 14 * 24 * time.Hour, Session: 8 * time.Hour}):
			t.Errorf("up %s: lifetimes %v", c.args, got.Lifetimes)
		case strings.Contains(c.args, "Gate.example") && got.PublicURL != "https://gate.example:9443":
			t.Errorf("up %s: public URL %q", c.args, got.PublicURL)
		}
	}
}

func TestPasswordShown(t *testing.T) {
	for args, want := range map[string]bool{
		"":                                   false,
		"--database postgres://u@h/d":        false,
		"--database postgres://u:secret@h/d": true,
	} {
		if got, err := parseUp(strings.Fields(args), io.Discard); err != nil || got.passwordShown != want {
			t.Errorf("up %s: %v, %v", args, got.passwordShown, err)
		}
	}
	t.Setenv("GATEHOUSE_DATABASE", "postgres://u:secret@h/d")
	if got, err := parseUp(nil, io.Discard); err != nil || got.passwordShown || got.Database == "" {
		t.Errorf("from the environment: %+v, %v", got, err)
	}
}

func TestPublicURL(t *testing.T) {
	for addr, want := range map[string]string{
		"127.0.0.1:8443": "https://localhost:8443",
		"0.0.0.0:443":    "https://localhost",
		"[::1]:9000":     "https://localhost:9000",
	} {
		at, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if got := publicURL(at); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

const aKey = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="

func TestExecute(t *testing.T) {
	for _, c := range []struct {
		args           string
		code           int
		stdout, stderr string
	}{
		{"", 2, "", "usage: gatehouse COMMAND"},
		{"help", 0, "usage: gatehouse COMMAND", ""},
		{"version", 0, "dev", ""},
		{"up --help", 0, "-data-dir", ""},
		{"nothing", 2, "", `there is no command "nothing"`},
		{"env --shell tcsh", 2, "", "choose sh, fish or powershell"},
		{"env --stop", 2, "", "need --identity"},
		{"env --identity x --form vm", 2, "", "appservice, imds or arc"},
		{"keys --roll --withdraw x", 2, "", "exclude each other"},
		{"up --master-key " + aKey, 2, "", "--master-key \"...\" is not file:/path, env:NAME or kms:unix:///"},
		{"up --master-key kms:/run/kms.sock", 2, "", "--master-key \"kms:/run/kms.sock\" is not"},
		{"up --master-key env:KEY --old-master-key " + aKey, 2, "", "--old-master-key \"...\" is not"},
		{"up --old-master-key env:KEY", 2, "", "goes with --master-key"},
	} {
		var out, errs strings.Builder
		if code := execute(context.Background(), strings.Fields(c.args), &out, &errs); code != c.code {
			t.Errorf("gatehouse %s: exit code %d, want %d", c.args, code, c.code)
		}
		if !strings.Contains(out.String(), c.stdout) || !strings.Contains(errs.String(), c.stderr) {
			t.Errorf("gatehouse %s: stdout %q, stderr %q", c.args, &out, &errs)
		}
		if strings.Contains(errs.String(), aKey) {
			t.Errorf("gatehouse %s shows the key that was given in the wrong place", c.args)
		}
		if c.stdout == "" && out.Len() > 0 {
			t.Errorf("gatehouse %s wrote to standard output: %q", c.args, &out)
		}
	}
}

func TestDataDir(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	first, err := openDataDir(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if !locked(path) {
		t.Error("not locked")
	}
	if _, err := openDataDir(path); err == nil || !strings.Contains(err.Error(), "already running") || !strings.Contains(err.Error(), path) {
		t.Errorf("a second one: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if locked(path) {
		t.Error("still locked after Close")
	}
	again, err := openDataDir(path)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

// TestControlSocketInADeepFolder uses a path that does not fit into a socket address.
func TestControlSocketInADeepFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("deep/", 30))
	d, err := openDataDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for range 2 { // the second replaces what a killed server left behind
		ln, err := d.listenControl()
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(d.file(controlSocket)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		ln.Close()
	}
}
