package directory

import (
	"testing"

	"github.com/gatehouse-k8s/gatehouse/fault"
)

// TestIdentifierURIs: nobody takes a name that tokens of somebody else are made for.
func TestIdentifierURIs(t *testing.T) {
	w := newWorld(t)
	app, sp := w.app("robot")
	rival, _ := w.app("rival")
	set := func(id ID, uris ...string) error {
		return w.UpdateApplication(w.ctx, as(w.admin.ID), id, func(a *Application) error {
			a.IdentifierURIs = uris
			return nil
		})
	}
	must(t, set(app.ID, "api://robot", "https://robot.example/", "urn:robot"))
	must(t, set(app.ID, "api://robot", "https://robot.example/"))
	if got := w.State().ServicePrincipalByName(w.tenant.ID, "API://Robot"); got == nil || got.ID != sp.ID {
		t.Errorf("by its new name: %+v", got)
	}
	if w.State().ServicePrincipalByName(w.tenant.ID, "urn:robot") != nil {
		t.Error("a name that was given up is still found")
	}
	for name, uri := range map[string]string{
		"another's": "api://robot", "another's in capitals": "API://ROBOT", "another's without the slash": "https://robot.example",
		"Graph's": "https://graph.microsoft.com", "ARM's": "https://management.azure.com/", "ARM's older one": "https://management.core.windows.net",
		"a client id": AKSServer.String(), "with spn": "spn:" + AKSServer.String(), "no scheme": "robot", "a query": "https://x.example/?a", "a fragment": "https://x.example/#a",
		"a wildcard": "https://*.example", "a space": "api://a b", "no host": "https:///x", "empty": "", "another scheme": "ftp://x",
	} {
		wantKind(t, name, set(rival.ID, uri), fault.Invalid)
	}
	wantKind(t, "twice the same", set(rival.ID, "api://x", "api://X/"), fault.Invalid)
	other, otherAdmin := w.newTenant("Fabrikam", "fabrikam.internal")
	_, err := w.CreateApplication(w.ctx, as(otherAdmin.ID), Application{Tenant: other.ID, DisplayName: "x", IdentifierURIs: []string{"api://robot"}})
	must(t, err) // names are each tenant's own
}

func TestRedirectURIs(t *testing.T) {
	for _, c := range []struct {
		uri         string
		public, web bool
	}{
		{"https://app.example/cb?x=1", true, true},
		{"http://localhost:3000/cb", true, true},
		{"http://127.0.0.1/", true, true},
		{"msal1234://auth", true, false},
		{"urn:ietf:wg:oauth:2.0:oob", true, false},
		{"http://app.example/cb", false, false},
		{"http://localhost.evil.example/", false, false},
		{"https://user@app.example/", false, false},
		{"https://*.example/", false, false},
		{"https://app.example/#x", false, false},
		{"https:///cb", false, false},
		{"javascript:alert(1)", false, false},
		{"data:text/html,x", false, false},
		{"file:///etc/passwd", false, false},
		{"/relative", false, false},
		{"", false, false},
	} {
		if err := checkRedirectURI("f", c.uri, true); (err == nil) != c.public {
			t.Errorf("public client, %q: %v", c.uri, err)
		}
		if err := checkRedirectURI("f", c.uri, false); (err == nil) != c.web {
			t.Errorf("web, %q: %v", c.uri, err)
		}
	}
}

func TestServicePrincipals(t *testing.T) {
	w := newWorld(t)
	app, sp := w.app("robot")
	by := as(w.admin.ID)
	_, err := w.CreateServicePrincipal(w.ctx, by, w.tenant.ID, app.AppID, true)
	wantKind(t, "a second one", err, fault.Conflict)
	_, err = w.CreateServicePrincipal(w.ctx, by, w.tenant.ID, Graph, true)
	wantKind(t, "a second one of Graph", err, fault.Conflict)
	_, err = w.CreateServicePrincipal(w.ctx, by, w.tenant.ID, app.ID, true)
	wantKind(t, "one of an object id", err, fault.Invalid)
	must(t, w.EnableServicePrincipal(w.ctx, by, sp.ID, false))
	if w.State().Active(sp.ID) {
		t.Error("a disabled service principal is active")
	}
	must(t, w.UpdateApplication(w.ctx, by, app.ID, func(a *Application) error { a.DisplayName = "android"; return nil }))
	if got := w.State().ServicePrincipal(sp.ID); got.DisplayName != "android" || got.Enabled {
		t.Errorf("after its application changed: %+v", got)
	}
	must(t, w.DeleteServicePrincipal(w.ctx, by, sp.ID))
	if w.State().Application(app.ID) == nil {
		t.Error("the application went with its service principal")
	}
	for _, first := range FirstParty {
		p := w.State().ServicePrincipalByName(w.tenant.ID, first.AppID.String())
		wantKind(t, "deleting "+first.DisplayName, w.DeleteServicePrincipal(w.ctx, by, p.ID), fault.Invalid)
		wantKind(t, "disabling "+first.DisplayName, w.EnableServicePrincipal(w.ctx, by, p.ID, false), fault.Invalid)
	}
}
