package tick_test

import (
	"slices"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
)

// without returns a batch that lacks some tokens.
func without(b *market.Batch, ids ...market.ID) *market.Batch {
	b.Quotes = slices.DeleteFunc(b.Quotes, func(q market.Quote) bool { return slices.Contains(ids, q.ID) })
	return b
}

// The journal knows since when each token is missing, also where no row says
// that one is back: a recovered machine retires it at the same instant, and
// counts polls that lack too many from where they were.
func TestPresenceIsRecovered(t *testing.T) {
	live, w := newMachine(3), newWalk(5, 12)
	var journal []*market.JournalTick
	at := start
	next := func(change func(b *market.Batch) *market.Batch) *market.Tick {
		t.Helper()
		at += 60_000
		ticks := poll(live, change(w.batch(at, 1)))
		for _, tk := range ticks {
			journal = append(journal, journalOf(tk))
		}
		return ticks[len(ticks)-1]
	}
	var before market.Quote // what token 2 said last
	for range 4 {
		next(func(b *market.Batch) *market.Batch { before = b.Quotes[1]; return b })
	}
	hours := map[market.ID]map[market.Time][]market.Cell{}
	export := live.Export()
	keepHours(hours, export.Hours)
	journal = nil
	gone := next(func(b *market.Batch) *market.Batch { return without(b, 2, 5) })
	if want := []market.ID{2, 5}; !slices.Equal(slices.Sorted(slices.Values(gone.Absent)), want) {
		t.Errorf("absent are %v, want %v", gone.Absent, want)
	}
	back := next(func(b *market.Batch) *market.Batch {
		b = without(b, 2, 5)
		b.Quotes = append(b.Quotes, before)
		return b
	})
	if !slices.Equal(back.Back, []market.ID{2}) || len(back.Absent) > 0 {
		t.Errorf("back are %v, absent %v; want 2 and none", back.Back, back.Absent)
	}
	few := func(b *market.Batch) *market.Batch { return without(b, 5, 7, 8, 9, 10) }
	for range 2 {
		if tk := next(few); tk.Rejection == nil || tk.Rejection.Lacking == 0 || tk.Rejection.Rows != 7 {
			t.Fatalf("poll of 7 rows: verdict %v, %+v", tk.Verdict, tk.Rejection)
		}
	}
	again := restore(t, export, hours, journal)
	retired := 0
	for i := range 30 {
		at += 60 * 60_000
		b := w.batch(at, 1)
		if i == 0 {
			b = few(b) // the third one is believed
		}
		b = without(b, 5)
		a, z := poll(live, b), poll(again, b)
		if len(a) != len(z) {
			t.Fatalf("hour %d: %d ticks, the recovered one has %d", i, len(a), len(z))
		}
		for j := range a {
			retired += len(a[j].Removed)
			if a[j].Env != z[j].Env || a[j].Verdict != z[j].Verdict || !slices.Equal(a[j].Removed, z[j].Removed) {
				t.Fatalf("hour %d: %+v %v %v, the recovered one %+v %v %v", i, a[j].Env, a[j].Verdict, a[j].Removed, z[j].Env, z[j].Verdict, z[j].Removed)
			}
		}
		sameSheet(t, "after recovery", live.Engine.Board(), again.Engine.Board())
	}
	if retired != 1 {
		t.Errorf("%d tokens retired, want one", retired)
	}
}
