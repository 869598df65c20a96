package persist

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/velocimeter/velocimeter/persist/sealed"
)

// crasher takes a picture of the disk at its n-th operation, as a power cut
// would leave it, with what had been promised before.
type crasher struct {
	mu        sync.Mutex
	mem       *vfs.MemFS
	rng       *rand.Rand
	left      int
	kill      bool  // no power cut, only this process ends: what it wrote is there
	kept      []int // one of them is how much of what was not synced is there, in percent
	after     *vfs.MemFS
	committed uint64 // of the last Commit that returned
	used      uint64 // the highest seq appended
	promised  uint64
	spent     uint64
}

func (c *crasher) MaybeError(errorfs.Op) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left--; c.left == 0 {
		kept := c.kept
		if kept == nil {
			kept = []int{0, 25, 50, 100}
		}
		c.after = vfs.NewCrashableMem()
		if c.kill {
			_, err := vfs.Clone(c.mem, c.after, "/", "/", vfs.CloneSync)
			c.promised, c.spent = c.committed, c.used
			return err
		}
		c.after = c.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: kept[c.rng.IntN(len(kept))], RNG: c.rng})
		c.promised, c.spent = c.committed, c.used
	}
	return nil
}

func (c *crasher) String() string { return "crash" }

func (c *crasher) crashed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.after != nil
}

func (c *crasher) note(committed, used uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.committed, c.used = max(c.committed, committed), max(c.used, used)
}

func TestPowerCut(t *testing.T) {
	t.Parallel()
	seeds := *cuts
	if testing.Short() {
		seeds = 4
	}
	for seed := range uint64(seeds) {
		crashes(t, seed, testKeys(t, seed%2 == 1))
	}
}

// crashes cuts the power several times in a row, some of them while the store opens.
func crashes(t *testing.T, seed uint64, keys *sealed.Keys) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("repeat with seed %d", seed)
		}
	}()
	rng := rand.New(rand.NewPCG(seed, 99))
	mem := vfs.NewCrashableMem()
	w := &walk{t: t, rng: rng, mk: newMaker(seed, 8)}
	var highest, promised uint64
	for range 5 {
		c := &crasher{mem: mem, rng: rand.New(rand.NewPCG(rng.Uint64(), 3)), left: 1 + rng.IntN(400), used: highest}
		c.committed = promised
		w.o = testOptions(errorfs.Wrap(mem, c))
		w.o.Keys = keys
		w.open()
		rec := w.s.Recovery()
		if rec.DurableSeq < promised || rec.NextSeq <= highest || len(rec.Damage) != 0 {
			t.Fatalf("seed %d: recovered %+v, used %d", seed, rec, highest)
		}
		// A tick that was not acknowledged may be there, whole.
		w.model.cut(rec.DurableSeq)
		if w.state != nil && w.state.Seq != rec.StateSeq {
			t.Fatalf("seed %d: state %d, want %d", seed, rec.StateSeq, w.state.Seq)
		}
		w.checkRecovery()
		w.checkHistory(w.mk.ids[rng.IntN(len(w.mk.ids))])
		states := w.untilCrash(c)
		highest, promised = c.spent, c.promised
		if err := w.s.Close(); err != nil {
			t.Fatal(err)
		}
		w.afterCrash(c, states)
		mem = c.after
	}
}

// untilCrash works until the power goes, or for a while and then cuts it.
func (w *walk) untilCrash(c *crasher) map[uint64]int {
	states := map[uint64]int{}
	for range 60 {
		for range 1 + w.rng.IntN(20) {
			w.append(w.cadence())
			c.note(0, w.model.last())
		}
		if w.rng.IntN(3) == 0 {
			w.save()
			states[w.state.Seq] = len(w.model.ticks)
			c.note(w.model.last(), 0)
		} else {
			w.commit()
			c.note(w.model.last(), 0)
		}
		if c.crashed() {
			break
		}
	}
	c.mu.Lock()
	if c.after == nil {
		c.left = 1
	}
	c.mu.Unlock()
	_ = c.MaybeError(errorfs.Op{})
	return states
}

// afterCrash finds out which state and which ticks the picture holds by opening
// a copy of it, and checks that they are among the possible ones.
func (w *walk) afterCrash(c *crasher, states map[uint64]int) {
	w.t.Helper()
	copied := c.after.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: c.rng})
	o := testOptions(copied)
	o.Keys = w.o.Keys
	s := mustOpen(w.t, o)
	rec := s.Recovery()
	if err := s.Close(); err != nil {
		w.t.Fatal(err)
	}
	if rec.DurableSeq < c.promised {
		w.t.Fatalf("durable %d, promised %d", rec.DurableSeq, c.promised)
	}
	if rec.NextSeq <= c.spent {
		w.t.Fatalf("next seq %d was used, up to %d", rec.NextSeq, c.spent)
	}
	old := uint64(0)
	if w.state != nil {
		old = w.state.Seq
	}
	if _, ok := states[rec.StateSeq]; !ok && rec.StateSeq > old {
		w.t.Fatalf("state %d was never saved", rec.StateSeq)
	}
	w.state = w.saved[rec.StateSeq]
}

// A stop in order right after a crash must not make the lost seqs free again.
func TestLostStayLost(t *testing.T) {
	mem := vfs.NewCrashableMem()
	s := mustOpen(t, testOptions(mem))
	mk := newMaker(1, 3)
	if err := s.Reserve(100); err != nil {
		t.Fatal(err)
	}
	for seq := range uint64(5) {
		if err := s.Append(mk.step(seq+1, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Commit(); err != nil {
		t.Fatal(err)
	}
	after := mem.CrashClone(vfs.CrashCloneCfg{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for start := range 3 {
		s := mustOpen(t, testOptions(after))
		if rec := s.Recovery(); rec.DurableSeq != 5 || rec.NextSeq != 101 || rec.Clean != (start > 0) {
			t.Errorf("start %d after the crash: durable %d, next %d, clean %v", start, rec.DurableSeq, rec.NextSeq, rec.Clean)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
