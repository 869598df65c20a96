package wire

import (
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Rounding and printing are the hot path of every encoding: what follows does
// the same as the methods of market.Decimal, in a third of the time.

var pow10 = [...]uint64{
	1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19,
}

// inverse divides by 10^k: floor(m·factor / 2^64) >> shift is m / 10^k for every
// m below 2^63 (Granlund and Montgomery, N = 63).
var inverse = func() (inv [len(pow10)]struct {
	factor uint64
	shift  uint8
},
) {
	for k := 1; k < len(pow10); k++ {
		l := bits.Len64(pow10[k] - 1)
		q, r := bits.Div64(1<<(l-1), 0, pow10[k])
		if r > 0 {
			q++
		}
		inv[k].factor, inv[k].shift = q, uint8(l-1)
	}
	return inv
}()

// quotient returns m / 10^k for m below 2^63, 1 ≤ k < 20.
func quotient(m uint64, k int) uint64 {
	inv := &inverse[k]
	high, _ := bits.Mul64(m, inv.factor)
	return high >> inv.shift
}

func magnitude(m int64) uint64 {
	if m < 0 {
		return -uint64(m)
	}
	return uint64(m)
}

// countDigits returns the number of decimal digits; 0 has none.
func countDigits(m uint64) int {
	n := bits.Len64(m) * 1233 >> 12 // 1233/4096 is log10 of 2, a little above
	if m >= pow10[n] {
		n++
	}
	return n
}

// drop removes k low digits of the mantissa, rounding half to even.
func drop(d market.Decimal, k int) market.Decimal {
	if k <= 0 || d.Mant == 0 {
		return d
	}
	if k >= len(pow10) {
		return market.Decimal{}
	}
	m, p := magnitude(d.Mant), pow10[k]
	q := quotient(m, k)
	if r := m - q*p; r > p/2 || r == p/2 && q&1 == 1 {
		q++
	}
	if q == 0 {
		return market.Decimal{}
	}
	e := int(d.Exp) + k
	for q%10 == 0 {
		q /= 10
		e++
	}
	if d.Mant < 0 {
		return market.Decimal{Mant: -int64(q), Exp: int8(e)}
	}
	return market.Decimal{Mant: int64(q), Exp: int8(e)}
}

// Digits are made eight at a time, as the bytes of a word, and stored as words:
// what a store writes too much is written over or cut off.
const (
	word      = 8           // digits in a word
	wordLimit = 100_000_000 // the first number that has more
	window    = 48          // bytes that a sign, a point, 19 digits and 16 zeros take, and a word
	zeroWord  = 0x3030303030303030
)

// grown returns dst with room for a window.
func grown(dst []byte) []byte {
	if cap(dst)-len(dst) < window {
		return slices.Grow(dst, window)
	}
	return dst
}

// digitWord returns the eight digits of m below wordLimit, the first in the
// lowest byte.
func digitWord(m uint32) uint64 {
	fours := uint64(m/10000) | uint64(m%10000)<<32
	high := fours * 10486 >> 20 & 0x7f_0000_007f // by 100
	twos := fours<<16 - (100<<16-1)*high
	high = twos * 103 >> 10 & 0x000f_000f_000f_000f // by 10
	return twos<<8 - (10<<8-1)*high + zeroWord
}

// putDigits stores m as n digits, leading zeros included, and up to seven bytes
// more.
func putDigits(out []byte, m uint64, n int) {
	switch {
	case n <= word:
		putWord(out, uint32(m), n)
		return
	case n <= 2*word:
		high := m / wordLimit
		putWord(out, uint32(high), n-word)
		putWord(out[n-word:], uint32(m-high*wordLimit), word)
		return
	}
	high := m / (wordLimit * wordLimit)
	m -= high * (wordLimit * wordLimit)
	n -= 2 * word
	putWord(out, uint32(high), n)
	putWord(out[n:], uint32(m/wordLimit), word)
	putWord(out[n+word:], uint32(m%wordLimit), word)
}

func putWord(out []byte, m uint32, n int) {
	binary.LittleEndian.PutUint64(out, digitWord(m)>>((word-n)*8))
}

// appendDecimal appends d, which is not null, without exponent.
func appendDecimal(dst []byte, d market.Decimal) []byte {
	m := magnitude(d.Mant)
	dst = grown(dst)
	if d.Mant < 0 {
		dst = append(dst, '-')
	}
	if d.Exp >= 0 {
		return appendWhole(dst, m, int(d.Exp))
	}
	n := countDigits(m)
	point := n + int(d.Exp)
	if point <= 0 {
		return appendSmall(dst, m, n, -point)
	}
	at := len(dst)
	out := dst[at : at+window-1]
	dst = dst[:at+n+1]
	if n <= word {
		w := digitWord(uint32(m)) >> ((word - n) * 8)
		binary.LittleEndian.PutUint64(out, w)
		binary.LittleEndian.PutUint64(out[point+1:], w>>(point*8))
		out[point] = '.'
		return dst
	}
	whole := quotient(m, n-point)
	putDigits(out, whole, point)
	out[point] = '.'
	putDigits(out[point+1:], m-whole*pow10[n-point], n-point)
	return dst
}

// appendWhole appends m and some zeros.
func appendWhole(dst []byte, m uint64, trailing int) []byte {
	n, at := max(1, countDigits(m)), len(dst)
	out := dst[at : at+window-1]
	putDigits(out, m, n)
	binary.LittleEndian.PutUint64(out[n:], zeroWord)
	binary.LittleEndian.PutUint64(out[n+word:], zeroWord)
	dst = dst[:at+n+min(trailing, 2*word)]
	for ; trailing > 2*word; trailing-- {
		dst = append(dst, '0')
	}
	return dst
}

// appendSmall appends 0. and the n digits of m after some zeros.
func appendSmall(dst []byte, m uint64, n, leading int) []byte {
	dst = append(dst, '0', '.')
	for ; leading > 0; leading-- {
		dst = append(dst, '0')
	}
	dst = grown(dst)
	putDigits(dst[len(dst):len(dst)+window], m, n)
	return dst[:len(dst)+n]
}

// appendNatural appends a number without sign.
func appendNatural(dst []byte, m uint64) []byte {
	if m < 10 {
		return append(dst, byte('0'+m))
	}
	dst, n := grown(dst), countDigits(m)
	putDigits(dst[len(dst):len(dst)+window-1], m, n)
	return dst[:len(dst)+n]
}
