package ws

import (
	"log/slog"
	"time"
)

// Config sets times and sizes of connections. The zero value of a member means
// its default.
type Config struct {
	PingEvery    time.Duration // 25 s; the first comes after a random part of it
	PongWait     time.Duration // 20 s after the ping was written, then 4002
	CloseWait    time.Duration // 5 s for the peer's close, and for the frame being written before ours
	WriteTimeout time.Duration // 35 s for one write, then the connection is cut; above fanout's Stall
	Unsent       int           // bytes that the kernel may hold unsent (TCP_NOTSENT_LOWAT); 16 KiB
	Silence      time.Duration // 40 s until the kernel gives up a peer that acknowledges nothing (TCP_USER_TIMEOUT); above Stall + CloseWait

	// Goroutines serves connections by goroutines instead of event loops.
	Goroutines bool

	// Origins are allowed beside the server's own, such as https://example.com.
	Origins []string
	// Logger receives panics; nil discards.
	Logger *slog.Logger
}

func (c *Config) setDefaults() {
	def(&c.PingEvery, 25*time.Second)
	def(&c.PongWait, 20*time.Second)
	def(&c.CloseWait, 5*time.Second)
	def(&c.WriteTimeout, 35*time.Second)
	def(&c.Unsent, 16<<10)
	def(&c.Silence, 40*time.Second)
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
