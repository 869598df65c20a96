package record

import (
	"encoding/hex"
	"errors"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
)

// hours makes chunks of minutes of tokens of every size, each from a random
// walk of 0.05 % a sample printed at 16 or 17 digits.
func hours(seed uint64, chunks int, samples func(*rand.Rand) int) (out [][]Row) {
	rng := rand.New(rand.NewPCG(seed, 2))
	noisy := func(f float64) market.Decimal { return market.Significant(f, 16+rng.IntN(2)) }
	for range chunks {
		price, volume := math.Exp(rng.Float64()*16-8), math.Exp(rng.Float64()*20)
		supply := 1e6 * float64(1+rng.IntN(1500))
		rows := make([]Row, 0, 60)
		for i := range int32(60) {
			var a Acc
			for range samples(rng) {
				price *= 1 + 0.0005*rng.NormFloat64()
				volume = max(1, volume*(1+0.0005*rng.NormFloat64()))
				s := Sample{Price: noisy(price), Cap: noisy(price * supply), Volume: noisy(volume)}
				s.Velocity = market.Fixed(s.Volume.Float()/s.Cap.Float(), VelocityScale)
				a.Add(&s)
			}
			rows = append(rows, a.Row(i))
		}
		out = append(out, rows)
	}
	return out
}

func one(*rand.Rand) int { return 1 }

// many is a minute of polls a second of which 68 % change the token.
func many(rng *rand.Rand) int {
	n := 1
	for range 59 {
		if rng.Float64() < 0.68 {
			n++
		}
	}
	return n
}

// merged makes coarser rows, by at a time.
func merged(hours [][]Row, by int) (out [][]Row) {
	for _, h := range hours {
		var rows []Row
		for part := range slices.Chunk(h, by) {
			var m Merge
			for i := range part {
				m.Add(&part[i])
			}
			rows = append(rows, m.Row(int32(len(rows))))
		}
		out = append(out, rows)
	}
	return out
}

// floorBits is what the numbers of a chunk's columns take if the length of
// each is known at no more than its entropy: no head, no keys, no choice of codes.
func floorBits(rows []Row) (sum float64) {
	m := columns{chunk: chunk{index: -1}}
	m.scan(rows)
	all, plain := m.scaleAll(rows)
	m.ratio = ratio(all, plain)
	var lengths [numColumns][65]float64
	for _, e := range m.code(rows, all, plain) {
		n := bits.Len64(e.u)
		lengths[e.column][n]++
		sum += float64(max(n-1, 0))
	}
	for _, l := range lengths {
		total := 0.0
		for _, n := range l {
			total += n
		}
		for _, n := range l {
			if n > 0 {
				sum -= n * math.Log2(n/total)
			}
		}
	}
	return sum
}

// perRow returns bytes a row with the key and envelope of a chunk: as columns,
// one by one, and the floor.
func perRow(chunks [][]Row) (cols, singly, floor float64) {
	const around = 10 + 5
	n := 0
	for _, h := range chunks {
		cols += float64(len(AppendRows(nil, h)) + around)
		singly += float64(len(appendSingly(nil, h)) + around)
		floor += floorBits(h) / 8
		n += len(h)
	}
	return cols / float64(n), singly / float64(n), floor / float64(n)
}

func TestColumnsNearFloor(t *testing.T) {
	f := func(name string, samples func(*rand.Rand) int, by int, most, times float64) {
		t.Helper()
		cols, singly, floor := perRow(merged(hours(1, 40, samples), by))
		t.Logf("%s: %.2f B a row, %.2f one by one, floor %.2f, %.2f xfloor", name, cols, singly, floor, cols/floor)
		if cols > most || cols > times*floor {
			t.Fatalf("%s: %.2f B a row, at most %.2f; floor %.2f", name, cols, most, floor)
		}
	}
	f("minutes of one sample", one, 1, 4.5, 1.4)
	f("minutes of many", many, 1, 19, 1.15)
	f("5 minutes of 5 samples", one, 5, 18, 1.6)
	f("5 minutes of many", many, 5, 25, 1.45)
}

// wildRow makes rows that no accumulator does.
func wildRow(rng *rand.Rand, index int32) Row {
	r := Row{Index: index, Point: market.Point{
		Count: rng.Uint32() >> rng.IntN(32), Flags: market.Flags(rng.Uint32() >> rng.IntN(32)), Cap: nullBar, Volume: nullBar,
	}}
	spread, exp := rng.IntN(63), int8(rng.IntN(20)-10)
	for _, d := range r.numbers() {
		switch rng.IntN(40) {
		case 0:
			*d = market.Null
		case 1:
			*d = market.NewDecimal(int64(rng.Uint64()), int8(rng.IntN(200)-100))
		case 2:
			*d = market.NewDecimal([]int64{math.MinInt64, math.MaxInt64, 0, -1}[rng.IntN(4)], exp)
		default:
			*d = market.NewDecimal(int64(rng.Uint64())>>spread, exp)
		}
	}
	return r
}

// mixedRows makes a chunk of 2 to 60 rows of any kind, with gaps.
func mixedRows(rng *rand.Rand) (rows []Row) {
	base := math.Exp(rng.Float64()*40 - 20)
	kind := rng.IntN(4)
	for i := range int32(60) {
		switch k := rng.IntN(8); {
		case rng.IntN(6) == 0 && i < 50:
		case k == 0 && kind == 0 || kind == 1:
			rows = append(rows, wildRow(rng, i))
		case kind == 2 && len(rows) > 0:
			r := rows[len(rows)-1]
			r.Index = i
			rows = append(rows, r)
		default:
			rows = append(rows, randomRow(rng, i, base))
		}
	}
	return rows[:2+rng.IntN(len(rows)-1)]
}

func sameRows(t *testing.T, b []byte, want []Row) {
	t.Helper()
	before := wildRow(rand.New(rand.NewPCG(1, 1)), 7)
	before.Time, before.Seq = 5, 6
	dirty := slices.Repeat([]Row{before}, 100) // nothing of what lay there may stay
	got, err := ReadRows(dirty[:1], b, 60)
	if err != nil || got[0] != before {
		t.Fatalf("cannot read %d rows: %v", len(want), err)
	}
	if got = got[1:]; slices.Equal(got, want) {
		return
	}
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Fatalf("row %d\n%+v, want\n%+v", i, got[i], want[i])
		}
	}
	t.Fatalf("%d rows, want %d", len(got), len(want))
}

func TestColumns(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 300 {
		rows := mixedRows(rng)
		sameRows(t, columnsOf(rows), rows)
		sameRows(t, appendSingly(nil, rows), rows)
		b := AppendRows([]byte("before"), rows)
		sameRows(t, b[6:], rows)
	}
	for _, h := range slices.Concat(hours(2, 5, one), hours(2, 5, many), merged(hours(2, 5, many), 5)) {
		sameRows(t, AppendRows(nil, h), h)
	}
}

// One number far from the others must not spoil its chunk.
func TestColumnsStray(t *testing.T) {
	rows := hours(4, 1, many)[0]
	size := len(columnsOf(rows))
	rows[7].Price.Low = market.NewDecimal(12345678, rows[7].Price.Close.Exp-19)
	b := columnsOf(rows)
	sameRows(t, b, rows)
	if len(b) > size+100 {
		t.Fatalf("%d bytes, %d before", len(b), size)
	}
}

// goldenRows are two minutes of one sample and one of two, and then a gap.
func goldenRows() (rows []Row) {
	for i, v := range [][]int64{{12345678}, {12345999}, {12346000, 12340000}, {12345000}} {
		var a Acc
		for _, p := range v {
			a.Add(&Sample{
				Price: market.NewDecimal(p, -4), Cap: market.NewDecimal(p, 3), Volume: market.NewDecimal(1234567, 0),
				Velocity: market.Fixed(1234567/(float64(p)*1000), VelocityScale), Flags: 1,
			})
		}
		rows = append(rows, a.Row([]int32{0, 1, 2, 9}[i]))
	}
	return rows
}

// Both layouts are on disk: their bytes must not come to mean something else.
func TestRowsGolden(t *testing.T) {
	f := func(name string, got []byte, want string) {
		t.Helper()
		b, err := hex.DecodeString(want)
		if err != nil || hex.EncodeToString(got) != want {
			t.Fatalf("%s is %x", name, got)
		}
		sameRows(t, b, goldenRows())
	}
	f("one by one", appendSingly(nil, goldenRows()),
		"040ffc05011a01019c85e30b82890f82890f000282050000010802dd5d020000000000003c00000000020e0701904e000001")
	f("columns", columnsOf(goldenRows()), "840ffc05019c85e30b82890f82890f0201018143c02c00020400a0406976dcbed9750f17")
}

func TestColumnsDamage(t *testing.T) {
	f := func(b []byte) {
		t.Helper()
		if rows, err := ReadRows(nil, b, 60); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%x gave %d rows, %v", b, len(rows), err)
		}
	}
	good := columnsOf(hours(3, 1, many)[0])
	for n := range good {
		f(good[:n])
	}
	f(append(slices.Clone(good), 0))
	f([]byte{columnsMark})
	f([]byte{columnsMark + 61, 0, 0, 0, 0, 0, 0, 0})
	f([]byte{0xff})
	rng := rand.New(rand.NewPCG(9, 9))
	for range 3000 {
		b := slices.Clone(good)
		for range 1 + rng.IntN(3) {
			b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
		}
		if rows, err := ReadRows(nil, b, 60); err == nil && len(rows) > 60 {
			t.Fatalf("%d rows", len(rows))
		}
	}
}

func TestBits(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	for range 300 {
		var w bitWriter
		var us []uint64
		var codes []uint8
		n := 0
		for range rng.IntN(50) {
			u, k := rng.Uint64()>>rng.IntN(64), uint(rng.IntN(riceMax+1))
			code := uint8(k + 1 + uint(rng.IntN(2))*(codeApart-1))
			us, codes = append(us, u), append(codes, code)
			w.number(u, code)
			if code < codeApart {
				n += riceCost(u, k)
			} else if n++; u > 0 {
				n += riceCost(u-1, k)
			}
		}
		w.align()
		if len(w.b) != (n+7)/8 {
			t.Fatalf("%d bytes, %d bits expected", len(w.b), n)
		}
		r := bitReader{b: w.b}
		for i, u := range us {
			if got := r.number(codes[i]); got != u {
				t.Fatalf("%d came back as %d, code %d", u, got, codes[i])
			}
		}
		if !r.over() {
			t.Fatal("not at the end")
		}
	}
}

func FuzzColumns(f *testing.F) {
	f.Add(uint64(1), columnsOf(goldenRows()))
	f.Add(uint64(2), columnsOf(hours(1, 1, many)[0]))
	f.Add(uint64(3), columnsOf(mixedRows(rand.New(rand.NewPCG(3, 3)))))
	f.Fuzz(func(t *testing.T, seed uint64, b []byte) {
		rows := mixedRows(rand.New(rand.NewPCG(seed, 1)))
		sameRows(t, columnsOf(rows), rows)
		got, err := ReadRows(nil, b, 60)
		if err != nil {
			return
		}
		if len(got) > 60 || cap(got) > 256 {
			t.Fatalf("%d rows in room for %d", len(got), cap(got))
		}
		if len(got) >= columnsMin {
			sameRows(t, columnsOf(got), got)
		}
	})
}

// BenchmarkRows prints bytes a row beside the floor, and how long chunks take to
// read beside the same rows as plain zigzag varints, read in turns; of each the
// best time counts, so that a busy machine does not.
func BenchmarkRows(b *testing.B) {
	f := func(name string, chunks [][]Row) {
		b.Run(name, func(b *testing.B) {
			var payloads [2][][]byte
			for _, h := range chunks {
				payloads[0] = append(payloads[0], AppendRows(nil, h))
				payloads[1] = append(payloads[1], appendSingly(nil, h))
			}
			best := [2][]time.Duration{slices.Repeat([]time.Duration{time.Hour}, len(chunks)), slices.Repeat([]time.Duration{time.Hour}, len(chunks))}
			var dst []Row
			var err error
			for b.Loop() {
				for i := range chunks {
					for way := range payloads {
						began := time.Now()
						if dst, err = ReadRows(dst[:0], payloads[way][i], 60); err != nil {
							b.Fatal(err)
						}
						best[way][i] = min(best[way][i], time.Since(began))
					}
				}
			}
			var took [2]time.Duration
			for way := range best {
				for _, d := range best[way] {
					took[way] += d
				}
			}
			n := len(chunks) * len(dst)
			size, singly, floor := perRow(chunks)
			b.ReportMetric(size, "B/row")
			b.ReportMetric(singly, "B/row-singly")
			b.ReportMetric(size/floor, "xfloor")
			b.ReportMetric(float64(took[0])/float64(n), "ns/row")
			b.ReportMetric(float64(took[0])/float64(took[1]), "xsingly")
		})
	}
	f("minutes/one", hours(1, 50, one))
	f("minutes/many", hours(1, 50, many))
	f("five/one", merged(hours(1, 50, one), 5))
	f("five/many", merged(hours(1, 50, many), 5))
}
