package fanout

import (
	"sync"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// buffer holds the bytes of a batch that belong to one session.
type buffer struct{ bytes []byte }

var bufferPool = sync.Pool{New: func() any { return new(buffer) }}

// keepBuffer bounds the buffers that go back to the pool.
const keepBuffer = 256 << 10

// keepControl bounds what an empty control queue keeps of its room.
const keepControl = 4 << 10

func (s *Session) release() {
	if s.buf != nil && cap(s.buf.bytes) <= keepBuffer {
		bufferPool.Put(s.buf)
	}
	s.buf = nil
}

// batch collects what goes to the link at once: stretches of the session's own
// buffer and frames shared with others, in order.
type batch struct {
	own    *buffer
	from   int // start of the stretch that is not in chunks yet
	chunks []chunk
	size   int
	limit  int
}

// chunk is a shared frame, or a stretch of the own buffer where shared is nil.
type chunk struct {
	from, to int
	shared   []byte
}

func (b *batch) full() bool { return b.size >= b.limit }

func (b *batch) frame(fr Framing, m *Message) {
	before := len(b.own.bytes)
	b.own.bytes = fr.Append(b.own.bytes, m)
	b.size += len(b.own.bytes) - before
}

func (b *batch) share(frame []byte) {
	b.cut()
	b.chunks = append(b.chunks, chunk{shared: frame})
	b.size += len(frame)
}

func (b *batch) cut() {
	if n := len(b.own.bytes); n > b.from {
		b.chunks = append(b.chunks, chunk{from: b.from, to: n})
		b.from = n
	}
}

func (b *batch) frames() []Chunk {
	b.cut()
	out := make([]Chunk, len(b.chunks))
	for i, c := range b.chunks {
		if out[i] = (Chunk{Bytes: c.shared, Shared: true}); c.shared == nil {
			out[i] = Chunk{Bytes: b.own.bytes[c.from:c.to]}
		}
	}
	return out
}

// flush hands the link everything that is due, as long as it takes it.
func (s *Session) flush(now time.Time) {
	for !s.writing && !s.closing && !s.closed {
		s.see()
		own, _ := bufferPool.Get().(*buffer)
		own.bytes = own.bytes[:0]
		b := batch{own: own, limit: s.hub.cfg.Batch}
		s.collect(&b, now)
		if b.size == 0 {
			bufferPool.Put(own)
			s.finish()
			return
		}
		s.buf, s.writing, s.since, s.sent = own, true, now, now
		s.hub.stats.bytes.Add(uint64(b.size))
		if !s.link.TryWrite(b.frames()) {
			s.release()
			s.writing = false
		}
	}
}

// finish closes the connection where its last message is written.
func (s *Session) finish() {
	if s.ending != 0 {
		s.close(s.ending)
	}
}

func (s *Session) collect(b *batch, now time.Time) {
	if len(s.control) > 0 {
		b.own.bytes = append(b.own.bytes, s.control...)
		b.size = len(b.own.bytes)
		s.control = s.control[:0]
		if cap(s.control) > keepControl {
			s.control = nil
		}
	}
	if s.ending != 0 {
		return
	}
	for i := range s.members {
		j := (s.turn + i) % len(s.members)
		s.serve(s.members[j], b, now)
		if b.full() {
			s.turn = j + 1 // a long snapshot takes turns with the other channels
			return
		}
	}
}

// busy reports whether a message is begun and not finished.
func (m *member) busy() bool { return m.pinned != nil || m.job.active }

// serve adds what one channel has for the session, as far as it fits.
func (s *Session) serve(m *member, b *batch, now time.Time) {
	for !b.full() {
		switch {
		case m.pinned != nil:
			s.writePinned(m, b, now)
		case m.job.active:
			s.writeJob(m, b, now)
		case m.again:
			m.restart(s.round)
		case !s.next(m, now):
			return
		}
	}
}

// next begins the next message of a member, if one is due.
func (s *Session) next(m *member, now time.Time) bool {
	if !m.ch.shared {
		return s.nextPrivate(m, now)
	}
	last := m.ch.advance(s.hub, s.round, now)
	if last != nil && last.seq > s.round.seq() {
		s.see() // another session brought the channel further than this one had seen
	}
	switch {
	case last == nil || last.seq <= m.pos:
		return false
	case last.beat && last.prev <= m.pos && m.fresh && now.Sub(m.beat) < s.hub.cfg.Heartbeat:
		return false // the others' silence is older than this member
	case last.prev <= m.pos || last.snapshot:
		m.pinned, m.part = last, 0
	default:
		s.hub.stats.conflated.Add(1)
		m.job = job{active: true, at: s.round, since: m.pos, seq: s.round.seq()}
	}
	return true
}

func (s *Session) nextPrivate(m *member, now time.Time) bool {
	switch seq := s.round.seq(); {
	case seq > m.through:
		m.job = job{active: true, at: s.round, since: m.through, seq: seq}
	case m.through > m.pos && now.Sub(m.beat) >= s.hub.cfg.Heartbeat:
		m.job = job{active: true, at: s.round, since: m.through, seq: seq, beat: true}
	default:
		return false
	}
	return true
}

func (s *Session) writePinned(m *member, b *batch, now time.Time) {
	for ; m.part < len(m.pinned.frames) && !b.full(); m.part++ {
		b.share(m.pinned.frames[m.part])
		s.hub.stats.messages.Add(1)
	}
	if m.part == len(m.pinned.frames) {
		m.pos, m.beat, m.fresh, m.pinned = m.pinned.seq, now, m.pinned.snapshot, nil
	}
}

// job is a message of one member alone, made part by part as the link takes
// them. A snapshot begins the channel anew; its later parts may show later
// values than seq, and what follows the last part brings the client to one tick
// again. A delta holds what is newer than since, as of its round, which it keeps
// alive until it is written: no longer than a write may stall.
type job struct {
	active   bool
	at       *round // deltas only
	snapshot bool
	begun    bool // a part is out
	beat     bool // send a heartbeat if there is nothing else
	seq      uint64
	since    uint64
	from     market.ID // next token
}

// restart begins the channel anew with a snapshot: after the message that is
// begun, or by the snapshot that is.
func (m *member) restart(r *round) {
	m.again = m.busy() && !m.job.snapshot
	if !m.busy() {
		m.job = job{active: true, snapshot: true, seq: r.seq()}
	}
}

// writeJob adds parts until the batch is full or the message is complete.
func (s *Session) writeJob(m *member, b *batch, now time.Time) {
	j := &m.job
	var removed []market.ID
	if !j.snapshot {
		removed = j.at.removed(m.ch.sel, min(j.since, m.pos))
		j.snapshot = len(removed) > wire.MaxRemoved
	}
	at := s.round
	if !j.snapshot {
		at = j.at
	}
	head := at.head(m.ch.no)
	head.Seq, head.Prev, head.Snapshot = j.seq, m.pos, j.snapshot
	p := getParts(head, func(part []byte, more bool) {
		kind := wire.KindDelta
		if j.snapshot {
			kind = wire.KindSnapshot
		}
		b.frame(m.ch.framing, &Message{Kind: kind, Seq: j.seq, Last: !more, Body: part})
		j.begun = true
		s.hub.stats.messages.Add(1)
	})
	defer putParts(p)
	if !m.jobRows(at, b, p) {
		return
	}
	switch {
	case j.snapshot || j.begun || p.Pending() || len(removed) > 0:
		p.End(removed)
		m.pos, m.beat, m.fresh = j.seq, now, j.snapshot
	case j.beat || m.ch.shared:
		b.frame(m.ch.framing, &Message{Kind: wire.KindHeartbeat, Seq: j.seq, Last: true, Body: wire.AppendChannelHeartbeat(nil, m.ch.no, j.seq)})
		s.hub.stats.messages.Add(1)
		m.pos, m.beat, m.fresh = j.seq, now, false
	}
	m.through = j.seq
	m.job = job{}
}

// jobRows adds rows from where the job stands and reports whether it came to the end.
func (m *member) jobRows(at *round, b *batch, p *parts) (done bool) {
	j, done := &m.job, true
	m.ch.sel.each(at, j.from, func(i int) bool {
		if j.snapshot {
			p.row = m.ch.rows.whole(p.row[:0], at, i)
		} else {
			p.row = m.ch.rows.changed(p.row[:0], at, i, j.since)
		}
		if len(p.row) == 0 {
			return true
		}
		if !p.Fits(len(p.row)) {
			p.Flush()
			if b.full() {
				j.from, done = at.order().ids[i], false
				return false
			}
		}
		p.Row(p.row)
		return true
	})
	return done
}
