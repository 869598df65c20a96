package persist

import (
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
)

var (
	mendMiB    = flag.Int64("mend-mib", 64, "size of the store that BenchmarkMend mends")
	foreignMiB = flag.Int64("foreign-mib", 0, "size of a foreign file in its folder")
	mendKeys   = flag.Bool("mend-keys", false, "it is encrypted")
)

// BenchmarkMend mends a store on disk of which one table is damaged and tells the
// most memory that took: `go test ./persist -run - -bench Mend -benchtime 1x
// -mend-mib 512`.
func BenchmarkMend(b *testing.B) {
	o := Options{Dir: b.TempDir(), Lineage: "live", Keys: testKeys(b, *mendKeys), MemTableBytes: 8 << 20, CacheBytes: 8 << 20}
	o.Retention = Retention{Ticks: 9999 * market.Day}
	size := fillStore(b, o, *mendMiB<<20)
	if *foreignMiB > 0 {
		name := filepath.Join(o.Dir, o.Lineage, "foreign")
		if err := os.WriteFile(name, []byte("of somebody else"), 0o600); err != nil {
			b.Fatal(err)
		}
		if err := os.Truncate(name, *foreignMiB<<20); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		b.StopTimer()
		damageLargest(b, o)
		runtime.GC()
		peak := peakHeap()
		b.StartTimer()
		s := mustOpen(b, o)
		b.StopTimer()
		b.ReportMetric(float64(peak())/(1<<20), "peak-MiB")
		b.ReportMetric(float64(size)/(1<<20), "store-MiB")
		if m := s.Recovery().Mended; m == nil || len(m.Files) == 0 {
			b.Fatalf("%+v", m)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// fillStore makes a store of some size of ticks of 2,000 tokens.
func fillStore(b *testing.B, o Options, size int64) (total int64) {
	b.Helper()
	s := mustOpen(b, o)
	if err := s.Reserve(1 << 40); err != nil {
		b.Fatal(err)
	}
	m := newMaker(1, 2000)
	m.dirty, m.share = false, 1
	ticks := make([]*market.Tick, 8)
	for i := range ticks {
		ticks[i] = m.step(uint64(i)+1, market.Minute)
	}
	now := m.now
	for n := range uint64(1 << 30) {
		t := *ticks[n%8]
		now = now.Add(market.Second)
		t.Env.Seq, t.Env.Now = n+1, now
		if err := s.Append(&t); err != nil {
			b.Fatal(err)
		}
		if n%64 != 63 {
			continue
		}
		if _, err := s.Commit(); err != nil {
			b.Fatal(err)
		}
		if total = sizeOf(b, o); total > size {
			break
		}
	}
	if err := s.db.Flush(); err != nil {
		b.Fatal(err)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	return total
}

func tablesOf(b *testing.B, o Options) []string {
	b.Helper()
	names, err := filepath.Glob(filepath.Join(o.Dir, o.Lineage, "*.sst"))
	if err != nil {
		b.Fatal(err)
	}
	return names
}

func sizeOf(b *testing.B, o Options) (total int64) {
	b.Helper()
	for _, name := range tablesOf(b, o) {
		if info, err := os.Stat(name); err == nil { // pebble may have removed it
			total += info.Size()
		}
	}
	return total
}

// damageLargest changes a byte of the largest table.
func damageLargest(b *testing.B, o Options) {
	b.Helper()
	name, size := "", int64(0)
	for _, n := range tablesOf(b, o) {
		if info, err := os.Stat(n); err == nil && info.Size() > size {
			name, size = n, info.Size()
		}
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var c [1]byte
	if _, err = f.ReadAt(c[:], size/2); err == nil {
		c[0] ^= 1
		_, err = f.WriteAt(c[:], size/2)
	}
	if err != nil {
		b.Fatal(err)
	}
	flag := filepath.Join(o.Dir, o.Lineage, damageFile)
	if err := os.WriteFile(flag, nil, 0o600); err != nil {
		b.Fatal(err)
	}
}

// peakHeap watches the heap until what it returns is called.
func peakHeap() (stop func() uint64) {
	quit, done := make(chan struct{}), make(chan uint64)
	go func() {
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		tick, peak := time.NewTicker(time.Millisecond), uint64(0)
		defer tick.Stop()
		for {
			metrics.Read(sample)
			peak = max(peak, sample[0].Value.Uint64())
			select {
			case <-quit:
				done <- peak
				return
			case <-tick.C:
			}
		}
	}()
	return func() uint64 {
		close(quit)
		return <-done
	}
}
