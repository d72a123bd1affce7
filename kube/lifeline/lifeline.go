// Package lifeline ends a process when its parent is gone, also when the
// parent was killed by kill -9 and could tell nobody.
//
// The parent makes a pipe, gives the child the read end, keeps the only write
// end and names the read end's descriptor in GATEHOUSE_PARENT_FD. It never
// writes. However the parent ends, the kernel closes the write end, and the
// child reads the end of the file. Unlike Pdeathsig this depends on no thread
// of the parent and works wherever there are pipes.
package lifeline

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// Env names the variable with the number of the inherited descriptor.
const Env = "GATEHOUSE_PARENT_FD"

// grace is what a server gets between SIGTERM and its forced end. An API
// server that loses etcd at the same moment would wait for it in vain, and
// whoever starts again next waits for its port.
const grace = 3 * time.Second

// Hold reads Env. If it is set, this process gets SIGTERM when its parent is
// gone and is ended with exit code 1 when it still runs 3 s later. If it is
// not set, nothing happens. An error means that the parent asked for this and
// cannot have it; the process should not start then.
//
// Neither the variable nor the descriptor reaches a child of this process.
func Hold() error { return hold(grace) }

func hold(grace time.Duration) error {
	value, set := os.LookupEnv(Env)
	if !set {
		return nil
	}
	os.Unsetenv(Env)
	fd, err := strconv.Atoi(value)
	if err != nil || fd < 3 {
		return fmt.Errorf("%s=%q: want the number of an inherited descriptor, 3 or above", Env, value)
	}
	var stat syscall.Stat_t
	if err := syscall.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("%s=%d: the parent did not pass this descriptor: %w", Env, fd, err)
	}
	if stat.Mode&syscall.S_IFMT != syscall.S_IFIFO {
		return fmt.Errorf("%s=%d: this descriptor is not a pipe", Env, fd)
	}
	syscall.CloseOnExec(fd)
	// A log that went to the parent is a broken pipe then, and must not end
	// the process before it could stop in order.
	signal.Ignore(syscall.SIGPIPE)
	go func(pipe *os.File) {
		io.Copy(io.Discard, pipe) // an error tells as much as the end
		fmt.Fprintln(os.Stderr, "the parent process is gone: stopping")
		syscall.Kill(os.Getpid(), syscall.SIGTERM)
		time.Sleep(grace)
		os.Exit(1)
	}(os.NewFile(uintptr(fd), "parent"))
	return nil
}
