package ws

import (
	"encoding/binary"

	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// Text frames each message as one unmasked text frame.
type Text struct{}

var _ fanout.Framing = Text{}

// Append implements fanout.Framing.
func (Text) Append(dst, message []byte) []byte {
	return append(appendHeader(dst, opText, len(message)), message...)
}

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
