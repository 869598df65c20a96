package fanout

import (
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// Boards gives the market as of the newest sealed tick; nil before the first.
type Boards interface {
	Board() *market.Board
}

// Link is the byte stream of one connection. The hub calls it with the
// session's lock held: no method may block or call the session back before it
// returned.
type Link interface {
	// TryWrite takes whole frames for writing. The outer slice and the bytes are
	// the link's until everything is written, and must not be modified: they may
	// be shared with other connections. With pending the link calls
	// Session.Written when it is done; else it was done at once. The hub never
	// calls it again before that.
	TryWrite(frames [][]byte) (pending bool)
	// Close ends the connection with a code after the frame that is being
	// written; what else was taken is dropped. Only the first call counts.
	Close(code wire.CloseCode, reason string)
	// Abort ends the connection at once, without ceremony.
	Abort()
}

// Framing wraps a message for a kind of byte stream. Values are compared:
// channels are shared between connections whose framings are equal.
type Framing interface {
	// Append appends the framed message to dst.
	Append(dst, message []byte) []byte
}
