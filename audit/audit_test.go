package audit

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestEveryEventIsALine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	for range 2 { // a second process appends
		l, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 250 {
					l.Record(Event{Action: "sign-in", Outcome: Denied, Actor: "somebody", Reason: "two\nlines", Code: 50126})
				}
			})
		}
		wg.Wait()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	for lines := bufio.NewScanner(f); lines.Scan(); n++ {
		var e Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil || e.Reason != "two\nlines" || e.Time.IsZero() {
			t.Fatalf("line %d: %v %+v", n+1, err, e)
		}
	}
	if n != 2000 {
		t.Errorf("%d lines, want 2000", n)
	}
}

func TestNilLogDropsEvents(t *testing.T) {
	var l *Log
	l.Record(Event{Action: "x"})
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// TestStrangersCannotFillTheDisk floods the log with what anyone can cause, with texts of any length.
func TestStrangersCannotFillTheDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	long := strings.Repeat("\u00e9", 40<<10)
	for range 5 * strangers {
		l.Record(Event{Time: at, Action: "sign-in", Outcome: Denied, Target: long, Details: map[string]string{long: long}})
	}
	l.Record(Event{Time: at, Action: "sign-in", Outcome: Denied, Actor: "known", Reason: "counts apart"})
	l.Record(Event{Time: at.Add(time.Minute), Action: "sign-in", Outcome: Denied})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(string(b), "\n"); lines != strangers+3 {
		t.Errorf("%d lines, want %d of strangers, one of a known caller, one that counts the rest, and one of the next minute", lines, strangers)
	}
	if len(b) > (strangers+3)*5*maxText {
		t.Errorf("%d bytes for %d events", len(b), strangers)
	}
	for _, want := range []string{"counts apart", fmt.Sprintf("%d further refusals", 4*strangers)} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %q in the log", want)
		}
	}
}

func TestRotation(t *testing.T) {
	dir := t.TempDir()
	l, err := Open(filepath.Join(dir, "audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range rotated + 3 {
		l.Record(Event{Action: fmt.Sprint("event ", i), Outcome: Allowed})
		l.mu.Lock()
		l.full = 0
		l.mu.Unlock()
	}
	if err := errors.Join(l.Err(), l.Close()); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != rotated+1 {
		t.Fatalf("%v, %v; want the file and %d older ones", files, err, rotated)
	}
	b, err := os.ReadFile(filepath.Join(dir, "audit.log.1"))
	if err != nil || !strings.Contains(string(b), fmt.Sprint("event ", rotated+2)) {
		t.Errorf("the newest of the older files holds %s (%v)", b, err)
	}
}

// TestRotationCutShort: wherever a rotation fails, a later one finishes it. No file that is to be kept is lost, none moves twice, and the
// log goes on as soon as it can.
func TestRotationCutShort(t *testing.T) {
	broken := errors.New("the disk says no")
	for step := range rotated + 2 { // the moves of the files, the oldest first, and the opening of the new one
		t.Run(fmt.Sprint("step ", step), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "audit.log")
			l, err := Open(path)
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			rotate := func() {
				l.mu.Lock()
				l.full = 0 // the next event fills the file
				l.mu.Unlock()
				l.Record(Event{Action: fmt.Sprint("event ", n), Outcome: Allowed})
				n++
			}
			for range rotated { // numbers 1 to 4 are taken
				rotate()
			}
			calls, attempts := 0, 0
			l.rename = func(from, to string) error {
				if calls++; calls > step {
					return broken
				}
				return os.Rename(from, to)
			}
			l.create = func(string) (*os.File, error) { attempts++; return nil, broken }
			rotate()
			lost := n
			for range 3 {
				l.Record(Event{Action: fmt.Sprint("event ", n), Outcome: Allowed}) // lost: there is no file
				n++
			}
			if attempts < 4 || !errors.Is(l.Err(), broken) {
				t.Errorf("%d attempts to open, error %v", attempts, l.Err())
			}
			l.rename, l.create = os.Rename, create
			l.Record(Event{Action: fmt.Sprint("event ", n), Outcome: Allowed})
			n++
			rotate()
			if err := errors.Join(l.Err(), l.Close()); err != nil {
				t.Error(err)
			}
			var all strings.Builder
			files := 0
			for i := rotated; i >= 0; i-- {
				raw, err := os.ReadFile(l.older(i))
				if err == nil {
					files++
				}
				all.Write(raw)
			}
			for i := 2; i < n; i++ { // of the first files at most two had to go
				there := strings.Contains(all.String(), fmt.Sprintf(`"event %d"`, i))
				if gone := i >= lost && i < lost+3; there == gone {
					t.Errorf("event %d is there: %t\n%s", i, there, &all)
				}
			}
			if files != rotated+1 {
				t.Errorf("%d files", files)
			}
		})
	}
}

// TestGuessesAreNotBuried: whatever else strangers do, the log shows who tried to be an account, and events of requests that took long do not
// begin the count anew.
func TestGuessesAreNotBuried(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1e9, 0)
	for i := range 3 * strangers {
		l.Record(Event{Time: now.Add(-time.Duration(i%2) * time.Minute), Action: "noise", Outcome: Denied})
	}
	for range 3 * guesses {
		l.Record(Event{Time: now, Action: "sign-in", Outcome: Denied, Subject: "administrator"})
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(b), `"noise"`); n != strangers {
		t.Errorf("%d lines of noise, want %d", n, strangers)
	}
	if n := strings.Count(string(b), `"administrator"`); n != guesses {
		t.Errorf("%d guesses, want %d", n, guesses)
	}
}
