package token

import (
	"math"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/quality"
)

// repeats reports whether a quote under the current source time says what is
// shown already.
func (t *Token) repeats(q *market.Quote, env *market.Env) bool {
	if !quality.Same(q, env.Source, env.Simulated, t.snap) {
		return false
	}
	if t.snap.Int(market.FieldVelocityMethod) == int64(market.MethodReportedCap) {
		return true
	}
	// The self-reported inputs are not shown: they count by what they yield.
	_, v, method, _ := velocity(t.snap, q, 0)
	return v == t.snap.Value(market.FieldVelocity) && int64(method) == t.snap.Int(market.FieldVelocityMethod)
}

// readInputs copies what the quote carries: a missing member keeps its value, a
// null one ends it, a negative amount is no value.
func (d *draft) readInputs() {
	q := d.q
	d.amount(market.FieldPrice, q.Price)
	d.amount(market.FieldMarketCap, q.MarketCap)
	d.amount(market.FieldVolume24h, q.Volume24h)
	d.percent(market.FieldPercentChange1h, q.PercentChange1h)
	d.percent(market.FieldPercentChange24h, q.PercentChange24h)
	d.percent(market.FieldPercentChange7d, q.PercentChange7d)
	d.amount(market.FieldCirculatingSupply, q.CirculatingSupply)
	d.amount(market.FieldTotalSupply, q.TotalSupply)
	d.amount(market.FieldMaxSupply, q.MaxSupply)
	d.amount(market.FieldFullyDilutedMarketCap, q.FullyDiluted)
	if q.Has.Has(market.FieldRank) {
		d.put(market.FieldRank, rank(q.Rank))
	}
	d.readInfo()
}

func rank(n uint32) market.Decimal {
	if n == 0 {
		return market.Null
	}
	return market.Decimal{Mant: int64(n)}
}

func (d *draft) amount(f market.Field, v market.Decimal) {
	if !d.q.Has.Has(f) {
		return
	}
	if v.Mant < 0 {
		d.negative |= f.Bit()
		v = market.Null
	}
	d.put(f, v)
}

func (d *draft) percent(f market.Field, v market.Decimal) {
	if d.q.Has.Has(f) {
		d.put(f, quality.Percent(v))
	}
}

// readInfo takes the names over; equal ones behind another pointer change nothing.
func (d *draft) readInfo() {
	was, is := d.snap.Info, d.q.Info
	if is == nil || is == was {
		return
	}
	d.snap.Info = is
	if is.Symbol != was.Symbol {
		d.mask |= market.FieldSymbol.Bit()
	}
	if is.Name != was.Name {
		d.mask |= market.FieldName.Bit()
	}
	if is.Slug != was.Slug {
		d.mask |= market.FieldSlug.Bit()
	}
}

// readVelocity computes the velocity from the inputs as they are shown now.
func (d *draft) readVelocity() {
	divisor, v, method, reason := velocity(d.snap, d.q, d.negative)
	d.cap, d.velocity = divisor, math.NaN()
	if !v.IsNull() {
		d.velocity = d.snap.Value(market.FieldVolume24h).Float() / divisor
	}
	d.put(market.FieldVelocity, v)
	d.putInt(market.FieldVelocityMethod, int64(method))
	d.putInt(market.FieldVelocityReason, int64(reason))
}

// velocity returns volume / cap rounded to its scale, what it was divided by
// (NaN where there is no cap), and how or why not. negative are the inputs that
// were refused.
func velocity(s *market.Snapshot, q *market.Quote, negative market.Mask) (divisor float64, v market.Decimal, m market.Method, r market.Reason) {
	divisor, m = capOf(s, q)
	volume := s.Value(market.FieldVolume24h)
	switch {
	case volume.IsNull() && negative.Has(market.FieldVolume24h):
		return divisor, market.Null, market.MethodNone, market.ReasonRejected
	case volume.IsNull():
		return divisor, market.Null, market.MethodNone, market.ReasonNoVolume
	case m == market.MethodNone && negative&capInputs != 0:
		return divisor, market.Null, market.MethodNone, market.ReasonRejected
	case m == market.MethodNone:
		return divisor, market.Null, market.MethodNone, market.ReasonNoCap
	}
	v = market.Fixed(volume.Float()/divisor, -9)
	if v.IsNull() { // beyond 1e100: no provider means that
		return divisor, v, market.MethodNone, market.ReasonRejected
	}
	return divisor, v, m, market.ReasonNone
}

// capInputs are the members that a cap can come from.
const capInputs = 1<<(market.FieldMarketCap-1) | 1<<(market.FieldPrice-1) | 1<<(market.FieldCirculatingSupply-1)

// capOf returns the cap that a velocity is divided by: the reported one, else
// price × circulating supply, else the self-reported one.
func capOf(s *market.Snapshot, q *market.Quote) (float64, market.Method) {
	if c := s.Value(market.FieldMarketCap); c.Positive() {
		return c.Float(), market.MethodReportedCap
	}
	price, supply := s.Value(market.FieldPrice), s.Value(market.FieldCirculatingSupply)
	if price.Positive() && supply.Positive() {
		return price.Float() * supply.Float(), market.MethodComputedCap
	}
	if q.SelfReportedCap.Positive() {
		return q.SelfReportedCap.Float(), market.MethodSelfReportedCap
	}
	return math.NaN(), market.MethodNone
}
