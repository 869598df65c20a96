package actors_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/velocimeter/velocimeter/actors"
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/tick"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const start = market.Time(1_700_000_000_000)

// batchAt is a whole answer for tokens 1…tokens; n varies the values.
func batchAt(at market.Time, n, tokens int) *market.Batch {
	b := &market.Batch{Source: market.SourceMarket, ReceivedAt: at, Cadence: market.Minute, Position: uint64(n)}
	b.Quotes = make([]market.Quote, tokens)
	for i := range b.Quotes {
		b.Quotes[i] = quote(market.ID(i+1), n, at)
	}
	return b
}

func quote(id market.ID, n int, at market.Time) market.Quote {
	null := market.Null
	base := 1000 + int64(id) + int64(n*int(id)%13)
	return market.Quote{
		ID: id, Info: infos(id), SourceTime: at - 500,
		Has:   market.MaskOf(market.FieldPrice, market.FieldMarketCap, market.FieldVolume24h, market.FieldCirculatingSupply),
		Price: market.NewDecimal(base, -2), MarketCap: market.FromInt(base * 10_000), Volume24h: market.FromInt(base * 777),
		PercentChange1h: null, PercentChange24h: null, PercentChange7d: null, CirculatingSupply: market.FromInt(1_000_000),
		TotalSupply: null, MaxSupply: null, FullyDiluted: null, Dominance: null, SelfReportedCap: null, SelfReportedSupply: null,
	}
}

var (
	infoMu sync.Mutex
	infoOf = map[market.ID]*market.Info{}
)

func infos(id market.ID) *market.Info {
	infoMu.Lock()
	defer infoMu.Unlock()
	if infoOf[id] == nil {
		infoOf[id] = &market.Info{Symbol: "T" + strconv.Itoa(int(id))}
	}
	return infoOf[id]
}

// recording is n polls of tokens at irregular times; a few are missing, so that
// clock ticks happen between them.
func recording(n, tokens int) []*market.Batch {
	var out []*market.Batch
	at := start
	for i := 1; i <= n; i++ {
		at = at.Add(market.Minute + market.Millis(i*7919%5000))
		if i%17 == 0 {
			at = at.Add(15 * market.Minute)
		}
		out = append(out, batchAt(at, i, tokens-i%3))
	}
	return out
}

// wall is engine time on the test's clock.
type wall struct{}

func (wall) Now() market.Time { return market.TimeOf(time.Now()) }

func (w wall) AfterFunc(at market.Time, f func()) func() {
	t := time.AfterFunc(at.Sub(w.Now()).Std(), f)
	return func() { t.Stop() }
}

// still is a clock that only batches move.
type still struct{}

func (still) Now() market.Time                     { return start }
func (still) AfterFunc(market.Time, func()) func() { return func() {} }

// disk is a Journal that checks its contract.
type disk struct {
	mu       sync.Mutex
	reserved uint64
	ticks    []*market.Tick
	durable  uint64
	exports  []*market.Export
	bad      []string
	fail     error
	slow     chan struct{} // Append takes one; nil: fast
	full     bool          // Reserve fails
}

func (d *disk) Reserve(upTo uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.full {
		return errDisk
	}
	d.reserved = upTo
	return nil
}

func (d *disk) Append(t *market.Tick) error {
	if d.slow != nil {
		<-d.slow
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		return d.fail
	}
	if t.Env.Seq > d.reserved {
		d.complain("seq %d was not reserved", t.Env.Seq)
	}
	if n := len(d.ticks); n > 0 && t.Env.Seq != d.ticks[n-1].Env.Seq+1 {
		d.complain("seq %d follows %d", t.Env.Seq, d.ticks[n-1].Env.Seq)
	}
	d.ticks = append(d.ticks, t)
	return nil
}

func (d *disk) complain(format string, args ...any) {
	d.bad = append(d.bad, fmt.Sprintf(format, args...))
}

func (d *disk) Commit() (uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		return 0, d.fail
	}
	if n := len(d.ticks); n > 0 {
		d.durable = d.ticks[n-1].Env.Seq
	}
	return d.durable, nil
}

func (d *disk) Save(e *market.Export) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := len(d.ticks); n == 0 || d.ticks[n-1].Env.Seq != e.Seq {
		d.complain("export of seq %d is not as of the newest tick", e.Seq)
	}
	d.exports = append(d.exports, e)
	return d.fail
}

func (d *disk) breakWith(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = err
}

func (d *disk) refuse(full bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full = full
}

// screen is a Publisher.
type screen struct {
	mu    sync.Mutex
	ticks []*market.Tick
	on    func(*market.Tick)
}

func (s *screen) Publish(t *market.Tick) {
	s.mu.Lock()
	s.ticks = append(s.ticks, t)
	s.mu.Unlock()
	if s.on != nil {
		s.on(t)
	}
}

func (s *screen) all() []*market.Tick {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ticks)
}

// tape is a Feed.
type tape struct {
	batches []*market.Batch
	next    int
}

func (f *tape) Next(ctx context.Context) (*market.Batch, error) {
	if f.next == len(f.batches) {
		return nil, io.EOF
	}
	f.next++
	return f.batches[f.next-1], ctx.Err()
}

type fetchFunc func(ctx context.Context) (*market.Batch, error)

func (f fetchFunc) Fetch(ctx context.Context) (*market.Batch, error) { return f(ctx) }
func (f fetchFunc) Next(ctx context.Context) (*market.Batch, error)  { return f(ctx) }

// rig is a system with everything around it.
type rig struct {
	*actors.System
	t       *testing.T
	machine *tick.Machine // the engine and shards that the system runs
	disk    *disk
	screen  *screen
	ended   chan error // of the replay
}

func config(m *tick.Machine) actors.Config {
	return actors.Config{
		Engine: m.Engine, Shards: m.Shards, Clock: still{}, Log: slog.New(slog.DiscardHandler), SyncWindow: time.Second,
	}
}

func machine(shards int) *tick.Machine {
	return tick.NewMachine(tick.Config{Epoch: "e", Shards: shards, NextSeq: 1})
}

// run starts a system; unset members of c get the test's own.
func run(t *testing.T, m *tick.Machine, feed actors.Feed, change func(*actors.Config)) *rig {
	t.Helper()
	r := &rig{t: t, machine: m, disk: &disk{}, screen: &screen{}, ended: make(chan error, 1)}
	c := config(m)
	c.Journal, c.Publisher = r.disk, r.screen
	if feed != nil {
		c.Replays = []actors.Replay{{Name: "tape", Feed: feed, Finished: func(err error) { r.ended <- err }}}
	}
	if change != nil {
		change(&c)
	}
	s, err := actors.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	r.System = s
	return r
}

// close ends the system and checks what must hold at every end.
func (r *rig) close() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := r.Close(ctx); err != nil {
		r.t.Errorf("close: %v", err)
	}
	r.check()
}

func (r *rig) check() {
	r.t.Helper()
	for _, what := range r.disk.bad {
		r.t.Error("journal: " + what)
	}
	if st := r.Status(); st.DeadLetters != 0 || st.Market.Failed != 0 {
		r.t.Errorf("%d dead letters, %d failed batches", st.DeadLetters, st.Market.Failed)
	}
	if !slices.Equal(r.disk.ticks, r.screen.all()) {
		r.t.Errorf("journal has %d ticks, published were %d", len(r.disk.ticks), len(r.screen.all()))
	}
	if n := len(r.disk.ticks); n > 0 {
		last := r.disk.ticks[n-1].Env.Seq
		if r.disk.durable != last || r.DurableSeq() != last {
			r.t.Errorf("durable %d (told %d), newest tick %d", r.disk.durable, r.DurableSeq(), last)
		}
		if e := r.disk.exports; len(e) == 0 || e[len(e)-1].Seq != last {
			r.t.Error("no export of the newest tick at the end")
		}
	}
}

// sameTicks compares two runs, whatever the order within a tick.
func sameTicks(t *testing.T, got, want []*market.Tick) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d ticks, want %d", len(got), len(want))
	}
	for i, w := range want {
		g := got[i]
		if g.Env != w.Env || g.Kind != w.Kind || g.Verdict != w.Verdict || g.Position != w.Position || g.Rows() != w.Rows() {
			t.Fatalf("tick %d: %+v with %d rows, want %+v with %d", i, g.Env, g.Rows(), w.Env, w.Rows())
		}
		for c := range w.Changes {
			s := g.Board.Token(c.Snap.ID)
			if s == nil || s.Mant != c.Snap.Mant || s.Exp != c.Snap.Exp || s.Versions() != c.Snap.Versions() {
				t.Fatalf("tick %d token %d differs", i, c.Snap.ID)
			}
		}
		if g.Board.Totals != w.Board.Totals {
			t.Fatalf("tick %d: totals %+v, want %+v", i, g.Board.Totals, w.Board.Totals)
		}
	}
}

var errDisk = errors.New("disk gone")
