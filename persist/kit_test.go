package persist

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
	"github.com/velocimeter/velocimeter/persist/sealed"
)

// maker makes ticks the way the engine does, from a random walk per token.
type maker struct {
	rng    *rand.Rand
	now    market.Time
	tokens map[market.ID]*market.Snapshot
	ids    []market.ID
	share  float64 // of tokens that change in a tick
	dirty  bool    // nulls, zeros, outliers, removals
}

func newMaker(seed uint64, tokens int) *maker {
	m := &maker{
		rng: rand.New(rand.NewPCG(seed, 7)), now: 1_760_000_000_000, tokens: map[market.ID]*market.Snapshot{},
		share: 0.7, dirty: true,
	}
	for i := range tokens {
		m.ids = append(m.ids, market.ID(1+i*3+m.rng.IntN(3)))
	}
	return m
}

// noisy returns f at 16 or 17 significant digits, as CoinMarketCap prints.
func (m *maker) noisy(f float64) market.Decimal { return market.Significant(f, 16+m.rng.IntN(2)) }

func (m *maker) quote(id market.ID, old *market.Snapshot) *market.Quote {
	price := math.Exp(m.rng.Float64()*16 - 8)
	volume := math.Exp(m.rng.Float64() * 20)
	supply := 1e6 * float64(id)
	if old != nil && !old.Value(market.FieldPrice).IsNull() && old.Value(market.FieldPrice).Positive() {
		price = old.Value(market.FieldPrice).Float() * (1 + 0.0005*m.rng.NormFloat64())
		volume = math.Max(1, old.Value(market.FieldVolume24h).Float()*(1+0.0005*m.rng.NormFloat64()))
	}
	if math.IsNaN(volume) {
		volume = 1e6
	}
	q := &market.Quote{
		ID: id, Has: market.MaskOf(market.FieldPrice, market.FieldMarketCap, market.FieldVolume24h), Flags: market.FlagSimulated,
		SourceTime: m.now.Add(-market.Millis(m.rng.IntN(3)) * market.Second),
		Price:      m.noisy(price), MarketCap: m.noisy(price * supply), Volume24h: m.noisy(volume),
		PercentChange1h: m.noisy(m.rng.NormFloat64()), PercentChange24h: m.noisy(m.rng.NormFloat64()), PercentChange7d: m.noisy(m.rng.NormFloat64()),
		CirculatingSupply: market.Significant(supply, 9), TotalSupply: market.Significant(supply, 9), MaxSupply: market.Null,
		FullyDiluted: m.noisy(price * supply), Dominance: market.Fixed(m.rng.Float64(), -4),
		SelfReportedCap: market.Null, SelfReportedSupply: market.Null, Rank: uint32(m.rng.IntN(500)),
	}
	if old != nil {
		q.Info = old.Info
	} else {
		q.Info = &market.Info{Symbol: fmt.Sprintf("T%d", id), Name: fmt.Sprintf("Token %d", id), Slug: fmt.Sprintf("token-%d", id)}
	}
	if m.dirty {
		m.spoil(q)
	}
	return q
}

func (m *maker) spoil(q *market.Quote) {
	switch m.rng.IntN(24) {
	case 0:
		q.MarketCap = market.Null
	case 1:
		q.Volume24h = market.Decimal{}
	case 2:
		q.Price = market.Null
	case 3:
		q.Volume24h = market.Null
	case 4:
		q.Has &^= market.FieldMarketCap.Bit()
		q.MarketCap = market.Null
	case 5:
		q.Flags |= market.FlagRounded
		q.SelfReportedCap = m.noisy(1e9)
	case 6:
		q.Price = market.NewDecimal(123456789012345678, -30)
	case 7:
		q.Price = market.NewDecimal(999999995, 20)
	case 8:
		q.Info = &market.Info{Symbol: "NEW", Name: q.Info.Name, Slug: q.Info.Slug}
	}
}

// step advances time and returns the next tick.
func (m *maker) step(seq uint64, by market.Millis) *market.Tick {
	m.now = m.now.Add(by)
	t := &market.Tick{
		Env: market.Env{
			Seq: seq, Now: m.now, ReceivedAt: m.now.Add(-3), Source: market.SourceMarket, Simulated: true,
			Cadence: by, TotalCap: 4e12 + int64(seq), Moving: seq, Confirmed: m.now,
		},
		Position: seq * 2, SourceTime: m.now.Add(-market.Second), Parts: make([][]market.Change, 3),
	}
	if m.dirty && m.rng.IntN(8) == 0 {
		t.Kind, t.Position = market.TickClock, 0
	}
	for _, id := range m.ids {
		if m.rng.Float64() >= m.share {
			continue
		}
		c := market.Change{Mask: market.Mask(m.rng.Uint64()) & market.NumericFields}
		old := m.tokens[id]
		switch {
		case t.Kind == market.TickPoll:
			c.Quote = m.quote(id, old)
			c.Snap = show(id, c.Quote, old)
		case old == nil:
			continue
		default:
			c.Snap = old
		}
		m.tokens[id] = c.Snap
		p := m.rng.IntN(len(t.Parts))
		t.Parts[p] = append(t.Parts[p], c)
	}
	if m.dirty && m.rng.IntN(20) == 0 {
		id := m.ids[m.rng.IntN(len(m.ids))]
		if !touched(t, id) && m.tokens[id] != nil {
			t.Removed = append(t.Removed, id)
			delete(m.tokens, id)
		}
	}
	if m.dirty && m.rng.IntN(6) == 0 {
		m.aside(t)
	}
	return t
}

// aside adds what no row shows: who is absent or back, or why a poll was rejected.
func (m *maker) aside(t *market.Tick) {
	if t.Rows() == 0 && t.Kind == market.TickPoll {
		t.Verdict = market.Poisoned
		t.Rejection = &market.PollRejection{Reason: "rows are equal to one another", Rows: m.rng.Uint32(), Lacking: m.rng.Uint64()}
		return
	}
	t.Absent = m.ids[:m.rng.IntN(3)]
	t.Back = m.ids[:m.rng.IntN(2)]
	t.Absent, t.Back = append([]market.ID(nil), t.Absent...), append([]market.ID(nil), t.Back...)
}

func touched(t *market.Tick, id market.ID) bool {
	for c := range t.Changes {
		if c.Snap.ID == id {
			return true
		}
	}
	return false
}

// show computes what a token shows after a quote.
func show(id market.ID, q *market.Quote, old *market.Snapshot) *market.Snapshot {
	s := &market.Snapshot{ID: id, Info: q.Info}
	for i := range s.Exp {
		s.Exp[i] = market.NullExp
	}
	if old != nil {
		s.Mant, s.Exp = old.Mant, old.Exp
	}
	put := func(f market.Field, d market.Decimal) {
		if q.Has.Has(f) {
			s.Put(f, d)
		}
	}
	put(market.FieldPrice, q.Price)
	put(market.FieldMarketCap, q.MarketCap)
	put(market.FieldVolume24h, q.Volume24h)
	velocity := market.Null
	if c := s.Value(market.FieldMarketCap); c.Positive() && !s.Value(market.FieldVolume24h).IsNull() {
		velocity = market.Fixed(s.Value(market.FieldVolume24h).Float()/c.Float(), -9)
	}
	s.Put(market.FieldVelocity, velocity)
	s.Put(market.FieldFlags, market.FromInt(0))
	s.Mant[market.FieldFlags-1], s.Exp[market.FieldFlags-1] = int64(q.Flags), 0
	return s
}

// export makes a state that cannot be mistaken for another tick's.
func (m *maker) export(seq uint64) *market.Export {
	e := &market.Export{Seq: seq, Time: m.now, Engine: fmt.Appendf(nil, "engine %d", seq)}
	ids := make([]market.ID, 0, len(m.tokens))
	for id := range m.tokens {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		e.Tokens = append(e.Tokens, market.TokenState{ID: id, Blob: fmt.Appendf(nil, "token %d at %d", id, seq), Newest: m.now})
	}
	return e
}

// model is everything that was appended.
type model struct {
	ticks []*market.Tick
}

func (m *model) cut(seq uint64) {
	for len(m.ticks) > 0 && m.ticks[len(m.ticks)-1].Env.Seq > seq {
		m.ticks = m.ticks[:len(m.ticks)-1]
	}
}

func (m *model) last() uint64 {
	if len(m.ticks) == 0 {
		return 0
	}
	return m.ticks[len(m.ticks)-1].Env.Seq
}

// raw recomputes the raw points of a token up to a seq.
func (m *model) raw(id market.ID, upTo uint64) (points []market.Point) {
	for _, t := range m.ticks {
		if t.Env.Seq > upTo {
			break
		}
		for c := range t.Changes {
			if c.Snap.ID == id && c.Quote != nil {
				s := record.SampleOf(c)
				points = append(points, s.Point(t.Env.Now, t.Env.Seq))
			}
		}
	}
	return points
}

// bars recomputes a granularity from raw points, one rung of the ladder after
// the other, with none of the store's own arithmetic.
func bars(raw []market.Point, g market.Granularity) []market.Point {
	finer := map[market.Granularity]market.Granularity{
		market.Granularity5m: market.Granularity1m, market.Granularity15m: market.Granularity5m,
		market.Granularity1h: market.Granularity1m, market.Granularity4h: market.Granularity1h, market.Granularity1d: market.Granularity1h,
	}
	in := raw
	if f, ok := finer[g]; ok {
		in = bars(raw, f)
	}
	var out []market.Point
	width := market.Time(g.Width())
	for len(in) > 0 {
		start := in[0].Time / width * width
		n := 0
		for n < len(in) && in[n].Time/width*width == start {
			n++
		}
		out = append(out, sumUp(start, in[:n]))
		in = in[n:]
	}
	return out
}

func sumUp(start market.Time, in []market.Point) market.Point {
	p := market.Point{Time: start, VWAP: market.Null}
	var money, weight float64
	for i := range in {
		p.Count += in[i].Count
		p.Flags |= in[i].Flags
		if v, w := in[i].VWAP, in[i].Volume.Mean; !v.IsNull() && w.Positive() {
			x := w.Float() * float64(in[i].Count)
			money += float64(v.Float() * x)
			weight += x
		}
	}
	price := func(d market.Decimal) market.Decimal { return d.RoundSignificant(8) }
	total := func(d market.Decimal) market.Decimal { return d.RoundSignificant(6) }
	speed := func(d market.Decimal) market.Decimal { return d.RoundPlaces(9) }
	p.Price = sumUpBar(in, func(p *market.Point) market.Bar { return p.Price }, price, func(f float64) market.Decimal { return market.Significant(f, 8) }, true)
	p.Velocity = sumUpBar(in, func(p *market.Point) market.Bar { return p.Velocity }, speed, func(f float64) market.Decimal { return market.Fixed(f, -9) }, true)
	p.Cap = sumUpBar(in, func(p *market.Point) market.Bar { return p.Cap }, total, func(f float64) market.Decimal { return market.Significant(f, 6) }, false)
	p.Volume = sumUpBar(in, func(p *market.Point) market.Bar { return p.Volume }, total, func(f float64) market.Decimal { return market.Significant(f, 6) }, false)
	if weight > 0 {
		p.VWAP = market.Significant(money/weight, 8)
		if len(in) == 1 {
			p.VWAP = price(in[0].VWAP)
		}
	}
	return p
}

func sumUpBar(in []market.Point, get func(*market.Point) market.Bar, round func(market.Decimal) market.Decimal, mean func(float64) market.Decimal, full bool) market.Bar {
	b := market.Bar{Open: market.Null, High: market.Null, Low: market.Null, Close: market.Null, Mean: market.Null}
	var sum, n float64
	for i := range in {
		x := get(&in[i])
		if x.Close.IsNull() {
			continue
		}
		if n == 0 {
			b.Open, b.High, b.Low = x.Open, x.High, x.Low
		}
		if x.High.Cmp(b.High) > 0 {
			b.High = x.High
		}
		if x.Low.Cmp(b.Low) < 0 {
			b.Low = x.Low
		}
		b.Close = x.Close
		sum += float64(x.Mean.Float() * float64(in[i].Count))
		n += float64(in[i].Count)
	}
	if n == 0 {
		return b
	}
	b.Mean = mean(sum / n)
	if n == 1 || len(in) == 1 {
		b.Mean = round(get(&in[len(in)-1]).Mean)
	}
	if n == 1 {
		b.Mean = round(b.Close)
	}
	b.Open, b.High, b.Low, b.Close = round(b.Open), round(b.High), round(b.Low), round(b.Close)
	if !full {
		b.Open, b.High, b.Low = market.Null, market.Null, market.Null
	}
	return b
}

func testOptions(fs vfs.FS) Options {
	// Long enough that the model's history stays; retention has its own test.
	keep := Retention{Minute: 9999 * market.Day, Five: 9999 * market.Day, Hour: 9999 * market.Day}
	return Options{Retention: keep, Dir: "/data", Lineage: "live", FS: fs, MemTableBytes: 256 << 10, CacheBytes: 1 << 20}
}

// testKeys returns a new key, or none.
func testKeys(t testing.TB, some bool) *sealed.Keys {
	t.Helper()
	if !some {
		return nil
	}
	return parseKeys(t, sealed.NewKey())
}

func parseKeys(t testing.TB, text string) *sealed.Keys {
	t.Helper()
	keys, err := sealed.ParseKeys(text)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func mustOpen(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
