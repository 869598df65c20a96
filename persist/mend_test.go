package persist

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/sealed"
)

// damagedBase returns a store with a damaged log and what it held.
func damagedBase(t *testing.T, seed uint64) (*vfs.MemFS, *walk, *picture, string) {
	t.Helper()
	base, w := flipBase(t, true, nil)
	truth := openLook(t, w, base.CrashClone(vfs.CrashCloneCfg{}))
	rng := rand.New(rand.NewPCG(seed, 2))
	files := filesOf(t, base, w.o.Dir)
	files = slices.DeleteFunc(files, func(name string) bool { return !strings.HasSuffix(name, ".log") && !strings.HasSuffix(name, ".sst") })
	for {
		mem := base.CrashClone(vfs.CrashCloneCfg{})
		what, _ := mutate(t, mem, files, rng)
		if err := syncDir(mem, mem.PathJoin(w.o.Dir, w.o.Lineage)); err != nil {
			t.Fatal(err)
		}
		o := w.o
		o.FS, o.OnDamage = mem.CrashClone(vfs.CrashCloneCfg{}), StopOnDamage
		s, err := Open(o)
		if err != nil {
			return mem, w, truth, what
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// asides counts the damaged stores that were kept, and wants nothing half done.
func asides(t *testing.T, mem *vfs.MemFS, o *Options) (n int) {
	t.Helper()
	names, err := mem.List(o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, asideSuffix) {
			n++
		}
		if strings.HasSuffix(name, mendSuffix) {
			t.Errorf("%s is left", name)
		}
	}
	return n
}

// Mending may fail at any reading or renaming: the start after it does it again or goes on,
// and nothing is lost by that.
func TestMendFailsAnywhere(t *testing.T) {
	t.Parallel()
	base, w, truth, what := damagedBase(t, 3)
	step := *everyNth
	if testing.Short() {
		step = 211
	}
	for nth := 0; ; nth += step {
		mem := base.CrashClone(vfs.CrashCloneCfg{})
		var count, hits atomic.Int32
		watch := &mendWatch{Handler: slog.DiscardHandler}
		o := w.o
		o.Logger = slog.New(watch)
		o.FS = errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			// A write or a sync that fails may end the process: a crash, and of those
			// is TestMendPowerCut.
			switch {
			case !watch.mending.Load(), op.Kind.ReadOrWrite() != errorfs.OpIsRead && op.Kind != errorfs.OpRename, op.Kind == errorfs.OpOpenDir:
				return nil
			case op.Kind == errorfs.OpRename && strings.HasSuffix(op.Path, mendSuffix):
				watch.mending.Store(false) // what follows is a start like any other
			}
			if count.Add(1)-1 != int32(nth) {
				return nil
			}
			hits.Add(1)
			return fmt.Errorf("operation %d of %s: %w", op.Kind, op.Path, syscall.EIO)
		}))
		if s, err := Open(o); err == nil {
			_ = s.Close()
		}
		if hits.Load() == 0 {
			t.Logf("%s: %d operations", what, nth)
			return
		}
		o.FS, o.Logger = mem, nil
		s, err := Open(o)
		if err != nil {
			t.Fatalf("%s, operation %d failed: %v", what, nth, err)
		}
		p := look(s, w.mk.ids, w.mk.now.Add(market.Day))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if wrong := p.against(truth); wrong != "" || p.rec.Mended == nil || p.rec.Mended.Failed != "" || asides(t, mem, &o) == 0 {
			t.Fatalf("%s, operation %d failed: %s\n%+v", what, nth, wrong, p.rec.Mended)
		}
	}
}

// mendWatch is a logger that knows when a store is being mended.
type mendWatch struct {
	slog.Handler
	mending atomic.Bool
}

func (w *mendWatch) Enabled(context.Context, slog.Level) bool { return true }

func (w *mendWatch) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "is being mended") {
		w.mending.Store(true)
	}
	return nil
}

// The power may go while a store is mended, several times in a row.
func TestMendPowerCut(t *testing.T) {
	t.Parallel()
	seeds := uint64(12)
	if testing.Short() {
		seeds = 3
	}
	for seed := range seeds {
		mem, w, truth, what := damagedBase(t, seed)
		rng := rand.New(rand.NewPCG(seed, 5))
		for range 4 {
			c := &crasher{mem: mem, rng: rng, left: 1 + rng.IntN(400)}
			o := w.o
			o.FS = errorfs.Wrap(mem, c)
			s, err := Open(o)
			if err != nil && !c.crashed() {
				t.Fatalf("seed %d, %s: %v", seed, what, err)
			}
			if err == nil {
				_ = s.Close()
			}
			if !c.crashed() {
				break
			}
			mem = c.after
		}
		o := w.o
		o.FS = mem
		s, err := Open(o)
		if err != nil {
			t.Fatalf("seed %d, %s: %v", seed, what, err)
		}
		p := look(s, w.mk.ids, w.mk.now.Add(market.Day))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if wrong := p.against(truth); wrong != "" || p.rec.Mended == nil || p.rec.Mended.Failed != "" || asides(t, mem, &o) == 0 {
			t.Fatalf("seed %d, %s: %s\n%+v", seed, what, wrong, p.rec.Mended)
		}
	}
}

// A disk without room for a second store keeps the damaged one as it is.
func TestMendWithoutSpace(t *testing.T) {
	base, w, _, what := damagedBase(t, 1)
	o := w.o
	o.FS = &fullDisk{FS: base, free: 1 << 20}
	if _, err := Open(o); !errors.Is(err, ErrNoSpace) || !errors.Is(err, ErrCorrupt) || asides(t, base, &o) != 0 {
		t.Fatalf("%s: %v", what, err)
	}
	o.FS = base
	s := mustOpen(t, o)
	if s.Recovery().Mended == nil {
		t.Error("not mended when there is space")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// fullDisk has a fixed number of free bytes.
type fullDisk struct {
	vfs.FS
	free uint64
}

func (f *fullDisk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: f.free, TotalBytes: 1 << 40}, nil
}

// A file that turns out to be damaged while the store is in use makes reads fail;
// ticks go on, and the next start mends.
func TestDamageWhileServing(t *testing.T) {
	t.Parallel()
	mem := vfs.NewCrashableMem()
	w := newWalk(t, 7, testOptions(mem), 6)
	w.mk.dirty, w.mk.share = false, 1
	for range 600 {
		w.append(market.Minute)
	}
	w.save()
	w.commit()
	if err := w.s.db.Compact(t.Context(), []byte{0}, []byte{255}, false); err != nil {
		t.Fatal(err)
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range filesOf(t, mem, w.o.Dir) {
		if strings.HasSuffix(name, ".sst") { // every value of it is within a flip
			b := contentsOf(t, mem, name)
			for at := 20 << 10; at < len(b)-8<<10; at += blockBytes {
				b[at] ^= 1
			}
			rewrite(t, mem, name, b)
		}
	}
	w.o.Retention.Ticks = 9999 * market.Day
	s, err := Open(w.o) // what a start reads may be among it
	if err != nil {
		t.Fatal(err)
	}
	if s.Recovery().Mended == nil {
		w.s, w.next = s, s.Recovery().NextSeq
		failed := 0
		for _, id := range w.mk.ids {
			for g := range market.NumGranularities {
				_, err := s.History(t.Context(), market.HistoryQuery{ID: id, To: w.mk.now, Granularity: g, Limit: 1 << 20})
				if err != nil && !errors.Is(err, ErrCorrupt) {
					t.Fatal(err)
				}
				if err != nil {
					failed++
				}
			}
		}
		for range 200 {
			w.append(market.Minute)
			w.commit()
		}
		if st := s.Stats(); failed == 0 || st.BackgroundErrors == 0 {
			t.Fatalf("%d reads failed, %+v", failed, st)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = mustOpen(t, w.o)
	}
	rec := s.Recovery()
	if rec.Mended == nil || len(rec.Mended.Lost) == 0 {
		t.Fatalf("%+v", rec.Mended)
	}
	for _, id := range w.mk.ids {
		for g := range market.NumGranularities {
			if _, err := s.History(t.Context(), market.HistoryQuery{ID: id, To: w.mk.now, Granularity: g, Limit: 1 << 20}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// A start that is to stop does so for every damage that another would mend, as
// often as it is tried, and takes nothing from the mending after it.
func TestStopOnDamage(t *testing.T) {
	base, w := flipBase(t, true, nil)
	logs := slices.DeleteFunc(filesOf(t, base, w.o.Dir), func(name string) bool {
		return !strings.HasSuffix(name, ".log") || len(contentsOf(t, base, name)) == 0
	})
	name := slices.Max(logs)
	b := contentsOf(t, base, name)
	b[len(b)-len(b)%blockBytes/2-1] ^= 1 // to pebble the end of the log, to a mending not
	mended := func(stops int) Recovery {
		t.Helper()
		mem := base.CrashClone(vfs.CrashCloneCfg{})
		rewrite(t, mem, name, b)
		o := w.o
		o.FS, o.OnDamage = mem, StopOnDamage
		for range stops {
			if _, err := Open(o); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("Open to stop on damage: %v", err)
			}
		}
		if n := asides(t, mem, &o); n != 0 {
			t.Fatalf("%d stores set aside", n)
		}
		o.OnDamage = Mend
		s := mustOpen(t, o)
		defer func() { _ = s.Close() }()
		return s.Recovery()
	}
	now, later := mended(0), mended(3)
	if !now.Mended.State || now.StateDamaged {
		t.Errorf("the state, of which nothing is damaged: %+v", now.Mended)
	}
	if now.Mended == nil || later.Mended == nil || now.DurableSeq != later.DurableSeq || !slices.Equal(now.Mended.LostSeqs, later.Mended.LostSeqs) {
		t.Fatalf("at once %+v, after stops %+v", now.Mended, later.Mended)
	}
}

// A file that is missing is damage too, where the store needs it.
func TestMissingFileIsDamage(t *testing.T) {
	base, w := flipBase(t, true, nil)
	missed := 0
	for _, name := range filesOf(t, base, w.o.Dir) {
		if !strings.HasSuffix(name, ".sst") && !strings.Contains(name, "/MANIFEST") {
			continue
		}
		without := func(on OnDamage) (o Options) {
			o = w.o
			o.FS, o.OnDamage = base.CrashClone(vfs.CrashCloneCfg{}), on
			if err := o.FS.Remove(name); err != nil {
				t.Fatal(err)
			}
			return o
		}
		s := mustOpen(t, without(Mend))
		needed := s.Recovery().Mended != nil
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if !needed {
			continue // pebble was about to remove it
		}
		missed++
		if _, err := Open(without(StopOnDamage)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("Open without %s: %v", name, err)
		}
		if _, err := OpenReadOnly(without(StopOnDamage)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("OpenReadOnly without %s: %v", name, err)
		}
	}
	if missed < 2 {
		t.Errorf("%d files were missed", missed)
	}
}

// A mark that lost its contents is not one that was never there: seqs could be
// used twice.
func TestEmptyMark(t *testing.T) {
	for _, keys := range []*sealed.Keys{nil, testKeys(t, true)} {
		base, w := flipBase(t, true, keys)
		mem := base.CrashClone(vfs.CrashCloneCfg{})
		rewrite(t, mem, mem.PathJoin(w.o.Dir, w.o.Lineage, markFile), nil)
		o := w.o
		o.FS, o.OnDamage = mem, StopOnDamage
		if _, err := Open(o); !errors.Is(err, ErrCorrupt) {
			t.Errorf("Open with an empty mark: %v", err)
		}
		o.OnDamage = Mend
		s := mustOpen(t, o)
		rec := s.Recovery()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if rec.Mended == nil || rec.NextSeq <= w.model.last() {
			t.Errorf("next seq %d after %d, %+v", rec.NextSeq, w.model.last(), rec.Mended)
		}
	}
}

// Where no state was ever saved, a start goes on from the first tick, over
// whatever a mending lacks, however old.
func TestMendBeforeFirstState(t *testing.T) {
	mem := vfs.NewMem()
	w := newWalk(t, 7, testOptions(mem), 6)
	for range 300 {
		w.append(2 * market.Minute)
	}
	w.commit()
	if err := errors.Join(w.s.db.Flush(), w.s.Close()); err != nil {
		t.Fatal(err)
	}
	for _, name := range filesOf(t, mem, w.o.Dir) {
		if b := contentsOf(t, mem, name); strings.HasSuffix(name, ".sst") && len(b) > 4*blockBytes {
			b[len(b)/2] ^= 1 // among the ticks
			rewrite(t, mem, name, b)
		}
	}
	rewrite(t, mem, mem.PathJoin(w.o.Dir, w.o.Lineage, damageFile), nil)
	s := mustOpen(t, w.o)
	rec := s.Recovery()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if rec.Mended == nil || len(rec.Mended.LostSeqs) == 0 || rec.DurableSeq != 300 || len(rec.Damage) > 0 {
		t.Errorf("durable up to %d, %+v, %+v", rec.DurableSeq, rec.Damage, rec.Mended)
	}
}
