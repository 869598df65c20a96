package fanout

import (
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// Boards gives the market as of the newest sealed tick; nil before the first.
type Boards interface {
	Board() *market.Board
}

// Chunk is a stretch of whole frames.
type Chunk struct {
	Bytes []byte
	// Shared bytes are immutable and may be kept: others get them too. Bytes that
	// are not shared are the hub's again as soon as TryWrite has returned.
	Shared bool
}

// Link is the byte stream of one connection. The hub calls it with the
// session's lock held: no method may block or call the session back before it
// returned.
type Link interface {
	// TryWrite writes the chunks in their order, as far as the connection takes
	// them at once. What it does not take the link keeps, copying chunks that are
	// not shared, and then returns pending: it calls Session.Written when all is
	// written, and the hub never calls it again before that. The slice is the hub's.
	TryWrite(batch []Chunk) (pending bool)
	// Close ends the connection with a code after the frame that is being
	// written; what else was taken is dropped. Only the first call counts.
	Close(code wire.CloseCode, reason string)
	// Abort ends the connection at once, without ceremony.
	Abort()
}

// Outbox gathers writes of many links to make them together. A lane has one, and
// calls it with no lock held.
type Outbox interface {
	// Full reports that Commit is due before another link is asked.
	Full() bool
	// Commit makes the writes.
	Commit()
}

// Stager is a Link that can leave a write to an Outbox.
type Stager interface {
	Link
	// Stage has the meaning of TryWrite, but the write may be made by Commit. A link
	// whose peer has no room learns of it only then: it keeps the rest although it was
	// not pending, and the next write after it is.
	Stage(out Outbox, batch []Chunk) (pending bool)
}

// Message is an encoded message on its way into frames.
type Message struct {
	Kind   wire.Kind
	Binary bool   // the body is the binary encoding, else JSON text
	Shared bool   // the frame goes to every member of a shared channel
	Seq    uint64 // the position that a data message or channel heartbeat brings; else 0
	Last   bool   // the last part of a data message
	Body   []byte
}

// Framing wraps messages for a kind of byte stream. Values are compared:
// channels are shared between connections whose framings are equal.
type Framing interface {
	// Append appends the framed message to dst. A framing that has no message of a
	// kind appends nothing; it has snapshots and deltas.
	Append(dst []byte, m *Message) []byte
	// Compresses reports whether frames of shared channels may be compressed.
	Compresses() bool
}

// Styled is a Framing whose data messages have another head than the stream
// protocol's. It is asked when a channel begins. All its messages are JSON.
type Styled interface {
	Framing
	// Style returns what data messages are wrapped in.
	Style() wire.Style
	// Single returns the framing of the channels that wire.Request.Single asks for.
	Single() Framing
}

// styleOf returns what data messages of a framing are wrapped in.
func styleOf(fr Framing) wire.Style {
	if styled, ok := fr.(Styled); ok {
		return styled.Style()
	}
	return wire.StyleStream
}

// Peer is what a connection brings.
type Peer struct {
	Framing  Framing
	Encoding wire.Encoding
	Recover  bool // Session.Memory is wanted: the session marks where its client is
	Lease    *Lease
	// Kept leaves the lease to who has it: sessions come and go on the connection.
	Kept bool
	// Request is what a peer that cannot ask has asked for with its URL; nil for
	// peers that send messages. Its answer is the first message, instead of hello.
	Request *wire.Request
}
