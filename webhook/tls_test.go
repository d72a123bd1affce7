package webhook_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-k8s/gatehouse/internal/pki"
	"github.com/gatehouse-k8s/gatehouse/webhook"
)

func openCA(t testing.TB, name string) *pki.Authority {
	t.Helper()
	ca, err := pki.Open(filepath.Join(t.TempDir(), "pki"), name, name, nil)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// listen serves a handler as the webhook listener does.
func listen(t testing.TB, ca *pki.Authority, h http.Handler) *httptest.Server {
	srv := httptest.NewUnstartedServer(h)
	srv.TLS = webhook.TLSConfig(ca.Pool(), ca.GetCertificate(pki.Request{CommonName: "webhooks", Server: true, DNSNames: []string{"localhost"}}))
	srv.EnableHTTP2 = true
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	srv.URL = strings.Replace(srv.URL, "127.0.0.1", "localhost", 1)
	return srv
}

// client trusts ca, shows a certificate of this name from issuer, and has one connection; nil: it shows none.
func client(t testing.TB, ca, issuer *pki.Authority, r pki.Request) *http.Client {
	t.Helper()
	c := &tls.Config{RootCAs: ca.Pool()}
	if issuer != nil {
		pair, err := issuer.Issue(r)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := pair.TLS()
		if err != nil {
			t.Fatal(err)
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	transport := &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: true, MaxConnsPerHost: 1}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestMutualTLS(t *testing.T) {
	h := newHouse(t)
	ca, stranger := openCA(t, "webhooks"), openCA(t, "others")
	srv := listen(t, ca, h.web)
	body := question(h.tokenOf(h.newUser("alice")))
	guid := h.cluster.GUID.String()
	ask := func(c *http.Client) (*http.Response, string, error) {
		resp, err := c.Post(srv.URL+"/webhook/authenticate", "application/json", strings.NewReader(body))
		if err != nil {
			return nil, "", err
		}
		defer resp.Body.Close()
		var text bytes.Buffer
		_, err = text.ReadFrom(resp.Body)
		return resp, text.String(), err
	}
	resp, text, err := ask(client(t, ca, ca, pki.Request{CommonName: guid, Client: true}))
	if err != nil || resp.StatusCode != 200 || resp.ProtoMajor != 2 || !strings.Contains(text, `"alice@example.test"`) {
		t.Errorf("the cluster's certificate: %v %v %s", err, resp, text)
	}
	for name, c := range map[string]*http.Client{
		"no certificate":                   client(t, ca, nil, pki.Request{}),
		"a certificate of another CA":      client(t, ca, stranger, pki.Request{CommonName: guid, Client: true}),
		"a serving certificate of this CA": client(t, ca, ca, pki.Request{CommonName: guid, Server: true, DNSNames: []string{"localhost"}}),
	} {
		if resp, text, err := ask(c); err == nil {
			t.Errorf("%s: %d %s", name, resp.StatusCode, text)
		}
	}
	other := client(t, ca, ca, pki.Request{CommonName: h.newID().String(), Client: true})
	if resp, text, err := ask(other); err != nil || resp.StatusCode != 403 {
		t.Errorf("a cluster that is not there: %v %s", err, text)
	}
}
