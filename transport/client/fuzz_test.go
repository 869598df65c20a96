package client

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
)

// examples returns a snapshot and two deltas that follow it.
func examples(encode func(*message, *Layout) ([]byte, bool), l *Layout) [][]byte {
	rng := rand.New(rand.NewPCG(1, 2))
	w := world{}
	for id := range market.ID(3) {
		w[id+1] = l.randomRow(rng)
	}
	head := message{ch: 12, sourceTime: 1763661599000, receivedAt: 1763661599100, source: market.SourceMarket}
	m := head
	m.snapshot, m.absolute, m.seq, m.rows, m.now = true, true, 812, w.ids(), w
	var out [][]byte
	text, _ := encode(&m, l)
	out = append(out, text)
	for seq := uint64(813); seq < 815; seq++ {
		next, changed, removed := w.step(rng, l)
		m := head
		m.seq, m.prev, m.rows, m.masks, m.now, m.before, m.removed = seq, seq-1, next.ids(), changed, next, w, removed
		text, _ := encode(&m, l)
		out = append(out, text)
		w = next
	}
	return out
}

// fuzzBytes applies arbitrary bytes to a decoder that has rows, and looks at
// everything that it then holds.
func fuzzBytes(f *testing.F, bin bool, options string, encode func(*message, *Layout) ([]byte, bool)) {
	valid := examples(encode, joined(f, options).Channel(12).Layout())
	for _, text := range valid {
		f.Add(text, text)
	}
	if !bin {
		f.Add([]byte(`{"type":"subscribed","sub":8,"ch":12,"recovered":true,"effective":{"view":"full"}}`), []byte(`{"type":"unsubscribed","sub":7}`))
		f.Add([]byte(`{"type":"effective","sub":7,"ch":15,"from":12,"rate":0.5}`), []byte(`{"type":"checksums","ch":12,"seq":812,"items":[[1,"9f3a01bc"]]}`))
		f.Add([]byte(`{"type":"stale","ch":12,"tokens":[1],"age_ms":190000}`), []byte(`{"type":"heartbeat","ch":12,"seq":829}`))
	}
	f.Fuzz(func(t *testing.T, one, two []byte) {
		d := joined(t, options)
		d.limits = Limits{Message: 1 << 20, Channels: 4, Tokens: 50, Text: 4096}
		if _, err := d.Apply(valid[0], bin); err != nil {
			t.Fatal(err)
		}
		for _, text := range [][]byte{one, two} {
			ev, err := d.Apply(text, bin)
			_, protocol := errors.AsType[*ProtocolError](err)
			_, gap := errors.AsType[*GapError](err)
			if err != nil && !protocol && !gap && !errors.Is(err, ErrLimit) {
				t.Fatalf("an error of no kind: %v", err)
			}
			if err == nil {
				for _, c := range ev.Data.Changes {
					_ = ev.Row(c).ID()
				}
			}
		}
		rows := 0
		for _, c := range d.channels {
			rows += c.Len()
			look(t, c)
		}
		if rows > 50 || rows != d.rows && d.broken == nil {
			t.Fatalf("%d rows, counted %d", rows, d.rows)
		}
	})
}

func look(t *testing.T, c *Channel) {
	for r := range c.Rows() {
		for f := range market.NumericFields.Fields() {
			v := r.Value(f)
			if n := len(v.String()); n > 256 {
				t.Fatalf("%s of %d characters", f, n)
			}
			if f.Spec().Kind == market.KindDecimal && !v.IsNull() && v != market.NewDecimal(v.Mant, v.Exp) {
				t.Fatalf("%s is not normalised: %+v", f, v)
			}
			_ = r.Name(f)
		}
		r.Checksum()
	}
}

func FuzzBinary(f *testing.F) {
	fuzzBytes(f, true, `"view":"full","digits":"compact"`, func(m *message, l *Layout) ([]byte, bool) { return m.binary(l), true })
}

func FuzzJSON(f *testing.F) {
	fuzzBytes(f, false, `"view":"quote"`, func(m *message, l *Layout) ([]byte, bool) { return m.json(l, m.seq == 813), false })
}

// FuzzWalk encodes random ticks and decodes them again.
func FuzzWalk(f *testing.F) {
	f.Add(uint64(1), uint8(0))
	names := []string{"binary quote", "binary full", "binary compact", "binary ranked", "object", "array"}
	f.Fuzz(func(t *testing.T, seed uint64, n uint8) {
		w := walks[names[int(n)%len(names)]]
		walk(t, seed, w.options, 12, w.encode)
	})
}

// FuzzNumber compares the fast reading of numbers with the strict one.
func FuzzNumber(f *testing.F) {
	for _, s := range []string{"0", "-0", "1.5", "1.", ".5", "01", "0.0001", "-12e3", "123456789012345678", "1234567890123456789.5", "00.1", "1..2", "0.12345678901234567890"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s := scanner{b: text}
		got := s.number()
		if s.bad == "" {
			text = text[:s.at]
		}
		want, _, err := market.ParseDecimal(text)
		if s.bad == "" && (err != nil || got != want) {
			t.Fatalf("%q is %v, not %v, %v", text, got, want, err)
		}
		if s.bad != "" && err == nil {
			t.Fatalf("%q: %s, but it is %v", text, s.bad, want)
		}
	})
}
