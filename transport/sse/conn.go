package sse

import (
	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/fanout/loop"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// session is what a connection needs of fanout.Session.
type session interface {
	Written()
	Leave(code wire.CloseCode)
	Closing(code wire.CloseCode)
	Detach()
}

var _ session = (*fanout.Session)(nil)

// conn is one event stream: the fan-out's link and the loop's handler.
type conn struct {
	loop.Conn
	server  *Server
	session session // nil until it is attached
	lease   *fanout.Lease
	skipped int // bytes that the client sent on the stream
}

var (
	_ fanout.Link  = (*conn)(nil)
	_ loop.Handler = (*conn)(nil)
)

// Close implements fanout.Link.
func (c *conn) Close(code wire.CloseCode, reason string) { c.Finish(closing(code, reason), true) }

// shut closes for a reason that the fan-out does not know.
func (c *conn) shut(code wire.CloseCode, reason string) {
	if c.Finish(closing(code, reason), true) {
		c.session.Closing(code)
	}
}

// inputMost bounds what a client may send on a stream, where it has nothing to
// say; pipelined requests are what some may begin with.
const inputMost = 64 << 10

// Input implements loop.Handler.
func (c *conn) Input(p []byte) {
	if c.skipped += len(p); c.skipped > inputMost {
		c.shut(wire.ClosePolicy, "nothing is read on a stream")
	}
}

// Written implements loop.Handler.
func (c *conn) Written() { c.session.Written() }

// Expired implements loop.Handler: the stream's lifetime is over.
func (c *conn) Expired() { c.session.Leave(wire.CloseRestart) }

// Gone implements loop.Handler.
func (c *conn) Gone() {
	if c.session == nil {
		c.lease.Release()
		return
	}
	c.session.Detach()
}

// Panicked implements loop.Handler: a panic ends this stream and nothing else.
func (c *conn) Panicked(reason any) {
	c.server.panicked(reason)
	c.shut(wire.CloseInternal, "internal error")
}

// rescue is Panicked for the goroutine that begins the stream.
func (c *conn) rescue() {
	if r := recover(); r != nil {
		c.server.panicked(r)
		c.Abort()
	}
}

// Border implements loop.Handler.
func (c *conn) Border(p []byte, n int) int { return border(p, n) }
