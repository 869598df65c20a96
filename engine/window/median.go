package window

import (
	"math"

	"github.com/velocimeter/velocimeter/engine/market"
)

// MinMedian is the number of samples from which a median counts.
const MinMedian = 8

// ExceedsMedian reports ratio > factor × median, where the median is that of
// MedianVelocity; false where it counts fewer than MinMedian samples. It scans
// the window once; ratio and factor are positive.
func (w *Window) ExceedsMedian(ratio, factor float64) bool {
	s := split{ratio: ratio, factor: factor, low: math.Inf(-1), high: math.Inf(1)}
	for _, run := range w.closed(market.Period7d) {
		for i := range run {
			if v, ok := run[i].velocity(); ok {
				s.take(float64(v))
			}
		}
	}
	if w.open.moves() {
		s.take(float64(w.open.veloc))
	}
	n := s.below + s.above
	if n < MinMedian {
		return false
	}
	if n%2 == 0 && s.below == n/2 { // the median is between the two halves
		return ratio > factor*((s.low+s.high)/2)
	}
	return s.below > n/2
}

// split counts the values that ratio exceeds by factor, and those that it does
// not, with the two values next to the border.
type split struct {
	ratio, factor float64
	below, above  int
	low, high     float64
}

func (s *split) take(v float64) {
	if s.ratio > s.factor*v {
		s.below++
		s.low = max(s.low, v)
		return
	}
	s.above++
	s.high = min(s.high, v)
}

// MedianVelocity returns the median velocity of the retained samples t with
// Now − 7d < t ≤ Now that have one, and their number; NaN where there is none.
// An even number's median is the mean of the middle two.
func (w *Window) MedianVelocity() (median float64, n int) {
	vs := make([]float32, 0, w.CountIn(market.Period7d))
	for _, run := range w.closed(market.Period7d) {
		for i := range run {
			if v, ok := run[i].velocity(); ok {
				vs = append(vs, v)
			}
		}
	}
	if w.open.moves() {
		vs = append(vs, w.open.veloc)
	}
	n = len(vs)
	if n == 0 {
		return math.NaN(), 0
	}
	upper := float64(selectNth(vs, n/2))
	if n%2 == 1 {
		return upper, n
	}
	lower := vs[0]
	for _, v := range vs[1 : n/2] {
		lower = max(lower, v)
	}
	return (float64(lower) + upper) / 2, n
}

// closed returns the entries of the closed cells inside p, oldest first.
func (w *Window) closed(p market.Period) [4][]entry {
	it := w.inside(p)
	coarse, fine := w.coarse.runs(it.coarse), w.fine.runs(it.fine)
	return [4][]entry{coarse[0], coarse[1], fine[0], fine[1]}
}

// velocity returns the velocity of a cell that has one.
func (e *entry) velocity() (v float32, ok bool) {
	v = math.Float32frombits(le.Uint32(e[8:]) &^ signBit)
	return v, v == v && le.Uint16(e[12:]) < gapCode
}

// countMoving counts the closed cells inside p that have a velocity.
func (w *Window) countMoving(p market.Period) (n int32) {
	for _, run := range w.closed(p) {
		n += moving(run)
	}
	return n
}

// countAll is countMoving of every period: each is in the next one, so that no
// fine cell is looked at twice unless the slab's end is between them.
func (w *Window) countAll() (counts [market.NumPeriods]int32) {
	r := &w.fine
	if int(r.head+r.n) > len(r.slab) {
		for p := range counts {
			counts[p] = w.countMoving(market.Period(p))
		}
		return counts
	}
	end, sum := r.n, int32(0)
	for p := range counts {
		from := int32(0)
		if p < len(w.cursors) {
			from = min(int32(r.valid(w.cursors[p]).pos-r.pos), end)
		}
		sum += moving(r.slab[r.head+from : r.head+end])
		counts[p], end = sum, from
	}
	it := w.inside(market.Period24h)
	for _, run := range w.coarse.runs(it.coarse) {
		counts[market.Period24h] += moving(run)
	}
	for _, run := range w.coarse.runs(w.coarse.begin()) {
		counts[market.Period7d] += moving(run)
	}
	return counts
}

// moving counts the cells that have a velocity: their bits are at most those of
// infinity, and their offset is no gap's.
func moving(run []entry) (n int32) {
	const infinite = 0x7f80_0000
	for i := range run {
		v, off := le.Uint32(run[i][8:])&^signBit, uint32(le.Uint16(run[i][12:]))
		n += int32((v - infinite - 1) >> 31 & ((off - uint32(gapCode)) >> 31))
	}
	return n
}

// selectNth returns the k-th smallest value, from 0, and leaves no greater ones
// before it and no smaller ones after it (Hoare's quickselect).
func selectNth(vs []float32, k int) float32 {
	lo, hi := 0, len(vs)-1
	for lo < hi {
		pivot := median3(vs[lo], vs[lo+(hi-lo)/2], vs[hi])
		i, j := lo, hi
		for i <= j {
			for vs[i] < pivot {
				i++
			}
			for vs[j] > pivot {
				j--
			}
			if i <= j {
				vs[i], vs[j] = vs[j], vs[i]
				i++
				j--
			}
		}
		switch {
		case k <= j:
			hi = j
		case k >= i:
			lo = i
		default:
			return vs[k]
		}
	}
	return vs[k]
}

func median3(a, b, c float32) float32 { return max(min(a, b), min(max(a, b), c)) }
