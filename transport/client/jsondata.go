package client

import (
	"math/bits"

	"github.com/velocimeter/velocimeter/engine/market"
)

const maxSeq = 1<<53 - 1

// jsonBeat reads a heartbeat, of a channel or of the connection.
func (d *Decoder) jsonBeat() (Event, error) {
	s := &d.scan
	var ch, seq, at uint64
	for s.more('}') {
		switch string(s.key()) {
		case "ch":
			ch = s.uint(maxSeq)
		case "seq":
			seq = s.uint(maxSeq)
		case "server_time":
			at = s.uint(maxSeq)
		default:
			s.skip()
		}
	}
	if s.end(); s.bad != "" {
		return Event{}, s.err(ch)
	}
	if ch == 0 {
		return Event{Kind: KindHeartbeat, Time: market.Time(at)}, nil
	}
	return d.beat(ch, seq)
}

// jsonRows reads one data message.
type jsonRows struct {
	*scanner
	d    *Decoder
	h    head
	c    *Channel
	have int // members of the head that were read
	at   int // where rows begin that came before the head was known
}

const (
	haveCh = 1 << iota
	haveSeq
	havePrev
	haveSource
	haveRows
)

// jsonData reads a snapshot or delta. Rows are applied as they are read, or
// after the rest where the head does not come first.
func (d *Decoder) jsonData(k Kind) (Event, error) {
	j := jsonRows{scanner: &d.scan, d: d, h: head{kind: k, absolute: true}}
	d.removed = d.removed[:0]
	if k == KindSnapshot {
		j.have = havePrev
	}
	for j.more('}') {
		if err := j.member(); err != nil {
			return Event{}, err
		}
	}
	if j.end(); j.bad != "" {
		return Event{}, j.err(j.h.ch)
	}
	if j.c == nil {
		if !j.ready() || j.have&haveRows == 0 {
			return Event{}, &ProtocolError{j.h.ch, "a member of the head is missing"}
		}
		j.scanner.at = j.at
		if err := j.rows(); err != nil {
			return Event{}, err
		}
	}
	return d.finish(j.c, &j.h)
}

func (j *jsonRows) ready() bool {
	const head = haveCh | haveSeq | havePrev | haveSource
	return j.have&head == head
}

func (j *jsonRows) member() error {
	switch string(j.key()) {
	case "ch":
		j.h.ch = j.uint(maxSeq)
		j.have |= haveCh
	case "seq":
		j.h.Seq = j.uint(maxSeq)
		j.have |= haveSeq
	case "prev":
		j.h.Prev = j.uint(maxSeq)
		j.have |= havePrev
	case "source":
		j.h.Source = parseSource(j.text())
		j.have |= haveSource
	case "source_time":
		j.h.SourceTime = j.time()
	case "received_at":
		j.h.ReceivedAt = j.time()
	case "simulated":
		j.h.Simulated = j.boolean()
	case "more":
		j.h.More = j.boolean()
	case "rows":
		return j.rowsMember()
	case "removed":
		j.ids()
	default:
		j.skip()
	}
	return nil
}

func (j *jsonRows) rowsMember() error {
	if j.have&haveRows != 0 {
		j.fail("rows come twice")
	}
	j.have |= haveRows
	if j.bad == "" && j.ready() {
		return j.rows()
	}
	j.peek()
	j.at = j.scanner.at
	j.skip()
	return nil
}

func (j *jsonRows) time() market.Time {
	if j.null() {
		return 0
	}
	return market.Time(j.uint(maxSeq))
}

func (j *jsonRows) ids() {
	for ok := j.enter('[', ']'); ok; ok = j.more(']') {
		if id := j.uint(1<<32 - 1); j.bad == "" {
			j.d.removed = append(j.d.removed, market.ID(id))
		}
	}
}

func (j *jsonRows) rows() error {
	removed := j.d.removed // may come before the rows
	c, err := j.d.begin(&j.h)
	if err != nil {
		return err
	}
	j.c, j.d.removed = c, removed
	for ok := j.enter('[', ']'); ok; ok = j.more(']') {
		if j.peek() == '[' {
			err = j.array()
		} else {
			err = j.object()
		}
		if err != nil {
			return err
		}
	}
	if j.bad != "" {
		return j.err(c.number)
	}
	return nil
}

// array reads a row of shape array: id, mask, values by field id.
func (j *jsonRows) array() error {
	c := j.c
	l := c.layout
	j.scanner.at++
	id := market.ID(j.uint(1<<32 - 1))
	j.take(',')
	mask := market.Mask(j.uint(uint64(market.AllFields)))
	if j.bad != "" {
		return j.err(c.number)
	}
	row, err := j.d.row(c, id, mask&l.fields == l.fields)
	if err != nil {
		return err
	}
	base := int(row) * l.numeric
	for m := mask; m != 0; m &= m - 1 {
		j.take(',')
		f := market.Field(bits.TrailingZeros64(uint64(m)) + 1)
		if err := j.value(row, base, f); err != nil {
			return err
		}
	}
	j.take(']')
	return j.done(id, row, mask)
}

// done ends a row: the source of the message counts where the row named none.
func (j *jsonRows) done(id market.ID, row int32, mask market.Mask) error {
	if j.bad != "" {
		return j.err(j.c.number)
	}
	if !mask.Has(market.FieldSource) && j.c.src[row] != j.h.Source {
		j.c.source(row, j.h.Source)
	}
	j.d.changes = append(j.d.changes, Change{id, row, mask})
	return nil
}

// object reads a row of shape object.
func (j *jsonRows) object() error {
	j.take('{')
	if string(j.key()) != "id" {
		j.fail("a row does not begin with its id")
	}
	id := market.ID(j.uint(1<<32 - 1))
	if j.bad != "" {
		return j.err(j.c.number)
	}
	row, fresh := j.c.find(id), false
	if row < 0 {
		var err error
		if row, err = j.d.row(j.c, id, true); err != nil {
			return err
		}
		fresh = true
	}
	base := int(row) * j.c.layout.numeric
	mask, next := market.Mask(0), market.FieldSymbol
	for j.more('}') {
		f, known := j.field(next)
		if !known {
			j.skip()
			continue
		}
		mask |= f.Bit()
		next = f
		if err := j.value(row, base, f); err != nil {
			return err
		}
	}
	if fresh && j.bad == "" && mask&j.c.layout.fields != j.c.layout.fields {
		j.fail("the first row of a token is not whole")
	}
	return j.done(id, row, mask)
}

// field reads a member's name. Fields come in the order of their ids, after the
// texts, so that the name is mostly the one after the last.
func (j *jsonRows) field(last market.Field) (f market.Field, known bool) {
	key := j.key()
	for i, f := 0, last; i < 3; i++ {
		if f.Spec().Name == string(key) {
			return f, true
		}
		if f++; f > market.NumFields {
			f = market.FieldPrice
		}
	}
	return market.ParseField(string(key))
}

// value reads the value of a field into a row.
func (j *jsonRows) value(row int32, base int, f market.Field) error {
	i := j.c.layout.byField[f]
	if i < 0 {
		j.skip()
		return nil
	}
	col := &j.c.layout.cols[i]
	v := market.Null
	switch col.kind {
	case market.KindText:
		if text := j.text(); j.bad == "" {
			return j.d.setText(j.c, row, f, text)
		}
		return nil
	case market.KindEnum:
		v = market.Decimal{Mant: col.null}
		if !j.null() {
			v.Mant = col.parseEnum(j.text())
		}
		if f == market.FieldSource {
			j.c.source(row, market.Source(max(v.Mant, 0)))
			return nil
		}
	case market.KindFlags:
		v = market.Decimal{Mant: int64(j.flags())}
	case market.KindDecimal:
		if !j.null() {
			v = j.decimal()
		}
	default: // integers and times
		if !j.null() {
			v = market.Decimal{Mant: j.integer()}
		}
	}
	j.c.vals[base+int(col.slot)] = v
	return nil
}

func (j *jsonRows) flags() (f market.Flags) {
	for ok := j.enter('[', ']'); ok; ok = j.more(']') {
		f |= parseFlag(j.text())
	}
	return f
}
