package client

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// Hello is the first message of a connection.
type Hello struct {
	Protocol    int         `json:"protocol"`
	Epoch       string      `json:"epoch"`
	Seq         uint64      `json:"seq"`
	ServerTime  market.Time `json:"server_time"`
	HeartbeatMS int64       `json:"heartbeat_ms"`
	Source      string      `json:"source"`
	Simulated   bool        `json:"simulated"`
	Limits      struct {
		Subscriptions     int     `json:"subscriptions"`
		Tokens            int     `json:"tokens"`
		MessagesPerSecond float64 `json:"messages_per_second"`
		MessageBytes      int     `json:"message_bytes"`
	} `json:"limits"`
	SchemaURL string `json:"schema_url"`
}

// Rate is how often a subscription is sent: "tick", "auto", or updates per
// second written as a number, such as "0.5".
type Rate string

// The rates that are words.
const (
	RateTick Rate = "tick"
	RateAuto Rate = "auto"
)

// UnmarshalJSON reads a string or a number.
func (r *Rate) UnmarshalJSON(text []byte) error {
	*r = Rate(strings.Trim(string(text), `"`))
	return nil
}

// MarshalJSON writes words as strings and anything else as a number.
func (r Rate) MarshalJSON() ([]byte, error) {
	if _, err := strconv.ParseFloat(string(r), 64); err == nil {
		return []byte(r), nil
	}
	return json.Marshal(string(r))
}

// Top selects the first N tokens by a field.
type Top struct {
	By string `json:"by"`
	N  int    `json:"n"`
}

// Effective is what the server will really do for a subscription.
type Effective struct {
	Mode        string   `json:"mode"`
	Rate        Rate     `json:"rate"`
	Auto        bool     `json:"auto"`
	Deadband    int      `json:"deadband_bps"`
	View        string   `json:"view"`
	Fields      []string `json:"fields"`
	Top         *Top     `json:"top"`
	Encoding    string   `json:"encoding"`
	Shape       string   `json:"shape"`
	Digits      string   `json:"digits"`
	Numbers     string   `json:"numbers"`
	Compression string   `json:"compression"`
}

// Ambiguous is a symbol that several tokens have.
type Ambiguous struct {
	Symbol string      `json:"symbol"`
	Taken  market.ID   `json:"taken"`
	Others []market.ID `json:"others"`
}

// Ack is the acknowledgement of subscribe, update or unsubscribe, or an item of
// list.
type Ack struct {
	Sub       uint64      `json:"sub"`
	Channel   uint64      `json:"ch"`
	Tokens    int         `json:"tokens"`
	Unknown   Unknown     `json:"unknown"`
	Ambiguous []Ambiguous `json:"ambiguous"`
	Recovered bool        `json:"recovered"`
	From      uint64      `json:"from"` // the channel whose rows go on, 0 for none
	Effective Effective   `json:"effective"`
}

// Unknown lists what was asked for and does not exist.
type Unknown struct {
	IDs     []market.ID
	Symbols []string
}

// UnmarshalJSON reads a list of ids or of symbols.
func (u *Unknown) UnmarshalJSON(text []byte) error {
	if json.Unmarshal(text, &u.IDs) == nil {
		return nil
	}
	u.IDs = nil
	return json.Unmarshal(text, &u.Symbols)
}

// checksums is the answer to verify.
type checksums struct {
	Ch    uint64    `json:"ch"`
	Seq   uint64    `json:"seq"`
	Items []sumItem `json:"items"`
}

type sumItem struct {
	id  market.ID
	sum uint32
}

// UnmarshalJSON reads an id and 8 hexadecimal digits.
func (i *sumItem) UnmarshalJSON(text []byte) error {
	var hex string
	pair := [2]any{&i.id, &hex}
	into := pair[:]
	if err := json.Unmarshal(text, &into); err != nil {
		return err
	}
	n, err := strconv.ParseUint(hex, 16, 32)
	if err != nil || len(hex) != 8 {
		return fmt.Errorf("cannot read checksum %q", hex)
	}
	i.sum = uint32(n)
	return nil
}

// control is a message without rows, read but not applied yet.
type control struct {
	kind  Kind
	id    string
	hello *Hello
	ack   *Ack
	items []Ack
	sums  *checksums
	stale *staleMessage
	time  market.Time
	wait  time.Duration
	fault *ServerError
}

type staleMessage struct {
	Ch     uint64      `json:"ch"`
	Tokens []market.ID `json:"tokens"`
	AgeMS  int64       `json:"age_ms"`
}

// controlKinds names the types that are read with parseControl.
var controlKinds = map[string]Kind{
	"hello": KindConnected, "subscribed": KindSubscribed, "unsubscribed": KindUnsubscribed, "subscriptions": KindSubscriptions,
	"pong": KindPong, "checksums": KindChecksums, "stale": KindStale, "effective": KindEffective, "drain": KindDrain, "error": KindError,
}

// parseControl reads a message that is neither data nor a heartbeat.
func parseControl(typ string, text []byte) (control, error) {
	m := control{kind: controlKinds[typ]}
	if !utf8.Valid(text) {
		return m, &ProtocolError{What: "text is not UTF-8"}
	}
	if m.kind == 0 {
		m.kind = KindOther
		if !json.Valid(text) {
			return m, &ProtocolError{What: "not JSON"}
		}
		return m, nil
	}
	common := struct {
		ID         string      `json:"id"`
		ServerTime market.Time `json:"server_time"`
		RetryMS    int64       `json:"retry_ms"`
		Code       string      `json:"code"`
		Message    string      `json:"message"`
		Items      []Ack       `json:"items"`
	}{}
	var into any = &common
	switch m.kind {
	case KindConnected:
		m.hello = new(Hello)
		into = m.hello
	case KindSubscribed, KindUnsubscribed:
		m.ack = new(Ack)
		into = m.ack
	case KindEffective:
		m.ack = new(Ack)
		into = m.ack
	case KindStale:
		m.stale = new(staleMessage)
		into = m.stale
	case KindChecksums:
		m.sums = new(checksums)
		into = m.sums
	default:
	}
	if err := json.Unmarshal(text, into); err != nil {
		return m, &ProtocolError{What: typ + ": " + err.Error()}
	}
	if into != any(&common) {
		rest := struct {
			ID   string `json:"id"`
			Rate Rate   `json:"rate"`
		}{}
		if err := json.Unmarshal(text, &rest); err != nil {
			return m, &ProtocolError{What: typ + ": " + err.Error()}
		}
		common.ID = rest.ID
		if m.kind == KindEffective {
			m.ack.Effective.Rate = rest.Rate
		}
	}
	m.id, m.time, m.items = common.ID, common.ServerTime, common.Items
	m.wait = millis(common.RetryMS)
	if m.kind == KindError {
		m.fault = &ServerError{common.ID, wire.ErrorCode(common.Code), common.Message, m.wait}
	}
	return m, nil
}

// millis reads a duration, with a day as the most that is believed.
func millis(n int64) time.Duration {
	return time.Duration(min(max(n, 0), 86_400_000)) * time.Millisecond
}

// applyControl applies a message without rows.
func (d *Decoder) applyControl(m *control) (Event, error) {
	ev := Event{Kind: m.kind, ID: m.id, Time: m.time, Wait: m.wait, Ack: m.ack, Items: m.items, Hello: m.hello}
	switch m.kind {
	case KindConnected:
		if m.hello.Protocol != wire.Protocol {
			return Event{}, &ProtocolError{What: fmt.Sprintf("protocol version %d", m.hello.Protocol)}
		}
		d.epoch = m.hello.Epoch
	case KindSubscribed:
		return d.subscribed(m.id, m.ack)
	case KindUnsubscribed:
		d.leave(m.ack.Sub)
	case KindEffective:
		return d.moved(m.ack)
	case KindChecksums:
		return d.compare(m.id, m.sums)
	case KindStale:
		ev.Channel = d.channels[m.stale.Ch]
		ev.Stale = &Stale{Tokens: m.stale.Tokens, Age: millis(m.stale.AgeMS)}
	case KindError:
		ev.Err = m.fault
	default:
	}
	return ev, nil
}
