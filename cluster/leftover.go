package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/internal/pki"
)

// step is how long polling waits between two looks.
const step = 20 * time.Millisecond

// identity tells one process from every other, also from a later one that got the same number: no two processes of
// one boot have the number and the time of start in common.
type identity struct {
	PID   int    `json:"pid"`
	Start string `json:"start"` // in clock ticks since the boot, field 22 of /proc/PID/stat (proc_pid_stat(5))
	Boot  string `json:"boot"`  // /proc/sys/kernel/random/boot_id
}

// errNoProc is the answer where there is no /proc. There a child that was left behind ends by its parent pipe alone.
var errNoProc = errors.New("no /proc")

func identify(pid int) (identity, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return identity{}, errNoProc
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return identity{}, err
	}
	start, state, err := parseStat(string(stat))
	if err != nil {
		return identity{}, err
	}
	if state == "Z" { // it has ended; nobody has asked how yet
		return identity{}, fs.ErrNotExist
	}
	return identity{PID: pid, Start: start, Boot: strings.TrimSpace(string(boot))}, nil
}

// parseStat reads start time and state. The second field, a name in brackets, may itself hold blanks and brackets.
func parseStat(stat string) (start, state string, err error) {
	end := strings.LastIndexByte(stat, ')')
	if end < 0 {
		return "", "", errors.New("/proc/PID/stat has no name")
	}
	fields := strings.Fields(stat[end+1:]) // from the third field on
	if len(fields) < 20 {
		return "", "", errors.New("/proc/PID/stat is short")
	}
	return fields[19], fields[0], nil
}

func writeIdentity(path string, pid int) error {
	id, err := identify(pid)
	if err != nil {
		return err
	}
	text, err := json.Marshal(id)
	if err != nil {
		return err
	}
	return pki.WriteFile(path, text, 0o600)
}

// reap ends the processes that an earlier Gatehouse, which could not stop them, has left. They end by themselves when
// its pipe breaks, but take their time. The caller must be the only Gatehouse on this folder.
func reap(ctx context.Context, runDir string, log *slog.Logger) error {
	records, err := filepath.Glob(filepath.Join(runDir, "*.json"))
	if err != nil {
		return err
	}
	for _, record := range records {
		text, err := os.ReadFile(record)
		if err != nil {
			return err
		}
		var left identity
		if json.Unmarshal(text, &left) == nil && left.PID > 1 {
			if err := end(ctx, left, log); err != nil {
				return fmt.Errorf("%s: %w", record, err)
			}
		}
		if err := os.Remove(record); err != nil {
			return err
		}
	}
	return nil
}

// end kills exactly this process and waits until it is gone. Neither etcd nor an API server loses anything by that.
func end(ctx context.Context, left identity, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for first := true; ; first = false {
		now, err := identify(left.PID)
		if err != nil || now != left {
			return nil
		}
		if first {
			log.Warn("ending a process that an earlier Gatehouse left", "pid", left.PID)
			proc, err := os.FindProcess(left.PID)
			if err != nil {
				return nil
			}
			if err := proc.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return fmt.Errorf("process %d is left from an earlier run and cannot be ended: %w", left.PID, err)
			}
		}
		if !sleep(ctx, step) {
			return fmt.Errorf("process %d is left from an earlier run and does not end", left.PID)
		}
	}
}

// sleep waits, and reports false when the context ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
