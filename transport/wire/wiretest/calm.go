package wiretest

import (
	"math"

	"github.com/velocimeter/velocimeter/engine/market"
)

// likely is a first value such as providers and the engine publish.
func (m *Market) likely(f market.Field) market.Decimal {
	spec := f.Spec()
	switch {
	case f == market.FieldSource:
		return market.Decimal{Mant: int64(market.SourceMarket)}
	case f == market.FieldFlags:
		return market.Decimal{Mant: int64(market.FlagSimulated)}
	case spec.Kind != market.KindDecimal:
		return m.value(f)
	case spec.Scale != market.ScaleAsProvider:
		return market.Fixed(m.rng.NormFloat64()*5, spec.Scale)
	case spec.Unit == "tokens":
		return market.Significant(math.Pow(10, 5+7*m.rng.Float64()), 6+m.rng.IntN(9))
	case f == market.FieldMarketCap || f == market.FieldVolume24h || f == market.FieldFullyDilutedMarketCap:
		return market.Significant(math.Pow(10, 4+7*m.rng.Float64()), 16)
	case f == market.FieldPrice:
		return market.Significant(math.Pow(10, 8*m.rng.Float64()-4), 16)
	}
	return market.Significant(math.Pow(10, 8*m.rng.Float64()-4), 7)
}

// moving are the fields that move with nearly every poll, the first most often.
var moving = []market.Field{
	market.FieldPrice, market.FieldMarketCap, market.FieldVolume24h, market.FieldPercentChange1h, market.FieldPercentChange24h,
	market.FieldPercentChange7d, market.FieldVelocity, market.FieldVWAP1h, market.FieldDominance,
}

// drift moves a token's values a little, all that depend on its price together.
func (m *Market) drift(s *market.Snapshot) (mask market.Mask) {
	for _, f := range moving {
		old, spec := s.Value(f), f.Spec()
		if old.IsNull() || m.rng.IntN(10) == 0 {
			continue
		}
		v := old.Float()
		if math.Abs(v) > 1e13 {
			continue // a wild one: a small step would need more than 18 digits
		}
		var d market.Decimal
		if spec.Scale != market.ScaleAsProvider {
			d = market.Fixed(v+m.rng.NormFloat64()*0.02, spec.Scale)
		} else {
			digits := 16
			if f == market.FieldVWAP1h {
				digits = 7
			}
			d = market.Significant(v*(1+m.rng.NormFloat64()*3e-4), digits)
		}
		if s.Put(f, d) {
			mask |= f.Bit()
		}
	}
	return mask
}
