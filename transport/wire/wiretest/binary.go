package wiretest

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"unicode/utf8"

	"github.com/velocimeter/velocimeter/engine/market"
)

// errShort is the error of messages that end too early or hold what no encoder writes.
var errShort = errors.New("binary message is malformed")

// reader takes values off the front of a message; bad stays set once it could not.
type reader struct {
	left []byte
	bad  bool
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.left)) {
		r.bad, r.left = true, nil
		return nil
	}
	out := r.left[:n]
	r.left = r.left[n:]
	return out
}

func (r *reader) unsigned() uint64 {
	v, n := binary.Uvarint(r.left)
	if n <= 0 {
		r.bad, r.left = true, nil
		return 0
	}
	r.left = r.left[n:]
	return v
}

func (r *reader) signed() int64 {
	v := r.unsigned()
	return int64(v>>1) ^ -int64(v&1)
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

// ApplyBinary takes one binary message. The error names the rule that it breaks.
func (r *Replica) ApplyBinary(body []byte) (*Message, error) {
	r.Messages++
	r.Bytes += len(body)
	in := reader{left: body}
	m, rows, removed := in.head()
	if in.bad {
		return nil, errShort
	}
	r.Last = *m
	if m.Type == "heartbeat" {
		if len(in.left) > 0 || rows > 0 {
			return m, errShort
		}
		return m, r.beat(m)
	}
	var ids []market.ID
	if m.Type == "delta" && !m.More {
		m.Removed = &ids
	}
	return m, r.data(m, len(body), func(c *Channel) error {
		id := uint64(0)
		columns := c.columns()
		for range rows {
			distance := in.unsigned()
			if id += distance; distance == 0 || id > 1<<32-1 {
				return errShort
			}
			if err := c.applyBinary(&in, market.ID(id), columns, m); err != nil {
				return fmt.Errorf("token %d: %w", id, err)
			}
		}
		if removed {
			ids = in.removed()
		}
		if in.bad || len(in.left) > 0 || removed && m.Removed == nil {
			return errShort
		}
		return nil
	})
}

// head reads what stands before the rows.
func (r *reader) head() (m *Message, rows int, removed bool) {
	m = new(Message)
	fixed := r.take(16)
	if fixed == nil {
		return m, 0, false
	}
	flags := fixed[1]
	m.More, m.Simulated, m.Absolute, removed = flags&1 != 0, flags&2 != 0, flags&4 != 0, flags&8 != 0
	rows = int(binary.LittleEndian.Uint16(fixed[2:]))
	m.Ch, m.Seq = uint64(binary.LittleEndian.Uint32(fixed[4:])), binary.LittleEndian.Uint64(fixed[8:])
	switch fixed[0] {
	case 1:
		m.Type = "snapshot"
		r.bad = r.bad || !m.Absolute
	case 2:
		m.Type = "delta"
		distance := r.unsigned()
		prev := m.Seq - distance
		m.Prev = &prev
		r.bad = r.bad || distance > m.Seq
	case 3:
		m.Type = "heartbeat"
		return m, rows, removed
	default:
		r.bad = true
	}
	m.SourceTime = int64(r.unsigned())
	m.ReceivedAt = m.SourceTime + r.signed()
	source := r.unsigned()
	if names := market.EnumNames(market.FieldSource); source < uint64(len(names)) {
		m.Source = names[source]
	} else {
		r.bad = true
	}
	return m, rows, removed
}

func (r *reader) removed() []market.ID {
	n := r.unsigned()
	if n > uint64(len(r.left)) {
		r.bad = true
		return nil
	}
	ids, id := make([]market.ID, n), uint64(0)
	for i := range ids {
		id += r.unsigned()
		ids[i] = market.ID(id)
		r.bad = r.bad || id > 1<<32-1
	}
	return ids
}

// columns lists what the bits of a column mask stand for.
func (c *Channel) columns() (list []market.Field) {
	for f := market.Field(1); f <= market.NumNumeric; f++ {
		if c.Format.Fields.Has(f) {
			list = append(list, f)
		}
	}
	if !c.Format.Fields.Has(market.FieldSource) {
		list = append(list, market.FieldSource)
	}
	return append(list, market.FieldSymbol, market.FieldName, market.FieldSlug)
}

func (c *Channel) applyBinary(in *reader, id market.ID, columns []market.Field, m *Message) error {
	mask := in.unsigned()
	special := mask&1 != 0
	mask >>= 1
	if mask == 0 || bits.Len64(mask) > len(columns) {
		return errShort
	}
	var fields market.Mask
	for i, f := range columns {
		if mask>>i&1 != 0 {
			fields |= f.Bit()
		}
	}
	whole := fields&c.Format.Fields == c.Format.Fields
	absolute := uint64(0)
	switch {
	case whole || m.Absolute:
		if special {
			return errors.New("special bit in an absolute row")
		}
		absolute = mask
	case special:
		if absolute = in.unsigned(); absolute == 0 || absolute&^mask != 0 {
			return errShort
		}
	}
	row := c.Rows[id]
	switch {
	case whole:
		row = Row{"id": fmt.Sprint(id)}
		c.Rows[id] = row
	case row == nil:
		return errors.New("first row is not whole")
	}
	row["source"] = `"` + m.Source + `"`
	for i, f := range columns {
		if mask>>i&1 == 0 {
			continue
		}
		if err := c.value(in, row, f, absolute>>i&1 != 0); err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
	}
	return nil
}

// value reads one column into the row.
func (c *Channel) value(in *reader, row Row, f market.Field, absolute bool) error {
	name := f.String()
	switch f.Spec().Kind {
	case market.KindText:
		text := in.take(in.unsigned())
		if in.bad || !utf8.Valid(text) {
			return errShort
		}
		out, err := json.Marshal(string(text))
		row[name] = string(out)
		return err
	case market.KindEnum:
		n, names := in.unsigned(), market.EnumNames(f)
		if n >= uint64(len(names)) {
			return errShort
		}
		if row[name] = "null"; names[n] != "" {
			row[name] = `"` + names[n] + `"`
		}
		return nil
	case market.KindFlags:
		set, names := in.unsigned(), []string{}
		for i, flag := range market.FlagNames() {
			if set>>i&1 != 0 {
				names = append(names, flag)
			}
		}
		out, err := json.Marshal(names)
		row[name] = string(out)
		return err
	case market.KindDecimal, market.KindInteger, market.KindTime:
	}
	d, err := c.decimal(in, row[name], f, absolute)
	row[name] = d.String()
	return err
}

func (c *Channel) decimal(in *reader, held string, f market.Field, absolute bool) (market.Decimal, error) {
	if absolute {
		e := int8(in.byte())
		if e == 127 {
			return market.Null, nil
		}
		return market.NewDecimal(in.signed(), e), nil
	}
	if held == "null" {
		return market.Null, errors.New("difference from null")
	}
	old, _, err := market.ParseDecimal([]byte(held))
	if err != nil {
		return market.Null, err
	}
	e := int8(c.reference(f, old))
	mant, ok := old.Rescale(e)
	sum := mant + in.signed()
	if !ok {
		return market.Null, errors.New("held value is finer than its reference")
	}
	return market.NewDecimal(sum, e), nil
}

// reference is the exponent of differences, from the table of PROTOCOL.md.
func (c *Channel) reference(f market.Field, old market.Decimal) int {
	spec := f.Spec()
	if spec.Kind != market.KindDecimal {
		return 0
	}
	if c.Format.Digits == 1 {
		switch significant, places := precision(f); {
		case significant > 0:
			return int(old.Exp) + old.Digits() - significant
		case places > 0:
			return -places
		}
	}
	if spec.Scale == market.ScaleAsProvider || old.Exp < spec.Scale {
		return int(old.Exp)
	}
	return int(spec.Scale)
}
