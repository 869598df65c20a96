package market

import (
	"errors"
	"math"
	"math/bits"
	"strconv"
)

// NullExp is the exponent that marks a Decimal as null; its mantissa is then 0.
const NullExp int8 = 127

// MaxDigits is the number of significant digits a Decimal keeps.
const MaxDigits = 18

// maxExp bounds the exponents that a parsed number may need: far beyond any
// price or total, small enough that a printed number stays short.
const maxExp = 100

// Decimal is a decimal number, Mant × 10^Exp. A normalised Decimal has no
// trailing zeros in its mantissa (zero is 0 × 10^0), so numeric equality is ==.
// Every constructor and method in this package returns normalised values. The
// zero value is the number zero, not null.
type Decimal struct {
	Mant int64
	Exp  int8
}

// Null is the Decimal that stands for "no value".
var Null = Decimal{Exp: NullExp}

// Errors of ParseDecimal.
var (
	ErrNotNumber = errors.New("not a decimal number")
	ErrRange     = errors.New("number out of range")
)

var pow10 = [...]uint64{
	1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19,
}

// NewDecimal returns mant × 10^exp normalised. Exponents that leave the int8
// range while zeros are stripped cannot occur: stripping raises exp by at most 18.
func NewDecimal(mant int64, exp int8) Decimal {
	if mant == 0 {
		return Decimal{}
	}
	for mant%10 == 0 {
		mant /= 10
		exp++
	}
	return Decimal{Mant: mant, Exp: exp}
}

// FromInt returns the integer n.
func FromInt(n int64) Decimal { return NewDecimal(n, 0) }

// IsNull reports whether d stands for "no value".
func (d Decimal) IsNull() bool { return d.Exp == NullExp }

// Positive reports whether d is a number above zero.
func (d Decimal) Positive() bool { return d.Mant > 0 }

// Float returns the nearest float64, or NaN for null. Only statistics use it.
func (d Decimal) Float() float64 {
	if d.Exp == NullExp {
		return math.NaN()
	}
	e := int(d.Exp)
	switch {
	case e == 0:
		return float64(d.Mant)
	case e > 0 && e < len(floatPow10):
		return float64(d.Mant) * floatPow10[e]
	case e < 0 && -e < len(floatPow10):
		// One correctly rounded division where mantissa and power are exact; at
		// 16 to 18 digits the mantissa conversion adds half a unit in the last place.
		return float64(d.Mant) / floatPow10[-e]
	}
	f, _ := strconv.ParseFloat(string(strconv.AppendInt(nil, d.Mant, 10))+"e"+strconv.Itoa(e), 64)
	return f
}

var floatPow10 = [...]float64{
	1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
	1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
}

// Fixed rounds f half-even to a multiple of 10^exp; exp is in -22…0. NaN and
// infinities give Null. A value too large for int64 at that scale keeps 17
// significant digits at a coarser one.
func Fixed(f float64, exp int8) Decimal {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return Null
	}
	m := math.RoundToEven(f * floatPow10[-exp])
	if math.Abs(m) >= 9e18 {
		return Significant(f, 17)
	}
	return NewDecimal(int64(m), exp)
}

// Significant rounds f to n significant digits, 1 ≤ n ≤ 17. NaN and infinities
// give Null, and so does a magnitude outside 1e±100.
func Significant(f float64, n int) Decimal {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return Null
	}
	var buf [32]byte
	d, _, err := ParseDecimal(strconv.AppendFloat(buf[:0], f, 'e', n-1, 64))
	if err != nil {
		return Null
	}
	return d
}

// Digits returns the number of decimal digits of the mantissa; 0 has none.
func (d Decimal) Digits() int { return digits(abs(d.Mant)) }

// RoundSignificant rounds d half-even to at most n significant digits, n ≥ 1.
func (d Decimal) RoundSignificant(n int) Decimal {
	if d.Exp == NullExp {
		return d
	}
	return d.drop(d.Digits() - n)
}

// RoundPlaces rounds d half-even to at most n digits after the decimal point.
func (d Decimal) RoundPlaces(n int) Decimal {
	if d.Exp == NullExp {
		return d
	}
	return d.drop(-n - int(d.Exp))
}

// drop removes k low digits of the mantissa, rounding half-even.
func (d Decimal) drop(k int) Decimal {
	if k <= 0 || d.Mant == 0 {
		return d
	}
	if k > MaxDigits {
		return Decimal{}
	}
	q, r := abs(d.Mant)/pow10[k], abs(d.Mant)%pow10[k]
	half := pow10[k] / 2
	if r > half || r == half && q&1 == 1 {
		q++
	}
	m := int64(q)
	if d.Mant < 0 {
		m = -m
	}
	return NewDecimal(m, d.Exp+int8(k))
}

// Cmp compares two numbers: -1, 0 or +1. Null sorts before every number.
func (d Decimal) Cmp(e Decimal) int {
	if d == e {
		return 0
	}
	switch {
	case d.IsNull():
		return -1
	case e.IsNull():
		return 1
	case sign(d.Mant) != sign(e.Mant):
		return cmpInt(sign(d.Mant), sign(e.Mant))
	}
	c := cmpMagnitude(d, e)
	if d.Mant < 0 {
		return -c
	}
	return c
}

func cmpMagnitude(d, e Decimal) int {
	dm, em := abs(d.Mant), abs(e.Mant)
	if dt, et := digits(dm)+int(d.Exp), digits(em)+int(e.Exp); dt != et {
		return cmpInt(dt, et)
	}
	// Same decimal order of magnitude: exponents differ by at most 18 digits.
	dh, dl, eh, el := uint64(0), dm, uint64(0), em
	if k := int(d.Exp) - int(e.Exp); k > 0 {
		dh, dl = bits.Mul64(dm, pow10[k])
	} else if k < 0 {
		eh, el = bits.Mul64(em, pow10[-k])
	}
	if dh != eh {
		return cmpInt(dh, eh)
	}
	return cmpInt(dl, el)
}

// Rescale returns the mantissa of d at exponent exp, which must not be above
// d.Exp; ok is false where it does not fit an int64 or d is null.
func (d Decimal) Rescale(exp int8) (mant int64, ok bool) {
	if d.Exp == NullExp {
		return 0, false
	}
	if d.Mant == 0 {
		return 0, true
	}
	k := int(d.Exp) - int(exp)
	if k < 0 || k > MaxDigits {
		return 0, false
	}
	hi, lo := bits.Mul64(abs(d.Mant), pow10[k])
	if hi != 0 || lo > math.MaxInt64 {
		return 0, false
	}
	if d.Mant < 0 {
		return -int64(lo), true
	}
	return int64(lo), true
}

func abs(m int64) uint64 {
	if m < 0 {
		return -uint64(m)
	}
	return uint64(m)
}

func sign(m int64) int { return cmpInt(m, 0) }

func cmpInt[T int | int64 | uint64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func digits(m uint64) int {
	n := 0
	for n < len(pow10) && m >= pow10[n] {
		n++
	}
	return n
}
