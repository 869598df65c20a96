package engineio

import (
	"time"

	"github.com/valyala/fasthttp"

	"github.com/velocimeter/velocimeter/transport/gate"
	"github.com/velocimeter/velocimeter/transport/socketio/packet"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/ws"
)

const (
	pollType = "text/plain; charset=UTF-8"
	postType = "text/html" // text/plain made some browsers offer a download
)

// servePoll answers a GET with what there is to say, and waits for it.
func (s *Session) servePoll(ctx *fasthttp.RequestCtx) {
	body, written, refuse := s.poll()
	if refuse != nil {
		refuse(ctx)
		return
	}
	answer(ctx, fasthttp.StatusOK, pollType, body)
	if written {
		s.written()
	}
}

// poll returns what a GET is answered with, and whether Handler.Written is due; or
// how it is refused.
func (s *Session) poll() (body []byte, written bool, refuse func(*fasthttp.RequestCtx)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.conn != nil: // also one that has ended
		return nil, false, badRequest.answer
	case s.ended && s.last == "":
		return nil, false, unknownSession.answer
	case s.polling:
		s.end(wire.ClosePolicy, "overlapping polls", farewellClose, false)
		return nil, false, badRequest.answer
	}
	probed := s.probe != nil && s.probe.probed
	if !s.ready() && !s.hold(probed) {
		return nil, false, crowded
	}
	if probed && s.conn != nil { // a moment later it would have been too late
		return nil, false, badRequest.answer
	}
	body, written = s.compose()
	return body, written, nil
}

// crowded refuses a poll that there is no room to hold.
func crowded(ctx *fasthttp.RequestCtx) {
	gate.Problem(ctx, fasthttp.StatusServiceUnavailable, "overloaded", "too many polls are open", "try again later, or use a websocket")
	ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, "1")
}

// ready reports whether a poll is answered at once; mu is held.
func (s *Session) ready() bool { return s.ended || s.ping || len(s.out) > 0 }

// brief is how long a poll is held that comes during an upgrade: the client wants to
// be rid of it before it completes the upgrade.
const brief = 100 * time.Millisecond

// hold waits until the session has something for a poll, the next ping at the latest,
// with mu released meanwhile. It reports whether there was room to wait.
func (s *Session) hold(briefly bool) bool {
	if !take(&s.server.polls, s.server.cfg.Polls) {
		return false
	}
	held := make(chan struct{})
	s.held, s.polling = held, true
	s.mu.Unlock()
	if briefly {
		after := time.NewTimer(brief)
		select {
		case <-held:
		case <-after.C:
		}
		after.Stop()
	} else {
		<-held
	}
	s.server.polls.Add(-1)
	s.mu.Lock()
	s.held, s.polling = nil, false
	return true
}

// compose takes what a poll is answered with; mu is held. written says that
// Handler.Written is due.
func (s *Session) compose() (body []byte, written bool) {
	if s.conn == nil { // else the poll comes too late
		if s.ping {
			body = packet.AppendEngine(body, packet.Engine{Type: packet.EnginePing})
			s.ping = false
		}
		for _, chunk := range s.out {
			body = appendFrames(body, chunk.Bytes)
		}
		written, s.owed = s.owed && !s.ended, false
		s.out, s.sent = nil, 0
	}
	if s.ended && s.last != "" {
		body = packet.AppendText(body, []byte(s.last))
		s.last = ""
		s.server.forget(s.sid)
	}
	if len(body) == 0 {
		body = packet.AppendEngine(body, packet.Engine{Type: packet.EngineNoop})
	}
	return body, written
}

// appendFrames appends the packets in frames of the server as they stand in a payload.
func appendFrames(dst, frames []byte) []byte {
	for len(frames) > 0 {
		payload, binary, rest := ws.CutFrame(frames)
		if binary {
			dst = packet.AppendEngine(dst, packet.Engine{Type: packet.EngineMessage, Binary: true, Data: payload})
		} else {
			dst = packet.AppendText(dst, payload)
		}
		frames = rest
	}
	return dst
}

// servePost takes the packets of a POST.
func (s *Session) servePost(ctx *fasthttp.RequestCtx) {
	body := ctx.PostBody()
	if refuse := s.beginPost(ctx.Request.Header.ContentType(), len(body)); refuse != nil {
		refuse(ctx)
		return
	}
	if !s.digest(body) {
		badRequest.answer(ctx)
		return
	}
	answer(ctx, fasthttp.StatusOK, postType, []byte("ok"))
}

// beginPost marks that a POST is worked on, or returns how it is refused.
func (s *Session) beginPost(contentType []byte, size int) (refuse func(*fasthttp.RequestCtx)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.conn != nil:
		return badRequest.answer
	case s.ended:
		return unknownSession.answer
	case s.posting:
		s.end(wire.ClosePolicy, "overlapping posts", farewellClose, false)
		return badRequest.answer
	case string(contentType) == "application/octet-stream": // version 3's
		s.end(wire.CloseWrongType, "binary payload", farewellClose, false)
		return badRequest.answer
	case size > s.server.cfg.MaxPayload:
		s.end(wire.CloseTooBig, "payload above the limit", farewellClose, false)
		return gate.TooLarge
	}
	s.posting = true
	return nil
}

// digest works on the packets of a POST. It reports whether all were taken, a last
// close among them; a payload with a fault is not begun.
func (s *Session) digest(body []byte) (ok bool) {
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.posting = false
		ok = ok && (!s.ended || s.code == wire.CloseNormal)
	}()
	var some [packet.MaxPackets]packet.Engine
	packets, err := packet.ParsePayload(some[:0], body, s.server.cfg.MaxPayload)
	if err != nil {
		s.fail(wire.CloseProtocol, err.Error())
		return false
	}
	for _, e := range packets {
		if !s.receive(e) {
			break
		}
	}
	return true
}

// oversize is told of a POST whose body the gate does not read.
func (s *Server) oversize(ctx *fasthttp.RequestCtx) {
	s.allow(ctx)
	q := readQuery(ctx.QueryArgs())
	if one := s.find(q.sid); one != nil && q.transport == byPolling && ws.OriginAllowed(ctx, s.cfg.Origins) {
		one.tooBig()
	}
}

func (s *Session) tooBig() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		s.end(wire.CloseTooBig, "payload above the limit", farewellClose, false)
	}
}
