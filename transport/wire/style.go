package wire

import (
	"strconv"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Style is what JSON data messages are wrapped in. Rows are the same bytes in
// all, so that whoever encodes them does it once.
type Style uint8

// The styles.
const (
	// StyleStream is the stream protocol's: channel, seq and prev.
	StyleStream Style = iota
	// StyleBulk is the payload of Socket.IO's bulk_update: seq, time, source,
	// source_time, simulated, type, rows. Its last part has removed, empty in a
	// snapshot; all others have "more":true.
	StyleBulk
	// StyleToken is the payload of Socket.IO's token_update: the same head, and
	// one row as token in each part. A last part without a row has token null, and
	// removed.
	StyleToken
)

// appendStyled is appendHead of the styles that are not the stream's.
func appendStyled(dst []byte, h *Head) []byte {
	dst = appendUint(append(dst, `{"seq":`...), h.Seq)
	dst = appendTime(append(dst, `,"time":`...), h.ReceivedAt)
	dst = append(append(append(dst, `,"source":"`...), h.Source.String()...), '"')
	dst = appendTime(append(dst, `,"source_time":`...), h.SourceTime)
	dst = strconv.AppendBool(append(dst, `,"simulated":`...), h.Simulated)
	if h.Snapshot {
		dst = append(dst, `,"type":"snapshot",`...)
	} else {
		dst = append(dst, `,"type":"delta",`...)
	}
	if h.Style == StyleToken {
		return append(dst, `"token":`...)
	}
	return append(dst, `"rows":[`...)
}

// endToken emits the last part of a message of one row a part.
func (p *Parts) endToken(removed []market.ID) {
	if p.rows > 0 && len(removed) > 0 {
		p.Flush()
	}
	if p.rows == 0 {
		p.buf = append(appendHead(p.buf[:0], &p.Head), `null,"removed":`...)
		p.buf = appendIDs(p.buf, removed)
	}
	p.buf = append(p.buf, '}')
	p.Emit(p.buf, false)
	p.rows = 0
}
