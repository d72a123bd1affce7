package seal_test

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/internal/kms/kmstest"
	"github.com/gatehouse-k8s/gatehouse/seal"
	"github.com/gatehouse-k8s/gatehouse/store/storetest"
)

func TestPlansSeePlaintextAndTheDatabaseDoesNot(t *testing.T) {
	onBoth(t, func(b *bench) {
		a := b.must(options(b.own()))
		expiring := secret("code", "one time")
		expiring.Expires = time.Now().Add(time.Hour)
		put(b, a, secret("key", "private"), expiring, feed.Secret{Record: feed.Record{Kind: "test/secret", Key: "gone"}})
		wantSecret(b, a, "key", "private")
		wantSecret(b, a, "code", "one time")
		if _, err := a.Secret(b.Context(), "test/secret", "gone"); !errors.Is(err, feed.ErrNoSecret) {
			b.Errorf("a deleted secret: %v", err)
		}
		b.try(a.Write(b.Context(), func(tx feed.Tx) error {
			wantSecret(b, tx, "key", "private")
			seen := 0
			err := tx.EachSecret(b.Context(), func(s feed.Secret) error {
				seen++
				if body := string(s.Body); body != "private" && body != "one time" {
					b.Errorf("%s is %q", s.Key, body)
				}
				return nil
			})
			if seen != 2 {
				b.Errorf("a plan sees %d secrets", seen)
			}
			return err
		}))
		for name, s := range stored(b, a.below) {
			for _, plain := range []string{"private", "one time"} {
				if bytes.Contains(s.Body, []byte(plain)) {
					b.Errorf("the database holds %s in plain", name)
				}
			}
		}
		again := b.must(options(b.own()))
		wantSecret(b, again, "key", "private")
		if info, err := os.Stat(b.file("master-key")); err != nil || info.Mode() != 0o600 {
			b.Errorf("the master key's file: %v (%v)", info.Mode(), err)
		}
	})
}

// TestEqualSecretsLookDifferent: whoever sees the database cannot tell who has the same password as whom, or as before.
func TestEqualSecretsLookDifferent(t *testing.T) {
	b := newBench(t, storetest.SQLite)
	a := b.must(options(b.own()))
	put(b, a, secret("x", "same"), secret("y", "same"))
	first := stored(b, a.below)
	put(b, a, secret("x", "same"))
	if bytes.Equal(first["test/secret x"].Body, first["test/secret y"].Body) || bytes.Equal(first["test/secret x"].Body, stored(b, a.below)["test/secret x"].Body) {
		t.Error("equal secrets have equal ciphertexts")
	}
}

// TestAttacks lets somebody write to the database.
func TestAttacks(t *testing.T) {
	later := time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, attack := range map[string]func(own, other feed.Secret) feed.Secret{
		"another record's ciphertext": func(own, other feed.Secret) feed.Secret { own.Body = other.Body; return own },
		"another tenant":              func(own, _ feed.Secret) feed.Secret { own.Tenant = "t2"; return own },
		"a longer life":               func(own, _ feed.Secret) feed.Secret { own.Expires = later.Add(time.Second); return own },
		"an eternal life":             func(own, _ feed.Secret) feed.Secret { own.Expires = time.Time{}; return own },
		"plaintext":                   func(own, _ feed.Secret) feed.Secret { own.Body = []byte("mine"); return own },
		"the mark alone":              func(own, _ feed.Secret) feed.Secret { own.Body = own.Body[:4]; return own },
		"cut in the nonce":            func(own, _ feed.Secret) feed.Secret { own.Body = own.Body[:20]; return own },
		"cut in the tag":              func(own, _ feed.Secret) feed.Secret { own.Body = own.Body[:len(own.Body)-1]; return own },
		"grown":                       func(own, _ feed.Secret) feed.Secret { own.Body = append(own.Body, 0); return own },
		"another data key":            func(own, _ feed.Secret) feed.Secret { own.Body[5] ^= 1; return own },
		"one bit":                     func(own, _ feed.Secret) feed.Secret { own.Body[len(own.Body)-1] ^= 1; return own },
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			b := newBench(t, storetest.SQLite)
			a := b.must(options(b.own()))
			own := secret("own", "body")
			own.Tenant, own.Expires = "t1", later
			put(b, a, own, secret("other", "body"))
			wantSecret(b, a, "own", "body")
			held := stored(b, a.below)
			put(b, a.below, attack(held["test/secret own"], held["test/secret other"]))
			if s, err := a.Secret(t.Context(), "test/secret", "own"); err == nil || s.Body != nil {
				t.Errorf("it opens: %q", s.Body)
			} else if !strings.Contains(err.Error(), `test/secret "own"`) {
				t.Errorf("the error names no record: %v", err)
			}
			if err := a.Roll(t.Context()); err == nil {
				t.Error("it was sealed anew as if it were genuine")
			}
			wantSecret(b, a, "other", "body")
		})
	}
}

// TestWithoutItsDataKey: a store whose data key was taken out is not taken for one that was never sealed.
func TestWithoutItsDataKey(t *testing.T) {
	b := newBench(t, storetest.SQLite)
	a := b.must(options(b.own()))
	put(b, a, secret("x", "body"))
	put(b, a.below, feed.Secret{Record: feed.Record{Kind: "seal/key", Key: "data"}})
	before := stored(b, a.below)
	if _, err := b.open(options(b.own())); err == nil || !strings.Contains(err.Error(), "not the data key") {
		t.Errorf("got %v", err)
	}
	if after := stored(b, a.below); len(after) != len(before) {
		t.Errorf("it was changed: %v", after)
	}
}

// TestPlaintextInPlaceOfSealedSecrets: somebody who can write to the database takes the data key and the sealed secrets out and puts his
// own in. With any source of the master key they are refused, and nothing is changed.
func TestPlaintextInPlaceOfSealedSecrets(t *testing.T) {
	plugin := kmstest.Start(t)
	for name, source := range map[string]func(*bench) seal.Source{
		"own file": (*bench).own, "named file": first, "plugin": func(b *bench) seal.Source { return b.source("kms:unix://" + plugin.Socket) },
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			onBoth(t, func(b *bench) {
				a := b.must(options(source(b)))
				put(b, a, secret("password", "the right hash"))
				put(b, a.below, secret("password", "the attacker's hash"), feed.Secret{Record: feed.Record{Kind: "seal/key", Key: "data"}})
				before := stored(b, a.below)
				_, err := b.open(options(source(b)))
				if err == nil {
					b.Fatal("the attacker's secrets were taken over")
				}
				for _, want := range []string{"holds secrets in plain (1)", "--encrypt-database", "restore the last backup", a.below.String()} {
					if !strings.Contains(err.Error(), want) {
						b.Errorf("want %q in %v", want, err)
					}
				}
				after := stored(b, a.below)
				if len(after) != 1 || !bytes.Equal(after["test/secret password"].Body, before["test/secret password"].Body) {
					b.Errorf("the refusal changed the database: %v", after)
				}
			})
		})
	}
}

// TestEncryptOnce: with a master key from elsewhere, a database of an earlier version is sealed only by who says so, and the log
// tells how much was taken over, and later that the word is not needed any more.
func TestEncryptOnce(t *testing.T) {
	b := newBench(t, storetest.SQLite)
	want := b.plaintexts()
	var lines bytes.Buffer
	o := options(first(b))
	o.Logger = slog.New(slog.NewTextHandler(&lines, nil))
	if _, err := b.open(o); err == nil || !strings.Contains(err.Error(), "--encrypt-database") {
		t.Errorf("got %v", err)
	}
	o.Encrypt = true
	b.wantAll(b.must(o), want)
	if said := fmt.Sprintf("level=WARN msg=\"the database held secrets in plain, which were taken over and are encrypted now\" secrets=%d\n", len(want)); !strings.HasSuffix(lines.String(), said) {
		t.Errorf("the log has no %q: %s", said, &lines)
	}
	lines.Reset()
	b.must(o)
	if !strings.Contains(lines.String(), "leave it out") {
		t.Errorf("the log does not say that the flag is not needed: %s", &lines)
	}
	lines.Reset()
	o.Encrypt = false
	b.wantAll(b.must(o), want)
	if lines.Len() > 0 {
		t.Errorf("the log says %s", &lines)
	}
}

// TestOneRowThatDoesNotOpen: it keeps the data key and the master key from being replaced for no longer than it lives, and can be
// found and deleted by what the error says.
func TestOneRowThatDoesNotOpen(t *testing.T) {
	onBoth(t, func(b *bench) {
		old := b.keyFile("first", 1)
		change := options(b.keyFile("second", 2))
		change.Old = old
		a := b.must(options(old))
		stray := secret("stray", "of a replica that does not encrypt")
		put(b, a, secret("password", "hash"))
		put(b, a.below, stray)
		for name, err := range map[string]error{"a roll": a.Roll(b.Context()), "a change of the master key": second(b.open(change))} {
			if err == nil {
				b.Fatalf("%s seals what somebody put in", name)
			}
			for _, want := range []string{`test/secret "stray"`, "older version", "damaged", "this row alone may be deleted"} {
				if !strings.Contains(err.Error(), want) {
					b.Errorf("%s: want %q in %v", name, want, err)
				}
			}
		}
		wantSecret(b, a, "password", "hash")

		gone := stray
		gone.Body = nil
		put(b, a.below, gone)
		b.try(a.Roll(b.Context()))

		stray.Expires = epoch
		put(b, a.below, stray)
		b.try(a.Roll(b.Context()))
		if _, there := stored(b, a.below)["test/secret stray"]; there {
			b.Error("a row that has expired is still there")
		}
		put(b, a.below, stray)
		wantSecret(b, b.must(change), "password", "hash")
	})
}

func second(_ *replica, err error) error { return err }

func TestAPlanCannotTouchTheDataKey(t *testing.T) {
	b := newBench(t, storetest.SQLite)
	a := b.must(options(b.own()))
	for name, s := range map[string]feed.Secret{
		"the data key":  {Record: feed.Record{Kind: "seal/key", Key: "data", Body: []byte("{}")}},
		"an empty body": {Record: feed.Record{Kind: "test/secret", Key: "x", Body: []byte{}}},
	} {
		err := a.Write(t.Context(), func(tx feed.Tx) error {
			tx.Append(t.Context(), feed.Change{Secrets: []feed.Secret{s}})
			return nil // overlooked
		})
		if err == nil {
			t.Errorf("%s was written", name)
		}
	}
	b.must(options(b.own()))
}

// files holds all bytes that the database has on disk.
func files(b *bench) []byte {
	b.Helper()
	names, err := filepath.Glob(b.url + "*")
	b.try(err)
	var all []byte
	for _, name := range names {
		content, err := os.ReadFile(name)
		b.try(err)
		all = append(all, content...)
	}
	return all
}

// plaintexts fills a database as an earlier version did, old pages and all.
func (b *bench) plaintexts() (want map[string]string) {
	b.Helper()
	db := storetest.Open(b, b.url)
	if filepath.IsAbs(b.url) {
		left := make([]feed.Secret, 50)
		for i := range left {
			left[i] = secret(fmt.Sprint("left", i), strings.Repeat("PLAINTEXT of an earlier one, ", 200))
		}
		put(b, db, left...)
		raw, err := sql.Open("sqlite", b.url) // which deletes as that version did: pages are let go as they are
		b.try(err)
		_, err = raw.Exec(`DELETE FROM secrets WHERE key LIKE 'left%'`)
		b.try(err)
		_, err = raw.Exec(`PRAGMA wal_checkpoint(TRUNCATE)`)
		b.try(errors.Join(err, raw.Close()))
	}
	want = map[string]string{}
	for i := range 300 {
		key := fmt.Sprint("k", i)
		put(b, db, secret(key, fmt.Sprintf("PLAINTEXT of an earlier %d %s", i, strings.Repeat("x", 200))))
		if i%3 == 0 {
			put(b, db, feed.Secret{Record: feed.Record{Kind: "test/secret", Key: key}})
			continue
		}
		want[key] = fmt.Sprintf("PLAINTEXT of version %d", i)
		put(b, db, secret(key, want[key]))
	}
	past := secret("past", "PLAINTEXT that has expired")
	past.Expires = epoch
	put(b, db, past)
	return want
}

func (b *bench) wantAll(l feed.Secrets, want map[string]string) {
	b.Helper()
	for key, body := range want {
		wantSecret(b, l, key, body)
	}
}

// TestEarlierVersion seals what is there in plain, also on disk: a copy of the database's files reveals nothing.
func TestEarlierVersion(t *testing.T) {
	onBoth(t, func(b *bench) {
		want := b.plaintexts()
		sqlite := filepath.IsAbs(b.url)
		if sqlite && !bytes.Contains(files(b), []byte("PLAINTEXT of an earlier")) {
			b.Fatal("the test has nothing to find")
		}
		a := b.must(options(b.own()))
		b.wantAll(a, want)
		for name, s := range stored(b, a.below) {
			if bytes.Contains(s.Body, []byte("PLAINTEXT")) {
				b.Errorf("%s is still in plain", name)
			}
		}
		if sqlite && bytes.Contains(files(b), []byte("PLAINTEXT")) {
			b.Error("the files still hold plaintext")
		}
		put(b, a, secret("new", "PLAINTEXT of today"))
		b.try(a.below.Close())
		if sqlite && bytes.Contains(files(b), []byte("PLAINTEXT")) {
			b.Error("the files hold plaintext that was written later")
		}
		again := b.must(options(b.own()))
		b.wantAll(again, want)
		if again.Status().Scrub {
			b.Error("scrubbing is still outstanding")
		}
	})
}

// TestKilledWhileSealing: at no moment is anything lost, and plaintext goes in the end.
func TestKilledWhileSealing(t *testing.T) {
	for name, killed := range map[string]dying{
		"before the commit":          {commits: 0},
		"before the scrub":           {commits: 1},
		"before the scrub was noted": {commits: 1, scrubs: 1},
		"not at all":                 {commits: 2, scrubs: 1},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			b := newBench(t, storetest.SQLite)
			want := b.plaintexts()
			killed.DB = storetest.Open(t, b.url)
			l, err := seal.Open(t.Context(), &killed, options(b.own()))
			if unsealed := errors.Is(err, errKilled); unsealed != (name == "before the commit") {
				t.Fatalf("got %v", err)
			}
			if done := err == nil && !l.Status().Scrub; done != (name == "not at all") {
				t.Fatalf("the scrub was noted: %v", done)
			}
			b.try(killed.DB.Close())
			again := options(b.own())
			if name == "before the commit" { // the key file is there, so somebody may have sealed the database before
				before := files(b)
				if _, err := b.open(again); err == nil || !strings.Contains(err.Error(), "--encrypt-database") {
					t.Errorf("got %v", err)
				}
				if !bytes.Equal(files(b), before) {
					t.Error("the refusal changed the database")
				}
				again.Encrypt = true
			}
			a := b.must(again)
			b.wantAll(a, want)
			if bytes.Contains(files(b), []byte("PLAINTEXT")) {
				t.Error("the files still hold plaintext")
			}
		})
	}
}

func TestTwoReplicas(t *testing.T) {
	onBoth(t, func(b *bench) {
		a := b.must(options(b.own()))
		other := b.must(options(b.own()))
		put(b, a, secret("x", "of a"))
		wantSecret(b, other, "x", "of a")
		for i := range 3 {
			b.try(a.Roll(b.Context()))
			put(b, other, secret("y", fmt.Sprint("after roll ", i))) // without having read since
			wantSecret(b, a, "y", fmt.Sprint("after roll ", i))
			b.try(other.Roll(b.Context()))
			wantSecret(b, a, "x", "of a")
			b.try(a.Write(b.Context(), func(tx feed.Tx) error {
				wantSecret(b, tx, "x", "of a")
				return nil
			}))
		}
		b.wantAll(b.must(options(b.own())), map[string]string{"x": "of a", "y": "after roll 2"})
	})
}

// TestFirstStartOfTwo: the second replica at a first start has no key file of its own, and makes none.
func TestFirstStartOfTwo(t *testing.T) {
	onBoth(t, func(b *bench) {
		b.must(options(b.own()))
		elsewhere := filepath.Join(b.TempDir(), "master-key")
		_, err := b.open(options(seal.OwnFile(elsewhere)))
		if err == nil || !strings.Contains(err.Error(), elsewhere+" is missing") {
			b.Errorf("got %v", err)
		}
		if _, err := os.Stat(elsewhere); !os.IsNotExist(err) {
			b.Errorf("a key was made for a database that has another: %v", err)
		}
	})
}

func TestRefusals(t *testing.T) {
	t.Setenv("GATEHOUSE_TEST_EMPTY", "")
	t.Setenv("GATEHOUSE_TEST_SHORT", "c2hvcnQ=")
	t.Setenv("GATEHOUSE_TEST_TYPED", "correct horse battery staple")
	healthy, sick, liar := kmstest.Start(t), kmstest.Start(t), kmstest.Start(t)
	sick.Set(func(b *kmstest.Behaviour) { b.Err = errors.New("no access to the vault") })
	liar.Set(func(b *kmstest.Behaviour) { b.Plain = []byte("too short") })

	for _, c := range []struct {
		name   string
		sealed func(*bench) seal.Source // what the database is sealed under
		given  func(*bench) seal.Source
		want   []string
	}{
		{"missing own file", (*bench).own, func(b *bench) seal.Source {
			b.try(os.Remove(b.file("master-key")))
			return b.own()
		}, []string{"master-key is missing", "put that one back", "--master-key"}},
		{"missing file", first, func(b *bench) seal.Source { return b.source("file:" + b.file("nowhere")) }, []string{"nowhere is missing", "openssl rand -base64 32", "sealed under the master key"}},
		{"another key", first, func(b *bench) seal.Source { return b.keyFile("second", 2) }, []string{"second (", "is not the master key of", "sealed under the master key", "--old-master-key"}},
		{"truncated", first, func(b *bench) seal.Source { return b.cut("first", 24) }, []string{"has 18 bytes, not 32"}},
		{"empty", first, func(b *bench) seal.Source { return b.cut("first", 0) }, []string{"has 0 bytes, not 32"}},
		{"not base64", first, func(b *bench) seal.Source { return b.cut("first", 23) }, []string{"is not base64"}},
		{"readable by others", first, func(b *bench) seal.Source {
			b.try(os.Chmod(b.file("first"), 0o644))
			return b.source("file:" + b.file("first"))
		}, []string{"others may read", "chmod 0600"}},
		{"a folder", first, func(b *bench) seal.Source { return b.source("file:" + b.dir) }, []string{"not a plain file"}},
		{"variable not set", first, func(b *bench) seal.Source { return b.source("env:GATEHOUSE_TEST_UNSET") }, []string{"GATEHOUSE_TEST_UNSET is not set"}},
		{"variable empty", first, func(b *bench) seal.Source { return b.source("env:GATEHOUSE_TEST_EMPTY") }, []string{"GATEHOUSE_TEST_EMPTY is not set"}},
		{"variable too short", first, func(b *bench) seal.Source { return b.source("env:GATEHOUSE_TEST_SHORT") }, []string{"has 5 bytes, not 32"}},
		{"a password", first, func(b *bench) seal.Source { return b.source("env:GATEHOUSE_TEST_TYPED") }, []string{"is not base64"}},
		{"a plugin instead of a file", first, func(b *bench) seal.Source { return b.source("kms:unix://" + healthy.Socket) }, []string{"is not the master key of"}},
		{"a file instead of a plugin", func(b *bench) seal.Source { return b.source("kms:unix://" + healthy.Socket) }, first,
			[]string{"first (", "is not the master key of", `sealed under the key "key-1" of a KMS plugin`}},
		{"plugin that lost its key", func(b *bench) seal.Source { return b.source("kms:unix://" + healthy.Socket) }, func(b *bench) seal.Source {
			return b.source("kms:unix://" + kmstest.Start(b).Socket)
		}, []string{`there is no key "key-1"`}},
		{"plugin that is down", func(b *bench) seal.Source { return b.source("kms:unix://" + healthy.Socket) }, func(b *bench) seal.Source {
			return b.source("kms:unix://" + b.file("nobody"))
		}, []string{"does not answer", "start it, or name another master key"}},
		{"plugin that gives another key", func(b *bench) seal.Source { return b.source("kms:unix://" + liar.Socket) }, func(b *bench) seal.Source {
			return b.source("kms:unix://" + liar.Socket)
		}, []string{"gave 9 bytes for the data key"}},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			b := newBench(t, storetest.SQLite)
			a := b.must(options(c.sealed(b)))
			put(b, a, secret("x", "body"))
			before := stored(b, a.below)
			given := c.given(b)
			there, err := os.ReadDir(b.dir)
			b.try(err)
			_, err = b.open(options(given))
			if err == nil {
				t.Fatal("it opens")
			}
			for _, want := range append(c.want, b.url) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("want %q in %v", want, err)
				}
			}
			for _, never := range []string{"\n", "correct horse", "c2hvcnQ", "AQEBAQ"} {
				if strings.Contains(err.Error(), never) {
					t.Errorf("there is %q in %v", never, err)
				}
			}
			after := stored(b, a.below)
			for name := range before {
				if !bytes.Equal(before[name].Body, after[name].Body) || len(before) != len(after) {
					t.Errorf("%s was changed", name)
				}
			}
			if now, err := os.ReadDir(b.dir); err != nil || len(now) != len(there) {
				t.Errorf("there are files now that were not there: %v (%v)", now, err)
			}
			wantSecret(b, a, "x", "body")
		})
	}
	t.Run("a new database", func(t *testing.T) {
		b := newBench(t, storetest.SQLite)
		for _, given := range []seal.Source{
			b.source("file:" + b.file("nowhere")), b.source("env:GATEHOUSE_TEST_UNSET"), b.source("kms:unix://" + sick.Socket), b.source("kms:unix://" + b.file("nobody")),
		} {
			if _, err := b.open(options(given)); err == nil {
				t.Errorf("%s: it opens", given)
			}
			if there, err := os.ReadDir(b.dir); err != nil || len(there) != 0 {
				t.Errorf("%s: there is %v (%v)", given, there, err)
			}
			if held := stored(b, storetest.Open(t, b.url)); len(held) != 0 {
				t.Errorf("%s: the database holds %v", given, held)
			}
		}
	})
}

func first(b *bench) seal.Source { return b.keyFile("first", 1) }

func (b *bench) cut(name string, to int) seal.Source {
	b.Helper()
	text, err := os.ReadFile(b.file(name))
	b.try(err)
	b.try(os.WriteFile(b.file(name), text[:to], 0o600))
	return b.source("file:" + b.file(name))
}

func TestParseSource(t *testing.T) {
	for text, ok := range map[string]bool{
		"file:/etc/key": true, "file:key": true, "env:KEY": true, "kms:unix:///run/kms.sock": true, "kms:unix:///@kms": true, "kms:unix://@kms": true,
		"": false, "file:": false, "env:": false, "env:A=B": false, "/etc/key": false, "kms:": false, "kms:/run/kms.sock": false, "kms:unix://": false,
		"kms:unix://run/kms.sock": false, "kms:tcp://host:1": false, "vault:x": false,
	} {
		s, err := seal.ParseSource(text)
		if (err == nil) != ok || ok && s.String() != text {
			t.Errorf("%q: %v, %v", text, s, err)
		}
	}
	if _, err := seal.ParseSource("c2VjcmV0IGtleSBvZiAzMiBieXRlcyBsb25nISEhISE="); strings.Contains(err.Error(), "c2Vj") {
		t.Errorf("a key in the wrong place is shown: %v", err)
	}
}

func TestTheEnvironmentIsScrubbed(t *testing.T) {
	b := newBench(t, storetest.SQLite)
	t.Setenv("GATEHOUSE_TEST_KEY", strings.Repeat("A", 43)+"=")
	t.Setenv("GATEHOUSE_TEST_OLD", strings.Repeat("B", 43)+"=")
	o := options(b.source("env:GATEHOUSE_TEST_KEY"))
	o.Old = b.source("env:GATEHOUSE_TEST_OLD")
	put(b, b.must(o), secret("x", "body"))
	for _, name := range []string{"GATEHOUSE_TEST_KEY", "GATEHOUSE_TEST_OLD"} {
		if _, there := os.LookupEnv(name); there {
			t.Errorf("children would see %s", name)
		}
	}
}

func TestChangeOfTheMasterKey(t *testing.T) {
	plugin := kmstest.Start(t)
	sources := map[string]func(*bench) seal.Source{
		"first": first, "second": func(b *bench) seal.Source { return b.keyFile("second", 2) },
		"plugin": func(b *bench) seal.Source { return b.source("kms:unix://" + plugin.Socket) },
	}
	for _, c := range [][2]string{{"first", "second"}, {"first", "plugin"}, {"plugin", "first"}} {
		for kill := range 3 {
			t.Run(fmt.Sprintf("%s-to-%s-%d", c[0], c[1], kill), func(t *testing.T) {
				b := newBench(t, storetest.SQLite)
				old, fresh := sources[c[0]](b), sources[c[1]](b)
				a := b.must(options(old))
				put(b, a, secret("x", "body"))
				former := stored(b, a.below)
				b.try(a.below.Close())

				change := options(fresh)
				change.Old = old
				killed := &dying{DB: storetest.Open(t, b.url), commits: kill, scrubs: kill}
				if _, err := seal.Open(t.Context(), killed, change); kill == 0 && !errors.Is(err, errKilled) {
					t.Errorf("got %v", err)
				}
				b.try(killed.Close())
				if kill == 0 { // as if nothing had been
					a := b.must(options(old))
					wantSecret(b, a, "x", "body")
					b.try(a.below.Close())
				}

				for range 2 { // the flags may stay
					a := b.must(change)
					wantSecret(b, a, "x", "body")
					b.try(a.below.Close())
				}
				if _, err := b.open(options(old)); err == nil {
					t.Error("the old master key still opens")
				}
				a = b.must(options(fresh))
				wantSecret(b, a, "x", "body")
				if wrapped := former["seal/key data"].Body; bytes.Contains(files(b), wrapped[20:100]) {
					t.Error("the files still hold the data key that the old master key opens")
				}
				bare := options(sources[c[1]](b))
				bare.Old = b.source("file:" + b.file("long gone"))
				b.must(bare)
			})
		}
	}
}

func TestNeitherKeyOpens(t *testing.T) {
	b := newBench(t, storetest.SQLite)
	b.must(options(first(b)))
	o := options(b.keyFile("second", 2))
	o.Old = b.keyFile("third", 3)
	if _, err := b.open(o); err == nil || !strings.Contains(err.Error(), "--old-master-key file:"+b.file("third")) || !strings.HasSuffix(err.Error(), "name that one") {
		t.Errorf("got %v", err)
	}
	o.Old = b.source("file:" + b.file("nowhere"))
	if _, err := b.open(o); err == nil || !strings.Contains(err.Error(), "--old-master-key: ") {
		t.Errorf("got %v", err)
	}
	b.must(options(first(b)))
}

// TestMaintain replaces the data key by age, and when the plugin says that it has another key; not otherwise.
func TestMaintain(t *testing.T) {
	b := newBench(t, storetest.SQLite)
	plugin := kmstest.Start(t)
	now := epoch
	o := options(b.source("kms:unix://" + plugin.Socket))
	o.Now = func() time.Time { return now }
	a, other := b.must(o), b.must(o)
	put(b, a, secret("x", "body"))
	key := func() string { return string(stored(b, a.below)["test/secret x"].Body[:12]) }
	maintain := func(replaced bool) {
		t.Helper()
		before := key()
		for _, r := range []*replica{a, other, a} { // a second replica finds it done
			b.try(r.Maintain(t.Context()))
		}
		if (key() != before) != replaced {
			t.Errorf("the data key was replaced: %v, want %v", !replaced, replaced)
		}
		wantSecret(b, other, "x", "body")
	}
	maintain(false)
	now = now.Add(90*24*time.Hour - 1)
	maintain(false)
	now = now.Add(1)
	maintain(true)
	maintain(false)
	plugin.Set(func(b *kmstest.Behaviour) { b.KeyID = "key-2" })
	maintain(true)
	if s := other.Status(); s.KeyID != "key-2" || s.Scrub {
		t.Errorf("the status is %+v", s)
	}
	maintain(false)

	plugin.Stop()
	if err := a.Maintain(t.Context()); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("without its plugin: %v", err)
	}
	put(b, a, secret("y", "goes on")) // the data key is here
	wantSecret(b, other, "y", "goes on")
	plugin.Listen(t)
	maintain(false)
}

// TestPluginThatStartsLater: on a machine that boots, it may come after us.
func TestPluginThatStartsLater(t *testing.T) {
	b := newBench(t, storetest.SQLite)
	plugin := kmstest.Start(t)
	o := options(b.source("kms:unix://" + plugin.Socket))
	put(b, b.must(o), secret("x", "body"))
	plugin.Stop()
	o.Patience = time.Minute
	o.Logger = whenAsked(func() { plugin.Listen(t) })
	wantSecret(b, b.must(o), "x", "body")
}
