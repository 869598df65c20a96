package gate

import (
	"log/slog"
	"time"

	"github.com/valyala/fasthttp"
)

// Handle is the whole gate as one fasthttp handler: it names the request,
// refuses what is ambiguous, routes the rest and survives a panicking handler.
func (s *Server) Handle(ctx *fasthttp.RequestCtx) {
	st := s.begin(ctx)
	meter := s.meters.unrouted
	defer func() { s.end(ctx, st, meter) }()
	defer s.rescue(ctx)
	if v := s.check(ctx); v != nil {
		v.answer(ctx)
		return
	}
	method := ctx.Method()
	if string(method) == "OPTIONS" && string(ctx.RequestURI()) == "*" {
		ctx.SetStatusCode(fasthttp.StatusNoContent)
		return
	}
	l := s.router.find(rawPath(ctx.RequestURI()), st)
	if l == nil {
		Problem(ctx, fasthttp.StatusNotFound, "not_found", "there is nothing at this path", s.router.hint)
		return
	}
	e := l.methods[string(method)]
	if e == nil {
		l.refuse(ctx, method)
		return
	}
	meter = e.meter
	e.serve(ctx)
}

// refuse answers OPTIONS, and methods that the path does not have.
func (l *leaf) refuse(ctx *fasthttp.RequestCtx, method []byte) {
	if string(method) == "OPTIONS" {
		ctx.SetStatusCode(fasthttp.StatusNoContent)
	} else {
		Problem(ctx, fasthttp.StatusMethodNotAllowed, "method_not_allowed",
			"this path does not have the method "+Echo(method), "use one of: "+l.allow)
	}
	ctx.Response.Header.Set(fasthttp.HeaderAllow, l.allow)
}

func (s *Server) begin(ctx *fasthttp.RequestCtx) *state {
	st, _ := s.states.Get().(*state)
	st.params, st.close = 0, false
	st.id = s.ids.append(st.id[:0], ctx.Request.Header.Peek("X-Request-Id"))
	ctx.SetUserValue(stateKey{}, st)
	setCommon(ctx, st)
	return st
}

// setCommon sets the headers that every answer bears.
func setCommon(ctx *fasthttp.RequestCtx, st *state) {
	ctx.Response.Header.SetBytesV("X-Request-Id", st.id)
	ctx.Response.Header.Set(fasthttp.HeaderXContentTypeOptions, "nosniff")
	ctx.Response.Header.Set(fasthttp.HeaderVary, "Origin")
}

func (s *Server) end(ctx *fasthttp.RequestCtx, st *state, meter *routeMeter) {
	took := time.Since(ctx.Time())
	meter.observe(ctx.Response.StatusCode(), took)
	if s.cfg.Logger.Enabled(ctx, slog.LevelDebug) {
		s.cfg.Logger.DebugContext(ctx, "request",
			"request_id", string(st.id), "method", Echo(ctx.Method()), "path", Echo(rawPath(ctx.RequestURI())),
			"status", ctx.Response.StatusCode(), "took", took)
	}
	if (st.close || s.stopped.Load()) && !ctx.Hijacked() {
		ctx.SetConnectionClose()
	}
	ctx.RemoveUserValue(stateKey{})
	st.values = [maxParams][]byte{}
	s.states.Put(st)
	if c, ok := ctx.Conn().(*conn); ok {
		c.lineSeen = false
	}
}

// rawPath returns the path of a request target as it was sent.
func rawPath(target []byte) []byte {
	for i, c := range target {
		if c == '?' {
			return target[:i]
		}
	}
	return target
}
