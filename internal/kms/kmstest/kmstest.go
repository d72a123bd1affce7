// Package kmstest is a KMS plugin for tests: the protocol as Kubernetes publishes it, on a real gRPC server, with a key in memory.
package kmstest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/kms/apis/v2"
)

// Annotation is what the plugin adds to all that it encrypts, and wants back.
const Annotation = "nonce.kmstest.gatehouse.dev"

// Plugin is a running plugin. Its fields may be changed by Set.
type Plugin struct {
	v2.UnimplementedKeyManagementServiceServer

	Socket string

	mu     sync.Mutex
	now    Behaviour
	keys   map[string]cipher.AEAD
	uids   map[string]bool
	server *grpc.Server
}

// Behaviour is how a plugin answers.
type Behaviour struct {
	Version, Healthz, KeyID string
	Err                     error  // of Encrypt and Decrypt
	Plain                   []byte // what Decrypt gives instead of the truth
}

// Start runs a plugin until the test ends.
func Start(t testing.TB) *Plugin {
	t.Helper()
	folder, err := os.MkdirTemp("", "kms") // short enough for a socket, as a test's own folder may not be
	if err != nil {
		t.Fatal(err)
	}
	p := &Plugin{
		Socket: filepath.Join(folder, "s"),
		now:    Behaviour{Version: "v2", Healthz: "ok", KeyID: "key-1"},
		keys:   map[string]cipher.AEAD{}, uids: map[string]bool{},
	}
	t.Cleanup(func() {
		p.Stop()
		os.RemoveAll(folder)
	})
	p.Listen(t)
	return p
}

// Listen starts the server, also again after Stop.
func (p *Plugin) Listen(t testing.TB) {
	t.Helper()
	ln, err := net.Listen("unix", p.Socket)
	if err != nil {
		t.Fatal(err)
	}
	p.server = grpc.NewServer()
	v2.RegisterKeyManagementServiceServer(p.server, p)
	go p.server.Serve(ln)
}

// Stop ends the server. Its keys stay for the next Listen.
func (p *Plugin) Stop() { p.server.Stop() }

// Set changes how the plugin answers.
func (p *Plugin) Set(change func(*Behaviour)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.now)
}

// Status implements the protocol.
func (p *Plugin) Status(context.Context, *v2.StatusRequest) (*v2.StatusResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return &v2.StatusResponse{Version: p.now.Version, Healthz: p.now.Healthz, KeyId: p.now.KeyID}, nil
}

// Encrypt implements the protocol.
func (p *Plugin) Encrypt(_ context.Context, r *v2.EncryptRequest) (*v2.EncryptResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.admit(r.Uid); err != nil {
		return nil, err
	}
	id := p.now.KeyID
	if p.keys[id] == nil {
		p.keys[id] = newKey()
	}
	nonce := make([]byte, p.keys[id].NonceSize())
	rand.Read(nonce)
	return &v2.EncryptResponse{
		Ciphertext: p.keys[id].Seal(nil, nonce, r.Plaintext, nil), KeyId: id, Annotations: map[string][]byte{Annotation: nonce},
	}, nil
}

// Decrypt implements the protocol.
func (p *Plugin) Decrypt(_ context.Context, r *v2.DecryptRequest) (*v2.DecryptResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.admit(r.Uid); err != nil {
		return nil, err
	}
	key, nonce := p.keys[r.KeyId], r.Annotations[Annotation]
	if key == nil || len(nonce) != key.NonceSize() {
		return nil, status.Errorf(codes.NotFound, "there is no key %q", r.KeyId)
	}
	plain, err := key.Open(nil, nonce, r.Ciphertext, nil)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, "cannot decrypt: "+err.Error())
	}
	if p.now.Plain != nil {
		plain = p.now.Plain
	}
	return &v2.DecryptResponse{Plaintext: plain}, nil
}

// admit holds that each request has an id of its own.
func (p *Plugin) admit(uid string) error {
	if uid == "" || p.uids[uid] {
		return status.Errorf(codes.InvalidArgument, "the request id %q is empty or was used before", uid)
	}
	p.uids[uid] = true
	return p.now.Err
}

func newKey() cipher.AEAD {
	key := make([]byte, 32)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // the key has the right size
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}
