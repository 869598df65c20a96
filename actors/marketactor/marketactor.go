package marketactor

import (
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/velocimeter/velocimeter/actors/guard"
	"github.com/velocimeter/velocimeter/actors/shardactor"
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/tick"
)

// warnEvery is the least time between two warnings about a slow journal: a
// replay at full speed waits for it many times a second.
const warnEvery = 10 * time.Second

// Deps is everything the supervisor does not own, and its state: the engine
// and the shards outlive the actor.
type Deps struct {
	Engine *tick.Engine
	Shards []shardactor.Deps
	Clock  Clock
	Live   bool // a timer runs clock ticks when no batch comes
	// TickMin is the least engine time between two clock ticks when live.
	TickMin market.Millis
	// An export is made when both times have passed since the last one.
	ExportEvery market.Millis // engine time
	ExportPause time.Duration // real time, so that a replay at full speed does not only export
	// Waiting and WaitingBytes bound the batches that wait for their tick.
	Waiting      int
	WaitingBytes int
	Journal      Journal
	Publisher    Publisher
	Strategy     actor.SupervisorStrategy // of the shards
	Guard        *guard.Guard
	Log          *slog.Logger
	// Stopped is called when the actor and all its children have ended.
	Stopped func()
}

// Actor is the market's supervisor.
type Actor struct {
	deps   Deps
	handle *Handle
	engine *tick.Engine
	root   *actor.RootContext
	self   *actor.PID
	shards []*actor.PID

	busy    bool     // a tick or an export is in the making
	current *arrived // the batch whose tick is next or in the making
	polling bool     // the tick in the making is current's
	begun   time.Time
	plan    *tick.Plan
	parts   []tick.Part
	report  func()       // a.reported, made once
	pending atomic.Int32 // shards that have not reported

	clocked    market.Time // of the last clock plan since the last poll
	stopTimer  func()
	timerAt    market.Time
	exportedAt market.Time // engine time of the last export
	exportedOn time.Time   // real time of it
	collect    *shardactor.Collect
	carried    []market.HourCells // of dropped exports
	warned     time.Time          // of the last warning about the journal
	ending     *drain
	final      bool // the last export is made
}

func newActor(d Deps, h *Handle) *Actor {
	a := &Actor{deps: d, handle: h, engine: d.Engine, parts: make([]tick.Part, len(d.Shards))}
	a.report = a.reported
	return a
}

// Receive implements actor.Actor.
func (a *Actor) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *arrived:
		a.handle.box.Hold()
		a.current = m
		a.advance(c)
	case sealed:
		a.settle(m.tick)
		a.advance(c)
	case collected:
		a.busy = false
		a.advance(c)
	case wake:
		a.disarm() // it may have been the timer; rest sets it again
		a.advance(c)
	case *drain:
		a.ending = m
		a.advance(c)
	case drained:
		close(a.ending.done)
	case *actor.Started:
		a.start(c)
	case *actor.Stopping:
		a.disarm()
	case *actor.Stopped:
		a.deps.Stopped()
	case *actor.Terminated, *actor.Restarting:
	default:
		panic(fmt.Errorf("BUG: market actor got %T", m))
	}
}

func (a *Actor) start(c actor.Context) {
	a.root, a.self = c.ActorSystem().Root, c.Self()
	a.exportedOn = time.Now()
	a.exportedAt = a.engine.Board().Time
	for i, d := range a.deps.Shards {
		pid, err := c.SpawnNamed(shardactor.Props(d), "shard-"+strconv.Itoa(i))
		if err != nil {
			panic(fmt.Errorf("BUG: cannot spawn shard %d: %w", i, err))
		}
		a.shards = append(a.shards, pid)
	}
}

// advance begins what is next; nothing while a tick or an export is being made.
func (a *Actor) advance(c actor.Context) {
	for !a.busy {
		switch {
		case !a.ready():
			return
		case a.exportDue():
			a.export(c)
		case a.clock(c):
		case a.current != nil:
			a.poll(c)
		case a.ending != nil && a.handle.box.Stats().Count == 0:
			a.end(c)
			return
		default:
			a.rest()
			return
		}
	}
}

// ready reports whether the journal takes a tick and the next seq is reserved.
func (a *Actor) ready() bool {
	ok := a.deps.Journal.Room() && a.deps.Journal.Reserved(a.engine.Seq()+1)
	if was := a.handle.counters.lagging.Swap(!ok); !ok && !was {
		a.handle.counters.holds.Add(1)
		if time.Since(a.warned) >= warnEvery {
			a.warned = time.Now()
			a.deps.Log.Warn("ticks wait for the storage", "seq", a.engine.Seq(), "holds", a.handle.counters.holds.Load())
		}
	}
	return ok
}

// poll plans the tick of the current batch.
func (a *Actor) poll(c actor.Context) {
	b := a.current.batch
	var plan *tick.Plan
	if !a.deps.Guard.Do("market poll", func() { plan = a.engine.Poll(b, b.ReceivedAt) }) {
		a.handle.counters.failed.Add(1)
		a.settleBatch()
		return
	}
	a.polling, a.clocked = true, 0
	if verdict, reason := plan.Verdict(); verdict == market.Poisoned {
		a.handle.counters.poisoned.Add(1)
		a.deps.Log.Warn("poll rejected", "source", b.Source.String(), "seq", plan.Env().Seq, "reason", reason,
			"quotes", len(b.Quotes))
	}
	a.dispatch(c, plan)
}

// dispatch sends one message to each shard.
func (a *Actor) dispatch(c actor.Context, plan *tick.Plan) {
	a.busy, a.plan, a.begun = true, plan, time.Now()
	a.pending.Store(int32(len(a.shards)))
	run := &shardactor.Run{Plan: plan, Parts: a.parts, Done: a.report}
	for _, pid := range a.shards {
		c.Send(pid, run)
	}
}

// reported is called by each shard, on its goroutine; the last one seals. The
// engine is nobody else's until the supervisor gets the sealed message.
func (a *Actor) reported() {
	if a.pending.Add(-1) > 0 {
		return
	}
	var t *market.Tick
	a.deps.Guard.Do("market seal", func() { t = a.engine.Seal(a.plan, a.parts) })
	if t != nil {
		a.handle.board.Store(t.Board)
		a.deps.Guard.Do("publish tick", func() { a.deps.Publisher.Publish(t) })
		a.deps.Guard.Do("journal tick", func() { a.deps.Journal.Append(t) })
	}
	a.handle.counters.lastTick.Store(int64(time.Since(a.begun)))
	a.root.Send(a.self, sealed{tick: t})
}

// settle closes the books of a tick.
func (a *Actor) settle(t *market.Tick) {
	a.busy, a.plan = false, nil
	clear(a.parts)
	if t != nil {
		a.handle.counters.ticks.Add(1)
		a.forget(t.Removed)
		if a.exportedAt == 0 {
			a.exportedAt = t.Env.Now
		}
	}
	if a.polling {
		a.polling = false
		a.handle.counters.polls.Add(1)
		a.settleBatch()
	}
}

func (a *Actor) settleBatch() {
	done := a.current.done
	a.current = nil
	if done != nil {
		done()
	}
}

// rest lets the next batch in and sets the timer for the next clock tick.
func (a *Actor) rest() {
	a.handle.box.Release()
	if a.deps.Live && a.ending == nil {
		a.arm(a.clockAt())
	}
}
