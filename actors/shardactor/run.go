package shardactor

import (
	"github.com/asynkron/protoactor-go/actor"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/tick"
)

// run does the shard's part of a tick, up to the tokens that have to be
// restarted first.
func (a *Actor) run(c actor.Context, m *Run) {
	a.running, a.now = m, m.Plan.Env().Now
	ok := a.deps.Guard.Do("shard run", func() {
		a.shard.Begin(m.Plan, a.deps.Index)
		a.forget()
		for _, q := range m.Plan.Quotes(a.deps.Index) {
			a.first(c, q)
		}
	})
	if ok && len(a.again) > 0 {
		c.Send(c.Self(), retry{})
		return
	}
	a.finish(c)
}

// retry gives the quotes that panicked once to the restarted actors.
func (a *Actor) retry(c actor.Context) {
	a.deps.Guard.Do("shard retry", func() {
		for _, q := range a.again {
			if a.deliver(c, q) {
				delete(a.trouble, q.ID)
			} else {
				a.quarantine(c, q, 2)
			}
		}
	})
	a.finish(c)
}

// first is the first delivery of a quote.
func (a *Actor) first(c actor.Context, q *market.Quote) {
	if len(a.trouble) > 0 {
		if t := a.trouble[q.ID]; t != nil {
			a.probe(c, q, t)
			return
		}
	}
	if !a.deliver(c, q) {
		a.again = append(a.again, q)
	}
}

// deliver hands a quote to its token's actor, making the actor if the token is
// new, and reports whether the token took it. If not, the token is as before.
func (a *Actor) deliver(c actor.Context, q *market.Quote) bool {
	pid, known := a.tokens[q.ID]
	if !known {
		pid = a.spawn(c, q.ID)
	}
	a.entered, a.done = false, false
	c.Send(pid, q)
	if a.done {
		return true
	}
	if a.entered {
		a.shard.Undo()
	}
	return false
}

// Step implements tokenactor.Stepper: the token actor calls back with its
// message, and the marks tell how that ended.
func (a *Actor) Step(q *market.Quote) {
	a.entered = true
	a.deps.Stepper.Step(q)
	a.done = true
}

// finish closes the shard's part and reports it. A part that cannot be closed
// is replaced by the last good one without changes, so that the tick still seals.
func (a *Actor) finish(c actor.Context) {
	m := a.running
	clear(a.again)
	a.again, a.running = a.again[:0], nil
	defer m.Done()
	a.sweep(c)
	part := a.last
	part.Changes, part.Removed = nil, nil
	a.deps.Guard.Do("shard finish", func() { part = a.shard.Finish() })
	m.Parts[a.deps.Index] = part
	a.last = tick.Part{Snapshots: part.Snapshots, Index: part.Index, Totals: part.Totals, Deadline: part.Deadline}
}

// sweep does what time and absence cause. A token that panics is left as it
// was; the sweep goes on behind it.
func (a *Actor) sweep(c actor.Context) {
	var retired []market.ID
	for !a.deps.Guard.Do("shard sweep", func() { retired = a.shard.Sweep() }) {
		a.shard.Undo()
	}
	for _, id := range retired {
		a.retire(c, id)
	}
}
