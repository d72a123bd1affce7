package directory

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
)

// KindServerKey is a secret: the key under which client secrets are hashed. A copy of the hashes is worth nothing without it.
const KindServerKey feed.Kind = "directory/serverkey"

// serverKeyID is the key's only version.
const serverKeyID = "1"

// AddAppSecret makes a client secret of 256 random bits for an application or service principal and returns it: it is
// not kept and cannot be shown again. Of want, DisplayName, Start and End are used: a zero start is now, a zero end two
// years after the start, as in Graph.
func (d *Directory) AddAppSecret(ctx context.Context, by Actor, object ID, want PasswordCredential) (PasswordCredential, string, error) {
	raw := make([]byte, 32)
	if _, err := io.ReadFull(d.random(), raw); err != nil {
		return PasswordCredential{}, "", fmt.Errorf("make a client secret: %w", err)
	}
	secret := base64.RawURLEncoding.EncodeToString(raw)
	if rest, ok := strings.CutPrefix(secret, "-"); ok { // which command lines would take for a flag
		secret = "_" + rest
	}
	c := PasswordCredential{DisplayName: want.DisplayName, Hint: secret[:3], Start: want.Start.UTC(), End: want.End.UTC()}
	err := d.update(ctx, by, func(p *plan) error {
		holder, err := p.credentialsFor(by, object)
		if err != nil {
			return err
		}
		if err := checkText("displayName", c.DisplayName, false, 120); err != nil {
			return err
		}
		if c.Start.IsZero() {
			c.Start = p.now
		}
		if c.End.IsZero() {
			c.End = c.Start.AddDate(2, 0, 0)
		}
		if !c.End.After(c.Start) || !c.End.After(p.now) {
			return fault.New(fault.Invalid, "endDateTime %s has passed or is not after startDateTime %s; give a later one",
				c.End.Format(time.RFC3339), c.Start.Format(time.RFC3339)).At("endDateTime").WithCode("Request_BadRequest")
		}
		key, err := p.serverKey(ctx)
		if err != nil {
			return err
		}
		if c.KeyID, err = p.newID(); err != nil {
			return err
		}
		name := pair(object, c.KeyID)
		p.putSecret(KindAppSecret, name, holder.tenant, HashSecret(key, name, secret), noExpiry)
		holder.set(append(slices.Clone(holder.credentials), c))
		return nil
	})
	if err != nil {
		return PasswordCredential{}, "", err
	}
	return c, secret, nil
}

// RemoveAppSecret takes a client secret away from an application or service principal.
func (d *Directory) RemoveAppSecret(ctx context.Context, by Actor, object, keyID ID) error {
	return d.update(ctx, by, func(p *plan) error {
		holder, err := p.credentialsFor(by, object)
		if err != nil {
			return err
		}
		rest := slices.DeleteFunc(slices.Clone(holder.credentials), func(c PasswordCredential) bool { return c.KeyID == keyID })
		if len(rest) == len(holder.credentials) {
			return fault.New(fault.Invalid, "No password credential found with keyId %s; the object's passwordCredentials list those that exist.", keyID).
				At("keyId").WithCode("Request_BadRequest")
		}
		p.putSecret(KindAppSecret, pair(object, keyID), holder.tenant, nil, noExpiry)
		holder.set(rest)
		return nil
	})
}

// credentialHolder is an application or a service principal, for a change of its secrets.
type credentialHolder struct {
	tenant      ID
	credentials []PasswordCredential
	set         func([]PasswordCredential)
}

// credentialsFor returns the holder of an id, if by may change its secrets.
func (p *plan) credentialsFor(by Actor, object ID) (credentialHolder, error) {
	if p.Application(object) != nil {
		app, err := p.applicationFor(by, object)
		if err != nil {
			return credentialHolder{}, err
		}
		return credentialHolder{app.Tenant, app.Passwords, func(c []PasswordCredential) {
			changed := *app
			changed.Passwords = c
			p.put(KindApplication, object.String(), app.Tenant, &changed)
		}}, nil
	}
	principal, err := p.principalFor(by, object)
	if err != nil {
		return credentialHolder{}, err
	}
	if principal.Type == TypeManagedIdentity {
		return credentialHolder{}, fault.New(fault.Invalid, "%s is a managed identity, which has no client secrets", principal.DisplayName).WithCode("Request_BadRequest")
	}
	return credentialHolder{principal.Tenant, principal.Passwords, func(c []PasswordCredential) {
		changed := *principal
		changed.Passwords = c
		p.put(KindServicePrincipal, object.String(), principal.Tenant, &changed)
	}}, nil
}

// serverKey returns the key for hashing client secrets and makes it in this write if there is none yet.
func (p *plan) serverKey(ctx context.Context) ([]byte, error) {
	kept, err := p.secrets.Secret(ctx, KindServerKey, serverKeyID)
	if err == nil {
		return kept.Body, nil
	}
	if !errors.Is(err, feed.ErrNoSecret) {
		return nil, fmt.Errorf("read the key for client secrets: %w", err)
	}
	key := make([]byte, 32)
	rand.Read(key)
	p.change.Secrets = append(p.change.Secrets, feed.Secret{Record: feed.Record{Kind: KindServerKey, Key: serverKeyID, Body: key}})
	return key, nil
}

// VerifyAppSecret returns which of an object's credentials a client secret is, or nil. Whether that one has expired is
// the caller's to check: a client is told so only when it knows the secret.
func (d *Directory) VerifyAppSecret(ctx context.Context, object ID, credentials []PasswordCredential, secret string) (*PasswordCredential, error) {
	if len(credentials) == 0 {
		return nil, nil
	}
	key, err := d.readServerKey(ctx)
	if errors.Is(err, feed.ErrNoSecret) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the key for client secrets: %w", err)
	}
	for i := range credentials {
		name := pair(object, credentials[i].KeyID)
		kept, err := d.Feed.Secret(ctx, KindAppSecret, name)
		if errors.Is(err, feed.ErrNoSecret) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read client secret %s: %w", name, err)
		}
		if subtle.ConstantTimeCompare(kept.Body, HashSecret(key, name, secret)) == 1 {
			return &credentials[i], nil
		}
	}
	return nil, nil
}

// readServerKey reads the key for hashing client secrets, once.
func (d *Directory) readServerKey(ctx context.Context) ([]byte, error) {
	if key := d.serverKey.Load(); key != nil {
		return *key, nil
	}
	kept, err := d.Feed.Secret(ctx, KindServerKey, serverKeyID)
	if err != nil {
		return nil, err
	}
	d.serverKey.Store(&kept.Body)
	return kept.Body, nil
}
