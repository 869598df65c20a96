package client

import (
	"math/rand/v2"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
)

// benchTick is the delta of a whole market in which every token moved.
func benchTick(b *testing.B, options string, encode func(*message, *Layout) ([]byte, bool)) {
	const tokens = 10_000
	rng := rand.New(rand.NewPCG(1, 2))
	d := joined(b, options)
	l := d.Channel(12).Layout()
	w := world{}
	for id := range market.ID(tokens) {
		w[id*3+1] = l.randomRow(rng)
		for f := range market.NumericFields.Fields() {
			if f.Spec().Kind == market.KindDecimal {
				v := market.NewDecimal(1+rng.Int64N(1e9), -4)
				w[id*3+1].vals[f] = l.show(f, v)
			}
		}
	}
	mask := market.MaskOf(market.FieldPrice, market.FieldMarketCap, market.FieldVolume24h, market.FieldPercentChange1h, market.FieldPercentChange24h) & l.fields
	masks := map[market.ID]market.Mask{}
	next, back := world{}, world{}
	for id, r := range w {
		moved := *r
		moved.vals[market.FieldSource], r.vals[market.FieldSource] = market.Decimal{Mant: 2}, market.Decimal{Mant: 2}
		for f := range mask.Fields() {
			moved.vals[f] = l.show(f, market.NewDecimal(r.vals[f].Mant+rng.Int64N(2000)-1000, r.vals[f].Exp))
		}
		next[id], back[id], masks[id] = &moved, r, mask
	}
	ids := w.ids()
	var ticks [2][][]byte
	var bin bool
	size := 0
	add := func(i int, m message) {
		const part = 400
		for n := 0; n < tokens; n += part {
			m.rows, m.more = ids[n:n+part], n+part < tokens
			m.ch, m.sourceTime, m.receivedAt, m.source = 12, 1763661599000, 1763661599100, market.SourceMarket
			var text []byte
			text, bin = encode(&m, l)
			ticks[i] = append(ticks[i], text)
			size += len(text)
		}
	}
	add(0, message{snapshot: true, absolute: true, seq: 1, now: back})
	for _, text := range ticks[0] {
		if _, err := d.Apply(text, bin); err != nil {
			b.Fatal(err)
		}
	}
	must(b, d, `{"type":"heartbeat","ch":12,"seq":1}`)
	ticks[0], size = nil, 0
	// Two ticks there and back at one seq repeat for ever.
	add(0, message{seq: 1, prev: 1, masks: masks, now: next, before: back})
	add(1, message{seq: 1, prev: 1, masks: masks, now: back, before: next})
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		for _, text := range ticks[n&1] {
			if _, err := d.Apply(text, bin); err != nil {
				b.Fatal(err)
			}
		}
		n++
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n)/tokens, "ns/row")
	b.ReportMetric(float64(size)/2/tokens, "B/row")
}

func BenchmarkBinaryCompact(b *testing.B) {
	benchTick(b, `"view":"quote","digits":"compact"`, func(m *message, l *Layout) ([]byte, bool) { return m.binary(l), true })
}

func BenchmarkBinaryFull(b *testing.B) {
	benchTick(b, `"view":"quote","digits":"full"`, func(m *message, l *Layout) ([]byte, bool) { return m.binary(l), true })
}

func BenchmarkBinaryAbsolute(b *testing.B) {
	benchTick(b, `"view":"quote","digits":"compact"`, func(m *message, l *Layout) ([]byte, bool) {
		m.absolute = true
		return m.binary(l), true
	})
}

func BenchmarkArray(b *testing.B) {
	benchTick(b, `"view":"quote","digits":"compact"`, func(m *message, l *Layout) ([]byte, bool) { return m.json(l, true), false })
}

func BenchmarkObject(b *testing.B) {
	benchTick(b, `"view":"quote","digits":"compact"`, func(m *message, l *Layout) ([]byte, bool) { return m.json(l, false), false })
}
