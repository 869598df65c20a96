package engineio

import (
	"net"
	"net/netip"
	"strconv"

	"github.com/valyala/fasthttp"

	"github.com/velocimeter/velocimeter/transport/gate"
	"github.com/velocimeter/velocimeter/transport/ws"
)

const (
	byPolling   = "polling"
	byWebSocket = "websocket"
)

// fault is an error of the protocol, by the reference server's number.
type fault int

const (
	unknownTransport fault = iota
	unknownSession
	badMethod
	badRequest
	forbidden
	badVersion
)

var faults = [...]string{"Transport unknown", "Session ID unknown", "Bad handshake method", "Bad request", "Forbidden", "Unsupported protocol version"}

func (f fault) answer(ctx *fasthttp.RequestCtx) {
	status := fasthttp.StatusBadRequest
	if f == forbidden {
		status = fasthttp.StatusForbidden
	}
	answer(ctx, status, "application/json", []byte(`{"code":`+strconv.Itoa(int(f))+`,"message":"`+faults[f]+`"}`))
}

func answer(ctx *fasthttp.RequestCtx, status int, contentType string, body []byte) {
	ctx.SetStatusCode(status)
	ctx.Response.Header.SetContentType(contentType)
	ctx.Response.Header.Set(fasthttp.HeaderCacheControl, "no-store")
	ctx.Response.SetBodyRaw(body)
}

// query is what a request asks for. Unknown parameters are ignored.
type query struct {
	version   string
	versions  int
	transport string
	sid       string
	repeated  bool // transport or sid
	jsonp     bool
}

func readQuery(args *fasthttp.Args) (q query) {
	transports, sids := 0, 0
	for key, value := range args.All() {
		switch string(key) {
		case "EIO":
			q.version = string(value)
			q.versions++
		case "transport":
			q.transport = string(value)
			transports++
		case "sid":
			q.sid = string(value)
			sids++
		case "j":
			q.jsonp = true
		}
	}
	q.repeated = transports > 1 || sids > 1
	return q
}

// spoken reports whether the version is 4, and nothing else beside it.
func (q *query) spoken() bool { return q.versions == 1 && q.version == "4" }

// serve answers a request. The order of the checks is the reference server's.
func (s *Server) serve(ctx *fasthttp.RequestCtx) {
	if !s.allow(ctx) {
		forbidden.answer(ctx)
		return
	}
	q := readQuery(ctx.QueryArgs())
	switch {
	case q.repeated || q.jsonp:
		badRequest.answer(ctx)
	case q.transport != byPolling && q.transport != byWebSocket:
		unknownTransport.answer(ctx)
	case q.sid != "":
		s.serveSession(ctx, &q)
	case !ctx.IsGet():
		badMethod.answer(ctx)
	case !q.spoken():
		badVersion.answer(ctx)
	case q.transport == byPolling:
		s.handshake(ctx)
	case !ctx.Request.Header.ConnectionUpgrade():
		badRequest.answer(ctx)
	default:
		s.accept(ctx)
	}
}

// serveSession answers a request that names a session.
func (s *Server) serveSession(ctx *fasthttp.RequestCtx, q *query) {
	one := s.find(q.sid)
	switch {
	case one == nil:
		unknownSession.answer(ctx)
	case !q.spoken():
		badVersion.answer(ctx)
	case q.transport == byWebSocket:
		if !one.alive() {
			unknownSession.answer(ctx)
			return
		}
		if !ctx.IsGet() || !ctx.Request.Header.ConnectionUpgrade() || addrOf(ctx.RemoteAddr()) != one.addr {
			badRequest.answer(ctx)
			return
		}
		s.acceptor.Accept(ctx, one.offer, func() {})
	case ctx.IsGet():
		one.servePoll(ctx)
	case ctx.IsPost():
		one.servePost(ctx)
	default:
		badRequest.answer(ctx)
	}
}

// handshake begins a session by polling.
func (s *Server) handshake(ctx *fasthttp.RequestCtx) {
	o, ok := s.opening(ctx, byPolling)
	if !ok {
		return
	}
	one := newSession(s, &o, nil)
	open := s.appendOpen(nil, one.sid, `"websocket"`)
	if one.begin(o); one.handler == nil {
		gate.Problem(ctx, fasthttp.StatusInternalServerError, "internal", "the server failed on this request", "retry")
		return
	}
	answer(ctx, fasthttp.StatusOK, pollType, open)
}

// accept begins a session by websocket.
func (s *Server) accept(ctx *fasthttp.RequestCtx) {
	o, ok := s.opening(ctx, byWebSocket)
	if !ok {
		return
	}
	s.acceptor.Accept(ctx, func(link ws.Link) ws.User {
		k := &socket{link: link}
		one := newSession(s, &o, k)
		link.Control(ws.AppendFrame(nil, false, s.appendOpen(nil, one.sid, "")))
		one.begin(o)
		return k
	}, o.Admission.Release)
}

// opening admits a session, or refuses the request.
func (s *Server) opening(ctx *fasthttp.RequestCtx, transport string) (o Opening, ok bool) {
	h := &ctx.Request.Header
	o = Opening{
		Transport: transport, Addr: addrOf(ctx.RemoteAddr()),
		Origin: string(h.Peek(fasthttp.HeaderOrigin)), APIKey: string(h.Peek("X-API-Key")),
	}
	var err error
	if o.Admission, err = s.admit(o.Addr); err != nil {
		ws.Refuse(ctx, err)
		return o, false
	}
	return o, true
}

// allow reports whether the page that the request is of may ask, and lets it read
// the answer. Vary is the gate's.
func (s *Server) allow(ctx *fasthttp.RequestCtx) bool {
	if !ws.OriginAllowed(ctx, s.cfg.Origins) {
		return false
	}
	if origin := ctx.Request.Header.Peek(fasthttp.HeaderOrigin); len(origin) > 0 {
		ctx.Response.Header.SetBytesV(fasthttp.HeaderAccessControlAllowOrigin, origin)
		ctx.Response.Header.Set(fasthttp.HeaderAccessControlAllowCredentials, "true")
	}
	return true
}

// preflight answers what a browser asks before a request that is not simple.
func (s *Server) preflight(ctx *fasthttp.RequestCtx) {
	if !s.allow(ctx) {
		forbidden.answer(ctx)
		return
	}
	h := &ctx.Response.Header
	ctx.SetStatusCode(fasthttp.StatusNoContent)
	h.Set(fasthttp.HeaderAllow, "GET, POST, OPTIONS")
	if len(ctx.Request.Header.Peek(fasthttp.HeaderOrigin)) > 0 {
		h.Set(fasthttp.HeaderAccessControlAllowMethods, "GET, POST")
		h.Set(fasthttp.HeaderAccessControlAllowHeaders, "Content-Type, X-API-Key, Authorization")
		h.Set(fasthttp.HeaderAccessControlMaxAge, "600")
	}
}

// addrOf returns the peer's address, or the zero one where it has no IP.
func addrOf(a net.Addr) netip.Addr {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr()
	}
	return netip.Addr{}
}
