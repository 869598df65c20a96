package wire_test

import (
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/wire/wiretest"
)

// TestBinaryRow shows what a difference row holds, byte by byte.
func TestBinaryRow(t *testing.T) {
	base := bitcoin()
	f := func(format wire.Format, was, is *market.Snapshot, source market.Source, want string) {
		t.Helper()
		got := hex.EncodeToString(wire.AppendBinary(nil, is, was, changed(was, is), &format, source))
		if got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	const m = market.SourceMarket
	full, compact := wire.ViewFormat(market.ViewQuote), wire.ViewFormat(market.ViewQuote)
	full.Encoding, compact.Encoding, compact.Digits = wire.EncodingBinary, wire.EncodingBinary, wire.DigitsCompact
	price := func(text string) *market.Snapshot { return with(base, market.FieldPrice, text) }
	f(full, base, base, m, "")
	f(full, base, with(base, market.FieldVelocity, "1"), m, "")                  // not of the view
	f(full, price("1.5"), price("1.6"), m, "0202")                               // one tenth
	f(full, price("1.5"), price("2"), m, "020a")                                 // a coarser value
	f(full, price("1.5"), price("1.55"), m, "0301feb602")                        // a finer one
	f(full, price("1.5"), price("null"), m, "03017f")                            //
	f(full, price("null"), price("1.5"), m, "0301ff1e")                          //
	f(full, price("0"), price("7"), m, "020e")                                   // zero has exponent 0
	f(full, price("0"), price("0.5"), m, "0301ff0a")                             //
	f(full, price("999999999999999999"), price("1e90"), m, "03015a02")           // no int64
	f(full, price("-5e18"), price("5e18"), m, "02"+"14")                         // in units of the old one
	f(full, base, with(base, market.FieldPercentChange1h, "-0.1233"), m, "1002") // published scale
	f(full, base, with(base, market.FieldRank, "3"), m, "4004")
	f(full, base, with(base, market.FieldRank, "null"), m, "41207f")
	f(full, base, with(base, market.FieldFlags, "1"), m, "800101")
	f(full, base, with(base, market.FieldFreshness, "2"), m, "800202")
	f(full, base, with(base, market.FieldSource, "3"), m, "800403")
	f(full, base, price("64010.2345678913"), market.SourceCoinLore, "82040202")
	f(compact, base, price("64010.2345678913"), m, "") // the same eight digits
	f(compact, base, price("64010.2345678913"), market.SourceCoinLore, "")
	f(compact, base, price("64010.236"), m, "0202")
	f(compact, price("10"), price("9.9999999"), m, "0301f9fe83af5f") // finer than eight digits of 10
	f(compact, price("10"), price("9.999999"), m, "0201")
	f(compact, price("0"), price("0.00001234"), m, "02a413") // zero: to 10^-8
	f(compact, base, with(base, market.FieldMarketCap, "1261240000000"), m, "0402")
	f(compact, base, with(base, market.FieldPercentChange24h, "1.565"), m, "") // half to even: 1.56 both
	f(compact, base, with(base, market.FieldPercentChange24h, "1.57"), m, "2002")
}

// TestBinaryParts cuts binary messages of all sizes and takes them to a client.
func TestBinaryParts(t *testing.T) {
	f := func(seed uint64, n int, removed []market.ID) {
		t.Helper()
		format := wire.ViewFormat(market.ViewVelocity)
		format.Encoding = wire.EncodingBinary
		m, c := wiretest.NewMarket(seed, n), newChannel(t, format)
		if err := c.send(m.Board(), false); err != nil {
			t.Fatal(err)
		}
		size, ended := 0, false
		p := wire.Parts{Head: wire.HeadOf(m.Board(), 5), Emit: func(part []byte, more bool) {
			if len(part) > wire.MaxPart || ended || more == (part[1]&1 == 0) {
				t.Fatalf("a part of %d bytes, more %v", len(part), more)
			}
			size, ended = size+len(part), !more
			if err := c.apply(part); err != nil {
				t.Fatal(err)
			}
		}}
		p.Head.Encoding, p.Head.Absolute, p.Head.Prev = wire.EncodingBinary, true, m.Board().Seq
		p.Head.Seq += 5
		tokens := slices.Collect(m.Board().All)
		slices.SortFunc(tokens, func(a, b *market.Snapshot) int { return int(a.ID) - int(b.ID) })
		for _, s := range tokens {
			row := wire.AppendBinary(nil, s, nil, market.AllFields, &format, market.SourceMarket)
			if fits := p.Fits(len(row)); !fits && !p.Pending() {
				t.Fatal("an empty part must take any row")
			}
			p.RowOf(s.ID, row)
		}
		p.End(removed)
		ch := c.replica.Channels[5]
		if !ended || len(ch.Rows) != n-len(removed) || ch.Pos != m.Board().Seq+5 {
			t.Fatalf("%d rows at %d", len(ch.Rows), ch.Pos)
		}
	}
	for seed := range uint64(6) {
		f(seed, int(20*seed), nil)
		f(seed, 300+int(seed), []market.ID{299, 1, 7})
	}
	all := make([]market.ID, 1000)
	for i := range all {
		all[i] = market.ID(1000 - i)
	}
	f(1, 1000, all)
}

// TestNullTimes takes heads without times to a client.
func TestNullTimes(t *testing.T) {
	f := func(source, received market.Time) {
		t.Helper()
		c := newChannel(t, wire.Format{Fields: market.TextFields, Encoding: wire.EncodingBinary})
		p := wire.Parts{Head: wire.Head{Encoding: wire.EncodingBinary, Snapshot: true, Channel: 5, Seq: 1, SourceTime: source, ReceivedAt: received}}
		p.Emit = func(part []byte, _ bool) {
			if err := c.apply(part); err != nil {
				t.Fatal(err)
			}
		}
		p.End(nil)
		if m := &c.replica.Last; m.SourceTime != int64(source) || m.ReceivedAt != int64(received) {
			t.Fatalf("%d and %d", m.SourceTime, m.ReceivedAt)
		}
	}
	f(0, 0)
	f(0, 1763661599100)
	f(1763661599000, 0)
	f(1763661599000, 1763661598000)
}

// TestChecksum compares what the server says with what a client has.
func TestChecksum(t *testing.T) {
	m := wiretest.NewMarket(3, 30)
	for _, view := range []market.View{market.ViewQuote, market.ViewVelocity, market.ViewFull} {
		for _, format := range formats(wire.ViewFormat(view)) {
			c := newChannel(t, format)
			if err := c.send(m.Board(), false); err != nil {
				t.Fatal(err)
			}
			for s := range m.Board().All {
				got, err := c.replica.Channels[5].Checksum(s.ID)
				if err != nil || got != wire.Checksum(s, &format) {
					t.Fatalf("%+v, token %d: %08x, not %08x: %v", format, s.ID, got, wire.Checksum(s, &format), err)
				}
			}
		}
	}
}

// TestNoAllocations holds the encoders to none for a row.
func TestNoAllocations(t *testing.T) {
	was := bitcoin()
	is := with(was, market.FieldPrice, "64012.5", market.FieldVelocity, "0.3", market.FieldMarketCap, "null")
	dst := make([]byte, 0, 4<<10)
	for _, format := range formats(wire.ViewFormat(market.ViewFull)) {
		n := testing.AllocsPerRun(100, func() {
			if format.Encoding == wire.EncodingBinary {
				dst = wire.AppendBinary(dst[:0], is, was, changed(was, is), &format, market.SourceCoinLore)
				dst = wire.AppendBinary(dst[:0], is, nil, market.AllFields, &format, market.SourceCoinLore)
			} else {
				dst = wire.AppendRow(dst[:0], is, market.AllFields, &format, market.SourceCoinLore)
			}
		})
		if n > 0 {
			t.Errorf("%+v: %v allocations", format, n)
		}
	}
}

// FuzzApplyBinary feeds a client with bytes that no server sends: it may refuse
// them, but must not panic nor hold more than they can hold.
func FuzzApplyBinary(f *testing.F) {
	var vectors []binaryVector
	load(f, "binary.json", &vectors)
	for i, v := range vectors {
		message, err := hex.DecodeString(v.Message)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), message)
		f.Add(uint8(i), message[:len(message)/2])
	}
	f.Fuzz(func(t *testing.T, i uint8, message []byte) {
		v := &vectors[int(i)%len(vectors)]
		r := replicaOf(t, v.Effective, &v.Before)
		m, err := r.ApplyBinary(message)
		if c := r.Channels[12]; len(c.Rows) > len(v.Before.Rows)+len(message)/2 {
			t.Fatalf("%d rows of %d bytes", len(c.Rows), len(message))
		}
		if err == nil && m.Removed != nil && len(*m.Removed) > len(message) {
			t.Fatalf("%d removed of %d bytes", len(*m.Removed), len(message))
		}
		if err != nil && strings.Contains(err.Error(), "BUG") {
			t.Fatal(err)
		}
	})
}

// FuzzTrip takes random tokens through the encoders to a client, both ways of
// writing a change, and compares all fields.
func FuzzTrip(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed, uint64(market.NumericFields), uint8(seed), int64(seed)*1_000_003, int8(-seed))
	}
	f.Fuzz(func(t *testing.T, seed, fields uint64, how uint8, mant int64, exp int8) {
		rng := rand.New(rand.NewPCG(seed, 3))
		all := formats(wire.FieldsFormat(market.Mask(fields) & market.NumericFields))
		format := all[int(how)%len(all)]
		m := wiretest.NewMarket(seed, 5)
		if how&128 != 0 {
			m = wiretest.NewCalmMarket(seed, 5)
		}
		c := newChannel(t, format)
		for tick := range 6 {
			b := m.Board()
			err := c.send(b, tick > 1 && rng.IntN(4) > 0)
			if err == nil {
				err = wiretest.Diff(b, nil, &format, c.replica.Channels[5].Rows)
			}
			if err != nil {
				t.Fatalf("%+v, tick %d: %v", format, tick, err)
			}
			m.Tick()
		}
		arbitrary(t, format, mant, exp)
	})
}

// arbitrary changes one price from and to a given number.
func arbitrary(t *testing.T, format wire.Format, mant int64, exp int8) {
	t.Helper()
	mant %= 1e18
	if exp > 80 || exp < -80 {
		exp %= 80
	}
	d := market.NewDecimal(mant, exp)
	was := bitcoin()
	is := *was
	is.Put(market.FieldPrice, d)
	again := is
	again.Put(market.FieldPrice, was.Value(market.FieldPrice))
	b := func(seq uint64, s *market.Snapshot, mask market.Mask) *market.Board {
		s.Seq = seq
		s.Stamp(mask)
		board := boardAt(seq)
		board.Shards = [][]*market.Snapshot{{s}}
		board.Index = []map[market.ID]int32{{s.ID: 0}}
		return board
	}
	c := newChannel(t, format)
	price := market.FieldPrice.Bit()
	for i, board := range []*market.Board{b(1, was, market.AllFields), b(2, was, 0), b(3, &is, price), b(4, &again, price)} {
		err := c.send(board, i > 1)
		if err == nil {
			err = wiretest.Diff(board, nil, &format, c.replica.Channels[5].Rows)
		}
		if err != nil {
			t.Fatalf("%+v, %s: %v", format, d, err)
		}
	}
}
