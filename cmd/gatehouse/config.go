package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/seal"
	"github.com/gatehouse-k8s/gatehouse/sts"
)

// Config is everything that can be chosen. An empty one starts a working server.
type Config struct {
	DataDir       string
	Listen        string
	ProxyListen   string
	WebhookListen string
	PublicURL     string // empty at first start: https://localhost:PORT of Listen
	Domain        string
	Database      string // empty: SQLite in the data directory
	KubeBinary    string // empty: found, see findKube
	Verbose       bool

	SignInRetention time.Duration // how long the sign-in log keeps an attempt; zero: defaultRetention
	StrictRefresh   bool          // a refresh token ends soon after a newer one was used

	MasterKey    seal.Source // zero: a file in the data directory, made at first start
	OldMasterKey seal.Source // what MasterKey replaces; zero: none

	EncryptDatabase bool // secrets in plain are those of an earlier version; see seal.Options

	Lifetimes      sts.Lifetimes
	PrivateIssuers []string // hosts of federated issuers that may have private addresses, HOST or HOST:PORT

	passwordShown bool // the command line, which every user of the machine can read, holds the database's password
}

const (
	defaultListen = "127.0.0.1:8443"
	defaultProxy  = "127.0.0.1:8442"
	defaultDomain = "gatehouse.internal"

	defaultRetention = 30 * 24 * time.Hour // as Microsoft Entra ID P1
	maxRetention     = 3650 * 24 * time.Hour
)

func dataDirFlag(fs *flag.FlagSet, dir *string) {
	fs.StringVar(dir, "data-dir", defaultDataDir(), "`DIR` for state, keys and the files that clients read")
}

// defaultDataDir follows the XDG base directory specification.
func defaultDataDir() string {
	if dir := os.Getenv("GATEHOUSE_DATA_DIR"); dir != "" {
		return dir
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "gatehouse")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "gatehouse-data"
	}
	return filepath.Join(home, ".local", "share", "gatehouse")
}

func parseUp(args []string, stdout io.Writer) (Config, error) {
	var c Config
	fs := flag.NewFlagSet("up", flag.ContinueOnError)
	dataDirFlag(fs, &c.DataDir)
	fs.StringVar(&c.Listen, "listen", defaultListen, "`HOST:PORT` of the listener for people and clients")
	fs.StringVar(&c.ProxyListen, "proxy-listen", defaultProxy, "`HOST:PORT` (loopback) of the proxy that answers for the cloud's host names")
	fs.StringVar(&c.WebhookListen, "webhook-listen", "127.0.0.1:0", "`HOST:PORT` of the listener for the webhooks of API servers")
	fs.StringVar(&c.PublicURL, "public-url", "", "`URL` under which people reach this server; fixed at first start (default https://localhost:PORT)")
	fs.StringVar(&c.Domain, "domain", "", "`NAME` of the tenant's domain; fixed at first start (default "+defaultDomain+")")
	fs.StringVar(&c.Database, "database", "", "`URL` of the database, postgres://user@host/name; its password belongs in PGPASSFILE or GATEHOUSE_DATABASE, not here (default: SQLite in the data directory)")
	fs.StringVar(&c.KubeBinary, "kube-binary", "", "`FILE` of gatehouse-kube; default: GATEHOUSE_KUBE, beside gatehouse, or in PATH")
	var masterKey, oldMasterKey string // no Func: the flag package would print what it cannot read, which may be a key
	fs.StringVar(&masterKey, "master-key", "", "`SOURCE` of the key that encrypts the secrets in the database: file:/path, env:NAME or kms:unix:///path/of/socket (default file:DIR/master-key, made at first start)")
	fs.StringVar(&oldMasterKey, "old-master-key", "", "`SOURCE` of the master key before, when --master-key names a new one")
	fs.BoolVar(&c.EncryptDatabase, "encrypt-database", false, "encrypt the secrets that an earlier version has left in the database in plain; for one start, where --master-key names the key")
	fs.Func("private-issuers", "`HOST[:PORT],...` of issuers of federated credentials that may be fetched from private addresses (default none)", func(list string) error {
		for host := range strings.SplitSeq(strings.ToLower(list), ",") {
			if host = strings.TrimSpace(host); host == "" || strings.ContainsAny(host, "/@* ") {
				return fmt.Errorf("%q is not HOST or HOST:PORT", host)
			}
			c.PrivateIssuers = append(c.PrivateIssuers, host)
		}
		return nil
	})
	lifetimeFlag(fs, &c.SignInRetention, "sign-in-log-retention", 24*time.Hour, maxRetention, "of entries of the sign-in log", "30d")
	fs.Func("refresh-tokens", "`RULE` for a refresh token that was replaced: entra (it stays valid) or strict (its use 10 minutes after it was first redeemed ends the session) (default entra)", func(rule string) error {
		if c.StrictRefresh = rule == "strict"; !c.StrictRefresh && rule != "entra" {
			return fmt.Errorf("%q is not a rule; give entra or strict", rule)
		}
		return nil
	})
	lifetimeFlag(fs, &c.Lifetimes.Access, "access-token-lifetime", sts.MinAccessLife, sts.MaxAccessLife, "of access tokens", "drawn, 60m to 90m")
	lifetimeFlag(fs, &c.Lifetimes.Refresh, "refresh-token-lifetime", sts.MinRefreshLife, sts.MaxRefreshLife, "after which a refresh token that was not used expires", "90d")
	lifetimeFlag(fs, &c.Lifetimes.Session, "session-lifetime", sts.MinSessionLife, sts.MaxSessionLife, "of sign-ins in browsers, at most", "90d if the person keeps it, else 24h")
	fs.BoolVar(&c.Verbose, "verbose", false, "log every request")
	if err := parse(fs, args, stdout, "up [flags]"); err != nil {
		return c, err
	}
	if err := c.sources(masterKey, oldMasterKey); err != nil {
		return c, err
	}
	c.passwordShown = hasPassword(c.Database)
	if c.Database == "" { // not the flag's default, which --help would print
		c.Database = os.Getenv("GATEHOUSE_DATABASE")
	}
	return c, c.check()
}

// sources reads where the master keys come from.
func (c *Config) sources(masterKey, old string) (err error) {
	if old != "" && masterKey == "" {
		return usageError{errors.New("--old-master-key goes with --master-key, which names the new one")}
	}
	for _, f := range []struct {
		name, text string
		into       *seal.Source
	}{{"master-key", masterKey, &c.MasterKey}, {"old-master-key", old, &c.OldMasterKey}} {
		if f.text == "" {
			continue
		}
		if *f.into, err = seal.ParseSource(f.text); err != nil {
			return usageError{fmt.Errorf("--%s %w", f.name, err)}
		}
	}
	return nil
}

// check refuses values that could never work, each with the flag's name.
func (c *Config) check() error {
	for name, addr := range map[string]string{"listen": c.Listen, "proxy-listen": c.ProxyListen, "webhook-listen": c.WebhookListen} {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return usageError{fmt.Errorf("--%s %q is not HOST:PORT; give one like 127.0.0.1:8443", name, addr)}
		}
	}
	if c.PublicURL != "" {
		u, err := url.Parse(c.PublicURL)
		if err != nil || u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			return usageError{fmt.Errorf("--public-url %q is not of the form https://HOST[:PORT]", c.PublicURL)}
		}
		// MSAL for Go finds the device code endpoint by replacing every "token" in the token endpoint's URL.
		if strings.Contains(strings.ToLower(u.Host), "token") {
			return usageError{fmt.Errorf("--public-url %q: the host name must not contain \"token\", because MSAL for Go would rewrite it", c.PublicURL)}
		}
		c.PublicURL = "https://" + strings.ToLower(u.Host)
	}
	if strings.Contains(strings.ToLower(c.Domain), "token") {
		return usageError{fmt.Errorf("--domain %q must not contain \"token\", because MSAL for Go would rewrite it", c.Domain)}
	}
	if c.DataDir == "" {
		return usageError{errors.New("--data-dir is empty")}
	}
	dir, err := filepath.Abs(c.DataDir)
	c.DataDir = dir
	return err
}

func hasPassword(database string) bool {
	u, err := url.Parse(database)
	if err != nil || u.User == nil {
		return false
	}
	_, set := u.User.Password()
	return set
}

// publicURL is the default for a first start on this listener.
func publicURL(listener net.Addr) string {
	at, err := netip.ParseAddrPort(listener.String())
	if err != nil || at.Port() == 443 {
		return "https://localhost"
	}
	return fmt.Sprintf("https://localhost:%d", at.Port())
}
