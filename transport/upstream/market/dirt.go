package simulator

import (
	"math"

	"github.com/velocimeter/velocimeter/engine/market"
)

// dirt spoils the synthetic market the way real providers do. It decides by
// (seed, coin, tick) alone. rate is 0…1; the comments say how often something
// happens at rate 1.
type dirt struct {
	rate   float64
	stream uint64
}

// Lengths, in ticks, of dirt that lasts.
const (
	absurdBlock = 256
	staleBlock  = 1024
	valueBlock  = 8
)

func newDirt(cfg *Config) dirt {
	return dirt{rate: cfg.Dirt, stream: hash2(cfg.Seed, streamDirt)}
}

// poisoned reports whether a whole poll is bad: one in 200.
func (d dirt) poisoned(tick int64) bool {
	return d.rate > 0 && unit(hash2(d.stream, uint64(tick))) < d.rate/200
}

// spots is the dirt on one row.
type spots struct {
	any     bool
	missing bool    // left out of this poll: one in 100
	twice   bool    // a duplicate row: one in 200
	jump    float64 // the price times ⅓ to 3, for 8 ticks: one coin in 50
	stale   int64   // the tick since which the coin stands still, 1,024 at most: one in 50
	absurd  float64 // the volume times 50 to 50,000, for 256 ticks: one in 50
	null    int     // the member that is null, from 1, for 8 ticks: one in 20
	zero    int     // the member that is 0, for 8 ticks: one in 50
}

func (d dirt) on(c *coin, tick int64) spots {
	s := spots{jump: 1}
	if d.rate <= 0 {
		return s
	}
	draw := func(kind uint64, block int64, odds float64) (uint64, bool) {
		h := hash2(hash2(c.stream^d.stream, kind), uint64(tick/block))
		return mix(h ^ golden), unit(h) < d.rate/odds
	}
	_, s.missing = draw(1, 1, 100)
	_, s.twice = draw(2, 1, 200)
	if h, ok := draw(3, valueBlock, 50); ok {
		s.jump = math.Pow(3, between(h, -1, 1))
	}
	if _, ok := draw(4, staleBlock, 50); ok {
		s.stale = tick - tick%staleBlock
	}
	if h, ok := draw(5, absurdBlock, 50); ok {
		s.absurd = 50 * math.Pow(1000, unit(h))
	}
	if h, ok := draw(6, valueBlock, 20); ok {
		s.null = 1 + int(h%9)
	}
	if h, ok := draw(7, valueBlock, 50); ok {
		s.zero = 1 + int(h%4)
	}
	s.any = s.absurd > 0 || s.null > 0 || s.zero > 0
	return s
}

// stain spoils the values of a quote.
func (s *spots) stain(q *market.Quote, d Digits) {
	members := [...]*market.Decimal{
		&q.Volume24h, &q.MarketCap, &q.Price, &q.CirculatingSupply,
		&q.PercentChange1h, &q.PercentChange24h, &q.PercentChange7d, &q.TotalSupply, &q.FullyDiluted,
	}
	if s.absurd > 0 {
		q.Volume24h = d.total(q.Volume24h.Float() * s.absurd)
	}
	if s.zero > 0 {
		*members[s.zero-1] = market.Decimal{}
	}
	if s.null > 0 {
		*members[s.null-1] = market.Null
	}
}

// poison is what a provider sent at 2025-11-02T00:48:48Z: zero prices and caps,
// no volumes but Bitcoin's.
func poison(q *market.Quote, id market.ID) {
	q.Price, q.MarketCap, q.FullyDiluted = market.Decimal{}, market.Decimal{}, market.Decimal{}
	if id != 1 {
		q.Volume24h = market.Null
	}
}
