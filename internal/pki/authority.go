package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	authorityYears = 10
	backdate       = 5 * time.Minute // for verifiers whose clock is a little behind ours
)

// Constraints limit the names that an authority can vouch for, whoever holds its key: verifiers refuse
// any other (RFC 5280 section 4.2.1.10, marked critical). Both lists are what is permitted, and a kind
// of name whose list is empty is not permitted at all. A DNS domain permits the names below it too.
type Constraints struct {
	DNSDomains []string
	IPRanges   []*net.IPNet
}

// Authority is a certificate authority for one use. It is safe for concurrent use.
type Authority struct {
	Now func() time.Time // the clock; set by Open, replaced by tests before the first use

	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Open loads the authority NAME from a directory, or makes directory and authority if there is none.
//
// A directory that others may write to, a key that others may read, half a pair and a pair that does
// not belong together are errors, and so is an authority that was made with constraints other than c:
// a wider one promises too little, a narrower one issues what nobody accepts. A nil c asks for no
// constraints. The subject becomes the common name when the authority is made and is not compared later.
//
// Two processes must not open the same directory for the first time at once.
func Open(dir, name, subject string, c *Constraints) (*Authority, error) {
	a, err := open(dir, name, subject, c)
	if err != nil {
		return nil, fmt.Errorf("certificate authority %q: %w", name, err)
	}
	return a, nil
}

func open(dir, name, subject string, c *Constraints) (*Authority, error) {
	if name != filepath.Base(name) || !filepath.IsLocal(name) || name == "." {
		return nil, errors.New("its name must be a plain file name")
	}
	want, err := template(subject, c)
	if err != nil {
		return nil, err
	}
	if err := ownDir(dir); err != nil {
		return nil, err
	}
	certPath, keyPath := filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	if _, err := os.Stat(certPath); errors.Is(err, fs.ErrNotExist) {
		if err := create(want, certPath, keyPath); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	return load(want, certPath, keyPath)
}

// template is the certificate of a new authority, but for its serial number.
func template(subject string, c *Constraints) (*x509.Certificate, error) {
	now := time.Now()
	t := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{"Gatehouse"}, CommonName: subject},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.AddDate(authorityYears, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	if c == nil {
		return t, nil
	}
	for _, d := range c.DNSDomains {
		if d == "" || strings.HasPrefix(d, ".") {
			return nil, fmt.Errorf("%q is not a domain to constrain it to", d)
		}
		t.PermittedDNSDomains = append(t.PermittedDNSDomains, strings.ToLower(d))
	}
	slices.Sort(t.PermittedDNSDomains)
	t.PermittedDNSDomains = slices.Compact(t.PermittedDNSDomains)
	t.PermittedIPRanges = c.IPRanges
	t.PermittedDNSDomainsCritical = true // of the extension as a whole, in spite of its name

	// A kind of name that a constraint does not mention is unlimited. So the kinds that are not wanted are
	// closed too: by permitting the one name that never exists (RFC 6761 section 6.4), or by excluding all.
	const nothing = "invalid"
	if len(t.PermittedDNSDomains) == 0 {
		t.PermittedDNSDomains = []string{nothing}
	}
	if len(t.PermittedIPRanges) == 0 {
		t.ExcludedIPRanges = []*net.IPNet{
			{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)},
			{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)},
		}
	}
	t.PermittedEmailAddresses = []string{nothing}
	t.PermittedURIDomains = []string{nothing}
	return t, nil
}

// promises spells the constraints of an authority, to compare and to show.
func promises(c *x509.Certificate) string {
	if !c.PermittedDNSDomainsCritical {
		return "no constraints"
	}
	return fmt.Sprintf("names %q, addresses %v but not %v, mail %q, URIs %q",
		c.PermittedDNSDomains, c.PermittedIPRanges, c.ExcludedIPRanges, c.PermittedEmailAddresses, c.PermittedURIDomains)
}

func create(t *x509.Certificate, certPath, keyPath string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if t.SerialNumber, err = serial(); err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return err
	}
	pair, err := encode(der, key)
	if err != nil {
		return err
	}
	return pair.WriteFiles(certPath, keyPath)
}

func load(want *x509.Certificate, certPath, keyPath string) (*Authority, error) {
	remedy := fmt.Sprintf("restore both files from one backup, or remove both to have a new authority made, which everyone who trusts the old one must then be told: %s and %s", certPath, keyPath)

	text, err := os.ReadFile(certPath)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("%s holds no certificate; %s", certPath, remedy)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w; %s", certPath, err, remedy)
	}

	key, err := readKey(keyPath)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("its key %s is missing; %s", keyPath, remedy)
	case err != nil:
		return nil, err
	case !key.PublicKey.Equal(cert.PublicKey):
		return nil, fmt.Errorf("its key and its certificate do not belong together; %s", remedy)
	case cert.CheckSignatureFrom(cert) != nil: // also: is a CA that may sign certificates
		return nil, fmt.Errorf("%s is not the self-signed certificate of an authority; %s", certPath, remedy)
	case promises(cert) != promises(want):
		return nil, fmt.Errorf("it was made for %s, but is needed for %s; remove %s and %s to have a new one made, which everyone who trusts the old one must then be told",
			promises(cert), promises(want), certPath, keyPath)
	}
	return &Authority{Now: time.Now, cert: cert, key: key}, nil
}

func readKey(path string) (*ecdsa.PrivateKey, error) {
	text, err := ReadSecret(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("%s holds no private key", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s holds a private key that cannot be read", path) // the cause might quote the key
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s holds a key of another kind than ECDSA", path)
	}
	return key, nil
}

// Certificate returns the authority's own certificate, which the caller must not change.
func (a *Authority) Certificate() *x509.Certificate { return a.cert }

// CertPEM returns the authority's own certificate as clients take it.
func (a *Authority) CertPEM() []byte { return certPEM(a.cert.Raw) }

// Pool returns a new pool that holds this authority alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// serial returns a random serial number of 128 bits, never zero (RFC 5280 section 4.1.2.2).
func serial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		return nil, err
	}
	if n.Sign() == 0 {
		return serial()
	}
	return n, nil
}
