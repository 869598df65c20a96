package tick_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/quality"
	"github.com/velocimeter/velocimeter/engine/tick"
)

const start = market.Time(1_700_000_000_000)

// walk is a market that moves at random, with a little dirt.
type walk struct {
	r      *rand.Rand
	prices []float64
	infos  []*market.Info
}

func newWalk(seed uint64, tokens int) *walk {
	w := &walk{r: rand.New(rand.NewPCG(seed, 1))}
	for i := range tokens {
		w.prices = append(w.prices, 1+w.r.Float64()*100)
		w.infos = append(w.infos, &market.Info{Symbol: fmt.Sprintf("T%d", i), Name: fmt.Sprintf("Token %d", i), Slug: fmt.Sprintf("token-%d", i)})
	}
	return w
}

const shown = market.Mask(1)<<3 - 1 // price, market_cap, volume_24h

// batch is the whole list at a time; each token moves with probability share.
func (w *walk) batch(at market.Time, share float64) *market.Batch {
	b := new(market.Batch)
	w.fill(b, at, share)
	return b
}

// fill makes b what batch returns, in the memory that b has.
func (w *walk) fill(b *market.Batch, at market.Time, share float64) {
	*b = market.Batch{
		Source: market.SourceMarket, Simulated: true, ReceivedAt: at, Cadence: 60 * market.Second, Quotes: b.Quotes[:0],
	}
	for i := range w.prices {
		if w.r.Float64() < share {
			w.prices[i] *= 1 + 0.01*w.r.NormFloat64()
		}
		q := w.quote(i, at)
		if w.r.IntN(200) == 0 {
			q.Volume24h = market.Null
		}
		if w.r.IntN(500) == 0 {
			q.Volume24h = market.Significant(3.1e13, 3)
		}
		b.Quotes = append(b.Quotes, q)
	}
}

func (w *walk) quote(i int, at market.Time) market.Quote {
	p := w.prices[i]
	return market.Quote{
		ID: market.ID(i + 1), Info: w.infos[i], Has: shown | market.FieldRank.Bit() | market.FieldCirculatingSupply.Bit(),
		SourceTime: at - 500, Rank: uint32(i + 1), Price: market.Significant(p, 16),
		MarketCap: market.Significant(p*1e6, 16), Volume24h: market.Significant(p*1e5*(1+0.1*w.r.Float64()), 16),
		CirculatingSupply: market.FromInt(1_000_000),
		PercentChange1h:   market.Null, PercentChange24h: market.Null, PercentChange7d: market.Null, TotalSupply: market.Null,
		MaxSupply: market.Null, FullyDiluted: market.Null, Dominance: market.Null, SelfReportedCap: market.Null, SelfReportedSupply: market.Null,
	}
}

func newMachine(shards int) *tick.Machine {
	return tick.NewMachine(tick.Config{Epoch: "test", Shards: shards, NextSeq: 1, Quality: quality.DefaultConfig()})
}

// poll runs one answer and returns all its ticks.
func poll(m *tick.Machine, b *market.Batch) (ticks []*market.Tick) {
	m.Poll(b, b.ReceivedAt, func(t *market.Tick) { ticks = append(ticks, t) })
	return ticks
}

// sheet is every token of a board by id, for comparing.
func sheet(b *market.Board) map[market.ID]market.Snapshot {
	all := map[market.ID]market.Snapshot{}
	for s := range b.All {
		c := *s
		c.Info, c.Review = nil, nil
		all[s.ID] = c
	}
	return all
}

func sameSheet(t *testing.T, where string, a, b *market.Board) {
	t.Helper()
	x, y := sheet(a), sheet(b)
	if len(x) != len(y) {
		t.Fatalf("%s: %d tokens against %d", where, len(x), len(y))
	}
	for id, s := range x {
		if s != y[id] {
			t.Fatalf("%s: token %d is\n%+v\nand\n%+v", where, id, s, y[id])
		}
	}
	if a.Totals != b.Totals {
		t.Fatalf("%s: totals %+v and %+v", where, a.Totals, b.Totals)
	}
}

func TestFirstPoll(t *testing.T) {
	m := newMachine(4)
	ticks := poll(m, newWalk(1, 100).batch(start, 1))
	if len(ticks) != 1 || ticks[0].Rows() != 100 || ticks[0].Env.Seq != 1 || ticks[0].Verdict != market.Accepted {
		t.Fatalf("got %d ticks, %+v", len(ticks), ticks[0])
	}
	for c := range ticks[0].Changes {
		if c.Mask != market.AllFields || c.Quote == nil || c.Snap.Seq != 1 {
			t.Fatalf("token %d: mask %x, quote %v", c.Snap.ID, c.Mask, c.Quote)
		}
	}
	b := m.Engine.Board()
	if b.Len() != 100 || b.Totals.Tokens != 100 || b.Token(7) == nil || b.Token(101) != nil || b.Seq != 1 || b.Epoch != "test" {
		t.Errorf("board %+v", b.Totals)
	}
	var sum int64
	for s := range b.All {
		sum += int64(s.AcceptedCap.Float())
	}
	if d := b.Totals.MarketCap - sum; d < -100 || d > 100 {
		t.Errorf("total cap %d, sum %d", b.Totals.MarketCap, sum)
	}
}

// The number of shards decides who computes, never what comes out.
func TestShardsDoNotMatter(t *testing.T) {
	one, many := newMachine(1), newMachine(7)
	a, b := newWalk(5, 60), newWalk(5, 60)
	at := start
	for range 300 {
		at += market.Time(a.r.IntN(120_000))
		b.r.IntN(120_000)
		x, y := poll(one, a.batch(at, 0.7)), poll(many, b.batch(at, 0.7))
		if len(x) != len(y) || x[len(x)-1].Rows() != y[len(y)-1].Rows() {
			t.Fatalf("at %d: %d and %d ticks", at, len(x), len(y))
		}
		sameSheet(t, fmt.Sprint(at), one.Engine.Board(), many.Engine.Board())
	}
}

func TestUnchangedPollHasNoRows(t *testing.T) {
	m, w := newMachine(4), newWalk(2, 50)
	b := w.batch(start, 1)
	poll(m, b)
	again := *b
	again.ReceivedAt += 60_000
	again.Quotes = slices.Clone(b.Quotes)
	for i := range again.Quotes {
		again.Quotes[i].SourceTime += 60_000
	}
	ticks := poll(m, &again)
	last := ticks[len(ticks)-1]
	if last.Verdict != market.Unchanged || last.Rows() != 0 || last.Env.Seq != 2 {
		t.Errorf("verdict %v, %d rows, seq %d", last.Verdict, last.Rows(), last.Env.Seq)
	}
}

func TestPoisonedPollChangesNothing(t *testing.T) {
	m, w := newMachine(4), newWalk(3, 50)
	at := start
	for range 20 {
		at += 60_000
		poll(m, w.batch(at, 1))
	}
	before := m.Engine.Board()
	bad := w.batch(at+60_000, 1)
	for i := range bad.Quotes {
		bad.Quotes[i].Price, bad.Quotes[i].MarketCap, bad.Quotes[i].Volume24h = market.Decimal{}, market.Decimal{}, market.Null
	}
	ticks := poll(m, bad)
	last := ticks[len(ticks)-1]
	if last.Verdict != market.Poisoned || last.Rows() != 0 || m.Engine.Rejections() != 1 {
		t.Fatalf("verdict %v, %d rows", last.Verdict, last.Rows())
	}
	sameSheet(t, "after the poisoned poll", before, m.Engine.Board())
	if m.Engine.Board().ReceivedAt != before.ReceivedAt {
		t.Error("a rejected answer counts as received")
	}
}

// Silence ages every token: two clock ticks, at exactly the promised instants.
func TestFreshnessTicks(t *testing.T) {
	m, w := newMachine(3), newWalk(4, 20)
	poll(m, w.batch(start, 1))
	var seen []market.Time
	m.Advance(start+3_600_000, func(tk *market.Tick) {
		if tk.Kind != market.TickClock || tk.Rows() != 20 {
			t.Errorf("tick %d: kind %v, %d rows", tk.Env.Seq, tk.Kind, tk.Rows())
		}
		seen = append(seen, tk.Env.Now)
	})
	source := start - 500
	if len(seen) != 2 || seen[0] != source+180_001 || seen[1] != source+600_001 {
		t.Errorf("clock ticks at %v, source time %d", seen, source)
	}
	for s := range m.Engine.Board().All {
		if s.Freshness() != market.Stale || s.Flags()&market.FlagStale == 0 {
			t.Fatalf("token %d is %v", s.ID, s.Freshness())
		}
	}
}

func TestRetirement(t *testing.T) {
	m, w := newMachine(3), newWalk(6, 20)
	poll(m, w.batch(start, 1))
	var removed []market.ID
	at, gone := start, market.Time(0)
	for at < start+25*3_600_000 {
		at += 600_000
		b := w.batch(at, 1)
		b.Cadence = 600_000
		if gone == 0 {
			gone = at
		}
		b.Quotes = slices.DeleteFunc(b.Quotes, func(q market.Quote) bool { return q.ID == 9 })
		for _, tk := range poll(m, b) {
			if len(tk.Removed) > 0 && tk.Env.Now != gone+24*3_600_000 {
				t.Errorf("retired at %d, gone since %d", tk.Env.Now, gone)
			}
			removed = append(removed, tk.Removed...)
		}
	}
	b := m.Engine.Board()
	if !slices.Equal(removed, []market.ID{9}) || b.Token(9) != nil || b.Len() != 19 || len(b.Tombstones) != 1 || b.Tombstones[0].ID != 9 {
		t.Fatalf("removed %v, %d tokens, graves %v", removed, b.Len(), b.Tombstones)
	}
	ticks := poll(m, w.batch(at+600_000, 1))
	for c := range ticks[len(ticks)-1].Changes {
		if c.Snap.ID == 9 && c.Mask != market.AllFields {
			t.Errorf("the returned token has mask %x", c.Mask)
		}
	}
	if m.Engine.Board().Token(9) == nil {
		t.Error("the token did not return")
	}
}

// A tick already published never changes, whatever comes after it.
func TestBoardsAreImmutable(t *testing.T) {
	m, w := newMachine(4), newWalk(7, 40)
	at := start
	var boards []*market.Board
	var sheets []map[market.ID]market.Snapshot
	for i := range 60 {
		at += 60_000
		b := w.batch(at, 0.5)
		if i%3 == 0 {
			b.Quotes = b.Quotes[:30+i%10]
		}
		poll(m, b)
		boards = append(boards, m.Engine.Board())
		sheets = append(sheets, sheet(m.Engine.Board()))
	}
	for i, b := range boards {
		now := sheet(b)
		for id, s := range sheets[i] {
			if now[id] != s || b.Token(id).ID != id {
				t.Fatalf("board %d changed at token %d", i, id)
			}
		}
	}
}

func TestUndo(t *testing.T) {
	a, b := newWalk(8, 30), newWalk(8, 30)
	plain, tried := newMachine(1), newMachine(1)
	at := start
	for i := range 100 {
		at += 47_000
		x, y := a.batch(at, 0.8), b.batch(at, 0.8)
		poll(plain, x)
		p := tried.Engine.Poll(y, at)
		s := tried.Shards[0]
		s.Begin(p, 0)
		for j, q := range p.Quotes(0) {
			if (i+j)%3 == 0 {
				bad := *q
				bad.Price = market.FromInt(1)
				s.Step(&bad)
				s.Undo()
			}
			s.Step(q)
		}
		s.Sweep()
		tried.Engine.Seal(p, []tick.Part{s.Finish()})
		sameSheet(t, strconv.Itoa(i), plain.Engine.Board(), tried.Engine.Board())
	}
	s := tried.Shards[0]
	p := tried.Engine.Poll(&market.Batch{ReceivedAt: at + 1, Cadence: 60_000}, at+1)
	s.Begin(p, 0)
	stranger := a.quote(3, at)
	stranger.ID = 999
	s.Step(&stranger)
	s.Undo()
	if s.Has(999) || s.Len() != 30 {
		t.Error("a token that was never accepted stays")
	}
}

// journalOf writes a tick down as the store would give it back.
func journalOf(tk *market.Tick) *market.JournalTick {
	jt := &market.JournalTick{
		Env: tk.Env, Kind: tk.Kind, Verdict: tk.Verdict, Position: tk.Position, SourceTime: tk.SourceTime, Removed: tk.Removed,
		Presence: tk.Presence, Rejection: tk.Rejection,
	}
	for c := range tk.Changes {
		jt.Rows = append(jt.Rows, market.JournalRow{ID: c.Snap.ID, Mask: c.Mask, Quote: c.Quote})
	}
	return jt
}

// A machine restored from an export, closed hours and the journal goes on
// exactly as the one that never stopped.
func TestRecoveryIsExact(t *testing.T) {
	const tokens, ticks = 12, 400
	for _, seed := range []uint64{1, 2, 3} {
		live, w := newMachine(3), newWalk(seed, tokens)
		hours := map[market.ID]map[market.Time][]market.Cell{}
		var export *market.Export
		var journal []*market.JournalTick
		at := start
		for i := range ticks {
			at += market.Time(20_000 + w.r.IntN(400_000))
			for _, tk := range poll(live, w.batch(at, 0.8)) {
				journal = append(journal, journalOf(tk))
			}
			if i%37 == 36 {
				export, journal = live.Export(), nil
				keepHours(hours, export.Hours)
			}
			if i%50 == 49 && export != nil {
				back := restore(t, export, hours, journal)
				sameSheet(t, fmt.Sprintf("seed %d tick %d", seed, i), live.Engine.Board(), back.Engine.Board())
				follow(t, live, back, w, at)
			}
		}
	}
}

func keepHours(hours map[market.ID]map[market.Time][]market.Cell, fresh []market.HourCells) {
	for _, h := range fresh {
		if hours[h.ID] == nil {
			hours[h.ID] = map[market.Time][]market.Cell{}
		}
		hours[h.ID][h.Hour] = slices.Clone(h.Cells)
	}
}

func restore(t *testing.T, e *market.Export, hours map[market.ID]map[market.Time][]market.Cell, journal []*market.JournalTick) *tick.Machine {
	t.Helper()
	m := newMachine(3)
	if err := m.Engine.Restore(e.Engine); err != nil {
		t.Fatal(err)
	}
	for _, ts := range e.Tokens {
		if err := m.Restore(ts, storedCells(hours[ts.ID], e.Time)); err != nil {
			t.Fatal(err)
		}
	}
	for _, jt := range journal {
		if n := m.Replay(jt); n != 0 {
			t.Fatalf("tick %d: %d rows came out otherwise", jt.Env.Seq, n)
		}
	}
	m.Resume(m.Engine.Seq() + 1)
	return m
}

// storedCells gives the closed hours as the store does: minutes for the last
// day, the last sample of every five minutes before that.
func storedCells(byHour map[market.Time][]market.Cell, now market.Time) []market.Cell {
	var out []market.Cell
	starts := make([]market.Time, 0, len(byHour))
	for h := range byHour {
		starts = append(starts, h)
	}
	slices.Sort(starts)
	for _, h := range starts {
		for _, c := range byHour[h] {
			old := now.Sub(h) > market.Day+2*market.Hour
			if n := len(out); old && n > 0 && out[n-1].Time/300_000 == c.Time/300_000 {
				out[n-1] = c
				continue
			}
			out = append(out, c)
		}
	}
	return out
}

// follow feeds both machines the same future on copies and compares.
func follow(t *testing.T, live, back *tick.Machine, w *walk, at market.Time) {
	t.Helper()
	b := w.batch(at+30_000, 0.9)
	poll(back, b)
	poll(live, b)
	sameSheet(t, "one tick after recovery", live.Engine.Board(), back.Engine.Board())
}

func TestEngineStateRejectsGarbage(t *testing.T) {
	m, w := newMachine(2), newWalk(9, 20)
	poll(m, w.batch(start, 1))
	blob := m.Engine.AppendState(nil)
	for n := range blob {
		if err := newMachine(2).Engine.Restore(blob[:n]); err == nil && n < len(blob)-64 {
			t.Errorf("%d of %d bytes were accepted", n, len(blob))
		}
	}
}

func FuzzEngineRestore(f *testing.F) {
	m, w := newMachine(2), newWalk(9, 20)
	poll(m, w.batch(start, 1))
	f.Add(m.Engine.AppendState(nil))
	f.Add([]byte{1})
	f.Fuzz(func(_ *testing.T, blob []byte) {
		_ = newMachine(2).Engine.Restore(blob)
	})
}
