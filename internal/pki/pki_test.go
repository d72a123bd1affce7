package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func mustOpen(t *testing.T, dir string, c *Constraints) *Authority {
	t.Helper()
	a, err := Open(dir, "test", "Test CA", c)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func mustIssue(t *testing.T, a *Authority, r Request) (KeyPair, *x509.Certificate) {
	t.Helper()
	pair, err := a.Issue(r)
	if err != nil {
		t.Fatal(err)
	}
	c, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	return pair, c.Leaf
}

func newDir(t *testing.T) string { return filepath.Join(t.TempDir(), "pki") }

func mode(t *testing.T, path string) os.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

func cidr(t *testing.T, s string) *net.IPNet {
	t.Helper()
	_, n, err := net.ParseCIDR(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAuthorityIsMadeOnceAndLoadedAfterwards(t *testing.T) {
	dir := newDir(t)
	first := mustOpen(t, dir, nil)
	c := first.Certificate()
	switch {
	case !c.IsCA || !c.BasicConstraintsValid || !c.MaxPathLenZero || c.MaxPathLen != 0:
		t.Error("it is not a CA for leaf certificates alone")
	case c.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign:
		t.Errorf("key usage %b", c.KeyUsage)
	case len(c.SubjectKeyId) == 0:
		t.Error("no subject key id")
	case c.NotAfter.Year()-c.NotBefore.Year() != 10:
		t.Errorf("valid from %v to %v", c.NotBefore, c.NotAfter)
	case c.PermittedDNSDomainsCritical:
		t.Error("it is constrained")
	}
	if got := mode(t, dir); got != 0o700 {
		t.Errorf("directory has mode %o", got)
	}
	if got := mode(t, filepath.Join(dir, "test.key")); got != 0o600 {
		t.Errorf("key has mode %o", got)
	}

	second := mustOpen(t, dir, nil)
	if !bytes.Equal(first.CertPEM(), second.CertPEM()) {
		t.Error("another certificate at the second start")
	}
	_, leaf := mustIssue(t, second, Request{DNSNames: []string{"a.test"}, Server: true})
	if _, err := leaf.Verify(x509.VerifyOptions{DNSName: "a.test", Roots: first.Pool()}); err != nil {
		t.Error(err)
	}
}

func TestNamesThatAreNoFileName(t *testing.T) {
	for _, name := range []string{"", ".", "..", "../x", "a/b", "/a"} {
		if _, err := Open(newDir(t), name, "x", nil); err == nil {
			t.Errorf("%q was taken", name)
		}
	}
}

func TestHandshake(t *testing.T) {
	a := mustOpen(t, newDir(t), nil)
	client, _ := mustIssue(t, a, Request{CommonName: "cluster-1", Organizations: []string{"clusters"}, Client: true})
	clientCert, err := client.TLS()
	if err != nil {
		t.Fatal(err)
	}
	serve := func(serverCert func(*tls.ClientHelloInfo) (*tls.Certificate, error), c *tls.Config) (peer pkix.Name, err error) {
		near, far := net.Pipe()
		defer near.Close()
		server := tls.Server(far, &tls.Config{GetCertificate: serverCert, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.Pool()})
		done := make(chan error, 1)
		go func() {
			defer far.Close()
			done <- server.Handshake()
		}()
		conn := tls.Client(near, c)
		err = conn.Handshake()
		if err == nil {
			_, err = conn.Read(make([]byte, 1)) // TLS 1.3 tells here that the client was refused
			if errors.Is(err, io.EOF) {
				err = nil
			}
		}
		near.Close()
		err = errors.Join(err, <-done)
		if certs := server.ConnectionState().PeerCertificates; len(certs) > 0 {
			peer = certs[0].Subject
		}
		return peer, err
	}

	get := a.GetCertificate(Request{DNSNames: []string{"server.test"}, Server: true})
	peer, err := serve(get, &tls.Config{RootCAs: a.Pool(), ServerName: "server.test", Certificates: []tls.Certificate{clientCert}})
	if err != nil {
		t.Fatal(err)
	}
	if peer.CommonName != "cluster-1" || len(peer.Organization) != 1 || peer.Organization[0] != "clusters" {
		t.Errorf("the server sees %v", peer)
	}
	if _, err := serve(get, &tls.Config{RootCAs: a.Pool(), ServerName: "other.test", Certificates: []tls.Certificate{clientCert}}); err == nil {
		t.Error("a server of another name was believed")
	}
	serverCert, err := get(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := serve(get, &tls.Config{RootCAs: a.Pool(), ServerName: "server.test", Certificates: []tls.Certificate{*serverCert}}); err == nil {
		t.Error("a server's certificate was taken for a client's")
	}
}

func TestLeaf(t *testing.T) {
	a := mustOpen(t, newDir(t), nil)
	now := time.Now().Truncate(time.Second)
	a.Now = func() time.Time { return now }

	_, leaf := mustIssue(t, a, Request{CommonName: "x", DNSNames: []string{"x.test"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}, Server: true, Lifetime: 90 * 24 * time.Hour})
	if leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature || len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth {
		t.Errorf("CA %v, key usage %b, extended %v", leaf.IsCA, leaf.KeyUsage, leaf.ExtKeyUsage)
	}
	if !bytes.Equal(leaf.AuthorityKeyId, a.Certificate().SubjectKeyId) {
		t.Error("it does not name its authority's key")
	}
	if !leaf.NotBefore.Equal(now.Add(-5*time.Minute)) || !leaf.NotAfter.Equal(now.Add(90*24*time.Hour)) {
		t.Errorf("valid from %v to %v", leaf.NotBefore, leaf.NotAfter)
	}
	if err := leaf.VerifyHostname("127.0.0.1"); err != nil {
		t.Error(err)
	}

	_, year := mustIssue(t, a, Request{CommonName: "x", Client: true})
	if !year.NotAfter.Equal(now.AddDate(1, 0, 0)) {
		t.Errorf("the default ends %v", year.NotAfter)
	}
	if year.SerialNumber.Cmp(leaf.SerialNumber) == 0 || year.SerialNumber.BitLen() > 128 {
		t.Errorf("serial numbers %x and %x", leaf.SerialNumber, year.SerialNumber)
	}
	_, long := mustIssue(t, a, Request{CommonName: "x", Client: true, Lifetime: 50 * 365 * 24 * time.Hour})
	if !long.NotAfter.Equal(a.Certificate().NotAfter) {
		t.Errorf("it outlives its authority: %v", long.NotAfter)
	}

	now = a.Certificate().NotAfter.Add(time.Second)
	if _, err := a.Issue(Request{CommonName: "x", Client: true}); err == nil {
		t.Error("an authority that has expired issued a certificate")
	}
}

func TestRequestsThatMakeNoSense(t *testing.T) {
	a := mustOpen(t, newDir(t), nil)
	for name, r := range map[string]Request{
		"for nobody":              {CommonName: "x"},
		"a server without a name": {CommonName: "x", Server: true},
		"a negative lifetime":     {CommonName: "x", Client: true, Lifetime: -1},
	} {
		if _, err := a.Issue(r); err == nil {
			t.Errorf("%s: issued", name)
		}
	}
}

// forge signs whatever it is told with the authority's key, as a thief of the key would.
func forge(t *testing.T, a *Authority, leaf *x509.Certificate) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf.SerialNumber = big.NewInt(1)
	leaf.NotBefore, leaf.NotAfter = a.Certificate().NotBefore, a.Certificate().NotAfter
	leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	der, err := x509.CreateCertificate(rand.Reader, leaf, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestConstraintsHoldAgainstAThiefOfTheKey(t *testing.T) {
	link, err := url.Parse("https://login.example.com/")
	if err != nil {
		t.Fatal(err)
	}
	dns := &Constraints{DNSDomains: []string{"login.example.com", "LOCALHOST"}}
	ips := &Constraints{IPRanges: []*net.IPNet{cidr(t, "127.0.0.0/8")}}
	both := &Constraints{DNSDomains: dns.DNSDomains, IPRanges: append(ips.IPRanges, cidr(t, "::1/128"))}
	named := func(names ...string) x509.Certificate { return x509.Certificate{DNSNames: names} }
	at := func(ip string) x509.Certificate { return x509.Certificate{IPAddresses: []net.IP{net.ParseIP(ip)}} }

	for _, c := range []struct {
		name string
		to   *Constraints
		leaf x509.Certificate
		ok   bool
	}{
		{"a permitted name", dns, named("login.example.com"), true},
		{"a name below a permitted one", dns, named("a.login.example.com"), true},
		{"a permitted name in capitals", dns, named("localhost"), true},
		{"the parent of a permitted name", dns, named("example.com"), false},
		{"a name that ends like a permitted one", dns, named("xlogin.example.com"), false},
		{"a wildcard that covers a permitted name", dns, named("*.example.com"), false},
		{"a permitted name and another", dns, named("login.example.com", "bank.example"), false},
		{"an IPv4 address where only names are permitted", dns, at("127.0.0.1"), false},
		{"an IPv6 address where only names are permitted", dns, at("::1"), false},
		{"a mail address", dns, x509.Certificate{EmailAddresses: []string{"a@login.example.com"}}, false},
		{"a URI", dns, x509.Certificate{URIs: []*url.URL{link}}, false},
		{"a permitted address", ips, at("127.0.0.53"), true},
		{"another address", ips, at("192.0.2.1"), false},
		{"an address of the other family", ips, at("::1"), false},
		{"a name where only addresses are permitted", ips, named("localhost"), false},
		{"both of a name and an address", both, x509.Certificate{DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv6loopback}}, true},
		{"a name that nothing limits without constraints", nil, named("bank.example"), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := newDir(t)
			mustOpen(t, dir, c.to)
			a := mustOpen(t, dir, c.to) // loaded, which compares the constraints
			leaf := forge(t, a, &c.leaf)
			_, err := leaf.Verify(x509.VerifyOptions{Roots: a.Pool()})
			if (err == nil) != c.ok {
				t.Errorf("a verifier says: %v", err)
			}
			if len(c.leaf.DNSNames)+len(c.leaf.IPAddresses) == 0 {
				return // Issue cannot be asked for it
			}
			_, err = a.Issue(Request{DNSNames: c.leaf.DNSNames, IPs: c.leaf.IPAddresses, Server: true})
			if (err == nil) != c.ok {
				t.Errorf("Issue says: %v", err)
			}
		})
	}
}

func TestConstraintsAreCritical(t *testing.T) {
	a := mustOpen(t, newDir(t), &Constraints{DNSDomains: []string{"a.test"}})
	for _, e := range a.Certificate().Extensions {
		if e.Id.String() == "2.5.29.30" {
			if !e.Critical {
				t.Error("the name constraints are not critical")
			}
			return
		}
	}
	t.Error("no name constraints")
}

func TestConstraintsMustBeTheOnesItWasMadeWith(t *testing.T) {
	dir := newDir(t)
	made := &Constraints{DNSDomains: []string{"b.test", "a.test", "a.test"}, IPRanges: []*net.IPNet{cidr(t, "127.0.0.0/8")}}
	mustOpen(t, dir, made)
	same := &Constraints{DNSDomains: []string{"A.test", "b.test"}, IPRanges: []*net.IPNet{cidr(t, "127.0.0.0/8")}}
	mustOpen(t, dir, same)
	for name, c := range map[string]*Constraints{
		"none":    nil,
		"wider":   {DNSDomains: []string{"a.test", "b.test", "c.test"}, IPRanges: made.IPRanges},
		"fewer":   {DNSDomains: []string{"a.test", "b.test"}},
		"invalid": {DNSDomains: []string{".test"}},
		"empty":   {DNSDomains: []string{""}},
	} {
		if _, err := Open(dir, "test", "Test CA", c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestModes(t *testing.T) {
	if !unix {
		t.Skip("modes mean nothing here")
	}
	dir := newDir(t)
	mustOpen(t, dir, nil)
	key := filepath.Join(dir, "test.key")
	for _, m := range []os.FileMode{0o640, 0o604, 0o620, 0o601} {
		if err := os.Chmod(key, m); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, "test", "Test CA", nil); err == nil || !strings.Contains(err.Error(), "chmod 0600") {
			t.Errorf("a key with mode %o: %v", m, err)
		}
	}
	if err := os.Chmod(key, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o770); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, "test", "Test CA", nil); err == nil || !strings.Contains(err.Error(), "chmod 0700") {
		t.Errorf("a directory that others may write to: %v", err)
	}
}

func TestHalfAPair(t *testing.T) {
	files := func(dir string) (cert, key string) {
		return filepath.Join(dir, "test.crt"), filepath.Join(dir, "test.key")
	}
	t.Run("a key without a certificate is a start that was cut off", func(t *testing.T) {
		dir := newDir(t)
		old := mustOpen(t, dir, nil)
		cert, key := files(dir)
		if err := os.Remove(cert); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(key, []byte("half a k"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(key, 0o644); err != nil {
			t.Fatal(err)
		}
		a := mustOpen(t, dir, nil)
		if a.key.Equal(old.key) {
			t.Error("the old key is still used")
		}
		if got := mode(t, key); got != 0o600 {
			t.Errorf("the new key has mode %o", got)
		}
	})
	broken := map[string]func(cert, key, otherCert, otherKey string) error{
		"a certificate without a key": func(_, key, _, _ string) error { return os.Remove(key) },
		"another authority's key":     func(_, key, _, other string) error { return os.Rename(other, key) },
		"another's certificate":       func(cert, _, other, _ string) error { return os.Rename(other, cert) },
		"an empty certificate":        func(cert, _, _, _ string) error { return os.Truncate(cert, 0) },
		"an empty key":                func(_, key, _, _ string) error { return os.Truncate(key, 0) },
		"a folder for a key": func(_, key, _, _ string) error {
			return errors.Join(os.Remove(key), os.Mkdir(key, 0o700))
		},
	}
	for name, damage := range broken {
		t.Run(name, func(t *testing.T) {
			dir, elsewhere := newDir(t), newDir(t)
			mustOpen(t, dir, nil)
			mustOpen(t, elsewhere, nil)
			cert, key := files(dir)
			otherCert, otherKey := files(elsewhere)
			if err := damage(cert, key, otherCert, otherKey); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(dir, "test", "Test CA", nil); err == nil || !strings.Contains(err.Error(), dir) && !strings.Contains(err.Error(), "test.key") {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("a leaf for an authority", func(t *testing.T) {
		dir := newDir(t)
		a := mustOpen(t, dir, nil)
		pair, _ := mustIssue(t, a, Request{CommonName: "x", Client: true})
		cert, key := files(dir)
		if err := pair.WriteFiles(cert, key); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, "test", "Test CA", nil); err == nil {
			t.Error("it was loaded")
		}
	})
}

func TestGetCertificate(t *testing.T) {
	a := mustOpen(t, newDir(t), nil)
	var (
		mu  sync.Mutex
		now = time.Now().Truncate(time.Second)
	)
	a.Now = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	move := func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(d)
	}
	get := a.GetCertificate(Request{DNSNames: []string{"a.test"}, Server: true, Lifetime: 90*24*time.Hour - backdate}) // 90 days in all

	all := make([]*tls.Certificate, 16)
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() { all[i], _ = get(nil) })
	}
	wg.Wait()
	first := all[0]
	for _, c := range all {
		if c == nil || c != first {
			t.Fatal("concurrent callers got different certificates")
		}
	}

	move(60*24*time.Hour - backdate - time.Second)
	if c, err := get(nil); err != nil || c != first {
		t.Errorf("issued anew before two thirds of its life: %v", err)
	}
	move(time.Second)
	second, err := get(nil)
	if err != nil || second == first {
		t.Fatalf("not issued anew: %v", err)
	}
	if c, err := get(nil); err != nil || c != second {
		t.Errorf("issued twice: %v", err)
	}
	move(-10 * 24 * time.Hour)
	if c, err := get(nil); err != nil || c == second {
		t.Errorf("a clock that was set back keeps a certificate from the future: %v", err)
	}
}

func TestGetCertificateServesTheOldOneWhileItCan(t *testing.T) {
	a := mustOpen(t, newDir(t), nil)
	now := time.Now()
	a.Now = func() time.Time { return now }
	get := a.GetCertificate(Request{DNSNames: []string{"a.test"}, Server: true, Lifetime: time.Hour})
	first, err := get(nil)
	if err != nil {
		t.Fatal(err)
	}
	a.cert.NotAfter = now.Add(-time.Second) // from now on nothing can be issued
	now = now.Add(59 * time.Minute)
	if c, err := get(nil); err != nil || c != first {
		t.Errorf("got %v", err)
	}
	now = now.Add(2 * time.Minute)
	if _, err := get(nil); err == nil {
		t.Error("an expired certificate was served")
	}
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, c := range []struct {
		text string
		mode os.FileMode
	}{{"one", 0o644}, {"two", 0o600}, {"", 0o600}} {
		if err := WriteFile(path, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != c.text || unix && mode(t, path) != c.mode {
			t.Errorf("%q with mode %o, %v", got, mode(t, path), err)
		}
	}
	if err := WriteFile(filepath.Join(dir, "missing", "f"), nil, 0o600); err == nil {
		t.Error("written into a folder that is not there")
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(filepath.Join(dir, "folder"), nil, 0o600); err == nil {
		t.Error("a folder was replaced")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}
