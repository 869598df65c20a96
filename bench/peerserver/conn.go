package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"sync"

	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/fanout/loop"
)

// maxKept bounds what may wait for one slow connection, as the peers bound it.
const maxKept = 64 << 20

// maxFrame bounds what is kept of an incomplete frame.
const maxFrame = 1 << 20

// server has the connections and publishes to them.
type server struct {
	group *loop.Group
	hub   hub
}

// conn is one connection: a subscriber, or the generator's control connection.
type conn struct {
	loop.Conn
	server *server
	ctl    bool
	in     []byte  // an incomplete frame; nil in between
	topics []int32 // guarded by hub.mu

	mu   sync.Mutex
	kept int // bytes since the last time nothing was pending
}

var _ loop.Handler = (*conn)(nil)

// open answers the handshake and hands the connection to a loop.
func (s *server) open(nc net.Conn) {
	path, early, err := handshake(nc)
	if err != nil {
		_ = nc.Close()
		return
	}
	c := &conn{server: s, ctl: path == "/ctl"}
	s.group.Open(&c.Conn, nc, c)
	if len(early) > 0 {
		c.Input(early)
	}
	c.Start()
}

// Input implements loop.Handler. All ticks of one read are published together.
func (c *conn) Input(p []byte) {
	if len(c.in) > 0 {
		c.in = append(c.in, p...)
		p = c.in
	}
	for {
		op, body, n := clientFrame(p)
		if n == 0 {
			break
		}
		p = p[n:]
		switch {
		case op == opClose:
			c.Finish([]byte{0x80 | opClose, 0}, true)
		case op == opText && c.ctl:
			c.server.hub.tick(body)
		case op == opText:
			c.server.hub.subscribe(c, body)
			c.Control(appendText(nil, []byte(`{"ok":1}`)))
		}
	}
	if c.in = append(c.in[:0], p...); len(c.in) == 0 {
		c.in = nil
	}
	if len(c.in) > maxFrame {
		c.Abort()
	}
	if c.ctl {
		c.server.hub.flush()
	}
}

// send writes frames, which are the caller's again afterwards.
func (c *conn) send(batch []fanout.Chunk, size int) {
	if !c.TryWrite(batch) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kept += size; c.kept > maxKept {
		c.Abort()
	}
}

// Written implements loop.Handler.
func (c *conn) Written() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kept = 0
}

// Expired implements loop.Handler; no timer is set.
func (c *conn) Expired() {}

// Gone implements loop.Handler.
func (c *conn) Gone() { c.server.hub.leave(c) }

// Panicked implements loop.Handler.
func (c *conn) Panicked(reason any) {
	_, _ = fmt.Fprintf(os.Stderr, "peerserver: panic: %v\n%s", reason, debug.Stack())
	c.Abort()
}

// Border implements loop.Handler.
func (c *conn) Border(p []byte, n int) int {
	end := 0
	for end < n {
		switch head := p[end:]; head[1] {
		case 126:
			end += 4 + int(binary.BigEndian.Uint16(head[2:]))
		case 127:
			end += 10 + int(binary.BigEndian.Uint64(head[2:]))
		default:
			end += 2 + int(head[1])
		}
	}
	return end - n
}
