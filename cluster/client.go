package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	clientRenew = adminLife / 2    // a client certificate older than this is not used for new requests
	callTimeout = 20 * time.Second // of one request; a watch has none
	maxAnswer   = 128 << 20        // bytes; all pods of a large cluster
)

// client is the little of the Kubernetes API that this package uses. It is safe for concurrent use.
//
// client-go would do, and would add 40 MB to the product.
type client struct {
	url string                      // https://HOST:PORT
	tls func() (*tls.Config, error) // with a fresh client certificate
	now func() time.Time

	mu   sync.Mutex
	http *http.Client
	made time.Time
}

// statusError is what the API server refused a request with.
type statusError struct {
	Code    int    `json:"code"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

func (e *statusError) Error() string { return fmt.Sprintf("%s (%d %s)", e.Message, e.Code, e.Reason) }

func refusedWith(err error, code int) bool {
	var e *statusError
	return errors.As(err, &e) && e.Code == code
}

func isNotFound(err error) bool { return refusedWith(err, http.StatusNotFound) }
func isConflict(err error) bool { return refusedWith(err, http.StatusConflict) } // also: already exists

// passing reports whether the same request may succeed a moment later: the API server was not there, was busy, or
// somebody else wrote first.
func passing(err error) bool {
	var e *statusError
	if !errors.As(err, &e) {
		return !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
	}
	return e.Code == http.StatusConflict || e.Code == http.StatusTooManyRequests || e.Code >= 500
}

// eventually repeats f, in short steps, until it succeeds, fails for good or the context ends.
func eventually(ctx context.Context, f func() error) error {
	for wait := step; ; wait = min(2*wait, 500*time.Millisecond) {
		err := f()
		if err == nil || !passing(err) {
			return err
		}
		if !sleep(ctx, wait) {
			return err
		}
	}
}

func (c *client) get(ctx context.Context, path string, out any) error {
	return c.call(ctx, http.MethodGet, path, "", nil, out)
}

func (c *client) create(ctx context.Context, path string, in, out any) error {
	return c.call(ctx, http.MethodPost, path, "application/json", in, out)
}

// update replaces an object; with a resource version in it only if nobody else has written since.
func (c *client) update(ctx context.Context, path string, in, out any) error {
	return c.call(ctx, http.MethodPut, path, "application/json", in, out)
}

// merge changes the fields that in has (RFC 7396).
func (c *client) merge(ctx context.Context, path string, in, out any) error {
	return c.call(ctx, http.MethodPatch, path, "application/merge-patch+json", in, out)
}

// delete removes an object, by the DeleteOptions in options if they are not nil. That it is not there is no error.
func (c *client) delete(ctx context.Context, path string, options any) error {
	err := c.call(ctx, http.MethodDelete, path, "application/json", options, nil)
	if isNotFound(err) {
		return nil
	}
	return err
}

func (c *client) call(ctx context.Context, method, path, contentType string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := c.send(ctx, method, path, contentType, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body := io.LimitReader(resp.Body, maxAnswer)
	if out == nil {
		_, err = io.Copy(io.Discard, body) // so that the connection can be used again
		return err
	}
	if err := json.NewDecoder(body).Decode(out); err != nil {
		return fmt.Errorf("%s %s: answer: %w", method, path, err)
	}
	return nil
}

// send returns the answer to a request that succeeded. The caller closes its body.
func (c *client) send(ctx context.Context, method, path, contentType string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "gatehouse")
	if in != nil {
		req.Header.Set("Content-Type", contentType)
	}
	h, err := c.transport()
	if err != nil {
		return nil, err
	}
	resp, err := h.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	refused := &statusError{Code: resp.StatusCode, Reason: http.StatusText(resp.StatusCode)}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if json.Unmarshal(text, refused) != nil || refused.Message == "" {
		refused.Message = string(text)
	}
	refused.Code = resp.StatusCode
	return nil, fmt.Errorf("%s %s: %w", method, path, refused)
}

// transport returns connections that were opened with a client certificate which is still good. The API server looks
// at the certificate of a connection at each request, so old connections are given up before it expires.
func (c *client) transport() (*http.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if c.http != nil && now.Sub(c.made).Abs() < clientRenew {
		return c.http, nil
	}
	conf, err := c.tls()
	if err != nil {
		return nil, err
	}
	if c.http != nil {
		c.http.CloseIdleConnections()
	}
	c.made = now
	c.http = &http.Client{
		Transport: &http.Transport{ // without a proxy, whatever the environment says
			TLSClientConfig:       conf,
			ForceAttemptHTTP2:     true,
			IdleConnTimeout:       time.Minute,
			TLSHandshakeTimeout:   5 * time.Second,
			ResponseHeaderTimeout: callTimeout,
			HTTP2:                 &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c.http, nil
}

// close gives up idle connections; running requests are ended by their contexts.
func (c *client) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.http != nil {
		c.http.CloseIdleConnections()
	}
}

// meta is the part of ObjectMeta that this package reads.
type meta struct {
	Name              string            `json:"name"`
	Namespace         string            `json:"namespace,omitempty"`
	UID               string            `json:"uid,omitempty"`
	ResourceVersion   string            `json:"resourceVersion,omitempty"`
	Labels            map[string]string `json:"labels,omitempty"`
	Annotations       map[string]string `json:"annotations,omitempty"`
	DeletionTimestamp *time.Time        `json:"deletionTimestamp,omitempty"`
	OwnerReferences   []owner           `json:"ownerReferences,omitempty"`
}

type owner struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	UID        string `json:"uid"`
	Controller bool   `json:"controller,omitempty"`
}

func (m *meta) meta() *meta { return m }

// key is the object's name within its kind.
func (m *meta) key() string { return m.Namespace + "/" + m.Name }
