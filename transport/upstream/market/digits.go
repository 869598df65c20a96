package simulator

import (
	"fmt"
	"math"
	"strconv"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Digits says how precisely the synthetic market prints its numbers.
type Digits uint8

// The precisions.
const (
	// DigitsFull prints the 16 or 17 noisy digits of the real API.
	DigitsFull Digits = iota
	// DigitsCompact prints 8 significant digits of a price, 6 of a USD total and
	// 2 decimals of a percentage; supplies stay as they are.
	DigitsCompact
)

// ParseDigits reads "full" or "compact".
func ParseDigits(name string) (Digits, error) {
	switch name {
	case "", "full":
		return DigitsFull, nil
	case "compact":
		return DigitsCompact, nil
	}
	return 0, fmt.Errorf("cannot use digits %q: want full or compact", name)
}

// powers holds 10^-32 … 10^40.
var powers = func() (p [73]float64) {
	for i := range p {
		p[i] = math.Pow(10, float64(i-powerZero))
	}
	return p
}()

const powerZero = 32

// noisy keeps 16 or 17 significant digits: a mantissa in [2·10^15, 2·10^16).
func noisy(f float64) market.Decimal { return scaled(f, 2e15) }

// scaled brings |f| to a mantissa in [low, 10·low) and rounds it. Values that
// no market has (below 10^-22 or above 10^36) become zero.
func scaled(f, low float64) market.Decimal {
	a := math.Abs(f)
	if !(a > 1e-22 && a < 1e36) {
		return market.Decimal{}
	}
	// The binary exponent gives the decimal one to within one.
	exp := int(math.Float64bits(a)>>52) - 1023
	k := lowDigits(low) - int(math.Floor(float64(exp)*0.30103))
	k = min(max(k, -31), 40)
	m := f * powers[k+powerZero]
	switch am := math.Abs(m); {
	case am < low && k < 40:
		k++
		m = f * powers[k+powerZero]
	case am >= 10*low:
		k--
		m = f * powers[k+powerZero]
	}
	return market.NewDecimal(int64(math.RoundToEven(m)), int8(-k))
}

func lowDigits(low float64) int {
	if low >= 1e15 {
		return 15
	}
	if low >= 1e7 {
		return 7
	}
	return 5
}

func (d Digits) price(f float64) market.Decimal {
	if d == DigitsCompact {
		return scaled(f, 1e7)
	}
	return noisy(f)
}

func (d Digits) total(f float64) market.Decimal {
	if d == DigitsCompact {
		return scaled(f, 1e5)
	}
	return noisy(f)
}

// fixed rounds to the decimals that the real API prints for a field.
func (d Digits) fixed(f float64, exp int8) market.Decimal {
	if d == DigitsCompact && exp < -2 {
		exp = -2
	}
	return market.Fixed(f, exp)
}

// diluted is a USD total printed with cents, as fully_diluted_market_cap is.
func (d Digits) diluted(f float64) market.Decimal {
	if d == DigitsCompact {
		return scaled(f, 1e5)
	}
	return market.Fixed(f, -2)
}

// appendNumber prints a number as JavaScript does: below 10^-6 with an exponent.
func appendNumber(dst []byte, d market.Decimal) []byte {
	if d.Exp > -7 || d.Mant == 0 || d.Exp > -40 && math.Abs(float64(d.Mant)) >= powers[powerZero-6-int(d.Exp)] {
		return d.AppendText(dst) // null too: its exponent is large
	}
	n := d.Digits()
	exp := n - 1 + int(d.Exp)
	d.Exp = int8(1 - n)
	dst = d.AppendText(dst)
	return strconv.AppendInt(append(dst, 'e'), int64(exp), 10)
}
