package gate

import (
	"crypto/tls"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config sets a server's limits. The zero value of every member means the
// default that its comment names; limits are in bytes unless they say otherwise.
type Config struct {
	MaxURI    int // request target; 2 KiB, more is 414
	MaxHeader int // header block; 8 KiB, more is 431
	MaxFields int // header fields; 64, more is 431
	MaxBody   int // request body; 64 KiB, more is 413

	// ReadTimeout bounds one whole request: 5 s, then 408. The first of a
	// connection is timed from the accept, the TLS handshake included, later ones
	// from their first byte. A connection on which nothing was sent in that time is
	// closed without an answer.
	ReadTimeout time.Duration
	// WriteTimeout bounds one whole response: 10 s, then the connection ends.
	WriteTimeout time.Duration
	// IdleTimeout bounds the wait for the next request on a connection: 60 s.
	IdleTimeout time.Duration

	// Concurrency bounds connections in HTTP (hijacked ones do not count):
	// 16,384. More are answered 503 and closed.
	Concurrency int
	// MaxConns bounds all open connections, hijacked ones included: 131,072.
	// More are answered 503 and closed.
	MaxConns int

	// TLS encrypts every connection of the server; nil for none.
	TLS *tls.Config
	// Handshakes bounds the encrypted connections that begin in a second: 1,000.
	// More wait in the kernel's queue.
	Handshakes int

	// Metrics receives the counters; nil keeps them private.
	Metrics prometheus.Registerer
	// Name is the listener's label in metrics: "public".
	Name string
	// Logger receives panics (error), accept trouble (warn) and, at debug level,
	// one line a request. nil discards.
	Logger *slog.Logger
}

func (c *Config) setDefaults() {
	def(&c.MaxURI, 2<<10)
	def(&c.MaxHeader, 8<<10)
	def(&c.MaxFields, 64)
	def(&c.MaxBody, 64<<10)
	def(&c.ReadTimeout, 5*time.Second)
	def(&c.WriteTimeout, 10*time.Second)
	def(&c.IdleTimeout, time.Minute)
	def(&c.Concurrency, 16<<10)
	def(&c.MaxConns, 128<<10)
	def(&c.Handshakes, 1000)
	def(&c.Name, "public")
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = prometheus.NewRegistry()
	}
}

func def[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}
