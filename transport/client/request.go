package client

import (
	"encoding/json"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Since is a position to go on from.
type Since struct {
	Epoch string `json:"epoch"`
	Seq   uint64 `json:"seq"`
}

// Subscription says what to subscribe to, and how: exactly one of Tokens,
// Symbols, All and Top. Zero options mean the server's defaults.
type Subscription struct {
	Tokens  []market.ID // CoinMarketCap ids, at most 10,000
	Symbols []string    // at most 10,000, case does not matter
	All     bool
	Top     *Top

	View     string         // quote, velocity, full
	Fields   []market.Field // instead of View
	Mode     string         // latest, every
	Rate     Rate
	Deadband int    // basis points
	Shape    string // object, array; JSON only
	Digits   string // full, compact
	Numbers  string // number, string; JSON only

	// From is where to go on: the channel that an earlier subscription for the
	// same tokens and options ended with. Its position is sent as since; with a
	// Decoder of one's own it is also to be told with Resume.
	From *Channel
}

// Update changes a subscription: only what is not zero is sent.
type Update struct {
	Tokens   []market.ID
	Symbols  []string
	View     string
	Fields   []market.Field
	Rate     Rate
	Deadband *int
	Shape    string
	Digits   string
	Numbers  string
}

// request is a client message.
type request struct {
	Op       string      `json:"op"`
	ID       string      `json:"id,omitempty"`
	Sub      uint64      `json:"sub,omitempty"`
	Tokens   []market.ID `json:"tokens,omitempty"`
	Symbols  []string    `json:"symbols,omitempty"`
	All      bool        `json:"all,omitempty"`
	Top      *Top        `json:"top,omitempty"`
	View     string      `json:"view,omitempty"`
	Fields   []string    `json:"fields,omitempty"`
	Mode     string      `json:"mode,omitempty"`
	Rate     Rate        `json:"rate,omitempty"`
	Deadband *int        `json:"deadband_bps,omitempty"`
	Shape    string      `json:"shape,omitempty"`
	Digits   string      `json:"digits,omitempty"`
	Numbers  string      `json:"numbers,omitempty"`
	Since    *Since      `json:"since,omitempty"`
	Heal     bool        `json:"heal,omitempty"`
}

// with returns the message with an id.
func (r *request) with(id string) []byte {
	r.ID = id
	return r.text()
}

func (r *request) text() []byte {
	b, err := json.Marshal(r)
	if err != nil { // strings and numbers cannot fail
		return nil
	}
	return b
}

// Request returns the client message that subscribes.
func (s *Subscription) Request(id string) []byte {
	r := s.request()
	return r.with(id)
}

func (s *Subscription) request() request {
	r := request{
		Op: "subscribe", Tokens: s.Tokens, Symbols: s.Symbols, All: s.All, Top: s.Top, View: s.View, Fields: names(s.Fields),
		Mode: s.Mode, Rate: s.Rate, Shape: s.Shape, Digits: s.Digits, Numbers: s.Numbers,
	}
	if s.Deadband != 0 {
		r.Deadband = &s.Deadband
	}
	if s.From != nil {
		if since, ok := s.From.Since(); ok {
			r.Since = &since
		}
	}
	return r
}

// Request returns the client message that updates subscription sub.
func (u *Update) Request(id string, sub uint64) []byte {
	r := request{
		Op: "update", ID: id, Sub: sub, Tokens: u.Tokens, Symbols: u.Symbols, View: u.View, Fields: names(u.Fields),
		Rate: u.Rate, Deadband: u.Deadband, Shape: u.Shape, Digits: u.Digits, Numbers: u.Numbers,
	}
	return r.text()
}

// apply changes what is subscribed again after a reconnect.
func (u *Update) apply(s *Subscription) {
	if u.Tokens != nil || u.Symbols != nil {
		s.Tokens, s.Symbols = u.Tokens, u.Symbols
	}
	if u.View != "" || u.Fields != nil {
		s.View, s.Fields = u.View, u.Fields
	}
	if u.Deadband != nil {
		s.Deadband = *u.Deadband
	}
	if u.Rate != "" {
		s.Rate = u.Rate
	}
	for _, m := range []struct {
		to   *string
		from string
	}{{&s.Shape, u.Shape}, {&s.Digits, u.Digits}, {&s.Numbers, u.Numbers}} {
		if m.from != "" {
			*m.to = m.from
		}
	}
}

func names(fields []market.Field) []string {
	var out []string
	for _, f := range fields {
		out = append(out, f.String())
	}
	return out
}
