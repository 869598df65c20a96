package tick

import (
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/token"
)

// Recall is how tokens come back without their states. Until Recalled every
// token that a replayed quote makes gets the samples that past returns of its
// time before the quote, oldest first, nil for none, and from when on they are not
// stored as hours of a window. It is asked once a token, and not for one that
// was retired during the replay: samples of a former life are not its own.
func (m *Machine) Recall(past func(id market.ID, before market.Time) (cells []market.Cell, fresh market.Time)) {
	for _, s := range m.Shards {
		s.past, s.retired = past, map[market.ID]struct{}{}
	}
}

// Recalled ends Recall. Tokens of which no quote was replayed have nothing to
// show: they wait, with the samples of their past, for the next quote. ids are
// those that may be such.
func (m *Machine) Recalled(ids []market.ID) (waiting int) {
	for _, id := range ids {
		s := m.Shards[market.ShardOf(id, len(m.Shards))]
		if _, gone := s.retired[id]; s.past == nil || gone || s.Has(id) {
			continue
		}
		t := token.NewWith(id, s.cfg)
		cells, fresh := s.past(id, maxTime)
		if t.Refill(cells, maxTime, fresh); t.Window().Now() > 0 {
			if s.asleep == nil {
				s.asleep = map[market.ID]*token.Token{}
			}
			s.asleep[id] = t
			waiting++
		}
	}
	for _, s := range m.Shards {
		s.past, s.retired = nil, nil
	}
	return waiting
}

const maxTime = market.Time(1) << 51

// ReplayEarly applies a journaled tick that the stored state knows to the tokens
// that were not restored from it, and to the engine where that was not either.
func (m *Machine) ReplayEarly(jt *market.JournalTick, restored func(market.ID) bool, engine bool) {
	for i, s := range m.Shards {
		s.Replay(jt, func(id market.ID) bool { return market.ShardOf(id, len(m.Shards)) == i && !restored(id) })
	}
	if engine {
		m.Engine.Replay(jt)
	}
}

// Bury gives an engine without state the retirements before its first replayed tick.
func (e *Engine) Bury(graves []market.Tombstone) { e.tombstones = graves }

// newborn makes the token of an id that the shard does not know.
func (s *Shard) newborn(q *market.Quote) *token.Token {
	if t := s.asleep[q.ID]; t != nil {
		delete(s.asleep, q.ID)
		// Who is away for long comes back as another.
		if at := t.TimeOf(q, &s.env); at > t.Window().Now() && at.Sub(t.Window().Now()) < RetireAfter {
			return t
		}
	}
	t := token.NewWith(q.ID, s.cfg)
	if _, gone := s.retired[q.ID]; s.past != nil && !gone {
		at := t.TimeOf(q, &s.env)
		cells, fresh := s.past(q.ID, at)
		t.Refill(cells, at, fresh)
	}
	return t
}
