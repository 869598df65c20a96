package persist

import (
	"io/fs"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
)

// BenchmarkKeys measures what encryption costs: a commit of a tick of 500 tokens, 7
// days of one token's minutes out of 200, from files and from the cache, a start, and
// bytes on disk.
func BenchmarkKeys(b *testing.B) {
	for _, name := range []string{"plain", "encrypted"} {
		b.Run("commit/"+name, func(b *testing.B) { benchCommit(b, name == "encrypted") })
	}
	for _, name := range []string{"plain", "encrypted"} {
		o, m := week(b, name == "encrypted")
		b.Run("week from files/"+name, func(b *testing.B) { benchWeek(b, o, m, 1<<20) })
		b.Run("week from the cache/"+name, func(b *testing.B) { benchWeek(b, o, m, 256<<20) })
		b.Run("start/"+name, func(b *testing.B) {
			spent(b, func() {
				for b.Loop() {
					s := mustOpen(b, o)
					if err := s.Abandon(); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.ReportMetric(float64(diskBytes(b, o.Dir)), "bytes")
		})
	}
}

func benchCommit(b *testing.B, encrypted bool) {
	o := Options{Dir: b.TempDir(), Lineage: "live", Keys: testKeys(b, encrypted)}
	s := mustOpen(b, o)
	defer func() { _ = s.Close() }()
	if err := s.Reserve(1 << 40); err != nil {
		b.Fatal(err)
	}
	m := newMaker(1, 500)
	m.dirty = false
	ticks := make([]*market.Tick, 120)
	for i := range ticks {
		ticks[i] = m.step(uint64(i)+1, market.Second)
	}
	n := uint64(0)
	spent(b, func() {
		for b.Loop() {
			t := *ticks[n%uint64(len(ticks))]
			n++
			t.Env.Seq, t.Env.Now = n, m.now.Add(market.Millis(n)*market.Second)
			if err := s.Append(&t); err != nil {
				b.Fatal(err)
			}
			if _, err := s.Commit(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// spent reports the processor time of an operation: unlike the time that passes, it
// does not depend on what else the machine does.
func spent(b *testing.B, run func()) {
	b.Helper()
	var before, after syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &before); err != nil {
		b.Fatal(err)
	}
	run()
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &after); err != nil {
		b.Fatal(err)
	}
	cpu := after.Utime.Nano() - before.Utime.Nano() + after.Stime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(cpu)/float64(b.N), "cpu-ns/op")
}

// week fills a store with 7 days of 200 tokens, polled once a minute.
func week(b *testing.B, encrypted bool) (Options, *maker) {
	o := Options{Dir: b.TempDir(), Lineage: "live", Keys: testKeys(b, encrypted)}
	s := mustOpen(b, o)
	if err := s.Reserve(1 << 40); err != nil {
		b.Fatal(err)
	}
	m := newMaker(1, 200)
	m.dirty, m.share, m.now = false, 1, market.Time(20000*market.Day)
	for seq := range uint64(7 * 24 * 60) {
		if err := s.Append(m.step(seq+1, market.Minute)); err != nil {
			b.Fatal(err)
		}
		if seq%60 == 59 {
			if err := s.Save(m.export(seq + 1)); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := s.db.Compact(b.Context(), []byte{0}, []byte{255}, false); err != nil {
		b.Fatal(err)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	return o, m
}

func benchWeek(b *testing.B, o Options, m *maker, cache int64) {
	o.CacheBytes = cache
	s := mustOpen(b, o)
	defer func() { _ = s.Close() }()
	n := 0
	spent(b, func() {
		for b.Loop() {
			n++
			page, err := s.History(b.Context(), market.HistoryQuery{ID: m.ids[n*7%len(m.ids)], To: m.now, Limit: 20_000, Granularity: market.Granularity1m})
			if err != nil || len(page.Points) < 9000 {
				b.Fatal(err, len(page.Points))
			}
		}
	})
}

func diskBytes(b *testing.B, dir string) (n int64) {
	b.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		n += info.Size()
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return n
}
