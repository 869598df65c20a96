package engineio

import (
	"bytes"

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
	s.mu.Lock()
	switch {
	case s.conn != nil: // also one that has ended
		s.mu.Unlock()
		badRequest.answer(ctx)
		return
	case s.ended && s.last == "":
		s.mu.Unlock()
		unknownSession.answer(ctx)
		return
	case s.polling:
		s.end(wire.ClosePolicy, "overlapping polls", farewellClose, false)
		s.mu.Unlock()
		badRequest.answer(ctx)
		return
	}
	s.polling = true
	if !s.ready() && !s.hold() {
		s.polling = false
		s.mu.Unlock()
		gate.Problem(ctx, fasthttp.StatusServiceUnavailable, "overloaded", "too many polls are open", "try again later, or use a websocket")
		ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, "1")
		return
	}
	body, written := s.compose()
	s.polling = false
	s.mu.Unlock()
	answer(ctx, fasthttp.StatusOK, pollType, body)
	if written {
		s.written()
	}
}

// ready reports whether a poll is answered at once; mu is held. During an upgrade
// it is: the client wants to be rid of it.
func (s *Session) ready() bool {
	return s.ended || s.ping || len(s.out) > 0 || s.probe != nil && s.probe.probed
}

// hold waits until the session has something for a poll, the next ping at the latest,
// with mu released meanwhile. It reports whether there was room to wait.
func (s *Session) hold() bool {
	if !take(&s.server.polls, s.server.cfg.Polls) {
		return false
	}
	held := make(chan struct{})
	s.held = held
	s.mu.Unlock()
	<-held
	s.server.polls.Add(-1)
	s.mu.Lock()
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
	s.mu.Lock()
	switch {
	case s.conn != nil:
		s.mu.Unlock()
		badRequest.answer(ctx)
		return
	case s.ended:
		s.mu.Unlock()
		unknownSession.answer(ctx)
		return
	case s.posting:
		s.end(wire.ClosePolicy, "overlapping posts", farewellClose, false)
	case bytes.Equal(ctx.Request.Header.ContentType(), []byte("application/octet-stream")): // version 3's
		s.end(wire.CloseWrongType, "binary payload", farewellClose, false)
	case len(body) > s.server.cfg.MaxPayload:
		s.end(wire.CloseTooBig, "payload above the limit", farewellClose, false)
		s.mu.Unlock()
		gate.TooLarge(ctx)
		return
	default:
		s.posting = true
	}
	ended := s.ended
	s.mu.Unlock()
	if ended || !s.digest(body) {
		badRequest.answer(ctx)
		return
	}
	answer(ctx, fasthttp.StatusOK, postType, []byte("ok"))
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
	if one := s.find(q.sid); one != nil && q.transport == polling && ws.OriginAllowed(ctx, s.cfg.Origins) {
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
