package seal

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/internal/kms"
)

// Store is what the secrets are kept in.
type Store interface {
	feed.Log
	fmt.Stringer // names it in messages

	// Scrub leaves nothing in the store's files of what secrets held before; with whole, also of what was written
	// before the store could be sealed.
	Scrub(ctx context.Context, whole bool) error
}

const (
	keyLife         = 90 * 24 * time.Hour // of a data key
	defaultPatience = 15 * time.Second
	retryPause      = 200 * time.Millisecond
)

// Options say how a store is opened. The zero value of each field but Master works.
type Options struct {
	Master   Source
	Old      Source           // the master key before, which Master replaces; zero: none
	Encrypt  bool             // take over secrets in plain also where they may have been put in place of sealed ones
	Patience time.Duration    // how long to wait for a KMS plugin that is not ready; zero: 15 s, negative: not at all
	Now      func() time.Time // zero: time.Now
	Logger   *slog.Logger     // zero: slog.Default
}

// Log is a feed.Log whose secrets are sealed in the store below. Replicas with the same master key may share the store.
type Log struct {
	feed.Log // the store: what is no secret passes through

	store   Store
	options Options
	master  master
	key     atomic.Pointer[dataKey]
}

var _ feed.Log = (*Log)(nil)

// Open returns the store with its secrets readable. A store that holds no data key yet gets one, and what it holds in plain is
// sealed with it in the same transaction, if nobody can have sealed the store before: an own file is made just now, or Encrypt says so.
// Else whoever can write to the database could take the data key out and put secrets of his own in. With secrets that are not
// to be trusted, the wrong master key or none, nothing is changed and the error says what is missed.
func Open(ctx context.Context, s Store, o Options) (*Log, error) {
	l := &Log{Log: s, store: s, options: o}
	if err := errors.Join(l.options.Master.take(), l.options.Old.take()); err != nil {
		return nil, err
	}
	if err := l.unlock(ctx); err != nil {
		return nil, err
	}
	l.options.Old = Source{} // has done its work
	if l.key.Load().Scrub {
		if err := l.scrub(ctx); err != nil {
			l.logger().Warn("what the database held before its secrets were sealed anew may still be in its files; it will be tried again", "err", err)
		}
	}
	return l, nil
}

// unlock gets the data key, or makes the first.
func (l *Log) unlock(ctx context.Context) error {
	record, body, err := readRecord(ctx, l.store)
	if errors.Is(err, feed.ErrNoSecret) {
		if err := l.begin(ctx); !errors.Is(err, errBegun) {
			return err
		}
		record, body, err = readRecord(ctx, l.store)
	}
	if err == nil && l.options.Encrypt {
		l.logger().Warn("--encrypt-database has done its work: leave it out, or secrets that somebody puts into the database in plain may be taken over at a start")
	}
	if err != nil {
		return err
	}
	if l.master, err = l.options.Master.load(); err != nil {
		return l.missed(record, err)
	}
	key, err := l.unwrap(ctx, record, l.master)
	if err == nil {
		l.hold(key, body)
		return nil
	}
	if l.options.Old.IsZero() || errors.Is(err, kms.ErrUnavailable) {
		return l.missed(record, err)
	}
	old, err := l.options.Old.load()
	if err != nil {
		return l.missed(record, fmt.Errorf("--old-master-key: %w", err))
	}
	if key, err = l.unwrap(ctx, record, old); err != nil {
		l.master = old
		return l.missed(record, err)
	}
	l.hold(key, body)
	return l.replace(ctx, func(now *dataKey) bool { return bytes.Equal(now.ID, key.ID) }, true)
}

// missed says what was expected where.
func (l *Log) missed(r keyRecord, err error) error {
	held := "the master key " + r.Wrapped.KeyID
	if r.Master == "kms" {
		held = fmt.Sprintf("the key %q of a KMS plugin", r.Wrapped.KeyID)
	}
	switch {
	case errors.Is(err, errNoKey):
		return fmt.Errorf("%w; the secrets in %s are sealed under %s; put that one back, or name it with --master-key", err, l.store, held)
	case errors.Is(err, errOtherKey):
		given := l.master.String()
		if m, ok := l.master.(*local); ok {
			given += " (" + m.id + ")"
		}
		remedy := "name that one with --master-key or, to change to this one, with --old-master-key"
		if !l.options.Old.IsZero() {
			given, remedy = "--old-master-key "+given, "name that one"
		}
		return fmt.Errorf("%s is not the master key of %s, whose secrets are sealed under %s; %s", given, l.store, held, remedy)
	}
	return fmt.Errorf("the secrets in %s are sealed under %s: %w", l.store, held, err)
}

// errBegun: another replica has sealed the store in the meantime.
var errBegun = errors.New("the store is sealed already")

// begin makes the first data key and, for an own file, the master key.
func (l *Log) begin(ctx context.Context) (err error) {
	l.master, err = l.options.Master.load()
	first := errors.Is(err, errNoKey) && l.options.Master.own
	if first {
		l.master, err = makeLocal(l.options.Master)
	}
	if err != nil {
		return err
	}
	fresh, err := l.newKey(ctx)
	if err != nil {
		return err
	}
	found := 0
	err = l.store.Write(ctx, func(tx feed.Tx) error {
		if _, _, err := readRecord(ctx, tx); !errors.Is(err, feed.ErrNoSecret) {
			return errors.Join(errBegun, err)
		}
		err := l.rewrite(ctx, tx, fresh, func(s feed.Secret) (feed.Secret, error) {
			if isSealed(s.Body) {
				return s, fmt.Errorf("%s holds sealed secrets but not the data key that opens them; restore the last backup of the database", l.store)
			}
			if !l.expired(s) {
				found++
			}
			fresh.Scrub, fresh.Plain = true, true
			return s, nil
		})
		if err != nil {
			return err
		}
		if found > 0 && !first && !l.options.Encrypt {
			return fmt.Errorf("%s holds secrets in plain (%d), and %s may have sealed it before: if an earlier version that did not encrypt has written them, "+
				"or the first start of this version was cut short, start once with --encrypt-database; if not, somebody has changed the database: restore the last backup",
				l.store, found, l.master)
		}
		return l.master.keep() // while nobody else can begin, and before anything is sealed under it
	})
	if err != nil {
		return err
	}
	l.key.Store(fresh)
	if found > 0 {
		l.logger().Warn("the database held secrets in plain, which were taken over and are encrypted now", "secrets", found)
	}
	return nil
}

// replace seals everything under a new data key, in one transaction, if due says so of the present one.
func (l *Log) replace(ctx context.Context, due func(*dataKey) bool, scrub bool) error {
	fresh, err := l.newKey(ctx)
	if err != nil {
		return err
	}
	replaced := false
	err = l.store.Write(ctx, func(tx feed.Tx) error {
		key, err := l.refresh(ctx, tx)
		if replaced = err == nil && due(key); !replaced {
			return err
		}
		fresh.Scrub, fresh.Plain = scrub || key.Scrub, key.Plain
		return l.rewrite(ctx, tx, fresh, func(s feed.Secret) (feed.Secret, error) {
			plain, err := key.open(s)
			if err != nil {
				err = fmt.Errorf("%w; either a server of an older version still runs on this database and wrote it (stop that one), or the row is damaged; "+
					"where what it holds can be made anew, this row alone may be deleted from the table secrets", err)
			}
			return plain, err
		})
	})
	if err != nil {
		return fmt.Errorf("seal the secrets in %s under a new data key: %w", l.store, err)
	}
	if replaced {
		l.key.Store(fresh)
	}
	return nil
}

// rewrite seals every secret, and keeps the key with them. What has expired goes, whether it opens or not: nobody reads it any more.
func (l *Log) rewrite(ctx context.Context, tx feed.Tx, under *dataKey, open func(feed.Secret) (feed.Secret, error)) error {
	var all feed.Change
	err := tx.EachSecret(ctx, func(s feed.Secret) error {
		if s.Kind == kindKey {
			return nil
		}
		plain, err := open(s)
		switch {
		case l.expired(s):
			s.Body = nil
			all.Secrets = append(all.Secrets, s)
		case err != nil:
			return err
		default:
			all.Secrets = append(all.Secrets, under.seal(plain))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := under.encode(); err != nil {
		return err
	}
	all.Secrets = append(all.Secrets, under.record())
	_, err = tx.Append(ctx, all)
	return err
}

// scrub rewrites the store's files and notes that it is done.
func (l *Log) scrub(ctx context.Context) error {
	clean := *l.key.Load()
	if err := l.store.Scrub(ctx, clean.Plain); err != nil {
		return err
	}
	clean.Scrub, clean.Plain = false, false
	if err := clean.encode(); err != nil {
		return err
	}
	noted := false
	err := l.store.Write(ctx, func(tx feed.Tx) error {
		key, err := l.refresh(ctx, tx)
		if noted = err == nil && bytes.Equal(key.ID, clean.ID); !noted { // another replica has another key to scrub after
			return err
		}
		_, err = tx.Append(ctx, feed.Change{Secrets: []feed.Secret{clean.record()}})
		return err
	})
	if err == nil && noted {
		l.key.Store(&clean)
	}
	return err
}

// Roll seals every secret under a new data key and leaves nothing of the old one in the store's files.
func (l *Log) Roll(ctx context.Context) error {
	if err := l.replace(ctx, func(*dataKey) bool { return true }, true); err != nil {
		return err
	}
	return l.scrub(ctx)
}

// Maintain does what is due: it seals everything under a new data key when the present one is old or the KMS plugin has another key
// now, and scrubs the store if that is outstanding. Call it every hour or so.
func (l *Log) Maintain(ctx context.Context) error {
	key, err := l.refresh(ctx, l.store)
	if err != nil {
		return err
	}
	current, err := l.master.keyID(ctx)
	if err != nil {
		return fmt.Errorf("master key: %w", err)
	}
	moved := func(k *dataKey) bool { return k.Wrapped.KeyID != current }
	due := func(k *dataKey) bool { return moved(k) || l.now().Sub(k.Made) >= keyLife }
	if due(key) {
		if err := l.replace(ctx, due, moved(key)); err != nil {
			return err
		}
	}
	if l.key.Load().Scrub {
		return l.scrub(ctx)
	}
	return nil
}

// Status is what an administrator may know of the keys.
type Status struct {
	Master   string    `json:"master"` // where the master key comes from
	KeyID    string    `json:"keyID"`  // which master key it is
	Made     time.Time `json:"made"`   // when the data key was
	Replaced time.Time `json:"replaced"`
	Scrub    bool      `json:"scrub"` // the database's files may still hold what was there before
}

// Status reads nothing: it says what this process knows.
func (l *Log) Status() Status {
	k := l.key.Load()
	return Status{Master: l.master.String(), KeyID: k.Wrapped.KeyID, Made: k.Made, Replaced: k.Made.Add(keyLife), Scrub: k.Scrub}
}

// Secret implements feed.Secrets.
func (l *Log) Secret(ctx context.Context, kind feed.Kind, key string) (feed.Secret, error) {
	return l.read(ctx, l.store, kind, key)
}

// read gets a secret and opens it. When the body was sealed with a key that this process does not know, another replica has
// replaced the key, and it is read anew with the new one.
func (l *Log) read(ctx context.Context, from feed.Secrets, kind feed.Kind, key string) (feed.Secret, error) {
	for again := true; ; again = false {
		s, err := from.Secret(ctx, kind, key)
		if err != nil {
			return s, err
		}
		held := l.key.Load()
		if held.seals(s.Body) || !again {
			return held.open(s)
		}
		if _, err := l.refresh(ctx, from); err != nil {
			return feed.Secret{}, err
		}
	}
}

// refresh returns the data key that is in force.
func (l *Log) refresh(ctx context.Context, from feed.Secrets) (*dataKey, error) {
	record, body, err := readRecord(ctx, from)
	if err != nil {
		return nil, fmt.Errorf("the data key: %w", err)
	}
	held := l.key.Load()
	if bytes.Equal(held.body, body) {
		return held, nil
	}
	key, err := record.unwrap(ctx, l.master)
	if err != nil {
		return nil, l.missed(record, err)
	}
	return l.hold(key, body), nil
}

// hold makes a key the one in force for this process.
func (l *Log) hold(key *dataKey, body []byte) *dataKey {
	key.body = body
	l.key.Store(key)
	return key
}

// Write implements feed.Log: plan reads and writes plaintext.
func (l *Log) Write(ctx context.Context, plan func(feed.Tx) error) error {
	return l.store.Write(ctx, func(below feed.Tx) error {
		t := &tx{Tx: below, log: l}
		if err := plan(t); err != nil {
			return err
		}
		return t.err
	})
}

// tx is a write in progress.
type tx struct {
	feed.Tx
	log *Log
	err error // of Append; a plan that overlooks it shall not commit
}

// Secret implements feed.Tx.
func (t *tx) Secret(ctx context.Context, kind feed.Kind, key string) (feed.Secret, error) {
	return t.log.read(ctx, t.Tx, kind, key)
}

// EachSecret implements feed.Tx.
func (t *tx) EachSecret(ctx context.Context, visit func(feed.Secret) error) error {
	key, err := t.log.refresh(ctx, t.Tx)
	if err != nil {
		return err
	}
	return t.Tx.EachSecret(ctx, func(s feed.Secret) error {
		if s.Kind == kindKey {
			return nil
		}
		plain, err := key.open(s)
		if err != nil {
			return err
		}
		return visit(plain)
	})
}

// Append implements feed.Tx. The data key is read in the same transaction, so that nothing is ever sealed with a key that another
// replica has replaced.
func (t *tx) Append(ctx context.Context, c feed.Change) (at feed.Position, err error) {
	if len(c.Secrets) > 0 {
		c.Secrets, err = t.seal(ctx, c.Secrets)
	}
	if err == nil {
		at, err = t.Tx.Append(ctx, c)
	}
	if err != nil {
		t.err = err
	}
	return at, err
}

func (t *tx) seal(ctx context.Context, secrets []feed.Secret) ([]feed.Secret, error) {
	key, err := t.log.refresh(ctx, t.Tx)
	if err != nil {
		return nil, err
	}
	sealed := make([]feed.Secret, len(secrets))
	for i, s := range secrets {
		if s.Kind == kindKey {
			return nil, fmt.Errorf("%s is not for plans to write", kindKey)
		}
		if s.Body != nil && len(s.Body) == 0 {
			return nil, fmt.Errorf("%s %q has an empty body; only a nil body deletes", s.Kind, s.Key) // the store could not tell any more
		}
		sealed[i] = key.seal(s)
	}
	return sealed, nil
}

// unwrap opens a data key, and waits for a plugin that is not ready.
func (l *Log) unwrap(ctx context.Context, r keyRecord, m master) (key *dataKey, err error) {
	err = l.patiently(ctx, func(ctx context.Context) error {
		key, err = r.unwrap(ctx, m)
		return err
	})
	return key, err
}

// newKey makes a data key, and waits for a plugin that is not ready.
func (l *Log) newKey(ctx context.Context) (key *dataKey, err error) {
	err = l.patiently(ctx, func(ctx context.Context) error {
		key, err = newDataKey(ctx, l.master, l.now())
		return err
	})
	return key, err
}

// patiently repeats what fails because a KMS plugin is not ready: on a machine that boots, it may start after us. Together the
// tries take no longer than the patience.
func (l *Log) patiently(ctx context.Context, try func(context.Context) error) error {
	patience := cmp.Or(l.options.Patience, defaultPatience)
	if patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	said := false
	for {
		err := try(ctx)
		if !errors.Is(err, kms.ErrUnavailable) {
			return err
		}
		if patience < 0 || ctx.Err() != nil {
			return impatient(err)
		}
		if !said {
			l.logger().Warn("waiting for the KMS plugin", "for", patience, "err", err)
			said = true
		}
		select {
		case <-ctx.Done():
			return impatient(err)
		case <-time.After(retryPause):
		}
	}
}

func impatient(err error) error {
	return fmt.Errorf("%w; start it, or name another master key with --master-key", err)
}

func (l *Log) expired(s feed.Secret) bool { return !s.Expires.IsZero() && !s.Expires.After(l.now()) }

func (l *Log) now() time.Time {
	if l.options.Now != nil {
		return l.options.Now()
	}
	return time.Now()
}

func (l *Log) logger() *slog.Logger {
	if l.options.Logger != nil {
		return l.options.Logger
	}
	return slog.Default()
}
