package window

import "math"

// ring is a queue of entries over consecutive buckets of one width, oldest
// first. It begins and ends with a cell, or is empty.
//
// Undo needs no copy of it: hold keeps every entry that was alive at the last
// Save in its slot (a slab without room left is replaced, not overwritten), so
// the ring's header of that moment is the whole state. Only replaceLast writes
// to a living entry; Mark keeps that one.
type ring struct {
	slab []entry
	head int32 // slot of the oldest entry
	n    int32 // entries
	// room is how many more entries fit before one is overwritten that was
	// alive at the last Save.
	room  int32
	cells int32  // entries that are cells
	pos   uint32 // entries ever dropped
	width int32  // of a bucket, ms
	// first and end are the bucket of the oldest entry and the one after the
	// newest; both are meaningless in an empty ring.
	first, end int64
}

// slabSizes are capacities whose bytes fill Go's size classes of 448, 1024,
// 2048, 4096, 8192, 16384, 20480 and 24576 bytes.
var slabSizes = [...]int{32, 73, 146, 292, 585, 1170, 1462, 1755}

const noMark = math.MaxInt32

func (r *ring) at(i int32) *entry {
	i += r.head
	if int(i) >= len(r.slab) {
		i -= int32(len(r.slab))
	}
	return &r.slab[i]
}

// hold is called at Save.
func (r *ring) hold() { r.room = int32(len(r.slab)) - r.n }

// push appends a cell of a bucket after the newest one.
func (r *ring) push(c *cell, bucket int64) {
	if r.n == 0 {
		r.first, r.end = bucket, bucket
	}
	for bucket > r.end {
		k := min(bucket-r.end, maxGap)
		r.grow().setGap(k)
		r.end += k
	}
	r.grow().set(c, bucket*int64(r.width))
	r.end++
	r.cells++
}

// grow makes room for one more entry and returns it.
func (r *ring) grow() *entry {
	if int(r.n) == len(r.slab) || r.room == 0 {
		r.move()
	}
	r.room--
	r.n++
	return r.at(r.n - 1)
}

// reserve makes room for n entries at once in an empty ring.
func (r *ring) reserve(n int) {
	if n > 0 {
		r.slab, r.room = make([]entry, slabSize(n)), noMark
	}
}

// slabSize returns the smallest slab for n entries. A window never needs more
// than the largest: no more buckets than that fit into its tiers.
func slabSize(n int) int {
	for _, size := range slabSizes {
		if n <= size {
			return size
		}
	}
	return slabSizes[len(slabSizes)-1]
}

// move copies the living entries to a new slab, a larger one if this is full.
func (r *ring) move() {
	size := slabSize(max(len(r.slab), int(r.n)+1))
	slab := make([]entry, size)
	for i := range r.n {
		slab[i] = *r.at(i)
	}
	r.slab, r.head, r.room = slab, 0, noMark
}

// replaceLast overwrites the newest cell with one of the same bucket.
func (r *ring) replaceLast(c *cell) { r.at(r.n-1).set(c, (r.end-1)*int64(r.width)) }

func (r *ring) oldest() cell { return r.at(0).get(r.first * int64(r.width)) }

func (r *ring) newest() cell { return r.at(r.n - 1).get((r.end - 1) * int64(r.width)) }

// pop drops the oldest cell and the gap after it.
func (r *ring) pop() {
	r.drop(1)
	r.cells--
	for r.n > 0 {
		k := r.at(0).gap()
		if k == 0 {
			return
		}
		r.drop(k)
	}
}

func (r *ring) drop(buckets int64) {
	r.first += buckets
	r.n--
	r.pos++
	r.head++
	if int(r.head) == len(r.slab) {
		r.head = 0
	}
}

// cursor is a place in a ring: an entry, or the end. It survives pushes at the
// end, pops before it and moves of the slab.
type cursor struct {
	pos    uint32 // entries ever popped before it
	bucket int64
}

// runs returns the living entries from the cursor on in at most two stretches.
func (r *ring) runs(c cursor) [2][]entry {
	from, to := int(r.head)+int(int32(c.pos-r.pos)), int(r.head+r.n)
	switch size := len(r.slab); {
	case from >= size:
		return [2][]entry{r.slab[from-size : to-size]}
	case to > size:
		return [2][]entry{r.slab[from:], r.slab[:to-size]}
	}
	return [2][]entry{r.slab[from:to]}
}

func (r *ring) begin() cursor { return cursor{r.pos, r.first} }

// valid returns c, or the beginning where c was on a gap that has gone together
// with the cell before it.
func (r *ring) valid(c cursor) cursor {
	if int32(c.pos-r.pos) < 0 {
		return r.begin()
	}
	return c
}

// next returns the cell at or after the cursor and moves the cursor behind it.
func (r *ring) next(c *cursor) (x cell, ok bool) {
	for {
		i := int32(c.pos - r.pos)
		if i >= r.n {
			return cell{}, false
		}
		e := r.at(i)
		c.pos++
		k := e.gap()
		if k == 0 {
			x = e.get(c.bucket * int64(r.width))
			c.bucket++
			return x, true
		}
		c.bucket += k
	}
}

// prev returns the cell before the cursor and moves the cursor onto it.
func (r *ring) prev(c *cursor) (x cell, ok bool) {
	for {
		i := int32(c.pos - r.pos)
		if i <= 0 {
			return cell{}, false
		}
		e := r.at(i - 1)
		c.pos--
		k := e.gap()
		if k == 0 {
			c.bucket--
			return e.get(c.bucket * int64(r.width)), true
		}
		c.bucket -= k
	}
}

// back moves a cursor back as far as the bucket after an instant's, at once
// where no bucket is empty; elsewhere, and from before that, it stays.
func (r *ring) back(c cursor, start int64) cursor {
	after := start/int64(r.width) + 1
	if r.n != r.cells || after < r.first || after >= c.bucket {
		return c
	}
	return cursor{c.pos - uint32(c.bucket-after), after}
}

func (r *ring) last() cursor { return cursor{r.pos + uint32(r.n), r.end} }
