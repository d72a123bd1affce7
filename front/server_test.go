package front

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-k8s/gatehouse/internal/pki"
)

func authority(t testing.TB, c *pki.Constraints) *pki.Authority {
	t.Helper()
	a, err := pki.Open(filepath.Join(t.TempDir(), "pki"), "test", "Test CA", c)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := Listen("127.0.0.1:0", "--listen")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// run serves until the test has ended and fails it if Serve or Shutdown do.
func run(t testing.TB, s interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
}, ln net.Listener) {
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

func localhostTLS(a *pki.Authority) *tls.Config {
	return &tls.Config{GetCertificate: a.GetCertificate(pki.Request{DNSNames: []string{"localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}, Server: true})}
}

func TestServer(t *testing.T) {
	a := authority(t, nil)
	ln := listen(t)
	run(t, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) }), TLS: localhostTLS(a)}, ln)

	for _, h2 := range []bool{false, true} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: a.Pool()}, ForceAttemptHTTP2: h2}
		res, err := (&http.Client{Transport: transport}).Get("https://" + ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(res.Body)
		res.Body.Close()
		transport.CloseIdleConnections()
		if want := map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[h2]; err != nil || string(text) != want {
			t.Errorf("got %q, want %s, %v", text, want, err)
		}
	}
	if conn, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{RootCAs: a.Pool(), MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}); err == nil {
		conn.Close()
		t.Error("TLS 1.1 was accepted")
	}
}

func TestShutdownLetsARequestFinishAndCutsItOffInTheEnd(t *testing.T) {
	for _, patient := range []bool{true, false} {
		a := authority(t, nil)
		ln := listen(t)
		began, finish := make(chan bool), make(chan bool)
		s := &Server{TLS: localhostTLS(a), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(began)
			select {
			case <-finish:
			case <-r.Context().Done(): // cut off
			}
		})}
		served, answered := make(chan error, 1), make(chan error, 1)
		go func() { served <- s.Serve(ln) }()
		go func() {
			transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: a.Pool()}}
			defer transport.CloseIdleConnections()
			res, err := (&http.Client{Transport: transport}).Get("https://" + ln.Addr().String())
			if err == nil {
				res.Body.Close()
			}
			answered <- err
		}()
		<-began
		ctx, cancel := context.WithCancel(t.Context())
		if patient {
			go func() {
				<-served // it listens no more
				close(finish)
			}()
		} else {
			cancel()
		}
		err := s.Shutdown(ctx)
		if (err == nil) != patient {
			t.Errorf("patient %v: Shutdown says %v", patient, err)
		}
		if err := <-answered; (err == nil) != patient {
			t.Errorf("patient %v: the client got %v", patient, err)
		}
		cancel()
	}
}

func TestServeAfterShutdown(t *testing.T) {
	s := &Server{TLS: localhostTLS(authority(t, nil))}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(listen(t)); err != nil {
		t.Error(err)
	}
}

func TestListenNamesThePortAndTheFlag(t *testing.T) {
	ln := listen(t)
	defer ln.Close()
	addr := ln.Addr().String()
	for flag, want := range map[string]string{
		"--listen":     "listen on " + addr + " (--listen): address already in use; stop the other program or choose another port with --listen",
		"proxy-listen": "listen on " + addr + " (--proxy-listen): address already in use; stop the other program or choose another port with --proxy-listen",
		"":             "listen on " + addr + ": address already in use; stop the other program or choose another port",
	} {
		if _, err := Listen(addr, flag); err == nil || err.Error() != want {
			t.Errorf("got %v", err)
		}
	}
	if _, err := Listen("8443", "--listen"); err == nil || !strings.HasPrefix(err.Error(), "listen on 8443 (--listen): ") {
		t.Errorf("got %v", err)
	}
}

func TestServerLog(t *testing.T) {
	var out bytes.Buffer
	l := serverLog{slog.New(slog.NewTextHandler(&out, nil))} // from Info on
	fmt.Fprintln(l, "http: TLS handshake error from 192.0.2.1:5: EOF")
	if out.Len() > 0 {
		t.Error("a port scan fills the log")
	}
	fmt.Fprintln(l, "http: panic serving 192.0.2.1:5: boom")
	if !strings.Contains(out.String(), "level=ERROR") || !strings.Contains(out.String(), "boom") {
		t.Error("a panic is not in the log")
	}
}
