package gate

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// listener wraps a net.Listener: it counts connections, refuses those above
// the limit, and waits instead of spinning while the process has no
// descriptors or memory left.
type listener struct {
	net.Listener
	logger *slog.Logger
	meters *meters
	tls    *tls.Config // nil: plain
	shakes pace        // of TLS handshakes; only Accept uses it
	max    int64
	open   atomic.Int64
	done   chan struct{}
	once   sync.Once
}

func newListener(ln net.Listener, cfg Config, m *meters) *listener {
	l := &listener{Listener: ln, logger: cfg.Logger, meters: m, tls: cfg.TLS, max: int64(cfg.MaxConns), done: make(chan struct{})}
	if l.tls != nil {
		l.shakes = newPace(cfg.Handshakes)
	}
	return l
}

const (
	minBackoff = 5 * time.Millisecond
	maxBackoff = time.Second
)

// Accept returns the next admitted connection.
func (l *listener) Accept() (net.Conn, error) {
	backoff := time.Duration(0)
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			if backoff = nextBackoff(backoff, err); backoff == 0 {
				return nil, err
			}
			l.meters.acceptErrors.Inc()
			l.logger.Warn("cannot accept connections for now", "error", err, "retry_in", backoff)
			if !l.wait(backoff) {
				return nil, net.ErrClosed
			}
			continue
		}
		backoff = 0
		if l.open.Add(1) > l.max {
			l.open.Add(-1)
			l.meters.overflow.Inc()
			l.refuse(nc)
			continue
		}
		// Here the time for a request does not run yet, and whoever comes behind
		// waits in the kernel.
		if wait := l.shakes.turn(time.Now()); wait > 0 && !l.wait(wait) {
			l.open.Add(-1)
			_ = nc.Close()
			return nil, net.ErrClosed
		}
		l.meters.connections.Inc()
		if l.tls != nil {
			nc = tls.Server(&below{nc}, l.tls) // the handshake comes with the first read, within its deadline
		}
		return &conn{Conn: nc, from: l, first: true, head: new(headScan)}, nil
	}
}

// nextBackoff returns the next wait, or 0 for errors that waiting cannot mend.
func nextBackoff(last time.Duration, err error) time.Duration {
	for _, e := range [...]error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, e) {
			return min(max(2*last, minBackoff), maxBackoff)
		}
	}
	return 0
}

func (l *listener) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.done:
		return false
	}
}

// Close stops accepting; open connections live on. Later calls do nothing.
func (l *listener) Close() (err error) {
	l.once.Do(func() {
		close(l.done)
		err = l.Listener.Close()
	})
	return err
}

// overloaded is written to connections above the limit, without parsing anything.
var overloaded = []byte("HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: " + ProblemType +
	"\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")

// refuse ends a connection above the limit; one that expects TLS could not read
// the answer, and a handshake is not worth its cost.
func (l *listener) refuse(nc net.Conn) {
	if l.tls == nil {
		_ = nc.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
		_, _ = nc.Write(overloaded)
	}
	_ = nc.Close()
}

// conn is an accepted connection. Handlers that hijack get it from fasthttp;
// Unwrap gives the connection below it.
type conn struct {
	net.Conn
	from     *listener
	closed   atomic.Bool
	lineSeen bool // a line feed arrived since the last answer; one goroutine reads
	linger   bool // this and the rest are that goroutine's too
	first    bool // nothing was read yet
	bareLF   bool // the first head has a line that ends without '\r'
	unknown  bool // the first head names a transfer coding that is not known
	head     *headScan
}

// errBareLF makes fasthttp give up on a head that it would wait for.
var errBareLF = errors.New("a line of the head ends without a carriage return")

// tlsHandshake is the first byte of whoever takes this for a TLS port.
const tlsHandshake = 0x16

// Read notes whether the request line is complete, by which 414 and 431 differ,
// and what the first head is like. io.EOF makes fasthttp hang up.
func (c *conn) Read(p []byte) (int, error) {
	if c.bareLF {
		return 0, errBareLF
	}
	n, err := c.Conn.Read(p)
	if c.first && c.opening(p[:n], err) {
		return 0, io.EOF
	}
	if c.head != nil {
		done := c.head.feed(p[:n])
		c.bareLF, c.unknown = c.head.bareLF, c.head.unsupported()
		if done {
			c.head = nil
		}
	}
	if !c.lineSeen {
		c.lineSeen = bytes.IndexByte(p[:n], '\n') >= 0
	}
	return n, err
}

// opening looks at what the first read brought, and reports whether to hang up
// without a word: on whoever speaks TLS, and could not read an answer, and on
// whoever sent nothing in time, and might take one for that to a later request.
func (c *conn) opening(p []byte, err error) bool {
	if len(p) > 0 {
		c.first = false
		return p[0] == tlsHandshake
	}
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// Unwrap returns the connection below, such as *net.TCPConn.
func (c *conn) Unwrap() net.Conn { return c.Conn }

const (
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 256 << 10
)

// Close ends the connection, once.
func (c *conn) Close() error {
	if !c.closed.CompareAndSwap(false, true) {
		return nil
	}
	if c.linger {
		c.drain()
	}
	c.from.open.Add(-1)
	c.from.meters.connections.Dec()
	return c.Conn.Close()
}

// drain says goodbye first and swallows a little of what still arrives: closing
// with unread data would reset the connection and destroy the answer.
func (c *conn) drain() {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	if c.SetReadDeadline(time.Now().Add(lingerTime)) == nil {
		_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes)
	}
}
