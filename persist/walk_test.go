package persist

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
)

// walk drives a store against a model.
type walk struct {
	t     testing.TB
	o     Options
	s     *Store
	rng   *rand.Rand
	mk    *maker
	model model
	next  uint64
	state *market.Export
	saved map[uint64]*market.Export
}

func newWalk(t testing.TB, seed uint64, o Options, tokens int) *walk {
	t.Helper()
	w := &walk{t: t, o: o, rng: rand.New(rand.NewPCG(seed, 1)), mk: newMaker(seed, tokens)}
	w.open()
	return w
}

func (w *walk) open() {
	w.t.Helper()
	w.s = mustOpen(w.t, w.o)
	w.next = w.s.Recovery().NextSeq
}

func (w *walk) append(by market.Millis) {
	w.t.Helper()
	if w.next > w.s.reserved {
		if err := w.s.Reserve(w.next + 9); err != nil {
			w.t.Fatal(err)
		}
	}
	tick := w.mk.step(w.next, by)
	if err := w.s.Append(tick); err != nil {
		w.t.Fatal(err)
	}
	w.model.ticks = append(w.model.ticks, tick)
	w.next++
}

func (w *walk) commit() {
	w.t.Helper()
	seq, err := w.s.Commit()
	if err != nil || seq != w.model.last() {
		w.t.Fatalf("Commit = %d, %v; want %d", seq, err, w.model.last())
	}
}

func (w *walk) save() {
	w.t.Helper()
	if len(w.model.ticks) == 0 {
		return
	}
	e := w.mk.export(w.model.last())
	if err := w.s.Save(e); err != nil {
		w.t.Fatal(err)
	}
	w.state = e
	if w.saved == nil {
		w.saved = map[uint64]*market.Export{}
	}
	w.saved[e.Seq] = e
}

// checkRecovery compares what a reopened store restores with the model.
func (w *walk) checkRecovery() {
	w.t.Helper()
	rec := w.s.Recovery()
	if len(rec.Damage) != 0 {
		w.t.Fatalf("damage: %v", rec.Damage)
	}
	var position uint64
	for _, t := range w.model.ticks {
		position = max(position, t.Position)
	}
	if rec.DurableSeq != w.model.last() || rec.Position != position {
		w.t.Fatalf("durable seq %d position %d, want %d and %d", rec.DurableSeq, rec.Position, w.model.last(), position)
	}
	var stateSeq uint64
	if w.state != nil {
		stateSeq = w.state.Seq
		if string(rec.Engine) != string(w.state.Engine) {
			w.t.Fatalf("engine %q, want %q", rec.Engine, w.state.Engine)
		}
	}
	if rec.StateSeq != stateSeq {
		w.t.Fatalf("state seq %d, want %d", rec.StateSeq, stateSeq)
	}
	var want []market.TokenState
	if w.state != nil {
		want = w.state.Tokens
	}
	var got []market.TokenState
	err := w.s.Tokens(1, func(ts market.TokenState, _ []market.Cell) error {
		ts.Blob = bytes.Clone(ts.Blob) // valid during the call only
		got = append(got, ts)
		return nil
	})
	if err != nil || !reflect.DeepEqual(got, want) {
		w.t.Fatalf("tokens: %v, got %d want %d", err, len(got), len(want))
	}
	w.checkJournal(stateSeq)
	w.checkTombstones()
}

func (w *walk) checkTombstones() {
	w.t.Helper()
	var want []market.Tombstone
	for _, t := range w.model.ticks {
		for _, id := range t.Removed {
			if t.Env.Now.Add(6*market.Day) > w.mk.now {
				want = append(want, market.Tombstone{ID: id, Seq: t.Env.Seq, Time: t.Env.Now})
			}
		}
	}
	got := w.s.Recovery().Tombstones
	for _, x := range want {
		if !slices.Contains(got, x) {
			w.t.Fatalf("tombstone %v is missing", x)
		}
	}
}

func (w *walk) checkJournal(after uint64) {
	w.t.Helper()
	rest := w.model.ticks
	for len(rest) > 0 && rest[0].Env.Seq <= after {
		rest = rest[1:]
	}
	infos := map[market.ID]*market.Info{}
	for _, t := range w.model.ticks {
		if t.Env.Seq <= after {
			for c := range t.Changes {
				if c.Quote != nil {
					infos[c.Snap.ID] = c.Quote.Info
				}
			}
		}
	}
	err := w.s.Journal(func(jt *market.JournalTick) error {
		if len(rest) == 0 {
			w.t.Fatalf("journal has tick %d too many", jt.Env.Seq)
		}
		compareTick(w.t, jt, rest[0], infos)
		rest = rest[1:]
		return nil
	})
	if err != nil || len(rest) != 0 {
		w.t.Fatalf("journal: %v, %d ticks missing", err, len(rest))
	}
}

func compareTick(t testing.TB, got *market.JournalTick, want *market.Tick, infos map[market.ID]*market.Info) {
	t.Helper()
	if got.Env != want.Env || got.Kind != want.Kind || got.Verdict != want.Verdict ||
		got.Position != want.Position || got.SourceTime != want.SourceTime || !slices.Equal(got.Removed, want.Removed) ||
		!reflect.DeepEqual(got.Presence, want.Presence) || !reflect.DeepEqual(got.Rejection, want.Rejection) {
		t.Fatalf("tick %+v, want %+v", got, want)
	}
	var rows []market.JournalRow
	for c := range want.Changes {
		rows = append(rows, market.JournalRow{ID: c.Snap.ID, Mask: c.Mask, Quote: c.Quote})
	}
	slices.SortFunc(rows, func(a, b market.JournalRow) int { return int(a.ID) - int(b.ID) })
	if len(rows) != len(got.Rows) {
		t.Fatalf("tick %d has %d rows, want %d", got.Env.Seq, len(got.Rows), len(rows))
	}
	for i := range rows {
		a, b := got.Rows[i], rows[i]
		if a.ID != b.ID || a.Mask != b.Mask || (a.Quote == nil) != (b.Quote == nil) {
			t.Fatalf("tick %d row %+v, want %+v", got.Env.Seq, a, b)
		}
		if b.Quote == nil {
			continue
		}
		if a.Quote.Info != nil {
			infos[a.ID] = a.Quote.Info
		}
		if infos[a.ID] == nil || *infos[a.ID] != *b.Quote.Info {
			t.Fatalf("tick %d token %d: names %v, want %v", got.Env.Seq, a.ID, infos[a.ID], b.Quote.Info)
		}
		x := *a.Quote
		x.Info = b.Quote.Info
		if x != *b.Quote {
			t.Fatalf("tick %d quote\n%+v, want\n%+v", got.Env.Seq, x, *b.Quote)
		}
	}
	for _, id := range want.Removed {
		delete(infos, id)
	}
}

// checkHistory compares every granularity of a token with a recomputation from
// the ticks, page by page.
func (w *walk) checkHistory(id market.ID) {
	w.t.Helper()
	durable := w.s.durable.Load().seq
	raw := w.model.raw(id, durable)
	for g := range market.NumGranularities {
		want := raw
		if g != market.GranularityRaw {
			want = bars(raw, g)
		} else {
			// What retention drops is checked elsewhere.
			oldest := w.s.durable.Load().at.Add(-w.s.opts.Retention.Ticks)
			want = slices.DeleteFunc(slices.Clone(want), func(p market.Point) bool { return p.Time < oldest })
		}
		q := market.HistoryQuery{ID: id, From: 0, To: w.mk.now.Add(market.Day), Granularity: g, Limit: 1 + w.rng.IntN(200)}
		if g == market.GranularityRaw {
			q.From = w.s.durable.Load().at.Add(-w.s.opts.Retention.Ticks)
		}
		if w.rng.IntN(2) == 0 && len(want) > 2 {
			from, to := want[w.rng.IntN(len(want))].Time, want[w.rng.IntN(len(want))].Time
			q.From, q.To = min(from, to), max(from, to)
			want = slices.DeleteFunc(slices.Clone(want), func(p market.Point) bool { return p.Time < q.From || p.Time >= q.To })
		}
		asked := q
		var got []market.Point
		var gaps []market.Gap
		for {
			page := w.page(q)
			if page.DurableSeq != durable {
				w.t.Fatalf("page durable seq %d, want %d", page.DurableSeq, durable)
			}
			got, gaps = append(got, page.Points...), append(gaps, page.Gaps...)
			if page.Next == 0 {
				break
			}
			q.After = page.Next
		}
		comparePoints(w.t, g, got, want)
		w.checkGaps(asked, got, gaps)
	}
}

// page reads a page at once and point by point, which must be the same.
func (w *walk) page(q market.HistoryQuery) *market.HistoryPage {
	w.t.Helper()
	page, err := w.s.History(w.t.Context(), q)
	if err != nil {
		w.t.Fatal(err)
	}
	var each market.HistoryPage
	var points []market.Point
	err = w.s.EachPoint(w.t.Context(), q, &each, func(p *market.Point) error {
		before := slices.IndexFunc(page.Gaps, func(g market.Gap) bool { return g.From > p.Time })
		if before < 0 {
			before = len(page.Gaps)
		}
		if each.DurableSeq != page.DurableSeq || each.Truncated != page.Truncated || len(each.Gaps) != before {
			w.t.Fatalf("at the point of %d the page is %+v, in the end %+v", p.Time, each, page)
		}
		points = append(points, *p)
		return nil
	})
	if each.Points = points; err != nil || !reflect.DeepEqual(&each, page) {
		w.t.Fatalf("%v: point by point %+v, at once %+v", err, each, page)
	}
	return page
}

func comparePoints(t testing.TB, g market.Granularity, got, want []market.Point) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Fatalf("%s point %d\n%+v, want\n%+v", g, i, got[i], want[i])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%s: %d points, want %d", g, len(got), len(want))
	}
}
