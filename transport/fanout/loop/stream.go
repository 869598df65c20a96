package loop

import (
	"errors"
	"net"
	"os"
	"time"
)

// stream serves a connection with a goroutine that reads and one that writes.
// What is not of the reader or the writer alone is guarded by Conn.mu.
type stream struct {
	c       *Conn
	nc      net.Conn
	below   net.Conn     // what to close for a quick end: closing nc may have to write
	plain   bool         // a write that was interrupted can go on
	half    func() error // ends the sending direction of TCP; nil where there is none
	wake    chan struct{}
	written chan struct{} // closed when the writer is gone
	graceBy time.Time     // until then what was taken before Finish may go out
	resumed bool          // the write that Finish interrupted is settled
}

// longAgo is a deadline that ends a read or write at once.
var longAgo = time.Unix(1, 0)

// grace is how long Finish lets the writer go on, which comes after who asks for
// a write. A peer that reads gets everything, as from a loop.
const grace = 100 * time.Millisecond

const readBuffer = 1 << 10 // bytes read at once by the reader of a stream

func (s *stream) signal() {
	select {
	case s.wake <- struct{}{}:
	default: // the writer has not looked since the signal before
	}
}

// at turns a clock reading into a deadline.
func at(due int64) time.Time {
	if due == never {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(due - clock()))
}

func (s *stream) rearm() { _ = s.nc.SetReadDeadline(at(s.c.due)) }

// finish makes the writer look: soon where its write can be interrupted.
func (s *stream) finish(first bool) {
	if first {
		s.rearm()
		s.c.out.grace = true
		s.graceBy = time.Now().Add(min(grace, s.c.group.cfg.CloseWait))
		if s.plain {
			_ = s.nc.SetWriteDeadline(s.graceBy)
		} else {
			_ = s.nc.SetWriteDeadline(at(s.c.due))
		}
	}
	s.signal()
}

func (s *stream) halfClose() {
	if s.half != nil {
		_ = s.half()
	}
}

// end makes both goroutines leave.
func (s *stream) end() {
	_ = s.nc.SetDeadline(longAgo)
	if s.c.reset {
		_ = s.below.Close()
	}
	s.signal()
}

// run serves the connection until it is gone.
func (s *stream) run() {
	go func() {
		defer close(s.written)
		s.write()
	}()
	for s.more() {
		s.guard(s.read)
	}
	<-s.written
	s.c.mu.Lock()
	if s.c.phase != ended {
		s.c.end()
	}
	s.c.mu.Unlock()
	_ = s.nc.Close()
	s.c.gone()
}

func (s *stream) guard(half func()) {
	defer s.c.rescue()
	half()
}

// more sets the read deadline and reports whether there is something to wait for.
func (s *stream) more() bool {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.c.phase == ended || s.c.deaf {
		return false
	}
	s.rearm()
	return true
}

// read takes what comes and minds the clock.
func (s *stream) read() {
	buf := make([]byte, readBuffer)
	for s.more() {
		n, err := s.nc.Read(buf)
		if n > 0 {
			s.c.handler.Input(buf[:n])
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			s.c.mu.Lock()
			s.c.end()
			s.c.mu.Unlock()
			return
		}
		s.c.expire()
	}
}

// write sends what there is to send until the last frame is out.
func (s *stream) write() {
	for range s.wake {
		more := true
		for more {
			s.guard(func() { more = false; more = s.step() })
		}
		s.c.mu.Lock()
		over := s.c.phase >= waiting
		s.c.mu.Unlock()
		if over {
			return
		}
	}
}

// step does one thing and returns whether to look for another.
func (s *stream) step() bool {
	buf, _ := scratchPool.Get().(*scratch)
	defer scratchPool.Put(buf)
	p, done := s.pick(buf)
	if done {
		s.c.handler.Written()
		return true
	}
	if p == nil {
		return false
	}
	n, err := s.nc.Write(p)
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.c.out != nil {
		s.c.out.advance(n, s.c.handler.Border)
	}
	interrupted := errors.Is(err, os.ErrDeadlineExceeded) && s.c.phase == finishing && s.plain && !s.resumed && s.c.out != nil
	if err != nil && !interrupted {
		s.c.cut()
	}
	return s.c.phase < waiting
}

// pick returns the bytes to write now; nil and done when Written is due.
func (s *stream) pick(buf *scratch) (p []byte, done bool) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase >= waiting {
		return nil, false
	}
	if c.out != nil && c.phase == finishing && !s.resumed && !time.Now().Before(s.graceBy) {
		c.out.grace, s.resumed = false, true
		_ = s.nc.SetWriteDeadline(at(c.due))
	}
	if c.out == nil || !c.out.settle() {
		c.out = nil
		if c.phase == finishing {
			c.lastOut()
			return nil, false
		}
		done, c.owed = c.owed, false
		return nil, done
	}
	if c.phase == open {
		_ = s.nc.SetWriteDeadline(time.Now().Add(c.group.cfg.WriteTimeout))
	}
	return c.out.next(buf), false
}
