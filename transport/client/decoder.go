package client

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// Limits bound what a server can make a decoder hold. Zero means the default.
type Limits struct {
	Message  int // bytes of a message; default 1 MiB
	Channels int // default 1,024
	Tokens   int // rows over all channels; default 200,000
	Text     int // bytes of symbols, names and slugs over all channels; default 32 MiB
}

func (l Limits) withDefaults() Limits {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&l.Message, 1<<20)
	set(&l.Channels, 1024)
	set(&l.Tokens, 200_000)
	set(&l.Text, 32<<20)
	return l
}

// Decoder applies the messages of one connection, in their order, and holds its
// channels. It takes any bytes: what breaks the protocol is a *ProtocolError, a
// *GapError, or wraps ErrLimit. It is not safe for concurrent use.
type Decoder struct {
	limits   Limits
	epoch    string
	channels map[uint64]*Channel
	subs     map[uint64]*Channel
	seeds    map[string]*Channel
	rows     int
	text     int
	broken   error

	scan    scanner
	changes []Change
	removed []market.ID
	dropped []market.ID
}

// NewDecoder returns a decoder of a connection that has just begun.
func NewDecoder(l Limits) *Decoder {
	d := &Decoder{limits: l.withDefaults()}
	d.Reset()
	return d
}

// Reset forgets everything, for another connection. Channels that the caller
// holds keep their rows.
func (d *Decoder) Reset() {
	d.epoch, d.rows, d.text, d.broken = "", 0, 0, nil
	d.channels, d.subs, d.seeds = make(map[uint64]*Channel), make(map[uint64]*Channel), make(map[string]*Channel)
}

// Resume tells the rows that a subscription goes on from: where the answer to
// the request id says recovered, they become those of its channel.
func (d *Decoder) Resume(id string, from *Channel) { d.seeds[id] = from }

// Channel returns a channel by its number, or nil.
func (d *Decoder) Channel(number uint64) *Channel { return d.channels[number] }

// Subscription returns the channel of a subscription, or nil.
func (d *Decoder) Subscription(sub uint64) *Channel { return d.subs[sub] }

// Apply takes a whole message, text or binary, which it does not keep. After a
// *ProtocolError or ErrLimit the connection is to be given up: the decoder
// answers everything else with the same error. A *GapError changes nothing.
func (d *Decoder) Apply(msg []byte, binary bool) (Event, error) {
	if d.broken != nil {
		return Event{}, d.broken
	}
	ev, err := d.apply(msg, binary)
	if err != nil {
		if _, gap := errors.AsType[*GapError](err); !gap {
			d.broken = err
		}
		return Event{}, err
	}
	return ev, nil
}

func (d *Decoder) apply(msg []byte, binary bool) (Event, error) {
	if len(msg) > d.limits.Message {
		return Event{}, fmt.Errorf("cannot read message of %d bytes: %w", len(msg), ErrLimit)
	}
	if binary {
		return d.binary(msg)
	}
	if !utf8.Valid(msg) {
		return Event{}, &ProtocolError{What: "text is not UTF-8"}
	}
	d.scan = scanner{b: msg}
	typ := d.scan.messageType()
	if d.scan.bad != "" {
		return Event{}, d.scan.err(0)
	}
	switch string(typ) {
	case "delta":
		return d.jsonData(KindDelta)
	case "snapshot":
		return d.jsonData(KindSnapshot)
	case "heartbeat":
		return d.jsonBeat()
	}
	m, err := parseControl(string(typ), msg)
	if err != nil {
		return Event{}, err
	}
	return d.applyControl(&m)
}

// head is the head of a data message or heartbeat in either encoding.
type head struct {
	kind     Kind
	ch       uint64
	absolute bool // no row is a difference
	Data
}

// begin checks a part of a data message against the channel, by the rules that
// PROTOCOL.md numbers, and opens it.
func (d *Decoder) begin(h *head) (*Channel, error) {
	c := d.channels[h.ch]
	fail := func(what string) (*Channel, error) { return nil, &ProtocolError{h.ch, what} }
	switch {
	case c == nil:
		return fail("data of a channel that no subscription has")
	case h.Seq < c.pos:
		return fail("seq goes back")
	case c.open.kind != 0 && c.open != openMessage{h.kind, h.Seq, h.Prev}:
		return fail("a message inside another")
	case h.kind == KindSnapshot:
		if c.open.kind == 0 {
			d.forgetRows(c)
			c.whole = false
		}
	case !c.whole:
		return fail("delta before the snapshot is complete")
	case h.Seq < h.Prev:
		return fail("seq is below prev")
	case h.Prev > c.pos:
		return nil, &GapError{h.ch, c.pos, h.Prev}
	case !h.absolute && h.Prev < h.Seq && (h.Prev < c.based || !c.exact):
		return nil, &GapError{h.ch, c.pos, h.Prev}
	}
	c.open = openMessage{h.kind, h.Seq, h.Prev}
	d.changes, d.removed, d.dropped = d.changes[:0], d.removed[:0], d.dropped[:0]
	return c, nil
}

// finish applies removed, and moves the position with the last part.
func (d *Decoder) finish(c *Channel, h *head) (Event, error) {
	if len(d.removed) > 0 && (h.More || h.kind == KindSnapshot) {
		return Event{}, &ProtocolError{c.number, "removed elsewhere than in the last part of a delta"}
	}
	for _, id := range d.removed {
		if n := c.remove(id); n >= 0 {
			d.rows--
			d.text -= n
			d.dropped = append(d.dropped, id)
		}
	}
	if !h.More {
		c.open, c.whole = openMessage{}, true
		c.exact = h.kind == KindDelta && (c.exact || h.Prev < h.Seq)
		c.pos, c.based = h.Seq, h.Seq
		c.epoch = d.epoch
	}
	h.Changes, h.Removed = d.changes, d.dropped
	return Event{Kind: h.kind, Channel: c, Data: h.Data}, nil
}

func (d *Decoder) beat(ch, seq uint64) (Event, error) {
	c := d.channels[ch]
	switch {
	case c == nil:
		return Event{}, &ProtocolError{ch, "heartbeat of a channel that no subscription has"}
	case !c.Complete():
		return Event{}, &ProtocolError{ch, "heartbeat before the rows are complete"}
	case seq < c.pos:
		return Event{}, &ProtocolError{ch, "heartbeat takes the position back"}
	}
	c.pos, c.exact = seq, true
	return Event{Kind: KindChannelBeat, Channel: c}, nil
}

// row returns the row of a token, making one where the channel has none.
func (d *Decoder) row(c *Channel, id market.ID, whole bool) (int32, error) {
	if i := c.find(id); i >= 0 {
		return i, nil
	}
	if !whole {
		return 0, &ProtocolError{c.number, fmt.Sprintf("the first row of token %d is not whole", id)}
	}
	if d.rows >= d.limits.Tokens {
		return 0, fmt.Errorf("cannot hold more than %d rows: %w", d.limits.Tokens, ErrLimit)
	}
	d.rows++
	return c.insert(id), nil
}

// source sets the provider of a row, in the column too where there is one.
func (c *Channel) source(row int32, s market.Source) {
	c.src[row] = s
	if slot := c.layout.slots[market.FieldSource]; slot >= 0 {
		c.vals[int(row)*c.layout.numeric+int(slot)] = market.Decimal{Mant: int64(s)}
	}
}

// setText stores a text that is new; most are not.
func (d *Decoder) setText(c *Channel, row int32, f market.Field, text []byte) error {
	at := &c.texts[row][f-market.FieldSymbol]
	if *at == string(text) {
		return nil
	}
	d.text += len(text) - len(*at)
	if d.text > d.limits.Text {
		return fmt.Errorf("cannot hold more than %d bytes of texts: %w", d.limits.Text, ErrLimit)
	}
	*at = string(text)
	return nil
}

func (d *Decoder) forgetRows(c *Channel) {
	rows, text := c.weight()
	d.rows -= rows
	d.text -= text
	c.clearRows()
}

// subscribed begins a channel, or adds a subscription to one.
func (d *Decoder) subscribed(id string, ack *Ack) (Event, error) {
	seed := d.seeds[id]
	delete(d.seeds, id)
	l, err := layoutOf(&ack.Effective)
	if err != nil {
		return Event{}, &ProtocolError{ack.Channel, err.Error()}
	}
	if ack.From != 0 {
		if seed = d.channels[ack.From]; seed == nil {
			return Event{}, &ProtocolError{ack.Channel, "it goes on from a channel that is not there"}
		}
	}
	c := d.channels[ack.Channel]
	if c == nil {
		if c, err = d.open(ack, l, seed); err != nil {
			return Event{}, err
		}
	} else if err := d.share(c, ack, l, seed); err != nil {
		return Event{}, err
	}
	d.join(ack, c)
	return Event{Kind: KindSubscribed, ID: id, Channel: c, Ack: ack}, nil
}

func (d *Decoder) join(ack *Ack, c *Channel) {
	if before := d.subs[ack.Sub]; before != nil && before != c {
		d.leave(ack.Sub)
	}
	c.subs[ack.Sub], d.subs[ack.Sub] = ack, c
}

// open makes a channel, with the rows of seed where the server goes on from them.
func (d *Decoder) open(ack *Ack, l *Layout, seed *Channel) (*Channel, error) {
	if len(d.channels) >= d.limits.Channels {
		return nil, fmt.Errorf("cannot hold more than %d channels: %w", d.limits.Channels, ErrLimit)
	}
	c := newChannel(ack.Channel, d.epoch, l)
	d.channels[ack.Channel] = c
	if !ack.Recovered {
		return c, nil
	}
	if seed == nil || !seed.layout.same(l) {
		return nil, &ProtocolError{ack.Channel, "it goes on from rows that are not there"}
	}
	return c, d.carry(c, seed)
}

// share adds a subscription to a channel that others have. It goes on from the
// rows with the higher position.
func (d *Decoder) share(c *Channel, ack *Ack, l *Layout, seed *Channel) error {
	if !c.layout.same(l) {
		return &ProtocolError{ack.Channel, "subscriptions of different columns share it"}
	}
	if !ack.Recovered || seed == nil || seed == c || !seed.layout.same(l) || c.open.kind != 0 || c.whole && c.pos >= seed.pos {
		return nil
	}
	d.forgetRows(c)
	return d.carry(c, seed)
}

// carry copies rows and position of another channel, which may go on itself.
func (d *Decoder) carry(c, seed *Channel) error {
	c.carry(seed.copied())
	rows, text := c.weight()
	d.rows += rows
	d.text += text
	if d.rows > d.limits.Tokens || d.text > d.limits.Text {
		return fmt.Errorf("cannot hold the rows of another channel: %w", ErrLimit)
	}
	return nil
}

// leave ends a subscription; a channel goes with its last one.
func (d *Decoder) leave(sub uint64) {
	c := d.subs[sub]
	if c == nil {
		return
	}
	delete(d.subs, sub)
	delete(c.subs, sub)
	if len(c.subs) == 0 {
		rows, text := c.weight()
		d.rows -= rows
		d.text -= text
		delete(d.channels, c.number)
	}
}

// moved is rate "auto" taking a subscription to another channel.
func (d *Decoder) moved(ack *Ack) (Event, error) {
	before := d.subs[ack.Sub]
	if before == nil {
		return Event{}, &ProtocolError{ack.Channel, "effective of an unknown subscription"}
	}
	now := *before.subs[ack.Sub]
	now.Channel, now.From, now.Recovered, now.Effective.Rate = ack.Channel, ack.From, ack.From != 0, ack.Effective.Rate
	var seed *Channel
	if ack.From != 0 {
		if seed = d.channels[ack.From]; seed == nil {
			return Event{}, &ProtocolError{ack.Channel, "it goes on from a channel that is not there"}
		}
	}
	c := d.channels[now.Channel]
	if c == nil {
		var err error
		if c, err = d.open(&now, before.layout, seed); err != nil {
			return Event{}, err
		}
	} else if err := d.share(c, &now, before.layout, seed); err != nil {
		return Event{}, err
	}
	d.join(&now, c)
	return Event{Kind: KindEffective, Channel: c, Ack: &now}, nil
}

// compare checks the server's checksums against the rows.
func (d *Decoder) compare(id string, m *checksums) (Event, error) {
	c := d.channels[m.Ch]
	if c == nil {
		return Event{}, &ProtocolError{m.Ch, "checksums of a channel that no subscription has"}
	}
	check := &Check{Seq: m.Seq, Compared: c.Complete() && c.pos == m.Seq}
	if check.Compared {
		check.Tokens = len(m.Items)
		for _, item := range m.Items {
			if row, ok := c.Row(item.id); !ok || row.Checksum() != item.sum {
				check.Differ = append(check.Differ, item.id)
			}
		}
	}
	return Event{Kind: KindChecksums, ID: id, Channel: c, Check: check}, nil
}

// Subprotocol returns the WebSocket sub-protocol of an encoding.
func Subprotocol(e wire.Encoding) string {
	if e == wire.EncodingBinary {
		return "velocimeter.v1.bin"
	}
	return wire.SubprotocolJSON
}
