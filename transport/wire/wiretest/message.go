package wiretest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Message is a server message, decoded.
type Message struct {
	Type       string          `json:"type"`
	ID         *string         `json:"id"`
	Protocol   int             `json:"protocol"`
	Epoch      string          `json:"epoch"`
	Code       string          `json:"code"`
	Text       string          `json:"message"`
	RetryMS    int64           `json:"retry_ms"`
	DeadlineMS int64           `json:"deadline_ms"`
	ServerTime int64           `json:"server_time"`
	Sub        uint64          `json:"sub"`
	Ch         uint64          `json:"ch"`
	From       uint64          `json:"from"`
	Rate       json.RawMessage `json:"rate"`
	AgeMS      int64           `json:"age_ms"`
	Seq        uint64          `json:"seq"`
	Prev       *uint64         `json:"prev"`
	More       bool            `json:"more"`
	Source     string          `json:"source"`
	SourceTime int64           `json:"source_time"`
	ReceivedAt int64           `json:"received_at"`
	// Rows hold the members of each row by name, also where the message has
	// arrays; of binary messages only what Replica makes of them is kept.
	Rows      []map[string]json.RawMessage `json:"-"`
	Removed   *[]market.ID                 `json:"removed"`
	Unknown   []json.RawMessage            `json:"unknown"`
	Ambiguous []struct {
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

	Tokens   int         `json:"-"` // of subscribed: how many
	Stale    []market.ID `json:"-"` // of stale: which
	Absolute bool        `json:"-"` // binary: no row is a difference

	RawTokens json.RawMessage   `json:"tokens"`
	RawRows   []json.RawMessage `json:"rows"`
}

// Decode reads one JSON message; members that the protocol does not have are
// errors.
func Decode(text []byte) (*Message, error) {
	if !bytes.HasPrefix(text, []byte(`{"type":"`)) {
		return nil, fmt.Errorf("type is not first: %.60s", text)
	}
	var m Message
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil {
		return nil, fmt.Errorf("cannot decode %.80q: %w", text, err)
	}
	if m.RawTokens != nil {
		var into any = &m.Tokens
		if m.Type == "stale" {
			into = &m.Stale
		}
		if err := json.Unmarshal(m.RawTokens, into); err != nil {
			return nil, fmt.Errorf("cannot decode tokens of %.80q: %w", text, err)
		}
	}
	for _, raw := range m.RawRows {
		row, err := decodeRow(raw)
		if err != nil {
			return nil, fmt.Errorf("cannot decode row %.80q: %w", raw, err)
		}
		m.Rows = append(m.Rows, row)
	}
	return &m, nil
}

// decodeRow reads a row of either shape.
func decodeRow(raw json.RawMessage) (map[string]json.RawMessage, error) {
	if len(raw) == 0 || raw[0] != '[' {
		var row map[string]json.RawMessage
		return row, json.Unmarshal(raw, &row)
	}
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, err
	}
	if len(list) < 3 {
		return nil, fmt.Errorf("%d elements", len(list))
	}
	mask, err := strconv.ParseUint(string(list[1]), 10, market.NumFields)
	if err != nil {
		return nil, fmt.Errorf("mask: %w", err)
	}
	row := map[string]json.RawMessage{"id": list[0]}
	next := 2
	for field := market.Field(1); field <= market.NumFields; field++ {
		if mask>>(field-1)&1 == 0 {
			continue
		}
		if next == len(list) {
			return nil, fmt.Errorf("mask %d for %d values", mask, len(list)-2)
		}
		row[field.String()] = list[next]
		next++
	}
	if next != len(list) {
		return nil, fmt.Errorf("mask %d for %d values", mask, len(list)-2)
	}
	return row, nil
}

// Sums returns the checksums that a message of type checksums holds.
func (m *Message) Sums() (map[market.ID]uint32, error) {
	sums := make(map[market.ID]uint32, len(m.Items))
	for _, raw := range m.Items {
		var id market.ID
		var sum string
		if err := json.Unmarshal(raw, &[]any{&id, &sum}); err != nil || len(sum) != 8 {
			return nil, fmt.Errorf("item %s is not an id and eight hexadecimal digits", raw)
		}
		n, err := strconv.ParseUint(sum, 16, 32)
		if err != nil {
			return nil, fmt.Errorf("item %s: %w", raw, err)
		}
		sums[id] = uint32(n)
	}
	return sums, nil
}
