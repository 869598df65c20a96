package marketactor

import (
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/velocimeter/velocimeter/actors/mailbox"
	"github.com/velocimeter/velocimeter/engine/market"
)

// Stats describe the supervisor.
type Stats struct {
	Ticks     uint64        // sealed
	Polls     uint64        // batches that became ticks
	Poisoned  uint64        // of those, rejected whole by the quality gate
	Failed    uint64        // batches given up because of a bug
	Holds     uint64        // times that plans had to wait for the journal
	Lagging   bool          // plans wait for the journal now
	Conflated uint64        // batches replaced by a newer one
	Waiting   int           // batches waiting
	Bytes     int           // their estimated size
	LastTick  time.Duration // from plan to seal, of the newest tick
}

type counters struct {
	ticks, polls, poisoned, failed, holds atomic.Uint64
	lagging                               atomic.Bool
	lastTick                              atomic.Int64
}

// Handle is the supervisor as the rest of the actors see it. Safe for
// concurrent use; no method blocks.
type Handle struct {
	box      *mailbox.Lanes
	counters counters
	board    atomic.Pointer[market.Board]
	system   *actor.ActorSystem
	pid      *actor.PID
}

// New makes the supervisor's handle and describes its actor; nothing runs
// before the actor is spawned.
func New(d Deps) (*Handle, *actor.Props) {
	h := &Handle{}
	h.board.Store(d.Engine.Board())
	h.box = mailbox.NewLanes(d.Guard, mailbox.Limits{Count: d.Waiting, Bytes: d.WaitingBytes, Refused: refused})
	props := actor.PropsFromProducer(
		func() actor.Actor { return newActor(d, h) },
		actor.WithMailbox(h.box.Producer()), actor.WithSupervisor(d.Strategy))
	return h, props
}

// refused gives up a batch that does not fit; its producer must not wait for it.
func refused(msg any) {
	if m, ok := msg.(*arrived); ok && m.done != nil {
		m.done()
	}
}

// Bind tells the handle its actor. Called once, before the first batch.
func (h *Handle) Bind(system *actor.ActorSystem, pid *actor.PID) { h.system, h.pid = system, pid }

// Offer gives a batch to the supervisor. In a slot (≥ 0) it replaces an older
// batch of the same slot that still waits. done, if not nil, is called once
// after the batch's tick is sealed; it must not block.
func (h *Handle) Offer(b *market.Batch, slot int, done func()) {
	h.system.Root.Send(h.pid, &arrived{batch: b, slot: slot, done: done})
}

// Wake has the supervisor look again at what it waits for.
func (h *Handle) Wake() { h.system.Root.Send(h.pid, wake{}) }

// Drain has everything that arrived become ticks, then the export, then the
// token actors stop; done is closed after that. No batch may be offered after it.
func (h *Handle) Drain(done chan<- struct{}) { h.system.Root.Send(h.pid, &drain{done: done}) }

// Board returns the market as of the newest sealed tick; never nil.
func (h *Handle) Board() *market.Board { return h.board.Load() }

// Stats returns the supervisor's figures.
func (h *Handle) Stats() Stats {
	box, n := h.box.Stats(), &h.counters
	return Stats{
		Ticks: n.ticks.Load(), Polls: n.polls.Load(), Poisoned: n.poisoned.Load(),
		Failed: n.failed.Load() + box.Refused, Holds: n.holds.Load(), Lagging: n.lagging.Load(),
		Conflated: box.Conflated, Waiting: box.Count, Bytes: box.Bytes, LastTick: time.Duration(n.lastTick.Load()),
	}
}
