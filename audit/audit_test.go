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
		l.size = rotateAt
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
