// Package audit keeps one event for every decision and every change, as JSON Lines.
package audit

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
	"unicode/utf8"
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
	Actor   string            `json:"actor,omitempty"`   // object id of who asked, where it is known
	Subject string            `json:"subject,omitempty"` // object id of the account that an attempt names without having proved to be it
	Client  string            `json:"client,omitempty"`  // application id
	Address string            `json:"address,omitempty"`
	Action  string            `json:"action"`           // e.g. "tokenreview", "sign-in", "Microsoft.ContainerService/managedClusters/write"
	Target  string            `json:"target,omitempty"` // what it was done to
	Outcome string            `json:"outcome"`
	Reason  string            `json:"reason,omitempty"`
	Code    int               `json:"code,omitempty"` // the AADSTS number of a sign-in; zero: success
	Details map[string]string `json:"details,omitempty"`
}

const (
	maxText = 512 // bytes of any text of an event that are kept; what strangers send can be long

	// strangers is how many refusals of unknown callers are kept in a minute. Whoever can reach the server can cause them,
	// and must not be able to fill the disk or to bury what matters.
	strangers = 600

	// guesses is how many refusals are kept in a minute, besides, for each account that they name: who tries an administrator's password cannot be
	// hidden by noise. There are no more of these than accounts.
	guesses = 10

	rotateAt = 256 << 20 // bytes of a file
	rotated  = 4         // older files that are kept, as NAME.1 (the newest) to NAME.4
)

// Log appends events to a file. Events reach the disk within a second, and at Close. A nil Log drops them, for tests.
type Log struct {
	mu     sync.Mutex
	path   string
	file   *os.File // nil: it could not be opened again
	buf    *bufio.Writer
	size   int64
	full   int64 // size at which a new file begins
	broken error // why events are being lost at present
	stop   chan struct{}
	done   chan struct{}

	create func(path string) (*os.File, error) // fields, so that tests can make them fail
	rename func(from, to string) error

	minute  int64 // of the count of strangers
	unknown int
	guessed map[string]int // by Event.Subject
}

// Open opens or creates the file, which only its owner may read.
func Open(path string) (*Log, error) {
	l := &Log{path: path, full: rotateAt, create: create, rename: os.Rename, stop: make(chan struct{}), done: make(chan struct{})}
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("open the audit log: %w", err)
	}
	go l.flushEvery(time.Second)
	return l, nil
}

func create(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
}

func (l *Log) open() error {
	f, err := l.create(l.path)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	l.file, l.buf, l.size = f, bufio.NewWriterSize(f, 64<<10), info.Size()
	return nil
}

// Err returns why events are being lost at present, or nil.
func (l *Log) Err() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.broken
}

// Record appends an event. Long texts in it are cut.
func (l *Log) Record(e Event) {
	if l == nil {
		return
	}
	if e.Time.IsZero() {
		e.Time = time.Now().UTC()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.Outcome == Denied && e.Actor == "" && !l.admitLocked(e.Time, e.Subject) {
		return
	}
	l.writeLocked(e)
	if l.size >= l.full && l.file != nil {
		l.noteLocked(l.rotateLocked())
	}
}

// admitLocked counts the refusals of unknown callers. The first event of a later minute says how many were left out.
func (l *Log) admitLocked(at time.Time, subject string) bool {
	minute := at.Unix() / 60
	if minute > l.minute { // an earlier one is of a request that took long; it must not begin the count anew
		if left := l.unknown - strangers; left > 0 {
			l.writeLocked(Event{Time: at, Action: "audit", Outcome: Denied, Reason: fmt.Sprintf("%d further refusals of unknown callers within a minute are not listed", left)})
		}
		l.minute, l.unknown, l.guessed = minute, 0, map[string]int{}
	}
	if subject != "" && l.guessed[subject] < guesses {
		l.guessed[subject]++
		return true
	}
	l.unknown++
	return l.unknown <= strangers
}

func (l *Log) writeLocked(e Event) {
	for _, text := range []*string{&e.Request, &e.Tenant, &e.Actor, &e.Client, &e.Address, &e.Action, &e.Target, &e.Reason} {
		*text = cut(*text)
	}
	if len(e.Details) > 0 {
		details := make(map[string]string, len(e.Details))
		for k, v := range e.Details {
			details[cut(k)] = cut(v)
		}
		e.Details = details
	}
	line, err := json.Marshal(e)
	if err != nil {
		slog.Error("an audit event could not be encoded", "action", e.Action, "err", err)
		return
	}
	if l.file == nil {
		if err := l.open(); err != nil {
			l.noteLocked(err)
			return
		}
	}
	n, err := l.buf.Write(append(line, '\n'))
	l.size += int64(n)
	if err != nil { // success is known at the flush only
		l.noteLocked(err)
	}
}

// rotateLocked begins a new file. The older ones move up to the first number that is free, and only if there is none the oldest goes: so
// an attempt that was cut short, wherever it was, is finished by the next one and costs no file.
func (l *Log) rotateLocked() error {
	err := errors.Join(l.buf.Flush(), l.file.Close())
	l.file = nil
	free := 1
	for free < rotated && exists(l.older(free)) {
		free++
	}
	var moved error
	for i := free; i > 0 && moved == nil; i-- {
		moved = l.rename(l.older(i-1), l.older(i))
	}
	if l.full = rotateAt; moved != nil { // not again with each event
		l.full = l.size + rotateAt/16
	}
	return errors.Join(err, moved, l.open())
}

// older is the name of the i-th older file; the 0th is the present one.
func (l *Log) older(i int) string {
	if i == 0 {
		return l.path
	}
	return fmt.Sprintf("%s.%d", l.path, i)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// cut shortens a text, at the edge of a character.
func cut(s string) string {
	if len(s) <= maxText {
		return s
	}
	end := maxText
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "..."
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
	if l.file == nil {
		return l.broken
	}
	return errors.Join(l.buf.Flush(), l.file.Close())
}

func (l *Log) flushEvery(d time.Duration) {
	defer close(l.done)
	t := time.NewTicker(d)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			l.mu.Lock()
			if l.file != nil || l.broken == nil {
				l.noteLocked(l.buf.Flush())
			}
			l.mu.Unlock()
		case <-l.stop:
			return
		}
	}
}

// noteLocked reports a write failure once, and starts over with an empty buffer: bufio keeps its first error for ever.
func (l *Log) noteLocked(err error) {
	if err != nil {
		if l.broken == nil {
			slog.Error("the audit log cannot be written; events are being lost until it can", "file", l.path, "err", err)
		}
		if l.file != nil {
			l.buf.Reset(l.file)
		}
	}
	l.broken = err
}
