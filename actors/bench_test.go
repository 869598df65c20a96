//go:build unix && !race

package actors_test

import (
	"context"
	"io"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/actors"
	"github.com/velocimeter/velocimeter/engine/market"
)

// handed is a Feed that yields what the benchmark hands over.
type handed chan *market.Batch

func (f handed) Next(ctx context.Context) (*market.Batch, error) {
	select {
	case b := <-f:
		return b, nil
	case <-ctx.Done():
		return nil, io.EOF
	}
}

// batches makes answers ahead of the clock of a benchmark.
type batches struct {
	b      *testing.B
	tokens int
	n      int
	made   []*market.Batch
}

func (s *batches) next() *market.Batch {
	if len(s.made) == 0 {
		s.b.StopTimer()
		for range 32 {
			s.n++
			s.made = append(s.made, batchAt(start.Add(market.Millis(s.n)*market.Minute), s.n, s.tokens))
		}
		s.b.StartTimer()
	}
	b := s.made[0]
	s.made = s.made[1:]
	return b
}

// BenchmarkTick is one answer of 5,000 quotes, all changed, from the feed to the
// sealed tick. The floor is the CPU time of the same engine in a plain loop.
func BenchmarkTick(b *testing.B) {
	const tokens = 5000
	floor := sequential(b, tokens)
	b.Run("actors", func(b *testing.B) {
		sealed := make(chan struct{}, 1)
		feed := make(handed)
		c := config(machine(4 * runtime.GOMAXPROCS(0)))
		c.Journal, c.Publisher = nowhere{}, &screenless{sealed}
		c.Replays = []actors.Replay{{Name: "bench", Feed: feed}}
		s, err := actors.Start(c)
		if err != nil {
			b.Fatal(err)
		}
		in := &batches{b: b, tokens: tokens}
		feed <- in.next()
		<-sealed
		b.ReportAllocs()
		var cpu time.Duration
		for b.Loop() {
			batch := in.next()
			begun := used()
			feed <- batch
			<-sealed
			cpu += used() - begun
		}
		perQuote := report(b, cpu, tokens)
		b.ReportMetric(perQuote/floor, "xfloor")
		if err := s.Close(context.Background()); err != nil {
			b.Error(err)
		}
	})
}

// sequential returns the ns a quote that the engine takes without actors.
func sequential(b *testing.B, tokens int) (perQuote float64) {
	b.Run("sequential", func(b *testing.B) {
		m := machine(4 * runtime.GOMAXPROCS(0))
		in := &batches{b: b, tokens: tokens}
		emit := func(*market.Tick) {}
		first := in.next()
		m.Poll(first, first.ReceivedAt, emit)
		b.ReportAllocs()
		var cpu time.Duration
		for b.Loop() {
			batch := in.next()
			begun := used()
			m.Poll(batch, batch.ReceivedAt, emit)
			cpu += used() - begun
		}
		perQuote = report(b, cpu, tokens)
	})
	return perQuote
}

// report prints wall and CPU time a quote and returns the latter: shards run
// side by side, so wall time alone would flatter them.
func report(b *testing.B, cpu time.Duration, tokens int) (perQuote float64) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(tokens), "ns/quote")
	perQuote = float64(cpu.Nanoseconds()) / float64(b.N) / float64(tokens)
	b.ReportMetric(perQuote, "cpu-ns/quote")
	return perQuote
}

// used returns the CPU time of the process so far.
func used() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

type nowhere struct{}

func (nowhere) Reserve(uint64) error      { return nil }
func (nowhere) Append(*market.Tick) error { return nil }
func (nowhere) Commit() (uint64, error)   { return 0, nil }
func (nowhere) Save(*market.Export) error { return nil }

type screenless struct{ sealed chan struct{} }

func (s *screenless) Publish(*market.Tick) { s.sealed <- struct{}{} }

// TestActorMemory prints what an actor costs on top of its token's state.
func TestActorMemory(t *testing.T) {
	const tokens = 10_000
	perToken := (memoryOf(t, tokens) - memoryOf(t, 0)) / tokens
	t.Logf("%.0f B of heap a token actor (context, process, mailbox, name, registry, parent's tables)", perToken)
	if perToken > 2048 {
		t.Errorf("an actor costs %.0f B", perToken)
	}
}

// memoryOf returns the heap that a system adds to its engine. An unchanged poll
// makes sure that every token has its actor and changes no token.
func memoryOf(t *testing.T, tokens int) float64 {
	m := machine(8)
	first := batchAt(start, 1, tokens)
	m.Poll(first, first.ReceivedAt, func(*market.Tick) {})
	again := *first
	again.ReceivedAt = start.Add(market.Minute)
	before := heap()
	r := run(t, m, &tape{batches: []*market.Batch{&again}}, nil)
	<-r.ended
	added := float64(heap()) - float64(before)
	r.Close(context.Background())
	runtime.KeepAlive(m)
	return added
}

func heap() uint64 {
	var s runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}
