package ws

import (
	"math/rand/v2"
	"net"
	"sync/atomic"
	"time"

	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/fanout/loop"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// session is what a connection needs of fanout.Session.
type session interface {
	Receive(text []byte)
	Written()
	Closing(code wire.CloseCode)
	Detach()
}

// stub stands where no session is: before it is attached, and where attaching
// panicked.
type stub struct{ lease *fanout.Lease }

func (stub) Receive([]byte)         {}
func (stub) Written()               {}
func (stub) Closing(wire.CloseCode) {}
func (s stub) Detach()              { s.lease.Release() }

var (
	_ session = (*fanout.Session)(nil)
	_ session = stub{}
)

// endpoint is what the connections of a server have in common.
type endpoint struct {
	cfg     Config
	limits  limits
	loops   *loop.Group
	onPanic func(reason any)
	onGone  func()
	// deliver takes a whole message; nil for session.Receive.
	deliver func(c *conn, op byte, payload []byte)
	// quiet connections are not pinged: the protocol above sees to that.
	quiet bool
}

// conn is one connection after the upgrade: the fan-out's Link and the loop's
// handler. Methods of loop.Handler come one at a time.
type conn struct {
	loop.Conn
	end     *endpoint
	session session
	gate    *frameGate // nil while no message and no frame is incomplete
	pingAt  time.Duration
	pongBy  time.Duration // 0 while no ping is unanswered
	window  time.Duration // pings and pongs are counted by the second
	pings   uint8
	pongs   uint8
	deflate bool // messages of the client may be compressed
	deaf    bool // frames cannot be told apart any more, or the client's close frame came
	closing atomic.Bool
}

var (
	_ fanout.Link  = (*conn)(nil)
	_ loop.Handler = (*conn)(nil)
)

var started = time.Now()

// clock counts from some moment on; only differences mean something.
func clock() time.Duration { return time.Since(started) }

// newConn takes nc over. The session is set before serve.
func newConn(end *endpoint, nc net.Conn) *conn {
	c := &conn{end: end, pingAt: clock() + rand.N(end.cfg.PingEvery)}
	end.loops.Open(&c.Conn, nc, c)
	return c
}

// attach makes a session of the connection. After a panic the connection is served
// only to be closed: nobody but the loop can do that.
func (c *conn) attach(hub *fanout.Hub, peer fanout.Peer) {
	defer func() {
		if r := recover(); r != nil {
			c.end.onPanic(r)
			c.Abort()
		}
	}()
	c.session = stub{peer.Lease}
	c.session = hub.Attach(c, peer)
}

// serve begins to read, with what came with the handshake.
func (c *conn) serve(early []byte) {
	if len(early) > 0 {
		c.safely(func() { c.Input(early) })
	}
	if !c.end.quiet {
		c.SetTimer(c.pingAt - clock())
	}
	c.Start()
}

func (c *conn) safely(fn func()) {
	defer func() {
		if r := recover(); r != nil {
			c.Panicked(r)
		}
	}()
	fn()
}

// Close implements fanout.Link: the rest of the frame that is being written and
// the close frame get CloseWait, and so does the peer's answer.
func (c *conn) Close(code wire.CloseCode, reason string) {
	if c.closing.CompareAndSwap(false, true) {
		c.Finish(appendClose(nil, code, reason), false)
	}
}

// shut closes for a reason that the fan-out does not know.
func (c *conn) shut(code wire.CloseCode, reason string) {
	if c.closing.CompareAndSwap(false, true) {
		c.session.Closing(code)
		c.Finish(appendClose(nil, code, reason), false)
	}
}

// Written implements loop.Handler.
func (c *conn) Written() { c.session.Written() }

// Border implements loop.Handler.
func (c *conn) Border(p []byte, n int) int { return len(unfinished(p, n)) }

// Panicked implements loop.Handler: a panic ends this connection and nothing else.
func (c *conn) Panicked(reason any) {
	c.end.onPanic(reason)
	c.deaf = true
	c.shut(wire.CloseInternal, "internal error")
}

// Gone implements loop.Handler.
func (c *conn) Gone() {
	defer c.end.onGone()
	if c.gate != nil {
		c.gate.release()
		c.gate = nil
	}
	c.session.Detach()
}

// Expired implements loop.Handler. A connection that is being written to needs no
// ping: it is alive, or its write stalls.
func (c *conn) Expired() {
	now := clock()
	switch {
	case c.pongBy != 0 && now >= c.pongBy:
		c.shut(wire.CloseNoPong, "no pong")
		return
	case now >= c.pingAt:
		c.pingAt = now + c.end.cfg.PingEvery
		if c.pongBy == 0 && !c.Pending() {
			c.pongBy = now + c.end.cfg.PongWait
			c.Control([]byte{0x80 | opPing, 0})
		}
	}
	next := c.pingAt
	if c.pongBy != 0 {
		next = min(next, c.pongBy)
	}
	c.SetTimer(next - now)
}
