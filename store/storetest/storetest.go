// Package storetest is the contract of a store: what feed.Log promises, held against a real database.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/store"
)

// Engines are the databases that tests run on. Each call returns the URL of a new, empty one.
var Engines = map[string]func(testing.TB) string{
	"sqlite":   SQLite,
	"postgres": Postgres,
}

// SQLite returns the path of a file in a folder of the test.
func SQLite(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "gatehouse.db")
}

// Open opens a database and closes it when the test ends. It may be called again for the same database:
// that is another replica.
func Open(t testing.TB, url string) *store.DB {
	t.Helper()
	db, err := store.Open(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// Run holds the contract against new databases of one engine.
func Run(t *testing.T, database func(testing.TB) string) {
	for _, c := range contract {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			c.test(&trial{T: t, ctx: ctx, url: database(t)})
		})
	}
}

var contract = []struct {
	name string
	test func(*trial)
}{
	{"a new database is empty and has an epoch", testNew},
	{"a write is seen by everyone", testWrite},
	{"records come in the order of their last change", testOrder},
	{"the last of several records of one key counts", testSameKey},
	{"a deleted record comes without a body and can be created again", testRecreate},
	{"an empty change takes no revision", testEmptyChange},
	{"a failed plan writes nothing and its error is returned", testFailedPlan},
	{"a plan that panics lets go of the lock", testPanic},
	{"a write after the end of its context writes nothing", testCancelled},
	{"append works once", testAppendOnce},
	{"keys are opaque", testKeys},
	{"what cannot be kept is refused", testRefused},
	{"a visitor's error ends the load", testVisitorError},
	{"a secret is only ever read by its key", testSecret},
	{"a secret expires by the clock", testExpiry},
	{"a plan reads secrets as they are", testSecretInPlan},
	{"a write sees every secret that is kept", testEachSecret},
	{"scrubbing changes nothing that is there", testScrub},
	{"a position of another epoch must reload", testEpoch},
	{"a position ahead of the feed must reload", testAhead},
	{"a position before a forgotten deletion must reload", testPrune},
	{"revisions survive pruning and a restart", testRevisionSurvives},
	{"a large change is one revision", testLarge},
	{"folding changes gives what loading gives", testFold},
	{"racing replicas neither lose nor reorder a revision", testRace},
	{"a watch signals at once, after each write, and ends with its context", testWatch},
	{"a watch signals the writes of other replicas", testWatchOther},
	{"a watch signals an idle database", testWatchIdle},
	{"ping fails when the database is closed", testPing},
	{"sign-ins come in the order of their ids, newest first", testSignInOrder},
	{"sign-ins are added once, all or none", testSignInsOnce},
	{"sign-ins are found by each field", testSignInFields},
	{"pages of sign-ins neither repeat nor skip, whatever is added", testSignInPages},
	{"sign-ins are swept by age, some at a time", testSignInSweep},
}

// trial is one case on one new database.
type trial struct {
	*testing.T
	ctx context.Context
	url string
}

func (t *trial) open() *store.DB {
	t.Helper()
	return Open(t, t.url)
}

func (t *trial) try(err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (t *trial) want(err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

// write makes one write and returns its position.
func (t *trial) write(db *store.DB, c feed.Change) (at feed.Position) {
	t.Helper()
	t.try(db.Write(t.ctx, func(tx feed.Tx) (err error) {
		at, err = tx.Append(t.ctx, c)
		return err
	}))
	return at
}

func (t *trial) put(db *store.DB, records ...feed.Record) feed.Position {
	t.Helper()
	return t.write(db, feed.Change{Records: records})
}

func (t *trial) putSecret(db *store.DB, secrets ...feed.Secret) feed.Position {
	t.Helper()
	return t.write(db, feed.Change{Secrets: secrets})
}

func (t *trial) load(db *store.DB) state {
	t.Helper()
	s, err := load(t.ctx, db)
	t.try(err)
	return s
}

func (t *trial) since(db *store.DB, after feed.Position) ([]feed.Record, feed.Position) {
	t.Helper()
	records, to, err := db.Since(t.ctx, after)
	t.try(err)
	return records, to
}

// wantState expects a load to give these records.
func (t *trial) wantState(db *store.DB, want ...feed.Record) {
	t.Helper()
	got := t.load(db)
	if !got.equal(fold(state{}, want, got.Position)) {
		t.Fatalf("loaded %v, want %v", got, want)
	}
}

func (t *trial) wantRecords(got []feed.Record, want ...feed.Record) {
	t.Helper()
	if !slices.EqualFunc(got, want, same) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

// state is the fold of records, keyed by kind and key.
type state struct {
	feed.Position
	records map[string]feed.Record
}

func load(ctx context.Context, db *store.DB) (state, error) {
	s := state{records: map[string]feed.Record{}}
	at, err := db.Load(ctx, func(r feed.Record) error {
		if r.Body == nil {
			return fmt.Errorf("%s %q was loaded without a body", r.Kind, r.Key)
		}
		id := string(r.Kind) + "\x00" + r.Key
		if _, twice := s.records[id]; twice {
			return fmt.Errorf("%s %q was loaded twice", r.Kind, r.Key)
		}
		s.records[id] = r
		return nil
	})
	s.Position = at
	return s, err
}

func fold(s state, records []feed.Record, to feed.Position) state {
	next := state{Position: to, records: maps.Clone(s.records)}
	if next.records == nil {
		next.records = map[string]feed.Record{}
	}
	for _, r := range records {
		id := string(r.Kind) + "\x00" + r.Key
		if r.Body == nil {
			delete(next.records, id)
		} else {
			next.records[id] = r
		}
	}
	return next
}

func (s state) equal(o state) bool {
	return s.Position == o.Position && maps.EqualFunc(s.records, o.records, same)
}

func same(a, b feed.Record) bool {
	return a.Kind == b.Kind && a.Key == b.Key && a.Tenant == b.Tenant && bytes.Equal(a.Body, b.Body) && (a.Body == nil) == (b.Body == nil)
}

func thing(key, body string) feed.Record {
	return feed.Record{Kind: "test/thing", Key: key, Tenant: "contoso", Body: []byte(body)}
}

func deleted(key string) feed.Record {
	return feed.Record{Kind: "test/thing", Key: key, Tenant: "contoso"}
}

func secret(key, body string, expires time.Time) feed.Secret {
	return feed.Secret{Record: thing(key, body), Expires: expires}
}

func testNew(t *trial) {
	db := t.open()
	s := t.load(db)
	if len(s.records) != 0 || s.Revision != 0 || s.Epoch == "" {
		t.Errorf("a new database has %v", s)
	}
	t.try(db.Ping(t.ctx))
	if again := t.load(t.open()); again.Epoch != s.Epoch {
		t.Errorf("opened again, it has epoch %s instead of %s", again.Epoch, s.Epoch)
	}
}

func testWrite(t *trial) {
	db, other := t.open(), t.open()
	start := t.load(db)
	a, b := thing("a", `{"n":1}`), thing("b", `{"n":2}`)
	at := t.put(db, a, b)
	if at != (feed.Position{Epoch: start.Epoch, Revision: 1}) {
		t.Errorf("the first write is at %v", at)
	}
	for _, reader := range []*store.DB{db, other} {
		t.wantState(reader, a, b)
		records, to := t.since(reader, start.Position)
		t.wantRecords(records, a, b)
		if to != at {
			t.Errorf("the changes lead to %v, want %v", to, at)
		}
		if records, to := t.since(reader, at); len(records) != 0 || to != at {
			t.Errorf("after the write there is %v up to %v", records, to)
		}
	}
	t.try(other.Write(t.ctx, func(tx feed.Tx) error {
		records, head, err := tx.Since(t.ctx, start.Position)
		t.wantRecords(records, a, b)
		if head != at {
			t.Errorf("within a write the head is %v, want %v", head, at)
		}
		return err
	}))
}

func testOrder(t *trial) {
	db := t.open()
	start := t.load(db).Position
	t.put(db, thing("d", "1"), thing("a", "1"), thing("c", "1"))
	t.put(db, thing("b", "2"))
	mid := t.put(db, thing("a", "3"), deleted("c"))
	records, _ := t.since(db, start)
	t.wantRecords(records, thing("d", "1"), thing("b", "2"), thing("a", "3"), deleted("c"))
	t.put(db, thing("d", "4"))
	records, _ = t.since(db, mid)
	t.wantRecords(records, thing("d", "4"))
}

func testSameKey(t *trial) {
	db := t.open()
	start := t.load(db).Position
	t.put(db, thing("a", "1"), thing("b", "1"), thing("a", "2"), deleted("b"), deleted("c"), thing("c", "3"))
	records, _ := t.since(db, start)
	t.wantRecords(records, thing("a", "2"), deleted("b"), thing("c", "3"))
	t.putSecret(db, secret("s", "1", time.Time{}), secret("s", "2", time.Time{}))
	s, err := db.Secret(t.ctx, "test/thing", "s")
	if err != nil || string(s.Body) != "2" {
		t.Errorf("the secret is %q (%v), want the last", s.Body, err)
	}
}

func testRecreate(t *trial) {
	db := t.open()
	first := t.put(db, thing("a", "1"), thing("b", "1"))
	second := t.put(db, deleted("a"), deleted("never was"))
	t.wantState(db, thing("b", "1"))
	records, _ := t.since(db, first)
	t.wantRecords(records, deleted("a"), deleted("never was"))
	moved := thing("a", "3")
	moved.Tenant = "fabrikam"
	t.put(db, moved)
	t.wantState(db, thing("b", "1"), moved)
	for _, after := range []feed.Position{first, second} {
		records, _ := t.since(db, after)
		if got := fold(state{}, records, after); len(got.records) != 1 || !same(slices.Collect(maps.Values(got.records))[0], moved) {
			t.Errorf("after %d there is %v", after.Revision, records)
		}
	}
}

func testEmptyChange(t *trial) {
	db := t.open()
	at := t.put(db, thing("a", "1"))
	if got := t.put(db); got != at {
		t.Errorf("an empty change is at %v, want %v", got, at)
	}
	t.try(db.Write(t.ctx, func(feed.Tx) error { return nil }))
	if got := t.load(db).Position; got != at {
		t.Errorf("after it the head is %v, want %v", got, at)
	}
}

func testFailedPlan(t *trial) {
	db := t.open()
	at := t.put(db, thing("a", "1"))
	refused := errors.New("refused")
	err := db.Write(t.ctx, func(tx feed.Tx) error {
		_, err := tx.Append(t.ctx, feed.Change{
			Records: []feed.Record{thing("a", "2"), thing("b", "2")},
			Secrets: []feed.Secret{secret("s", "2", time.Time{})},
		})
		t.try(err)
		return refused
	})
	if err != refused {
		t.Errorf("got error %v, want plan's own", err)
	}
	t.wantState(db, thing("a", "1"))
	_, err = db.Secret(t.ctx, "test/thing", "s")
	t.want(err, feed.ErrNoSecret)
	if next := t.put(db, thing("b", "3")); next.Revision != at.Revision+1 {
		t.Errorf("the next revision is %d, want %d", next.Revision, at.Revision+1)
	}
}

func testPanic(t *trial) {
	db := t.open()
	func() {
		defer func() { recover() }()
		db.Write(t.ctx, func(tx feed.Tx) error {
			tx.Append(t.ctx, feed.Change{Records: []feed.Record{thing("a", "1")}})
			panic("a mistake in a plan")
		})
	}()
	t.wantState(db)
	t.put(db, thing("b", "1"))
}

func testCancelled(t *trial) {
	db := t.open()
	ctx, cancel := context.WithCancel(t.ctx)
	err := db.Write(ctx, func(tx feed.Tx) error {
		_, err := tx.Append(ctx, feed.Change{Records: []feed.Record{thing("a", "1")}})
		cancel()
		return err
	})
	t.want(err, context.Canceled)
	t.want(db.Write(ctx, func(feed.Tx) error { panic("runs") }), context.Canceled)
	_, _, err = db.Since(ctx, feed.Position{})
	t.want(err, context.Canceled)
	t.wantState(db)
	t.put(db, thing("b", "1"))
}

func testAppendOnce(t *trial) {
	db := t.open()
	err := db.Write(t.ctx, func(tx feed.Tx) error {
		tx.Append(t.ctx, feed.Change{Records: []feed.Record{thing("a", "1")}})
		tx.Append(t.ctx, feed.Change{Records: []feed.Record{thing("b", "1")}})
		return nil // the plan overlooks the error; the store does not
	})
	if err == nil {
		t.Error("the second Append passed")
	}
	t.wantState(db)
}

var oddKeys = []string{
	"", " ", "a", "A", "á", "a\u0301", "ß", "SS", "a ", " a", "%", "_", "a%", "'", `"`, `\`, "$1", "?", "--", ";", "\n", "\t", "\x01",
	"/subscriptions/1/resourceGroups/RG", "/subscriptions/1/resourcegroups/rg", "😀", "\ufeff", "\ufffd", "null", "0", "00", "1e3",
	strings.Repeat("k", store.MaxKey-len("test/thing")),
}

func testKeys(t *trial) {
	db := t.open()
	var want []feed.Record
	var secrets []feed.Secret
	for i, k := range oddKeys {
		r := thing(k, strconv.Itoa(i))
		r.Tenant = k
		want = append(want, r)
		secrets = append(secrets, feed.Secret{Record: r})
		r.Kind = "test/Thing"
		want = append(want, r)
	}
	start := t.load(db).Position
	t.write(db, feed.Change{Records: want, Secrets: secrets})
	t.wantState(db, want...)
	records, _ := t.since(db, start)
	t.wantRecords(records, want...)
	for _, s := range secrets {
		got, err := db.Secret(t.ctx, s.Kind, s.Key)
		t.try(err)
		if !same(got.Record, s.Record) {
			t.Errorf("secret %q is %v", s.Key, got)
		}
	}
}

func testRefused(t *trial) {
	db := t.open()
	for name, r := range map[string]feed.Record{
		"NUL in a key":       thing("a\x00b", "1"),
		"not UTF-8 in a key": thing("a\xff", "1"),
		"not UTF-8 tenant":   {Kind: "test/thing", Key: "a", Tenant: "\xff", Body: []byte("1")},
		"NUL in a kind":      {Kind: "test/\x00", Key: "a", Body: []byte("1")},
		"too long a key":     thing(strings.Repeat("k", store.MaxKey), "1"),
		"an empty body":      {Kind: "test/thing", Key: "a", Body: []byte{}},
	} {
		for _, c := range []feed.Change{
			{Records: []feed.Record{thing("good", "1"), r}},
			{Records: []feed.Record{thing("good", "1")}, Secrets: []feed.Secret{{Record: r}}},
		} {
			if err := db.Write(t.ctx, func(tx feed.Tx) error {
				tx.Append(t.ctx, c)
				return nil // overlooked, as above
			}); err == nil {
				t.Errorf("%s passed", name)
			}
		}
	}
	t.wantState(db)
}

func testVisitorError(t *trial) {
	db := t.open()
	t.put(db, thing("a", "1"), thing("b", "1"))
	enough, calls := errors.New("enough"), 0
	_, err := db.Load(t.ctx, func(feed.Record) error {
		calls++
		return enough
	})
	if err != enough || calls != 1 {
		t.Errorf("got error %v after %d calls", err, calls)
	}
}

func testSecret(t *trial) {
	db, other := t.open(), t.open()
	start := t.load(db).Position
	_, err := db.Secret(t.ctx, "test/thing", "a")
	t.want(err, feed.ErrNoSecret)

	at := t.write(db, feed.Change{
		Records: []feed.Record{thing("a", "public")}, // same kind and key: they do not meet
		Secrets: []feed.Secret{secret("a", "hidden", time.Time{})},
	})
	only := t.putSecret(db, secret("b", "hidden too", time.Time{}))
	if only.Revision != at.Revision+1 {
		t.Errorf("a secret's write is at %d, want %d", only.Revision, at.Revision+1)
	}
	t.wantState(db, thing("a", "public"))
	records, to := t.since(db, start)
	t.wantRecords(records, thing("a", "public"))
	if to != only {
		t.Errorf("the changes lead to %v, want %v", to, only)
	}
	got, err := other.Secret(t.ctx, "test/thing", "a")
	if err != nil || !same(got.Record, thing("a", "hidden")) || !got.Expires.IsZero() {
		t.Errorf("the secret is %v (%v)", got, err)
	}
	_, err = db.Secret(t.ctx, "test/Thing", "a")
	t.want(err, feed.ErrNoSecret)

	t.putSecret(db, secret("a", "changed", time.Time{}), feed.Secret{Record: deleted("b")}, feed.Secret{Record: deleted("never was")})
	if got, err = db.Secret(t.ctx, "test/thing", "a"); err != nil || string(got.Body) != "changed" {
		t.Errorf("the secret is %v (%v)", got, err)
	}
	for range 2 { // before and after the sweep
		db.Now = func() time.Time { return time.Time{} } // whatever the clock says
		for _, key := range []string{"b", "never was"} {
			_, err = db.Secret(t.ctx, "test/thing", key)
			t.want(err, feed.ErrNoSecret)
		}
		db.Now = time.Now
		t.try(db.Sweep(t.ctx))
	}
	t.putSecret(db, secret("b", "again", time.Time{}))
	if got, err = db.Secret(t.ctx, "test/thing", "b"); err != nil || string(got.Body) != "again" {
		t.Errorf("the secret is %v (%v)", got, err)
	}
}

func testExpiry(t *trial) {
	db := t.open()
	now := time.Date(2026, 2, 28, 23, 59, 59, 0, time.FixedZone("east", 5*3600+1800))
	db.Now = func() time.Time { return now }
	expires := now.Add(time.Minute)
	t.putSecret(db, secret("code", "1", expires), secret("past", "1", now), secret("kept", "1", time.Time{}), secret("far", "1", now.AddDate(5000, 0, 0)))
	at := t.load(db).Position

	absent := func(key string) {
		t.Helper()
		_, err := db.Secret(t.ctx, "test/thing", key)
		t.want(err, feed.ErrNoSecret)
	}
	present := func(key string) {
		t.Helper()
		_, err := db.Secret(t.ctx, "test/thing", key)
		t.try(err)
	}
	absent("past")
	got, err := db.Secret(t.ctx, "test/thing", "code")
	if err != nil || !got.Expires.Equal(expires) {
		t.Errorf("the code expires at %v (%v), want %v", got.Expires, err, expires)
	}
	now = expires.Add(-time.Microsecond)
	t.try(db.Sweep(t.ctx))
	present("code")
	now = expires
	absent("code")
	now = expires.Add(-time.Second)
	present("code") // absent by the clock alone: nothing has swept it
	now = expires
	t.try(db.Sweep(t.ctx))
	now = expires.Add(-time.Second)
	absent("code")
	present("kept")
	present("far")
	if head := t.load(db).Position; head != at {
		t.Errorf("sweeping moved the head from %v to %v", at, head)
	}

	t.putSecret(db, secret("code", "2", time.Time{}))
	now = now.AddDate(100, 0, 0)
	present("code")
}

func testSecretInPlan(t *trial) {
	db := t.open()
	t.putSecret(db, secret("a", "1", time.Time{}))
	t.try(db.Write(t.ctx, func(tx feed.Tx) error {
		got, err := tx.Secret(t.ctx, "test/thing", "a")
		t.try(err)
		_, err = tx.Secret(t.ctx, "test/thing", "b")
		t.want(err, feed.ErrNoSecret)
		_, err = tx.Append(t.ctx, feed.Change{Secrets: []feed.Secret{secret("a", string(got.Body)+"2", time.Time{})}})
		return err
	}))
	if got, err := db.Secret(t.ctx, "test/thing", "a"); err != nil || string(got.Body) != "12" {
		t.Errorf("the secret is %q (%v), want 12", got.Body, err)
	}
}

func testEachSecret(t *trial) {
	db := t.open()
	now := time.Date(2026, 2, 28, 23, 59, 59, 123456000, time.UTC)
	db.Now = func() time.Time { return now }
	owned := secret("owned", "2", now.Add(time.Minute))
	owned.Tenant = "t"
	want := map[string]feed.Secret{"kept": secret("kept", "1", time.Time{}), "owned": owned, "past": secret("past", "3", now)}
	for _, s := range want {
		t.putSecret(db, s)
	}
	t.putSecret(db, secret("gone", "4", time.Time{}))
	t.putSecret(db, feed.Secret{Record: deleted("gone")})
	t.put(db, thing("record", "5"))
	enough := errors.New("enough")
	t.try(db.Write(t.ctx, func(tx feed.Tx) error {
		got := map[string]feed.Secret{}
		t.try(tx.EachSecret(t.ctx, func(s feed.Secret) error {
			got[s.Key] = s
			return nil
		}))
		for key, w := range want {
			if g := got[key]; !same(g.Record, w.Record) || !g.Expires.Equal(w.Expires) {
				t.Errorf("%s is %v, want %v", key, g, w)
			}
		}
		if len(got) != len(want) {
			t.Errorf("there are %d secrets, want %d", len(got), len(want))
		}
		calls := 0
		err := tx.EachSecret(t.ctx, func(feed.Secret) error {
			calls++
			return enough
		})
		if err != enough || calls != 1 {
			t.Errorf("got error %v after %d calls", err, calls)
		}
		_, err = tx.Append(t.ctx, feed.Change{Secrets: []feed.Secret{secret("kept", "after", time.Time{})}})
		return err
	}))
}

func testScrub(t *trial) {
	db, other := t.open(), t.open()
	t.putSecret(db, secret("a", "1", time.Time{}), secret("b", "1", time.Time{}))
	at := t.put(db, thing("a", "1"))
	t.try(db.Scrub(t.ctx, false))
	t.try(db.Scrub(t.ctx, true))
	for _, db := range []*store.DB{db, other} {
		t.wantState(db, thing("a", "1"))
		if got, err := db.Secret(t.ctx, "test/thing", "b"); err != nil || string(got.Body) != "1" {
			t.Errorf("the secret is %v (%v)", got, err)
		}
	}
	if next := t.put(other, thing("b", "1")); next.Epoch != at.Epoch || next.Revision != at.Revision+1 {
		t.Errorf("%v follows %v", next, at)
	}
}

// wantReload expects ErrReload from a position, outside and inside of a write.
func (t *trial) wantReload(db *store.DB, after feed.Position) {
	t.Helper()
	_, _, err := db.Since(t.ctx, after)
	t.want(err, feed.ErrReload)
	t.want(db.Write(t.ctx, func(tx feed.Tx) error {
		_, _, err := tx.Since(t.ctx, after)
		return err
	}), feed.ErrReload)
}

func testEpoch(t *trial) {
	db, other := t.open(), t.open()
	at := t.put(db, thing("a", "1"))
	t.wantReload(db, feed.Position{})
	t.wantReload(db, feed.Position{Epoch: "another", Revision: at.Revision})
	t.try(other.NewEpoch(t.ctx))
	t.wantReload(db, at)
	s := t.load(db)
	if s.Epoch == at.Epoch {
		t.Error("the epoch is still the same")
	}
	t.wantState(db, thing("a", "1"))
	t.put(db, thing("b", "2"))
	records, _ := t.since(db, s.Position)
	t.wantRecords(records, thing("b", "2"))
}

func testAhead(t *trial) {
	db := t.open()
	at := t.put(db, thing("a", "1"))
	at.Revision++
	t.wantReload(db, at)
}

func testPrune(t *trial) {
	db := t.open()
	created := t.put(db, thing("a", "1"), thing("b", "1"), thing("c", "1"))
	goneA := t.put(db, deleted("a"))
	goneB := t.put(db, deleted("b"))
	t.put(db, thing("b", "4"))
	goneC := t.put(db, deleted("c"))

	t.try(db.Prune(t.ctx, 3)) // forgets what was deleted at 1 and 2
	t.wantReload(db, created)
	records, _ := t.since(db, goneA)
	t.wantRecords(records, thing("b", "4"), deleted("c"))
	t.wantState(db, thing("b", "4"))

	t.try(db.Prune(t.ctx, 100))
	t.since(db, goneA)
	t.try(db.Prune(t.ctx, 0))
	t.wantReload(db, goneB)
	records, to := t.since(db, goneC)
	if len(records) != 0 || to != goneC {
		t.Errorf("after everything was pruned there is %v up to %v", records, to)
	}
	t.try(db.Prune(t.ctx, 0)) // with nothing to do
	t.since(db, goneC)

	t.put(db, thing("a", "6"))
	t.wantState(db, thing("a", "6"), thing("b", "4"))
	records, _ = t.since(db, goneC)
	t.wantRecords(records, thing("a", "6"))
}

func testRevisionSurvives(t *trial) {
	db := t.open()
	t.put(db, thing("a", "1"))
	at := t.put(db, deleted("a"))
	t.try(db.Prune(t.ctx, 0))
	db = t.open()
	if next := t.put(db, thing("b", "1")); next.Epoch != at.Epoch || next.Revision != at.Revision+1 {
		t.Errorf("after pruning everything and a restart, %v follows %v", next, at)
	}
}

func testLarge(t *trial) {
	db := t.open()
	start := t.load(db).Position
	// Around the sizes at which a store may split what it writes.
	for _, n := range []int{1, 2, 3, 63, 64, 65, 127, 128, 129, 5000} {
		kind := feed.Kind(fmt.Sprintf("test/of-%d", n))
		var c feed.Change
		for i := range n {
			key := strconv.Itoa((i * 7919) % n) // in no order
			if n%7919 == 0 {
				t.Fatal("choose another n")
			}
			c.Records = append(c.Records, feed.Record{Kind: kind, Key: key, Body: []byte("r" + key)})
			c.Secrets = append(c.Secrets, feed.Secret{Record: feed.Record{Kind: kind, Key: key, Body: []byte("s" + key)}})
		}
		at := t.write(db, c)
		if at.Revision != start.Revision+1 {
			t.Errorf("a change of %d leads from %d to %d", n, start.Revision, at.Revision)
		}
		records, _ := t.since(db, start)
		t.wantRecords(records, c.Records...)
		for i := 0; i < n; i += 1 + n/50 {
			s, err := db.Secret(t.ctx, kind, strconv.Itoa(i))
			if err != nil || string(s.Body) != "s"+strconv.Itoa(i) {
				t.Errorf("secret %d of %d is %q (%v)", i, n, s.Body, err)
			}
		}
		start = at
	}
}

// testFold makes random writes and compares, from each position that was ever reached, what the changes since
// then lead to with what a load gives and with a plain map.
func testFold(t *trial) {
	db := t.open()
	random := rand.New(rand.NewPCG(1, 2))
	now := t.load(db)
	past := []state{now}
	for range 60 {
		var c feed.Change
		for range random.IntN(6) {
			r := thing(strconv.Itoa(random.IntN(12)), strconv.Itoa(random.Int()))
			if random.IntN(3) == 0 {
				r.Body = nil
			}
			if random.IntN(4) == 0 {
				c.Secrets = append(c.Secrets, feed.Secret{Record: r})
			} else {
				c.Records = append(c.Records, r)
			}
		}
		now = fold(now, c.Records, t.write(db, c))
		past = append(past, now)
		switch random.IntN(12) {
		case 0:
			t.try(db.Prune(t.ctx, random.Int64N(20)))
		case 1:
			t.try(db.Sweep(t.ctx))
		case 2:
			t.try(db.NewEpoch(t.ctx))
			now = state{t.load(db).Position, now.records}
		}
		if got := t.load(db); !got.equal(now) {
			t.Fatalf("loaded %v, want %v", got, now)
		}
		reloads := 0
		for i, p := range past {
			records, to, err := db.Since(t.ctx, p.Position)
			if errors.Is(err, feed.ErrReload) {
				reloads = i + 1
				continue
			}
			t.try(err)
			if got := fold(p, records, to); !got.equal(now) {
				t.Fatalf("from %v the changes lead to %v, want %v", p.Position, got, now)
			}
		}
		past = past[reloads:] // what must reload now must reload for ever
	}
}

// testRace has two replicas write as fast as they can, while followers and loaders on both check every
// state they can get hold of: each write at revision n sets "head" to n and adds one record of its own, so a state
// is whole if its head says n and it has n such records.
func testRace(t *trial) {
	const writers, writes = 2, 40 // per replica
	replicas := []*store.DB{t.open(), t.open()}
	whole := func(s state) error {
		own := 0
		for _, r := range s.records {
			if r.Kind == "test/own" {
				own++
			}
		}
		if head := string(s.records["test/thing\x00head"].Body); own != int(s.Revision) || s.Revision > 0 && head != strconv.Itoa(own) {
			return fmt.Errorf("the state at revision %d has head %q and %d records", s.Revision, head, own)
		}
		return nil
	}

	var writing, reading sync.WaitGroup
	start := t.load(replicas[0])
	for i, db := range replicas {
		for j := range writers {
			writing.Go(func() {
				random := rand.New(rand.NewPCG(uint64(i), uint64(j)))
				seen := start.Position
				for k := range writes {
					err := db.Write(t.ctx, func(tx feed.Tx) error {
						_, head, err := tx.Since(t.ctx, seen)
						if err != nil {
							return err
						}
						seen = head
						next := strconv.Itoa(int(head.Revision) + 1)
						common := thing(strconv.Itoa(random.IntN(5)), next)
						if random.IntN(2) == 0 {
							common.Body = nil
						}
						own := feed.Record{Kind: "test/own", Key: fmt.Sprintf("%d-%d-%d", i, j, k), Body: []byte(next)}
						_, err = tx.Append(t.ctx, feed.Change{Records: []feed.Record{common, own, thing("head", next)}})
						if err == nil && random.IntN(5) == 0 {
							return errRegret // it leaves no gap
						}
						return err
					})
					if err != nil && err != errRegret {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	done := make(chan struct{})
	ended := func() bool {
		select {
		case <-done:
			return true
		default:
			return false
		}
	}
	for _, db := range replicas {
		reading.Go(func() {
			s := start
			for last := false; !last; {
				last = ended() // asked before: the last round sees the last write
				records, to, err := db.Since(t.ctx, s.Position)
				if err == nil && to.Revision < s.Revision {
					err = fmt.Errorf("the feed went back from %d to %d", s.Revision, to.Revision)
				}
				if err == nil {
					s = fold(s, records, to)
					err = whole(s)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
			if loaded, err := load(t.ctx, db); err != nil || !loaded.equal(s) {
				t.Errorf("in the end the follower has %v, but there is %v (%v)", s, loaded, err)
			}
		})
		reading.Go(func() {
			for !ended() {
				s, err := load(t.ctx, db)
				if err == nil {
					err = whole(s)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writing.Wait()
	close(done)
	reading.Wait()
}

var errRegret = errors.New("roll back")

// wait takes one signal.
func (t *trial) wait(signals <-chan struct{}) {
	t.Helper()
	select {
	case _, open := <-signals:
		if !open {
			t.Fatal("the watch has ended")
		}
	case <-t.ctx.Done():
		t.Fatal("no signal came")
	}
}

// waitFor takes signals until the feed has reached a position.
func (t *trial) waitFor(db *store.DB, signals <-chan struct{}, at feed.Position) {
	t.Helper()
	for t.load(db).Revision < at.Revision {
		t.wait(signals)
	}
}

func testWatch(t *trial) {
	db := t.open()
	db.Poll = time.Hour
	ctx, cancel := context.WithCancel(t.ctx)
	signals, err := db.Watch(ctx)
	t.try(err)
	t.wait(signals)
	for range 20 {
		t.waitFor(db, signals, t.put(db, thing("a", "1")))
	}
	for range 20 { // nobody takes these: they are one
		t.put(db, thing("a", "2"))
	}
	t.wait(signals)
	cancel()
	for open := true; open; {
		select {
		case _, open = <-signals:
		case <-t.ctx.Done():
			t.Fatal("the watch goes on after its context")
		}
	}
	t.put(db, thing("a", "3"))
}

func testWatchOther(t *trial) {
	db, other := t.open(), t.open()
	db.Poll = time.Millisecond
	signals, err := db.Watch(t.ctx)
	t.try(err)
	for range 5 {
		t.waitFor(db, signals, t.put(other, thing("a", "1")))
	}
}

func testWatchIdle(t *trial) {
	db := t.open()
	db.Poll = time.Millisecond
	signals, err := db.Watch(t.ctx)
	t.try(err)
	for range 5 {
		t.wait(signals)
	}
}

func testPing(t *trial) {
	db, err := store.Open(t.ctx, t.url)
	t.try(err)
	t.try(db.Ping(t.ctx))
	t.try(db.Close())
	if db.Ping(t.ctx) == nil {
		t.Error("a closed database answers")
	}
}
