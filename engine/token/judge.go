package token

import (
	"math"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/quality"
	"github.com/velocimeter/velocimeter/engine/window"
)

// confirmations is how many polls in a row must agree to confirm a jump; as
// many samples are held at most, the newest included.
const (
	confirmations = 3
	maxHeld       = confirmations
)

// sample is one quote as the rules and the window see it; NaN stands for null.
type sample struct {
	time     market.Time
	in       [quality.NumInputs]float64
	velocity float64
	jumped   uint8 // inputs whose jump is not confirmed yet, a bit each
	level    bool  // volume/cap was a level outlier: it never enters the window
}

func (s *sample) clean() bool { return s.jumped == 0 && !s.level }

var outlierFlags = [quality.NumInputs]market.Flags{
	quality.Price: market.FlagOutlierPrice, quality.Cap: market.FlagOutlierCap, quality.Volume: market.FlagOutlierVolume,
}

// judge decides whether the sample may enter the window, which it does here. It
// returns the outlier flags and whether the window got anything.
func (t *Token) judge(d *draft) (flags market.Flags, grew bool) {
	s := sample{time: d.time, velocity: d.velocity.ratio, in: d.velocity.in}
	t.prior, t.stepped, t.fate = t.level, 0, fateNone
	bound := 0.0
	if s.velocity > t.cfg.LevelFloor { // else the rule does not look at it
		bound = t.lows.Bound()
	}
	s.level = t.level.Check(s.velocity, bound, &t.win, t.cfg)
	t.step(&s)
	if s.jumped != 0 {
		grew = t.confirm(d, &s)
	}
	if s.clean() {
		t.held = t.held[:0]
		d.accept()
		return 0, t.enter(d, &s) || grew
	}
	for i, f := range outlierFlags {
		if s.jumped>>i&1 != 0 {
			flags |= f
		}
	}
	if s.level {
		flags |= market.FlagOutlierVolume
	}
	t.counts.Excluded++
	t.hold(&s)
	t.review(d, &s)
	return flags, grew
}

// step runs the step rule per input. An input that does not jump becomes the
// reference of its next step even if another input keeps the sample out; the
// volume of a level outlier never does.
func (t *Token) step(s *sample) {
	for i, x := range s.in {
		switch {
		case math.IsNaN(x), i == quality.Volume && s.level:
		case t.steps[i].Jump(x, i, t.cfg):
			s.jumped |= 1 << i
		default:
			t.steps.Accept(i, x)
			t.stepped |= 1 << i
		}
	}
}

// confirm ends the jump of every input in which the sample and the two held
// before it agree, lets in what was held for nothing else, and reports whether
// the window got anything.
func (t *Token) confirm(d *draft, s *sample) (grew bool) {
	n := len(t.held)
	if n < confirmations-1 {
		return false
	}
	run := t.held[n-(confirmations-1):]
	for i := range s.in {
		if s.jumped>>i&1 == 0 || !t.agree(run, s, i) {
			continue
		}
		for j := range run {
			t.steps.Accept(i, run[j].in[i])
			run[j].jumped &^= 1 << i
		}
		t.steps.Accept(i, s.in[i])
		s.jumped &^= 1 << i
		t.stepped |= 1 << i
	}
	return t.release(d, run)
}

// agree reports whether input i jumped in all of the run and in s, to values
// within the threshold of one another.
func (t *Token) agree(run []sample, s *sample, i int) bool {
	lo, hi := s.in[i], s.in[i]
	for j := range run {
		if run[j].jumped>>i&1 == 0 {
			return false
		}
		lo, hi = min(lo, run[j].in[i]), max(hi, run[j].in[i])
	}
	return quality.AbsLog(hi, lo) <= t.steps[i].Limit(i, t.cfg)
}

// release moves the held samples that have become clean into the window, oldest
// first. What is older than the newest of them is no longer part of a run.
func (t *Token) release(d *draft, run []sample) (grew bool) {
	keep := 0
	for j := range run {
		if run[j].clean() {
			grew = t.add(d, &run[j]) || grew
			keep = j + 1
		}
	}
	if keep > 0 {
		t.held = append(t.held[:0], run[keep:]...)
	}
	return grew
}

// hold keeps an unclean sample for confirmation. One that only the level rule
// refuses has nothing to confirm and breaks every run.
func (t *Token) hold(s *sample) {
	if s.jumped == 0 {
		t.held = t.held[:0]
		return
	}
	if len(t.held) == maxHeld {
		copy(t.held, t.held[1:])
		t.held = t.held[:maxHeld-1]
	}
	if t.held == nil {
		t.held = make([]sample, 0, maxHeld)
	}
	t.held = append(t.held, *s)
	t.fate = fateHeld
}

// enter puts the newest sample into the window.
func (t *Token) enter(d *draft, s *sample) bool {
	if !t.add(d, s) {
		return false
	}
	t.fate = fateAccepted
	return true
}

// add puts a sample into the window unless there is nothing in it to keep.
func (t *Token) add(d *draft, s *sample) bool {
	if math.IsNaN(s.in[quality.Price]) && math.IsNaN(s.velocity) {
		return false
	}
	t.lows.Add(s.time, s.velocity)
	t.win.Follow(window.Sample{
		Time: s.time, Price: s.in[quality.Price], Volume: s.in[quality.Volume], Velocity: s.velocity,
	}, &d.trends)
	return true
}

// takeBack undoes what the newest quote did to the rules, before its correction
// is judged. A sample of it that the window took stays there until one of the
// same time replaces it: if the correction is flagged, what passed stays.
func (t *Token) takeBack() {
	t.level = t.prior
	for i := range t.steps {
		if t.stepped>>i&1 != 0 {
			t.steps[i].Retract()
		}
	}
	if t.fate == fateHeld {
		t.held = t.held[:len(t.held)-1]
	}
	t.stepped = 0
}

// accept notes the inputs of an accepted sample.
func (d *draft) accept() {
	d.snap.AcceptedPrice = d.snap.Value(market.FieldPrice)
	d.snap.AcceptedCap = d.snap.Value(market.FieldMarketCap)
	d.snap.AcceptedVolume = d.snap.Value(market.FieldVolume24h)
}
