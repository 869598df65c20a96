package market

import "time"

// Time is an instant in milliseconds since 1970-01-01 UTC; 0 means unknown.
type Time int64

// Millis is a duration in milliseconds.
type Millis int64

// Durations.
const (
	Second Millis = 1000
	Minute        = 60 * Second
	Hour          = 60 * Minute
	Day           = 24 * Hour
)

// TimeOf converts a time.Time, dropping what is finer than a millisecond.
func TimeOf(t time.Time) Time { return Time(t.UnixMilli()) }

// Std converts to time.Time in UTC.
func (t Time) Std() time.Time { return time.UnixMilli(int64(t)).UTC() }

// Add returns t + d.
func (t Time) Add(d Millis) Time { return t + Time(d) }

// Sub returns t − u.
func (t Time) Sub(u Time) Millis { return Millis(t - u) }

// Std converts to time.Duration.
func (d Millis) Std() time.Duration { return time.Duration(d) * time.Millisecond }

// Info is what names a token. Values are immutable and shared between
// snapshots; a provider client reuses the pointer while nothing changed.
type Info struct {
	Symbol string
	Name   string
	Slug   string
}

// Quote is one token in one answer of a provider. Immutable once sent.
//
// A numeric member is Null where the provider said null. Has tells the members
// that were in the answer at all: a missing one leaves the token's last value
// standing, a null one ends it. Both differ from zero. Bits used in Has: price,
// market_cap, volume_24h, percent_change_*, circulating_supply, total_supply,
// max_supply, fully_diluted_market_cap, dominance_pct, rank.
type Quote struct {
	ID         ID
	Info       *Info
	Has        Mask
	Flags      Flags // only those that the border sets: unmapped_id, rounded, simulated
	SourceTime Time  // the provider's last_updated of this token; never 0

	Price              Decimal // USD
	MarketCap          Decimal // USD
	Volume24h          Decimal // USD
	PercentChange1h    Decimal // %
	PercentChange24h   Decimal // %
	PercentChange7d    Decimal // %
	CirculatingSupply  Decimal // tokens
	TotalSupply        Decimal // tokens
	MaxSupply          Decimal // tokens
	FullyDiluted       Decimal // USD
	Dominance          Decimal // %; the provider's own
	SelfReportedCap    Decimal // USD; Null where missing
	SelfReportedSupply Decimal // tokens; Null where missing
	Rank               uint32  // 0 where null or missing
}

// Batch is one whole answer of a provider. It is immutable once sent: the
// engine, the journal and the publishers read it without copying.
type Batch struct {
	Source     Source
	Simulated  bool
	ReceivedAt Time   // when the answer was complete, on the engine's clock
	Cadence    Millis // max(provider's update interval, our polling interval); in a replay the recording's median gap
	Position   uint64 // replay: number of this poll, from 1; 0 when live
	Quotes     []Quote
}
