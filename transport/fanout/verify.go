package fanout

import (
	"slices"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// check is a verify that waits for the channel's next exact position.
type check struct {
	id     string
	hasID  bool
	ids    []market.ID
	heal   bool
	healed int // of ids
}

// maxChecks bounds the verifies of a connection that wait.
const maxChecks = 16

// verify asks for checksums; they come when the client's rows are those of one
// tick: at once where nothing is pending.
func (s *Session) verify(r *wire.Request) *wire.RequestError {
	sub, err := s.subOf(r.Sub)
	if err != nil {
		return err
	}
	n := 0
	for _, m := range s.members {
		n += len(m.checks)
	}
	if n >= maxChecks {
		return &wire.RequestError{Code: wire.Busy, Text: "16 verifies of this connection are not answered yet"}
	}
	ids := slices.Clone(r.Tokens)
	slices.Sort(ids)
	sub.member.checks = append(sub.member.checks, check{id: r.ID, hasID: r.HasID, ids: slices.Compact(ids), heal: r.Heal})
	return nil
}

// verified goes on with the checks of a member that has nothing to catch up
// with, as far as the batch has room, and reports whether it did something.
func (s *Session) verified(m *member, b *batch) bool {
	if len(m.checks) == 0 {
		return false
	}
	at := m.exact(s)
	if at == nil {
		return false
	}
	ask := &m.checks[0]
	if ask.heal && ask.healed < len(ask.ids) {
		next := min(ask.healed+healStep, len(ask.ids))
		s.heal(m, at, ask.ids[ask.healed:next], b)
		ask.healed = next
		return true
	}
	s.answerCheck(m, at, ask, b)
	if m.checks = m.checks[1:]; len(m.checks) == 0 {
		m.checks = nil
	}
	return true
}

// healStep is how many rows are healed by one message.
const healStep = 16

// exact returns the leaf whose rows are the client's, or nil where these are
// not of one tick that the pace had.
func (m *member) exact(s *Session) *leaf {
	switch c := m.ch; {
	case m.mixed || m.pos == 0:
		return nil
	case c.key.every:
		if at := s.view; m.pos >= c.seqNow() && at.seq() >= m.pos && c.covers(at.seq()) {
			return &leaf{round: &round{view: at}, order: at.order()}
		}
		return nil
	case c.chained:
		l := c.page.newest()
		if c.advanced(l.seq()) && m.pos >= c.seqNow() && m.pos <= l.seq() {
			return l
		}
		return nil
	}
	if l := m.ch.page.newest(); m.through == l.seq() {
		return l
	}
	return nil
}

// covers reports whether all up to a seq is in the messages.
func (c *channel) covers(seq uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.through >= seq
}

func (c *channel) seqNow() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seq
}

func (c *channel) advanced(to uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.through == to
}

func (s *Session) answerCheck(m *member, l *leaf, ask *check, b *batch) {
	c := m.ch
	sums := make([]wire.TokenSum, 0, len(ask.ids))
	for _, snap := range m.held(l, ask.ids) {
		sums = append(sums, wire.TokenSum{ID: snap.ID, Sum: wire.Checksum(snap, &c.page.format)})
	}
	r := wire.Request{ID: ask.id, HasID: ask.hasID}
	b.frame(c.framing, Message{Body: wire.AppendChecksums(nil, &r, c.no, m.pos, sums)})
	s.message()
}

// held returns the tokens among ids that the member's channel has, as it shows
// them.
func (m *member) held(l *leaf, ids []market.ID) (snaps []*market.Snapshot) {
	sel := m.ch.sel
	if m.ch.top != nil {
		_, ranked := m.ch.ranked()
		sel = &selection{ids: ranked}
	}
	for _, id := range ids {
		if at := l.order.find(id); at >= 0 && sel.has(id) {
			if snap := l.token(at); snap != nil {
				snaps = append(snaps, snap)
			}
		}
	}
	return snaps
}

// heal sends rows whole again, at the position that the client has.
func (s *Session) heal(m *member, l *leaf, ids []market.ID, b *batch) {
	snaps := m.held(l, ids)
	if len(snaps) == 0 {
		return
	}
	c := m.ch
	head := wire.HeadOf(l.board, c.no)
	head.Seq, head.Prev, head.Encoding, head.Absolute, head.Style = m.pos, m.pos, c.page.format.Encoding, true, c.style
	p := getParts(head, func(part []byte, more bool) {
		b.frame(c.framing, Message{Kind: wire.KindDelta, Binary: c.page.binary(), Seq: m.pos, Last: !more, Body: part})
		s.message()
	})
	defer putParts(p)
	for _, snap := range snaps {
		p.row = c.page.encode(p.row[:0], l.board.Source, snap, nil, market.AllFields)
		p.RowOf(snap.ID, p.row)
	}
	p.End(nil)
}
