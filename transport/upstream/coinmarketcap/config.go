package coinmarketcap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
)

// DefaultURL is where the real API lives.
const DefaultURL = "https://pro-api.coinmarketcap.com"

// MaxPage is the most rows that listings/latest returns at once.
const MaxPage = 5000

// Version is the generation of the listings endpoint.
type Version uint8

// The versions. V1 is the default: its shape is known from recorded answers,
// and its aux parameter keeps tags and platforms out, half of an answer's bytes.
const (
	V1 Version = iota
	V3
)

// String returns the path element, "v1" or "v3".
func (v Version) String() string {
	if v == V3 {
		return "v3"
	}
	return "v1"
}

// Timeouts are the deadlines of one call, each its own; 0 takes the default.
type Timeouts struct {
	Dial      time.Duration // name lookup and connection; 3 s
	TLS       time.Duration // handshake; 5 s
	FirstByte time.Duration // from the request to the answer's header; 8 s
	Whole     time.Duration // one call from dial to last byte; 15 s
}

// Limits bound one answer in bytes; 0 takes the default.
type Limits struct {
	Wire int64 // as it comes over the network; 16 MiB
	Body int64 // decompressed; 32 MiB
}

// Config describes a client. The zero value polls the real API without a key.
type Config struct {
	BaseURL string // DefaultURL if empty; may have a path prefix such as /public-api
	Keys    []Key  // used in order, see the package comment; none for keyless routes
	Limit   int    // tokens to track, by rank; default 500, at most MaxRows
	Page    int    // rows per call; default and at most MaxPage
	Version Version

	Source    market.Source // of the batches; default SourceCoinMarketCap
	Simulated bool          // quotes carry the flag simulated
	Cadence   market.Millis // of the batches: max(update interval, polling interval); default 60 s

	Timeouts Timeouts
	Limits   Limits

	// Dial replaces the network, such as by an in-memory listener; nil dials
	// TCP behind the address guard.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Uncompressed asks for plain answers: within one process gzip only costs time.
	Uncompressed bool
	// Proxy is an HTTP proxy; nil for none. The environment is never asked.
	Proxy *url.URL
	// TLS replaces the TLS configuration; nil for the system's roots, TLS ≥ 1.2.
	TLS *tls.Config

	// Tap sees the text of every answer that gave quotes, page by page, without
	// keys; it must not keep it. Nil for none.
	Tap func(answer []byte)

	Logger *slog.Logger       // nil discards
	Now    func() market.Time // the engine's clock; nil takes the wall clock
}

// fill returns c with defaults, or every problem in one error.
func (c Config) fill() (Config, *url.URL, error) {
	orDefault(&c.BaseURL, DefaultURL)
	orDefault(&c.Limit, 500)
	orDefault(&c.Page, MaxPage)
	orDefault(&c.Source, market.SourceCoinMarketCap)
	orDefault(&c.Cadence, market.Minute)
	orDefault(&c.Timeouts.Dial, 3*time.Second)
	orDefault(&c.Timeouts.TLS, 5*time.Second)
	orDefault(&c.Timeouts.FirstByte, 8*time.Second)
	orDefault(&c.Timeouts.Whole, 15*time.Second)
	orDefault(&c.Limits.Wire, 16<<20)
	orDefault(&c.Limits.Body, 32<<20)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = func() market.Time { return market.TimeOf(time.Now()) }
	}
	var problems []error
	if c.Limit < 1 || c.Limit > MaxRows {
		problems = append(problems, fmt.Errorf("limit %d is outside 1…%d", c.Limit, MaxRows))
	}
	if c.Page < 1 || c.Page > MaxPage {
		problems = append(problems, fmt.Errorf("page %d is outside 1…%d", c.Page, MaxPage))
	}
	base, err := url.Parse(strings.TrimSuffix(c.BaseURL, "/"))
	if err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http" ||
		base.User != nil || base.RawQuery != "" || base.Fragment != "" {
		problems = append(problems, errors.New("base URL is not http(s)://host[:port][/prefix]"))
	}
	for i, k := range c.Keys {
		if k.IsZero() {
			problems = append(problems, fmt.Errorf("key %d is empty", i+1))
		}
	}
	if len(problems) > 0 {
		return c, nil, fmt.Errorf("cannot use CoinMarketCap configuration: %w", errors.Join(problems...))
	}
	return c, base, nil
}

func orDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}
