package wiretest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/velocimeter/velocimeter/engine/market"
)

const shards = 4

// Market makes random ticks: changing fields, nulls, new, retired and returning
// tokens, ticks without rows. It is not safe for concurrent use.
type Market struct {
	rng    *rand.Rand
	tokens map[market.ID]*market.Snapshot
	gone   []market.ID
	tombs  []market.Tombstone
	nextID market.ID
	board  *market.Board
	// Boards keeps the board of every seq.
	Boards map[uint64]*market.Board
	// Churn is the chance of a token to be retired, born or to return in a tick.
	Churn float64
	// Moving is the share of tokens that change in a tick.
	Moving float64
	// Keep stops retired tokens from coming back.
	Keep bool
	calm bool
}

// NewMarket returns a market of n tokens with ids from 1, as of seq 1.
func NewMarket(seed uint64, n int) *Market {
	m := &Market{
		rng: rand.New(rand.NewPCG(seed, 1)), tokens: make(map[market.ID]*market.Snapshot), nextID: 1,
		Boards: make(map[uint64]*market.Board), Churn: 0.3, Moving: 0.5,
	}
	for range n {
		m.born(1)
	}
	m.seal(1)
	return m
}

// NewCalmMarket returns a market whose values look like a provider's and move a
// little, as a real one's do, with a wild one among fifty. It has no churn.
func NewCalmMarket(seed uint64, n int) *Market {
	m := NewMarket(seed, 0)
	m.calm, m.Churn, m.Moving = true, 0, 0.7
	for range n {
		m.born(1)
	}
	m.seal(1)
	return m
}

// Board returns the newest board.
func (m *Market) Board() *market.Board { return m.board }

// Tick makes the next tick; seq goes up by one, or by a little more at times as
// it does after a lost range.
func (m *Market) Tick() *market.Tick {
	seq := m.board.Seq + 1
	if m.rng.IntN(20) == 0 {
		seq += uint64(m.rng.IntN(5))
	}
	parts := make([][]market.Change, shards)
	put := func(s *market.Snapshot, mask market.Mask) {
		i := market.ShardOf(s.ID, shards)
		parts[i] = append(parts[i], market.Change{Snap: s, Mask: mask})
	}
	quiet := m.rng.IntN(8) == 0
	for _, id := range slices.Sorted(maps.Keys(m.tokens)) {
		if !quiet && m.rng.Float64() < m.Moving {
			if s, mask := m.change(m.tokens[id], seq); mask != 0 {
				m.tokens[id] = s
				put(s, mask)
			}
		}
	}
	var removed []market.ID
	if m.rng.Float64() < m.Churn && len(m.tokens) > 2 {
		removed = append(removed, m.retire(seq))
	}
	if m.rng.Float64() < m.Churn {
		put(m.born(seq), market.AllFields)
	}
	if !m.Keep && m.rng.Float64() < m.Churn && len(m.gone) > 0 {
		if s := m.back(seq, removed); s != nil {
			put(s, market.AllFields)
		}
	}
	m.seal(seq)
	return &market.Tick{
		Env:     market.Env{Seq: seq, Now: m.board.Time, ReceivedAt: m.board.ReceivedAt, Source: m.board.Source, Simulated: true},
		Parts:   parts,
		Removed: removed,
		Board:   m.board,
	}
}

// born makes a new token. Its symbol may be one that others have.
func (m *Market) born(seq uint64) *market.Snapshot {
	id := m.nextID
	m.nextID++
	s := m.fresh(id, seq)
	m.tokens[id] = s
	return s
}

func (m *Market) fresh(id market.ID, seq uint64) *market.Snapshot {
	s := &market.Snapshot{ID: id, Seq: seq, Info: &market.Info{
		Symbol: fmt.Sprintf("T%d", m.rng.IntN(50)), Name: fmt.Sprintf("Tökén \"%d\"", id), Slug: fmt.Sprintf("token-%d", id),
	}}
	for f := range market.NumericFields.Fields() {
		if m.calm {
			s.Put(f, m.likely(f))
		} else {
			s.Put(f, m.value(f))
		}
	}
	s.Stamp(market.AllFields)
	return s
}

func (m *Market) change(old *market.Snapshot, seq uint64) (*market.Snapshot, market.Mask) {
	s := *old
	var mask market.Mask
	if m.calm && m.rng.IntN(50) > 0 {
		mask = m.drift(&s)
		s.Seq = seq
		s.Stamp(mask)
		return &s, mask
	}
	for range 1 + m.rng.IntN(5) {
		f := market.Field(1 + m.rng.IntN(market.NumFields))
		switch {
		case f > market.NumNumeric && m.rng.IntN(10) > 0:
			continue // names change seldom
		case f > market.NumNumeric:
			info := *s.Info
			info.Symbol += "x"
			s.Info, f = &info, market.FieldSymbol
		case !s.Put(f, m.value(f)):
			continue
		}
		mask |= f.Bit()
	}
	s.Seq = seq
	s.Stamp(mask)
	return &s, mask
}

func (m *Market) value(f market.Field) market.Decimal {
	spec := f.Spec()
	if names := market.EnumNames(f); names != nil {
		if f == market.FieldSource && m.rng.IntN(10) > 0 {
			return market.Decimal{Mant: int64(market.SourceMarket)}
		}
		return market.Decimal{Mant: int64(m.rng.IntN(len(names)))}
	}
	switch spec.Kind {
	case market.KindFlags:
		return market.Decimal{Mant: m.rng.Int64N(1 << market.NumFlags)}
	case market.KindTime:
		return market.Decimal{Mant: 1_700_000_000_000 + m.rng.Int64N(1e9)}
	case market.KindInteger:
		if m.rng.IntN(5) == 0 {
			return market.Null
		}
		return market.Decimal{Mant: 1 + m.rng.Int64N(9000)}
	case market.KindDecimal, market.KindEnum, market.KindText:
	}
	if m.rng.IntN(8) == 0 {
		return market.Null
	}
	return market.NewDecimal(m.rng.Int64N(2e15)-1e12, int8(-m.rng.IntN(12)))
}

func (m *Market) retire(seq uint64) market.ID {
	ids := slices.Sorted(maps.Keys(m.tokens))
	id := ids[m.rng.IntN(len(ids))]
	delete(m.tokens, id)
	m.gone = append(m.gone, id)
	m.tombs = append(m.tombs, market.Tombstone{ID: id, Seq: seq, Time: timeOf(seq)})
	return id
}

// back brings a retired token back, unless it left in this very tick.
func (m *Market) back(seq uint64, removed []market.ID) *market.Snapshot {
	i := m.rng.IntN(len(m.gone))
	id := m.gone[i]
	if slices.Contains(removed, id) {
		return nil
	}
	m.gone = slices.Delete(m.gone, i, i+1)
	if m.rng.IntN(2) == 0 { // an engine may keep the old tombstone or drop it
		m.tombs = slices.DeleteFunc(m.tombs, func(t market.Tombstone) bool { return t.ID == id })
	}
	s := m.fresh(id, seq)
	m.tokens[id] = s
	return s
}

// timeOf is the engine's time of a tick.
func timeOf(seq uint64) market.Time { return market.Time(1_763_661_600_000 + int64(seq)*1000) }

func (m *Market) seal(seq uint64) {
	b := &market.Board{
		Epoch: "k3test", Seq: seq, Time: timeOf(seq), Source: market.SourceMarket, Simulated: true,
		SourceTime: market.Time(1_763_661_599_000 + int64(seq)*1000), ReceivedAt: market.Time(1_763_661_599_500 + int64(seq)*1000),
		Shards: make([][]*market.Snapshot, shards), Index: make([]map[market.ID]int32, shards), Tombstones: slices.Clone(m.tombs),
	}
	if m.rng.IntN(5) == 0 {
		b.Source = market.SourceCoinLore
	}
	for i := range shards {
		b.Index[i] = make(map[market.ID]int32)
	}
	for _, id := range slices.Sorted(maps.Keys(m.tokens)) {
		i := market.ShardOf(id, shards)
		b.Index[i][id] = int32(len(b.Shards[i]))
		b.Shards[i] = append(b.Shards[i], m.tokens[id])
	}
	m.board = b
	m.Boards[seq] = b
}
