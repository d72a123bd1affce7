package kms_test

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gatehouse-k8s/gatehouse/internal/kms"
	"github.com/gatehouse-k8s/gatehouse/internal/kms/kmstest"
)

func TestAgainstGRPC(t *testing.T) {
	plugin := kmstest.Start(t)
	p := kms.New(plugin.Socket)
	id, err := p.Status(t.Context())
	if err != nil || id != "key-1" {
		t.Fatalf("Status gives %q (%v)", id, err)
	}
	for _, plain := range [][]byte{[]byte("secret"), {}, bytes.Repeat([]byte{0xff}, 900)} {
		sealed, err := p.Encrypt(t.Context(), "e"+string(rune('a'+len(plain)%7)), plain)
		if err != nil {
			t.Fatal(err)
		}
		if sealed.KeyID != "key-1" || slices.Collect(maps.Keys(sealed.Annotations))[0] != kmstest.Annotation || len(plain) > 0 && bytes.Contains(sealed.Ciphertext, plain) {
			t.Errorf("sealed: %+v", sealed)
		}
		got, err := p.Decrypt(t.Context(), "d"+string(rune('a'+len(plain)%7)), sealed)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("opened %q (%v), want %q", got, err, plain)
		}
	}
}

func TestRefusals(t *testing.T) {
	plugin := kmstest.Start(t)
	p := kms.New(plugin.Socket)
	good, err := p.Encrypt(t.Context(), "first", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	fine := kmstest.Behaviour{Version: "v2", Healthz: "ok", KeyID: "key-1"}
	for _, c := range []struct {
		name    string
		now     kmstest.Behaviour
		want    string
		waiting bool // worth waiting for
	}{
		{"another version", kmstest.Behaviour{Version: "v1beta1", Healthz: "ok", KeyID: "k"}, `"v1beta1"`, false},
		{"not healthy", kmstest.Behaviour{Version: "v2", Healthz: "vault\nis sealed", KeyID: "k"}, "not healthy: vault is sealed", true},
		{"no key id", kmstest.Behaviour{Version: "v2", Healthz: "ok"}, "key id of 0 bytes", false},
		{"too long a key id", kmstest.Behaviour{Version: "v2", Healthz: "ok", KeyID: strings.Repeat("k", 2000)}, "key id of 2000 bytes", false},
	} {
		plugin.Set(func(b *kmstest.Behaviour) { *b = c.now })
		_, err := p.Status(t.Context())
		wantError(t, c.name, err, c.want, c.waiting)
	}
	for code, waiting := range map[codes.Code]bool{codes.Unavailable: true, codes.DeadlineExceeded: true, codes.ResourceExhausted: true, codes.PermissionDenied: false, codes.Internal: false} {
		plugin.Set(func(b *kmstest.Behaviour) { *b = fine; b.Err = status.Error(code, "no, 100% é") })
		_, err := p.Decrypt(t.Context(), code.String(), good)
		wantError(t, code.String(), err, "refuses Decrypt: no, 100% é", waiting)
	}
	plugin.Set(func(b *kmstest.Behaviour) { *b = fine })
	good.KeyID = "key-9"
	_, err = p.Decrypt(t.Context(), "another key", good)
	wantError(t, "another key", err, `there is no key "key-9"`, false)
	plugin.Stop()
	_, err = p.Status(t.Context())
	wantError(t, "stopped", err, "does not answer", true)
}

func wantError(t *testing.T, name string, err error, want string, waiting bool) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, kms.ErrUnavailable) != waiting || strings.Contains(err.Error(), "\n") {
		t.Errorf("%s: got %v, want %q (worth waiting: %v)", name, err, want, waiting)
	}
}

// TestGarbage answers with what is not the protocol.
func TestGarbage(t *testing.T) {
	grpc := func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
	}
	for name, answer := range map[string]func(w http.ResponseWriter){
		"a web page":    func(w http.ResponseWriter) { io.WriteString(w, "<html>") },
		"an error page": func(w http.ResponseWriter) { w.Header().Set("Content-Type", "application/grpc"); w.WriteHeader(502) },
		"a redirect":    func(w http.ResponseWriter) { w.Header().Set("Location", "/"); w.WriteHeader(302) },
		"no status":     func(w http.ResponseWriter) { grpc(w); w.Write(make([]byte, 5)) },
		"half a head":   func(w http.ResponseWriter) { grpc(w); w.Write([]byte{0, 0}); w.Header().Set("Grpc-Status", "0") },
		"a wrong length": func(w http.ResponseWriter) {
			grpc(w)
			w.Write([]byte{0, 0, 0, 0, 9, 1})
			w.Header().Set("Grpc-Status", "0")
		},
		"a compressed one": func(w http.ResponseWriter) {
			grpc(w)
			w.Write([]byte{1, 0, 0, 0, 0})
			w.Header().Set("Grpc-Status", "0")
		},
		"no protobuf": func(w http.ResponseWriter) {
			grpc(w)
			w.Write([]byte{0, 0, 0, 0, 2, 0x0a, 9})
			w.Header().Set("Grpc-Status", "0")
		},
		"an empty answer":    func(w http.ResponseWriter) { grpc(w); w.Write(make([]byte, 5)); w.Header().Set("Grpc-Status", "0") },
		"more than is taken": func(w http.ResponseWriter) { grpc(w); w.Write(make([]byte, 1<<20)); w.Header().Set("Grpc-Status", "0") },
	} {
		socket := filepath.Join(t.TempDir(), "s")
		ln, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w) })}
		srv.Protocols.SetUnencryptedHTTP2(true)
		go srv.Serve(ln)
		t.Cleanup(func() { srv.Close() })
		p := kms.New(socket)
		if _, err := p.Encrypt(t.Context(), "1", []byte("x")); err == nil || errors.Is(err, kms.ErrUnavailable) {
			t.Errorf("%s: Encrypt gives %v", name, err)
		}
		if _, err := p.Status(t.Context()); err == nil || errors.Is(err, kms.ErrUnavailable) {
			t.Errorf("%s: Status gives %v", name, err)
		}
	}
}
