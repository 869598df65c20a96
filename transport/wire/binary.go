package wire

import (
	"encoding/binary"
	"math"
	"math/bits"
	"unicode/utf8"

	"github.com/velocimeter/velocimeter/engine/market"
)

// AppendBinary appends the body of the binary row of s, without its id, with
// the fields of mask that the format has.
//
// prev is the token as the channel's previous message showed it: decimals are
// then written as differences, and what is not different with the format's
// digits is left out. Without prev all is absolute, as it must be in messages
// with Head.Absolute and may be in no others, but for whole rows: a row with
// every field of the format is absolute and replaces the client's in either.
// source is treated as by AppendRow, and where nothing is to be told dst comes
// back as it was.
func AppendBinary(dst []byte, s, prev *market.Snapshot, mask market.Mask, f *Format, source market.Source) []byte {
	fields := mask & f.Fields
	if prev == nil || fields == f.Fields {
		return appendAbsolute(dst, s, withSource(fields, mask, s, source), f)
	}
	r := differences{dst: append(dst, 0), start: len(dst), f: f}
	return r.row(s, prev, mask, source)
}

func appendAbsolute(dst []byte, s *market.Snapshot, mask market.Mask, f *Format) []byte {
	if mask == 0 {
		return dst
	}
	dst = appendUvarint(dst, pack(mask, f)<<1)
	for m := mask & market.NumericFields; m != 0; m &= m - 1 {
		i := bits.TrailingZeros64(uint64(m))
		c := &columns[i]
		v := market.Decimal{Mant: s.Mant[i], Exp: s.Exp[i]}
		if c.numbered() {
			dst = appendUvarint(dst, uint64(v.Mant))
		} else {
			dst = appendValue(dst, c.published(v, f.Digits))
		}
	}
	return appendBytes(dst, s, mask)
}

// differences is a row that is being written: the values first, and then the
// masks, which are known only then, before them.
type differences struct {
	dst           []byte
	start         int // where the row begins, with one byte kept for the masks
	f             *Format
	told, special market.Mask
}

func (r *differences) row(s, prev *market.Snapshot, mask market.Mask, source market.Source) []byte {
	fields, moved, foreign := mask&r.f.Fields, mask&sourceBit, market.Mask(0)
	if s.Source() != source {
		foreign = sourceBit
	}
	r.numeric(s, prev, fields&market.NumericFields|foreign&r.f.Fields, foreign)
	texts := differing(s, prev, fields)
	if (r.told&^foreign)|moved|texts == 0 {
		return r.dst[:r.start] // nothing that the row's being there could say
	}
	if r.told&sourceBit == 0 && (foreign != 0 || r.told|texts == 0) {
		r.dst = appendUvarint(r.dst, uint64(s.Source()))
		r.told |= sourceBit
	}
	r.dst = appendBytes(r.dst, s, texts)
	r.told |= texts
	return r.masks()
}

// numeric writes what differs of the numeric fields, and always those of forced.
func (r *differences) numeric(s, prev *market.Snapshot, fields, forced market.Mask) {
	digits := r.f.Digits
	for ; fields != 0; fields &= fields - 1 {
		i := bits.TrailingZeros64(uint64(fields))
		bit := fields & -fields
		v := market.Decimal{Mant: s.Mant[i], Exp: s.Exp[i]}
		old := market.Decimal{Mant: prev.Mant[i], Exp: prev.Exp[i]}
		if v == old && bit&forced == 0 {
			continue
		}
		c := &columns[i]
		if c.numbered() {
			r.dst = appendUvarint(r.dst, uint64(v.Mant))
			r.told |= bit
			continue
		}
		if digits != DigitsFull {
			if v, old = c.published(v, digits), c.published(old, digits); v == old {
				continue
			}
		}
		r.told |= bit
		if d, ok := c.difference(v, old, digits); ok {
			r.dst = appendVarint(r.dst, d)
		} else {
			r.special |= bit
			r.dst = appendValue(r.dst, v)
		}
	}
}

// masks puts the masks before the values.
func (r *differences) masks() []byte {
	columns := pack(r.told, r.f) << 1
	if columns < 0x80 && r.special == 0 {
		r.dst[r.start] = byte(columns)
		return r.dst
	}
	var room [2 * binary.MaxVarintLen64]byte
	head := room[:0]
	if r.special == 0 {
		head = appendUvarint(head, columns)
	} else {
		head = appendUvarint(appendUvarint(head, columns|1), pack(r.special, r.f))
	}
	n := len(r.dst)
	r.dst = append(r.dst, head[1:]...)
	copy(r.dst[r.start+len(head):], r.dst[r.start+1:n])
	copy(r.dst[r.start:], head)
	return r.dst
}

// numbered reports whether values are plain numbers without sign, exponent or
// null: enumerations and sets of flags.
func (c *column) numbered() bool { return c.kind == market.KindEnum || c.kind == market.KindFlags }

// difference returns v − old in units of old's reference exponent, where that
// can say it.
func (c *column) difference(v, old market.Decimal, d Digits) (int64, bool) {
	if v.Exp == market.NullExp || old.Exp == market.NullExp {
		return 0, false
	}
	e := c.reference(old, d)
	a, ok := scaled(v, e)
	if !ok {
		return 0, false
	}
	b, ok := scaled(old, e)
	if !ok {
		return 0, false
	}
	diff := a - b
	if (a^b)&(a^diff) < 0 {
		return 0, false
	}
	return diff, true
}

// fitting are the largest mantissas that still fit an int64 times 10^k.
var fitting = func() (most [market.MaxDigits + 1]uint64) {
	for k := range most {
		most[k] = math.MaxInt64 / pow10[k]
	}
	return most
}()

// scaled returns the mantissa of d at exponent e; ok is false where d is finer
// or the mantissa does not fit an int64.
func scaled(d market.Decimal, e int) (mant int64, ok bool) {
	k := int(d.Exp) - e
	if k == 0 {
		return d.Mant, true
	}
	if d.Mant == 0 {
		return 0, true
	}
	if k < 0 || k > market.MaxDigits {
		return 0, false
	}
	if magnitude(d.Mant) > fitting[k] {
		return 0, false
	}
	return d.Mant * int64(pow10[k]), true
}

// differing returns the texts among fields in which s and prev differ.
func differing(s, prev *market.Snapshot, fields market.Mask) market.Mask {
	fields &= market.TextFields
	if fields == 0 {
		return 0
	}
	a, b := texts(s), texts(prev)
	for i := range a {
		if a[i] == b[i] {
			fields &^= (market.FieldSymbol + market.Field(i)).Bit()
		}
	}
	return fields
}

// pack turns a set of fields into a set of the format's columns: its numeric
// fields, source where that is none of them, the texts.
func pack(mask market.Mask, f *Format) uint64 {
	if first := f.Fields &^ (f.Fields + 1); mask&^first == 0 && first&^market.NumericFields == 0 {
		return uint64(mask) // all among the first columns, which are the first fields
	}
	numeric := uint64((f.Fields & market.NumericFields) | sourceBit)
	if f.Fields&sourceBit != 0 {
		return extract(uint64(mask&market.NumericFields), numeric) |
			uint64(mask>>market.NumNumeric)<<bits.OnesCount64(numeric)
	}
	own := numeric &^ uint64(sourceBit)
	n := bits.OnesCount64(own)
	source := uint64(mask) >> (market.FieldSource - 1) & 1
	return extract(uint64(mask)&own, own) | source<<n | uint64(mask>>market.NumNumeric)<<(n+1)
}

// extract moves the bits of mask to where they stand among the bits of set.
func extract(mask, set uint64) (out uint64) {
	for ; mask != 0; mask &= mask - 1 {
		out |= 1 << bits.OnesCount64(set&(mask&-mask-1))
	}
	return out
}

// appendValue appends an absolute decimal, integer or time.
func appendValue(dst []byte, v market.Decimal) []byte {
	dst = append(dst, byte(v.Exp))
	if v.Exp == market.NullExp {
		return dst
	}
	return appendVarint(dst, v.Mant)
}

// appendBytes appends the texts of mask.
func appendBytes(dst []byte, s *market.Snapshot, mask market.Mask) []byte {
	if mask&market.TextFields == 0 {
		return dst
	}
	for i, t := range texts(s) {
		if mask.Has(market.FieldSymbol + market.Field(i)) {
			if !utf8.ValidString(t) {
				t = string([]rune(t)) // what JSON makes of it
			}
			dst = append(appendUvarint(dst, uint64(len(t))), t...)
		}
	}
	return dst
}

// appendVarint appends a signed number, zigzag.
func appendVarint(dst []byte, n int64) []byte { return appendUvarint(dst, uint64(n)<<1^uint64(n>>63)) }

func appendUvarint(dst []byte, n uint64) []byte {
	for n >= 0x80 {
		dst = append(dst, byte(n)|0x80)
		n >>= 7
	}
	return append(dst, byte(n))
}
