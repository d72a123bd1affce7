package directory

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/fault"
)

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey { return must2(rsa.GenerateKey(rand.Reader, 2048)) })

func must2[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// selfSigned makes a certificate of a key.
func selfSigned(serial int64, public, private any, from, to time.Time) []byte {
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: from, NotAfter: to}
	return must2(x509.CreateCertificate(rand.Reader, template, template, public, private))
}

// TestKeyCredentials: which certificates an application may have, and that a list which is set keeps those that were there.
func TestKeyCredentials(t *testing.T) {
	w := newWorld(t)
	app, sp := w.app("robot")
	now := w.clock()
	day := 24 * time.Hour
	cert := func(serial int64, from, to time.Duration) []byte {
		return selfSigned(serial, &rsaKey().PublicKey, rsaKey(), now.Add(from), now.Add(to))
	}
	set := func(keys ...KeyCredential) error {
		return w.UpdateApplication(w.ctx, as(w.admin.ID), app.ID, func(a *Application) error { a.Keys = keys; return nil })
	}
	held := func() []KeyCredential { return w.State().Application(app.ID).Keys }

	must(t, set(KeyCredential{Certificate: cert(1, -day, 365*day), DisplayName: "one", Start: now.Add(-30 * day), End: now.Add(9999 * day)}))
	first := held()[0]
	if first.KeyID.IsZero() || !first.Start.Equal(now.Add(-day)) || !first.End.Equal(now.Add(365*day)) {
		t.Errorf("times wider than the certificate's: %+v", first)
	}
	if !first.Covers(now) || first.Covers(first.End) || first.Covers(first.Start.Add(-1)) {
		t.Error("Covers")
	}
	shorter, longer, bare := first, first, first
	shorter.End, longer.End, bare.Start, bare.End = now.Add(day), now.Add(9999*day), time.Time{}, time.Time{}
	for _, c := range []struct {
		name string
		key  KeyCredential
		want time.Time
	}{{"cut short", shorter, now.Add(day)}, {"without times", bare, now.Add(day)}, {"drawn out again", longer, first.End}} {
		must(t, set(c.key))
		if got := held()[0]; got.KeyID != first.KeyID || !got.End.Equal(c.want) {
			t.Errorf("a certificate's life %s: %+v", c.name, got)
		}
	}
	w.advance(400 * day) // an expired one may stay, a new one must be good
	now = w.clock()
	must(t, set(first, KeyCredential{Certificate: cert(2, -day, day)}))
	if got := held(); len(got) != 2 || !got[0].End.Equal(first.End) || got[0].KeyID != first.KeyID {
		t.Errorf("after an addition: %+v", got)
	}
	ec := must2(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	short := must2(rsa.GenerateKey(rand.Reader, 1024))
	twin := cert(3, -day, day)
	many := make([]KeyCredential, maxKeys+1)
	for name, keys := range map[string][]KeyCredential{
		"nothing":              {{}},
		"no certificate":       {{Certificate: []byte("x")}},
		"a private key":        {{Certificate: x509.MarshalPKCS1PrivateKey(rsaKey())}},
		"two in one":           {{Certificate: append(cert(3, -day, day), cert(4, -day, day)...)}},
		"too large":            {{Certificate: make([]byte, maxCertificate+1)}},
		"expired":              {{Certificate: cert(3, -2*day, -day)}},
		"ended before its end": {{Certificate: cert(3, -2*day, day), End: now.Add(-time.Hour)}},
		"start after end":      {{Certificate: cert(3, -2*day, day), Start: now.Add(2 * day)}},
		"an elliptic curve":    {{Certificate: selfSigned(3, &ec.PublicKey, ec, now.Add(-day), now.Add(day))}},
		"1024 bits":            {{Certificate: selfSigned(3, &short.PublicKey, short, now.Add(-day), now.Add(day))}},
		"twice":                {{Certificate: twin}, {Certificate: twin}},
		"one id twice":         {{KeyID: first.KeyID, Certificate: cert(3, -day, day)}, {KeyID: first.KeyID, Certificate: cert(4, -day, day)}},
		"too many":             many,
		"an old id for a new, expired certificate": {{KeyID: first.KeyID, Certificate: cert(3, -2*day, -day)}},
	} {
		wantKind(t, name, set(keys...), fault.Invalid)
	}
	if len(held()) != 2 {
		t.Errorf("a refused list has changed something: %+v", held())
	}
	must(t, w.UpdateServicePrincipal(w.ctx, as(w.admin.ID), sp.ID, func(p *ServicePrincipal) error {
		p.Keys, p.DisplayName, p.AppID = []KeyCredential{{Certificate: cert(5, -day, day)}}, "other", AKSServer
		return nil
	}))
	if got := w.State().ServicePrincipal(sp.ID); len(got.Keys) != 1 || got.DisplayName != "robot" || got.AppID != app.AppID || !got.Enabled {
		t.Errorf("the service principal: %+v", got)
	}
	must(t, set())
	if len(held()) != 0 {
		t.Errorf("after an empty list: %+v", held())
	}
}

// TestFederatedCredentials: the rules of names, issuers, subjects and audiences.
func TestFederatedCredentials(t *testing.T) {
	w := newWorld(t)
	app, _ := w.app("robot")
	by := as(w.admin.ID)
	good := FederatedCredential{Name: "main-1_x", Issuer: "https://issuer.example/a", Subject: "repo:a/b", Audiences: []string{"api://AzureADTokenExchange"}}
	made, err := w.AddFederatedCredential(w.ctx, by, app.ID, good)
	must(t, err)
	if made.ID.IsZero() || len(w.State().Application(app.ID).Federated) != 1 {
		t.Errorf("made: %+v", made)
	}
	change := func(f func(*FederatedCredential)) FederatedCredential {
		c := good
		c.Name, c.Subject = "other", "other"
		f(&c)
		return c
	}
	for name, c := range map[string]struct {
		credential FederatedCredential
		kind       fault.Kind
	}{
		"the same name in capitals":   {change(func(c *FederatedCredential) { c.Name = "MAIN-1_x" }), fault.Conflict},
		"the same issuer and subject": {change(func(c *FederatedCredential) { c.Subject = good.Subject }), fault.Conflict},
		"a short name":                {change(func(c *FederatedCredential) { c.Name = "ab" }), fault.Invalid},
		"a long name":                 {change(func(c *FederatedCredential) { c.Name = strings.Repeat("a", 121) }), fault.Invalid},
		"a name with a dot":           {change(func(c *FederatedCredential) { c.Name = "a.b" }), fault.Invalid},
		"a name with a hyphen first":  {change(func(c *FederatedCredential) { c.Name = "-ab" }), fault.Invalid},
		"no audience":                 {change(func(c *FederatedCredential) { c.Audiences = nil }), fault.Invalid},
		"two audiences":               {change(func(c *FederatedCredential) { c.Audiences = []string{"a", "b"} }), fault.Invalid},
		"an empty audience":           {change(func(c *FederatedCredential) { c.Audiences = []string{""} }), fault.Invalid},
		"no subject":                  {change(func(c *FederatedCredential) { c.Subject = "" }), fault.Invalid},
		"a subject with a space":      {change(func(c *FederatedCredential) { c.Subject = " x" }), fault.Invalid},
		"a long subject":              {change(func(c *FederatedCredential) { c.Subject = strings.Repeat("a", 601) }), fault.Invalid},
		"http":                        {change(func(c *FederatedCredential) { c.Issuer = "http://issuer.example" }), fault.Invalid},
		"HTTPS":                       {change(func(c *FederatedCredential) { c.Issuer = "HTTPS://issuer.example" }), fault.Invalid},
		"no host":                     {change(func(c *FederatedCredential) { c.Issuer = "https:///x" }), fault.Invalid},
		"a user":                      {change(func(c *FederatedCredential) { c.Issuer = "https://a@issuer.example" }), fault.Invalid},
		"a query":                     {change(func(c *FederatedCredential) { c.Issuer = "https://issuer.example/?a" }), fault.Invalid},
		"an empty query":              {change(func(c *FederatedCredential) { c.Issuer = "https://issuer.example/?" }), fault.Invalid},
		"a fragment":                  {change(func(c *FederatedCredential) { c.Issuer = "https://issuer.example/#" }), fault.Invalid},
		"a space":                     {change(func(c *FederatedCredential) { c.Issuer = "https://issuer.example/ " }), fault.Invalid},
	} {
		_, err := w.AddFederatedCredential(w.ctx, by, app.ID, c.credential)
		wantKind(t, name, err, c.kind)
	}
	must(t, w.UpdateFederatedCredential(w.ctx, by, app.ID, made.ID, func(c *FederatedCredential) error {
		c.Name, c.Subject, c.ID = "renamed", "changed", ID{}
		return nil
	}))
	if got := w.State().Application(app.ID).Federated[0]; got.Name != good.Name || got.Subject != "changed" || got.ID != made.ID {
		t.Errorf("after a change: %+v", got)
	}
	// Other changes of the application leave them alone, and cannot bring any.
	must(t, w.UpdateApplication(w.ctx, by, app.ID, func(a *Application) error { a.Federated = nil; return nil }))
	if len(w.State().Application(app.ID).Federated) != 1 {
		t.Error("a change of the application has taken its federated credentials")
	}
	_, stranger := w.newTenant("Fabrikam", "fabrikam.internal")
	_, err = w.AddFederatedCredential(w.ctx, as(stranger.ID), app.ID, change(func(*FederatedCredential) {}))
	wantKind(t, "by another tenant's administrator", err, fault.NotFound)
	wantKind(t, "a change by them", w.UpdateFederatedCredential(w.ctx, as(stranger.ID), app.ID, made.ID, func(*FederatedCredential) error { return nil }), fault.NotFound)
	wantKind(t, "a removal by them", w.RemoveFederatedCredential(w.ctx, as(stranger.ID), app.ID, made.ID), fault.NotFound)
	_, err = w.AddFederatedCredential(w.ctx, as(w.user("alice").ID), app.ID, change(func(*FederatedCredential) {}))
	wantKind(t, "by a member", err, fault.Denied)
	must(t, w.RemoveFederatedCredential(w.ctx, by, app.ID, made.ID))
	wantKind(t, "a second removal", w.RemoveFederatedCredential(w.ctx, by, app.ID, made.ID), fault.NotFound)
	for i := range maxFederated {
		_, err := w.AddFederatedCredential(w.ctx, by, app.ID, change(func(c *FederatedCredential) {
			c.Name, c.Subject = "name"+strings.Repeat("x", i), "subject"+strings.Repeat("x", i)
		}))
		must(t, err)
	}
	_, err = w.AddFederatedCredential(w.ctx, by, app.ID, good)
	wantKind(t, "one too many", err, fault.Invalid)
}
