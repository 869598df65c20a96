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
// dropped, and the journal still holds what it would have said.
func (a *Actor) exported() {
	if a.pending.Add(-1) > 0 {
		return
	}
	m := a.collect
	a.collect = nil
	if m.Failed.Load() {
		a.deps.Log.Error("export dropped: a shard could not make its part")
		a.root.Send(a.self, collected{})
		return
	}
	a.deps.Guard.Do("market export", func() {
		e := &market.Export{Seq: a.engine.Board().Seq, Time: a.engine.Board().Time, Engine: a.engine.AppendState(nil)}
		for i := range m.Exports {
			e.Tokens = append(e.Tokens, m.Exports[i].Tokens...)
			e.Hours = append(e.Hours, m.Exports[i].Hours...)
		}
		a.deps.Journal.Save(e)
	})
	a.root.Send(a.self, collected{})
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
