package simulator

import (
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
)

// floorNs is what a coin may cost, evaluated and encoded.
const floorNs = 2500

// BenchmarkTick evaluates whole ticks of the synthetic market and encodes every
// coin as the real API does.
func BenchmarkTick(b *testing.B) {
	run := func(name string, tokens int, encode bool) {
		b.Run(name, func(b *testing.B) {
			m, err := New(Config{Seed: 1, Tokens: tokens, Now: func() market.Time { return noon }})
			if err != nil {
				b.Fatal(err)
			}
			conv, _ := fiatBy(func(f *fiat) bool { return f.symbol == "USD" })
			conv.key = "USD"
			style := rowStyle{version: 1, aux: parseAux(defaultListingAux), converts: []conversion{conv}}
			var buf []byte
			now := noon
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(market.Second)
				t := m.at(now)
				buf = buf[:0]
				for i := range t.quotes {
					if !encode {
						break
					}
					buf = style.appendRow(buf, t, i)
				}
			}
			perCoin := float64(b.Elapsed().Nanoseconds()) / float64(b.N) / float64(tokens)
			b.ReportMetric(perCoin, "ns/coin")
			b.ReportMetric(perCoin/floorNs, "xfloor")
		})
	}
	run("evaluate/5000", 5000, false)
	run("evaluate+encode/5000", 5000, true)
	run("evaluate/100000", 100_000, false)
}

const noon market.Time = 1795176000000 // 2026-11-20T12:00:00Z
