package fanout

import (
	"log/slog"
	"runtime"
	"time"
)

// Config sets the hub's limits. The zero value of a member means its default.
type Config struct {
	Connections int // open connections; 50,000, more are refused before the upgrade
	PerAddress  int // connections per IPv4 address or IPv6 /64; 256
	PerKey      int // connections per key; 256
	Handshakes  int // connections that may begin in a second, more wait their turn; 1,000
	// CountLoopback applies PerAddress to loopback as well, for a server behind a
	// local proxy.
	CountLoopback bool

	Subscriptions int // per connection; 256
	Tokens        int // over all token lists of a connection; 50,000
	Channels      int // shared channels; 256, above it subscriptions get channels of their own
	Heavy         int // rankings, deadbands and modes every of one connection; 16
	Forms         int // row formats, by rate and deadband, of one connection; 16
	Every         int // channels of mode every of all connections; 32, an eighth of them for the whole market: each is encoded before everything else
	Formats       int // those that are encoded once for all; 64, above it per channel, and above 1,024 refused for now
	Rings         int // bytes of all messages kept for mode every; 128 MiB
	Cache         int // bytes of encoded rows kept for others who want them; 128 MiB

	MessagesPerSecond int // client messages, sustained; 20
	MessageBurst      int // client messages at once; 100
	ErrorsPerMinute   int // the error that reaches it closes 4505; 5

	Lanes       int           // shares of the connections that are served at the same time; GOMAXPROCS
	Heartbeat   time.Duration // silence after which a heartbeat is due; 15 s
	Stall       time.Duration // longest time that at most Batch bytes may take to be written; 30 s, then close 4000
	Batch       int           // bytes handed to a link at once, but for the last frame; 16 KiB, so that a stalled connection holds no more than 64 KiB
	Control     int           // bytes of answers waiting for a slow reader; 256 KiB, more closes 4000
	RetrySpread time.Duration // width of the random retry_ms at shutdown; 5 s

	// Outbox returns what a lane gathers the writes of a round in; nil, or a nil
	// result, for each link to make its own.
	Outbox func() Outbox
	// Gone reports whether a seq is in a lost range: what happened after it is not
	// known. Nil: none is.
	Gone func(seq uint64) bool
	// Logger receives panics of the fan-out; nil discards.
	Logger *slog.Logger
}

func (c *Config) setDefaults() {
	def(&c.Connections, 50_000)
	def(&c.PerAddress, 256)
	def(&c.PerKey, 256)
	def(&c.Handshakes, 1000)
	def(&c.Subscriptions, 256)
	def(&c.Tokens, 50_000)
	def(&c.Channels, 256)
	def(&c.Formats, 64)
	def(&c.Heavy, 16)
	def(&c.Forms, 16)
	def(&c.Every, 32)
	def(&c.Rings, 128<<20)
	def(&c.Cache, 128<<20)
	def(&c.MessagesPerSecond, 20)
	def(&c.MessageBurst, 100)
	def(&c.ErrorsPerMinute, 5)
	def(&c.Lanes, runtime.GOMAXPROCS(0))
	def(&c.Heartbeat, 15*time.Second)
	def(&c.Stall, 30*time.Second)
	def(&c.Batch, 16<<10)
	def(&c.Control, 256<<10)
	def(&c.RetrySpread, 5*time.Second)
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
