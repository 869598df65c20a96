package wire

import (
	"strconv"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Limits are the per-connection limits that hello tells.
type Limits struct {
	Subscriptions     int // per connection
	Tokens            int // over all token lists of a connection
	MessagesPerSecond int // sustained; short bursts may be higher
}

// Hello is the first message of every connection.
type Hello struct {
	Epoch       string
	Seq         uint64
	ServerTime  market.Time
	HeartbeatMS int64
	Source      market.Source
	Simulated   bool
	Limits      Limits
}

// AppendHello appends the message.
func AppendHello(dst []byte, h *Hello) []byte {
	dst = appendUint(append(dst, `{"type":"hello","protocol":`...), Protocol)
	dst = appendString(append(dst, `,"epoch":`...), h.Epoch)
	dst = appendUint(append(dst, `,"seq":`...), h.Seq)
	dst = appendInt(append(dst, `,"server_time":`...), int64(h.ServerTime))
	dst = appendInt(append(dst, `,"heartbeat_ms":`...), h.HeartbeatMS)
	dst = appendString(append(dst, `,"source":`...), h.Source.String())
	dst = strconv.AppendBool(append(dst, `,"simulated":`...), h.Simulated)
	dst = appendInt(append(dst, `,"limits":{"subscriptions":`...), int64(h.Limits.Subscriptions))
	dst = appendInt(append(dst, `,"tokens":`...), int64(h.Limits.Tokens))
	dst = appendInt(append(dst, `,"messages_per_second":`...), int64(h.Limits.MessagesPerSecond))
	dst = appendInt(append(dst, `,"message_bytes":`...), MaxMessage)
	return append(dst, `},"schema_url":"/api/v1/schema"}`...)
}

// Ambiguous says which of several tokens of one symbol was taken.
type Ambiguous struct {
	Symbol string
	Taken  market.ID
	Others []market.ID
}

// Subscription is what a client is told about one of its subscriptions.
type Subscription struct {
	Sub     uint64
	Channel uint64
	Tokens  int // subscribed now; for all, tokens on the board
	Format  Format
}

// AppendSubscribed appends the acknowledgement of a subscribe. Exactly one of
// unknownIDs and unknownSymbols may hold something.
func AppendSubscribed(dst []byte, r *Request, s *Subscription, unknownIDs []market.ID, unknownSymbols []string, ambiguous []Ambiguous) []byte {
	dst = appendAnswer(dst, "subscribed", r)
	dst = appendSubscription(dst, s)
	dst = append(dst, `,"unknown":[`...)
	for i, id := range unknownIDs {
		dst = appendUint(comma(dst, i), uint64(id))
	}
	for i, sym := range unknownSymbols {
		dst = appendString(comma(dst, i), sym)
	}
	dst = append(dst, `],"ambiguous":[`...)
	for i := range ambiguous {
		a := &ambiguous[i]
		dst = appendString(append(comma(dst, i), `{"symbol":`...), a.Symbol)
		dst = appendUint(append(dst, `,"taken":`...), uint64(a.Taken))
		dst = append(appendIDs(append(dst, `,"others":`...), a.Others), '}')
	}
	dst = append(dst, `],"recovered":false,`...)
	return append(appendEffective(dst, &s.Format), '}')
}

func appendSubscription(dst []byte, s *Subscription) []byte {
	dst = appendUint(append(dst, `,"sub":`...), s.Sub)
	dst = appendUint(append(dst, `,"ch":`...), s.Channel)
	return appendInt(append(dst, `,"tokens":`...), int64(s.Tokens))
}

func appendEffective(dst []byte, f *Format) []byte {
	dst = append(dst, `"effective":{"mode":"latest","rate":"tick","deadband_bps":0,`...)
	if f.Named {
		dst = append(append(append(dst, `"view":"`...), f.View.String()...), '"')
	} else {
		dst = append(dst, `"fields":[`...)
		i := 0
		for field := range (f.Fields & market.NumericFields).Fields() {
			dst = appendString(comma(dst, i), field.String())
			i++
		}
		dst = append(dst, ']')
	}
	dst = append(dst, `,"encoding":"json","shape":"object","digits":`...)
	dst = append(dst, [...]string{`"full"`, `"compact"`}[f.Digits]...)
	dst = append(dst, `,"numbers":`...)
	dst = append(dst, [...]string{`"number"`, `"string"`}[f.Numbers]...)
	return append(dst, `,"compression":"none"}`...)
}

// AppendUnsubscribed appends the answer to an unsubscribe.
func AppendUnsubscribed(dst []byte, r *Request) []byte {
	dst = appendAnswer(dst, "unsubscribed", r)
	return append(appendUint(append(dst, `,"sub":`...), r.Sub), '}')
}

// AppendSubscriptions appends the answer to a list.
func AppendSubscriptions(dst []byte, r *Request, subs []Subscription) []byte {
	dst = append(appendAnswer(dst, "subscriptions", r), `,"items":[`...)
	for i := range subs {
		s := &subs[i]
		dst = appendUint(append(comma(dst, i), `{"sub":`...), s.Sub)
		dst = appendUint(append(dst, `,"ch":`...), s.Channel)
		dst = appendInt(append(dst, `,"tokens":`...), int64(s.Tokens))
		dst = append(appendEffective(append(dst, ','), &s.Format), '}')
	}
	return append(dst, "]}"...)
}

// AppendPong appends the answer to a ping.
func AppendPong(dst []byte, r *Request, now market.Time) []byte {
	dst = appendAnswer(dst, "pong", r)
	return append(appendInt(append(dst, `,"server_time":`...), int64(now)), '}')
}

// AppendError appends an error; retryMS is 0 where waiting changes nothing.
func AppendError(dst []byte, r *Request, e *RequestError, retryMS int64) []byte {
	dst = appendAnswer(dst, "error", r)
	dst = appendString(append(dst, `,"code":`...), string(e.Code))
	dst = appendString(append(dst, `,"message":`...), e.Text)
	return append(appendInt(append(dst, `,"retry_ms":`...), retryMS), '}')
}

// AppendHeartbeat appends the heartbeat of a silent connection.
func AppendHeartbeat(dst []byte, now market.Time) []byte {
	return append(appendInt(append(dst, `{"type":"heartbeat","server_time":`...), int64(now)), '}')
}

// AppendChannelHeartbeat appends the heartbeat of a silent channel: nothing of
// it changed through seq.
func AppendChannelHeartbeat(dst []byte, ch, seq uint64) []byte {
	dst = appendUint(append(dst, `{"type":"heartbeat","ch":`...), ch)
	return append(appendUint(append(dst, `,"seq":`...), seq), '}')
}

// AppendDrain appends the announcement of the connection's end.
func AppendDrain(dst []byte, deadlineMS, retryMS int64) []byte {
	dst = appendInt(append(dst, `{"type":"drain","deadline_ms":`...), deadlineMS)
	return append(appendInt(append(dst, `,"retry_ms":`...), retryMS), '}')
}

func appendAnswer(dst []byte, kind string, r *Request) []byte {
	dst = append(append(append(dst, `{"type":"`...), kind...), '"')
	if r != nil && r.HasID {
		dst = appendString(append(dst, `,"id":`...), r.ID)
	}
	return dst
}

func appendIDs(dst []byte, ids []market.ID) []byte {
	dst = append(dst, '[')
	for i, id := range ids {
		dst = appendUint(comma(dst, i), uint64(id))
	}
	return append(dst, ']')
}

func comma(dst []byte, i int) []byte {
	if i > 0 {
		return append(dst, ',')
	}
	return dst
}

func appendUint(dst []byte, n uint64) []byte { return strconv.AppendUint(dst, n, 10) }
func appendInt(dst []byte, n int64) []byte   { return strconv.AppendInt(dst, n, 10) }
