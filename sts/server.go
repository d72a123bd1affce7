package sts

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/internal/cache"
	"github.com/gatehouse-k8s/gatehouse/internal/guess"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
	"github.com/gatehouse-k8s/gatehouse/signin"
)

// Server is the identity provider's HTTP face.
type Server struct {
	Feed        *feed.Follower
	Directory   *directory.Directory
	Keys        *Keys
	Authorities *Authorities
	Issuers     *Issuers // of federated assertions; nil: those that are fetched from public addresses alone
	Lifetimes   Lifetimes
	Audit       *audit.Log
	Strict      bool             // a refresh token ends soon after a newer one was used; see Chain
	SignIns     *signin.Log      // nil: attempts are in the audit log alone
	Log         *slog.Logger     // nil: slog.Default
	Now         func() time.Time // nil: time.Now
	Rand        io.Reader        // nil: crypto/rand

	once      sync.Once
	vault     *vault
	documents *cache.Cache[documentKey, []byte]
	tokens    *Verifier
	passwords *guess.Limiter // of passwords, for each (account, address)
	chains    *cache.Cache[chainKey, Chain]
	codes     *meter        // of wrong user codes
	sprays    *meter        // of wrong passwords
	starts    *meter        // of device codes asked for
	patience  chan struct{} // held by the one try for a locked administrator
}

func (s *Server) init() {
	s.once.Do(func() {
		if s.Issuers == nil {
			s.Issuers = new(Issuers)
		}
		s.vault = &vault{feed: s.Feed, now: s.now, random: s.random()}
		s.tokens = NewVerifier(s.Feed, s.Authorities, 1000)
		s.tokens.Now = s.now
		s.passwords = guess.New(passwordGuesses, s.now)
		s.chains = cache.New[chainKey, Chain](chainsKept)
		s.documents = cache.New[documentKey, []byte](maxDocuments)
		s.patience = make(chan struct{}, 1)
		s.codes, s.starts, s.sprays = newMeter(s.now, codeLimit), newMeter(s.now, startLimit), newMeter(s.now, sprayLimit)
	})
}

// Handler returns the face with a mux of its own.
func (s *Server) Handler() http.Handler {
	m := web.NewMux(s.render)
	s.Mount(m)
	return m
}

// Mount adds the routes of the package comment. The mux must render errors as Handler's does.
func (s *Server) Mount(m *web.Mux) {
	s.init()
	m.Handle("GET /common/discovery/instance", s.instance)
	m.Handle("GET /common/userrealm/{user}", s.userRealm)
	m.Handle("GET /{tenant}/.well-known/openid-configuration", s.configuration(1))
	m.Handle("GET /{tenant}/v2.0/.well-known/openid-configuration", s.configuration(2))
	m.Handle("GET /{tenant}/discovery/keys", s.jwks(1))
	m.Handle("GET /{tenant}/discovery/v2.0/keys", s.jwks(2))

	m.Handle("POST /{tenant}/oauth2/token", s.token(1))
	m.Handle("POST /{tenant}/oauth2/v2.0/token", s.token(2))
	m.Handle("POST /{tenant}/oauth2/devicecode", s.deviceCode(1))
	m.Handle("POST /{tenant}/oauth2/v2.0/devicecode", s.deviceCode(2))

	m.Handle("GET /{$}", s.page(s.home))
	m.Handle("GET /devicelogin", s.page(s.deviceStart))
	m.Handle("POST /devicelogin", s.page(s.deviceStep))
	m.Handle("GET /{tenant}/oauth2/deviceauth", s.page(s.deviceStart))
	for name := range assets { // by name: a wildcard would be in the way of /{tenant}/adminconsent
		m.Handle("GET /devicelogin/"+name, s.asset)
	}
	for version, at := range map[int]string{1: "/{tenant}/oauth2/", 2: "/{tenant}/oauth2/v2.0/"} {
		m.Handle("GET "+at+"authorize", s.page(s.authorize(version)))
		m.Handle("POST "+at+"authorize", s.page(s.authorizeForm))
		m.Handle("GET "+at+"logout", s.page(s.logout))
		m.Handle("POST "+at+"logout", s.page(s.logoutForm))
	}
	m.Handle("GET /{tenant}/adminconsent", s.page(s.adminConsent(1)))
	m.Handle("GET /{tenant}/v2.0/adminconsent", s.page(s.adminConsent(2)))
	for _, at := range []string{" /oidc/userinfo", " /{tenant}/openid/userinfo"} {
		m.Handle("GET"+at, s.userInfo)
		m.Handle("POST"+at, s.userInfo)
	}
	m.Handle("POST /signin", s.page(s.signInStep))
	m.Handle("GET /myaccount", s.page(s.account))
	m.Handle("POST /myaccount", s.page(s.accountStep))
	m.Handle("POST /signout", s.page(s.signOutStep))
	m.Handle("GET /redeem", s.page(s.redeem))
	m.Handle("GET /error", s.page(s.errorPage))
}

// Sweep removes sessions that have ended and rolls the keys that seal refresh tokens. Call it from time to time.
func (s *Server) Sweep(ctx context.Context) error {
	s.init()
	if err := s.sweepSessions(ctx); err != nil {
		return err
	}
	return s.vault.roll(ctx)
}

func (s *Server) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

func (s *Server) random() io.Reader {
	if s.Rand != nil {
		return s.Rand
	}
	return rand.Reader
}

// randomText makes so many random bytes, as base64url. what is made of them is for the error.
func (s *Server) randomText(size int, what string) (string, error) {
	raw := make([]byte, size)
	if _, err := io.ReadFull(s.random(), raw); err != nil {
		return "", fmt.Errorf("make %s: %w", what, err)
	}
	return base64.RawURLEncoding.EncodeToString(raw), nil
}

func (s *Server) log() *slog.Logger {
	if s.Log != nil {
		return s.Log
	}
	return slog.Default()
}
