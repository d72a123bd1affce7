package directory

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha1" // names certificates as clients do (x5t); nothing rests on it
	"crypto/sha256"
	"crypto/x509"
	"slices"
	"time"

	"github.com/gatehouse-k8s/gatehouse/fault"
)

const (
	maxKeys        = 50      // certificates of one object
	maxCertificate = 8 << 10 // bytes
)

// SHA1 is the certificate's thumbprint, which JWTs name as x5t (RFC 7515 section 4.1.7).
func (k *KeyCredential) SHA1() [sha1.Size]byte { return sha1.Sum(k.Certificate) }

// SHA256 is the thumbprint that JWTs name as x5t#S256 (RFC 7515 section 4.1.8).
func (k *KeyCredential) SHA256() [sha256.Size]byte { return sha256.Sum256(k.Certificate) }

// Covers reports whether the credential is good at a time.
func (k *KeyCredential) Covers(t time.Time) bool { return !t.Before(k.Start) && t.Before(k.End) }

// PublicKey returns the certificate's key.
func (k *KeyCredential) PublicKey() (*rsa.PublicKey, error) {
	cert, err := x509.ParseCertificate(k.Certificate)
	if err != nil {
		return nil, err
	}
	public, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, fault.New(fault.Invalid, "certificate %s holds no RSA key", k.KeyID)
	}
	return public, nil
}

// checkKeys holds a list of certificates against the rules and returns a copy in which the server has filled in what it decides:
// ids, and times no wider than the certificate's. An entry of old that is given as it was, or without its times, keeps them, also when it has expired.
func (p *plan) checkKeys(keys, old []KeyCredential) ([]KeyCredential, error) {
	keys = slices.Clone(keys)
	if len(keys) > maxKeys {
		return nil, invalidKey("there are %d certificates; an object holds at most %d", len(keys), maxKeys)
	}
	for i := range keys {
		k := &keys[i]
		if err := checkText("keyCredentials.displayName", k.DisplayName, false, 120); err != nil {
			return nil, err
		}
		if k.KeyID.IsZero() {
			id, err := p.newID()
			if err != nil {
				return nil, err
			}
			k.KeyID = id
		}
		if slices.ContainsFunc(keys[:i], func(o KeyCredential) bool { return o.KeyID == k.KeyID }) {
			return nil, invalidKey("the keyId %s is there twice", k.KeyID)
		}
		if slices.ContainsFunc(keys[:i], func(o KeyCredential) bool { return bytes.Equal(o.Certificate, k.Certificate) }) {
			return nil, invalidKey("the certificate with keyId %s is there twice", k.KeyID)
		}
		if j := slices.IndexFunc(old, func(o KeyCredential) bool { return o.KeyID == k.KeyID }); j >= 0 && bytes.Equal(old[j].Certificate, k.Certificate) {
			was := old[j]
			if k.Start.IsZero() {
				k.Start = was.Start
			}
			if k.End.IsZero() {
				k.End = was.End
			}
			if sameSecond(k.Start, was.Start) && sameSecond(k.End, was.End) {
				k.Start, k.End = was.Start, was.End
				continue
			}
		}
		if err := k.check(p.now); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// check holds a new certificate against the rules. RSA with at least 2048 bits is what RS256 and PS256 need (RFC 7518 section 3.3).
func (k *KeyCredential) check(now time.Time) error {
	if len(k.Certificate) == 0 {
		return invalidKey("key is missing; give the certificate, DER in base64, or the keyId of a certificate that is there")
	}
	if len(k.Certificate) > maxCertificate {
		return invalidKey("key has %d bytes; at most %d are taken", len(k.Certificate), maxCertificate)
	}
	cert, err := x509.ParseCertificate(k.Certificate)
	if err != nil {
		return invalidKey("key is not an X.509 certificate (%s); give the public certificate alone, DER in base64", err)
	}
	public, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok || public.N.BitLen() < 2048 || public.N.BitLen() > 8192 {
		return invalidKey("the certificate's key must be RSA with 2048 to 8192 bits")
	}
	k.Start, k.End = k.Start.UTC(), k.End.UTC()
	if k.Start.Before(cert.NotBefore) { // also the zero time
		k.Start = cert.NotBefore.UTC()
	}
	if k.End.IsZero() || k.End.After(cert.NotAfter) {
		k.End = cert.NotAfter.UTC()
	}
	if !k.End.After(k.Start) || !k.End.After(now) {
		return invalidKey("Key credential end date is invalid: %s has passed or is not after the start, %s; use another certificate",
			k.End.Format(time.RFC3339), k.Start.Format(time.RFC3339))
	}
	return nil
}

// sameSecond compares times as clients see them.
func sameSecond(a, b time.Time) bool { return a.Unix() == b.Unix() }

func invalidKey(format string, args ...any) error {
	return fault.New(fault.Invalid, "keyCredentials: "+format, args...).At("keyCredentials").WithCode("Request_BadRequest")
}
