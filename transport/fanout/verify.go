package fanout

import (
	"slices"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// check is a verify that waits for the channel's next exact position.
type check struct {
	id    string
	hasID bool
	ids   []market.ID
	heal  bool
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
		return limitError("unanswered verifies", maxChecks)
	}
	ids := slices.Clone(r.Tokens)
	slices.Sort(ids)
	sub.member.checks = append(sub.member.checks, check{id: r.ID, hasID: r.HasID, ids: slices.Compact(ids), heal: r.Heal})
	return nil
}

// verified answers the checks of a member that has nothing to catch up with.
func (s *Session) verified(m *member, b *batch) {
	if len(m.checks) == 0 {
		return
	}
	at := m.exact(s)
	if at == nil {
		return
	}
	for i := range m.checks {
		s.answerCheck(m, at, &m.checks[i], b)
	}
	m.checks = nil
}

// exact returns the leaf whose rows are the client's, or nil where these are
// not of one tick that the pace had.
func (m *member) exact(s *Session) *leaf {
	switch c := m.ch; {
	case m.loose || m.pos == 0:
		return nil
	case c.key.every:
		if at := s.view; m.pos >= c.seqNow() {
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
	var healed []*market.Snapshot
	sel := c.sel
	if c.top != nil {
		_, ids := c.ranked()
		sel = &selection{ids: ids}
	}
	for _, id := range ask.ids {
		at := l.order.find(id)
		if at < 0 || !sel.has(id) {
			continue
		}
		if snap := l.token(at); snap != nil {
			sums = append(sums, wire.TokenSum{ID: id, Sum: wire.Checksum(snap, &c.page.format)})
			healed = append(healed, snap)
		}
	}
	if ask.heal {
		s.heal(m, l, healed, b)
	}
	r := wire.Request{ID: ask.id, HasID: ask.hasID}
	text := wire.AppendChecksums(nil, &r, c.no, m.pos, sums)
	b.frame(c.framing, Message{Body: text})
	s.message()
}

// heal sends rows whole again, at the position that the client has.
func (s *Session) heal(m *member, l *leaf, snaps []*market.Snapshot, b *batch) {
	if len(snaps) == 0 {
		return
	}
	c := m.ch
	head := wire.HeadOf(l.board, c.no)
	head.Seq, head.Prev, head.Encoding, head.Absolute = m.pos, m.pos, c.page.format.Encoding, true
	p := getParts(head, func(part []byte, more bool) {
		b.frame(c.framing, Message{Kind: wire.KindDelta, Binary: c.page.binary(), Seq: m.pos, Last: !more, Body: part})
		s.message()
	})
	defer putParts(p)
	for _, snap := range snaps {
		p.row = c.page.encode(p.row[:0], l.view, snap, nil, market.AllFields)
		p.RowOf(snap.ID, p.row)
	}
	p.End(nil)
}
