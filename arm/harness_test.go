package arm_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/arm"
	"github.com/gatehouse-k8s/gatehouse/gatehousetest"
)

const (
	password = gatehousetest.Password
	armScope = "https://management.azure.com/.default"
)

// world is the face on a real store, with no provider beside its own parts.
type world struct {
	*gatehousetest.House
	ctx    context.Context
	server *arm.Server
	web    http.Handler
}

func newWorld(t testing.TB) *world {
	t.Helper()
	h := gatehousetest.New(t, gatehousetest.Options{Clock: gatehousetest.At(time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC))})
	w := &world{House: h, ctx: context.Background()}
	w.server = &arm.Server{Feed: h.Feed, Tokens: h.Tokens, Log: h.Log, Now: h.Clock.Now}
	w.web = w.server.Handler()
	return w
}

// token signs a user in for a scope.
func (w *world) token(upn, scope, field string) string {
	w.Helper()
	token, _ := w.SignIn(upn, scope)[field].(string)
	if token == "" {
		w.Fatalf("sign in %s: there is no %s", upn, field)
	}
	return token
}

func (w *world) tokenOf(name string) string {
	return w.token(name+"@gatehouse.test", armScope, "access_token")
}

// answer is what the face said.
type answer struct {
	testing.TB
	what string
	*httptest.ResponseRecorder
}

// call sends a request. Where the path has no query, an api-version is added.
func (w *world) call(token, method, path, body string) answer {
	w.Helper()
	if !strings.Contains(path, "?") {
		path += "?api-version=2021-04-01"
	}
	if strings.HasPrefix(path, "/") {
		path = "https://management.azure.com" + path
	}
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	rec := httptest.NewRecorder()
	w.web.ServeHTTP(rec, r)
	return answer{w.TB, method + " " + path, rec}
}

func (a answer) want(status int, texts ...string) answer {
	a.Helper()
	if a.Code != status {
		a.Fatalf("%s: %d, want %d: %s", a.what, a.Code, status, a.Body)
	}
	for _, text := range texts {
		if !strings.Contains(a.Body.String(), text) {
			a.Fatalf("%s: want %q in %s", a.what, text, a.Body)
		}
	}
	return a
}

// decode reads the body into a value of a type.
func decode[T any](a answer) (v T) {
	a.Helper()
	if err := json.Unmarshal(a.Body.Bytes(), &v); err != nil {
		a.Fatalf("%s: %v: %s", a.what, err, a.Body)
	}
	return v
}

func (w *world) sub() string { return "/subscriptions/" + w.Subscription.String() }
