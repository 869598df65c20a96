package engineio

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"net/netip"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/valyala/fasthttp"

	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/fanout/loop"
	"github.com/velocimeter/velocimeter/transport/gate"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/ws"
)

// Server answers requests of Engine.IO and has the sessions. Safe for concurrent use.
type Server struct {
	cfg       Config
	open      func(*Session, Opening) Handler
	acceptor  *ws.Acceptor
	polls     atomic.Int64 // held
	lingering atomic.Int64 // closed sessions with last words; at most Config.Polls

	mu       sync.Mutex
	sessions map[string]*Session
	closed   bool
}

// New returns a server whose websockets the loops serve. It starts nothing. open
// makes the handler of a new session, which it may write to already.
func New(cfg Config, loops *loop.Group, open func(*Session, Opening) Handler) *Server {
	cfg.setDefaults()
	return &Server{
		cfg: cfg, open: open, sessions: make(map[string]*Session),
		acceptor: ws.NewAcceptor(ws.Config{Origins: cfg.Origins, Logger: cfg.Logger}, cfg.MaxPayload, loops),
	}
}

// Routes returns the routes for the gate, which must keep hijacked connections. A
// body above the gate's MaxBody ends its session as one above MaxPayload does.
func (s *Server) Routes() []gate.Route {
	routes := []gate.Route{
		{Method: fasthttp.MethodGet, Endless: true, Serve: s.serve},
		{Method: fasthttp.MethodPost, Serve: s.serve, Oversize: s.oversize},
		{Method: fasthttp.MethodOptions, Serve: s.preflight},
	}
	for _, method := range []string{fasthttp.MethodPut, fasthttp.MethodPatch, fasthttp.MethodDelete} {
		routes = append(routes, gate.Route{Method: method, Serve: s.serve})
	}
	for i := range routes {
		routes[i].Path, routes[i].Name = s.cfg.Path, "socketio"
	}
	return routes
}

// Shutdown ends every session with the code, and lets none begin any more.
func (s *Server) Shutdown(code wire.CloseCode) {
	s.mu.Lock()
	s.closed = true
	all := make([]*Session, 0, len(s.sessions))
	for _, one := range s.sessions {
		all = append(all, one)
	}
	s.mu.Unlock()
	for _, one := range all {
		one.Close(code, "server shuts down")
	}
}

// Wait returns when the last session is gone; Shutdown sees to that. When ctx ends
// first the error says how many are left.
func (s *Server) Wait(ctx context.Context) error { return s.acceptor.Wait(ctx) }

// Sessions returns how many sessions there are.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// find returns the session of a sid, or nil. It may have ended.
func (s *Server) find(sid string) *Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[sid]
}

// admit makes room for a session.
func (s *Server) admit(addr netip.Addr) (Admission, error) {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return nil, fanout.ErrDraining
	}
	return s.cfg.Admit(addr)
}

// enlist gives a session its sid and counts it; it has not once Shutdown was called.
func (s *Server) enlist(one *Session) bool {
	var raw [16]byte
	_, _ = rand.Read(raw[:]) // never fails; see crypto/rand
	one.sid = base64.RawURLEncoding.EncodeToString(raw[:])
	s.acceptor.Enter()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions[one.sid] = one
	return !s.closed
}

func (s *Server) forget(sid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, sid)
}

// take counts up to the limit, and reports whether there was room.
func take(n *atomic.Int64, most int) bool {
	if n.Add(1) > int64(most) {
		n.Add(-1)
		return false
	}
	return true
}

// appendOpen appends the packet that a session begins with.
func (s *Server) appendOpen(dst []byte, sid, upgrades string) []byte {
	dst = append(append(dst, `0{"sid":"`...), sid...)
	dst = append(append(dst, `","upgrades":[`...), upgrades...)
	dst = strconv.AppendInt(append(dst, `],"pingInterval":`...), s.cfg.PingInterval.Milliseconds(), 10)
	dst = strconv.AppendInt(append(dst, `,"pingTimeout":`...), s.cfg.PingTimeout.Milliseconds(), 10)
	dst = strconv.AppendInt(append(dst, `,"maxPayload":`...), int64(s.cfg.MaxPayload), 10)
	return append(dst, '}')
}

func (s *Server) panicked(reason any) {
	s.cfg.Logger.Error("socket.io session panicked", "reason", reason, "stack", string(debug.Stack()))
}
