package wire

import (
	"math/bits"
	"unicode/utf8"

	"github.com/velocimeter/velocimeter/engine/market"
)

// AppendRow appends the row of s with the fields of mask that the format has,
// as JSON in the format's shape. A mask of market.AllFields gives a whole row.
// source is the message's: a row of another source names its own, and so does a
// row in which nothing but the source changed. Where the format has none of the
// fields there is no row and dst comes back as it was.
func AppendRow(dst []byte, s *market.Snapshot, mask market.Mask, f *Format, source market.Source) []byte {
	mask = withSource(mask&f.Fields, mask, s, source)
	if mask == 0 {
		return dst
	}
	if f.Shape == ShapeArray {
		dst = appendNatural(append(dst, '['), uint64(s.ID))
		dst = appendNatural(append(dst, ','), uint64(mask))
		dst = appendNumeric(dst, s, mask, f)
		return append(appendTexts(dst, s, mask, false), ']')
	}
	dst = appendNatural(append(dst, `{"id":`...), uint64(s.ID))
	dst = appendTexts(dst, s, mask, true)
	return append(appendNumeric(dst, s, mask, f), '}')
}

const sourceBit = market.Mask(1) << (market.FieldSource - 1)

// withSource adds the source to the fields of a row where it must be told; moved
// holds what changed. It returns 0 where there is nothing to tell.
func withSource(fields, moved market.Mask, s *market.Snapshot, source market.Source) market.Mask {
	if fields == 0 && moved&sourceBit == 0 {
		return 0
	}
	if fields == 0 || s.Source() != source {
		fields |= sourceBit
	}
	return fields
}

func appendNumeric(dst []byte, s *market.Snapshot, mask market.Mask, f *Format) []byte {
	object := f.Shape == ShapeObject
	for mask &= market.NumericFields; mask != 0; mask &= mask - 1 {
		i := bits.TrailingZeros64(uint64(mask))
		c := &columns[i]
		if object {
			dst = append(dst, c.key...)
		} else {
			dst = append(dst, ',')
		}
		v := market.Decimal{Mant: s.Mant[i], Exp: s.Exp[i]}
		switch {
		case v.IsNull():
			dst = append(dst, "null"...)
		case c.kind == market.KindDecimal && f.Numbers == NumbersNumber:
			dst = appendDecimal(dst, c.published(v, f.Digits))
		default:
			dst = appendOther(dst, v, c, f)
		}
	}
	return dst
}

// appendOther appends what is not a decimal written as a number.
func appendOther(dst []byte, v market.Decimal, c *column, f *Format) []byte {
	switch c.kind {
	case market.KindEnum:
		if v.Mant >= 0 && v.Mant < int64(len(c.names)) {
			return append(dst, c.names[v.Mant]...)
		}
		return append(dst, "null"...)
	case market.KindFlags:
		return appendFlags(dst, market.Flags(v.Mant))
	case market.KindDecimal:
		dst = append(dst, '"')
		dst = appendDecimal(dst, c.published(v, f.Digits))
		return append(dst, '"')
	case market.KindInteger, market.KindTime, market.KindText:
	}
	return appendDecimal(dst, v)
}

// appendTexts appends the texts of mask, with their keys or as bare values.
func appendTexts(dst []byte, s *market.Snapshot, mask market.Mask, keys bool) []byte {
	if mask&market.TextFields == 0 {
		return dst
	}
	for i, t := range texts(s) {
		f := market.FieldSymbol + market.Field(i)
		switch {
		case !mask.Has(f):
			continue
		case keys:
			dst = append(dst, columns[f-1].key...)
		default:
			dst = append(dst, ',')
		}
		dst = appendString(dst, t)
	}
	return dst
}

func texts(s *market.Snapshot) [3]string {
	if s.Info == nil {
		return [3]string{}
	}
	return [3]string{s.Info.Symbol, s.Info.Name, s.Info.Slug}
}

func appendFlags(dst []byte, flags market.Flags) []byte {
	dst = append(dst, '[')
	first := true
	for i, name := range market.FlagNames() {
		if flags>>i&1 == 0 {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(dst, '"')
		dst = append(dst, name...)
		dst = append(dst, '"')
	}
	return append(dst, ']')
}

// appendString appends s as a JSON string; bytes that are not UTF-8 become U+FFFD.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			dst = utf8.AppendRune(dst, r)
			i += n
			continue
		}
		i++
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}
