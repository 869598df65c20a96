package wire

import (
	"strconv"
	"unicode/utf8"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Digits says how many digits of a number are sent.
type Digits uint8

// The digit policies.
const (
	DigitsFull    Digits = iota // as published
	DigitsCompact               // 8 significant for prices, 6 for totals, 2 decimals for percentages
)

// Numbers says how decimals are written.
type Numbers uint8

// The number notations. Ids, ranks, counts and times are JSON numbers in both.
const (
	NumbersNumber Numbers = iota
	NumbersString
)

// Format is everything that the bytes of a row depend on beside the token.
// Formats are comparable: equal formats give equal bytes.
type Format struct {
	Fields  market.Mask // what rows hold; the text fields are always in it
	View    market.View // the name of Fields where Named
	Named   bool
	Digits  Digits
	Numbers Numbers
}

// ViewFormat returns the format of a named view with full digits.
func ViewFormat(v market.View) Format {
	return Format{Fields: v.Mask() | market.TextFields, View: v, Named: true}
}

// FieldsFormat returns the format of a list of fields with full digits.
func FieldsFormat(m market.Mask) Format { return Format{Fields: m | market.TextFields} }

const (
	priceDigits = 8 // significant digits of compact prices
	totalDigits = 6 // of USD and token totals
	percentDigs = 2 // decimal places of percentages
)

// rounding is how compact digits shorten a field.
type rounding uint8

const (
	asPublished rounding = iota
	asPrice
	asTotal
	asPercent
)

// column is what the encoder knows about a field.
type column struct {
	key   string // ,"name":
	kind  market.Kind
	round rounding
	names []string // enum names as JSON values
}

var columns = buildColumns()

func buildColumns() (cols [market.NumFields]column) {
	for i, s := range market.Specs() {
		c := column{key: `,"` + s.Name + `":`, kind: s.Kind}
		for _, n := range market.EnumNames(s.Field) {
			if n == "" {
				c.names = append(c.names, "null")
			} else {
				c.names = append(c.names, `"`+n+`"`)
			}
		}
		switch s.Field {
		case market.FieldPrice, market.FieldVWAP1h, market.FieldVWAP24h, market.FieldVWAP7d:
			c.round = asPrice
		case market.FieldMarketCap, market.FieldVolume24h, market.FieldFullyDilutedMarketCap,
			market.FieldCirculatingSupply, market.FieldTotalSupply, market.FieldMaxSupply:
			c.round = asTotal
		default:
			if s.Unit == "%" {
				c.round = asPercent
			}
		}
		cols[i] = c
	}
	return cols
}

// AppendRow appends the row of s with the fields of mask that the format has,
// shape object. A mask of market.AllFields gives a full row. source is the
// message's: a row of another source names its own, and so does a row in which
// nothing but the source changed. Where the format has none of the fields there
// is no row and dst comes back as it was.
func AppendRow(dst []byte, s *market.Snapshot, mask market.Mask, f *Format, source market.Source) []byte {
	moved := mask.Has(market.FieldSource)
	mask &= f.Fields
	if mask == 0 && !moved {
		return dst
	}
	if mask == 0 || s.Source() != source {
		mask |= market.FieldSource.Bit()
	}
	dst = append(dst, `{"id":`...)
	dst = strconv.AppendUint(dst, uint64(s.ID), 10)
	if mask&market.TextFields != 0 {
		dst = appendTexts(dst, s, mask)
	}
	for field := range (mask & market.NumericFields).Fields() {
		c := &columns[field-1]
		dst = append(dst, c.key...)
		dst = appendValue(dst, s.Value(field), c, f)
	}
	return append(dst, '}')
}

func appendTexts(dst []byte, s *market.Snapshot, mask market.Mask) []byte {
	info := s.Info
	if info == nil {
		info = &market.Info{}
	}
	texts := [...]string{info.Symbol, info.Name, info.Slug}
	for i, t := range texts {
		f := market.FieldSymbol + market.Field(i)
		if mask.Has(f) {
			dst = append(dst, columns[f-1].key...)
			dst = appendString(dst, t)
		}
	}
	return dst
}

func appendValue(dst []byte, v market.Decimal, c *column, f *Format) []byte {
	if v.IsNull() {
		return append(dst, "null"...)
	}
	switch c.kind {
	case market.KindEnum:
		if v.Mant >= 0 && v.Mant < int64(len(c.names)) {
			return append(dst, c.names[v.Mant]...)
		}
		return append(dst, "null"...)
	case market.KindFlags:
		return appendFlags(dst, market.Flags(v.Mant))
	case market.KindDecimal:
		if f.Digits == DigitsCompact {
			v = c.compact(v)
		}
		if f.Numbers == NumbersString {
			dst = append(dst, '"')
			dst = v.AppendText(dst)
			return append(dst, '"')
		}
	case market.KindInteger, market.KindTime, market.KindText:
	}
	return v.AppendText(dst)
}

func (c *column) compact(v market.Decimal) market.Decimal {
	switch c.round {
	case asPrice:
		return v.RoundSignificant(priceDigits)
	case asTotal:
		return v.RoundSignificant(totalDigits)
	case asPercent:
		return v.RoundPlaces(percentDigs)
	case asPublished:
	}
	return v
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
