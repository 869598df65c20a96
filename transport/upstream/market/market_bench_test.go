package simulator

import (
	"math"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
)

// BenchmarkTick evaluates whole ticks of the synthetic market and encodes every
// coin as the real API does. The floor copies the same quotes and appends the
// same bytes, coin by coin.
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
			least := copying(m.at(now), &style, encode)
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
			b.ReportMetric(perCoin*float64(tokens)/least, "xfloor")
		})
	}
	run("evaluate/5000", 5000, false)
	run("evaluate+encode/5000", 5000, true)
	run("evaluate/100000", 100_000, false)
}

// copying returns the fewest nanoseconds of 32 rounds in which the quotes of t
// are copied and, with encode, the bytes of its rows appended.
func copying(t *table, style *rowStyle, encode bool) float64 {
	var rows [][]byte
	for i := range t.quotes {
		if encode {
			rows = append(rows, style.appendRow(nil, t, i))
		}
	}
	var quotes []market.Quote
	var buf []byte
	least := math.Inf(1)
	for range 32 {
		begun := time.Now()
		quotes, buf = append(quotes[:0], t.quotes...), buf[:0]
		for _, row := range rows {
			buf = append(buf, row...)
		}
		least = min(least, float64(time.Since(begun).Nanoseconds()))
	}
	return least
}

const noon market.Time = 1795176000000 // 2026-11-20T12:00:00Z
