package wire

import (
	"math/bits"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Digits says how many digits of a number are sent.
type Digits uint8

// The digit policies.
const (
	DigitsFull    Digits = iota // as published
	DigitsCompact               // 8 significant for prices, 6 for totals, 2 decimals for percentages
)

var digitsNames = [...]string{"full", "compact"}

// String returns the name that effective tells.
func (d Digits) String() string { return digitsNames[d] }

// Numbers says how decimals are written in JSON.
type Numbers uint8

// The number notations. Ids, ranks, counts and times are JSON numbers in both.
const (
	NumbersNumber Numbers = iota
	NumbersString
)

var numbersNames = [...]string{"number", "string"}

// String returns the name that effective tells.
func (n Numbers) String() string { return numbersNames[n] }

// Shape says what a row is in JSON.
type Shape uint8

// The shapes of rows.
const (
	ShapeObject Shape = iota
	ShapeArray        // [id,mask,values...]
)

var shapeNames = [...]string{"object", "array"}

// String returns the name that effective tells.
func (s Shape) String() string { return shapeNames[s] }

// Format is everything that the bytes of a row depend on beside the token.
// Formats are comparable: equal formats give equal bytes. Numbers and Shape of
// a binary format are zero.
type Format struct {
	Fields   market.Mask // what rows hold; the text fields are always in it
	View     market.View // the name of Fields where Named
	Named    bool
	Digits   Digits
	Numbers  Numbers
	Shape    Shape
	Encoding Encoding
}

// ViewFormat returns the format of a named view with full digits, JSON objects.
func ViewFormat(v market.View) Format {
	return Format{Fields: v.Mask() | market.TextFields, View: v, Named: true}
}

// FieldsFormat returns the format of a list of fields with full digits, JSON
// objects.
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

// column is what the encoders know about a field.
type column struct {
	key   string // ,"name":
	kind  market.Kind
	round rounding
	scale int8     // exponent of the published scale, or market.ScaleAsProvider
	names []string // enum names as JSON values
}

var columns = buildColumns()

func buildColumns() (cols [market.NumFields]column) {
	for i, s := range market.Specs() {
		c := column{key: `,"` + s.Name + `":`, kind: s.Kind, scale: s.Scale}
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

// published returns a decimal as the digits show it.
func (c *column) published(v market.Decimal, d Digits) market.Decimal {
	if d == DigitsFull || v.IsNull() {
		return v
	}
	switch c.round {
	case asPrice:
		return drop(v, countDigits(magnitude(v.Mant))-priceDigits)
	case asTotal:
		return drop(v, countDigits(magnitude(v.Mant))-totalDigits)
	case asPercent:
		return drop(v, -percentDigs-int(v.Exp))
	case asPublished:
	}
	return v
}

// Differing returns mask without the numeric fields in which s and prev look the
// same with the format's digits: compact ones hide small moves.
func Differing(s, prev *market.Snapshot, mask market.Mask, f *Format) market.Mask {
	if f.Digits == DigitsFull {
		return mask
	}
	for m := mask & f.Fields & market.NumericFields; m != 0; m &= m - 1 {
		i := bits.TrailingZeros64(uint64(m))
		v := market.Decimal{Mant: s.Mant[i], Exp: s.Exp[i]}
		old := market.Decimal{Mant: prev.Mant[i], Exp: prev.Exp[i]}
		if columns[i].published(v, f.Digits) == columns[i].published(old, f.Digits) {
			mask &^= 1 << i
		}
	}
	return mask
}

// reference returns the exponent that differences from old are written in: one
// that the digits will hardly ever be finer than.
func (c *column) reference(old market.Decimal, d Digits) int {
	if d == DigitsCompact {
		switch c.round {
		case asPrice:
			return int(old.Exp) + countDigits(magnitude(old.Mant)) - priceDigits
		case asTotal:
			return int(old.Exp) + countDigits(magnitude(old.Mant)) - totalDigits
		case asPercent:
			return -percentDigs
		case asPublished:
		}
	}
	if c.scale == market.ScaleAsProvider {
		return int(old.Exp)
	}
	return min(int(c.scale), int(old.Exp))
}
