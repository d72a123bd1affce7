package sts

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
)

// KindVault is a secret: the ring of token keys, which seal what this server hands out and takes back (refresh tokens, the
// state of the device page), and the key that hashes device codes.
const KindVault feed.Kind = "sts/vault"

const vaultID = "ring"

const (
	sealLife  = 30 * 24 * time.Hour        // a token key is used this long
	sealGrace = refreshLife + 24*time.Hour // and opens what it has sealed this long after
	maxSealed = 16 << 10                   // the longest sealed text that is looked at, in bytes
	sealHead  = 1 + 4 + 12                 // format, key id, nonce
	sealForm  = 1                          // the only format so far
	sealNonce = 12                         // bytes, AES-GCM's standard size
	sealKey   = 32                         // bytes: AES-256
)

// ring is the body of the secret.
type ring struct {
	Hash []byte     `json:"hash"` // never changes
	Keys []tokenKey `json:"keys"` // oldest first; the last seals
}

type tokenKey struct {
	ID   uint32    `json:"id"`
	Key  []byte    `json:"key"`
	Made time.Time `json:"made"`
}

// vault seals and opens with the ring. It reads the ring once and again when it meets the key after the newest: another replica may have
// added one, and each adds one at a time.
type vault struct {
	feed   *feed.Follower
	now    func() time.Time
	random io.Reader

	mu   sync.Mutex // held while the ring is read or changed; whoever names a key that is not there waits, others do not
	ring atomic.Pointer[ring]
}

var errRing = fmt.Errorf("the secret %s in the database is damaged; restore the last backup", KindVault)

// errSealed: a text was not sealed here, or for something else, or was changed.
var errSealed = errors.New("not sealed by this server for this purpose")

// seal encrypts a text with AES-256-GCM. The purpose is authenticated with it: what was sealed for one opens for no other.
func (v *vault) seal(ctx context.Context, purpose string, text []byte) (string, error) {
	r, err := v.load(ctx, 0)
	if err != nil {
		return "", err
	}
	key := r.Keys[len(r.Keys)-1]
	aead, err := newAEAD(key.Key)
	if err != nil {
		return "", err
	}
	out := make([]byte, sealHead, sealHead+len(text)+aead.Overhead())
	out[0] = sealForm
	binary.BigEndian.PutUint32(out[1:5], key.ID)
	if _, err := io.ReadFull(v.random, out[5:sealHead]); err != nil {
		return "", fmt.Errorf("make a nonce: %w", err)
	}
	out = aead.Seal(out, out[5:sealHead], text, sealedFor(purpose, out[:5]))
	return base64.RawURLEncoding.EncodeToString(out), nil
}

// open returns what seal was given, or errSealed.
func (v *vault) open(ctx context.Context, purpose, sealed string) ([]byte, error) {
	if len(sealed) > maxSealed || strings.ContainsAny(sealed, "\r\n") { // which the decoder would pass over
		return nil, errSealed
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(sealed)
	if err != nil || len(raw) < sealHead || raw[0] != sealForm {
		return nil, errSealed
	}
	id := binary.BigEndian.Uint32(raw[1:5])
	r, err := v.load(ctx, id)
	if err != nil {
		return nil, err
	}
	for _, k := range r.Keys {
		if k.ID != id {
			continue
		}
		aead, err := newAEAD(k.Key)
		if err != nil {
			return nil, err
		}
		text, err := aead.Open(nil, raw[5:sealHead], raw[sealHead:], sealedFor(purpose, raw[:5]))
		if err != nil {
			return nil, errSealed
		}
		return text, nil
	}
	return nil, errSealed
}

// hash names a code that this server made without keeping it.
func (v *vault) hash(ctx context.Context, purpose, code string) (string, error) {
	r, err := v.load(ctx, 0)
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(directory.HashSecret(r.Hash, purpose, code)), nil
}

// load returns the ring, one that has key id if there is such a one.
func (v *vault) load(ctx context.Context, id uint32) (*ring, error) {
	if r := v.ring.Load(); r != nil && id != r.newest()+1 {
		return r, nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if r := v.ring.Load(); r != nil && id <= r.newest() {
		return r, nil
	}
	kept, err := v.feed.Secret(ctx, KindVault, vaultID)
	switch {
	case err == nil:
		err = v.decode(kept.Body)
	case errors.Is(err, feed.ErrNoSecret):
		err = v.change(ctx, func(r *ring) bool { return len(r.Keys) == 0 }) // else another replica was first
	}
	if err != nil {
		return nil, fmt.Errorf("read the keys that encrypt refresh tokens and pages: %w", err)
	}
	return v.ring.Load(), nil
}

// roll adds a token key when the newest has been in use for sealLife, and drops those that nothing can be sealed with any more.
func (v *vault) roll(ctx context.Context) error {
	r, err := v.load(ctx, 0)
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	due := func(r *ring) bool { return v.now().Sub(r.Keys[len(r.Keys)-1].Made) >= sealLife }
	if !due(r) {
		return nil
	}
	return v.change(ctx, due)
}

// change adds a key to the ring in one write, if the ring as it then is wants one.
func (v *vault) change(ctx context.Context, wants func(*ring) bool) error {
	key, hash := make([]byte, sealKey), make([]byte, sealKey)
	for _, b := range [][]byte{key, hash} {
		if _, err := io.ReadFull(v.random, b); err != nil {
			return fmt.Errorf("make a key that encrypts refresh tokens and pages: %w", err)
		}
	}
	var body []byte
	err := v.feed.Update(ctx, func(_ *feed.View, secrets feed.Secrets) (feed.Change, error) {
		r := &ring{Hash: hash}
		kept, err := secrets.Secret(ctx, KindVault, vaultID)
		switch {
		case err == nil:
			r = new(ring)
			if json.Unmarshal(kept.Body, r) != nil {
				return feed.Change{}, errRing
			}
		case !errors.Is(err, feed.ErrNoSecret):
			return feed.Change{}, err
		}
		if !wants(r) {
			body = kept.Body
			return feed.Change{}, nil
		}
		next := tokenKey{ID: 1, Key: key, Made: v.now().UTC()}
		var keep []tokenKey
		for i, k := range r.Keys {
			next.ID = k.ID + 1
			superseded := next.Made
			if i+1 < len(r.Keys) {
				superseded = r.Keys[i+1].Made
			}
			if next.Made.Sub(superseded) < sealGrace {
				keep = append(keep, k)
			}
		}
		r.Keys = append(keep, next)
		if body, err = json.Marshal(r); err != nil {
			return feed.Change{}, err
		}
		return feed.Change{Secrets: []feed.Secret{{Record: feed.Record{Kind: KindVault, Key: vaultID, Body: body}}}}, nil
	})
	if err != nil {
		return fmt.Errorf("write the keys that encrypt refresh tokens and pages: %w", err)
	}
	return v.decode(body)
}

func (v *vault) decode(body []byte) error {
	r := new(ring)
	if err := json.Unmarshal(body, r); err != nil || len(r.Keys) == 0 || len(r.Hash) != sealKey {
		return errRing
	}
	v.ring.Store(r)
	return nil
}

func (r *ring) newest() uint32 { return r.Keys[len(r.Keys)-1].ID }

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// sealedFor is the additional data: purpose, format and key id.
func sealedFor(purpose string, head []byte) []byte {
	return append(append([]byte(purpose), 0), head...)
}
