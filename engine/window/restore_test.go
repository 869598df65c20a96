package window_test

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/window"
)

// outputs is everything a window says, as bits.
func outputs(w *window.Window) []uint64 {
	out := []uint64{uint64(w.Now()), uint64(w.Count()), math.Float64bits(w.Volatility())}
	for p := range market.NumPeriods {
		t := w.Trend(p)
		out = append(out, uint64(t.Direction), math.Float64bits(t.Change), math.Float64bits(t.Slope),
			math.Float64bits(t.Coverage), math.Float64bits(w.VWAP(p)), uint64(w.CountIn(p)))
	}
	m, n := w.MedianVelocity()
	return append(out, math.Float64bits(m), uint64(n))
}

// archive keeps closed hours as a store does.
type archive struct {
	hours map[market.Time][]market.Cell
	order []market.Time
}

// export takes over the dirty hours and returns the state.
func (a *archive) export(w *window.Window) []byte {
	for _, h := range w.DirtyHours() {
		if _, ok := a.hours[h]; !ok {
			a.order = append(a.order, h)
		}
		a.hours[h] = w.HourCells(h)
	}
	w.ClearDirty()
	return w.AppendState(nil)
}

// closed gives the archive back: 1 minute back to the hour of 24 h ago, before
// that the last of each 5 minutes.
func (a *archive) closed(now market.Time) (cells []market.Cell) {
	fineFrom := now/market.Time(market.Hour)*market.Time(market.Hour) - market.Time(market.Day)
	for _, h := range a.order {
		for i, c := range a.hours[h] {
			next := i + 1
			if h < fineFrom && next < len(a.hours[h]) && a.hours[h][next].Time/300_000 == c.Time/300_000 {
				continue
			}
			if c.Time > now.Add(-9*market.Day) {
				cells = append(cells, c)
			}
		}
	}
	return cells
}

func restored(t *testing.T, blob []byte, closed []market.Cell) window.Window {
	t.Helper()
	w := window.New(window.Config{})
	if err := w.DecodeState(blob, closed); err != nil {
		t.Fatal(err)
	}
	return w
}

func TestRestoredWindowGoesOnToTheBit(t *testing.T) {
	f := func(seed uint64, samples int) {
		t.Helper()
		k := newWalk(seed)
		k.odds = 40 << (seed % 4)
		a := &archive{hours: map[market.Time][]market.Cell{}}
		w := window.New(window.Config{})
		twin := window.New(window.Config{})
		for i := range samples {
			s := k.next()
			w.Add(s)
			twin.Add(s)
			if !slices.Equal(outputs(&w), outputs(&twin)) {
				t.Fatalf("seed %d sample %d: outputs differ\n%v\n%v", seed, i, outputs(&w), outputs(&twin))
			}
			if k.rng.IntN(200) == 0 || i < 20 {
				blob := a.export(&w)
				twin = restored(t, blob, a.closed(w.Now()))
				if again := twin.AppendState(nil); !bytes.Equal(again, blob) {
					t.Fatalf("seed %d sample %d: state changes when decoded", seed, i)
				}
				if !slices.Equal(outputs(&w), outputs(&twin)) {
					t.Fatalf("seed %d sample %d: outputs differ at once", seed, i)
				}
				if h := twin.DirtyHours(); h != nil {
					t.Fatalf("restored window has dirty hours %v", h)
				}
			}
		}
	}
	samples := 2500
	if testing.Short() {
		samples = 600
	}
	for seed := range uint64(6) {
		f(100+seed, samples)
	}
}

func TestRestoreUndoesAnyNumberOfSamples(t *testing.T) {
	f := func(seed uint64, samples int) {
		t.Helper()
		k, dirt := newWalk(seed), newWalk(seed+1)
		w := window.New(window.Config{})
		twin := window.New(window.Config{})
		var m window.Mark
		for i := range samples {
			w.Save(&m)
			for range k.rng.IntN(5) { // what will be undone: other steps, gaps and values
				s := dirt.next()
				s.Time = max(w.Now(), 1).Add(market.Millis(k.rng.IntN(600_000)))
				if k.rng.IntN(50) == 0 {
					s.Time = s.Time.Add(market.Millis(k.rng.Int64N(9 * 86_400_000)))
				}
				w.Add(s)
			}
			w.Restore(&m)
			s := k.next()
			w.Add(s)
			twin.Add(s)
			if !slices.Equal(outputs(&w), outputs(&twin)) || !bytes.Equal(w.AppendState(nil), twin.AppendState(nil)) {
				t.Fatalf("seed %d sample %d: undone window differs", seed, i)
			}
			if i%100 == 0 {
				equalCells(t, &w, &twin)
			}
		}
		equalCells(t, &w, &twin)
	}
	samples := 2500
	if testing.Short() {
		samples = 600
	}
	for seed := range uint64(6) {
		f(200+seed*2, samples)
	}
}

func equalCells(t *testing.T, w, twin *window.Window) {
	t.Helper()
	hour := market.Time(market.Hour)
	for h := w.Now()/hour*hour - 170*hour; h <= w.Now(); h += hour {
		if got, want := w.HourCells(h), twin.HourCells(h); !slices.EqualFunc(got, want, sameCell) {
			t.Fatalf("cells of hour %d differ:\n%v\n%v", h, got, want)
		}
	}
}

func sameCell(a, b market.Cell) bool {
	bits := math.Float32bits
	return a.Time == b.Time && bits(a.Price) == bits(b.Price) && bits(a.Volume) == bits(b.Volume) && bits(a.Velocity) == bits(b.Velocity)
}

func TestDecodeStateRefuses(t *testing.T) {
	k := newWalk(5)
	k.tame = true
	a := &archive{hours: map[market.Time][]market.Cell{}}
	w := window.New(window.Config{})
	for range 3000 {
		w.Add(k.next())
	}
	blob := a.export(&w)
	closed := a.closed(w.Now())
	want := outputs(&w)

	f := func(what string, target error, blob []byte, closed []market.Cell) {
		t.Helper()
		v := restored(t, w.AppendState(nil), a.closed(w.Now()))
		err := v.DecodeState(blob, closed)
		if !errors.Is(err, target) {
			t.Fatalf("%s: %v", what, err)
		}
		if target == window.ErrState && !slices.Equal(outputs(&v), want) {
			t.Fatalf("%s: the window changed", what)
		}
		v.Add(k.next())
		outputs(&v)
	}
	edit := func(at int, b byte) []byte {
		e := bytes.Clone(blob)
		e[at] = b
		return e
	}
	f("empty", window.ErrState, nil, closed)
	f("short", window.ErrState, blob[:len(blob)-1], closed)
	f("long", window.ErrState, append(bytes.Clone(blob), 0), closed)
	f("version", window.ErrState, edit(0, 9), closed)
	f("direction", window.ErrState, edit(5, 77), closed)
	f("time", window.ErrState, edit(17, 0xff), closed)
	f("no cells", window.ErrCells, blob, nil)
	f("a cell too few", window.ErrCells, blob, closed[:len(closed)-1])
	f("disorder", window.ErrCells, blob, []market.Cell{closed[1], closed[0]})
	f("the future", window.ErrCells, blob, append(slices.Clone(closed), market.Cell{Time: w.Now()}))
	f("twice in a minute", window.ErrCells, blob, append(slices.Clone(closed), closed[len(closed)-1]))
}

func FuzzDecodeState(f *testing.F) {
	k := newWalk(9)
	w := window.New(window.Config{})
	f.Add(w.AppendState(nil), uint64(0))
	for i := range 300 {
		w.Add(k.next())
		if i%60 == 0 {
			f.Add(w.AppendState(nil), uint64(i))
		}
	}
	f.Fuzz(func(t *testing.T, blob []byte, seed uint64) {
		rest := newWalk(seed)
		v := window.New(window.Config{})
		before := outputs(&v)
		err := v.DecodeState(blob, nil)
		if errors.Is(err, window.ErrState) && !slices.Equal(outputs(&v), before) {
			t.Fatal("a refused blob changed the window")
		}
		if err == nil && !bytes.Equal(v.AppendState(nil), blob) {
			t.Fatal("state changes when decoded")
		}
		for range 3 {
			s := rest.next()
			s.Time = max(s.Time, v.Now())
			if s.Time < 1<<51 {
				v.Add(s)
			}
			outputs(&v)
		}
	})
}
