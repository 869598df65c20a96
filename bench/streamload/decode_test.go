//go:build linux

package main

import (
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// The heads that the generator reads are those that the server writes.
func TestHeads(t *testing.T) {
	f := func(e wire.Encoding, shape wire.Shape, snapshot bool, rows int) {
		t.Helper()
		p := wire.Parts{Head: wire.Head{Encoding: e, Snapshot: snapshot, Channel: 3, Seq: 900, Prev: 897, SourceTime: 1_763_640_000_000, ReceivedAt: 1_763_639_999_900}}
		p.Emit = func(part []byte, more bool) {
			read := jsonHead
			if e == wire.EncodingBinary {
				read = binaryHead
			}
			h, ok := read(part)
			want := head{snapshot: snapshot, more: more, seq: 900, receivedAt: 1_763_639_999_900, rows: int64(rows)}
			if !snapshot {
				want.prev = 897
			}
			if !ok || h != want {
				t.Errorf("%+v %v, want %+v", h, ok, want)
			}
		}
		format := wire.ViewFormat(market.ViewQuote)
		format.Encoding, format.Shape = e, shape
		for i := range rows {
			s := &market.Snapshot{ID: market.ID(i + 1), Info: &market.Info{Symbol: "T"}}
			if e == wire.EncodingBinary {
				p.RowOf(s.ID, wire.AppendBinary(nil, s, nil, market.FieldPrice.Bit(), &format, market.SourceMarket))
			} else {
				p.RowOf(s.ID, wire.AppendRow(nil, s, market.FieldPrice.Bit(), &format, market.SourceMarket))
			}
		}
		p.End(nil)
	}
	for rows := range 4 {
		for _, snapshot := range []bool{false, true} {
			f(wire.EncodingBinary, wire.ShapeObject, snapshot, rows)
			f(wire.EncodingJSON, wire.ShapeObject, snapshot, rows)
			f(wire.EncodingJSON, wire.ShapeArray, snapshot, rows)
		}
	}
}

// FuzzFrames feeds what a server may send: nothing panics or reads past the end.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{0x82, 3, 1, 2, 3})
	f.Add([]byte{0x81, 126, 0, 1, 'x'})
	f.Fuzz(func(_ *testing.T, p []byte) {
		if _, body, size := serverFrame(p); size > 0 {
			_, _ = binaryHead(body)
			_, _ = jsonHead(body)
		}
		_, _ = binaryHead(p)
		_, _ = jsonHead(p)
	})
}

func TestQuantile(t *testing.T) {
	var h histogram
	for us := range int64(100_000) {
		h.add(us)
	}
	f := func(q, want float64) {
		t.Helper()
		if got := h.quantile(q); got < want*0.97 || got > want*1.03 {
			t.Errorf("quantile %g is %g ms, want about %g", q, got, want)
		}
	}
	f(0.5, 50)
	f(0.99, 99)
	f(0.001, 0.1)
}
