package loop

import (
	"math"
	"net"
	"sync"
	"time"

	"github.com/velocimeter/velocimeter/transport/fanout"
)

// Handler is what a protocol does with a connection. Input, Expired and Gone
// come one at a time; Written may come beside them where goroutines serve the
// connection. All may call the connection's methods.
type Handler interface {
	// Input takes bytes of the peer, at least one. They are valid during the call.
	// The peer's end, a half-closed connection included, is Gone at once.
	Input(p []byte)
	// Written says that what TryWrite left pending is written.
	Written()
	// Expired says that the time set with SetTimer is over.
	Expired()
	// Gone is the last call: the connection is closed and uses none of the bytes
	// that it took.
	Gone()
	// Panicked is told of a panic in another method. The handler ends the
	// connection, or the loop does with Abort.
	Panicked(reason any)
	// Border returns how many bytes are left of the frame that the first n of p end
	// in; p is whole frames. It is called with the connection's lock held.
	Border(p []byte, n int) int
}

// phase is how far a connection is on its way to the end.
type phase uint8

const (
	open      phase = iota
	finishing       // the last frame is not written yet
	waiting         // it is, and the peer's end is awaited
	ended           // the descriptor waits to be closed
)

// Conn is one connection. It is part of the handler's own struct; its zero value
// is good for Group.Open. Safe for concurrent use.
type Conn struct {
	group   *Group
	handler Handler
	owner   net.Conn // closed last, for whoever counts connections; nil for nobody
	stream  *stream  // nil where a loop serves the connection
	poll    polled

	mu    sync.Mutex
	out   *pending // nil while nothing is unwritten
	due   int64    // of the handler's timer, or the end of the phase
	phase phase
	owed  bool // Handler.Written
	deaf  bool // the peer's end has been seen: nothing more is read
	reset bool // close without delivering what is unsent

	staged bool // a Ring is about to write: what comes now waits behind it
}

var started = time.Now()

// clock counts nanoseconds; only differences mean something.
func clock() int64 { return int64(time.Since(started)) }

const never = math.MaxInt64

// TryWrite has the meaning of fanout.Link.TryWrite.
func (c *Conn) TryWrite(batch []fanout.Chunk) (pending bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != open {
		return true // taken and dropped
	}
	switch {
	case c.stream != nil || c.out != nil || c.staged:
		if c.out != nil && !c.owed { // the fan-out counts from now on, and ends with more ceremony
			c.out.since = clock()
		}
		c.keep(batch, 0)
	case c.writeBatch(batch):
		return false
	}
	c.owed = c.phase == open
	if c.stream != nil {
		c.stream.signal()
	}
	return true
}

// Stage has the meaning of fanout.Stager.Stage; an Outbox other than a Ring is not
// used.
func (c *Conn) Stage(out fanout.Outbox, batch []fanout.Chunk) (pending bool) {
	if r, ok := out.(*Ring); ok && c.stage(r, batch) {
		return false
	}
	return c.TryWrite(batch)
}

// urgentMost bounds the control frames that wait, in bytes.
const urgentMost = 2 << 10

// Control writes a frame between others, at the next border. Where many wait
// already it replaces them. A connection that is closing drops it.
func (c *Conn) Control(frame []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != open {
		return
	}
	if c.stream == nil && c.out == nil && !c.staged {
		c.writeBatch([]fanout.Chunk{{Bytes: frame}})
		return
	}
	out := c.hold()
	if len(out.urgent)+len(frame) > urgentMost {
		out.urgent = nil
	}
	out.urgent = append(out.urgent, frame...)
	if c.stream != nil {
		c.stream.signal()
	}
}

// Pending reports whether something waits to be written.
func (c *Conn) Pending() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out != nil || c.staged
}

// Closing reports whether Finish or Abort was called, or the connection failed.
func (c *Conn) Closing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.phase != open
}

// Finish ends the connection with a last frame, after the one that is being
// written; what else was taken is dropped. Both get CloseWait, and so does the
// peer's end after them, unless it is answered: then the connection closes as soon
// as the frame is out. It reports whether it was the first; of later calls only
// answered counts.
func (c *Conn) Finish(last []byte, answered bool) (first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deaf = c.deaf || answered
	if first = c.phase == open; first {
		c.phase, c.owed = finishing, false
		c.due = clock() + int64(c.group.cfg.CloseWait)
		c.hold().final = last
	}
	switch {
	case c.phase == waiting && c.deaf:
		c.end()
	case c.phase != finishing:
	case c.stream != nil:
		c.stream.finish(first)
	default:
		c.push()
		c.rearm()
	}
	return first
}

// lastOut comes after the last frame is written; mu is held.
func (c *Conn) lastOut() {
	c.phase = waiting
	if c.deaf {
		c.end()
		return
	}
	c.due = clock() + int64(c.group.cfg.CloseWait)
	if c.stream != nil {
		c.stream.halfClose()
		c.stream.rearm()
	} else {
		c.halfClose()
		c.rearm()
	}
}

// Abort ends the connection at once; what is not sent never will be.
func (c *Conn) Abort() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut()
}

// cut ends the connection without delivering what is unsent; mu is held.
func (c *Conn) cut() {
	if c.phase != ended {
		c.reset = true
		c.end()
	}
}

// end leaves the rest to whoever serves the connection; mu is held.
func (c *Conn) end() {
	c.phase, c.out, c.owed = ended, nil, false
	if c.stream != nil {
		c.stream.end()
	} else {
		c.hangUp()
	}
}

// SetTimer asks for Handler.Expired after d, and not for what was asked before.
func (c *Conn) SetTimer(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != open {
		return
	}
	c.due = clock() + int64(d)
	if c.stream != nil {
		c.stream.rearm()
	} else {
		c.rearm()
	}
}

// deadline returns when the connection must be looked at; mu is held.
func (c *Conn) deadline() int64 {
	if c.out != nil && c.phase == open && c.stream == nil {
		return min(c.due, c.out.since+int64(c.group.cfg.WriteTimeout))
	}
	return c.due
}

// hold returns the place for what is unwritten; mu is held.
func (c *Conn) hold() *pending {
	if c.out == nil {
		c.out = &pending{since: clock()}
	}
	return c.out
}

// expire acts on the time; only who serves the connection calls it.
func (c *Conn) expire() {
	c.mu.Lock()
	now, call := clock(), false
	switch {
	case c.phase == open && c.deadline() <= now && c.due > now:
		c.cut() // a write stalled
	case c.phase == open && c.due <= now:
		c.due, call = never, true
	case c.phase == finishing && c.due <= now:
		c.cut()
	case c.phase == waiting && c.due <= now:
		c.end()
	}
	c.mu.Unlock()
	if call {
		c.handler.Expired()
	}
}

// rescue must be deferred around every call of the handler.
func (c *Conn) rescue() {
	if r := recover(); r != nil {
		defer func() {
			if recover() != nil {
				c.Abort()
			}
		}()
		c.handler.Panicked(r)
	}
}

// gone tells the owner and the handler.
func (c *Conn) gone() {
	defer c.rescue()
	if c.owner != nil {
		_ = c.owner.Close()
	}
	c.handler.Gone()
}
