package tick_test

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
)

// cpu is the processor time that the process has used, garbage collection
// included: on a shared machine the only fair measure.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// ticking runs f on batches one second apart, 64 prepared at a time outside the
// measurement, and returns the processor time per quote.
func ticking(b *testing.B, w *walk, at *market.Time, f func(*market.Batch)) (perQuote float64, ticks int) {
	b.Helper()
	var used time.Duration
	for b.Loop() {
		b.StopTimer()
		var ring [16]*market.Batch
		for i := range ring {
			*at += 1000
			ring[i] = w.batch(*at, 0.7)
		}
		runtime.GC()
		b.StartTimer()
		begun := cpu(b)
		for _, batch := range ring {
			f(batch)
		}
		used += cpu(b) - begun
		ticks += len(ring)
	}
	return float64(used.Nanoseconds()) / float64(ticks*len(w.prices)), ticks
}

// BenchmarkTick is a whole tick from batch to sealed board; every token has a
// new source time, so every token changes. The windows hold two hours of
// minutes first. The floor is what cannot be avoided: one allocation and one
// copy of a snapshot for each token.
func BenchmarkTick(b *testing.B) {
	for _, tokens := range []int{5000, 100_000} {
		b.Run(fmt.Sprintf("tokens=%d", tokens), func(b *testing.B) {
			m, w, at := newMachine(8), newWalk(1, tokens), start
			for range 120 {
				at += 60_000
				poll(m, w.batch(at, 0.7))
			}
			b.ReportAllocs()
			perQuote, ticks := ticking(b, w, &at, func(batch *market.Batch) {
				m.Poll(batch, batch.ReceivedAt, func(*market.Tick) {})
			})
			board := m.Engine.Board()
			kept := make([]*market.Snapshot, 0, tokens)
			begun, rounds := cpu(b), 16
			for range rounds {
				kept = kept[:0]
				for s := range board.All {
					c := *s
					kept = append(kept, &c)
				}
			}
			floor := float64((cpu(b) - begun).Nanoseconds()) / float64(rounds*tokens)
			b.ReportMetric(perQuote, "cpu-ns/quote")
			b.ReportMetric(perQuote/floor, "xfloor")
			b.ReportMetric(float64(ticks), "ticks")
			runtime.KeepAlive(kept)
		})
	}
}
