package window_test

import (
	"math"
	"runtime"
	"testing"
	"unsafe"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/window"
)

const start = market.Time(1_790_000_000_000)

// fill adds minutes of samples, one every step.
func fill(w *window.Window, from market.Time, samples int, step market.Millis) market.Time {
	t := from
	for range samples {
		x := 1 + 0.1*math.Sin(float64(t)/7e6)
		w.Add(window.Sample{Time: t, Price: 100 * x, Volume: 1e9 * x, Velocity: 0.1 * x})
		t = t.Add(step)
	}
	return t
}

func full(windows []window.Window) market.Time {
	var t market.Time
	for i := range windows {
		windows[i] = window.New(window.Config{})
		t = fill(&windows[i], start, 8*1440, market.Minute)
	}
	return t
}

var sink float64

// read takes every output as a tick does.
func read(w *window.Window) (x float64) {
	for p := range market.NumPeriods {
		t := w.Trend(p)
		x += t.Change + t.Slope + t.Coverage + float64(t.Direction)
	}
	for _, p := range vwapPeriods {
		x += w.VWAP(p)
	}
	return x + w.Volatility()
}

// floor returns the ns of the least that keeping a sample can cost: one store
// into memory that is as cold as the windows are.
func floor(b *testing.B, tokens int) float64 {
	type kept struct {
		price, volume, velocity float32
		_                       [1024]byte
	}
	const rounds = 200
	slots := make([]kept, tokens)
	for i := range slots {
		slots[i].price = 1 // not measured: the memory must be there
	}
	b.ResetTimer()
	for round := range rounds {
		for i := range slots {
			slots[i].price, slots[i].volume, slots[i].velocity = float32(i), float32(round), 1
		}
	}
	sink += float64(slots[0].price)
	return float64(b.Elapsed().Nanoseconds()) / float64(rounds*tokens)
}

// BenchmarkTick is one accepted sample and the reading of all outputs, over
// 5,000 full windows in turn, so with cold caches.
func BenchmarkTick(b *testing.B) {
	const tokens = 5000
	for _, c := range []struct {
		name string
		step market.Millis
	}{{"1s", market.Second}, {"1m", market.Minute}} {
		b.Run(c.name, func(b *testing.B) {
			windows := make([]window.Window, tokens)
			now := full(windows)
			least := floor(b, tokens)
			b.ReportAllocs()
			b.ResetTimer()
			i := 0
			for b.Loop() {
				windows[i].Add(window.Sample{Time: now, Price: 101, Volume: 1e9, Velocity: 0.1})
				sink += read(&windows[i])
				if i++; i == tokens {
					i, now = 0, now.Add(c.step)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/least, "xfloor")
		})
	}
}

func BenchmarkSaveRestore(b *testing.B) {
	windows := make([]window.Window, 1)
	full(windows)
	w := &windows[0]
	var m window.Mark
	b.Run("save", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			w.Save(&m)
		}
	})
	b.Run("restore", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			w.Restore(&m)
		}
	})
}

func BenchmarkMedian(b *testing.B) {
	windows := make([]window.Window, 1)
	full(windows)
	b.Run("exceeds", func(b *testing.B) {
		for b.Loop() {
			windows[0].ExceedsMedian(1, 10)
		}
	})
	b.Run("value", func(b *testing.B) {
		for b.Loop() {
			m, _ := windows[0].MedianVelocity()
			sink += m
		}
	})
}

func BenchmarkDecodeState(b *testing.B) {
	windows := make([]window.Window, 1)
	now := full(windows)
	w := &windows[0]
	var closed []market.Cell
	for h := now/3_600_000 - 169; h < w.Now()/3_600_000; h++ {
		closed = append(closed, w.HourCells(h*3_600_000)...)
	}
	blob := w.AppendState(nil)
	b.ReportAllocs()
	for b.Loop() {
		v := window.New(window.Config{})
		if err := v.DecodeState(blob, closed); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(blob)), "blob-B")
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// slabsOf returns the bytes that so many windows hold besides themselves.
func slabsOf(n int, grow func(*window.Window)) int {
	before := heap()
	windows := make([]window.Window, n)
	for i := range windows {
		windows[i] = window.New(window.Config{})
		grow(&windows[i])
	}
	slabs := int(heap()-before) - n*int(unsafe.Sizeof(window.Window{}))
	runtime.KeepAlive(windows)
	return slabs
}

func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("fills windows of 8 days")
	}
	f := func(what string, limit int, grow func(*window.Window)) {
		t.Helper()
		const tokens = 64
		struc := int(unsafe.Sizeof(window.Window{}))
		slabs := math.MaxInt
		for range 3 { // the least counts: the test's own runtime is on the same heap
			if slabs = min(slabs, slabsOf(tokens, grow)/tokens); slabs+struc <= limit {
				break
			}
		}
		total := slabs + struc
		t.Logf("%s: %d B a window, of which %d B struct", what, total, struc)
		if total > limit {
			t.Errorf("%s: %d B a window, limit %d", what, total, limit)
		}
	}
	struc := int(unsafe.Sizeof(window.Window{}))
	f("new", struc+128, func(*window.Window) {})
	f("5 samples", struc+512, func(w *window.Window) { fill(w, start, 5, market.Minute) })
	f("1 h of minutes", struc+1100, func(w *window.Window) { fill(w, start, 60, market.Minute) })
	f("7 d of 15.6 min", 22_000, func(w *window.Window) { fill(w, start, 1000, 936*market.Second) })
	f("8 d of minutes", 46_592, func(w *window.Window) { fill(w, start, 8*1440, market.Minute) })
	f("8 d of 59.99 s", 46_592, func(w *window.Window) { fill(w, start, 8*1440, 59_990) })
	f("9 d of 4:59", 46_592, func(w *window.Window) { fill(w, start, 2600, 299*market.Second) })
}
