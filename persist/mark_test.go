package persist

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/sealed"
)

// unmarked returns a copy of a store, which has no mark: ten ticks, and more seqs
// that may have been used.
func unmarked(t *testing.T, keys *sealed.Keys, clean bool) (*vfs.MemFS, *walk) {
	t.Helper()
	mem := vfs.NewCrashableMem()
	o := testOptions(mem)
	o.Keys = keys
	w := newWalk(t, 6, o, 3)
	for range 10 {
		w.append(market.Second)
	}
	w.save()
	if err := w.s.Reserve(40); err != nil {
		t.Fatal(err)
	}
	end := w.s.Close
	if !clean {
		end = w.s.Abandon
	}
	if err := errors.Join(end(), mem.Remove("/data/live/"+markFile), syncDir(mem, "/data/live")); err != nil {
		t.Fatal(err)
	}
	return mem, w
}

// A power cut, or a kill, at any moment of a copy's first start leaves a mark that
// is whole or none: nothing is mended, and no seq comes twice.
func TestMarkIsMadeWhole(t *testing.T) {
	t.Parallel()
	for _, clean := range []bool{false, true} {
		for _, keys := range []*sealed.Keys{nil, testKeys(t, true)} {
			for _, kept := range []int{0, 50, 100} {
				mem, w := unmarked(t, keys, clean)
				for n := 1; cutFirstStart(t, mem, w, 10, n, kept); n++ {
					if testing.Short() {
						n += 12
					}
				}
			}
		}
	}
}

// A new store whose first opening is cut short begins again the next time: it is not
// damaged, and nothing is mended.
func TestFirstOpeningIsCut(t *testing.T) {
	t.Parallel()
	for _, keys := range []*sealed.Keys{nil, testKeys(t, true)} {
		for _, kept := range []int{0, 50, 100} {
			o := testOptions(vfs.NewCrashableMem())
			o.Keys = keys
			w := newWalk(t, 6, o, 3)
			if err := w.s.Close(); err != nil {
				t.Fatal(err)
			}
			empty := vfs.NewCrashableMem()
			for n := 1; cutFirstStart(t, empty, w, 0, n, kept); n++ {
				if testing.Short() {
					n += 2
				}
			}
		}
	}
}

// cutFirstStart cuts the power at the n-th operation and reports whether there was
// one. Ticks up to used are there already.
func cutFirstStart(t *testing.T, base *vfs.MemFS, w *walk, used uint64, n, kept int) bool {
	t.Helper()
	rng := rand.New(rand.NewPCG(uint64(n), 8))
	mem := base.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rng})
	c := &crasher{mem: mem, rng: rng, left: n, kept: []int{kept}, committed: used, used: used}
	o := w.o
	o.FS = errorfs.Wrap(mem, c)
	s := mustOpen(t, o)
	next := s.Recovery().NextSeq
	err := s.Reserve(next + 9)
	c.note(0, next)
	mk := *w.mk
	if err := errors.Join(err, s.Append(mk.step(next, market.Second))); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(); err != nil {
		t.Fatal(err)
	}
	c.note(next, 0)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if !c.crashed() {
		return false
	}
	o.FS, o.OnDamage = c.after, StopOnDamage
	for range 2 {
		s, err := Open(o)
		if err != nil {
			t.Fatalf("cut at %d, %d %% kept: %v", n, kept, err)
		}
		rec := s.Recovery()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if rec.Mended != nil || len(rec.Damage) > 0 || rec.DurableSeq < c.promised || rec.NextSeq <= c.spent {
			t.Fatalf("cut at %d, %d %% kept, seqs up to %d were used: %+v", n, kept, c.spent, rec)
		}
	}
	if names, err := c.after.List("/data/live"); err != nil || strings.Contains(strings.Join(names, " "), markFile+".") {
		t.Errorf("cut at %d: left %v, %v", n, names, err)
	}
	return true
}
