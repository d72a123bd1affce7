package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Request says what a certificate shall be good for. It must serve a Client, a Server or both; a
// server's needs a DNS name or an address.
type Request struct {
	CommonName    string
	Organizations []string // Kubernetes reads them as groups
	DNSNames      []string
	IPs           []net.IP
	Client        bool
	Server        bool
	Lifetime      time.Duration // 0 is a year; it never outlives its authority
}

// KeyPair is a certificate and its private key.
type KeyPair struct {
	CertPEM []byte
	KeyPEM  []byte // PKCS #8
}

// Issue makes a key and signs a certificate for it. What a verifier would refuse, by the authority's
// constraints or because the authority has expired, is an error and not issued.
func (a *Authority) Issue(r Request) (KeyPair, error) {
	pair, err := a.issue(r)
	if err != nil {
		return KeyPair{}, fmt.Errorf("issue a certificate for %q by %q: %w", nameOf(r), a.cert.Subject.CommonName, err)
	}
	return pair, nil
}

func (a *Authority) issue(r Request) (KeyPair, error) {
	now := a.Now()
	t := &x509.Certificate{
		Subject:               pkix.Name{CommonName: r.CommonName, Organization: r.Organizations},
		DNSNames:              r.DNSNames,
		IPAddresses:           r.IPs,
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(r.Lifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
	}
	if r.Client {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	if r.Server {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	switch {
	case len(t.ExtKeyUsage) == 0:
		return KeyPair{}, errors.New("it must be for a client or for a server")
	case r.Server && len(r.DNSNames)+len(r.IPs) == 0:
		return KeyPair{}, errors.New("a server's certificate needs a DNS name or an address")
	case r.Lifetime < 0:
		return KeyPair{}, errors.New("its lifetime is negative")
	case r.Lifetime == 0:
		t.NotAfter = now.AddDate(1, 0, 0)
	}
	if t.NotAfter.After(a.cert.NotAfter) {
		t.NotAfter = a.cert.NotAfter
	}

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return KeyPair{}, err
	}
	if t.SerialNumber, err = serial(); err != nil {
		return KeyPair{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return KeyPair{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return KeyPair{}, err
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: a.Pool(), CurrentTime: now, KeyUsages: t.ExtKeyUsage}); err != nil {
		return KeyPair{}, err
	}
	return encode(der, key)
}

// nameOf is how an error calls the certificate that was asked for.
func nameOf(r Request) string {
	switch {
	case r.CommonName != "":
		return r.CommonName
	case len(r.DNSNames) > 0:
		return r.DNSNames[0]
	case len(r.IPs) > 0:
		return r.IPs[0].String()
	}
	return ""
}

// TLS returns the pair as crypto/tls takes it.
func (k KeyPair) TLS() (tls.Certificate, error) { return tls.X509KeyPair(k.CertPEM, k.KeyPEM) }

// WriteFiles writes the key (mode 0600) and then the certificate (mode 0644), each with WriteFile. A
// reader between the two sees a new key beside an old certificate, never a certificate without its key.
func (k KeyPair) WriteFiles(certPath, keyPath string) error {
	if err := WriteFile(keyPath, k.KeyPEM, 0o600); err != nil {
		return err
	}
	return WriteFile(certPath, k.CertPEM, 0o644)
}

// GetCertificate returns a function for tls.Config.GetCertificate that answers every client with one
// certificate. It is issued at first use and issued anew once two thirds of its life have passed; if
// that fails, the old one serves until it expires. The function is safe for concurrent use.
func (a *Authority) GetCertificate(r Request) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	var (
		mu      sync.Mutex
		current *tls.Certificate
	)
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		now := a.Now()
		if current != nil && fresh(current.Leaf, now) {
			return current, nil
		}
		pair, err := a.Issue(r)
		if err == nil {
			var next tls.Certificate
			if next, err = pair.TLS(); err == nil {
				current = &next
			}
		}
		if err != nil && (current == nil || now.After(current.Leaf.NotAfter)) {
			return nil, err
		}
		return current, nil
	}
}

// fresh reports whether a certificate is in the first two thirds of its life. A clock that was set back
// makes it as useless as one that has moved on.
func fresh(leaf *x509.Certificate, now time.Time) bool {
	renew := leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 3 * 2)
	return !now.Before(leaf.NotBefore) && now.Before(renew)
}

func encode(der []byte, key *ecdsa.PrivateKey) (KeyPair, error) {
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return KeyPair{}, err
	}
	return KeyPair{
		CertPEM: certPEM(der),
		KeyPEM:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}),
	}, nil
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
