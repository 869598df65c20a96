package sse

import (
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/gate"
	"github.com/velocimeter/velocimeter/transport/loop"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// Config sets times and sizes. The zero value of a member means its default.
type Config struct {
	Lifetime time.Duration // 1 h, and up to a tenth more: then the client shall come back
	Retry    time.Duration // 3 s until a browser comes back by itself
	// Find returns the token that a path names; nil where there is none.
	Find func(text string) *market.Snapshot
	// Logger receives panics; nil discards.
	Logger *slog.Logger
}

// Server answers requests for event streams. Safe for concurrent use.
type Server struct {
	cfg   Config
	hub   *fanout.Hub
	loops *loop.Group
}

// New returns a server for the hub's stream on the loops. It starts nothing.
func New(cfg Config, hub *fanout.Hub, loops *loop.Group) *Server {
	if cfg.Lifetime == 0 {
		cfg.Lifetime = time.Hour
	}
	if cfg.Retry == 0 {
		cfg.Retry = 3 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg, hub: hub, loops: loops}
}

// Routes returns the streams' routes for the gate, which must keep hijacked
// connections.
func (s *Server) Routes() []gate.Route {
	return []gate.Route{
		{Method: http.MethodGet, Path: "/api/v1/tokens/live", Serve: func(ctx *fasthttp.RequestCtx) { s.serve(ctx, "") }},
		{Method: http.MethodGet, Path: "/api/v1/tokens/{id}/live", Serve: func(ctx *fasthttp.RequestCtx) { s.serve(ctx, string(gate.Param(ctx, "id"))) }},
	}
}

// leaseWait is how long an admitted request may take until its stream begins.
const leaseWait = 15 * time.Second

// headWait is how long the peer may take for the head, which is its first bytes.
const headWait = 5 * time.Second

func (s *Server) serve(ctx *fasthttp.RequestCtx, token string) {
	r, refused := s.check(ctx, token)
	if refused != nil {
		refused.answer(ctx)
		return
	}
	lease, err := s.hub.Admit(fanout.Visitor{Addr: addrOf(ctx.RemoteAddr()), Over: "sse"})
	if err != nil {
		refusalOf(err).answer(ctx)
		return
	}
	head := s.head(gate.RequestID(ctx))
	forgotten := time.AfterFunc(leaseWait, lease.Release)
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(func(nc net.Conn) {
		if !forgotten.Stop() {
			_ = nc.Close()
			return
		}
		defer s.rescue(nc, lease)
		s.start(nc, lease, r, head)
	})
}

// check reads a request, or says why it is refused.
func (s *Server) check(ctx *fasthttp.RequestCtx, token string) (*wire.Request, *refusal) {
	if !accepts(ctx) {
		return nil, &refusal{status: http.StatusNotAcceptable, code: "not_acceptable", detail: "this is an event stream", remed: "accept text/event-stream"}
	}
	var id market.ID
	if token != "" {
		snap := s.cfg.Find(token)
		if snap == nil {
			return nil, &refusal{status: http.StatusNotFound, code: "token_not_found", detail: "no tracked token has this id or slug", remed: "find it with /api/v1/tokens?symbols= or ?search=; a path takes an id or a slug, not a symbol"}
		}
		id = snap.ID
	}
	return read(ctx, id)
}

// head is what stands before the first event. The stream ends with the
// connection.
func (s *Server) head(request string) []byte {
	return []byte("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nConnection: close\r\n" +
		"X-Accel-Buffering: no\r\nX-Content-Type-Options: nosniff\r\nVary: Origin\r\nX-Request-Id: " + request + "\r\n\r\n" +
		"retry: " + strconv.FormatInt(s.cfg.Retry.Milliseconds(), 10) + "\n\n")
}

// rescue keeps a panic of the handover from taking the process along.
func (s *Server) rescue(nc net.Conn, lease *fanout.Lease) {
	if r := recover(); r != nil {
		s.panicked(r)
		lease.Release()
		_ = nc.Close()
	}
}

func (s *Server) panicked(reason any) {
	s.cfg.Logger.Error("event stream panicked", "reason", reason, "stack", string(debug.Stack()))
}

// start takes the connection over from the HTTP server.
func (s *Server) start(hijacked net.Conn, lease *fanout.Lease, r *wire.Request, head []byte) {
	nc := hijacked
	if u, ok := hijacked.(interface{ UnsafeConn() net.Conn }); ok {
		nc = u.UnsafeConn()
	}
	_ = nc.SetWriteDeadline(time.Now().Add(headWait))
	if _, err := nc.Write(head); err != nil {
		lease.Release()
		_ = nc.Close()
		return
	}
	_ = nc.SetWriteDeadline(time.Time{})
	c := &conn{server: s}
	s.loops.Open(&c.Conn, nc, c)
	epoch := s.hub.Epoch()
	c.session = s.hub.Attach(c, fanout.Peer{Framing: Events{Epoch: epoch}, Lease: lease, Request: r})
	c.SetTimer(s.cfg.Lifetime + rand.N(s.cfg.Lifetime/10+1))
	c.Conn.Start()
}

// conn is one event stream: the fan-out's link and the loop's handler.
type conn struct {
	loop.Conn
	server  *Server
	session *fanout.Session
}

var (
	_ fanout.Link  = (*conn)(nil)
	_ loop.Handler = (*conn)(nil)
)

// Close implements fanout.Link.
func (c *conn) Close(code wire.CloseCode, reason string) {
	c.Finish([]byte(": closed, "+strconv.Itoa(int(code))+" "+reason+"\n\n"), true)
}

// Input implements loop.Handler: a client has nothing more to say.
func (c *conn) Input([]byte) {}

// Written implements loop.Handler.
func (c *conn) Written() { c.session.Written() }

// Expired implements loop.Handler: the stream's lifetime is over.
func (c *conn) Expired() { c.session.Leave(wire.CloseRestart) }

// Gone implements loop.Handler.
func (c *conn) Gone() { c.session.Detach() }

// Panicked implements loop.Handler.
func (c *conn) Panicked(reason any) {
	c.server.panicked(reason)
	c.Abort()
}

// Border implements loop.Handler.
func (c *conn) Border(p []byte, n int) int { return border(p, n) }

// addrOf returns the peer's address, or the zero one where it has no IP.
func addrOf(a net.Addr) netip.Addr {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr()
	}
	return netip.Addr{}
}
