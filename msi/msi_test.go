package msi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
)

// TestForms asks in each form as clients do, and checks every member of the answer: all are strings.
func TestForms(t *testing.T) {
	w := newWorld(t)
	appService, imds, arc := w.open("robot", AppService), w.open(robotID, IMDS), w.open("c1", Arc)
	for _, c := range []struct {
		name    string
		sp      *directory.ServicePrincipal
		addr    string
		request func() string
	}{
		{"App Service", &w.robot, appService.Address, func() string { return appServiceRequest(appService) }},
		{"App Service of az 2.45", &w.robot, appService.Address, func() string {
			return "GET /MSI/token/?resource=" + aks + "&api-version=2017-09-01&clientid=" + w.robot.AppID.String() + " HTTP/1.1\nHost: " + appService.Address + "\nsecret: " + appService.Secret + "\nConnection: close"
		}},
		{"metadata service", &w.robot, imds.Address, func() string { return imdsRequest(imds) }},
		{"metadata service, with its port", &w.robot, imds.Address, func() string {
			return strings.Replace(imdsRequest(imds), "http://169.254.169.254/", "http://169.254.169.254:80/", 1)
		}},
		{"Arc", &w.system, arc.Address, func() string { return arcRequest(arc, "Authorization: Basic "+w.read(w.challenge(arc))+"\n") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := w.send(c.addr, c.request())
			if s.status != http.StatusOK || s.header.Get("Cache-Control") != "no-store" {
				t.Fatalf("%d %v %s", s.status, s.header, s.raw)
			}
			want := map[string]any{
				"client_id": c.sp.AppID.String(), "expires_in": "86400", "ext_expires_in": "86400", "expires_on": "1795338000", "not_before": "1795251300",
				"resource": aks, "token_type": "Bearer", "refresh_token": "", "access_token": s.text("access_token"),
			}
			got, _ := json.Marshal(s.body)
			if wanted, _ := json.Marshal(want); string(got) != string(wanted) {
				t.Errorf("got %s\nwant %s", got, wanted)
			}
			token, err := w.verify(s.text("access_token"))
			if err != nil {
				t.Fatal(err)
			}
			if token.Object != c.sp.ID || token.AppID != c.sp.AppID.String() || token.Audience != aks || !token.AppOnly() || token.Expires-token.IssuedAt != 24*3600 {
				t.Errorf("claims: %+v", token.Claims)
			}
		})
	}
}

// TestAttacks: every way to a token that is not a program's in the shell that the secret was printed for.
func TestAttacks(t *testing.T) {
	w := newWorld(t)
	appService, imds, arc := w.open("robot", AppService), w.open("robot", IMDS), w.open("c1", Arc)
	other := w.open("c1", AppService)
	a, i := appServiceRequest(appService), imdsRequest(imds)
	change := func(request string, pairs ...string) string {
		changed := strings.NewReplacer(pairs...).Replace(request)
		if changed == request {
			t.Fatalf("%q changes nothing", pairs)
		}
		return changed
	}
	plus := func(request, header string) string { return request + "\n" + header }
	used := func() string {
		content := w.read(w.challenge(arc))
		if s := w.send(arc.Address, arcRequest(arc, "Authorization: Basic "+content+"\n")); s.status != http.StatusOK {
			t.Fatalf("%d %s", s.status, s.raw)
		}
		return content
	}()
	key := "Authorization: Basic " + w.read(w.challenge(arc)) + "\n"
	for _, c := range []struct {
		name, addr, request string
		status              int
	}{
		{"no secret", appService.Address, change(a, "\nX-IDENTITY-HEADER: "+appService.Secret, ""), 401},
		{"an empty secret", appService.Address, change(a, appService.Secret, ""), 401},
		{"a wrong secret", appService.Address, change(a, appService.Secret, strings.Repeat("A", len(appService.Secret))), 401},
		{"a prefix of the secret", appService.Address, change(a, appService.Secret, appService.Secret[:20]), 401},
		{"the secret and more", appService.Address, change(a, appService.Secret, appService.Secret+"A"), 401},
		{"the secret in small letters", appService.Address, change(a, appService.Secret, strings.ToLower(appService.Secret)), 401},
		{"the secret of another identity", appService.Address, change(a, appService.Secret, other.Secret), 401},
		{"the secret of another form", appService.Address, change(a, appService.Secret, imds.Secret), 401},
		{"two secrets, one right", appService.Address, plus(a, "X-IDENTITY-HEADER: x"), 401},
		{"the secret in the URL", appService.Address, change(a, "?", "?X-IDENTITY-HEADER="+appService.Secret+"&", "\nX-IDENTITY-HEADER: "+appService.Secret, ""), 401},
		{"the secret as a bearer token", appService.Address, change(a, "X-IDENTITY-HEADER: ", "Authorization: Bearer "), 401},
		{"the header of the other version", appService.Address, change(a, "X-IDENTITY-HEADER", "secret"), 401},
		{"Metadata: true in its place", appService.Address, change(a, "X-IDENTITY-HEADER: "+appService.Secret, "Metadata: true"), 401},
		{"another host (DNS rebinding)", appService.Address, change(a, "Host: "+appService.Address, "Host: evil.example"), 403},
		{"another host with our port", appService.Address, change(a, "Host: 127.0.0.1", "Host: evil.example"), 403},
		{"localhost", appService.Address, change(a, "Host: 127.0.0.1", "Host: localhost"), 403},
		{"the port of another endpoint", appService.Address, change(a, "Host: "+appService.Address, "Host: "+other.Address), 403},
		{"a request for a proxy", appService.Address, change(a, "GET /", "GET http://"+appService.Address+"/"), 403},
		{"X-Forwarded-For", appService.Address, plus(a, "X-Forwarded-For: 10.0.0.1"), 403},
		{"X-Forwarded-Host", appService.Address, plus(a, "x-forwarded-host: a"), 403},
		{"Forwarded", appService.Address, plus(a, "Forwarded: for=10.0.0.1"), 403},
		{"Via", appService.Address, plus(a, "Via: 1.1 proxy"), 403},
		{"an empty Via", appService.Address, plus(a, "Via: "), 403},
		{"Origin", appService.Address, plus(a, "Origin: https://evil.example"), 403},
		{"Origin null", appService.Address, plus(a, "Origin: null"), 403},
		{"Origin of our own", appService.Address, plus(a, "Origin: http://"+appService.Address), 403},
		{"Sec-Fetch-Site", appService.Address, plus(a, "Sec-Fetch-Site: none"), 403},
		{"Referer", appService.Address, plus(a, "Referer: https://evil.example"), 403},
		{"POST", appService.Address, change(a, "GET", "POST"), 405},
		{"OPTIONS, as browsers ask first", appService.Address, change(a, "GET", "OPTIONS"), 405},
		{"another path", appService.Address, change(a, "/msi/token", "/msi/tokens"), 404},
		{"the path of the metadata service", appService.Address, change(a, "/msi/token", "/metadata/identity/oauth2/token"), 404},
		{"no api-version", appService.Address, change(a, "api-version=2019-08-01&", ""), 400},
		{"another api-version", appService.Address, change(a, "2019-08-01", "2020-01-01"), 400},
		{"no resource", appService.Address, change(a, "&resource="+aks, ""), 400},
		{"an unknown resource", appService.Address, change(a, "resource="+aks, "resource=https://nowhere.example"), 400},
		{"a resource with a line break", appService.Address, change(a, "resource="+aks, "resource="+aks+"%0d%0aX"), 400},
		{"two resources", appService.Address, change(a, "resource=", "resource="+aks+"&resource="), 400},
		{"two resources in different spellings", appService.Address, change(a, "resource=", "Resource="+aks+"&resource="), 400},
		{"two resources in one", appService.Address, change(a, "resource="+aks, "resource="+aks+"%20https://graph.microsoft.com"), 400},
		{"a scope", appService.Address, change(a, "resource="+aks, "resource="+aks+"/user.read"), 400},
		{"a long resource", appService.Address, change(a, "resource=", "resource="+strings.Repeat("a", 2000)), 400},
		{"a broken query", appService.Address, change(a, "&resource", "&%zz&resource"), 400},
		{"another client id", appService.Address, change(a, "?", "?client_id="+w.system.AppID.String()+"&"), 400},
		{"another object id", appService.Address, change(a, "?", "?object_id="+w.system.ID.String()+"&"), 400},
		{"another resource id", appService.Address, change(a, "?", "?mi_res_id="+clusterID+"&"), 400},
		{"one selector right, one wrong", appService.Address, change(a, "?", "?client_id="+w.robot.AppID.String()+"&mi_res_id="+clusterID+"&"), 400},

		{"IMDS: no secret", imds.Address, change(i, "Proxy-Authorization", "X-Nothing"), 407},
		{"IMDS: a wrong secret", imds.Address, change(i, basic(ProxyUser, imds.Secret), basic(ProxyUser, "x")), 407},
		{"IMDS: another user", imds.Address, change(i, basic(ProxyUser, imds.Secret), basic("x", imds.Secret)), 407},
		{"IMDS: the secret for the server itself", imds.Address, change(i, "Proxy-Authorization", "Authorization"), 407},
		{"IMDS: no Metadata", imds.Address, change(i, "\nMetadata: true", ""), 400},
		{"IMDS: Metadata: false", imds.Address, change(i, "Metadata: true", "Metadata: false"), 400},
		{"IMDS: Metadata twice", imds.Address, plus(i, "Metadata: true"), 400},
		{"IMDS: asked directly", imds.Address, change(i, "GET http://169.254.169.254/", "GET /"), 400},
		{"IMDS: asked directly, another host", imds.Address, change(i, "GET http://169.254.169.254/", "GET /", "Host: 169.254.169.254", "Host: evil.example"), 400},
		{"IMDS: another port", imds.Address, change(i, "http://169.254.169.254/", "http://169.254.169.254:8080/"), 403},
		{"IMDS: the address as IPv6", imds.Address, change(i, "http://169.254.169.254/", "http://[::ffff:169.254.169.254]/"), 403},
		{"IMDS: another link-local address", imds.Address, change(i, "http://169.254.169.254/", "http://169.254.170.2/"), 403},
		{"IMDS: another host", imds.Address, change(i, "http://169.254.169.254/", "http://evil.example/"), 400},
		{"IMDS: a user in the URL", imds.Address, change(i, "http://169.254.169.254/", "http://a@169.254.169.254/"), 400},
		{"IMDS: a tunnel", imds.Address, "CONNECT 169.254.169.254:80 HTTP/1.1\nHost: 169.254.169.254:80\nProxy-Authorization: " + basic(ProxyUser, imds.Secret), 400},
		{"IMDS: X-Forwarded-For", imds.Address, plus(i, "X-Forwarded-For: 10.0.0.1"), 403},
		{"IMDS: Via", imds.Address, plus(i, "Via: 1.1 proxy"), 403},
		{"IMDS: Origin", imds.Address, plus(i, "Origin: https://evil.example"), 403},
		{"IMDS: POST", imds.Address, change(i, "GET", "POST"), 405},
		{"IMDS: no api-version", imds.Address, change(i, "api-version=2018-02-01&", ""), 400},
		{"IMDS: another identity", imds.Address, change(i, "?", "?msi_res_id="+clusterID+"&"), 400},
		{"IMDS: the machine's own data", imds.Address, change(i, "/metadata/identity/oauth2/token", "/metadata/instance"), 404},

		{"Arc: no Metadata", arc.Address, change(arcRequest(arc, ""), "Metadata: true\n", ""), 400},
		{"Arc: a key that was used", arc.Address, arcRequest(arc, "Authorization: Basic "+used+"\n"), 401},
		{"Arc: a key of one's own", arc.Address, arcRequest(arc, "Authorization: Basic abc\n"), 401},
		{"Arc: no key", arc.Address, arcRequest(arc, "Authorization: Basic \n"), 401},
		{"Arc: another scheme", arc.Address, arcRequest(arc, strings.Replace(key, "Basic", "Bearer", 1)), 401},
		{"Arc: the path of the key", arc.Address, arcRequest(arc, "Authorization: Basic "+w.challenge(arc)+"\n"), 401},
		{"Arc: another host", arc.Address, change(arcRequest(arc, key), "Host: "+arc.Address, "Host: evil.example"), 403},
		{"Arc: Origin", arc.Address, arcRequest(arc, key+"Origin: null\n"), 403},
		{"Arc: another identity", arc.Address, change(arcRequest(arc, key), "?", "?client_id="+w.robot.AppID.String()+"&"), 400},
		{"Arc: the key after that", arc.Address, arcRequest(arc, key), 401},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := w.send(c.addr, c.request)
			if s.status != c.status || strings.Contains(s.raw, "eyJ") {
				t.Errorf("%d, want %d: %s", s.status, c.status, s.raw)
			}
			for _, secret := range []string{appService.Secret, imds.Secret, other.Secret} {
				if strings.Contains(s.raw, secret) {
					t.Errorf("the answer holds the secret: %s", s.raw)
				}
			}
		})
	}
	for name, request := range map[string]string{appService.Address: a, imds.Address: i} { // what was changed is good
		if s := w.send(name, request); s.status != http.StatusOK {
			t.Errorf("unchanged: %d %s", s.status, s.raw)
		}
	}
	logs := w.logs()
	for _, secret := range []string{appService.Secret, imds.Secret, other.Secret, used, "eyJ"} {
		if strings.Contains(logs, secret) {
			t.Errorf("a secret or token is in the logs")
		}
	}
	if !strings.Contains(logs, `"outcome":"denied","reason":"the Host header is not `) || !strings.Contains(logs, `"change":"opened"`) || !strings.Contains(logs, `"method":"managed identity"`) {
		t.Error("refusals and tokens are not in the audit log")
	}
}

// TestFlood: whoever sends what is refused writes a line a minute for each reason, however many requests there are and whatever is in them.
func TestFlood(t *testing.T) {
	w := newWorld(t)
	o, imds := w.open("robot", AppService), w.open("robot", IMDS)
	for range 2 {
		for i := range 50 {
			w.send(o.Address, appServiceRequest(o)+"\nReferer: http://evil.example/")
			w.send(o.Address, fmt.Sprintf("%s\nX-Forwarded-%d: a", appServiceRequest(o), i))
			w.send(imds.Address, fmt.Sprintf("GET http://169.254.1.%d/ HTTP/1.1\nHost: a\nProxy-Authorization: %s", i, basic(ProxyUser, imds.Secret)))
		}
		w.pass(time.Minute)
	}
	if s := w.send(o.Address, appServiceRequest(o)); s.status != http.StatusOK {
		t.Errorf("after the flood: %d %s", s.status, s.raw)
	}
	logged := w.log.String()
	w.must(w.events.Close())
	w.events = nil
	if n := strings.Count(w.read(w.audited), `"outcome":"denied"`); n != 2*3 {
		t.Errorf("%d refusals are audited, want one of each kind in each minute", n)
	}
	if n, again := strings.Count(logged, "refused a request"), strings.Count(logged, "passedOver=49"); n != 2*3 || again != 3 {
		t.Errorf("%d refusals are logged, %d of them with the number of those passed over", n, again)
	}
}

// TestAudiences: the resource of a request becomes the audience that the resource expects.
func TestAudiences(t *testing.T) {
	w := newWorld(t)
	o := w.open("robot", AppService)
	_, err := w.dir.CreateApplication(w.ctx, directory.System, directory.Application{Tenant: w.tenant.ID, DisplayName: "v2", IdentifierURIs: []string{"api://v2"}, TokenVersion: 2})
	w.must(err)
	app := directory.In(w.feed.View()).Applications(w.tenant.ID)[0]
	_, err = w.dir.CreateServicePrincipal(w.ctx, directory.System, w.tenant.ID, app.AppID, true)
	w.must(err)
	for resource, want := range map[string]string{
		aks: aks, "https://management.azure.com": "https://management.azure.com", "https://management.core.windows.net/": "https://management.core.windows.net/",
		"https://graph.microsoft.com": "https://graph.microsoft.com", "api://v2": app.AppID.String(), "api://v2/": app.AppID.String(),
	} {
		s := w.send(o.Address, strings.Replace(appServiceRequest(o), "resource="+aks, "resource="+url.QueryEscape(resource), 1))
		if s.status != http.StatusOK || s.text("resource") != resource {
			t.Errorf("%s: %d %s", resource, s.status, s.raw)
			continue
		}
		token, err := w.verify(s.text("access_token"))
		if err != nil || token.Audience != want {
			t.Errorf("%s: audience %q, want %q (%v)", resource, token.Audience, want, err)
		}
		version := "https://sts.windows.net/" + w.tenant.ID.String() + "/"
		if strings.HasPrefix(resource, "api://") {
			version = "https://login.microsoftonline.com/" + w.tenant.ID.String() + "/v2.0"
		}
		if token.Issuer != version {
			t.Errorf("%s: issuer %q", resource, token.Issuer)
		}
	}
}

// TestPrincipal: the identity is looked at on each use.
func TestPrincipal(t *testing.T) {
	w := newWorld(t)
	o, arc := w.open("robot", AppService), w.open("c1", Arc)
	good := w.send(o.Address, appServiceRequest(o)).text("access_token")
	w.must(w.dir.EnableServicePrincipal(w.ctx, directory.System, w.robot.ID, false))
	if s := w.send(o.Address, appServiceRequest(o)); s.status != http.StatusBadRequest || !strings.Contains(s.raw, "AADSTS7000112") {
		t.Errorf("disabled: %d %s", s.status, s.raw)
	}
	if _, err := w.verify(good); err == nil {
		t.Error("the token of a disabled identity is good")
	}
	w.must(w.dir.EnableServicePrincipal(w.ctx, directory.System, w.robot.ID, true))
	if _, err := w.verify(good); err != nil {
		t.Error(err)
	}
	w.pass(24*time.Hour - time.Second)
	if _, err := w.verify(good); err != nil {
		t.Error(err)
	}
	w.pass(time.Second)
	if _, err := w.verify(good); err == nil {
		t.Error("a token lives longer than a day")
	}
	w.write(directory.In(w.feed.View()).ManagedIdentityRemoval(w.robot.ID)...)
	if s := w.send(o.Address, appServiceRequest(o)); s.status != http.StatusBadRequest || !strings.Contains(s.raw, "Identity not found") {
		t.Errorf("deleted: %d %s", s.status, s.raw)
	}
	again := w.identity("robot", robotID, true)
	if s := w.send(o.Address, strings.Replace(appServiceRequest(o), "?", "?client_id="+again.AppID.String()+"&", 1)); s.status != http.StatusBadRequest {
		t.Errorf("another of the same name: %d %s", s.status, s.raw)
	}
	w.ends.Sweep()
	if got := w.ends.List(); len(got) != 1 || got[0].Address != arc.Address {
		t.Errorf("after the sweep: %+v", got)
	}
	if second := w.open("robot", AppService); second.Secret == o.Secret || second.Client != again.AppID {
		t.Errorf("the endpoint of the deleted identity was given again: %+v", second.Endpoint)
	}
	path := w.challenge(arc)
	w.write(directory.In(w.feed.View()).ManagedIdentityRemoval(w.system.ID)...)
	w.ends.Sweep()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the key file of a deleted identity is left: %v", err)
	}
}

// TestStale: a replica that may have missed that the identity was disabled issues nothing.
func TestStale(t *testing.T) {
	w := newWorld(t)
	o := w.open("robot", AppService)
	w.mu.Lock()
	w.now = w.now.Add(time.Hour)
	w.mu.Unlock()
	if s := w.send(o.Address, appServiceRequest(o)); s.status != http.StatusServiceUnavailable || s.header.Get("Retry-After") == "" {
		t.Errorf("%d %s", s.status, s.raw)
	}
}

func TestNames(t *testing.T) {
	w := newWorld(t)
	twin := strings.Replace(robotID, "/rg/", "/other/", 1)
	w.identity("Robot", twin, true)
	for name, c := range map[string]struct {
		kind fault.Kind
		want string
	}{
		robotID: {want: robotID}, strings.ToUpper(robotID): {want: robotID}, twin: {want: twin}, clusterID: {want: clusterID}, clusterID + "/": {want: clusterID},
		w.robot.AppID.String(): {want: robotID}, w.robot.ID.String(): {want: robotID}, "C1": {want: clusterID},
		"robot": {kind: fault.Conflict}, "": {kind: fault.NotFound}, "nobody": {kind: fault.NotFound}, "/": {kind: fault.NotFound},
		"/subscriptions/x": {kind: fault.NotFound}, w.tenant.ID.String(): {kind: fault.NotFound}, directory.AKSServer.String(): {kind: fault.NotFound},
	} {
		o, err := w.ends.Open(name, directory.ID{}, AppService)
		switch {
		case c.want == "" && !fault.Is(err, c.kind):
			t.Errorf("%q: %v, want %s", name, err, c.kind)
		case c.want != "" && (err != nil || o.Resource != c.want):
			t.Errorf("%q: %+v %v", name, o, err)
		case c.kind == fault.Conflict && !strings.Contains(err.Error(), twin):
			t.Errorf("%q: %v does not name them", name, err)
		}
	}
	if _, err := w.ends.Close("robot", directory.ID{}, ""); !fault.Is(err, fault.Conflict) || len(w.ends.List()) != 3 {
		t.Errorf("closing one of two: %v, %d are open", err, len(w.ends.List()))
	}
	if _, err := ParseForm("vm"); !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
	if _, err := w.ends.Open(robotID, directory.ID{}, Arc); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "user-assigned") {
		t.Error(err)
	}
}

// TestTenants: two tenants have identities of one name.
func TestTenants(t *testing.T) {
	w := newWorld(t)
	w.pass(time.Second)
	first := w.tenant.ID
	second, _, err := w.dir.CreateTenant(w.ctx, directory.NewTenant{DisplayName: "Second", Domain: "second.test", AdminName: "admin", Password: "Correct-Horse-7"}, nil)
	w.must(err)
	w.tenant = second
	theirs := strings.Replace(robotID, "0e1e0d1c", "5ec01d00", 1)
	robot := w.identity("robot", theirs, true)
	for _, c := range []struct {
		name   string
		tenant directory.ID
		kind   fault.Kind
		want   string
	}{
		{name: "robot", want: robotID}, {name: "robot", tenant: first, want: robotID}, {name: "Robot", tenant: second.ID, want: theirs},
		{name: "c1", want: clusterID}, {name: "c1", tenant: second.ID, kind: fault.NotFound},
		{name: theirs, want: theirs}, {name: theirs, tenant: second.ID, want: theirs}, {name: theirs, tenant: first, kind: fault.Invalid},
		{name: robot.AppID.String(), want: theirs}, {name: robot.AppID.String(), tenant: second.ID, want: theirs}, {name: robot.AppID.String(), tenant: first, kind: fault.Invalid},
		{name: robot.ID.String(), tenant: first, kind: fault.Invalid}, {name: robotID, tenant: second.ID, kind: fault.Invalid},
	} {
		switch o, err := w.ends.Open(c.name, c.tenant, AppService); {
		case c.want == "" && !fault.Is(err, c.kind):
			t.Errorf("%q in %s: %v, want %s", c.name, c.tenant, err, c.kind)
		case c.want != "" && (err != nil || o.Resource != c.want):
			t.Errorf("%q in %s: %+v %v, want %s", c.name, c.tenant, o, err, c.want)
		}
	}
	if _, err := w.ends.Close(theirs, first, ""); !fault.Is(err, fault.Invalid) {
		t.Errorf("closing another tenant's: %v", err)
	}
	closes := func(tenant directory.ID, want string) {
		t.Helper()
		if closed, err := w.ends.Close("robot", tenant, ""); err != nil || len(closed) != 1 || closed[0].Resource != want {
			t.Errorf("%+v %v, want %s", closed, err, want)
		}
	}
	closes(directory.ID{}, robotID)
	w.write(directory.In(w.feed.View()).ManagedIdentityRemoval(w.robot.ID)...)
	if _, err := w.ends.Close("robot", directory.ID{}, ""); !fault.Is(err, fault.NotFound) {
		t.Errorf("the name of a deleted identity closes that of another tenant: %v", err)
	}
	w.write(directory.In(w.feed.View()).ManagedIdentityRemoval(robot.ID)...)
	if _, err := w.ends.Close("robot", first, ""); !fault.Is(err, fault.NotFound) {
		t.Errorf("closing another tenant's that is gone: %v", err)
	}
	closes(second.ID, theirs)
}

// TestAudit: each time that a secret is handed out is on record, with who did it: the owner of the control socket, and never the identity.
func TestAudit(t *testing.T) {
	w := newWorld(t)
	w.open("robot", AppService)
	w.open("robot", AppService)
	_, err := w.ends.Close("robot", directory.ID{}, "")
	w.must(err)
	w.open("c1", IMDS)
	w.write(directory.In(w.feed.View()).ManagedIdentityRemoval(w.system.ID)...)
	w.ends.Sweep()
	w.must(w.events.Close())
	w.events = nil
	var got []string
	for line := range strings.Lines(w.read(w.audited)) {
		var e audit.Event
		w.must(json.Unmarshal([]byte(line), &e))
		got = append(got, strings.Join([]string{e.Details["change"], e.Target, e.Details["identity"], e.Tenant, e.Actor, e.Address}, "|"))
	}
	robot, system := robotID+"|"+w.robot.ID.String()+"|"+w.tenant.ID.String()+"|", clusterID+"|"+w.system.ID.String()+"|"+w.tenant.ID.String()+"|"
	want := []string{
		"opened|" + robot + "|control socket", "handed out again|" + robot + "|control socket", "closed|" + robot + "|control socket",
		"opened|" + system + "|control socket", "closed, as the identity is gone|" + system + "|",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestLife(t *testing.T) {
	w := newWorld(t)
	first := w.open("robot", AppService)
	if again := w.open(robotID, AppService); *again != *first {
		t.Errorf("%+v, then %+v", first, again)
	}
	imds := w.open("robot", IMDS)
	if imds.Secret == first.Secret || imds.Address == first.Address {
		t.Error("two forms share something")
	}
	if closed, err := w.ends.Close("robot", directory.ID{}, IMDS); err != nil || len(closed) != 1 || closed[0].Form != IMDS {
		t.Errorf("%+v %v", closed, err)
	}
	if _, err := http.Get("http://" + imds.Address); err == nil {
		t.Error("a closed endpoint answers")
	}
	if again := w.open("robot", IMDS); again.Secret == imds.Secret {
		t.Error("a closed endpoint's secret came again")
	}
	if closed, err := w.ends.Close(w.robot.AppID.String(), directory.ID{}, ""); err != nil || len(closed) != 2 {
		t.Errorf("%+v %v", closed, err)
	}
	if _, err := w.ends.Close("robot", directory.ID{}, ""); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	w.open("robot", AppService)
	w.write(directory.In(w.feed.View()).ManagedIdentityRemoval(w.robot.ID)...)
	if closed, err := w.ends.Close("robot", directory.ID{}, ""); err != nil || len(closed) != 1 {
		t.Errorf("of a deleted identity: %+v %v", closed, err)
	}
	for i := range maxEndpoints {
		w.identity("many", strings.Replace(robotID, "/robot", "/many"+string(rune('A'+i/26))+string(rune('a'+i%26)), 1), true)
	}
	for _, sp := range directory.In(w.feed.View()).ManagedIdentities() {
		if sp.DisplayName == "many" {
			w.open(sp.Resource, AppService)
		}
	}
	if _, err := w.ends.Open("c1", directory.ID{}, AppService); !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "--stop") {
		t.Errorf("one too many: %v", err)
	}
	w.must(w.ends.Shutdown(w.ctx))
	if got := w.ends.List(); len(got) != 0 {
		t.Errorf("after the stop: %+v", got)
	}
	if _, err := w.ends.Open("c1", directory.ID{}, AppService); !fault.Is(err, fault.Unavailable) {
		t.Errorf("after the stop: %v", err)
	}
}

func TestArcKeys(t *testing.T) {
	w := newWorld(t)
	o := w.open("c1", Arc)
	path := w.challenge(o)
	info, err := os.Stat(path)
	w.must(err)
	if info.Mode().Perm() != 0o600 || info.Size() > 4096 || filepath.Dir(path) != w.ends.Keys || filepath.Ext(path) != ".key" {
		t.Errorf("%s: %v, %d bytes", path, info.Mode(), info.Size())
	}
	late := w.read(path)
	w.pass(keyLife)
	if s := w.send(o.Address, arcRequest(o, "Authorization: Basic "+late+"\n")); s.status != http.StatusUnauthorized {
		t.Errorf("late: %d %s", s.status, s.raw)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("a file that is too old is left: %v", err)
	}
	_, err = w.ends.Close("c1", directory.ID{}, Arc)
	w.must(err)
	if left, err := os.ReadDir(w.ends.Keys); err != nil || len(left) != 0 {
		t.Errorf("%d files are left, %v", len(left), err)
	}
	file := filepath.Join(t.TempDir(), "file")
	w.must(os.WriteFile(file, nil, 0o600))
	w.ends.Keys = file
	if _, err := w.ends.Open("c1", directory.ID{}, Arc); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "sudo install") {
		t.Errorf("a folder that cannot be: %v", err)
	}
}

// TestArcStrangers: a user of this machine who can't read key files asks for them without end, and those who can get their tokens all the same.
func TestArcStrangers(t *testing.T) {
	w := newWorld(t)
	o := w.open("c1", Arc)
	flood := func() {
		for range 2 * maxChallenges {
			w.challenge(o)
		}
	}
	redeem := func(what, path string, status int) {
		t.Helper()
		content, err := os.ReadFile(path)
		w.must(err)
		for _, want := range []int{status, http.StatusUnauthorized} { // once
			if s := w.send(o.Address, arcRequest(o, "Authorization: Basic "+string(content)+"\n")); s.status != want {
				t.Errorf("%s: %d, want %d: %s", what, s.status, want, s.raw)
			}
		}
	}
	before := w.challenge(o)
	flood()
	redeem("named before the flood", before, http.StatusOK)
	flood()
	one, two := w.challenge(o), w.challenge(o)
	if one == two {
		t.Error("two programs at the same time were sent to one file")
	}
	redeem("named in the flood", one, http.StatusOK)
	redeem("named to another program in the flood", two, http.StatusOK)
	flood()
	if left, err := os.ReadDir(w.ends.Keys); err != nil || len(left) != maxChallenges {
		t.Errorf("%d files, %v", len(left), err)
	}
	w.pass(keyLife - time.Second)
	again := w.challenge(o)
	w.pass(keyLife - time.Second)
	redeem("an old file that was named a moment ago", again, http.StatusOK)
	if left := w.challenge(o); left == again {
		t.Error("a file that was used is named again")
	}
	if left, err := os.ReadDir(w.ends.Keys); err != nil || len(left) != 1 {
		t.Errorf("%d files after the flood, %v", len(left), err)
	}
}

// TestElsewhere: HTTP_PROXY leads all plain HTTP to the endpoint, which sends on what is not for it, without the secret.
func TestElsewhere(t *testing.T) {
	w := newWorld(t)
	var got *http.Request
	proxy := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		got = r
		rw.Header().Set("X-Answer", "yes")
		rw.WriteHeader(http.StatusTeapot)
	}))
	defer proxy.Close()
	var err error
	w.ends.Proxy, err = url.Parse(proxy.URL)
	w.must(err)
	o := w.open("robot", IMDS)
	through := &url.URL{Scheme: "http", User: url.UserPassword(ProxyUser, o.Secret), Host: o.Address}
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(through)}}
	defer client.CloseIdleConnections()
	res, err := client.Get("http://plain.example/path?a=%20b&c")
	w.must(err)
	res.Body.Close()
	if res.StatusCode != http.StatusTeapot || res.Header.Get("X-Answer") != "yes" {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
	if got.RequestURI != "http://plain.example/path?a=%20b&c" || got.Header.Get("Proxy-Authorization") != "" {
		t.Errorf("%s %v", got.RequestURI, got.Header)
	}
	got = nil
	res, err = (&http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: o.Address})}}).Get("http://plain.example/")
	w.must(err)
	res.Body.Close()
	if res.StatusCode != http.StatusProxyAuthRequired || got != nil {
		t.Errorf("without the secret: %d", res.StatusCode)
	}
}

// TestTogether opens, asks and closes from many sides; it is for the race detector.
func TestTogether(t *testing.T) {
	w := newWorld(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 5 {
				o, err := w.ends.Open("robot", directory.ID{}, AppService)
				if err != nil {
					t.Error(err)
					return
				}
				req, err := http.NewRequest("GET", "http://"+o.Address+"/msi/token?api-version=2019-08-01&resource="+aks, nil)
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("X-IDENTITY-HEADER", o.Secret)
				client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
				if res, err := client.Do(req); err == nil { // it may have been closed by another
					res.Body.Close()
					if res.StatusCode != http.StatusOK {
						t.Errorf("%d", res.StatusCode)
					}
				}
				if a, err := w.ends.Open("c1", directory.ID{}, Arc); err == nil {
					if res, err := client.Get("http://" + a.Address + "/metadata/identity/oauth2/token"); err == nil {
						res.Body.Close()
					}
				}
				w.ends.List()
				w.ends.Sweep()
				w.ends.Close("robot", directory.ID{}, "")
			}
		})
	}
	all.Wait()
	if _, err := w.ends.Close("c1", directory.ID{}, ""); err != nil {
		t.Error(err)
	}
	if got := w.ends.List(); len(got) != 0 {
		t.Errorf("left: %+v", got)
	}
}

// FuzzQuery: a query is read as net/url reads it, with every parameter once, or refused.
func FuzzQuery(f *testing.F) {
	for _, s := range []string{"", "resource=a&api-version=b", "resource=a&Resource=b", "a=%zz", "a;b", "resource=a&resource=b", "=", "\x00=\xff", "client_id=%C4%B0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := parseQuery(raw)
		if err != nil {
			return
		}
		want, err := url.ParseQuery(raw)
		if err != nil || len(want) != len(q) {
			t.Fatalf("%q is read as %v, net/url says %v %v", raw, q, want, err)
		}
		for name, list := range want {
			if len(list) != 1 || q[strings.ToLower(name)] != list[0] {
				t.Errorf("%q: %q is %q, net/url says %q", raw, name, q[strings.ToLower(name)], list)
			}
		}
	})
}
