package e2e

import (
	"context"
	"encoding/json"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestKilledWhileCreating kills the server in the middle of `az aks create` and starts it again: the cluster ends
// finished or cleanly failed, and everything that was confirmed before is still there.
func TestKilledWhileCreating(t *testing.T) {
	d := up(t, "--listen", freePort(t), "--proxy-listen", freePort(t))
	d.loginAdmin()
	group := d.run("az", "ad", "group", "create", "--display-name", "admins", "--mail-nickname", "admins", "--query", "id", "-o", "tsv")
	d.user("alice", alicePassword)
	d.run("az", "group", "create", "-n", "rg", "-l", "centralus", "-o", "none")
	d.run("az", "aks", "create", "-g", "rg", "-n", "c1", "--enable-aad", "--aad-admin-group-object-ids", group, "--generate-ssh-keys", "--no-wait", "-o", "none")
	d.kill()
	d.start()
	const creation = 60 * time.Second
	eventually(t, creation, "the cluster comes to an end state", func() (bool, string) {
		state := d.run("az", "aks", "show", "-g", "rg", "-n", "c1", "--query", "provisioningState", "-o", "tsv")
		return state == "Succeeded" || state == "Failed", state
	})
	if state := d.run("az", "aks", "show", "-g", "rg", "-n", "c1", "--query", "provisioningState", "-o", "tsv"); state == "Succeeded" {
		d.run("az", "aks", "get-credentials", "-g", "rg", "-n", "c1", "--admin")
		d.run("kubectl", "get", "nodes")
	}
	d.run("az", "ad", "group", "show", "--group", "admins")
	d.run("az", "ad", "user", "show", "--id", d.upn("alice"))

	// A running cluster survives both a kill and an orderly stop, with what was written to it.
	d.run("kubectl", "create", "namespace", "kept")
	d.kill()
	d.start()
	d.awaitNamespace("kept")
	d.stop()
	d.start()
	d.awaitNamespace("kept")
	d.run("az", "aks", "delete", "-g", "rg", "-n", "c1", "--yes")
	left, err := os.ReadDir(filepath.Join(d.dir, "clusters"))
	if err != nil || len(left) != 0 {
		t.Errorf("after the delete, clusters/ holds %v (%v)", left, err)
	}
}

func (d *deployment) awaitNamespace(name string) {
	d.t.Helper()
	const restart = 30 * time.Second
	eventually(d.t, restart, "namespace "+name+" is there after a restart", func() (bool, string) {
		r := d.try("kubectl", "get", "namespace", name)
		return r.code == 0, r.stdout + r.stderr
	})
}

// TestRevokedLogin ends az's session behind its back: it is told to sign in again, and that helps.
func TestRevokedLogin(t *testing.T) {
	d := up(t)
	d.loginAdmin()
	d.run("az", "rest", "--method", "post", "--url", "https://graph.microsoft.com/v1.0/me/revokeSignInSessions")
	d.refuses([]string{"az", "group", "list"}, "az login")
	d.loginAdmin()
	d.run("az", "group", "list")
	d.run("az", "account", "get-access-token", "--resource", aksServer)
}

// TestServicePrincipal makes a service principal with az and signs in with its secret, with az and with kubelogin.
func TestServicePrincipal(t *testing.T) {
	d := up(t)
	d.loginAdmin()
	var sp struct{ AppID, Password, Tenant string }
	if err := json.Unmarshal([]byte(d.run("az", "ad", "sp", "create-for-rbac", "--name", "ci")), &sp); err != nil {
		t.Fatal(err)
	}
	token := d.run("kubelogin", "get-token", "--login", "spn", "--server-id", aksServer, "--client-id", sp.AppID, "--client-secret", sp.Password,
		"--tenant-id", sp.Tenant)
	if !strings.Contains(token, `"kind":"ExecCredential"`) {
		t.Errorf("kubelogin: %s", token)
	}
	// kubelogin answers from its cache from here on, so the endpoint is asked itself.
	ask := func(secret string) string {
		return d.grant(url.Values{"grant_type": {"client_credentials"}, "client_id": {sp.AppID}, "client_secret": {secret}, "scope": {aksServer + "/.default"}}).Text
	}
	if text := ask("wrong"); !strings.HasPrefix(text, "AADSTS7000215") {
		t.Errorf("a wrong secret: %s", text)
	}
	d.run("az", "login", "--service-principal", "-u", sp.AppID, "-p", sp.Password, "--tenant", sp.Tenant, "--allow-no-subscriptions", "-o", "none")
	d.refuses([]string{"az", "ad", "user", "list"}, "Insufficient privileges")
	d.loginAdmin()
	d.run("az", "ad", "app", "delete", "--id", sp.AppID)
	if text := ask(sp.Password); !strings.HasPrefix(text, "AADSTS700016") {
		t.Errorf("a deleted application: %s", text)
	}
}

// TestRefusesToStart demands one clear message for each way in which a start cannot work.
func TestRefusesToStart(t *testing.T) {
	bin := tool(t, "gatehouse", "it with `make build`")
	running := up(t)
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		code int
		want []string
	}{
		{"a second up on the directory", []string{"up", "--data-dir", running.dir}, 1, []string{"already running", running.dir}},
		{"port in use", []string{"up", "--data-dir", t.TempDir(), "--listen", busy.Addr().String()}, 1, []string{busy.Addr().String(), "--listen"}},
		{"data directory is a file", []string{"up", "--data-dir", file}, 1, []string{file}},
		{"proxy for everybody", []string{"up", "--data-dir", t.TempDir(), "--listen", freePort(t), "--proxy-listen", "0.0.0.0:0"}, 1, []string{"loopback"}},
		{"unknown flag", []string{"up", "--bogus"}, 2, []string{"bogus", "--help"}},
		{"unknown command", []string{"upp"}, 2, []string{`"upp"`, "up"}},
		{"bad address", []string{"up", "--listen", "8443"}, 2, []string{"--listen", "8443", "HOST:PORT"}},
		{"bad public URL", []string{"up", "--public-url", "http://x"}, 2, []string{"--public-url", "https://"}},
		{"bad shell", []string{"env", "--shell", "tcsh"}, 2, []string{"tcsh", "powershell"}},
		{"bad database", []string{"up", "--data-dir", t.TempDir(), "--listen", freePort(t), "--proxy-listen", freePort(t), "--database", "mysql://x"}, 1, []string{"mysql"}},
		{"env without a server", []string{"env", "--data-dir", t.TempDir()}, 1, []string{"gatehouse up --data-dir"}},
		{"status without a server", []string{"status", "--data-dir", t.TempDir()}, 1, []string{"gatehouse up --data-dir"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, bin, c.args...)
			out, _ := cmd.CombinedOutput()
			if code := cmd.ProcessState.ExitCode(); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			for _, want := range c.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("want %q in: %s", want, out)
				}
			}
			if n := strings.Count(strings.TrimSpace(string(out)), "\n"); c.code == 1 && n > 0 {
				t.Errorf("want one line, got %s", out)
			}
		})
	}
}

// TestDisks starts on a read-only and on full file systems of different sizes, so that it fills up at different moments.
func TestDisks(t *testing.T) {
	bin := tool(t, "gatehouse", "it with `make build`")
	for _, c := range []struct{ options, want string }{
		{"ro", "read-only"},
		{"size=60k", "full"},
		{"size=100k", "full"},
		{"size=200k", "full"},
	} {
		t.Run(c.options, func(t *testing.T) {
			dir := t.TempDir()
			if out, err := exec.Command("mount", "-t", "tmpfs", "-o", c.options, "tmpfs", dir).CombinedOutput(); err != nil {
				t.Skipf("skipped: a small file system cannot be mounted here: %s", out)
			}
			t.Cleanup(func() {
				if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
					t.Errorf("umount: %s", out)
				}
			})
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, bin, "up", "--data-dir", filepath.Join(dir, "d"), "--listen", freePort(t), "--proxy-listen", freePort(t))
			out, _ := cmd.CombinedOutput()
			text := strings.TrimSpace(string(out))
			if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(text, c.want) || !strings.Contains(text, dir) || strings.Contains(text, "\n") {
				t.Errorf("exit code %d, want 1 and one line with %q: %s", cmd.ProcessState.ExitCode(), c.want, text)
			}
		})
	}
}
