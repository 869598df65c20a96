package persist

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
)

// cadence draws steps from seconds to days.
func (w *walk) cadence() market.Millis {
	switch w.rng.IntN(12) {
	case 0:
		return market.Millis(1 + w.rng.Int64N(int64(30*market.Hour)))
	case 1:
		return 15*market.Minute + 33*market.Second
	case 2, 3, 4:
		return market.Millis(1 + w.rng.Int64N(int64(3*market.Minute)))
	}
	return market.Second
}

func TestRandomWalk(t *testing.T) {
	t.Parallel()
	seeds := uint64(5)
	if testing.Short() {
		seeds = 1
	}
	for seed := range seeds {
		w := newWalk(t, seed, testOptions(vfs.NewMem()), 20)
		for range 60 {
			for range 1 + w.rng.IntN(40) {
				w.append(w.cadence())
			}
			switch w.rng.IntN(6) {
			case 0:
				w.save()
			case 1:
				if err := w.s.Close(); err != nil {
					t.Fatal(err)
				}
				w.open()
				if rec := w.s.Recovery(); !rec.Clean || rec.NextSeq != w.model.last()+1 || len(rec.Lost) != 0 {
					t.Fatalf("seed %d: after a clean stop %+v", seed, rec)
				}
				w.checkRecovery()
			case 2: // not committed: must not be visible
			default:
				w.commit()
			}
			w.checkHistory(w.mk.ids[w.rng.IntN(len(w.mk.ids))])
		}
		if err := w.s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOptions(t *testing.T) {
	f := func(change func(o *Options)) {
		t.Helper()
		fs := vfs.NewMem()
		o := testOptions(fs)
		change(&o)
		if _, err := Open(o); !errors.Is(err, ErrOptions) {
			t.Fatalf("Open = %v, want ErrOptions", err)
		}
		if files, _ := fs.List("/"); len(files) != 0 {
			t.Fatalf("files were created: %v", files)
		}
	}
	f(func(o *Options) { o.Dir = "" })
	f(func(o *Options) { o.Lineage = "" })
	f(func(o *Options) { o.Lineage = "../live" })
	f(func(o *Options) { o.Lineage = "Live" })
	f(func(o *Options) { o.Retention.Ticks = -1 })
	f(func(o *Options) { o.CacheBytes = -1 })
	f(func(o *Options) { o.MemTableBytes = 1 })
}

func TestLocked(t *testing.T) {
	f := func(fs vfs.FS, dir string) {
		t.Helper()
		o := testOptions(fs)
		o.Dir = dir
		s := mustOpen(t, o)
		o.Lineage, o.Fresh = "other", true
		if _, err := Open(o); !errors.Is(err, ErrLocked) {
			t.Fatalf("Open = %v, want ErrLocked", err)
		}
		if _, err := fs.Stat(fs.PathJoin(dir, "other")); err == nil {
			t.Fatal("the second process created a lineage")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	f(vfs.NewMem(), "/data")
	f(vfs.Default, t.TempDir())
}

func TestFresh(t *testing.T) {
	fs := vfs.NewMem()
	w := newWalk(t, 1, testOptions(fs), 3)
	w.append(market.Second)
	first := w.s.Recovery().Epoch
	for range 2 {
		if err := w.s.Close(); err != nil {
			t.Fatal(err)
		}
		w.o.Fresh = true
		w.open()
		if w.next != 1 || w.s.Recovery().Epoch == first {
			t.Fatalf("fresh lineage: %+v", w.s.Recovery())
		}
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	w.o.Fresh, w.o.Lineage = false, "live."+first+".old"
	if _, err := fs.Stat("/data/" + w.o.Lineage); err != nil {
		t.Fatal("the old lineage is gone")
	}
}

func TestOrder(t *testing.T) {
	w := newWalk(t, 1, testOptions(vfs.NewMem()), 3)
	defer func() { _ = w.s.Close() }()
	f := func(seq uint64) {
		t.Helper()
		if err := w.s.Append(w.mk.step(seq, 1)); !errors.Is(err, ErrOrder) {
			t.Fatalf("Append of seq %d = %v, want ErrOrder", seq, err)
		}
	}
	f(1) // nothing reserved
	w.append(market.Second)
	f(1)
	f(0)
	f(100)
	if err := w.s.Save(&market.Export{Seq: 2}); !errors.Is(err, ErrOrder) {
		t.Fatalf("Save of the future = %v", err)
	}
}

// Crash after crash without a tick: the lost range stays one.
func TestLostStaysBounded(t *testing.T) {
	mem := vfs.NewCrashableMem()
	w := newWalk(t, 2, testOptions(mem), 3)
	w.append(market.Second)
	w.commit()
	for range 5 {
		if err := w.s.Reserve(w.next + 100); err != nil {
			t.Fatal(err)
		}
		next := w.next
		w.o.FS = mem.CrashClone(vfs.CrashCloneCfg{})
		old := w.s
		mem = w.o.FS.(*vfs.MemFS)
		w.open()
		if err := old.Close(); err != nil {
			t.Fatal(err)
		}
		rec := w.s.Recovery()
		if rec.NextSeq != next+101 || len(rec.Lost) != 1 || rec.Lost[0] != (LostRange{From: 1, To: next + 100}) {
			t.Fatalf("recovered %+v", rec)
		}
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestClosed(t *testing.T) {
	w := newWalk(t, 1, testOptions(vfs.NewMem()), 3)
	w.append(market.Second)
	if err := errors.Join(w.s.Close(), w.s.Close()); err != nil {
		t.Fatal(err)
	}
	f := func(err error) {
		t.Helper()
		if !errors.Is(err, ErrClosed) {
			t.Fatalf("error %v, want ErrClosed", err)
		}
	}
	f(w.s.Reserve(100))
	f(w.s.Append(w.mk.step(2, 1)))
	f(w.s.Save(&market.Export{}))
	_, err := w.s.Commit()
	f(err)
	_, err = w.s.History(t.Context(), market.HistoryQuery{Limit: 1, To: 1})
	f(err)
	w.s.Stats()
}

func TestClockGoesBack(t *testing.T) {
	w := newWalk(t, 1, testOptions(vfs.NewMem()), 3)
	w.mk.share, w.mk.dirty = 1, false
	w.append(market.Second)
	high := w.mk.now
	w.mk.now -= market.Time(market.Hour)
	w.append(market.Second)
	w.commit()
	page, err := w.s.History(t.Context(), market.HistoryQuery{ID: w.mk.ids[0], To: high + 2, Limit: 2})
	if err != nil || len(page.Points) != 2 || page.Points[0].Time != high || page.Points[1].Time != high+1 {
		t.Fatalf("history %+v, %v", page, err)
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	w.open()
	w.checkJournal(0)
	// A state of the earlier time does not take history back either.
	w.append(market.Second)
	w.save()
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	w.open()
	w.append(market.Second)
	w.commit()
	page, err = w.s.History(t.Context(), market.HistoryQuery{ID: w.mk.ids[0], To: high + 1, Limit: 100, Granularity: market.Granularity1m})
	if err != nil || len(page.Points) != 1 || page.Points[0].Count != 4 {
		t.Fatalf("minutes %+v, %v", page, err)
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestCells(t *testing.T) {
	w := newWalk(t, 3, testOptions(vfs.NewMem()), 5)
	w.mk.dirty = false
	now := w.mk.now
	want := map[market.ID][]market.Cell{}
	var hours []market.HourCells
	w.mk.share = 1
	w.append(0)
	for id := range w.mk.tokens {
		for hour := record.Floor(now, market.Hour).Add(-10 * market.Day); hour < record.Floor(now, market.Hour); hour = hour.Add(market.Hour) {
			h := market.HourCells{ID: id, Hour: hour}
			for m := range market.Time(60) {
				c := market.Cell{
					Time: hour + m*market.Time(market.Minute) + market.Time(w.rng.IntN(60000)), Price: w.rng.Float32(), Volume: w.rng.Float32() * 1e9, Velocity: w.rng.Float32(),
				}
				h.Cells = append(h.Cells, c)
				before := now.Add(-market.Hour)
				if hour >= fineFrom(before) || hour >= lastFrom(before) && m%5 == 4 {
					want[id] = append(want[id], c)
				}
			}
			hours = append(hours, h)
		}
	}
	e := w.mk.export(w.next - 1)
	e.Hours = hours
	if err := w.s.Save(e); err != nil {
		t.Fatal(err)
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	w.open()
	for _, workers := range []int{0, 1, 2, 3, 99} {
		var mu sync.Mutex
		n := 0
		err := w.s.Tokens(workers, func(ts market.TokenState, cells []market.Cell) error {
			mu.Lock()
			defer mu.Unlock()
			n++
			if !slices.Equal(cells, want[ts.ID]) {
				t.Errorf("%d workers, token %d: %d cells, want %d", workers, ts.ID, len(cells), len(want[ts.ID]))
			}
			return nil
		})
		if err != nil || n != len(want) {
			t.Fatalf("%d workers: %d tokens, %v", workers, n, err)
		}
	}
	// A token that retires and comes back does not inherit its cells.
	gone := w.mk.ids[0]
	tick := w.mk.step(w.next, market.Second)
	tick.Removed = []market.ID{gone}
	if err := errors.Join(w.s.Reserve(50), w.s.Append(tick), w.s.Save(w.mk.export(w.next))); err != nil {
		t.Fatal(err)
	}
	err := w.s.Tokens(1, func(ts market.TokenState, cells []market.Cell) error {
		if (len(cells) == 0) != (ts.ID == gone) {
			t.Fatalf("token %d has %d cells", ts.ID, len(cells))
		}
		return nil
	})
	if err := errors.Join(err, w.s.Close()); err != nil {
		t.Fatal(err)
	}
}

// A token that was kept out of its window for weeks comes back with the window
// that it had, while the cells of the others go; so do its own when it wakes up.
func TestSleepersKeepTheirWindows(t *testing.T) {
	w := newWalk(t, 4, testOptions(vfs.NewMem()), 3)
	w.mk.dirty, w.mk.share = false, 1
	w.append(0)
	begin, sleeper := w.mk.now, w.mk.ids[1]
	var hours []market.HourCells
	want := 0
	for hour := lastFrom(begin).Add(-2 * market.Day); hour < record.Floor(begin, market.Hour); hour = hour.Add(market.Hour) {
		cells := []market.Cell{{Time: hour, Price: 1}, {Time: hour.Add(market.Minute), Price: 2}, {Time: hour.Add(5 * market.Minute), Price: 3}}
		for _, id := range w.mk.ids {
			hours = append(hours, market.HourCells{ID: id, Hour: hour, Cells: cells})
		}
		if hour >= fineFrom(begin) {
			want += 3
		} else if hour >= lastFrom(begin) {
			want += 2
		}
	}
	save := func(asleep market.Time) {
		t.Helper()
		e := w.mk.export(w.next - 1)
		for i := range e.Tokens {
			if e.Tokens[i].ID == sleeper {
				e.Tokens[i].Newest = asleep
			}
		}
		e.Hours, hours = hours, nil
		if err := w.s.Save(e); err != nil {
			t.Fatal(err)
		}
	}
	kept := func() map[market.ID]bool {
		ids := map[market.ID]bool{}
		for _, kind := range []byte{record.KindCells, record.KindLast} {
			_ = scan(w.s.db, record.PeriodKey(kind, 0), []byte{kind + 1}, func(key, _ []byte) error {
				_, id, _, _ := record.ParseChunkKey(key)
				ids[id] = true
				return nil
			})
		}
		return ids
	}
	save(begin)
	for range 20 {
		w.append(market.Day)
		save(begin)
	}
	if ids := kept(); len(ids) != 1 || !ids[sleeper] {
		t.Errorf("cells of %v are kept, want those of %d", ids, sleeper)
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	w.open()
	err := w.s.Tokens(1, func(ts market.TokenState, cells []market.Cell) error {
		if n := len(cells); ts.ID == sleeper && n != want || ts.ID != sleeper && n != 0 {
			t.Errorf("token %d has %d cells, the sleeper %d had %d", ts.ID, n, sleeper, want)
		}
		return nil
	})
	w.append(market.Day)
	save(w.mk.now)
	if ids := kept(); len(ids) != 0 {
		t.Errorf("cells of %v are kept, want none", ids)
	}
	if err := errors.Join(err, w.s.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedCells(t *testing.T) {
	w := newWalk(t, 3, testOptions(vfs.NewMem()), 3)
	w.mk.dirty, w.mk.share = false, 1
	w.append(market.Second)
	hour := record.Floor(w.mk.now, market.Hour).Add(-market.Hour)
	e := w.mk.export(1)
	for _, id := range w.mk.ids {
		e.Hours = append(e.Hours, market.HourCells{ID: id, Hour: hour, Cells: []market.Cell{{Time: hour, Price: 1}}})
	}
	if err := w.s.Save(e); err != nil {
		t.Fatal(err)
	}
	spoil(t, w.s, record.ChunkKey(record.KindCells, dayOf(hour), w.mk.ids[1], byte(hourOfDay(hour))))
	n := 0
	err := w.s.Tokens(1, func(_ market.TokenState, cells []market.Cell) error {
		n += len(cells)
		return nil
	})
	if !errors.Is(err, ErrCorrupt) || n != 2 {
		t.Fatalf("damaged cells: %d, %v", n, err)
	}
	enough := errors.New("enough")
	if err := w.s.Tokens(1, func(market.TokenState, []market.Cell) error { return enough }); !errors.Is(err, enough) {
		t.Fatalf("a callback's error came back as %v", err)
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
}
