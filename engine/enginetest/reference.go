package enginetest

import (
	"math"
	"slices"
	"sort"

	"github.com/velocimeter/velocimeter/engine/market"
)

// ReferenceConfig configures a Reference.
type ReferenceConfig struct {
	// Begin and End are the direction's thresholds in percent; 0 means 2 and 1.
	Begin, End float64
	// Exact keeps samples as given; else values are rounded to float32, as a
	// window retains them.
	Exact bool
}

// Sample is one accepted observation; NaN stands for "no value".
type Sample struct {
	Time     market.Time
	Price    float64 // USD
	Volume   float64 // 24 h volume, USD
	Velocity float64 // 1/day
}

// Trend is what the velocity did over a period; NaN stands for null.
type Trend struct {
	Direction market.Direction
	Change    float64 // %
	Slope     float64 // 1/day per hour
	Coverage  float64 // 0…1
}

// Reference recomputes every statistic of one token from scratch after each
// sample: slow, plain float64 arithmetic over a slice, written from the formulas
// and sharing no code with engine/window.
type Reference struct {
	cfg        ReferenceConfig
	minutes    []Sample // the last sample of each minute, oldest first
	retained   []Sample // what the retention rule keeps as of the newest sample
	moving     []Sample // those of retained that have a velocity
	directions [market.NumPeriods]market.Direction

	lastReturn Sample // the last sample that volatility used; Time 0 = none
	variance   float64
}

// NewReference returns a Reference without samples.
func NewReference(cfg ReferenceConfig) *Reference {
	if cfg.Begin == 0 {
		cfg.Begin = 2
	}
	if cfg.End == 0 {
		cfg.End = 1
	}
	return &Reference{cfg: cfg, variance: math.NaN()}
}

// Add takes the next accepted sample, in the order of time; one of the same
// time replaces the newest.
func (r *Reference) Add(s Sample) {
	r.takeReturn(s)
	s.Price, s.Volume, s.Velocity = r.value(s.Price), r.value(s.Volume), r.value(s.Velocity)
	if n := len(r.minutes); n > 0 && bucket(r.minutes[n-1], market.Minute) == bucket(s, market.Minute) {
		r.minutes[n-1] = s
	} else {
		r.minutes = append(r.minutes, s)
	}
	// No period looks back further than 8.75 days.
	r.minutes = after(r.minutes, s.Time.Add(-10*market.Day))
	r.retain()
	for p := range market.NumPeriods {
		r.directions[p] = r.direction(p)
	}
}

func (r *Reference) value(f float64) float64 {
	if math.IsNaN(f) || f < 0 || f > math.MaxFloat32 {
		return math.NaN()
	}
	if r.cfg.Exact {
		return f
	}
	return float64(float32(f))
}

func bucket(s Sample, width market.Millis) int64 { return int64(s.Time) / int64(width) }

// retain applies the retention rule: minutes of the last 1440 as they are, of
// the older ones the last in each 5 minutes.
func (r *Reference) retain() {
	limit := bucket(r.newest(), market.Minute) - 1440
	r.retained = r.retained[:0]
	for i, s := range r.minutes {
		if bucket(s, market.Minute) <= limit && i+1 < len(r.minutes) {
			next := r.minutes[i+1]
			if bucket(next, market.Minute) <= limit && bucket(next, 5*market.Minute) == bucket(s, 5*market.Minute) {
				continue
			}
		}
		r.retained = append(r.retained, s)
	}
	r.moving = slices.DeleteFunc(append(r.moving[:0], r.retained...), func(s Sample) bool { return math.IsNaN(s.Velocity) })
}

// after returns the samples later than t.
func after(samples []Sample, t market.Time) []Sample {
	n := sort.Search(len(samples), func(i int) bool { return samples[i].Time > t })
	return samples[n:]
}

func (r *Reference) newest() Sample {
	if len(r.minutes) == 0 {
		return Sample{Price: math.NaN(), Volume: math.NaN(), Velocity: math.NaN()}
	}
	return r.minutes[len(r.minutes)-1]
}

// Inside returns the retained samples t with now − p < t ≤ now. The slice is
// valid until the next Add and must not be written to.
func (r *Reference) Inside(p market.Period) []Sample {
	return after(r.retained, r.newest().Time.Add(-p.Length()))
}

// points returns the samples that the trend of p rests on and how many of them
// are inside p: before those may be the last one at or before p, if it is at
// most p/4 older.
func (r *Reference) points(p market.Period) (points []Sample, inside int) {
	start := r.newest().Time.Add(-p.Length())
	inside = len(after(r.moving, start))
	points = r.moving[len(r.moving)-inside:]
	if before := len(r.moving) - inside; before > 0 && r.moving[before-1].Time >= start.Add(-p.Length()/4) {
		points = r.moving[before-1:]
	}
	return points, inside
}

// CountIn returns how many retained samples inside p have a velocity.
func (r *Reference) CountIn(p market.Period) int {
	_, inside := r.points(p)
	return inside
}

// Count returns how many samples are retained inside 7 days.
func (r *Reference) Count() int { return len(r.Inside(market.Period7d)) }

// Trend returns the trend over p as of the newest sample.
func (r *Reference) Trend(p market.Period) Trend {
	t := r.change(p)
	t.Direction = r.directions[p]
	if points, _ := r.points(p); len(points) > 0 && !math.IsNaN(r.newest().Velocity) {
		t.Slope = leastSquares(points)
	}
	return t
}

// change fills in change and coverage.
func (r *Reference) change(p market.Period) Trend {
	t := Trend{Change: math.NaN(), Slope: math.NaN()}
	points, _ := r.points(p)
	if len(points) == 0 {
		return t
	}
	now, first := r.newest(), points[0]
	from := max(first.Time, now.Time.Add(-p.Length()))
	t.Coverage = float64(now.Time.Sub(from)) / float64(p.Length())
	if first.Velocity != 0 {
		t.Change = 100 * (now.Velocity - first.Velocity) / first.Velocity
	}
	return t
}

// leastSquares returns the slope of velocity on hours.
func leastSquares(points []Sample) float64 {
	hours := func(s Sample) float64 { return float64(s.Time.Sub(points[0].Time)) / float64(market.Hour) }
	var meanT, meanV float64
	for _, s := range points {
		meanT += hours(s)
		meanV += s.Velocity
	}
	meanT /= float64(len(points))
	meanV /= float64(len(points))
	var tt, tv float64
	for _, s := range points {
		tt += (hours(s) - meanT) * (hours(s) - meanT)
		tv += (hours(s) - meanT) * (s.Velocity - meanV)
	}
	if tt == 0 {
		return math.NaN()
	}
	return tv / tt
}

func (r *Reference) direction(p market.Period) market.Direction {
	t := r.change(p)
	if math.IsNaN(t.Change) || t.Coverage < 0.5 || r.CountIn(p) < 3 {
		return market.Insufficient
	}
	up, down := r.cfg.Begin, -r.cfg.Begin
	if r.directions[p] == market.Increasing && t.Change >= r.cfg.End || t.Change > up {
		return market.Increasing
	}
	if r.directions[p] == market.Decreasing && t.Change <= -r.cfg.End || t.Change < down {
		return market.Decreasing
	}
	return market.Stable
}

// VWAP returns the price over p weighted by 24 h volume; NaN without volume.
func (r *Reference) VWAP(p market.Period) float64 {
	var sum, weight float64
	for _, s := range r.Inside(p) {
		if !math.IsNaN(s.Price) && !math.IsNaN(s.Volume) {
			sum += s.Price * s.Volume
			weight += s.Volume
		}
	}
	if weight == 0 {
		return math.NaN()
	}
	return sum / weight
}

// takeReturn advances the variance by s, with the price as given.
func (r *Reference) takeReturn(s Sample) {
	if math.IsNaN(s.Price) || s.Price <= 0 || math.IsInf(s.Price, 0) {
		return
	}
	if r.lastReturn.Time == 0 {
		r.lastReturn = s
		return
	}
	gap := s.Time.Sub(r.lastReturn.Time)
	if gap < 5*market.Minute {
		return
	}
	if gap <= market.Hour {
		steps := float64(gap) / float64(5*market.Minute)
		move := math.Log(s.Price / r.lastReturn.Price)
		weight := math.Pow(0.97, steps)
		if math.IsNaN(r.variance) {
			weight = 0
			r.variance = 0
		}
		r.variance = weight*r.variance + (1-weight)*move*move/steps
	}
	r.lastReturn = s
}

// Volatility returns the EWMA volatility, annualised over 365 days; NaN before
// the first return.
func (r *Reference) Volatility() float64 {
	stepsPerYear := float64(365*market.Day) / float64(5*market.Minute)
	return math.Sqrt(r.variance * stepsPerYear)
}

// Median returns the median velocity of the samples inside 7 days, and how many
// have one; NaN and 0 without any.
func (r *Reference) Median() (median float64, n int) {
	_, n = r.points(market.Period7d)
	if n == 0 {
		return math.NaN(), 0
	}
	var vs []float64
	for _, s := range r.moving[len(r.moving)-n:] {
		vs = append(vs, s.Velocity)
	}
	slices.Sort(vs)
	return (vs[(n-1)/2] + vs[n/2]) / 2, n
}
