package wire_test

import (
	"math"
	"math/bits"
	"slices"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
	synthetic "github.com/velocimeter/velocimeter/transport/upstream/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// polls makes boards of the synthetic market, one for each second: what the
// provider sends, published as it is.
type polls struct {
	market *synthetic.Market
	now    market.Time
	tokens map[market.ID]*market.Snapshot
	seq    uint64
}

func newPolls(t testing.TB, n int) *polls {
	p := &polls{now: 1_763_661_600_000, tokens: make(map[market.ID]*market.Snapshot)}
	m, err := synthetic.New(synthetic.Config{Seed: 1, Tokens: n, Now: func() market.Time { return p.now }})
	if err != nil {
		t.Fatal(err)
	}
	p.market = m
	return p
}

func (p *polls) next(has func(market.ID) bool) *market.Board {
	p.seq, p.now = p.seq+1, p.now+1000
	b := boardAt(p.seq)
	b.Shards, b.Index = make([][]*market.Snapshot, 1), []map[market.ID]int32{{}}
	quotes := p.market.Batch(p.now).Quotes
	for i := range quotes {
		if q := &quotes[i]; has == nil || has(q.ID) {
			s := p.publish(q)
			b.Index[0][s.ID] = int32(len(b.Shards[0]))
			b.Shards[0] = append(b.Shards[0], s)
		}
	}
	return b
}

func (p *polls) publish(q *market.Quote) *market.Snapshot {
	old := p.tokens[q.ID]
	s := &market.Snapshot{ID: q.ID}
	if old != nil {
		*s = *old
	}
	s.Seq, s.Info = p.seq, q.Info
	var mask market.Mask
	put := func(f market.Field, d market.Decimal) {
		if s.Put(f, d) {
			mask |= f.Bit()
		}
	}
	put(market.FieldPrice, q.Price)
	put(market.FieldMarketCap, q.MarketCap)
	put(market.FieldVolume24h, q.Volume24h)
	put(market.FieldPercentChange1h, q.PercentChange1h.RoundPlaces(4))
	put(market.FieldPercentChange24h, q.PercentChange24h.RoundPlaces(4))
	put(market.FieldRank, market.Decimal{Mant: int64(q.Rank)})
	put(market.FieldSource, market.Decimal{Mant: int64(market.SourceMarket)})
	put(market.FieldFlags, market.Decimal{Mant: int64(market.FlagSimulated)})
	switch {
	case old == nil:
		s.Stamp(market.AllFields)
	case mask == 0:
		return old
	default:
		s.Stamp(mask)
	}
	p.tokens[q.ID] = s
	return s
}

// floor is what the differences of a row take as plain zigzag varints, each at
// the finer exponent of its two values.
func floor(was, is *market.Snapshot, fields market.Mask) (n int) {
	for f := range fields.Fields() {
		a, b := was.Value(f), is.Value(f)
		if a == b || a.IsNull() || b.IsNull() || f.Spec().Kind != market.KindDecimal && f != market.FieldRank {
			continue
		}
		e := min(a.Exp, b.Exp)
		x, _ := a.Rescale(e)
		y, _ := b.Rescale(e)
		d := y - x
		n += max(1, (bits.Len64(uint64(d)<<1^uint64(d>>63))+6)/7)
	}
	return n
}

// TestBytes measures what a changed row of view quote takes over the synthetic
// market and holds it to the promises of the protocol.
func TestBytes(t *testing.T) {
	ticks, tokens := 8, 5000
	if testing.Short() {
		ticks, tokens = 4, 1000
	}
	f := func(name string, format wire.Format, has func(market.ID) bool, most float64) {
		t.Helper()
		p, c, least := newPolls(t, tokens), newChannel(t, format), 0
		for tick := range ticks {
			b := p.next(has)
			if tick == 2 {
				c.rows, c.bytes, c.replica.Bytes, c.replica.Messages = 0, 0, 0, 0
			}
			if tick >= 2 {
				for s := range b.All {
					least += floor(c.last.Token(s.ID), s, format.Fields&market.NumericFields)
				}
			}
			if err := c.send(b, tick > 1); err != nil {
				t.Fatal(err)
			}
		}
		rows := float64(c.rows)
		heads := float64(c.replica.Messages * 29)
		if format.Encoding == wire.EncodingJSON {
			heads = float64(c.replica.Messages * 150)
		}
		per := (float64(c.replica.Bytes) - heads) / rows
		t.Logf("%-28s %6.0f rows a tick, %6.2f bytes a row with id, %6.2f without, floor of the values %6.2f, ratio to it with masks %.3f",
			name, rows/float64(ticks-2), per, float64(c.bytes)/rows, float64(least)/rows, float64(c.bytes)/(float64(least)+rows))
		if per > most {
			t.Errorf("%s: %.2f bytes a row, more than %.1f", name, per, most)
		}
	}
	list := newPolls(t, tokens).next(nil).Shards[0]
	var ids []market.ID
	for i := range 20 {
		ids = append(ids, list[i*len(list)/20].ID)
	}
	twenty := func(id market.ID) bool { return slices.Contains(ids, id) }
	quote := wire.ViewFormat(market.ViewQuote)
	compact, array := quote, quote
	quote.Encoding, compact.Encoding, compact.Digits = wire.EncodingBinary, wire.EncodingBinary, wire.DigitsCompact
	array.Digits, array.Shape = wire.DigitsCompact, wire.ShapeArray
	f("binary compact, market", compact, nil, 10)
	f("binary compact, 20 tokens", compact, twenty, 12)
	f("binary full, market", quote, nil, math.Inf(1))
	f("json array compact, market", array, nil, 48)
	array.Digits = wire.DigitsFull
	f("json array full, market", array, nil, math.Inf(1))
}
