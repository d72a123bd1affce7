package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-k8s/gatehouse/aks"
	"github.com/gatehouse-k8s/gatehouse/arm"
	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/cluster"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/front"
	"github.com/gatehouse-k8s/gatehouse/graph"
	"github.com/gatehouse-k8s/gatehouse/identity"
	"github.com/gatehouse-k8s/gatehouse/internal/pki"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
	"github.com/gatehouse-k8s/gatehouse/msi"
	"github.com/gatehouse-k8s/gatehouse/rbac"
	"github.com/gatehouse-k8s/gatehouse/seal"
	"github.com/gatehouse-k8s/gatehouse/signin"
	"github.com/gatehouse-k8s/gatehouse/store"
	"github.com/gatehouse-k8s/gatehouse/sts"
	"github.com/gatehouse-k8s/gatehouse/webhook"
)

// tokensRemembered bounds the caches of verified tokens: about 2 KB each.
const tokensRemembered = 20000

// stopLimit is how long a stop may take in all.
const stopLimit = 9 * time.Second

// server is the whole product in one process. start builds it in the order in which things need each other; what it
// has started, stop ends in the reverse order.
type server struct {
	config Config
	log    *slog.Logger

	dir      *dataDir
	audit    *audit.Log
	db       *store.DB
	signIns  *signin.Log
	sealed   *seal.Log // db, with its secrets readable
	feed     *feed.Follower
	keys     *sts.Keys
	clusters *cluster.Manager
	msi      *msi.Endpoints
	people   *directory.Directory
	facts    facts

	tenants sync.Mutex // held while one is created, with its password file

	mu     sync.Mutex
	ready  error // why not, or nil
	stops  []stopper
	failed chan error // a listener that ended by itself
}

type stopper struct {
	name string
	stop func(context.Context) error
}

// errStarting is what /readyz says until everything has started.
var errStarting = fault.New(fault.Unavailable, "starting")

func newServer(c Config, log *slog.Logger) *server {
	return &server{config: c, log: log, ready: errStarting, failed: make(chan error, 8)}
}

// onStop adds what stop must do before all that was added earlier.
func (s *server) onStop(name string, stop func(context.Context) error) {
	s.stops = append(s.stops, stopper{name, stop})
}

// start returns when everything answers. After an error the caller still calls stop.
func (s *server) start(ctx context.Context) (err error) {
	if s.dir, err = openDataDir(s.config.DataDir); err != nil {
		return err
	}
	s.onStop("data directory", func(context.Context) error { return s.dir.Close() })
	if s.config.KubeBinary != "" {
		if _, err := os.Stat(s.config.KubeBinary); err != nil {
			return fmt.Errorf("--kube-binary: %w", err)
		}
	}
	// Listening comes before anything is made: a port in use shall not leave a half-made data directory.
	ln, err := s.listen()
	if err != nil {
		return err
	}
	if s.audit, err = audit.Open(s.dir.file("audit.log")); err != nil {
		return err
	}
	s.onStop("audit log", func(context.Context) error { return s.audit.Close() })
	if err := s.openStore(ctx); err != nil {
		return err
	}
	s.signIns = signin.NewLog(s.db, s.log)
	s.onStop("sign-in log", s.signIns.Close)
	s.keys = &sts.Keys{Feed: s.feed}
	if err := s.keys.Ensure(ctx); err != nil {
		return err
	}
	dir := &directory.Directory{Feed: s.feed, Hasher: new(directory.Hasher)}
	s.people = dir
	set, err := s.firstStart(ctx, dir, ln.front.Addr())
	if err != nil {
		return err
	}
	if added, err := dir.AddFirstParty(ctx); err != nil {
		return fmt.Errorf("add the first-party applications that tenants lack: %w", err)
	} else if added > 0 {
		s.log.Info("tenants of an earlier version got the first-party applications that they lacked", "added", added)
	}
	public, err := url.Parse(set.PublicURL)
	if err != nil {
		return fmt.Errorf("the public URL in the database: %w", err)
	}
	cas, err := openCAs(s.dir.file("pki"), public, set.Domain)
	if err != nil {
		return err
	}
	s.facts.URL, s.facts.Proxy = set.PublicURL, "http://"+ln.proxy.Addr().String()
	if err := s.dir.writeBundles(cas.serving, cas.interception); err != nil {
		return err
	}

	authorities := &sts.Authorities{Public: set.PublicURL}
	tokens := sts.NewVerifier(s.feed, authorities, tokensRemembered)

	s.clusters = &cluster.Manager{
		Dir:        s.dir.file("clusters"),
		KubeBinary: findKube(s.config.KubeBinary),
		Webhook: cluster.WebhookTarget{
			URL: "https://" + ln.webhook.Addr().String(),
			CA:  cas.webhooks.CertPEM(),
			Issue: func(guid directory.ID) (pki.KeyPair, error) {
				return cas.webhooks.Issue(pki.Request{CommonName: guid.String(), Client: true})
			},
		},
		Log: s.log,
	}
	issuers := &aks.Issuers{Feed: s.feed, ControlPlanes: s.clusters, Public: set.PublicURL, Log: s.log}
	s.clusters.ServiceAccountIssuer = issuers.URL

	reviews := &webhook.Server{Feed: s.feed, Tokens: tokens, Audit: s.audit, Log: s.log, BoundGroups: s.clusters.BoundGroups}
	s.serve("webhooks", ln.webhook, &front.Server{
		Handler: reviews.Handler(), Log: s.log,
		TLS: webhook.TLSConfig(cas.webhooks.Pool(), cas.webhooks.GetCertificate(webhookRequest(ln.webhook.Addr()))),
	})

	if err := s.clusters.Start(ctx); err != nil {
		return err
	}
	s.onStop("clusters", s.clusters.Stop)
	provisioner := &aks.Provisioner{Feed: s.feed, ControlPlanes: s.clusters, Issuer: issuers.URL, Audit: s.audit, Log: s.log}
	if err := provisioner.Start(ctx); err != nil {
		return err
	}
	s.onStop("provisioning", provisioner.Stop)

	login := &sts.Server{Feed: s.feed, Directory: dir, Keys: s.keys, Authorities: authorities, Audit: s.audit, Log: s.log}
	login.Lifetimes = s.config.Lifetimes
	login.SignIns, login.Strict = s.signIns, s.config.StrictRefresh
	login.Issuers = &sts.Issuers{Local: issuers.KeySet, Private: s.config.PrivateIssuers}
	graphs := &graph.Server{Feed: s.feed, Directory: dir, Tokens: tokens, SignIns: s.signIns, Base: set.PublicURL, Audit: s.audit, Log: s.log}
	resources := &arm.Server{Feed: s.feed, Tokens: tokens, Audit: s.audit, Log: s.log}
	resources.Providers = []arm.Provider{provisioner, &identity.Provider{Users: aks.UsersOf}}

	faces := front.Faces{
		STS: login.Handler(), Graph: graphs.Handler(), ARM: resources.Handler(), OIDC: issuers.Handler(),
		Domain: s.facts.Domain, Ready: s.whyNotReady,
	}
	handler := web.Requests(faces.Handler(public, ln.front.Addr().String()), s.log)
	s.serve("front", ln.front, &front.Server{
		Handler: handler, Log: s.log,
		TLS: &tls.Config{GetCertificate: cas.serving.GetCertificate(servingRequest(public.Hostname()))},
	})
	s.serve("proxy", ln.proxy, &front.Proxy{
		Handler: handler, Certificates: cas.interception, Domain: s.facts.Domain, Upstream: front.FromEnvironment(), Log: s.log,
	})
	s.msi = &msi.Endpoints{Feed: s.feed, Tokens: login, Proxy: &url.URL{Scheme: "http", Host: ln.proxy.Addr().String()}, Audit: s.audit, Log: s.log}
	s.onStop("identity endpoints", s.msi.Shutdown)
	if err := s.serveControl(); err != nil {
		return err
	}
	s.background("sweeper", time.Hour, func(ctx context.Context) error {
		s.msi.Sweep()
		return errors.Join(s.sealed.Maintain(ctx), s.keys.Ensure(ctx), login.Sweep(ctx), provisioner.Sweep(ctx), s.db.Sweep(ctx), s.db.Prune(ctx, feedKept),
			s.signIns.Sweep(ctx, time.Now().Add(-cmp.Or(s.config.SignInRetention, defaultRetention))))
	})
	s.setReady(nil)
	return nil
}

// feedKept is how many revisions of the change feed stay, for replicas that were away.
const feedKept = 100_000

// stop ends everything within stopLimit, the last started first, so that webhooks answer until after the clusters are gone.
func (s *server) stop() error {
	s.setReady(fault.New(fault.Unavailable, "stopping"))
	ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
	defer cancel()
	var errs []error
	for i := len(s.stops) - 1; i >= 0; i-- {
		if err := s.stops[i].stop(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", s.stops[i].name, err))
		}
	}
	s.stops = nil
	return errors.Join(errs...)
}

// listeners are the three ports, taken before anything else happens.
type listeners struct{ front, proxy, webhook net.Listener }

func (s *server) listen() (l listeners, err error) {
	defer func() {
		if err != nil {
			for _, ln := range []net.Listener{l.front, l.proxy, l.webhook} {
				if ln != nil {
					ln.Close()
				}
			}
		}
	}()
	if l.front, err = front.Listen(s.config.Listen, "--listen"); err != nil {
		return l, err
	}
	if l.proxy, err = front.ListenLoopback(s.config.ProxyListen, "--proxy-listen"); err != nil {
		return l, err
	}
	l.webhook, err = front.Listen(s.config.WebhookListen, "--webhook-listen")
	return l, err
}

type serving interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
}

func (s *server) serve(name string, ln net.Listener, srv serving) {
	go func() {
		if err := srv.Serve(ln); err != nil {
			s.failed <- fmt.Errorf("%s on %s: %w", name, ln.Addr(), err)
		}
	}()
	s.onStop(name, srv.Shutdown)
}

func (s *server) serveControl() error {
	ln, err := s.dir.listenControl()
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: s.controlHandler(), ReadHeaderTimeout: 10 * time.Second}
	go srv.Serve(ln)
	s.onStop("control socket", func(ctx context.Context) error {
		return errors.Join(srv.Shutdown(ctx), os.Remove(s.dir.file(controlSocket)))
	})
	return nil
}

// background repeats a task until stop. The first time is one period after the start.
func (s *server) background(name string, every time.Duration, task func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if err := task(ctx); err != nil && ctx.Err() == nil {
					s.log.Error("background task failed; it will be tried again", "task", name, "err", err)
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	s.onStop(name, func(context.Context) error {
		cancel()
		<-done
		return nil
	})
}

// masterKeyFile holds the master key that a first start makes when none is named.
const masterKeyFile = "master-key"

// openStore opens the database, unlocks its secrets and follows its feed.
func (s *server) openStore(ctx context.Context) (err error) {
	at := s.config.Database
	if at == "" {
		at = s.dir.file("gatehouse.db")
	}
	if s.db, err = store.Open(ctx, at); err != nil {
		return err
	}
	s.onStop("database", func(context.Context) error { return s.db.Close() })
	o := seal.Options{Master: s.config.MasterKey, Old: s.config.OldMasterKey, Encrypt: s.config.EncryptDatabase, Logger: s.log}
	if o.Master.IsZero() {
		o.Master = seal.OwnFile(s.dir.file(masterKeyFile))
	}
	if s.sealed, err = seal.Open(ctx, s.db, o); err != nil {
		return err
	}
	s.feed = &feed.Follower{Log: s.sealed, Logger: s.log}
	err = s.feed.Start(ctx, map[string]feed.State{
		directory.Part: new(directory.State),
		sts.Part:       new(sts.State),
		rbac.Part:      new(rbac.State),
		arm.Part:       new(arm.State),
		identity.Part:  new(identity.State),
		aks.Part:       new(aks.State),
	})
	if err != nil {
		return err
	}
	following, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.feed.Run(following); err != nil && following.Err() == nil {
			s.failed <- err
		}
	}()
	s.onStop("change feed", func(context.Context) error {
		cancel()
		<-done
		return nil
	})
	return nil
}

func (s *server) setReady(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready = why
}

// whyNotReady is the answer of /readyz.
func (s *server) whyNotReady() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready == nil && s.feed.Stale() {
		return fault.New(fault.Unavailable, "the database has been silent for too long; directory tokens are refused until it answers")
	}
	if s.ready == nil && s.audit.Err() != nil {
		return fault.New(fault.Unavailable, "the audit log cannot be written; the server's log says why")
	}
	return s.ready
}

func (s *server) status() status {
	out := status{
		facts: s.facts, Version: version, Revision: s.feed.View().Revision, Tenants: s.tenantList(), Clusters: []clusterStatus{}, Identities: s.msi.List(),
	}
	if err := s.whyNotReady(); err != nil {
		out.Reason = fault.From(err).Message
	} else {
		out.Ready = true
	}
	for _, c := range aks.In(s.feed.View()).All() {
		out.Clusters = append(out.Clusters, clusterStatus{
			Group: c.Group, Name: c.Name, State: c.Provisioning, Endpoint: c.Endpoint, Running: s.clusters.Ready(c.GUID),
		})
	}
	slices.SortFunc(out.Clusters, func(a, b clusterStatus) int {
		return cmp.Or(strings.Compare(a.Group, b.Group), strings.Compare(a.Name, b.Name))
	})
	return out
}

// caSet is the server's CAs, each for one use.
type caSet struct{ serving, webhooks, interception *pki.Authority }

// openCAs loads or makes them. People put the serving CA among those that they trust, so it can vouch for nothing but
// the public URL's host and this machine.
func openCAs(dir string, public *url.URL, domain string) (a caSet, err error) {
	own := &pki.Constraints{DNSDomains: []string{"localhost"}, IPRanges: front.InterceptionConstraints(domain).IPRanges}
	switch ip := net.ParseIP(public.Hostname()); {
	case ip == nil && public.Hostname() != "localhost":
		own.DNSDomains = append(own.DNSDomains, public.Hostname())
	case ip != nil && !ip.IsLoopback():
		own.IPRanges = append(own.IPRanges, &net.IPNet{IP: ip, Mask: net.CIDRMask(8*len(ip), 8*len(ip))})
	}
	if a.serving, err = pki.Open(dir, "serving", "Gatehouse serving CA", own); err != nil {
		return a, err
	}
	if a.webhooks, err = pki.Open(dir, "webhooks", "Gatehouse webhook CA", nil); err != nil {
		return a, err
	}
	a.interception, err = pki.Open(dir, "interception", "Gatehouse interception CA", front.InterceptionConstraints(domain))
	return a, err
}

const servingLife = 90 * 24 * time.Hour

// servingRequest asks for a certificate for a name and for this machine. Clients elsewhere use the public URL.
func servingRequest(name string) pki.Request {
	r := pki.Request{
		CommonName: name, Server: true, Lifetime: servingLife,
		DNSNames: []string{"localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	if ip := net.ParseIP(name); ip != nil && !ip.IsLoopback() {
		r.IPs = append(r.IPs, ip)
	} else if ip == nil && name != "localhost" {
		r.DNSNames = append(r.DNSNames, name)
	}
	return r
}

// webhookRequest asks for the certificate of the webhook listener, which API servers reach by its address.
func webhookRequest(at net.Addr) pki.Request {
	r := servingRequest("localhost")
	r.CommonName = "gatehouse webhooks"
	if tcp, ok := at.(*net.TCPAddr); ok && !tcp.IP.IsUnspecified() && !tcp.IP.IsLoopback() {
		r.IPs = append(r.IPs, tcp.IP)
	}
	return r
}

// findKube looks for gatehouse-kube; "" when there is none, which only matters once a cluster is created.
func findKube(chosen string) string {
	if chosen != "" {
		return chosen
	}
	if path := os.Getenv("GATEHOUSE_KUBE"); path != "" {
		return path
	}
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "gatehouse-kube")
		if _, err := os.Stat(beside); err == nil {
			return beside
		}
	}
	return lookPath("gatehouse-kube")
}
