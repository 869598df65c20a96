package persist

import (
	"fmt"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/velocimeter/velocimeter/engine/market"
)

// lived makes a lineage with some days of history, several samples a minute at times.
func lived(t *testing.T, seed uint64, o Options) *walk {
	t.Helper()
	w := newWalk(t, seed, o, 6)
	end := w.mk.now.Add(60 * market.Hour)
	for w.mk.now < end {
		for range 40 {
			w.append(7 * market.Second)
		}
		for range 10 {
			w.append(market.Millis(1+w.rng.IntN(40)) * market.Minute)
		}
		w.commit()
	}
	return w
}

// historyOf reads everything that a lineage says at a granularity.
func historyOf(t *testing.T, s *Store, g market.Granularity) (rows []ImportRow) {
	t.Helper()
	for id := market.ID(1); id < 40; id++ {
		q := market.HistoryQuery{ID: id, To: maxTime / 2, Granularity: g, Limit: 1 << 20}
		page, err := s.History(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range page.Points {
			rows = append(rows, ImportRow{Line: len(rows) + 1, ID: id, Symbol: fmt.Sprintf("S%d", id), Point: p})
		}
	}
	return rows
}

// importRows runs an import; conflicts come back as texts.
func importRows(t *testing.T, s *Store, o ImportOptions, rows []ImportRow) (sum ImportSum, conflicts []ImportConflict) {
	t.Helper()
	for i := range rows {
		o.Newest = max(o.Newest, rows[i].Point.Time)
	}
	if o.Now == 0 {
		o.Now = o.Newest.Add(100 * market.Day)
	}
	o.Conflict = func(c *ImportConflict) { conflicts = append(conflicts, *c) }
	im, err := NewImport(t.Context(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		if err := im.Add(&rows[i]); err != nil {
			t.Fatal(err)
		}
	}
	if sum, err = im.End(); err != nil {
		t.Fatal(err)
	}
	return sum, conflicts
}

// sameRows compares what two lineages say, without seqs and, of bars, flags:
// neither is in a file.
func sameRows(t *testing.T, what string, got, want []ImportRow, flags bool) {
	t.Helper()
	plain := func(r ImportRow) ImportRow {
		r.Line, r.Symbol = 0, ""
		if r.Point.Seq = 0; !flags {
			r.Point.Flags = 0
		}
		return r
	}
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || plain(got[i]) != plain(want[i]) {
			t.Fatalf("%s: %d rows, want %d; row %d differs: %+v, want %+v", what, len(got), len(want), i,
				got[min(i, len(got)):min(i+1, len(got))], want[min(i, len(want)):min(i+1, len(want))])
		}
	}
}

func withoutFlags(rows []ImportRow) []ImportRow {
	rows = slices.Clone(rows)
	for i := range rows {
		rows[i].Point.Flags = 0
	}
	return rows
}

func importOptions(o Options, g market.Granularity) ImportOptions {
	return ImportOptions{Granularity: g, Write: true, Retention: o.Retention}
}

// What a lineage says goes into an empty one, and comes out of it again; a second
// time nothing is written, and what is coarser is the same too.
func TestImportRoundTrip(t *testing.T) {
	t.Parallel()
	o := testOptions(vfs.NewMem())
	o.Retention.Ticks = 9999 * market.Day
	w := lived(t, 1, o)
	var all [market.NumGranularities][]ImportRow
	for g := range market.NumGranularities {
		all[g] = historyOf(t, w.s, g)
	}
	for g := range market.NumGranularities {
		o := testOptions(vfs.NewMem())
		s := mustOpen(t, o)
		rows := all[g]
		if g != market.GranularityRaw {
			rows = withoutFlags(rows)
		}
		sum, conflicts := importRows(t, s, importOptions(o, g), rows)
		minutes := sum.Rows
		if g == market.GranularityRaw {
			minutes = sum.Minutes
		}
		if sum.Rows != uint64(len(rows)) || sum.Written != minutes || len(conflicts) > 0 || sum.Written == 0 || sum.Rounded > 0 {
			t.Fatalf("%s: %+v, %v", g, sum, conflicts)
		}
		finest := max(g, market.Granularity1m)
		sameRows(t, g.String(), historyOf(t, s, finest), all[finest], g == market.GranularityRaw)
		if finest == market.Granularity1m {
			for c := range market.NumGranularities {
				if c > finest {
					sameRows(t, g.String()+" gives "+c.String(), historyOf(t, s, c), all[c], g == market.GranularityRaw)
				}
			}
		}
		again, conflicts := importRows(t, s, importOptions(o, g), rows)
		if again.There != minutes || again.Written != 0 || len(conflicts) > 0 {
			t.Fatalf("%s, again: %+v, %v", g, again, conflicts)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = mustOpen(t, o)
		ladderHolds(t, s)
		if rec := s.Recovery(); !rec.Clean || rec.NextSeq != 1 || len(rec.Damage) > 0 {
			t.Fatalf("%s: %+v", g, rec)
		}
		sameRows(t, g.String(), historyOf(t, s, finest), all[finest], g == market.GranularityRaw)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// Into itself nothing goes.
	for g := range market.NumGranularities {
		sum, conflicts := importRows(t, w.s, importOptions(o, g), all[g])
		if sum.Written != 0 || len(conflicts) > 0 || sum.Open != 0 || sum.There == 0 {
			t.Errorf("%s into itself: %+v, %v", g, sum, conflicts)
		}
		sameRows(t, g.String(), historyOf(t, w.s, g), all[g], true)
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
}

// In whatever order the granularities come, in the end all of them say what the
// first lineage said.
func TestImportInAnyOrder(t *testing.T) {
	t.Parallel()
	o := testOptions(vfs.NewMem())
	w := lived(t, 2, o)
	var all [market.NumGranularities][]ImportRow
	for g := range market.NumGranularities {
		all[g] = withoutFlags(historyOf(t, w.s, g))
	}
	orders := [][]market.Granularity{{6, 5, 4, 3, 2, 1}, {2, 3, 4, 5, 6, 1}, {5, 3, 6, 1, 4, 2}, {5, 2, 4, 1}, {3, 6, 2, 1}, {4, 2, 1}}
	for _, order := range orders {
		o := testOptions(vfs.NewMem())
		s := mustOpen(t, o)
		for _, g := range order {
			_, conflicts := importRows(t, s, importOptions(o, g), all[g])
			for _, c := range conflicts {
				t.Errorf("order %v: %s: %+v", order, g, c)
			}
		}
		ladderHolds(t, s)
		for g := range market.NumGranularities {
			if g > 0 {
				sameRows(t, fmt.Sprintf("%v %s", order, g), historyOf(t, s, g), all[g], false)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
}
