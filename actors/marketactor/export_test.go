package marketactor

import (
	"log/slog"
	"slices"
	"testing"

	"github.com/asynkron/protoactor-go/actor"
	"go.uber.org/goleak"

	"github.com/velocimeter/velocimeter/actors/guard"
	"github.com/velocimeter/velocimeter/actors/shardactor"
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/tick"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// desk is a Journal that takes exports, or panics.
type desk struct {
	Journal
	broken bool
	saved  []*market.Export
}

func (d *desk) Save(e *market.Export) {
	if d.broken {
		panic("desk")
	}
	d.saved = append(d.saved, e)
}

// exporter is a supervisor whose shards are played by the test.
type exporter struct {
	*Actor
	t    *testing.T
	desk *desk
	next market.Time
	open []market.HourCells // that the journal must still get
}

func newExporter(t *testing.T) *exporter {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return log }))
	t.Cleanup(system.Shutdown)
	x := &exporter{t: t, desk: &desk{}}
	d := Deps{
		Engine: tick.New(tick.Config{Epoch: "e", Shards: 2, NextSeq: 1}), Shards: make([]shardactor.Deps, 2),
		Journal: x.desk, Guard: guard.New(log), Log: log,
	}
	x.Actor = newActor(d, &Handle{})
	x.root = system.Root
	x.self = system.Root.Spawn(actor.PropsFromFunc(func(actor.Context) {}))
	return x
}

// export has both shards hand over one new closed hour each; the second one
// fails if asked to.
func (x *exporter) export(fail bool) {
	x.collect = &shardactor.Collect{Exports: make([]market.Export, 2)}
	x.collect.Failed.Store(fail)
	x.pending.Store(2)
	for i := range x.collect.Exports {
		h := market.HourCells{ID: market.ID(i + 1), Hour: x.next}
		x.next++
		x.open = append(x.open, h)
		x.collect.Exports[i] = market.Export{Tokens: []market.TokenState{{ID: h.ID}}, Hours: []market.HourCells{h}}
	}
	x.exported()
	x.exported()
}

// told checks that n exports reached the journal, the last with all open hours.
func (x *exporter) told(n int) {
	x.t.Helper()
	if len(x.desk.saved) != n {
		x.t.Fatalf("%d exports reached the journal, want %d", len(x.desk.saved), n)
	}
	e := x.desk.saved[n-1]
	same := func(a, b market.HourCells) bool { return a.ID == b.ID && a.Hour == b.Hour }
	if len(e.Tokens) != 2 || !slices.EqualFunc(e.Hours, x.open, same) {
		x.t.Errorf("export of %d tokens with hours %v, want %v", len(e.Tokens), e.Hours, x.open)
	}
	x.open = nil
}

// Tokens hand a closed hour over once: it must reach the journal with the next
// export whatever kept this one from it, and not twice.
func TestClosedHoursAreNotLost(t *testing.T) {
	f := func(broken func(x *exporter)) {
		t.Helper()
		x := newExporter(t)
		x.export(false)
		x.told(1)
		broken(x)
		broken(x)
		x.export(false)
		x.told(2)
		x.export(false)
		x.told(3)
	}
	f(func(x *exporter) { x.export(true) })
	f(func(x *exporter) {
		x.desk.broken = true
		x.export(false)
		x.desk.broken = false
	})
	f(func(x *exporter) {
		engine := x.engine
		x.engine = nil // the export itself panics
		x.export(false)
		x.engine = engine
	})
}

// A token that retires meanwhile and comes back must not get the hours of its
// former life; what the journal was given before is not touched.
func TestCarriedHoursOfRetiredTokens(t *testing.T) {
	x := newExporter(t)
	x.export(true)
	x.export(true)
	given := x.carried
	before := slices.Clone(given)
	x.settle(&market.Tick{Removed: []market.ID{1}})
	x.open = slices.DeleteFunc(x.open, func(h market.HourCells) bool { return h.ID == 1 })
	same := func(a, b market.HourCells) bool { return a.ID == b.ID && a.Hour == b.Hour }
	if !slices.EqualFunc(given, before, same) {
		t.Errorf("hours handed over were changed: %v", given)
	}
	x.export(false)
	x.told(1)
}

func TestCarriedHoursAreBounded(t *testing.T) {
	x := newExporter(t)
	x.carried = make([]market.HourCells, maxCarried)
	x.export(true)
	if n := len(x.carried); n != maxCarried || x.carried[n-1].Hour != 1 {
		t.Errorf("%d hours carried, want the newest %d", n, maxCarried)
	}
}
