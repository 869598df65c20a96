package window

import (
	"math"

	"github.com/velocimeter/velocimeter/engine/market"
)

const (
	fineBuckets = 1440       // minutes of the fine tier, the open one included
	span        = 168 * hour // of the whole window
	day         = fineBuckets * minute
	leapMinutes = 60 // gaps longer than this take the slow path
)

// roll closes the open minute: its cell enters all periods, minutes that are a
// day old move to the coarse tier, and what has left a period leaves its sums.
func (w *Window) roll(c *cell) {
	from, to := w.open.t/minute, c.t/minute
	w.touched = w.touch()
	w.shut(from)
	for p := range market.NumPeriods {
		w.enter(p, &w.open)
	}
	w.open = *c
	w.migrate(to - fineBuckets)
	w.expire()
	w.resumDue(from, to)
}

// touch loads what roll is about to need: with thousands of windows each of
// these places is a cache miss, and here they overlap instead of queueing.
func (w *Window) touch() (b byte) {
	if w.fine.n > 0 {
		b = w.fine.at(0)[0] ^ w.fine.at(w.fine.n - 1)[0]
		for i := range w.cursors {
			b ^= w.fine.at(min(max(int32(w.cursors[i].pos-w.fine.pos), 0), w.fine.n-1))[0]
		}
	}
	if w.coarse.n > 0 {
		b ^= w.coarse.at(0)[0] ^ w.coarse.at(w.coarse.n - 1)[0]
	}
	return b
}

// leap is roll after a long gap: far cheaper than to follow every cell through
// its periods is to move the cells alone and to make the sums anew.
func (w *Window) leap(c *cell) {
	w.shut(w.open.t / minute)
	w.open = *c
	w.evict(1) // the newest coarse cell may yet be replaced
	for limit := c.t/minute - fineBuckets; w.fine.n > 0 && w.fine.first <= limit; {
		x := w.fine.oldest()
		w.fine.pop()
		w.store(&x)
	}
	w.locate()
	for p := range market.NumPeriods {
		w.resum(p)
	}
}

// shut puts the newest sample, of minute m, into the fine tier.
func (w *Window) shut(m int64) {
	empty := w.fine.n == 0
	w.fine.push(&w.open, m)
	if empty {
		for i := range w.cursors {
			w.cursors[i] = w.fine.begin()
		}
	}
}

// migrate moves the minutes up to limit from the fine tier to the coarse one. A
// coarse cell that is replaced leaves 7d, the only period that still held it.
func (w *Window) migrate(limit int64) {
	if w.fine.n == 0 || w.fine.first > limit {
		return
	}
	w.settle()
	for w.fine.n > 0 && w.fine.first <= limit {
		c := w.fine.oldest()
		w.fine.pop()
		if old, replaced := w.store(&c); replaced {
			w.leave(market.Period7d, &old)
		}
		w.linger = true
		if c.t <= w.open.t-day {
			w.settleCell(&c)
		}
	}
	w.findBase24()
}

// settle takes the newest coarse cell out of 24h if it still was inside.
func (w *Window) settle() {
	if w.linger {
		c := w.coarse.newest()
		w.settleCell(&c)
	}
}

func (w *Window) settleCell(c *cell) {
	w.leave(market.Period24h, c)
	w.linger = false
}

// store puts a cell into the coarse tier and returns the one it replaced there.
func (w *Window) store(c *cell) (old cell, replaced bool) {
	bucket := c.t / coarseWidth
	if w.coarse.n > 0 && w.coarse.end-1 == bucket {
		old = w.coarse.newest()
		w.coarse.replaceLast(c)
		return old, true
	}
	w.coarse.push(c, bucket)
	return old, false
}

// expire takes the cells that time has carried out of a period out of its sums
// and finds out when the next will be.
func (w *Window) expire() {
	w.due = math.MaxInt64
	for i := range w.cursors {
		w.pass(market.Period(i))
	}
	if w.linger {
		c := w.coarse.newest()
		if c.t <= w.open.t-day {
			w.settleCell(&c)
			w.findBase24()
		} else {
			w.due = min(w.due, c.t+day)
		}
	}
	w.evict(0)
}

// pass moves the cursor of 1h, 4h or 12h over the cells that have left.
func (w *Window) pass(p market.Period) {
	a, length := &w.trends[p], int64(p.Length())
	for at := w.fine.valid(w.cursors[p]); ; w.cursors[p] = at {
		c, ok := w.fine.next(&at)
		if !ok {
			return
		}
		if c.t > w.open.t-length {
			w.due = min(w.due, c.t+length)
			return
		}
		w.leave(p, &c)
		a.rebase(&c)
	}
}

// evict drops coarse cells that have left 7d, but spares the newest keep ones.
// The 7d base is no cell any more: trendSums remembers it.
func (w *Window) evict(keep int32) {
	a := &w.trends[market.Period7d]
	for w.coarse.cells > keep {
		c := w.coarse.oldest()
		if c.t > w.open.t-span {
			w.due = min(w.due, c.t+span)
			return
		}
		w.coarse.pop()
		w.leave(market.Period7d, &c)
		a.rebase(&c)
	}
}

func (a *trendSums) rebase(c *cell) {
	if c.moves() {
		a.baseT, a.baseV = c.t, c.veloc
	}
}

// findBase24 finds the 24h base. Unlike the others it is looked for, because
// the coarse tier may drop the cell that left last.
func (w *Window) findBase24() {
	a := &w.trends[market.Period24h]
	a.baseT = 0
	at := w.coarse.last()
	if w.linger {
		w.coarse.prev(&at)
	}
	for {
		c, ok := w.coarse.prev(&at)
		if !ok || c.t < w.open.t-day-day/4 {
			return
		}
		if c.moves() {
			a.rebase(&c)
			return
		}
	}
}

// findFirst finds the oldest closed cell with a velocity inside p.
func (w *Window) findFirst(p market.Period) {
	a := &w.trends[p]
	for it := w.inside(p); it.next(); {
		if it.c.moves() {
			a.firstT, a.firstV = it.c.t, it.c.veloc
			return
		}
	}
}

// locate finds cursors and bases from the cells alone. The sums are garbage
// after it until they are made anew.
func (w *Window) locate() {
	at := w.fine.last()
	for i := range w.cursors {
		w.locatePeriod(market.Period(i), &at)
	}
	for p := range w.trends {
		w.trends[p].firstT = 0
	}
	w.linger = w.coarse.n > 0 && w.coarse.newest().t > w.open.t-day
	w.findBase24()
	w.expire()
}

// locatePeriod puts the cursor of 1h, 4h or 12h to the oldest cell inside,
// searching back from at, and finds the base before it.
func (w *Window) locatePeriod(p market.Period, at *cursor) {
	a, start := &w.trends[p], w.open.t-int64(p.Length())
	*at = w.fine.back(*at, start)
	for {
		back := *at
		if c, ok := w.fine.prev(&back); !ok || c.t <= start {
			break
		}
		*at = back
	}
	w.cursors[p] = *at
	a.baseT = 0
	for back := *at; ; {
		c, ok := w.fine.prev(&back)
		if !ok || c.moves() {
			if ok {
				a.rebase(&c)
			}
			return
		}
	}
}
