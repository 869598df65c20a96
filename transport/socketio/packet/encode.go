package packet

import (
	"strconv"
	"unicode/utf8"
)

// AppendConnect appends the answer to CONNECT; data is a JSON object.
func AppendConnect(dst []byte, ns string, data []byte) []byte {
	return append(appendHead(dst, Connect, 0, ns), data...)
}

// AppendConnectError appends the refusal of CONNECT; data is a JSON object or string.
func AppendConnectError(dst []byte, ns string, data []byte) []byte {
	return append(appendHead(dst, ConnectError, 0, ns), data...)
}

// AppendDisconnect appends DISCONNECT.
func AppendDisconnect(dst []byte, ns string) []byte { return appendHead(dst, Disconnect, 0, ns) }

// AppendEvent appends an event with its arguments as JSON text. An offset other
// than 0 becomes a string behind them.
func AppendEvent(dst []byte, ns, name string, offset uint64, args ...[]byte) []byte {
	return appendEvent(appendHead(dst, Event, 0, ns), name, offset, args)
}

// AppendEventID is AppendEvent for an event to be acknowledged with the id.
func AppendEventID(dst []byte, ns string, id uint64, name string, args ...[]byte) []byte {
	return appendEvent(strconv.AppendUint(appendHead(dst, Event, 0, ns), id, 10), name, 0, args)
}

// AppendBinaryEvent is AppendEvent for arguments with placeholders of n attachments,
// which are to follow.
func AppendBinaryEvent(dst []byte, ns string, n int, name string, args ...[]byte) []byte {
	return appendEvent(appendHead(dst, BinaryEvent, n, ns), name, 0, args)
}

// AppendAck appends an acknowledgement with its arguments as JSON text.
func AppendAck(dst []byte, ns string, id uint64, args ...[]byte) []byte {
	return appendItems(append(strconv.AppendUint(appendHead(dst, Ack, 0, ns), id, 10), '['), false, args)
}

// AppendBinaryAck is AppendAck for arguments with placeholders of n attachments,
// which are to follow.
func AppendBinaryAck(dst []byte, ns string, n int, id uint64, args ...[]byte) []byte {
	return appendItems(append(strconv.AppendUint(appendHead(dst, BinaryAck, n, ns), id, 10), '['), false, args)
}

func appendHead(dst []byte, t Type, attachments int, ns string) []byte {
	dst = append(dst, '0'+byte(t))
	if t == BinaryEvent || t == BinaryAck {
		dst = append(strconv.AppendInt(dst, int64(attachments), 10), '-')
	}
	if ns != Main {
		dst = append(append(dst, ns...), ',')
	}
	return dst
}

func appendEvent(dst []byte, name string, offset uint64, args [][]byte) []byte {
	dst = AppendString(append(dst, '['), name)
	if offset == 0 {
		return appendItems(dst, true, args)
	}
	for _, arg := range args {
		dst = append(append(dst, ','), arg...)
	}
	dst = strconv.AppendUint(append(dst, `,"`...), offset, 10)
	return append(dst, `"]`...)
}

func appendItems(dst []byte, more bool, args [][]byte) []byte {
	for _, arg := range args {
		if more {
			dst = append(dst, ',')
		}
		dst = append(dst, arg...)
		more = true
	}
	return append(dst, ']')
}

// AppendString appends s as a JSON string. Bytes that are not UTF-8 become U+FFFD.
func AppendString(dst []byte, s string) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r < ' ' || r == 0x7f:
			dst = append(dst, '\\', 'u', '0', '0', digits[r>>4], digits[r&15])
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}
