package persist

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
)

// flagDamaged has the next start mend.
func flagDamaged(t *testing.T, o *Options) {
	t.Helper()
	if err := writeFile(o.FS, o.FS.PathJoin(o.Dir, o.Lineage, damageFile), nil); err != nil {
		t.Fatal(err)
	}
}

// settled closes a store with all that it holds in tables and no old logs.
func settled(t *testing.T, s *Store) {
	t.Helper()
	o := s.opts
	if err := errors.Join(s.db.Flush(), s.db.Compact(t.Context(), []byte{0}, []byte{255}, false), s.Close(), mustOpen(t, o).Close()); err != nil {
		t.Fatal(err)
	}
}

// hitBlocks damages the tables' blocks of which want says so by their kinds of keys.
func hitBlocks(t *testing.T, mem *vfs.MemFS, o *Options, want func(kinds string) bool) (hits int) {
	t.Helper()
	for _, name := range filesOf(t, mem, mem.PathJoin(o.Dir, o.Lineage)) {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		f, err := openRaw(mem, name)
		if err != nil {
			t.Fatal(err)
		}
		data, r := contentsOf(t, mem, name), newTableReader()
		for at := 0; ; {
			n, err := r.block(f, int64(at))
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				break
			}
			kinds := map[byte]struct{}{}
			if err := r.rows(data[at:at+n], func(key, _ []byte) error {
				kinds[key[0]] = struct{}{}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if want(string(slices.Sorted(maps.Keys(kinds)))) {
				data[at+n/2] ^= 1
				hits++
			}
			at += n + blockTrailer
		}
		f.close()
		rewrite(t, mem, name, data)
	}
	return hits
}

// pointsOf are the points of a granularity by token and time.
func pointsOf(t *testing.T, s *Store, g market.Granularity, ids []market.ID) map[market.ID]map[market.Time]market.Point {
	t.Helper()
	all := map[market.ID]map[market.Time]market.Point{}
	for _, id := range ids {
		page, err := s.History(t.Context(), market.HistoryQuery{ID: id, To: maxTime / 2, Granularity: g, Limit: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		all[id] = map[market.Time]market.Point{}
		for _, p := range page.Points {
			all[id][p.Time] = p
		}
	}
	return all
}

// differing counts the points that are others, and those that are gone.
func differing(got, want map[market.ID]map[market.Time]market.Point) (other, gone int) {
	for id, points := range want {
		for at, p := range points {
			switch q, ok := got[id][at]; {
			case !ok:
				gone++
			case p.Count != q.Count || p.Price != q.Price:
				other++
			}
		}
	}
	return other, gone
}

func losesOf(m *Mended, kind string) bool {
	return m != nil && slices.ContainsFunc(m.Lost, func(l Loss) bool { return l.Kind == kind })
}

// One sector that cannot be read, where an encrypted file begins, costs that file.
func TestMendUnreadableHead(t *testing.T) {
	mem := vfs.NewMem()
	o := testOptions(mem)
	o.Keys = testKeys(t, true)
	w := newWalk(t, 7, o, 6)
	for range 3 {
		for range 100 {
			w.append(market.Minute)
		}
		w.save()
		if err := w.s.db.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	files := filesOf(t, mem, o.Dir)
	slices.Sort(files)
	bad := files[slices.IndexFunc(files, func(name string) bool { return strings.HasSuffix(name, ".sst") })]
	o.FS = errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileReadAt && op.Path == bad && op.Offset < 4096 {
			return syscall.EIO
		}
		return nil
	}))
	s := mustOpen(t, o)
	defer func() { _ = s.Close() }()
	if rec := s.Recovery(); rec.DurableSeq != 300 || rec.Mended == nil {
		t.Errorf("durable seq %d, %+v", rec.DurableSeq, rec.Mended)
	}
}

// Of rows that an import replaced the newer ones count.
func TestMendReplaced(t *testing.T) {
	all, _ := source(t, 11)
	for _, g := range []market.Granularity{market.Granularity1m, market.Granularity5m, market.Granularity1h, market.Granularity1d} {
		o := testOptions(vfs.NewMem())
		s := mustOpen(t, o)
		rows, io := withoutFlags(all[g]), importOptions(o, g)
		importRows(t, s, io, rows)
		for i := range rows {
			if b := &rows[i].Point.Price; !b.Close.IsNull() {
				b.Open, b.High, b.Close, b.Mean = b.Low, b.Low, b.Low, b.Low
			}
		}
		io.Policy = ImportReplace
		importRows(t, s, io, rows)
		var want [market.NumGranularities][]ImportRow
		for k := range market.NumGranularities {
			want[k] = historyOf(t, s, k)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		flagDamaged(t, &o)
		s = mustOpen(t, o)
		for k := range market.NumGranularities {
			sameRows(t, g.String()+", "+k.String(), historyOf(t, s, k), want[k], false)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Imported rows have nothing beneath that would make good for them, and are told of;
// without a roll record they are found all the same.
func TestMendImported(t *testing.T) {
	t.Parallel()
	all, _ := source(t, 11)
	for _, g := range []market.Granularity{market.Granularity5m, market.Granularity1h, market.Granularity1d} {
		mem := vfs.NewMem()
		o := testOptions(mem)
		s := mustOpen(t, o)
		importRows(t, s, importOptions(o, g), withoutFlags(all[g]))
		want := historyOf(t, s, g)
		spoil(t, s, record.MetaKey(record.MetaRoll))
		spoil(t, s, record.MetaKey(record.MetaCoarse))
		settled(t, s)
		s = mustOpen(t, o)
		sameRows(t, g.String(), historyOf(t, s, g), want, false)
		if coarse, err := coarseStretch(s.db); err != nil || coarse == (stretch{}) {
			t.Errorf("%s: imported in %v, %v", g, coarse, err)
		}
		settled(t, s)
		kind := map[market.Granularity]string{market.Granularity5m: "q"}[g]
		o.Retention = Retention{}
		if hitBlocks(t, mem, &o, func(kinds string) bool { return kinds == kind }) == 0 {
			continue
		}
		flagDamaged(t, &o)
		s = mustOpen(t, o)
		if m := s.Recovery().Mended; len(historyOf(t, s, g)) == len(want) || !losesOf(m, g.String()) {
			t.Errorf("%s: %+v", g, m)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// An hour whose 5 minutes were imported is not made of the few minutes that it has.
func TestMendHourOfFives(t *testing.T) {
	all, _ := source(t, 11)
	mem := vfs.NewMem()
	o := testOptions(mem)
	s := mustOpen(t, o)
	half := slices.DeleteFunc(withoutFlags(all[market.Granularity1m]), func(r ImportRow) bool {
		return r.Point.Time%market.Time(market.Hour) < market.Time(30*market.Minute)
	})
	importRows(t, s, importOptions(o, market.Granularity5m), withoutFlags(all[market.Granularity5m]))
	importRows(t, s, importOptions(o, market.Granularity1m), half)
	var ids []market.ID
	for id := range market.ID(40) {
		ids = append(ids, id+1)
	}
	want := pointsOf(t, s, market.Granularity1h, ids)
	settled(t, s)
	if hitBlocks(t, mem, &o, func(kinds string) bool { return strings.Contains(kinds, "o") }) == 0 {
		t.Fatal("no block was hit")
	}
	flagDamaged(t, &o)
	s = mustOpen(t, o)
	defer func() { _ = s.Close() }()
	if other, _ := differing(pointsOf(t, s, market.Granularity1h, ids), want); other > 0 || !losesOf(s.Recovery().Mended, "1h") {
		t.Errorf("%d hours are others, %+v", other, s.Recovery().Mended)
	}
}

// Days are made of hours once those are made of minutes.
func TestMendDaysOfHours(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("two blocks of days are to be hit: that many tokens take their time")
	}
	mem := vfs.NewMem()
	o := testOptions(mem)
	w := newWalk(t, 5, o, 400)
	w.mk.dirty, w.mk.share = false, 1
	for range 75 {
		w.append(market.Hour)
		w.commit()
	}
	want := pointsOf(t, w.s, market.Granularity1d, w.mk.ids)
	settled(t, w.s)
	if hitBlocks(t, mem, &o, func(kinds string) bool { return kinds == "d" || kinds == "o" }) < 2 {
		t.Fatal("no block was hit")
	}
	flagDamaged(t, &o)
	s := mustOpen(t, o)
	defer func() { _ = s.Close() }()
	if other, gone := differing(pointsOf(t, s, market.Granularity1d, w.mk.ids), want); other > 0 || gone > 0 {
		t.Errorf("%d days are others, %d are gone, %+v", other, gone, s.Recovery().Mended)
	}
}

// What a start finds that is not to mend ends it, too.
func TestStopOnMissingTicks(t *testing.T) {
	mem, w := flipBase(t, true, nil)
	newest := ""
	for _, name := range filesOf(t, mem, w.o.Dir) {
		if strings.HasSuffix(name, ".log") {
			newest = max(newest, name)
		}
	}
	b := contentsOf(t, mem, newest)
	b[len(bytes.TrimRight(b, "\x00"))-400] ^= 1
	rewrite(t, mem, newest, b)
	o := w.o
	o.FS, o.OnDamage = mem, StopOnDamage
	for range 2 { // and nothing is forgotten by that
		if _, err := Open(o); !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
	}
	o.OnDamage = Mend
	s := mustOpen(t, o)
	if m := s.Recovery().Mended; m == nil || len(m.LostSeqs) == 0 {
		t.Errorf("%+v", m)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// No tick tells that the end of a log is gone: imported rows do not depend on it.
func TestImportSurvivesItsLog(t *testing.T) {
	all, _ := source(t, 11)
	for part := range 4 {
		mem := vfs.NewMem()
		o := testOptions(mem)
		s := mustOpen(t, o)
		importRows(t, s, importOptions(o, market.Granularity1h), withoutFlags(all[market.Granularity1h]))
		want, epoch := historyOf(t, s, market.Granularity1h), s.Recovery().Epoch
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for _, name := range filesOf(t, mem, o.Dir) {
			if strings.HasSuffix(name, ".log") {
				b := contentsOf(t, mem, name)
				b[part*len(bytes.TrimRight(b, "\x00"))/4] ^= 1
				rewrite(t, mem, name, b)
			}
		}
		s = mustOpen(t, o)
		sameRows(t, "1h", historyOf(t, s, market.Granularity1h), want, false)
		if rec := s.Recovery(); rec.Epoch != epoch && rec.Mended == nil {
			t.Errorf("%+v", rec)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A store that has a mark had an epoch.
func TestNoEpochBesideAMark(t *testing.T) {
	mem := vfs.NewMem()
	o := testOptions(mem)
	if err := mustOpen(t, o).Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range filesOf(t, mem, o.Dir) {
		if strings.HasSuffix(name, ".log") {
			b := contentsOf(t, mem, name)
			b[8] ^= 1
			rewrite(t, mem, name, b)
		}
	}
	s := mustOpen(t, o)
	if rec := s.Recovery(); rec.Mended == nil || !rec.Mended.NewEpoch {
		t.Errorf("%+v", rec)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// A lineage that a mending has not named yet is there for a restore.
func TestRestoreAmidMending(t *testing.T) {
	mem := vfs.NewMem()
	w := newWalk(t, 3, testOptions(mem), 5)
	for range 60 {
		w.append(market.Minute)
	}
	w.commit()
	b := mustBackup(t, w.s)
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	flagDamaged(t, &w.o)
	o := w.o
	o.FS = errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpRename && strings.HasSuffix(op.Path, mendSuffix) {
			return syscall.EIO
		}
		return nil
	}))
	if _, err := Open(o); err == nil {
		t.Fatal("opened")
	}
	if _, err := Restore(t.Context(), b.Dir, w.o, Checks{}); !errors.Is(err, ErrExists) {
		t.Error(err)
	}
}

// A restore waits for space like any other write.
func TestRestoreDiskFull(t *testing.T) {
	mem := vfs.NewMem()
	w := newWalk(t, 3, testOptions(mem), 5)
	for range 30 {
		w.append(market.Minute)
	}
	w.commit()
	b := mustBackup(t, w.s)
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	o := w.o
	o.Dir = "/other"
	var full atomic.Bool
	o.FS = errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		mine := slices.ContainsFunc(b.Files, func(f File) bool { return f.Name == mem.PathBase(op.Path) })
		if op.Kind == errorfs.OpFileWrite && strings.Contains(op.Path, restoreSuffix) && !mine && !full.Swap(true) {
			return syscall.ENOSPC
		}
		return nil
	}))
	if _, err := Restore(t.Context(), b.Dir, o, Checks{}); err != nil || !full.Load() {
		t.Error(full.Load(), err)
	}
}

// An opening that never ends holds nothing that the mended store needs. It leaves
// goroutines behind, hence a process of its own.
func TestMendAfterStuckOpening(t *testing.T) {
	const child = "VELOCIMETER_TEST_STUCK"
	if os.Getenv(child) != "" {
		mendAfterStuckOpening(t)
		if !t.Failed() {
			os.Exit(0) //nolint:forbidigo // before leaks are looked for
		}
		return
	}
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMendAfterStuckOpening$")
	c.Env = append(os.Environ(), child+"="+t.TempDir())
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func mendAfterStuckOpening(t *testing.T) {
	t.Helper()
	o := testOptions(vfs.Default)
	o.Dir, o.MemTableBytes = os.Getenv("VELOCIMETER_TEST_STUCK"), 8<<20
	w := newWalk(t, 3, o, 40)
	for range 200 {
		w.append(market.Minute)
	}
	w.commit()
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	var mending atomic.Bool
	o.MemTableBytes = 256 << 10 // what the log holds must be written at once
	o.FS = errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind != errorfs.OpFileWrite || !strings.HasSuffix(op.Path, ".sst") {
			return nil
		}
		if strings.Contains(op.Path, mendSuffix) {
			mending.Store(true)
		}
		if mending.Load() {
			return nil
		}
		return syscall.EIO
	}))
	s := mustOpen(t, o)
	if rec := s.Recovery(); rec.Mended == nil || rec.DurableSeq != 200 {
		t.Errorf("%+v", rec)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
