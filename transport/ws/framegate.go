package ws

import (
	"encoding/binary"
	"unicode/utf8"

	"github.com/velocimeter/velocimeter/transport/wire"
)

// Limits of client messages beside wire.MaxMessage.
const (
	maxFragments = 64 // frames of one message
	maxEmpty     = 8  // of them without payload
	maxControl   = 125
	maxHeader    = 14
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
	message(text []byte) *violation
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

// frameGate reads client frames (RFC 6455 without extensions) from a stream of bytes
// cut anywhere. It holds at most one message of wire.MaxMessage bytes.
type frameGate struct {
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
	valid   int    // its prefix that is whole UTF-8
	open    bool   // a fragmented message is begun
	frames  int
	empty   int
	ended   bool // a close frame came; the rest is ignored
}

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
	case first&0x70 != 0:
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
	case g.op == opBinary:
		return breach(wire.CloseWrongType, "this sub-protocol is text")
	}
	return nil
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
		if n > wire.MaxMessage {
			return breach(wire.CloseTooBig, "message above 64 KiB")
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
	if len(g.text)+g.left > wire.MaxMessage {
		return breach(wire.CloseTooBig, "message above 64 KiB")
	}
	if g.frames++; g.frames > maxFragments {
		return breach(wire.ClosePolicy, "message in more than 64 fragments")
	}
	if g.left == 0 && (g.open || !g.fin) {
		if g.empty++; g.empty > maxEmpty {
			return breach(wire.ClosePolicy, "more than 8 empty fragments")
		}
	}
	g.open = true
	return nil
}

func (g *frameGate) payload(p []byte) *violation {
	into := &g.text
	if g.op >= opClose {
		into = &g.control
	}
	for _, c := range p {
		*into = append(*into, c^g.mask[g.masked&3])
		g.masked++
	}
	g.left -= len(p)
	if g.op < opClose {
		return g.validate()
	}
	return nil
}

// validate checks UTF-8 as far as the message has come; a character may be cut
// at its end.
func (g *frameGate) validate() *violation {
	for g.valid < len(g.text) {
		rest := g.text[g.valid:]
		if rest[0] < utf8.RuneSelf {
			g.valid++
			continue
		}
		r, n := utf8.DecodeRune(rest)
		if r == utf8.RuneError && n == 1 {
			if utf8.FullRune(rest) {
				return breach(wire.CloseInvalidData, "text is not UTF-8")
			}
			return nil
		}
		g.valid += n
	}
	return nil
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
	if g.valid != len(g.text) {
		return breach(wire.CloseInvalidData, "text is not UTF-8")
	}
	text := g.text
	g.text, g.valid, g.open, g.frames, g.empty = nil, 0, false, 0, 0
	return ev.message(text)
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
