package persist

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/velocimeter/velocimeter/engine/market"
)

// room sets the free space of a file system and lets the store see it.
func (w *walk) room(mem *vfs.MemFS, free uint64) {
	mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: free, TotalBytes: 1 << 40})
	w.s.space.looked = time.Time{}
}

// TestNoSpacePauses stops history before the disk is full and goes on by itself,
// also across a restart, with seqs that are never used twice.
func TestNoSpacePauses(t *testing.T) {
	mem := vfs.NewMem()
	o := testOptions(mem)
	o.MinFreeBytes = 1000
	w := newWalk(t, 3, o, 5)
	w.room(mem, 1000)
	for range 5 {
		w.append(market.Second)
	}
	w.commit()
	before := w.s.Stats()
	w.room(mem, 999)
	refuse := func() {
		t.Helper()
		if w.next > w.s.reserved {
			if err := w.s.Reserve(w.next + 9); err != nil {
				t.Fatalf("no seq can be reserved: %v", err)
			}
		}
		if err := w.s.Append(w.mk.step(w.next, market.Second)); !errors.Is(err, ErrNoSpace) {
			t.Fatalf("got %v", err)
		}
		w.next++
	}
	for range 12 {
		refuse()
	}
	if err := w.s.Save(w.mk.export(w.model.last())); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("saved: %v", err)
	}
	if _, err := w.s.Commit(); err != nil {
		t.Fatalf("what was appended cannot be committed: %v", err)
	}
	if st := w.s.Stats(); !st.Paused || st.FreeBytes != 999 || st.DurableSeq != before.DurableSeq {
		t.Fatalf("%+v", st)
	}
	w.room(mem, 1249)
	refuse() // a quarter more is wanted
	w.room(mem, 1250)
	w.append(market.Second)
	if durable, err := w.s.Commit(); err != nil || durable != before.DurableSeq {
		t.Fatalf("durable seq %d, %v: no state says what the lost ticks changed", durable, err)
	}
	if err := w.s.Save(w.mk.export(w.model.last())); err != nil {
		t.Fatal(err)
	}
	if st := w.s.Stats(); st.Paused || st.DurableSeq != w.next-1 {
		t.Fatalf("%+v", st)
	}
	w.room(mem, 0)
	refuse()
	told := w.next - 1
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	w.open()
	defer func() { _ = w.s.Close() }()
	if rec := w.s.Recovery(); rec.Clean || rec.NextSeq <= told {
		t.Fatalf("seq %d was told, the next is %d", told, rec.NextSeq)
	}
}

// TestNoSpaceLeavesKnownHoles has a store whose ticks there was once no space for
// know which those are: it is sound, and so are its backups.
func TestNoSpaceLeavesKnownHoles(t *testing.T) {
	mem := vfs.NewMem()
	o := testOptions(mem)
	o.MinFreeBytes = 1000
	w := newWalk(t, 5, o, 5)
	w.room(mem, 1<<30)
	w.append(market.Second)
	w.commit()
	var want []LostRange
	for range 3 {
		from := w.next - 1
		w.room(mem, 0)
		for range 2 {
			if err := w.s.Append(w.mk.step(w.next, market.Second)); !errors.Is(err, ErrNoSpace) {
				t.Fatalf("got %v", err)
			}
			w.next++
		}
		want = append(want, LostRange{From: from, To: w.next - 1})
		w.room(mem, 1<<30)
		w.append(market.Second)
		if err := w.s.Save(w.mk.export(w.model.last())); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	rep := mustVerify(t, mem, "/data/live")
	if !rep.Sound() || !slices.Equal(rep.Holes, want) {
		t.Errorf("holes %v, want %v; faults %+v", rep.Holes, want, rep.Faults)
	}
	w.open()
	defer func() { _ = w.s.Close() }()
	if rec := w.s.Recovery(); !rec.Clean || len(rec.Damage) > 0 || rec.DurableSeq != w.next-1 {
		t.Errorf("%+v", rec)
	}
}

// TestBackupAfterPause asks for a backup before the state that tells of the lost
// ticks is saved: it waits for that.
func TestBackupAfterPause(t *testing.T) {
	mem := vfs.NewMem()
	o := testOptions(mem)
	o.MinFreeBytes = 1000
	w := newWalk(t, 5, o, 5)
	w.room(mem, 1<<30)
	w.append(market.Second)
	w.commit()
	w.room(mem, 0)
	if err := w.s.Append(w.mk.step(w.next, market.Second)); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("got %v", err)
	}
	w.next++
	w.room(mem, 1<<30)
	w.append(market.Second)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if b, err := w.s.Backup(ctx, "/backups", Checks{}); !errors.Is(err, context.Canceled) {
		t.Errorf("backup %+v, %v", b, err)
	}
	done := make(chan error)
	go func() {
		b, err := w.s.Backup(t.Context(), "/backups", Checks{})
		if err == nil && b.Seq != w.model.last() {
			err = fmt.Errorf("backup %+v", b)
		}
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(4 * gapEvery):
	}
	w.save()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestNoSpaceThenCrash kills the store between the first tick after a pause and
// the state that is saved for it: nothing of what was promised is gone.
func TestNoSpaceThenCrash(t *testing.T) {
	mem := vfs.NewCrashableMem()
	o := testOptions(mem)
	o.MinFreeBytes = 1000
	w := newWalk(t, 6, o, 5)
	w.room(mem, 1<<30)
	w.append(market.Second)
	w.commit()
	w.room(mem, 0)
	if err := w.s.Append(w.mk.step(w.next, market.Second)); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("got %v", err)
	}
	w.next++
	w.room(mem, 1<<30)
	w.append(market.Second)
	promised, err := w.s.Commit()
	if err != nil {
		t.Fatal(err)
	}
	o.FS = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(6, 1))})
	told := w.next - 1
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	w.o = o
	w.open()
	defer func() { _ = w.s.Close() }()
	if rec := w.s.Recovery(); rec.DurableSeq < promised || rec.NextSeq <= told {
		t.Errorf("durable seq %d, next %d; %d was promised and %d told", rec.DurableSeq, rec.NextSeq, promised, told)
	}
}

// TestBallast gives up what is set aside when a write finds no space, and sets it
// aside again when there is room.
func TestBallast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		var full atomic.Bool
		has := func() bool {
			_, err := mem.Stat("data/" + ballastFile)
			return err == nil
		}
		o := testOptions(errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind == errorfs.OpFileWrite && strings.HasSuffix(op.Path, ".log") && full.Load() && has() {
				return syscall.ENOSPC
			}
			return nil
		})))
		o.Dir, o.MinFreeBytes, o.BallastBytes = "data", 1000, 500
		w := newWalk(t, 3, o, 5)
		w.room(mem, 1749)
		w.append(market.Second)
		if has() {
			t.Fatal("a ballast takes what is to stay free")
		}
		w.room(mem, 1750)
		w.append(market.Second)
		w.commit()
		if !has() {
			t.Fatal("no ballast")
		}
		full.Store(true)
		began := time.Now()
		w.append(market.Second)
		w.commit()
		if has() || w.s.Stats().DiskFull == 0 || time.Since(began) >= fullPause {
			t.Fatalf("ballast %v after %v, %+v", has(), time.Since(began), w.s.Stats())
		}
		full.Store(false)
		w.room(mem, 1<<20)
		w.append(market.Second)
		if !has() {
			t.Fatal("the ballast is not set aside again")
		}
		if err := w.s.Close(); err != nil {
			t.Fatal(err)
		}
		w.open()
		if !w.s.space.held.Load() {
			t.Fatal("the next start does not know of the ballast")
		}
		if err := w.s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
