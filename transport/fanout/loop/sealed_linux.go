package loop

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// sealed encrypts for a connection that a loop serves. It is what crypto/tls has
// below: reads take what the kernel has and never wait; what is encrypted is
// gathered, and written in one go.
//
// Lock order: Conn.mu, then those of crypto/tls, then mu. The loop's goroutine
// reads without Conn.mu, and reading may answer the peer.
type sealed struct {
	net.Conn // closed; it knows the addresses
	c        *Conn
	tls      *tls.Conn

	mu   sync.Mutex
	rest []byte   // encrypted, and not with the kernel
	lent *scratch // what rest is in, while send gathers
}

// restMost bounds what is encrypted and unwritten: a step of send in records of
// any size, and answers to a peer that makes us give some.
const restMost = 2 * writeMost

// againError says that there is nothing to read for now. It is temporary, as
// crypto/tls puts it: the read may be repeated.
type againError struct{}

func (againError) Error() string   { return "nothing to read" }
func (againError) Timeout() bool   { return true }
func (againError) Temporary() bool { return true }

// recordsMost bounds the records of one connection that are read before the others
// have their turn.
const recordsMost = 16

var errRest = errors.New("the peer makes answers necessary and takes none")

// seal puts the loop below crypto/tls; Open calls it, before anything else can.
func (c *Conn) seal(secure *tls.Conn, below swapper, tcp *net.TCPConn) {
	s := &sealed{Conn: tcp, c: c, tls: secure}
	_ = below.Swap(s)
	c.poll.sealed, c.poll.again = s, true
}

// Read implements net.Conn for crypto/tls; only the loop's goroutine reads.
func (s *sealed) Read(p []byte) (int, error) {
	n, err := read(s.c.poll.fd, p)
	switch {
	case err == syscall.EAGAIN || err == syscall.EINTR:
		return 0, againError{}
	case err == nil && n == 0:
		return 0, io.EOF
	}
	return n, err
}

// Write implements net.Conn for crypto/tls. It is called with Conn.mu held or by
// the loop's goroutine, so the descriptor stays what it is.
func (s *sealed) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.c.poll.fd < 0:
		return 0, net.ErrClosed
	case len(s.rest)+len(p) > restMost:
		return 0, errRest
	}
	s.rest = append(s.rest, p...)
	return len(p), nil
}

// Close and the deadlines are the loop's business.

// Close implements net.Conn.
func (*sealed) Close() error { return nil }

// SetDeadline implements net.Conn.
func (*sealed) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn.
func (*sealed) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn.
func (*sealed) SetWriteDeadline(time.Time) error { return nil }

// borrow gives what send encrypts a place; an idle connection has none.
func (s *sealed) borrow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rest == nil {
		s.lent, _ = scratchPool.Get().(*scratch)
		s.rest = s.lent.bytes[:0]
	}
}

// flush writes what is encrypted as far as the kernel takes it, and reports
// whether all is out; Conn.mu is held.
func (s *sealed) flush() (all bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sent := 0
	for sent < len(s.rest) {
		n, e := write(s.c.poll.fd, s.rest[sent:])
		if e == syscall.EINTR {
			continue
		}
		if e != nil {
			if e != syscall.EAGAIN {
				err = e
			}
			break
		}
		sent += n
	}
	all = sent == len(s.rest)
	left := s.rest[sent:]
	if s.lent != nil {
		left = bytes.Clone(left)
		s.lent.bytes = s.rest[:0]
		scratchPool.Put(s.lent)
		s.lent = nil
	}
	if s.rest = left; all {
		s.rest = nil
	}
	return all, err
}

// sendSealed is send for a connection that encrypts. What is encrypted counts as
// sent: it can be neither dropped nor made again. The caller must not take the
// connection for written before settled says so.
func (c *Conn) sendSealed(p []byte) (sent int) {
	s := c.poll.sealed
	for sent < len(p) && c.settled() {
		step := p[sent:min(len(p), sent+writeMost)]
		s.borrow()
		if _, err := s.tls.Write(step); err != nil {
			c.cut()
			return sent
		}
		sent += len(step)
	}
	_ = c.settled()
	return sent
}

// settled writes what is encrypted and reports whether nothing is left; mu is
// held. A failure ends the connection.
func (c *Conn) settled() bool {
	s := c.poll.sealed
	if s == nil {
		return true
	}
	all, err := s.flush()
	if err != nil {
		c.cut()
	}
	return all && err == nil
}

// farewell tells the peer that the end is one, and no attack; mu is held.
func (c *Conn) farewell() {
	if s := c.poll.sealed; s != nil && !c.reset && c.poll.fd >= 0 {
		_ = s.tls.CloseWrite()
		_, _ = s.flush()
	}
}

// open takes what came, decrypted, and reports the peer's end.
func (e *epoll) open(c *Conn) (over bool) {
	var err error
	records := 0
	for err == nil && records < recordsMost && c.listens() {
		records++
		var n int
		if n, err = c.poll.sealed.tls.Read(e.buf); n > 0 {
			c.handler.Input(e.buf[:n])
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.poll.again = err == nil && records == recordsMost // crypto/tls may have more than the kernel tells of
	if c.phase != ended && c.out == nil && !c.settled() && c.phase != ended {
		c.hold() // for an answer of crypto/tls
		c.rearm()
	}
	_ = c.tell(syscall.EPOLL_CTL_MOD)
	return err != nil && !errors.Is(err, againError{})
}

// listens reports whether input is wanted.
func (c *Conn) listens() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.phase != ended && !c.deaf
}
