package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/quality"
	"github.com/velocimeter/velocimeter/engine/tick"
	"github.com/velocimeter/velocimeter/engine/token"
	"github.com/velocimeter/velocimeter/persist"
	"github.com/velocimeter/velocimeter/transport/upstream/recording"
)

// hardCoin is a row of a poll as CoinLore's series have it.
type hardCoin struct {
	Symbol string  `json:"symbol"`
	Name   string  `json:"name"`
	Price  float64 `json:"price_usd"`
	Cap    float64 `json:"market_cap_usd"`
	Volume float64 `json:"volume_24h"`
	Rank   int     `json:"rank"`
}

const (
	hardPolls    = 400
	hardUnmapped = "NOSUCHCOIN"
)

var hardSymbols = []string{
	"BTC", "ETH", "USDT", "XRP", "BNB", "SOL", "USDC", "DOGE", "TRX", "ADA", "LINK", "XLM", "LTC", "AVAX", hardUnmapped,
}

// hardPauses are the pauses of the series: after so many polls, so many minutes.
var hardPauses = map[int]int{40: 20, 90: 150, 130: 11 * 60, 180: 8, 210: 14 * 60, 250: 45, 290: 4, 320: 5 * 24 * 60, 360: 61}

// hardSeries writes a short recording with everything that is hard to restore:
// pauses in which values grow old, polls that repeat, lack or spoil values,
// jumps that are held and confirmed, a volume out of all proportion, a token
// that stands still, and one that is gone for more than a day and returns.
func hardSeries(t *testing.T) string {
	t.Helper()
	rng := rand.New(rand.NewPCG(7, 11))
	coins := make([]hardCoin, len(hardSymbols))
	for i, s := range hardSymbols {
		price := math.Exp(rng.Float64()*10 - 3)
		coins[i] = hardCoin{s, "Coin " + s, price, price * 1e8 * (1 + rng.Float64()), price * 1e7 * (1 + rng.Float64()), i + 1}
	}
	at := time.Date(2025, 3, 1, 22, 10, 0, 0, time.UTC)
	name := filepath.Join(t.TempDir(), "hard.jsonl")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	enc := json.NewEncoder(f)
	for n := range hardPolls {
		at = at.Add(time.Minute + time.Duration(rng.IntN(4000)-2000)*time.Millisecond + time.Duration(hardPauses[n])*time.Minute)
		if n%37 != 36 { // else the provider says the same again
			walkCoins(rng, coins, n)
		}
		poll := map[string]any{"commit": "c", "commit_ts": at.Unix(), "last_updated": at, "source": "coinlore", "coins": spoil(coins, n)}
		if err := enc.Encode(poll); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return name
}

func walkCoins(rng *rand.Rand, coins []hardCoin, n int) {
	const still, jumping = 2, 5
	for i := range coins {
		if i == still && n > 100 && n < 190 {
			continue
		}
		c := &coins[i]
		by := math.Exp(0.002 * rng.NormFloat64())
		if i == jumping && (n == 60 || n == 170 || n == 300) {
			by *= 1.6 // from now on: held, then confirmed
		}
		c.Price, c.Cap, c.Volume = c.Price*by, c.Cap*by, c.Volume*math.Exp(0.01*rng.NormFloat64())
	}
}

// spoil returns what the provider shows of the coins.
func spoil(coins []hardCoin, n int) []hardCoin {
	shown := slices.Clone(coins)
	switch {
	case n == 75 || n == 76 || n == 251: // poisoned
		for i := range shown {
			shown[i].Price, shown[i].Cap, shown[i].Volume = 0, 0, 0
		}
	case n >= 150 && n < 154: // too many are missing to be believed before the third time
		shown = shown[4:]
	case n >= 200 && n < 260: // out of all proportion, for as long as it lasts
		shown[8].Volume = shown[8].Cap * 7
	case n == 110:
		shown[3].Price *= 3 // once
	case n == 140:
		shown[6].Cap = 0
	}
	last := len(shown) - 1
	if n >= 120 && n < 260 { // gone for more than a day
		shown = slices.Delete(shown, last-1, last)
	}
	return shown
}

// uninterrupted is a run from the start of a recording in one go, with seqs
// that count from 1: the tick of seq n is boards[n].
type uninterrupted struct {
	polls     []*market.Batch
	ticks     []*market.Tick
	boards    []*market.Board
	states    []*market.Export
	positions []uint64 // newest poll at each seq
}

func runHard(t *testing.T, name string) *uninterrupted {
	t.Helper()
	r, err := recording.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	u := &uninterrupted{
		ticks: make([]*market.Tick, 1), boards: make([]*market.Board, 1), states: make([]*market.Export, 1), positions: make([]uint64, 1),
	}
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		u.polls = append(u.polls, b)
	}
	u.run(func(tk *market.Tick, m *tick.Machine) {
		u.ticks, u.boards, u.states = append(u.ticks, tk), append(u.boards, tk.Board), append(u.states, m.Export())
		u.positions = append(u.positions, max(u.positions[len(u.positions)-1], tk.Position))
	})
	return u
}

// run runs the recording again from the start.
func (u *uninterrupted) run(each func(*market.Tick, *tick.Machine)) {
	m := tick.NewMachine(tick.Config{Epoch: "uninterrupted", Shards: 3, NextSeq: 1, Quality: quality.DefaultConfig()})
	for _, b := range u.polls {
		m.Poll(b, b.ReceivedAt, func(tk *market.Tick) { each(tk, m) })
	}
}

func (u *uninterrupted) last() uint64 { return uint64(len(u.boards) - 1) }

// count maps the seqs of a lineage that skips numbers after each unclean stop to
// those of the uninterrupted run, by order.
type count struct{ parts []part }

// part says that a lineage's seq first and those after it are at and those after it.
type part struct{ first, at uint64 }

// skip notes that next is the seq that follows last.
func (c *count) skip(last, next uint64) {
	at := c.of(last) + 1
	for len(c.parts) > 0 && c.parts[len(c.parts)-1].at >= at {
		c.parts = c.parts[:len(c.parts)-1]
	}
	c.parts = append(c.parts, part{next, at})
}

func (c *count) of(seq uint64) uint64 {
	for _, p := range slices.Backward(c.parts) {
		if p.first <= seq {
			return p.at + seq - p.first
		}
	}
	return seq
}

// mapped returns a copy of a snapshot with the uninterrupted run's seqs.
func (c *count) mapped(s *market.Snapshot) *market.Snapshot {
	m := *s
	m.Seq = c.of(s.Seq)
	versions := s.Versions()
	for i, v := range versions {
		versions[i] = c.of(v)
	}
	m.Restamp(c.of(s.VersionBase()+1)-1, &versions)
	return &m
}

// copyStore copies a data folder as a killed process left it, so that looking at
// it changes nothing for the next one.
func copyStore(t *testing.T, from string) string {
	t.Helper()
	for again := true; ; again = false {
		to := filepath.Join(t.TempDir(), "copy")
		switch err := os.CopyFS(to, os.DirFS(from)); {
		case errors.Is(err, os.ErrNotExist) && again: // a compaction dropped a file meanwhile
		case err != nil:
			t.Fatal(err)
		default:
			return to
		}
	}
}

// reopened is what a start finds in a data folder.
type reopened struct {
	rec     persist.Recovery
	machine *tick.Machine
	store   *persist.Store
}

func reopen(t *testing.T, data, lineage string) *reopened {
	t.Helper()
	var log lockedBuffer
	store, err := persist.Open(persist.Options{Dir: data, Lineage: lineage, Logger: testLogger(&log)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	m, _, err := restoreMachine(store, 5, quality.DefaultConfig(), testLogger(&log))
	if err != nil {
		t.Fatal(err)
	}
	if log.String() != "" {
		t.Errorf("warnings while restoring:\n%s", log.String())
	}
	return &reopened{rec: store.Recovery(), machine: m, store: store}
}

// compareRestored holds a restored engine against the uninterrupted run: what it
// shows now, what it keeps to itself, and what it makes of the rest of the recording.
func compareRestored(t *testing.T, u *uninterrupted, r *reopened, c *count) {
	t.Helper()
	at := c.of(r.rec.DurableSeq)
	if at > u.last() {
		t.Fatalf("durable seq %d is tick %d of %d", r.rec.DurableSeq, at, u.last())
	}
	if r.rec.Position != u.positions[at] {
		t.Fatalf("tick %d: position %d, want %d", at, r.rec.Position, u.positions[at])
	}
	if at > 0 {
		compareBoards(t, r.machine.Engine.Board(), u.boards[at], c)
		compareStates(t, r.machine.Export(), u.states[at], c)
	}
	after := *c
	after.parts = slices.Clone(c.parts)
	after.skip(r.rec.DurableSeq, r.rec.NextSeq)
	board := r.machine.Engine.Board()
	for _, b := range u.polls[r.rec.Position:] {
		r.machine.Poll(b, b.ReceivedAt, func(tk *market.Tick) {
			board = tk.Board
			compareTicks(t, tk, u.ticks[min(after.of(tk.Env.Seq), u.last())], &after)
		})
		if t.Failed() {
			t.Fatalf("restored at tick %d, poll %d: poll %d came out otherwise", at, r.rec.Position, b.Position)
		}
	}
	if len(u.polls[r.rec.Position:]) > 0 {
		compareBoards(t, board, u.boards[u.last()], &after)
	}
}

func compareTicks(t *testing.T, got, want *market.Tick, c *count) {
	t.Helper()
	if got.Kind != want.Kind || got.Verdict != want.Verdict || got.Env.Now != want.Env.Now || got.Rows() != want.Rows() || !sameIDs(got.Removed, want.Removed) {
		t.Errorf("tick %d: kind %d, %v at %d with %d rows, removed %v; want %d, %v at %d, %d, %v", c.of(got.Env.Seq), got.Kind, got.Verdict,
			got.Env.Now, got.Rows(), got.Removed, want.Kind, want.Verdict, want.Env.Now, want.Rows(), want.Removed)
	}
	if want.Env.Seq%8 == 0 { // what differs stays different
		compareBoards(t, got.Board, want.Board, c)
	}
}

func sameIDs(a, b []market.ID) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

func compareBoards(t *testing.T, got, want *market.Board, c *count) {
	t.Helper()
	if c.of(got.Seq) != want.Seq || got.Time != want.Time || got.SourceTime != want.SourceTime || got.ReceivedAt != want.ReceivedAt ||
		got.Source != want.Source || got.Simulated != want.Simulated || got.Totals != want.Totals || got.Len() != want.Len() {
		t.Errorf("board is %d %d %d %d %v %+v of %d, want %d %d %d %d %v %+v of %d",
			c.of(got.Seq), got.Time, got.SourceTime, got.ReceivedAt, got.Source, got.Totals, got.Len(),
			want.Seq, want.Time, want.SourceTime, want.ReceivedAt, want.Source, want.Totals, want.Len())
	}
	graves := slices.Clone(got.Tombstones)
	for i := range graves {
		graves[i].Seq = c.of(graves[i].Seq)
	}
	if !slices.Equal(graves, want.Tombstones) {
		t.Errorf("tombstones %v, want %v", graves, want.Tombstones)
	}
	for w := range want.All {
		g := got.Token(w.ID)
		if g == nil {
			t.Errorf("token %d is not there", w.ID)
			continue
		}
		compareSnapshots(t, c.mapped(g), w)
	}
}

func compareSnapshots(t *testing.T, got, want *market.Snapshot) {
	t.Helper()
	if *got.Info != *want.Info || !sameReview(got.Review, want.Review) {
		t.Errorf("token %d: %v, %v; want %v, %v", got.ID, got.Info, got.Review, want.Info, want.Review)
	}
	got.Info, got.Review = want.Info, want.Review
	if *got == *want {
		return
	}
	t.Errorf("token %d: seq %d of %d, %d samples, want %d of %d, %d", got.ID, got.Seq, got.ReceivedAt, got.Samples, want.Seq, want.ReceivedAt, want.Samples)
	for f := market.Field(1); f <= market.NumFields; f++ {
		switch {
		case f <= market.NumNumeric && got.Value(f) != want.Value(f):
			t.Errorf("token %d: %v is %v, want %v", got.ID, f, got.Value(f), want.Value(f))
		case got.Version(f) != want.Version(f):
			t.Errorf("token %d: version of %v is %d, want %d", got.ID, f, got.Version(f), want.Version(f))
		}
	}
}

// sameReview compares with NaN equal to itself.
func sameReview(a, b *market.Review) bool {
	return reflect.DeepEqual(a, b) || fmt.Sprintf("%+v", a) == fmt.Sprintf("%+v", b)
}

// compareStates compares what the state machines keep, byte for byte.
func compareStates(t *testing.T, got, want *market.Export, c *count) {
	t.Helper()
	states := func(e *market.Export, c *count) map[market.ID]string {
		m := map[market.ID]string{}
		for _, ts := range e.Tokens {
			gone, n := binary.Uvarint(ts.Blob)
			tok, _ := token.Decode(ts.ID, ts.Blob[n:], nil) // closed hours show in what comes later
			if tok == nil {
				t.Fatalf("token %d has no state", ts.ID)
			}
			*tok.Snapshot() = *c.mapped(tok.Snapshot())
			tok.Seen(&market.Env{ReceivedAt: math.MaxInt64}) // being merely present is not in the journal, and nobody asks
			m[ts.ID] = fmt.Sprintf("gone %d: %x", gone, tok.AppendState(nil))
		}
		return m
	}
	g, w := states(got, c), states(want, &count{})
	for id, state := range w {
		if g[id] != state {
			t.Errorf("token %d: state is\n%.300s\nwant\n%.300s", id, g[id], state)
		}
	}
	if len(g) != len(w) {
		t.Errorf("%d states, want %d", len(g), len(w))
	}
}
