package wire

import (
	"encoding/binary"
	"slices"

	"github.com/velocimeter/velocimeter/engine/market"
)

// The kinds of binary messages, their first byte.
const (
	binarySnapshot = iota + 1
	binaryDelta
	binaryHeartbeat
)

// The flags of binary messages, their second byte.
const (
	flagMore = 1 << iota
	flagSimulated
	flagAbsolute
	flagRemoved
)

const (
	headSize = 16
	maxID    = 5 // bytes of an id distance
	maxRows  = 1<<16 - 1
	atFlags  = 1
	atRows   = 2
)

// appendBinaryHead appends the fixed head, with no rows yet, and what follows it.
func appendBinaryHead(dst []byte, h *Head) []byte {
	kind, flags := byte(binaryDelta), byte(0)
	if h.Snapshot {
		kind = binarySnapshot
	}
	if h.Simulated {
		flags |= flagSimulated
	}
	if h.Absolute || h.Snapshot {
		flags |= flagAbsolute
	}
	dst = appendFixed(dst, kind, flags, h.Channel, h.Seq)
	if !h.Snapshot {
		dst = appendUvarint(dst, h.Seq-h.Prev)
	}
	dst = appendUvarint(dst, uint64(h.SourceTime))
	dst = appendVarint(dst, int64(h.ReceivedAt-h.SourceTime))
	return appendUvarint(dst, uint64(h.Source))
}

func appendFixed(dst []byte, kind, flags byte, ch, seq uint64) []byte {
	dst = append(dst, kind, flags, 0, 0)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(ch))
	return binary.LittleEndian.AppendUint64(dst, seq)
}

func (p *Parts) binaryRow(id market.ID, body []byte) {
	if !p.Fits(len(body)) {
		p.Flush()
	}
	if p.rows == 0 {
		p.buf, p.last = appendBinaryHead(p.buf[:0], &p.Head), 0
	} else if id <= p.last {
		panic("BUG: binary rows out of order")
	}
	p.buf = append(appendUvarint(p.buf, uint64(id-p.last)), body...)
	p.last = id
	p.rows++
}

// seal completes the fixed head of a part.
func (p *Parts) seal(flags byte) {
	p.buf[atFlags] |= flags
	binary.LittleEndian.PutUint16(p.buf[atRows:], uint16(p.rows))
}

func (p *Parts) binaryEnd(removed []market.ID) {
	if p.rows > 0 && len(p.buf)+maxID*(1+len(removed)) > MaxPart {
		p.Flush()
	}
	if p.rows == 0 {
		p.buf = appendBinaryHead(p.buf[:0], &p.Head)
	}
	if p.Head.Snapshot || len(removed) == 0 {
		p.seal(0)
	} else {
		p.seal(flagRemoved)
		p.buf = appendRemoved(p.buf, removed)
	}
	p.Emit(p.buf, false)
	p.rows = 0
}

func appendRemoved(dst []byte, removed []market.ID) []byte {
	if !slices.IsSorted(removed) {
		removed = slices.Sorted(slices.Values(removed))
	}
	dst = appendUvarint(dst, uint64(len(removed)))
	last := market.ID(0)
	for _, id := range removed {
		dst = appendUvarint(dst, uint64(id-last))
		last = id
	}
	return dst
}

// AppendChannelHeartbeat appends the heartbeat of a silent channel: nothing of
// it changed through seq.
func AppendChannelHeartbeat(dst []byte, e Encoding, ch, seq uint64) []byte {
	if e == EncodingBinary {
		return appendFixed(dst, binaryHeartbeat, 0, ch, seq)
	}
	dst = appendUint(append(dst, `{"type":"heartbeat","ch":`...), ch)
	return append(appendUint(append(dst, `,"seq":`...), seq), '}')
}
