package signin_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/signin"
	"github.com/gatehouse-k8s/gatehouse/store"
)

const (
	tenant = "11111111-1111-1111-1111-111111111111"
	alice  = "22222222-2222-2222-2222-222222222222"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// database is a real store whose writes can be held up and made to fail.
type database struct {
	*store.DB
	mu      sync.Mutex
	failing error
	gate    chan struct{} // writes wait until it closes; nil: they do not
}

func (d *database) AppendSignIns(ctx context.Context, entries []signin.Entry) error {
	d.mu.Lock()
	failing, gate := d.failing, d.gate
	d.mu.Unlock()
	if gate != nil {
		<-gate
	}
	if failing != nil {
		return failing
	}
	return d.DB.AppendSignIns(ctx, entries)
}

func (d *database) set(failing error, gate chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failing, d.gate = failing, gate
}

type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func open(t *testing.T) (*database, *signin.Log, *logged) {
	t.Helper()
	db, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "test.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	d, out := &database{DB: db}, new(logged)
	l := signin.NewLog(d, slog.New(slog.NewTextHandler(out, nil)))
	t.Cleanup(func() { l.Close(context.Background()) })
	return d, l, out
}

// known is an attempt of an account of its own, which no quota holds back.
func known(n int) signin.Entry {
	return signin.Entry{Tenant: tenant, Kind: signin.NonInteractiveUser, User: fmt.Sprintf("%08d-0000-0000-0000-000000000000", n), Proved: true, Code: n}
}

func find(t *testing.T, l *signin.Log) []signin.Entry {
	t.Helper()
	all, err := l.Find(t.Context(), signin.Query{Tenant: tenant, OldestFirst: true, Limit: 100_000})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestReadSeesWhatWasRecorded: whoever asks after an attempt sees it, in the order of recording, also while the clock stands still or goes back.
func TestReadSeesWhatWasRecorded(t *testing.T) {
	_, l, _ := open(t)
	for i := range 1500 {
		at := noon
		if i >= 1000 {
			at = noon.Add(-time.Second)
		}
		l.Record(at, known(i))
		if i%500 == 499 {
			if got := find(t, l); len(got) != i+1 || got[i].Code != i {
				t.Fatalf("%d entries after %d attempts", len(got), i+1)
			}
		}
	}
	all := find(t, l)
	if !slices.IsSortedFunc(all, func(a, b signin.Entry) int { return a.Code - b.Code }) {
		t.Error("the ids are not in the order of recording")
	}
	for _, e := range all {
		if d := e.Time().Sub(noon); d < 0 || d > time.Millisecond {
			t.Fatalf("an attempt at noon is of %s", e.Time())
		}
	}
	l.Record(noon.Add(-time.Hour), known(1)) // a clock that was set back
	if got := find(t, l)[0].Time(); !got.Equal(noon.Add(-time.Hour)) {
		t.Errorf("an attempt at eleven is of %s", got)
	}
	got, err := l.Entry(t.Context(), tenant, all[7].ID)
	if err != nil || got.Code != 7 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := l.Entry(t.Context(), alice, all[7].ID); !errors.Is(err, signin.ErrNotFound) {
		t.Errorf("another tenant's entry: %v", err)
	}
	if _, err := l.Entry(t.Context(), tenant, signin.FirstID(noon.Add(time.Hour))); !errors.Is(err, signin.ErrNotFound) {
		t.Errorf("no entry: %v", err)
	}
}

// TestSlowStore: recording never waits; what there is no room for is counted and said, and the rest arrives.
func TestSlowStore(t *testing.T) {
	d, l, out := open(t)
	gate := make(chan struct{})
	d.set(nil, gate)
	const all, room = 900, 700
	l.SetRoom(room)
	for i := range all {
		l.Record(noon, known(i))
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Flush(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("a flush of a store that hangs: %v", err)
	}
	d.set(nil, nil)
	close(gate)
	if n := len(find(t, l)); n != room {
		t.Errorf("%d entries of %d with room for %d", n, all, room)
	}
	if want := fmt.Sprintf("attempts=%d", all-room); !strings.Contains(out.String(), want) {
		t.Errorf("no %q in the log:\n%s", want, out)
	}
}

// TestFailingStore: a failure is told to who asks, and nothing is lost or doubled once the store works again.
func TestFailingStore(t *testing.T) {
	d, l, out := open(t)
	broken := errors.New("disk full")
	d.set(broken, nil)
	for i := range 700 {
		l.Record(noon, known(i))
	}
	if err := l.Flush(t.Context()); !errors.Is(err, broken) {
		t.Errorf("flush: %v", err)
	}
	if _, err := l.Find(t.Context(), signin.Query{Tenant: tenant, Limit: 1}); !errors.Is(err, broken) {
		t.Errorf("find: %v", err)
	}
	if n := strings.Count(out.String(), "disk full"); n != 1 {
		t.Errorf("the failure is in the log %d times", n)
	}
	d.set(nil, nil)
	if n := len(find(t, l)); n != 700 {
		t.Errorf("%d entries of 700", n)
	}
}

func TestClose(t *testing.T) {
	d, l, _ := open(t)
	for i := range 1234 {
		l.Record(noon, known(i))
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := d.SignIns(t.Context(), signin.Query{Tenant: tenant, Limit: 5000}); err != nil || len(got) != 1234 {
		t.Errorf("%d entries after the close, %v", len(got), err)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Error("a second close:", err)
	}
	l.Record(noon, known(1))
	if err := l.Flush(t.Context()); err != nil {
		t.Error(err) // nothing was taken, so nothing waits
	}
	var none *signin.Log
	none.Record(noon, known(1))
	if err := none.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestCloseSaysWhatIsLost(t *testing.T) {
	d, l, _ := open(t)
	d.set(errors.New("gone"), nil)
	l.Record(noon, known(1))
	if err := l.Close(t.Context()); err == nil || !strings.Contains(err.Error(), "1 attempts are missing") || !strings.Contains(err.Error(), "gone") {
		t.Errorf("%v", err)
	}
}

// TestQuota: neither strangers nor those who know a name fill the log, and neither hides what an account did that proved who it is.
func TestQuota(t *testing.T) {
	_, l, _ := open(t)
	long := strings.Repeat("é", 5000)
	stranger := signin.Entry{Tenant: tenant, UPN: long, UserAgent: long, Reason: long, Code: 50034}
	guess := signin.Entry{Tenant: tenant, User: alice, Code: 50126}
	real := signin.Entry{Tenant: tenant, User: alice, Proved: true}
	for range 3000 {
		l.Record(noon, stranger)
		l.Record(noon, guess)
	}
	for range 700 {
		l.Record(noon, real)
	}
	l.Record(noon, signin.Entry{UPN: "of no tenant", Code: 90002})
	count := map[string]int{}
	for _, e := range find(t, l) {
		switch {
		case e.Proved:
			count["real"]++
		case e.User == alice:
			count["guess"]++
		default:
			if count["stranger"]++; len(e.UPN) > 600 || len(e.UserAgent) > 600 || len(e.Reason) > 600 {
				t.Fatalf("an entry with texts of %d, %d and %d bytes", len(e.UPN), len(e.UserAgent), len(e.Reason))
			}
		}
	}
	if count["real"] != 600 || count["guess"] < 10 || count["guess"]+count["stranger"] != 610 {
		t.Errorf("listed: %v", count)
	}
	l.Record(noon.Add(time.Minute), stranger)
	all := find(t, l)
	last := all[len(all)-2:]
	if want := fmt.Sprint(6000+700-600-610, " further attempts"); !strings.Contains(last[0].Note, want) || last[1].Code != 50034 {
		t.Errorf("the next minute begins with %+v, want %q", last, want)
	}
}

func TestSweep(t *testing.T) {
	_, l, _ := open(t)
	for i := range 3000 {
		l.Record(noon.Add(time.Duration(i)*time.Second), known(i))
	}
	find(t, l)
	if err := l.Sweep(t.Context(), noon.Add(2500*time.Second)); err != nil {
		t.Fatal(err)
	}
	if got := find(t, l); len(got) != 500 || got[0].Code != 2500 {
		t.Errorf("%d entries are left", len(got))
	}
}

func TestDevice(t *testing.T) {
	for _, c := range []struct{ agent, browser, system string }{
		{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36 Edg/120.0.2210.91", "Edge 120.0.2210.91", "Windows"},
		{"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/140.0.0.0 Safari/537.36", "Chrome 140.0.0.0", "Linux"},
		{"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.2 Safari/605.1.15", "Safari 17.2", "MacOs"},
		{"Mozilla/5.0 (iPhone; CPU iPhone OS 17_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/120.0 Mobile/15E148 Safari/604.1", "Chrome 120.0", "iOS"},
		{"Mozilla/5.0 (Android 14; Mobile; rv:121.0) Gecko/121.0 Firefox/121.0", "Firefox 121.0", "Android"},
		{"python-requests/2.28.1", "python-requests 2.28.1", ""},
		{"azsdk-go-azidentity/v1.14.0 (go1.26.0; linux)", "azsdk-go-azidentity v1.14.0", "Linux"},
		{"curl", "curl", ""},
		{"", "", ""},
	} {
		if browser, system := signin.Device(c.agent); browser != c.browser || system != c.system {
			t.Errorf("%q: %q %q, want %q %q", c.agent, browser, system, c.browser, c.system)
		}
	}
}

func FuzzDevice(f *testing.F) {
	f.Add("Mozilla/5.0 (X11; Linux x86_64) Chrome/1 Version/2 Safari/3")
	f.Add("Edg/\x00\xff" + strings.Repeat("é", 300))
	f.Fuzz(func(t *testing.T, agent string) {
		browser, system := signin.Device(agent)
		kept := signin.UserAgent(agent)
		if len(browser) > 100 || len(system) > 20 || len(kept) > 256 {
			t.Errorf("%d, %d and %d bytes", len(browser), len(system), len(kept))
		}
		if strings.ContainsFunc(browser+system+kept, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
			t.Errorf("%q %q %q", browser, system, kept)
		}
	})
}
