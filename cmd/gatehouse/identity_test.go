package main

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/msi"
)

// TestIdentityVariables: each form sets what its clients look for, and nothing by which another would be found first.
func TestIdentityVariables(t *testing.T) {
	for form, want := range map[msi.Form][][2]string{
		msi.AppService: {
			{"IDENTITY_ENDPOINT", "http://127.0.0.1:5/msi/token"}, {"IDENTITY_HEADER", "S"}, {"MSI_ENDPOINT", "http://127.0.0.1:5/msi/token"}, {"MSI_SECRET", "S"},
			{"APPSETTING_WEBSITE_SITE_NAME", "gatehouse"},
		},
		msi.IMDS: {{"HTTP_PROXY", "http://gatehouse-identity:S@127.0.0.1:5"}, {"http_proxy", "http://gatehouse-identity:S@127.0.0.1:5"}},
		msi.Arc:  {{"IDENTITY_ENDPOINT", "http://127.0.0.1:5/metadata/identity/oauth2/token"}, {"IMDS_ENDPOINT", "http://127.0.0.1:5"}},
	} {
		got := identityVariables(&msi.Opened{Endpoint: msi.Endpoint{Form: form, Address: "127.0.0.1:5"}, Secret: "S"})
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", form, got, want)
		}
		for _, v := range got {
			if !slices.Contains(foreign, v[0]) && form != msi.IMDS {
				t.Errorf("%s: gatehouse env does not unset %s", form, v[0])
			}
			if form == msi.IMDS && !ofIdentity(v[1]) {
				t.Errorf("%s is not known as one of ours", v[0])
			}
		}
	}
	if identityVariables(nil) != nil || ofIdentity("http://proxy.example:3128") || ofIdentity("http://user@proxy.example") || ofIdentity("") || ofIdentity("%") {
		t.Error("a proxy of the user's is taken for one of ours")
	}
}

func TestBypassesMetadata(t *testing.T) {
	for entry, want := range map[string]bool{
		"169.254.169.254": true, "169.254.169.254:80": true, "169.254.0.0/16": true, "0.0.0.0/0": true, "169.254.*": true, "*": true,
		"169.254.169.25": false, "1": false, "10.0.0.0/8": false, "localhost": false, "::1": false, "fe80::/10": false, "corp.example": false,
	} {
		if got := bypassesMetadata(entry); got != want {
			t.Errorf("%s: %v, want %v", entry, got, want)
		}
	}
	old := map[string]string{"NO_PROXY": "corp.example,169.254.169.254"}
	for form, want := range map[msi.Form][]string{msi.AppService: nil, msi.IMDS: {"169.254.169.254"}} {
		_, dropped := environment("/d", testFacts, tenantStatus{ID: testFacts.Tenant}, &msi.Opened{Endpoint: msi.Endpoint{Form: form}}, func(name string) string { return old[name] })
		if !slices.Equal(dropped, want) {
			t.Errorf("%s: dropped %q, want %q", form, dropped, want)
		}
	}
}

// TestIdentityOfTenant asks a running server, with two tenants that have an identity of one name, as the command line does.
func TestIdentityOfTenant(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	s := newServer(Config{DataDir: dir, Listen: "127.0.0.1:0", ProxyListen: "127.0.0.1:0", WebhookListen: "127.0.0.1:0"}, slog.New(slog.DiscardHandler))
	defer func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	}()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(s.start(ctx))
	_, err := s.createTenant(ctx, "fabrikam.example", "")
	must(err)
	robots := map[string]string{} // by domain
	for i, tenant := range s.tenantList() {
		sp := directory.ServicePrincipal{
			ID: directory.ID{1, byte(i)}, AppID: directory.ID{2, byte(i)}, Tenant: directory.MustParseID(tenant.ID), DisplayName: "robot", Explicit: true,
			Resource: "/subscriptions/" + tenant.Subscription + "/resourcegroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/robot",
		}
		robots[tenant.Domain] = sp.Resource
		must(s.feed.Update(ctx, func(*feed.View, feed.Secrets) (feed.Change, error) {
			return feed.Change{Records: []feed.Record{directory.NewManagedIdentity(sp)}}, nil
		}))
	}
	env := func(args ...string) (stderr string, err error) {
		var said strings.Builder
		err = runEnv(ctx, append([]string{"--data-dir", dir}, args...), io.Discard, &said)
		return said.String(), err
	}
	open := func(want string) {
		t.Helper()
		var got []string
		for _, e := range s.msi.List() {
			got = append(got, e.Resource)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("open are %q, want %q", got, want)
		}
	}
	ours, theirs := robots[defaultDomain], robots["fabrikam.example"]
	said, err := env("--tenant", "fabrikam.example", "--identity", "robot")
	must(err)
	if !strings.Contains(said, "can act as "+theirs) || !strings.Contains(said, " --tenant ") {
		t.Errorf("said: %s", said)
	}
	open(theirs)
	if _, err := env("--identity", "robot", "--stop"); err == nil {
		t.Error("without --tenant, that of the second is closed")
	}
	_, err = env("--tenant", "fabrikam.example", "--identity", "robot", "--stop")
	must(err)
	open("")
	_, err = env("--identity", "robot")
	must(err)
	open(ours)
	if _, err := env("--tenant", "fabrikam.example", "--identity", ours); err == nil || !strings.Contains(err.Error(), "is of tenant") {
		t.Errorf("the identity of another tenant than --tenant says: %v", err)
	}
}
