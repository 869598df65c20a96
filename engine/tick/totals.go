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
	e := int(d.Exp)
	switch {
	case e <= -len(pow10):
		return 0
	case e < 0:
		return d.Mant / pow10[-e]
	case e < len(pow10) && d.Mant <= math.MaxInt64/pow10[e]:
		return d.Mant * pow10[e]
	}
	return math.MaxInt64
}

var pow10 = [...]int64{
	1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
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

// Total adds the totals of a board up again, from what its tokens last had accepted.
func Total(b *market.Board) (t market.Totals) {
	for s := range b.All {
		t.Tokens++
		t.MarketCap = addSaturated(t.MarketCap, wholeUSD(s.AcceptedCap))
		t.Volume24h = addSaturated(t.Volume24h, wholeUSD(s.AcceptedVolume))
	}
	return t
}
