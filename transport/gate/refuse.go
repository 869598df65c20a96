package gate

import (
	"errors"
	"net"

	"github.com/valyala/fasthttp"
)

// refuse answers what fasthttp could not read as a request. fasthttp closes
// the connection after it.
func (s *Server) refuse(ctx *fasthttp.RequestCtx, err error) {
	s.answerEarly(ctx, s.violationOf(ctx, err))
}

// answerEarly answers outside Handle, with a request id of its own.
func (s *Server) answerEarly(ctx *fasthttp.RequestCtx, v *violation) {
	st, _ := s.states.Get().(*state)
	st.params = 0
	st.id = s.ids.append(st.id[:0], nil)
	ctx.SetUserValue(stateKey{}, st)
	ctx.Response.Reset()
	setCommon(ctx, st)
	v.answer(ctx)
	if v == vBodyLong {
		s.tellOversize(ctx, st)
	}
	s.meters.refused.observe(v.status, 0)
	ctx.RemoveUserValue(stateKey{})
	s.states.Put(st)
}

// tellOversize tells the route of a request whose body is not read, where fasthttp
// has left the head standing.
func (s *Server) tellOversize(ctx *fasthttp.RequestCtx, st *state) {
	defer s.rescue(ctx)
	if len(ctx.Request.Header.Host()) == 0 || s.check(ctx) != nil {
		return
	}
	if l := s.router.find(rawPath(ctx.RequestURI()), st); l != nil {
		if e := l.methods[string(ctx.Method())]; e != nil && e.large != nil {
			e.large(ctx)
		}
	}
}

// TooLarge answers as the gate does a body above its limit, for routes whose own is
// smaller.
func TooLarge(ctx *fasthttp.RequestCtx) { vBodyLong.answer(ctx) }

func (s *Server) violationOf(ctx *fasthttp.RequestCtx, err error) *violation {
	var small *fasthttp.ErrSmallBuffer
	var netErr net.Error
	switch {
	case errors.As(err, &small):
		if c, ok := ctx.Conn().(*conn); ok && !c.lineSeen {
			return vURILong
		}
		return vHeaderLong
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		// A body on a request that is refused anyway is refused as that, where
		// fasthttp has left the header standing.
		if len(ctx.Request.Header.Host()) > 0 {
			if v := s.check(ctx); v != nil {
				return v
			}
		}
		return vBodyLong
	case errors.As(err, &netErr) && netErr.Timeout():
		return vTimeout
	case errors.Is(err, fasthttp.ErrUnsupportedTransferEncoding):
		if c, ok := ctx.Conn().(*conn); ok && c.unknown {
			return vCoding
		}
		return vFraming
	}
	return vMalformed
}

// hangUp ends the connection after the answer, reading on for a moment so that
// the answer survives data that the client is still sending.
func hangUp(ctx *fasthttp.RequestCtx) {
	ctx.SetConnectionClose()
	if c, ok := ctx.Conn().(*conn); ok {
		c.linger = true
	}
}
