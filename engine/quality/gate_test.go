package quality_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/engine/enginetest"
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/quality"
	"github.com/velocimeter/velocimeter/engine/tick"
)

const shards = 2

// boardOf returns a board that shows exactly what a batch says.
func boardOf(b *market.Batch) *market.Board {
	m := tick.NewMachine(tick.Config{Epoch: "test", Shards: shards, NextSeq: 1})
	m.Poll(b, b.ReceivedAt, func(*market.Tick) {})
	return m.Engine.Board()
}

func batch(n int, at market.Time) *market.Batch {
	b := &market.Batch{Source: market.SourceCoinMarketCap, ReceivedAt: at, Cadence: market.Minute}
	for i := range n {
		b.Quotes = append(b.Quotes, market.Quote{
			ID: market.ID(i + 1), Info: info(i), Has: market.AllFields, SourceTime: at,
			Price: market.NewDecimal(int64(1001+7*i), -2), MarketCap: market.FromInt(int64(100003 + i)), Volume24h: market.FromInt(int64(5003 + i)),
			PercentChange1h: market.NewDecimal(123456789, -8), PercentChange24h: market.Null, PercentChange7d: market.Null,
			CirculatingSupply: market.FromInt(7), TotalSupply: market.FromInt(7), MaxSupply: market.Null,
			FullyDiluted: market.FromInt(9), Dominance: market.Null,
			SelfReportedCap: market.Null, SelfReportedSupply: market.Null, Rank: uint32(i + 1),
		})
	}
	return b
}

var infos = map[int]*market.Info{}

func info(i int) *market.Info {
	if infos[i] == nil {
		infos[i] = &market.Info{Symbol: fmt.Sprint("T", i)}
	}
	return infos[i]
}

// TestGateOne judges one poll of 20 rows after a good one.
func TestGateOne(t *testing.T) {
	start := enginetest.DirtStart
	f := func(name string, want market.Verdict, spoil func(b *market.Batch)) {
		t.Helper()
		g := quality.NewGate(quality.Config{})
		first := batch(20, start)
		if r := g.Check(first, nil, start); r.Verdict != market.Accepted {
			t.Fatalf("first poll is %s: %s", r.Verdict, r.Reason)
		}
		board := boardOf(first)
		next := batch(20, start+60000)
		spoil(next)
		r := g.Check(next, board, next.ReceivedAt)
		if r.Verdict != want || (want == market.Poisoned) != (r.Reason != "") || (want == market.Poisoned) != (len(g.Rejections()) == 1) {
			t.Errorf("%s: verdict %s (%q, %d listed), want %s", name, r.Verdict, r.Reason, len(g.Rejections()), want)
		}
		if len(r.Positions) != len(next.Quotes) {
			t.Fatalf("%s: %d positions for %d quotes", name, len(r.Positions), len(next.Quotes))
		}
		for i, p := range r.Positions {
			id := next.Quotes[i].ID
			switch {
			case p >= 0 && board.Shards[market.ShardOf(id, shards)][p].ID != id:
				t.Errorf("%s: position %d of token %d is another token's", name, p, id)
			case p == quality.NewRow && board.Token(id) != nil:
				t.Errorf("%s: token %d is not new", name, id)
			}
		}
	}
	each := func(n int, do func(q *market.Quote)) func(*market.Batch) {
		return func(b *market.Batch) {
			for i := range n {
				do(&b.Quotes[i])
			}
		}
	}

	f("the same", market.Unchanged, func(*market.Batch) {})
	f("the same in another order", market.Unchanged, func(b *market.Batch) {
		rand.New(rand.NewPCG(1, 1)).Shuffle(len(b.Quotes), func(i, j int) { b.Quotes[i], b.Quotes[j] = b.Quotes[j], b.Quotes[i] })
	})
	f("a second row of an id", market.Unchanged, func(b *market.Batch) { b.Quotes = append(b.Quotes, b.Quotes[3]) })
	f("a price", market.Accepted, each(1, func(q *market.Quote) { q.Price = market.FromInt(77) }))
	f("a rank", market.Accepted, each(1, func(q *market.Quote) { q.Rank = 99 }))
	f("a name", market.Accepted, each(1, func(q *market.Quote) { q.Info = &market.Info{Symbol: "X"} }))
	f("digits that are not shown", market.Unchanged, each(1, func(q *market.Quote) { q.PercentChange1h = market.NewDecimal(123456788, -8) }))
	f("a member that is missing", market.Unchanged, each(9, func(q *market.Quote) { q.Has, q.Price = q.Has&^1, market.Null }))
	f("a new token", market.Accepted, func(b *market.Batch) { b.Quotes = append(b.Quotes, batch(21, b.ReceivedAt).Quotes[20]) })
	f("four zero prices", market.Accepted, each(4, func(q *market.Quote) { q.Price = market.Decimal{} }))
	f("five zero prices", market.Poisoned, each(5, func(q *market.Quote) { q.Price = market.Decimal{} }))
	f("five null volumes", market.Poisoned, each(5, func(q *market.Quote) { q.Volume24h = market.Null }))
	f("five negative caps", market.Poisoned, each(5, func(q *market.Quote) { q.MarketCap = market.FromInt(-1) }))
	f("five null percentages", market.Accepted, each(5, func(q *market.Quote) { q.PercentChange1h = market.Null }))
	f("five dollars", market.Accepted, each(5, func(q *market.Quote) { q.Price = market.FromInt(1) }))
	same := func(q *market.Quote) {
		q.Price, q.MarketCap, q.Volume24h = market.FromInt(1), market.FromInt(2), market.FromInt(3)
	}
	f("four equal rows", market.Accepted, each(4, same))
	f("five equal rows", market.Poisoned, each(5, same))
	f("four missing", market.Accepted, func(b *market.Batch) { b.Quotes = b.Quotes[4:] })
	f("five missing", market.Poisoned, func(b *market.Batch) { b.Quotes = b.Quotes[5:] })
	f("one row", market.Poisoned, func(b *market.Batch) { b.Quotes = b.Quotes[:1] })
	f("no rows", market.Poisoned, func(b *market.Batch) { b.Quotes = nil })
	f("rows of another provider's", market.Accepted, func(b *market.Batch) { b.Source = market.SourceCoinLore })
}

// TestGateFirst says that a first poll of equal rows is refused and that no
// first poll is refused for what is missing or zero.
func TestGateFirst(t *testing.T) {
	f := func(want market.Verdict, n int, spoil func(q *market.Quote)) {
		t.Helper()
		b := batch(n, enginetest.DirtStart)
		for i := range b.Quotes {
			spoil(&b.Quotes[i])
		}
		if r := quality.NewGate(quality.Config{}).Check(b, nil, b.ReceivedAt); r.Verdict != want {
			t.Errorf("verdict %s (%s), want %s", r.Verdict, r.Reason, want)
		}
	}
	zero := func(q *market.Quote) {
		q.Price, q.MarketCap, q.Volume24h = market.Decimal{}, market.Decimal{}, market.Decimal{}
	}
	f(market.Accepted, 20, func(*market.Quote) {})
	f(market.Accepted, 20, func(q *market.Quote) { q.Volume24h = market.Null })
	f(market.Accepted, 20, func(q *market.Quote) { q.Price, q.MarketCap, q.Volume24h = market.Null, market.Null, market.Null })
	f(market.Poisoned, 20, zero)
	f(market.Accepted, 9, zero)
}

// TestGateMissing follows polls of a list of 20: a letter stands for a set of
// rows that is missing, a point for a poll that lacks none and changes
// something, = for one that repeats the board, 0 for one full of zeros.
func TestGateMissing(t *testing.T) {
	f := func(polls, want string) {
		t.Helper()
		g := quality.NewGate(quality.Config{})
		first := batch(20, enginetest.DirtStart)
		g.Check(first, nil, first.ReceivedAt)
		board := boardOf(first)
		var got []byte
		for i, p := range polls {
			b := batch(20, first.ReceivedAt.Add(market.Millis(i+1)*market.Minute))
			switch p {
			case 'a':
				b.Quotes = b.Quotes[6:]
			case 'b':
				b.Quotes = b.Quotes[:13]
			case '.':
				b.Quotes[19].Price = market.FromInt(int64(i + 1000))
			case '0':
				for j := range b.Quotes {
					b.Quotes[j].Price = market.Decimal{}
				}
			}
			got = append(got, g.Check(b, board, b.ReceivedAt).Verdict.String()[0])
		}
		if string(got) != want {
			t.Errorf("%s: verdicts %s, want %s", polls, got, want)
		}
	}

	f("aaa", "ppa")
	f("aaaa", "ppau") // the shorter list is the list now
	f("aab", "ppp")
	f("aabab", "ppppp")
	f("aabbb", "pppp"+"a")
	f("aa.a", "ppap")
	f("aa=aa", "ppupp")
	f("aa0aaa", "pppppa")
	f("aaa.", "ppaa")
	f("aaa.aa", "ppaapp")
}

// TestGateStill follows a provider that repeats itself.
func TestGateStill(t *testing.T) {
	f := func(rows int, every market.Millis, timesGoOn bool, want ...bool) {
		t.Helper()
		g := quality.NewGate(quality.Config{})
		first := batch(rows, enginetest.DirtStart)
		g.Check(first, nil, first.ReceivedAt)
		board := boardOf(first)
		for i, confirmed := range want {
			at := first.ReceivedAt.Add(market.Millis(i+1) * every)
			b := batch(rows, at)
			if !timesGoOn {
				for j := range b.Quotes {
					b.Quotes[j].SourceTime = first.ReceivedAt
				}
			}
			r := g.Check(b, board, at)
			if r.Verdict != market.Unchanged || (r.Confirmed == at) != confirmed || (r.Confirmed == 0) == confirmed {
				t.Errorf("poll %d of %d rows: %s, confirmed %d at %d, want %v", i+1, rows, r.Verdict, r.Confirmed, at, confirmed)
			}
		}
	}
	f(20, market.Minute, true, true, true, true, true, true, true, true, true, true, false, false)
	f(20, 15*market.Minute, true, true, true, false)
	f(9, 15*market.Minute, true, true, true, true, true)
	f(9, 15*market.Minute, false, true, true, false)
}

// TestGateState runs dirty polls through an engine and, beside its gate, through
// one that is stored and read back before every poll.
func TestGateState(t *testing.T) {
	verdicts := map[market.Verdict]int{}
	moving := uint64(0)
	for seed := range uint64(6) {
		dirt := enginetest.NewDirt(seed, 15)
		m := tick.NewMachine(tick.Config{Epoch: "test", Shards: shards, NextSeq: 1})
		calm, rough := quality.NewGate(quality.Config{}), quality.NewGate(quality.Config{})
		for range 300 {
			b := dirt.Batch()
			if seed%2 == 1 && b.Position%7 == 0 {
				b.Quotes = b.Quotes[:len(b.Quotes)*2/3]
			}
			blob := rough.AppendState(nil)
			rough = quality.NewGate(quality.Config{})
			if err := rough.Restore(blob); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(rough.AppendState(nil), blob) {
				t.Fatal("a restored gate encodes otherwise")
			}
			want, got := calm.Check(b, m.Engine.Board(), b.ReceivedAt), rough.Check(b, m.Engine.Board(), b.ReceivedAt)
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("restored gate says %+v, want %+v", got, want)
			}
			verdicts[want.Verdict]++
			moving = max(moving, want.Moving)
			m.Poll(b, b.ReceivedAt, func(*market.Tick) {})
		}
	}
	if verdicts[market.Accepted] == 0 || verdicts[market.Unchanged] == 0 || verdicts[market.Poisoned] == 0 || moving < 100 {
		t.Errorf("proved little: %v, %d moving", verdicts, moving)
	}
}

// TestGateReplay says that a gate which follows the journal goes on as the one
// that wrote it.
func TestGateReplay(t *testing.T) {
	dirt := enginetest.NewDirt(3, 15)
	m := tick.NewMachine(tick.Config{Epoch: "test", Shards: shards, NextSeq: 1})
	live, follower := quality.NewGate(quality.Config{}), quality.NewGate(quality.Config{})
	for range 200 {
		b := dirt.Batch()
		r := live.Check(b, m.Engine.Board(), b.ReceivedAt)
		m.Poll(b, b.ReceivedAt, func(tk *market.Tick) {
			jt := &market.JournalTick{Env: tk.Env, Kind: tk.Kind, Verdict: tk.Verdict, Position: tk.Position, SourceTime: r.SourceTime, Removed: tk.Removed}
			tk.Changes(func(c *market.Change) bool {
				jt.Rows = append(jt.Rows, market.JournalRow{ID: c.Snap.ID, Mask: c.Mask, Quote: c.Quote})
				return true
			})
			follower.Replay(jt)
		})
	}
	b := batch(15, dirt.Now()+60000)
	want, got := live.Check(b, m.Engine.Board(), b.ReceivedAt), follower.Check(b, m.Engine.Board(), b.ReceivedAt)
	if got.Verdict != want.Verdict || got.Moving != want.Moving || got.Confirmed != want.Confirmed {
		t.Errorf("follower says %+v, want %+v", got, want)
	}
	if len(follower.Rejections()) != len(live.Rejections()) {
		t.Errorf("follower lists %d rejected polls, want %d", len(follower.Rejections()), len(live.Rejections()))
	}
}

func TestGateRejectionsAreBounded(t *testing.T) {
	g := quality.NewGate(quality.Config{})
	first := batch(20, enginetest.DirtStart)
	g.Check(first, nil, first.ReceivedAt)
	for i := range 100 {
		g.Check(&market.Batch{ReceivedAt: market.Time(i), Position: uint64(i)}, nil, market.Time(i))
	}
	if r := g.Rejections(); len(r) != quality.MaxRejectedPolls || r[0].Position != 99 {
		t.Errorf("%d rejections, the newest of poll %d", len(r), r[0].Position)
	}
}

func FuzzGateRestore(f *testing.F) {
	g := quality.NewGate(quality.Config{})
	first := batch(20, enginetest.DirtStart)
	g.Check(first, nil, first.ReceivedAt)
	g.Check(&market.Batch{}, nil, 0)
	f.Add(g.AppendState(nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, blob []byte) {
		g := quality.NewGate(quality.Config{})
		if g.Restore(blob) != nil {
			return
		}
		again := quality.NewGate(quality.Config{})
		if err := again.Restore(g.AppendState(nil)); err != nil {
			t.Fatalf("a restored gate writes what it cannot read: %v", err)
		}
		g.Check(first, nil, first.ReceivedAt)
	})
}

// BenchmarkGate measures a poll of 5,000 rows, all of which moved, per row. The
// floor is one look at every row's token on the board.
func BenchmarkGate(b *testing.B) {
	const rows = 5000
	polls := []*market.Batch{batch(rows, enginetest.DirtStart), batch(rows, enginetest.DirtStart+60000)}
	for i := range polls[1].Quotes {
		polls[1].Quotes[i].Price = market.FromInt(int64(i + 1_000_003))
	}
	board := boardOf(polls[0])
	g := quality.NewGate(quality.Config{})
	g.Check(polls[0], nil, polls[0].ReceivedAt)
	floor := boardFloor(board, polls[1])
	b.ReportAllocs()
	for b.Loop() {
		g.Check(polls[1], board, polls[1].ReceivedAt)
	}
	perPoll := float64(b.Elapsed().Nanoseconds()) / float64(b.N)
	b.ReportMetric(perPoll/rows, "ns/quote")
	b.ReportMetric(perPoll/floor, "xfloor")
}

// boardFloor returns the ns that looking every row's price up takes.
func boardFloor(board *market.Board, b *market.Batch) float64 {
	const n = 64
	same := 0
	began := time.Now()
	for range n {
		for i := range b.Quotes {
			if board.Token(b.Quotes[i].ID).Value(market.FieldPrice) == b.Quotes[i].Price {
				same++
			}
		}
	}
	if same > n*len(b.Quotes) {
		panic("BUG: more rows than there are")
	}
	return float64(time.Since(began).Nanoseconds()) / n
}
