package client

import (
	"encoding/binary"
	"hash/crc32"
	"iter"
	"maps"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Channel is what a client holds of a channel: the rows, densely, and the
// position. It belongs to the decoder and changes with every message.
type Channel struct {
	number uint64
	epoch  string
	layout *Layout
	subs   map[uint64]*Ack

	pos   uint64 // seq of the last complete message
	based uint64 // seq of the last complete message that had values: heartbeats move pos alone
	whole bool   // the rows are complete: a snapshot was, or they were carried over
	exact bool   // and all of one tick: a delta or a heartbeat came since
	open  openMessage

	index map[market.ID]int32
	ids   []market.ID // by row; dead rows keep theirs and are in free
	live  []bool
	vals  []market.Decimal // layout.numeric for each row
	texts [][3]string
	src   []market.Source
	free  []int32
	last  int32 // row that was found last: the next id is often beside it
}

// openMessage is a data message of which more parts follow.
type openMessage struct {
	kind Kind
	seq  uint64
	prev uint64
}

func newChannel(number uint64, epoch string, l *Layout) *Channel {
	return &Channel{number: number, epoch: epoch, layout: l, subs: make(map[uint64]*Ack), index: make(map[market.ID]int32)}
}

// Number returns the channel's number on this connection.
func (c *Channel) Number() uint64 { return c.number }

// Position returns the seq that the rows are of.
func (c *Channel) Position() uint64 { return c.pos }

// Since returns the position with which a subscription goes on later; ok is
// false where there is none yet.
func (c *Channel) Since() (since Since, ok bool) {
	return Since{Epoch: c.epoch, Seq: c.pos}, c.whole && c.open.kind != KindSnapshot
}

// Complete reports whether the rows are those of the position: false before the
// end of the first snapshot and between the parts of a message.
func (c *Channel) Complete() bool { return c.whole && c.open.kind == 0 }

// Layout returns the columns.
func (c *Channel) Layout() *Layout { return c.layout }

// Len returns the number of rows.
func (c *Channel) Len() int { return len(c.index) }

// Row returns the row of a token; ok is false where it has none.
func (c *Channel) Row(id market.ID) (row Row, ok bool) {
	i, ok := c.index[id]
	return Row{c, i}, ok
}

// Rows yields every row, in no particular order.
func (c *Channel) Rows() iter.Seq[Row] {
	return func(yield func(Row) bool) {
		for i, live := range c.live {
			if live && !yield(Row{c, int32(i)}) {
				return
			}
		}
	}
}

// Row is a token as the channel shows it. It is a reference: it shows what the
// messages so far made of it, and nothing after the token is removed.
type Row struct {
	ch *Channel
	at int32
}

// ID returns the token.
func (r Row) ID() market.ID { return r.ch.ids[r.at] }

// Value returns a numeric field: decimals as numbers, enums, flags, integers
// and times as integers with exponent 0. It is null where the channel has not
// got the field. An enum of a name that this version does not know is -1.
func (r Row) Value(f market.Field) market.Decimal {
	if f == 0 || f > market.NumNumeric {
		return market.Null
	}
	slot := r.ch.layout.slots[f]
	if slot < 0 {
		if f == market.FieldSource {
			return market.Decimal{Mant: int64(r.Source())}
		}
		return market.Null
	}
	return r.ch.vals[int(r.at)*r.ch.layout.numeric+int(slot)]
}

// Name returns the name of an enum's value, "" for none.
func (r Row) Name(f market.Field) string {
	names := market.EnumNames(f)
	if v := r.Value(f); !v.IsNull() && v.Mant >= 0 && v.Mant < int64(len(names)) {
		return names[v.Mant]
	}
	return ""
}

// Flags returns the token's flags.
func (r Row) Flags() market.Flags { return market.Flags(r.Value(market.FieldFlags).Mant) }

// Source returns the provider of the values.
func (r Row) Source() market.Source { return r.ch.src[r.at] }

// Symbol returns the token's symbol, which is not unique.
func (r Row) Symbol() string { return r.ch.texts[r.at][0] }

// FullName returns the token's name.
func (r Row) FullName() string { return r.ch.texts[r.at][1] }

// Slug returns the token's slug.
func (r Row) Slug() string { return r.ch.texts[r.at][2] }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum returns the CRC-32C that the server's verify tells for an equal row:
// every numeric field of the format by id as exponent (int8) and mantissa (int64,
// little-endian). Integers, times, enums and flags have exponent 0.
func (r Row) Checksum() uint32 {
	l := r.ch.layout
	var buf [9 * market.NumNumeric]byte
	b := buf[:0]
	vals := r.ch.vals[int(r.at)*l.numeric:]
	for i := range l.cols {
		c := &l.cols[i]
		if c.slot < 0 {
			continue
		}
		v := vals[c.slot]
		b = append(b, byte(v.Exp))
		b = binary.LittleEndian.AppendUint64(b, uint64(v.Mant))
	}
	return crc32.Checksum(b, castagnoli)
}

// find returns the row of a token, or -1. Rows of a message come by id, as those
// of a snapshot did, so the next one is mostly one of the next few.
func (c *Channel) find(id market.ID) int32 {
	for i := c.last + 1; i <= c.last+4 && int(i) < len(c.ids); i++ {
		if c.ids[i] == id && c.live[i] {
			c.last = i
			return i
		}
	}
	i, ok := c.index[id]
	if !ok {
		return -1
	}
	c.last = i
	return i
}

// insert makes a row, all null.
func (c *Channel) insert(id market.ID) int32 {
	var i int32
	if n := len(c.free); n > 0 {
		i = c.free[n-1]
		c.free = c.free[:n-1]
		c.ids[i], c.live[i], c.src[i] = id, true, market.SourceUnknown
	} else {
		i = int32(len(c.ids))
		c.ids, c.live = append(c.ids, id), append(c.live, true)
		c.src = append(c.src, market.SourceUnknown)
		c.texts = append(c.texts, [3]string{})
		for range c.layout.numeric {
			c.vals = append(c.vals, market.Null)
		}
	}
	c.index[id] = i
	c.last = i
	return i
}

// remove drops a row and returns the bytes of its texts, -1 where there is none.
func (c *Channel) remove(id market.ID) int {
	i, ok := c.index[id]
	if !ok {
		return -1
	}
	delete(c.index, id)
	n := textBytes(&c.texts[i])
	c.texts[i], c.live[i] = [3]string{}, false
	c.free = append(c.free, i)
	return n
}

// clearRows drops all rows and keeps the memory.
func (c *Channel) clearRows() {
	clear(c.index)
	clear(c.texts)
	c.ids, c.live, c.vals, c.texts, c.src = c.ids[:0], c.live[:0], c.vals[:0], c.texts[:0], c.src[:0]
	c.free, c.last = c.free[:0], -1
}

func textBytes(t *[3]string) int { return len(t[0]) + len(t[1]) + len(t[2]) }

// weight returns what counts against the decoder's limits: rows and text bytes.
func (c *Channel) weight() (rows, text int) {
	for i := range c.texts {
		text += textBytes(&c.texts[i])
	}
	return len(c.index), text
}

// carry takes rows and position over from another channel of the same layout.
func (c *Channel) carry(from *Channel) {
	c.pos, c.based, c.whole, c.exact, c.open, c.epoch = from.pos, from.based, from.whole, false, openMessage{}, from.epoch
	c.index, c.ids, c.live, c.vals = from.index, from.ids, from.live, from.vals
	c.texts, c.src, c.free, c.last = from.texts, from.src, from.free, from.last
}

// copied returns a copy of the rows, for a channel that goes on beside its heir.
func (c *Channel) copied() *Channel {
	d := newChannel(c.number, c.epoch, c.layout)
	d.pos, d.based, d.whole = c.pos, c.based, c.whole
	maps.Copy(d.index, c.index)
	d.ids, d.live = append(d.ids, c.ids...), append(d.live, c.live...)
	d.vals, d.texts = append(d.vals, c.vals...), append(d.texts, c.texts...)
	d.src, d.free, d.last = append(d.src, c.src...), append(d.free, c.free...), c.last
	return d
}
