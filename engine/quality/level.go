package quality

import (
	"encoding/binary"
	"math"
)

// Medians is the part of a token's 7-day window that the level rule needs.
type Medians interface {
	// ExceedsMedian reports whether ratio is above factor × the median velocity.
	ExceedsMedian(ratio, factor float64) bool
	// MedianVelocity returns the median and the number of samples behind it.
	MedianVelocity() (median float64, n int)
}

// Level watches volume/cap of one token against the median of its unflagged
// past. The zero value is not flagging.
type Level struct {
	ref float64 // frozen while on
	on  bool
}

// On reports whether the reference is frozen: the last known volume/cap was an
// outlier.
func (l *Level) On() bool { return l.on }

// Check takes the newest volume/cap and reports whether it is an outlier. NaN
// (no volume or no cap) is not one, and leaves a frozen reference frozen. bound
// is a number that the median is known not to be below; 0 is always one.
func (l *Level) Check(ratio, bound float64, w Medians, cfg *Config) bool {
	switch {
	case math.IsNaN(ratio):
		return false
	case l.on:
		l.on = ratio > cfg.LevelFloor && ratio > cfg.LevelFactor*l.ref
		return l.on
	case ratio <= cfg.LevelFloor, ratio <= cfg.LevelFactor*bound, !w.ExceedsMedian(ratio, cfg.LevelFactor):
		return false
	}
	median, n := w.MedianVelocity()
	if n < cfg.MinSamples || !(ratio > cfg.LevelFactor*median) {
		return false
	}
	l.ref, l.on = median, true
	return true
}

// Reference returns what a level outlier is measured against: the frozen
// reference, else the window's median, else NaN while the rule is off.
func (l *Level) Reference(w Medians, cfg *Config) float64 {
	if l.on {
		return l.ref
	}
	if median, n := w.MedianVelocity(); n >= cfg.MinSamples {
		return median
	}
	return math.NaN()
}

// AppendState appends the state.
func (l *Level) AppendState(dst []byte) []byte {
	on := byte(0)
	if l.on {
		on = 1
	}
	return binary.LittleEndian.AppendUint64(append(dst, on), math.Float64bits(l.ref))
}

// DecodeState reads what AppendState wrote.
func (l *Level) DecodeState(c *Cursor) {
	on := c.Byte()
	l.ref = c.Float()
	if on > 1 {
		c.Fail("level rule")
	}
	l.on = on == 1
}
