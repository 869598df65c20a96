package persist

import (
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Seven days of one of 20 tokens with a sample a minute, read from chunks and,
// for the newest two hours, blocks.
func BenchmarkHistory(b *testing.B) {
	const tokens, days = 20, 8
	s := mustOpen(b, Options{Dir: b.TempDir(), Lineage: "live"})
	defer func() { _ = s.Close() }()
	if err := s.Reserve(1 << 40); err != nil {
		b.Fatal(err)
	}
	m := newMaker(1, tokens)
	m.dirty, m.share = false, 1
	for seq := range uint64(days * 24 * 60) {
		if err := s.Append(m.step(seq+1, market.Minute)); err != nil {
			b.Fatal(err)
		}
		if seq%60 != 59 {
			continue
		}
		if _, err := s.Commit(); err != nil {
			b.Fatal(err)
		}
		if err := s.Save(&market.Export{Seq: seq + 1, Time: m.now}); err != nil {
			b.Fatal(err)
		}
	}
	for _, g := range []market.Granularity{market.Granularity1m, market.Granularity5m, market.Granularity1h} {
		b.Run(g.String(), func(b *testing.B) {
			q := market.HistoryQuery{ID: m.ids[tokens/2], From: m.now.Add(-7 * market.Day), To: m.now, Granularity: g, Limit: 20_000}
			want := int(7 * market.Day / g.Width())
			b.ReportAllocs()
			points := 0
			for b.Loop() {
				p, err := s.History(b.Context(), q)
				if err != nil || len(p.Points) < want-2 {
					b.Fatalf("%d points, %v", len(p.Points), err)
				}
				points += len(p.Points)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(points), "ns/point")
		})
	}
}
