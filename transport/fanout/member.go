package fanout

import (
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// member is a session on a channel. All its subscriptions to the channel share
// it, so that messages come once.
type member struct {
	ch      *channel
	page    *page      // of ch
	list    *selection // of ch where it lists tokens, else nil
	order   *order     // that at is of
	at      []int32    // where the listed tokens are
	pos     uint64     // the client's position
	through uint64     // private: nothing of the channel changed in (pos, through]
	told    uint64     // stale tokens are told up to here
	total   uint64     // bytes of the chain up to pos
	beat    time.Time  // when the last message was written
	fresh   bool       // that was a snapshot
	mixed   bool       // the rows are of several ticks
	loose   bool       // it has just begun, or rows are newer than pos: no differences yet
	job     job
	pinned  *message // a begun message of the chain
	part    int      // its next frame
	again   bool     // a snapshot is due after the begun message
	subs    int
	trail   *trail  // where the client was lately; nil where there is nothing to go on from
	checks  []check // asked by verify, answered at the next exact position
}

// job is a message of one member alone, made part by part as the link takes
// them. A snapshot begins the channel anew; its later parts may show later
// values than seq, and what follows the last part brings the client to one tick
// again. A delta holds what is newer than since, as of its leaf, which it keeps
// alive until it is written: no longer than a write may stall.
type job struct {
	active   bool
	snapshot bool
	rows     bool // the leaf's own rows are what is newer than since
	begun    bool // a part is out
	mixed    bool // parts are of different ticks
	beat     bool // send a heartbeat if there is nothing else
	at       *leaf
	view     *view       // where all parts are of one tick; nil: each is of the newest
	ids      []market.ID // ranked: the tokens
	head     wire.Head   // of all parts, from the first on
	seq      uint64
	since    uint64
	from     market.ID // next token
}

// busy reports whether a message is begun and not finished.
func (m *member) busy() bool { return m.pinned != nil || m.job.active }

// restart begins the channel anew with a snapshot: after the message that is
// begun, or by the snapshot that is.
func (m *member) restart(s *Session, now time.Time) {
	// Messages of mode every may be ahead of the view: no snapshot goes back.
	behind := s.view.seq() < m.pos
	m.again = m.busy() && !m.job.snapshot || behind
	if m.busy() || behind {
		return
	}
	j := job{active: true, snapshot: true, seq: s.view.seq()}
	switch c := m.ch; {
	case c.top != nil:
		c.advance(s.hub, now)
		j.at, j.ids = c.ranked()
		j.seq = j.at.seq()
	case c.page.deadband > 0:
		j.at = c.page.newest()
		j.seq = j.at.seq()
	case c.page.pace.period > 0 || c.key.every: // the next round may come before the newest tick
		j.view = s.view
	}
	m.job, m.loose, m.mixed = j, false, true
}

// resume makes the position of the client its own: what is newer follows.
func (m *member) resume(pos uint64) {
	m.pos, m.through, m.told, m.loose, m.mixed = pos, pos, pos, true, false
	if m.ch.chained {
		return // the chain takes it from there, or a catch-up does
	}
	l := m.ch.page.newest()
	m.job = job{active: true, at: l, since: pos, seq: max(l.seq(), pos), beat: true}
}

// recall is resume for a client that may hold newer values than its position's: what
// is newer than that comes as of the newest tick at once, not of the channel's round,
// which may be older than what the client has.
func (m *member) recall(h *Hub) {
	r := h.newest()
	m.job = job{active: true, at: &leaf{round: r, order: r.order()}, since: m.pos, seq: r.seq(), beat: true}
}

// ranked returns the tokens of a ranked channel and the leaf that they are of.
func (c *channel) ranked() (*leaf, []market.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &leaf{round: c.top.at, order: c.top.at.order()}, c.top.ids
}

// next begins the next message of a member, if one is due.
func (s *Session) next(m *member, now time.Time) bool {
	switch c := m.ch; {
	case c.key.every:
		return s.nextRecorded(m, now)
	case c.chained:
		return s.nextChained(m, now)
	}
	return s.nextPrivate(m, now)
}

func (s *Session) nextRecorded(m *member, now time.Time) bool {
	last, code := m.ch.nextRecorded(s.hub, m.pos, now)
	if code != 0 {
		s.close(code)
		return false
	}
	if last == nil {
		return false
	}
	m.pinned, m.part = last, 0
	return true
}

func (s *Session) nextChained(m *member, now time.Time) bool {
	last, seq := m.ch.advance(s.hub, now)
	switch {
	case seq <= m.pos:
		return false
	case last == nil: // it came back to a position from before the channel
		m.pinned, m.part = m.ch.catchUp(s.hub, m.pos, now), 0
		return true
	case last.beat && last.prev <= m.pos && m.fresh && now.Sub(m.beat) < s.hub.cfg.Heartbeat:
		return false // the others' silence is older than this member
	case last.reaches(m.pos, m.loose):
		m.pinned, m.part = last, 0
		return true
	}
	if m.pos >= m.ch.born && !m.loose {
		s.conflated(m)
	}
	if m.ch.top != nil {
		if m.pinned, m.part = m.ch.absoluteTop(s.hub, m.pos), 0; m.pinned == nil {
			m.restart(s, now)
		}
		return true
	}
	m.pinned, m.part = m.ch.catchUp(s.hub, m.pos, now), 0
	return true
}

// direct writes what the newest leaf has for a member that is in step with it,
// where that is one part: most of what most connections ever get. It reports
// whether it did.
func (s *Session) direct(m *member, b *batch, now time.Time) bool {
	l := m.page.newest()
	if m.list == nil || m.loose || l.from != m.through || l.seq() <= m.through || l.seq() <= m.ch.wanted || !l.filled {
		return false
	}
	if t := l.board.Tombstones; len(t) > 0 && t[len(t)-1].Seq > m.through {
		return false
	}
	if m.order != l.order {
		m.order, m.at = l.order, m.list.find(l.order).at
	}
	size := 0
	for _, i := range m.at {
		if i >= 0 {
			at := l.place(int(i))
			size += int(at.to-at.from) + rowRoom
		}
	}
	if size > wire.MaxPart/2 {
		return false
	}
	s.writeDirect(m, l, b, now)
	return true
}

// rowRoom is what may stand between rows: a comma, or a binary id.
const rowRoom = 5

func (s *Session) writeDirect(m *member, l *leaf, b *batch, now time.Time) {
	head := l.head
	head.Channel, head.Prev, head.Style = m.ch.no, m.pos, m.ch.style
	p := b.begin(head, m.ch.framing)
	for _, i := range m.at {
		if i >= 0 {
			if row := l.row(int(i)); len(row) > 0 {
				p.RowOf(l.order.ids[i], row)
			}
		}
	}
	m.through = l.seq()
	if l.isStale != nil {
		defer s.tellListed(m, l, b)
	}
	if !p.Pending() {
		return
	}
	p.End(nil)
	s.message()
	m.pos, m.beat, m.fresh, m.mixed = l.seq(), now, false, false
}

func (s *Session) nextPrivate(m *member, now time.Time) bool {
	l := m.page.newest()
	switch seq := l.seq(); {
	case seq > m.through:
		m.job = job{active: true, at: l, since: m.through, seq: seq}
		m.job.rows = l.seq() > m.ch.wanted && (l.from == m.through && !m.loose || l.from <= m.through && !m.page.stepwise())
		if !m.job.rows && !m.loose {
			s.conflated(m)
		}
	case m.through > m.pos && now.Sub(m.beat) >= s.hub.cfg.Heartbeat:
		m.job = job{active: true, at: l, since: m.through, seq: m.through, beat: true}
	default:
		return false
	}
	return true
}

// conflated counts a catch-up of a connection that fell behind.
func (s *Session) conflated(m *member) {
	s.counts.conflated++
	s.hub.stats.conflated.Add(1)
	if m.ch.chained {
		m.ch.mu.Lock()
		skipped := m.ch.total - m.total
		m.ch.mu.Unlock()
		s.counts.saved += skipped
		s.hub.stats.saved.Add(skipped)
	}
}
