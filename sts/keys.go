package sts

import (
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-k8s/gatehouse/feed"
)

// Key is the public half of a signing key and its life.
type Key struct {
	ID          string    `json:"kid"`         // base64url SHA-1 of the certificate, as Entra has it
	Certificate []byte    `json:"certificate"` // DER, self-signed
	Published   time.Time `json:"published"`
	SignsFrom   time.Time `json:"signsFrom"`
	Retires     time.Time `json:"retires,omitzero"` // set when a successor is known, or the key is withdrawn
	Withdrawn   bool      `json:"withdrawn,omitempty"`

	public *rsa.PublicKey
}

func decodeKey(body []byte) (*Key, error) {
	k := new(Key)
	if err := json.Unmarshal(body, k); err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(k.Certificate)
	if err != nil {
		return nil, err
	}
	public, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("the certificate holds a %T, not an RSA key", cert.PublicKey)
	}
	k.public = public
	return k, nil
}

// InForce reports whether tokens signed with the key are good at a time.
func (k *Key) InForce(at time.Time) bool {
	return !k.Withdrawn && (k.Retires.IsZero() || at.Before(k.Retires))
}

// Key returns a signing key by id, or nil.
func (s *State) Key(id string) *Key { return s.keys[id] }

// Keys returns every key that is known, also those no longer in force, oldest first.
func (s *State) Keys() []*Key {
	out := slices.Collect(maps.Values(s.keys))
	slices.SortFunc(out, bySigning)
	return out
}

// bySigning orders keys by the time from which they sign. No two are equal, so all replicas agree which one signs.
func bySigning(a, b *Key) int {
	return cmp.Or(a.SignsFrom.Compare(b.SignsFrom), strings.Compare(a.ID, b.ID))
}

// Published returns the keys that verify tokens at a time, oldest first.
func (s *State) Published(at time.Time) []*Key {
	return slices.DeleteFunc(s.Keys(), func(k *Key) bool { return !k.InForce(at) })
}

// Signing returns the key that signs at a time, or nil.
func (s *State) Signing(at time.Time) *Key {
	var best *Key
	for _, k := range s.Published(at) {
		if !k.SignsFrom.After(at) {
			best = k
		}
	}
	return best
}

// JWK is a public key as the key endpoints publish it (RFC 7517, with Entra's issuer member).
type JWK struct {
	Kty    string   `json:"kty"`
	Use    string   `json:"use"`
	Kid    string   `json:"kid"`
	X5t    string   `json:"x5t"`
	N      string   `json:"n"`
	E      string   `json:"e"`
	X5c    []string `json:"x5c"`
	Issuer string   `json:"issuer,omitempty"`
}

// JWK returns the key in the form that the key endpoints publish.
func (k *Key) JWK(issuer string) JWK {
	return JWK{
		Kty: "RSA", Use: "sig", Kid: k.ID, X5t: k.ID,
		N:      base64.RawURLEncoding.EncodeToString(k.public.N.Bytes()),
		E:      base64.RawURLEncoding.EncodeToString(big.NewInt(int64(k.public.E)).Bytes()),
		X5c:    []string{base64.StdEncoding.EncodeToString(k.Certificate)},
		Issuer: issuer,
	}
}

// Keys makes, rolls and withdraws signing keys (rollover.go), and signs with them.
type Keys struct {
	Feed *feed.Follower
	Now  func() time.Time // nil: time.Now

	private sync.Map // kid -> *rsa.PrivateKey
}

// signer returns the key that signs now with its private half.
func (k *Keys) signer(ctx context.Context) (*Key, *rsa.PrivateKey, error) {
	key := In(k.Feed.View()).Signing(k.now())
	if key == nil {
		return nil, nil, errors.New("there is no signing key in force")
	}
	if p, ok := k.private.Load(key.ID); ok {
		return key, p.(*rsa.PrivateKey), nil
	}
	secret, err := k.Feed.Secret(ctx, KindKey, key.ID)
	if err != nil {
		return nil, nil, fmt.Errorf("read signing key %s: %w", key.ID, err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(secret.Body)
	if err != nil {
		return nil, nil, fmt.Errorf("signing key %s: %w", key.ID, err)
	}
	private, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, nil, fmt.Errorf("signing key %s is not RSA", key.ID)
	}
	k.private.Store(key.ID, private)
	return key, private, nil
}

// Sign makes a JWT of claims, signed RS256 with the key in force (RFC 7515). v1 tokens name the key as x5t, too.
func (k *Keys) Sign(ctx context.Context, claims any, v1 bool) (string, error) {
	key, private, err := k.signer(ctx)
	if err != nil {
		return "", err
	}
	header := struct {
		Typ string `json:"typ"`
		Alg string `json:"alg"`
		X5t string `json:"x5t,omitempty"`
		Kid string `json:"kid"`
	}{Typ: "JWT", Alg: "RS256", Kid: key.ID}
	if v1 {
		header.X5t = key.ID
	}
	h, err := json.Marshal(header)
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	b64 := base64.RawURLEncoding
	token := b64.AppendEncode(nil, h)
	token = append(token, '.')
	token = b64.AppendEncode(token, payload)
	sum := sha256.Sum256(token)
	sig, err := rsa.SignPKCS1v15(rand.Reader, private, crypto.SHA256, sum[:])
	if err != nil {
		return "", fmt.Errorf("sign with key %s: %w", key.ID, err)
	}
	token = append(token, '.')
	return string(b64.AppendEncode(token, sig)), nil
}

func (k *Keys) now() time.Time {
	if k.Now != nil {
		return k.Now()
	}
	return time.Now()
}

func record(kind feed.Kind, key string, v any) feed.Record {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own types always encode
	}
	return feed.Record{Kind: kind, Key: key, Body: body}
}
