package window

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
)

// fillSingly is fill without follow: a look at every cell's place.
func (w *Window) fillSingly(closed []market.Cell) error {
	limit, end, last := w.open.t/minute-fineBuckets, w.open.t/hour*hour, int64(0)
	for i := range closed {
		m := &closed[i]
		c := cell{t: int64(m.Time), price: retained(m.Price), volume: retained(m.Volume), veloc: retained(m.Velocity)}
		bucket := c.t / minute
		switch {
		case c.t <= 0 || c.t >= end || c.t <= last || bucket > limit && bucket == last/minute:
			return ErrCells
		case bucket > limit:
			w.fine.push(&c, bucket)
		case c.t > w.open.t-span:
			w.store(&c)
		}
		last = c.t
	}
	return nil
}

func (r *ring) living() (all []entry) {
	for _, run := range r.runs(r.begin()) {
		all = append(all, run...)
	}
	return all
}

// Cells that go in by stretches make the window that cells one by one make, and
// what is refused one by one is refused.
func TestFill(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 1))
	odd := []float32{0, float32(math.Copysign(0, -1)), -1, float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), math.MaxFloat32}
	value := func() float32 {
		if rng.IntN(9) == 0 {
			return odd[rng.IntN(len(odd))]
		}
		return rng.Float32()
	}
	refused := 0
	for range 200 {
		now := int64(1+rng.IntN(12))*24*hour + rng.Int64N(24*hour)
		var cells []market.Cell
		for at := max(now-8*24*hour, 1) + rng.Int64N(8*24*hour); at < now/hour*hour; {
			cells = append(cells, market.Cell{Time: market.Time(at), Price: value(), Volume: value(), Velocity: value()})
			step := minute
			if at < now-25*hour {
				step = 5 * minute
			}
			switch rng.IntN(60) {
			case 0:
				step *= 1 + rng.Int64N(40)
			case 1:
				step = minute
			}
			at = at/step*step + step + rng.Int64N(minute)
		}
		if n := len(cells); n > 0 && rng.IntN(4) == 0 { // out of order, or too late
			cells[rng.IntN(n)].Time += market.Time(rng.Int64N(4*hour) - 2*hour)
		}
		a, b := New(Config{}), New(Config{})
		a.open.t, b.open.t = now, now
		errA, errB := a.fill(cells), b.fillSingly(cells)
		if errors.Is(errA, ErrCells) != (errB != nil) {
			t.Fatalf("%v, one by one %v", errA, errB)
		}
		if errB != nil {
			refused++
			continue
		}
		for i, r := range []*ring{&a.fine, &a.coarse} {
			s := []*ring{&b.fine, &b.coarse}[i]
			if r.n != s.n || r.cells != s.cells || r.first != s.first || r.end != s.end || !slices.Equal(r.living(), s.living()) {
				t.Fatalf("ring %d of %d cells: %d entries, %d cells, %d to %d; one by one %d, %d, %d to %d", i, len(cells), r.n, r.cells, r.first, r.end, s.n, s.cells, s.first, s.end)
			}
		}
	}
	if refused < 5 {
		t.Errorf("%d refused", refused)
	}
}

// Places and counts that are found at once are those that walking finds.
func TestCountAll(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 2))
	for k := range 60 {
		w := New(Config{})
		at := int64(1+rng.IntN(50)) * hour
		for range rng.IntN(3000) {
			w.Add(Sample{Time: market.Time(at), Price: 1, Volume: 1, Velocity: []float64{1, math.NaN()}[rng.IntN(20)/19]})
			step := minute
			if k%2 == 0 && rng.IntN(100) == 0 {
				step *= 1 + rng.Int64N(200)
			}
			at += step
		}
		var want [market.NumPeriods]int32
		for p := range want {
			for it := w.inside(market.Period(p)); it.next(); {
				if it.c.moves() {
					want[p]++
				}
			}
		}
		if got := w.countAll(); got != want {
			t.Fatalf("%v moving cells, want %v", got, want)
		}
		for p := range w.cursors {
			start := w.open.t - int64(market.Period(p).Length())
			walked := w.fine.last()
			for back := walked; ; walked = back {
				if c, ok := w.fine.prev(&back); !ok || c.t <= start {
					break
				}
			}
			at := w.fine.last()
			if w.locatePeriod(market.Period(p), &at); at != walked {
				t.Fatalf("period %d begins at %+v, walking finds %+v", p, at, walked)
			}
		}
	}
}
