package ledger

import (
	"strings"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
)

// sent is a provider whose values are token, answer and a digit for the field;
// answer 3 was not to be believed.
type sent struct{}

func value(id market.ID, f market.Field, poll int) market.Decimal {
	return market.FromInt(int64(id)*10_000 + int64(poll)*10 + int64(f))
}

func (sent) Poll(id market.ID, f market.Field, d market.Decimal) (poll int, ok bool) {
	n, fits := d.Rescale(0)
	poll = int(n-int64(id)*10_000) / 10
	return poll, fits && poll != 3 && value(id, f, poll) == d
}

// row is a token as of an answer.
func row(id market.ID, poll int) *Row {
	r := &Row{}
	for _, f := range core[:3] {
		r.Set(f, value(id, f, poll))
	}
	velocity := r.Values[market.FieldVolume24h].Float() / r.Values[market.FieldMarketCap].Float()
	r.Set(market.FieldVelocity, market.Fixed(velocity, -9))
	r.Set(market.FieldRank, market.FromInt(int64(id)))
	return r
}

func (r *Row) with(f market.Field, d market.Decimal) *Row {
	r.Set(f, d)
	return r
}

func point(id market.ID, seq uint64, poll int) Point {
	return Point{Seq: seq, Time: market.Time(1000 * seq), Core: row(id, poll).core()}
}

// good is a run in which all is well: two tokens, ticks 1…4, a crash that takes
// tick 4, and ticks 11 and 12 behind it.
func good() *Book {
	b := New(sent{})
	b.Started()
	b.Epoch("a", "e1")
	for seq, poll := range []int{0, 1, 2, 4, 5} {
		for id := market.ID(1); id <= 2 && seq > 0; id++ {
			b.Shown("a", uint64(seq), id, row(id, poll))
			b.Shown("b", uint64(seq), id, row(id, poll))
		}
	}
	b.Promised(3)
	b.History(&History{Who: "history", ID: 1, Durable: 3, Points: []Point{point(1, 1, 1), point(1, 2, 2), point(1, 3, 4)}})
	b.Crashed(3, 5)
	b.Started()
	b.Epoch("a", "e1")
	for id := market.ID(1); id <= 2; id++ {
		b.Shown("a", 3, id, row(id, 4))
		b.Shown("a", 11, id, row(id, 6))
		b.Shown("a", 12, id, row(id, 7))
	}
	b.Holes([]Range{{4, 10}}, 3)
	return b
}

// whole is the history of token 1 after good.
func whole() *History {
	return &History{Who: "history", ID: 1, Promised: 3, Durable: 12, Points: []Point{
		point(1, 1, 1), point(1, 2, 2), point(1, 3, 4), point(1, 11, 6), point(1, 12, 7),
	}}
}

func without(h *History, i int) *History {
	h.Points = append(h.Points[:i], h.Points[i+1:]...)
	return h
}

func changed(h *History, i int, p Point) *History {
	h.Points[i] = p
	return h
}

func TestSoundRun(t *testing.T) {
	b := good()
	b.History(whole())
	b.Stopped(12, false)
	o := b.Follow("a")
	o.Snapshot(1, 3)
	o.Delta(1, 11, 3)
	o.Delta(1, 12, 11)
	o.Beat(1, 12)
	o.Connected()
	o.Snapshot(1, 12)
	for _, v := range b.Verdicts() {
		if v.Violated > 0 {
			t.Errorf("%v: %s", v.Invariant, v.Example)
		}
		if v.Invariant <= Origin && v.Checked == 0 {
			t.Errorf("%v was not checked", v.Invariant)
		}
	}
	if !b.Sound() {
		t.Error("a good run is not sound")
	}
}

// Every recorded violation gets its verdict, and no other invariant does.
func TestViolations(t *testing.T) {
	f := func(what string, want Invariant, say string, do func(b *Book)) {
		t.Helper()
		b := good()
		do(b)
		for _, v := range b.Verdicts() {
			switch {
			case v.Invariant == want && (v.Violated == 0 || !strings.Contains(v.Example, say)):
				t.Errorf("%s: %v: %d violations, the first %q; want one with %q", what, v.Invariant, v.Violated, v.Example, say)
			case v.Invariant != want && v.Violated > 0:
				t.Errorf("%s: %v is violated too: %s", what, v.Invariant, v.Example)
			}
		}
		if b.Sound() {
			t.Errorf("%s: the book is sound", what)
		}
	}
	f("a missing row", Durable, "no point at seq 2 any more", func(b *Book) { b.History(without(whole(), 1)) })
	f("a missing row that was never read", Durable, "history has", func(b *Book) { b.History(without(whole(), 3)) })
	f("a changed row", Durable, "history said", func(b *Book) { b.History(changed(whole(), 1, point(1, 2, 1))) })
	f("a row that was shown otherwise", Durable, "was shown as", func(b *Book) { b.History(changed(whole(), 4, point(1, 12, 6))) })
	f("a row from nowhere", Durable, "not there before", func(b *Book) {
		b.Holes([]Range{{2, 2}, {4, 10}}, 1)
		h := without(whole(), 1)
		b.tokens[1].kept, b.tokens[1].shown = nil, nil
		b.History(h)
		b.tokens[1].kept, b.promised = h.Points, 12
		b.History(whole())
	})
	f("history before the start", Durable, "nothing by then", func(b *Book) {
		b.tokens[1].kept = nil
		h := whole()
		h.Points = h.Points[2:]
		b.History(h)
	})
	f("history that is not durable", Durable, "durable_seq is 11", func(b *Book) {
		h := whole()
		h.Durable = 11
		b.History(h)
	})
	f("durable_seq goes back", Durable, "durable_seq 2, 3 was promised", func(b *Book) {
		h := whole()
		h.Durable, h.Points = 2, h.Points[:2]
		b.tokens[1].kept = nil
		b.History(h)
	})
	f("a crash takes what was durable", Durable, "3 was promised", func(b *Book) { b.Crashed(2, 7) })
	f("a stop loses what was shown", Durable, "12 was shown", func(b *Book) { b.Stopped(11, false) })
	f("a hole in what was promised", Durable, "lacks seqs 2…2", func(b *Book) { b.Holes([]Range{{2, 2}, {4, 10}}, 12) })

	f("a seq that goes back", Ordered, "the position is 12", func(b *Book) {
		o := b.Follow("a")
		o.Delta(1, 12, 11)
		o.Delta(1, 11, 10)
	})
	f("a seq that stays", Ordered, "a delta at seq 12", func(b *Book) {
		o := b.Follow("a")
		o.Delta(1, 12, 11)
		o.Delta(1, 12, 11)
	})
	f("a position that goes back over a reconnect", Ordered, "a snapshot at seq 11", func(b *Book) {
		o := b.Follow("a")
		o.Delta(1, 12, 11)
		o.Connected()
		o.Snapshot(2, 11)
	})
	f("a position before what was durable", Ordered, "a crash left 3", func(b *Book) {
		o := b.Follow("a")
		o.Snapshot(1, 4)
		o.Connected()
		o.Snapshot(1, 2)
	})
	f("a delta from nowhere", Ordered, "a delta from 13 to 13", func(b *Book) { b.Follow("a").Delta(1, 13, 13) })
	f("a seq that is used again", Ordered, "after the crash that took the seqs 4…4", func(b *Book) { b.Shown("b", 4, 6, row(6, 8)) })
	f("a seq that is used again, with another value", Ordered, "to a and", func(b *Book) { b.Shown("b", 4, 2, row(2, 8)) })
	f("another value at a seq of the process before", Ordered, "to a and", func(b *Book) {
		b.Shown("b", 3, 2, row(2, 4).with(market.FieldRank, market.FromInt(9)))
	})
	f("an older answer at a later seq", Ordered, "of answer 6 at seq 13", func(b *Book) { b.Shown("b", 13, 2, row(2, 6)) })
	f("history out of order", Ordered, "out of order", func(b *Book) {
		h := whole()
		h.ID = 9
		h.Points = []Point{point(9, 2, 2), point(9, 1, 1)}
		b.History(h)
	})
	f("another epoch", Ordered, "epoch e2", func(b *Book) { b.Epoch("a", "e2") })

	f("a replica that differs", Replica, "rank is 1 to a and 9 to b", func(b *Book) {
		b.Shown("b", 12, 1, row(1, 7).with(market.FieldRank, market.FromInt(9)))
	})

	f("a value that nobody sent", Origin, "price", func(b *Book) {
		b.Shown("b", 13, 1, row(1, 8).with(market.FieldPrice, market.FromInt(5)))
	})
	f("a value of an answer that is not to be believed", Origin, "to be believed", func(b *Book) { b.Shown("b", 13, 5, row(5, 3)) })
	f("a velocity that is not the quotient", Origin, "volume / cap is", func(b *Book) {
		b.Shown("b", 13, 1, row(1, 8).with(market.FieldVelocity, market.FromInt(3)))
	})
	f("a value in history that nobody sent", Origin, "history", func(b *Book) {
		p := point(7, 1, 1)
		p.Core[1] = market.FromInt(1)
		b.History(&History{Who: "history", ID: 7, Durable: 12, Points: []Point{p}})
	})
	for _, i := range []Invariant{Memory, Released, Alive, Ready} {
		f(i.String(), i, "was 7", func(b *Book) { b.Check(i, false, "was %d", 7) })
	}
}

func TestSecrets(t *testing.T) {
	const secret = "QZNdR8VhDq2mW3xYb7TgKp5LsEfAcJuHvX9wGtCk"
	f := func(text string, leaked bool) {
		t.Helper()
		b := New(nil)
		b.Searched("the log", []byte(text), []Canary{NewCanary("of the provider", secret)})
		if v := b.Verdicts()[Secret-1]; v.Checked != 1 || (v.Violated == 1) != leaked {
			t.Errorf("%q: leaked %v, want %v", text, v.Violated == 1, leaked)
		}
		if v := b.Verdicts()[Secret-1]; leaked && strings.Contains(v.Example, secret[10:20]) {
			t.Errorf("the example tells the secret: %q", v.Example)
		}
	}
	f("nothing", false)
	f("key=***"+secret[36:], false)
	f("key="+secret, true)
	f("…"+secret[:24], true)
	f("…"+secret[12:36], true)
	f("UVpOZFI4VmhEcTJtVzN4WWI3VGdLcDVMc0VmQWNKdUh2WDl3R3RDaw==", true)
	f("515a4e6452385668447132 6d", false)
	f("515a4e645238566844713 26d5733785962375467"+"515a4e64523856684471326d573378596237546 7", false)
	f("515a4e64523856684471326d5733785962375467", true)
}

// What a crash took may still arrive from before it, and a position in it may go
// back to what was durable.
func TestCrash(t *testing.T) {
	b := good()
	b.Shown("late", 4, 1, row(1, 5))
	o := b.Follow("a")
	o.Snapshot(1, 4)
	o.Connected()
	o.Snapshot(1, 3)
	b.History(whole())
	if !b.Sound() {
		t.Errorf("%+v", b.Verdicts())
	}
}

// Ticks for which there was no space are excused once the store has told them,
// and until then nothing is said.
func TestNoSpace(t *testing.T) {
	b := good()
	b.Promised(12)
	b.Unsure()
	b.Shown("a", 13, 1, row(1, 8))
	b.Shown("a", 14, 1, row(1, 9))
	h := whole()
	h.Durable, h.Points = 14, append(h.Points, point(1, 14, 9))
	b.History(h)
	if !b.Sound() {
		t.Errorf("%+v", b.Verdicts())
	}
	b.Holes([]Range{{4, 10}, {13, 13}}, 12)
	b.History(h)
	if !b.Sound() {
		t.Errorf("%+v", b.Verdicts())
	}
	b.Holes([]Range{{4, 10}}, 12)
	b.History(h)
	if b.Sound() {
		t.Error("a tick that is missing without a word is not seen")
	}
}

// A minute is what its raw points give, once it is over.
func TestMinutes(t *testing.T) {
	d := market.FromInt
	points := []Point{}
	for i, price := range []int64{5, 9, 3, 7, 6} {
		points = append(points, Point{Seq: uint64(i + 1), Time: market.Time(60_000 + 20_000*i), Core: Core{d(price), d(1), d(1), d(1)}})
	}
	good := Minute{Start: 60_000, Count: 3, Open: d(5), High: d(9), Low: d(3), Close: d(3)}
	f := func(sound bool, minutes ...Minute) {
		t.Helper()
		b := New(nil)
		b.History(&History{ID: 1, Durable: 5, Points: points})
		b.Minutes("history", 1, minutes)
		if b.Sound() != sound {
			t.Errorf("%v: %s", minutes, b.Verdicts()[Durable-1].Example)
		}
	}
	less, low := good, good
	less.Count, low.Low = 2, d(4)
	f(true, good)
	f(true, good, Minute{Start: 120_000, Count: 1}) // it is under way
	f(false)
	f(false, less)
	f(false, low)
}

func TestBounds(t *testing.T) {
	b := New(nil)
	for seq := uint64(1); seq < maxEntries+10; seq++ {
		b.Shown("a", seq, 1, row(1, 1))
	}
	if n := len(b.tokens[1].shown); n > maxEntries {
		t.Errorf("%d entries", n)
	}
	if n := len(b.whole); n > 2*maxWhole {
		t.Errorf("whole rows of %d seqs", n)
	}
}
