package client

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"

	"github.com/velocimeter/velocimeter/engine/market"
)

// The fixed head of a binary message.
const (
	headBytes = 16

	binSnapshot = 1
	binDelta    = 2
	binBeat     = 3

	flagMore      = 1 << 0
	flagSimulated = 1 << 1
	flagAbsolute  = 1 << 2
	flagRemoved   = 1 << 3
	flagsKnown    = flagMore | flagSimulated | flagAbsolute | flagRemoved
)

// Exponents of published numbers lie well inside these; normalising a mantissa
// of 19 digits adds at most 18.
const minExp, maxExp = -118, 100

// reader walks over bytes; what is missing or too long makes it bad.
type reader struct {
	p   []byte
	at  int
	bad bool
}

// uvarint reads a number that is mostly one byte.
func (r *reader) uvarint() uint64 {
	if r.at < len(r.p) {
		if b := r.p[r.at]; b < 0x80 {
			r.at++
			return uint64(b)
		}
	}
	return r.wide()
}

// wide reads a number of any length. Lengths of values follow no pattern that a
// processor could guess, so up to eight bytes are read without a branch.
func (r *reader) wide() uint64 {
	if r.at+8 > len(r.p) {
		return r.last()
	}
	x := binary.LittleEndian.Uint64(r.p[r.at:])
	ends := ^x & varintEnds
	if ends == 0 {
		return r.last()
	}
	r.at += bits.TrailingZeros64(ends)/8 + 1
	return unpack(x & (ends ^ (ends - 1)))
}

// varintEnds has the bits that the last byte of a varint lacks.
const varintEnds = 0x8080_8080_8080_8080

// unpack joins the seven bits of each of eight bytes.
func unpack(x uint64) uint64 {
	x = x&0x007f_007f_007f_007f | x&0x7f00_7f00_7f00_7f00>>1
	x = x&0x0000_3fff_0000_3fff | x&0x3fff_0000_3fff_0000>>2
	return x&0x0fff_ffff | x&0x0fff_ffff_0000_0000>>4
}

// last reads a number byte by byte: one of more than eight, or at the end.
func (r *reader) last() uint64 {
	var v uint64
	for i, b := range r.p[r.at:] {
		if i == binary.MaxVarintLen64-1 && b > 1 {
			break // more than 64 bits
		}
		v |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			r.at += i + 1
			return v
		}
	}
	r.bad, r.at = true, len(r.p)
	return 0
}

func unzigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }

// id returns the next id of an ascending list.
func (r *reader) id(last int64) int64 {
	d := r.uvarint()
	if d > 1<<32 || last+int64(d) > 1<<32-1 || last > 0 && d == 0 {
		r.bad = true
		return 0
	}
	return last + int64(d)
}

func (d *Decoder) binary(msg []byte) (Event, error) {
	if len(msg) < headBytes {
		return Event{}, &ProtocolError{What: "a binary message without its head"}
	}
	le := binary.LittleEndian
	flags, n := msg[1], int(le.Uint16(msg[2:]))
	h := head{ch: uint64(le.Uint32(msg[4:])), absolute: flags&flagAbsolute != 0, Data: Data{Seq: le.Uint64(msg[8:]), More: flags&flagMore != 0, Simulated: flags&flagSimulated != 0}}
	switch msg[0] {
	case binSnapshot:
		h.kind = KindSnapshot
	case binDelta:
		h.kind = KindDelta
	case binBeat:
		if len(msg) > headBytes {
			return Event{}, &ProtocolError{h.ch, "a heartbeat longer than its head"}
		}
		return d.beat(h.ch, h.Seq)
	default:
		return Event{Kind: KindOther}, nil
	}
	r := reader{p: msg, at: headBytes}
	if flags&^flagsKnown != 0 || !h.provenance(&r) {
		return Event{}, &ProtocolError{h.ch, "the head of the message is broken"}
	}
	c, err := d.begin(&h)
	if err != nil {
		return Event{}, err
	}
	b := binaryRows{d: d, c: c, r: r, source: h.Source, absolute: h.absolute, chained: c.exact}
	if err := b.rows(n); err != nil {
		return Event{}, err
	}
	if flags&flagRemoved != 0 {
		b.removed()
	}
	if b.r.bad || b.r.at != len(msg) {
		return Event{}, &ProtocolError{h.ch, "the message ends in the wrong place"}
	}
	return d.finish(c, &h)
}

// provenance reads the varints that follow the fixed head.
func (h *head) provenance(r *reader) bool {
	if h.kind == KindDelta {
		back := r.uvarint()
		if back > h.Seq {
			return false
		}
		h.Prev = h.Seq - back
	}
	at := r.uvarint()
	received := int64(at) + unzigzag(r.uvarint())
	source := r.uvarint()
	if at > 1<<53 || received < 0 || received > 1<<53 || source > 255 {
		return false
	}
	h.SourceTime, h.ReceivedAt, h.Source = market.Time(at), market.Time(received), market.Source(source)
	return !r.bad
}

// binaryRows applies the rows of one message.
type binaryRows struct {
	d        *Decoder
	c        *Channel
	r        reader
	source   market.Source
	absolute bool // no column is a difference
	chained  bool // the channel holds what differences are to
	own      bool // the row named its source
}

func (b *binaryRows) rows(n int) error {
	l := b.c.layout
	last := int64(0)
	for range n {
		last = b.r.id(last)
		cols := b.r.uvarint()
		odd := cols&1 != 0
		cols >>= 1
		whole := cols&l.whole == l.whole
		special := ^uint64(0)
		if odd {
			special = b.r.uvarint()
		} else if !b.absolute && !whole {
			special = 0
		}
		if b.r.bad || cols>>len(l.cols) != 0 || odd && (b.absolute || special&^(cols&l.numbers) != 0) {
			return b.broken("a row with columns that are not there")
		}
		row, err := b.d.row(b.c, market.ID(last), whole)
		if err != nil {
			return err
		}
		fields, err := b.row(row, cols, special)
		if err != nil {
			return err
		}
		if !b.own && b.c.src[row] != b.source {
			b.c.source(row, b.source)
		}
		b.d.changes = append(b.d.changes, Change{market.ID(last), row, fields})
	}
	return nil
}

func (b *binaryRows) broken(what string) error { return &ProtocolError{b.c.number, what} }

// row reads the columns of a row. Nearly all are numbers of at most eight bytes
// that are not the last of the message; those are read here, without a call.
func (b *binaryRows) row(row int32, cols, special uint64) (fields market.Mask, err error) {
	l := b.c.layout
	p, at := b.r.p, b.r.at
	vals := b.c.vals[int(row)*l.numeric:][:l.numeric]
	b.own = false
	for ; cols != 0; cols &= cols - 1 {
		bit := cols & -cols
		col := &l.cols[bits.TrailingZeros64(cols)]
		fields |= col.bit
		if l.numbers&bit != 0 && at+8 < len(p) && special&bit == 0 && b.chained {
			v := &vals[col.slot]
			base, exp := v.Mant, int(v.Exp)
			k := exp - col.exponent(*v)
			x := binary.LittleEndian.Uint64(p[at:])
			if ends := ^x & varintEnds; ends != 0 && uint(k) <= market.MaxDigits && magnitude(base) <= fitting[k] && exp-k >= minExp {
				base *= int64(pow10[k])
				diff := unzigzag(unpack(x & (ends ^ (ends - 1))))
				sum := base + diff
				if (base^sum)&(diff^sum) >= 0 && sum%10 != 0 && exp != int(market.NullExp) {
					at += bits.TrailingZeros64(ends)/8 + 1
					v.Mant, v.Exp = sum, int8(exp-k)
					continue
				}
			}
		}
		b.r.at = at
		if l.numbers&special&bit != 0 {
			v, ok := b.r.number(col)
			if !ok {
				return fields, b.broken("a number that cannot be: " + col.field.String())
			}
			vals[col.slot] = v
		} else if err := b.column(row, vals, col, l.numbers&bit != 0); err != nil {
			return fields, err
		}
		at = b.r.at
	}
	b.r.at = at
	return fields, nil
}

// column reads a difference of any kind, or what is no number.
func (b *binaryRows) column(row int32, vals []market.Decimal, col *column, number bool) error {
	if !number {
		return b.name(row, col)
	}
	v, ok := vals[col.slot], b.chained
	if ok {
		v, ok = b.r.difference(v, col)
	}
	if !ok {
		return b.broken("a difference that cannot be: " + col.field.String())
	}
	vals[col.slot] = v
	return nil
}

// number reads an absolute value.
func (r *reader) number(col *column) (market.Decimal, bool) {
	if r.at >= len(r.p) {
		return market.Null, false
	}
	exp := int8(r.p[r.at])
	r.at++
	if exp == market.NullExp {
		return market.Null, true
	}
	mant := unzigzag(r.wide())
	if r.bad || exp < minExp || exp > maxExp {
		return market.Null, false
	}
	if col.kind == market.KindDecimal {
		return normal(mant, int(exp)), true
	}
	return market.Decimal{Mant: mant}, exp == 0
}

// difference reads a value that is told by how far it is from the one before.
func (r *reader) difference(v market.Decimal, col *column) (market.Decimal, bool) {
	base, exp := v.Mant, col.exponent(v)
	if v.Exp == market.NullExp || exp < minExp {
		return v, false
	}
	if k := int(v.Exp) - exp; k != 0 {
		var ok bool
		if base, ok = finer(base, k); !ok {
			return v, false
		}
	}
	diff := unzigzag(r.wide())
	sum := base + diff
	if r.bad || (base^sum)&(diff^sum) < 0 {
		return v, false
	}
	if sum%10 != 0 || col.kind != market.KindDecimal {
		return market.Decimal{Mant: sum, Exp: int8(exp)}, true
	}
	return market.NewDecimal(sum, int8(exp)), true
}

// name reads an enum, a set of flags or a text.
func (b *binaryRows) name(row int32, col *column) error {
	n := b.r.uvarint()
	if col.kind == market.KindText {
		if n > uint64(len(b.r.p)-b.r.at) {
			return b.broken("a text that ends too early")
		}
		text := b.r.p[b.r.at:][:n]
		b.r.at += int(n)
		if !utf8.Valid(text) {
			return b.broken("a text that is not UTF-8")
		}
		return b.d.setText(b.c, row, col.field, text)
	}
	if b.r.bad || col.kind == market.KindEnum && n > 255 || n > 1<<32-1 {
		return b.broken("a number that cannot be: " + col.field.String())
	}
	if col.field == market.FieldSource {
		b.own = true
		b.c.source(row, market.Source(n))
		return nil
	}
	b.c.vals[int(row)*b.c.layout.numeric+int(col.slot)] = market.Decimal{Mant: int64(n)}
	return nil
}

func (b *binaryRows) removed() {
	n := b.r.uvarint()
	last := int64(0)
	for ; n > 0 && !b.r.bad; n-- {
		last = b.r.id(last)
		b.d.removed = append(b.d.removed, market.ID(last))
	}
}
