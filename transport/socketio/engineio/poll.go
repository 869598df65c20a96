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

// answerMost bounds what a poll is answered with, in bytes, but for the last batch:
// a poll takes many of them while there are more, and no more than a slow client reads
// within the gate's WriteTimeout.
const answerMost = 64 << 10

// servePoll answers a GET with what there is to say, and waits for it.
func (s *Session) servePoll(ctx *fasthttp.RequestCtx) {
	refuse := s.beginPoll()
	if refuse != nil {
		refuse(ctx)
		return
	}
	body, written := s.compose(nil)
	for written {
		s.written() // which may write more
		if written = false; len(body) < answerMost {
			body, written = s.compose(body)
		}
	}
	answer(ctx, fasthttp.StatusOK, pollType, s.endPoll(body))
}

// beginPoll returns once there is something to answer a GET with, or how it is refused.
func (s *Session) beginPoll() (refuse func(*fasthttp.RequestCtx)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.conn != nil: // also one that has ended
		return badRequest.answer
	case s.ended && s.last == "":
		return unknownSession.answer
	case s.overdue(): // its timer just has not run
		s.end(wire.CloseNoPong, "no pong", farewellClose, false)
		return unknownSession.answer
	case s.polling:
		s.end(wire.ClosePolicy, "overlapping polls", farewellClose, false)
		return badRequest.answer
	}
	s.polling = true
	switch {
	case !s.ready() && !s.hold(s.probe != nil && s.probe.probed):
		refuse = crowded
	case s.conn != nil: // a client ends its poll before it completes the upgrade
		refuse = badRequest.answer
	}
	s.polling = refuse == nil
	return refuse
}

// endPoll returns the answer with what stands last.
func (s *Session) endPoll(body []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.polling = false
	if s.ended && s.last != "" {
		body = packet.AppendText(body, []byte(s.last))
		s.last = ""
		s.server.forget(s.sid)
	}
	if len(body) == 0 {
		body = packet.AppendEngine(body, packet.Engine{Type: packet.EngineNoop})
	}
	return body
}

// crowded refuses a poll that there is no room to hold.
func crowded(ctx *fasthttp.RequestCtx) {
	gate.Problem(ctx, fasthttp.StatusServiceUnavailable, "overloaded", "too many polls are open", "try again later, or use a websocket")
	ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, "1")
}

// ready reports whether a poll is answered at once; mu is held.
func (s *Session) ready() bool { return s.ended || s.ping || len(s.out) > 0 }

// brief is how long a poll is held during an upgrade: the client wants to be rid of
// it before it completes the upgrade. One that does not wait for that is past polling.
const brief = 50 * time.Millisecond

// hold waits until the session has something for a poll, the next ping at the latest,
// with mu released meanwhile. It reports whether there was room to wait.
func (s *Session) hold(briefly bool) bool {
	if !take(&s.server.polls, s.server.cfg.Polls) {
		return false
	}
	held := make(chan struct{})
	s.held = held
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
	s.held = nil
	return true
}

// compose takes what there is for a poll. written says that Handler.Written is due.
func (s *Session) compose(body []byte) (_ []byte, written bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil { // which got it
		return body, false
	}
	if s.ping {
		body = packet.AppendEngine(body, packet.Engine{Type: packet.EnginePing})
		s.ping = false
	}
	for _, chunk := range s.out {
		body = appendFrames(body, chunk.Bytes)
	}
	written, s.owed = s.owed && !s.ended, false
	s.out, s.sent = nil, 0
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
