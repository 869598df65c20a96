package ws

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"

	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// session is what a connection needs of fanout.Session.
type session interface {
	Receive(text []byte)
	Written()
	Closing(code wire.CloseCode)
	Detach()
}

var _ session = (*fanout.Session)(nil)

// conn is one connection after the upgrade: the fan-out's Link, with a
// goroutine that reads and one that writes.
type conn struct {
	cfg     *Config
	nc      net.Conn
	plain   bool         // nothing encrypts: a write that was interrupted can go on
	half    func() error // ends the sending direction of TCP; nil where there is none
	session session
	onPanic func(reason any)
	wake    chan struct{} // one slot: the writer shall look
	written chan struct{} // closed when the writer is gone

	// Of the reader alone.
	gate   frameGate
	early  []byte    // what came with the handshake
	window time.Time // pings and pongs are counted by the second
	pings  int
	pongs  int

	scratch *joined // of the writer alone: what it is writing, where it was joined

	mu       sync.Mutex
	batch    [][]byte // what is left of it
	taken    bool     // Session.Written is owed
	pingDue  bool
	pongDue  []byte // newest payload to answer; nil for none
	pingAt   time.Time
	pongBy   time.Time // zero while no ping is unanswered
	closing  bool
	resumed  bool // the write that the close interrupted is settled
	closeBy  time.Time
	code     wire.CloseCode
	reason   string
	answered bool // the peer's close frame is here
	dead     bool
}

var _ fanout.Link = (*conn)(nil)

func newConn(cfg *Config, nc net.Conn, onPanic func(reason any)) *conn {
	return &conn{
		cfg: cfg, nc: nc, onPanic: onPanic, wake: make(chan struct{}, 1), written: make(chan struct{}),
		pingAt: time.Now().Add(rand.N(cfg.PingEvery)),
	}
}

// TryWrite implements fanout.Link.
func (c *conn) TryWrite(batch []fanout.Chunk) bool {
	frames := make([][]byte, len(batch))
	for i, chunk := range batch {
		if frames[i] = chunk.Bytes; !chunk.Shared {
			frames[i] = bytes.Clone(chunk.Bytes)
		}
	}
	c.mu.Lock()
	c.batch, c.taken = frames, true
	c.mu.Unlock()
	c.signal()
	return true
}

// Close implements fanout.Link: the rest of the frame that is being written and
// the close frame get CloseWait, and so does the peer's answer.
func (c *conn) Close(code wire.CloseCode, reason string) { c.begin(code, reason) }

// end closes for a reason that the fan-out does not know.
func (c *conn) end(code wire.CloseCode, reason string) {
	if c.begin(code, reason) {
		c.session.Closing(code)
	}
}

// begin starts the closing handshake and reports whether it had not begun.
func (c *conn) begin(code wire.CloseCode, reason string) (first bool) {
	c.mu.Lock()
	if first = !c.closing; first {
		c.closing, c.code, c.reason = true, code, reason
		c.closeBy = time.Now().Add(c.cfg.CloseWait)
		if c.plain { // the writer shall look now; it has until closeBy from then on
			_ = c.nc.SetWriteDeadline(longAgo)
		} else {
			_ = c.nc.SetWriteDeadline(c.closeBy)
		}
		_ = c.nc.SetReadDeadline(c.closeBy)
	}
	c.mu.Unlock()
	c.signal()
	return first
}

// longAgo is a deadline that ends a read or write at once.
var longAgo = time.Unix(1, 0)

// Abort implements fanout.Link.
func (c *conn) Abort() {
	c.mu.Lock()
	first := !c.dead
	c.dead = true
	c.mu.Unlock()
	if first {
		_ = c.nc.Close()
	}
	c.signal()
}

func (c *conn) signal() {
	select {
	case c.wake <- struct{}{}:
	default: // the writer has not looked since the signal before
	}
}

// run serves the connection until it is gone.
func (c *conn) run() {
	go func() {
		defer close(c.written)
		c.guard(c.write, c.Abort)
	}()
	c.guard(c.read, func() { c.end(wire.CloseInternal, "internal error") })
	<-c.written
	c.Abort()
	c.session.Detach()
}

// guard runs one half of the connection; a panic ends the connection by end.
func (c *conn) guard(half, end func()) {
	defer func() {
		if r := recover(); r != nil {
			c.onPanic(r)
			end()
		}
	}()
	half()
}

// errTimeout reports whether a deadline ended a read or write.
func errTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
