package recording

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
)

// What is read of any text keeps the promises of a batch.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"last_updated":"2025-10-31T16:36:28.443Z","source":"coinlore","coins":[{"symbol":"BTC","price_usd":1.5,"rank":1,"volume_24h":null}]}`))
	f.Add([]byte(`{"generated_at":"2026-06-24T11:26:58.6+00:00","kaynak":"CoinMarketCap","coins":[]}` + "\n{}"))
	f.Add([]byte(`{"status":{"timestamp":"2021-06-29T00:23:45Z"},"data":[{"id":1,"symbol":"A","quote":{"USD":{"price":5}}}]}`))
	f.Add([]byte("{\n\"data\":[]}"))
	f.Add([]byte(`{"received_at":"2026-01-01T00:00:00Z","source":"market","cadence_ms":6000,"simulated":true,"answers":[{"data":[{"id":1,"symbol":"A","quote":{"USD":{"price":5}}}]},{"data":[]}]}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		in, err := newText(bytes.NewReader(data))
		if err != nil {
			return
		}
		var d decoder
		for {
			line, err := in.next()
			if err != nil {
				return
			}
			b, err := d.decode(line)
			if err != nil {
				continue
			}
			if !json.Valid(line) || b.ReceivedAt <= 0 {
				t.Fatalf("%q was taken, time %d", line, b.ReceivedAt)
			}
			seen := map[market.ID]bool{}
			for i := range b.Quotes {
				q := &b.Quotes[i]
				if q.ID == 0 || q.SourceTime == 0 || q.Info == nil || q.Info.Symbol == "" || seen[q.ID] {
					t.Fatalf("row %d of %q broke its promises: %+v", i, line, q)
				}
				seen[q.ID] = true
			}
		}
	})
}
