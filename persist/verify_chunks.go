package persist

import (
	"bytes"
	"errors"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
)

// roundingSlack is how far a velocity may be from the quotient of two totals
// that were each rounded to record.TotalDigits.
const roundingSlack = 2e-5

// sane checks what any history row keeps to.
func (v *verifier) sane(key []byte, id market.ID, r *record.Row) {
	for _, b := range []*market.Bar{&r.Price, &r.Velocity} {
		if b.Close.IsNull() {
			continue
		}
		if b.Low.Cmp(b.Open) > 0 || b.Low.Cmp(b.Close) > 0 || b.High.Cmp(b.Open) < 0 || b.High.Cmp(b.Close) < 0 {
			v.faultOf(key, id, "row %d: open %v, high %v, low %v, close %v", r.Index, b.Open, b.High, b.Low, b.Close)
		}
	}
	if r.Count == 0 {
		v.faultOf(key, id, "row %d is made of no sample", r.Index)
	}
	// Of several samples cap, volume and velocity may come from different ones.
	if r.Count == 1 && !divides(r.Velocity.Close, r.Volume.Close, r.Cap.Close, roundingSlack) {
		v.faultOf(key, id, "row %d: velocity %v is not volume %v / cap %v", r.Index, r.Velocity.Close, r.Volume.Close, r.Cap.Close)
	}
}

// cursor walks one kind, record by record.
type cursor struct {
	v       *verifier
	it      *pebble.Iterator
	kind    byte
	valid   bool
	n       int
	key     []byte
	value   []byte
	payload []byte // nil where the record does not check out; see take
}

func (v *verifier) newCursor(kind byte) *cursor {
	c := &cursor{v: v, kind: kind}
	c.from([]byte{kind})
	return c
}

// from begins, or begins again in a new view, at a key.
func (c *cursor) from(key []byte) {
	c.close()
	c.valid = false
	it, err := c.v.db.NewIter(&pebble.IterOptions{LowerBound: []byte{c.kind}, UpperBound: []byte{c.kind + 1}})
	if c.v.unreadable(c.kind, err); err != nil {
		return
	}
	c.it = it
	c.load(it.SeekGE(key))
}

func (c *cursor) load(ok bool) {
	c.valid = false
	if c.n++; c.n%256 == 0 && c.v.ctx.Err() != nil {
		c.v.err = c.v.ctx.Err()
		return
	}
	if !ok {
		c.v.unreadable(c.kind, c.it.Error())
		return
	}
	value, err := c.it.ValueAndErr()
	if err != nil {
		c.v.unreadable(c.kind, err)
		return
	}
	c.valid = true
	c.key = append(c.key[:0], c.it.Key()...)
	c.value, c.payload = value, nil
}

// take opens the record.
func (c *cursor) take() { c.payload = c.v.open(c.v.count(c.kind), c.key, c.value) }

func (c *cursor) next() { c.load(c.it.Next()) }

func (c *cursor) close() {
	if c.it != nil {
		_ = c.it.Close() // what it met was reported when it met it
		c.it = nil
	}
}

// pairs walks two kinds side by side: fn is told which of them has the key. Behind
// the last record of a token and period between is called, before the view may be
// renewed.
func (v *verifier) pairs(a, b *cursor, between func(), fn func(inA, inB bool)) {
	var last []byte
	for (a.valid || b.valid) && v.err == nil {
		order, key := -1, a.key
		switch {
		case !b.valid:
		case !a.valid:
			order, key = 1, b.key
		default:
			if order = bytes.Compare(a.key[1:], b.key[1:]); order > 0 {
				key = b.key
			}
		}
		if !sameToken(last, key) {
			between()
			if last = append(last[:0], key...); v.view.aged() && v.err == nil {
				v.anewFrom(a, b, last)
				continue
			}
		}
		if order <= 0 {
			a.take()
		}
		if order >= 0 {
			b.take()
		}
		fn(order <= 0, order >= 0)
		v.rest()
		if order <= 0 {
			a.next()
		}
		if order >= 0 {
			b.next()
		}
	}
}

// rowsOf decodes a chunk's rows and checks each.
func (v *verifier) rowsOf(kind byte, dst []record.Row, key, payload []byte) ([]record.Row, bool) {
	l := layouts[kind]
	_, id, part, ok := record.ParseChunkKey(key)
	if !ok || part > 23 || part > 0 && !l.hourly {
		v.fault(key, "the key is not one of a chunk")
		return dst, false
	}
	if payload == nil {
		return dst, false
	}
	rows, err := record.ReadRows(dst, payload, l.rows)
	if err != nil {
		v.fault(key, "%v", err)
		return dst, false
	}
	v.count(kind).Rows += uint64(len(rows))
	for i := range rows {
		v.sane(key, id, &rows[i])
	}
	if len(rows) == 0 {
		v.fault(key, "holds no row")
	}
	return rows, len(rows) > 0
}

// hourRows gathers a token's hours of a day, made of its minutes.
type hourRows struct {
	day  uint32
	id   market.ID
	rows []record.Row
	bad  bool
}

// ladder checks minutes and 5 minutes, and computes 5 minutes and hours again.
func (v *verifier) ladder() {
	one, five := v.newCursor(record.KindHour), v.newCursor(record.KindFive)
	defer one.close()
	defer five.close()
	var minutes, fives []record.Row
	var hours hourRows
	between := func() {
		v.checkHours(&hours)
		hours = hourRows{rows: hours.rows[:0]}
	}
	v.pairs(one, five, between, func(inOne, inFive bool) {
		goodOne, goodFive, key := false, false, five.key
		if inFive {
			fives, goodFive = v.rowsOf(record.KindFive, fives[:0], five.key, five.payload)
		}
		if inOne {
			key = one.key
			minutes, goodOne = v.rowsOf(record.KindHour, minutes[:0], one.key, one.payload)
		}
		day, id, part, ok := record.ParseChunkKey(key)
		if !ok || part > 23 || hourOf(day, part) >= v.rolled.hours {
			return // not moved to the end: to be done again
		}
		hours.day, hours.id = day, id
		switch {
		case !inFive && v.kept(record.KindFive, day):
			v.fault(record.ChunkKey(record.KindFive, day, id, part), "is missing, its minutes are there")
		case !inOne && v.kept(record.KindHour, day) && (!goodFive || !allImported(fives)):
			v.fault(record.ChunkKey(record.KindHour, day, id, part), "is missing, its 5 minutes are there")
			hours.bad = true
		case goodOne && goodFive:
			v.sameRows(five.key, fives, mergeRows(minutes, 5))
		}
		if goodOne {
			whole := mergeRows(minutes, 60)[0]
			whole.Index = int32(part)
			hours.rows = append(hours.rows, whole)
		}
		hours.bad = hours.bad || inOne && !goodOne
	})
	between()
}

// allImported reports whether rows came without what they are made of.
func allImported(rows []record.Row) bool {
	for i := range rows {
		if rows[i].Flags&record.Imported == 0 {
			return false
		}
	}
	return true
}

// ofFiner leaves out what was imported, and what would be in its place.
func ofFiner(got, want []record.Row) (ours, theirs []record.Row) {
	imported := map[int32]bool{}
	for i := range got {
		if got[i].Flags&record.Imported != 0 {
			imported[got[i].Index] = true
		}
	}
	if len(imported) == 0 {
		return got, want
	}
	other := func(r record.Row) bool { return imported[r.Index] }
	return slices.DeleteFunc(slices.Clone(got), other), slices.DeleteFunc(slices.Clone(want), other)
}

// sameRows compares a chunk's rows with those that its finer ones give.
func (v *verifier) sameRows(key []byte, got, want []record.Row) {
	got, want = ofFiner(got, want)
	for i := 0; i < max(len(got), len(want)); i++ {
		v.rep.Recomputed++
		if i >= len(got) || i >= len(want) || !sameRow(&got[i], &want[i]) {
			v.fault(key, "row %d of %d is not what its %d finer ones give", i, len(got), len(want))
			return
		}
	}
}

func (v *verifier) checkHours(h *hourRows) {
	if len(h.rows) == 0 || h.bad || !v.kept(record.KindDay, h.day) {
		return
	}
	key := record.ChunkKey(record.KindDay, h.day, h.id, 0)
	found := v.get(key, func(payload []byte) {
		rows, err := record.ReadRows(v.rows[:0], payload, 24)
		if err != nil {
			return // reported by its own walk
		}
		v.rows = rows
		for len(rows) > 0 && hourOf(h.day, byte(rows[len(rows)-1].Index)) >= v.rolled.hours {
			rows = rows[:len(rows)-1]
		}
		v.sameRows(key, rows, h.rows)
	})
	if !found {
		v.fault(key, "is missing, its minutes are there")
	}
}

// days checks hours, and computes days again.
func (v *verifier) days() {
	var rows []record.Row
	v.eachAlone(record.KindDay, func(key, payload []byte) {
		var good bool
		rows, good = v.rowsOf(record.KindDay, rows[:0], key, payload)
		day, id, _, ok := record.ParseChunkKey(key)
		if !good || !ok {
			return
		}
		if v.kept(record.KindHour, day) && !allImported(rows) && hourOf(day, byte(rows[0].Index)) < v.rolled.hours && !v.has(record.KindHour, day, id) {
			v.fault(record.ChunkKey(record.KindHour, day, id, byte(rows[0].Index)), "is missing, its hour is there")
		}
		if dayStart(day) >= v.rolled.days || !v.kept(record.KindMonth, day/monthDays) {
			return
		}
		want := mergeRows(rows, 24)[0]
		want.Index = int32(day % monthDays)
		month := record.ChunkKey(record.KindMonth, day/monthDays, id, 0)
		got, ok := v.rowOf(month, monthDays, want.Index)
		switch {
		case !ok:
			v.fault(month, "has no row of day %d, whose hours are there", want.Index)
		case got.Flags&record.Imported == 0 && !sameRow(&got, &want):
			v.fault(month, "the row of day %d is not what its hours give", want.Index)
		}
		v.rep.Recomputed++
	})
}

// has reports whether a token has a chunk of a kind on a day.
func (v *verifier) has(kind byte, day uint32, id market.ID) (found bool) {
	err := scan(v.db, record.ChunkKey(kind, day, id, 0), record.ChunkKey(kind, day, id, 24), func([]byte, []byte) error {
		found = true
		return errStop
	})
	return found || errors.Is(err, ErrCorrupt)
}

// months checks days.
func (v *verifier) months() {
	var rows []record.Row
	v.eachAlone(record.KindMonth, func(key, payload []byte) {
		var good bool
		rows, good = v.rowsOf(record.KindMonth, rows[:0], key, payload)
		period, id, _, ok := record.ParseChunkKey(key)
		if !good || !ok {
			return
		}
		for i := range rows {
			day := period*monthDays + uint32(rows[i].Index)
			if dayStart(day) >= v.rolled.days || !v.kept(record.KindDay, day) || rows[i].Flags&record.Imported != 0 {
				continue
			}
			if !v.get(record.ChunkKey(record.KindDay, day, id, 0), func([]byte) {}) {
				v.fault(record.ChunkKey(record.KindDay, day, id, 0), "is missing, its day is there")
			}
		}
	})
}
