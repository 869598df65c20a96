package wire

import (
	"strconv"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Head is what stands before the rows of every part of a data message.
type Head struct {
	Encoding   Encoding
	Style      Style // JSON
	Snapshot   bool  // else a delta
	Absolute   bool  // binary: no row is a difference; AppendBinary was given no prev
	Channel    uint64
	Seq        uint64
	Prev       uint64 // deltas only
	Source     market.Source
	SourceTime market.Time // newest on the board
	ReceivedAt market.Time
	Simulated  bool
}

// HeadOf fills in the provenance of a board.
func HeadOf(b *market.Board, ch uint64) Head {
	return Head{Channel: ch, Seq: b.Seq, Source: b.Source, SourceTime: b.SourceTime, ReceivedAt: b.ReceivedAt, Simulated: b.Simulated}
}

// Parts cuts one data message into parts of at most MaxPart bytes, on row
// borders; a single longer row is a part of its own, and in StyleToken each is. Emit gets each part as it
// is complete and must copy it: the bytes are reused.
type Parts struct {
	Head Head
	Emit func(part []byte, more bool)

	buf  []byte
	rows int
	last market.ID // of the newest row; binary
}

// tailRoom is what may follow the rows of a JSON part that is not the last,
// idRoom what an id takes at most in removed.
const (
	tailRoom = len(`],"removed":[],"more":true}`)
	idRoom   = len(`4294967295,`)
)

// RowOf adds one encoded row: what AppendRow or AppendBinary made for the
// token. Binary rows must come in ascending order of id.
func (p *Parts) RowOf(id market.ID, row []byte) {
	if p.Head.Encoding == EncodingBinary {
		p.binaryRow(id, row)
		return
	}
	p.Row(row)
}

// Row adds one encoded row of a JSON message.
func (p *Parts) Row(row []byte) {
	if p.rows > 0 && (len(p.buf)+1+len(row)+tailRoom > MaxPart || p.Head.Style == StyleToken) {
		p.Flush()
	}
	if p.rows == 0 {
		p.buf = appendHead(p.buf[:0], &p.Head)
	} else {
		p.buf = append(p.buf, ',')
	}
	p.buf = append(p.buf, row...)
	p.rows++
}

// Fits reports whether a row of n bytes would still go into the current part.
func (p *Parts) Fits(n int) bool {
	if p.Head.Encoding == EncodingBinary {
		return p.rows == 0 || len(p.buf)+maxID+n <= MaxPart && p.rows < maxRows
	}
	return p.rows == 0 || len(p.buf)+1+n+tailRoom <= MaxPart && p.Head.Style != StyleToken
}

// Flush emits the rows so far as a part that others follow.
func (p *Parts) Flush() {
	switch {
	case p.Head.Encoding == EncodingBinary:
		p.seal(flagMore)
	case p.Head.Style == StyleToken:
		p.buf = append(p.buf, '}')
	default:
		p.buf = append(p.buf, `],"more":true}`...)
	}
	p.Emit(p.buf, true)
	p.rows = 0
}

// End emits the last part, which names the removed tokens of a delta. At most
// MaxRemoved ids keep it within MaxPart.
func (p *Parts) End(removed []market.ID) {
	if p.Head.Encoding == EncodingBinary {
		p.binaryEnd(removed)
		return
	}
	if p.Head.Style == StyleToken {
		p.endToken(removed)
		return
	}
	if p.rows > 0 && len(p.buf)+tailRoom+idRoom*len(removed) > MaxPart {
		p.Flush()
	}
	if p.rows == 0 {
		p.buf = appendHead(p.buf[:0], &p.Head)
	}
	p.buf = append(p.buf, ']')
	if !p.Head.Snapshot || p.Head.Style == StyleBulk {
		p.buf = appendIDs(append(p.buf, `,"removed":`...), removed)
	}
	p.buf = append(p.buf, '}')
	p.Emit(p.buf, false)
	p.rows = 0
}

func appendHead(dst []byte, h *Head) []byte {
	if h.Style != StyleStream {
		return appendStyled(dst, h)
	}
	if h.Snapshot {
		dst = append(dst, `{"type":"snapshot","ch":`...)
	} else {
		dst = append(dst, `{"type":"delta","ch":`...)
	}
	dst = appendUint(dst, h.Channel)
	dst = appendUint(append(dst, `,"seq":`...), h.Seq)
	if !h.Snapshot {
		dst = appendUint(append(dst, `,"prev":`...), h.Prev)
	}
	dst = append(append(append(dst, `,"source":"`...), h.Source.String()...), '"')
	dst = appendTime(append(dst, `,"source_time":`...), h.SourceTime)
	dst = appendTime(append(dst, `,"received_at":`...), h.ReceivedAt)
	dst = strconv.AppendBool(append(dst, `,"simulated":`...), h.Simulated)
	return append(dst, `,"rows":[`...)
}

// appendTime writes an unknown time as null.
func appendTime(dst []byte, t market.Time) []byte {
	if t == 0 {
		return append(dst, "null"...)
	}
	return appendInt(dst, int64(t))
}

// Reset forgets an unfinished message and the emitter, keeping the buffer.
func (p *Parts) Reset() { p.Head, p.Emit, p.rows = Head{}, nil, 0 }

// Pending reports whether rows wait for Flush or End.
func (p *Parts) Pending() bool { return p.rows > 0 }
