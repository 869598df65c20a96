package fanout

import (
	"log/slog"
	"time"
)

// Config sets the hub's limits. The zero value of a member means its default.
type Config struct {
	Connections int // open connections; 50,000, more are refused before the upgrade
	PerAddress  int // connections per IPv4 address or IPv6 /64, loopback exempt; 256

	Subscriptions int // per connection; 256
	Tokens        int // over all token lists of a connection; 50,000
	Channels      int // shared channels; 256, above it subscriptions get channels of their own
	Formats       int // formats whose fragments are cached; 64, above it rows are encoded per connection
	Cache         int // bytes of encoded rows kept for others who want them; 128 MiB

	MessagesPerSecond int // client messages, sustained; 20
	MessageBurst      int // client messages at once; 100
	ErrorsPerMinute   int // the error that reaches it closes 4505; 5

	Heartbeat   time.Duration // silence after which a heartbeat is due; 15 s
	Stall       time.Duration // longest time that at most Batch bytes may take to be written; 30 s, then close 4000
	Batch       int           // bytes handed to a link at once; 64 KiB
	Control     int           // bytes of answers waiting for a slow reader; 256 KiB, more closes 4000
	RetrySpread time.Duration // width of the random retry_ms at shutdown; 5 s

	// Logger receives panics of the fan-out; nil discards.
	Logger *slog.Logger
}

func (c *Config) setDefaults() {
	def(&c.Connections, 50_000)
	def(&c.PerAddress, 256)
	def(&c.Subscriptions, 256)
	def(&c.Tokens, 50_000)
	def(&c.Channels, 256)
	def(&c.Formats, 64)
	def(&c.Cache, 128<<20)
	def(&c.MessagesPerSecond, 20)
	def(&c.MessageBurst, 100)
	def(&c.ErrorsPerMinute, 5)
	def(&c.Heartbeat, 15*time.Second)
	def(&c.Stall, 30*time.Second)
	def(&c.Batch, 64<<10)
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
