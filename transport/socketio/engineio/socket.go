package engineio

import (
	"time"

	"github.com/velocimeter/velocimeter/transport/socketio/packet"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/ws"
)

// socket is a websocket: its session's transport, or on its way to be that.
type socket struct {
	session *Session
	link    ws.Link
	probed  bool // guarded by Session.mu, as is what it is for the session
}

var _ ws.User = (*socket)(nil)

// control sends a packet of Engine.IO's own.
func (k *socket) control(t packet.EngineType, data string) {
	k.link.Control(ws.AppendFrame(nil, false, append([]byte{byte(t)}, data...)))
}

const probeText = "probe"

// offer takes a websocket for the upgrade of the session. It closes one that comes
// too late, or beside another; neither is the session's end.
func (s *Session) offer(link ws.Link) ws.User {
	k := &socket{session: s, link: link}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.conn != nil || s.probe != nil {
		link.Close(wire.ClosePolicy, "the session has a websocket already, or is over")
		return k
	}
	s.probe = k
	s.patient = time.AfterFunc(s.server.cfg.UpgradeTimeout, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.probe == k {
			s.dropProbe(wire.ClosePolicy, "the upgrade took too long")
		}
	})
	return k
}

// dropProbe closes the websocket that was to be; mu is held.
func (s *Session) dropProbe(code wire.CloseCode, reason string) {
	if k := s.probe; k != nil {
		s.probe = nil
		s.patient.Stop()
		k.link.Close(code, reason)
	}
}

// Message implements ws.User.
func (k *socket) Message(binary bool, p []byte) {
	s := k.session
	s.mu.Lock()
	mine, probe := s.conn == k && !s.ended, s.probe == k
	written := false
	if probe {
		written = s.probing(k, binary, p)
	}
	s.mu.Unlock()
	switch {
	case written:
		s.written()
	case !mine:
	case binary:
		s.receive(packet.Engine{Type: packet.EngineMessage, Binary: true, Data: p})
	default:
		e, err := packet.ParseEngine(p)
		if err != nil {
			s.fail(wire.CloseProtocol, err.Error())
			return
		}
		s.receive(e)
	}
}

// probing takes a message of the websocket that is to be; mu is held. It reports
// whether Handler.Written is due.
func (s *Session) probing(k *socket, binary bool, p []byte) (written bool) {
	switch {
	case !binary && !k.probed && string(p) == string(packet.EnginePing)+probeText:
		k.probed = true
		k.control(packet.EnginePong, probeText)
		time.AfterFunc(brief, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.wake() // the client waits for its poll to end
		})
	case !binary && k.probed && string(p) == string(packet.EngineUpgrade):
		return s.upgrade(k)
	default:
		s.dropProbe(wire.CloseProtocol, "packet out of place")
	}
	return false
}

// upgrade makes the websocket the session's transport; mu is held. It reports whether
// Handler.Written is due.
func (s *Session) upgrade(k *socket) (written bool) {
	s.probe, s.conn = nil, k
	s.patient.Stop()
	if s.ping {
		s.ping = false
		k.control(packet.EnginePing, "")
	}
	s.pump()
	s.wake()
	written = s.owed && !s.busy
	s.owed = s.owed && s.busy
	return written
}

// Written implements ws.User.
func (k *socket) Written() {
	s := k.session
	s.mu.Lock()
	if s.conn != k || s.ended {
		s.mu.Unlock()
		return
	}
	s.busy = false
	s.pump()
	written := s.owed && !s.busy
	s.owed = s.owed && s.busy
	s.mu.Unlock()
	if written {
		s.written()
	}
}

// Closing implements ws.User.
func (k *socket) Closing(code wire.CloseCode) {
	s := k.session
	s.mu.Lock()
	defer s.mu.Unlock()
	switch k {
	case s.conn:
		s.finish(code)
	case s.probe:
		s.dropProbe(code, "") // it is closing already
	}
}

// Gone implements ws.User.
func (k *socket) Gone() {
	s := k.session
	s.mu.Lock()
	if s.probe == k {
		s.dropProbe(wire.CloseNormal, "")
	}
	mine := s.conn == k
	if mine {
		s.finish(0)
		s.out = nil
	}
	s.mu.Unlock()
	if mine {
		s.server.forget(s.sid)
		s.bury()
	}
}
