package main

import (
	"fmt"
	"log/slog"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/tick"
	"github.com/velocimeter/velocimeter/persist"
)

// rebuilder makes anew from history what of the state cannot be used: tokens get
// the samples of their windows, then the quotes of every tick that is kept. It is
// used around the replay of the journal.
type rebuilder struct {
	store  *persist.Store
	m      *tick.Machine
	log    *slog.Logger
	engine bool // the engine's own state is among it

	cells    *persist.Cells
	failed   error // of reading cells
	restored map[market.ID]struct{}
	first    uint64 // the first tick that was used
}

// begin replays the ticks that the state knew to what did not come back.
func (r *rebuilder) begin(rec *persist.Recovery) error {
	r.restored = map[market.ID]struct{}{}
	for _, s := range r.m.Shards {
		for id := range s.IDs {
			r.restored[id] = struct{}{}
		}
	}
	r.cells = r.store.NewCells()
	r.m.Recall(r.past)
	err := r.store.Early(func(jt *market.JournalTick) error {
		r.note(jt.Env.Seq, rec)
		r.m.ReplayEarly(jt, r.has, r.engine)
		return nil
	})
	if err != nil {
		return fmt.Errorf("cannot replay the journal up to seq %d: %w", rec.StateSeq, err)
	}
	r.note(rec.StateSeq+1, rec)
	return nil
}

// note remembers the first tick, and gives the engine the retirements before it.
func (r *rebuilder) note(seq uint64, rec *persist.Recovery) {
	if r.first != 0 {
		return
	}
	r.first = seq
	if !r.engine {
		return
	}
	var graves []market.Tombstone
	for _, t := range rec.Tombstones {
		if t.Seq < seq {
			graves = append(graves, t)
		}
	}
	r.m.Engine.Bury(graves)
}

func (r *rebuilder) has(id market.ID) bool {
	_, ok := r.restored[id]
	return ok
}

// past returns a token's samples. A failure costs the samples, not the start.
func (r *rebuilder) past(id market.ID, before market.Time) ([]market.Cell, market.Time) {
	if r.has(id) {
		return nil, 0 // retired since, and now another
	}
	cells, fresh, err := r.cells.Of(id, before)
	if err != nil && r.failed == nil {
		r.failed = err
	}
	return cells, fresh
}

// end wakes nobody: tokens without a tick wait for their next quote.
func (r *rebuilder) end(rec *persist.Recovery, replayed int) error {
	ids, err := r.cells.IDs()
	if err != nil && r.failed == nil {
		r.failed = err
	}
	graves := map[market.ID]struct{}{}
	for _, t := range rec.Tombstones {
		graves[t.ID] = struct{}{}
	}
	waiting := ids[:0]
	for _, id := range ids {
		if _, gone := graves[id]; !gone && !r.has(id) {
			waiting = append(waiting, id)
		}
	}
	done := persist.Rebuilt{Engine: r.engine, Waiting: r.m.Recalled(waiting)}
	for _, s := range r.m.Shards {
		for id := range s.IDs {
			if !r.has(id) {
				done.Tokens++
			}
		}
	}
	if r.first <= rec.StateSeq || replayed > 0 {
		done.From = r.first
	}
	if err := r.cells.Close(); err != nil && r.failed == nil {
		r.failed = err
	}
	if r.failed != nil {
		r.log.Warn("damaged window samples were left out", "error", r.failed)
	}
	return r.store.NoteRebuilt(done)
}
