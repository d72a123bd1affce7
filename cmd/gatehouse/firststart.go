package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/arm"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/internal/pki"
	"github.com/gatehouse-k8s/gatehouse/rbac"
)

// passwordFile holds the first administrator's password as it was made.
const passwordFile = "admin-password"

// settings are fixed at first start and the same for all replicas: issuers, pages and passkeys hang on the public URL
// for ever. They are no part of any decision, so they are read once and are in no view.
type settings struct {
	PublicURL    string       `json:"publicURL"`
	Domain       string       `json:"domain"`
	Tenant       directory.ID `json:"tenant"`
	Subscription directory.ID `json:"subscription"`
}

const kindSettings feed.Kind = "server/settings"

const settingsKey = "server"

// firstStart makes the tenant, its administrator and its subscription, if there are none, and fills in the facts.
func (s *server) firstStart(ctx context.Context, dir *directory.Directory, listener net.Addr) (settings, error) {
	set, err := s.readSettings(ctx)
	if errors.Is(err, feed.ErrNoSecret) {
		set, err = s.create(ctx, dir, listener)
	}
	if err != nil {
		return set, err
	}
	if c := s.config.PublicURL; c != "" && c != set.PublicURL {
		return set, fmt.Errorf("--public-url %s differs from %s, which was fixed at first start: issuers and sign-in pages hang on it; leave the flag out, or start with an empty data directory", c, set.PublicURL)
	}
	if c := s.config.Domain; c != "" && c != set.Domain {
		return set, fmt.Errorf("--domain %s differs from %s, which was fixed at first start; leave the flag out, or start with an empty data directory", c, set.Domain)
	}
	s.facts.Tenant, s.facts.Subscription, s.facts.Domain = set.Tenant.String(), set.Subscription.String(), set.Domain
	s.facts.Admin = administrator(dir.State(), set.Tenant)
	return set, nil
}

// administrator is the user name of a tenant's Global Administrator, the one that was made with it if that is still there.
func administrator(state *directory.State, tenant directory.ID) (upn string) {
	for _, id := range state.Holders(tenant, directory.GlobalAdministrator) {
		if u := state.User(id); u != nil && (upn == "" || strings.HasPrefix(u.UPN, adminName+"@")) {
			upn = u.UPN
		}
	}
	return upn
}

const adminName = "admin"

func (s *server) readSettings(ctx context.Context) (set settings, err error) {
	secret, err := s.feed.Secret(ctx, kindSettings, settingsKey)
	if err != nil {
		return set, err
	}
	return set, json.Unmarshal(secret.Body, &set)
}

// create writes all of a new installation in one revision, so a crash leaves nothing or everything.
func (s *server) create(ctx context.Context, dir *directory.Directory, listener net.Addr) (settings, error) {
	password, _, err := adminPassword(s.dir.file(passwordFile))
	if err != nil {
		return settings{}, err
	}
	set := settings{PublicURL: s.config.PublicURL, Domain: s.domainHint()}
	if set.PublicURL == "" {
		set.PublicURL = publicURL(listener)
	}
	if set.Subscription, err = directory.NewID(rand.Reader); err != nil {
		return set, err
	}
	n := directory.NewTenant{DisplayName: "Gatehouse", Domain: set.Domain, AdminName: adminName, Password: password}
	_, _, err = dir.CreateTenant(ctx, n, func(t *directory.Tenant, admin *directory.User) (feed.Change, error) {
		set.Tenant = t.ID
		body, err := json.Marshal(set)
		if err != nil {
			return feed.Change{}, err
		}
		c, err := newSubscription(set.Subscription, t, admin)
		c.Secrets = []feed.Secret{{Record: feed.Record{Kind: kindSettings, Key: settingsKey, Body: body}}}
		return c, err
	})
	return set, err
}

// newSubscription gives a tenant a subscription that its administrator owns.
func newSubscription(id directory.ID, t *directory.Tenant, admin *directory.User) (feed.Change, error) {
	owner, err := rbac.NewAssignment(rand.Reader, t.ID, admin.ID, rbac.Owner, "/subscriptions/"+id.String(), t.Created)
	return feed.Change{Records: []feed.Record{arm.NewSubscription(id, t.ID, t.DisplayName, t.Created), owner}}, err
}

// adminPassword makes the password and its file before the account exists, so that no account is ever without one. A file
// from an attempt that did not finish is used again.
func adminPassword(file string) (password string, made bool, err error) {
	b, err := os.ReadFile(file)
	if err == nil {
		return strings.TrimSpace(string(b)), false, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", false, err
	}
	password = rand.Text() + "-a1" // 130 random bits, and the kinds of characters that the password rule wants
	return password, true, pki.WriteFile(file, []byte(password+"\n"), 0o600)
}

// domainHint is the domain of a first start.
func (s *server) domainHint() string {
	if s.config.Domain != "" {
		return strings.ToLower(s.config.Domain)
	}
	return defaultDomain
}
