package gate

import (
	"runtime/debug"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// panicLog lets one stack a minute through.
type panicLog struct {
	mu         sync.Mutex
	last       time.Time
	suppressed int
}

// take reports whether to log now, and how many were swallowed since the last.
func (p *panicLog) take(now time.Time) (suppressed int, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.last.IsZero() && now.Sub(p.last) < time.Minute {
		p.suppressed++
		return 0, false
	}
	suppressed, p.suppressed, p.last = p.suppressed, 0, now
	return suppressed, true
}

// rescue turns a handler's panic into a 500 and ends that connection. It must
// be deferred directly.
func (s *Server) rescue(ctx *fasthttp.RequestCtx) {
	v := recover()
	if v == nil {
		return
	}
	s.meters.panics.Inc()
	if suppressed, ok := s.panics.take(time.Now()); ok {
		s.cfg.Logger.Error("a handler panicked", "request_id", RequestID(ctx), "panic", v,
			"stack", string(debug.Stack()), "suppressed", suppressed)
	}
	ctx.Hijack(nil)
	Problem(ctx, fasthttp.StatusInternalServerError, "internal", "the server failed on this request",
		"retry; if it goes on failing, report the instance")
	ctx.SetConnectionClose()
}
