package simulator

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Limits of Config.
const (
	MaxTokens = 100_000
	MaxKeys   = 1000
	MinTick   = 20 * market.Millis(1)
	MaxTick   = market.Hour
)

// Config describes a market. The zero value of every member but Now is usable.
type Config struct {
	// Seed chooses the story; equal seeds tell equal ones.
	Seed uint64
	// Tokens is the number of coins listed at any time: 1…100,000, 0 means 500.
	Tokens int
	// Tick is how often the market moves: 20 ms…1 h, 0 means 1 s.
	Tick market.Millis
	// Dirt is the rate of bad data: 0 (none)…1 (a row in seven).
	Dirt float64
	// Digits is the precision of the numbers.
	Digits Digits
	// Feed is the market to serve instead of the synthetic one; nil for that.
	// Seed, Tokens, Tick, Dirt and Digits are then not used.
	Feed Feed
	// Now tells the time. Required.
	Now func() market.Time
	// Keys are the API keys that are accepted, at most 1,000; without any, only
	// the keyless routes under /public-api work.
	Keys []Key
	// OtherKeys is the plan of every key that is not among Keys, each with an
	// account of its own; nil refuses them (1001).
	OtherKeys *Plan
	// AddressLimit is how many keyless requests an address may send a minute;
	// 0 means 30.
	AddressLimit int
	// Faults is the share of valid requests that are answered with an internal
	// error (500): 0…1.
	Faults float64
	// Logger gets panics and connection errors; nil discards them.
	Logger *slog.Logger
}

// withDefaults returns the completed configuration and every problem in it.
func (c Config) withDefaults() (Config, error) {
	if c.Tokens == 0 {
		c.Tokens = 500
	}
	if c.Tick == 0 {
		c.Tick = market.Second
	}
	if c.AddressLimit == 0 {
		c.AddressLimit = 30
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	var errs []error
	bad := func(wrong bool, field string, value any, want string) {
		if wrong {
			errs = append(errs, fmt.Errorf("cannot use %s %v: want %s", field, value, want))
		}
	}
	bad(c.Tokens < 1 || c.Tokens > MaxTokens, "Tokens", c.Tokens, "1 to 100000")
	bad(c.Tick < MinTick || c.Tick > MaxTick, "Tick", c.Tick.Std(), "20ms to 1h")
	bad(!(c.Dirt >= 0 && c.Dirt <= 1), "Dirt", c.Dirt, "0 to 1")
	bad(!(c.Faults >= 0 && c.Faults <= 1), "Faults", c.Faults, "0 to 1")
	bad(c.Digits > DigitsCompact, "Digits", c.Digits, "full or compact")
	bad(c.AddressLimit < 1, "AddressLimit", c.AddressLimit, "1 or more")
	bad(len(c.Keys) > MaxKeys, "Keys", len(c.Keys), "at most 1000")
	bad(c.Now == nil, "Now", "nil", "a clock")
	seen := make(map[string]bool, len(c.Keys))
	for i, k := range c.Keys {
		field := fmt.Sprintf("Keys[%d]", i)
		bad(k.Value == "" || len(k.Value) > 128, field, "value", "1 to 128 bytes")
		bad(seen[k.Value], field, "value", "each key once")
		bad(k.Plan.Name == "", field, "plan", "a plan of Plans or one with a name")
		bad(k.State > KeyDisabled, field, "state", "a known one")
		seen[k.Value] = true
	}
	return c, errors.Join(errs...)
}
