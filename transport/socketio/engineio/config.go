package engineio

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/velocimeter/velocimeter/transport/wire"
)

// Config sets times and sizes. The zero value of a member means its default.
type Config struct {
	Path           string        // /socket.io/
	PingInterval   time.Duration // 25 s from a pong to the next ping, and the most that a poll is held
	PingTimeout    time.Duration // 20 s from a ping to its pong
	UpgradeTimeout time.Duration // 10 s for an upgrade from its handshake on
	LastWords      time.Duration // 5 s in which a poll may still learn that its session was closed
	MaxPayload     int           // 64 KiB of a POST and of a message of a websocket
	Polls          int           // 1,000 polls that are held at once; more are answered 503

	// Origins are allowed beside the server's own, such as https://example.com.
	Origins []string
	// Admit is asked before a session begins; nil admits everybody, and nothing bounds
	// the sessions then. Its errors are those of fanout.Hub.Admit.
	Admit func(addr netip.Addr) (Admission, error)
	// Logger receives panics; nil discards.
	Logger *slog.Logger
}

// Admission is the room that a session takes, such as *fanout.Lease. It is released
// when the session is gone, if nobody has done so before.
type Admission interface{ Release() }

type freely struct{}

func (freely) Release() {}

func (c *Config) setDefaults() {
	def(&c.Path, "/socket.io/")
	def(&c.PingInterval, 25*time.Second)
	def(&c.PingTimeout, 20*time.Second)
	def(&c.UpgradeTimeout, 10*time.Second)
	def(&c.LastWords, 5*time.Second)
	def(&c.MaxPayload, 64<<10)
	def(&c.Polls, 1000)
	if c.Admit == nil {
		c.Admit = func(netip.Addr) (Admission, error) { return freely{}, nil }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

func def[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}

// Handler is the layer above's part of a session. Calls come one at a time, and none
// after Gone. A panic ends the session and nothing else.
type Handler interface {
	// Text takes the text of a message, without its type. It is valid during the call.
	Text(p []byte)
	// Binary takes a message of bytes, likewise.
	Binary(p []byte)
	// Written says that the transport took what TryWrite left pending.
	Written()
	// Gone says that the session is over and uses none of the bytes that it took. code
	// is what it was closed with, CloseNormal where the client did, and 0 where the
	// connection just ended.
	Gone(code wire.CloseCode)
}

// Opening is what a session began with.
type Opening struct {
	Transport string // "polling" or "websocket"
	Addr      netip.Addr
	Origin    string // "" for none
	APIKey    string // the header X-API-Key; "" for none
	Admission Admission
}
