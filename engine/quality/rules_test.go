package quality

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
)

var standard = new(Config).Complete()

// TestStepModel walks random values through a Step and through the rule as
// engine/FIELDS.md has it, in float64 and with a sorted copy of the last 31 steps.
func TestStepModel(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var s Step
		var accepted []float64
		jumps := 0
		for n := range 400 {
			last := 100.0
			if len(accepted) > 0 {
				last = accepted[len(accepted)-1]
			}
			x := last * math.Exp(rng.NormFloat64()*0.02)
			if rng.IntN(8) == 0 {
				x = last * math.Exp(rng.NormFloat64()*0.5)
			}
			limit := modelLimit(accepted)
			if got := s.Limit(Price, standard); math.Abs(got-limit) > 1e-6 || math.IsNaN(got) != math.IsNaN(limit) {
				t.Fatalf("seed %d, sample %d: limit is %g, want %g", seed, n, got, limit)
			}
			want := math.Abs(math.Log(x/last)) > limit
			if got := s.Jump(x, Price, standard); got != want {
				t.Fatalf("seed %d, sample %d: %g after %g jumps: %v, want %v", seed, n, x, last, got, want)
			}
			if want {
				jumps++
			}
			if !want || rng.IntN(3) == 0 {
				s.Accept(x)
				if rng.IntN(5) == 0 { // corrected
					s.Retract()
					s.Accept(x)
				}
				accepted = append(accepted, x)
			}
			if rng.IntN(10) == 0 && len(accepted) > 0 { // accepted and taken back
				s.Accept(x * 2)
				s.Retract()
			}
		}
		if jumps == 0 || jumps > 100 {
			t.Errorf("seed %d: %d jumps of 400 prove little", seed, jumps)
		}
	}
}

// modelLimit is the threshold after these accepted values.
func modelLimit(accepted []float64) float64 {
	if len(accepted) < 8 {
		return math.NaN()
	}
	var steps []float64
	for i := max(1, len(accepted)-31); i < len(accepted); i++ {
		steps = append(steps, math.Abs(math.Log(accepted[i]/accepted[i-1])))
	}
	slices.Sort(steps)
	mid := len(steps) / 2
	median := steps[mid]
	if len(steps)%2 == 0 {
		median = (steps[mid-1] + steps[mid]) / 2
	}
	return math.Max(6*1.4826*median, math.Log(1.10))
}

func TestStepZero(t *testing.T) {
	f := func(ref, x float64, want bool) {
		t.Helper()
		var s Step
		for range 8 {
			s.Accept(ref)
		}
		if got := s.Jump(x, Volume, standard); got != want {
			t.Errorf("from %g to %g jumps: %v, want %v", ref, x, got, want)
		}
	}
	f(0, 0, false)
	f(0, 1, true)
	f(1, 0, true)
	f(1, 1.49, false)
	f(1, 1.51, true)
	f(1, 1/1.49, false)
	f(1, 1/1.51, true)
	f(1e90, 1e-90, true)
}

func TestStepState(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 0))
	var s Step
	var mark StepMark
	for n := range 100 {
		blob := s.AppendState(nil)
		var back Step
		c := NewCursor(blob)
		back.DecodeState(c)
		if c.Err() != nil || c.Len() != 0 || !bytes.Equal(back.AppendState(nil), blob) {
			t.Fatalf("after %d samples: %v, %d bytes left", n, c.Err(), c.Len())
		}
		was := s
		s.SaveRing(&mark)
		if s.CanRetract() && n%2 == 0 {
			s.Retract()
		}
		for range n % 4 {
			s.Accept(rng.Float64())
		}
		s = was
		s.RestoreRing(&mark)
		if got := s.AppendState(nil); !bytes.Equal(got, blob) {
			t.Fatalf("after %d samples: put back is %x, want %x", n, got, blob)
		}
		s.Accept(rng.Float64())
		if rng.IntN(2) == 0 {
			s.Accept(rng.Float64())
			s.Retract()
		}
	}
}

// fixedMedian is a window whose median is known.
type fixedMedian struct {
	median float64
	n      int
}

func (m fixedMedian) ExceedsMedian(ratio, factor float64) bool { return ratio > factor*m.median }
func (m fixedMedian) MedianVelocity() (float64, int)           { return m.median, m.n }

func TestLevel(t *testing.T) {
	var l Level
	f := func(ratio, median float64, n int, want bool) {
		t.Helper()
		if got := l.Check(ratio, 0, fixedMedian{median, n}, standard); got != want {
			t.Errorf("%g over a median of %g is an outlier: %v, want %v", ratio, median, got, want)
		}
	}
	f(0.9, 0.05, 7, false) // too few
	f(0.5, 0.05, 8, false) // at both thresholds
	f(0.49, 0.01, 8, false)
	f(0.501, 0.05, 8, true)
	f(0.51, 5, 8, true) // the reference is frozen
	f(math.NaN(), 5, 8, false)
	if !l.On() || l.Reference(fixedMedian{5, 8}, standard) != 0.05 {
		t.Errorf("a missing volume released the reference")
	}
	f(math.Inf(1), 5, 8, true)
	f(0.5, 5, 8, false) // released
	f(0.51, 5, 8, false)
	if got := l.Reference(fixedMedian{5, 7}, standard); !math.IsNaN(got) {
		t.Errorf("reference of seven samples is %g", got)
	}
}

// TestLows compares the bound with the least velocity of the last seven days,
// which it must not exceed, and of the last eight days, which it must reach.
func TestLows(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 0))
	for range 50 {
		var l Lows
		if l.Bound() != 0 {
			t.Fatalf("bound of nothing is %g", l.Bound())
		}
		at := market.Time(20_000) * market.Time(market.Day)
		var times []market.Time
		var values []float64
		for range 300 {
			at = at.Add(market.Millis(rng.ExpFloat64() * float64(3*market.Hour)))
			if rng.IntN(100) == 0 {
				at = at.Add(market.Millis(rng.Int64N(int64(20 * market.Day))))
			}
			v := rng.ExpFloat64()
			if rng.IntN(10) == 0 {
				v = math.NaN()
			}
			l.Add(at, v)
			times, values = append(times, at), append(values, v)
			week, reach := math.Inf(1), math.Inf(1)
			for i := range times {
				if math.IsNaN(values[i]) {
					continue
				}
				if at.Sub(times[i]) < 7*market.Day {
					week = min(week, float64(float32(values[i])))
				}
				if at.Sub(times[i]) < 8*market.Day {
					reach = min(reach, float64(float32(values[i])))
				}
			}
			if got := l.Bound(); got > week || got < reach {
				t.Fatalf("bound is %g, want %g to %g", got, reach, week)
			}
			var back Lows
			c := NewCursor(l.AppendState(nil))
			if back.DecodeState(c); c.Err() != nil || back != l {
				t.Fatalf("state comes back as %+v, want %+v: %v", back, l, c.Err())
			}
		}
	}
}

func TestSupply(t *testing.T) {
	var s Supply
	f := func(hour int, supply float64, want bool) {
		t.Helper()
		var m SupplyMark
		blob := s.AppendState(nil)
		s.Save(&m)
		s.Add(market.Time(hour)*market.Time(market.Hour), supply*3, 0.01)
		s.Restore(&m)
		if !bytes.Equal(s.AppendState(nil), blob) {
			t.Errorf("hour %d: Restore does not undo", hour)
		}
		if got := s.Add(market.Time(hour)*market.Time(market.Hour), supply, 0.01); got != want {
			t.Errorf("hour %d: %g is a move: %v, want %v", hour, supply, got, want)
		}
		var back Supply
		c := NewCursor(s.AppendState(nil))
		if back.DecodeState(c); c.Err() != nil || !bytes.Equal(back.AppendState(nil), s.AppendState(nil)) {
			t.Errorf("hour %d: state does not come back: %v", hour, c.Err())
		}
	}
	f(100, math.NaN(), false)
	f(100, 1000, false)
	f(101, 1009, false)
	f(102, 1018, true) // 1.8 % above 1000
	f(103, math.NaN(), false)
	f(125, 1018, true)
	f(126, 1018, false) // 0.9 % above 1009
	f(127, 1018, false)
	f(128, 900, true)
	f(128, 1018, true) // it has been there
	f(153, 1018, false)
	for hour := 200; hour < 300; hour++ {
		s.Add(market.Time(hour)*market.Time(market.Hour), float64(hour), 0.01)
	}
	if len(s.cells) > maxSupplyCells {
		t.Errorf("history has %d cells", len(s.cells))
	}
}

func TestFreshness(t *testing.T) {
	f := func(age, cadence market.Millis, want market.Freshness) {
		t.Helper()
		if got := standard.Freshness(age, cadence); got != want {
			t.Errorf("age %d at cadence %d is %s, want %s", age, cadence, got, want)
		}
		if want == market.Stale {
			return
		}
		next := standard.NextFreshness(0, want, cadence)
		if standard.Freshness(market.Millis(next)-1, cadence) != want || standard.Freshness(market.Millis(next), cadence) == want {
			t.Errorf("cadence %d: %s does not end at %d", cadence, want, next)
		}
	}
	f(-5, 1000, market.Fresh)
	f(3000, 1000, market.Fresh)
	f(3001, 1000, market.Aging)
	f(10000, 1000, market.Aging)
	f(10001, 1000, market.Stale)
	f(180_000, 0, market.Fresh)
	f(180_001, 0, market.Aging)
}
