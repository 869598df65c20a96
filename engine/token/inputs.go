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
	var v turnover
	v.read(t.snap, q, 0)
	return v.shown == t.snap.Value(market.FieldVelocity) && int64(v.method) == t.snap.Int(market.FieldVelocityMethod)
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
	v := &d.velocity
	v.read(d.snap, d.q, d.negative)
	d.put(market.FieldVelocity, v.shown)
	d.putInt(market.FieldVelocityMethod, int64(v.method))
	d.putInt(market.FieldVelocityReason, int64(v.reason))
}

// turnover is a velocity and what it was made of; NaN stands for null.
type turnover struct {
	in     [quality.NumInputs]float64
	supply float64
	cap    float64 // the divisor
	ratio  float64 // volume / cap
	shown  market.Decimal
	method market.Method
	reason market.Reason
}

// read computes volume / cap, also rounded to its scale, with how or why not.
// negative are the inputs that were refused.
func (v *turnover) read(s *market.Snapshot, q *market.Quote, negative market.Mask) {
	v.in[quality.Price] = s.Value(market.FieldPrice).Float()
	v.in[quality.Cap] = s.Value(market.FieldMarketCap).Float()
	v.in[quality.Volume] = s.Value(market.FieldVolume24h).Float()
	v.supply = s.Value(market.FieldCirculatingSupply).Float()
	v.capOf(q)
	volume := v.in[quality.Volume]
	var none market.Reason
	switch {
	case math.IsNaN(volume) && negative.Has(market.FieldVolume24h):
		none = market.ReasonRejected
	case math.IsNaN(volume):
		none = market.ReasonNoVolume
	case v.method == market.MethodNone && negative&capInputs != 0:
		none = market.ReasonRejected
	case v.method == market.MethodNone:
		none = market.ReasonNoCap
	default:
		v.ratio = volume / v.cap
		if v.shown = market.Fixed(v.ratio, -9); !v.shown.IsNull() {
			return
		}
		none = market.ReasonRejected // beyond 1e100: no provider means that
	}
	v.ratio, v.shown, v.method, v.reason = math.NaN(), market.Null, market.MethodNone, none
}

// capInputs are the members that a cap can come from.
const capInputs = 1<<(market.FieldMarketCap-1) | 1<<(market.FieldPrice-1) | 1<<(market.FieldCirculatingSupply-1)

// capOf finds the cap that a velocity is divided by: the reported one, else
// price × circulating supply, else the self-reported one.
func (v *turnover) capOf(q *market.Quote) {
	switch price := v.in[quality.Price]; {
	case v.in[quality.Cap] > 0:
		v.cap, v.method = v.in[quality.Cap], market.MethodReportedCap
	case price > 0 && v.supply > 0:
		v.cap, v.method = price*v.supply, market.MethodComputedCap
	case q.SelfReportedCap.Positive():
		v.cap, v.method = q.SelfReportedCap.Float(), market.MethodSelfReportedCap
	default:
		v.cap = math.NaN()
	}
}
