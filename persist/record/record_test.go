package record

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
)

func TestNumber(t *testing.T) {
	f := func(d market.Decimal, size int) {
		t.Helper()
		b := AppendNumber(nil, d)
		r := reader{b: b}
		if got := r.number(); got != d || r.bad || len(r.b) != 0 || len(b) != size {
			t.Fatalf("%v came back as %v (bad %v) in %d bytes, want %d", d, got, r.bad, len(b), size)
		}
	}
	f(market.Null, 1)
	f(market.Decimal{}, 1)
	f(market.FromInt(1), 2)
	f(market.FromInt(-64), 2)
	f(market.NewDecimal(12345678901234567, -4), 8)
	f(market.NewDecimal(98765432101234567, -4), 9)
	f(market.NewDecimal(-999999999999999999, -18), 9)
	f(market.NewDecimal(1, 3), 2)
	f(market.NewDecimal(1, 4), 4)
	f(market.NewDecimal(1, -25), 4)
	f(market.NewDecimal(7, 100), 4)
	f(market.NewDecimal(7, -118), 4)
	f(market.Decimal{Mant: math.MinInt64, Exp: -3}, 9)
	f(market.Decimal{Mant: math.MinInt64 + 1, Exp: -3}, 9)
	f(market.Decimal{Mant: math.MaxInt64, Exp: -3}, 9)
}

func TestEnvelope(t *testing.T) {
	key := []byte("key")
	value := append(Begin(nil), "payload"...)
	Seal(key, value)
	if p, err := Open(key, value); err != nil || string(p) != "payload" {
		t.Fatalf("Open = %q, %v", p, err)
	}
	f := func(key, value []byte, want error) {
		t.Helper()
		if _, err := Open(key, value); !errors.Is(err, want) {
			t.Fatalf("Open = %v, want %v", err, want)
		}
	}
	f([]byte("kez"), value, ErrCorrupt)
	f(key, nil, ErrCorrupt)
	f(key, value[:len(value)-1], ErrCorrupt)
	for bit := range len(value) * 8 {
		v := slices.Clone(value)
		v[bit/8] ^= 1 << (bit % 8)
		f(key, v, ErrCorrupt)
	}
	newer := slices.Clone(value)
	newer[4] = Version + 1
	Seal(key, newer)
	f(key, newer, ErrVersion)
}

// randomRow makes rows of every shape: single samples, nulls, wild exponents.
func randomRow(rng *rand.Rand, index int32, base float64) Row {
	var a Acc
	for range 1 + rng.IntN(4)*rng.IntN(20) {
		s := Sample{
			Price: market.Significant(base*(1+rng.NormFloat64()*0.001), 17), Cap: market.Significant(base*1e6, 17),
			Volume: market.Significant(1e7*rng.Float64(), 17), Velocity: market.Fixed(rng.Float64(), -9), Flags: market.Flags(rng.IntN(4)),
		}
		switch rng.IntN(30) {
		case 0:
			s.Price = market.Null
		case 1:
			s.Cap, s.Velocity = market.Null, market.Null
		case 2:
			s.Volume, s.Velocity = market.Decimal{}, market.Decimal{}
		case 3:
			s.Price = market.NewDecimal(rng.Int64N(1e18), int8(rng.IntN(100)-100))
		case 4:
			s.Volume = market.Null
		case 5:
			s.Velocity = market.NewDecimal(rng.Int64N(1e18), 3)
		}
		a.Add(&s)
	}
	return a.Row(index)
}

func TestRows(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		base := math.Exp(rng.Float64()*40 - 20)
		var rows []Row
		for i := range int32(60) {
			if rng.IntN(3) > 0 {
				rows = append(rows, randomRow(rng, i, base))
			}
		}
		b := AppendRows(nil, rows)
		got, err := ReadRows(nil, b, 60)
		if err != nil || !slices.Equal(got, rows) {
			for i := range min(len(got), len(rows)) {
				if got[i] != rows[i] {
					t.Fatalf("row %d\n%+v, want\n%+v", i, got[i], rows[i])
				}
			}
			t.Fatalf("%d rows, want %d: %v", len(got), len(rows), err)
		}
		if len(rows) > 0 {
			if _, err := ReadRows(nil, b, rows[len(rows)-1].Index); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("an index beyond the limit gave %v", err)
			}
		}
	}
}

// A token without capitalisation or with one sample a minute must stay small.
func TestRowSize(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	f := func(most float64, samples int, spoil func(*Sample)) {
		t.Helper()
		price, volume := 1234.5678, 3.2e9
		var rows []Row
		for i := range int32(60) {
			var a Acc
			for range samples {
				price *= 1 + 0.0005*rng.NormFloat64()/math.Sqrt(float64(samples))
				volume *= 1 + 0.0005*rng.NormFloat64()/math.Sqrt(float64(samples))
				s := Sample{
					Price: market.Significant(price, 17), Cap: market.Significant(price*2e7, 17), Volume: market.Significant(volume, 17),
					Velocity: market.Fixed(volume/(price*2e7), -9),
				}
				spoil(&s)
				a.Add(&s)
			}
			rows = append(rows, a.Row(i))
		}
		size := float64(len(AppendRows(nil, rows))) / 60
		t.Logf("%d samples a row: %.2f B", samples, size)
		if size > most {
			t.Fatalf("%.2f B a row, at most %.2f", size, most)
		}
	}
	f(5, 1, func(*Sample) {})
	f(3.6, 1, func(s *Sample) { s.Cap, s.Velocity = market.Null, market.Null })
	f(20, 60, func(*Sample) {})
}

func TestCells(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 2))
	float := func() float32 { return math.Float32frombits(rng.Uint32()) }
	for range 500 {
		var cells []market.Cell
		at := market.Time(rng.Int64N(1e13))
		hour := at
		for range rng.IntN(60) {
			at += market.Time(rng.Int64N(1e6))
			cells = append(cells, market.Cell{Time: at, Price: float(), Volume: float(), Velocity: float32(math.NaN())})
		}
		got, err := ReadCells(nil, hour, AppendCells(nil, hour, cells))
		same := slices.EqualFunc(got, cells, func(a, b market.Cell) bool {
			return a.Time == b.Time && math.Float32bits(a.Price) == math.Float32bits(b.Price) &&
				math.Float32bits(a.Volume) == math.Float32bits(b.Volume) && math.Float32bits(a.Velocity) == math.Float32bits(b.Velocity)
		})
		if err != nil || !same {
			t.Fatalf("cells %v, want %v: %v", got, cells, err)
		}
	}
}

func TestLastOfCells(t *testing.T) {
	f := func(want []market.Time, times ...market.Time) {
		t.Helper()
		var cells []market.Cell
		for _, at := range times {
			cells = append(cells, market.Cell{Time: at})
		}
		var got []market.Time
		for _, c := range LastOfCells(nil, cells, 5) {
			got = append(got, c.Time)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("last of %v: %v, want %v", times, got, want)
		}
	}
	f(nil)
	f([]market.Time{1}, 1)
	f([]market.Time{4, 5}, 1, 4, 5)
	f([]market.Time{0, 9, 20}, 0, 5, 9, 20)
}

func TestAddLost(t *testing.T) {
	f := func(want []LostRange, add ...LostRange) {
		t.Helper()
		var list []LostRange
		for _, r := range add {
			list = AddLost(list, r)
		}
		if !slices.Equal(list, want) {
			t.Fatalf("list %v, want %v", list, want)
		}
		back, err := ReadLost(AppendLost(nil, list))
		if err != nil || !slices.Equal(back, list) {
			t.Fatalf("came back as %v, %v", back, err)
		}
	}
	f(nil, LostRange{3, 3}, LostRange{4, 2})
	f([]LostRange{{1, 2}, {4, 9}}, LostRange{4, 9}, LostRange{1, 2})
	f([]LostRange{{1, 9}}, LostRange{1, 5}, LostRange{5, 9})
	f([]LostRange{{1, 9}}, LostRange{1, 2}, LostRange{8, 9}, LostRange{2, 8})
	f([]LostRange{{1, 9}}, LostRange{1, 9}, LostRange{3, 4})
	var many []LostRange
	for i := range uint64(MaxLost + 1) {
		many = AddLost(many, LostRange{i * 10, i*10 + 1 + 7*(i&1)})
	}
	if len(many) != MaxLost || many[0] != (LostRange{0, 1}) || many[1] != (LostRange{10, 21}) {
		t.Fatalf("%d ranges, %v", len(many), many[:2])
	}
}

func TestKeys(t *testing.T) {
	if !slices.IsSortedFunc([][]byte{
		BlockKey(5, 1), BlockKey(5, 2), BlockKey(6, 0), ChunkKey(KindFive, 1, 9, 23), ChunkKey(KindFive, 1, 10, 0), ChunkKey(KindFive, 2, 1, 0),
	}, bytes.Compare) {
		t.Fatal("keys are out of order")
	}
	if p, id, part, ok := ParseChunkKey(ChunkKey(KindHour, 7, 1<<31+5, 23)); !ok || p != 7 || id != 1<<31+5 || part != 23 {
		t.Fatal("chunk key", p, id, part, ok)
	}
	want := market.Tombstone{ID: 9, Seq: 8, Time: 7}
	if got, ok := ParseTombstoneKey(TombstoneKey(7, 8, 9)); !ok || got != want {
		t.Fatal("tombstone key", got, ok)
	}
	for at, floor := range map[market.Time]market.Time{0: 0, 59: 0, 60: 60, -1: -60, -60: -60} {
		if got := Floor(at, 60); got != floor {
			t.Fatalf("Floor(%d) = %d, want %d", at, got, floor)
		}
	}
}

func FuzzDecoders(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	rows := []Row{randomRow(rng, 0, 1), randomRow(rng, 5, 1), randomRow(rng, 6, 1)}
	f.Add(appendSingly(nil, rows))
	f.Add(columnsOf(rows))
	var w BlockWriter
	w.Add(7, rows[0])
	w.Add(9, rows[1])
	f.Add(w.Append(nil))
	f.Add(AppendCells(nil, 100, []market.Cell{{Time: 101, Price: 1}, {Time: 200}}))
	f.Add(AppendLost(nil, []LostRange{{1, 2}, {3, 9}}))
	info := &market.Info{Symbol: "BTC", Name: "Bitcoin", Slug: "bitcoin"}
	snap := &market.Snapshot{ID: 1}
	tick := &market.Tick{Env: market.Env{Seq: 3, Now: 9}, Removed: []market.ID{4}, Parts: [][]market.Change{{
		{Snap: snap, Mask: 5, Quote: &market.Quote{ID: 1, Info: info, Price: market.FromInt(3)}},
		{Snap: &market.Snapshot{ID: 2}, Mask: 9},
	}}}
	f.Add(new(TickEncoder).Append(nil, tick, 9, 1))
	tick.Absent, tick.Back = []market.ID{3, 1}, []market.ID{2}
	tick.Rejection = &market.PollRejection{Reason: "no rows", Rows: 3, Lacking: 1 << 63}
	f.Add(new(TickEncoder).Append(nil, tick, 9, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		if rows, err := ReadRows(nil, b, 60); err == nil {
			again, err := ReadRows(nil, AppendRows(nil, rows), 60)
			if err != nil || !slices.Equal(again, rows) {
				t.Fatalf("rows %v came back as %v, %v", rows, again, err)
			}
		}
		_ = ReadBlock(b, 0, func(market.ID, Row) {})
		_ = ReadBlock(b, 7, func(market.ID, Row) {})
		if cells, err := ReadCells(nil, 100, b); err == nil {
			if again, err := ReadCells(nil, 100, AppendCells(nil, 100, cells)); err != nil || len(again) != len(cells) {
				t.Fatalf("%d cells came back as %d, %v", len(cells), len(again), err)
			}
		}
		_, _ = ReadLost(b)
		_, _ = ReadNumbers(b, 3)
		h, err := ReadHead(b)
		if err != nil {
			return
		}
		_ = h.Samples(func(market.ID, *Sample) {})
		_, _, _ = h.Find(1)
		_, _ = h.Rows()
	})
}

// Cells of any differences come back, and no payload that was cut does.
func TestCellsOfAnySize(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		var cells []market.Cell
		at := market.Time(0)
		for range rng.IntN(70) {
			at += market.Time(rng.Int64N(1 << rng.IntN(40)))
			value := func() float32 { return math.Float32frombits(rng.Uint32() >> rng.IntN(32)) }
			cells = append(cells, market.Cell{Time: at, Price: value(), Volume: value(), Velocity: value()})
		}
		b := AppendCells(nil, 77, cells)
		got, err := ReadCells(nil, 77, b)
		if err != nil || len(got) != len(cells) {
			t.Fatalf("%d of %d cells, %v", len(got), len(cells), err)
		}
		for i, c := range cells {
			g := got[i]
			same := func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }
			if g.Time != c.Time || !same(g.Price, c.Price) || !same(g.Volume, c.Volume) || !same(g.Velocity, c.Velocity) {
				t.Fatalf("cell %d: %v, want %v", i, g, c)
			}
		}
		if len(cells) > 0 {
			if cut, err := ReadCells(nil, 77, b[:len(b)-1-rng.IntN(len(b)-1)]); err == nil {
				t.Fatalf("cut, and %d cells", len(cut))
			}
			if more, err := ReadCells(nil, 77, append(b, 1)); err == nil {
				t.Fatalf("a byte too many, and %d cells", len(more))
			}
		}
	}
}
