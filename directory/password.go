package directory

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
)

// Cost is what one password hash costs (RFC 9106 section 4).
type Cost struct {
	Time    uint32 // passes
	Memory  uint32 // KiB
	Threads uint8
}

// DefaultCost is the second recommended choice of RFC 9106 section 4: 64 MiB, three passes.
var DefaultCost = Cost{Time: 3, Memory: 64 << 10, Threads: 4}

// hashQueue is how many may wait for a hash: some two seconds' worth.
const hashQueue = 16

// Hasher makes and checks password hashes with argon2id. Few run at once and few wait, so that guesses can take neither the
// machine's memory nor everybody's time; beyond that the answer is Throttled.
type Hasher struct {
	Cost Cost      // zero: DefaultCost
	Rand io.Reader // nil: crypto/rand

	once  sync.Once
	made  atomic.Uint64
	slots chan struct{} // held while hashing
	queue chan struct{} // held while hashing or waiting to
	decoy []byte        // a hash of nothing anyone knows, checked for accounts that do not exist
}

// Made is how many hashes have been computed, to set or to check a password.
func (h *Hasher) Made() uint64 { return h.made.Load() }

// Hash returns the encoded hash ("$argon2id$v=19$m=..,t=..,p=..$salt$key") of a password.
func (h *Hasher) Hash(ctx context.Context, password string) ([]byte, error) {
	salt := make([]byte, 16)
	if _, err := io.ReadFull(h.random(), salt); err != nil {
		return nil, fmt.Errorf("make a salt: %w", err)
	}
	c := h.cost()
	key, err := h.run(ctx, password, salt, c, 32)
	if err != nil {
		return nil, err
	}
	b64 := base64.RawStdEncoding
	return fmt.Appendf(nil, "$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, c.Memory, c.Time, c.Threads,
		b64.EncodeToString(salt), b64.EncodeToString(key)), nil
}

// Verify reports whether a password has this hash. A nil hash costs the same time and is false: ask it for
// accounts that do not exist.
func (h *Hasher) Verify(ctx context.Context, hash []byte, password string) (bool, error) {
	unknown := hash == nil
	if unknown {
		h.init()
		hash = h.decoy
	}
	var version int
	var c Cost
	piece := strings.Split(string(hash), "$")
	if len(piece) != 6 || piece[1] != "argon2id" {
		return false, errors.New("stored password hash is not argon2id")
	}
	if _, err := fmt.Sscanf(piece[2]+" "+piece[3], "v=%d m=%d,t=%d,p=%d", &version, &c.Memory, &c.Time, &c.Threads); err != nil || version != argon2.Version {
		return false, errors.New("stored password hash has unknown parameters")
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(piece[4])
	want, err2 := base64.RawStdEncoding.DecodeString(piece[5])
	if err := errors.Join(err1, err2); err != nil {
		return false, fmt.Errorf("stored password hash: %w", err)
	}
	got, err := h.run(ctx, password, salt, c, uint32(len(want)))
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(got, want) == 1 && !unknown, nil
}

func (h *Hasher) run(ctx context.Context, password string, salt []byte, c Cost, size uint32) ([]byte, error) {
	h.init()
	select {
	case h.queue <- struct{}{}:
		defer func() { <-h.queue }()
	default:
		return nil, fault.Throttle(2, "too many sign-ins are being checked at the moment; try again in some seconds")
	}
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	h.made.Add(1)
	return argon2.IDKey([]byte(password), salt, c.Time, c.Memory, c.Threads, size), nil
}

func (h *Hasher) init() {
	h.once.Do(func() {
		h.slots = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)) // each takes several threads
		h.queue = make(chan struct{}, cap(h.slots)+hashQueue)
		c := h.cost()
		b64 := base64.RawStdEncoding
		salt, key := make([]byte, 16), make([]byte, 32)
		rand.Read(salt)
		rand.Read(key)
		h.decoy = fmt.Appendf(nil, "$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, c.Memory, c.Time, c.Threads, b64.EncodeToString(salt), b64.EncodeToString(key))
	})
}

func (h *Hasher) cost() Cost {
	if h.Cost == (Cost{}) {
		return DefaultCost
	}
	return h.Cost
}

func (h *Hasher) random() io.Reader {
	if h.Rand != nil {
		return h.Rand
	}
	return rand.Reader
}

// CheckPassword applies the rule for new passwords: 8 to 256 characters, not the user's own name, and three of four kinds
// of characters (Microsoft Entra "password policies").
func CheckPassword(password, upn string) error {
	invalid := func(why string) error {
		return fault.New(fault.Invalid, "The specified password does not comply with password complexity requirements: %s.", why).
			At("passwordProfile.password").WithCode("Request_BadRequest")
	}
	n := utf8.RuneCountInString(password)
	if n < 8 || n > 256 {
		return invalid(fmt.Sprintf("it has %d characters, and 8 to 256 are allowed", n))
	}
	local, _, _ := strings.Cut(strings.ToLower(upn), "@")
	if len(local) > 3 && strings.Contains(strings.ToLower(password), local) {
		return invalid("it contains the user's name")
	}
	var lower, upper, digit, other int
	for _, r := range password {
		switch {
		case r >= 'a' && r <= 'z':
			lower = 1
		case r >= 'A' && r <= 'Z':
			upper = 1
		case r >= '0' && r <= '9':
			digit = 1
		case r < 0x20:
			return invalid("it holds a control character")
		default:
			other = 1
		}
	}
	if lower+upper+digit+other < 3 {
		return invalid("it needs three of: lower case, upper case, digits, symbols")
	}
	return nil
}

// VerifyPassword reports whether the user has this password. A nil user takes the same time and is false.
func (d *Directory) VerifyPassword(ctx context.Context, u *User, password string) (bool, error) {
	if u == nil {
		return d.Hasher.Verify(ctx, nil, password)
	}
	secret, err := d.Feed.Secret(ctx, KindPassword, u.ID.String())
	if errors.Is(err, feed.ErrNoSecret) {
		return d.Hasher.Verify(ctx, nil, password)
	}
	if err != nil {
		return false, fmt.Errorf("read the password hash of %s: %w", u.ID, err)
	}
	return d.Hasher.Verify(ctx, secret.Body, password)
}

// HashSecret is how secrets that the server made (256 random bits) are stored: HMAC-SHA-256 under a key of the server, for
// a slow hash adds nothing to so much entropy. purpose keeps one use from another.
func HashSecret(key []byte, purpose, secret string) []byte {
	m := hmac.New(sha256.New, key)
	io.WriteString(m, purpose)
	m.Write([]byte{0})
	io.WriteString(m, secret)
	return m.Sum(nil)
}
