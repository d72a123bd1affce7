package webhook

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/gatehouse-k8s/gatehouse/aks"
	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/internal/cache"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
	"github.com/gatehouse-k8s/gatehouse/sts"
)

const (
	// maxBody bounds a review, in bytes. One of a user in 5,000 groups weighs 195 kB.
	maxBody = 4 << 20
	// keptBuffer is the largest buffer that waits for the next request.
	keptBuffer = 64 << 10
	// remembered is how many tokens' answers are kept, at least; in 20 groups one takes about 2 KB.
	remembered = 16384
)

// Server answers the reviews of all clusters. Its fields must not change once Handler has been called.
type Server struct {
	Feed   *feed.Follower
	Tokens *sts.Verifier
	Audit  *audit.Log       // nil: no events
	Log    *slog.Logger     // nil: slog.Default
	Now    func() time.Time // nil: time.Now

	// BoundGroups returns which groups the bindings of a cluster name, and a revision that changes with that set. Only what
	// is told of a principal in more than 200 groups depends on it. Nil: none are known.
	BoundGroups func(cluster directory.ID) (has func(directory.ID) bool, revision int64)

	once    sync.Once
	answers *cache.Cache[answerKey, *answer]

	// What strangers can cause must not crowd out what is known of the directory's own principals.
	ofPrincipals, ofStrangers refusals
	ofRequests                refusals // those that were no reviews at all
}

// Handler serves the webhooks on a listener that has TLSConfig.
func (s *Server) Handler() http.Handler {
	s.once.Do(func() { s.answers = cache.New[answerKey, *answer](remembered) })
	mux := http.NewServeMux()
	handle := func(pattern string, h web.Handler) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := h(w, r); err != nil {
				s.renderStatus(w, r, err)
			}
		})
	}
	handle("POST /webhook/authenticate", s.authenticate)
	handle("POST /webhook/authorize", s.authorize)
	return mux
}

// TLSConfig is the TLS of the webhook listener: nobody without a certificate of clients gets as far as a request.
// Sessions are not resumed, so that each connection shows its certificate.
func TLSConfig(clients *x509.CertPool, serving func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS12,
		GetCertificate:         serving,
		ClientAuth:             tls.RequireAndVerifyClientCert,
		ClientCAs:              clients,
		NextProtos:             []string{"h2", "http/1.1"},
		SessionTicketsDisabled: true,
	}
}

// caller returns the cluster that the client certificate was issued to.
func caller(r *http.Request) (directory.ID, error) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return directory.ID{}, fault.New(fault.Denied, "a verified client certificate is needed here")
	}
	name := r.TLS.PeerCertificates[0].Subject.CommonName
	guid, err := directory.ParseID(name)
	if err != nil {
		return directory.ID{}, fault.New(fault.Denied, "the client certificate names %q, which is not the GUID of a cluster", name)
	}
	return guid, nil
}

// in returns a cluster as the view has it.
func in(view *feed.View, guid directory.ID) (*aks.Cluster, error) {
	c := aks.In(view).Cluster(guid)
	if c == nil {
		return nil, fault.New(fault.Denied, "there is no cluster %s; if it was deleted, stop its API server", guid)
	}
	return c, nil
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// withBody reads a request's body and lends it to use. The bytes are gone when use returns.
func withBody(r *http.Request, use func(body []byte) error) error {
	b := buffers.Get().(*bytes.Buffer)
	b.Reset()
	defer func() {
		if b.Cap() <= keptBuffer {
			buffers.Put(b)
		}
	}()
	n, err := b.ReadFrom(io.LimitReader(r.Body, maxBody+1))
	switch {
	case err != nil:
		return fault.New(fault.Invalid, "the request body ended early; send it again").Wrap(err)
	case n > maxBody:
		return fault.New(fault.Invalid, "the request body is larger than %d bytes; send less", maxBody).WithCode("RequestEntityTooLarge")
	}
	return use(b.Bytes())
}

func write(w http.ResponseWriter, body []byte) error {
	w.Header().Set("Content-Type", "application/json")
	w.Write(body) // an API server that has gone away asks again
	return nil
}

// renderStatus writes an error as Kubernetes has it: a Status of meta/v1. Only what is wrong with the asking itself comes
// here; a decision is always answered with 200, because API servers repeat a request that fails with 429 or 5xx.
func (s *Server) renderStatus(w http.ResponseWriter, r *http.Request, err error) {
	f := fault.From(err)
	status, reason := web.Status(f.Kind), map[fault.Kind]string{
		fault.Invalid: "BadRequest", fault.Denied: "Forbidden",
	}[f.Kind]
	switch {
	case f.Code == "RequestEntityTooLarge":
		status, reason = http.StatusRequestEntityTooLarge, f.Code
	case reason == "":
		reason = "InternalError"
	}
	request, isNew, passed := s.ofRequests.admit(refusal{action: r.URL.Path, reason: f.Message}, s.now())
	if isNew {
		s.log().Warn("a webhook request could not be answered", "request", request, "path", r.URL.Path, "status", status, "err", err, "passedOver", passed)
	}
	w.Header().Set("x-ms-request-id", request)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{
		"kind": "Status", "apiVersion": "v1", "metadata": struct{}{},
		"status": "Failure", "message": f.Message, "reason": reason, "code": status,
	})
}

func (s *Server) boundGroups(cluster directory.ID) (has func(directory.ID) bool, revision int64) {
	if s.BoundGroups == nil {
		return func(directory.ID) bool { return false }, 0
	}
	return s.BoundGroups(cluster)
}

func (s *Server) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

func (s *Server) log() *slog.Logger {
	if s.Log != nil {
		return s.Log
	}
	return slog.Default()
}
