package sts

import (
	"context"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	issuerDocument = 64 << 10        // bytes of a document of another issuer
	issuerTime     = 5 * time.Second // for both of them
	issuerFresh    = time.Hour       // keys are used so long without asking again
	issuerKeep     = 24 * time.Hour  // and so long while the issuer does not answer
	issuerPause    = time.Minute     // between two requests to one issuer
	issuersKept    = 256
	maxIssuerKeys  = 50
)

// errNoKey says that an issuer has no such key.
var errNoKey = errors.New("the issuer publishes no RSA key of this id")

// Issuers finds the keys of other issuers, whose tokens federated credentials trust. It asks only issuers that such a credential names.
//
// A fetch is https, at most 64 KiB and 5 s, without proxy and cookies; it follows redirects on the same host only, and connects to no
// private, loopback or link-local address, whatever name leads there: the address is looked at when the connection is made.
type Issuers struct {
	// Local returns the key set of an issuer that this server hosts itself, such as a cluster's, without network. known is false for any
	// other issuer. nil: there is none.
	Local func(ctx context.Context, issuer string) (jwks []byte, known bool, err error)

	// Private are the hosts (HOST or HOST:PORT, in lower case) that may have addresses of a private network.
	Private []string

	once  sync.Once
	http  *http.Client
	mu    sync.Mutex
	known map[string]*issuerKeys
}

// issuerKeys is what is known of one issuer.
type issuerKeys struct {
	fetching sync.Mutex // held while its documents are fetched: one request at a time
	asked    time.Time  // when it was last tried
	err      error      // of the last try

	got atomic.Pointer[publishedKeys] // what it published; nil: never read
}

type publishedKeys struct {
	keys    map[string]*rsa.PublicKey
	fetched time.Time
}

// key returns an issuer's key by its id.
func (i *Issuers) key(ctx context.Context, issuer, kid string, now time.Time) (*rsa.PublicKey, error) {
	if i.Local != nil {
		raw, known, err := i.Local(ctx, issuer)
		if err != nil {
			return nil, err
		}
		if known {
			keys, err := parseJWKS(raw)
			if err != nil {
				return nil, err
			}
			return pick(keys, kid)
		}
	}
	k := i.entry(issuer)
	if got := k.got.Load(); got != nil && now.Sub(got.fetched) < issuerFresh {
		if key, err := pick(got.keys, kid); err == nil {
			return key, nil // without waiting for whoever asks for a key that may not exist
		}
	}
	k.fetching.Lock()
	defer k.fetching.Unlock()
	got := k.got.Load()
	if wanting := got == nil || got.keys[kid] == nil || now.Sub(got.fetched) >= issuerFresh; wanting && now.Sub(k.asked) >= issuerPause {
		k.asked = now
		keys, err := i.fetch(ctx, issuer)
		if k.err = err; err == nil {
			got = &publishedKeys{keys, now}
			k.got.Store(got)
		}
	}
	if got == nil || now.Sub(got.fetched) >= issuerKeep {
		if k.err == nil {
			k.err = errors.New("its keys are too old")
		}
		return nil, k.err
	}
	return pick(got.keys, kid)
}

func pick(keys map[string]*rsa.PublicKey, kid string) (*rsa.PublicKey, error) {
	if key := keys[kid]; key != nil && kid != "" {
		return key, nil
	}
	return nil, errNoKey
}

// entry returns what is known of an issuer.
func (i *Issuers) entry(issuer string) *issuerKeys {
	i.mu.Lock()
	defer i.mu.Unlock()
	if k := i.known[issuer]; k != nil {
		return k
	}
	if i.known == nil {
		i.known = map[string]*issuerKeys{}
	}
	if len(i.known) >= issuersKept {
		for name := range i.known { // any one: there are fewer issuers than this in any directory that a person looks after
			delete(i.known, name)
			break
		}
	}
	k := new(issuerKeys)
	i.known[issuer] = k
	return k
}

// fetch reads an issuer's keys (OpenID Connect Discovery 1.0 section 4).
func (i *Issuers) fetch(ctx context.Context, issuer string) (map[string]*rsa.PublicKey, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), issuerTime) // others wait for the answer, too
	defer cancel()
	raw, err := i.get(ctx, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return nil, err
	}
	var document struct {
		Issuer string `json:"issuer"`
		JWKS   string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(raw, &document); err != nil {
		return nil, fmt.Errorf("the issuer's configuration: %w", err)
	}
	if document.Issuer != issuer {
		return nil, fmt.Errorf("the configuration says that the issuer is %.200q", document.Issuer)
	}
	if raw, err = i.get(ctx, document.JWKS); err != nil {
		return nil, err
	}
	return parseJWKS(raw)
}

func (i *Issuers) get(ctx context.Context, at string) ([]byte, error) {
	if err := checkFetch(at); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "gatehouse")
	resp, err := i.client().Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: HTTP %d", at, resp.StatusCode)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, issuerDocument+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > issuerDocument {
		return nil, fmt.Errorf("GET %s: the document is larger than %d bytes", at, issuerDocument)
	}
	return raw, nil
}

// checkFetch refuses URLs that are never fetched, whatever they resolve to.
func checkFetch(at string) error {
	u, err := url.Parse(at)
	switch {
	case err != nil:
		return fmt.Errorf("%.200q is not a URL", at)
	case u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Opaque != "":
		return fmt.Errorf("%.200q is not an https URL with a host and without a user", at)
	}
	return nil
}

func (i *Issuers) client() *http.Client {
	i.once.Do(func() {
		i.http = &http.Client{
			Transport: &http.Transport{ // without a proxy, which would choose the address in our place
				DialContext:            i.dial,
				ForceAttemptHTTP2:      true,
				TLSHandshakeTimeout:    issuerTime,
				ResponseHeaderTimeout:  issuerTime,
				MaxResponseHeaderBytes: 16 << 10,
				MaxIdleConns:           16,
				IdleConnTimeout:        10 * time.Second,
			},
			CheckRedirect: func(r *http.Request, via []*http.Request) error {
				if len(via) > 3 || r.URL.Scheme != "https" || r.URL.User != nil || !strings.EqualFold(r.URL.Host, via[0].URL.Host) {
					return errors.New("redirected to another host, or too often")
				}
				return nil
			},
		}
	})
	return i.http
}

// dial connects to a public address. The check sits behind the name's resolution, so that no name can lead elsewhere between a check and
// the connection.
func (i *Issuers) dial(ctx context.Context, network, address string) (net.Conn, error) {
	private := i.mayBePrivate(address)
	d := net.Dialer{Timeout: issuerTime, Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		switch {
		case err != nil:
			return err
		case isPublic(at.Addr()):
			return nil
		case !private:
			return fmt.Errorf("%s is not a public address; to allow the issuer's host, name it in --private-issuers", address)
		case at.Addr().Unmap().IsLinkLocalUnicast(): // where clouds keep their machines' credentials
			return fmt.Errorf("%s is a link-local address, at which no issuer is ever asked", address)
		}
		return nil
	}}
	return d.DialContext(ctx, network, address)
}

func (i *Issuers) mayBePrivate(address string) bool {
	address = strings.ToLower(address)
	host, port, err := net.SplitHostPort(address)
	return err == nil && (slices.Contains(i.Private, address) || port == "443" && slices.Contains(i.Private, host))
}

// special are the ranges that net/netip does not know and that do not lead to the public internet, or lead into others by an address
// within the address (IANA special-purpose address registries).
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("192.88.99.0/24"), netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/96"), netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("100::/64"),
	netip.MustParsePrefix("2001::/23"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("3fff::/20"),
	netip.MustParsePrefix("5f00::/16"), netip.MustParsePrefix("fec0::/10"),
}

// isPublic reports whether an address is one of the public internet.
func isPublic(a netip.Addr) bool {
	a = a.Unmap()
	if !a.IsGlobalUnicast() || a.IsPrivate() || a.Zone() != "" {
		return false
	}
	return !slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(a) })
}

// parseJWKS reads the RSA keys of a key set that can sign RS256 (RFC 7517 section 5). Keys of other kinds are passed over.
func parseJWKS(raw []byte) (map[string]*rsa.PublicKey, error) {
	var set struct {
		Keys []struct {
			Kty, Kid, Use, Alg, N, E string
		} `json:"keys"`
	}
	if err := json.Unmarshal(raw, &set); err != nil {
		return nil, fmt.Errorf("the issuer's key set: %w", err)
	}
	if len(set.Keys) > maxIssuerKeys {
		return nil, fmt.Errorf("the issuer's key set has %d keys; at most %d are read", len(set.Keys), maxIssuerKeys)
	}
	keys := map[string]*rsa.PublicKey{}
	for _, k := range set.Keys {
		if k.Kty != "RSA" || k.Kid == "" || (k.Use != "" && k.Use != "sig") || (k.Alg != "" && k.Alg != "RS256") {
			continue
		}
		n, err1 := base64.RawURLEncoding.DecodeString(strings.TrimRight(k.N, "="))
		e, err2 := base64.RawURLEncoding.DecodeString(strings.TrimRight(k.E, "="))
		if err1 != nil || err2 != nil || len(n) < 256 || len(n) > 1025 || len(e) == 0 || len(e) > 4 {
			continue
		}
		exponent := int(new(big.Int).SetBytes(e).Int64())
		modulus := new(big.Int).SetBytes(n)
		if modulus.BitLen() < 2048 || modulus.BitLen() > 8192 || exponent < 3 || exponent > 1<<31-1 || exponent%2 == 0 {
			continue
		}
		keys[k.Kid] = &rsa.PublicKey{N: modulus, E: exponent}
	}
	return keys, nil
}
