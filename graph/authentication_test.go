package graph

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/sts"
)

// beta sends a request to the version that has the requirements.
func (w *world) beta(who, method, path, body string) answer {
	w.t.Helper()
	r := httptest.NewRequest(method, "https://graph.microsoft.com/beta"+path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+w.token(who))
	rec := httptest.NewRecorder()
	w.graph.ServeHTTP(rec, r)
	return newAnswer(w.t, rec)
}

// enrolled gives a user an authenticator app and a passkey.
func (w *world) enrolled(u *directory.User) (app, key directory.ID) {
	w.t.Helper()
	app, key = directory.MustParseID("00000000-0000-4000-8000-000000000001"), directory.MustParseID("00000000-0000-4000-8000-000000000002")
	seed := bytes.Repeat([]byte("s"), directory.TOTPSeedSize)
	_, err := w.dir.AddTOTP(context.Background(), u.ID, app, seed, directory.TOTPCode(seed, w.clock()), true)
	must(w.t, err)
	_, err = w.dir.AddPasskey(context.Background(), u.ID, directory.Method{ID: key, Name: "Blue key", AAGUID: "ee882879-721c-4913-9775-3dfcce97072a"},
		directory.Passkey{Credential: []byte("c"), Record: []byte("{}")}, true)
	must(w.t, err)
	return app, key
}

// showsMFA makes a token's session one in which a second factor was shown.
func (w *world) showsMFA(upn string) {
	w.t.Helper()
	id := sts.In(w.feed.View()).SessionsOf(w.feedUser(upn).ID)[0].ID
	must(w.t, w.feed.Update(context.Background(), func(v *feed.View, _ feed.Secrets) (feed.Change, error) {
		s := *sts.In(v).Session(id)
		s.AMR = []string{"pwd", "mfa"}
		body, err := json.Marshal(&s)
		return feed.Change{Records: []feed.Record{{Kind: sts.KindSession, Key: id.String(), Tenant: s.Tenant.String(), Body: body}}}, err
	}))
}

func (w *world) feedUser(upn string) *directory.User {
	return directory.In(w.feed.View()).UserByUPN(upn)
}

// TestRequirements: administrators say who must use a second factor, and only they.
func TestRequirements(t *testing.T) {
	w := newWorld(t)
	at := "/users/" + w.bob.ID.String() + "/authentication/requirements"
	if got := w.beta(w.admin.UPN, "GET", at, "").want(200, ""); got.text("perUserMfaState") != "disabled" {
		t.Errorf("at first: %s", got.body)
	}
	w.beta(w.admin.UPN, "PATCH", "/users/"+w.bob.UPN+"/authentication/requirements", `{"perUserMfaState": "enforced"}`).want(204, "")
	w.advance(time.Second)
	w.beta(w.admin.UPN, "PATCH", at, `{"perUserMfaState": "disabled"}`).want(204, "")
	w.beta(w.admin.UPN, "PATCH", at, `{"perUserMfaState": "enabled", "@odata.type": "x"}`).want(204, "")
	if got := w.beta(w.bob.UPN, "GET", "/me/authentication/requirements", "").want(200, ""); got.text("perUserMfaState") != "enabled" {
		t.Errorf("of oneself: %s", got.body)
	}
	for _, body := range []string{`{"perUserMfaState": "on"}`, `{"perUserMfaState": null}`, `{"perUserMfaState": 1}`, `{}`, `{"perUserMfaState": "disabled", "x": 1}`, `[]`} {
		w.beta(w.admin.UPN, "PATCH", at, body).want(400, "Request_BadRequest")
	}
	w.beta(w.bob.UPN, "PATCH", at, `{"perUserMfaState": "disabled"}`).want(403, "Authorization_RequestDenied")
	w.beta(w.alice.UPN, "GET", at, "").want(403, "Authorization_RequestDenied")
	w.beta(w.gina.UPN, "GET", at, "").want(403, "Authorization_RequestDenied")
	w.beta(w.admin.UPN, "PATCH", "/users/nobody@x.test/authentication/requirements", `{"perUserMfaState": "enabled"}`).want(404, "Request_ResourceNotFound")
	w.asAdmin("GET", at, "").want(404, "Request_ResourceNotFound")                                    // Microsoft documents beta only
	w.beta(w.admin.UPN, "GET", "/users/"+w.bob.ID.String(), "").want(404, "Request_ResourceNotFound") // and nothing else here
}

// TestAuthenticationMethods: everybody sees their own, administrators those of all; no answer holds a secret.
func TestAuthenticationMethods(t *testing.T) {
	w := newWorld(t)
	app, key := w.enrolled(w.bob)
	at := "/users/" + w.bob.ID.String() + "/authentication/"
	all := w.asAdmin("GET", at+"methods", "").want(200, "")
	if got := strings.Join(all.values("@odata.type"), " "); got != "#microsoft.graph.passwordAuthenticationMethod #microsoft.graph.softwareOathAuthenticationMethod #microsoft.graph.fido2AuthenticationMethod" {
		t.Errorf("types %s", got)
	}
	if all.at("value/1/secretKey") != nil || all.text("value/1/id") != app.String() || all.text("value/2/displayName") != "Blue key" ||
		all.text("value/2/aaGuid") != "ee882879-721c-4913-9775-3dfcce97072a" || all.text("value/0/id") != passwordMethod {
		t.Errorf("methods %s", all.body)
	}
	for set, want := range map[string]string{"passwordMethods": passwordMethod, "softwareOathMethods": app.String(), "fido2Methods": key.String()} {
		if got := w.call(w.bob.UPN, "GET", "/me/authentication/"+set, "").want(200, "").values("id"); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q", set, got)
		}
		if got := w.asAdmin("GET", at+set+"/"+want, "").want(200, ""); got.text("id") != want || !strings.HasSuffix(got.text("@odata.context"), "/authentication/"+set+"/$entity") {
			t.Errorf("%s: %s", set, got.body)
		}
	}
	w.asAdmin("GET", at+"fido2Methods/"+app.String(), "").want(404, "Request_ResourceNotFound")
	w.call(w.alice.UPN, "GET", at+"methods", "").want(403, "Authorization_RequestDenied")
	w.call(w.gina.UPN, "GET", "/me/authentication/methods", "").want(200, "")
}

// TestRemoveMethod: an administrator resets others; people remove their own only with a factor that they have just shown.
func TestRemoveMethod(t *testing.T) {
	w := newWorld(t)
	app, key := w.enrolled(w.bob)
	mine := "/me/authentication/softwareOathMethods/" + app.String()
	at := "/users/" + w.bob.ID.String() + "/authentication/"
	w.call(w.bob.UPN, "DELETE", mine, "").want(403, "accessDenied")
	w.call(w.bob.UPN, "DELETE", at+"softwareOathMethods/"+app.String(), "").want(403, "accessDenied")
	w.call(w.alice.UPN, "DELETE", at+"softwareOathMethods/"+app.String(), "").want(403, "Authorization_RequestDenied")
	w.asAdmin("DELETE", at+"fido2Methods/"+app.String(), "").want(404, "Request_ResourceNotFound")
	w.asAdmin("DELETE", at+"fido2Methods/x", "").want(404, "Request_ResourceNotFound")
	if a := w.asAdmin("DELETE", at+"passwordMethods/"+passwordMethod, ""); a.status != http.StatusMethodNotAllowed {
		t.Errorf("the password: %d %s", a.status, a.body)
	}
	w.asAdmin("DELETE", at+"fido2Methods/"+key.String(), "").want(204, "")
	w.showsMFA(w.bob.UPN)
	w.call(w.bob.UPN, "DELETE", mine, "").want(204, "")
	if w.feedUser(w.bob.UPN).HasSecondFactor() {
		t.Error("something is left")
	}
	app, _ = w.enrolled(w.bob)
	w.advance(10 * time.Minute)
	must(t, w.feed.CatchUp(t.Context()))
	w.call(w.bob.UPN, "DELETE", "/me/authentication/softwareOathMethods/"+app.String(), "").want(403, "accessDenied")
	var audited []string
	for _, e := range w.events() {
		audited = append(audited, e.Action+" "+string(e.Outcome)+" "+e.Details["method"])
	}
	if all := strings.Join(audited, "\n"); !strings.Contains(all, "DELETE /users/{id}/authentication/fido2Methods/{method} allowed "+key.String()) {
		t.Errorf("audit:\n%s", all)
	}
}
