package client

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/velocimeter/velocimeter/engine/market"
)

// This encoder is written from the text of the protocol, for the tests alone.

// row is a token as both sides should see it.
type row struct {
	vals  [market.NumNumeric + 1]market.Decimal
	texts [3]string
}

func (r *row) source() market.Source { return market.Source(r.vals[market.FieldSource].Mant) }

type world map[market.ID]*row

func (w world) ids() []market.ID {
	var ids []market.ID
	for id := range w {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// step makes the market of the next tick: changed is what moved, whole names new rows.
func (w world) step(rng *rand.Rand, l *Layout) (next world, changed map[market.ID]market.Mask, removed []market.ID) {
	next, changed = world{}, map[market.ID]market.Mask{}
	for _, id := range w.ids() {
		if rng.IntN(12) == 0 {
			removed = append(removed, id)
			continue
		}
		r := *w[id]
		next[id] = &r
		if rng.IntN(3) == 0 {
			continue
		}
		for range 1 + rng.IntN(4) {
			f := market.Field(1 + rng.IntN(market.NumFields))
			changed[id] |= f.Bit()
			if f > market.NumNumeric {
				r.texts[f-market.FieldSymbol] = randomText(rng)
			} else {
				r.vals[f] = l.show(f, randomValue(rng, f, r.vals[f]))
			}
		}
	}
	for range rng.IntN(4) {
		id := market.ID(1 + rng.IntN(60))
		if rng.IntN(10) == 0 {
			id = market.ID(rng.Uint32())
		}
		if next[id] != nil || slices.Contains(removed, id) {
			continue
		}
		next[id], changed[id] = l.randomRow(rng), market.AllFields
	}
	return next, changed, removed
}

func (l *Layout) randomRow(rng *rand.Rand) *row {
	r := &row{}
	for f := range market.NumericFields.Fields() {
		r.vals[f] = l.show(f, randomValue(rng, f, market.Null))
	}
	for i := range r.texts {
		r.texts[i] = randomText(rng)
	}
	return r
}

// show rounds as compact digits do.
func (l *Layout) show(f market.Field, v market.Decimal) market.Decimal {
	unit := f.Spec().Unit
	switch {
	case !l.compact || f.Spec().Kind != market.KindDecimal:
	case f == market.FieldPrice || strings.HasPrefix(f.String(), "vwap_"):
		return v.RoundSignificant(8)
	case unit == "USD" || unit == "tokens":
		return v.RoundSignificant(6)
	case unit == "%":
		return v.RoundPlaces(2)
	}
	return v
}

func randomText(rng *rand.Rand) string {
	return []string{"", "BTC", "Tökén \"1\"", "a\\b\n", "token-12", "\u2028😀"}[rng.IntN(6)]
}

func randomValue(rng *rand.Rand, f market.Field, old market.Decimal) market.Decimal {
	spec := f.Spec()
	switch spec.Kind {
	case market.KindEnum:
		n := rng.IntN(len(market.EnumNames(f)))
		return market.Decimal{Mant: int64(n)}
	case market.KindFlags:
		return market.Decimal{Mant: rng.Int64N(1 << market.NumFlags)}
	case market.KindTime:
		return market.Decimal{Mant: 1_700_000_000_000 + rng.Int64N(1e9)}
	case market.KindInteger:
		if rng.IntN(6) == 0 {
			return market.Null
		}
		return market.Decimal{Mant: rng.Int64N(9000)}
	default:
	}
	switch n := rng.IntN(12); {
	case n == 0:
		return market.Null
	case n == 1:
		return market.Decimal{}
	case n < 7 && !old.IsNull():
		return market.NewDecimal(old.Mant+rng.Int64N(2001)-1000, old.Exp)
	case n == 7:
		return market.NewDecimal(rng.Int64N(1e18)-5e17, int8(rng.IntN(40)-30))
	}
	exp := -int8(rng.IntN(12))
	if spec.Scale != market.ScaleAsProvider {
		exp = spec.Scale
	}
	return market.NewDecimal(rng.Int64N(2e12)-1e12, exp)
}

// message is a data message to be encoded.
type message struct {
	snapshot, simulated, absolute, more bool
	ch                                  uint32
	seq, prev                           uint64
	sourceTime, receivedAt              int64
	source                              market.Source
	rows                                []market.ID
	masks                               map[market.ID]market.Mask
	now, before                         world
	removed                             []market.ID
}

// mask returns the fields that a row of the message carries, 0 for no row.
func (m *message) mask(id market.ID, l *Layout) market.Mask {
	mask := m.masks[id]
	moved := mask.Has(market.FieldSource)
	if m.snapshot || m.before[id] == nil {
		mask = market.AllFields
	}
	mask &= l.fields
	if mask == 0 && !moved {
		return 0
	}
	if mask == 0 || m.now[id].source() != m.source {
		mask |= market.FieldSource.Bit()
	}
	return mask
}

func (m *message) binary(l *Layout) []byte {
	kind, flags := byte(binDelta), byte(0)
	if m.snapshot {
		kind = binSnapshot
	}
	for i, on := range []bool{m.more, m.simulated, m.absolute, len(m.removed) > 0} {
		if on {
			flags |= 1 << i
		}
	}
	var body []byte
	n, last := 0, market.ID(0)
	for _, id := range m.rows {
		mask := m.mask(id, l)
		if mask == 0 {
			continue
		}
		n++
		body = binary.AppendUvarint(body, uint64(id-last))
		last = id
		body = m.binaryRow(body, id, mask, l)
	}
	le := binary.LittleEndian
	b := le.AppendUint64(le.AppendUint32(le.AppendUint16([]byte{kind, flags}, uint16(n)), m.ch), m.seq)
	if !m.snapshot {
		b = binary.AppendUvarint(b, m.seq-m.prev)
	}
	b = binary.AppendUvarint(b, uint64(m.sourceTime))
	b = binary.AppendVarint(b, m.receivedAt-m.sourceTime)
	b = append(binary.AppendUvarint(b, uint64(m.source)), body...)
	if len(m.removed) > 0 {
		b = binary.AppendUvarint(b, uint64(len(m.removed)))
		last = 0
		for _, id := range m.removed {
			b = binary.AppendUvarint(b, uint64(id-last))
			last = id
		}
	}
	return b
}

func (m *message) binaryRow(dst []byte, id market.ID, mask market.Mask, l *Layout) []byte {
	var cols, special uint64
	var body []byte
	now, old := m.now[id], m.before[id]
	for i, c := range l.cols {
		if !mask.Has(c.field) {
			continue
		}
		cols |= 1 << i
		switch c.kind {
		case market.KindText:
			text := now.texts[c.field-market.FieldSymbol]
			body = append(binary.AppendUvarint(body, uint64(len(text))), text...)
			continue
		case market.KindEnum, market.KindFlags:
			body = binary.AppendUvarint(body, uint64(now.vals[c.field].Mant))
			continue
		default:
		}
		v := now.vals[c.field]
		if !m.absolute && old != nil {
			if d, ok := textDifference(old.vals[c.field], v, &c); ok {
				body = binary.AppendVarint(body, d)
				continue
			}
		}
		special |= 1 << i
		body = append(body, byte(v.Exp))
		if !v.IsNull() {
			body = binary.AppendVarint(body, v.Mant)
		}
	}
	if m.absolute || special == 0 {
		return append(binary.AppendUvarint(dst, cols<<1), body...)
	}
	return append(binary.AppendUvarint(binary.AppendUvarint(dst, cols<<1|1), special), body...)
}

// textDifference is written down from the text: the exponent by the kind of column.
func textDifference(old, v market.Decimal, c *column) (int64, bool) {
	if old.IsNull() || v.IsNull() {
		return 0, false
	}
	exp := c.exponent(old)
	if exp < -100 || int(v.Exp) < exp && v.Mant != 0 {
		return 0, false
	}
	a, ok := old.Rescale(int8(exp))
	b, ok2 := v.Rescale(int8(exp))
	d := b - a
	return d, ok && ok2 && (b > a) == (d > 0)
}

func (m *message) json(l *Layout, array bool) []byte {
	var b strings.Builder
	typ := "delta"
	if m.snapshot {
		typ = "snapshot"
	}
	fmt.Fprintf(&b, `{"type":%q,"ch":%d,"seq":%d`, typ, m.ch, m.seq)
	if !m.snapshot {
		fmt.Fprintf(&b, `,"prev":%d`, m.prev)
	}
	null := func(t int64) string {
		if t == 0 {
			return "null"
		}
		return strconv.FormatInt(t, 10)
	}
	fmt.Fprintf(&b, `,"source":%q,"source_time":%s,"received_at":%s,"simulated":%t,"rows":[`, m.source, null(m.sourceTime), null(m.receivedAt), m.simulated)
	comma := ""
	for _, id := range m.rows {
		if mask := m.mask(id, l); mask != 0 {
			b.WriteString(comma)
			comma = ","
			m.jsonRow(&b, id, mask, array)
		}
	}
	b.WriteString("]")
	if !m.snapshot && !m.more {
		b.WriteString(`,"removed":[`)
		for i, id := range m.removed {
			b.WriteString(strings.Repeat(",", min(i, 1)) + strconv.Itoa(int(id)))
		}
		b.WriteString("]")
	}
	if m.more {
		b.WriteString(`,"more":true`)
	}
	b.WriteString("}")
	return []byte(b.String())
}

func (m *message) jsonRow(b *strings.Builder, id market.ID, mask market.Mask, array bool) {
	r := m.now[id]
	put := func(f market.Field) {
		b.WriteByte(',')
		if !array {
			fmt.Fprintf(b, "%q:", f)
		}
		b.WriteString(jsonValue(r, f))
	}
	if array {
		fmt.Fprintf(b, "[%d,%d", id, mask)
		for ; mask != 0; mask &= mask - 1 {
			put(market.Field(bits.TrailingZeros64(uint64(mask)) + 1))
		}
		b.WriteByte(']')
		return
	}
	fmt.Fprintf(b, `{"id":%d`, id)
	for _, part := range []market.Mask{mask & market.TextFields, mask &^ market.TextFields} {
		for f := range part.Fields() {
			put(f)
		}
	}
	b.WriteByte('}')
}

func jsonValue(r *row, f market.Field) string {
	if f > market.NumNumeric {
		return jsonString(r.texts[f-market.FieldSymbol])
	}
	v := r.vals[f]
	switch f.Spec().Kind {
	case market.KindEnum:
		if name := market.EnumNames(f)[v.Mant]; name != "" {
			return `"` + name + `"`
		}
		return "null"
	case market.KindFlags:
		var names []string
		for i, n := range market.FlagNames() {
			if v.Mant>>i&1 != 0 {
				names = append(names, `"`+n+`"`)
			}
		}
		return "[" + strings.Join(names, ",") + "]"
	default:
		return v.String()
	}
}

func jsonString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		if r < ' ' || r == '"' || r == '\\' || r == 0x2028 {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// diff compares a channel with a world.
func diff(c *Channel, w world) error {
	if c.Len() != len(w) {
		return fmt.Errorf("%d rows for %d tokens", c.Len(), len(w))
	}
	seen := 0
	for r := range c.Rows() {
		seen++
		want := w[r.ID()]
		if want == nil {
			return fmt.Errorf("token %d should be gone", r.ID())
		}
		if got := [3]string{r.Symbol(), r.FullName(), r.Slug()}; got != want.texts {
			return fmt.Errorf("token %d: texts %q, not %q", r.ID(), got, want.texts)
		}
		for f := range (c.layout.fields&market.NumericFields | market.FieldSource.Bit()).Fields() {
			if got := r.Value(f); got != want.vals[f] {
				return fmt.Errorf("token %d: %s is %v, not %v", r.ID(), f, got, want.vals[f])
			}
		}
	}
	if seen != len(w) {
		return fmt.Errorf("%d rows seen of %d", seen, len(w))
	}
	return nil
}
