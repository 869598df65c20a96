package persist

import (
	"cmp"
	"hash/maphash"
	"maps"
	"math"
	"slices"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
)

// closedMinutes reads what every closed minute says about its ticks.
func (v *verifier) closedMinutes() {
	v.each(record.KindMinute, func(key, payload []byte) {
		if payload == nil {
			return
		}
		at, ok := record.KeyTime(key)
		n, err := record.ReadNumbers(payload, 2)
		switch {
		case err != nil:
			v.fault(key, "%v", err)
		case !ok || len(key) != 9 || at != record.Floor(at, market.Minute):
			v.fault(key, "the key is not one of a full minute")
		case n[1] < n[0] || len(v.minutes) > 0 && n[0] <= v.minutes[len(v.minutes)-1].last:
			v.fault(key, "ticks %d…%d do not follow those of the minute before", n[0], n[1])
		default:
			v.minutes = append(v.minutes, minuteSpan{at: at, first: n[0], last: n[1]})
		}
	})
}

// tickWalk goes through the journal, and adds up its minutes again.
type tickWalk struct {
	v      *verifier
	prev   uint64 // the tick before
	at     market.Time
	last   uint64 // newest one that can be restored
	whole  bool
	minute int    // index of the closed minute that is added up
	seen   uint64 // ticks of it
	open   openMinute
	moved  bool // the view was renewed since

	hour market.Time // in chunks, whose minutes are added up
	sums map[market.ID]*[60]uint64
	seed maphash.Seed
}

// journal checks every tick and that none is missing but those that are known to be.
func (v *verifier) journal() {
	w := &tickWalk{v: v, last: v.state.seq, whole: true, open: openMinute{accs: map[market.ID]*record.Acc{}}}
	w.sums, w.seed = map[market.ID]*[60]uint64{}, maphash.MakeSeed()
	v.rep.DurableSeq, v.rep.Time = v.state.seq, v.state.at
	v.walkKind(record.KindJournal, w.betweenMinutes, func(key, payload []byte) {
		seq, ok := record.JournalSeq(key)
		if !ok {
			v.fault(key, "the key has %d bytes", len(key))
			return
		}
		w.settle(seq)
		w.follow(seq)
		head, good := w.read(key, payload)
		w.add(seq, head, good)
		if !good && seq > v.state.seq && !inRanges(v.rep.Cut, seq) {
			w.whole = false
		}
		if w.whole && good && seq > v.state.seq && !inRanges(v.rep.Cut, seq) {
			w.last = seq
			v.rep.DurableSeq, v.rep.Time = seq, head.Tick.Env.Now
		}
		w.prev = seq
	})
	w.finish(math.MaxUint64)
	w.compareHour()
	v.newest = w.prev
	if v.state.seq > w.prev && w.prev > 0 {
		what := "ticks up to the state are missing"
		if v.broken[record.KindJournal] {
			what = "ticks up to the state were not read"
		}
		v.rep.add(Fault{Kind: kindNames[record.KindJournal], From: w.prev + 1, To: v.state.seq, What: what})
	}
}

// follow checks that nothing is missing between the tick before and this one.
func (w *tickWalk) follow(seq uint64) {
	v := w.v
	before := w.prev
	if before == 0 { // the oldest that is kept: older ones were dropped, up to the state
		v.rep.FirstSeq = seq
		if before = v.state.seq; seq <= before {
			return
		}
	}
	if !follows(v.rep.Holes, before, seq) {
		v.rep.add(Fault{Kind: kindNames[record.KindJournal], From: before + 1, To: seq - 1, What: "ticks are missing"})
		if seq > v.state.seq {
			w.whole = false
		}
	}
}

func (w *tickWalk) read(key, payload []byte) (head *record.Head, good bool) {
	v := w.v
	if payload == nil {
		return nil, false
	}
	head, err := record.ReadHead(payload)
	if err != nil {
		v.fault(key, "%v", err)
		return nil, false
	}
	if seq, _ := record.JournalSeq(key); head.Tick.Env.Seq != seq {
		v.fault(key, "holds tick %d", head.Tick.Env.Seq)
		return nil, false
	}
	if head.At < w.at {
		v.fault(key, "is filed at %d, the tick before at %d", head.At, w.at)
	}
	w.at = max(w.at, head.At)
	return head, true
}

// holeWithin reports whether ticks are lost between two seqs: the one that closed
// the minute of the first may be among them.
func holeWithin(holes []LostRange, from, to uint64) bool {
	return slices.ContainsFunc(holes, func(r LostRange) bool { return r.From >= from && r.From < to })
}

// add takes a tick's samples into the minute that it belongs to.
func (w *tickWalk) add(seq uint64, head *record.Head, good bool) {
	v := w.v
	w.finish(seq)
	inMinute := w.minute < len(v.minutes) && seq >= v.minutes[w.minute].first
	if w.minute > 0 && !inMinute && w.minute < len(v.minutes) && !holeWithin(v.rep.Holes, seq, v.minutes[w.minute].first) {
		v.fault(record.JournalKey(seq), "belongs to no closed minute, later ones do")
	}
	if !good {
		return
	}
	if inMinute && record.Floor(head.At, market.Minute) != v.minutes[w.minute].at {
		v.fault(record.JournalKey(seq), "is filed at %d, outside of its minute %d", head.At, v.minutes[w.minute].at)
	}
	ticks := v.count(record.KindJournal)
	err := head.Samples(func(id market.ID, s *record.Sample) {
		ticks.Rows++
		if !divides(s.Velocity, s.Volume, s.Cap, 0) {
			v.faultOf(record.JournalKey(seq), id, "velocity %v is not volume %v / cap %v", s.Velocity, s.Volume, s.Cap)
		}
		if inMinute {
			w.open.add(id, s)
		}
		v.restSmall()
	})
	if err != nil {
		v.fault(record.JournalKey(seq), "%v", err)
		return
	}
	if inMinute {
		w.seen++
	}
}

// faultOf is fault for one token's row.
func (v *verifier) faultOf(key []byte, id market.ID, format string, args ...any) {
	v.fault(key, format, args...)
	if n := v.rep.FaultCount; n <= maxFaults {
		v.rep.Faults[n-1].Token = id
	}
}

// divides reports whether a velocity is volume / cap where the cap is the
// reported one. The slack is relative: chunks hold rounded values.
func divides(velocity, volume, by market.Decimal, slack float64) bool {
	if !by.Positive() || volume.IsNull() {
		return true // made of another cap, or null
	}
	want := volume.Float() / by.Float()
	if velocity.IsNull() {
		return !(want < 1e90) // beyond what a velocity can be
	}
	return math.Abs(velocity.Float()-want) <= 1e-9+(1e-9+slack)*math.Abs(want)
}

// finish compares the minutes that end before a tick with what is stored.
func (w *tickWalk) finish(seq uint64) {
	v := w.v
	for ; w.minute < len(v.minutes) && v.minutes[w.minute].last < seq; w.minute++ {
		m := v.minutes[w.minute]
		if w.seen == m.last-m.first+1 {
			w.compare(m)
		} else {
			v.rep.Unchecked++
		}
		for _, id := range w.open.touched {
			*w.open.accs[id] = record.Acc{}
		}
		w.open.touched, w.seen = w.open.touched[:0], 0
	}
}

// compare holds a minute's rows against those made of its ticks.
func (w *tickWalk) compare(m minuteSpan) {
	v := w.v
	chunks := m.at < v.rolled.hours
	if chunks && !v.kept(record.KindHour, dayOf(m.at)) || !chunks && v.broken[record.KindBlock] {
		return
	}
	index := int32((m.at - record.Floor(m.at, market.Hour)) / market.Time(market.Minute))
	v.rep.Recomputed += uint64(len(w.open.touched))
	if chunks {
		w.note(m, index)
		return
	}
	blocks := v.blocksOf(m.at)
	for _, id := range w.open.touched {
		key := record.BlockKey(m.at, record.Group(id))
		row, ok := blocks[id]
		delete(blocks, id)
		switch want := w.open.accs[id].Row(index); {
		case !ok:
			v.faultOf(key, id, "has no row of minute %d, its ticks %d…%d have", index, m.first, m.last)
		case !sameRow(&row, &want):
			v.faultOf(key, id, "the row of minute %d is not what its ticks %d…%d give", index, m.first, m.last)
		}
	}
	for id := range blocks {
		v.faultOf(record.BlockKey(m.at, record.Group(id)), id, "has a row that none of its ticks %d…%d gives", m.first, m.last)
	}
}

// note keeps a hash of every row of a minute whose hour is in chunks, so that
// each chunk is read once and not sixty times.
func (w *tickWalk) note(m minuteSpan, index int32) {
	if hour := record.Floor(m.at, market.Hour); hour != w.hour {
		w.compareHour()
		w.hour = hour
	}
	for _, id := range w.open.touched {
		sums := w.sums[id]
		if sums == nil {
			sums = new([60]uint64)
			w.sums[id] = sums
		}
		want := w.open.accs[id].Row(index)
		sums[index] = w.sum(&stored(&want)[0])
	}
}

// sum is a hash of a row as it comes back from the store; never 0.
func (w *tickWalk) sum(r *record.Row) uint64 { return maphash.Comparable(w.seed, *r) | 1 }

// compareHour holds the rows of an hour's chunks against those made of its ticks.
func (w *tickWalk) compareHour() {
	v := w.v
	if !v.kept(record.KindHour, dayOf(w.hour)) { // it was dropped since
		clear(w.sums)
		return
	}
	for _, id := range slices.Sorted(maps.Keys(w.sums)) {
		v.restSmall()
		key := record.ChunkKey(record.KindHour, dayOf(w.hour), id, byte(hourOfDay(w.hour)))
		want := w.sums[id]
		v.rows = v.rows[:0]
		v.get(key, func(payload []byte) { v.rows, _ = record.ReadRows(v.rows, payload, 60) })
		for i := range v.rows {
			if at := v.rows[i].Index; want[at] != 0 && want[at] != w.sum(&v.rows[i]) {
				v.faultOf(key, id, "the row of minute %d is not what its ticks give", at)
			}
			want[v.rows[i].Index] = 0
		}
		for at, sum := range want {
			if sum != 0 {
				v.faultOf(key, id, "has no row of minute %d, its ticks have", at)
			}
		}
	}
	clear(w.sums)
}

// blocksOf returns the rows of a minute's blocks.
func (v *verifier) blocksOf(minute market.Time) map[market.ID]record.Row {
	rows := map[market.ID]record.Row{}
	for group := range byte(record.Groups) {
		v.get(record.BlockKey(minute, group), func(payload []byte) {
			// What does not decode is reported by the walk of the blocks.
			_ = record.ReadBlock(payload, 0, func(id market.ID, row record.Row) { rows[id] = row })
		})
	}
	return rows
}

// rowOf returns a chunk's row of an index.
func (v *verifier) rowOf(key []byte, limit, index int32) (row record.Row, ok bool) {
	v.get(key, func(payload []byte) {
		v.rows, _ = record.ReadRows(v.rows[:0], payload, limit)
		for i := range v.rows {
			if v.rows[i].Index == index {
				row, ok = v.rows[i], true
			}
		}
	})
	return row, ok
}

// sameRow compares rows as they come back from the store.
func sameRow(a, b *record.Row) bool {
	if *a == *b {
		return true
	}
	return string(record.AppendRows(nil, stored(a))) == string(record.AppendRows(nil, stored(b)))
}

func stored(r *record.Row) []record.Row {
	rows, err := record.ReadRows(nil, record.AppendRows(nil, []record.Row{*r}), 60)
	if err != nil {
		return []record.Row{*r}
	}
	return rows
}

// blocks checks the minute blocks of hours that are not over.
func (v *verifier) blocks() {
	v.eachAlone(record.KindBlock, func(key, payload []byte) {
		minute, _ := record.KeyTime(key)
		_, closed := slices.BinarySearchFunc(v.minutes, minute, func(m minuteSpan, at market.Time) int { return cmp.Compare(m.at, at) })
		switch {
		case len(key) != 10 || key[9] >= record.Groups || minute != record.Floor(minute, market.Minute):
			v.fault(key, "the key is not one of a minute and a group")
			return
		case minute < v.rolled.hours:
			v.fault(key, "its hour is over, and in chunks")
		case !closed && !v.broken[record.KindMinute]:
			v.fault(key, "its minute is not closed")
		}
		if payload == nil {
			return
		}
		index := int32((minute - record.Floor(minute, market.Hour)) / market.Time(market.Minute))
		err := record.ReadBlock(payload, 0, func(id market.ID, row record.Row) {
			v.count(record.KindBlock).Rows++
			if record.Group(id) != key[9] || row.Index != index {
				v.faultOf(key, id, "a row of minute %d in the block of minute %d", row.Index, index)
			}
			v.sane(key, id, &row)
		})
		if err != nil {
			v.fault(key, "%v", err)
		}
	})
}
