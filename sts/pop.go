package sts

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
)

// Proof is what the holder of a bound token signed with its key: a signed HTTP request in the form that MSAL makes and guard reads. There
// is nothing in it of the request itself, because kubectl sends one proof with every request of a command.
type Proof struct {
	URI  string    // u: what the token is presented to; the caller must compare it, as it compares the audience
	Made time.Time // ts
}

const (
	proofLife  = 15 * time.Minute // of a proof, from when it was made
	proofAhead = time.Minute      // that a client's clock may be ahead of ours

	// maxProof is the longest proof that is looked at, in bytes: a token of the longest kind, encoded once more.
	maxProof = MaxToken*4/3 + 4096
	// maxURI is the longest name of what a proof is for, in bytes: it is remembered with the answer.
	maxURI = 2048
	// maxHead bounds what is decoded of a token to see whether it is a proof. Headers of proofs have about 90 characters.
	maxHead = 256

	thumbprintSize = sha256.Size
	minKey         = 2048 // bits of a client's RSA key
	maxKey         = 4096 // larger ones cost more to check than a stranger's word is worth
)

// ErrBound is in the chain of the refusal of a token that is bound to a key and came without a proof.
var ErrBound = errors.New("bound to a key")

// Presented checks a token as it came: a bearer token, as Signed does, or a proof with a bound token inside, whose Token then has a Proof.
// hash is that of the whole. Like Signed it says nothing about time, account or session: use Check on every use.
func (v *Verifier) Presented(view *feed.View, token []byte, hash Hash) (*Token, error) {
	if !isProof(token) {
		return v.Signed(view, token, hash)
	}
	p, err := parseProof(token)
	if err != nil {
		return nil, err
	}
	at := []byte(p.token)
	t, err := v.signed(view, at, HashToken(at)) // first: whoever has no token of ours is sent away before anything is computed
	if err != nil {
		return nil, err
	}
	if err := p.binds(t.Confirmation); err != nil {
		return nil, err
	}
	proven := *t
	proven.Proof = &Proof{URI: p.uri, Made: time.Unix(p.made, 0)}
	return &proven, nil
}

// inTime reports why a proof is not of this time, or nil.
func (p *Proof) inTime(now time.Time) error {
	switch {
	case !now.Before(p.until()):
		return errToken("the proof of possession was made at %s and is good for %s; clients make a new one for each command", p.Made.UTC().Format(time.RFC3339), proofLife)
	case p.Made.Sub(now) > proofAhead:
		return errToken("the proof of possession is of the future, %s: check the clock of the client", p.Made.UTC().Format(time.RFC3339))
	}
	return nil
}

func (p *Proof) until() time.Time { return p.Made.Add(proofLife) }

// isProof reports whether a token calls itself a proof: the typ of its header is "pop". It is asked of every token that was not seen before.
func isProof(token []byte) bool {
	head, _, ok := bytes.Cut(token, []byte{'.'})
	if !ok || len(head) > maxHead {
		return false
	}
	var room [maxHead]byte
	raw, err := base64.RawURLEncoding.Strict().AppendDecode(room[:0], head)
	if err != nil || !bytes.Contains(bytes.ToLower(raw), []byte(`"pop"`)) {
		return false
	}
	var typ string
	return readMembers(raw, map[string]any{"typ": &typ}) == nil && strings.EqualFold(typ, "pop")
}

// proof is one that was taken apart but not verified yet.
type proof struct {
	keyID     string // of the header
	token     string // at
	uri       string // u
	made      int64  // ts, Unix seconds
	key       jwk    // cnf.jwk
	signed    []byte // header.payload
	signature []byte
}

// jwk is an RSA public key as a client sends it (RFC 7518 section 6.3.1).
type jwk struct{ kty, n, e string }

// parseProof takes a proof apart. Members have their exact names; those that MSAL sends beside (nonce) mean nothing here.
func parseProof(token []byte) (*proof, error) {
	parts := strings.Split(string(token[:min(len(token), maxProof+1)]), ".")
	if len(parts) != 3 || len(token) > maxProof {
		return nil, errForeign("this is not a proof of possession of three parts and at most %d bytes", maxProof)
	}
	header, err1 := decodeSegment(parts[0])
	payload, err2 := decodeSegment(parts[1])
	signature, err3 := decodeSegment(parts[2])
	if err1 != nil || err2 != nil || err3 != nil {
		return nil, errForeign("the parts of the proof of possession are not base64url")
	}
	p := &proof{signed: token[:len(parts[0])+1+len(parts[1])], signature: signature}
	var alg string
	if err := readMembers(header, map[string]any{"alg": &alg, "kid": &p.keyID, "crit": new(noExtensions)}); err != nil {
		return nil, errForeign("the header of the proof of possession: %s", err)
	}
	if alg != "RS256" {
		return nil, errForeign("the algorithm of the proof of possession is %.20q; only RS256 is accepted", alg)
	}
	var cnf json.RawMessage
	if err := readMembers(payload, map[string]any{"at": &p.token, "ts": &p.made, "u": &p.uri, "cnf": &cnf}); err != nil {
		return nil, errForeign("the claims of the proof of possession: %s", err)
	}
	var key json.RawMessage
	if err := readMembers(cnf, map[string]any{"jwk": &key}); err != nil {
		return nil, errForeign("the claim cnf of the proof of possession: %s", err)
	}
	if err := readMembers(key, map[string]any{"kty": &p.key.kty, "n": &p.key.n, "e": &p.key.e}); err != nil {
		return nil, errForeign("the key of the proof of possession: %s", err)
	}
	if len(p.uri) > maxURI {
		return nil, errForeign("the proof of possession is for something whose name (u) has %d bytes; at most %d are read", len(p.uri), maxURI)
	}
	if p.made <= 0 || p.made > 1<<40 {
		return nil, errForeign("the proof of possession has no time (ts)")
	}
	return p, nil
}

// binds checks that the token inside is bound to the proof's key, and that this key signed the proof.
func (p *proof) binds(c *Confirmation) error {
	if c == nil {
		return errToken("the token inside the proof of possession is not bound to a key")
	}
	public, err := p.key.public()
	if err != nil {
		return errToken("the key of the proof of possession: %s", err)
	}
	thumb := []byte(p.key.thumbprint())
	if subtle.ConstantTimeCompare(thumb, []byte(p.keyID))&subtle.ConstantTimeCompare(thumb, []byte(c.KeyID)) != 1 {
		return errToken("the token is bound to another key than that of the proof of possession")
	}
	sum := sha256.Sum256(p.signed)
	if rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], p.signature) != nil {
		return errToken("the signature of the proof of possession is wrong")
	}
	return nil
}

// public is the key, if it is one of those that are accepted.
func (k *jwk) public() (*rsa.PublicKey, error) {
	if k.kty != "RSA" {
		return nil, fmt.Errorf("its kty is %.20q; only RSA is accepted", k.kty)
	}
	if k.e != "AQAB" { // what every client makes; others would only be a way to make checks slow
		return nil, errors.New("its exponent is not 65537")
	}
	if len(k.n) > base64.RawURLEncoding.EncodedLen(maxKey/8) {
		return nil, fmt.Errorf("it has more than %d bits", maxKey)
	}
	raw, err := decodeSegment(k.n)
	if err != nil {
		return nil, errors.New("its modulus is not base64url")
	}
	n := new(big.Int).SetBytes(raw)
	if n.BitLen() < minKey || n.BitLen() > maxKey || n.Bit(0) == 0 {
		return nil, fmt.Errorf("its modulus is not an odd number of %d to %d bits", minKey, maxKey)
	}
	return &rsa.PublicKey{N: n, E: 65537}, nil
}

// thumbprint is the key's (RFC 7638 section 3), in base64url. The members are known not to need escapes: public has passed.
func (k *jwk) thumbprint() string {
	sum := sha256.Sum256([]byte(`{"e":"` + k.e + `","kty":"RSA","n":"` + k.n + `"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// errUnbound refuses a bound token that came as bearer token.
func errUnbound() error {
	return fault.New(fault.Unauthenticated, "The access token is bound to a key and was presented without the proof of possession. "+
		"Ask for a bearer token, without token_type=pop, where no proof can be given.").WithCode("InvalidAuthenticationToken").Wrap(ErrBound)
}
