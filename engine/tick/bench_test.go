package tick_test

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"syscall"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
)

// cpu is the processor time that the process has used: on a shared machine the
// only fair measure.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// meter adds up processor time.
type meter struct {
	b    *testing.B
	used time.Duration
	n    int // tokens
}

// take adds what f uses for n tokens.
func (m *meter) take(n int, f func()) {
	begun := cpu(m.b)
	f()
	m.used += cpu(m.b) - begun
	m.n += n
}

// perToken returns ns.
func (m *meter) perToken() float64 { return float64(m.used.Nanoseconds()) / float64(m.n) }

// BenchmarkTick is a whole tick from batch to sealed board; every token has a
// new source time, so every token changes. The windows hold two hours of
// minutes first; then batches come every second, or every minute, so that every
// window rolls. The floor is what cannot be avoided: one allocation and one copy
// of a snapshot for each token.
//
// Batches are made outside the measurement in memory that is used again, and
// the collector runs by hand between the rings of batches: its processor time
// is shown as gc-ns/token, that of one collection, since how often it runs
// depends on the size of the heap.
func BenchmarkTick(b *testing.B) {
	f := func(tokens, ring int, step market.Millis) {
		b.Run(fmt.Sprintf("tokens=%d/step=%s", tokens, step.Std()), func(b *testing.B) {
			defer debug.SetGCPercent(debug.SetGCPercent(-1))
			benchmarkTick(b, tokens, make([]market.Batch, ring), step)
		})
	}

	f(5000, 8, market.Second)
	f(5000, 8, market.Minute)
	f(100_000, 2, market.Second)
}

func benchmarkTick(b *testing.B, tokens int, ring []market.Batch, step market.Millis) {
	m, w, at := newMachine(8), newWalk(1, tokens), start
	for i := range 120 {
		at += 60_000
		w.fill(&ring[i%len(ring)], at, 0.7)
		m.Poll(&ring[i%len(ring)], at, func(*market.Tick) {})
		if i%8 == 0 {
			runtime.GC()
		}
	}
	ticks, collections, floor := meter{b: b}, meter{b: b}, meter{b: b}
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		for i := range ring {
			at = at.Add(step)
			w.fill(&ring[i], at, 0.7)
		}
		collections.take(tokens, runtime.GC)
		b.StartTimer()
		ticks.take(len(ring)*tokens, func() {
			for i := range ring {
				m.Poll(&ring[i], ring[i].ReceivedAt, func(*market.Tick) {})
			}
		})
	}
	board, kept := m.Engine.Board(), make([]*market.Snapshot, 0, tokens)
	for range 16 {
		runtime.GC()
		floor.take(tokens, func() {
			kept = kept[:0]
			for s := range board.All {
				c := *s
				kept = append(kept, &c)
			}
		})
	}
	b.ReportMetric(ticks.perToken(), "cpu-ns/quote")
	b.ReportMetric(ticks.perToken()/floor.perToken(), "xfloor")
	b.ReportMetric(collections.perToken(), "gc-ns/token")
	runtime.KeepAlive(kept)
}
