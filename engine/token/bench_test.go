package token_test

import (
	"math"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/token"
)

// quoteAt returns a plausible quote of minute i.
func quoteAt(i int, info *market.Info) market.Quote {
	f := 1 + 0.01*math.Sin(float64(i)/50)
	return market.Quote{
		ID: 1, Info: info, SourceTime: start.Add(market.Millis(i) * market.Minute), Has: market.AllFields,
		Price:             market.Significant(60000*f, 16),
		MarketCap:         market.Significant(60000*f*19e6, 16),
		Volume24h:         market.Significant(3e10*(1+0.1*math.Sin(float64(i)/300)), 16),
		PercentChange1h:   market.Significant(f, 9),
		PercentChange24h:  market.Significant(f/2, 9),
		PercentChange7d:   market.Significant(f/3, 9),
		CirculatingSupply: market.FromInt(19e6), TotalSupply: market.FromInt(19e6), MaxSupply: market.FromInt(21e6),
		FullyDiluted: market.Significant(60000*f*21e6, 16), Dominance: market.Significant(50*f, 9),
		SelfReportedCap: market.Null, SelfReportedSupply: market.Null, Rank: 1,
	}
}

const start = market.Time(1_760_000_000_000)

func envAt(i int) market.Env {
	at := start.Add(market.Millis(i) * market.Minute)
	return market.Env{Seq: uint64(i + 1), Now: at, ReceivedAt: at, Source: market.SourceCoinMarketCap, Cadence: market.Minute, TotalCap: 2e12, Moving: uint64(i)}
}

// BenchmarkStep measures one Step of a token with full windows, once with a
// usual velocity and once with one so high that the level rule must look at the
// window. The floor is the copy of a snapshot into a new one.
func BenchmarkStep(b *testing.B) {
	b.Run("usual", func(b *testing.B) { benchmarkStep(b, 1) })
	b.Run("turnover", func(b *testing.B) { benchmarkStep(b, 40) })
}

func benchmarkStep(b *testing.B, turnover float64) {
	tk := token.New(1)
	info := &market.Info{Symbol: "BTC"}
	i := 0
	var env market.Env
	step := func(q *market.Quote) {
		env = envAt(i)
		q.SourceTime = env.Now
		if _, mask := tk.Step(q, &env); mask == 0 {
			b.Fatal("nothing changed")
		}
		i++
	}
	quotes := make([]market.Quote, 1<<12)
	for j := range quotes {
		quotes[j] = quoteAt(j, info)
		quotes[j].Volume24h = market.Significant(quotes[j].Volume24h.Float()*turnover, 16)
	}
	for i < 8*24*60 {
		step(&quotes[i&(1<<12-1)])
	}
	floor := snapshotFloor(tk.Snapshot())
	b.ReportAllocs()
	for b.Loop() {
		step(&quotes[i&(1<<12-1)])
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/floor, "xfloor")
}

// copied keeps the floor's work from being optimised away.
var copied *market.Snapshot

// snapshotFloor returns the ns that a new copy of a snapshot costs.
func snapshotFloor(s *market.Snapshot) float64 {
	const n = 1 << 14
	began := time.Now()
	for range n {
		c := new(market.Snapshot)
		*c = *s
		copied = c
	}
	return float64(time.Since(began).Nanoseconds()) / n
}
