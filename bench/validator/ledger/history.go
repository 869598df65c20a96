package ledger

import (
	"cmp"
	"slices"

	"github.com/velocimeter/velocimeter/engine/market"
)

// fullList is how many holes a store lists at most.
const fullList = 64

// Point is a raw point of history.
type Point struct {
	Seq   uint64
	Time  market.Time
	Core  Core
	Flags string
}

// History is an answer to a question for all raw points of a token.
type History struct {
	Who      string
	ID       market.ID
	From     market.Time // where the answer begins; earlier points may be gone by age
	Promised uint64      // by then, before the question was asked
	Durable  uint64      // as the first page says
	Points   []Point
}

// Promised notes a durable_seq that the server told.
func (b *Book) Promised(durable uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.promised = max(b.promised, durable)
}

// Promise returns the newest durable_seq that was told.
func (b *Book) Promise() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.promised
}

// Shows returns the newest seq that was shown.
func (b *Book) Shows() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.newest
}

// Crashed notes that a process ended without a stop in order, what is durable
// now, and how many answers the provider had given by then. All that was shown
// after it is lost for ever, its seqs too. It is called before the next process
// starts.
func (b *Book) Crashed(durable uint64, answers int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.check(Durable, durable >= b.promised, "after a crash durable_seq is %d, %d was promised", durable, b.promised)
	b.crashes = append(b.crashes, durable)
	b.lost = append(b.lost, lostRange{Range{durable + 1, b.newest}, int32(answers)})
	for _, t := range b.tokens {
		for i := range t.shown {
			t.shown[i].lost = t.shown[i].lost || t.shown[i].seq > durable
		}
	}
}

// Stopped notes that a process ended in order, and what is durable now: all
// that was shown, unless history was paused.
func (b *Book) Stopped(durable uint64, paused bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.check(Durable, durable >= b.promised, "after a stop durable_seq is %d, %d was promised", durable, b.promised)
	b.check(Durable, durable >= b.newest || paused, "after a stop in order durable_seq is %d, %d was shown", durable, b.newest)
}

// Unsure notes that from now on ticks may find no space: what is not durable yet is
// held against history when the store has told its holes.
func (b *Book) Unsure() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unsure = b.promised + 1
}

// Holes notes which seqs a store says it does not have. What of them is new must
// lie behind what was promised when the fault began, or be what an earlier crash
// took and nobody saw since. A list of 64 says more than it knows: neighbours were
// joined to keep it short.
func (b *Book) Holes(holes []Range, promised uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, h := range holes {
		fresh := h
		for _, k := range b.holes {
			if k.From <= fresh.From && fresh.From <= k.To+1 {
				fresh.From = k.To + 1
			}
		}
		crashed := slices.ContainsFunc(b.crashes, func(durable uint64) bool { return durable < fresh.From }) && !b.shownIn(fresh)
		b.check(Durable, len(holes) >= fullList || fresh.From > fresh.To || fresh.From > promised || crashed, "the store lacks seqs %d…%d, %d was promised", h.From, h.To, promised)
	}
	b.holes, b.unsure = slices.Clone(holes), 0
}

// shownIn reports whether something was shown at a seq of the range that no
// crash took.
func (b *Book) shownIn(r Range) bool {
	for _, t := range b.tokens {
		at, _ := slices.BinarySearchFunc(t.shown, r.From, func(x entry, seq uint64) int { return cmp.Compare(x.seq, seq) })
		for _, e := range t.shown[at:] {
			if e.seq > r.To {
				break
			}
			if !e.lost {
				return true
			}
		}
	}
	return false
}

// History holds an answer against everything that was shown and against
// earlier answers.
func (b *Book) History(h *History) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.check(Durable, h.Durable >= h.Promised, "%s: durable_seq %d, %d was promised", h.Who, h.Durable, h.Promised)
	b.promised = max(b.promised, h.Durable)
	t := b.timeline(h.ID)
	for i := range h.Points {
		p := &h.Points[i]
		row := Row{}
		for k, f := range core {
			row.Set(f, p.Core[k])
		}
		b.origin(h.Who, p.Seq, h.ID, &row)
		b.check(Durable, p.Seq <= h.Durable, "%s: token %d has a point at seq %d, durable_seq is %d", h.Who, h.ID, p.Seq, h.Durable)
		b.check(Ordered, i == 0 || h.Points[i-1].Seq < p.Seq, "%s: token %d has points out of order at seq %d", h.Who, h.ID, p.Seq)
	}
	b.comparePoints(t, h)
	b.compareShown(t, h)
	t.kept = slices.Clone(h.Points)
}

// comparePoints checks that an answer has every point of the one before, and
// none that it had not.
func (b *Book) comparePoints(t *timeline, h *History) {
	var last uint64
	if len(t.kept) > 0 {
		last = t.kept[len(t.kept)-1].Seq
	}
	i := 0
	for _, old := range t.kept {
		if old.Time < h.From {
			continue
		}
		for ; i < len(h.Points) && h.Points[i].Seq < old.Seq; i++ {
			b.check(Durable, false, "%s: token %d has a point at seq %d that was not there before", h.Who, h.ID, h.Points[i].Seq)
		}
		switch {
		case i == len(h.Points) || h.Points[i].Seq > old.Seq:
			b.check(Durable, false, "%s: token %d has no point at seq %d any more", h.Who, h.ID, old.Seq)
		default:
			b.check(Durable, h.Points[i] == old, "%s: token %d at seq %d is %v, history said %v before", h.Who, h.ID, old.Seq, h.Points[i], old)
			i++
		}
	}
	for ; i < len(h.Points) && h.Points[i].Seq <= last; i++ {
		b.check(Durable, false, "%s: token %d has a point at seq %d that was not there before", h.Who, h.ID, h.Points[i].Seq)
	}
}

// compareShown checks that what was shown at a durable seq is what history has:
// the newest point up to it.
func (b *Book) compareShown(t *timeline, h *History) {
	for i := range t.shown {
		e := &t.shown[i]
		if e.lost || e.seq > h.Durable || b.unsure > 0 && e.seq >= b.unsure {
			continue
		}
		at, found := slices.BinarySearchFunc(h.Points, e.seq, func(p Point, seq uint64) int { return cmp.Compare(p.Seq, seq) })
		if !found {
			at--
		}
		switch {
		case at < 0:
			b.check(Durable, b.hole(0, e.seq), "%s: token %d was shown at seq %d, history has nothing by then", h.Who, h.ID, e.seq)
		case b.excused(t, i, h.Points[at].Seq): // what changed it may be in a hole
		default:
			b.check(Durable, h.Points[at].Core == e.core, "%s: token %d at seq %d was shown as %v, history has %v of seq %d",
				h.Who, h.ID, e.seq, e.core, h.Points[at].Core, h.Points[at].Seq)
		}
	}
}

// excused reports whether what a token was shown as may have come with a tick
// that is known to be missing: one behind the newest point, and not behind the
// newest time that the token was shown as something else.
func (b *Book) excused(t *timeline, i int, point uint64) bool {
	e := &t.shown[i]
	for _, r := range b.holes {
		if r.From > e.seq || r.To <= point {
			continue
		}
		if !r.has(e.seq) {
			if i > 0 && t.shown[i-1].seq >= r.To && t.shown[i-1].core != e.core {
				continue
			}
			answered := slices.ContainsFunc(b.lost, func(l lostRange) bool {
				return r.has(l.From) && max(e.polls[0], e.polls[1], e.polls[2]) > l.answers
			})
			if answered && !b.shownIn(r) {
				continue // it was sent after the crash that made the hole
			}
		}
		return true
	}
	return false
}

// hole reports whether some of the seqs from+1…to are known to be missing.
func (b *Book) hole(from, to uint64) bool {
	return slices.ContainsFunc(b.holes, func(r Range) bool { return r.From <= to && r.To > from })
}
