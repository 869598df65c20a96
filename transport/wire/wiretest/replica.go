package wiretest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// Message is a server message, decoded.
type Message struct {
	Type       string                       `json:"type"`
	ID         *string                      `json:"id"`
	Protocol   int                          `json:"protocol"`
	Epoch      string                       `json:"epoch"`
	Code       string                       `json:"code"`
	Text       string                       `json:"message"`
	RetryMS    int64                        `json:"retry_ms"`
	DeadlineMS int64                        `json:"deadline_ms"`
	ServerTime int64                        `json:"server_time"`
	Sub        uint64                       `json:"sub"`
	Ch         uint64                       `json:"ch"`
	Tokens     int                          `json:"tokens"`
	Seq        uint64                       `json:"seq"`
	Prev       *uint64                      `json:"prev"`
	More       bool                         `json:"more"`
	Source     string                       `json:"source"`
	SourceTime int64                        `json:"source_time"`
	ReceivedAt int64                        `json:"received_at"`
	Rows       []map[string]json.RawMessage `json:"rows"`
	Removed    *[]market.ID                 `json:"removed"`
	Unknown    []json.RawMessage            `json:"unknown"`
	Ambiguous  []struct {
		Symbol string
		Taken  market.ID
		Others []market.ID
	} `json:"ambiguous"`
	Recovered *bool                      `json:"recovered"`
	Effective map[string]json.RawMessage `json:"effective"`
	Items     []json.RawMessage          `json:"items"`
	HeartMS   int64                      `json:"heartbeat_ms"`
	Simulated bool                       `json:"simulated"`
	Limits    map[string]int64           `json:"limits"`
	SchemaURL string                     `json:"schema_url"`
}

// Row is a token as a client holds it: every field, as JSON text.
type Row map[string]string

// Channel is what a client holds of one channel.
type Channel struct {
	Rows   map[market.ID]Row
	Pos    uint64
	Whole  bool // the snapshot is complete
	Exact  bool // a whole delta or a heartbeat brought the position, and nothing came since
	open   string
	openAt uint64
	subs   int
}

// Replica is a client that applies the rules of PROTOCOL.md.
type Replica struct {
	Channels map[uint64]*Channel
	Last     Message
	Messages int
	Bytes    int
	subs     map[uint64]uint64 // channel of each subscription
}

// NewReplica returns a client that has just connected.
func NewReplica() *Replica {
	return &Replica{Channels: make(map[uint64]*Channel), subs: make(map[uint64]uint64)}
}

// Apply takes one message. The error names the rule that it breaks.
func (r *Replica) Apply(text []byte) (*Message, error) {
	r.Messages++
	r.Bytes += len(text)
	if !bytes.HasPrefix(text, []byte(`{"type":"`)) {
		return nil, fmt.Errorf("type is not first: %.60s", text)
	}
	var m Message
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil {
		return nil, fmt.Errorf("cannot decode %.80q: %w", text, err)
	}
	r.Last = m
	switch m.Type {
	case "snapshot", "delta":
		if len(text) > wire.MaxPart {
			return &m, fmt.Errorf("a part of %d bytes", len(text))
		}
		return &m, r.data(&m)
	case "heartbeat":
		if m.Ch != 0 {
			return &m, r.beat(&m)
		}
	case "subscribed":
		if r.Channels[m.Ch] == nil {
			r.Channels[m.Ch] = &Channel{Rows: make(map[market.ID]Row)}
		}
		r.Channels[m.Ch].subs++
		r.subs[m.Sub] = m.Ch
	case "unsubscribed":
		if c := r.Channels[r.subs[m.Sub]]; c != nil {
			if c.subs--; c.subs == 0 {
				delete(r.Channels, r.subs[m.Sub])
			}
		}
	}
	return &m, nil
}

func (r *Replica) beat(m *Message) error {
	c := r.Channels[m.Ch]
	if c == nil || !c.Whole || c.open != "" {
		return fmt.Errorf("heartbeat of channel %d before its rows", m.Ch)
	}
	if m.Seq < c.Pos {
		return fmt.Errorf("heartbeat takes channel %d back from %d to %d", m.Ch, c.Pos, m.Seq)
	}
	c.Pos, c.Exact = m.Seq, true
	return nil
}

func (r *Replica) data(m *Message) error {
	c := r.Channels[m.Ch]
	if c == nil {
		return fmt.Errorf("data of unknown channel %d", m.Ch)
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
	c.open, c.openAt, c.Exact = m.Type, m.Seq, false
	for _, row := range m.Rows {
		if err := c.apply(row, m.Source); err != nil {
			return err
		}
	}
	if m.More {
		return nil
	}
	if m.Removed != nil {
		for _, id := range *m.Removed {
			delete(c.Rows, id)
		}
	}
	c.open, c.Pos = "", m.Seq
	c.Whole, c.Exact = true, m.Type == "delta"
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
	case m.Seq <= *m.Prev:
		return fmt.Errorf("seq %d not above prev %d", m.Seq, *m.Prev)
	case m.More == (m.Removed != nil):
		return errors.New("removed must be in the last part and only there")
	}
	return nil
}

func (c *Channel) apply(raw map[string]json.RawMessage, source string) error {
	var id market.ID
	if err := json.Unmarshal(raw["id"], &id); err != nil {
		return fmt.Errorf("row without id: %w", err)
	}
	row := c.Rows[id]
	if row == nil {
		if raw["symbol"] == nil || raw["slug"] == nil {
			return fmt.Errorf("first row of token %d is not whole", id)
		}
		row = make(Row)
		c.Rows[id] = row
	}
	row["source"] = `"` + source + `"`
	for name, v := range raw {
		row[name] = string(v)
	}
	return nil
}

// Diff compares rows with the tokens of a board that has selects, nil for all,
// as the format shows them.
func Diff(b *market.Board, has func(market.ID) bool, f *wire.Format, rows map[market.ID]Row) error {
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
		if err := diffRow(s, f, row); err != nil {
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
	name := field.String()
	switch {
	case name == "price" || strings.HasPrefix(name, "vwap_"):
		return v.RoundSignificant(8)
	case field.Spec().Unit == "USD" || field.Spec().Unit == "tokens":
		return v.RoundSignificant(6)
	case field.Spec().Unit == "%":
		return v.RoundPlaces(2)
	}
	return v
}
