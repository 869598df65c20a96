package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/quality"
	"github.com/velocimeter/velocimeter/engine/tick"
	"github.com/velocimeter/velocimeter/persist"
)

// BenchmarkReady is the time from the start of the program, after a crash, to the
// first 200 of /readyz: the median, with a minute that no saved state holds.
// Run it with -benchtime 5x; making the stores takes minutes.
func BenchmarkReady(b *testing.B) {
	for _, size := range []struct{ tokens, days int }{{10_000, 1}, {5_000, 7}} {
		b.Run(fmt.Sprintf("tokens=%d/days=%d", size.tokens, size.days), func(b *testing.B) {
			data := filepath.Join(b.TempDir(), "data")
			crashedStore(b, data, size.tokens, size.days)
			var took []time.Duration
			for b.Loop() {
				b.StopTimer()
				life := filepath.Join(b.TempDir(), "data")
				if out, err := exec.Command("cp", "-r", data, life).CombinedOutput(); err != nil {
					b.Fatalf("%v: %s", err, out)
				}
				b.StartTimer()
				took = append(took, ready(b, life))
			}
			slices.Sort(took)
			b.ReportMetric(took[len(took)/2].Seconds(), "s-to-ready")
		})
	}
}

// ready starts the program on a folder, asks until it is ready, and kills it.
func ready(b *testing.B, data string) time.Duration {
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	began := time.Now()
	c := startChild(ctx, b, data, "--market-tick", "1h")
	for ctx.Err() == nil {
		if resp, err := c.client.Get(c.public + "/readyz"); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				break
			}
		}
		time.Sleep(time.Millisecond)
	}
	took := time.Since(began)
	if ctx.Err() != nil {
		b.Fatalf("not ready after %v:\n%s", took, c.log.String())
	}
	_ = c.cmd.Process.Kill()
	<-c.ended
	return took
}

// crashedStore makes what the program leaves that polled every minute, and saved
// its state a minute before it was killed.
func crashedStore(b *testing.B, data string, tokens, days int) {
	store, err := persist.Open(persist.Options{Dir: data, Lineage: "market-42"})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	must(store.Reserve(1 << 30))
	m := tick.NewMachine(tick.Config{Epoch: store.Recovery().Epoch, Shards: 8, NextSeq: 1, Quality: quality.DefaultConfig()})
	rng := rand.New(rand.NewPCG(1, 2))
	batch := market.Batch{Source: market.SourceMarket, Simulated: true, Cadence: market.Minute, Quotes: make([]market.Quote, tokens)}
	n := days * 24 * 60
	now := market.TimeOf(time.Now()).Add(-market.Millis(n) * market.Minute)
	for i := range n {
		now = now.Add(market.Minute)
		batch.ReceivedAt = now
		for k := range batch.Quotes {
			drift(rng, &batch.Quotes[k], k, now)
		}
		m.Poll(&batch, now, func(t *market.Tick) { must(store.Append(t)) })
		if _, err := store.Commit(); err != nil {
			b.Fatal(err)
		}
		if i%60 == 59 && i < n-1 || i == n-2 {
			must(store.Save(m.Export()))
		}
	}
	must(store.Abandon())
}

// drift moves a quote as a calm market does.
func drift(rng *rand.Rand, q *market.Quote, k int, now market.Time) {
	if q.ID == 0 {
		name := fmt.Sprintf("T%d", k+1)
		*q = market.Quote{
			ID: market.ID(k + 1), Info: &market.Info{Symbol: name, Name: name, Slug: name}, Rank: uint32(k + 1),
			Has:   market.FieldPrice.Bit() | market.FieldMarketCap.Bit() | market.FieldVolume24h.Bit() | market.FieldRank.Bit(),
			Price: market.NewDecimal(100_000_000+rng.Int64N(900_000_000), -7),
		}
		for _, d := range []*market.Decimal{
			&q.PercentChange1h, &q.PercentChange24h, &q.PercentChange7d, &q.CirculatingSupply, &q.TotalSupply, &q.MaxSupply,
			&q.FullyDiluted, &q.Dominance, &q.SelfReportedCap, &q.SelfReportedSupply,
		} {
			*d = market.Null
		}
	}
	q.SourceTime = now - 1000
	price := q.Price.Float() * (1 + 0.001*rng.NormFloat64())
	q.Price = market.Significant(price, 16)
	q.MarketCap = market.Significant(price*1e6, 16)
	q.Volume24h = market.Significant(price*1e5*(1+0.1*rng.Float64()), 16)
}
