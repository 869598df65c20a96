package record

import (
	"encoding/binary"
	"math/bits"

	"github.com/velocimeter/velocimeter/engine/market"
)

// A number is one head byte and up to eight bytes of zigzag mantissa, little
// endian. The head is length·28 + exponent + 24 for exponents −24…3, which
// leaves room for null and for an escape with its own exponent byte.
const (
	numExps   = 28
	numBias   = 24
	numNull   = 252
	numEscape = 253
	// numMaxExp leaves room for the zeros that normalising strips.
	numMaxExp = 108
)

// AppendNumber appends a Decimal: a head byte and the bytes its mantissa needs.
func AppendNumber(dst []byte, d market.Decimal) []byte {
	if d.IsNull() {
		return append(dst, numNull)
	}
	u := zigzag(d.Mant)
	n := (bits.Len64(u) + 7) / 8
	if e := int(d.Exp) + numBias; e >= 0 && e < numExps {
		dst = append(dst, byte(n*numExps+e))
	} else {
		dst = append(dst, numEscape, byte(d.Exp), byte(n))
	}
	for range n {
		dst = append(dst, byte(u))
		u >>= 8
	}
	return dst
}

func zigzag(m int64) uint64   { return uint64(m)<<1 ^ uint64(m>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

// reader walks a payload; the first malformed item sets bad and everything
// after it reads as zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) fail() { r.bad, r.b = true, nil }

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) uvarint() uint64 {
	if len(r.b) > 0 && r.b[0] < 0x80 {
		u := uint64(r.b[0])
		r.b = r.b[1:]
		return u
	}
	u, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return u
}

func (r *reader) varint() int64 { return unzigzag(r.uvarint()) }

// count reads a length that cannot exceed what is left, at least unit bytes each.
func (r *reader) count(unit int) int {
	n := r.uvarint()
	if n > uint64(len(r.b)/unit) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *reader) bytes(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail()
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) number() market.Decimal {
	head := r.byte()
	n, exp := int(head/numExps), int8(int(head%numExps)-numBias)
	switch {
	case head == numNull:
		return market.Null
	case head == numEscape:
		exp = int8(r.byte())
		n = int(r.byte())
	case head > numEscape:
		r.fail()
	}
	if n > 8 || exp > numMaxExp {
		r.fail()
	}
	var u uint64
	for i, c := range r.bytes(n) {
		u |= uint64(c) << (8 * i)
	}
	if r.bad {
		return market.Null
	}
	return market.NewDecimal(unzigzag(u), exp)
}

func appendVarint(dst []byte, v int64) []byte { return binary.AppendUvarint(dst, zigzag(v)) }

func appendUvarint(dst []byte, u uint64) []byte { return binary.AppendUvarint(dst, u) }
