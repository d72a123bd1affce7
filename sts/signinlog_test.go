package sts

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/signin"
)

// signIns are the entries of the tenant's log, the newest first.
func (w *world) signIns() []signin.Entry {
	w.t.Helper()
	all, err := w.srv.SignIns.Find(w.t.Context(), signin.Query{Tenant: w.tenant.ID.String(), Limit: 1000})
	must(w.t, err)
	return all
}

// TestRefusalsAreLogged is the acceptance table: each mistake has its AADSTS code, HTTP status and OAuth error, and the sign-in log shows it with who
// tried, what for and how.
func TestRefusalsAreLogged(t *testing.T) {
	cli := directory.AzureCLI.String()
	const aks = "Azure Kubernetes Service AAD Server"
	user := func(w *world, code int, kind signin.Kind, method string) signin.Entry {
		return signin.Entry{Code: code, Kind: kind, User: w.alice.ID.String(), UPN: aliceName, App: cli, ResourceName: aks, Method: method}
	}
	robot := func(code int, credential string) signin.Entry {
		return signin.Entry{Code: code, Kind: signin.ServicePrincipal, PrincipalName: "robot", ResourceName: aks, Method: "Client credential", Credential: credential}
	}
	secret := func(w *world, end time.Time) (*directory.Application, string) {
		app := w.app(directory.Application{DisplayName: "robot"})
		_, text, err := w.dir.AddAppSecret(t.Context(), directory.System, app.ID, directory.PasswordCredential{End: end})
		must(t, err)
		return app, text
	}
	bySecret := func(w *world, app *directory.Application, text string) answer {
		return w.post(w.v2(), values("grant_type", "client_credentials", "client_id", app.AppID.String(), "client_secret", text, "scope", strings.Fields(aksScope)[0]))
	}
	for _, c := range []struct {
		name   string
		do     func(w *world) answer
		code   int
		status int
		error  string
		want   func(w *world) signin.Entry
	}{
		{"wrong password", func(w *world) answer { return w.ropc(aliceName, "wrong", aksScope) }, 50126, 400, "invalid_grant",
			func(w *world) signin.Entry { return user(w, 50126, signin.InteractiveUser, "Password") }},
		{"unknown user", func(w *world) answer { return w.ropc("nobody@"+domain, "wrong", aksScope) }, 50034, 400, "invalid_grant",
			func(w *world) signin.Entry {
				return signin.Entry{Code: 50034, Kind: signin.InteractiveUser, UPN: "nobody@" + domain, App: cli, ResourceName: aks, Method: "Password"}
			}},
		{"locked", func(w *world) answer {
			for range passwordGuesses.Wrong {
				w.ropc(aliceName, "wrong", aksScope)
			}
			return w.ropc(aliceName, alicePassword, aksScope)
		}, 50053, 400, "invalid_grant", func(w *world) signin.Entry { return user(w, 50053, signin.InteractiveUser, "Password") }},
		{"disabled", func(w *world) answer {
			w.setUser(w.alice.ID, func(u *directory.User) { u.Enabled = false })
			return w.ropc(aliceName, alicePassword, aksScope)
		}, 50057, 400, "invalid_grant", func(w *world) signin.Entry { return user(w, 50057, signin.InteractiveUser, "Password") }},
		{"wrong secret", func(w *world) answer {
			app, _ := secret(w, time.Time{})
			return bySecret(w, app, "wrong")
		}, 7000215, 401, "invalid_client", func(*world) signin.Entry { return robot(7000215, "clientSecret") }},
		{"expired secret", func(w *world) answer {
			app, text := secret(w, w.clock().Add(time.Hour))
			w.pass(time.Hour)
			return bySecret(w, app, text)
		}, 7000222, 401, "invalid_client", func(*world) signin.Entry { return robot(7000222, "clientSecret") }},
		{"wrong certificate", func(w *world) answer {
			registered := newCertificate(t, testKey(), w.clock().Add(-time.Hour), w.clock().Add(time.Hour))
			shown := newCertificate(t, otherKey(), w.clock().Add(-time.Hour), w.clock().Add(time.Hour))
			app := w.robot("robot", registered)
			id := app.AppID.String()
			return w.assert(w.v2(), app, sign(t, shown.key, map[string]any{"alg": "RS256", "typ": "JWT", "x5t": shown.x5t()}, map[string]any{
				"aud": w.http.URL + w.v2(), "iss": id, "sub": id, "exp": w.clock().Add(time.Minute).Unix(), "jti": "1",
			}))
		}, 700027, 401, "invalid_client", func(*world) signin.Entry { return robot(700027, "clientAssertion") }},
		{"wrong redirect", func(w *world) answer {
			return w.get(strings.Replace(w.authorizeURL("redirect_uri", "https://evil.test"), "organizations", w.tenant.ID.String(), 1))
		}, 50011, 400, "", func(*world) signin.Entry {
			return signin.Entry{Code: 50011, Kind: signin.InteractiveUser, App: cli, Method: "Previously satisfied"}
		}},
		{"code replayed", func(w *world) answer {
			code := w.code(w.browser())
			w.ok(w.redeemCode(code))
			return w.redeemCode(code)
		}, 54005, 400, "invalid_grant", func(w *world) signin.Entry {
			return user(w, 54005, signin.NonInteractiveUser, "Authorization code")
		}},
		{"refresh token revoked", func(w *world) answer {
			a := w.ok(w.ropc(aliceName, alicePassword, aksScope))
			w.pass(time.Second)
			must(t, w.dir.RevokeSessions(t.Context(), directory.System, w.alice.ID))
			return w.redeem(a.text("refresh_token"), directory.AzureCLI, aksScope)
		}, 50173, 400, "invalid_grant", func(w *world) signin.Entry { return user(w, 50173, signin.NonInteractiveUser, "Refresh token") }},
		{"consent missing", func(w *world) answer {
			app := w.app(directory.Application{DisplayName: "Wiki", PublicClient: true, RedirectURIs: []string{"http://localhost"}})
			return w.post(w.v2(), values("grant_type", "password", "client_id", app.AppID.String(), "username", aliceName, "password", alicePassword, "scope", directory.AKSServer.String()+"/user.read"))
		}, 65001, 400, "invalid_grant", func(w *world) signin.Entry {
			want := user(w, 65001, signin.InteractiveUser, "Password")
			want.App = ""
			return want
		}},
		{"unknown application", func(w *world) answer {
			return w.post(w.v2(), values("grant_type", "password", "client_id", w.alice.ID.String(), "username", aliceName, "password", "x", "scope", aksScope))
		}, 700016, 400, "unauthorized_client", func(w *world) signin.Entry {
			return signin.Entry{Code: 700016, Kind: signin.InteractiveUser, App: w.alice.ID.String(), ResourceName: aks, Method: "Password"}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			a := c.do(w)
			if a.status != c.status || a.text("error") != c.error {
				t.Errorf("HTTP %d %q, want %d %q: %s", a.status, a.text("error"), c.status, c.error, a.raw)
			}
			if c.error != "" {
				w.fails(a, c.code)
			}
			got := w.signIns()[0]
			if got.Request == "" || got.Request != a.header.Get("x-ms-request-id") || got.Address != "127.0.0.1" || got.Reason == "" || got.Correlation == "" {
				t.Errorf("entry %+v", got)
			}
			want := c.want(w)
			seen := signin.Entry{Code: got.Code, Kind: got.Kind, User: got.User, UPN: got.UPN, PrincipalName: got.PrincipalName, App: got.App,
				ResourceName: got.ResourceName, Method: got.Method, Credential: got.Credential}
			if want.App == "" {
				seen.App = ""
			}
			if seen != want {
				t.Errorf("entry\n%+v\nwant\n%+v", seen, want)
			}
		})
	}
}

// TestEveryAttemptIsLogged walks each way in: what is an entry, of which kind, and by what.
func TestEveryAttemptIsLogged(t *testing.T) {
	w := newWorld(t)
	a := w.ok(w.ropc(aliceName, alicePassword, aksScope))
	w.ok(w.redeem(a.text("refresh_token"), directory.AzureCLI, armScope))
	b := w.browser()
	w.ok(w.redeemCode(w.code(b)))
	w.code(b) // without a question
	w.visit(b, "GET", w.authorizeURL("prompt", "none", "login_hint", "nobody@"+domain), nil)
	started := w.startDevice(t, aksScope)
	w.fails(w.poll(started), 70016) // waiting is no attempt
	other := w.browser()
	w.next(other, w.confirming(other, started, aliceName, alicePassword), "action", "continue")
	w.ok(w.poll(started))
	wrong := w.browser()
	p := w.visit(wrong, "GET", w.authorizeURL(), nil)
	w.enter(wrong, p, aliceName, "wrong")
	w.post("/"+w.tenant.ID.String()+"/oauth2/v2.0/token", values("grant_type", "refresh_token", "client_id", directory.AzureCLI.String(), "refresh_token", "hunter2", "scope", aksScope))
	var got []string
	all := w.signIns()
	for _, e := range slices.Backward(all) {
		got = append(got, strings.Join([]string{string(e.Kind), e.Method, e.Protocol, e.ClientApp, e.ResourceName, e.UPN, http.StatusText(e.Code)}, "|"))
		if e.Tenant != w.tenant.ID.String() || e.Proved != (e.Code == 0) {
			t.Errorf("entry %+v", e)
		}
	}
	const (
		app     = "|Mobile Apps and Desktop clients|"
		browser = "|Browser|"
		aks     = "Azure Kubernetes Service AAD Server|"
		arm     = "Windows Azure Service Management API|"
	)
	want := []string{
		"interactiveUser|Password|ropc" + app + aks + aliceName + "|",
		"nonInteractiveUser|Refresh token|oAuth2" + app + arm + aliceName + "|",
		"interactiveUser|Password|oAuth2" + browser + aks + aliceName + "|",
		"interactiveUser|Previously satisfied|oAuth2" + browser + aks + aliceName + "|",
		"nonInteractiveUser|Authorization code|oAuth2" + app + aks + aliceName + "|",
		"interactiveUser|Previously satisfied|oAuth2" + browser + aks + aliceName + "|",
		"interactiveUser|Previously satisfied|oAuth2" + browser + aks + "nobody@" + domain + "|",
		"interactiveUser|Password|deviceCode" + browser + aks + aliceName + "|",
		"interactiveUser|Previously satisfied|deviceCode" + browser + aks + aliceName + "|",
		"nonInteractiveUser|Device code|deviceCode" + app + aks + aliceName + "|",
		"interactiveUser|Password|oAuth2" + browser + aks + aliceName + "|",
		"nonInteractiveUser|Refresh token|oAuth2" + app + aks + "|",
	}
	if !slices.Equal(got, want) {
		t.Errorf("entries\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	codes := map[int]int{}
	for _, e := range all {
		codes[e.Code]++
		if strings.Contains(e.Reason+e.UPN+e.Note, "hunter2") {
			t.Errorf("an entry holds what was sent as a token: %+v", e)
		}
	}
	if codes[0] != 9 || codes[50058] != 1 || codes[50126] != 1 || codes[70000] != 1 {
		t.Errorf("codes %v", codes)
	}
}

// TestSignInOfAnother: a name of another tenant is not looked up, and what names no tenant is in nobody's log.
func TestSignInOfAnother(t *testing.T) {
	w := newWorld(t)
	_, _, err := w.dir.CreateTenant(t.Context(), directory.NewTenant{DisplayName: "Other", Domain: "other.test", AdminName: "admin", Password: adminPassword}, nil)
	must(t, err)
	w.fails(w.ropc("admin@other.test", adminPassword, aksScope), 50034)
	e := w.signIns()[0]
	if e.User != "" || e.UserName != "" || e.UPN != "admin@other.test" {
		t.Errorf("this tenant's log tells of another's user: %+v", e)
	}
	w.fails(w.post("/organizations/oauth2/v2.0/token", values("grant_type", "password", "client_id", directory.AzureCLI.String(), "username", "x@nowhere.test",
		"password", "x", "scope", aksScope)), 50059)
	w.ok(w.post("/organizations/oauth2/v2.0/token", values("grant_type", "password", "client_id", directory.AzureCLI.String(), "username", "admin@other.test",
		"password", adminPassword, "scope", aksScope)))
	if n := len(w.signIns()); n != 1 {
		t.Errorf("%d entries", n)
	}
}

// TestOneWayToRecord: whatever records an attempt does it through conclude, so that the logs agree.
func TestOneWayToRecord(t *testing.T) {
	files, err := filepath.Glob("*.go")
	must(t, err)
	var found []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(t, err)
		if n := strings.Count(string(text), ".Audit.Record(") + strings.Count(string(text), ".SignIns.Record("); n > 0 && !strings.HasSuffix(file, "_test.go") {
			found = append(found, fmt.Sprint(file, " ", n))
		}
	}
	if !slices.Equal(found, []string{"signinlog.go 2"}) {
		t.Errorf("attempts are recorded at %q", found)
	}
}

// TestSignInOfPrincipals: applications and managed identities have entries of their own kinds, with the credential that they showed.
func TestSignInOfPrincipals(t *testing.T) {
	w := newWorld(t)
	app := w.app(directory.Application{DisplayName: "robot"})
	key, secret, err := w.dir.AddAppSecret(t.Context(), directory.System, app.ID, directory.PasswordCredential{})
	must(t, err)
	w.ok(w.post(w.v2(), values("grant_type", "client_credentials", "client_id", app.AppID.String(), "client_secret", secret, "scope", strings.Fields(aksScope)[0])))
	id, appID := w.principal(app).ID, directory.ID{15: 1}
	identity := directory.ID{15: 2}
	must(t, w.srv.Feed.Update(t.Context(), func(*feed.View, feed.Secrets) (feed.Change, error) {
		return feed.Change{Records: []feed.Record{directory.NewManagedIdentity(directory.ServicePrincipal{ID: identity, AppID: appID, Tenant: w.tenant.ID, DisplayName: "vm", Created: w.clock()})}}, nil
	}))
	w.srv.conclude(&audit.Event{
		Time: w.clock(), Tenant: w.tenant.ID.String(), Actor: identity.String(), Client: appID.String(), Action: "sign-in", Target: directory.AKSServer.String(),
		Details: map[string]string{"method": "managed identity"},
	}, httptest.NewRequest("GET", "/", nil), nil)
	var got []string
	for _, e := range w.signIns() {
		got = append(got, fmt.Sprint(e.Kind, "|", e.Principal, "|", e.PrincipalName, "|", e.Method, "|", e.Credential, "|", e.KeyID, "|", e.Proved, "|", e.ResourceName, "|", e.ClientApp))
	}
	want := []string{
		"managedIdentity|" + identity.String() + "|vm|Managed identity|managedIdentity||true|Azure Kubernetes Service AAD Server|",
		"servicePrincipal|" + id.String() + "|robot|Client credential|clientSecret|" + key.KeyID.String() + "|true|Azure Kubernetes Service AAD Server|",
	}
	if !slices.Equal(got, want) {
		t.Errorf("entries\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
