package wire

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
)

// TestNumbers holds the fast rounding and printing to market.Decimal.
func TestNumbers(t *testing.T) {
	f := func(mant int64, exp int8) {
		t.Helper()
		d := market.NewDecimal(mant, exp)
		if got, want := string(appendDecimal([]byte("x"), d)), "x"+d.String(); got != want {
			t.Fatalf("%+v: %s, want %s", d, got, want)
		}
		if got, want := countDigits(magnitude(d.Mant)), d.Digits(); got != want {
			t.Fatalf("%+v: %d digits, want %d", d, got, want)
		}
		for n := 1; n < 9; n++ {
			if got, want := drop(d, d.Digits()-n), d.RoundSignificant(n); got != want {
				t.Fatalf("%+v to %d digits: %+v, want %+v", d, n, got, want)
			}
			if got, want := drop(d, -n-int(d.Exp)), d.RoundPlaces(n); got != want {
				t.Fatalf("%+v to %d places: %+v, want %+v", d, n, got, want)
			}
		}
	}
	rng, random := rand.New(rand.NewPCG(1, 2)), 200_000
	if testing.Short() {
		random /= 10
	}
	for i := range random {
		f(rng.Int64N(999_999_999_999_999_999)>>rng.IntN(60)*int64(1-i%2*2), int8(rng.IntN(60)-40))
	}
	for k := range 19 {
		for d := int64(-2); d <= 2; d++ {
			for exp := int8(-24); exp < 5; exp++ {
				f(int64(pow10[k])+d, exp)
				f(int64(pow10[k])/2+d, exp)
				f(-int64(pow10[k])-d, exp)
			}
		}
	}
	f(0, 0)
	for k := 1; k < len(pow10); k++ {
		for _, m := range []uint64{1, pow10[k] - 1, pow10[k], math.MaxInt64, math.MaxInt64 / pow10[k] * pow10[k], math.MaxInt64/pow10[k]*pow10[k] - 1} {
			if m <= math.MaxInt64 && quotient(m, k) != m/pow10[k] {
				t.Fatalf("%d / 10^%d", m, k)
			}
		}
		for range 10_000 {
			if m := rng.Uint64() >> 1; quotient(m, k) != m/pow10[k] {
				t.Fatalf("%d / 10^%d", m, k)
			}
		}
	}
}
