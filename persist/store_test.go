package persist

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
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
	err := w.s.Tokens(func(ts market.TokenState, _ []market.Cell) error {
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
		got.Position != want.Position || got.SourceTime != want.SourceTime || !slices.Equal(got.Removed, want.Removed) {
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
		var got []market.Point
		for {
			page, err := w.s.History(w.t.Context(), q)
			if err != nil {
				w.t.Fatal(err)
			}
			if page.DurableSeq != durable {
				w.t.Fatalf("page durable seq %d, want %d", page.DurableSeq, durable)
			}
			got = append(got, page.Points...)
			if page.Next == 0 {
				break
			}
			q.After = page.Next
		}
		comparePoints(w.t, g, got, want)
	}
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
	seeds := uint64(5)
	if testing.Short() {
		seeds = 2
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
	page, err := w.s.History(t.Context(), market.HistoryQuery{ID: w.mk.ids[0], To: high + 1, Limit: 1})
	if err != nil || len(page.Points) != 2 || page.Points[1].Time != high {
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
				fine := hour >= record.Floor(now.Add(-25*market.Hour), market.Hour)
				if fine || hour >= record.Floor(now.Add(-lastBack), market.Hour) && m%5 == 4 {
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
	n := 0
	err := w.s.Tokens(func(ts market.TokenState, cells []market.Cell) error {
		n++
		if !slices.Equal(cells, want[ts.ID]) {
			t.Fatalf("token %d: %d cells, want %d", ts.ID, len(cells), len(want[ts.ID]))
		}
		return nil
	})
	if err != nil || n != len(want) {
		t.Fatalf("%d tokens, %v", n, err)
	}
	hour := record.Floor(now, market.Hour).Add(-market.Hour)
	spoil(t, w.s, record.ChunkKey(record.KindCells, dayOf(hour), w.mk.ids[1], byte(hourOfDay(hour))))
	n = 0
	err = w.s.Tokens(func(market.TokenState, []market.Cell) error { n++; return nil })
	if !errors.Is(err, ErrCorrupt) || n != len(want) {
		t.Fatalf("damaged cells: %d tokens, %v", n, err)
	}
	enough := errors.New("enough")
	if err := w.s.Tokens(func(market.TokenState, []market.Cell) error { return enough }); !errors.Is(err, enough) {
		t.Fatalf("a callback's error came back as %v", err)
	}
	// A token that retires and comes back does not inherit its cells.
	gone := w.mk.ids[0]
	tick := w.mk.step(w.next, market.Second)
	tick.Removed = []market.ID{gone}
	if err := errors.Join(w.s.Reserve(50), w.s.Append(tick), w.s.Save(w.mk.export(w.next))); err != nil {
		t.Fatal(err)
	}
	err = w.s.Tokens(func(ts market.TokenState, cells []market.Cell) error {
		if (len(cells) == 0) != (ts.ID == gone) {
			t.Fatalf("token %d has %d cells", ts.ID, len(cells))
		}
		return nil
	})
	if err := errors.Join(err, w.s.Close()); err != nil {
		t.Fatal(err)
	}
}
