package ws

import (
	"encoding/binary"

	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/wire"
)

type (
	// Text frames each message as one unmasked frame, of connections that speak JSON.
	Text struct{}
	// Binary does the same for connections that speak the binary encoding. It is a
	// type of its own because channels are shared between equal framings.
	Binary struct{}
)

var (
	_ fanout.Framing = Text{}
	_ fanout.Framing = Binary{}
)

// Append implements fanout.Framing.
func (Text) Append(dst []byte, m *fanout.Message) []byte { return appendMessage(dst, m) }

// Compresses implements fanout.Framing.
func (Text) Compresses() bool { return false }

// Append implements fanout.Framing.
func (Binary) Append(dst []byte, m *fanout.Message) []byte { return appendMessage(dst, m) }

// Compresses implements fanout.Framing.
func (Binary) Compresses() bool { return false }

func appendMessage(dst []byte, m *fanout.Message) []byte {
	op := byte(opText)
	if m.Binary {
		op = opBinary
	}
	return append(appendHeader(dst, op, len(m.Body)), m.Body...)
}

// AppendHead appends the head of a frame of the server that holds a whole message
// of n bytes, text or binary.
func AppendHead(dst []byte, binary bool, n int) []byte {
	if binary {
		return appendHeader(dst, opBinary, n)
	}
	return appendHeader(dst, opText, n)
}

// CutFrame takes the first frame off frames that AppendHead began.
func CutFrame(frames []byte) (payload []byte, binary bool, rest []byte) {
	left := len(unfinished(frames, 2)) // a frame is longer than its first two bytes, or has only them
	head := 2
	switch frames[1] {
	case 126:
		head = 4
	case 127:
		head = 10
	}
	return frames[head : 2+left], frames[0]&0x0f == opBinary, frames[2+left:]
}

// appendHeader appends the head of a final frame of n bytes; op may hold RSV1.
func appendHeader(dst []byte, op byte, n int) []byte {
	dst = append(dst, 0x80|op)
	switch {
	case n <= maxControl:
		return append(dst, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, 126), uint16(n))
	default:
		return binary.BigEndian.AppendUint64(append(dst, 127), uint64(n))
	}
}

func appendControl(dst []byte, op byte, payload []byte) []byte {
	return append(appendHeader(dst, op, len(payload)), payload...)
}

func appendClose(dst []byte, code wire.CloseCode, reason string) []byte {
	if len(reason) > maxControl-2 {
		reason = reason[:maxControl-2]
	}
	dst = appendHeader(dst, opClose, 2+len(reason))
	return append(binary.BigEndian.AppendUint16(dst, uint16(code)), reason...)
}

// unfinished returns what is left of the frame that n bytes of p end in. p is
// whole frames of ours.
func unfinished(p []byte, n int) []byte {
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
	return p[n:end]
}

// AppendFrame appends a frame of the server that holds a whole message.
func AppendFrame(dst []byte, binary bool, payload []byte) []byte {
	return append(AppendHead(dst, binary, len(payload)), payload...)
}
