package socketio

import (
	"crypto/rand"
	"encoding/json"
	"strconv"
	"sync"

	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/socketio/packet"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// socket is a client that is connected to the tokens' namespace.
type socket struct {
	server   *Server
	client   *client
	sid, pid string

	mu   sync.Mutex // of the room, and against being taken over meanwhile
	room room
	over bool // gone, or taken over
}

// credentials is the payload of CONNECT: who comes, and where it was. Other members
// are the application's own.
type credentials struct {
	APIKey string `json:"apiKey"`
	Token  string `json:"token"`
	PID    string `json:"pid"`
	Offset string `json:"offset"`
}

// Bounds of what a CONNECT brings, in bytes.
const (
	authMost       = 4 << 10
	credentialMost = 256
)

// readCredentials reads the payload of CONNECT, which may be missing.
func readCredentials(raw []byte) (c credentials, wrong string) {
	switch {
	case len(raw) > authMost:
		return c, "the auth payload is longer than 4 KiB"
	case len(raw) == 0:
		return c, ""
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return c, "apiKey, token, pid and offset of the auth payload are strings"
	}
	for _, s := range []string{c.APIKey, c.Token, c.PID, c.Offset} {
		if len(s) > credentialMost {
			return c, "a string of the auth payload is longer than 256 bytes"
		}
	}
	return c, ""
}

// offset returns the position that the client tells; 0 for none.
func (c *credentials) offset() uint64 {
	n, err := strconv.ParseUint(c.Offset, 10, 53)
	if err != nil {
		return 0
	}
	return n
}

// connect makes a session of a client, or gives it back what it had. Where something
// is broken this panics, no session is left, and the client is closed by who called.
func (s *Server) connect(c *client, who *credentials) *socket {
	k := &socket{server: s, client: c}
	var state *fanout.Memory
	old := s.recall(who.PID)
	if old != nil {
		k.sid, k.pid, state = old.sid, old.pid, old.state
	} else {
		k.sid, k.pid = rand.Text(), rand.Text()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	session := s.hub.Attach(c.link, fanout.Peer{Framing: bulk{}, Recover: true, Lease: c.lease, Kept: true})
	k.room = room{session: session, find: s.find}
	entered := false
	defer func() {
		if !entered {
			session.Detach()
		}
	}()
	hello := []byte(`{"sid":"` + k.sid + `","pid":"` + k.pid + `"}`)
	session.Recall(state, who.offset(), func(dst []byte, all []fanout.Outcome) []byte {
		dst = appendPacket(dst, packet.AppendConnect(nil, packet.Main, hello))
		for _, o := range k.room.restore(state, all) {
			err := *o.Err
			err.Text = "a subscription could not be restored: " + err.Text
			dst = appendError(dst, &err, o.RetryMS, "")
		}
		return dst
	})
	s.live.enter(k)
	entered = true
	if old != nil {
		s.recovered.Add(1)
	}
	return k
}

// event performs an event of the client.
func (k *socket) event(p *packet.Packet) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := event{name: p.Name, ack: p.HasID, id: p.ID}
	for _, arg := range p.AppendItems(nil) {
		e.args = append(e.args, arg)
	}
	a := reply{event: &e}
	switch {
	case len(p.Binaries) > 0:
		a.loud = true
		k.room.session.Offend(fault(wire.BadValue, "no event of this server takes binary data"), a.append)
	case p.Name == "subscribe_token":
		k.room.subscribe(&e)
	case p.Name == "unsubscribe_token":
		k.room.unsubscribe(&e)
	default:
		k.room.session.Offend(fault(wire.UnknownOp, "unknown event "+clip(p.Name)+"; served: subscribe_token, unsubscribe_token"), a.append)
	}
}

func (k *socket) send(frame []byte) { k.room.session.Send(frame) }

func (k *socket) written() { k.room.session.Written() }

// leave ends the session. What it had is kept for its client where keep says so, and
// before the socket is taken from those that live: who is back at this moment finds
// it here or there.
func (k *socket) leave(keep bool) {
	k.end(func(m *memory) {
		if keep {
			k.server.memories.put(m)
		}
	})
	k.server.live.leave(k)
}

// end detaches the session the first time it is called, and gives away what it had.
func (k *socket) end(heir func(m *memory)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.over {
		return
	}
	k.over = true
	m := &memory{pid: k.pid, sid: k.sid, state: k.room.session.Memory()}
	m.bytes = memoryLeast + m.state.Bytes()
	k.room.session.Detach()
	heir(m)
}

// memoryLeast is about what a memory takes beside its state.
const memoryLeast = 512

// recall returns what is known of a pid: a socket that lost its connection, or one
// of which it is not known yet. Its client is back: the old connection is closed.
func (s *Server) recall(pid string) *memory {
	if pid == "" {
		return nil
	}
	if k := s.live.take(pid); k != nil {
		var had *memory
		k.end(func(m *memory) { had = m })
		k.client.close(wire.CloseNormal, "taken over")
		if had != nil {
			return had
		}
	}
	return s.memories.take(pid)
}

// lives are the connected sockets by pid. Safe for concurrent use.
type lives struct {
	mu sync.Mutex
	by map[string]*socket
}

func (l *lives) enter(k *socket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.by[k.pid] = k
}

func (l *lives) leave(k *socket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by[k.pid] == k {
		delete(l.by, k.pid)
	}
}

func (l *lives) take(pid string) *socket {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.by[pid]
	delete(l.by, pid)
	return k
}
