package fanout

import (
	"sync"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// channel is a selection of tokens in one format and framing. A private channel
// is only that: its single member keeps its own position. A shared one has a
// chain of messages, each of which is the same bytes for every member.
type channel struct {
	no      uint64
	key     key
	sel     *selection
	rows    *fragments
	framing Framing
	shared  bool
	members int // guarded by table.mu

	mu      sync.Mutex
	seq     uint64 // of the newest message; before the first, of the board at creation
	through uint64 // nothing of the channel changed in (seq, through]
	last    *message
	lastAt  time.Time // when last was made; before the first, when the channel was
}

// message is one link of a shared channel's chain, framed. Immutable.
type message struct {
	prev, seq uint64
	frames    [][]byte
	snapshot  bool // replaces all rows: every position may apply it
	beat      bool // only moves the position
}

// advance brings the chain up to the round and returns its newest message, nil
// before the first. Whoever comes first in a round does the work.
func (c *channel) advance(h *Hub, r *round, now time.Time) *message {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.seq() > c.through {
		if m := c.compose(h, r); m != nil {
			c.last, c.seq, c.lastAt = m, r.seq(), now
		}
		c.through = r.seq()
	}
	if c.through > c.seq && now.Sub(c.lastAt) >= h.cfg.Heartbeat {
		beat := wire.AppendChannelHeartbeat(nil, c.no, c.through)
		c.last = &message{prev: c.seq, seq: c.through, beat: true, frames: [][]byte{c.framing.Append(nil, &Message{Kind: wire.KindHeartbeat, Shared: true, Seq: c.through, Last: true, Body: beat})}}
		c.seq, c.lastAt = c.through, now
	}
	return c.last
}

// compose encodes what is newer than c.through, or returns nil.
func (c *channel) compose(h *Hub, r *round) *message {
	m := &message{prev: c.seq, seq: r.seq()}
	parts := getParts(r.head(c.no), func(part []byte, more bool) {
		kind := wire.KindDelta
		if m.snapshot {
			kind = wire.KindSnapshot
		}
		framed := Message{Kind: kind, Shared: true, Seq: m.seq, Last: !more, Body: part}
		m.frames = append(m.frames, c.framing.Append(make([]byte, 0, len(part)+frameRoom), &framed))
	})
	defer putParts(parts)
	removed := r.removed(c.sel, c.seq)
	parts.Head.Prev = c.seq
	n := 0
	add := func(s *market.Snapshot, mask market.Mask) {
		parts.row = c.rows.encode(parts.row[:0], r, s, mask)
		if len(parts.row) > 0 {
			parts.Row(parts.row)
			n++
		}
	}
	switch since := c.through; {
	case len(removed) > wire.MaxRemoved:
		parts.Head.Snapshot, m.snapshot = true, true
		c.sel.each(r, 0, func(i int) bool { add(r.token(i), market.AllFields); return true })
	case c.sel.all && r.tick != nil && r.from <= since:
		r.tick.Changes(func(ch *market.Change) bool { add(ch.Snap, ch.Mask); return true })
	default:
		c.sel.each(r, 0, func(i int) bool { s := r.token(i); add(s, changedSince(s, since)); return true })
	}
	if n == 0 && len(removed) == 0 {
		return nil
	}
	parts.End(removed)
	h.stats.encodedRows.Add(uint64(n))
	return m
}

// frameRoom is what a framing may add to a message.
const frameRoom = 16

// parts is a pooled part writer with room for a row.
type parts struct {
	wire.Parts
	row []byte
}

var partsPool = sync.Pool{New: func() any { return new(parts) }}

// getParts returns a writer for one message; putParts gives it back.
func getParts(head wire.Head, emit func(part []byte, more bool)) *parts {
	p, _ := partsPool.Get().(*parts)
	p.Head, p.Emit = head, emit
	return p
}

func putParts(p *parts) {
	p.Reset()
	partsPool.Put(p)
}
