package ws

import (
	"context"
	"flag"
	"net"
	"os"
	"os/signal"
	"sync"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/wire"
)

var echoAt = flag.String("echo", "", "address of the echo endpoint that TestEchoServer serves until it is interrupted")

// TestEchoServer is what conformance suites speak to: any path echoes text and
// binary messages over the gate, the loops and the compression of the stream.
func TestEchoServer(t *testing.T) {
	if *echoAt == "" {
		t.Skip("no -echo")
	}
	ln, err := net.Listen("tcp", *echoAt)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt)
	defer stop()
	// Without pings: suites that send a frame in chops may answer one between them,
	// in the middle of their own frame.
	serveEcho(ctx, t, ln, Config{PingEvery: 24 * time.Hour}, echoLimits)
}

var echoLimits = limits{message: 16 << 20, fragments: 1 << 20, empty: 1 << 20, pings: 200, pongs: 200, binary: true}

// serveEcho serves until ctx ends and the last connection is gone.
func serveEcho(ctx context.Context, t *testing.T, ln net.Listener, cfg Config, l limits) {
	t.Helper()
	s := New(cfg, fanout.New(fanout.Config{}, boards{}))
	s.limits = l
	s.deliver = func(c *conn, op byte, payload []byte) {
		e, _ := c.session.(*echo)
		e.send(op, payload)
	}
	handle := func(ctx *fasthttp.RequestCtx) {
		terms, r := s.check(ctx)
		if r != nil {
			r.answer(ctx)
			return
		}
		s.conns.enter()
		err := s.upgrade(ctx, terms, func(nc net.Conn) {
			early, nc := unwrapHijacked(nc)
			c := newConn(&s.endpoint, nc)
			c.deflate = terms.deflate
			e := &echo{c: c, framing: Text{}}
			if terms.deflate {
				e.framing = Deflate{}
			}
			c.session = e
			c.serve(early)
		})
		if err != nil {
			s.conns.leave()
		}
	}
	g := fasthttp.Server{Handler: handle, KeepHijackedConns: true, NoDefaultServerHeader: true, MaxRequestBodySize: 1 << 10}
	served := make(chan error, 1)
	go func() { served <- g.Serve(ln) }()
	<-ctx.Done()
	_ = g.Shutdown()
	if err := <-served; err != nil {
		t.Error(err)
	}
	gone(t, s)
}

// echo sends back what it is sent, in its order.
type echo struct {
	c       *conn
	framing fanout.Framing
	mu      sync.Mutex
	writing bool
	queue   [][]byte
}

func (e *echo) send(op byte, payload []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.queue = append(e.queue, e.framing.Append(nil, &fanout.Message{Binary: op == opBinary, Shared: true, Body: payload}))
	e.flush()
}

func (e *echo) flush() {
	for !e.writing && len(e.queue) > 0 {
		first := e.queue[0]
		e.queue = e.queue[1:]
		e.writing = e.c.TryWrite([]fanout.Chunk{{Bytes: first, Shared: true}})
	}
}

func (e *echo) Written() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.writing = false
	e.flush()
}

func (*echo) Receive([]byte)         {}
func (*echo) Closing(wire.CloseCode) {}
func (*echo) Detach()                {}
