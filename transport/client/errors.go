package client

import (
	"errors"
	"fmt"
	"time"

	"github.com/velocimeter/velocimeter/transport/wire"
)

// Errors of the client. What a connection ended with wraps one of them, or is a
// *CloseError, *HandshakeError, *ProtocolError, *GapError or an error of net.
var (
	ErrClosed  = errors.New("the client is closed")
	ErrSilent  = errors.New("the connection is silent")
	ErrBacklog = errors.New("too much is waiting for Next")
	ErrLimit   = errors.New("a limit of the decoder is exceeded")
)

// ProtocolError is a message that breaks the protocol; the position of the
// channel and its rows are then worth nothing.
type ProtocolError struct {
	Channel uint64 // 0 where the message has none, or it was not read so far
	What    string
}

// Error says what is wrong.
func (e *ProtocolError) Error() string {
	if e.Channel == 0 {
		return "cannot read message: " + e.What
	}
	return fmt.Sprintf("cannot read message of channel %d: %s", e.Channel, e.What)
}

// GapError is a delta that begins above the position, or is of differences to
// values that the channel does not hold exactly: something was missed. Rows and position are as they were, so the subscription may be resumed.
type GapError struct {
	Channel        uint64
	Position, Prev uint64
}

// Error tells the two positions.
func (e *GapError) Error() string {
	return fmt.Sprintf("gap on channel %d: delta after %d at position %d", e.Channel, e.Prev, e.Position)
}

// ServerError is an error message of the server.
type ServerError struct {
	ID    string // of the request it answers, "" where that was not read
	Code  wire.ErrorCode
	Text  string
	Retry time.Duration // above 0: when the same request may succeed
}

// Error returns the code and the text.
func (e *ServerError) Error() string { return string(e.Code) + ": " + e.Text }

// CloseError is how the server closed the connection.
type CloseError struct {
	Code   wire.CloseCode // 1005 where the frame had none
	Reason string
}

// Error returns the code and the reason.
func (e *CloseError) Error() string {
	return fmt.Sprintf("closed by the server: %d %s", e.Code, e.Reason)
}

// Reconnect reports whether coming back with the same behaviour makes sense.
func (e *CloseError) Reconnect() bool {
	for _, c := range wire.CloseCodes() {
		if c.Code == e.Code {
			return c.Reconnect
		}
	}
	return e.Code < 4500 || e.Code > 4999
}

// HandshakeError is an answer to the handshake that is not an upgrade.
type HandshakeError struct {
	Status int           // of HTTP
	Retry  time.Duration // Retry-After; 0 where there was none
	Text   string        // the beginning of the body, or what is wrong with the answer
}

// Error returns the status and the text.
func (e *HandshakeError) Error() string {
	return fmt.Sprintf("cannot upgrade: status %d: %s", e.Status, e.Text)
}

// Temporary reports whether trying again may help: too many connections, or a
// server that is not ready.
func (e *HandshakeError) Temporary() bool { return e.Status == 429 || e.Status >= 500 }
