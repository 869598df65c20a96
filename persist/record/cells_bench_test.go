package record

import (
	"math/rand/v2"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
)

func BenchmarkReadCells(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	var payloads [1024][]byte // so many that no branch is known by heart
	for i := range payloads {
		var cells []market.Cell
		for k := range 60 {
			cells = append(cells, market.Cell{
				Time:  market.Time(k)*60000 + 59000,
				Price: 100 * (1 + 0.001*rng.Float32()), Volume: 1e9 * (1 + 0.001*rng.Float32()), Velocity: 0.05 * (1 + 0.001*rng.Float32()),
			})
		}
		payloads[i] = AppendCells(nil, 0, cells)
	}
	b.ReportMetric(float64(len(payloads[0]))/60, "B/cell")
	var dst []market.Cell
	n := 0
	for b.Loop() {
		dst, _ = ReadCells(dst[:0], 0, payloads[n%len(payloads)])
		n++
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/60, "ns/cell")
}
