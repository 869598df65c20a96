package fanout

import (
	"slices"
	"time"
	"unsafe"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// past is what a session needs to know so that another can go on for its client,
// who will tell the offset, the seq of the newest whole data message that it had.
type past struct {
	high uint64 // no offset that was handed over so far is higher
	base uint64 // the offset that the client came with; 0 for none
}

// mark is a position of a member at a time when no offset above high had been
// handed over: a client that has a higher one had everything that was handed over
// before, and so holds at least this position. The offset itself would not do:
// the channels of a session are served in turn, and a slow one may be behind the
// offset of a fast one.
type mark struct {
	high, pos uint64
	at        int64 // milliseconds since 1970
}

// trail is the marks of one member, oldest first.
type trail struct{ marks []mark }

// Bounds of the marks of one member, and of all members of a session.
const (
	markEvery = 2 * time.Second // of fewer, recovery begins earlier and repeats more
	markAge   = 2 * time.Minute // the newest that is older is kept
	marksMost = 64
	marksAll  = 1024
	marksFew  = 4
)

// remember marks where the members are, after a batch was handed over.
func (s *Session) remember(now time.Time) {
	for _, m := range s.members {
		s.past.high = max(s.past.high, m.pos)
		if m.pinned != nil && m.part > 0 { // its data may be out, and what else it has not
			s.past.high = max(s.past.high, m.pinned.seq)
		}
	}
	most := max(marksFew, min(marksMost, marksAll/max(1, len(s.members))))
	every := max(markEvery, markAge/time.Duration(most)).Milliseconds()
	next := mark{high: s.past.high, at: now.UnixMilli()}
	for _, m := range s.members {
		if m.pos == 0 || m.renewing() || m.ch.top != nil || m.ch.key.every || m.page.deadband > 0 {
			continue // there is nothing to go on from, or never will be
		}
		if m.trail == nil {
			m.trail = new(trail)
		}
		next.pos = m.pos
		m.trail.add(next, every, most)
	}
}

// renewing reports whether the client may have a part of a snapshot: its rows are
// no longer those of the position, and not yet those of another.
func (m *member) renewing() bool {
	return m.pinned != nil && m.pinned.snapshot || m.job.active && m.job.snapshot && m.job.begun
}

// add appends a mark that is far enough from the newest one, and drops what is
// not needed any more.
func (t *trail) add(next mark, every int64, most int) {
	if n := len(t.marks); n > 0 {
		if last := t.marks[n-1]; last.pos == next.pos || next.at-last.at < every {
			return
		}
	}
	drop := t.stale(next.at)
	drop = max(drop, len(t.marks)-most+1)
	t.marks = append(slices.Delete(t.marks, 0, drop), next)
}

// stale returns how many marks are too old: of the old ones the newest tells
// where a silent channel is.
func (t *trail) stale(now int64) (n int) {
	for n+1 < len(t.marks) && now-t.marks[n+1].at > markAge.Milliseconds() {
		n++
	}
	return n
}

// copy returns the marks that are still needed, in a trail of its own; nil where
// there are none.
func (t *trail) copy(now time.Time) *trail {
	if t == nil || len(t.marks) == 0 {
		return nil
	}
	return &trail{slices.Clone(t.marks[t.stale(now.UnixMilli()):])}
}

// Memory is what a client that lost its connection needs to go on in another
// session: Session.Recall takes it. Immutable.
type Memory struct {
	Items []Item // in the order in which they were subscribed to

	epoch string
	base  uint64
}

// Item is one subscription of a Memory.
type Item struct {
	Sub      uint64 // its number in the session that was
	All      bool
	Tokens   []market.ID // ascending, not to be changed; nil for all tokens and rankings
	Top      *wire.Top
	Format   wire.Format
	Every    bool
	Rate     wire.Rate // as asked for
	Deadband int       // basis points
	Single   bool

	marks []mark
}

// Bytes returns about how much memory is held.
func (m *Memory) Bytes() int {
	if m == nil {
		return 0
	}
	n := int(unsafe.Sizeof(*m)) + len(m.epoch)
	for i := range m.Items {
		it := &m.Items[i]
		n += int(unsafe.Sizeof(*it)) + 4*cap(it.Tokens) + int(unsafe.Sizeof(mark{}))*cap(it.marks)
	}
	return n
}

// Memory returns what another session needs to go on; nil where the peer does not
// recover, has no subscription, or after Detach. What is handed over later is as
// if it had been lost with the connection.
func (s *Session) Memory() *Memory {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.past == nil || len(s.subs) == 0 {
		return nil
	}
	m := &Memory{epoch: s.view.board.Epoch, base: s.past.base, Items: make([]Item, 0, len(s.subs))}
	for i := range s.subs {
		sub := &s.subs[i]
		c := sub.member.ch
		it := Item{
			Sub: sub.no, Top: c.ranks(), Format: c.page.format, Every: c.key.every, Rate: sub.rate, Deadband: c.page.deadband,
			Single: c.style == wire.StyleToken,
		}
		if c.sel != nil {
			it.All, it.Tokens = c.sel.all, slices.Clip(c.sel.ids)
		}
		if t := sub.member.trail.copy(now); t != nil {
			it.marks = t.marks
		}
		m.Items = append(m.Items, it)
	}
	return m
}

// request returns the subscribe that goes on with an item for a client whose
// newest offset is told; without Since where it cannot.
func (m *Memory) request(it *Item, offset uint64) wire.Request {
	r := wire.Request{
		Op: wire.OpSubscribe, All: it.All, Tokens: it.Tokens, Top: it.Top, Format: it.Format, Every: it.Every,
		Rate: it.Rate, Deadband: it.Deadband, Single: it.Single,
	}
	for _, at := range slices.Backward(it.marks) {
		// Who came with this very offset may have had nothing since: where it
		// was then, which no offset is too low for, is all that is known.
		if at.high < offset && (offset != m.base || at.high == 0) {
			r.Since = &wire.Position{Epoch: m.epoch, Seq: at.pos}
			break
		}
	}
	return r
}

// Recall subscribes to what another session of the client had; memory is nil
// where there is nothing to go on with. Offset is the newest that the client
// tells, whatever it comes from, 0 for none: a session whose peer recovers must
// know it before it subscribes to anything. Answer is as for Call, with one
// outcome for each item: a subscription goes on where its Recovered says so, else
// a snapshot follows. An Err, which is not held against the client, means that it
// is lost: its tokens are gone for good, or there is no room.
func (s *Session) Recall(memory *Memory, offset uint64, answer func(dst []byte, all []Outcome) []byte) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.ending != 0 {
		return
	}
	s.see()
	if s.past != nil {
		s.past.base = offset
	}
	var all []Outcome
	if memory != nil {
		all = make([]Outcome, len(memory.Items))
		known := make(map[*member]bool)
		for i := range memory.Items {
			r := memory.request(&memory.Items[i], offset)
			s.again(&r, known, &all[i], now)
		}
	}
	if answer != nil {
		s.queue(func(dst []byte) []byte { return answer(dst, all) })
	}
	s.flush(now)
}

// again subscribes to what one item of a memory asks for. Known says of each
// member that began this way whether it went on.
func (s *Session) again(r *wire.Request, known map[*member]bool, o *Outcome, now time.Time) {
	done, err := s.join(r, now, known)
	if o.Err = err; err != nil {
		if err.Code == wire.Busy {
			o.RetryMS = busyRetry.Milliseconds()
		}
		return
	}
	m := done.sub.member
	known[m], m.trail = done.recovered, nil
	if done.recovered && s.past != nil {
		m.recall(s.hub)
		m.trail = &trail{[]mark{{pos: m.pos, at: now.UnixMilli()}}}
	}
	s.tell(&done, o)
}
