package socketio

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/wire/wiretest"
)

// TestWalk lets clients subscribe, read slowly, lose their connections anywhere and
// come back, and compares what they hold with the market in the end.
func TestWalk(t *testing.T) {
	seeds := uint64(12)
	if testing.Short() {
		seeds = 3
	}
	var recovered uint64
	for seed := range seeds {
		virtually(t, Config{}, fanout.Config{Batch: 2 << 10}, func(r *rig) {
			rng := rand.New(rand.NewPCG(seed, 7))
			r.m.Churn, r.m.Moving, r.m.Keep = 0.05, 0.3, true
			defer func() {
				if r.t.Failed() {
					t.Errorf("seed %d", seed)
				}
			}()
			clients := make([]*holder, 4)
			for i := range clients {
				clients[i] = &holder{rig: r, rng: rng}
				clients[i].begin()
			}
			for range 150 {
				r.tick()
				pause(time.Duration(rng.IntN(1500)) * time.Millisecond)
				for _, h := range clients {
					h.step()
				}
			}
			for _, h := range clients {
				h.settle()
			}
			recovered += r.s.recovered.Load()
		})
		if t.Failed() {
			return
		}
	}
	if recovered < 20 {
		t.Errorf("%d recoveries", recovered)
	}
}

// holder is a client with what it holds: one token's row, and the market's.
type holder struct {
	*rig
	rng    *rand.Rand
	peer   *peer
	hello  hello
	offset string
	flight []string // packets that are on their way
	token  wiretest.Row
	rows   map[market.ID]wiretest.Row
	whole  bool // the snapshot came to its end
}

const held = 3 // the token

func (h *holder) begin() {
	h.peer, h.hello = h.connect("")
	h.token, h.rows, h.whole, h.offset = nil, map[market.ID]wiretest.Row{}, false, ""
	h.flight = h.peer.say(fmt.Sprintf(`2["subscribe_token",%d,{"view":"velocity","rate":1}]`, held), `2["subscribe_token","*",{"view":"velocity","rate":2}]`)
}

// step does something of what may happen to a client.
func (h *holder) step() {
	h.flight = append(h.flight, h.peer.take()...)
	if h.peer.closed() { // Stall, for one that read too slowly
		h.comeBack()
		return
	}
	switch h.rng.IntN(12) {
	case 0:
		h.read(h.rng.IntN(len(h.flight) + 1))
		h.peer.drop()
		synctest.Wait()
		h.comeBack()
	case 1:
		h.comeBack() // the server does not know yet
	case 2, 3:
		h.read(h.rng.IntN(len(h.flight) + 1))
	case 4:
		h.peer.mu.Lock()
		h.peer.slow = !h.peer.slow
		h.peer.mu.Unlock()
	default:
		h.peer.written()
		h.read(len(h.flight))
	}
}

// comeBack connects again; what was on its way is lost.
func (h *holder) comeBack() {
	h.flight = nil
	p, again := h.connect(back(h.hello.PID, h.offset))
	if again != h.hello {
		h.begin()
		return
	}
	h.peer, h.flight = p, p.take()
}

// read takes packets off the wire.
func (h *holder) read(n int) {
	for _, text := range h.flight[:n] {
		if text[0] != '2' {
			continue
		}
		d := parse(h.t, text)
		if d.Offset != "" {
			h.offset = d.Offset
		}
		switch d.Name {
		case "token_update":
			h.token = merge(h.token, &d, d.Token)
		case "bulk_update":
			h.bulk(&d)
		case "error_event":
			h.t.Errorf("got %s", text)
		}
	}
	h.flight = h.flight[n:]
}

func (h *holder) bulk(d *data) {
	if d.Type == "snapshot" && h.whole {
		h.rows, h.whole = map[market.ID]wiretest.Row{}, false
	}
	for _, row := range d.Rows {
		var id market.ID
		if err := json.Unmarshal(row["id"], &id); err != nil {
			h.t.Error(err)
		}
		h.rows[id] = merge(h.rows[id], d, row)
	}
	for _, id := range d.Removed {
		delete(h.rows, id)
	}
	h.whole = h.whole || d.Type == "snapshot" && !d.More
}

// merge returns a row after an update.
func merge(row wiretest.Row, d *data, news map[string]json.RawMessage) wiretest.Row {
	if news == nil {
		return nil
	}
	if row == nil || d.Type == "snapshot" {
		row = wiretest.Row{}
	}
	row["source"] = string(d.Source) // unless the row says otherwise
	for name, value := range news {
		row[name] = string(value)
	}
	return row
}

// settle lets everything arrive and compares.
func (h *holder) settle() {
	h.peer.mu.Lock()
	h.peer.slow = false
	h.peer.mu.Unlock()
	for range 40 {
		if h.peer.closed() { // as one that read too slowly
			h.comeBack()
		}
		h.peer.written()
		h.flight = append(h.flight, h.peer.take()...)
		pause(time.Second)
	}
	h.read(len(h.flight))
	f, b := wire.ViewFormat(market.ViewVelocity), h.m.Board()
	if err := wiretest.Diff(b, nil, &f, h.rows); err != nil {
		h.t.Errorf("market: %v", err)
	}
	if h.token != nil || b.Token(held) != nil {
		rows := map[market.ID]wiretest.Row{}
		if h.token != nil {
			rows[held] = h.token
		}
		if err := wiretest.Diff(b, func(id market.ID) bool { return id == held }, &f, rows); err != nil {
			h.t.Errorf("token: %v", err)
		}
	}
}
