package shardactor

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"testing"

	"github.com/asynkron/protoactor-go/actor"
	"go.uber.org/goleak"

	"github.com/velocimeter/velocimeter/actors/guard"
	"github.com/velocimeter/velocimeter/actors/mailbox"
	"github.com/velocimeter/velocimeter/actors/tokenactor"
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/quality"
	"github.com/velocimeter/velocimeter/engine/tick"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const start = market.Time(1_700_000_000_000)

// batch is poll n of tokens 1…tokens, a minute after poll n−1.
func batch(n, tokens int) *market.Batch {
	at := start.Add(market.Millis(n) * market.Minute)
	b := &market.Batch{Source: market.SourceMarket, ReceivedAt: at, Cadence: market.Minute}
	for id := 1; id <= tokens; id++ {
		b.Quotes = append(b.Quotes, quote(market.ID(id), n, at))
	}
	return b
}

func quote(id market.ID, n int, at market.Time) market.Quote {
	null := market.Null
	base := int64(id)*1000 + int64(n%7)
	return market.Quote{
		ID: id, Info: &market.Info{Symbol: "T" + strconv.Itoa(int(id))}, SourceTime: at - 500,
		Has:   market.MaskOf(market.FieldPrice, market.FieldMarketCap, market.FieldVolume24h, market.FieldCirculatingSupply),
		Price: market.NewDecimal(base, -2), MarketCap: market.FromInt(base * 10_000), Volume24h: market.FromInt(base * 777),
		PercentChange1h: null, PercentChange24h: null, PercentChange7d: null, CirculatingSupply: market.FromInt(1_000_000),
		TotalSupply: null, MaxSupply: null, FullyDiluted: null, Dominance: null, SelfReportedCap: null, SelfReportedSupply: null,
	}
}

// faulty steps the real shard and then panics where the test wants it.
type faulty struct {
	*tick.Shard
	bad func(*market.Quote) bool
}

func (f *faulty) Step(q *market.Quote) {
	f.Shard.Step(q)
	if f.bad != nil && f.bad(q) {
		panic(fmt.Sprint("poison for ", q.ID))
	}
}

// rig is one shard actor with its engine.
type rig struct {
	t      testing.TB
	engine *tick.Engine
	shard  *faulty
	system *actor.ActorSystem
	pid    *actor.PID
	actor  *Actor
	guard  *guard.Guard
	refuse *Quarantine
	parts  []tick.Part
}

func newRig(t testing.TB, props func(tokenactor.Stepper, actor.MailboxProducer) *actor.Props) *rig {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	r := &rig{
		t: t, engine: tick.New(tick.Config{Epoch: "e", Shards: 1, NextSeq: 1}),
		shard: &faulty{Shard: tick.NewShard(quality.Config{})},
		guard: guard.New(log), refuse: NewQuarantine(log), parts: make([]tick.Part, 1),
	}
	r.system = actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return log }))
	d := Deps{Shard: r.shard.Shard, Stepper: r.shard, Guard: r.guard, Quarantine: r.refuse, tokenProps: props}
	if props == nil {
		d.tokenProps = tokenactor.Props
	}
	box := mailbox.NewLanes(r.guard, mailbox.Limits{Count: 1})
	pid, err := r.system.Root.SpawnNamed(actor.PropsFromProducer(func() actor.Actor {
		r.actor = newActor(d)
		return r.actor
	}, actor.WithMailbox(box.Producer())), "shard")
	if err != nil {
		t.Fatal(err)
	}
	r.pid = pid
	t.Cleanup(func() {
		if err := r.system.Root.StopFuture(pid).Wait(); err != nil {
			t.Errorf("cannot stop shard: %v", err)
		}
		r.system.Shutdown()
	})
	return r
}

// tick runs a batch through the actors and seals it.
func (r *rig) tick(b *market.Batch) *market.Tick {
	r.t.Helper()
	return r.plan(r.engine.Poll(b, b.ReceivedAt))
}

func (r *rig) plan(p *tick.Plan) *market.Tick {
	done := make(chan struct{})
	r.system.Root.Send(r.pid, &Run{Plan: p, Parts: r.parts, Done: func() { close(done) }})
	<-done
	r.sync()
	return r.engine.Seal(p, r.parts)
}

// sync waits until the shard has handled everything, failures included.
func (r *rig) sync() {
	done := make(chan struct{})
	r.system.Root.Send(r.pid, &Collect{Exports: make([]market.Export, 1), Done: func() { close(done) }})
	<-done
}

func changed(t *market.Tick) []market.ID {
	var ids []market.ID
	for c := range t.Changes {
		ids = append(ids, c.Snap.ID)
	}
	slices.Sort(ids)
	return ids
}

// stepped are the changed tokens whose quote was taken; the others changed
// through time alone.
func stepped(t *market.Tick) []market.ID {
	var ids []market.ID
	for c := range t.Changes {
		if c.Quote != nil {
			ids = append(ids, c.Snap.ID)
		}
	}
	return ids
}

func TestOneActorPerToken(t *testing.T) {
	r := newRig(t, nil)
	if got := changed(r.tick(batch(1, 5))); !slices.Equal(got, []market.ID{1, 2, 3, 4, 5}) {
		t.Errorf("changed %v", got)
	}
	if len(r.actor.tokens) != 5 || r.actor.tokens[3].GetId() != "shard/3" {
		t.Errorf("%d actors, token 3 is %v", len(r.actor.tokens), r.actor.tokens[3])
	}
	r.tick(batch(2, 5))
	if len(r.actor.tokens) != 5 || r.guard.Panics() != 0 {
		t.Errorf("%d actors, %d panics", len(r.actor.tokens), r.guard.Panics())
	}
}

func TestRetiredTokenLosesItsActor(t *testing.T) {
	r := newRig(t, nil)
	r.tick(batch(1, 10))
	n := 2
	var removed []market.ID
	for ; len(removed) == 0 && n < 3000; n += 30 {
		removed = append(removed, r.tick(batch(n, 9)).Removed...)
	}
	if !slices.Equal(removed, []market.ID{10}) || n < 24*60 {
		t.Fatalf("removed %v at poll %d", removed, n)
	}
	if _, ok := r.actor.tokens[10]; ok || len(r.actor.tokens) != 9 {
		t.Errorf("%d actors left", len(r.actor.tokens))
	}
	r.tick(batch(n, 10))
	if _, ok := r.actor.tokens[10]; !ok {
		t.Error("a returning token got no actor")
	}
}

func TestPanicOnceIsRetried(t *testing.T) {
	r := newRig(t, nil)
	r.tick(batch(1, 9))
	failures := 0
	r.shard.bad = func(q *market.Quote) bool {
		if q.ID != 7 || failures == 1 {
			return false
		}
		failures++
		return true
	}
	got := r.tick(batch(2, 9))
	if ids := changed(got); !slices.Equal(ids, []market.ID{1, 2, 3, 4, 5, 6, 7, 8, 9}) {
		t.Errorf("changed %v", ids)
	}
	if r.guard.Panics() != 1 || r.refuse.Total() != 0 || len(r.actor.trouble) != 0 {
		t.Errorf("%d panics, %d quarantined, trouble %v", r.guard.Panics(), r.refuse.Total(), r.actor.trouble)
	}
	if p := got.Board.Token(7).Value(market.FieldPrice); p != market.NewDecimal(7002, -2) {
		t.Errorf("price of token 7 is %v", p)
	}
}

func TestPanicTwiceIsQuarantined(t *testing.T) {
	r := newRig(t, nil)
	before := r.tick(batch(1, 9)).Board.Token(7)
	r.shard.bad = func(q *market.Quote) bool { return q.ID == 7 }
	got := r.tick(batch(2, 9))
	if slices.Contains(changed(got), 7) || len(changed(got)) != 8 {
		t.Errorf("changed %v", changed(got))
	}
	if got.Board.Token(7) != before {
		t.Error("the token did not keep its last good state")
	}
	want := []Quarantined{{Token: 7, Source: market.SourceMarket, Seq: 2, Time: got.Env.Now, Attempts: 2}}
	if !slices.Equal(r.refuse.List(), want) {
		t.Errorf("quarantine %+v, want %+v", r.refuse.List(), want)
	}
	r.shard.bad = nil
	if got := r.tick(batch(3, 9)); len(changed(got)) != 9 || len(r.actor.trouble) != 0 {
		t.Errorf("after the poison changed %v, trouble %v", changed(got), r.actor.trouble)
	}
}

// TestPanicForEver has every quote of one token panic, far beyond the ten
// restarts after which protoactor's own supervision stops an actor.
func TestPanicForEver(t *testing.T) {
	r := newRig(t, nil)
	r.tick(batch(1, 9))
	r.shard.bad = func(q *market.Quote) bool { return q.ID == 7 }
	for n := 2; n <= 40; n++ {
		if got := stepped(r.tick(batch(n, 9))); slices.Contains(got, 7) || len(got) != 8 {
			t.Fatalf("poll %d changed %v", n, got)
		}
	}
	// Two attempts for the first quote, one for each of the 38 others: a minute
	// is longer than the longest backoff.
	if r.guard.Panics() != 40 || r.refuse.Total() != 39 {
		t.Errorf("%d panics, %d quarantined", r.guard.Panics(), r.refuse.Total())
	}
	r.shard.bad = nil
	if got := stepped(r.tick(batch(41, 9))); !slices.Contains(got, 7) {
		t.Errorf("the token did not come back: %v", got)
	}
}

// TestBackoff polls every 50 ms, so that most quotes fall into the backoff.
func TestBackoff(t *testing.T) {
	r := newRig(t, nil)
	r.tick(batch(1, 9))
	r.shard.bad = func(q *market.Quote) bool { return q.ID == 7 }
	begun := start.Add(2 * market.Minute)
	var tried []market.Millis
	panics := uint64(0)
	for i := range 100 {
		b := batch(2+i, 9)
		b.ReceivedAt = begun.Add(market.Millis(50 * i))
		r.tick(b)
		if r.guard.Panics() != panics {
			tried = append(tried, b.ReceivedAt.Sub(begun))
			panics = r.guard.Panics()
		}
	}
	// Waits of 100, 200, 400, 800, 1600 ms.
	if want := []market.Millis{0, 100, 300, 700, 1500, 3100}; !slices.Equal(tried, want) {
		t.Errorf("tried at %v ms, want %v", tried, want)
	}
	if r.refuse.Total() != 100 {
		t.Errorf("%d of 100 quotes quarantined", r.refuse.Total())
	}
}

func TestEveryTokenPanics(t *testing.T) {
	r := newRig(t, nil)
	r.tick(batch(1, 50))
	r.shard.bad = func(*market.Quote) bool { return true }
	for n := 2; n < 15; n++ {
		if got := r.tick(batch(n, 50)); got.Env.Seq != uint64(n) || len(stepped(got)) != 0 || got.Board.Len() != 50 {
			t.Fatalf("seq %d, %d quotes taken, %d tokens", got.Env.Seq, len(stepped(got)), got.Board.Len())
		}
	}
}

func TestPoisonedNewToken(t *testing.T) {
	r := newRig(t, nil)
	r.tick(batch(1, 5))
	r.shard.bad = func(q *market.Quote) bool { return q.ID == 6 }
	for n := 2; n < 6; n++ {
		if got := r.tick(batch(n, 6)); got.Board.Token(6) != nil || got.Board.Len() != 5 {
			t.Fatalf("poll %d: token 6 is on the board", n)
		}
		if len(r.actor.tokens) != 5 {
			t.Fatalf("poll %d: %d actors", n, len(r.actor.tokens))
		}
	}
	r.shard.bad = nil
	if got := r.tick(batch(6, 6)); got.Board.Token(6) == nil || len(r.actor.tokens) != 6 {
		t.Error("the token did not come to be after the poison")
	}
}

// moody is a token actor that panics when it starts.
type moody struct {
	actor.Actor
	starts func() bool
}

func (m *moody) Receive(c actor.Context) {
	if _, ok := c.Message().(*actor.Started); ok && m.starts() {
		panic("cannot start")
	}
	m.Actor.Receive(c)
}

func TestPanicInStarted(t *testing.T) {
	f := func(failing int, wantPanics uint64, wantToken bool) {
		t.Helper()
		starts := 0
		r := newRig(t, func(s tokenactor.Stepper, box actor.MailboxProducer) *actor.Props {
			return actor.PropsFromProducer(func() actor.Actor {
				return &moody{Actor: tokenactor.New(s), starts: func() bool {
					starts++
					return starts <= failing
				}}
			}, actor.WithMailbox(box))
		})
		var got *market.Tick
		for n := 1; n <= 5; n++ {
			got = r.tick(batch(n, 1))
		}
		if r.guard.Panics() != wantPanics || (got.Board.Token(1) != nil) != wantToken {
			t.Errorf("%d failing starts: %d panics, want %d; token there: %v", failing, r.guard.Panics(), wantPanics, got.Board.Token(1) != nil)
		}
	}
	f(0, 0, true)
	f(1, 1, true)      // restarted within the tick
	f(2, 2, true)      // comes back after the backoff
	f(1000, 10, false) // for ever: two starts a minute, since the breaker of an untracked token is forgotten
}

// TestRandomPanics compares with a sequential engine that never sees the
// quarantined quotes: rows, masks and snapshots must be the same, so neither the
// failed attempts nor the restarts left a trace in any window.
func TestRandomPanics(t *testing.T) {
	r := newRig(t, nil)
	rnd := rand.New(rand.NewPCG(7, 11))
	reference := tick.New(tick.Config{Epoch: "e", Shards: 1, NextSeq: 1})
	shard := tick.NewShard(quality.Config{})
	for n := 1; n <= 100; n++ {
		b := batch(n, 25)
		rate := []float64{0, 0.05, 0.5, 0.9}[rnd.IntN(4)]
		r.shard.bad = func(*market.Quote) bool { return rnd.Float64() < rate }
		got := r.tick(b)

		refused := map[market.ID]bool{}
		for _, q := range r.refuse.List() {
			if q.Seq == uint64(n) {
				refused[q.Token] = true
			}
		}
		p := reference.Poll(b, b.ReceivedAt)
		shard.Begin(p, 0)
		for _, q := range p.Quotes(0) {
			if !refused[q.ID] {
				shard.Step(q)
			}
		}
		shard.Sweep()
		want := reference.Seal(p, []tick.Part{shard.Finish()})
		compare(t, n, got, want)
	}
	if r.refuse.Total() < 300 {
		t.Errorf("only %d quotes were quarantined: the test is too easy", r.refuse.Total())
	}
}

func compare(t *testing.T, n int, got, want *market.Tick) {
	t.Helper()
	if !slices.Equal(changed(got), changed(want)) {
		t.Fatalf("poll %d changed %v, want %v", n, changed(got), changed(want))
	}
	masks := map[market.ID]market.Mask{}
	for c := range want.Changes {
		masks[c.Snap.ID] = c.Mask
	}
	for c := range got.Changes {
		if c.Mask != masks[c.Snap.ID] {
			t.Fatalf("poll %d token %d: mask %x, want %x", n, c.Snap.ID, c.Mask, masks[c.Snap.ID])
		}
	}
	for s := range want.Board.All {
		g := got.Board.Token(s.ID)
		if g == nil || g.Mant != s.Mant || g.Exp != s.Exp || g.Versions() != s.Versions() || g.Samples != s.Samples {
			t.Fatalf("poll %d token %d differs:\n%+v\n%+v", n, s.ID, g, s)
		}
	}
	if got.Board.Len() != want.Board.Len() || !reflect.DeepEqual(got.Board.Totals, want.Board.Totals) {
		t.Fatalf("poll %d: totals %+v, want %+v", n, got.Board.Totals, want.Board.Totals)
	}
}
