package window

import (
	"math"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Trend is what the velocity did over a period; NaN stands for null.
type Trend struct {
	Direction market.Direction
	Change    float64 // % of the base
	Slope     float64 // 1/day per hour
	Coverage  float64 // 0…1; 0 where no sample has a velocity
}

// Trends are the trends of all periods as of one sample.
type Trends [market.NumPeriods]Trend

const (
	minCoverage = 0.5 // below this, or under minSamples, a trend is insufficient
	minSamples  = 3
	// fewCells is up to how many samples a slope comes from the cells: a line
	// through few and maybe close points would lose its digits in running sums.
	// More than this lie in as many minutes, which spreads them enough.
	fewCells = 16
)

// base is what the change over a period is measured against.
type base struct {
	t      int64 // 0 where there is none
	v      float32
	before bool // at or before the period, not inside
}

// base returns the last sample with a velocity at or before the period if it is
// at most a quarter of it older, else the first inside.
func (w *Window) base(p market.Period) base {
	a, length := &w.trends[p], int64(p.Length())
	switch {
	case a.baseT != 0 && a.baseT >= w.open.t-length-length/4:
		return base{a.baseT, a.baseV, true}
	case a.n > 0:
		if a.firstT == 0 {
			w.findFirst(p)
		}
		return base{a.firstT, a.firstV, false}
	case w.open.moves():
		return base{w.open.t, w.open.veloc, false}
	}
	return base{}
}

// change returns the change in percent since b and the coverage of p.
func (w *Window) change(p market.Period, b base) (change, coverage float64) {
	if b.t == 0 {
		return math.NaN(), 0
	}
	length := int64(p.Length())
	coverage = float64(w.open.t-max(b.t, w.open.t-length)) / float64(length)
	if b.v == 0 {
		return math.NaN(), coverage
	}
	return 100 * (float64(w.open.veloc) - float64(b.v)) / float64(b.v), coverage
}

// turn evaluates the directions, once per sample, and with them all trends if
// they are wanted.
func (w *Window) turn(all *Trends) {
	for p := range market.NumPeriods {
		b := w.base(p)
		change, coverage := w.change(p, b)
		d := market.Stable
		switch {
		case coverage < minCoverage || math.IsNaN(change) || w.CountIn(p) < minSamples:
			d = market.Insufficient
		case change > w.cfg.Begin || w.dirs[p] == market.Increasing && change >= w.cfg.End:
			d = market.Increasing
		case change < -w.cfg.Begin || w.dirs[p] == market.Decreasing && change <= -w.cfg.End:
			d = market.Decreasing
		}
		w.dirs[p] = d
		if all != nil {
			tr := &all[p]
			tr.Direction, tr.Change, tr.Slope, tr.Coverage = d, change, w.slope(p, b), coverage
		}
	}
}

// Trend returns the trend over p as of the newest sample. Where that has no
// velocity there is no current value to compare: change and slope are NaN and
// the direction is insufficient.
func (w *Window) Trend(p market.Period) Trend {
	b := w.base(p)
	change, coverage := w.change(p, b)
	return Trend{Direction: w.dirs[p], Change: change, Slope: w.slope(p, b), Coverage: coverage}
}

// slope returns the least-squares slope over the samples inside p and the base.
func (w *Window) slope(p market.Period, b base) float64 {
	if !w.open.moves() {
		return math.NaN()
	}
	a := &w.trends[p]
	if a.n <= fewCells {
		return w.slopeOfFew(p, b)
	}
	n, st, stt, sv, stv := float64(a.n), a.st, a.stt, a.sv, a.stv
	point := func(at int64, veloc float32) {
		t, v := float64(at-a.origin), float64(veloc)
		n, st, stt, sv, stv = n+1, st+t, stt+t*t, sv+v, stv+t*v
	}
	point(w.open.t, w.open.veloc)
	if b.before {
		point(b.t, b.v)
	}
	return (stv - st*sv/n) / (stt - st*st/n) * float64(market.Hour)
}

// slopeOfFew fits the line to the points themselves, centred.
func (w *Window) slopeOfFew(p market.Period, b base) float64 {
	var ts [fewCells + 2]int64
	var vs [fewCells + 2]float64
	n := 0
	point := func(t int64, v float32) {
		ts[n], vs[n] = t, float64(v)
		n++
	}
	if b.before {
		point(b.t, b.v)
	}
	for it := w.inside(p); it.next(); {
		if it.c.moves() {
			point(it.c.t, it.c.veloc)
		}
	}
	point(w.open.t, w.open.veloc)
	return fit(ts[:n], vs[:n])
}

// fit returns the slope per hour of the least-squares line, NaN where all times
// are equal.
func fit(ts []int64, vs []float64) float64 {
	n := float64(len(ts))
	var mt, mv, xx, xy float64
	for i, t := range ts {
		mt += float64(t-ts[0]) / n
		mv += vs[i] / n
	}
	for i, t := range ts {
		d := float64(t-ts[0]) - mt
		xx += d * d
		xy += d * (vs[i] - mv)
	}
	if xx == 0 {
		return math.NaN()
	}
	return xy / xx * float64(market.Hour)
}

// VWAP returns the mean price weighted by the 24 h volume over p, which is 1h,
// 24h or 7d; NaN where there was no volume, and for the other periods.
func (w *Window) VWAP(p market.Period) float64 {
	i := vwapIndex[p]
	if i < 0 {
		return math.NaN()
	}
	a := w.vwaps[i]
	if w.open.trades() {
		v := float64(w.open.volume)
		a.pw += float64(w.open.price) * v
		a.w += v
	}
	if !(a.w > 0) {
		return math.NaN()
	}
	return a.pw / a.w
}
