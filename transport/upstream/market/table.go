package simulator

import (
	"sync"

	"github.com/velocimeter/velocimeter/engine/market"
)

// table is the whole market at one tick. Immutable but for lazy parts.
type table struct {
	batch  *market.Batch // that it was made of; nil in the synthetic market
	time   market.Time
	quotes []market.Quote // in listing order; dirt may repeat a coin
	coins  []*coin        // parallel to quotes
	frames []*frame       // parallel to quotes; nil in a recording
	levels [][2]float64   // parallel to quotes: the coin's level now and a day before; nil in a recording

	indexing sync.Once
	byID     map[market.ID]int32
	bySymbol map[string][]int32 // in listing order
	bySlug   map[string]int32

	summing sync.Once
	sums    totals
}

func (t *table) index() {
	t.indexing.Do(func() {
		t.byID = make(map[market.ID]int32, len(t.coins))
		t.bySymbol = make(map[string][]int32, len(t.coins))
		t.bySlug = make(map[string]int32, len(t.coins))
		for i, c := range t.coins {
			if _, twice := t.byID[c.id]; twice {
				continue
			}
			t.byID[c.id] = int32(i)
			t.bySlug[c.info.Slug] = int32(i)
			t.bySymbol[c.info.Symbol] = append(t.bySymbol[c.info.Symbol], int32(i))
		}
	})
}

// history holds the fields of a row that only HTTP answers show.
type history struct {
	volumeChange, change30d, change60d, change90d market.Decimal
}

// history evaluates what a quote does not carry; null in a recording.
func (t *table) history(i int, d Digits) history {
	if t.frames == nil {
		return history{market.Null, market.Null, market.Null, market.Null}
	}
	c, f := t.coins[i], t.frames[i]
	level := t.levels[i][0]
	then, levels := f.quantum.far(int(c.slot))
	change := func(lag int) market.Decimal {
		if then[lag].time < c.listed {
			return market.Decimal{}
		}
		return d.fixed(expm1pct(level-levels[lag]), -8)
	}
	return history{
		volumeChange: d.fixed(t.volumeChange(i), -4),
		change30d:    change(far30d), change60d: change(far60d), change90d: change(far90d),
	}
}

// volumeChange is the change of the 24 h volume within a day, %.
func (t *table) volumeChange(i int) float64 {
	c, f := t.coins[i], t.frames[i]
	now, day := &f.moments[lagNow], &f.moments[lag24h]
	then, levels := f.quantum.far(int(c.slot))
	if c.noVolume || then[far48h].time < c.listed {
		return 0
	}
	l0, l1 := t.levels[i][0], t.levels[i][1]
	v0 := c.volumeAt(now, c.priceOf(l0)*c.circulating(now.time), l0-l1)
	v1 := c.volumeAt(day, c.priceOf(l1)*c.circulating(day.time), l1-levels[far48h])
	return 100 * (v0/v1 - 1)
}

// updated is the last_updated of a row as JSON.
func (t *table) updated(i int) string {
	if t.frames != nil {
		return t.frames[i].text
	}
	return timeJSON(t.quotes[i].SourceTime)
}

// totals are sums over the market for global-metrics, USD.
type totals struct {
	cap, volume, stableCap, stableVolume, defiCap, defiVolume float64
	capBefore, volumeBefore, stableCapBefore, defiCapBefore   float64 // 24 h earlier
	btc, eth, btcBefore, ethBefore, btcVolume                 float64 // caps; Bitcoin's volume
	pairs                                                     int
}

// totals sums up the table, once.
func (t *table) totals() *totals {
	t.summing.Do(func() {
		for i := range t.quotes {
			t.sums.add(t, i)
		}
	})
	return &t.sums
}

func (s *totals) add(t *table, i int) {
	q, c := &t.quotes[i], t.coins[i]
	value, volume := orZero(q.MarketCap), orZero(q.Volume24h)
	before := value
	if growth := orZero(q.PercentChange24h) / 100; growth > -1 {
		before = value / (1 + growth)
	}
	s.cap += value
	s.capBefore += before
	s.volume += volume
	s.pairs += c.pairs
	volumeBefore := volume
	if t.frames != nil && volume > 0 {
		volumeBefore = volume / (1 + t.volumeChange(i)/100)
	}
	s.volumeBefore += volumeBefore
	switch {
	case c.id == 1:
		s.btc, s.btcBefore, s.btcVolume = value, before, volume
	case c.id == 1027:
		s.eth, s.ethBefore = value, before
	case c.stream == 0:
	case c.stable():
		s.stableCap, s.stableVolume, s.stableCapBefore = s.stableCap+value, s.stableVolume+volume, s.stableCapBefore+before
	case sectorNames[c.sector] == "defi":
		s.defiCap, s.defiVolume, s.defiCapBefore = s.defiCap+value, s.defiVolume+volume, s.defiCapBefore+before
	}
}

func orZero(d market.Decimal) float64 {
	if d.IsNull() {
		return 0
	}
	return d.Float()
}
