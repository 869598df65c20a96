package window_test

import (
	"math"
	"testing"

	"github.com/velocimeter/velocimeter/engine/enginetest"
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/window"
)

var vwapPeriods = []market.Period{market.Period1h, market.Period24h, market.Period7d}

// near reports |got − want| ≤ tolerance; NaN is near NaN alone.
func near(got, want, tolerance float64) bool {
	if math.IsNaN(want) || math.IsNaN(got) {
		return math.IsNaN(want) && math.IsNaN(got)
	}
	return math.Abs(got-want) <= tolerance
}

// largest returns the largest velocity inside p: what bounds the digits that
// double precision leaves to a slope, in the reference as well.
func largest(ref *enginetest.Reference, p market.Period) (v float64) {
	for _, s := range ref.Inside(p) {
		if s.Velocity > v {
			v = s.Velocity
		}
	}
	return v
}

func compare(t *testing.T, step int, w *window.Window, ref *enginetest.Reference) {
	t.Helper()
	if w.Count() != ref.Count() {
		t.Fatalf("sample %d: %d retained, want %d", step, w.Count(), ref.Count())
	}
	for p := range market.NumPeriods {
		got, want := w.Trend(p), ref.Trend(p)
		if got.Direction != want.Direction || w.CountIn(p) != ref.CountIn(p) {
			t.Fatalf("sample %d %s: %v of %d, want %v of %d", step, p, got.Direction, w.CountIn(p), want.Direction, ref.CountIn(p))
		}
		slope := 1e-9 * (1 + math.Abs(want.Slope))
		if huge := largest(ref, p); huge > 100 {
			slope += 1e-12 * huge
		}
		if !near(got.Change, want.Change, 1e-9*(1+math.Abs(want.Change))) || !near(got.Coverage, want.Coverage, 1e-12) || !near(got.Slope, want.Slope, slope) {
			t.Fatalf("sample %d %s of %d:\n got %+v\nwant %+v", step, p, w.CountIn(p), got, want)
		}
	}
	for _, p := range vwapPeriods {
		if got, want := w.VWAP(p), ref.VWAP(p); !near(got, want, 1e-8*want) {
			t.Fatalf("sample %d: VWAP %s = %v, want %v", step, p, got, want)
		}
	}
	if got, want := w.Volatility(), ref.Volatility(); !near(got, want, 1e-9*(1+want)) {
		t.Fatalf("sample %d: volatility %v, want %v", step, got, want)
	}
	compareMedian(t, step, w, ref)
}

func compareMedian(t *testing.T, step int, w *window.Window, ref *enginetest.Reference) {
	t.Helper()
	got, n := w.MedianVelocity()
	want, m := ref.Median()
	if n != m || !near(got, want, 0) {
		t.Fatalf("sample %d: median %v of %d, want %v of %d", step, got, n, want, m)
	}
	for _, ratio := range []float64{10 * want, math.Nextafter(10*want, 0), math.Nextafter(10*want, math.Inf(1)), 9 * want, 11 * want} {
		if got, want := w.ExceedsMedian(ratio, 10), n >= window.MinMedian && ratio > 10*want; got != want {
			t.Fatalf("sample %d: ExceedsMedian(%v) = %v with a median of %v of %d", step, ratio, got, want, n)
		}
	}
}

func TestAgainstReference(t *testing.T) {
	f := func(seed uint64, samples, every int, tame bool) {
		t.Helper()
		k := newWalk(seed)
		k.tame = tame
		w := window.New(window.Config{})
		ref := enginetest.NewReference(enginetest.ReferenceConfig{})
		for i := range samples {
			s := k.next()
			w.Add(s)
			ref.Add(enginetest.Sample(s))
			if i%every == 0 || i < 100 {
				compare(t, i, &w, ref)
			}
			if t.Failed() {
				return
			}
		}
	}
	samples := 8000
	if testing.Short() {
		samples = 1500
	}
	for seed := range uint64(6) {
		f(seed, samples, 37, seed%4 == 3)
	}
}

// Exact cadences put samples exactly onto the ends of all periods.
func TestRegularCadenceAgainstReference(t *testing.T) {
	f := func(step market.Millis, samples, every int) {
		t.Helper()
		w := window.New(window.Config{})
		ref := enginetest.NewReference(enginetest.ReferenceConfig{})
		for i := range samples {
			v := 1 + 0.3*math.Sin(float64(i)/50) + float64(i%7)/50
			s := window.Sample{Time: start.Add(market.Millis(i) * step), Price: v, Volume: v, Velocity: v}
			w.Add(s)
			ref.Add(enginetest.Sample(s))
			if i%every == 0 {
				compare(t, i, &w, ref)
			}
		}
	}
	f(20*market.Second, 5000, 31)
	f(market.Minute, 4500, 31)
	f(5*market.Minute, 2400, 11)
	f(936*market.Second, 900, 3)
	f(market.Hour, 300, 1)
	f(2*market.Day, 12, 1)
}

// One bucket of 5 minutes, half of it in each tier, meets the end of the window
// in a leap.
func TestLeapSplitsABucket(t *testing.T) {
	f := func(velocity float64, beyond market.Millis) {
		t.Helper()
		w := window.New(window.Config{})
		ref := enginetest.NewReference(enginetest.ReferenceConfig{})
		bucket := start / 300_000 * 300_000
		for i, s := range []window.Sample{
			{Time: bucket.Add(-10 * market.Minute), Velocity: 5},
			{Time: bucket.Add(30_000), Velocity: 2},
			{Time: bucket.Add(90_000), Velocity: velocity},
			{Time: bucket.Add(market.Day + 10_000), Velocity: 7},
			{Time: bucket.Add(7*market.Day + beyond), Velocity: 8},
		} {
			w.Add(s)
			ref.Add(enginetest.Sample(s))
			compare(t, i, &w, ref)
		}
	}
	for _, v := range []float64{3, none} {
		for _, beyond := range []market.Millis{0, 30_000, 60_000, 90_000, 200_000} {
			f(v, beyond)
		}
	}
}
