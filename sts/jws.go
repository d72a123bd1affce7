package sts

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// jws is a signed JWT of another party, taken apart but not verified yet. Nothing in its header but the algorithm and the names of
// keys is ever looked at: keys that a token brings along (jwk, jku, x5c, x5u) prove nothing.
type jws struct {
	Alg        string
	KeyID      string
	Thumbprint string // x5t: SHA-1 of a certificate
	SHA256     string // x5t#S256

	claims    foreignClaims
	signed    []byte // header.payload
	signature []byte
}

// foreignClaims are the claims of assertions (RFC 7523 section 3).
type foreignClaims struct {
	Issuer    string
	Subject   string
	Audience  audiences
	Expires   instant
	NotBefore instant
}

// audiences is one string or a list (RFC 7519 section 4.1.3).
type audiences []string

func (a *audiences) UnmarshalJSON(raw []byte) error {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		*a = audiences{one}
		return nil
	}
	return json.Unmarshal(raw, (*[]string)(a))
}

// instant is a NumericDate (RFC 7519 section 2), which may have a fraction; 0: absent.
type instant int64

func (i *instant) UnmarshalJSON(raw []byte) error {
	var f float64
	if err := json.Unmarshal(raw, &f); err != nil {
		return err
	}
	if f <= 0 || f > 1<<40 {
		return fmt.Errorf("%g is not a time", f)
	}
	*i = instant(f)
	return nil
}

func (i instant) time() time.Time { return time.Unix(int64(i), 0).UTC() }

// parseJWS takes a compact JWS (RFC 7515 section 7.1) apart. Its errors are for the client.
func parseJWS(token string) (*jws, error) {
	if len(token) > MaxToken {
		return nil, fmt.Errorf("it has %d bytes, and at most %d are read", len(token), MaxToken)
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 || strings.ContainsAny(token, "\r\n") {
		return nil, errors.New("it does not have three parts")
	}
	b64 := base64.RawURLEncoding.Strict()
	header, err1 := b64.DecodeString(parts[0])
	payload, err2 := b64.DecodeString(parts[1])
	signature, err3 := b64.DecodeString(parts[2])
	if err1 != nil || err2 != nil || err3 != nil {
		return nil, errors.New("its parts are not base64url")
	}
	j := &jws{signed: []byte(token[:len(parts[0])+1+len(parts[1])]), signature: signature}
	err := readMembers(header, map[string]any{"alg": &j.Alg, "kid": &j.KeyID, "x5t": &j.Thumbprint, "x5t#S256": &j.SHA256, "crit": new(noExtensions)})
	if err != nil {
		return nil, fmt.Errorf("its header: %w", err)
	}
	c := &j.claims
	err = readMembers(payload, map[string]any{"iss": &c.Issuer, "sub": &c.Subject, "aud": &c.Audience, "exp": &c.Expires, "nbf": &c.NotBefore})
	if err != nil {
		return nil, fmt.Errorf("its claims: %w", err)
	}
	return j, nil
}

// readMembers decodes members of a JSON object by their exact names. encoding/json would also take "SUB" for "sub", and an issuer that
// lets its users choose the names of further claims would let them choose their subject.
func readMembers(raw []byte, into map[string]any) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil || all == nil {
		return errors.New("not a JSON object")
	}
	for name, at := range into {
		if value, ok := all[name]; ok {
			if err := json.Unmarshal(value, at); err != nil {
				return fmt.Errorf("%s is not what it must be", name)
			}
		}
	}
	return nil
}

// noExtensions refuses the header crit (RFC 7515 section 4.1.11): none is known here.
type noExtensions struct{}

func (*noExtensions) UnmarshalJSON([]byte) error { return errors.New("critical extensions") }

// verify checks the signature by one of two algorithms; the caller has chosen the key by other means than the token's word.
func (j *jws) verify(key *rsa.PublicKey) error {
	sum := sha256.Sum256(j.signed)
	switch j.Alg {
	case "RS256":
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], j.signature)
	case "PS256": // RFC 7518 section 3.5: the salt is as long as the hash
		return rsa.VerifyPSS(key, crypto.SHA256, sum[:], j.signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	}
	return fmt.Errorf("algorithm %.20q is not accepted", j.Alg)
}
