package window_test

import (
	"math"
	"testing"

	"github.com/velocimeter/velocimeter/engine/enginetest"
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/window"
)

var none = math.NaN()

// series adds velocities one step apart and returns the window.
func series(step market.Millis, velocities ...float64) *window.Window {
	w := window.New(window.Config{})
	for i, v := range velocities {
		w.Add(window.Sample{Time: start.Add(market.Millis(i) * step), Price: 1, Volume: 1, Velocity: v})
	}
	return &w
}

func TestTrend(t *testing.T) {
	f := func(w *window.Window, p market.Period, direction market.Direction, change, slope, coverage float64) {
		t.Helper()
		got := w.Trend(p)
		if got.Direction != direction || !near(got.Change, change, 1e-5) || !near(got.Slope, slope, 1e-6) || !near(got.Coverage, coverage, 1e-12) {
			t.Errorf("got %+v", got)
		}
	}
	m := market.Minute
	f(series(m), market.Period1h, market.Insufficient, none, none, 0)
	f(series(m, 1), market.Period1h, market.Insufficient, 0, none, 0)
	f(series(30*m, 1, 1.5), market.Period1h, market.Insufficient, 50, 1, 0.5)              // too few
	f(series(29*m, 1, 1.5, 1.5), market.Period1h, market.Increasing, 50, 15.0/29, 58.0/60) // enough
	f(series(10*m, 1, 1.1, 1.2), market.Period1h, market.Insufficient, 20, 0.6, 1.0/3)
	f(series(30*m, 1, 1.1, 1.2, 1.3), market.Period1h, market.Insufficient, 100*(1.3-1.1)/1.1, 0.2, 1) // base at 1h, 2 inside
	f(series(20*m, 1, 1.1, 1.2, 1.3), market.Period1h, market.Increasing, 30, 0.3, 1)
	f(series(20*m, 0, 1.1, 1.2, 1.3), market.Period1h, market.Insufficient, none, 1.2, 1)
	f(series(20*m, 1, 1, 1, 0), market.Period1h, market.Decreasing, -100, -0.9, 1)
	f(series(20*m, 1, 1, 1, none), market.Period1h, market.Insufficient, none, none, 1)
	f(series(20*m, none, 1, none, 1, 1.5), market.Period1h, market.Insufficient, 50, 3.0/7, 1) // base and inside skip nulls
	f(series(20*m, none, none), market.Period1h, market.Insufficient, none, none, 0)
	f(series(25*m, 1, 1, 1, 1, 1), market.Period1h, market.Stable, 0, 0, 1)       // a base 15 min older counts
	f(series(26*m, 1, 1, 1, 1, 1), market.Period1h, market.Stable, 0, 0, 52.0/60) // 18 min older: not
}

func TestDirectionHysteresis(t *testing.T) {
	f := func(want market.Direction, changes ...float64) {
		t.Helper()
		w := window.New(window.Config{})
		at := start
		for range 240 {
			w.Add(window.Sample{Time: at, Price: 1, Volume: 1, Velocity: 1})
			at = at.Add(market.Minute)
		}
		for _, c := range changes {
			w.Add(window.Sample{Time: at, Price: 1, Volume: 1, Velocity: 1 + c/100})
			at = at.Add(market.Second)
		}
		if got := w.Trend(market.Period1h).Direction; got != want {
			t.Errorf("%v: %v, want %v", changes, got, want)
		}
	}
	f(market.Stable)
	f(market.Stable, 1.9)
	f(market.Increasing, 2.1)
	f(market.Increasing, 2.1, 1.1)
	f(market.Stable, 2.1, 0.9)
	f(market.Stable, 2.1, 0.9, 1.9)
	f(market.Decreasing, 2.1, -2.1)
	f(market.Decreasing, -2.1, -1.1)
	f(market.Stable, -2.1, -0.9)
	f(market.Stable, 2.1, none, 1.5) // insufficient in between
}

func TestThresholdsAreConfigurable(t *testing.T) {
	w := window.New(window.Config{Begin: 40, End: 30})
	for i, v := range []float64{1, 1, 1, 1.3} {
		w.Add(window.Sample{Time: start.Add(market.Millis(i) * 20 * market.Minute), Velocity: v})
	}
	if got := w.Trend(market.Period1h).Direction; got != market.Stable {
		t.Errorf("got %v", got)
	}
}

func TestVWAP(t *testing.T) {
	f := func(want float64, samples ...[2]float64) {
		t.Helper()
		w := window.New(window.Config{})
		for i, s := range samples {
			w.Add(window.Sample{Time: start.Add(market.Millis(i) * 10 * market.Minute), Price: s[0], Volume: s[1], Velocity: none})
		}
		if got := w.VWAP(market.Period1h); !near(got, want, 1e-12) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	f(none)
	f(none, [2]float64{5, 0})
	f(5, [2]float64{5, 1})
	f(2.5, [2]float64{1, 1}, [2]float64{3, 3})
	f(1, [2]float64{1, 1}, [2]float64{none, 3}, [2]float64{3, none}, [2]float64{7, -1})
	f(8, [2]float64{1, 9}, [2]float64{8, 1}, [2]float64{8, 1}, [2]float64{8, 1}, [2]float64{8, 1}, [2]float64{8, 1}, [2]float64{8, 1})
	f(none, [2]float64{1, 3e38}, [2]float64{8, 0}, [2]float64{8, 0}, [2]float64{8, 0}, [2]float64{8, 0}, [2]float64{8, 0}, [2]float64{8, 0})
}

func TestVolatility(t *testing.T) {
	type at struct {
		minute market.Millis
		price  float64
	}
	annual := math.Sqrt(365 * 24 * 12)
	f := func(want float64, samples ...at) {
		t.Helper()
		w := window.New(window.Config{})
		for _, s := range samples {
			w.Add(window.Sample{Time: start.Add(s.minute * market.Minute), Price: s.price})
		}
		if got := w.Volatility(); !near(got, want*annual, 1e-9) {
			t.Errorf("got %v, want %v", got/annual, want)
		}
	}
	e := math.E
	f(none)
	f(none, at{0, 1})
	f(none, at{0, 1}, at{4, e})
	f(1, at{0, 1}, at{5, e})
	f(1, at{0, 1}, at{4, 1e6}, at{5, e})
	f(math.Sqrt(0.5), at{0, 1}, at{10, e})
	f(none, at{0, 1}, at{61, e})
	f(1, at{0, 1}, at{61, e}, at{66, 1})
	f(1, at{0, 1}, at{4, none}, at{5, 0}, at{5, e})
	f(math.Sqrt(0.97), at{0, 1}, at{5, e}, at{10, e})
	f(math.Sqrt(0.97*0.97), at{0, 1}, at{5, e}, at{15, e})
}

func TestRetention(t *testing.T) {
	const day = market.Millis(1440)
	base := start / 300_000 * 300_000
	// A sample 10 s into each minute, and one 50 s into it; then only minute 7 of 5.
	w := window.New(window.Config{})
	for m := range 2 * day {
		w.Add(window.Sample{Time: base.Add(m*market.Minute + 10_000), Velocity: 1})
		w.Add(window.Sample{Time: base.Add(m*market.Minute + 50_123), Velocity: 2})
	}
	if got, want := w.Count(), 1440+1440/5; got != want {
		t.Fatalf("%d retained, want %d", got, want)
	}
	hour := base / 3_600_000 * 3_600_000
	for _, c := range append(w.HourCells(hour.Add(2*market.Hour)), w.HourCells(hour.Add(40*market.Hour))...) {
		if c.Time%60_000 != 50_123 || c.Velocity != 2 || c.Price != 0 {
			t.Fatalf("retained %+v", c)
		}
	}
	if n := len(w.HourCells(hour.Add(2 * market.Hour))); n != 12 {
		t.Fatalf("%d cells in a coarse hour", n)
	}
	if n := len(w.HourCells(hour.Add(40 * market.Hour))); n != 60 {
		t.Fatalf("%d cells in a fine hour", n)
	}
	if w.HourCells(hour.Add(-5*market.Hour)) == nil || len(w.HourCells(hour.Add(100*market.Hour))) != 0 {
		t.Fatal("cells outside the window")
	}
	w.Add(window.Sample{Time: w.Now().Add(8 * market.Day), Velocity: 3})
	if w.Count() != 1 {
		t.Fatalf("%d retained after 8 days", w.Count())
	}
	if got := w.Trend(market.Period7d); got.Coverage != 1 || got.Change != 50 {
		t.Fatalf("the 7d base is lost: %+v", got)
	}
	w.Add(window.Sample{Time: w.Now().Add(18 * market.Hour), Velocity: 3})
	if got := w.Trend(market.Period7d); got.Coverage != 1 || got.Change != 50 {
		t.Fatalf("a base just 1.75 days older is lost: %+v", got)
	}
	w.Add(window.Sample{Time: w.Now() + 1, Velocity: 3})
	if got := w.Trend(market.Period7d); got.Coverage > 0.2 || got.Change != 0 {
		t.Fatalf("a base more than 1.75 days older counts: %+v", got)
	}
}

func TestDirtyHours(t *testing.T) {
	w := window.New(window.Config{})
	if w.DirtyHours() != nil {
		t.Fatal("an empty window is dirty")
	}
	hour := start / 3_600_000 * 3_600_000
	f := func(minutes market.Millis, want ...market.Time) {
		t.Helper()
		w.Add(window.Sample{Time: hour.Add(minutes * market.Minute), Velocity: 1})
		got := w.DirtyHours()
		if len(got) != len(want) {
			t.Fatalf("got %v", got)
		}
		for i, h := range want {
			if got[i] != hour.Add(market.Millis(h)*market.Hour) {
				t.Fatalf("got %v", got)
			}
		}
	}
	f(5)
	f(59)
	f(60, 0)
	f(190, 0, 1)
	w.ClearDirty()
	f(200)
	f(240, 3)
	w.ClearDirty()
	f(26*60, 4)
}

func TestOrderIsTheCallersDuty(t *testing.T) {
	f := func(times ...market.Time) {
		t.Helper()
		defer func() {
			if recover() == nil {
				t.Errorf("%v: no panic", times)
			}
		}()
		w := window.New(window.Config{})
		for _, at := range times {
			w.Add(window.Sample{Time: at})
		}
	}
	f(start, start-1)
	f(0)
	f(-5)
	f(math.MaxInt64)
}

// A window keeps float32; this is what that costs against unrounded samples.
func TestCostOfFloat32(t *testing.T) {
	k := newWalk(1)
	k.tame = true
	w := window.New(window.Config{})
	ref := enginetest.NewReference(enginetest.ReferenceConfig{Exact: true})
	var change, slope, vwap float64
	for i := range 6000 {
		s := k.next()
		w.Add(s)
		ref.Add(enginetest.Sample(s))
		if i%11 != 0 {
			continue
		}
		for p := range market.NumPeriods {
			got, want := w.Trend(p), ref.Trend(p)
			if !math.IsNaN(want.Slope) && w.CountIn(p) > 16 {
				change = max(change, math.Abs(got.Change-want.Change)/(1+math.Abs(want.Change)/100))
				slope = max(slope, math.Abs(got.Slope-want.Slope)/s.Velocity)
			}
		}
		for _, p := range vwapPeriods {
			vwap = max(vwap, math.Abs(w.VWAP(p)/ref.VWAP(p)-1))
		}
	}
	t.Logf("change %.2g points, slope %.2g of the velocity per hour, VWAP %.2g of itself", change, slope, vwap)
	if change > 2e-5 || slope > 2e-7 || vwap > 1e-7 {
		t.Error("float32 costs more than the package comment says")
	}
}
