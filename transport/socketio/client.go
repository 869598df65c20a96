package socketio

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/socketio/engineio"
	"github.com/velocimeter/velocimeter/transport/socketio/packet"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// link is what a client needs of its Engine.IO session.
type link interface {
	fanout.Stager
	// Send writes a packet, of those that no fanout.Session sends.
	Send(text []byte)
	SetTimer(d time.Duration, fn func())
}

// occupant is a client in a namespace.
type occupant interface {
	event(p *packet.Packet)
	// written says that the link took what was pending.
	written()
	// leave is the last call: keep says that the client may come back.
	leave(keep bool)
}

// What packets may not do.
var (
	errStranger   = errors.New("packet for a namespace that was not entered")
	errTwice      = errors.New("CONNECT to a namespace that was entered already")
	errServerOnly = errors.New("packet that only a server sends")
)

// namespace lets clients in, or says why not.
type namespace interface {
	enter(c *client, auth []byte) (o occupant, refused string)
}

// client is one Engine.IO session with its places in namespaces. What engineio calls
// comes one at a time.
type client struct {
	server *Server
	link   link
	lease  *fanout.Lease
	parts  packet.Assembler
	pace   pace
	rooms  map[string]occupant
}

var _ engineio.Handler = (*client)(nil)

// Text implements engineio.Handler.
func (c *client) Text(p []byte) { c.message(c.parts.Text, p) }

// Binary implements engineio.Handler.
func (c *client) Binary(p []byte) { c.message(c.parts.Binary, p) }

func (c *client) message(assemble func([]byte) (packet.Packet, bool, error), text []byte) {
	if !c.pace.take(time.Now()) {
		c.close(wire.CloseRate, "messages too fast")
		return
	}
	p, done, err := assemble(text)
	if err == nil && done {
		err = c.packet(&p)
	}
	if err != nil {
		c.close(wire.CloseProtocol, err.Error())
	}
}

// packet performs one packet; an error ends the connection.
func (c *client) packet(p *packet.Packet) error {
	ns := string(p.Namespace)
	if p.Type == packet.Connect {
		return c.connect(ns, p.Data)
	}
	o := c.rooms[ns]
	switch {
	case o == nil:
		return errStranger
	case p.Type == packet.Event || p.Type == packet.BinaryEvent:
		o.event(p)
	case p.Type == packet.Ack || p.Type == packet.BinaryAck: // nobody waits for one
	case p.Type == packet.Disconnect:
		delete(c.rooms, ns)
		o.leave(false)
		c.expect()
	default:
		return errServerOnly
	}
	return nil
}

// connect answers a CONNECT.
func (c *client) connect(ns string, auth []byte) error {
	if c.rooms[ns] != nil {
		return errTwice
	}
	n := c.server.namespaces[ns]
	if n == nil {
		c.refuse(ns, "Invalid namespace")
		return nil
	}
	o, refused := n.enter(c, auth)
	if refused != "" {
		c.refuse(ns, refused)
		return nil
	}
	c.rooms[ns] = o
	c.expect()
	return nil
}

// refuse answers a CONNECT with why not.
func (c *client) refuse(ns, why string) {
	text := append(packet.AppendString([]byte(`{"message":`), why), '}')
	c.send(packet.AppendConnectError(nil, ns, text))
}

// send writes a packet; behind what the session of the tokens' namespace has
// queued, where there is one.
func (c *client) send(text []byte) {
	if k, ok := c.rooms[packet.Main].(*socket); ok {
		k.send(appendPacket(nil, text))
		return
	}
	c.link.Send(text)
}

// expect closes the connection where its client is in no namespace and does not
// enter one soon.
func (c *client) expect() {
	if len(c.rooms) > 0 {
		c.server.waiting.leave(c)
		c.link.SetTimer(0, nil)
		return
	}
	if !c.server.waiting.enter(c) {
		c.close(wire.CloseRestart, "server restarts")
	}
	c.link.SetTimer(c.server.cfg.ConnectWait, func() { c.close(wire.ClosePolicy, "no CONNECT in time") })
}

func (c *client) close(code wire.CloseCode, reason string) { c.link.Close(code, reason) }

// Written implements engineio.Handler.
func (c *client) Written() {
	for _, o := range c.rooms {
		o.written()
	}
}

// Gone implements engineio.Handler.
func (c *client) Gone(code wire.CloseCode) {
	c.server.waiting.leave(c)
	for _, o := range c.rooms {
		o.leave(mayReturn(code))
	}
	c.server.clients.Add(-1)
}

// mayReturn reports whether a client whose connection ended so may go on where it
// was: not where it broke the rules.
func mayReturn(code wire.CloseCode) bool { return slices.Contains(harmless, code) }

// harmless are the ends of connections that no fault of a client made; 0 is a
// connection that was lost.
var harmless = []wire.CloseCode{0, wire.CloseNormal, wire.CloseGoingAway, wire.CloseSlow, wire.CloseNoPong, wire.CloseInternal}

// strangers are the clients that are in no namespace. Safe for concurrent use.
type strangers struct {
	mu   sync.Mutex
	all  map[*client]struct{}
	shut bool
}

// enter reports whether there may be any.
func (s *strangers) enter(c *client) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[c] = struct{}{}
	return !s.shut
}

func (s *strangers) leave(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, c)
}

// close lets nobody in any more and returns who is.
func (s *strangers) close() []*client {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut = true
	return slices.Collect(maps.Keys(s.all))
}
