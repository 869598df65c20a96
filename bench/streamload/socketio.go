//go:build linux

package main

import (
	"bytes"
	"strings"
	"time"
)

// socketIO is the name of the protocol among those of -proto: Socket.IO on a
// websocket, whose updates are bulk_update events.
const socketIO = "socketio"

const socketIORequest = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n"

// emit is the client's subscribe_token.
func (c *conn) emit() []byte {
	tokens := strings.TrimPrefix(c.selection, `"tokens":`)
	if tokens == c.selection {
		tokens = `"*"`
	}
	return maskedFrame(1, []byte(`42["subscribe_token",`+tokens+`,{`+c.load.cfg.options+`}]`))
}

// packet acts on one packet of Engine.IO and reports whether it is a bulk_update.
func (c *conn) packet(p []byte, now time.Time) (h head, data bool) {
	switch {
	case bytes.HasPrefix(p, []byte(`42["bulk_update",`)):
		return bulkHead(p[len(`42["bulk_update",`):])
	case string(p) == "2":
		c.write(maskedFrame(1, []byte("3")))
	case p[0] == '0':
		c.write(maskedFrame(1, []byte("40")))
	case bytes.HasPrefix(p, []byte(`40{`)):
		c.phase = catching
		if c.selection == "" {
			c.arrive(now)
		} else {
			c.write(c.emit())
		}
	case bytes.HasPrefix(p, []byte(`42["error_event"`)), bytes.HasPrefix(p, []byte(`44`)):
		c.load.received.bad++
		c.load.complain(p)
	}
	return h, false
}

// bulkHead reads the payload of a bulk_update. It has no prev: gaps are not seen.
func bulkHead(p []byte) (h head, ok bool) {
	top := p[:min(len(p), 256)]
	h.snapshot = bytes.Contains(top, []byte(`"type":"snapshot"`))
	h.seq = number(top, `"seq":`)
	h.receivedAt = int64(number(top, `"time":`))
	h.more = bytes.HasSuffix(p, []byte(`,"more":true}]`))
	_, rows, ok := bytes.Cut(p, []byte(`"rows":[`))
	h.rows = int64(bytes.Count(rows, []byte(`{"id":`)))
	return h, ok
}
