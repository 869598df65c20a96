package persist

import (
	"context"
	"fmt"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
)

// BenchmarkPast reads whole past markets, and one token of them, from ticks and
// from each granularity, out of a store on disk that was polled once a minute.
func BenchmarkPast(b *testing.B) {
	for _, size := range []struct{ tokens, hours int }{{5000, 30}, {100_000, 2}} {
		b.Run(fmt.Sprint(size.tokens), func(b *testing.B) { benchPast(b, size.tokens, size.hours) })
	}
}

func benchPast(b *testing.B, tokens, hours int) {
	s := mustOpen(b, Options{Dir: b.TempDir(), Lineage: "live"})
	defer func() { _ = s.Close() }()
	if err := s.Reserve(1 << 40); err != nil {
		b.Fatal(err)
	}
	m := newMaker(1, tokens)
	m.dirty, m.share = false, 1
	ticks := make([]*market.Tick, 8)
	for i := range ticks {
		ticks[i] = m.step(uint64(i)+1, market.Minute)
		for c := range ticks[i].Changes {
			c.Quote.Has |= carried
		}
	}
	now := market.Time(20_000*market.Day - 22*market.Hour)
	for n := range hours * 60 {
		t := *ticks[n%len(ticks)]
		now = now.Add(market.Minute)
		t.Env.Seq, t.Env.Now = uint64(n)+1, now
		if err := s.Append(&t); err != nil {
			b.Fatal(err)
		}
		if _, err := s.Commit(); err != nil {
			b.Fatal(err)
		}
		if n%60 == 59 {
			if err := s.Save(&market.Export{Seq: t.Env.Seq, Time: now}); err != nil {
				b.Fatal(err)
			}
		}
	}
	alive := make([]market.Alive, 0, tokens)
	for id := range m.tokens {
		alive = append(alive, market.Alive{ID: id})
	}
	const gone = market.Millis(1)
	keep := s.opts.Retention
	run := func(name string, at market.Time, r Retention, want market.Granularity) {
		s.opts.Retention = r
		for _, q := range []market.PastQuery{{At: at, Alive: alive}, {At: at}, {At: at, ID: m.ids[tokens/2]}} {
			kind := "list"
			switch {
			case q.ID != 0:
				kind = "token"
			case q.Alive == nil:
				kind = "list without the present"
			}
			b.Run(name+" "+kind, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					p, err := s.Past(context.Background(), q)
					if err != nil || p.Granularity != want || q.ID == 0 && len(p.Tokens) < tokens*9/10 || len(p.Tokens) == 0 {
						b.Fatalf("%v, %v, %d tokens", err, p.Granularity, len(p.Tokens))
					}
				}
			})
		}
	}
	run("raw", now.Add(-30*market.Minute), keep, market.GranularityRaw)
	back := now.Add(-market.Millis(hours) * market.Hour * 3 / 5)
	run("1m", back, Retention{Ticks: gone, Minute: keep.Minute, Five: keep.Five, Hour: keep.Hour}, market.Granularity1m)
	if hours < 24 {
		return
	}
	back = now.Add(-20 * market.Hour) // of the day before: what is gone goes by days
	for int(dayOf(back)) == int(dayOf(now)) {
		back = back.Add(-market.Hour)
	}
	run("5m", back, Retention{Ticks: gone, Minute: gone, Five: keep.Five, Hour: keep.Hour}, market.Granularity5m)
	run("1h", back, Retention{Ticks: gone, Minute: gone, Five: gone, Hour: keep.Hour}, market.Granularity1h)
}
