package persist

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
)

// floorBytes is what the numbers of a tick take as plain varints: zigzag
// mantissa without exponent, id difference, mask.
func floorBytes(t *market.Tick) (n int) {
	var buf [binary.MaxVarintLen64]byte
	for c := range t.Changes {
		n += 1 + binary.PutUvarint(buf[:], uint64(c.Mask))
		q := c.Quote
		if q == nil {
			continue
		}
		n += binary.PutUvarint(buf[:], uint64(q.Rank))
		for _, d := range []market.Decimal{
			q.Price, q.MarketCap, q.Volume24h, q.PercentChange1h, q.PercentChange24h, q.PercentChange7d,
			q.CirculatingSupply, q.TotalSupply, q.MaxSupply, q.FullyDiluted, q.Dominance, c.Snap.Value(market.FieldVelocity),
		} {
			if !d.IsNull() {
				n += binary.PutVarint(buf[:], d.Mant)
			}
		}
	}
	return n
}

func TestJournalNearFloor(t *testing.T) {
	m := newMaker(1, 500)
	m.dirty = false
	var enc record.TickEncoder
	var floor, size, rows int
	for seq := range uint64(20) {
		tick := m.step(seq+1, market.Second)
		n := len(enc.Append(nil, tick, tick.Env.Now, 0))
		if seq > 4 { // the first ticks carry the names
			floor, size, rows = floor+floorBytes(tick), size+n, rows+tick.Rows()
		}
	}
	t.Logf("%.1f B a row, floor %.1f, %.3f xfloor", float64(size)/float64(rows), float64(floor)/float64(rows), float64(size)/float64(floor))
	if float64(size) > 1.3*float64(floor) {
		t.Fatalf("%d bytes for a floor of %d", size, floor)
	}
}

func BenchmarkAppendCommit(b *testing.B) {
	o := testOptions(vfs.Default)
	o.Dir, o.MemTableBytes = b.TempDir(), 8<<20
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
	rows, n := 0, uint64(0)
	b.ReportAllocs()
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
		rows += t.Rows()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(rows), "ns/row")
}

// BenchmarkHours writes simulated hours of 500 tokens at 1 s and prints what
// they take on disk and in bytes of keys and values, and how long a token's
// history takes to read.
func BenchmarkHours(b *testing.B) {
	o := Options{Dir: b.TempDir(), Lineage: "live"}
	s := mustOpen(b, o)
	defer func() { _ = s.Close() }()
	if err := s.Reserve(1 << 40); err != nil {
		b.Fatal(err)
	}
	m := newMaker(1, 500)
	m.dirty, m.share, m.now = false, 0.68, market.Time(20000*market.Day)
	seq := uint64(0)
	for b.Loop() {
		for range 3 * 3600 {
			seq++
			if err := s.Append(m.step(seq, market.Second)); err != nil {
				b.Fatal(err)
			}
			if _, err := s.Commit(); err != nil {
				b.Fatal(err)
			}
			if seq%60 == 0 {
				if err := s.Save(m.export(seq)); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	report(b, s, m, seq)
}

func report(b *testing.B, s *Store, m *maker, seq uint64) {
	b.Helper()
	if err := s.db.Flush(); err != nil {
		b.Fatal(err)
	}
	st := s.Stats()
	for _, kind := range []byte{record.KindJournal, record.KindBlock, record.KindHour, record.KindFive, record.KindDay, record.KindMonth, record.KindState} {
		n, size := 0, 0
		err := scan(s.db, []byte{kind}, []byte{kind + 1}, func(key, value []byte) error {
			n++
			size += len(key) + len(value)
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		b.Logf("%c: %d keys, %d bytes", kind, n, size)
	}
	for g := range market.NumGranularities {
		began := time.Now()
		page, err := s.History(b.Context(), market.HistoryQuery{ID: m.ids[7], To: m.now, Limit: 1000, Granularity: g})
		if err != nil {
			b.Fatal(err)
		}
		b.Logf("%s: %d points in %v", g, len(page.Points), time.Since(began))
	}
	b.Logf("after %d h: total %d, log %d, journal %d, minute %d, five %d, hour %d, day %d",
		seq/3600, st.TotalBytes, st.LogBytes, st.JournalBytes, st.MinuteBytes, st.FiveBytes, st.HourBytes, st.DayBytes)
}

// BenchmarkLoad loads 5,000 tokens with 7 days of window cells.
func BenchmarkLoad(b *testing.B) {
	const tokens = 5000
	o := Options{Dir: b.TempDir(), Lineage: "live"}
	s := mustOpen(b, o)
	if err := s.Reserve(1 << 40); err != nil {
		b.Fatal(err)
	}
	m := newMaker(1, 1)
	m.dirty, m.share, m.now = false, 1, market.Time(20010*market.Day)
	rng := rand.New(rand.NewPCG(1, 1))
	blob := make([]byte, 1500)
	start := m.now.Add(-8 * market.Day)
	seq := uint64(0)
	for hour := start; hour < m.now; hour = hour.Add(market.Hour) {
		seq++
		e := &market.Export{Seq: seq, Time: hour.Add(market.Hour), Engine: []byte("e")}
		t := m.step(seq, 0)
		if err := s.Append(t); err != nil {
			b.Fatal(err)
		}
		for id := range market.ID(tokens) {
			h := market.HourCells{ID: id + 1, Hour: hour}
			for k := range 60 {
				h.Cells = append(h.Cells, market.Cell{
					Time: hour + market.Time(k)*60000 + 59000, Price: 100 * (1 + 0.001*rng.Float32()), Volume: 1e9 * (1 + 0.001*rng.Float32()), Velocity: 0.05 * (1 + 0.001*rng.Float32()),
				})
			}
			e.Hours = append(e.Hours, h)
		}
		if hour.Add(market.Hour) == m.now {
			for id := range market.ID(tokens) {
				e.Tokens = append(e.Tokens, market.TokenState{ID: id + 1, Blob: blob, Newest: hour.Add(market.Hour)})
			}
		}
		if err := s.Save(e); err != nil {
			b.Fatal(err)
		}
	}
	b.Logf("%+v", s.Stats())
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		began := time.Now()
		s := mustOpen(b, o)
		opened := time.Since(began)
		n, cells := 0, 0
		err := s.Tokens(1, func(_ market.TokenState, c []market.Cell) error {
			n++
			cells += len(c)
			return nil
		})
		if err != nil || n != tokens {
			b.Fatal(n, err)
		}
		b.Logf("open %v, tokens %v, %d cells", opened, time.Since(began)-opened, cells)
		_ = s.Close()
	}
}

// Two hours of minutes of 2,000 tokens, with their ticks: how long a backup, a
// verification and a restore take.
func BenchmarkBackup(b *testing.B) {
	m := newMaker(1, 2000)
	m.dirty, m.share = false, 1
	o := Options{Dir: b.TempDir(), Lineage: "live"}
	s := mustOpen(b, o)
	defer func() { _ = s.Close() }()
	for seq := uint64(1); seq <= 120; seq++ {
		if err := errors.Join(s.Reserve(seq), s.Append(m.step(seq, market.Minute))); err != nil {
			b.Fatal(err)
		}
		if _, err := s.Commit(); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Save(m.export(120)); err != nil {
		b.Fatal(err)
	}
	copies := b.TempDir()
	var backup, verify, restore time.Duration
	for b.Loop() {
		p, err := s.Backup(b.Context(), copies, Checks{})
		if err != nil {
			b.Fatal(err)
		}
		backup += p.Took
		rep, err := Verify(b.Context(), VerifyOptions{Dir: p.Dir})
		if err != nil || !rep.Sound() {
			b.Fatal(rep, err)
		}
		verify += rep.Took
		began := time.Now()
		if _, err := Restore(b.Context(), p.Dir, Options{Dir: b.TempDir()}, Checks{}); err != nil {
			b.Fatal(err)
		}
		restore += time.Since(began)
		b.ReportMetric(float64(p.Bytes)/1e6, "MB")
		b.ReportMetric(float64(rep.Recomputed), "recomputed-rows")
	}
	b.ReportMetric(backup.Seconds()/float64(b.N), "s/backup")
	b.ReportMetric(verify.Seconds()/float64(b.N), "s/verify")
	b.ReportMetric(restore.Seconds()/float64(b.N), "s/restore")
}

// BenchmarkCheck reads a running store without resting: a pass beside the service
// takes as much of the processor, over a longer time.
func BenchmarkCheck(b *testing.B) {
	o := testOptions(vfs.NewMem())
	o.MemTableBytes, o.CacheBytes = 8<<20, 32<<20
	s := mustOpen(b, o)
	defer func() { _ = s.Close() }()
	if err := s.Reserve(1 << 40); err != nil {
		b.Fatal(err)
	}
	m := newMaker(1, 500)
	m.dirty, m.share = false, 0.68
	for seq := range uint64(1200) {
		if err := s.Append(m.step(seq+1, 7*market.Second)); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Save(m.export(1200)); err != nil {
		b.Fatal(err)
	}
	rows, size := uint64(0), uint64(0)
	for b.Loop() {
		rep, err := s.Check(b.Context(), CheckOptions{})
		if err != nil || !rep.Sound() {
			b.Fatal(err, rep)
		}
		rows, size = 0, 0
		for i := range rep.Kinds {
			rows, size = rows+rep.Kinds[i].Rows, size+rep.Kinds[i].Bytes
		}
	}
	b.SetBytes(int64(size))
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(rows), "ns/row")
}
