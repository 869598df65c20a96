package wiretest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// Row is a token as a client holds it: every field, as JSON text.
type Row map[string]string

// Channel is what a client holds of one channel.
type Channel struct {
	Rows   map[market.ID]Row
	Pos    uint64
	Whole  bool         // the snapshot is complete
	Exact  bool         // a whole delta or a heartbeat brought the position, and nothing came since
	Format wire.Format  // what effective told
	By     market.Field // of a ranked channel; else 0

	open   string
	openAt uint64
	based  uint64 // seq of the last complete data message
	joined bool   // nothing but a snapshot or a carry-over yet: differences have no ground
	subs   int
}

// Replica is a client that applies the rules of PROTOCOL.md.
type Replica struct {
	Channels map[uint64]*Channel
	Last     Message
	Messages int
	Bytes    int
	// Resume is what the client kept of an earlier connection; the next
	// acknowledgement that says recovered takes it over.
	Resume *Channel
	subs   map[uint64]uint64 // channel of each subscription
}

// NewReplica returns a client that has just connected.
func NewReplica() *Replica {
	return &Replica{Channels: make(map[uint64]*Channel), subs: make(map[uint64]uint64)}
}

// Apply takes one text message. The error names the rule that it breaks.
func (r *Replica) Apply(text []byte) (*Message, error) {
	r.Messages++
	r.Bytes += len(text)
	m, err := Decode(text)
	if err != nil {
		return nil, err
	}
	r.Last = *m
	switch m.Type {
	case "snapshot", "delta":
		return m, r.data(m, len(text), func(c *Channel) error {
			for _, row := range m.Rows {
				if err := c.apply(row, m.Source); err != nil {
					return err
				}
			}
			return nil
		})
	case "heartbeat":
		if m.Ch != 0 {
			return m, r.beat(m)
		}
	case "subscribed":
		return m, r.subscribed(m)
	case "effective":
		yes := true
		m.Recovered = &yes
		return m, r.subscribed(m)
	case "unsubscribed":
		r.leave(r.subs[m.Sub])
		delete(r.subs, m.Sub)
	}
	return m, nil
}

func (r *Replica) leave(ch uint64) {
	if c := r.Channels[ch]; c != nil {
		if c.subs--; c.subs == 0 {
			delete(r.Channels, ch)
		}
	}
}

// subscribed opens the channel of an acknowledgement, or moves a subscription to
// another.
func (r *Replica) subscribed(m *Message) error {
	if m.Recovered == nil {
		return errors.New("subscribed without recovered")
	}
	kept := r.Resume
	if m.From != 0 {
		if kept = r.Channels[m.From]; kept == nil || r.subs[m.Sub] != m.From {
			return fmt.Errorf("subscription %d comes from channel %d, which it has not", m.Sub, m.From)
		}
	}
	c := r.Channels[m.Ch]
	if c == nil {
		c = &Channel{Rows: make(map[market.ID]Row)}
		r.Channels[m.Ch] = c
	}
	if *m.Recovered && kept != nil && kept != c {
		c.take(kept)
	}
	if *m.Recovered {
		r.Resume = nil
	}
	if m.Effective != nil {
		if err := c.learn(m.Effective); err != nil {
			return err
		}
	} else if was := r.Channels[r.subs[m.Sub]]; was != nil { // rows look as they did
		c.Format, c.By = was.Format, was.By
	}
	c.subs++
	if old, moved := r.subs[m.Sub]; moved {
		r.leave(old)
	}
	r.subs[m.Sub] = m.Ch
	return nil
}

// take carries rows and position over, unless the channel has newer ones.
func (c *Channel) take(kept *Channel) {
	if c.Whole && c.Pos >= kept.Pos {
		return
	}
	c.Rows = make(map[market.ID]Row, len(kept.Rows))
	for id, row := range kept.Rows {
		c.Rows[id] = maps.Clone(row)
	}
	c.Pos, c.Whole, c.Exact, c.joined = kept.Pos, kept.Whole, false, true
	c.open, c.based = "", kept.Pos
}

// learn reads what effective tells about rows.
func (c *Channel) learn(effective map[string]json.RawMessage) error {
	var e struct {
		View, Encoding, Shape, Digits, Numbers string
		Fields                                 []string
		Top                                    *struct {
			By string
			N  int
		}
	}
	raw, err := json.Marshal(effective)
	if err == nil {
		err = json.Unmarshal(raw, &e)
	}
	if err != nil {
		return fmt.Errorf("cannot read effective: %w", err)
	}
	f := wire.Format{Fields: market.TextFields}
	if v, ok := market.ParseView(e.View); ok {
		f.Fields, f.View, f.Named = f.Fields|v.Mask(), v, true
	}
	for _, name := range e.Fields {
		field, ok := market.ParseField(name)
		if !ok {
			return fmt.Errorf("effective has no field %q", name)
		}
		f.Fields |= field.Bit()
	}
	if e.Top != nil {
		c.By, _ = market.ParseField(e.Top.By)
		f.Fields |= c.By.Bit()
	}
	if e.Digits == "compact" {
		f.Digits = wire.DigitsCompact
	}
	if e.Numbers == "string" {
		f.Numbers = wire.NumbersString
	}
	if e.Shape == "array" {
		f.Shape = wire.ShapeArray
	}
	if e.Encoding == "binary" {
		f.Encoding = wire.EncodingBinary
	}
	c.Format = f
	return nil
}

func (r *Replica) beat(m *Message) error {
	c := r.Channels[m.Ch]
	if c == nil || !c.Whole || c.open != "" {
		return fmt.Errorf("heartbeat of channel %d before its rows", m.Ch)
	}
	if m.Seq < c.Pos {
		return fmt.Errorf("heartbeat takes channel %d back from %d to %d", m.Ch, c.Pos, m.Seq)
	}
	c.Pos, c.Exact, c.joined = m.Seq, true, false
	return nil
}

// data takes a part of size bytes, whose rows are applied by rows.
func (r *Replica) data(m *Message, size int, rows func(*Channel) error) error {
	c := r.Channels[m.Ch]
	if c == nil {
		return fmt.Errorf("data of unknown channel %d", m.Ch)
	}
	if size > wire.MaxPart {
		return fmt.Errorf("a part of %d bytes", size)
	}
	if m.Seq < c.Pos {
		return fmt.Errorf("channel %d goes back from %d to %d", m.Ch, c.Pos, m.Seq)
	}
	if c.open != "" && (c.open != m.Type || c.openAt != m.Seq) {
		return fmt.Errorf("channel %d: %s %d inside %s %d", m.Ch, m.Type, m.Seq, c.open, c.openAt)
	}
	if err := c.begin(m); err != nil {
		return fmt.Errorf("channel %d: %w", m.Ch, err)
	}
	exact := c.Exact
	c.open, c.openAt, c.Exact = m.Type, m.Seq, false
	if err := rows(c); err != nil {
		return fmt.Errorf("channel %d: %w", m.Ch, err)
	}
	if m.More {
		return nil
	}
	if m.Removed != nil {
		for _, id := range *m.Removed {
			delete(c.Rows, id)
		}
	}
	c.open = ""
	if m.Prev != nil && *m.Prev == m.Seq {
		c.Exact = exact // a repeat of the position
		return nil
	}
	c.Pos, c.based = m.Seq, m.Seq
	c.Whole, c.Exact, c.joined = true, m.Type == "delta", m.Type == "snapshot"
	return nil
}

// begin checks the order of messages at a part.
func (c *Channel) begin(m *Message) error {
	if m.Type == "snapshot" {
		if c.open == "" {
			clear(c.Rows)
			c.Whole = false
		}
		if m.Prev != nil || m.Removed != nil {
			return errors.New("snapshot with prev or removed")
		}
		return nil
	}
	switch {
	case !c.Whole:
		return errors.New("delta before the snapshot is complete")
	case m.Prev == nil:
		return errors.New("delta without prev")
	case *m.Prev > c.Pos:
		return fmt.Errorf("gap: prev %d above position %d", *m.Prev, c.Pos)
	case m.Seq < *m.Prev:
		return fmt.Errorf("seq %d below prev %d", m.Seq, *m.Prev)
	case m.More == (m.Removed != nil):
		return errors.New("removed must be in the last part and only there")
	case c.differs(m) && (c.joined || *m.Prev < c.based || *m.Prev == m.Seq):
		return fmt.Errorf("differences from %d have no ground at %d", *m.Prev, c.based)
	}
	return nil
}

// differs reports whether rows may hold differences.
func (c *Channel) differs(m *Message) bool {
	return c.Format.Encoding == wire.EncodingBinary && !m.Absolute
}

func (c *Channel) apply(raw map[string]json.RawMessage, source string) error {
	var id market.ID
	if err := json.Unmarshal(raw["id"], &id); err != nil {
		return fmt.Errorf("row without id: %w", err)
	}
	if c.By != 0 && raw[c.By.String()] == nil {
		return fmt.Errorf("ranked row of token %d has no %s", id, c.By)
	}
	row := c.Rows[id]
	if c.whole(raw) {
		row = nil // is replaced
	} else if row == nil {
		return fmt.Errorf("first row of token %d is not whole", id)
	}
	if row == nil {
		row = make(Row)
		c.Rows[id] = row
	}
	row["source"] = `"` + source + `"`
	for name, v := range raw {
		row[name] = string(v)
	}
	return nil
}

// whole reports whether a row has every field of the channel.
func (c *Channel) whole(raw map[string]json.RawMessage) bool {
	for f := range (c.Format.Fields | market.TextFields).Fields() {
		if raw[f.String()] == nil {
			return false
		}
	}
	return true
}
