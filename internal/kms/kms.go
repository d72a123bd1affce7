// Package kms asks a KMS plugin of Kubernetes, version 2 of its protocol, to encrypt and decrypt keys:
// https://kubernetes.io/docs/tasks/administer-cluster/kms-provider/
//
// The protocol is gRPC on a Unix socket. Its three calls are unary, so each is one HTTP/2 POST with a length-prefixed
// protobuf message in either direction and a status in the trailers
// (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md), which net/http speaks by itself.
package kms

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	callLimit  = 3 * time.Second // what Kubernetes gives a plugin by default
	maxMessage = 64 << 10        // the longest answer: annotations have at most 32 KiB, all else 1 KiB
	maxField   = 1 << 10         // the longest ciphertext and key id that the protocol allows, in bytes
)

// ErrUnavailable is in the chain of errors that may pass by waiting: nobody listens, or the plugin says that it is not ready.
var ErrUnavailable = errors.New("not available")

// Plugin is a KMS plugin that listens on a Unix socket. It is safe for concurrent use.
type Plugin struct {
	socket string
	client *http.Client
}

// New returns the plugin on a socket: a path, or @ and a name for one of Linux's abstract sockets. It does not connect yet.
func New(socket string) *Plugin {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	return &Plugin{socket: socket, client: &http.Client{
		Transport: &http.Transport{
			Protocols:          &protocols,
			DisableCompression: true,
			IdleConnTimeout:    time.Minute,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", socket)
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// String names the plugin by its socket.
func (p *Plugin) String() string { return "the KMS plugin at " + p.socket }

// Sealed is what a plugin has encrypted, with all that it needs to decrypt it.
type Sealed struct {
	Ciphertext  []byte            `json:"ciphertext"`
	KeyID       string            `json:"keyID"` // the plugin's name for its key
	Annotations map[string][]byte `json:"annotations,omitempty"`
}

// Status returns the id of the key that Encrypt would use now. A plugin that is not healthy is ErrUnavailable.
func (p *Plugin) Status(ctx context.Context) (keyID string, err error) {
	answer, err := p.call(ctx, "Status", nil)
	if err != nil {
		return "", err
	}
	version, health, keyID := string(answer.last(1)), string(answer.last(2)), string(answer.last(3))
	switch {
	case version != "v2" && version != "v2beta1":
		return "", fmt.Errorf("%s speaks version %q of the protocol, not v2", p, clip(version))
	case health != "ok":
		return "", fmt.Errorf("%s is not healthy: %s: %w", p, clip(health), ErrUnavailable)
	}
	return keyID, p.check("key id", keyID)
}

// Encrypt seals a plaintext. uid names the request in the plugin's log.
func (p *Plugin) Encrypt(ctx context.Context, uid string, plaintext []byte) (Sealed, error) {
	answer, err := p.call(ctx, "Encrypt", appendBytes(appendBytes(nil, 1, plaintext), 2, []byte(uid)))
	if err != nil {
		return Sealed{}, err
	}
	s := Sealed{Ciphertext: answer.last(1), KeyID: string(answer.last(2))}
	for _, entry := range answer[3] {
		pair, err := parse(entry)
		if err != nil {
			return Sealed{}, p.garbled("Encrypt", err)
		}
		if s.Annotations == nil {
			s.Annotations = map[string][]byte{}
		}
		s.Annotations[string(pair.last(1))] = pair.last(2)
	}
	return s, errors.Join(p.check("ciphertext", string(s.Ciphertext)), p.check("key id", s.KeyID))
}

// Decrypt opens what Encrypt gave.
func (p *Plugin) Decrypt(ctx context.Context, uid string, s Sealed) ([]byte, error) {
	request := appendBytes(nil, 1, s.Ciphertext)
	request = appendBytes(request, 2, []byte(uid))
	request = appendBytes(request, 3, []byte(s.KeyID))
	for name, value := range s.Annotations {
		request = appendBytes(request, 4, appendBytes(appendBytes(nil, 1, []byte(name)), 2, value))
	}
	answer, err := p.call(ctx, "Decrypt", request)
	if err != nil {
		return nil, err
	}
	return answer.last(1), nil
}

// check holds the bounds that the protocol sets for a field.
func (p *Plugin) check(name, value string) error {
	if value == "" || len(value) > maxField {
		return fmt.Errorf("%s answers with a %s of %d bytes; 1 to %d are allowed", p, name, len(value), maxField)
	}
	return nil
}

// call makes one unary call.
func (p *Plugin) call(ctx context.Context, method string, request []byte) (message, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	framed := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(request))) // 0: not compressed
	framed = append(framed, request...)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/v2.KeyManagementService/"+method, bytes.NewReader(framed))
	if err != nil {
		return nil, err
	}
	req.Header = http.Header{
		"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "User-Agent": {"gatehouse"},
		"Grpc-Timeout": {strconv.FormatInt(callLimit.Milliseconds(), 10) + "m"},
	}
	res, err := p.client.Do(req)
	if err != nil {
		return nil, p.silent(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK || !strings.HasPrefix(res.Header.Get("Content-Type"), "application/grpc") {
		return nil, p.garbled(method, fmt.Errorf("HTTP status %d, type %q", res.StatusCode, clip(res.Header.Get("Content-Type"))))
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxMessage+1)) // after which the trailers are there
	if err != nil {
		return nil, p.silent(err)
	}
	if len(body) > maxMessage {
		return nil, p.garbled(method, fmt.Errorf("more than %d bytes", maxMessage))
	}
	trailers := res.Trailer
	if trailers.Get("Grpc-Status") == "" {
		trailers = res.Header // an answer of trailers alone
	}
	if err := p.status(method, trailers); err != nil {
		return nil, err
	}
	if len(body) < 5 || body[0] != 0 || int(binary.BigEndian.Uint32(body[1:5])) != len(body)-5 {
		return nil, p.garbled(method, errors.New("not one uncompressed message"))
	}
	answer, err := parse(body[5:])
	if err != nil {
		return nil, p.garbled(method, err)
	}
	return answer, nil
}

// Status codes of gRPC that may pass by waiting.
const (
	codeDeadlineExceeded  = "4"
	codeResourceExhausted = "8"
	codeUnavailable       = "14"
)

func (p *Plugin) status(method string, trailers http.Header) error {
	code := trailers.Get("Grpc-Status")
	if code == "0" {
		return nil
	}
	text := trailers.Get("Grpc-Message")
	if plain, err := url.PathUnescape(text); err == nil {
		text = plain
	}
	err := fmt.Errorf("%s refuses %s: %s (gRPC status %q)", p, method, clip(text), clip(code))
	switch code {
	case codeDeadlineExceeded, codeResourceExhausted, codeUnavailable:
		err = fmt.Errorf("%w: %w", err, ErrUnavailable)
	}
	return err
}

func (p *Plugin) silent(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // without the URL, which is none
	}
	return fmt.Errorf("%s does not answer (%w): %w", p, err, ErrUnavailable)
}

func (p *Plugin) garbled(method string, err error) error {
	return fmt.Errorf("%s answers %s with something that is not the KMS protocol, version 2: %w", p, method, err)
}

// clip makes foreign text fit for a message of one line.
func clip(text string) string {
	const most = 200
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > most {
		text = text[:most] + "..."
	}
	return text
}
