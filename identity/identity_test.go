package identity_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/arm"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/identity"
	"github.com/gatehouse-k8s/gatehouse/rbac"
	"github.com/gatehouse-k8s/gatehouse/sts"
)

const here = `{"location": "Central US"}`

// TestLife makes, shows, changes, lists and deletes an identity, and looks at its service principal each time.
func TestLife(t *testing.T) {
	w := newWorld(t)
	made := w.as("admin", "PUT", w.path("Robot"), `{"location": "Central US", "tags": {"a": "b"}, "properties": {"principalId": "`+w.tenant.ID.String()+`"}}`).want(201).identity()
	sp := w.principal(made.Properties.PrincipalID)
	if sp == nil || sp.AppID != made.Properties.ClientID || sp.Type != directory.TypeManagedIdentity || sp.Resource != made.ID || !sp.Explicit || !sp.Enabled || sp.DisplayName != "Robot" ||
		made.Properties.TenantID != w.tenant.ID || made.Properties.PrincipalID == w.tenant.ID || made.Location != "centralus" || made.Tags["a"] != "b" || made.Type != "Microsoft.ManagedIdentity/userAssignedIdentities" ||
		made.ID != strings.Replace(w.path("Robot"), "resourceGroups", "resourcegroups", 1) {
		t.Fatalf("%+v\n%+v", made, sp)
	}
	again := w.as("admin", "PUT", strings.ToUpper(w.path("robot")), here).want(200).identity()
	if again.ID != made.ID || again.Properties != made.Properties || len(again.Tags) != 0 {
		t.Errorf("a second PUT: %+v", again)
	}
	w.as("admin", "PATCH", w.path("robot"), `{"tags": {"c": "d"}}`).want(200, `"c":"d"`, made.ID)
	w.as("admin", "PATCH", w.path("robot"), `{}`).want(200, `"c":"d"`)
	w.as("admin", "GET", w.path("ROBOT"), nil).want(200, made.ID, `"c":"d"`)
	for _, list := range []string{"", "/resourceGroups/rg"} {
		w.as("admin", "GET", w.sub()+list+"/providers/Microsoft.ManagedIdentity/userAssignedIdentities", nil).want(200, made.ID)
		w.as("admin", "GET", w.sub()+list+"/resources", nil).want(200, made.ID)
	}
	w.as("admin", "POST", w.path("robot")+"/listAssociatedResources", nil).want(200, `"totalCount":0`, `"value":[]`)

	group, err := w.dir.CreateGroup(w.ctx, directory.System, directory.NewGroup{
		Group: directory.Group{Tenant: w.tenant.ID, DisplayName: "g", MailNickname: "g", SecurityEnabled: true}, Members: []directory.ID{sp.ID},
	})
	w.must(err)
	w.grant(w.newID(), rbac.Reader, made.ID)
	w.as("admin", "DELETE", w.path("robot"), nil).want(200)
	w.as("admin", "DELETE", w.path("robot"), nil).want(204)
	w.as("admin", "GET", w.path("robot"), nil).want(404, "ResourceNotFound", "robot")
	v := w.feed.View()
	if directory.In(v).ServicePrincipal(sp.ID) != nil || directory.In(v).ManagedIdentityOf(made.ID) != nil {
		t.Error("the service principal is left")
	}
	if in, _ := directory.In(v).GroupsOf(sp.ID, time.Now()); slices.Contains(in, group.ID) {
		t.Error("it is a member still")
	}
	scope, err := rbac.ParseScope(made.ID)
	w.must(err)
	if left := rbac.In(v).AtOrBelow(scope); len(left) != 0 {
		t.Errorf("role assignments are left: %+v", left)
	}
	if next := w.as("admin", "PUT", w.path("Robot"), here).want(201).identity(); next.Properties.PrincipalID == made.Properties.PrincipalID || next.Properties.ClientID == made.Properties.ClientID {
		t.Error("ids were used again")
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	w.as("admin", "PUT", w.path("robot"), here).want(201)
	for name, status := range map[string]int{
		"abc": 201, "a-b_9": 201, strings.Repeat("a", 128): 201, "ab": 400, "-ab": 400, "_ab": 400, "a.b": 400, "a%20b": 400, "%C3%A4bc": 400, strings.Repeat("a", 129): 400,
	} {
		if a := w.as("admin", "PUT", w.path(name), here); a.Code != status {
			t.Errorf("%s: %d %s, want %d", name, a.Code, a.Body, status)
		}
	}
	for body, text := range map[string]string{
		`{}`: "LocationRequired", ``: "LocationRequired", `{"location": "mars"}`: "mars", `[]`: "InvalidRequestContent", `{"location": 1}`: "InvalidRequestContent",
		`{"location": "centralus", "tags": {"a<b": "c"}}`: "InvalidTagName", `{"location": "centralus", "tags": []}`: "InvalidRequestContent",
	} {
		w.as("admin", "PUT", w.path("other"), body).want(400, text)
	}
	w.as("admin", "PUT", w.path("robot"), `{"location": "westus"}`).want(409, "InvalidResourceLocation", "centralus")
	w.as("admin", "PUT", w.in("none", "robot"), here).want(404, "ResourceGroupNotFound")
	w.as("admin", "GET", w.in("none", "robot"), nil).want(404, "ResourceGroupNotFound")
	w.as("admin", "PATCH", w.path("missing"), `{}`).want(404, "ResourceNotFound")
	w.as("admin", "GET", w.sub()+"/resourceGroups/rg/providers/Microsoft.ContainerService/managedClusters/c/providers/Microsoft.ManagedIdentity/identities/default", nil).want(404, "ResourceNotFound")

	// An identity that the kubelets of a cluster have already.
	taken := strings.Replace(w.path("pool"), "resourceGroups", "resourcegroups", 1)
	w.write(directory.NewManagedIdentity(directory.ServicePrincipal{ID: w.newID(), AppID: w.newID(), Tenant: w.tenant.ID, DisplayName: "pool", Resource: taken, Explicit: true}))
	w.as("admin", "PUT", w.path("pool"), here).want(409, "ResourceConflict")
}

// TestRoles: what a role on a group allows, and what none does.
func TestRoles(t *testing.T) {
	w := newWorld(t)
	w.as("admin", "PUT", w.path("robot"), here).want(201)
	w.as("admin", "PUT", w.sub()+"/resourcegroups/other", `{"location": "centralus"}`).want(201)
	w.as("admin", "PUT", w.in("other", "hidden"), here).want(201)
	w.grant(w.user("reader").ID, rbac.Reader, w.sub()+"/resourceGroups/rg")
	w.grant(w.user("contributor").ID, rbac.Contributor, w.path("robot"))
	w.user("nobody")
	credential := w.path("robot") + "/federatedIdentityCredentials/fic"
	for _, c := range []struct {
		user, method, path string
		status             int
	}{
		{"reader", "GET", w.path("robot"), 200},
		{"reader", "PUT", w.path("robot"), 403},
		{"reader", "PATCH", w.path("robot"), 403},
		{"reader", "DELETE", w.path("robot"), 403},
		{"reader", "POST", w.path("robot") + "/listAssociatedResources", 403},
		{"reader", "PUT", credential, 403},
		{"reader", "DELETE", credential, 403},
		{"reader", "GET", w.path("robot") + "/federatedIdentityCredentials", 200},
		{"reader", "GET", w.in("other", "hidden"), 403},
		{"contributor", "PUT", w.path("robot2"), 403},
		{"contributor", "PATCH", w.path("robot"), 200},
		{"contributor", "PUT", credential, 201},
		{"nobody", "GET", w.path("robot"), 403},
		{"nobody", "GET", w.path("nothing"), 403}, // which tells nobody what there is
		{"nobody", "PUT", credential, 403},
		{"nobody", "GET", w.sub() + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities", 403},
	} {
		if a := w.as(c.user, c.method, c.path, `{"location": "centralus", "properties": {"issuer": "https://a.example", "subject": "s", "audiences": ["a"]}}`); a.Code != c.status {
			t.Errorf("%s %s %s: %d %s, want %d", c.user, c.method, c.path, a.Code, a.Body, c.status)
		}
	}
	list := w.as("reader", "GET", w.sub()+"/providers/Microsoft.ManagedIdentity/userAssignedIdentities", nil).want(200, "robot")
	if strings.Contains(list.Body.String(), "hidden") {
		t.Errorf("the list shows %s", list.Body)
	}
}

func TestFederatedCredentials(t *testing.T) {
	w := newWorld(t)
	id := w.as("admin", "PUT", w.path("robot"), here).want(201).identity()
	at := w.path("robot") + "/federatedIdentityCredentials"
	put := func(name, issuer, subject string, audiences ...string) answer {
		return w.as("admin", "PUT", at+"/"+name, map[string]any{"properties": map[string]any{"issuer": issuer, "subject": subject, "audiences": audiences}})
	}
	const exchange = "api://AzureADTokenExchange"
	put("first", "https://a.example/", "s", exchange).want(201, `"name":"first"`, id.ID+"/federatedIdentityCredentials/first", `"audiences":["`+exchange+`"]`)
	put("FIRST", "https://a.example/", "t", exchange).want(200, `"name":"first"`, `"subject":"t"`)
	w.as("admin", "GET", at+"/First", nil).want(200, `"subject":"t"`)
	put("second", "https://a.example/", "t", exchange).want(409, "must be unique", `"Conflict"`)
	for what, c := range map[string][]string{
		"a name":         {"x", "https://a.example", "s", exchange},
		"an http issuer": {"other", "http://a.example", "s", exchange},
		"no issuer":      {"other", "", "s", exchange},
		"no subject":     {"other", "https://a.example", "", exchange},
		"no audience":    {"other", "https://a.example", "s"},
		"two audiences":  {"other", "https://a.example", "s", "a", "b"},
	} {
		if a := put(c[0], c[1], c[2], c[3:]...); a.Code != 400 || strings.Contains(a.Body.String(), "Request_") {
			t.Errorf("%s: %d %s", what, a.Code, a.Body)
		}
	}
	w.as("admin", "PUT", at+"/other", `{}`).want(400, "properties")
	w.as("admin", "PUT", at+"/other", `{"properties": "x"}`).want(400, "InvalidRequestContent")
	for i := range 19 {
		put(fmt.Sprintf("more-%d", i), "https://a.example/", fmt.Sprint(i), exchange).want(201)
	}
	put("one-too-many", "https://a.example/", "x", exchange).want(400, "20")
	put("first", "https://b.example/", "x", exchange).want(200)
	var list struct{ Value []json.RawMessage }
	w.must(json.Unmarshal(w.as("admin", "GET", at, nil).want(200).Body.Bytes(), &list))
	if got := w.principal(id.Properties.PrincipalID).Federated; len(list.Value) != 20 || len(got) != 20 || got[0].Issuer != "https://b.example/" || got[0].ID.IsZero() {
		t.Errorf("%d listed; %+v", len(list.Value), got)
	}
	w.as("admin", "DELETE", at+"/FIRST", nil).want(200)
	w.as("admin", "DELETE", at+"/first", nil).want(204)
	w.as("admin", "GET", at+"/first", nil).want(404, "ResourceNotFound", "robot/first")
	w.as("admin", "GET", w.path("none")+"/federatedIdentityCredentials", nil).want(404, "ResourceNotFound")
	// An update of the identity keeps them.
	w.as("admin", "PUT", w.path("robot"), here).want(200)
	if got := w.principal(id.Properties.PrincipalID).Federated; len(got) != 19 {
		t.Errorf("after a PUT of the identity: %d", len(got))
	}
}

// TestGroup: the identities of a group go with it, and with them their principals.
func TestGroup(t *testing.T) {
	w := newWorld(t)
	a, b := w.as("admin", "PUT", w.path("robot-a"), here).want(201).identity(), w.as("admin", "PUT", w.path("robot-b"), here).want(201).identity()
	w.as("admin", "DELETE", w.sub()+"/resourcegroups/rg", nil).want(202)
	v := w.feed.View()
	if arm.In(v).Group(w.subscription, "rg") != nil || len(identity.In(v).InSubscription(w.subscription)) != 0 ||
		w.principal(a.Properties.PrincipalID) != nil || w.principal(b.Properties.PrincipalID) != nil {
		t.Error("something is left")
	}
}

// TestWhole: an identity and its service principal are there both or not at all, whatever happens at the same time.
func TestWhole(t *testing.T) {
	w := newWorld(t)
	w.token("admin")
	whole := func(v *feed.View) error {
		all := identity.In(v).InSubscription(w.subscription)
		if n := len(directory.In(v).ManagedIdentities()); n != len(all) {
			return fmt.Errorf("%d identities, %d service principals", len(all), n)
		}
		for _, i := range all {
			if sp := directory.In(v).ManagedIdentityOf(i.ID()); sp == nil || sp.ID != i.Principal || sp.AppID != i.Client {
				return fmt.Errorf("%s: %+v", i.ID(), sp)
			}
		}
		return nil
	}
	var all sync.WaitGroup
	for n := range 4 {
		all.Go(func() {
			for i := range 10 {
				method, body := "PUT", any(here)
				if (n+i)%3 == 0 {
					method, body = "DELETE", nil
				}
				if a := w.as("admin", method, w.path("robot"), body); a.Code >= 300 {
					t.Errorf("%s: %d %s", method, a.Code, a.Body)
				}
				if err := whole(w.feed.View()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	// A plan that fails in its middle has written nothing.
	err := w.feed.Update(context.Background(), func(v *feed.View, _ feed.Secrets) (feed.Change, error) {
		return feed.Change{}, errors.Join(whole(v), errors.New("on purpose"))
	})
	if err == nil || err.Error() != "on purpose" {
		t.Error(err)
	}
}

// TestReload: what a new process reads is what there was.
func TestReload(t *testing.T) {
	w := newWorld(t)
	id := w.as("admin", "PUT", w.path("robot"), here).want(201).identity()
	w.as("admin", "PUT", w.path("gone"), here).want(201)
	w.as("admin", "DELETE", w.path("gone"), nil).want(200)
	again := &feed.Follower{Log: w.feed.Log}
	w.must(again.Start(w.ctx, map[string]feed.State{
		"directory": new(directory.State), "sts": new(sts.State), "rbac": new(rbac.State), "arm": new(arm.State), identity.Part: new(identity.State),
	}))
	v := again.View()
	if i := identity.In(v).ByID(strings.ToUpper(id.ID)); i == nil || i.Principal != id.Properties.PrincipalID || len(identity.In(v).InSubscription(w.subscription)) != 1 {
		t.Errorf("%+v", i)
	}
	if _, err := new(identity.State).Apply([]feed.Record{{Kind: "identity/other", Key: "x"}}); err == nil {
		t.Error("an unknown kind of record is taken")
	}
}
