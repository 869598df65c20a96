package persist

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
)

// chunkRows reads every row of a kind, by token and beginning.
func chunkRows(t *testing.T, s *Store, kind byte) map[market.ID]map[market.Time]record.Row {
	t.Helper()
	all, l := map[market.ID]map[market.Time]record.Row{}, layouts[kind]
	err := scan(s.db, []byte{kind}, []byte{kind + 1}, func(key, value []byte) error {
		period, id, part, _ := record.ParseChunkKey(key)
		payload, err := record.Open(key, value)
		if err != nil {
			return err
		}
		rows, err := record.ReadRows(nil, payload, l.rows)
		if all[id] == nil {
			all[id] = map[market.Time]record.Row{}
		}
		for _, r := range rows {
			at := dayStart(period * l.days).Add(market.Millis(part)*market.Hour + market.Millis(r.Index)*l.width)
			r.Index = 0
			all[id][at] = r
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// ladderHolds checks that what was not imported is what the finer rows make, and
// that wide rows have none beneath.
func ladderHolds(t *testing.T, s *Store) {
	t.Helper()
	for _, rung := range []struct{ fine, coarse byte }{
		{record.KindHour, record.KindFive}, {record.KindHour, record.KindDay}, {record.KindDay, record.KindMonth},
	} {
		l := layouts[rung.coarse]
		fine, coarse := chunkRows(t, s, rung.fine), chunkRows(t, s, rung.coarse)
		for id, rows := range coarse {
			for at, r := range rows {
				if at >= s.rolled.hours || rung.coarse == record.KindMonth && at >= s.rolled.days {
					continue
				}
				var finer []record.Row
				for step := range l.end(at, &r).Sub(at) / layouts[rung.fine].width {
					if f, ok := fine[id][at.Add(step*layouts[rung.fine].width)]; ok {
						finer = append(finer, f)
					}
				}
				made := merged(finer)
				if made.Count == 0 && r.Flags&record.Imported == 0 || r.Flags&record.Imported == 0 && (!made.Same(&r) || made.Flags != r.Flags) ||
					r.Flags&record.Wide != 0 && (made.Count > 0 || r.Flags&record.Imported == 0) {
					t.Fatalf("token %d, %c at %d: %+v, its finer rows make %+v", id, rung.coarse, at, r, made)
				}
			}
		}
		for id, rows := range fine {
			for at := range rows {
				up := record.Floor(at, l.width)
				if at >= s.rolled.hours || rung.coarse == record.KindMonth && at >= s.rolled.days {
					continue
				}
				if _, ok := coarse[id][up]; !ok {
					t.Fatalf("token %d, %c at %d has no %c", id, rung.fine, at, rung.coarse)
				}
			}
		}
	}
}

// source is a lineage's history, and the ticks that made it.
func source(t *testing.T, seed uint64) (all [market.NumGranularities][]ImportRow, ticks []*market.Tick) {
	t.Helper()
	w := lived(t, seed, testOptions(vfs.NewMem()))
	for g := range market.NumGranularities {
		all[g] = historyOf(t, w.s, g)
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	return all, w.model.ticks
}

// feed gives a store the ticks that keep says.
func feed(t *testing.T, s *Store, ticks []*market.Tick, keep func(market.Time) bool) {
	t.Helper()
	seq := max(s.Recovery().NextSeq, s.appended+1)
	if err := s.Reserve(seq + uint64(len(ticks))); err != nil {
		t.Fatal(err)
	}
	for n, tk := range ticks {
		if !keep(tk.Env.Now) {
			continue
		}
		own := *tk
		own.Env.Seq = seq
		seq++
		if err := s.Append(&own); err != nil {
			t.Fatal(err)
		}
		if n%50 == 0 {
			if _, err := s.Commit(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := s.Commit(); err != nil {
		t.Fatal(err)
	}
}

// over are the rows that had ended by an instant.
func over(rows []ImportRow, g market.Granularity, by market.Time) []ImportRow {
	return slices.DeleteFunc(slices.Clone(rows), func(r ImportRow) bool { return r.Point.Time.Add(g.Width()) > by })
}

// The minutes that a lineage missed while another ran come from that one: the
// coarser points are made of both, as if nothing had been missed.
func TestImportFillsHoles(t *testing.T) {
	all, ticks := source(t, 3)
	o := testOptions(vfs.NewMem())
	s := mustOpen(t, o)
	first := record.Floor(ticks[0].Env.Now, market.Hour)
	feed(t, s, ticks, func(at market.Time) bool {
		h := at.Sub(first) / (20 * market.Minute)
		return h%5 != 1 && (h < 40 || h > 75)
	})
	hours := s.rolled.hours
	sum, conflicts := importRows(t, s, importOptions(o, market.Granularity1m), all[market.Granularity1m])
	if sum.Written == 0 || sum.There == 0 || len(conflicts) > 0 {
		t.Fatalf("%+v, %v", sum, conflicts)
	}
	for g := market.Granularity1m; g < market.NumGranularities; g++ {
		sameRows(t, g.String(), over(historyOf(t, s, g), g, hours), over(all[g], g, hours), g == market.Granularity1m)
	}
	ladderHolds(t, s)
	// It goes on as any lineage does.
	feed(t, s, slices.Collect(func(yield func(*market.Tick) bool) {
		for n := range 50 {
			tk := *ticks[len(ticks)-1]
			tk.Env.Now = tk.Env.Now.Add(market.Millis(n+1) * market.Hour)
			tk.Parts = ticks[len(ticks)-50+n].Parts
			if !yield(&tk) {
				return
			}
		}
	}), func(market.Time) bool { return true })
	ladderHolds(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// Hours fill a hole between minutes; what they stand for is shown and nothing else.
func TestImportCoarseBesideFine(t *testing.T) {
	t.Parallel()
	all, ticks := source(t, 4)
	for _, g := range []market.Granularity{market.Granularity5m, market.Granularity15m, market.Granularity1h, market.Granularity4h, market.Granularity1d} {
		o := testOptions(vfs.NewMem())
		s := mustOpen(t, o)
		first := ticks[0].Env.Now
		feed(t, s, ticks, func(at market.Time) bool { return at.Sub(first) < 10*market.Hour || at.Sub(first) > 35*market.Hour })
		before := historyOf(t, s, market.Granularity1m)
		o2 := importOptions(o, g)
		o2.Policy = ImportKeep // the rows at the edges of the hole hold more than is there
		importRows(t, s, o2, withoutFlags(all[g]))
		ladderHolds(t, s)
		sameRows(t, "1m", historyOf(t, s, market.Granularity1m), before, true)
		if g == market.Granularity15m {
			for _, r := range historyOf(t, s, market.Granularity5m) {
				if at := r.Point.Time.Sub(first); at > 11*market.Hour && at < 34*market.Hour {
					t.Fatalf("5 minutes of 15: %+v", r)
				}
			}
		}
		o2.Policy = ImportReplace
		importRows(t, s, o2, withoutFlags(all[g]))
		ladderHolds(t, s)
		if g != market.Granularity15m && g != market.Granularity4h { // made of finer rows at the edges
			hours := s.rolled.hours
			if g == market.Granularity1d {
				hours = s.rolled.days
			}
			sameRows(t, g.String(), over(historyOf(t, s, g), g, hours), over(all[g], g, hours), false)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestImportConflicts(t *testing.T) {
	all, ticks := source(t, 5)
	for _, policy := range []ImportPolicy{ImportStop, ImportKeep, ImportReplace} {
		o := testOptions(vfs.NewMem())
		s := mustOpen(t, o)
		feed(t, s, ticks, func(market.Time) bool { return true })
		rows := slices.Clone(all[market.Granularity1m])
		n := len(rows) / 3
		rows[n].Point.Volume.Mean = market.FromInt(123_456_000)
		io := importOptions(o, market.Granularity1m)
		io.Policy = policy
		sum, conflicts := importRows(t, s, io, rows)
		if sum.Conflicts != 1 || len(conflicts) != 1 || conflicts[0].Line != rows[n].Line || conflicts[0].File.Volume.Mean != rows[n].Point.Volume.Mean ||
			conflicts[0].There.Volume.Mean == rows[n].Point.Volume.Mean || conflicts[0].Time != rows[n].Point.Time || conflicts[0].Granularity != market.Granularity1m {
			t.Fatalf("%+v, %+v", sum, conflicts)
		}
		want := all[market.Granularity1m]
		if policy == ImportReplace {
			want = rows
		}
		sameRows(t, "1m", historyOf(t, s, market.Granularity1m), want, false)
		ladderHolds(t, s)
		changed := historyOf(t, s, market.Granularity1h)
		same := slices.EqualFunc(changed, all[market.Granularity1h], func(a, b ImportRow) bool { return a.Point.Volume == b.Point.Volume })
		if same != (policy != ImportReplace) {
			t.Errorf("policy %d: hours changed: %v", policy, !same)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// An hour that was imported and minutes that do not add up to it are a conflict.
func TestImportMadeConflict(t *testing.T) {
	all, _ := source(t, 6)
	for _, policy := range []ImportPolicy{ImportKeep, ImportReplace} {
		o := testOptions(vfs.NewMem())
		s := mustOpen(t, o)
		hours := withoutFlags(all[market.Granularity1h])
		hours[3].Point.Price.High = market.FromInt(1_000_000_000)
		importRows(t, s, importOptions(o, market.Granularity1h), hours)
		io := importOptions(o, market.Granularity1m)
		io.Policy = policy
		_, conflicts := importRows(t, s, io, all[market.Granularity1m])
		if len(conflicts) == 0 || !conflicts[0].Made || conflicts[0].Granularity != market.Granularity1h || conflicts[0].Time != hours[3].Point.Time {
			t.Fatalf("%+v", conflicts)
		}
		sameRows(t, "1m", historyOf(t, s, market.Granularity1m), all[market.Granularity1m], true)
		want := hours
		if policy == ImportReplace {
			want = all[market.Granularity1h]
		}
		sameRows(t, "1h", historyOf(t, s, market.Granularity1h), want, false)
		ladderHolds(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestImportRefuses(t *testing.T) {
	all, ticks := source(t, 7)
	o := testOptions(vfs.NewMem())
	o.Retention.Minute = market.Day
	s := mustOpen(t, o)
	feed(t, s, ticks, func(at market.Time) bool { return at == ticks[len(ticks)-1].Env.Now })
	rows := slices.Clone(all[market.Granularity1m])
	late := rows[len(rows)-1]
	late.Point.Time = late.Point.Time.Add(market.Hour)
	sum, _ := importRows(t, s, importOptions(o, market.Granularity1m), append(rows, late))
	if sum.Old == 0 || sum.Open == 0 || sum.Old+sum.Open+sum.Written+sum.There+sum.Conflicts != sum.Rows {
		t.Errorf("%+v", sum)
	}
	for _, r := range historyOf(t, s, market.Granularity1m) {
		if at := r.Point.Time; at < s.opts.Retention.oldest(market.Granularity1m, s.at) || at >= s.rolled.hours && at != record.Floor(s.at, market.Minute) {
			t.Errorf("there is %+v", r)
		}
	}
	ladderHolds(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// Of an empty lineage the clock says what is over.
	o = testOptions(vfs.NewMem())
	s = mustOpen(t, o)
	io := importOptions(o, market.Granularity1m)
	io.Now = rows[len(rows)/2].Point.Time
	if sum, _ = importRows(t, s, io, rows); sum.Open == 0 || s.rolled.hours > io.Now || s.rolled.hours != record.Floor(s.rolled.hours, market.Hour) {
		t.Errorf("%+v, %d", sum, s.rolled.hours)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := NewImport(t.Context(), s, io); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	r, err := OpenReadOnly(o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewImport(t.Context(), r, io); !errors.Is(err, ErrReadOnly) {
		t.Errorf("read only: %v", err)
	}
	// What would happen is what happens.
	io.Write, io.Now = false, 0
	dry, _ := importRows(t, r, io, rows)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, o)
	io.Write = true
	if sum, _ := importRows(t, s, io, rows); sum != dry || sum.Written == 0 {
		t.Errorf("dry %+v, then %+v", dry, sum)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// A lineage that began with an import takes ticks, closes its last day, and shows
// both; names are kept for tokens that no state knows.
func TestImportThenLive(t *testing.T) {
	all, ticks := source(t, 8)
	half := ticks[len(ticks)/2].Env.Now
	o := testOptions(vfs.NewMem())
	s := mustOpen(t, o)
	importRows(t, s, importOptions(o, market.Granularity1m), over(all[market.Granularity1m], market.Granularity1m, record.Floor(half, market.Hour)))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, o)
	imported := s.rolled.hours
	names := map[market.ID]string{}
	if err := s.Names(func(id market.ID, symbol string) { names[id] = symbol }); err != nil || len(names) != 6 || names[all[1][0].ID] != all[1][0].Symbol {
		t.Fatalf("%v, %v", names, err)
	}
	feed(t, s, ticks, func(at market.Time) bool { return at >= imported })
	for g := market.Granularity1m; g < market.NumGranularities; g++ {
		sameRows(t, g.String(), historyOf(t, s, g), all[g], true)
	}
	ladderHolds(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// The power goes in the middle of an import: whole days are there or not at all,
// and the import is done again.
func TestImportPowerCut(t *testing.T) {
	all, ticks := source(t, 9)
	seeds := uint64(30)
	if testing.Short() {
		seeds = 5
	}
	cut, begun := 0, 0
	for seed := range seeds {
		rng := rand.New(rand.NewPCG(seed, 17))
		mem := vfs.NewCrashableMem()
		g := []market.Granularity{market.Granularity1m, market.Granularity15m, market.Granularity1h, market.Granularity1d}[seed%4]
		tickless := seed%3 == 0
		if !tickless {
			s := mustOpen(t, testOptions(mem))
			feed(t, s, ticks, func(at market.Time) bool { return at.Sub(ticks[0].Env.Now) > 50*market.Hour })
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		c := &crasher{mem: mem, rng: rand.New(rand.NewPCG(rng.Uint64(), 3)), left: 1 + rng.IntN(60)}
		o := testOptions(errorfs.Wrap(mem, c))
		o.BatchBytes = 2000
		rows := withoutFlags(all[g])
		s := mustOpen(t, o)
		io := importOptions(o, g)
		io.Policy = ImportReplace
		importRows(t, s, io, rows)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		whole := historyOf(t, mustRead(t, o), max(g, 1))
		if !c.crashed() {
			continue
		}
		o = testOptions(c.after)
		s = mustOpen(t, o)
		cut++
		if n := len(historyOf(t, s, g)); n > 0 && n < len(whole) {
			begun++
		}
		if rec := s.Recovery(); len(rec.Damage) > 0 {
			t.Fatalf("seed %d: %+v", seed, rec)
		}
		ladderHolds(t, s)
		importRows(t, s, io, rows)
		ladderHolds(t, s)
		sameRows(t, g.String(), historyOf(t, s, g), whole, false)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if t.Logf("%d cuts, %d in the middle", cut, begun); cut == 0 {
		t.Error("no import was cut short")
	}
}

// mustRead opens a store for reading until the test's end.
func mustRead(t *testing.T, o Options) *Store {
	t.Helper()
	s, err := OpenReadOnly(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// At an instant a wide row speaks once it is over.
func TestImportWideThen(t *testing.T) {
	all, ticks := source(t, 10)
	o := testOptions(vfs.NewMem())
	s := mustOpen(t, o)
	rows := withoutFlags(all[market.Granularity15m])
	cut := ticks[len(ticks)/2].Env.Now
	rows = over(rows, market.Granularity15m, record.Floor(cut, market.Hour))
	importRows(t, s, importOptions(o, market.Granularity15m), rows)
	feed(t, s, ticks, func(at market.Time) bool { return at > cut.Add(market.Hour) })
	for _, r := range rows[len(rows)/2:][:20] {
		id, end := r.ID, r.Point.Time.Add(15*market.Minute)
		for _, at := range []market.Time{end - 1, end} {
			page, err := s.Past(t.Context(), market.PastQuery{ID: id, At: at})
			if err != nil {
				t.Fatal(err)
			}
			if page.AsOf > at || at == end && (len(page.Tokens) != 1 || page.AsOf != end || page.Tokens[0].Snap.Value(market.FieldPrice) != r.Point.Price.Close) {
				t.Fatalf("at %d: as of %d, %d tokens; the row ends at %d", at, page.AsOf, len(page.Tokens), end)
			}
			if len(page.Tokens) > 0 && page.Tokens[0].Snap.Flags()&record.Marks != 0 {
				t.Fatal("a mark is shown")
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
