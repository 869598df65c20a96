package market

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"strconv"
)

const (
	// textDigits is how many digits two words hold: larger mantissas are rare.
	textDigits = 16
	// textRoom is what AppendText may write to of numbers with up to textDigits
	// digits and textZeros zeros in front: whole words, also where less is meant.
	textRoom  = 48
	textZeros = 8

	asciiZeros = 0x3030303030303030
	zeros      = "0000000000000000000000000000000000000000000000000000000000000000" +
		"0000000000000000000000000000000000000000000000000000000000000000"
)

// AppendText appends d as a plain JSON number without exponent, or null.
func (d Decimal) AppendText(dst []byte) []byte {
	if d.Exp == NullExp {
		return append(dst, "null"...)
	}
	if d.Mant < 0 {
		dst = append(dst, '-')
	}
	m, exp := abs(d.Mant), int(d.Exp)
	if m >= 1e16 {
		return appendLong(dst, m, exp)
	}
	n := length(m)
	first, second := digitWords(m, n)
	dst = slices.Grow(dst, textRoom)
	at := len(dst)
	out := dst[at : at+textRoom]
	switch point := n + exp; {
	case exp >= 0:
		putWords(out, first, second)
		return append(dst[:at+n], zeros[:exp]...)
	case point > 0:
		putWords(out, first, second)
		out[point] = '.'
		first, second = skipBytes(first, second, point)
		putWords(out[point+1:], first, second)
		return dst[:at+n+1]
	case point >= -textZeros:
		putWords(out, asciiZeros, asciiZeros)
		out[1] = '.'
		putWords(out[2-point:], first, second)
		return dst[:at+2-exp]
	}
	return appendLong(dst, m, exp)
}

// appendLong is AppendText of m × 10^exp for numbers of any length.
func appendLong(dst []byte, m uint64, exp int) []byte {
	var buf [20]byte
	text := strconv.AppendUint(buf[:0], m, 10)
	switch point := len(text) + exp; {
	case exp >= 0:
		return append(append(dst, text...), zeros[:exp]...)
	case point > 0:
		dst = append(append(dst, text[:point]...), '.')
		return append(dst, text[point:]...)
	default:
		dst = append(append(dst, '0', '.'), zeros[:-point]...)
		return append(dst, text...)
	}
}

// String returns the text of AppendText.
func (d Decimal) String() string { return string(d.AppendText(nil)) }

// length returns the number of digits of m < 10^16; 0 has one. Where the next
// number goes depends on it alone, so that a processor can begin that one early.
func length(m uint64) int {
	m |= 1
	n := bits.Len64(m) * 1233 >> 12 // log 2 as a fraction: right or one too few
	if m >= pow10[n] {
		n++
	}
	return n
}

// digitWords returns the n digits of m < 10^16 in ASCII, the first one in the
// lowest byte of the first word.
func digitWords(m uint64, n int) (first, second uint64) {
	if n <= 8 {
		return (eightDigits(m) | asciiZeros) >> (64 - 8*n), 0
	}
	high, low := eightDigits(m/1e8), eightDigits(m%1e8)
	return skipBytes(high|asciiZeros, low|asciiZeros, textDigits-n)
}

// eightDigits returns the digits of m < 10^8, the first one in the lowest byte:
// halves of four, then pairs, then single ones, side by side. Multiplying and
// shifting divides by 100 and by 10, exactly for numbers as small as these.
func eightDigits(m uint64) uint64 {
	m = m/10_000 | m%10_000<<32
	q := m * 10_486 >> 20 & 0x0000_007f_0000_007f
	m = q | (m-q*100)<<16
	q = m * 103 >> 10 & 0x000f_000f_000f_000f
	return q | (m-q*10)<<8
}

// skipBytes drops the n ≤ 16 lowest bytes of two words.
func skipBytes(first, second uint64, n int) (rest, end uint64) {
	if n >= 8 {
		return second >> (8*n - 64), 0
	}
	return first>>(8*n) | second<<(64-8*n), second >> (8 * n)
}

func putWords(out []byte, first, second uint64) {
	binary.LittleEndian.PutUint64(out, first)
	binary.LittleEndian.PutUint64(out[8:], second)
}

// lastShortYear is the last millisecond of 9999, the last year of four digits.
const lastShortYear = Time(253402300799999)

// AppendRFC3339 appends the instant as RFC 3339 in UTC with milliseconds,
// such as 2026-11-20T18:00:00.123Z.
func (t Time) AppendRFC3339(dst []byte) []byte {
	if t < 0 || t > lastShortYear {
		return t.Std().AppendFormat(dst, "2006-01-02T15:04:05.000Z")
	}
	at := len(dst)
	dst = append(dst, "0000-00-00T00:00:00.000Z"...)
	b := dst[at : at+len("0000-00-00T00:00:00.000Z")]
	year, month, day := civil(uint32(t / Time(Day)))
	ms := uint32(t % Time(Day))
	seconds, ms := ms/1000, ms%1000
	minutes := seconds / 60
	twoDigits(b[0:2], year/100)
	twoDigits(b[2:4], year%100)
	twoDigits(b[5:7], month)
	twoDigits(b[8:10], day)
	twoDigits(b[11:13], minutes/60)
	twoDigits(b[14:16], minutes%60)
	twoDigits(b[17:19], seconds%60)
	b[20] += byte(ms / 100)
	twoDigits(b[21:23], ms%100)
	return dst
}

func twoDigits(b []byte, n uint32) {
	b[0] += byte(n / 10)
	b[1] += byte(n % 10)
}

// civil returns the date of a day since 1970. Years begin in March here, so that
// the leap day is their last, and months are 153 days in fives.
func civil(days uint32) (year, month, day uint32) {
	const (
		toMarch0 = 719_468 // days from 0000-03-01 to 1970-01-01
		fourth   = 146_097 // days of 400 years
	)
	days += toMarch0
	age, of := days/fourth*400, days%fourth
	y := (of - of/1460 + of/36_524 - of/146_096) / 365
	of -= 365*y + y/4 - y/100
	m := (5*of + 2) / 153
	day = of - (153*m+2)/5 + 1
	if m < 10 {
		return age + y, m + 3, day
	}
	return age + y + 1, m - 9, day
}
