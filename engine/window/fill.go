package window

import (
	"fmt"
	"math"
	"slices"

	"github.com/velocimeter/velocimeter/engine/market"
)

// fill puts the closed hours' samples into the tiers. It is much of a start's
// work, so those that follow one another bucket by bucket, as nearly all do, go
// in without a look at each one's place.
func (w *Window) fill(closed []market.Cell) error {
	limit, end, last := w.open.t/minute-fineBuckets, w.open.t/hour*hour, int64(0)
	young := (limit + 1) * minute // where the fine tier begins
	w.reserve(closed, young)
	for i := 0; i < len(closed); i++ {
		var n int
		if last < young {
			n = w.coarse.follow(closed[i:], min(young, end))
		} else {
			n = w.fine.follow(closed[i:], end)
		}
		if n > 0 {
			i += n - 1
			last = int64(closed[i].Time)
			continue
		}
		m := &closed[i]
		c := cell{t: int64(m.Time), price: retained(m.Price), volume: retained(m.Volume), veloc: retained(m.Velocity)}
		bucket := c.t / minute
		switch {
		case c.t <= 0 || c.t >= end || c.t <= last || bucket > limit && bucket == last/minute:
			return fmt.Errorf("cannot restore a sample of %d after %d, before the hour %d: %w", c.t, last, end, ErrCells)
		case bucket > limit:
			w.fine.push(&c, bucket)
		case c.t > w.open.t-span:
			w.store(&c)
		}
		last = c.t
	}
	return nil
}

// follow is push for the first cells, as far as each is of the bucket after the
// one before and earlier than end, and there is room; it returns how many were
// pushed. The first cell of a ring, and the cells behind the slab's end, are not.
func (r *ring) follow(cells []market.Cell, end int64) int {
	if r.n == 0 || r.head != 0 {
		return 0
	}
	slab := r.slab[r.n:]
	slab = slab[:min(len(slab), int(r.room), len(cells))]
	width := int64(r.width)
	start, n := r.end*width, 0
	for n < len(slab) {
		c := &cells[n]
		off := int64(c.Time) - start
		if uint64(off) >= uint64(width) || int64(c.Time) >= end {
			break
		}
		e := &slab[n]
		in := uint32(off / minute)
		le.PutUint64(e[0:], uint64(kept(c.Price)|in<<31)|uint64(kept(c.Volume)|in>>1<<31)<<32)
		le.PutUint32(e[8:], kept(c.Velocity)|in>>2<<31)
		le.PutUint16(e[12:], uint16(off-int64(in)*minute))
		start += width
		n++
	}
	r.n, r.cells, r.room, r.end = r.n+int32(n), r.cells+int32(n), r.room-int32(n), r.end+int64(n)
	return n
}

// kept returns the bits of retained(v), but for the sign.
func kept(v float32) uint32 {
	const infinite = 0x7f80_0000
	if b := math.Float32bits(v); b < infinite {
		return b
	}
	return math.Float32bits(retained(v)) &^ signBit
}

// reserve makes slabs for the closed cells and the open hour, so that they need
// not grow; gaps are left to growth.
func (w *Window) reserve(closed []market.Cell, young int64) {
	if len(closed) == 0 {
		return
	}
	old, _ := slices.BinarySearchFunc(closed, young, func(c market.Cell, t int64) int { return int(int64(c.Time) - t) })
	coarse, next := 0, w.open.t-span+1
	for i := range closed[:old] {
		if t := int64(closed[i].Time); t >= next {
			coarse++
			next = (t/coarseWidth + 1) * coarseWidth
		}
	}
	w.fine.reserve(60 + len(closed) - old)
	w.coarse.reserve(coarse)
}
