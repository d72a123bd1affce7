package lifeline

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// role says what a copy of this test binary is: a parent that starts a server
// and waits, or such a server, which may ignore SIGTERM.
const role = "LIFELINE_TEST_ROLE"

func TestMain(m *testing.M) {
	name := os.Getenv(role)
	if name == "" {
		os.Exit(m.Run())
	}
	if server, ok := strings.CutPrefix(name, "parent of "); ok {
		parent(server)
	}
	serve(name)
}

// parent starts a server that shares its standard output and logs to a pipe of
// the parent, and waits to be killed.
func parent(server string) {
	end, keep, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	log, stderr, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), role+"="+server, Env+"=3")
	cmd.ExtraFiles = []*os.File{end}
	cmd.Stdout = os.Stdout
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		panic(err)
	}
	time.Sleep(time.Minute)
	keep.Close() // until here the collector must leave both open
	log.Close()
	os.Exit(0)
}

// serve says what it sees of the lifeline, goes on until it is told to stop,
// and stops then unless it is deaf.
func serve(server string) {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	if err := hold(time.Second); err != nil {
		panic(err)
	}
	flags, _, _ := syscall.Syscall(syscall.SYS_FCNTL, 3, syscall.F_GETFD, 0)
	fmt.Printf("env=%q close-on-exec=%t\n", os.Getenv(Env), flags&syscall.FD_CLOEXEC != 0)
	select {
	case sig := <-stop:
		fmt.Println(sig)
	case <-time.After(time.Minute):
		fmt.Println("nothing happened")
	}
	if server == "deaf" {
		time.Sleep(time.Minute)
		fmt.Println("still here")
	}
	os.Exit(0)
}

func TestServerEndsWithAKilledParent(t *testing.T) {
	for server, what := range map[string]string{
		"polite": "it stops at SIGTERM",
		"deaf":   "it does not stop at SIGTERM and is ended after the grace period",
	} {
		t.Run(what, func(t *testing.T) {
			out, in, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), role+"=parent of "+server)
			cmd.Stdout = in
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			in.Close() // from here on parent and server alone hold it open
			out.SetReadDeadline(time.Now().Add(30 * time.Second))
			lines := bufio.NewReader(out)
			line, err := lines.ReadString('\n')
			if want := "env=\"\" close-on-exec=true\n"; line != want {
				t.Errorf("the server says %q, %v; want %q", line, err, want)
			}
			cmd.Process.Kill()
			cmd.Wait()
			rest, err := io.ReadAll(lines) // to the end of both processes
			if want := "terminated\n"; string(rest) != want || err != nil {
				t.Errorf("then it says %q, %v; want %q", rest, err, want)
			}
		})
	}
}

func TestUnusableDescriptorIsAnError(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for value, want := range map[string]string{
		"":                           "want the number",
		"three":                      "want the number",
		"0":                          "want the number",
		"99999":                      "did not pass",
		strconv.Itoa(int(file.Fd())): "not a pipe",
	} {
		t.Setenv(Env, value)
		if err := Hold(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s=%q: %v, want an error with %q", Env, value, err, want)
		}
	}
}

func TestWithoutTheVariableNothingHappens(t *testing.T) {
	if err := Hold(); err != nil {
		t.Fatal(err)
	}
}
