package window

import "github.com/velocimeter/velocimeter/engine/market"

// sums are the running sums of one trend period over the closed cells
// inside it that have a velocity; t is in ms since origin, so that Σt is exact.
type sums struct {
	origin           int64 // ms since 1970
	st, stt, sv, stv float64
	peak             float64 // largest sv since the sums were last made from cells
	n                int32
}

// trendSums are the sums of a period and the two cells that may be its base.
type trendSums struct {
	sums
	baseV, firstV float32
	baseT         int64 // newest cell with a velocity at or before the period; 0 = none
	firstT        int64 // oldest closed one inside; 0 = to be looked for
}

// vwapSums are the running sums of one VWAP period over its closed cells that
// have a price and a volume.
type vwapSums struct {
	pw, w         float64
	peakPW, peakW float64 // the largest since the sums were last made from cells
}

// A sum that has shrunk by these factors has lost digits to what left it and is
// made anew from the cells: 2^6 of 2^53 for trends, whose scale is absolute;
// 2^13 for VWAPs, of which 7 digits are published.
const (
	trendShrink = 64
	vwapShrink  = 8192
)

// resumHours are the hours after which the sums of a period are made anew
// whatever happened, so that rounding cannot pile up and t stays small.
var resumHours = [market.NumPeriods]int64{1, 4, 12, 24, 24}

const resumCycle = 1440 // minutes; what the phase is below

// vwapIndex is the place of a period among the VWAP sums, −1 where it has none.
var vwapIndex = [market.NumPeriods]int{0, -1, -1, 1, 2}

// add adds a cell with a velocity.
func (a *sums) add(c *cell) {
	t, v := float64(c.t-a.origin), float64(c.veloc)
	a.n++
	a.st += t
	a.stt += t * t
	a.sv += v
	a.stv += t * v
	a.peak = max(a.peak, a.sv)
}

// enter takes in the newest cell; sums that were empty start at its time.
func (a *trendSums) enter(c *cell) {
	if !c.moves() {
		return
	}
	if a.n == 0 {
		a.sums = sums{origin: c.t}
		a.firstT, a.firstV = c.t, c.veloc
	}
	a.add(c)
}

// leave takes out a cell that was entered.
func (a *trendSums) leave(c *cell) {
	if !c.moves() {
		return
	}
	if c.t == a.firstT {
		a.firstT = 0
	}
	t, v := float64(c.t-a.origin), float64(c.veloc)
	a.n--
	a.st -= t
	a.stt -= t * t
	a.sv -= v
	a.stv -= t * v
}

func (a *sums) worn() bool { return a.n > 0 && !(a.sv*trendShrink >= a.peak) }

func (a *vwapSums) enter(c *cell) {
	if !c.trades() {
		return
	}
	p, w := float64(c.price), float64(c.volume)
	a.pw += p * w
	a.w += w
	a.peakPW, a.peakW = max(a.peakPW, a.pw), max(a.peakW, a.w)
}

func (a *vwapSums) leave(c *cell) {
	if !c.trades() {
		return
	}
	p, w := float64(c.price), float64(c.volume)
	a.pw -= p * w
	a.w -= w
}

func (a *vwapSums) worn() bool {
	return !(a.w*vwapShrink >= a.peakW && a.pw*vwapShrink >= a.peakPW)
}

// enter adds a closed cell to the sums of p.
func (w *Window) enter(p market.Period, c *cell) {
	w.trends[p].enter(c)
	if i := vwapIndex[p]; i >= 0 {
		w.vwaps[i].enter(c)
	}
}

// leave takes a closed cell out of the sums of p.
func (w *Window) leave(p market.Period, c *cell) {
	w.trends[p].leave(c)
	if i := vwapIndex[p]; i >= 0 {
		w.vwaps[i].leave(c)
	}
}

// resum makes the sums of p anew from the cells. The newest sample's time as
// origin keeps t small where it matters most.
func (w *Window) resum(p market.Period) {
	a := sums{origin: w.open.t}
	var vw vwapSums
	it := w.inside(p)
	bucket := it.coarse.bucket
	for _, run := range w.coarse.runs(it.coarse) {
		bucket = resumRun(&a, &vw, run, bucket, coarseWidth)
	}
	bucket = it.fine.bucket
	for _, run := range w.fine.runs(it.fine) {
		bucket = resumRun(&a, &vw, run, bucket, fineWidth)
	}
	// No value is negative, so sums were never larger than they are now.
	a.peak, vw.peakPW, vw.peakW = a.sv, vw.pw, vw.w
	w.trends[p].sums = a
	if i := vwapIndex[p]; i >= 0 {
		w.vwaps[i] = vw
	}
}

// resumRun adds the entries of a run that begins at a bucket and returns the
// bucket after it.
func resumRun(a *sums, vw *vwapSums, run []entry, bucket, width int64) int64 {
	s, v := *a, *vw
	for i := range run {
		e := &run[i]
		if k := e.gap(); k != 0 {
			bucket += k
			continue
		}
		c := e.get(bucket * width)
		bucket++
		if c.moves() {
			t, f := float64(c.t-s.origin), float64(c.veloc)
			s.n++
			s.st += t
			s.stt += t * t
			s.sv += f
			s.stv += t * f
		}
		if c.trades() {
			f := float64(c.volume)
			v.pw += float64(c.price) * f
			v.w += f
		}
	}
	*a, *vw = s, v
	return bucket
}

// resumDue makes sums anew that are worn, or whose turn has come between the
// minutes from and to. The phase spreads the turns of many tokens over the day.
func (w *Window) resumDue(from, to int64) {
	from, to = (from+int64(w.phase))/60, (to+int64(w.phase))/60
	for p := range market.NumPeriods {
		due := from != to && from/resumHours[p] != to/resumHours[p]
		if i := vwapIndex[p]; due || w.trends[p].worn() || i >= 0 && w.vwaps[i].worn() {
			w.resum(p)
		}
	}
}

// iter walks the closed cells of a period, oldest first; c is the current one.
type iter struct {
	w            *Window
	coarse, fine cursor
	c            cell
}

// inside returns a walk over the closed cells inside p.
func (w *Window) inside(p market.Period) iter {
	it := iter{w: w, coarse: w.coarse.last(), fine: w.fine.begin()}
	switch {
	case int(p) < len(w.cursors):
		it.fine = w.fine.valid(w.cursors[p])
	case p == market.Period7d:
		it.coarse = w.coarse.begin()
	case w.linger:
		w.coarse.prev(&it.coarse)
	}
	return it
}

func (it *iter) next() (ok bool) {
	if it.c, ok = it.w.coarse.next(&it.coarse); ok {
		return true
	}
	it.c, ok = it.w.fine.next(&it.fine)
	return ok
}
