package enginetest

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Dirt generates the polls of a provider that does everything providers do:
// nulls, zeros, negative amounts, volumes of trillions that last for days,
// jumps that stay and jumps that do not, missing and doubled rows, times that go
// back or lie in the future, corrections under the same time, repeated polls and
// long silences. The same seed gives the same polls.
type Dirt struct {
	rng    *rand.Rand
	tokens []dirtToken
	now    market.Time
	last   []market.Quote
	poll   uint64

	// Rate is the share of rows with something wrong; 0.1 unless changed.
	Rate float64
	// Step is the usual distance of two polls; a minute unless changed.
	Step market.Millis
}

// dirtToken is the truth behind one token's quotes.
type dirtToken struct {
	info                  *market.Info
	price, supply, volume float64
	time                  market.Time
	absurd                int // polls left of an absurd volume
}

// DirtStart is the time before a generator's first poll.
const DirtStart = market.Time(1_750_000_000_000)

// NewDirt returns a generator of polls of so many tokens, with ids from 1.
func NewDirt(seed uint64, tokens int) *Dirt {
	d := &Dirt{rng: rand.New(rand.NewPCG(seed, 0)), now: DirtStart, Rate: 0.1, Step: market.Minute}
	for i := range tokens {
		symbol := fmt.Sprintf("T%d", i+1)
		d.tokens = append(d.tokens, dirtToken{
			info:   &market.Info{Symbol: symbol, Name: "Token " + symbol, Slug: "token-" + symbol},
			price:  math.Exp(d.rng.NormFloat64() * 4),
			supply: math.Exp(14 + d.rng.NormFloat64()*3),
			volume: math.Exp(14 + d.rng.NormFloat64()*3),
		})
	}
	return d
}

// Now returns the time of the newest poll.
func (d *Dirt) Now() market.Time { return d.now }

// chance is true with probability p.
func (d *Dirt) chance(p float64) bool { return d.rng.Float64() < p }

// Batch returns the next poll.
func (d *Dirt) Batch() *market.Batch {
	d.poll++
	d.now = d.now.Add(d.gap())
	b := &market.Batch{
		Source: market.SourceCoinMarketCap, ReceivedAt: d.now, Cadence: d.Step, Position: d.poll, Simulated: true,
	}
	if len(d.last) > 0 && d.chance(0.05) {
		b.Quotes = append(b.Quotes, d.last...) // the provider repeats itself
		return b
	}
	for i := range d.tokens {
		if d.chance(d.Rate / 10) {
			continue
		}
		q := d.quote(i)
		b.Quotes = append(b.Quotes, q)
		if d.chance(d.Rate / 20) {
			again := q
			again.Price = market.FromInt(1)
			b.Quotes = append(b.Quotes, again)
		}
	}
	d.last = b.Quotes
	return b
}

// gap is the distance to the next poll.
func (d *Dirt) gap() market.Millis {
	switch {
	case d.chance(0.002):
		return market.Millis(d.rng.Int64N(int64(3 * market.Day)))
	case d.chance(0.02):
		return market.Millis(d.rng.Int64N(int64(3 * market.Hour)))
	}
	return d.Step + market.Millis(d.rng.Int64N(int64(d.Step/10)+1))
}

// Env returns what a token is told of a poll, for tests without an engine.
func (d *Dirt) Env(b *market.Batch) market.Env {
	env := market.Env{
		Seq: d.poll, Now: b.ReceivedAt, ReceivedAt: b.ReceivedAt, Source: b.Source, Simulated: b.Simulated,
		Cadence: b.Cadence, TotalCap: 3e12, Moving: d.poll,
	}
	if d.chance(0.1) {
		env.Confirmed = b.ReceivedAt
	}
	return env
}

// quote moves a token on and describes it, perhaps wrongly.
func (d *Dirt) quote(i int) market.Quote {
	t := &d.tokens[i]
	t.walk(d)
	q := market.Quote{
		ID: market.ID(i + 1), Info: t.info, Has: market.AllFields, SourceTime: t.time, Rank: uint32(i + 1),
		Price: d.amount(t.price), MarketCap: d.amount(t.price * t.supply), Volume24h: d.amount(t.volume),
		PercentChange1h: d.percent(), PercentChange24h: d.percent(), PercentChange7d: d.percent(),
		CirculatingSupply: d.amount(t.supply), TotalSupply: d.amount(t.supply * 1.1), MaxSupply: market.Null,
		FullyDiluted: d.amount(t.price * t.supply * 1.1), Dominance: market.Null,
		SelfReportedCap: market.Null, SelfReportedSupply: market.Null,
	}
	if t.absurd > 0 {
		t.absurd--
		q.Volume24h = market.FromInt(31_000_000_000_000)
	}
	if d.chance(d.Rate) {
		d.soil(&q, t)
	}
	return q
}

// walk is one step of the truth.
func (t *dirtToken) walk(d *Dirt) {
	t.price *= math.Exp(d.rng.NormFloat64() * 0.003)
	t.volume *= math.Exp(d.rng.NormFloat64() * 0.02)
	if t.time == 0 || !d.chance(0.05) { // else the provider has nothing newer
		t.time = d.now.Add(-market.Millis(d.rng.Int64N(int64(5 * market.Second))))
	}
	if !d.chance(d.Rate / 30) {
		return
	}
	switch d.rng.IntN(3) {
	case 0:
		t.price *= math.Exp(d.rng.NormFloat64())
	case 1:
		t.supply *= 1 + d.rng.Float64()/10
	case 2:
		t.absurd = 1 + d.rng.IntN(200)
	}
}

// amount prints a value as providers do: mostly with too many digits.
func (d *Dirt) amount(f float64) market.Decimal { return market.Significant(f, 1+d.rng.IntN(17)|8) }

func (d *Dirt) percent() market.Decimal { return market.Significant(d.rng.NormFloat64()*5, 12) }

// soil spoils one quote.
func (d *Dirt) soil(q *market.Quote, t *dirtToken) {
	amounts := []*market.Decimal{
		&q.Price, &q.MarketCap, &q.Volume24h, &q.CirculatingSupply, &q.TotalSupply, &q.MaxSupply, &q.FullyDiluted, &q.Dominance,
	}
	hit := amounts[d.rng.IntN(len(amounts))]
	switch d.rng.IntN(14) {
	case 0:
		*hit = market.Null
	case 1:
		*hit = market.Decimal{}
	case 2:
		*hit = market.NewDecimal(-hit.Mant, hit.Exp)
		if hit.Exp == market.NullExp {
			*hit = market.FromInt(-1)
		}
	case 3:
		*hit = market.NewDecimal(1+d.rng.Int64N(9), int8(d.rng.IntN(180)-90))
	case 4:
		*hit = market.Significant(hit.Float()*100, 17)
	case 5:
		q.Has &^= 1 << d.rng.IntN(market.NumFields)
	case 6:
		q.SourceTime -= market.Time(d.rng.Int64N(int64(market.Hour)))
	case 7:
		q.SourceTime = d.now.Add(market.Millis(d.rng.Int64N(int64(2 * market.Hour))))
	case 8:
		q.SourceTime *= 1000 // microseconds
	case 9:
		q.MarketCap, q.CirculatingSupply = market.Null, market.Null
		q.SelfReportedCap = d.amount(t.price * t.supply / 2)
	case 10:
		q.Info = &market.Info{Symbol: t.info.Symbol, Name: "Renamed\x00<b>\u202e", Slug: ""}
	case 11:
		q.Flags |= market.FlagRounded
	case 12:
		q.SourceTime = max(t.time-market.Time(d.rng.Int64N(3)), 1)
	case 13:
		q.Price, q.MarketCap, q.Volume24h = market.Null, market.Null, market.Null
	}
}
