package seal

import (
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/internal/kms"
)

// kindKey is the one secret that is not sealed: the data key, wrapped by the master key.
const kindKey feed.Kind = "seal/key"

const dataKeyID = "data"

// keyRecord is its body.
type keyRecord struct {
	ID      []byte     `json:"id"` // random: names the data key in what it has sealed
	Made    time.Time  `json:"made"`
	Master  string     `json:"master"` // what kind of master key wraps it: local or kms
	Wrapped kms.Sealed `json:"wrapped"`
	Check   []byte     `json:"check"`           // tells the right data key from any other
	Scrub   bool       `json:"scrub,omitempty"` // the store's files may still hold what was there before this key
	Plain   bool       `json:"plain,omitempty"` // and that was plaintext
}

// dataKey is a data key ready for use.
type dataKey struct {
	keyRecord
	body []byte // of the record, to tell at a glance whether it has changed
	aead cipher.AEAD
}

// A sealed body is the mark, the data key's id, the nonce, and the ciphertext with its tag. No body that any version has
// written in plain begins like the mark.
const (
	mark     = "\x00GH\x01" // the last byte is the format
	idSize   = 8
	headSize = len(mark) + idSize
)

var errTampered = errors.New("the secret does not belong here or was changed: it does not open; restore it from a backup of the database")

func isSealed(body []byte) bool { return bytes.HasPrefix(body, []byte(mark)) }

// seals reports whether this is the key that a body was sealed with.
func (k *dataKey) seals(body []byte) bool {
	return isSealed(body) && len(body) >= headSize && bytes.Equal(body[len(mark):headSize], k.ID)
}

// seal returns the secret with its body encrypted. A nil body, a deletion, stays as it is.
func (k *dataKey) seal(s feed.Secret) feed.Secret {
	if s.Body == nil {
		return s
	}
	out := make([]byte, headSize+k.aead.NonceSize(), headSize+k.aead.NonceSize()+len(s.Body)+k.aead.Overhead())
	copy(out, mark)
	copy(out[len(mark):], k.ID)
	rand.Read(out[headSize:]) // never fails
	s.Body = k.aead.Seal(out, out[headSize:], s.Body, binding(s, out[:headSize]))
	return s
}

// open is the inverse of seal.
func (k *dataKey) open(s feed.Secret) (feed.Secret, error) {
	tampered := fmt.Errorf("%s %q: %w", s.Kind, s.Key, errTampered)
	text := headSize + k.aead.NonceSize()
	if !k.seals(s.Body) || len(s.Body) < text {
		return feed.Secret{}, tampered
	}
	plain, err := k.aead.Open(nil, s.Body[headSize:text], s.Body[text:], binding(s, s.Body[:headSize]))
	if err != nil {
		return feed.Secret{}, tampered
	}
	s.Body = plain
	return s, nil
}

// binding is the additional data: a body opens only in the place that it was sealed for, and no longer than it was meant to live.
func binding(s feed.Secret, head []byte) []byte {
	out := bytes.Clone(head)
	for _, part := range []string{string(s.Kind), s.Key, s.Tenant} {
		out = binary.AppendUvarint(out, uint64(len(part)))
		out = append(out, part...)
	}
	if s.Expires.IsZero() {
		return append(out, 0)
	}
	return binary.AppendVarint(append(out, 1), s.Expires.UnixMicro()) // as precise as stores keep it
}

// newDataKey makes a data key, wrapped by a master key.
func newDataKey(ctx context.Context, m master, now time.Time) (*dataKey, error) {
	plain := make([]byte, chacha20poly1305.KeySize)
	rand.Read(plain)
	wrapped, err := m.wrap(ctx, plain)
	if err != nil {
		return nil, fmt.Errorf("wrap a new data key: %w", err)
	}
	r := keyRecord{ID: make([]byte, idSize), Made: now.UTC(), Master: m.kind(), Wrapped: wrapped}
	rand.Read(r.ID)
	if r.Check, err = checkOf(plain); err != nil {
		return nil, err
	}
	return r.use(plain)
}

// use makes the key ready.
func (r keyRecord) use(plain []byte) (*dataKey, error) {
	aead, err := chacha20poly1305.NewX(plain)
	if err != nil {
		return nil, err
	}
	k := &dataKey{keyRecord: r, aead: aead}
	return k, k.encode()
}

// encode brings body in line with the record.
func (k *dataKey) encode() (err error) {
	k.body, err = json.Marshal(k.keyRecord)
	return err
}

// record is the key as the store keeps it.
func (k *dataKey) record() feed.Secret {
	return feed.Secret{Record: feed.Record{Kind: kindKey, Key: dataKeyID, Body: k.body}}
}

// readRecord reads the data key's record; feed.ErrNoSecret if there is none.
func readRecord(ctx context.Context, from feed.Secrets) (r keyRecord, body []byte, err error) {
	kept, err := from.Secret(ctx, kindKey, dataKeyID)
	if err != nil {
		return r, nil, err
	}
	if err := json.Unmarshal(kept.Body, &r); err != nil || len(r.ID) != idSize {
		return r, nil, errors.New("the data key's record cannot be read; restore the last backup of the database")
	}
	return r, kept.Body, nil
}

// unwrap opens a data key with a master key.
func (r keyRecord) unwrap(ctx context.Context, m master) (*dataKey, error) {
	if r.Master != m.kind() {
		return nil, errOtherKey
	}
	plain, err := m.unwrap(ctx, r.Wrapped)
	if err != nil {
		return nil, err
	}
	if len(plain) != chacha20poly1305.KeySize {
		return nil, fmt.Errorf("%s gave %d bytes for the data key, which has %d", m, len(plain), chacha20poly1305.KeySize)
	}
	check, err := checkOf(plain)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(check, r.Check) != 1 {
		return nil, fmt.Errorf("%s gave another key than the one that it once wrapped", m)
	}
	return r.use(plain)
}

// checkOf derives a value that tells a data key and reveals nothing of it.
func checkOf(plain []byte) ([]byte, error) {
	return hkdf.Key(sha256.New, plain, nil, "gatehouse data key check", 16)
}
