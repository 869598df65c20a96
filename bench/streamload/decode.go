//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"time"
)

// serverFrame takes one frame off p; size is its length, 0 where it is incomplete.
func serverFrame(p []byte) (op byte, body []byte, size int) {
	if len(p) < 2 {
		return 0, nil, 0
	}
	n, head := int(p[1]&127), 2
	switch {
	case n == 126 && len(p) >= 4:
		n, head = int(binary.BigEndian.Uint16(p[2:])), 4
	case n == 127 && len(p) >= 10:
		n, head = int(binary.BigEndian.Uint64(p[2:])), 10
	case n >= 126:
		return 0, nil, 0
	}
	if n < 0 || n > len(p) || len(p) < head+n {
		return 0, nil, 0
	}
	return p[0] & 15, p[head : head+n], head + n
}

// maskedFrame makes a client's frame; the mask is zero, which is a legal one.
func maskedFrame(op byte, body []byte) []byte {
	out := []byte{0x80 | op}
	if len(body) < 126 {
		out = append(out, 0x80|byte(len(body)))
	} else {
		out = binary.BigEndian.AppendUint16(append(out, 0x80|126), uint16(len(body)))
	}
	return append(append(out, 0, 0, 0, 0), body...)
}

// head is what the generator needs of a data message.
type head struct {
	snapshot, heartbeat, more bool
	seq, prev                 uint64
	receivedAt                int64 // ms
	rows                      int64
}

// message counts one message.
func (c *conn) message(op byte, body []byte, now time.Time) {
	t := &c.load.received
	read := jsonHead
	if op == 2 {
		read = binaryHead
	}
	var h head
	var ok bool
	if c.load.cfg.proto == socketIO {
		if h, ok = c.packet(body, now); !ok {
			return
		}
	} else {
		h, ok = read(body)
	}
	switch {
	case !ok && op == 2:
		t.bad++
		return
	case !ok:
		c.other(body)
		return
	}
	if h.heartbeat {
		c.position = max(c.position, h.seq)
		return
	}
	t.messages++
	t.rows += h.rows
	if h.snapshot {
		t.snapshots++
	} else if h.prev > c.position { // never with Socket.IO
		t.gaps++
	}
	if !h.more {
		c.position = max(c.position, h.seq)
		c.arrive(now)
	}
	if !h.snapshot && h.receivedAt > 0 {
		t.latency.add(now.UnixMicro() - h.receivedAt*1000)
	}
}

// binaryHead reads the 16 fixed bytes and the numbers after them.
func binaryHead(p []byte) (h head, ok bool) {
	if len(p) < 16 {
		return h, false
	}
	h.snapshot, h.heartbeat, h.more = p[0] == 1, p[0] == 3, p[1]&1 != 0
	h.rows = int64(binary.LittleEndian.Uint16(p[2:]))
	h.seq = binary.LittleEndian.Uint64(p[8:])
	if h.heartbeat || p[0] > 3 || p[0] == 0 {
		return h, h.heartbeat
	}
	p = p[16:]
	if !h.snapshot {
		distance, n := binary.Uvarint(p)
		if n <= 0 {
			return h, false
		}
		h.prev, p = h.seq-distance, p[n:]
	}
	sourceTime, n := binary.Uvarint(p)
	if n <= 0 {
		return h, false
	}
	after, m := binary.Varint(p[n:])
	h.receivedAt = int64(sourceTime) + after
	return h, m > 0
}

// jsonHead reads data messages; ok is false for others.
func jsonHead(p []byte) (h head, ok bool) {
	top := p[:min(len(p), 256)]
	switch {
	case bytes.HasPrefix(p, []byte(`{"type":"delta"`)):
	case bytes.HasPrefix(p, []byte(`{"type":"snapshot"`)):
		h.snapshot = true
	case bytes.HasPrefix(p, []byte(`{"type":"heartbeat","ch"`)):
		h.heartbeat, h.seq = true, number(top, `"seq":`)
		return h, true
	default:
		return h, false
	}
	h.seq, h.prev = number(top, `"seq":`), number(top, `"prev":`)
	h.receivedAt = int64(number(top, `"received_at":`))
	h.more = bytes.HasSuffix(p, []byte(`,"more":true}`))
	_, rows, ok := bytes.Cut(p, []byte(`"rows":[`))
	switch {
	case !ok || len(rows) == 0:
		return h, false
	case rows[0] == '{':
		h.rows = int64(bytes.Count(rows, []byte(`{"id":`)))
	case rows[0] == '[':
		h.rows = 1 + int64(bytes.Count(rows, []byte(`],[`)))
	}
	return h, true
}

// other acts on messages that carry no data.
func (c *conn) other(p []byte) {
	switch {
	case bytes.HasPrefix(p, []byte(`{"type":"hello"`)):
		c.epoch = text(p, `"epoch":"`)
		if c.selection == "" && c.phase == subscribing {
			c.phase = catching
			c.arrive(time.Now())
		}
	case bytes.HasPrefix(p, []byte(`{"type":"subscribed"`)):
		c.recovered = bytes.Contains(p, []byte(`"recovered":true`))
		if c.phase == subscribing {
			c.phase = catching
		}
		if !c.recovered {
			c.position = 0 // a snapshot follows
		}
	case bytes.HasPrefix(p, []byte(`{"type":"error"`)):
		c.load.received.bad++
		c.load.complain(p)
	}
}

func number(p []byte, key string) uint64 {
	i := bytes.Index(p, []byte(key))
	if i < 0 {
		return 0
	}
	p = p[i+len(key):]
	n := 0
	for n < len(p) && p[n] >= '0' && p[n] <= '9' {
		n++
	}
	v, _ := strconv.ParseUint(string(p[:n]), 10, 64)
	return v
}

func text(p []byte, key string) string {
	_, rest, _ := bytes.Cut(p, []byte(key))
	v, _, _ := bytes.Cut(rest, []byte(`"`))
	return string(v)
}
