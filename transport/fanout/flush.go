package fanout

import (
	"sync"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// batch collects what goes to a link at once: stretches of its own buffer and
// frames shared with others, in order. It is used again for the next one.
type batch struct {
	own    []byte
	from   int // start of the stretch of own that is not in chunks yet
	spans  []chunkSpan
	chunks []Chunk
	size   int
	limit  int
	out    Outbox // of the lane; nil to write at once

	parts   parts // of messages that are made in one go, whose only part goes to emit
	emit    func(part []byte, more bool)
	message Message // what is being framed; a field, so that nothing escapes
	framing Framing
}

// begin prepares for a message that is made in one go.
func (b *batch) begin(head wire.Head, fr Framing) *parts {
	if b.emit == nil {
		b.emit = func(part []byte, more bool) {
			b.message.Body, b.message.Last = part, !more
			b.frame(b.framing, b.message)
		}
	}
	b.framing = fr
	b.message = Message{Kind: wire.KindDelta, Binary: head.Encoding == wire.EncodingBinary, Seq: head.Seq}
	b.parts.Reset() // a panic may have left rows
	b.parts.Head, b.parts.Emit = head, b.emit
	return &b.parts
}

// chunkSpan is a shared frame, or a stretch of the own buffer where shared is nil.
type chunkSpan struct {
	from, to int
	shared   []byte
}

var batchPool = sync.Pool{New: func() any { return new(batch) }}

// keepBuffer bounds the buffers that are kept for the next batch.
const keepBuffer = 256 << 10

func (b *batch) reset(limit int) {
	if cap(b.own) > keepBuffer {
		b.own = nil
	}
	clear(b.spans)
	clear(b.chunks)
	b.own, b.spans, b.chunks = b.own[:0], b.spans[:0], b.chunks[:0]
	b.from, b.size, b.limit = 0, 0, limit
}

func (b *batch) full() bool { return b.size >= b.limit }

// frame adds a message and reports whether the framing has one.
func (b *batch) frame(fr Framing, m Message) bool {
	before := len(b.own)
	b.message = m
	b.own = fr.Append(b.own, &b.message)
	b.size += len(b.own) - before
	return len(b.own) > before
}

func (b *batch) share(frame []byte) {
	b.cut()
	b.spans = append(b.spans, chunkSpan{shared: frame})
	b.size += len(frame)
}

func (b *batch) cut() {
	if n := len(b.own); n > b.from {
		b.spans = append(b.spans, chunkSpan{from: b.from, to: n})
		b.from = n
	}
}

func (b *batch) take() []Chunk {
	b.cut()
	for _, c := range b.spans {
		if c.shared != nil {
			b.chunks = append(b.chunks, Chunk{Bytes: c.shared, Shared: true})
		} else {
			b.chunks = append(b.chunks, Chunk{Bytes: b.own[c.from:c.to]})
		}
	}
	return b.chunks
}

// flush hands the link everything that is due, as long as it takes it.
func (s *Session) flush(now time.Time) {
	if s.writing || s.closing || s.closed {
		return
	}
	b, _ := batchPool.Get().(*batch)
	s.flushWith(b, now)
	batchPool.Put(b)
}

func (s *Session) flushWith(b *batch, now time.Time) {
	for !s.writing && !s.closing && !s.closed {
		b.reset(s.hub.cfg.Batch)
		s.see()
		s.collect(b, now)
		if b.size == 0 {
			s.finish()
			return
		}
		s.since = now
		s.counts.bytes += uint64(b.size)
		s.hub.stats.bytes.Add(uint64(b.size))
		s.writing = s.hand(b)
		if s.past != nil {
			s.remember(now)
		}
	}
}

// hand gives the link what was collected. What an end waits for is written at once.
func (s *Session) hand(b *batch) (pending bool) {
	if b.out != nil && s.ending == 0 {
		if link, ok := s.link.(Stager); ok {
			return link.Stage(b.out, b.take())
		}
	}
	return s.link.TryWrite(b.take())
}

// finish closes the connection where its last message is written.
func (s *Session) finish() {
	if s.ending != 0 {
		s.close(s.ending)
	}
}

func (s *Session) collect(b *batch, now time.Time) {
	s.drainControl(b)
	if s.ending != 0 {
		return
	}
	for i := range s.members {
		j := (s.turn + i) % len(s.members)
		s.serve(s.members[j], b, now)
		if b.full() || s.closing {
			s.turn = j + 1 // a long snapshot takes turns with the other channels
			return
		}
	}
}

func (s *Session) drainControl(b *batch) {
	if len(s.control) == 0 {
		return
	}
	b.own = append(b.own, s.control...)
	b.size += len(s.control)
	s.control = nil // answers are rare: an idle connection keeps no room for them
}

// serve adds what one channel has for the session, as far as it fits.
func (s *Session) serve(m *member, b *batch, now time.Time) {
	for !b.full() && !s.closing {
		switch {
		case m.pinned != nil:
			s.writePinned(m, b, now)
		case m.job.active:
			s.writeJob(m, b, now)
		case m.again && s.view.seq() >= m.pos:
			m.restart(s, now)
		case !m.ch.chained && s.direct(m, b, now):
		case s.next(m, now):
		case s.verified(m, b):
		default:
			return
		}
	}
}

func (s *Session) writePinned(m *member, b *batch, now time.Time) {
	if m.pinned.snapshot {
		m.trail = nil
	}
	for ; m.part < len(m.pinned.frames) && !b.full(); m.part++ {
		b.share(m.pinned.frames[m.part])
		s.message()
	}
	if m.part == len(m.pinned.frames) {
		m.pos, m.through, m.total = m.pinned.seq, m.pinned.seq, m.pinned.total
		m.beat, m.fresh, m.loose, m.mixed, m.pinned = now, m.pinned.snapshot, false, false, nil
	}
}

// message counts one that goes out.
func (s *Session) message() {
	s.counts.messages++
	s.hub.stats.messages.Add(1)
}

// writeJob adds parts until the batch is full or the message is complete.
func (s *Session) writeJob(m *member, b *batch, now time.Time) {
	j, c := &m.job, m.ch
	v := s.view
	switch {
	case j.at != nil:
		v = j.at.view
	case j.view != nil:
		v = j.view
	}
	var removed []market.ID
	if !j.snapshot {
		removed = v.removed(c.sel, j.since)
		if len(removed) > wire.MaxRemoved && !j.begun {
			j.snapshot, j.rows = true, false
		}
	}
	p := s.jobParts(m, v, b)
	defer putParts(p)
	if !m.jobRows(v, b, p) {
		return
	}
	switch {
	case j.snapshot || j.begun || p.Pending() || len(removed) > 0:
		if j.snapshot {
			removed = c.missing(p)
		}
		p.End(removed)
		m.pos, m.beat, m.fresh, m.loose = j.seq, now, j.snapshot, j.snapshot
		m.mixed = j.mixed
	case j.beat:
		s.beat(m, b, j.seq)
		m.pos, m.beat, m.fresh, m.loose, m.mixed = j.seq, now, false, false, false
	}
	s.tellStale(m, b)
	m.through = j.seq
	if c.chained {
		m.total = c.bytes()
	}
	m.job = job{}
}

// missing returns what a snapshot says is removed: the token that has the channel
// to itself where there is no row of it, for nothing else would name it.
func (c *channel) missing(p *parts) []market.ID {
	if c.style == wire.StyleToken && !p.Pending() {
		return c.sel.ids
	}
	return nil
}

// jobParts returns a writer for the parts of a member's own message.
func (s *Session) jobParts(m *member, v *view, b *batch) *parts {
	j, c := &m.job, m.ch
	if !j.begun {
		j.head = wire.HeadOf(v.board, c.no)
	}
	head := j.head
	head.Seq, head.Prev, head.Snapshot = j.seq, m.pos, j.snapshot
	head.Encoding, head.Absolute, head.Style = c.page.format.Encoding, !j.rows, c.style
	kind := wire.KindDelta
	if j.snapshot {
		kind = wire.KindSnapshot
	}
	return getParts(head, func(part []byte, more bool) {
		b.frame(c.framing, Message{Kind: kind, Binary: c.page.binary(), Seq: j.seq, Last: !more, Body: part})
		if j.begun = true; j.snapshot {
			m.trail = nil // the client's rows are being replaced
		}
		s.message()
	})
}

func (s *Session) beat(m *member, b *batch, seq uint64) {
	text := wire.AppendChannelHeartbeat(nil, m.ch.page.format.Encoding, m.ch.no, seq)
	if b.frame(m.ch.framing, Message{Kind: wire.KindHeartbeat, Binary: m.ch.page.binary(), Seq: seq, Last: true, Body: text}) {
		s.message()
	}
}

// tellStale adds the event for tokens that have become stale.
func (s *Session) tellStale(m *member, b *batch) {
	j := &m.job
	if j.snapshot || j.at == nil || m.told >= j.at.seq() {
		return
	}
	told := m.told
	m.told = j.at.seq()
	switch {
	case !j.rows:
		s.event(m, staleAfter(m.ch.no, m.ch.sel, j.at, max(told, j.since)), b)
	case len(j.at.stale) > 0:
		s.event(m, staleEvent(m.ch.no, m.ch.sel, j.at), b)
	}
}

// tellListed is tellStale for a member with a list.
func (s *Session) tellListed(m *member, l *leaf, b *batch) {
	m.told = l.seq()
	for _, i := range m.at {
		if i >= 0 && l.isStale[i] {
			s.event(m, staleEvent(m.ch.no, m.list, l), b)
			return
		}
	}
}

func (s *Session) event(m *member, text []byte, b *batch) {
	if text != nil && b.frame(m.ch.framing, Message{Kind: wire.KindStale, Body: text}) {
		s.message()
	}
}

// jobRows adds rows from where the job stands and reports whether it came to the end.
func (m *member) jobRows(v *view, b *batch, p *parts) (done bool) {
	j, page := &m.job, m.ch.page
	j.mixed = j.mixed || j.snapshot && v.seq() != j.seq
	o, done := v.order(), true
	add := func(i int) bool {
		row := p.row[:0]
		switch {
		case j.rows:
			row = j.at.row(i)
		case j.snapshot && j.at != nil:
			p.row = page.whole(row, j.head.Source, o, i, j.at.token(i))
			row = p.row
		case j.snapshot:
			p.row = page.whole(row, j.head.Source, o, i, o.token(v.board, i))
			row = p.row
		default:
			p.row = page.since(row, j.at, i, j.since)
			row = p.row
		}
		if len(row) == 0 {
			return true
		}
		if !p.Fits(len(row)) {
			p.Flush()
			if b.full() {
				j.from, done = o.ids[i], false
				return false
			}
		}
		p.RowOf(o.ids[i], row)
		return true
	}
	if m.ch.top != nil {
		(&selection{ids: j.ids}).each(o, j.from, add)
	} else {
		m.ch.sel.each(o, j.from, add)
	}
	return done
}

// bytes returns how many the chain has had.
func (c *channel) bytes() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total
}
