package ws

import (
	"time"

	"github.com/velocimeter/velocimeter/transport/wire"
)

// Input implements loop.Handler. After a close was asked for, by either side, it
// only waits for the other's.
func (c *conn) Input(p []byte) {
	if c.deaf {
		return
	}
	if c.gate == nil {
		c.gate = newGate(&c.end.limits, c.deflate)
	}
	v := c.gate.feed(p, c)
	if v != nil {
		c.deaf = true
	}
	if c.deaf || c.gate.idle() {
		c.gate.release()
		c.gate = nil
	}
	if v != nil {
		c.shut(v.code, v.reason)
	}
}

func (c *conn) message(op byte, payload []byte) *violation {
	switch {
	case c.closing.Load():
	case c.end.deliver != nil:
		c.end.deliver(c, op, payload)
	default:
		c.session.Receive(payload)
	}
	return nil
}

func (c *conn) ping(payload []byte) *violation {
	if c.flood(&c.pings, c.end.limits.pings) {
		return breach(wire.ClosePolicy, "too many pings")
	}
	var frame [2 + maxControl]byte
	c.Control(appendControl(frame[:0], opPong, payload))
	return nil
}

func (c *conn) pong() *violation {
	if c.flood(&c.pongs, c.end.limits.pongs) {
		return breach(wire.ClosePolicy, "too many pongs")
	}
	c.pongBy = 0
	return nil
}

func (c *conn) flood(count *uint8, most int) bool {
	if now := clock(); now-c.window >= time.Second || c.window == 0 {
		c.window, c.pings, c.pongs = now, 0, 0
	}
	if int(*count) < most {
		*count++
		return false
	}
	return true
}

// closed answers the peer's close frame, or takes it for the answer to ours.
func (c *conn) closed(code wire.CloseCode) {
	c.deaf = true
	if c.closing.CompareAndSwap(false, true) {
		c.session.Closing(wire.CloseNormal)
	}
	c.Finish(appendClose(nil, code, ""), true)
}
