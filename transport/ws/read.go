package ws

import (
	"time"

	"github.com/velocimeter/velocimeter/transport/wire"
)

const (
	readBuffer = 1 << 10 // bytes read at once; messages are gathered in the gate
	maxPings   = 10      // a second, and as many pongs
)

// read feeds the gate and minds the clock. After a close was asked for, by
// either side, it only waits for the other's.
func (c *conn) read() {
	if v := c.gate.feed(c.early, c); v != nil {
		c.violated(v)
	}
	c.early = nil
	buf := make([]byte, readBuffer)
	for {
		if !c.arm() {
			return
		}
		n, err := c.nc.Read(buf)
		if n > 0 {
			if v := c.gate.feed(buf[:n], c); v != nil {
				c.violated(v)
			}
		}
		if err != nil && !errTimeout(err) {
			c.Abort()
			return
		}
		if !c.clock(time.Now()) {
			return
		}
	}
}

// violated closes for a broken rule. Frames cannot be told apart any more.
func (c *conn) violated(v *violation) {
	c.gate.ended = true
	c.end(v.code, v.reason)
}

// arm sets the read deadline to what is due first. It returns false when
// nothing more is to be read.
func (c *conn) arm() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead || c.answered {
		return false
	}
	c.rearm()
	return true
}

// due returns when the reader must look at the clock; mu is held.
func (c *conn) due() time.Time {
	switch {
	case c.closing:
		return c.closeBy
	case !c.pongBy.IsZero() && c.pongBy.Before(c.pingAt):
		return c.pongBy
	}
	return c.pingAt
}

// clock does what is due and returns false when the connection's time is over.
func (c *conn) clock(now time.Time) bool {
	c.mu.Lock()
	closing, over := c.closing, !now.Before(c.closeBy)
	silent := !c.pongBy.IsZero() && !now.Before(c.pongBy)
	ping := !now.Before(c.pingAt)
	if ping {
		c.pingAt, c.pingDue = now.Add(c.cfg.PingEvery), true
	}
	c.mu.Unlock()
	switch {
	case closing && over:
		c.Abort()
		return false
	case !closing && silent:
		c.end(wire.CloseNoPong, "no pong")
	case ping:
		c.signal()
	}
	return true
}

func (c *conn) message(text []byte) *violation {
	c.mu.Lock()
	closing := c.closing
	c.mu.Unlock()
	if !closing {
		c.session.Receive(text)
	}
	return nil
}

func (c *conn) ping(payload []byte) *violation {
	if c.flood(&c.pings) {
		return breach(wire.ClosePolicy, "too many pings")
	}
	c.mu.Lock()
	c.pongDue = append(make([]byte, 0, len(payload)), payload...)
	c.mu.Unlock()
	c.signal()
	return nil
}

func (c *conn) pong() *violation {
	if c.flood(&c.pongs) {
		return breach(wire.ClosePolicy, "too many pongs")
	}
	c.mu.Lock()
	c.pongBy = time.Time{}
	c.mu.Unlock()
	return nil
}

func (c *conn) flood(count *int) bool {
	if now := time.Now(); now.Sub(c.window) >= time.Second {
		c.window, c.pings, c.pongs = now, 0, 0
	}
	*count++
	return *count > maxPings
}

// closed answers the peer's close frame, or takes it for the answer to ours.
func (c *conn) closed(code wire.CloseCode) {
	c.mu.Lock()
	c.answered = true
	c.mu.Unlock()
	if c.begin(code, "") {
		c.session.Closing(wire.CloseNormal)
	}
}
