package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// deployment is one `gatehouse up` with the environment that `gatehouse env` prints for it.
type deployment struct {
	t    testing.TB
	dir  string
	args []string
	cmd  *exec.Cmd
	log  *logFile
	env  map[string]string
	done chan error
}

// tool finds a program, or skips the test with the package that has it. In CI a missing tool is a failure.
func tool(t testing.TB, name, pkg string) string {
	t.Helper()
	for _, dir := range []string{"../bin/e2e", "../bin"} {
		if path, err := filepath.Abs(filepath.Join(dir, name)); err == nil {
			if _, err := os.Stat(path); err == nil {
				return path
			}
		}
	}
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is missing; install %s", name, pkg)
	}
	t.Skipf("skipped: %s is missing; install %s to run this story", name, pkg)
	return ""
}

// up starts a server on free ports with an empty data directory and waits until it is ready.
func up(t testing.TB, args ...string) *deployment {
	t.Helper()
	d := &deployment{t: t, dir: filepath.Join(t.TempDir(), "data"), args: args}
	if !slices.Contains(args, "--listen") {
		d.args = append(d.args, "--listen", freePort(t))
	}
	if !slices.Contains(args, "--proxy-listen") {
		d.args = append(d.args, "--proxy-listen", freePort(t))
	}
	d.start()
	t.Cleanup(d.stop)
	return d
}

// freePort returns a loopback address that was free a moment ago.
func freePort(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func (d *deployment) start() {
	d.t.Helper()
	bin := tool(d.t, "gatehouse", "it with `make build`")
	d.log = &logFile{}
	d.cmd = exec.Command(bin, append([]string{"up", "--data-dir", d.dir}, d.args...)...)
	d.cmd.Stderr, d.cmd.Stdout = d.log, d.log
	d.cmd.Env = append(os.Environ(), "HTTPS_PROXY=", "https_proxy=")
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.done = make(chan error, 1)
	go func() { d.done <- d.cmd.Wait() }()
	out, err := exec.Command(bin, "env", "--data-dir", d.dir).Output()
	if err != nil {
		d.t.Fatalf("gatehouse env: %s\nserver:\n%s", explain(err), d.log)
	}
	d.env = map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^export ([A-Za-z_]+)='(.*)'$`).FindAllStringSubmatch(string(out), -1) {
		d.env[m[1]] = m[2]
	}
}

// stop ends the server as a user does, and demands that it does so cleanly and in time.
func (d *deployment) stop() {
	if d.cmd == nil {
		return
	}
	d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-d.done:
		if err != nil {
			d.t.Errorf("gatehouse up ended with %v, want exit code 0; its output:\n%s", err, d.log)
		}
	case <-time.After(15 * time.Second):
		d.cmd.Process.Kill()
		<-d.done
		d.t.Errorf("gatehouse up did not stop within 15 s of SIGTERM; its output:\n%s", d.log)
	}
	d.cmd = nil
}

// kill ends the server without warning.
func (d *deployment) kill() {
	d.cmd.Process.Kill()
	<-d.done
	d.cmd = nil
}

// result is what a client printed.
type result struct {
	stdout, stderr string
	code           int
}

// command prepares a client in the environment of a new user's shell.
func (d *deployment) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	d.t.Helper()
	path := name
	switch name {
	case "az":
		path = tool(d.t, "az", "the Debian package azure-cli")
	case "kubelogin":
		path = tool(d.t, "kubelogin", "it with `make bin/e2e/kubelogin`")
	case "azsdk":
		path = tool(d.t, "azsdk", "it with `make bin/e2e/azsdk`")
	case "kubectl":
		path = kubectl(d.t)
	case "gatehouse":
		path = tool(d.t, "gatehouse", "it with `make build`")
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	bin, _ := filepath.Abs("../bin")
	home := filepath.Join(d.dir, "..", "home")
	if err := os.MkdirAll(home, 0o700); err != nil {
		d.t.Fatal(err)
	}
	cmd.Env = []string{"PATH=" + bin + "/e2e:" + bin + ":" + os.Getenv("PATH"), "HOME=" + home, "LANG=C.UTF-8", "AZURE_CORE_COLLECT_TELEMETRY=false"}
	for k, v := range d.env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	return cmd
}

// kubectl is the multi-call binary under the name that kubectl has.
func kubectl(t testing.TB) string {
	t.Helper()
	kube, err := filepath.Abs("../bin/gatehouse-kube")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(kube); err != nil {
		return tool(t, "kubectl", "it, or run `make build`")
	}
	link := filepath.Join(t.TempDir(), "kubectl")
	if err := os.Symlink(kube, link); err != nil {
		t.Fatal(err)
	}
	return link
}

// try runs a client to its end.
func (d *deployment) try(name string, args ...string) result {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := d.command(ctx, name, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		d.t.Fatalf("%s: %v", name, err)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// run runs a client that must succeed and returns its standard output.
func (d *deployment) run(name string, args ...string) string {
	d.t.Helper()
	r := d.try(name, args...)
	if r.code != 0 {
		d.t.Fatalf("%s %s: exit code %d\n%s%s\nserver:\n%s", name, strings.Join(args, " "), r.code, r.stdout, r.stderr, d.log)
	}
	return strings.TrimSpace(r.stdout)
}

// refuses runs a client that must fail with all of these texts in what it prints.
func (d *deployment) refuses(args []string, texts ...string) {
	d.t.Helper()
	r := d.try(args[0], args[1:]...)
	if r.code == 0 {
		d.t.Errorf("%s: exit code 0, want a refusal; it printed\n%s%s", strings.Join(args, " "), r.stdout, r.stderr)
		return
	}
	for _, text := range texts {
		if !strings.Contains(r.stdout+r.stderr, text) {
			d.t.Errorf("%s: want %q in\n%s%s", strings.Join(args, " "), text, r.stdout, r.stderr)
		}
	}
}

// adminPassword reads the password that the first start made.
func (d *deployment) adminPassword() string {
	b, err := os.ReadFile(filepath.Join(d.dir, "admin-password"))
	if err != nil {
		d.t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// loginAdmin signs az in as the administrator.
func (d *deployment) loginAdmin() {
	d.t.Helper()
	d.run("az", "login", "-u", d.env["GATEHOUSE_ADMIN"], "-p", d.adminPassword(), "-o", "none")
}

// user makes a user and returns its object id.
func (d *deployment) user(name, password string) string {
	d.t.Helper()
	return d.run("az", "ad", "user", "create", "--display-name", strings.ToUpper(name[:1])+name[1:],
		"--user-principal-name", d.upn(name), "--password", password, "--query", "id", "-o", "tsv")
}

func (d *deployment) upn(name string) string { return name + "@" + d.env["GATEHOUSE_DOMAIN"] }

// http returns a client that trusts the server and goes through its proxy, as an SDK in the user's shell does.
func (d *deployment) http() *http.Client {
	d.t.Helper()
	pem, err := os.ReadFile(d.env["SSL_CERT_FILE"])
	if err != nil {
		d.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	proxy, err := url.Parse(d.env["HTTPS_PROXY"])
	if err != nil {
		d.t.Fatal(err)
	}
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool},
		Proxy: func(r *http.Request) (*url.URL, error) {
			if h := r.URL.Hostname(); h == "localhost" || h == "127.0.0.1" {
				return nil, nil
			}
			return proxy, nil
		},
	}}
}

// tokens are the answers of the token endpoint that tests look at.
type tokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	ID      string `json:"id_token"`
	Error   string `json:"error"`
	Text    string `json:"error_description"`
}

const (
	aksServer = "6dae42f8-4368-4678-94ff-3960e28e3630"
	aksClient = "80faf920-1908-4b52-b5ef-a8e7bedfc67a"
	azureCLI  = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"
)

// token asks for one with a password, for a scope.
func (d *deployment) token(user, password, client, scope string) tokens {
	d.t.Helper()
	return d.grant(url.Values{
		"grant_type": {"password"}, "client_id": {client}, "username": {user}, "password": {password},
		"scope": {scope + " openid profile offline_access"},
	})
}

func (d *deployment) grant(form url.Values) (out tokens) {
	d.t.Helper()
	res, err := d.http().PostForm("https://login.microsoftonline.com/"+d.env["GATEHOUSE_TENANT_ID"]+"/oauth2/v2.0/token", form)
	if err != nil {
		d.t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&out); err != nil {
		d.t.Fatal(err)
	}
	return out
}

// call sends a request to a REST face and returns status and body.
func (d *deployment) call(method, url, token string, body any) (int, string) {
	d.t.Helper()
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			d.t.Fatal(err)
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, url, r)
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := d.http().Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// eventually repeats a check until it holds, and fails after the limit that the product promises.
func eventually(t testing.TB, limit time.Duration, what string, holds func() (bool, string)) time.Duration {
	t.Helper()
	start := time.Now()
	for {
		ok, got := holds()
		took := time.Since(start)
		if ok {
			return took
		}
		if took > limit {
			t.Fatalf("%s: not within %s; the last answer was %s", what, limit, got)
		}
		time.Sleep(50 * time.Millisecond) // polling a foreign process: there is nothing to wait on
	}
}

func explain(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Sprintf("%v: %s", err, exit.Stderr)
	}
	return err.Error()
}

// logFile keeps what a process prints.
type logFile struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logFile) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
