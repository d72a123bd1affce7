//go:build !windows

package storetest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Postgres returns the URL of an empty PostgreSQL database, which is dropped when the test ends. The first call
// of a test binary starts a server of its own, which ends with the binary. Without PostgreSQL on this
// machine the test is skipped, or fails if the environment has CI=true.
//
// The server does not flush to disk: its times are no measure of a real one's.
func Postgres(t testing.TB) string {
	t.Helper()
	folder, err := server()
	if errors.Is(err, errNoPostgres) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("test%d", databases.Add(1))
	administer(t, folder, "CREATE DATABASE "+name)
	t.Cleanup(func() { administer(t, folder, "DROP DATABASE "+name+" WITH (FORCE)") })
	return address(folder, name)
}

var (
	errNoPostgres = errors.New("PostgreSQL is not installed (Debian package postgresql)")
	databases     atomic.Int64
	server        = sync.OnceValues(startPostgres)
	lifelines     []io.Closer // the guard's standard input; held here lest it be collected and closed
)

// address is the URL of a database of the server whose socket is in folder.
func address(folder, database string) string {
	return "postgres://postgres@/" + database + "?host=" + url.QueryEscape(folder)
}

func administer(t testing.TB, folder, statement string) {
	t.Helper()
	ctx := context.Background() // not the test's: that one has ended when the test cleans up
	conn, err := pgx.Connect(ctx, address(folder, "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// guard runs the server until its standard input ends, which happens however the test binary ends, and tidies up.
const guard = `"$1" -D "$2" -k "$2" -p 5432 -h '' -c fsync=off -c synchronous_commit=off -c full_page_writes=off &
exec 2>/dev/null
read end
kill -QUIT $!
wait
rm -rf "$2"`

// startPostgres starts a server and returns its folder, which holds its socket.
func startPostgres() (folder string, err error) {
	bin, err := postgresBin()
	if err != nil {
		return "", err
	}
	// Not os.TempDir: a socket's path has at most 107 bytes.
	if folder, err = os.MkdirTemp("/tmp", "gatehouse-postgres-"); err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(folder)
		}
	}()
	process := &syscall.SysProcAttr{Setpgid: true} // an interrupt from the keyboard is for the test binary
	if os.Geteuid() == 0 {                         // PostgreSQL refuses to run as root
		if process.Credential, err = account("postgres"); err != nil {
			return "", err
		}
		if err := os.Chown(folder, int(process.Credential.Uid), int(process.Credential.Gid)); err != nil {
			return "", err
		}
	}
	command := func(name string, args ...string) *exec.Cmd {
		c := exec.Command(name, args...)
		c.Dir, c.SysProcAttr = folder, process
		c.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"} // none of the PG* variables
		return c
	}

	initdb := command(filepath.Join(bin, "initdb"), "-D", folder, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		return "", fmt.Errorf("initdb: %w\n%s", err, out)
	}
	run := command("/bin/sh", "-c", guard, "sh", filepath.Join(bin, "postgres"), folder)
	stdin, err := run.StdinPipe()
	if err != nil {
		return "", err
	}
	lifelines = append(lifelines, stdin)
	log, err := run.StderrPipe()
	if err != nil {
		return "", err
	}
	if err := run.Start(); err != nil {
		return "", err
	}
	var lines []string
	for s := bufio.NewScanner(log); s.Scan(); {
		if strings.Contains(s.Text(), "ready to accept connections") {
			go io.Copy(io.Discard, log)
			return folder, nil
		}
		lines = append(lines, s.Text())
	}
	return "", fmt.Errorf("postgres did not start:\n%s", strings.Join(lines, "\n"))
}

// postgresBin finds the folder of the server's programs: Debian keeps them out of PATH.
func postgresBin() (string, error) {
	if p, err := exec.LookPath("initdb"); err == nil {
		if p, err = filepath.EvalSymlinks(p); err == nil {
			return filepath.Dir(p), nil
		}
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", errNoPostgres
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(strings.Split(path, "/")[4])
		return n
	}
	newest := slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })
	return filepath.Dir(newest), nil
}

func account(name string) (*syscall.Credential, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL does not run as root, and: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}
