package persist

import (
	"syscall"
	"testing"
	"time"

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
		q := market.HistoryQuery{ID: m.ids[tokens/2], From: m.now.Add(-7 * market.Day), To: m.now, Granularity: g, Limit: 20_000}
		f := func(name string, read func() (points int, err error)) {
			b.Run(g.String()+"/"+name, func(b *testing.B) {
				want := int(7 * market.Day / g.Width())
				b.ReportAllocs()
				points, best, cpu := 0, time.Hour, cpuTime()
				for b.Loop() {
					began := time.Now()
					n, err := read()
					best = min(best, time.Since(began))
					if err != nil || n < want-2 {
						b.Fatalf("%d points, %v", n, err)
					}
					points += n
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(points), "ns/point")
				b.ReportMetric(float64(best.Nanoseconds()), "best-ns")
				b.ReportMetric(float64((cpuTime()-cpu).Nanoseconds())/float64(b.N), "cpu-ns/op")
			})
		}
		f("page", func() (int, error) {
			p, err := s.History(b.Context(), q)
			if err != nil {
				return 0, err
			}
			return len(p.Points), nil
		})
		f("each", func() (n int, err error) {
			err = s.EachPoint(b.Context(), q, &market.HistoryPage{}, func(*market.Point) error {
				n++
				return nil
			})
			return n, err
		})
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic("BUG: getrusage: " + err.Error())
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
