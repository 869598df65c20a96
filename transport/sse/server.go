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
	"github.com/velocimeter/velocimeter/transport/fanout/loop"
	"github.com/velocimeter/velocimeter/transport/gate"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// Config sets times and sizes. The zero value of a member means its default.
type Config struct {
	Lifetime time.Duration // 1 h, and up to a tenth more: then the client shall come back
	Retry    time.Duration // 3 s, and up to half as much more, until a browser comes back by itself
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
// fanout.Hub.Shutdown waits until the last stream is gone.
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
		{Method: http.MethodGet, Path: "/api/v1/tokens/live", Endless: true, Serve: func(ctx *fasthttp.RequestCtx) { s.serve(ctx, "") }},
		{Method: http.MethodGet, Path: "/api/v1/tokens/{id}/live", Endless: true, Serve: func(ctx *fasthttp.RequestCtx) { s.serve(ctx, string(gate.Param(ctx, "id"))) }},
	}
}

// leaseWait is how long an admitted request may take until its stream begins.
const leaseWait = 15 * time.Second

// headWait is how long the peer may take for the head, which is its first bytes.
const headWait = 5 * time.Second

func (s *Server) serve(ctx *fasthttp.RequestCtx, token string) {
	r, refused := s.check(ctx, token)
	if refused != nil {
		s.refuse(ctx, refused)
		return
	}
	head := s.head(gate.RequestID(ctx))
	lease, err := s.hub.Admit(fanout.Visitor{Addr: addrOf(ctx.RemoteAddr()), Over: "sse"})
	if err != nil {
		s.refuse(ctx, refusalOf(err))
		return
	}
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
	switch {
	case !accepts(ctx):
		return nil, refusedMedia
	case !s.hub.Ready():
		return nil, refusalOf(fanout.ErrNotReady)
	case token == "":
		return read(ctx, 0)
	}
	snap := s.cfg.Find(token)
	if snap == nil {
		return nil, refusedToken
	}
	return read(ctx, snap.ID)
}

// refuse answers with the problem, and a browser that comes back at a bad moment
// with when to try again: it would take the problem for the end.
func (s *Server) refuse(ctx *fasthttp.RequestCtx, r *refusal) {
	if r.status != http.StatusServiceUnavailable || len(ctx.Request.Header.Peek(lastEventID)) == 0 {
		r.answer(ctx)
		return
	}
	h := &ctx.Response.Header
	h.SetContentType(contentType)
	h.Set(fasthttp.HeaderCacheControl, cacheControl)
	ctx.SetConnectionClose()
	ctx.SetBody(Events{}.Append(nil, &fanout.Message{Kind: wire.KindDrain, Body: wire.AppendDrain(nil, 0, s.retry())}))
}

const (
	contentType  = "text/event-stream"
	cacheControl = "no-store, no-transform" // a proxy that compresses would hold events back
)

// head is what stands before the first event. The stream ends with the
// connection.
func (s *Server) head(request string) []byte {
	return []byte("HTTP/1.1 200 OK\r\nContent-Type: " + contentType + "\r\nCache-Control: " + cacheControl + "\r\nConnection: close\r\n" +
		"X-Accel-Buffering: no\r\nX-Content-Type-Options: nosniff\r\nVary: Origin\r\nX-Request-Id: " + request + "\r\n\r\n" +
		"retry: " + strconv.FormatInt(s.retry(), 10) + "\n\n")
}

// retry returns the milliseconds after which one client shall come back: not all
// at the same time when the server is gone without a word.
func (s *Server) retry() int64 { return (s.cfg.Retry + rand.N(s.cfg.Retry/2+1)).Milliseconds() }

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

// start takes the connection over from the HTTP server. What the client sent
// after its request stays in that server's buffer.
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
	c := &conn{server: s, lease: lease}
	s.loops.Open(&c.Conn, nc, c)
	defer c.Start() // after a panic as well: only the loop can close what Open took
	defer c.rescue()
	c.session = s.hub.Attach(c, fanout.Peer{Framing: Events{Epoch: s.hub.Epoch()}, Lease: lease, Request: r})
	c.SetTimer(s.cfg.Lifetime + rand.N(s.cfg.Lifetime/10+1))
}

// addrOf returns the peer's address, or the zero one where it has no IP.
func addrOf(a net.Addr) netip.Addr {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr()
	}
	return netip.Addr{}
}
