package token

import (
	"math"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/quality"
)

// derive publishes what the window yields as of its newest sample. While a
// token is excluded nothing of this moves.
func (t *Token) derive(d *draft) {
	for p := range market.NumPeriods {
		tr := &d.trends[p]
		d.putInt(p.Direction(), int64(tr.Direction))
		d.put(p.Change(), market.Fixed(tr.Change, -4))
		d.put(p.Slope(), market.Fixed(tr.Slope, -9))
		d.put(p.Coverage(), percents[int(math.RoundToEven(100*tr.Coverage))])
	}
	d.put(market.FieldVWAP1h, significant(t.win.VWAP(market.Period1h)))
	d.put(market.FieldVWAP24h, significant(t.win.VWAP(market.Period24h)))
	d.put(market.FieldVWAP7d, significant(t.win.VWAP(market.Period7d)))
	d.put(market.FieldVolatility24h, market.Fixed(t.win.Volatility(), -6))
}

// percents are the numbers from 0 to 1 of scale −2, which coverages are.
var percents = func() (all [101]market.Decimal) {
	for i := range all {
		all[i] = market.NewDecimal(int64(i), -2)
	}
	return all
}()

// vwapDigits are the significant digits of a published VWAP.
const vwapDigits = 7

var pow10 = [...]float64{
	1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
	1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
}

// significant rounds to vwapDigits without going through text where one exact
// power of ten does it: from 1e-15 to 1e22.
func significant(f float64) market.Decimal {
	if !(f >= 1e-15 && f < 1e22) {
		return market.Significant(f, vwapDigits)
	}
	// The magnitude from the binary exponent, at most one too small.
	magnitude := (int(math.Float64bits(f)>>52) - 1023) * 1233 >> 12
	exp := magnitude - (vwapDigits - 1)
	m := scale(f, exp)
	if m >= pow10[vwapDigits] {
		exp++
		m = scale(f, exp)
	}
	return market.NewDecimal(int64(m), int8(exp))
}

// scale returns f / 10^exp rounded half-even.
func scale(f float64, exp int) float64 {
	if exp < 0 {
		return math.RoundToEven(f * pow10[-exp])
	}
	return math.RoundToEven(f / pow10[exp])
}

// finish sets what every quote renews, flagged or not.
func (t *Token) finish(d *draft, flags market.Flags) {
	env := d.env
	if d.mask&(market.FieldPrice.Bit()|market.FieldVolume24h.Bit()) != 0 || t.snap == nil {
		t.still.Since, t.still.Polls = env.Now, env.Moving
	}
	flags |= t.remarks(d)
	d.put(market.FieldDominance, dominance(d))
	d.putInt(market.FieldSourceTime, int64(d.time))
	d.putInt(market.FieldSource, int64(env.Source))
	d.putInt(market.FieldAgreeingSources, 1)
	class := t.cfg.Freshness(env.Now.Sub(effective(d.time, env.ReceivedAt, env.Confirmed)), env.Cadence)
	d.putInt(market.FieldFreshness, int64(class))
	d.putInt(market.FieldFlags, int64(t.timed(flags, class, env)))
	if d.negative != 0 {
		t.refuse(d)
	}
}

// remarks returns the flags that say something about the shown values.
func (t *Token) remarks(d *draft) market.Flags {
	s := d.snap
	flags := quality.BorderFlags(d.q, d.env.Simulated)
	if d.velocity.cap < float64(t.cfg.LowCap) || d.velocity.in[quality.Volume] < float64(t.cfg.LowVolume) {
		flags |= market.FlagLowLiquidity
	}
	if t.supply.Add(d.time, d.velocity.supply, t.cfg.SupplyMove) {
		flags |= market.FlagSupplyChange
	}
	most := d.velocity.supply / (1 + t.cfg.SupplyTolerance)
	if most > s.Value(market.FieldTotalSupply).Float() || most > s.Value(market.FieldMaxSupply).Float() {
		flags |= market.FlagSupplyInconsistent
	}
	computed := d.velocity.in[quality.Price] * d.velocity.supply
	if math.Abs(d.velocity.in[quality.Cap]-computed) > t.cfg.CapTolerance*computed {
		flags |= market.FlagCapDisagreement
	}
	return flags
}

// dominance is the provider's own, else the share of the market's total cap.
func dominance(d *draft) market.Decimal {
	own := d.q.Dominance
	if d.q.Has.Has(market.FieldDominance) && !own.IsNull() && own.Mant >= 0 {
		return quality.Percent(own)
	}
	if d.env.TotalCap <= 0 {
		return market.Null
	}
	return market.Fixed(100*d.velocity.in[quality.Cap]/float64(d.env.TotalCap), -4)
}
