package market

import (
	"iter"
	"math/bits"
)

// ID identifies a token: its CoinMarketCap id, or for recordings without ids
// 2^31 plus a hash of the symbol (flag unmapped_id). Symbols are not unique.
type ID uint32

// Field is the permanent id of a published value, 1…48. Ids are never reused.
type Field uint8

// The fields. 1…45 are numeric (enums, flags and times included), 46…48 text.
const (
	FieldPrice Field = iota + 1
	FieldMarketCap
	FieldVolume24h
	FieldPercentChange1h
	FieldPercentChange24h
	FieldPercentChange7d
	FieldVelocity
	FieldVelocityMethod
	FieldVelocityReason
	FieldDirection1h // five periods follow one another: 1h, 4h, 12h, 24h, 7d
	FieldDirection4h
	FieldDirection12h
	FieldDirection24h
	FieldDirection7d
	FieldChange1h
	FieldChange4h
	FieldChange12h
	FieldChange24h
	FieldChange7d
	FieldSlope1h
	FieldSlope4h
	FieldSlope12h
	FieldSlope24h
	FieldSlope7d
	FieldCoverage1h
	FieldCoverage4h
	FieldCoverage12h
	FieldCoverage24h
	FieldCoverage7d
	FieldVWAP1h
	FieldVWAP24h
	FieldVWAP7d
	FieldVolatility24h
	FieldCirculatingSupply
	FieldTotalSupply
	FieldMaxSupply
	FieldFullyDilutedMarketCap
	FieldDominance
	FieldRank
	FieldFlags
	FieldFreshness
	FieldSourceTime
	FieldSource
	FieldAgreeingSources
	FieldSpread
	FieldSymbol
	FieldName
	FieldSlug
)

const (
	// NumFields counts all fields.
	NumFields = 48
	// NumNumeric counts the numeric ones, which come first.
	NumNumeric = 45
)

// Mask is a set of fields: bit n stands for field id n+1.
type Mask uint64

// AllFields has every field.
const AllFields Mask = 1<<NumFields - 1

// NumericFields has fields 1…45.
const NumericFields Mask = 1<<NumNumeric - 1

// MaskOf returns the set of the given fields.
func MaskOf(fields ...Field) Mask {
	var m Mask
	for _, f := range fields {
		m |= f.Bit()
	}
	return m
}

// Bit returns the set that holds only f.
func (f Field) Bit() Mask { return 1 << (f - 1) }

// Has reports whether f is in the set.
func (m Mask) Has(f Field) bool { return m&f.Bit() != 0 }

// Len returns the number of fields in the set.
func (m Mask) Len() int { return bits.OnesCount64(uint64(m)) }

// Fields yields the members in ascending order of id.
func (m Mask) Fields() iter.Seq[Field] {
	return func(yield func(Field) bool) {
		for ; m != 0; m &= m - 1 {
			if !yield(Field(bits.TrailingZeros64(uint64(m)) + 1)) {
				return
			}
		}
	}
}

// View is a named selection of fields.
type View uint8

// The views of the stream; ViewQuote is the default.
const (
	ViewQuote View = iota
	ViewVelocity
	ViewFull
	numViews
)

var viewNames = [numViews]string{"quote", "velocity", "full"}

// String returns the name that clients use.
func (v View) String() string { return nameOf(viewNames[:], v) }

// ParseView reads a view's name.
func ParseView(name string) (View, bool) { return parseName[View](viewNames[:], name) }

// Mask returns the numeric fields of the view. Text fields (symbol, name, slug)
// belong to every view: they come in a token's first row and when they change.
func (v View) Mask() Mask { return viewMasks[v] }

// TextFields are symbol, name and slug.
const TextFields = AllFields &^ NumericFields

// Kind says how a field's value is to be read.
type Kind uint8

// The kinds of fields.
const (
	KindDecimal Kind = iota // a number
	KindInteger
	KindEnum  // an index into the field's names; text on JSON
	KindFlags // a bit set; an array of names on JSON
	KindTime  // milliseconds since 1970 on the stream, RFC 3339 in REST
	KindText
	numKinds
)

var kindNames = [numKinds]string{"decimal", "integer", "enum", "flags", "time", "text"}

// String returns the name that /schema shows.
func (k Kind) String() string { return nameOf(kindNames[:], k) }

// ScaleAsProvider marks fields that are published as the provider sent them.
const ScaleAsProvider int8 = 1

// Spec describes a field as /schema publishes it.
type Spec struct {
	Field Field
	Name  string // flat name on the stream
	REST  string // dotted path in the REST token object
	Kind  Kind
	Unit  string // "" where there is none
	Scale int8   // exponent of the published scale, or ScaleAsProvider
	Views Mask8  // views that hold the field
}

// Mask8 is a set of views: bit n stands for View n.
type Mask8 uint8

// Has reports whether v is in the set.
func (m Mask8) Has(v View) bool { return m>>v&1 != 0 }

const (
	inQuote    Mask8 = 1 << ViewQuote
	inVelocity Mask8 = 1 << ViewVelocity
	inFull     Mask8 = 1 << ViewFull
	inAll            = inQuote | inVelocity | inFull
)

// Specs is the table of all fields, ordered by id. It must not be written to.
func Specs() *[NumFields]Spec { return &specs }

// Spec returns the description of f, which must be a valid field.
func (f Field) Spec() *Spec { return &specs[f-1] }

// String returns the flat stream name of f.
func (f Field) String() string {
	if f == 0 || f > NumFields {
		return "unknown"
	}
	return specs[f-1].Name
}

// ParseField finds a field by its flat stream name.
func ParseField(name string) (Field, bool) {
	f, ok := fieldsByName[name]
	return f, ok
}

var (
	specs        = buildSpecs()
	viewMasks    = buildViewMasks()
	fieldsByName = buildFieldNames()
)

func buildViewMasks() (masks [numViews]Mask) {
	for _, s := range specs {
		for v := range numViews {
			if s.Kind != KindText && s.Views.Has(v) {
				masks[v] |= s.Field.Bit()
			}
		}
	}
	return masks
}

func buildFieldNames() map[string]Field {
	names := make(map[string]Field, NumFields)
	for _, s := range specs {
		names[s.Name] = s.Field
	}
	return names
}
