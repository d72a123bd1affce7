package front

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stopWithin bounds a Shutdown whose caller did not; `gatehouse up` has 10 s for everything.
const stopWithin = 5 * time.Second

// Server serves a handler over TLS 1.2 or later, by HTTP/1.1 and HTTP/2.
type Server struct {
	Handler http.Handler
	TLS     *tls.Config // needs a certificate; pki's GetCertificate renews its own
	Log     *slog.Logger

	connContext func(context.Context, net.Conn) context.Context

	once sync.Once
	http *http.Server
}

func (s *Server) server() *http.Server {
	s.once.Do(func() {
		s.http = newHTTPServer(s.Handler, s.Log)
		s.http.ConnContext = s.connContext
		s.http.TLSConfig = &tls.Config{}
		if s.TLS != nil {
			s.http.TLSConfig = s.TLS.Clone()
		}
		s.http.TLSConfig.MinVersion = max(s.http.TLSConfig.MinVersion, tls.VersionTLS12)
	})
	return s.http
}

// Serve answers on a listener, which it closes, until Shutdown; then it returns nil.
func (s *Server) Serve(ln net.Listener) error {
	return unlessClosed(s.server().ServeTLS(ln, "", ""))
}

// Shutdown stops listening and lets running requests finish until the context, or 5 s, has ended;
// then they are cut off and the error says so. The server does not start again.
func (s *Server) Shutdown(ctx context.Context) error { return shutdown(ctx, s.server()) }

// newHTTPServer has the limits that hold for every listener. There is none on the whole of a request:
// how long an answer takes, and how large a body may be, is the business of its handler.
func newHTTPServer(h http.Handler, l *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second, // also of the TLS handshake
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          log.New(serverLog{logger(l)}, "", 0),
	}
}

func shutdown(ctx context.Context, s *http.Server) error {
	ctx, cancel := context.WithTimeout(ctx, stopWithin)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		s.Close()
		return fmt.Errorf("requests were still running and have been cut off: %w", err)
	}
	return nil
}

func unlessClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Listen opens a TCP listener. Its error names the address, the flag that chose it (if there is one)
// and, where a person can do something about it, what.
func Listen(addr, flagName string) (net.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	if err == nil {
		return ln, nil
	}
	what, with := "listen on "+addr, ""
	if name := strings.TrimLeft(flagName, "-"); name != "" {
		what += " (--" + name + ")"
		with = " with --" + name
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s: %w; stop the other program or choose another port%s", what, syscall.EADDRINUSE, with)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("%s: %w; choose a port above 1023%s", what, syscall.EACCES, with)
	}
	var op *net.OpError
	if errors.As(err, &op) { // the rest of it repeats the address
		err = op.Err
	}
	return nil, fmt.Errorf("%s: %w", what, err)
}

func logger(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}

// serverLog takes the lines of net/http's own log. Handshakes fail all day, by port scans and probes of
// load balancers; the rest is a handler's panic or a listener in trouble.
type serverLog struct{ log *slog.Logger }

func (l serverLog) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	level := slog.LevelError
	if strings.HasPrefix(text, "http: TLS handshake error") {
		level = slog.LevelDebug
	}
	l.log.Log(context.Background(), level, text)
	return len(line), nil
}
