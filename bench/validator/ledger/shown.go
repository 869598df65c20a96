package ledger

import (
	"cmp"
	"math"
	"slices"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Limits of what a book keeps.
const (
	maxEntries = 50_000 // of a token's timeline
	maxWhole   = 256    // seqs of which whole rows are kept
)

// Row is a token as somebody saw it: the numeric fields in Has, with enums and
// flags as numbers.
type Row struct {
	Has    market.Mask
	Values [market.NumNumeric + 1]market.Decimal // by field
}

// Set sets a field, to a number that need not be normalised.
func (r *Row) Set(f market.Field, d market.Decimal) {
	if !d.IsNull() {
		d = market.NewDecimal(d.Mant, d.Exp)
	}
	r.Has |= f.Bit()
	r.Values[f] = d
}

// core are the fields that history has of every tick.
var core = [4]market.Field{market.FieldPrice, market.FieldMarketCap, market.FieldVolume24h, market.FieldVelocity}

var coreMask = market.MaskOf(core[:]...)

// Core is price, cap, volume and velocity.
type Core [4]market.Decimal

func (r *Row) core() (c Core) {
	for i, f := range core {
		c[i] = r.Values[f]
	}
	return c
}

// entry is what was first seen of a token at a seq.
type entry struct {
	seq     uint64
	process int32
	lost    bool     // a crash took it before it was durable
	polls   [3]int32 // that price, cap and volume came with; 0 for null
	core    Core
}

// timeline is all that is known of a token.
type timeline struct {
	shown []entry // by seq
	kept  []Point // that history showed, by seq
}

// wholeRow is the first row that was seen of a token at a seq.
type wholeRow struct {
	who     string
	process int
	row     Row
}

// Started notes that another process began.
func (b *Book) Started() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.process++
}

// Shown notes a row that somebody saw, as of seq, with the digits that the
// server has. It must be the row at exactly that seq, not one on its way there.
func (b *Book) Shown(who string, seq uint64, id market.ID, row *Row) {
	b.mu.Lock()
	defer b.mu.Unlock()
	polls := b.origin(who, seq, id, row)
	b.compareWhole(who, seq, id, row)
	taken := false
	for _, r := range b.lost {
		if r.has(seq) { // what was under way when it was lost may still arrive
			taken = true
			b.check(Ordered, max(polls[0], polls[1], polls[2]) <= r.answers,
				"%s: token %d at seq %d has values of after the crash that took the seqs %d…%d", who, id, seq, r.From, r.To)
		}
	}
	b.newest = max(b.newest, seq)
	if row.Has&coreMask == coreMask {
		b.place(who, id, entry{seq: seq, process: int32(b.process), lost: taken, polls: polls, core: row.core()})
	}
}

// origin checks that a provider sent the values, and the division.
func (b *Book) origin(who string, seq uint64, id market.ID, row *Row) (polls [3]int32) {
	for i, f := range core[:3] {
		d := row.Values[f]
		if b.origins == nil || !row.Has.Has(f) || d.IsNull() {
			continue
		}
		poll, ok := b.origins.Poll(id, f, d)
		b.check(Origin, ok, "%s: token %d at seq %d has %v %v, which no answer that was to be believed had", who, id, seq, f, d)
		if ok {
			polls[i] = int32(poll)
		}
	}
	c := row.core()
	if row.Has&coreMask == coreMask && !c[3].IsNull() && c[1].Positive() && !c[2].IsNull() {
		want := c[2].Float() / c[1].Float()
		b.check(Origin, math.Abs(c[3].Float()-want) <= 1e-9*max(1, want),
			"%s: token %d at seq %d has velocity %v, volume / cap is %g", who, id, seq, c[3], want)
	}
	return polls
}

// compareWhole holds the row against the first one that was seen at its seq.
func (b *Book) compareWhole(who string, seq uint64, id market.ID, row *Row) {
	rows := b.whole[seq]
	if rows == nil {
		if seq+maxWhole < b.newest {
			return
		}
		rows = map[market.ID]*wholeRow{}
		b.whole[seq] = rows
		b.forget()
	}
	old := rows[id]
	if old == nil {
		rows[id] = &wholeRow{who, b.process, *row}
		return
	}
	broken := Replica
	if old.process != b.process {
		broken = Ordered // one seq, two values: it was used again
	}
	f := differing(&old.row, row)
	b.check(broken, f == 0, "token %d at seq %d: %v is %v to %s and %v to %s", id, seq, f, old.row.Values[f], old.who, row.Values[f], who)
	for f := range (row.Has &^ old.row.Has).Fields() {
		old.row.Set(f, row.Values[f])
	}
}

// differing returns a field that both have and that is not the same, 0 for none.
func differing(a, b *Row) market.Field {
	for f := range (a.Has & b.Has).Fields() {
		if a.Values[f] != b.Values[f] {
			return f
		}
	}
	return 0
}

// forget drops whole rows that nobody will ask about again.
func (b *Book) forget() {
	for len(b.whole) > 2*maxWhole {
		oldest := uint64(math.MaxUint64)
		for seq := range b.whole {
			oldest = min(oldest, seq)
		}
		delete(b.whole, oldest)
	}
}

func (b *Book) timeline(id market.ID) *timeline {
	t := b.tokens[id]
	if t == nil {
		t = &timeline{}
		b.tokens[id] = t
	}
	return t
}

// place puts an entry into its token's timeline and checks that later seqs
// never have values of earlier answers.
func (b *Book) place(who string, id market.ID, e entry) {
	t := b.timeline(id)
	at, found := slices.BinarySearchFunc(t.shown, e.seq, func(x entry, seq uint64) int { return cmp.Compare(x.seq, seq) })
	if found {
		old := &t.shown[at]
		if old.core != e.core {
			broken := Replica
			if old.process != e.process {
				broken = Ordered
			}
			b.check(broken, false, "%s: token %d at seq %d is %v, before it was %v", who, id, e.seq, e.core, old.core)
		}
		return
	}
	if at > 0 {
		b.inOrder(who, id, &t.shown[at-1], &e)
	}
	if at < len(t.shown) {
		b.inOrder(who, id, &e, &t.shown[at])
	}
	t.shown = slices.Insert(t.shown, at, e)
	if len(t.shown) > maxEntries {
		t.shown = slices.Delete(t.shown, 0, maxEntries/10)
	}
}

// inOrder checks two neighbours of a timeline. What a crash took may have been
// sent again: polls after it are newer all the same.
func (b *Book) inOrder(who string, id market.ID, before, after *entry) {
	for i, f := range core[:3] {
		if before.polls[i] == 0 || after.polls[i] == 0 {
			continue
		}
		b.check(Ordered, before.polls[i] <= after.polls[i] || before.lost,
			"%s: token %d has %v of answer %d at seq %d, and of answer %d at seq %d", who, id, f, after.polls[i], after.seq, before.polls[i], before.seq)
	}
}
