package seal_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/store/storetest"
	"github.com/gatehouse-k8s/gatehouse/sts"
)

// TestACopyOfTheDatabaseRevealsNothing writes the secrets that a server has, with the server's own parts, and looks for each in
// the files of the database.
func TestACopyOfTheDatabaseRevealsNothing(t *testing.T) {
	b := newBench(t, storetest.SQLite)
	a := b.must(options(b.own()))
	ctx := context.Background()
	f := &feed.Follower{Log: a}
	b.try(f.Start(ctx, map[string]feed.State{directory.Part: new(directory.State), sts.Part: new(sts.State)}))
	keys := &sts.Keys{Feed: f}
	b.try(keys.Ensure(ctx))
	b.try(keys.Roll(ctx))
	dir := &directory.Directory{Feed: f, Hasher: &directory.Hasher{Cost: directory.Cost{Time: 1, Memory: 64, Threads: 1}}}
	tenant, _, err := dir.CreateTenant(ctx, directory.NewTenant{DisplayName: "Test", Domain: "gatehouse.internal", AdminName: "admin", Password: "Correct-Horse-7-Battery"}, nil)
	b.try(err)
	app, err := dir.CreateApplication(ctx, directory.System, directory.Application{Tenant: tenant.ID, DisplayName: "app"})
	b.try(err)
	_, text, err := dir.AddAppSecret(ctx, directory.System, app.ID, directory.PasswordCredential{})
	b.try(err)
	identity := &sts.Server{Feed: f, Directory: dir, Keys: keys}
	b.try(identity.Sweep(ctx)) // makes the keys that seal refresh tokens
	if _, err := keys.Sign(ctx, map[string]string{}, false); err != nil {
		t.Error(err)
	}

	disk := files(b)
	if bytes.Contains(disk, []byte(text)) {
		t.Error("the database shows an application's secret")
	}
	plain := stored(t, a.below)["seal/key data"].Body // the times in it are nobody's secret
	kinds := map[feed.Kind]bool{}
	b.try(a.Write(ctx, func(tx feed.Tx) error {
		return tx.EachSecret(ctx, func(s feed.Secret) error {
			kinds[s.Kind] = true
			for part := s.Body; len(part) >= 16; part = part[16:] {
				if bytes.Contains(disk, part[:16]) && !bytes.Contains(plain, part[:16]) {
					t.Errorf("the database shows a piece of %s %q", s.Kind, s.Key)
					break
				}
			}
			return nil
		})
	}))
	for _, kind := range []feed.Kind{sts.KindKey, sts.KindVault, directory.KindPassword, directory.KindServerKey, directory.KindAppSecret} {
		if !kinds[kind] {
			t.Errorf("the test made no secret of the kind %s", kind)
		}
	}
}
