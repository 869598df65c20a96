package wiretest

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// Diff compares rows with the tokens of a board that has selects, nil for all,
// as the format shows them.
func Diff(b *market.Board, has func(market.ID) bool, f *wire.Format, rows map[market.ID]Row) error {
	return eachRow(b, has, rows, func(s *market.Snapshot, row Row) error { return diffRow(s, f, row) })
}

// eachRow calls check for every selected token and its row; a token without a
// row and a row without a token are errors.
func eachRow(b *market.Board, has func(market.ID) bool, rows map[market.ID]Row, check func(*market.Snapshot, Row) error) error {
	n := 0
	for s := range b.All {
		if has != nil && !has(s.ID) {
			continue
		}
		n++
		row := rows[s.ID]
		if row == nil {
			return fmt.Errorf("token %d is missing", s.ID)
		}
		if err := check(s, row); err != nil {
			return fmt.Errorf("token %d: %w", s.ID, err)
		}
	}
	if n != len(rows) {
		return fmt.Errorf("%d rows for %d tokens", len(rows), n)
	}
	return nil
}

func diffRow(s *market.Snapshot, f *wire.Format, row Row) error {
	fields := f.Fields | market.FieldSource.Bit()
	if len(row) != fields.Len()+1 {
		return fmt.Errorf("%d members for %d fields", len(row), fields.Len())
	}
	for field := range fields.Fields() {
		if want := show(s, field, f); row[field.String()] != want {
			return fmt.Errorf("%s is %s, not %s", field, row[field.String()], want)
		}
	}
	return nil
}

// show is the JSON text of a field, written down without the encoder.
func show(s *market.Snapshot, field market.Field, f *wire.Format) string {
	spec := field.Spec()
	if spec.Kind == market.KindText {
		text := map[market.Field]string{market.FieldSymbol: s.Info.Symbol, market.FieldName: s.Info.Name, market.FieldSlug: s.Info.Slug}[field]
		out, _ := json.Marshal(text)
		return string(out)
	}
	v := s.Value(field)
	if v.IsNull() {
		return "null"
	}
	switch spec.Kind {
	case market.KindEnum:
		if name := market.EnumNames(field)[v.Mant]; name != "" {
			return `"` + name + `"`
		}
		return "null"
	case market.KindFlags:
		names := []string{}
		for i, n := range market.FlagNames() {
			if v.Mant&(1<<i) != 0 {
				names = append(names, n)
			}
		}
		out, _ := json.Marshal(names)
		return string(out)
	case market.KindDecimal:
		if f.Digits == wire.DigitsCompact {
			v = compact(field, v)
		}
		if f.Numbers == wire.NumbersString {
			return `"` + v.String() + `"`
		}
	case market.KindInteger, market.KindTime, market.KindText:
	}
	return v.String()
}

// compact is the rule of engine/FIELDS.md by names and units.
func compact(field market.Field, v market.Decimal) market.Decimal {
	switch significant, places := precision(field); {
	case significant > 0:
		return v.RoundSignificant(significant)
	case places > 0:
		return v.RoundPlaces(places)
	}
	return v
}

// precision is what compact digits leave of a field: significant digits, or
// places after the point, or all.
func precision(field market.Field) (significant, places int) {
	name := field.String()
	switch unit := field.Spec().Unit; {
	case name == "price" || strings.HasPrefix(name, "vwap_"):
		return 8, 0
	case unit == "USD" || unit == "tokens":
		return 6, 0
	case unit == "%":
		return 0, 2
	}
	return 0, 0
}
