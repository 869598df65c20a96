package fanout

import (
	"sync"
	"time"

	"github.com/velocimeter/velocimeter/transport/wire"
)

// channel is a selection of tokens in one form and framing. A private channel
// is only that: its single member keeps its own position. A chained one has a
// chain of messages, each of which is the same bytes for every member.
type channel struct {
	no      uint64
	key     key
	sel     *selection // nil: ranked
	page    *page
	framing Framing
	chained bool
	style   wire.Style
	wanted  uint64 // leaves after this one have rows for it
	born    uint64 // seq when it was opened
	members int    // guarded by table.mu

	mu       sync.Mutex
	seq      uint64 // of the newest message; before the first, of the board at creation
	through  uint64 // nothing of the channel changed in (seq, through]
	last     *message
	lastAt   time.Time  // when last was made; before the first, when the channel was
	variants []*message // catch-ups to the newest message, for those that fell behind
	total    uint64     // bytes of all messages so far
	ring     ring       // mode every
	broken   bool       // likewise: making a message failed
	top      *ranking   // ranked
}

// message is one link of a chain, framed. Immutable.
type message struct {
	prev, seq uint64
	from      uint64 // differences are from the values at this tick
	frames    [][]byte
	size      int
	total     uint64 // bytes of the chain up to and with this one
	snapshot  bool   // replaces all rows: every position may apply it
	absolute  bool   // nothing in it is a difference
	beat      bool   // only moves the position
}

// reaches reports whether a client whose values are those of its position can
// apply the message. loose says that they are newer in part.
func (m *message) reaches(pos uint64, loose bool) bool {
	switch {
	case m.snapshot:
		return true
	case m.absolute || m.beat:
		return m.prev <= pos
	}
	return m.prev <= pos && pos <= m.from && !loose
}

// advance brings the chain up to the newest round of its pace and returns its
// newest message, nil before the first, and its position. Whoever comes first in
// a round does the work.
func (c *channel) advance(h *Hub, now time.Time) (*message, uint64) {
	l := c.page.newest()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bring(h, l, now)
	return c.last, c.seq
}

// bring makes the messages that are due up to a leaf; mu is held.
func (c *channel) bring(h *Hub, l *leaf, now time.Time) {
	if l.seq() > c.through {
		m := c.compose(h, l)
		if m == nil {
			m = c.staleOnly(l)
		}
		if m != nil {
			c.take(m, now)
		}
		c.through = l.seq()
	}
	if c.through > c.seq && now.Sub(c.lastAt) >= h.cfg.Heartbeat {
		c.take(c.beat(c.through), now)
	}
}

// take makes m the newest message; mu is held.
func (c *channel) take(m *message, now time.Time) {
	for _, f := range m.frames {
		m.size += len(f)
	}
	c.total += uint64(m.size)
	m.total = c.total
	c.last, c.seq, c.lastAt = m, m.seq, now
	clear(c.variants)
	c.variants = c.variants[:0]
}

func (c *channel) beat(seq uint64) *message {
	m := &message{prev: c.seq, from: seq, seq: seq, beat: true}
	m.add(c.frame(wire.KindHeartbeat, seq, true, wire.AppendChannelHeartbeat(nil, c.page.format.Encoding, c.no, seq)))
	return m
}

// add appends a frame; a framing may have none.
func (m *message) add(frame []byte) {
	if len(frame) > 0 {
		m.frames = append(m.frames, frame)
	}
}

// frame frames a message of the chain.
func (c *channel) frame(kind wire.Kind, seq uint64, last bool, body []byte) []byte {
	data := kind == wire.KindSnapshot || kind == wire.KindDelta || kind == wire.KindHeartbeat
	m := Message{
		Kind: kind, Shared: true, Seq: seq, Last: last, Body: body,
		Binary: data && c.page.format.Encoding == wire.EncodingBinary,
	}
	return c.framing.Append(make([]byte, 0, len(body)+frameRoom), &m)
}

// frameRoom is what a framing may add to a message.
const frameRoom = 64

// compose encodes what is newer than c.through, or returns nil.
func (c *channel) compose(h *Hub, l *leaf) *message {
	if c.top != nil {
		m := c.composeTop(h, l)
		if m != nil {
			c.tellStale(m, l)
		}
		return m
	}
	m := &message{prev: c.seq, from: l.from, seq: l.seq()}
	// Rows of the leaf are differences from its start, where the members are,
	// unless the page went on while all of them were busy.
	m.absolute = !c.page.stepwise() || l.from != c.through
	if c.collect(h, l, m, c.through) == nil {
		return nil
	}
	c.tellStale(m, l)
	return m
}

// tellStale adds the event for tokens that have become stale, and reports
// whether there are any.
func (c *channel) tellStale(m *message, l *leaf) bool {
	text := []byte(nil)
	if c.top != nil {
		at := leaf{round: l.round, from: c.through, order: l.order}
		sel := &selection{ids: c.top.ids}
		at.stale = newlyStale(sel, &at)
		text = staleEvent(c.no, sel, &at)
	} else if len(l.stale) > 0 {
		text = staleEvent(c.no, c.sel, l)
	}
	if text != nil {
		m.add(c.frame(wire.KindStale, 0, true, text))
	}
	return text != nil
}

// collect encodes what is newer than since into the message's frames; it
// returns nil where nothing is.
func (c *channel) collect(h *Hub, l *leaf, m *message, since uint64) *message {
	removed := l.removed(c.sel, since)
	if len(removed) > wire.MaxRemoved {
		m.snapshot, m.absolute, removed = true, true, nil
	}
	p := c.parts(l, m)
	defer putParts(p)
	ready := l.filled && l.seq() > c.wanted && !m.snapshot && since >= l.from && (!m.absolute || !c.page.stepwise())
	n := 0
	c.sel.each(l.order, 0, func(i int) bool {
		var row []byte
		if ready {
			row = l.row(i)
		} else {
			p.row = c.page.row(p.row[:0], l, i, m.snapshot, since)
			row = p.row
		}
		if len(row) > 0 {
			p.RowOf(l.order.ids[i], row)
			n++
		}
		return true
	})
	if n == 0 && len(removed) == 0 && !m.snapshot {
		return nil
	}
	p.End(removed)
	h.stats.encodedRows.Add(uint64(n))
	return m
}

// parts returns a writer that frames the message's parts.
func (c *channel) parts(l *leaf, m *message) *parts {
	kind := wire.KindDelta
	if m.snapshot {
		kind = wire.KindSnapshot
	}
	head := wire.HeadOf(l.board, c.no)
	head.Seq, head.Prev, head.Snapshot = m.seq, m.prev, m.snapshot
	head.Encoding, head.Absolute, head.Style = c.page.format.Encoding, m.absolute, c.style
	return getParts(head, func(part []byte, more bool) {
		m.add(c.frame(kind, m.seq, !more, part))
	})
}

// staleOnly is a message that tells of stale tokens and nothing else; nil where
// there are none.
func (c *channel) staleOnly(l *leaf) *message {
	m := c.beat(l.seq())
	if !c.tellStale(m, l) {
		return nil
	}
	return m
}

// maxVariants bounds the catch-ups that a chain keeps for one message.
const maxVariants = 8

// catchUp returns what brings a client from its position to the newest message
// in absolute values: the fields that are newer. Encoded once for all clients
// that fell behind at the same tick.
func (c *channel) catchUp(h *Hub, pos uint64, now time.Time) *message {
	l := c.page.newest()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bring(h, l, now) // so that nothing changed between the message and the leaf
	for _, m := range c.variants {
		if m.prev == pos {
			return m
		}
	}
	m := &message{prev: pos, seq: c.seq, absolute: true, total: c.total}
	if c.collect(h, l, m, pos) == nil {
		m.frames, m.beat = c.beat(m.seq).frames, true
	}
	if text := staleAfter(c.no, c.sel, l, pos); text != nil {
		m.add(c.frame(wire.KindStale, 0, true, text))
	}
	for _, f := range m.frames {
		m.size += len(f)
	}
	if len(c.variants) < maxVariants {
		c.variants = append(c.variants, m)
	}
	return m
}

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
