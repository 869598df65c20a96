package client

import (
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Kind is what an event is.
type Kind uint8

// The kinds of events and the member of Event that tells more.
const (
	KindConnected     Kind = iota + 1 // Hello
	KindDisconnected                  // Err, Wait
	KindSnapshot                      // Channel, Data: a part of a snapshot was applied
	KindDelta                         // Channel, Data: a part of a delta was applied
	KindChannelBeat                   // Channel: nothing changed, the position moved
	KindHeartbeat                     // Time
	KindSubscribed                    // Channel, Ack: of subscribe or update
	KindUnsubscribed                  // Ack
	KindSubscriptions                 // Items
	KindPong                          // Time
	KindChecksums                     // Channel, Check
	KindStale                         // Channel, Stale
	KindEffective                     // Channel, Ack: rate "auto" moved to another channel
	KindDrain                         // Wait: the server closes soon
	KindError                         // Err, a *ServerError
	KindOther                         // a message of a type that this version does not know
)

var kindNames = [...]string{
	"none", "connected", "disconnected", "snapshot", "delta", "channel heartbeat", "heartbeat", "subscribed", "unsubscribed",
	"subscriptions", "pong", "checksums", "stale", "effective", "drain", "error", "other",
}

// String returns a short name.
func (k Kind) String() string { return kindNames[k] }

// Event is what a message did. Slices and pointers in it are good until the
// next message is applied.
type Event struct {
	Kind    Kind
	ID      string // of the request that is answered
	Sub     *Sub   // of a Client: whose request is answered
	Channel *Channel
	Data    Data // KindSnapshot, KindDelta

	Hello *Hello
	Ack   *Ack
	Items []Ack
	Check *Check
	Stale *Stale
	Time  market.Time // of the server
	Wait  time.Duration
	Err   error
}

// Data is the head of a data message and the rows that it touched.
type Data struct {
	Seq, Prev  uint64 // Prev of deltas only
	Source     market.Source
	SourceTime market.Time // 0 is null
	ReceivedAt market.Time // 0 is null
	Simulated  bool
	More       bool // other parts follow: the position has not moved yet
	Changes    []Change
	Removed    []market.ID // tokens that the channel had and that are gone
}

// Change is a row that a message touched.
type Change struct {
	ID     market.ID
	Row    int32       // for Event.Row
	Fields market.Mask // that were in the message
}

// Row returns the row of a change.
func (e *Event) Row(c Change) Row { return Row{e.Channel, c.Row} }

// Check is the outcome of a verify: what the server's checksums say about the
// rows. Compared is false where the channel was not at Seq; nothing is known then.
type Check struct {
	Seq      uint64
	Compared bool
	Tokens   int         // that were compared
	Differ   []market.ID // whose rows are not the server's, or are missing here
	Healing  bool        // the client asked for whole rows of those that differ
}

// Stale says that a provider is silent about tokens.
type Stale struct {
	Tokens []market.ID
	Age    time.Duration
}
