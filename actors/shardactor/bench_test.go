//go:build !race

package shardactor

import (
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/tick"
)

// idle is a Stepper that does nothing: what is left is the cost of hosting.
type idle struct{ steps int }

func (s *idle) Step(*market.Quote) { s.steps++ }

// TestDeliveryDoesNotAllocate: the allocations of a Run do not grow with its quotes.
func TestDeliveryDoesNotAllocate(t *testing.T) {
	f := func(tokens int) float64 {
		r, s, plan := hosting(t, tokens)
		n := testing.AllocsPerRun(20, func() { r.host(plan) })
		if s.steps < 20*tokens {
			t.Fatalf("%d steps of %d tokens", s.steps, tokens)
		}
		return n
	}
	few, many := f(10), f(1010)
	if perQuote := (many - few) / 1000; perQuote > 0.01 {
		t.Errorf("%.3f allocations a quote, want 0", perQuote)
	}
}

// BenchmarkDelivery is the cost of hosting a quote: finding its actor, sending,
// receiving. The floor is a call through an interface in a loop.
func BenchmarkDelivery(b *testing.B) {
	const tokens = 1250 // 5,000 over 4 shards
	var floor float64
	b.Run("loop", func(b *testing.B) {
		_, s, plan := hosting(b, tokens)
		for b.Loop() {
			for _, q := range plan.Quotes(0) {
				call(s, q)
			}
		}
		floor = float64(b.Elapsed().Nanoseconds()) / float64(b.N) / tokens
		b.ReportMetric(floor, "ns/quote")
	})
	b.Run("actors", func(b *testing.B) {
		r, _, plan := hosting(b, tokens)
		b.ReportAllocs()
		for b.Loop() {
			r.host(plan)
		}
		ns := float64(b.Elapsed().Nanoseconds()) / float64(b.N) / tokens
		b.ReportMetric(ns, "ns/quote")
		b.ReportMetric(ns/floor, "xfloor")
	})
}

//go:noinline
func call(s interface{ Step(*market.Quote) }, q *market.Quote) { s.Step(q) }

// hosting returns a rig whose tokens exist and do nothing, and a plan for them.
func hosting(t testing.TB, tokens int) (*rig, *idle, *tick.Plan) {
	s := &idle{}
	r := newRig(t, nil)
	r.sync()
	r.actor.deps.Stepper = s // the shard stays empty: its own work is not measured
	plan := r.engine.Poll(batch(1, tokens), start)
	r.host(plan)
	return r, s, plan
}

// host runs a plan without sealing it.
func (r *rig) host(p *tick.Plan) {
	done := make(chan struct{})
	r.system.Root.Send(r.pid, &Run{Plan: p, Parts: r.parts, Done: func() { close(done) }})
	<-done
}
