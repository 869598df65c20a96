package ws

import (
	"context"
	"net"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/valyala/fasthttp"

	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/fanout/loop"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// Link is a connection as a protocol above WebSocket sees it. What is written is
// whole frames: see AppendHead.
type Link interface {
	fanout.Stager
	// Control writes a short frame between others, before what TryWrite kept.
	Control(frame []byte)
}

// User is what a protocol above WebSocket does with a connection. Calls come one at
// a time, but for Written where goroutines serve the connection.
type User interface {
	// Message takes one whole message, valid during the call.
	Message(binary bool, p []byte)
	// Written says that what TryWrite left pending is written.
	Written()
	// Closing says that the connection closes for a reason of its own; CloseNormal
	// stands for whatever the client closed with.
	Closing(code wire.CloseCode)
	// Gone is the last call: the connection uses none of the bytes that it took.
	Gone()
}

// Acceptor makes WebSockets of requests for a protocol above: any query, no
// sub-protocol, no compression, text and binary messages, no pings of its own.
// Safe for concurrent use.
type Acceptor struct {
	endpoint
	upgrader websocket.FastHTTPUpgrader
	conns    crowd
}

// NewAcceptor returns an acceptor of messages of at most most bytes on the loops.
// It starts nothing. Of the config it uses Origins and Logger; times and sizes are
// those of the loops.
func NewAcceptor(cfg Config, most int, loops *loop.Group) *Acceptor {
	cfg.setDefaults()
	a := &Acceptor{endpoint: endpoint{cfg: cfg, limits: clientLimits, loops: loops, quiet: true}}
	a.limits.message, a.limits.binary = most, true
	a.onPanic, a.onGone = a.panicked, a.conns.leave
	a.deliver = func(c *conn, op byte, payload []byte) {
		if u, ok := c.session.(above); ok {
			u.Message(op == opBinary, payload)
		}
	}
	a.upgrader = newUpgrader()
	return a
}

// Enter counts something else that Wait shall wait for, until Leave.
func (a *Acceptor) Enter() { a.conns.enter() }

// Leave ends what Enter began.
func (a *Acceptor) Leave() { a.conns.leave() }

// Wait returns when the last connection and the last accepted handshake are gone.
// When ctx ends first the error says how many are left.
func (a *Acceptor) Wait(ctx context.Context) error { return a.conns.wait(ctx) }

// Accept answers a handshake. Once the answer is written open gets the connection,
// which may be written to from then on; where none comes of the handshake dropped
// is called instead.
func (a *Acceptor) Accept(ctx *fasthttp.RequestCtx, open func(Link) User, dropped func()) {
	if r := plain(ctx, a.cfg.Origins); r != nil {
		dropped()
		r.answer(ctx)
		return
	}
	ctx.Request.Header.Del("Sec-WebSocket-Protocol")
	a.conns.enter()
	lost := func() {
		a.conns.leave()
		dropped()
	}
	// Where the answer cannot be written the connection is never handed over.
	forgotten := time.AfterFunc(leaseWait, lost)
	err := a.upgrader.Upgrade(ctx, func(wc *websocket.Conn) {
		nc := wc.NetConn()
		if !forgotten.Stop() {
			_ = nc.Close()
			return
		}
		defer func() {
			if r := recover(); r != nil {
				a.panicked(r)
				lost()
				_ = nc.Close()
			}
		}()
		a.start(nc, open, dropped)
	})
	if err != nil && forgotten.Stop() {
		lost()
	}
}

// start takes a connection over from the HTTP server.
func (a *Acceptor) start(hijacked net.Conn, open func(Link) User, dropped func()) {
	early, nc := unwrapHijacked(hijacked)
	c := newConn(&a.endpoint, nc)
	c.session = orphan{dropped}
	c.adopt(open)
	c.serve(early)
}

// adopt gives the connection its user. After a panic it is served only to be closed:
// nobody but the loop can do that.
func (c *conn) adopt(open func(Link) User) {
	defer func() {
		if r := recover(); r != nil {
			c.end.onPanic(r)
			c.Abort()
		}
	}()
	c.session = above{open(c)}
}

// above is the session of a connection that has a user.
type above struct{ User }

func (above) Receive([]byte) {}
func (u above) Detach()      { u.Gone() }

// orphan stands where no user is.
type orphan struct{ dropped func() }

func (orphan) Receive([]byte)         {}
func (orphan) Written()               {}
func (orphan) Closing(wire.CloseCode) {}
func (o orphan) Detach()              { o.dropped() }

var (
	_ Link    = (*conn)(nil)
	_ session = above{}
	_ session = orphan{}
)
