package client

import (
	"math"
	"math/bits"

	"github.com/velocimeter/velocimeter/engine/market"
)

// What follows does what methods of market.Decimal do, in less time: numbers are
// most of what a decoder reads.

var pow10 = [...]uint64{
	1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19,
}

// fitting are the largest mantissas that still fit an int64 times 10^k.
var fitting = func() (most [market.MaxDigits + 1]uint64) {
	for k := range most {
		most[k] = math.MaxInt64 / pow10[k]
	}
	return most
}()

func magnitude(m int64) uint64 {
	s := m >> 63
	return uint64((m ^ s) - s)
}

// countDigits returns the number of decimal digits; 0 has none.
func countDigits(m uint64) int {
	n := bits.Len64(m) * 1233 >> 12    // 1233/4096 is log10 of 2, a little above
	return n + int((pow10[n]-1-m)>>63) // one more from 10^n on
}

// finer returns mant × 10^k; ok is false where that does not fit.
func finer(mant int64, k int) (m int64, ok bool) {
	if mant == 0 {
		return 0, true
	}
	if k > market.MaxDigits || magnitude(mant) > fitting[k] {
		return 0, false
	}
	return mant * int64(pow10[k]), true
}

// normal returns mant × 10^exp without trailing zeros.
func normal(mant int64, exp int) market.Decimal {
	if mant%10 != 0 {
		return market.Decimal{Mant: mant, Exp: int8(exp)}
	}
	return market.NewDecimal(mant, int8(exp))
}
