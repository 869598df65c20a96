package loop

import (
	"crypto/tls"
	"net"
)

// Group serves connections. It has goroutines only while it has connections.
// Safe for concurrent use.
type Group struct {
	cfg   Config
	loops loops
}

// NewGroup returns a group. It starts nothing.
func NewGroup(cfg Config) *Group {
	cfg.setDefaults()
	return &Group{cfg: cfg}
}

// Open takes a connection over for its handler: nc is closed when the connection
// is gone, and must not be used any more. From here on c may be written to and
// ended; Start must follow.
func (g *Group) Open(c *Conn, nc net.Conn, h Handler) {
	c.group, c.handler, c.due = g, h, never
	tcp, secure, below := layersOf(nc)
	plain := secure == nil
	if tcp != nil {
		tune(tcp, &g.cfg)
	}
	if tcp != nil && (plain || below != nil) && !g.cfg.Goroutines && g.loops.take(c, tcp) {
		c.owner = nc
		if secure != nil {
			c.seal(secure, below, tcp)
		}
		return
	}
	s := &stream{c: c, nc: nc, below: nc, plain: plain, wake: make(chan struct{}, 1), written: make(chan struct{})}
	if tcp != nil {
		s.below = tcp
	}
	if plain && tcp != nil {
		s.half = tcp.CloseWrite
	}
	c.stream = s
}

// Start begins to read. The handler's methods are called from now on.
func (c *Conn) Start() {
	if c.stream != nil {
		go c.stream.run()
		return
	}
	c.enroll()
}

// swapper is a connection below TLS that lets another take its place. Nothing may
// be under way meanwhile.
type swapper interface {
	Swap(nc net.Conn) (old net.Conn)
}

// layersOf returns the TCP connection at the bottom, or nil, what encrypts above
// it, and where a loop may go between them: nil for nowhere, and for a handshake
// that is not over.
func layersOf(nc net.Conn) (tcp *net.TCPConn, secure *tls.Conn, below swapper) {
	for once := true; ; {
		if t, ok := nc.(*tls.Conn); ok {
			once = secure == nil && t.ConnectionState().HandshakeComplete
			secure = t
		}
		if s, ok := nc.(swapper); ok && secure != nil && once {
			below = s
		}
		switch v := nc.(type) {
		case *net.TCPConn:
			if !once {
				below = nil
			}
			return v, secure, below
		case interface{ Unwrap() net.Conn }:
			nc = v.Unwrap()
		case interface{ NetConn() net.Conn }:
			nc = v.NetConn()
		default:
			return nil, secure, nil
		}
	}
}
