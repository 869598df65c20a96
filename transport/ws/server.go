package ws

import (
	"context"
	"net"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/valyala/fasthttp"

	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/fanout/loop"
	"github.com/velocimeter/velocimeter/transport/gate"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// Path is where the stream is.
const Path = "/api/v1/stream"

// Server upgrades requests and serves the connections. Safe for concurrent use.
type Server struct {
	endpoint
	hub      *fanout.Hub
	upgrader websocket.FastHTTPUpgrader
	conns    crowd
}

// New returns a server for the hub's stream. It starts nothing.
func New(cfg Config, hub *fanout.Hub) *Server {
	cfg.setDefaults()
	s := &Server{endpoint: endpoint{cfg: cfg, limits: clientLimits, loops: NewLoops(cfg)}, hub: hub}
	s.onPanic, s.onGone = s.panicked, s.conns.leave
	s.upgrader = newUpgrader(wire.SubprotocolJSON, wire.SubprotocolBinary)
	return s
}

// NewLoops returns loops with the times and sizes of the config. It starts nothing.
func NewLoops(cfg Config) *loop.Group {
	cfg.setDefaults()
	return loop.NewGroup(loop.Config{
		CloseWait: cfg.CloseWait, WriteTimeout: cfg.WriteTimeout, Unsent: cfg.Unsent, Silence: cfg.Silence, Goroutines: cfg.Goroutines,
	})
}

func newUpgrader(subprotocols ...string) websocket.FastHTTPUpgrader {
	return websocket.FastHTTPUpgrader{
		Subprotocols:   subprotocols,
		ReadBufferSize: minBuffer, WriteBufferSize: minBuffer,
		CheckOrigin: func(*fasthttp.RequestCtx) bool { return true }, // plain did, more strictly
		Error: func(ctx *fasthttp.RequestCtx, status int, reason error) {
			gate.Problem(ctx, status, "bad_handshake", reason.Error(), "see RFC 6455 section 4.2")
		},
	}
}

// minBuffer keeps the upgrader's buffers small: nothing is read or written through them.
const minBuffer = 128

// Loops returns the loops that serve the connections, for other transports.
func (s *Server) Loops() *loop.Group { return s.loops }

// Route returns the stream's route for the gate, which must keep hijacked connections.
func (s *Server) Route() gate.Route {
	return gate.Route{Method: "GET", Path: Path, Name: "stream", Endless: true, Serve: s.Serve}
}

// Wait returns when the last connection and the last admitted handshake are gone;
// fanout.Hub.Shutdown sees to that. When ctx ends first the error says how many
// are left.
func (s *Server) Wait(ctx context.Context) error { return s.conns.wait(ctx) }

// leaseWait is how long an admitted handshake may take until its answer is written.
const leaseWait = 15 * time.Second

// Serve answers one GET for the stream.
func (s *Server) Serve(ctx *fasthttp.RequestCtx) {
	terms, r := s.check(ctx)
	if r != nil {
		r.answer(ctx)
		return
	}
	lease, err := s.admit(addrOf(ctx.RemoteAddr()))
	if err != nil {
		refusalOf(err).answer(ctx)
		return
	}
	// Where the answer cannot be written the connection is never handed over.
	forgotten := time.AfterFunc(leaseWait, func() { s.dismiss(lease) })
	err = s.upgrade(ctx, terms, func(nc net.Conn) {
		if !forgotten.Stop() {
			_ = nc.Close()
			return
		}
		defer s.rescue(nc, lease)
		s.start(nc, lease, terms)
	})
	if err != nil && forgotten.Stop() {
		s.dismiss(lease)
	}
}

// upgrade answers a handshake that check let pass; start gets the connection once
// the answer is written.
func (s *Server) upgrade(ctx *fasthttp.RequestCtx, terms terms, start func(net.Conn)) error {
	err := s.upgrader.Upgrade(ctx, func(wc *websocket.Conn) { start(wc.NetConn()) })
	if err == nil && terms.deflate {
		ctx.Response.Header.Set("Sec-WebSocket-Extensions", terms.extension())
	}
	return err
}

// admit counts the connection before the hub admits it: Wait misses none that
// was admitted before Hub.Shutdown. It ends with dismiss, or with the connection
// that start makes of it.
func (s *Server) admit(addr netip.Addr) (lease *fanout.Lease, err error) {
	s.conns.enter()
	defer func() {
		if lease == nil {
			s.conns.leave()
		}
	}()
	return s.hub.Admit(fanout.Visitor{Addr: addr, Over: "websocket"})
}

// dismiss ends an admission that no connection came of.
func (s *Server) dismiss(lease *fanout.Lease) {
	lease.Release()
	s.conns.leave()
}

// rescue keeps a panic of the handover from taking the process along.
func (s *Server) rescue(nc net.Conn, lease *fanout.Lease) {
	if r := recover(); r != nil {
		s.panicked(r)
		s.dismiss(lease)
		_ = nc.Close()
	}
}

func (e *endpoint) panicked(reason any) {
	e.cfg.Logger.Error("stream connection panicked", "reason", reason, "stack", string(debug.Stack()))
}

// start takes the connection over from the HTTP server, whose goroutine and
// buffers it leaves alone from here on.
func (s *Server) start(hijacked net.Conn, lease *fanout.Lease, terms terms) {
	early, nc := unwrapHijacked(hijacked)
	c := newConn(&s.endpoint, nc)
	c.deflate = terms.deflate
	peer := fanout.Peer{Framing: Text{}, Lease: lease}
	switch {
	case terms.binary:
		peer.Framing, peer.Encoding = Binary{}, wire.EncodingBinary
	case terms.deflate:
		peer.Framing = Deflate{}
	}
	c.attach(s.hub, peer)
	c.serve(early)
}

// longAgo is a deadline that ends a read at once.
var longAgo = time.Unix(1, 0)

// unwrapHijacked returns the connection below the HTTP server's buffer, and the
// bytes that the client had already sent into it. The expired deadline lets the
// buffer give what it has and stops it from reading more.
func unwrapHijacked(hijacked net.Conn) (early []byte, nc net.Conn) {
	u, ok := hijacked.(interface{ UnsafeConn() net.Conn })
	if !ok {
		return nil, hijacked
	}
	nc = u.UnsafeConn()
	_ = nc.SetReadDeadline(longAgo)
	var buf [1 << 10]byte
	for {
		n, err := hijacked.Read(buf[:])
		early = append(early, buf[:n]...)
		if err != nil {
			break
		}
	}
	_ = nc.SetReadDeadline(time.Time{})
	return early, nc
}
