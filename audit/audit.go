// Package audit keeps one event for every decision and every change, as JSON Lines.
package audit

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Outcomes of events.
const (
	Allowed = "allowed"
	Denied  = "denied"
	Failed  = "failed" // our own failure kept the answer from being given
)

// Event is one decision or change. It never holds a secret, a token or a password. A change is an allowed
// action that wrote something.
type Event struct {
	Time    time.Time         `json:"time"`
	Request string            `json:"request,omitempty"` // the request id, as in the log and in the answer's x-ms-request-id
	Tenant  string            `json:"tenant,omitempty"`
	Actor   string            `json:"actor,omitempty"`  // object id of who asked, where it is known
	Client  string            `json:"client,omitempty"` // application id
	Address string            `json:"address,omitempty"`
	Action  string            `json:"action"`           // e.g. "tokenreview", "sign-in", "Microsoft.ContainerService/managedClusters/write"
	Target  string            `json:"target,omitempty"` // what it was done to
	Outcome string            `json:"outcome"`
	Reason  string            `json:"reason,omitempty"`
	Code    int               `json:"code,omitempty"` // the AADSTS number of a sign-in; zero: success
	Details map[string]string `json:"details,omitempty"`
}

// Log appends events to a file. Events reach the disk within a second, and at Close. A nil Log drops them, for tests.
type Log struct {
	mu     sync.Mutex
	file   *os.File
	buf    *bufio.Writer
	broken bool
	stop   chan struct{}
	done   chan struct{}
}

// Open opens or creates the file, which only its owner may read.
func Open(path string) (*Log, error) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the audit log: %w", err)
	}
	l := &Log{file: f, buf: bufio.NewWriterSize(f, 64<<10), stop: make(chan struct{}), done: make(chan struct{})}
	go l.flushEvery(time.Second)
	return l, nil
}

// Record appends an event.
func (l *Log) Record(e Event) {
	if l == nil {
		return
	}
	if e.Time.IsZero() {
		e.Time = time.Now().UTC()
	}
	line, err := json.Marshal(e)
	if err != nil {
		slog.Error("an audit event could not be encoded", "action", e.Action, "err", err)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err = l.buf.Write(append(line, '\n'))
	l.noteLocked(err)
}

// Close writes what is left and closes the file.
func (l *Log) Close() error {
	if l == nil {
		return nil
	}
	close(l.stop)
	<-l.done
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.buf.Flush()
	if cerr := l.file.Close(); err == nil {
		err = cerr
	}
	return err
}

func (l *Log) flushEvery(d time.Duration) {
	defer close(l.done)
	t := time.NewTicker(d)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			l.mu.Lock()
			l.noteLocked(l.buf.Flush())
			l.mu.Unlock()
		case <-l.stop:
			return
		}
	}
}

// noteLocked reports a write failure once, and starts over with an empty buffer: bufio keeps its first error for ever.
func (l *Log) noteLocked(err error) {
	if err == nil {
		l.broken = false
		return
	}
	if !l.broken {
		slog.Error("the audit log cannot be written; events are being lost until it can", "file", l.file.Name(), "err", err)
	}
	l.broken = true
	l.buf.Reset(l.file)
}
