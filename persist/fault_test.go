package persist

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
	"github.com/velocimeter/velocimeter/persist/sealed"
)

// spoil flips a bit of a stored value.
func spoil(t *testing.T, s *Store, key []byte) {
	t.Helper()
	value, closer, err := s.db.Get(key)
	if err != nil {
		t.Fatal(err)
	}
	bad := append([]byte{}, value...)
	bad[len(bad)/2] ^= 4
	if err := errors.Join(closer.Close(), s.db.Set(key, bad, pebble.Sync)); err != nil {
		t.Fatal(err)
	}
}

// prepared returns a store with a state at tick 20 and ticks up to 40, closed
// in order after damage was done.
func prepared(t *testing.T, damage func(s *Store)) *walk {
	t.Helper()
	w := newWalk(t, 5, testOptions(vfs.NewMem()), 6)
	w.mk.dirty = false
	for range 20 {
		w.append(market.Second)
	}
	w.save()
	for range 20 {
		w.append(market.Second)
	}
	w.commit()
	damage(w.s)
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	w.open()
	return w
}

func TestDamageIsReported(t *testing.T) {
	f := func(durable, lostFrom uint64, damage func(s *Store)) {
		t.Helper()
		w := prepared(t, damage)
		rec := w.s.Recovery()
		if len(rec.Damage) != 1 || rec.Clean || rec.DurableSeq != durable || rec.NextSeq != 41 {
			t.Fatalf("recovered %+v", rec)
		}
		var lost []LostRange // what is of the state alone costs no tick
		if lostFrom < 40 {
			lost = []LostRange{{From: lostFrom, To: 40}}
		}
		if !slices.Equal(rec.Lost, lost) || rec.StateDamaged != (lost == nil) {
			t.Fatalf("lost %v, want from %d", rec.Lost, lostFrom)
		}
		last := rec.StateSeq
		err := w.s.Journal(func(jt *market.JournalTick) error {
			if jt.Env.Seq != last+1 {
				t.Fatalf("tick %d after %d", jt.Env.Seq, last)
			}
			last = jt.Env.Seq
			return nil
		})
		if err != nil || last != durable {
			t.Fatalf("journal up to %d, %v", last, err)
		}
		// The store goes on, and the next start knows what is lost.
		w.model.cut(durable)
		w.append(market.Second)
		w.commit()
		if err := w.s.Close(); err != nil {
			t.Fatal(err)
		}
		w.open()
		rec = w.s.Recovery()
		if rec.DurableSeq != 41 || rec.NextSeq < 42 || len(rec.Lost) != 1 {
			t.Fatalf("after going on: %+v", rec)
		}
		if err := w.s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	f(29, 29, func(s *Store) { spoil(t, s, record.JournalKey(30)) })
	f(29, 29, func(s *Store) {
		if err := s.db.Delete(record.JournalKey(30), pebble.Sync); err != nil {
			t.Fatal(err)
		}
	})
	f(39, 39, func(s *Store) { spoil(t, s, record.JournalKey(40)) })
	f(40, 40, func(s *Store) {
		for id := range s.tokens {
			spoil(t, s, record.StateKey(id))
			break
		}
	})
	f(40, 40, func(s *Store) { spoil(t, s, []byte{record.KindEngine}) })
	f(40, 40, func(s *Store) {
		for id := range s.tokens {
			if err := s.db.Delete(record.StateKey(id), pebble.Sync); err != nil {
				t.Fatal(err)
			}
			break
		}
	})
}

func TestDamagedMeta(t *testing.T) {
	for _, name := range []string{record.MetaEpoch, record.MetaReserved, record.MetaState} {
		w := newWalk(t, 5, testOptions(vfs.NewMem()), 3)
		w.append(market.Second)
		w.save()
		spoil(t, w.s, record.MetaKey(name))
		if err := w.s.Close(); err != nil {
			t.Fatal(err)
		}
		w.o.OnDamage = StopOnDamage
		if _, err := Open(w.o); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("Open with a damaged %s: %v", name, err)
		}
		if _, err := OpenReadOnly(w.o); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("OpenReadOnly with a damaged %s: %v", name, err)
		}
		w.o.OnDamage = Mend
		w.open()
		if rec := w.s.Recovery(); rec.Mended == nil || rec.DurableSeq != 1 || rec.NextSeq <= w.model.last() || len(rec.Mended.LostSeqs) > 0 {
			t.Fatalf("with a damaged %s: %+v", name, rec)
		}
		if err := w.s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDamagedHistory(t *testing.T) {
	w := newWalk(t, 5, testOptions(vfs.NewMem()), 3)
	defer func() { _ = w.s.Close() }()
	w.mk.dirty, w.mk.share = false, 1
	for range 100 {
		w.append(market.Minute)
	}
	w.commit()
	id := w.mk.ids[0]
	q := market.HistoryQuery{ID: id, To: w.mk.now, Limit: 1000, Granularity: market.Granularity1m}
	if _, err := w.s.History(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	day, part := dayOf(w.model.ticks[0].Env.Now), byte(hourOfDay(w.model.ticks[0].Env.Now))
	spoil(t, w.s, record.ChunkKey(record.KindHour, day, id, part))
	if page, err := w.s.History(t.Context(), q); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("history over a damaged chunk: %v, %v", page, err)
	}
	q.Granularity = market.Granularity5m
	if _, err := w.s.History(t.Context(), q); err != nil {
		t.Fatalf("other history: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.s.History(ctx, q); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: %v", err)
	}
}

func TestRetention(t *testing.T) {
	t.Parallel()
	o := testOptions(vfs.NewMem())
	o.Retention = Retention{Ticks: 2 * market.Hour, Minute: 2 * market.Day, Five: 4 * market.Day, Hour: 8 * market.Day, Day: 64 * market.Day}
	w := newWalk(t, 9, o, 2)
	defer func() { _ = w.s.Close() }()
	w.mk.dirty, w.mk.share = false, 1
	step := 30 * market.Minute
	if testing.Short() {
		step = 90 * market.Minute
	}
	for n := range int(200 * market.Day / step) {
		w.append(step)
		if n%40 == 0 {
			w.save()
		}
		w.commit()
	}
	w.save()
	w.append(step)
	w.commit()
	now := w.mk.now
	f := func(g market.Granularity, oldest market.Time) {
		t.Helper()
		q := market.HistoryQuery{ID: w.mk.ids[0], To: now, Limit: 100000, Granularity: g}
		page, err := w.s.History(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Points) == 0 || !page.Truncated {
			t.Fatalf("%s: %d points, truncated %v", g, len(page.Points), page.Truncated)
		}
		width := max(g.Width(), step)
		if first := page.Points[0].Time; first < oldest || first >= oldest.Add(width) {
			t.Fatalf("%s begins at %s, want %s", g, first.Std(), oldest.Std())
		}
		q.From = oldest
		if page, err = w.s.History(t.Context(), q); err != nil || page.Truncated {
			t.Fatalf("%s: what is kept counts as cut: %v", g, err)
		}
	}
	day := func(back market.Millis) market.Time { return record.Floor(now.Add(-back), market.Day) }
	f(market.GranularityRaw, now.Add(-2*market.Hour))
	f(market.Granularity1m, day(2*market.Day))
	f(market.Granularity5m, day(4*market.Day))
	f(market.Granularity15m, day(4*market.Day))
	f(market.Granularity1h, day(8*market.Day))
	f(market.Granularity4h, day(8*market.Day))
	f(market.Granularity1d, record.Floor(now.Add(-64*market.Day), 32*market.Day))

	// The space comes back.
	if err := w.s.db.Compact(t.Context(), []byte{0}, []byte{255}, false); err != nil {
		t.Fatal(err)
	}
	before := w.s.Stats()
	if before.TotalBytes > 2<<20 {
		t.Fatalf("%d bytes after retention", before.TotalBytes)
	}
}

// A state that is not saved for long keeps its ticks.
func TestRetentionKeepsWhatStateNeeds(t *testing.T) {
	w := newWalk(t, 9, testOptions(vfs.NewMem()), 2)
	w.append(market.Second)
	w.save()
	for range 300 {
		w.append(market.Minute)
		w.commit()
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	w.open()
	w.checkRecovery()
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestReadersBesideWriter(t *testing.T) {
	w := newWalk(t, 11, testOptions(vfs.NewMem()), 5)
	id := w.mk.ids[0]
	w.mk.share = 1
	w.mk.dirty = false
	stop := make(chan struct{})
	var group sync.WaitGroup
	for n := range 2 {
		group.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(n), 1))
			for {
				select {
				case <-stop:
					return
				default:
				}
				g := market.Granularity(rng.IntN(int(market.NumGranularities)))
				durable := w.s.Stats().DurableSeq
				page, err := w.s.History(t.Context(), market.HistoryQuery{ID: id, To: 1 << 60, Limit: 100000, Granularity: g})
				if err != nil {
					t.Error(err)
					return
				}
				var count uint64
				for _, p := range page.Points {
					count += uint64(p.Count)
				}
				// Every tick has one sample of the token; raw ones age out.
				if page.DurableSeq < durable || g != market.GranularityRaw && count != page.DurableSeq {
					t.Errorf("%s: %d samples at durable seq %d, before %d", g, count, page.DurableSeq, durable)
					return
				}
			}
		})
	}
	for range 150 {
		for range 1 + w.rng.IntN(10) {
			w.append(market.Millis(1 + w.rng.Int64N(int64(20*market.Minute))))
		}
		if w.rng.IntN(10) == 0 {
			w.save()
		} else {
			w.commit()
		}
	}
	close(stop)
	group.Wait()
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
}

// A failed sync ends the store: nothing is promised afterwards, and reopening
// finds everything that was promised before.
func TestFailedSync(t *testing.T) {
	f := func(nth int32, keys *sealed.Keys) bool {
		t.Helper()
		mem := vfs.NewCrashableMem()
		var count, hits atomic.Int32
		inject := errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind != errorfs.OpFileSync && op.Kind != errorfs.OpFileSyncData && op.Kind != errorfs.OpFileWrite {
				return nil
			}
			if !strings.HasSuffix(op.Path, ".log") || count.Add(1)-1 != nth {
				return nil
			}
			hits.Add(1)
			return errorfs.ErrInjected
		})
		o := testOptions(errorfs.Wrap(mem, inject))
		o.Keys = keys
		var fatal error
		o.Fatal = func(err error) { fatal = err }
		s, err := Open(o)
		if err != nil {
			return hits.Load() > 0
		}
		promised := uint64(0)
		m := newMaker(3, 3)
		err = s.Reserve(100)
		for seq := uint64(1); err == nil && seq < 20; seq++ {
			if err = s.Append(m.step(seq, market.Second)); err == nil {
				var got uint64
				if got, err = s.Commit(); err == nil {
					promised = got
				}
			}
		}
		_ = s.Close()
		if hits.Load() > 0 && err != nil && (!errors.Is(err, ErrFatal) || fatal == nil || s.Stats().LastError == nil) {
			t.Fatalf("operation %d failed: %v, fatal %v", nth, err, fatal)
		}
		o.FS = mem.CrashClone(vfs.CrashCloneCfg{})
		again := mustOpen(t, o)
		defer func() { _ = again.Close() }()
		if rec := again.Recovery(); rec.DurableSeq < promised || len(rec.Damage) != 0 {
			t.Fatalf("operation %d failed: durable %d, promised %d", nth, rec.DurableSeq, promised)
		}
		return hits.Load() > 0
	}
	for _, keys := range []*sealed.Keys{nil, testKeys(t, true)} {
		for n := int32(0); f(n, keys); n++ {
			if n > 500 {
				t.Fatal("no clean run")
			}
		}
	}
}

// A full disk is reported and waited out; nothing is lost.
func TestDiskFull(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		diskFull(t, testKeys(t, encrypted))
	}
}

func diskFull(t *testing.T, keys *sealed.Keys) {
	t.Helper()
	var left atomic.Int32
	left.Store(2)
	o := testOptions(errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileWrite && strings.HasSuffix(op.Path, ".sst") && left.Add(-1) >= 0 {
			return syscall.ENOSPC
		}
		return nil
	})))
	o.Keys = keys
	var told atomic.Int32
	o.DiskFull = func() { told.Add(1) }
	w := newWalk(t, 3, o, 5)
	for range 20 {
		w.append(market.Second)
	}
	w.commit()
	if err := w.s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	if st := w.s.Stats(); told.Load() == 0 || st.DiskFull == 0 || st.BackgroundErrors == 0 {
		t.Fatalf("told %d times, %+v", told.Load(), st)
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	w.open()
	w.checkRecovery()
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
}

// Nothing is durable in a folder that somebody removed.
func TestRemovedFolder(t *testing.T) {
	mem := vfs.NewMem()
	o := testOptions(mem)
	var fatal error
	o.Fatal = func(err error) { fatal = err }
	s := mustOpen(t, o)
	m := newMaker(3, 3)
	if err := errors.Join(s.Reserve(100), s.Append(m.step(1, market.Second)), mem.RemoveAll("/data/live")); err != nil {
		t.Fatal(err)
	}
	if seq, err := s.Commit(); !errors.Is(err, ErrGone) || !errors.Is(err, ErrFatal) || !errors.Is(fatal, ErrGone) {
		t.Errorf("committed %d: %v, told %v", seq, err, fatal)
	}
	if err := s.Append(m.step(2, market.Second)); !errors.Is(err, ErrFatal) {
		t.Errorf("append: %v", err)
	}
	if err := s.Close(); !errors.Is(err, ErrFatal) {
		t.Errorf("close: %v", err)
	}
}

// A disk that takes the log but no table is no store: whoever waits for a commit
// is told, instead of waiting for ever.
func TestTablesThatCannotBeWritten(t *testing.T) {
	var broken atomic.Bool
	o := testOptions(errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && op.Kind == errorfs.OpFileWrite && strings.HasSuffix(op.Path, ".sst") {
			return syscall.EIO
		}
		return nil
	})))
	o.MemTableBytes = minMemTable
	told := make(chan error, 1)
	o.Fatal = func(err error) { told <- err }
	s := mustOpen(t, o)
	if err := s.Reserve(1 << 20); err != nil {
		t.Fatal(err)
	}
	broken.Store(true)
	done := make(chan error)
	go func() {
		m := newMaker(1, 40)
		for seq := uint64(1); ; seq++ {
			err := s.Append(m.step(seq, market.Minute))
			if err == nil {
				_, err = s.Commit()
			}
			if err != nil {
				done <- err
				return
			}
		}
	}()
	if err := <-told; !errors.Is(err, ErrFatal) || !errors.Is(err, syscall.EIO) {
		t.Errorf("told %v", err)
	}
	broken.Store(false) // what waits may go on
	if err := <-done; !errors.Is(err, ErrFatal) {
		t.Errorf("got %v", err)
	}
	if err := s.Close(); !errors.Is(err, ErrFatal) {
		t.Errorf("close: %v", err)
	}
}
