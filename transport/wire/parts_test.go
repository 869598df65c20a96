package wire

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
)

// TestParts cuts messages of all sizes and puts them together again.
func TestParts(t *testing.T) {
	f := func(rows, size, removed int, snapshot bool) {
		t.Helper()
		row := []byte(`{"id":1,"x":"` + strings.Repeat("x", size) + `"}`)
		got, names, ended := 0, 0, false
		p := Parts{Head: Head{Snapshot: snapshot, Channel: 1, Seq: 9, Prev: 8}}
		p.Emit = func(part []byte, more bool) {
			var m struct {
				Rows    []json.RawMessage
				More    bool
				Removed []market.ID
			}
			if err := json.Unmarshal(part, &m); err != nil || m.More != more || ended {
				t.Fatalf("%v: %.200s", err, part)
			}
			if len(part) > MaxPart && len(m.Rows) > 1 {
				t.Fatalf("a part of %d bytes", len(part))
			}
			got, names, ended = got+len(m.Rows), names+len(m.Removed), !more
		}
		for range rows {
			fits := p.Fits(len(row))
			pending := p.Pending()
			p.Row(row)
			if pending && !fits && p.rows != 1 {
				t.Fatal("Fits was wrong")
			}
		}
		ids := make([]market.ID, removed)
		for i := range ids {
			ids[i] = 1<<32 - 1
		}
		p.End(ids)
		if got != rows || !ended || !snapshot && names != removed {
			t.Fatalf("%d rows, %d removed, ended %v", got, names, ended)
		}
	}
	for size := range 40 {
		f(400, size, size, false)
		f(400, 300+size, 0, true)
		f(48, 300+size, 50, false)
	}
	f(0, 0, 0, true)
	f(0, 0, 1000, false)
	f(100, 100, 1000, false)
	f(3, 20<<10, 3, false)
}
