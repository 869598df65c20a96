package quality

import (
	"encoding/binary"
	"math"
	"slices"
)

// Step watches the relative steps of one input of one token. It remembers the
// last accepted value and the last 31 accepted steps as x/ref − 1 in float32,
// which costs 6e-8 of a step; logarithms are taken only when a threshold is
// needed. The zero value has seen nothing.
type Step struct {
	ref, prior float64            // prior is the accepted value before, for Retract
	ring       *[StepRing]float32 // nil before the first step
	lost       float32            // what the last push overwrote
	n, head    uint8              // steps in the ring; the oldest of a full one
	count      uint8              // accepted samples, saturating
	pushed     push
}

// push says what the last Accept did to the ring.
type push uint8

const (
	pushNone push = iota
	pushAppend
	pushOver
	numPushes
)

// Ref returns the last accepted value; NaN before the first.
func (s *Step) Ref() float64 {
	if s.count == 0 {
		return math.NaN()
	}
	return s.ref
}

// On reports whether the rule has seen enough samples to speak.
func (s *Step) On(cfg *Config) bool { return int(s.count) >= cfg.MinSamples }

// Near says without a logarithm that x is surely within the floor of the last
// accepted value. A false answer means that Jump must decide.
func (s *Step) Near(x, floor float64) bool {
	// ln(1+d) ≤ d above 1, and |ln(1−d)| ≤ d/(1−d) below.
	d := x - s.ref
	if d < 0 {
		return -d <= floor*x
	}
	return d <= floor*s.ref
}

// Jump reports whether x is further from the last accepted value than the
// threshold for input i.
func (s *Step) Jump(x float64, i int, cfg *Config) bool {
	if !s.On(cfg) || s.Near(x, cfg.StepFloor[i]) {
		return false
	}
	r := AbsLog(x, s.ref)
	return r > cfg.StepFloor[i] && r > s.Limit(i, cfg)
}

// Limit returns the |ln| above which a step of input i is a jump; NaN while
// the rule is off.
func (s *Step) Limit(i int, cfg *Config) float64 {
	if !s.On(cfg) {
		return math.NaN()
	}
	return math.Max(cfg.StepFactor*s.median(), cfg.StepFloor[i])
}

// median returns the median |ln| of the remembered steps.
func (s *Step) median() float64 {
	var buf [StepRing]float64
	abs := buf[:s.n]
	if len(abs) == 0 {
		return 0
	}
	for i := range abs {
		abs[i] = math.Abs(math.Log1p(float64(s.ring[i])))
	}
	slices.Sort(abs)
	mid := len(abs) / 2
	if len(abs)%2 == 1 {
		return abs[mid]
	}
	return (abs[mid-1] + abs[mid]) / 2
}

// Accept makes x the last accepted value and remembers the step to it.
func (s *Step) Accept(x float64) {
	s.pushed = pushNone
	if s.count > 0 {
		s.push(relative(x, s.ref))
	}
	s.prior, s.ref = s.ref, x
	if s.count < math.MaxUint8 {
		s.count++
	}
}

func (s *Step) push(v float32) {
	if s.ring == nil {
		s.ring = new([StepRing]float32)
	}
	if s.n < StepRing {
		s.pushed = pushAppend
		s.ring[s.n] = v
		s.n++
		return
	}
	s.pushed, s.lost = pushOver, s.ring[s.head]
	s.ring[s.head] = v
	s.head = (s.head + 1) % StepRing
}

// Retract undoes the last Accept, for a sample that the provider corrected; it
// must not be called twice without an Accept in between.
func (s *Step) Retract() {
	switch s.pushed {
	case pushAppend:
		s.n--
	case pushOver:
		s.head = (s.head + StepRing - 1) % StepRing
		s.ring[s.head] = s.lost
	default:
	}
	s.ref, s.pushed = s.prior, pushNone
	if s.count < math.MaxUint8 {
		s.count--
	}
}

// CopyRing copies the remembered steps to buf; the rest of a Step is a value.
func (s *Step) CopyRing(buf *[StepRing]float32) {
	if s.ring != nil {
		*buf = *s.ring
	}
}

// PutRing puts back what CopyRing copied from this very state.
func (s *Step) PutRing(buf *[StepRing]float32) {
	if s.ring != nil {
		*s.ring = *buf
	}
}

// relative returns x/ref − 1 with 0/0 as no step.
func relative(x, ref float64) float32 {
	if x == ref {
		return 0
	}
	return float32(x/ref - 1)
}

// AbsLog returns |ln(a/b)| of two numbers ≥ 0: equal ones, zeros included, are
// 0 apart, and zero is infinitely far from everything else.
func AbsLog(a, b float64) float64 {
	if a == b {
		return 0
	}
	return math.Abs(math.Log(a / b))
}

// AppendState appends the state.
func (s *Step) AppendState(dst []byte) []byte {
	dst = append(dst, s.count, s.head, s.n, uint8(s.pushed))
	dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(s.ref))
	dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(s.prior))
	dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(s.lost))
	for i := range s.n {
		dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(s.ring[i]))
	}
	return dst
}

// DecodeState reads what AppendState wrote.
func (s *Step) DecodeState(c *Cursor) {
	s.count, s.head, s.n = c.Byte(), c.Byte(), c.Byte()
	s.pushed = push(c.Byte())
	s.ref, s.prior, s.lost = c.Float(), c.Float(), c.Float32()
	if s.n > StepRing || s.head >= StepRing || s.n < StepRing && s.head != 0 || s.pushed >= numPushes ||
		s.pushed == pushAppend && s.n == 0 || s.pushed == pushOver && s.n < StepRing || s.pushed != pushNone && s.count == 0 {
		c.Fail("step ring")
		return
	}
	if s.n == 0 || c.Err() != nil {
		return
	}
	s.ring = new([StepRing]float32)
	for i := range s.n {
		s.ring[i] = c.Float32()
	}
}

// CanRetract reports whether the state allows a Retract.
func (s *Step) CanRetract() bool { return s.count > 0 }
