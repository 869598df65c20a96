package token_test

import (
	"math/rand/v2"
	"testing"

	"github.com/velocimeter/velocimeter/engine/enginetest"
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/token"
)

// derivedFields are the fields that come out of the window.
const derivedFields = (market.Mask(1)<<(market.FieldVolatility24h-market.FieldDirection1h+1) - 1) << (market.FieldDirection1h - 1)

// TestSpikesLeaveNoTrace feeds a clean stream to one token, and to another the
// same stream with absurd quotes in between. After every clean quote both must
// yield the same statistics.
func TestSpikesLeaveNoTrace(t *testing.T) {
	f := func(seed uint64, spike func(rng *rand.Rand, q *market.Quote)) {
		t.Helper()
		rng := rand.New(rand.NewPCG(seed, 2))
		dirt := enginetest.NewDirt(seed, 1)
		dirt.Rate = 0
		clean, spiked := token.New(1), token.New(1)
		quotes, spikes := 0, 0
		for range 1500 {
			b := dirt.Batch()
			env := dirt.Env(b)
			q := &b.Quotes[0]
			q.SourceTime = env.Now // ever newer, so that a spike makes nothing late
			want, _ := clean.Step(q, &env)
			got, _ := spiked.Step(q, &env)
			for f := range derivedFields.Fields() {
				if got.Value(f) != want.Value(f) || got.Flags().Excluded() != want.Flags().Excluded() {
					t.Fatalf("seed %d, quote %d: %s is %v (flags %b), want %v (flags %b)", seed, quotes, f, got.Value(f), got.Flags(), want.Value(f), want.Flags())
				}
			}
			quotes++
			if quotes < 12 || want.Flags().Excluded() || rng.IntN(3) > 0 {
				continue
			}
			for range 1 + rng.IntN(2) { // three that agree would be believed
				absurd := *q
				spike(rng, &absurd)
				absurd.SourceTime = spiked.Snapshot().SourceTime() + 1
				if s, _ := spiked.Step(&absurd, &env); !s.Flags().Excluded() {
					t.Fatalf("seed %d, quote %d: %v, %v, %v is not flagged", seed, quotes, absurd.Price, absurd.MarketCap, absurd.Volume24h)
				}
				spikes++
			}
		}
		if spikes < 100 {
			t.Errorf("seed %d: only %d spikes", seed, spikes)
		}
	}
	times := func(factor float64) func(*rand.Rand, *market.Quote) {
		return func(rng *rand.Rand, q *market.Quote) {
			for _, d := range []*market.Decimal{&q.Price, &q.MarketCap, &q.Volume24h} {
				*d = market.Significant(d.Float()*factor*(1+rng.Float64()/5), 15)
			}
		}
	}
	zero := func(_ *rand.Rand, q *market.Quote) {
		q.Price, q.MarketCap, q.Volume24h = market.Decimal{}, market.Decimal{}, market.Decimal{}
	}

	for seed := range uint64(4) {
		f(seed, times(100))
		f(seed, times(0.01))
		f(seed, times(1e8))
		f(seed, zero)
	}
}
