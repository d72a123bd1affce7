package audit

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"testing"
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
					l.Record(Event{Action: "sign-in", Outcome: Denied, Reason: "two\nlines", Code: 50126})
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
