package wire_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/wire/wiretest"
)

// channel is the least that a server does: it encodes boards for one client.
type channel struct {
	format  wire.Format
	replica *wiretest.Replica
	last    *market.Board // what the previous message showed
	rows    int
	bytes   int // of bodies
}

func newChannel(t testing.TB, f wire.Format) *channel {
	c := &channel{format: f, replica: wiretest.NewReplica()}
	sub := wire.Subscription{Sub: 1, Channel: 5, Format: f}
	if _, err := c.replica.Apply(wire.AppendSubscribed(nil, nil, &sub, nil, nil, nil)); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *channel) apply(part []byte) error {
	apply := c.replica.Apply
	if c.format.Encoding == wire.EncodingBinary {
		apply = c.replica.ApplyBinary
	}
	_, err := apply(part)
	return err
}

// send encodes what lies between the last board and b, a snapshot where there
// was none. It returns the first error of the client.
func (c *channel) send(b *market.Board, differences bool) (err error) {
	p := wire.Parts{Head: wire.HeadOf(b, 5), Emit: func(part []byte, _ bool) {
		if e := c.apply(part); err == nil {
			err = e
		}
	}}
	p.Head.Encoding, p.Head.Snapshot, p.Head.Absolute = c.format.Encoding, c.last == nil, !differences
	var removed []market.ID
	if c.last != nil {
		p.Head.Prev = c.last.Seq
		for s := range c.last.All {
			if b.Token(s.ID) == nil {
				removed = append(removed, s.ID)
			}
		}
	}
	tokens := slices.Collect(b.All)
	slices.SortFunc(tokens, func(a, b *market.Snapshot) int { return int(int64(a.ID) - int64(b.ID)) })
	var row []byte
	for _, s := range tokens {
		row = c.row(row[:0], s, b.Source, differences)
		if len(row) > 0 {
			p.RowOf(s.ID, row)
			c.rows++
			c.bytes += len(row)
		}
	}
	p.End(removed)
	c.last = b
	return err
}

func (c *channel) row(dst []byte, s *market.Snapshot, source market.Source, differences bool) []byte {
	mask, old := market.AllFields, (*market.Snapshot)(nil)
	if c.last != nil {
		if mask = s.ChangedSince(c.last.Seq); mask != market.AllFields {
			old = c.last.Token(s.ID)
		}
	}
	switch {
	case mask == 0:
		return dst
	case c.format.Encoding == wire.EncodingJSON:
		if old != nil {
			mask = wire.Differing(s, old, mask, &c.format)
		}
		return wire.AppendRow(dst, s, mask, &c.format, source)
	case !differences:
		old = nil
	}
	return wire.AppendBinary(dst, s, old, mask, &c.format, source)
}

// formats are all ways to write the rows of one set of fields.
func formats(f wire.Format) (all []wire.Format) {
	for _, d := range []wire.Digits{wire.DigitsFull, wire.DigitsCompact} {
		f.Digits = d
		g := f
		g.Encoding, g.Numbers, g.Shape = wire.EncodingBinary, 0, 0
		all = append(all, g)
		for _, n := range []wire.Numbers{wire.NumbersNumber, wire.NumbersString} {
			for _, s := range []wire.Shape{wire.ShapeObject, wire.ShapeArray} {
				f.Numbers, f.Shape = n, s
				all = append(all, f)
			}
		}
	}
	return all
}

// TestTrip takes markets through every format to a client and compares.
func TestTrip(t *testing.T) {
	ticks := 40
	if testing.Short() {
		ticks = 8
	}
	f := func(m *wiretest.Market, seed uint64, format wire.Format) {
		t.Helper()
		rng, c := rand.New(rand.NewPCG(seed, 2)), newChannel(t, format)
		since := 0 // messages since the snapshot
		for tick := range ticks {
			b := m.Board()
			differences := since > 1 && rng.IntN(6) > 0
			err := c.send(b, differences)
			if err == nil {
				err = wiretest.Diff(b, nil, &format, c.replica.Channels[5].Rows)
			}
			if err != nil {
				t.Fatalf("seed %d, tick %d, %+v: %v", seed, tick, format, err)
			}
			since++
			if rng.IntN(20) == 0 {
				c.last, since = nil, 0
			}
			m.Tick()
		}
	}
	some := market.MaskOf(market.FieldPrice, market.FieldFlags, market.FieldSource, market.FieldRank)
	for seed := range uint64(2) {
		for _, base := range []wire.Format{
			wire.ViewFormat(market.ViewQuote), wire.ViewFormat(market.ViewVelocity), wire.ViewFormat(market.ViewFull),
			wire.FieldsFormat(some), wire.FieldsFormat(market.FieldSymbol.Bit()),
		} {
			for _, format := range formats(base) {
				f(wiretest.NewMarket(seed, 25), seed, format)
				f(wiretest.NewCalmMarket(seed, 25), seed, format)
			}
		}
	}
}
