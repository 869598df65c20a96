package client

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/wire/wiretest"
)

// feed is the least that a server does: it sends boards to one decoder.
type feed struct {
	dec    *Decoder
	format wire.Format
	last   *market.Board
	buf    []byte
}

func newFeed(t *testing.T, f wire.Format, top *wire.Top) *feed {
	t.Helper()
	e := &feed{dec: NewDecoder(Limits{}), format: f}
	sub := wire.Subscription{Sub: 1, Channel: 5, Format: f, Top: top}
	must(t, e.dec, string(wire.AppendSubscribed(nil, &wire.Request{ID: "1", HasID: true}, &sub, nil, nil, nil)))
	if got := e.dec.Channel(5).Layout().Fields(); got != f.Fields {
		t.Fatalf("fields %b, want %b", got, f.Fields)
	}
	return e
}

func (e *feed) send(b *market.Board, differences bool) (err error) {
	p := wire.Parts{Head: wire.HeadOf(b, 5), Emit: func(part []byte, _ bool) {
		if err == nil {
			_, err = e.dec.Apply(part, e.format.Encoding == wire.EncodingBinary)
		}
	}}
	p.Head.Encoding, p.Head.Snapshot, p.Head.Absolute = e.format.Encoding, e.last == nil, !differences
	var removed []market.ID
	if e.last != nil {
		p.Head.Prev = e.last.Seq
		for s := range e.last.All {
			if b.Token(s.ID) == nil {
				removed = append(removed, s.ID)
			}
		}
	}
	tokens := slices.SortedFunc(b.All, func(a, b *market.Snapshot) int { return cmp.Compare(a.ID, b.ID) })
	for _, s := range tokens {
		mask, old := market.AllFields, (*market.Snapshot)(nil)
		if e.last != nil {
			if mask = s.ChangedSince(e.last.Seq); mask != market.AllFields && differences {
				old = e.last.Token(s.ID)
			}
		}
		switch {
		case mask == 0:
			continue
		case e.format.Encoding == wire.EncodingJSON:
			e.buf = wire.AppendRow(e.buf[:0], s, mask, &e.format, b.Source)
		default:
			e.buf = wire.AppendBinary(e.buf[:0], s, old, mask, &e.format, b.Source)
		}
		if len(e.buf) > 0 {
			p.RowOf(s.ID, e.buf)
		}
	}
	p.End(removed)
	e.last = b
	return err
}

// same compares the rows with a board, by values and by checksums.
func (e *feed) same(b *market.Board) error {
	c := e.dec.Channel(5)
	if c.Position() != b.Seq || c.Len() != b.Len() || !c.Complete() {
		return fmt.Errorf("position %d with %d rows, want %d with %d", c.Position(), c.Len(), b.Seq, b.Len())
	}
	l := c.Layout()
	for s := range b.All {
		r, ok := c.Row(s.ID)
		if !ok {
			return fmt.Errorf("token %d is missing", s.ID)
		}
		if got, want := (market.Info{Symbol: r.Symbol(), Name: r.FullName(), Slug: r.Slug()}), *s.Info; got.Symbol != want.Symbol || got.Name != want.Name || got.Slug != want.Slug {
			return fmt.Errorf("token %d: %+v, not %+v", s.ID, got, want)
		}
		if r.Source() != s.Source() {
			return fmt.Errorf("token %d: source %s, not %s", s.ID, r.Source(), s.Source())
		}
		for f := range (l.Fields() & market.NumericFields).Fields() {
			if got, want := r.Value(f), l.show(f, s.Value(f)); got != want {
				return fmt.Errorf("token %d: %s is %v, not %v", s.ID, f, got, want)
			}
		}
		if got, want := r.Checksum(), wire.Checksum(s, &e.format); got != want {
			return fmt.Errorf("token %d: checksum %08x, not %08x", s.ID, got, want)
		}
	}
	return nil
}

// TestServerEncoder reads what the server writes, in every format.
func TestServerEncoder(t *testing.T) {
	some := market.MaskOf(market.FieldPrice, market.FieldFlags, market.FieldSource, market.FieldRank)
	bases := []wire.Format{
		wire.ViewFormat(market.ViewQuote), wire.ViewFormat(market.ViewVelocity), wire.ViewFormat(market.ViewFull),
		wire.FieldsFormat(some), wire.FieldsFormat(market.FieldVelocity.Bit()), wire.FieldsFormat(market.FieldSymbol.Bit()),
	}
	f := func(m *wiretest.Market, seed uint64, format wire.Format) {
		t.Helper()
		rng, e := rand.New(rand.NewPCG(seed, 3)), newFeed(t, format, nil)
		for tick, since := 0, 0; tick < 40; tick++ {
			b := m.Board()
			err := e.send(b, since > 1 && rng.IntN(6) > 0)
			if err == nil {
				err = e.same(b)
			}
			if err != nil {
				t.Fatalf("seed %d, tick %d, %+v: %v", seed, tick, format, err)
			}
			since++
			if rng.IntN(15) == 0 {
				e.last, since = nil, 0
			}
			m.Tick()
		}
	}
	for seed := range seeds(6) {
		for _, base := range bases {
			for _, digits := range []wire.Digits{wire.DigitsFull, wire.DigitsCompact} {
				base.Digits = digits
				binary, array, text := base, base, base
				binary.Encoding = wire.EncodingBinary
				array.Shape = wire.ShapeArray
				text.Numbers = wire.NumbersString
				for _, format := range []wire.Format{binary, array, text, base} {
					f(wiretest.NewMarket(seed, 40), seed, format)
					f(wiretest.NewCalmMarket(seed, 40), seed, format)
				}
			}
		}
	}
}

// TestServerMessages reads the other messages as the server writes them.
func TestServerMessages(t *testing.T) {
	format := wire.ViewFormat(market.ViewQuote)
	top := &wire.Top{By: market.FieldVelocity, N: 50}
	format.Fields |= top.By.Bit()
	e := newFeed(t, format, top)
	r := &wire.Request{ID: "5", HasID: true}
	if err := e.send(wiretest.NewMarket(1, 3).Board(), false); err != nil {
		t.Fatal(err)
	}
	seq := e.last.Seq
	var sums []wire.TokenSum
	for s := range e.last.All {
		sums = append(sums, wire.TokenSum{ID: s.ID, Sum: wire.Checksum(s, &format)})
	}
	sums[1].Sum++
	ev := must(t, e.dec, string(wire.AppendChecksums(nil, r, 5, seq, sums)))
	if ev.ID != "5" || !ev.Check.Compared || len(ev.Check.Differ) != 1 || ev.Check.Differ[0] != sums[1].ID {
		t.Errorf("%+v", ev.Check)
	}
	ev = must(t, e.dec, string(wire.AppendStale(nil, 5, []market.ID{1}, 190000)))
	if ev.Kind != KindStale || ev.Channel == nil || ev.Stale.Age.Seconds() != 190 || len(ev.Stale.Tokens) != 1 {
		t.Errorf("%+v", ev.Stale)
	}
	ev = must(t, e.dec, string(wire.AppendEffectiveChange(nil, 1, 15, 5, wire.RateHalf)))
	if ev.Kind != KindEffective || ev.Channel.Number() != 15 || ev.Channel.Position() != seq || ev.Channel.Len() != 3 || ev.Ack.Effective.Rate != "0.5" {
		t.Errorf("%+v", ev)
	}
	sub := wire.Subscription{Sub: 1, Channel: 16, Tokens: 3, Format: format, Top: top, Recovered: true, From: 15, Rate: wire.Rate1, Auto: true, Deadband: 5}
	ev = must(t, e.dec, string(wire.AppendSubscribed(nil, r, &sub, nil, []string{"NOPE"}, []wire.Ambiguous{{Symbol: "A", Taken: 1, Others: []market.ID{2}}})))
	a := ev.Ack
	if ev.Channel.Len() != 3 || a.Effective.Rate != "1" || !a.Effective.Auto || a.Effective.Top.By != "velocity" || a.Unknown.Symbols[0] != "NOPE" || a.Ambiguous[0].Others[0] != 2 {
		t.Errorf("%+v", a)
	}
	for _, enc := range []wire.Encoding{wire.EncodingJSON, wire.EncodingBinary} {
		ev, err := e.dec.Apply(wire.AppendChannelHeartbeat(nil, enc, 16, seq+3), enc == wire.EncodingBinary)
		if err != nil || ev.Kind != KindChannelBeat || ev.Channel.Position() != seq+3 {
			t.Errorf("%+v %v", ev, err)
		}
	}
	ev = must(t, e.dec, string(wire.AppendSubscriptions(nil, r, []wire.Subscription{sub})))
	if len(ev.Items) != 1 || ev.Items[0].Channel != 16 || ev.Items[0].Effective.Deadband != 5 {
		t.Errorf("%+v", ev)
	}
	ev = must(t, e.dec, string(wire.AppendDrain(nil, 5000, 3120)))
	if ev.Kind != KindDrain || ev.Wait.Milliseconds() != 3120 {
		t.Errorf("%+v", ev)
	}
	ev = must(t, e.dec, string(wire.AppendError(nil, r, &wire.RequestError{Code: wire.BadValue, Text: "x"}, 70)))
	if fault, ok := ev.Err.(*ServerError); !ok || fault.Code != wire.BadValue || fault.Retry.Milliseconds() != 70 {
		t.Errorf("%+v", ev)
	}
}

// TestServerReadsRequests sends what the client writes through the server's reader.
func TestServerReadsRequests(t *testing.T) {
	f := func(text []byte, e wire.Encoding, check func(*wire.Request) bool) {
		t.Helper()
		r, fault := wire.DecodeRequest(text, e)
		if fault != nil || r.ID != "9" || !check(&r) {
			t.Errorf("%s: %+v %v", text, r, fault)
		}
	}
	s := Subscription{Tokens: []market.ID{1, 1027}, View: "full", Rate: "0.5", Deadband: 5, Shape: "array", Digits: "compact", Numbers: "string"}
	f(s.Request("9"), wire.EncodingJSON, func(r *wire.Request) bool {
		return len(r.Tokens) == 2 && r.Rate == wire.RateHalf && r.Deadband == 5 && r.Format.Shape == wire.ShapeArray && r.Format.View == market.ViewFull
	})
	s = Subscription{All: true, Mode: "every", Fields: []market.Field{market.FieldPrice}, From: &Channel{epoch: "k3", pos: 7, whole: true}}
	f(s.Request("9"), wire.EncodingBinary, func(r *wire.Request) bool { return r.All && r.Every && r.Since.Epoch == "k3" && r.Since.Seq == 7 })
	s = Subscription{Top: &Top{By: "velocity", N: 50}, Rate: RateAuto}
	f(s.Request("9"), wire.EncodingBinary, func(r *wire.Request) bool { return r.Top.N == 50 && r.Rate == wire.RateAuto })
	zero := 0
	u := Update{Rate: RateTick, Deadband: &zero, Digits: "full"}
	f(u.Request("9", 7), wire.EncodingBinary, func(r *wire.Request) bool {
		return r.Sub == 7 && *r.Update.Rate == wire.RateTick && *r.Update.Deadband == 0
	})
	v := request{Op: "verify", Sub: 7, Tokens: []market.ID{1}, Heal: true}
	f(v.with("9"), wire.EncodingJSON, func(r *wire.Request) bool { return r.Sub == 7 && r.Heal && r.Tokens[0] == 1 })
}
