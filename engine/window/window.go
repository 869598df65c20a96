package window

import (
	"math"

	"github.com/velocimeter/velocimeter/engine/cacheline"
	"github.com/velocimeter/velocimeter/engine/market"
)

// Config holds the thresholds of a trend's direction.
type Config struct {
	// Begin is the change in percent beyond which a direction begins; 0 means 2.
	Begin float64
	// End is the change in percent within which it ends; 0 means 1.
	End float64
}

func (c Config) withDefaults() Config {
	if c.Begin == 0 {
		c.Begin = 2
	}
	if c.End == 0 {
		c.End = 1
	}
	return c
}

// Sample is one accepted observation of a token. NaN stands for "no value", and
// so do negative numbers and those beyond float32's range.
type Sample struct {
	Time     market.Time // the provider's; above 0
	Price    float64     // USD
	Volume   float64     // 24 h volume, USD
	Velocity float64     // 1/day
}

// Window holds the rolling windows of one token: see the package comment. It is
// a value; make it with New. A copy shares the slabs, so only one may be used.
// It belongs to one goroutine: even methods that read may look up and remember.
type Window struct {
	open    cell  // the newest sample
	due     int64 // time at which the next closed cell leaves a period
	linger  bool  // the newest coarse cell is inside 24 h
	dirs    [market.NumPeriods]market.Direction
	phase   uint16 // of resumDue
	touched byte   // see touch

	vol     volatility
	cfg     Config
	trends  [market.NumPeriods]trendSums
	vwaps   [3]vwapSums
	cursors [3]cursor // oldest fine cell inside 1h, 4h, 12h

	fine, coarse ring
	dirtyFrom    int64 // start of the first hour that DirtyHours may report
}

// New returns an empty window. It holds no memory besides itself until the
// second minute.
func New(cfg Config) Window {
	nan := float32(math.NaN())
	w := Window{cfg: cfg.withDefaults(), vol: volatility{variance: math.NaN()}}
	w.fine.width, w.coarse.width = int32(fineWidth), int32(coarseWidth)
	w.open = cell{price: nan, volume: nan, veloc: nan}
	return w
}

// Add takes the next accepted sample. One with the time of the newest replaces
// it; an earlier one is a defect of the caller.
func (w *Window) Add(s Sample) {
	w.Follow(s, nil)
}

// Follow is Add and then Trend for every period, unless all is nil.
func (w *Window) Follow(s Sample, all *Trends) {
	if int64(s.Time) < w.open.t || s.Time <= 0 || s.Time > maxTime {
		panic("BUG: samples enter a window in the order of time")
	}
	w.vol.add(int64(s.Time), s.Price)
	c := roundCell(s)
	switch from, to := w.open.t/minute, c.t/minute; {
	case w.open.t == 0:
		w.begin(&c)
	case to-from > leapMinutes:
		w.leap(&c)
	case to != from:
		w.roll(&c)
	default:
		w.open = c
		if c.t >= w.due {
			w.expire()
			w.resumDue(to, to)
		}
	}
	w.turn(all)
}

// Prefetch asks for what Save and Follow will touch outside of w.
func (w *Window) Prefetch() {
	if w.coarse.n > 0 {
		cacheline.Prefetch(w.coarse.at(w.coarse.n - 1))
	}
}

// begin takes the first sample of all.
func (w *Window) begin(c *cell) {
	w.open = *c
	w.due = math.MaxInt64
	w.dirtyFrom = c.t / hour * hour
	mix := (uint64(c.t) ^ uint64(math.Float32bits(c.price))<<32 ^ uint64(math.Float32bits(c.volume))) * 0x9E3779B97F4A7C15
	w.phase = uint16(mix >> 32 % resumCycle)
}

// Now returns the time of the newest sample, 0 before the first.
func (w *Window) Now() market.Time { return market.Time(w.open.t) }

// Count returns the number of retained samples t with Now − 7d < t ≤ Now.
func (w *Window) Count() int {
	if w.open.t == 0 {
		return 0
	}
	return int(w.coarse.cells) + int(w.fine.cells) + 1
}

// CountIn returns how many of the samples inside p have a velocity: those that
// the trend of p rests on, its base aside.
func (w *Window) CountIn(p market.Period) int {
	n := int(w.trends[p].n)
	if w.open.moves() {
		n++
	}
	return n
}

// Mark is what Restore needs to put a window back. It keeps the slabs of its
// window alive until it is used for another.
type Mark struct {
	w    Window
	tail entry // the newest coarse entry, the only one alive that Add overwrites
}

// Save remembers the state of w in m. It ends the validity of earlier marks.
func (w *Window) Save(m *Mark) {
	w.fine.hold()
	w.coarse.hold()
	m.w = *w
	if w.coarse.n > 0 {
		m.tail = *w.coarse.at(w.coarse.n - 1)
	}
}

// Restore puts w back exactly as it was at Save, however many samples were
// added since. It may be repeated.
func (w *Window) Restore(m *Mark) {
	*w = m.w
	if w.coarse.n > 0 {
		*w.coarse.at(w.coarse.n - 1) = m.tail
	}
}
