package cluster

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain makes the test binary its own child: with childEnv set it plays the part named there.
func TestMain(m *testing.M) {
	if part := os.Getenv(childEnv); part != "" {
		os.Exit(play(part))
	}
	os.Exit(m.Run())
}

const (
	childEnv   = "GATEHOUSE_TEST_CHILD"
	addressEnv = "GATEHOUSE_TEST_ADDRESS"
)

func play(part string) int {
	switch part {
	case "dies":
		fmt.Fprintln(os.Stderr, "no space left on device")
		return 3
	case "gatehouse": // supervises a child, until it is killed
		parent, _, err := os.Pipe()
		if err != nil {
			return 1
		}
		p := testProcess(os.Getenv("GATEHOUSE_TEST_DIR"), "follows", os.Getenv(addressEnv))
		p.parent = parent
		p.start()
		select {}
	case "manager": // runs a real cluster, until it is killed
		return playManager()
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
	}
	conn, err := net.Dial("tcp", os.Getenv(addressEnv)) // the test sees our end as the end of this connection
	if err != nil {
		return 1
	}
	fmt.Fprintln(conn, os.Getpid(), strings.Join(os.Environ(), " "))
	io.Copy(io.Discard, os.NewFile(parentFD, "parent")) // as package lifeline of gatehouse-kube
	return 0
}

func testProcess(dir, part, address string) *process {
	return &process{
		name: "child", binary: os.Args[0], dir: dir, logDir: dir, runDir: dir, grace: time.Minute,
		env: []string{childEnv + "=" + part, addressEnv + "=" + address},
		log: slog.New(slog.DiscardHandler), notify: func() {},
	}
}

// arrivals is where children report themselves.
type arrivals struct {
	t  *testing.T
	ln net.Listener
}

func listen(t *testing.T) arrivals {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return arrivals{t, ln}
}

func (a arrivals) address() string { return a.ln.Addr().String() }

// next waits for a child and returns its process id, its environment and a function that waits for its end.
func (a arrivals) next() (pid int, env string, ended func()) {
	a.t.Helper()
	conn, err := a.ln.Accept()
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { conn.Close() })
	r := bufio.NewReader(conn)
	line, err := r.ReadString('\n')
	if err != nil {
		a.t.Fatal(err)
	}
	if _, err := fmt.Sscan(line, &pid); err != nil {
		a.t.Fatal(err)
	}
	return pid, line, func() { io.Copy(io.Discard, r) }
}

func supervised(t *testing.T, part string, a arrivals) *process {
	t.Helper()
	p := testProcess(t.TempDir(), part, a.address())
	parent, alive, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.parent = parent
	t.Cleanup(func() { parent.Close(); alive.Close() })
	return p
}

// killProcess is kill -9.
func killProcess(t *testing.T, pid int) {
	t.Helper()
	p, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
}

func TestProcessIsStartedAgainAfterKill(t *testing.T) {
	a := listen(t)
	p := supervised(t, "follows", a)
	p.start()
	first, _, ended := a.next()
	killProcess(t, first)
	ended()
	second, _, ended := a.next()
	if first == second {
		t.Errorf("the same process %d twice", first)
	}
	p.stop(t.Context())
	ended()
	if left, _ := filepath.Glob(filepath.Join(p.runDir, "*.json")); len(left) > 0 {
		t.Errorf("records of processes that have ended: %v", left)
	}
}

func TestStopKillsWhatDoesNotStop(t *testing.T) {
	a := listen(t)
	p := supervised(t, "stubborn", a)
	p.grace = time.Millisecond
	p.start()
	_, _, ended := a.next()
	p.stop(t.Context())
	ended()
}

func TestStopBeforeTheFirstChild(t *testing.T) {
	p := supervised(t, "follows", listen(t))
	p.binary = filepath.Join(t.TempDir(), "missing")
	p.start()
	p.stop(t.Context()) // returns
}

func TestBrokenTellsLastWords(t *testing.T) {
	p := supervised(t, "dies", listen(t))
	changes := make(chan struct{}, 100)
	p.notify = func() { changes <- struct{}{} }
	p.start()
	defer p.stop(t.Context())
	for p.broken() == nil {
		<-changes
	}
	if err := p.broken().Error(); !strings.Contains(err, "exit status 3") || !strings.Contains(err, "no space left on device") {
		t.Errorf("broken: %s", err)
	}
}

func TestChildrenSeeNothingOfOurEnvironment(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:8442")
	t.Setenv("AZURE_CLIENT_SECRET", "hunter2")
	a := listen(t)
	p := supervised(t, "follows", a)
	p.env = append(p.env, layout{"/c"}.environment()...)
	p.start()
	defer p.stop(t.Context())
	_, env, _ := a.next()
	for _, word := range strings.Fields(env)[1:] {
		name, _, _ := strings.Cut(word, "=")
		switch name {
		case "PATH", "HOME", "TMPDIR", "LANG", parentFDEnv, childEnv, addressEnv:
		default:
			t.Errorf("the child sees %s", name)
		}
	}
}

func TestNoOrphanAfterKillOfGatehouse(t *testing.T) {
	a := listen(t)
	dir := t.TempDir()
	gatehouse := exec.Command(os.Args[0])
	gatehouse.Env = []string{childEnv + "=gatehouse", addressEnv + "=" + a.address(), "GATEHOUSE_TEST_DIR=" + dir}
	if err := gatehouse.Start(); err != nil {
		t.Fatal(err)
	}
	_, _, ended := a.next()
	gatehouse.Process.Kill()
	gatehouse.Wait()
	ended() // hangs if the child lives on
}

func TestReapEndsWhatWasLeft(t *testing.T) {
	if _, err := identify(os.Getpid()); err != nil {
		t.Skip("no /proc here: what is left ends by its pipe alone")
	}
	start := func(a arrivals) (dir string, pid int, ended func()) {
		dir = t.TempDir()
		pipe, alive, err := os.Pipe() // held open: this one would live on
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { pipe.Close(); alive.Close() })
		cmd := exec.Command(os.Args[0])
		cmd.Env = []string{childEnv + "=follows", addressEnv + "=" + a.address()}
		cmd.ExtraFiles = []*os.File{pipe}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		pid, _, ended = a.next()
		return dir, pid, ended
	}
	log := slog.New(slog.DiscardHandler)

	t.Run("the process of the record", func(t *testing.T) {
		dir, pid, ended := start(listen(t))
		if err := writeIdentity(filepath.Join(dir, "etcd.json"), pid); err != nil {
			t.Fatal(err)
		}
		if err := reap(t.Context(), dir, log); err != nil {
			t.Fatal(err)
		}
		ended()
		if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
	t.Run("not another that got its number", func(t *testing.T) {
		dir, pid, _ := start(listen(t))
		id, err := identify(pid)
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf(`{"pid":%d,"start":"1","boot":%q}`, pid, id.Boot)
		if err := os.WriteFile(filepath.Join(dir, "etcd.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := reap(t.Context(), dir, log); err != nil {
			t.Fatal(err)
		}
		if _, err := identify(pid); err != nil {
			t.Errorf("an innocent process was ended: %v", err)
		}
	})
}

func TestParseStat(t *testing.T) {
	const tail = " S 1 1 1 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 9 0 %s 1 2"
	for name, c := range map[string]struct{ stat, start string }{
		"plain":                       {"12 (etcd)" + fmt.Sprintf(tail, "777"), "777"},
		"a name of blanks and braces": {"12 (a) R (b) )" + fmt.Sprintf(tail, "778"), "778"},
		"cut off":                     {"12 (etcd) S 1 1", ""},
		"no name":                     {"12", ""},
		"nothing":                     {"", ""},
	} {
		start, _, err := parseStat(c.stat)
		if start != c.start || (err == nil) != (c.start != "") {
			t.Errorf("%s: start %q, error %v", name, start, err)
		}
	}
}

func TestLogsAreRotatedAndPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "etcd.log")
	if err := os.WriteFile(path, make([]byte, maxLog+1), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() != 0 || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := os.Stat(path + ".1"); err != nil {
		t.Error(err)
	}
}

func TestPorts(t *testing.T) {
	dir := t.TempDir()
	book := new(portBook)
	first, moved, err := book.claim(t.Context(), dir)
	if err != nil || moved != 0 {
		t.Fatal(moved, err)
	}
	if first.API < firstPort || first.API >= firstPort+portCount || first.API == first.Etcd {
		t.Errorf("ports %+v", first)
	}
	again, moved, err := new(portBook).claim(t.Context(), dir)
	if err != nil || moved != 0 || again != first {
		t.Errorf("after a restart %+v instead of %+v (%d, %v)", again, first, moved, err)
	}
	ln, err := net.Listen("tcp", loopback(first.API))
	if err != nil {
		t.Skipf("port %d was taken in the meantime", first.API)
	}
	defer ln.Close()
	other, moved, err := new(portBook).claim(t.Context(), dir)
	if err != nil || moved != first.API || other.API == first.API || other.Etcd != first.Etcd {
		t.Errorf("with the port in use %+v, moved %d, %v", other, moved, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ln2, err := net.Listen("tcp", loopback(other.API))
	if err == nil {
		defer ln2.Close()
		if _, _, err := new(portBook).claim(ctx, dir); err == nil {
			t.Error("a claim outlives its context")
		}
	}
}
