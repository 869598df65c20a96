package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/tick"
	"github.com/velocimeter/velocimeter/persist"
)

// While ticks are kept, the past is what was shown, field by field, at every tick
// and between: through polls that lack or spoil values, values that grow old,
// tokens that stand still, retire and return.
func TestPastIsWhatWasShown(t *testing.T) {
	u := runHard(t, hardSeries(t))
	store, err := persist.Open(persist.Options{
		Dir: filepath.Join(t.TempDir(), "data"), Lineage: "hard", Retention: persist.Retention{Ticks: 900 * market.Day},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := store.Reserve(5000); err != nil {
		t.Fatal(err)
	}
	filed := make([]market.Time, len(u.ticks))
	u.run(func(tk *market.Tick, m *tick.Machine) {
		if err := store.Append(tk); err != nil {
			t.Fatal(err)
		}
		filed[tk.Env.Seq] = max(tk.Env.Now, filed[tk.Env.Seq-1]+1)
	})
	if _, err := store.Commit(); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	quoted := map[market.ID]market.Time{}
	compared, last := 0, u.boards[u.last()]
	for seq := uint64(1); seq <= u.last(); seq++ {
		for c := range u.ticks[seq].Changes {
			if c.Quote != nil {
				quoted[c.Snap.ID] = filed[seq]
			}
		}
		instants := []market.Time{filed[seq]}
		if seq < u.last() {
			if pause := int64(filed[seq+1] - filed[seq]); pause > 1 {
				instants = append(instants, filed[seq]+market.Time(rng.Int64N(min(pause, int64(market.Hour)))))
			}
		}
		for _, at := range instants {
			q := market.PastQuery{At: at}
			if rng.IntN(2) == 0 {
				q.Alive = aliveOf(last, at)
			}
			p, err := store.Past(context.Background(), q)
			if err != nil {
				t.Fatal(err)
			}
			compared += comparePast(t, at, p, u.boards[seq], quoted)
			if t.Failed() {
				t.Fatalf("at %d, %d ms after tick %d", at, at-filed[seq], seq)
			}
		}
	}
	if compared < 5000 {
		t.Errorf("only %d tokens were compared", compared)
	}
}

func aliveOf(b *market.Board, at market.Time) (alive []market.Alive) {
	for s := range b.All {
		alive = append(alive, market.Alive{ID: s.ID, First: s.VersionBase()})
	}
	for _, r := range b.Tombstones {
		if r.Time >= at {
			alive = append(alive, market.Alive{ID: r.ID})
		}
	}
	return alive
}

// comparePast holds a market of the past against the board of then, of which it
// shows the tokens that were heard of within the look-back.
func comparePast(t *testing.T, at market.Time, p *market.PastMarket, board *market.Board, quoted map[market.ID]market.Time) (n int) {
	t.Helper()
	for i := range p.Tokens {
		got := p.Tokens[i].Snap
		want := board.Token(got.ID)
		if want == nil || p.Tokens[i].Granularity != market.GranularityRaw {
			t.Errorf("token %d of %v was not there", got.ID, p.Tokens[i].Granularity)
			continue
		}
		n++
		for f := market.Field(1); f <= market.NumNumeric; f++ {
			if market.KeptFields(market.GranularityRaw).Has(f) && got.Value(f) != want.Value(f) {
				t.Errorf("token %d: %v was %v, not %v", got.ID, f, want.Value(f), got.Value(f))
			}
		}
		if got.ReceivedAt != want.ReceivedAt {
			t.Errorf("token %d: received at %d, not %d", got.ID, want.ReceivedAt, got.ReceivedAt)
		}
	}
	known := 0
	for s := range board.All {
		if quoted[s.ID] > at.Add(-market.PastLookBack) {
			known++
		}
	}
	if len(p.Tokens) != known {
		t.Errorf("%d tokens of %d", len(p.Tokens), known)
	}
	return n
}

// A running server shows again what it showed, when asked for the time of a tick
// or of shortly after it; nobody can ask for what is yet to come.
func TestServedPast(t *testing.T) {
	s := startServer(t, filepath.Join(t.TempDir(), "data"), "--market-tokens", "60", "--market-tick", "100ms")
	const list = "/api/v1/tokens?limit=60&fields=id,symbol,price,market_cap,volume_24h,velocity,velocity_method,velocity_reason,percent_change," +
		"rank,flags,circulating_supply,total_supply,max_supply,fully_diluted_market_cap,dominance_pct,freshness,updated_at,provenance.source_time,received_at"
	boards, seq := map[uint64]string{}, uint64(0)
	for len(boards) < 12 {
		body := s.until(list, func(_ int, body string) bool { return decode(t, body).Meta.Seq > seq })
		m := decode(t, body)
		seq = m.Meta.Seq
		boards[seq] = string(m.Data)
	}
	var points struct {
		Points []struct {
			Time time.Time
			Seq  uint64
		}
	}
	s.until("/api/v1/tokens/1/history?range=1h&granularity=raw&limit=10000", func(_ int, body string) bool {
		if err := json.Unmarshal(decode(t, body).Data, &points); err != nil {
			t.Fatal(err)
		}
		return points.Points[len(points.Points)-1].Seq > seq
	})
	compared := 0
	for i, p := range points.Points[:len(points.Points)-1] {
		want, known := boards[p.Seq]
		if !known || points.Points[i+1].Seq != p.Seq+1 {
			continue
		}
		compared++
		for _, at := range []int64{p.Time.UnixMilli(), points.Points[i+1].Time.UnixMilli() - 1} {
			code, body := s.get(fmt.Sprintf("%s&at=%d", list, at))
			got := strings.ReplaceAll(string(decode(t, body).Data), `,"granularity":"raw"`, "")
			if code != http.StatusOK || decode(t, body).Meta.Seq != p.Seq || got != want {
				t.Fatalf("at tick %d: %d\n%s\nshown was\n%s", p.Seq, code, body, want)
			}
			_, one := s.get(fmt.Sprintf("/api/v1/tokens/bitcoin?at=%d", at))
			if data := string(decode(t, one).Data); !strings.HasPrefix(data, `{"id":1,"symbol":"BTC","name":"Bitcoin"`) {
				t.Fatalf("bitcoin at tick %d: %s", p.Seq, one)
			}
		}
	}
	if compared < 3 {
		t.Errorf("only %d boards could be compared", compared)
	}
	if code, body := s.get("/api/v1/tokens?at=2100-01-01T00:00:00Z"); code != http.StatusBadRequest || !strings.Contains(body, "newest durable tick") {
		t.Errorf("the future: %d %s", code, body)
	}
	if code, body := s.get("/api/v1/tokens/1?at=2001-01-01T00:00:00Z"); code != http.StatusNotFound || !strings.Contains(body, "the oldest time to ask for is 20") {
		t.Errorf("long ago: %d %s", code, body)
	}
	if o := s.stop(); o.code != 0 {
		t.Errorf("exit %d: %s", o.code, o.stderr)
	}
}
