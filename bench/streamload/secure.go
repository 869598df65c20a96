//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
)

// tlsSocket is what crypto/tls reads and writes: Go's connection during the handshake,
// which may wait, and after it a descriptor that does not.
type tlsSocket struct {
	net.Conn
	fd int // -1 during the handshake
}

// againError is temporary for crypto/tls: the read may be repeated.
type againError struct{ syscall.Errno }

func (e againError) Unwrap() error { return e.Errno }

func (w *tlsSocket) Read(p []byte) (int, error) {
	if w.fd < 0 {
		return w.Conn.Read(p) //nolint:wrapcheck // crypto/tls looks at it
	}
	n, err := syscall.Read(w.fd, p)
	switch {
	case err == syscall.EAGAIN || err == syscall.EINTR:
		return 0, againError{syscall.EAGAIN}
	case err == nil && n <= 0:
		return 0, io.EOF
	}
	return max(n, 0), err
}

func (w *tlsSocket) Write(p []byte) (int, error) {
	if w.fd < 0 {
		return w.Conn.Write(p) //nolint:wrapcheck // as above
	}
	return syscall.Write(w.fd, p)
}

// secured is a connection after its handshake, or why there is none.
type secured struct {
	conn *conn
	fd   int
	tls  *tls.Conn
	err  error
}

// tlsConfig takes any certificate: what is measured is on this machine.
func (l *load) tlsConfig() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"} //nolint:gosec // see above
}

// secure makes a connection and its handshake beside the loop.
func (l *load) secure(c *conn) {
	s := secured{conn: c}
	s.fd, s.tls, s.err = l.handshakeTLS()
	l.secured <- s
}

func (l *load) handshakeTLS() (fd int, tc *tls.Conn, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", l.host)
	if err != nil {
		return -1, nil, fmt.Errorf("cannot connect to %q: %w", l.host, err)
	}
	defer nc.Close() //nolint:errcheck // the copy of the descriptor lives on
	w := &tlsSocket{Conn: nc, fd: -1}
	tc = tls.Client(w, l.tlsConfig())
	if err := tc.HandshakeContext(ctx); err != nil {
		return -1, nil, fmt.Errorf("cannot agree on TLS with %q: %w", l.host, err)
	}
	raw, err := nc.(syscall.Conn).SyscallConn()
	if err != nil {
		return -1, nil, fmt.Errorf("cannot take the descriptor: %w", err)
	}
	err = raw.Control(func(old uintptr) {
		n, _, errno := syscall.RawSyscall(syscall.SYS_FCNTL, old, syscall.F_DUPFD_CLOEXEC, 0)
		if w.fd = int(n); errno != 0 {
			w.fd = -1
		}
	})
	if err != nil || w.fd < 0 {
		return -1, nil, fmt.Errorf("cannot copy the descriptor of %q: %v", l.host, err) //nolint:errorlint // it may be nil
	}
	return w.fd, tc, nil
}

// adopt takes the connections whose handshake is over.
func (l *load) adopt() {
	for {
		select {
		case s := <-l.secured:
			s.conn.upgrade(s)
		default:
			return
		}
	}
}

// upgrade goes on in the loop with what secure began.
func (c *conn) upgrade(s secured) {
	if s.err != nil {
		c.load.complain([]byte(s.err.Error()))
		c.end()
		return
	}
	c.fd, c.tls = int32(s.fd), s.tls
	c.load.byFD[c.fd] = c
	ev := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: c.fd}
	_ = syscall.EpollCtl(c.load.ep, syscall.EPOLL_CTL_ADD, s.fd, &ev)
	c.phase = upgrading
	c.write(c.load.handshake())
}
