package journalactor

import (
	"fmt"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/velocimeter/velocimeter/actors/guard"
	"github.com/velocimeter/velocimeter/actors/mailbox"
	"github.com/velocimeter/velocimeter/engine/market"
)

const (
	// maxRetry bounds the wait between attempts after a failed commit.
	maxRetry = 30 * time.Second
	// A trouble that lasts is told at growing distances: a disk may be full for days.
	minQuiet, maxQuiet = time.Second, time.Minute
	// maxOwed bounds the closed hours kept for the next export after a failed
	// one; beyond it they are given up and counted as a failure.
	maxOwed = 64 << 20
)

// Deps is everything the journal actor does not own.
type Deps struct {
	Journal    Journal
	SyncWindow time.Duration // how long ticks may wait to be made durable together; 0: every tick by itself
	Block      uint64        // seqs reserved at a time
	Limits     Limits
	Guard      *guard.Guard
	Log        *slog.Logger
	// Stopped is called when the actor has ended.
	Stopped func()
}

// Handle is the journal as the rest of the actors see it: messages in, figures
// out. Its methods never block.
type Handle struct {
	Ledger
	system *actor.ActorSystem
	pid    *actor.PID
	wake   func()
}

// New makes the journal's handle; nothing runs before Spawn. nextSeq is the
// first seq that will be used and must be reserved already up to reserved.
func New(d Deps, nextSeq, durable, reserved uint64) (*Handle, *actor.Props) {
	h := &Handle{}
	h.max = d.Limits
	// The mailbox has no limit of its own: the supervisor asks Room before every
	// plan, so at most one tick and one export are above the limits. Refusing one
	// here would lose what the engine gives only once.
	h.box = mailbox.NewLanes(d.Guard, mailbox.Limits{Count: math.MaxInt, Bytes: math.MaxInt})
	h.durable.Store(durable)
	h.appended.Store(nextSeq - 1)
	h.reserved.Store(reserved)
	props := actor.PropsFromProducer(
		func() actor.Actor { return &Actor{deps: d, ledger: h} }, actor.WithMailbox(h.box.Producer()))
	return h, props
}

// Bind tells the handle its actor, and whom to wake when room or seqs are there
// again or a state is wanted. Called once, before the first tick.
func (h *Handle) Bind(system *actor.ActorSystem, pid *actor.PID, wake func()) {
	h.system, h.pid, h.wake = system, pid, wake
}

// Append gives a tick to the journal.
func (h *Handle) Append(t *market.Tick) {
	h.system.Root.Send(h.pid, &appendTick{tick: t, bytes: tickBytes + changeBytes*t.Rows()})
}

// Save gives an export to the journal, after all ticks so far.
func (h *Handle) Save(e *market.Export) {
	h.system.Root.Send(h.pid, &save{export: e, bytes: exportBytes(e)})
}

// Finish has everything written and made durable; done gets the outcome.
func (h *Handle) Finish(done chan<- error) { h.system.Root.Send(h.pid, &finish{done: done}) }

// Actor is the journal's actor. It blocks on the disk, on the goroutine that
// its own mailbox runs on; nobody waits for it.
type Actor struct {
	deps    Deps
	ledger  *Handle
	timer   *time.Timer // armed while something is not durable
	tries   int         // failed commits in a row
	missing bool        // ticks before the next one were lost: the state must say what they changed
	owed    []market.HourCells
	nextAt  time.Time     // no log line before
	quiet   time.Duration // between log lines, since the last commit
}

// Receive implements actor.Actor.
func (a *Actor) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *appendTick:
		a.forget(m.tick.Removed)
		a.append(c, m.tick)
		a.reserve(c, m.tick.Env.Seq) // last: a commit disarms the timer that it needs
		a.wake()
	case *save:
		a.save(m.export)
		a.wake()
	case flush:
		a.commit(c)
		a.reserve(c, a.ledger.appended.Load())
		a.wake()
	case *finish:
		a.finish(m)
	case *actor.Stopping:
		a.disarm()
	case *actor.Stopped:
		a.deps.Stopped()
	case *actor.Started, *actor.Restarting:
	default:
		panic(fmt.Errorf("BUG: journal actor got %T", m))
	}
}

func (a *Actor) append(c actor.Context, t *market.Tick) {
	if err := a.deps.Journal.Append(t); err != nil {
		a.ledger.lost.Add(1)
		a.missing = true
		a.failed("append tick", t.Env.Seq, err)
		return
	}
	a.ledger.appended.Store(t.Env.Seq)
	if a.missing {
		a.missing = false
		a.ledger.wantState.Store(true)
		a.ledger.wake() // the next tick may be a minute away
	}
	a.ledger.unsynced.CompareAndSwap(0, time.Now().UnixMilli())
	if a.deps.SyncWindow <= 0 {
		a.commit(c)
		return
	}
	a.arm(c, a.deps.SyncWindow)
}

// forget drops the closed hours of retired tokens from those kept for the next
// export: a token that comes back begins without them.
func (a *Actor) forget(retired []market.ID) {
	if len(a.owed) == 0 || len(retired) == 0 {
		return
	}
	gone := make(map[market.ID]bool, len(retired))
	for _, id := range retired {
		gone[id] = true
	}
	a.owed = slices.DeleteFunc(a.owed, func(h market.HourCells) bool { return gone[h.ID] })
}

// reserve asks for the next block when less than half of one is left. After an
// error it is asked again by the timer, since no tick may come any more.
func (a *Actor) reserve(c actor.Context, used uint64) {
	reserved := a.ledger.reserved.Load()
	if reserved >= used+a.deps.Block/2 {
		return
	}
	if err := a.deps.Journal.Reserve(used + a.deps.Block); err != nil {
		a.failed("reserve seqs", used+a.deps.Block, err)
		a.arm(c, maxRetry/10)
		return
	}
	a.ledger.reserved.Store(used + a.deps.Block)
}

// commit makes what was appended durable. After an error it is tried again,
// later each time, and by every further append when the window is 0.
func (a *Actor) commit(c actor.Context) {
	a.disarm()
	seq, err := a.deps.Journal.Commit()
	if err != nil {
		a.tries++
		a.failed("commit journal", a.ledger.appended.Load(), err)
		a.arm(c, min(max(a.deps.SyncWindow, time.Second)<<min(a.tries, 10), maxRetry))
		return
	}
	a.tries, a.quiet = 0, 0
	a.ledger.durable.Store(seq)
	a.ledger.unsynced.Store(0)
	a.ledger.degraded.Store(false)
}

// save keeps the closed hours of a failed export for the next one: the engine
// exports an hour only once.
func (a *Actor) save(e *market.Export) {
	if len(a.owed) > 0 {
		e.Hours = append(a.owed, e.Hours...)
		a.owed = nil
	}
	err := a.deps.Journal.Save(e)
	if err == nil {
		a.ledger.degraded.Store(false)
		a.reached()
		return
	}
	a.failed("save state", e.Seq, err)
	if hourBytes(e.Hours) <= maxOwed {
		a.owed = e.Hours
		return
	}
	a.failed("keep closed hours for the next export", e.Seq, err)
}

// reached asks what is durable now: ticks behind lost ones are with the state.
func (a *Actor) reached() {
	if a.ledger.durable.Load() == a.ledger.appended.Load() {
		return
	}
	if seq, err := a.deps.Journal.Commit(); err == nil {
		a.ledger.durable.Store(seq)
	}
}

func (a *Actor) finish(m *finish) {
	a.disarm()
	seq, err := a.deps.Journal.Commit()
	if err != nil {
		a.failed("commit journal", a.ledger.appended.Load(), err)
		m.done <- fmt.Errorf("cannot commit journal: %w", err)
		return
	}
	a.ledger.durable.Store(seq)
	a.ledger.unsynced.Store(0)
	m.done <- nil
}

// failed is where an error of the store ends.
func (a *Actor) failed(what string, seq uint64, err error) {
	a.ledger.failures.Add(1)
	a.ledger.degraded.Store(true)
	if now := time.Now(); !now.Before(a.nextAt) {
		a.quiet = min(max(2*a.quiet, minQuiet), maxQuiet)
		a.nextAt = now.Add(a.quiet)
		a.deps.Log.Error("storage degraded", "cannot", what, "seq", seq, "error", err,
			"failures", a.ledger.failures.Load(), "lost_ticks", a.ledger.lost.Load())
	}
}

// wake tells the supervisor that half of the queue is free, if it asked.
func (a *Actor) wake() {
	s := a.ledger.box.Stats()
	if 2*s.Count > a.ledger.max.Count || 2*s.Bytes > a.ledger.max.Bytes {
		return
	}
	if a.ledger.waiting.Swap(false) {
		a.ledger.wake()
	}
}

func (a *Actor) arm(c actor.Context, d time.Duration) {
	if a.timer != nil {
		return
	}
	root, self := c.ActorSystem().Root, c.Self()
	a.timer = time.AfterFunc(d, func() { root.Send(self, flush{}) })
}

func (a *Actor) disarm() {
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
}
