package ws

import (
	"encoding/binary"
	"sync"
	"unicode/utf8"

	"github.com/velocimeter/velocimeter/transport/wire"
)

// limits bound what a client may send.
type limits struct {
	message   int // bytes, decompressed
	fragments int // frames of one message
	empty     int // of them without payload
	pings     int // a second
	pongs     int // a second, which nobody needs but RFC 6455 allows; at most 255
	binary    bool
}

// clientLimits are those of the stream.
var clientLimits = limits{message: wire.MaxMessage, fragments: 64, empty: 8, pings: 10, pongs: 200}

const (
	maxControl = 125
	maxHeader  = 14
)

const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
)

// events is what the gate finds in the bytes of a client. Slices are valid
// during the call only. A returned violation ends the connection.
type events interface {
	message(op byte, payload []byte) *violation
	ping(payload []byte) *violation
	pong() *violation
	closed(code wire.CloseCode)
}

// violation is a broken rule and the code to close with.
type violation struct {
	code   wire.CloseCode
	reason string
}

func breach(code wire.CloseCode, reason string) *violation { return &violation{code, reason} }

// frameGate reads client frames (RFC 6455, and RFC 7692 where it was agreed on)
// from a stream of bytes cut anywhere. It holds at most one message.
type frameGate struct {
	limits  *limits
	deflate bool // compressed messages are allowed

	header [maxHeader]byte
	have   int // bytes of header
	inBody bool

	fin    bool
	op     byte
	left   int // payload bytes to come
	mask   [4]byte
	masked int // payload bytes unmasked so far

	control []byte // payload of the control frame
	text    []byte // payload of the message so far
	kind    byte   // its opcode
	squeeze bool   // it is compressed
	valid   int    // its prefix that is whole UTF-8
	open    bool   // a fragmented message is begun
	frames  int
	empty   int
	ended   bool // a close frame came; the rest is ignored
}

var gates = sync.Pool{New: func() any { return new(frameGate) }}

// newGate returns a gate for the bytes that begin a frame.
func newGate(l *limits, deflate bool) *frameGate {
	g, _ := gates.Get().(*frameGate)
	g.limits, g.deflate = l, deflate
	return g
}

// keepText bounds the buffers that go back to the pool.
const keepText = 4 << 10

// release gives the gate back; it must not be used any more.
func (g *frameGate) release() {
	text, control := g.text[:0], g.control[:0]
	if cap(text) > keepText {
		text = nil
	}
	*g = frameGate{text: text, control: control}
	gates.Put(g)
}

// idle reports whether no frame and no message is begun.
func (g *frameGate) idle() bool { return g.have == 0 && !g.inBody && !g.open }

// feed takes the next bytes and reports what they complete.
func (g *frameGate) feed(p []byte, ev events) *violation {
	for len(p) > 0 && !g.ended {
		if !g.inBody {
			n, v := g.readHeader(p)
			if v != nil {
				return v
			}
			p = p[n:]
			if !g.inBody {
				continue
			}
		}
		n := min(g.left, len(p))
		if v := g.payload(p[:n]); v != nil {
			return v
		}
		p = p[n:]
		if g.left == 0 {
			g.inBody, g.have = false, 0
			if v := g.complete(ev); v != nil {
				return v
			}
		}
	}
	return nil
}

// readHeader takes bytes of a frame header and says how many. Rules are checked
// as soon as the bytes that break them are there.
func (g *frameGate) readHeader(p []byte) (int, *violation) {
	n := 0
	for n < len(p) {
		g.header[g.have] = p[n]
		g.have++
		n++
		switch {
		case g.have == 2:
			if v := g.checkStart(); v != nil {
				return n, v
			}
		case g.have == 2+g.extended():
			if v := g.checkLength(); v != nil {
				return n, v
			}
		}
		if g.have >= 2 && g.have == 2+g.extended()+4 {
			copy(g.mask[:], g.header[g.have-4:g.have])
			return n, g.begin()
		}
	}
	return n, nil
}

// extended returns how many bytes the extended length has.
func (g *frameGate) extended() int {
	switch g.header[1] & 0x7f {
	case 126:
		return 2
	case 127:
		return 8
	}
	return 0
}

func (g *frameGate) checkStart() *violation {
	first, second := g.header[0], g.header[1]
	g.fin, g.op = first&0x80 != 0, first&0x0f
	length := second & 0x7f
	switch {
	case first&0x70 != 0 && !g.compressed(first):
		return breach(wire.CloseProtocol, "reserved bits are set")
	case g.op > opBinary && g.op < opClose || g.op > opPong:
		return breach(wire.CloseProtocol, "unknown opcode")
	case second&0x80 == 0:
		return breach(wire.CloseProtocol, "client frames must be masked")
	case g.op >= opClose && !g.fin:
		return breach(wire.CloseProtocol, "fragmented control frame")
	case g.op >= opClose && length > maxControl:
		return breach(wire.CloseProtocol, "control frame above 125 bytes")
	case g.op == opClose && length == 1:
		return breach(wire.CloseProtocol, "close frame with half a code")
	case g.op == opContinuation && !g.open:
		return breach(wire.CloseProtocol, "continuation of nothing")
	case (g.op == opText || g.op == opBinary) && g.open:
		return breach(wire.CloseProtocol, "new message inside a fragmented one")
	case g.op == opBinary && !g.limits.binary:
		return breach(wire.CloseWrongType, "this sub-protocol is text")
	}
	return nil
}

// compressed reports whether the reserved bits are RSV1 on the first frame of a
// message, where that was agreed on.
func (g *frameGate) compressed(first byte) bool {
	return g.deflate && first&0x70 == rsv1 && (g.op == opText || g.op == opBinary)
}

func (g *frameGate) checkLength() *violation {
	switch g.extended() {
	case 2:
		if binary.BigEndian.Uint16(g.header[2:]) <= maxControl {
			return breach(wire.CloseProtocol, "length is not minimal")
		}
	case 8:
		n := binary.BigEndian.Uint64(g.header[2:])
		if n>>63 != 0 {
			return breach(wire.CloseProtocol, "length has its top bit set")
		}
		if n <= 1<<16-1 {
			return breach(wire.CloseProtocol, "length is not minimal")
		}
		if n > uint64(g.limits.message) {
			return breach(wire.CloseTooBig, "message above the limit")
		}
	}
	return nil
}

// begin starts the payload of a frame whose header is complete.
func (g *frameGate) begin() *violation {
	switch g.extended() {
	case 2:
		g.left = int(binary.BigEndian.Uint16(g.header[2:]))
	case 8:
		g.left = int(binary.BigEndian.Uint64(g.header[2:]))
	default:
		g.left = int(g.header[1] & 0x7f)
	}
	g.inBody, g.masked = true, 0
	if g.op >= opClose {
		g.control = g.control[:0]
		return nil
	}
	if len(g.text)+g.left > g.limits.message {
		return breach(wire.CloseTooBig, "message above the limit")
	}
	if g.frames++; g.frames > g.limits.fragments {
		return breach(wire.ClosePolicy, "message in too many fragments")
	}
	if g.left == 0 && (g.open || !g.fin) {
		if g.empty++; g.empty > g.limits.empty {
			return breach(wire.ClosePolicy, "too many empty fragments")
		}
	}
	if !g.open {
		g.open, g.kind, g.squeeze = true, g.op, g.header[0]&rsv1 != 0
	}
	return nil
}

func (g *frameGate) payload(p []byte) *violation {
	into := &g.text
	if g.op >= opClose {
		into = &g.control
	}
	from := len(*into)
	*into = append(*into, p...)
	g.unmask((*into)[from:])
	g.left -= len(p)
	if g.op < opClose && g.kind == opText && !g.squeeze {
		return g.validate()
	}
	return nil
}

// unmask takes the client's mask off the next bytes of the payload.
func (g *frameGate) unmask(p []byte) {
	for i := range p {
		if g.masked&3 == 0 && len(p)-i >= 8 {
			g.unmaskWords(p[i:])
			return
		}
		p[i] ^= g.mask[g.masked&3]
		g.masked++
	}
}

// unmaskWords does it eight bytes at a time, from the mask's first byte on.
func (g *frameGate) unmaskWords(p []byte) {
	half := uint64(binary.LittleEndian.Uint32(g.mask[:]))
	for mask := half | half<<32; len(p) >= 8; p = p[8:] {
		binary.LittleEndian.PutUint64(p, binary.LittleEndian.Uint64(p)^mask)
	}
	for i := range p {
		p[i] ^= g.mask[i&3]
	}
	g.masked += len(p) // the words before were whole masks
}

// validate checks UTF-8 as far as the message has come; a character may be cut
// at its end.
func (g *frameGate) validate() *violation {
	end := whole(g.text[g.valid:])
	if !utf8.Valid(g.text[g.valid:g.valid+end]) || utf8.FullRune(g.text[g.valid+end:]) {
		return breach(wire.CloseInvalidData, "text is not UTF-8")
	}
	g.valid += end
	return nil
}

// whole returns how much of p is not a character that is cut at its end.
func whole(p []byte) int {
	for i := len(p) - 1; i >= 0 && i >= len(p)-utf8.UTFMax; i-- {
		if utf8.RuneStart(p[i]) {
			if !utf8.FullRune(p[i:]) {
				return i
			}
			break
		}
	}
	return len(p)
}

// complete acts on a whole frame.
func (g *frameGate) complete(ev events) *violation {
	switch g.op {
	case opPing:
		return ev.ping(g.control)
	case opPong:
		return ev.pong()
	case opClose:
		return g.completeClose(ev)
	}
	if !g.fin {
		return nil
	}
	defer g.next()
	if g.squeeze {
		return g.inflated(ev)
	}
	if g.kind == opText && g.valid != len(g.text) {
		return breach(wire.CloseInvalidData, "text is not UTF-8")
	}
	return ev.message(g.kind, g.text)
}

// next makes room for the next message.
func (g *frameGate) next() {
	if cap(g.text) > keepText {
		g.text = nil
	}
	g.text, g.valid, g.open, g.frames, g.empty = g.text[:0], 0, false, 0, 0
}

// inflated hands a compressed message over.
func (g *frameGate) inflated(ev events) *violation {
	i, _ := inflaters.Get().(*inflater)
	defer i.release()
	out, v := i.inflate(g.text, g.limits.message)
	if v != nil {
		return v
	}
	if g.kind == opText && !utf8.Valid(out) {
		return breach(wire.CloseInvalidData, "text is not UTF-8")
	}
	return ev.message(g.kind, out)
}

func (g *frameGate) completeClose(ev events) *violation {
	code := wire.CloseNormal
	if len(g.control) >= 2 {
		code = wire.CloseCode(binary.BigEndian.Uint16(g.control))
		if !validCode(code) {
			return breach(wire.CloseProtocol, "close code out of range")
		}
		if !utf8.Valid(g.control[2:]) {
			return breach(wire.CloseInvalidData, "close reason is not UTF-8")
		}
	}
	g.ended = true
	ev.closed(code)
	return nil
}

// validCode reports whether a peer may send the code (RFC 6455 section 7.4 and
// the IANA registry).
func validCode(c wire.CloseCode) bool {
	return c >= 1000 && c <= 1003 || c >= 1007 && c <= 1014 || c >= 3000 && c <= 4999
}
