package tick

import (
	"math"

	"github.com/velocimeter/velocimeter/engine/market"
)

// wholeUSD truncates a positive amount to whole dollars; null and anything not
// positive count 0. Totals are integers so that the sum does not depend on the
// order in which shards are added.
func wholeUSD(d market.Decimal) int64 {
	if d.IsNull() || d.Mant <= 0 {
		return 0
	}
	m := d.Mant
	for e := d.Exp; e < 0 && m > 0; e++ {
		m /= 10
	}
	for e := d.Exp; e > 0; e-- {
		if m > math.MaxInt64/10 {
			return math.MaxInt64
		}
		m *= 10
	}
	return m
}

func addSaturated(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// batchCap is the market's cap as the first poll of a lineage has it, before
// there is a board to take it from.
func batchCap(b *market.Batch) int64 {
	var sum int64
	for i := range b.Quotes {
		sum = addSaturated(sum, wholeUSD(b.Quotes[i].MarketCap))
	}
	return sum
}
