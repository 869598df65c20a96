package main

import (
	"math"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// shown is a value with compact digits: 8 significant ones for prices, 6 for
// totals, 2 places for percentages.
func shown(f market.Field, v market.Decimal, d wire.Digits) market.Decimal {
	if d == wire.DigitsFull || v.IsNull() || f.Spec().Kind != market.KindDecimal {
		return v
	}
	switch spec := f.Spec(); {
	case f == market.FieldPrice:
		return market.Significant(v.Float(), 8)
	case spec.Unit == "%":
		return market.NewDecimal(int64(math.RoundToEven(v.Float()*100)), -2)
	default:
		return market.Significant(v.Float(), 6)
	}
}

// difference returns v − old in units of the finer exponent of the two; ok is
// false where that does not fit, or old is nothing.
func difference(v, old market.Decimal) (d int64, ok bool) {
	if old.IsNull() {
		return v.Mant, false
	}
	e := min(v.Exp, old.Exp)
	a, okA := scaled(v, e)
	b, okB := scaled(old, e)
	if !okA || !okB {
		return v.Mant, false
	}
	return a - b, true
}

func scaled(v market.Decimal, e int8) (int64, bool) {
	m := v.Mant
	for k := v.Exp; k > e; k-- {
		if m > math.MaxInt64/10 || m < math.MinInt64/10 {
			return 0, false
		}
		m *= 10
	}
	return m, true
}
