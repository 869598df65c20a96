package persist

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
)

func mustCheck(t testing.TB, s *Store, o CheckOptions) *Report {
	t.Helper()
	rep, err := s.Check(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

var shortRetention = Retention{Ticks: 2 * market.Hour, Minute: market.Day, Five: 2 * market.Day, Hour: 4 * market.Day, Day: 32 * market.Day}

// act does one random thing that a running server does to its store.
func (w *walk) act(step market.Millis) {
	switch w.rng.IntN(12) {
	case 0:
		w.saveCells()
	case 1, 2:
		w.commit()
	default:
		w.append(1 + market.Millis(w.rng.Int64N(int64(2*step))))
	}
}

// saveCells saves a state with the closed hour before it, as the engine would.
func (w *walk) saveCells() {
	w.t.Helper()
	if len(w.model.ticks) == 0 {
		return
	}
	e := w.mk.export(w.model.last())
	hour := record.Floor(e.Time, market.Hour).Add(-market.Hour)
	for i := range e.Tokens {
		cells := []market.Cell{{Time: hour + 1, Price: 1}, {Time: hour + 400_000, Price: float32(i)}}
		e.Hours = append(e.Hours, market.HourCells{ID: e.Tokens[i].ID, Hour: hour, Cells: cells})
	}
	if err := w.s.Save(e); err != nil {
		w.t.Fatal(err)
	}
	w.state = e
}

var paces = []market.Millis{market.Second, 20 * market.Second, market.Minute, 7 * market.Minute, 3 * market.Hour}

// A check that is interrupted by the writer wherever it may rest, and looks at the
// store anew wherever it may, has nothing to report.
func TestCheckBesideWriter(t *testing.T) {
	seeds, rounds := uint64(24), 8
	if testing.Short() {
		seeds, rounds = 2, 3
	}
	var recomputed, checks uint64
	for seed := range seeds {
		o := testOptions(vfs.NewMem())
		if seed%2 == 0 {
			o.Retention = shortRetention
		}
		w := newWalk(t, seed, o, 6)
		pace := market.Second
		for range 400 {
			w.act(paces[w.rng.IntN(4)])
		}
		for range rounds {
			o := CheckOptions{
				step: func() {
					if w.rng.IntN(20) == 0 {
						pace = paces[w.rng.IntN(len(paces))]
					}
					for range w.rng.IntN(3) {
						if w.rng.IntN(40) == 0 {
							w.act(pace)
						}
					}
				},
				old: func() bool { return w.rng.IntN(10) == 0 },
			}
			rep := mustCheck(t, w.s, o)
			if !rep.Sound() {
				t.Fatalf("seed %d: %d faults: %+v", seed, rep.FaultCount, rep.Faults[:min(3, len(rep.Faults))])
			}
			recomputed, checks = recomputed+rep.Recomputed, checks+1
			for range 100 {
				w.act(paces[w.rng.IntN(len(paces))])
			}
		}
		if err := w.s.Close(); err != nil {
			t.Fatal(err)
		}
		if rep := mustVerify(t, o.FS, "/data/live"); !rep.Sound() {
			t.Fatalf("seed %d: %+v", seed, rep.Faults)
		}
	}
	if recomputed == 0 {
		t.Error("nothing was recomputed")
	}
	t.Logf("%d checks, %d rows recomputed", checks, recomputed)
}

// Pictures between any two writes of a running store: hours half moved, days half
// closed, retention under way.
func TestCheckUnderLoad(t *testing.T) {
	t.Parallel()
	seeds, steps := uint64(4), 250
	if testing.Short() {
		seeds, steps = 2, 60
	}
	for seed := range seeds {
		o := testOptions(vfs.NewMem())
		o.BatchBytes = 1 // every record of a step is a write of its own
		if seed%2 == 0 {
			o.Retention = shortRetention
		}
		w := newWalk(t, seed, o, 40)
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		checks := 0
		group.Go(func() {
			rng := rand.New(rand.NewPCG(seed, 99))
			for ctx.Err() == nil {
				rep, err := w.s.Check(ctx, CheckOptions{old: func() bool { return rng.IntN(50) == 0 }})
				switch {
				case errors.Is(err, context.Canceled):
					return
				case err != nil || !rep.Sound():
					t.Errorf("seed %d: %v, %+v", seed, err, rep)
					return
				}
				checks++
			}
		})
		for range 5 {
			step := paces[1+w.rng.IntN(len(paces)-1)]
			for range steps {
				w.act(step)
			}
		}
		cancel()
		group.Wait()
		t.Logf("seed %d: %d checks", seed, checks)
		if err := w.s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// What is spoiled in a running store is found, each kind.
func TestCheckFindsDamage(t *testing.T) {
	t.Parallel()
	kept(t, vfs.NewMem(), func(s *Store) {
		if rep := mustCheck(t, s, CheckOptions{}); !rep.Sound() || rep.Recomputed == 0 {
			t.Fatalf("before: %+v", rep)
		}
		f := func(what string, kind byte, damage func(key []byte)) {
			t.Helper()
			keys := keysOf(t, s.db, kind)
			hit := keys[len(keys)/2]
			value, closer, err := s.db.Get(hit)
			if err != nil {
				t.Fatal(err)
			}
			good := bytes.Clone(value)
			damage(hit)
			rep := mustCheck(t, s, CheckOptions{old: func() bool { return true }})
			if rep.Sound() || what == "flipped" && !strings.Contains(fmt.Sprint(rep.Faults), fmt.Sprintf("%x", hit)) {
				t.Errorf("%s %s %x: %+v", what, kindNames[kind], hit, rep.Faults)
			}
			if err := errors.Join(closer.Close(), s.db.Set(hit, good, pebble.Sync)); err != nil {
				t.Fatal(err)
			}
		}
		for n, kind := range kindOrder {
			if testing.Short() && n%3 != 0 {
				continue
			}
			f("flipped", kind, func(key []byte) { spoil(t, s, key) })
			if kind == record.KindMeta || kind == record.KindTombstone || kind == record.KindName {
				continue // one of several, of which none must be there
			}
			f("deleted", kind, func(key []byte) {
				if err := s.db.Delete(key, pebble.Sync); err != nil {
					t.Fatal(err)
				}
			})
		}
		if rep := mustCheck(t, s, CheckOptions{}); !rep.Sound() {
			t.Errorf("mended: %+v", rep.Faults)
		}
	})
}

// Ticks that found no space are a gap, not damage: neither to a check, nor after a
// state has taken their place to the next process.
func TestCheckKnowsPauses(t *testing.T) {
	mem := vfs.NewMem()
	o := testOptions(mem)
	o.MinFreeBytes = 1000
	w := newWalk(t, 3, o, 5)
	w.room(mem, 1000)
	commit := func() { // what follows a pause waits for a state to be durable
		if _, err := w.s.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		for range 70 {
			w.append(market.Second)
		}
		commit()
		w.room(mem, 999)
		for range 3 {
			if err := w.s.Reserve(w.next + 9); err != nil {
				t.Fatal(err)
			}
			if err := w.s.Append(w.mk.step(w.next, market.Second)); !errors.Is(err, ErrNoSpace) {
				t.Fatalf("got %v", err)
			}
			w.next++
		}
		w.room(mem, 2000)
	}
	for range 70 {
		w.append(market.Second)
	}
	commit()
	f := func(rep *Report) {
		t.Helper()
		if !rep.Sound() || len(rep.Holes) != 2 || rep.Holes[0] != (LostRange{From: 70, To: 73}) {
			t.Errorf("holes %v, faults %+v", rep.Holes, rep.Faults)
		}
	}
	f(mustCheck(t, w.s, CheckOptions{}))
	w.save()
	f(mustCheck(t, w.s, CheckOptions{}))
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	f(mustVerify(t, mem, "/data/live"))
	w.open()
	f(mustCheck(t, w.s, CheckOptions{}))
	if rec := w.s.Recovery(); !rec.Clean || len(rec.Damage) != 0 || rec.DurableSeq != w.model.last() {
		t.Errorf("recovered %+v", rec)
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
}

// One check at a time; Close and the caller's context end it, wherever it rests.
func TestCheckEnds(t *testing.T) {
	w := newWalk(t, 3, testOptions(vfs.NewMem()), 5)
	for range 50 {
		w.append(market.Second)
	}
	w.commit()
	f := func(want error, end func(cancel func())) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		resting, done := make(chan struct{}, 1), make(chan error, 1)
		go func() {
			_, err := w.s.Check(ctx, CheckOptions{Share: 1e-9, step: func() {
				select {
				case resting <- struct{}{}:
				default:
				}
				select {
				case <-ctx.Done():
				case <-w.s.life.Done():
				}
			}})
			done <- err
		}()
		<-resting
		if _, err := w.s.Check(ctx, CheckOptions{}); !errors.Is(err, ErrChecking) {
			t.Errorf("a second check: %v", err)
		}
		end(cancel)
		if err := <-done; !errors.Is(err, want) {
			t.Errorf("ended with %v, want %v", err, want)
		}
	}
	f(context.Canceled, func(cancel func()) { cancel() })
	f(ErrClosed, func(func()) {
		if err := w.s.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := w.s.Check(t.Context(), CheckOptions{}); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// What a rest takes keeps the work to its share.
func TestPace(t *testing.T) {
	var none *pace
	none.look()
	none.small()
	looks := 0
	p := pace{step: func() { looks++ }}
	for range 10 * paceSteps {
		p.small()
	}
	if p.look(); looks != 11 {
		t.Errorf("%d looks", looks)
	}
}
