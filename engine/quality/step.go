package quality

import (
	"encoding/binary"
	"math"
	"slices"
	"unsafe"

	"github.com/velocimeter/velocimeter/engine/cacheline"
)

// Step watches the relative steps of one input of one token. It remembers the
// last accepted value and the last 31 accepted steps as x/ref − 1 in float32,
// which costs 6e-8 of a step; logarithms are taken only when a threshold is
// needed. The zero value has seen nothing.
type Step struct {
	ring       *ring   // nil before the first step
	ref, prior float64 // prior is the accepted value before, for Retract
	lost       float32 // what the last push overwrote
	n, head    uint8   // steps in the ring; the oldest of a full one
	count      uint8   // accepted samples, saturating
	pushed     push
	lane       uint8 // our column of the ring
}

// ring holds steps of all inputs side by side: a quote pushes to each of them,
// and so touches one place in memory instead of three.
type ring [StepRing][NumInputs]float32

// Steps are the step rules of the inputs of one token, which share a ring.
type Steps [NumInputs]Step

// Accept is Step.Accept for input i.
func (s *Steps) Accept(i int, x float64) {
	if s[i].ring == nil && s[i].count > 0 {
		s.share()
	}
	s[i].Accept(x)
}

// share gives all inputs one ring with the steps that each has.
func (s *Steps) share() {
	shared := new(ring)
	for i := range s {
		for j := range s[i].n {
			shared[j][i] = *s[i].at(j)
		}
		s[i].ring, s[i].lane = shared, uint8(i)
	}
}

// at returns the place of a step.
func (s *Step) at(j uint8) *float32 { return &s.ring[j][s.lane] }

// Prefetch asks for the places that SaveRing and Accept will touch.
func (s *Steps) Prefetch() {
	if s[0].ring != nil {
		cacheline.PrefetchFirst(s[0].at(s[0].newest()), int(markedSteps*unsafe.Sizeof(s[0].ring[0])))
	}
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
		abs[i] = math.Abs(math.Log1p(float64(*s.at(uint8(i)))))
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
		s.ring = new(ring)
	}
	if s.n < StepRing {
		s.pushed = pushAppend
		*s.at(s.n) = v
		s.n++
		return
	}
	place := s.at(s.head)
	s.pushed, s.lost = pushOver, *place
	*place = v
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
		*s.at(s.head) = s.lost
	default:
	}
	s.ref, s.pushed = s.prior, pushNone
	if s.count < math.MaxUint8 {
		s.count--
	}
}

// markedSteps is how many places of a ring may change between SaveRing and
// RestoreRing: the newest, which a Retract may change, and three to push to.
const markedSteps = 4

// StepMark holds the places of a ring that a quote may overwrite.
type StepMark [markedSteps]float32

// newest returns the index of the newest step, 0 where there is none.
func (s *Step) newest() uint8 { return (s.head + max(s.n, 1) - 1) % StepRing }

// SaveRing notes what at most one Retract followed by at most three Accepts may
// overwrite in the ring; the rest of a Step is a value.
func (s *Step) SaveRing(m *StepMark) {
	if s.ring == nil {
		return
	}
	j := s.newest()
	for i := range m {
		m[i] = *s.at(j)
		if j++; j == StepRing {
			j = 0
		}
	}
}

// RestoreRing puts back what SaveRing noted of this very state.
func (s *Step) RestoreRing(m *StepMark) {
	if s.ring == nil {
		return
	}
	j := s.newest()
	for i := range m {
		*s.at(j) = m[i]
		if j++; j == StepRing {
			j = 0
		}
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
		dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(*s.at(i)))
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
	s.ring, s.lane = new(ring), 0
	for i := range s.n {
		*s.at(i) = c.Float32()
	}
}

// DecodeState reads what AppendState wrote for each input in turn.
func (s *Steps) DecodeState(c *Cursor) {
	for i := range s {
		s[i].DecodeState(c)
	}
	for i := range s {
		if s[i].ring != nil {
			s.share()
			return
		}
	}
}

// CanRetract reports whether the state allows a Retract.
func (s *Step) CanRetract() bool { return s.count > 0 }
