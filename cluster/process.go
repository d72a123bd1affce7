package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	firstDelay  = 100 * time.Millisecond // before a process that died is started again; doubled each time
	lastDelay   = 10 * time.Second
	healthyRun  = 30 * time.Second // after this long a death is a new one, not the next of a row
	maxLog      = 16 << 20         // bytes of a log that a start moves out of the way
	parentFD    = 3                // the first of exec.Cmd.ExtraFiles
	parentFDEnv = "GATEHOUSE_PARENT_FD"
)

// process is a supervised child: started again, with growing delays, until it is stopped. The next one starts only
// when the one before has been reaped, so that its ports and locks are free.
type process struct {
	name   string
	binary string
	args   []string
	env    []string
	dir    string        // working folder
	logDir string        // for NAME.log
	runDir string        // for NAME.json, which names the running process
	grace  time.Duration // from SIGTERM to SIGKILL
	parent *os.File      // read end of a pipe whose only write end is ours
	log    *slog.Logger
	notify func() // called after each start and each death; may be nil

	stopping chan struct{} // closed by stop
	done     chan struct{} // closed when the last child has been reaped
	once     sync.Once

	mu     sync.Mutex
	child  *os.Process // nil when none runs
	deaths int         // in a row
	cause  error
}

// start begins supervision and returns at once, also if the first start fails.
func (p *process) start() {
	p.stopping, p.done = make(chan struct{}), make(chan struct{})
	go p.supervise()
}

// stop ends the process: SIGTERM, and SIGKILL after its grace or when the context ends. It returns when the process has been reaped.
func (p *process) stop(ctx context.Context) {
	p.once.Do(func() { close(p.stopping) })
	grace := time.NewTimer(p.grace)
	defer grace.Stop()
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return
	case <-grace.C:
		p.log.Warn("process does not stop, killing it", "process", p.name, "after", p.grace)
	case <-ctx.Done():
	}
	p.signal(os.Kill)
	<-p.done
}

// broken returns why the process dies again and again, or nil.
func (p *process) broken() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.deaths < 3 {
		return nil
	}
	return p.cause
}

func (p *process) supervise() {
	defer close(p.done)
	delay := firstDelay
	for {
		began := time.Now()
		err := p.run()
		select {
		case <-p.stopping:
			return
		default:
		}
		p.mu.Lock()
		if time.Since(began) >= healthyRun {
			p.deaths, delay = 0, firstDelay
		}
		p.deaths++
		p.cause = err
		p.mu.Unlock()
		p.log.Error("process ended by itself, starting it again", "process", p.name, "error", err, "delay", delay)
		p.changed()
		wait := time.NewTimer(delay)
		select {
		case <-p.stopping:
			wait.Stop()
			return
		case <-wait.C:
		}
		delay = min(2*delay, lastDelay)
	}
}

// run starts one child and returns when it has ended and why.
func (p *process) run() error {
	out, err := openLog(filepath.Join(p.logDir, p.name+".log"))
	if err != nil {
		return err
	}
	defer out.Close()
	from, err := out.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}

	cmd := exec.Command(p.binary, p.args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.dir, out, out
	cmd.ExtraFiles = []*os.File{p.parent}
	cmd.Env = append([]string{fmt.Sprintf("%s=%d", parentFDEnv, parentFD)}, p.env...)
	ownGroup(cmd)

	p.mu.Lock()
	select {
	case <-p.stopping: // stop has sent its signal to nobody
		p.mu.Unlock()
		return nil
	default:
	}
	err = cmd.Start()
	if err == nil {
		p.child = cmd.Process
	}
	p.mu.Unlock()
	if err != nil {
		return err
	}
	record := filepath.Join(p.runDir, p.name+".json")
	if err := writeIdentity(record, cmd.Process.Pid); err != nil {
		p.log.Warn("a later start could not end this process if it were left behind", "process", p.name, "error", err)
	}
	p.changed()

	err = cmd.Wait()
	p.mu.Lock()
	p.child = nil
	p.mu.Unlock()
	os.Remove(record)
	if err == nil {
		err = errors.New("exit status 0")
	}
	if said := lastLines(out.Name(), from); said != "" {
		err = fmt.Errorf("%w; its last words: %s", err, said)
	}
	return err
}

func (p *process) signal(sig os.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.child != nil {
		p.child.Signal(sig) // it may have ended just now; then nobody gets it
	}
}

func (p *process) changed() {
	if p.notify != nil {
		p.notify()
	}
}

// openLog opens a log for appending, after moving a large one out of the way.
func openLog(path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

// lastLines returns the end of what a child printed, for the error that reports its death.
func lastLines(path string, from int64) string {
	const most = 600
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	text, err := io.ReadAll(io.NewSectionReader(f, max(from, info.Size()-most), most))
	if err != nil {
		return ""
	}
	if lines := bytes.SplitAfterN(text, []byte("\n"), 2); len(text) == most && len(lines) == 2 {
		text = lines[1] // the first is cut off
	}
	return strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", " | ")
}
