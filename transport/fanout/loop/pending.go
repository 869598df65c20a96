package loop

import (
	"bytes"
	"slices"
	"sync"

	"github.com/velocimeter/velocimeter/transport/fanout"
)

// writeMost bounds one write where the peer may be slow, so that the kernel's own
// queue stays near TCP_NOTSENT_LOWAT: it looks at that only before a write.
const writeMost = 16 << 10

type scratch struct{ bytes []byte }

var scratchPool = sync.Pool{New: func() any { return &scratch{make([]byte, 0, writeMost)} }}

// pending is what a connection has still to write.
type pending struct {
	parts  [][]byte // the first may begin inside a frame
	cut    int      // bytes of the first part until the next border; 0 at one
	urgent []byte   // frames that go out at the next border
	final  []byte   // the last frame: nothing but the frame that is begun comes before
	grace  bool     // what was taken before the last frame may still go
	since  int64
}

// keep appends chunks from the given byte of the batch on; mu is held.
func (c *Conn) keep(batch []fanout.Chunk, from int) {
	out := c.hold()
	var own []byte
	flush := func() {
		if len(own) > 0 {
			out.parts = append(out.parts, own)
			own = nil
		}
	}
	for _, chunk := range batch {
		b := chunk.Bytes
		if from >= len(b) {
			from -= len(b)
			continue
		}
		if from > 0 {
			out.cut = c.handler.Border(b, from)
			b, from = b[from:], 0
		}
		if chunk.Shared {
			flush()
			out.parts = append(out.parts, b)
			continue
		}
		if own == nil {
			own = bytes.Clone(b)
		} else {
			own = append(own, b...)
		}
	}
	flush()
}

// settle brings what must be written into order and reports whether there is
// something.
func (p *pending) settle() bool {
	if p.cut > 0 {
		return true
	}
	if p.final != nil && (!p.grace || len(p.parts) == 0) {
		clear(p.parts)
		p.parts, p.final = append(p.parts[:0], p.final), nil
	}
	if p.urgent != nil {
		p.parts, p.urgent = slices.Insert(p.parts, 0, p.urgent), nil
	}
	return len(p.parts) > 0
}

// next returns the bytes to write now: several small parts are copied together
// into s. settle was called before.
func (p *pending) next(s *scratch) []byte {
	first := p.parts[0]
	if p.cut > 0 && (p.urgent != nil || p.final != nil && !p.grace) {
		return first[:min(p.cut, writeMost)]
	}
	if len(first) >= writeMost || len(p.parts) == 1 {
		return first[:min(len(first), writeMost)]
	}
	s.bytes = s.bytes[:0]
	for _, part := range p.parts {
		s.bytes = append(s.bytes, part[:min(len(part), writeMost-len(s.bytes))]...)
		if len(s.bytes) == writeMost {
			break
		}
	}
	return s.bytes
}

// advance takes n written bytes off. border is Handler.Border.
func (p *pending) advance(n int, border func([]byte, int) int) {
	for n > 0 {
		first := p.parts[0]
		m := min(n, len(first))
		if n -= m; m < p.cut {
			p.cut -= m
		} else {
			p.cut = border(first[p.cut:], m-p.cut)
		}
		if m < len(first) {
			p.parts[0] = first[m:]
			return
		}
		p.parts[0] = nil
		p.parts = p.parts[1:]
	}
}
