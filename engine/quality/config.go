package quality

import (
	"math"

	"github.com/velocimeter/velocimeter/engine/market"
)

// The inputs that the step rule watches, in this order everywhere.
const (
	Price = iota
	Cap
	Volume
	// NumInputs counts them.
	NumInputs
)

// StepRing is how many accepted steps the step rule remembers.
const StepRing = 31

// madToSigma makes a median of absolute values an estimate of the standard
// deviation of normally distributed ones.
const madToSigma = 1.4826

// Config holds the thresholds of every rule. A member that is 0 stands for its
// default, which is the value engine/FIELDS.md gives.
type Config struct {
	// MinSamples is the number of accepted samples before the outlier rules
	// speak; 8.
	MinSamples int
	// StepFactor scales the median |ln| step into a jump; 6 × 1.4826.
	StepFactor float64
	// StepFloor is the least |ln| that is a jump, for price, cap and volume;
	// ln 1.10, ln 1.10, ln 1.5.
	StepFloor [NumInputs]float64
	// LevelFactor and LevelFloor bound volume/cap: above LevelFactor times the
	// reference and above LevelFloor is an outlier; 10 and 0.5.
	LevelFactor, LevelFloor float64

	// TrendBegin and TrendEnd are the change in percent at which a direction
	// begins and below which it ends; 2 and 1.
	TrendBegin, TrendEnd float64

	// FutureLimit is how far a source time may be ahead of the engine's; 2 min.
	FutureLimit market.Millis
	// FreshFactor and AgingFactor are the ages, in cadences, up to which a value
	// is fresh and aging; 3 and 10.
	FreshFactor, AgingFactor int64
	// FrozenPolls and FrozenFor are how many moving polls, and for how long, a
	// token must stand still to be frozen; 10 and 30 min.
	FrozenPolls uint64
	FrozenFor   market.Millis

	// LowCap and LowVolume are the USD below which a token is low_liquidity;
	// 100,000 and 1,000.
	LowCap, LowVolume int64
	// SupplyMove is the share by which circulating supply must move within 24 h
	// for supply_change; 0.01.
	SupplyMove float64
	// SupplyTolerance is the share by which circulating supply may exceed total
	// or max before it is inconsistent; 1e-6.
	SupplyTolerance float64
	// CapTolerance is the share by which the cap may differ from price × supply; 0.01.
	CapTolerance float64

	// MinRows is the least number of rows for a rule about shares of a poll to
	// speak, and the least number of tracked tokens for a list; 10.
	MinRows int
	// PoisonShare is the share of zeroed, missing or equal rows above which a
	// poll is poisoned; 0.2.
	PoisonShare float64
	// MissingPolls is how many consecutive polls must lack the same tokens to be
	// believed; 3.
	MissingPolls int
	// MovingShare is the share of tokens that must move for a poll to count as
	// moving; 0.5.
	MovingShare float64
	// StillPolls and StillFor are how many polls, and for how long, a provider
	// may repeat itself before its word no longer keeps values fresh; 3 and 10 min.
	StillPolls int
	StillFor   market.Millis
}

// DefaultConfig returns the thresholds of engine/FIELDS.md.
func DefaultConfig() Config { return Config{}.withDefaults() }

func (c Config) withDefaults() Config {
	def(&c.MinSamples, 8)
	def(&c.StepFactor, 6*madToSigma)
	def(&c.StepFloor[Price], math.Log(1.10))
	def(&c.StepFloor[Cap], math.Log(1.10))
	def(&c.StepFloor[Volume], math.Log(1.5))
	def(&c.LevelFactor, 10)
	def(&c.LevelFloor, 0.5)
	def(&c.TrendBegin, 2)
	def(&c.TrendEnd, 1)
	def(&c.FutureLimit, 2*market.Minute)
	def(&c.FreshFactor, 3)
	def(&c.AgingFactor, 10)
	def(&c.FrozenPolls, 10)
	def(&c.FrozenFor, 30*market.Minute)
	def(&c.LowCap, 100_000)
	def(&c.LowVolume, 1_000)
	def(&c.SupplyMove, 0.01)
	def(&c.SupplyTolerance, 1e-6)
	def(&c.CapTolerance, 0.01)
	def(&c.MinRows, 10)
	def(&c.PoisonShare, 0.2)
	def(&c.MissingPolls, 3)
	def(&c.MovingShare, 0.5)
	def(&c.StillPolls, 3)
	def(&c.StillFor, 10*market.Minute)
	return c
}

func def[T comparable](member *T, value T) {
	var zero T
	if *member == zero {
		*member = value
	}
}

// Complete returns c with every member that is 0 set to its default: c itself
// if there is none. Tokens share a Config by pointer and never change it.
func (c *Config) Complete() *Config {
	full := c.withDefaults()
	if full == *c {
		return c
	}
	return &full
}
