package socketio

import (
	"context"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/fanout/loop"
	"github.com/velocimeter/velocimeter/transport/gate"
	"github.com/velocimeter/velocimeter/transport/socketio/engineio"
	"github.com/velocimeter/velocimeter/transport/socketio/packet"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// Config sets times and sizes. The zero value of a member means its default.
type Config struct {
	ConnectWait time.Duration // 10 s for a CONNECT, from the handshake on
	Remember    time.Duration // 2 min in which a client that lost its connection may go on
	Memory      int           // 64 MiB for what such clients had
	Polls       int           // 1,000 polls that are held at once
	// Origins are allowed beside the server's own, such as https://example.com.
	Origins []string
	// Find returns the token that has a slug or an id in digits; nil where there is none.
	Find func(text string) *market.Snapshot
	// Logger receives panics; nil discards.
	Logger *slog.Logger
}

func (c *Config) setDefaults() {
	if c.ConnectWait == 0 {
		c.ConnectWait = 10 * time.Second
	}
	if c.Remember == 0 {
		c.Remember = 2 * time.Minute
	}
	if c.Memory == 0 {
		c.Memory = 64 << 20
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// Server serves Socket.IO. Safe for concurrent use.
type Server struct {
	cfg        Config
	hub        *fanout.Hub
	engine     *engineio.Server
	namespaces map[string]namespace
	live       lives
	waiting    strangers
	memories   *memories
	clients    atomic.Int64
	recovered  atomic.Uint64
}

// New returns a server for the hub's stream on the loops. It starts nothing.
func New(cfg Config, hub *fanout.Hub, loops *loop.Group) *Server {
	s := newServer(cfg, engineio.Config{
		Polls: cfg.Polls, Origins: cfg.Origins, Logger: cfg.Logger,
		Admit: func(addr netip.Addr) (engineio.Admission, error) {
			lease, err := hub.Admit(fanout.Visitor{Addr: addr, Over: "socket.io"})
			if err != nil {
				return nil, err
			}
			return lease, nil
		},
	}, loops)
	s.hub = hub
	s.namespaces[packet.Main] = tokens{s}
	return s
}

// newServer returns one without a namespace.
func newServer(cfg Config, engine engineio.Config, loops *loop.Group) *Server {
	cfg.setDefaults()
	s := &Server{
		cfg: cfg, namespaces: make(map[string]namespace), live: lives{by: make(map[string]*socket)},
		waiting: strangers{all: make(map[*client]struct{})}, memories: newMemories(cfg.Remember, cfg.Memory),
	}
	s.engine = engineio.New(engine, loops, func(session *engineio.Session, how engineio.Opening) engineio.Handler {
		return s.open(session, how.Admission)
	})
	return s
}

// Routes returns the routes for the gate, which must keep hijacked connections.
func (s *Server) Routes() []gate.Route { return s.engine.Routes() }

// Close lets nobody in any more, and ends the connections of clients that are in no
// namespace. fanout.Hub.Shutdown ends those of the others.
func (s *Server) Close() {
	s.memories.close()
	for _, c := range s.waiting.close() {
		c.close(wire.CloseRestart, "server restarts")
	}
}

// Wait returns when the last connection is gone. When ctx ends first the error says
// how many are left.
func (s *Server) Wait(ctx context.Context) error { return s.engine.Wait(ctx) }

// open begins a client.
func (s *Server) open(to link, room engineio.Admission) *client {
	c := &client{server: s, link: to, rooms: make(map[string]occupant), pace: newPace(time.Now())}
	c.lease, _ = room.(*fanout.Lease)
	c.parts.Most = attachmentsMost
	s.clients.Add(1)
	c.expect()
	return c
}

// attachmentsMost bounds the attachments of one packet together, in bytes: none of
// our events takes any.
const attachmentsMost = 64 << 10

// find returns the token of a name: of those with the symbol the one that ranks
// first, or else the one with the slug or id.
func (s *Server) find(name string) market.ID {
	if id := s.hub.Symbol(name); id != 0 {
		return id
	}
	if s.cfg.Find == nil {
		return 0
	}
	if t := s.cfg.Find(name); t != nil {
		return t.ID
	}
	return 0
}

// tokens is the namespace of the market.
type tokens struct{ server *Server }

func (n tokens) enter(c *client, auth []byte) (occupant, string) {
	who, wrong := readCredentials(auth)
	if wrong != "" {
		return nil, wrong
	}
	return n.server.connect(c, &who), ""
}
