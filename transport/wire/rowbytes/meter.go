package main

import (
	"bytes"
	"cmp"
	"math/rand/v2"
	"slices"

	"github.com/klauspost/compress/flate"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// meter counts the bytes of one encoding for one audience.
type meter struct {
	audience, name string
	format         wire.Format
	choose         func(b *market.Board) []map[market.ID]bool // nil: the whole market

	lists                        []map[market.ID]bool
	rows, messages               int
	body, whole, deflated, floor int
	packer                       *flate.Writer
}

// newMeters returns the meters of every encoding, for the whole market and for
// lists of 20 tokens.
func newMeters(lists int) (all []*meter) {
	audiences := []struct {
		name   string
		choose func(b *market.Board) []map[market.ID]bool
	}{
		{"whole market", nil},
		{"20 tokens", func(b *market.Board) []map[market.ID]bool { return choose(b, lists) }},
	}
	for _, a := range audiences {
		for _, digits := range []wire.Digits{wire.DigitsCompact, wire.DigitsFull} {
			for _, kind := range []string{"binary", "array", "object"} {
				f := wire.ViewFormat(market.ViewQuote)
				f.Digits = digits
				switch kind {
				case "binary":
					f.Encoding = wire.EncodingBinary
				case "array":
					f.Shape = wire.ShapeArray
				}
				all = append(all, &meter{audience: a.name, name: kind + ", " + digits.String(), format: f, choose: a.choose})
			}
		}
	}
	return all
}

// choose draws lists of 20 tokens, the same for every encoding.
func choose(b *market.Board, lists int) (out []map[market.ID]bool) {
	var ids []market.ID
	for s := range b.All {
		ids = append(ids, s.ID)
	}
	slices.Sort(ids)
	rng := rand.New(rand.NewPCG(1, 1))
	for range lists {
		list := make(map[market.ID]bool)
		for len(list) < min(20, len(ids)) {
			list[ids[rng.IntN(len(ids))]] = true
		}
		out = append(out, list)
	}
	return out
}

// tick encodes one tick against the board before it.
func (m *meter) tick(t *market.Tick, old *market.Board) {
	var changes []*market.Change
	for c := range t.Changes {
		changes = append(changes, c)
	}
	slices.SortFunc(changes, func(a, b *market.Change) int { return cmp.Compare(a.Snap.ID, b.Snap.ID) })
	if m.choose == nil {
		m.message(t, old, changes)
		return
	}
	if m.lists == nil {
		m.lists = m.choose(t.Board)
	}
	for _, list := range m.lists {
		var own []*market.Change
		for _, c := range changes {
			if list[c.Snap.ID] {
				own = append(own, c)
			}
		}
		m.message(t, old, own)
	}
}

// message encodes one message; without rows there is none.
func (m *meter) message(t *market.Tick, old *market.Board, changes []*market.Change) {
	p := wire.Parts{Head: wire.HeadOf(t.Board, 1), Emit: func(part []byte, _ bool) {
		m.whole += len(part)
		m.deflated += m.deflate(part)
	}}
	p.Head.Encoding, p.Head.Prev = m.format.Encoding, t.Board.Seq-1
	last, some := market.ID(0), false
	var row []byte
	for _, c := range changes {
		before := old.Token(c.Snap.ID)
		if m.format.Encoding == wire.EncodingBinary {
			row = wire.AppendBinary(row[:0], c.Snap, before, c.Mask, &m.format, t.Board.Source)
		} else {
			row = wire.AppendRow(row[:0], c.Snap, m.mask(c, before), &m.format, t.Board.Source)
		}
		if len(row) == 0 {
			continue
		}
		some = true
		m.rows++
		m.body += len(row)
		if m.format.Encoding == wire.EncodingBinary {
			m.body += varint(uint64(c.Snap.ID - last))
		} else {
			m.body++ // the comma
		}
		last = c.Snap.ID
		m.floor += m.least(c, before)
		p.RowOf(c.Snap.ID, row)
	}
	if some {
		p.End(nil)
		m.messages++
	}
}

// mask is what of a change the row tells: in compact rows not what looks the same.
func (m *meter) mask(c *market.Change, before *market.Snapshot) market.Mask {
	if m.format.Digits == wire.DigitsFull || before == nil || c.Mask == market.AllFields {
		return c.Mask
	}
	return wire.Differing(c.Snap, before, c.Mask, &m.format)
}

// least is what the changes of a row take as plain numbers.
func (m *meter) least(c *market.Change, before *market.Snapshot) int {
	n := 1
	for f := range (c.Mask & m.format.Fields & market.NumericFields).Fields() {
		v, was := c.Snap.Value(f), market.Decimal{}
		if before != nil {
			was = before.Value(f)
		}
		if v = shown(f, v, m.format.Digits); v.IsNull() {
			n++
			continue
		}
		d, _ := difference(v, shown(f, was, m.format.Digits))
		if d != 0 || v.IsNull() {
			n += varint(uint64(d)<<1 ^ uint64(d>>63))
		}
	}
	return n
}

// deflate returns the size of one compressed message, as permessage-deflate
// without context takeover sends it.
func (m *meter) deflate(p []byte) int {
	var out bytes.Buffer
	if m.packer == nil {
		m.packer, _ = flate.NewWriter(&out, 1) // the level is valid
	}
	m.packer.Reset(&out)
	_, _ = m.packer.Write(p)
	_ = m.packer.Flush()
	return out.Len() - 4 // the empty block at the end is not sent
}

func varint(n uint64) int {
	size := 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}
