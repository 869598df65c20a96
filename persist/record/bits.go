package record

import (
	"encoding/binary"
	"math/bits"
)

// A Rice code of u with parameter k is u>>k ones, a zero and the k low bits of
// u. From riceEscape ones on, without a zero, 6 bits of length − 1 and the
// number itself follow: so one outlier costs at most 11 bytes.
const (
	riceEscape = 16
	// riceMax takes five bits, and keeps a code that is no escape within one
	// look ahead.
	riceMax = 31
)

// The code of a column is 0 where all of it is zero, Rice parameter + 1, or
// codeApart + Rice parameter: then a bit tells zero from the rest, which is
// coded less 1. Highs and lows are often zero, the rest of them far from it.
const codeApart = 64

// bitWriter appends bits to bytes, the low ones first.
type bitWriter struct {
	b   []byte
	acc uint64
	n   uint
}

// put appends the n ≤ 32 low bits of u, which has no others.
func (w *bitWriter) put(u uint64, n uint) {
	w.acc |= u << w.n
	for w.n += n; w.n >= 8; w.n -= 8 {
		w.b = append(w.b, byte(w.acc))
		w.acc >>= 8
	}
}

func (w *bitWriter) wide(u uint64, n uint) {
	if n > 32 {
		w.put(u&(1<<32-1), 32)
		u, n = u>>32, n-32
	}
	w.put(u, n)
}

func (w *bitWriter) rice(u uint64, k uint) {
	q := u >> k
	if q >= riceEscape {
		n := uint(bits.Len64(u))
		w.put(1<<riceEscape-1, riceEscape)
		w.put(uint64(n-1), 6)
		w.wide(u, n)
		return
	}
	w.put(1<<q-1, uint(q)+1)
	w.wide(u&(1<<k-1), k)
}

// number appends a number of a column that has a code.
func (w *bitWriter) number(u uint64, code uint8) {
	switch {
	case code < codeApart:
		w.rice(u, uint(code-1))
	case u == 0:
		w.put(0, 1)
	default:
		w.put(1, 1)
		w.rice(u-1, uint(code-codeApart))
	}
}

// riceCost returns the bits that rice takes.
func riceCost(u uint64, k uint) int {
	if q := u >> k; q < riceEscape {
		return int(q) + 1 + int(k)
	}
	return riceEscape + 6 + bits.Len64(u)
}

// align fills up the last byte with zeros.
func (w *bitWriter) align() {
	if w.n > 0 {
		w.put(0, 8-w.n)
	}
}

// bitReader reads what a bitWriter wrote. Behind the end it reads zeros; at the
// end the caller looks at pos.
type bitReader struct {
	b   []byte
	pos uint // in bits
}

// look returns at least 57 of the next bits.
func (r *bitReader) look() uint64 {
	at := r.pos >> 3
	if at+8 <= uint(len(r.b)) {
		return binary.LittleEndian.Uint64(r.b[at:]) >> (r.pos & 7)
	}
	var tail [8]byte
	if at < uint(len(r.b)) {
		copy(tail[:], r.b[at:])
	}
	return binary.LittleEndian.Uint64(tail[:]) >> (r.pos & 7)
}

// get reads n ≤ 56 bits.
func (r *bitReader) get(n uint) uint64 {
	u := r.look() & (1<<n - 1)
	r.pos += n
	return u
}

// number reads a number of a column that has a code. It is most of the time
// that reading takes, hence one look for all of it; the masks tell the compiler
// that no shift is a long one.
func (r *bitReader) number(code uint8) uint64 {
	w, k, less := r.look(), uint(code-1), uint64(0)
	if code >= codeApart {
		r.pos++
		if w&1 == 0 {
			return 0
		}
		w, k, less = w>>1, uint(code-codeApart), 1
	}
	q := uint(bits.TrailingZeros64(^w))
	if q >= riceEscape {
		return r.escaped() + less
	}
	r.pos += q + 1 + k
	return uint64(q)<<(k&63) + w>>((q+1)&63)&(1<<(k&63)-1) + less
}

func (r *bitReader) escaped() uint64 {
	r.pos += riceEscape
	n := uint(r.get(6)) + 1
	low := min(n, 32)
	u := r.get(low)
	return u | r.get(n-low)<<32
}

func (r *bitReader) align() { r.pos = (r.pos + 7) &^ 7 }

// over reports whether everything was read and the rest of the last byte is zero.
func (r *bitReader) over() bool {
	rest := r.get(-r.pos & 7)
	return rest == 0 && r.pos == uint(len(r.b))*8
}
