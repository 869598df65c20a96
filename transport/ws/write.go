package ws

import (
	"sync"
	"time"
)

// joinMost bounds the bytes that are copied together into one write.
const joinMost = 64 << 10

type joined struct{ bytes []byte }

var joinPool = sync.Pool{New: func() any { return new(joined) }}

// task is what the writer does next.
type task uint8

const (
	idle task = iota
	control
	data
	done  // the batch is out
	final // the close frame
)

// write sends what there is to send until the connection ends.
func (c *conn) write() {
	for range c.wake {
		for {
			what, p, alive := c.pick()
			if !alive {
				return
			}
			if what == idle {
				break
			}
			if !c.perform(what, p) {
				return
			}
		}
	}
}

// perform does one task and returns false when the writer is finished.
func (c *conn) perform(what task, p []byte) bool {
	if what == done {
		c.session.Written()
		return true
	}
	n, err := c.nc.Write(p)
	if errTimeout(err) && c.resume() {
		_, err = c.nc.Write(unfinished(p, n))
	}
	if c.scratch != nil {
		joinPool.Put(c.scratch)
		c.scratch = nil
	}
	if err != nil {
		c.Abort()
		return false
	}
	if what == final {
		c.awaitAnswer()
		return false
	}
	return true
}

// resume reports whether the write that just timed out was interrupted by a
// close, and gives the rest of its frame until closeBy: no close frame can
// follow half a frame.
func (c *conn) resume() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closing || !c.plain || c.resumed || c.dead {
		return false
	}
	c.settle()
	return true
}

// settle ends the interruption by a close; mu is held.
func (c *conn) settle() {
	c.resumed = true
	_ = c.nc.SetWriteDeadline(c.closeBy)
}

// pick chooses the next task and its bytes. Control frames go between the
// chunks of a batch; a close drops what is left of it.
func (c *conn) pick() (what task, p []byte, alive bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.dead {
		return idle, nil, false
	}
	if !c.closing {
		_ = c.nc.SetWriteDeadline(now.Add(c.cfg.WriteTimeout))
	} else if !c.resumed {
		c.settle()
	}
	switch {
	case c.pongDue != nil:
		p, c.pongDue = appendControl(nil, opPong, c.pongDue), nil
		return control, p, true
	case c.closing:
		c.batch = nil
		return final, appendClose(nil, c.code, c.reason), true
	case c.pingDue:
		c.pingDue = false
		c.pongBy = now.Add(c.cfg.PongWait)
		c.rearm()
		return control, appendControl(nil, opPing, nil), true
	case len(c.batch) > 0:
		return data, c.join(), true
	case c.taken:
		c.taken = false
		return done, nil, true
	}
	return idle, nil, true
}

// rearm moves the reader's deadline; mu is held.
func (c *conn) rearm() { _ = c.nc.SetReadDeadline(c.due()) }

// join takes the next chunks of the batch as one stretch of bytes, good until
// it is written.
func (c *conn) join() []byte {
	n, size := 0, 0
	for n < len(c.batch) && (n == 0 || size+len(c.batch[n]) <= joinMost) {
		size += len(c.batch[n])
		n++
	}
	first := c.batch[:n]
	c.batch = c.batch[n:]
	if n == 1 {
		return first[0]
	}
	c.scratch, _ = joinPool.Get().(*joined)
	c.scratch.bytes = c.scratch.bytes[:0]
	for _, f := range first {
		c.scratch.bytes = append(c.scratch.bytes, f...)
	}
	return c.scratch.bytes
}

// awaitAnswer gives the peer CloseWait from the moment our close frame is out,
// and tells it by TCP that nothing more will come.
func (c *conn) awaitAnswer() {
	c.mu.Lock()
	c.closeBy = time.Now().Add(c.cfg.CloseWait)
	c.rearm()
	c.mu.Unlock()
	if c.half != nil {
		_ = c.half()
	}
}
