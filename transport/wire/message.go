package wire

import (
	"cmp"
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
	Sub         uint64
	Channel     uint64
	Tokens      int // subscribed now; for all, tokens on the board
	Format      Format
	Every       bool // mode every, else latest
	Rate        Rate // the class that is in force
	Auto        bool // the server chose Rate and may change it
	Deadband    int  // basis points
	Top         *Top // of a ranked subscription
	Compression string
	Recovered   bool   // the client's rows and position hold
	From        uint64 // the channel that they come from after an update; 0 tells nothing
}

// AppendSubscribed appends the acknowledgement of a subscribe or an update.
// Exactly one of unknownIDs and unknownSymbols may hold something.
func AppendSubscribed(dst []byte, r *Request, s *Subscription, unknownIDs []market.ID, unknownSymbols []string, ambiguous []Ambiguous) []byte {
	dst = appendAnswer(dst, "subscribed", r)
	dst = appendSubscription(append(dst, ','), s)
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
	dst = strconv.AppendBool(append(dst, `],"recovered":`...), s.Recovered)
	dst = appendFrom(dst, s.From)
	return append(appendEffective(append(dst, ','), s), '}')
}

func appendSubscription(dst []byte, s *Subscription) []byte {
	dst = appendUint(append(dst, `"sub":`...), s.Sub)
	dst = appendUint(append(dst, `,"ch":`...), s.Channel)
	return appendInt(append(dst, `,"tokens":`...), int64(s.Tokens))
}

func appendFrom(dst []byte, from uint64) []byte {
	if from == 0 {
		return dst
	}
	return appendUint(append(dst, `,"from":`...), from)
}

// AppendEffective appends the member effective of an acknowledgement.
func AppendEffective(dst []byte, s *Subscription) []byte { return appendEffective(dst, s) }

func appendEffective(dst []byte, s *Subscription) []byte {
	f := &s.Format
	dst = append(dst, `"effective":{"mode":`...)
	if s.Every {
		dst = append(dst, `"every"`...)
	} else {
		dst = append(dst, `"latest"`...)
	}
	dst = s.Rate.AppendJSON(append(dst, `,"rate":`...))
	if s.Auto {
		dst = append(dst, `,"auto":true`...)
	}
	dst = appendInt(append(dst, `,"deadband_bps":`...), int64(s.Deadband))
	if s.Top != nil {
		dst = append(append(append(dst, `,"top":{"by":"`...), s.Top.By.String()...), `","n":`...)
		dst = append(appendInt(dst, int64(s.Top.N)), '}')
	}
	dst = appendFields(append(dst, ','), f)
	for _, m := range [...][2]string{
		{"encoding", f.Encoding.String()},
		{"shape", f.Shape.String()},
		{"digits", f.Digits.String()},
		{"numbers", f.Numbers.String()},
		{"compression", cmp.Or(s.Compression, CompressionNone)},
	} {
		dst = append(append(append(dst, `,"`...), m[0]...), `":"`...)
		dst = append(append(dst, m[1]...), '"')
	}
	return append(dst, '}')
}

// What effective tells as compression.
const (
	CompressionNone    = "none"
	CompressionDeflate = "deflate"
)

// appendFields names what rows hold beside the texts, which are in all, or the
// texts where that is nothing: no list is empty, and any can be asked for again.
func appendFields(dst []byte, f *Format) []byte {
	if f.Named {
		return append(append(append(dst, `"view":"`...), f.View.String()...), '"')
	}
	dst = append(dst, `"fields":[`...)
	fields := f.Fields & market.NumericFields
	if fields == 0 {
		fields = market.TextFields
	}
	i := 0
	for field := range fields.Fields() {
		dst = appendString(comma(dst, i), field.String())
		i++
	}
	return append(dst, ']')
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
		dst = appendSubscription(append(comma(dst, i), '{'), &subs[i])
		dst = append(appendEffective(append(dst, ','), &subs[i]), '}')
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

// TokenSum is the checksum of one token.
type TokenSum struct {
	ID  market.ID
	Sum uint32
}

// AppendChecksums appends the answer to a verify: the checksums of tokens at
// the position seq of a channel.
func AppendChecksums(dst []byte, r *Request, ch, seq uint64, items []TokenSum) []byte {
	dst = appendUint(append(appendAnswer(dst, "checksums", r), `,"ch":`...), ch)
	dst = append(appendUint(append(dst, `,"seq":`...), seq), `,"items":[`...)
	for i, it := range items {
		dst = append(appendUint(append(comma(dst, i), '['), uint64(it.ID)), `,"`...)
		for shift := 28; shift >= 0; shift -= 4 {
			dst = append(dst, "0123456789abcdef"[it.Sum>>shift&15])
		}
		dst = append(dst, `"]`...)
	}
	return append(dst, "]}"...)
}

// AppendStale appends the warning that the provider has been silent about
// tokens of a channel for ageMS milliseconds.
func AppendStale(dst []byte, ch uint64, tokens []market.ID, ageMS int64) []byte {
	dst = appendUint(append(dst, `{"type":"stale","ch":`...), ch)
	dst = appendIDs(append(dst, `,"tokens":`...), tokens)
	return append(appendInt(append(dst, `,"age_ms":`...), ageMS), '}')
}

// AppendEffectiveChange appends the notice that a subscription at rate auto has
// another rate and another channel, which takes over rows and position of from.
func AppendEffectiveChange(dst []byte, sub, ch, from uint64, rate Rate) []byte {
	dst = appendUint(append(dst, `{"type":"effective","sub":`...), sub)
	dst = appendFrom(appendUint(append(dst, `,"ch":`...), ch), from)
	return append(rate.AppendJSON(append(dst, `,"rate":`...)), '}')
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
