package sts

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// What the ratios are measured with. Two sides take turns in short slices, and the median of the pairs' ratios counts: on a shared
// machine, runs one after another are worthless.
const (
	benchSlice = 300 * time.Millisecond
	benchPairs = 21
	benchUsers = 16 // at once, on connections of their own
)

// measure lets so many users repeat an operation for one slice and returns how often it was done in a second.
func measure(b *testing.B, users int, do func() error) float64 {
	var (
		n     atomic.Int64
		wg    sync.WaitGroup
		start = time.Now()
	)
	for range users {
		wg.Go(func() {
			for time.Since(start) < benchSlice {
				if err := do(); err != nil {
					b.Error(err)
					return
				}
				n.Add(1)
			}
		})
	}
	wg.Wait()
	return float64(n.Load()) / time.Since(start).Seconds()
}

// compare lets two operations take turns and returns the ratio of their rates, and the rates.
func compare(b *testing.B, users int, first, second func() error) (ratio, x, y float64) {
	var ratios, xs, ys []float64
	measure(b, users, first)
	measure(b, users, second)
	for i := range benchPairs {
		if i%2 == 0 {
			x, y = measure(b, users, first), measure(b, users, second)
		} else {
			y, x = measure(b, users, second), measure(b, users, first)
		}
		ratios, xs, ys = append(ratios, x/y), append(xs, x), append(ys, y)
	}
	return middle(ratios), middle(xs), middle(ys)
}

func middle(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// BenchmarkTokens measures the token endpoint against nothing but the signature, the public documents against a handler that answers a
// constant, and a sign-in with a password against nothing but argon2id.
func BenchmarkTokens(b *testing.B) {
	for b.Loop() {
		w := newWorld(b)
		w.srv.Now, w.srv.Keys.Now, w.srv.Feed.Now, w.dir.Now = nil, nil, nil, nil
		w.srv.Log = slog.New(slog.DiscardHandler)
		must(b, w.srv.Feed.CatchUp(b.Context()))
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.srv.Feed.Run(ctx)
		}()
		handler := web.Requests(w.srv.Handler(), w.srv.Log)
		var table bytes.Buffer
		out := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
		fmt.Fprint(out, "\nidentity provider\tratio\tgoal\trate\tbeside\trate\n")
		row := func(name, goal, beside string, scale float64, first, second func() error) {
			users := benchUsers
			if goal == "" {
				users = 1 // each takes long enough
			}
			ratio, x, y := compare(b, users, first, second)
			fmt.Fprintf(out, "%s\t%.2f\t%s\t%.0f/s\t%s\t%.0f/s\n", name, scale*ratio, goal, x, beside, y)
			b.ReportMetric(scale*ratio, strings.ReplaceAll(name, " ", "-")+"/"+strings.ReplaceAll(beside, " ", "-"))
		}

		app := w.app(directory.Application{DisplayName: "robot"})
		_, secret, err := w.dir.AddAppSecret(b.Context(), directory.System, app.ID, directory.PasswordCredential{})
		must(b, err)
		id := app.AppID.String()
		machine := values("grant_type", "client_credentials", "client_id", id, "client_secret", secret, "scope", directory.AKSServer.String()+"/.default")
		user := w.ropc(aliceName, alicePassword, aksScope)
		renewal := func(scope string) url.Values {
			return values("grant_type", "refresh_token", "client_id", directory.AzureCLI.String(), "refresh_token", user.text("refresh_token"), "scope", scope)
		}
		row("client credentials", ">= 0.80", "RSA-2048 alone", 1, w.asking(handler, machine), w.signing())
		row("refresh", ">= 0.80", "RSA-2048 alone", 1, w.asking(handler, renewal(directory.AKSServer.String()+"/.default offline_access")), w.signing())
		row("refresh with an ID token, of two signatures", ">= 0.80", "RSA-2048 alone", 2, w.asking(handler, renewal(aksScope)), w.signing())

		for _, path := range []string{"/" + domain + "/v2.0/.well-known/openid-configuration", "/common/discovery/v2.0/keys"} {
			name := map[bool]string{true: "discovery", false: "key set"}[path[1] == domain[0]]
			row(name, ">= 0.90", "constant", 1, getting(b, handler, path), getting(b, constant(handler, path), path))
		}

		w.dir.Hasher = new(directory.Hasher) // as in the product
		bob := w.user("bob@"+domain, alicePassword)
		password := values("grant_type", "password", "client_id", directory.AzureCLI.String(), "username", bob.UPN, "password", alicePassword, "scope", aksScope)
		row("sign-in with a password", "", "argon2id alone", 1, w.asking(handler, password), func() error {
			ok, err := w.dir.VerifyPassword(context.Background(), bob, alicePassword)
			if err == nil && !ok {
				err = fmt.Errorf("the password is wrong")
			}
			return err
		})
		out.Flush()
		os.Stdout.Write(table.Bytes()) // b.Log shows ten lines
		cancel()
		<-done
	}
	b.ReportMetric(0, "ns/op") // says nothing here
}

// signing is one signature of the kind that tokens have.
func (w *world) signing() func() error {
	_, private, err := w.srv.Keys.signer(context.Background())
	must(w.t, err)
	return func() error {
		sum := sha256.Sum256([]byte("a token"))
		_, err := rsa.SignPKCS1v15(rand.Reader, private, crypto.SHA256, sum[:])
		return err
	}
}

// asking posts a form to the token endpoint, without a network between.
func (w *world) asking(h http.Handler, form url.Values) func() error {
	body := form.Encode()
	return func() error {
		r := httptest.NewRequest("POST", w.http.URL+w.v2(), bytes.NewReader([]byte(body)))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		a := httptest.NewRecorder()
		if h.ServeHTTP(a, r); a.Code != http.StatusOK {
			return fmt.Errorf("%d %s", a.Code, a.Body)
		}
		return nil
	}
}

// constant answers what a handler answers to one request, without a thought.
func constant(h http.Handler, path string) http.Handler {
	a := httptest.NewRecorder()
	h.ServeHTTP(a, httptest.NewRequest("GET", path, nil))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, values := range a.Header() {
			w.Header()[name] = values
		}
		w.Write(a.Body.Bytes())
	})
}

// getting reads a document over TLS.
func getting(b *testing.B, h http.Handler, path string) func() error {
	srv := httptest.NewUnstartedServer(h)
	srv.EnableHTTP2 = true
	srv.StartTLS()
	b.Cleanup(srv.Close)
	clients := make(chan *http.Client, benchUsers)
	for range benchUsers {
		transport := srv.Client().Transport.(*http.Transport).Clone()
		b.Cleanup(transport.CloseIdleConnections)
		clients <- &http.Client{Transport: transport}
	}
	return func() error {
		client := <-clients
		defer func() { clients <- client }()
		resp, err := client.Get(srv.URL + path)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if n, err := io.Copy(io.Discard, resp.Body); err != nil || n < 500 || resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%d, %d bytes: %v", resp.StatusCode, n, err)
		}
		return nil
	}
}

// BenchmarkHandlers is the handlers alone, for profiles.
func BenchmarkHandlers(b *testing.B) {
	w := newWorld(b)
	w.srv.Log = slog.New(slog.DiscardHandler)
	handler := web.Requests(w.srv.Handler(), w.srv.Log)
	for name, path := range map[string]string{"discovery": "/" + domain + "/v2.0/.well-known/openid-configuration", "key set": "/common/discovery/v2.0/keys"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil))
			}
		})
	}
}
