package front

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// halfOpen is how long one side of a tunnel may go on once the other has said that it sends no more.
// Without it, a client that is gone would hold its tunnel for as long as the server keeps silent.
const halfOpen = 10 * time.Minute

var errLoop = errors.New("it is this proxy itself")

// parseAuthority splits the target of a CONNECT, HOST:PORT (RFC 9112 section 3.2.3). The host is an IP
// address or a name of the characters that host names have: any other spelling, which a resolver might still
// take for one of our names, is refused. An IPv6 address loses its brackets.
func parseAuthority(s string) (host, port string, err error) {
	bad := func(why string) (string, string, error) {
		return "", "", fmt.Errorf("%q cannot be connected to: %s; it must be HOST:PORT", s, why)
	}
	host, port, err = net.SplitHostPort(s)
	if err != nil {
		return bad("it has no port, or more than one")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || port != strconv.FormatUint(n, 10) {
		return bad("its port is not a number from 1 to 65535")
	}
	if strings.HasPrefix(s, "[") {
		if ip, err := netip.ParseAddr(host); err != nil || !ip.Is6() || ip.Zone() != "" {
			return bad("what is in brackets is not an IPv6 address")
		}
		return host, port, nil
	}
	if len(host) > 254 {
		return bad("its host is too long")
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(host, "."), ".") {
		if label == "" || len(label) > 63 {
			return bad("its host has an empty or too long part")
		}
		for _, c := range []byte(label) {
			if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return bad("its host has a character that host names do not have")
			}
		}
	}
	return host, port, nil
}

// reach connects to a host, through the upstream proxy if there is one for it; that is told by way of whom
// the request has come, so that a loop of several proxies ends.
func (p *Proxy) reach(ctx context.Context, addr string, cameVia []string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	via, err := p.upstream(&http.Request{Method: http.MethodConnect, URL: &url.URL{Scheme: "https", Host: addr}})
	if err != nil {
		return nil, err
	}
	if via == nil {
		return p.dial(ctx, "tcp", addr)
	}
	conn, err := p.reachVia(ctx, via, addr, cameVia)
	if err != nil {
		return nil, fmt.Errorf("through the upstream proxy %s: %w", via.Host, err)
	}
	return conn, nil
}

// upstream asks p.Upstream. Its error says nothing of the address, which may hold a password.
func (p *Proxy) upstream(r *http.Request) (*url.URL, error) {
	if p.Upstream == nil {
		return nil, nil
	}
	via, err := p.Upstream(r)
	if err != nil {
		return nil, errors.New("the address of the upstream proxy cannot be read; correct HTTPS_PROXY or HTTP_PROXY in the environment and start gatehouse again")
	}
	if via == nil || p.isSelf(via) {
		return nil, nil
	}
	return via, nil
}

// isSelf reports whether a proxy's address is our own, as it is in a shell that has run `gatehouse env`.
func (p *Proxy) isSelf(u *url.URL) bool {
	ip, _ := netip.ParseAddr(u.Hostname())
	return u.Port() == fmt.Sprint(p.self.Port()) && (u.Hostname() == "localhost" || ip.Unmap() == p.self.Addr())
}

// dial opens a connection, but none to the proxy itself by whatever name.
func (p *Proxy) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	dial := p.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	if at, err := addrPort(conn.RemoteAddr()); err == nil && at == p.self {
		conn.Close()
		return nil, errLoop
	}
	return conn, nil
}

// reachVia opens a tunnel through another proxy.
func (p *Proxy) reachVia(ctx context.Context, via *url.URL, addr string, cameVia []string) (net.Conn, error) {
	port := map[string]string{"http": "80", "https": "443"}[via.Scheme]
	if port == "" {
		return nil, fmt.Errorf("it speaks %q, of which gatehouse knows only http and https", via.Scheme)
	}
	if via.Port() != "" {
		port = via.Port()
	}
	conn, err := p.dial(ctx, "tcp", net.JoinHostPort(via.Hostname(), port))
	if err != nil {
		return nil, err
	}
	if via.Scheme == "https" {
		conn = tls.Client(conn, &tls.Config{ServerName: via.Hostname(), RootCAs: p.upstreamRoots})
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() }) // ends what waits below
	tunnel, err := p.askForTunnel(conn, via, addr, cameVia)
	if !stop() {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return tunnel, nil
}

func (p *Proxy) askForTunnel(conn net.Conn, via *url.URL, addr string, cameVia []string) (net.Conn, error) {
	ask := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: http.Header{
		"Via": append(slices.Clone(cameVia), "1.1 "+p.via),
	}}
	if via.User != nil {
		password, _ := via.User.Password()
		ask.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(via.User.Username()+":"+password)))
	}
	if err := ask.Write(conn); err != nil {
		return nil, err
	}
	limit := &io.LimitedReader{R: conn, N: 64 << 10} // of the answer's header
	ahead := bufio.NewReader(limit)
	answer, err := http.ReadResponse(ahead, ask)
	switch {
	case err != nil:
		return nil, err
	case answer.StatusCode == http.StatusProxyAuthRequired:
		return nil, errors.New("it wants another user name and password than HTTPS_PROXY has (HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT)")
	case answer.StatusCode/100 != 2:
		return nil, fmt.Errorf("it answered %s", answer.Status)
	}
	limit.N = math.MaxInt64
	return withAhead(conn, ahead), nil
}

// accept takes over the client's connection and tells it that its tunnel is open.
func accept(w http.ResponseWriter) (net.Conn, error) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Time{})
	if _, err := io.WriteString(conn, "HTTP/1.1 200 Connection Established\r\n\r\n"); err != nil {
		conn.Close()
		return nil, err
	}
	return withAhead(conn, buffered.Reader), nil
}

// pipe copies both ways and closes both connections when both ways have ended, one has failed, or the
// context has ended. The end of one way is passed on and leaves the other way open.
func pipe(ctx context.Context, a, b net.Conn) {
	closeBoth := func() {
		a.Close()
		b.Close()
	}
	defer closeBoth()
	defer context.AfterFunc(ctx, closeBoth)()
	oneWay := func(to, from net.Conn) {
		if _, err := io.Copy(to, from); err != nil || closeWrite(to) != nil {
			closeBoth()
			return
		}
		to.SetReadDeadline(time.Now().Add(halfOpen))
	}
	var ways sync.WaitGroup
	ways.Go(func() { oneWay(a, b) })
	ways.Go(func() { oneWay(b, a) })
	ways.Wait()
}

func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// readAhead is a connection of which some bytes have already been read.
type readAhead struct {
	net.Conn
	ahead []byte
}

func withAhead(c net.Conn, r *bufio.Reader) net.Conn {
	if r.Buffered() == 0 {
		return c // itself, whose bytes the kernel can copy
	}
	ahead, _ := r.Peek(r.Buffered())
	return &readAhead{Conn: c, ahead: ahead}
}

func (c *readAhead) Read(b []byte) (int, error) {
	if len(c.ahead) > 0 {
		n := copy(b, c.ahead)
		c.ahead = c.ahead[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

func (c *readAhead) CloseWrite() error { return closeWrite(c.Conn) }

// intercepted is a client's connection to a host that is answered here.
type intercepted struct {
	net.Conn
	host string
	stop func() bool
}

// intercept makes sure that the connection is closed when the context ends, also if it comes too late for
// the server, which forgets what it accepts while it is shutting down.
func intercept(ctx context.Context, c net.Conn, host string) *intercepted {
	return &intercepted{Conn: c, host: host, stop: context.AfterFunc(ctx, func() { c.Close() })}
}

func (c *intercepted) Close() error {
	c.stop()
	return c.Conn.Close()
}

// handover is a listener whose connections were accepted by somebody else.
type handover struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newHandover() *handover {
	return &handover{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// give hands a connection over, or closes it if nobody takes it any more.
func (h *handover) give(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.closed:
		c.Close()
	}
}

func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *handover) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

func (h *handover) Addr() net.Addr { return handoverAddr{} }

type handoverAddr struct{}

func (handoverAddr) Network() string { return "proxy" }
func (handoverAddr) String() string  { return "proxy" }
