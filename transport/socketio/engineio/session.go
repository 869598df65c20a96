package engineio

import (
	"net/netip"
	"sync"
	"time"

	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/socketio/packet"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/ws"
)

// Session is one client, by whichever transport. It is the link of a fan-out
// session. Safe for concurrent use.
type Session struct {
	server    *Server
	sid       string
	addr      netip.Addr
	admission Admission

	calls   sync.Mutex // held while the handler runs
	handler Handler    // nil before it is made, and where that panicked
	over    bool       // Handler.Gone was called

	mu   sync.Mutex
	out  []fanout.Chunk // whole frames that no transport has taken
	sent int            // bytes of Send among them
	owed bool           // Handler.Written
	conn *socket        // the websocket; nil while polling
	busy bool           // it holds what it could not write

	polling bool          // a poll is being answered
	held    chan struct{} // it waits for that to be closed; nil if it does not
	posting bool          // a POST is being worked on
	probe   *socket       // a websocket on its way to an upgrade; nil for none

	ping    bool // a poll is to bring one
	awaited bool // a pong is
	due     time.Time
	pulse   *time.Timer // at due
	patient *time.Timer // ends the probe
	timer   *time.Timer // of SetTimer

	ended bool
	code  wire.CloseCode
	last  string // packet that a poll gets after the end, once; "" for none
}

var _ fanout.Stager = (*Session)(nil)

// newSession enlists a session, with its websocket or nil. An end follows, sooner or
// later.
func newSession(server *Server, o *Opening, conn *socket) *Session {
	s := &Session{server: server, addr: o.Addr, admission: o.Admission, conn: conn}
	s.mu.Lock() // nobody may see it before it is whole
	defer s.mu.Unlock()
	s.due = time.Now().Add(server.cfg.PingInterval)
	s.pulse = time.AfterFunc(server.cfg.PingInterval, s.beat)
	if conn != nil {
		conn.session = s
	}
	if !server.enlist(s) {
		s.end(wire.CloseGoingAway, "server shuts down", farewellClose, false)
	}
	return s
}

// begin makes the handler.
func (s *Session) begin(o Opening) {
	s.call(func() { s.handler = s.server.open(s, o) })
}

// written tells the handler that what it wrote is taken.
func (s *Session) written() {
	s.call(func() {
		if s.alive() {
			s.handler.Written()
		}
	})
}

// SID returns the session's id.
func (s *Session) SID() string { return s.sid }

// RemoteAddr returns the address that the session began from.
func (s *Session) RemoteAddr() netip.Addr { return s.addr }

// Transport returns "polling" or "websocket".
func (s *Session) Transport() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		return byWebSocket
	}
	return byPolling
}

// call calls the handler. A panic ends the session.
func (s *Session) call(fn func()) {
	s.calls.Lock()
	defer s.calls.Unlock()
	defer func() {
		if r := recover(); r != nil {
			s.server.panicked(r)
			s.fail(wire.CloseInternal, "internal error")
		}
	}()
	if !s.over {
		fn()
	}
}

// AppendHead appends what stands before the text of a Socket.IO packet of n bytes:
// the head of a frame and the type of a message.
func AppendHead(dst []byte, n int) []byte {
	return append(ws.AppendHead(dst, false, n+1), byte(packet.EngineMessage))
}

// TryWrite implements fanout.Link. Chunks are frames that AppendHead began.
func (s *Session) TryWrite(batch []fanout.Chunk) (pending bool) {
	return s.write(batch, func() bool { return s.conn.link.TryWrite(batch) })
}

// Stage implements fanout.Stager.
func (s *Session) Stage(out fanout.Outbox, batch []fanout.Chunk) (pending bool) {
	return s.write(batch, func() bool { return s.conn.link.Stage(out, batch) })
}

func (s *Session) write(batch []fanout.Chunk, through func() bool) (pending bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended:
		return true // taken and dropped
	case s.conn != nil && !s.busy && len(s.out) == 0:
		s.busy = through()
		s.owed = s.busy
		return s.busy
	}
	s.keep(batch)
	s.owed = true
	s.wake()
	return true
}

// keep copies what is not shared; mu is held.
func (s *Session) keep(batch []fanout.Chunk) {
	var own []byte
	for _, chunk := range batch {
		if !chunk.Shared {
			own = append(own, chunk.Bytes...)
			continue
		}
		if own != nil {
			s.out, own = append(s.out, fanout.Chunk{Bytes: own, Shared: true}), nil
		}
		s.out = append(s.out, chunk)
	}
	if own != nil {
		s.out = append(s.out, fanout.Chunk{Bytes: own, Shared: true})
	}
}

// Send sends one Socket.IO packet by itself, where no fan-out session writes. A client
// that lets twice MaxPayload of them pile up is closed.
func (s *Session) Send(text []byte) {
	s.send(append(AppendHead(make([]byte, 0, len(text)+16), len(text)), text...))
}

// SendBinary sends one message of bytes, such as an attachment, likewise.
func (s *Session) SendBinary(data []byte) { s.send(ws.AppendFrame(nil, true, data)) }

func (s *Session) send(frame []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	if s.sent += len(frame); s.sent > 2*s.server.cfg.MaxPayload+len(frame) {
		s.end(wire.CloseSlow, "the client reads too slowly", farewellClose, false)
		return
	}
	s.out = append(s.out, fanout.Chunk{Bytes: frame, Shared: true})
	if s.conn != nil {
		s.pump()
	}
	s.wake()
}

// pump writes to the websocket what waits for it; mu is held. What the websocket
// keeps counts as sent.
func (s *Session) pump() {
	if s.busy || len(s.out) == 0 {
		return
	}
	s.busy = s.conn.link.TryWrite(s.out)
	s.out, s.sent = nil, 0
}

// wake makes the poll that is held look again; mu is held.
func (s *Session) wake() {
	if s.held != nil {
		close(s.held)
		s.held = nil
	}
}

// SetTimer asks for a call of fn after d, as one of the handler's calls, and not for
// what was asked before; d of 0 asks for nothing.
func (s *Session) SetTimer(d time.Duration, fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	if d <= 0 || s.ended {
		return
	}
	var mine *time.Timer
	mine = time.AfterFunc(d, func() {
		s.call(func() {
			s.mu.Lock()
			meant := s.timer == mine && !s.ended
			s.mu.Unlock()
			if meant {
				fn()
			}
		})
	})
	s.timer = mine
}

// Close implements fanout.Link. A poll learns of it with a close packet, behind what
// was taken.
func (s *Session) Close(code wire.CloseCode, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(code, reason, farewellClose, true)
}

// Abort implements fanout.Link.
func (s *Session) Abort() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.conn.link.Abort()
	}
	s.end(wire.CloseInternal, "", farewellClose, false)
}

// fail closes for a fault of somebody's.
func (s *Session) fail(code wire.CloseCode, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(code, reason, farewellClose, false)
}

// What a poll is told at the end: that the server closes, or that it may stop.
const (
	farewellClose = string(packet.EngineClose)
	farewellNoop  = string(packet.EngineNoop)
)

// end ends the session; mu is held. The farewell goes to the poll that is held, or,
// if linger, to the next one that comes in time.
func (s *Session) end(code wire.CloseCode, reason, farewell string, linger bool) {
	if !s.finish(code) {
		return
	}
	if s.conn != nil {
		s.out = nil
		s.server.forget(s.sid)
		s.conn.link.Close(code, reason) // Gone follows
		return
	}
	switch {
	case s.polling:
		s.last = farewell
		s.wake()
		s.server.forget(s.sid)
	case linger && take(&s.server.lingering, s.server.cfg.Polls):
		s.last = farewell
		time.AfterFunc(s.server.cfg.LastWords, func() {
			s.server.forget(s.sid)
			s.server.lingering.Add(-1)
		})
	default:
		s.out = nil
		s.server.forget(s.sid)
	}
	go s.bury() // not now: the handler may be what called
}

// finish marks the end, once; mu is held.
func (s *Session) finish(code wire.CloseCode) (first bool) {
	if s.ended {
		return false
	}
	s.ended, s.code = true, code
	s.pulse.Stop()
	if s.timer != nil {
		s.timer.Stop()
	}
	s.dropProbe(wire.CloseNormal, "the session is over")
	return true
}

// bury tells the handler. It is called once, when no bytes are used any more.
func (s *Session) bury() {
	defer s.server.acceptor.Leave()
	defer s.admission.Release()
	s.call(func() {
		s.over = true
		if s.handler != nil {
			s.handler.Gone(s.code)
		}
	})
}

// alive reports whether the session has not ended.
func (s *Session) alive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.ended
}

// receive takes a packet of the client, by either transport. It reports whether the
// session goes on.
func (s *Session) receive(e packet.Engine) bool {
	switch e.Type {
	case packet.EngineMessage:
		s.call(func() {
			switch {
			case !s.alive(): // it may have ended while this waited for its turn
			case e.Binary:
				s.handler.Binary(e.Data)
			default:
				s.handler.Text(e.Data)
			}
		})
	case packet.EnginePong:
		s.pong()
	case packet.EngineClose:
		s.mu.Lock()
		s.end(wire.CloseNormal, "", farewellNoop, true)
		s.mu.Unlock()
	default:
		s.fail(wire.CloseProtocol, "packet out of place")
	}
	return s.alive()
}

// beat is due when a ping is, or when a pong did not come.
func (s *Session) beat() {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := time.Until(s.due)
	switch {
	case s.ended:
		return
	case wait > 0: // the pong came when this was on its way
	case s.awaited:
		s.end(wire.CloseNoPong, "no pong", farewellClose, false)
		return
	default:
		s.awaited = true
		if s.conn != nil {
			s.conn.control(packet.EnginePing, "")
		} else {
			s.ping = true
			s.wake()
		}
		late := -wait
		if wait = s.server.cfg.PingTimeout; late < wait/4 { // else the client is not to blame
			wait -= late
		}
		s.due = time.Now().Add(wait)
	}
	s.pulse.Reset(wait)
}

// overdue reports whether a pong should have come; mu is held.
func (s *Session) overdue() bool { return s.awaited && !s.ended && !time.Now().Before(s.due) }

func (s *Session) pong() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.awaited || s.ping {
		s.end(wire.CloseProtocol, "pong without ping", farewellClose, false)
		return
	}
	if !s.ended {
		s.awaited = false
		s.due = time.Now().Add(s.server.cfg.PingInterval)
		s.pulse.Reset(s.server.cfg.PingInterval)
	}
}
