package marketactor

import (
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/velocimeter/velocimeter/actors/shardactor"
	"github.com/velocimeter/velocimeter/engine/market"
)

func (a *Actor) exportDue() bool {
	if a.engine.Board().Time == 0 || time.Since(a.exportedOn) < a.deps.ExportPause {
		return false
	}
	return a.engine.Board().Time.Sub(a.exportedAt) >= a.deps.ExportEvery || a.deps.Journal.WantsState()
}

// export asks every shard for its tokens. No tick is in the making, so all of
// them answer as of the same seq.
func (a *Actor) export(c actor.Context) {
	a.busy = true
	a.exportedAt, a.exportedOn = a.engine.Board().Time, time.Now()
	a.collect = &shardactor.Collect{Exports: make([]market.Export, len(a.shards)), Done: a.exported}
	a.pending.Store(int32(len(a.shards)))
	for _, pid := range a.shards {
		c.Send(pid, a.collect)
	}
}

// exported is called by each shard; the last one gives the export to the
// journal. An export that lacks a shard is worth less than the one before: it is
// dropped, and the journal still holds what it would have said, except for the
// closed hours, which the tokens hand over only once: they wait for the next.
func (a *Actor) exported() {
	if a.pending.Add(-1) > 0 {
		return
	}
	m := a.collect
	a.collect = nil
	for i := range m.Exports {
		a.carried = append(a.carried, m.Exports[i].Hours...)
	}
	if a.save(m) {
		a.carried = nil
	} else {
		a.carry()
	}
	a.root.Send(a.self, collected{})
}

// save hands the export to the journal and reports whether the journal has it.
func (a *Actor) save(m *shardactor.Collect) bool {
	if m.Failed.Load() {
		a.deps.Log.Error("export dropped: a shard could not make its part")
		return false
	}
	return a.deps.Guard.Do("market export", func() {
		board := a.engine.Board()
		e := &market.Export{Seq: board.Seq, Time: board.Time, Engine: a.engine.AppendState(nil), Hours: a.carried}
		for i := range m.Exports {
			e.Tokens = append(e.Tokens, m.Exports[i].Tokens...)
		}
		a.deps.Journal.Save(e)
	})
}

// maxCarried bounds the closed hours of dropped exports, about 1 KiB each.
const maxCarried = 1 << 17

// carry keeps the closed hours of a dropped export for the next one. The oldest
// go where it is too much.
func (a *Actor) carry() {
	if over := len(a.carried) - maxCarried; over > 0 {
		a.deps.Log.Error("closed hours lost: too many exports were dropped in a row", "hours", over)
		a.carried = append([]market.HourCells(nil), a.carried[over:]...)
	}
}

// forget drops the carried hours of retired tokens: one that comes back begins
// without them. It leaves the slice alone, of which the journal may have a copy.
func (a *Actor) forget(retired []market.ID) {
	if len(a.carried) == 0 || len(retired) == 0 {
		return
	}
	gone := make(map[market.ID]bool, len(retired))
	for _, id := range retired {
		gone[id] = true
	}
	var rest []market.HourCells
	for _, h := range a.carried {
		if !gone[h.ID] {
			rest = append(rest, h)
		}
	}
	a.carried = rest
}

// end makes the last export and then stops the tokens.
func (a *Actor) end(c actor.Context) {
	if !a.final {
		a.final = true
		a.disarm()
		if a.engine.Board().Time != 0 {
			a.export(c)
			return
		}
	}
	a.busy = true
	a.handle.box.Hold() // what comes now has not been accepted
	a.pending.Store(int32(len(a.shards)))
	m := &shardactor.Drain{Done: func() {
		if a.pending.Add(-1) == 0 {
			a.root.Send(a.self, drained{})
		}
	}}
	for _, pid := range a.shards {
		c.Send(pid, m)
	}
}
