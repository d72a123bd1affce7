package seal

import (
	"context"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/gatehouse-k8s/gatehouse/internal/kms"
	"github.com/gatehouse-k8s/gatehouse/internal/pki"
)

// master wraps data keys.
type master interface {
	fmt.Stringer // where it comes from, for messages
	kind() string
	wrap(ctx context.Context, plain []byte) (kms.Sealed, error)
	// unwrap is errOtherKey for what another key has wrapped.
	unwrap(ctx context.Context, w kms.Sealed) ([]byte, error)
	// keyID names the key that wrap would use now.
	keyID(ctx context.Context) (string, error)
	// keep stores a key that was made just now where it will be looked for.
	keep() error
}

var errOtherKey = errors.New("it is not the key that wrapped the data key")

// Source is where a master key comes from.
type Source struct {
	scheme, at string
	own        bool   // a file in the data directory, which the first start makes
	value      string // of the environment variable, once taken
	set        bool   // the variable was set
}

// ParseSource reads file:/path, env:NAME or kms:unix:///path of a socket.
func ParseSource(text string) (Source, error) {
	scheme, at, _ := strings.Cut(text, ":")
	s := Source{scheme: scheme, at: at}
	switch {
	case scheme == "file" && at != "", scheme == "env" && at != "" && !strings.ContainsAny(at, "= "):
		return s, nil
	case scheme == "kms":
		if path, ok := strings.CutPrefix(at, "unix://"); ok && len(path) > 1 && (path[0] == '/' || path[0] == '@') {
			return s, nil
		}
	}
	if scheme != "file" && scheme != "env" && scheme != "kms" {
		text = "..." // somebody may have given the key itself
	}
	return Source{}, fmt.Errorf("%q is not file:/path, env:NAME or kms:unix:///path/of/socket", text)
}

// OwnFile is a file that Open makes when the database holds no sealed secrets yet.
func OwnFile(path string) Source { return Source{scheme: "file", at: path, own: true} }

// String is the source as ParseSource takes it.
func (s Source) String() string { return s.scheme + ":" + s.at }

// IsZero reports whether no source was named.
func (s Source) IsZero() bool { return s.scheme == "" }

// take moves the key out of the environment, where every child process would find it.
func (s *Source) take() error {
	if s.scheme == "env" && !s.set {
		s.value, s.set = os.LookupEnv(s.at)
		return os.Unsetenv(s.at)
	}
	return nil
}

const howToMake = "32 random bytes in base64, as `openssl rand -base64 32` prints them"

var errNoKey = errors.New("no master key")

// load gets the key. A missing own file is errNoKey.
func (s Source) load() (master, error) {
	switch s.scheme {
	case "kms":
		return plugin{kms.New(strings.TrimPrefix(s.at, "unix://"))}, nil
	case "env":
		if s.value == "" {
			return nil, fmt.Errorf("%w: the environment variable %s is not set; it must hold %s", errNoKey, s.at, howToMake)
		}
		return parseLocal(s, s.value)
	}
	text, err := pki.ReadSecret(s.at)
	switch {
	case errors.Is(err, fs.ErrNotExist) && s.own:
		return nil, fmt.Errorf("%w: the file %s is missing", errNoKey, s.at)
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: the file %s is missing; it must hold %s, with mode 0600", errNoKey, s.at, howToMake)
	case err != nil:
		return nil, fmt.Errorf("master key: %w", err)
	}
	return parseLocal(s, strings.TrimSpace(string(text)))
}

// local is a master key that this process holds itself.
type local struct {
	source Source
	id     string
	aead   cipher.AEAD
	fresh  []byte // to be kept; nil once it is
}

// parseLocal reads the base64 form. Errors never quote it.
func parseLocal(s Source, text string) (*local, error) {
	key, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("the master key in %s is not base64; it must be %s; put the right one back from a backup", s, howToMake)
	}
	if len(key) != chacha20poly1305.KeySize {
		return nil, fmt.Errorf("the master key in %s has %d bytes, not 32; it must be %s; put the right one back from a backup", s, len(key), howToMake)
	}
	return newLocal(s, key)
}

func newLocal(s Source, key []byte) (*local, error) {
	wrapping, err := hkdf.Key(sha256.New, key, nil, "gatehouse data key wrapping", chacha20poly1305.KeySize)
	if err != nil {
		return nil, err
	}
	id, err := hkdf.Key(sha256.New, key, nil, "gatehouse master key id", 8)
	if err != nil {
		return nil, err
	}
	aead, err := chacha20poly1305.NewX(wrapping)
	return &local{source: s, id: hex.EncodeToString(id), aead: aead}, err
}

// makeLocal makes a new key for an own file. Nothing is written yet: see keep.
func makeLocal(s Source) (*local, error) {
	key := make([]byte, chacha20poly1305.KeySize)
	rand.Read(key)
	l, err := newLocal(s, key)
	if err != nil {
		return nil, err
	}
	l.fresh = key
	return l, nil
}

func (l *local) String() string { return l.source.String() }

func (l *local) kind() string { return "local" }

func (l *local) keyID(context.Context) (string, error) { return l.id, nil }

func (l *local) wrap(_ context.Context, plain []byte) (kms.Sealed, error) {
	nonce := make([]byte, l.aead.NonceSize())
	rand.Read(nonce)
	return kms.Sealed{Ciphertext: l.aead.Seal(nonce, nonce, plain, nil), KeyID: l.id}, nil
}

func (l *local) unwrap(_ context.Context, w kms.Sealed) ([]byte, error) {
	if w.KeyID != l.id {
		return nil, errOtherKey
	}
	n := l.aead.NonceSize()
	if len(w.Ciphertext) < n {
		return nil, errWrapped
	}
	plain, err := l.aead.Open(nil, w.Ciphertext[:n], w.Ciphertext[n:], nil)
	if err != nil {
		return nil, errWrapped
	}
	return plain, nil
}

var errWrapped = errors.New("the wrapped data key in the database is damaged; restore the last backup of the database")

func (l *local) keep() error {
	if l.fresh == nil {
		return nil
	}
	text := base64.StdEncoding.EncodeToString(l.fresh) + "\n"
	if err := pki.WriteFile(l.source.at, []byte(text), 0o600); err != nil {
		return fmt.Errorf("keep the new master key: %w", err)
	}
	l.fresh = nil
	return nil
}

// plugin is a master key that never leaves its KMS.
type plugin struct{ *kms.Plugin }

func (p plugin) kind() string { return "kms" }

func (p plugin) keyID(ctx context.Context) (string, error) { return p.Status(ctx) }

func (p plugin) wrap(ctx context.Context, plain []byte) (kms.Sealed, error) {
	return p.Encrypt(ctx, rand.Text(), plain)
}

func (p plugin) unwrap(ctx context.Context, w kms.Sealed) ([]byte, error) {
	return p.Decrypt(ctx, rand.Text(), w)
}

func (p plugin) keep() error { return nil }
