package client

import (
	"fmt"
	"slices"

	"github.com/velocimeter/velocimeter/engine/market"
)

// reference says how a column finds the exponent that a binary difference is
// counted in, from the value before.
type reference uint8

const (
	refKeep   reference = iota // the exponent of the value before
	refScale                   // the published scale, or the exponent before where that is finer
	refDigits                  // that many significant digits of the value before
)

// column is what the decoder knows about a column of a layout.
type column struct {
	field   market.Field
	bit     market.Mask
	kind    market.Kind
	slot    int32 // index among the numeric values of a row; -1 for what is kept apart
	width   int   // refDigits
	ref     reference
	scale   int8 // refScale
	decimal bool
	names   []string
	null    int64 // number of "no value" of an enum
}

// Layout is the columns of a channel, in the order of the binary encoding: the
// numeric fields of the format by id, source where the format has not got it,
// symbol, name, slug. A Layout is immutable.
type Layout struct {
	fields  market.Mask // of the format, texts included
	cols    []column
	numeric int                         // values per row
	slots   [market.NumNumeric + 1]int8 // field -> slot, -1 where it has none
	byField [market.NumFields + 1]int8  // field -> column, -1
	whole   uint64                      // columns that make a row whole
	numbers uint64                      // columns that are decimals, integers or times
	compact bool
}

// NewLayout returns the layout of a channel that shows the given fields, with
// compact digits or as published.
func NewLayout(fields market.Mask, compact bool) *Layout {
	l := &Layout{fields: fields&market.AllFields | market.TextFields, compact: compact}
	for i := range l.slots {
		l.slots[i] = -1
	}
	for i := range l.byField {
		l.byField[i] = -1
	}
	for f := range (l.fields & market.NumericFields).Fields() {
		l.slots[f] = int8(l.numeric)
		l.add(f, int32(l.numeric))
		l.numeric++
	}
	l.whole = 1<<len(l.cols) - 1
	if !l.fields.Has(market.FieldSource) {
		l.add(market.FieldSource, -1)
	}
	for f := range market.TextFields.Fields() {
		l.whole |= 1 << len(l.cols)
		l.add(f, -1)
	}
	return l
}

// Fields returns the fields that whole rows carry, texts included.
func (l *Layout) Fields() market.Mask { return l.fields }

func (l *Layout) same(m *Layout) bool { return l.fields == m.fields && l.compact == m.compact }

func (l *Layout) add(f market.Field, slot int32) {
	spec := f.Spec()
	c := column{field: f, bit: f.Bit(), kind: spec.Kind, decimal: spec.Kind == market.KindDecimal, slot: slot, names: market.EnumNames(f)}
	if len(c.names) > 0 && c.names[0] != "" && f != market.FieldSource {
		c.null = -1
	}
	switch {
	case spec.Kind == market.KindInteger || spec.Kind == market.KindTime:
		c.ref, c.scale = refScale, 0
	case spec.Kind != market.KindDecimal:
	case l.compact && (f == market.FieldPrice || f >= market.FieldVWAP1h && f <= market.FieldVWAP7d):
		c.ref, c.width = refDigits, 8
	case l.compact && (spec.Unit == "USD" || spec.Unit == "tokens"):
		c.ref, c.width = refDigits, 6
	case l.compact && spec.Unit == "%":
		c.ref, c.scale = refScale, -2
	case spec.Scale != market.ScaleAsProvider:
		c.ref, c.scale = refScale, spec.Scale
	}
	if spec.Kind == market.KindDecimal || spec.Kind == market.KindInteger || spec.Kind == market.KindTime {
		l.numbers |= 1 << len(l.cols)
	}
	l.byField[f] = int8(len(l.cols))
	l.cols = append(l.cols, c)
}

// exponent returns the exponent that a difference to old is counted in.
func (c *column) exponent(old market.Decimal) int {
	exp := int(old.Exp)
	switch c.ref {
	case refScale:
		return min(int(c.scale), exp)
	case refDigits:
		return min(exp, countDigits(magnitude(old.Mant))+exp-c.width)
	case refKeep:
	}
	return exp
}

// parseEnum returns the number of a name; names of a later version are -1.
func (c *column) parseEnum(name []byte) int64 {
	return int64(slices.IndexFunc(c.names, func(n string) bool { return n == string(name) && n != "" }))
}

func parseFlag(name []byte) market.Flags {
	for i, n := range market.FlagNames() {
		if n == string(name) {
			return 1 << i
		}
	}
	return 0
}

func parseSource(name []byte) market.Source {
	for i, n := range market.EnumNames(market.FieldSource) {
		if n == string(name) {
			return market.Source(i)
		}
	}
	return market.SourceUnknown
}

// layoutOf reads the columns of a channel from what the server says it will do.
func layoutOf(e *Effective) (*Layout, error) {
	var fields market.Mask
	if e.View != "" {
		v, ok := market.ParseView(e.View)
		if !ok {
			return nil, fmt.Errorf("unknown view %q", e.View)
		}
		fields = v.Mask()
	}
	names := e.Fields
	if e.Top != nil {
		names = append(slices.Clip(names), e.Top.By)
	}
	for _, n := range names {
		f, ok := market.ParseField(n)
		if !ok {
			return nil, fmt.Errorf("unknown field %q", n)
		}
		fields |= f.Bit()
	}
	return NewLayout(fields, e.Digits == "compact"), nil
}
