package socketio

import (
	"strconv"

	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/socketio/engineio"
	"github.com/velocimeter/velocimeter/transport/wire"
)

type (
	// bulk frames messages as events about many tokens: each is one unmasked WebSocket
	// text frame that holds one Engine.IO message, which holds one event.
	bulk struct{}
	// single does so for events about one token.
	single struct{}
)

var (
	_ fanout.Styled = bulk{}
	_ fanout.Styled = single{}
)

// Style implements fanout.Styled.
func (bulk) Style() wire.Style { return wire.StyleBulk }

// Style implements fanout.Styled.
func (single) Style() wire.Style { return wire.StyleToken }

// Single implements fanout.Styled.
func (bulk) Single() fanout.Framing { return single{} }

// Single implements fanout.Styled.
func (single) Single() fanout.Framing { return single{} }

// Append implements fanout.Framing.
func (bulk) Append(dst []byte, m *fanout.Message) []byte { return appendMessage(dst, m, "bulk_update") }

// Append implements fanout.Framing.
func (single) Append(dst []byte, m *fanout.Message) []byte {
	return appendMessage(dst, m, "token_update")
}

// Compresses implements fanout.Framing.
func (bulk) Compresses() bool { return false }

// Compresses implements fanout.Framing.
func (single) Compresses() bool { return false }

// appendMessage frames what has an event, and leaves out the rest: Engine.IO has its
// own greeting and its own heartbeat.
func appendMessage(dst []byte, m *fanout.Message, data string) []byte {
	name := data
	switch m.Kind {
	case wire.KindSnapshot, wire.KindDelta:
	case wire.KindStale:
		name = "stale"
	case wire.KindDrain:
		name = "drain"
	case wire.KindError:
		name = "error_event"
	default:
		return dst
	}
	var text [maxOffset]byte
	offset := text[:0]
	if m.Seq > 0 && m.Last {
		offset = append(strconv.AppendUint(append(offset, `,"`...), m.Seq, 10), '"')
	}
	dst = engineio.AppendHead(dst, len(`2["",]`)+len(name)+len(m.Body)+len(offset))
	dst = append(append(append(dst, `2["`...), name...), `",`...)
	return append(append(append(dst, m.Body...), offset...), ']')
}

// maxOffset is the longest last argument, with its comma.
const maxOffset = len(`,"18446744073709551615"`)
