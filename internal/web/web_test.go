package web

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/fault"
)

func testMux() *Mux {
	m := NewMux(func(w http.ResponseWriter, r *http.Request, err error) {
		e := fault.From(err)
		http.Error(w, e.Code+" "+e.Message, Status(e.Kind))
	})
	echo := func(names ...string) Handler {
		return func(w http.ResponseWriter, r *http.Request) error {
			for _, n := range names {
				fmt.Fprintf(w, "%s=%s;", n, r.PathValue(n))
			}
			fmt.Fprint(w, r.URL.Path)
			return nil
		}
	}
	m.Handle("GET /v1.0/users/{id}", echo("id"))
	m.Handle("GET /common/UserRealm/{name}", echo("name"))
	m.Handle("POST /groups/{id}/members/$ref", echo("id"))
	m.Handle("GET /files/{rest...}", echo("rest"))
	m.Handle("GET /metadata/endpoints", echo())
	m.Handle("GET /{$}", echo())
	m.Handle("GET /fail", func(http.ResponseWriter, *http.Request) error { return io.ErrUnexpectedEOF })
	return m
}

func TestMux(t *testing.T) {
	m := testMux()
	for _, c := range []struct {
		request string
		status  int
		body    string
	}{
		{"GET /v1.0/users/Alice@Contoso.com", 200, "id=Alice@Contoso.com;/v1.0/users/Alice@Contoso.com"},
		{"GET /V1.0/USERS/Alice", 200, "id=Alice;"},
		{"GET /v1.0/users/a%23EXT%23@x", 200, "id=a#EXT#@x;"},
		{"GET /common/userrealm/A@b", 200, "name=A@b;"},
		{"POST /Groups/G1/Members/$REF", 200, "id=G1;"},
		{"GET /files/A/B/c", 200, "rest=A/B/c;"},
		{"GET //metadata/endpoints", 200, "/metadata/endpoints"},
		{"GET /", 200, "/"},
		{"GET /nothing", 404, "there is nothing at /nothing"},
		{"DELETE /v1.0/users/x", 400, "MethodNotAllowed the method DELETE is not supported for /v1.0/users/x"},
		{"GET /fail", 500, "something went wrong on the server"},
	} {
		method, target, _ := strings.Cut(c.request, " ")
		w := httptest.NewRecorder()
		m.ServeHTTP(w, httptest.NewRequest(method, "http://host"+target, nil))
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.body) {
			t.Errorf("%s: %d %q, want %d %q", c.request, w.Code, w.Body, c.status, c.body)
		}
	}
}

func FuzzMux(f *testing.F) {
	m := testMux()
	f.Add("/v1.0/users/x")
	f.Add("//v1.0//users//")
	f.Add("/files/../v1.0/users/x")
	f.Fuzz(func(t *testing.T, path string) {
		r := httptest.NewRequest(http.MethodGet, "http://host/", nil)
		r.URL.Path = "/" + path
		w := httptest.NewRecorder()
		m.ServeHTTP(w, r)
		if w.Code == 500 && !strings.EqualFold(strings.TrimLeft(r.URL.Path, "/"), "fail") {
			t.Errorf("%q: %d %s", path, w.Code, w.Body)
		}
	})
}

func TestRequests(t *testing.T) {
	var log strings.Builder
	h := Requests(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/panic":
			panic("oh")
		case "/id":
			io.WriteString(w, RequestID(r.Context()))
		case "/body":
			var v any
			if err := ReadJSON(r, &v); err != nil {
				http.Error(w, err.Error(), 400)
			}
		}
	}), slog.New(slog.NewTextHandler(&log, nil)))
	serve := func(r *http.Request) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}

	r := httptest.NewRequest("GET", "/id?code=secret", nil)
	r.Header.Set("x-ms-client-request-id", "client-1")
	r.Header.Set("x-ms-return-client-request-id", "true")
	w := serve(r)
	if id := w.Header().Get("x-ms-request-id"); id == "" || id != w.Body.String() {
		t.Errorf("request id %q in the header, %q in the context", id, w.Body)
	}
	if got := w.Header().Get("x-ms-client-request-id"); got != "client-1" {
		t.Errorf("client request id: %q", got)
	}
	if w := serve(httptest.NewRequest("GET", "/panic", nil)); w.Code != 500 || strings.Contains(w.Body.String(), "oh") {
		t.Errorf("panic: %d %s", w.Code, w.Body)
	}
	if w := serve(httptest.NewRequest("POST", "/body", strings.NewReader(strings.Repeat(" ", MaxBody+1)))); w.Code != 400 || !strings.Contains(w.Body.String(), "larger than") {
		t.Errorf("large body: %d %s", w.Code, w.Body)
	}
	if strings.Contains(log.String(), "secret") {
		t.Errorf("the log holds the query: %s", &log)
	}
}

func TestWriteJSON(t *testing.T) {
	w := httptest.NewRecorder()
	if err := WriteJSON(w, 201, map[string]int{"a": 1}); err != nil {
		t.Fatal(err)
	}
	var got map[string]int
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 201 || got["a"] != 1 {
		t.Errorf("%d %s %v", w.Code, w.Body, err)
	}
	if err := WriteJSON(httptest.NewRecorder(), 200, func() {}); err == nil {
		t.Error("a value that cannot be encoded gave no error")
	}
}

func TestStatusOfEveryKind(t *testing.T) {
	for k := fault.Internal; k <= fault.Unavailable; k++ {
		if got := Status(k); (got == 500) != (k == fault.Internal) || got < 400 {
			t.Errorf("%s: %d", k, got)
		}
	}
}

// deadlines notes that reading was given an end.
type deadlines struct {
	*httptest.ResponseRecorder
	set bool
}

func (d *deadlines) SetReadDeadline(time.Time) error {
	d.set = true
	return nil
}

// TestBodiesHaveAnEnd: whoever may send a body has to do so in time, whatever length was declared.
func TestBodiesHaveAnEnd(t *testing.T) {
	for _, c := range []struct {
		name     string
		length   int64
		declared []string
		want     bool
	}{
		{"none", 0, nil, false},
		{"of a length", 5, []string{"5"}, true},
		{"of an unknown length", -1, nil, true},
		{"declared empty, over HTTP/2 maybe still open", 0, []string{"0"}, true},
		{"declared as nonsense, which net/http takes for empty", 0, []string{"x"}, true},
	} {
		r := httptest.NewRequest("POST", "/", nil)
		r.ContentLength = c.length
		if c.declared != nil {
			r.Header["Content-Length"] = c.declared
		}
		w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		Requests(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), slog.New(slog.DiscardHandler)).ServeHTTP(w, r)
		if w.set != c.want {
			t.Errorf("a body %s: deadline %t, want %t", c.name, w.set, c.want)
		}
	}
}
