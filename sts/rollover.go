package sts

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
)

// The life of a signing key:
//
//	published ──24 h──▶ signs ──about 90 days──▶ its successor signs ──28 h──▶ retires ──7 days──▶ is forgotten
//
// A withdrawn key retires at once, and is forgotten as others are. Each step is one write, so a process killed between two leaves a schedule that the next
// Ensure, of any replica, goes on with.
const (
	keyLead   = 24 * time.Hour // a new key is published this long before it signs: clients refresh the JWKS daily
	keyGrace  = 28 * time.Hour // an old key stays this long after its successor signs: the longest token life
	keyLife   = 90 * 24 * time.Hour
	keyMemory = 7 * 24 * time.Hour // a retired key is still listed
	keySkew   = 5 * time.Minute    // how far the clocks of replicas may differ when a key must sign at once
)

// Ensure does what the schedule wants: it makes the first key, publishes the next one when the present one has come to the end
// of its life, and forgets those that retired long ago. Call it at the start and every hour.
func (k *Keys) Ensure(ctx context.Context) error {
	k.private.Range(func(id, _ any) bool {
		if key := In(k.Feed.View()).Key(id.(string)); key == nil || !key.InForce(k.now()) {
			k.private.Delete(id)
		}
		return true
	})
	if s := newSchedule(In(k.Feed.View()), k.now()); !s.due() && !s.early() && len(s.forgotten()) == 0 {
		return nil
	}
	return k.change(ctx, func(s *schedule, fresh *freshKey) error {
		if s.due() { // still: another replica may have been first
			s.publish(fresh)
		}
		for _, old := range s.forgotten() {
			s.drop(old)
		}
		return nil
	})
}

// Roll publishes a new key that will sign after the lead time; the present ones retire when the last token
// they can have signed has expired.
func (k *Keys) Roll(ctx context.Context) error {
	return k.change(ctx, func(s *schedule, fresh *freshKey) error {
		s.publish(fresh)
		return nil
	})
}

// Withdraw stops a key at once: every token it has signed is refused from now on. If it was signing, one that is published
// already takes over, or else a new one.
func (k *Keys) Withdraw(ctx context.Context, id string) error {
	err := k.change(ctx, func(s *schedule, fresh *freshKey) error {
		if !s.withdraw(id) {
			return fault.New(fault.NotFound, "there is no signing key %q; run: gatehouse keys", id)
		}
		if s.due() {
			s.publish(fresh)
		}
		return nil
	})
	if err == nil {
		k.private.Delete(id)
	}
	return err
}

// change writes what plan makes of the schedule as it is under the store's lock.
func (k *Keys) change(ctx context.Context, plan func(*schedule, *freshKey) error) error {
	now := k.now().UTC()
	fresh, err := makeKey(now)
	if err != nil {
		return err
	}
	return k.Feed.Update(ctx, func(v *feed.View, _ feed.Secrets) (feed.Change, error) {
		s := newSchedule(In(v), now)
		if err := plan(s, fresh); err != nil {
			return feed.Change{}, err
		}
		s.arrange()
		return s.changes(), nil
	})
}

// schedule is the keys as a plan changes them. It does no I/O.
type schedule struct {
	now    time.Time
	was    *State
	keys   []*Key // all that are known, copies, in the order in which they sign
	change feed.Change
}

func newSchedule(state *State, now time.Time) *schedule {
	s := &schedule{now: now, was: state}
	for _, k := range state.Keys() {
		own := *k
		s.keys = append(s.keys, &own)
	}
	return s
}

// inForce returns the keys that verify tokens now, in the order in which they sign.
func (s *schedule) inForce() (keys []*Key) {
	for _, k := range s.keys {
		if k.InForce(s.now) {
			keys = append(keys, k)
		}
	}
	return keys
}

// due reports whether a new key is wanted: there is none, or the newest is old.
func (s *schedule) due() bool {
	keys := s.inForce()
	return len(keys) == 0 || s.now.Sub(keys[len(keys)-1].SignsFrom) > keyLife
}

// early reports whether no key signs yet, as when the clock was set back.
func (s *schedule) early() bool {
	keys := s.inForce()
	return len(keys) > 0 && keys[0].SignsFrom.After(s.now)
}

// publish adds a key that signs after the lead time, or at once if it is the only one.
func (s *schedule) publish(fresh *freshKey) {
	k := fresh.Key
	k.SignsFrom = s.now.Add(-keySkew)
	if len(s.inForce()) > 0 {
		k.SignsFrom = s.now.Add(keyLead)
	}
	s.keys = append(s.keys, &k)
	slices.SortFunc(s.keys, bySigning)
	s.change.Secrets = append(s.change.Secrets, feed.Secret{Record: feed.Record{Kind: KindKey, Key: k.ID, Body: fresh.private}})
}

func (s *schedule) withdraw(id string) (known bool) {
	for _, k := range s.keys {
		if k.ID == id {
			k.Withdrawn, known = true, true
			s.change.Secrets = append(s.change.Secrets, feed.Secret{Record: feed.Record{Kind: KindKey, Key: id}})
		}
	}
	return known
}

// forgotten returns the keys that retired long ago.
func (s *schedule) forgotten() (keys []*Key) {
	for _, k := range s.keys {
		if !k.Retires.IsZero() && s.now.Sub(k.Retires) > keyMemory {
			keys = append(keys, k)
		}
	}
	return keys
}

func (s *schedule) drop(k *Key) {
	gone := feed.Record{Kind: KindKey, Key: k.ID}
	s.change.Records = append(s.change.Records, gone)
	s.change.Secrets = append(s.change.Secrets, feed.Secret{Record: gone})
}

// arrange settles who signs when. Of the keys in force the first must sign by now, and each retires when the last token that it can
// have signed has expired; the last one stays, also when it was to retire in favour of one that is withdrawn now. A withdrawn key
// retires now: one that an earlier version has withdrawn may have no end yet.
func (s *schedule) arrange() {
	for _, k := range s.keys {
		if k.Withdrawn && (k.Retires.IsZero() || k.Retires.After(s.now)) {
			k.Retires = s.now
		}
	}
	keys := s.inForce()
	if s.early() {
		keys[0].SignsFrom = s.now.Add(-keySkew)
	}
	for i, k := range keys {
		k.Retires = time.Time{}
		if i+1 < len(keys) {
			k.Retires = keys[i+1].SignsFrom.Add(keyGrace)
		}
	}
}

// changes is what must be written.
func (s *schedule) changes() feed.Change {
	for _, k := range s.keys {
		if old := s.was.Key(k.ID); old == nil || !old.SignsFrom.Equal(k.SignsFrom) || !old.Retires.Equal(k.Retires) || old.Withdrawn != k.Withdrawn {
			s.change.Records = append(s.change.Records, record(KindKey, k.ID, k))
		}
	}
	return s.change
}

// freshKey is a key with its private half.
type freshKey struct {
	Key
	private []byte // PKCS #8
}

func makeKey(now time.Time) (*freshKey, error) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	cert, err := selfSigned(private, now)
	if err != nil {
		return nil, fmt.Errorf("make a signing certificate: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	sum := sha1.Sum(cert)
	return &freshKey{Key{ID: base64.RawURLEncoding.EncodeToString(sum[:]), Certificate: cert, Published: now}, der}, nil
}

func selfSigned(key *rsa.PrivateKey, now time.Time) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "Gatehouse token signing"},
		NotBefore:    now.Add(-5 * time.Minute),
		NotAfter:     now.Add(5 * 365 * 24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
	return x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
}
