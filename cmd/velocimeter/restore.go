package main

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/velocimeter/velocimeter/cmd/velocimeter/config"
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/quality"
	"github.com/velocimeter/velocimeter/engine/tick"
	"github.com/velocimeter/velocimeter/engine/window"
	"github.com/velocimeter/velocimeter/persist"
)

// recovered is what a start found in the store.
type recovered struct {
	epoch      string
	durable    uint64        // newest seq that was restored
	position   uint64        // of the replay
	generation uint64        // part of every ETag: differs at every start
	board      *market.Board // shown until the actors run
	lost       []persist.LostRange
	tokens     int
	took       time.Duration
	clean      bool
	anew       uint64 // the state was rebuilt as of this seq
}

// gone reports whether a client cannot go on from a seq: nobody knows what it saw
// there, or the state has been rebuilt since, which need not give the same.
func (r *recovered) gone(seq uint64) bool {
	return seq <= r.anew || slices.ContainsFunc(r.lost, func(l persist.LostRange) bool { return l.From < seq && seq <= l.To })
}

// restore brings the engine to where the store's newest durable tick left it.
func (h *house) restore() error {
	begun := time.Now()
	defer rarely()()
	shards := h.cfg.Engine.Shards
	if shards == 0 {
		shards = 4 * runtime.GOMAXPROCS(0)
	}
	m, replayed, err := restoreMachine(h.store, shards, qualityOf(h.cfg), h.log)
	if err != nil {
		return err
	}
	h.machine = m
	rec := h.store.Recovery()
	if c, ok := h.feed.clock.(*liveClock); ok {
		c.notBefore(rec.Time)
	}
	h.recovered = recovered{
		epoch: rec.Epoch, durable: rec.DurableSeq, position: rec.Position, generation: rand.Uint64(),
		board: m.Engine.Board(), lost: rec.Lost, tokens: m.Engine.Board().Len(), took: time.Since(begun), clean: rec.Clean, anew: rec.Anew,
	}
	if rec.DurableSeq > 0 {
		h.log.Info("restored", "lineage", h.feed.lineage, "epoch", rec.Epoch, "tokens", h.recovered.tokens, "state_seq", rec.StateSeq,
			"durable_seq", rec.DurableSeq, "next_seq", rec.NextSeq, "clean", rec.Clean, "replayed_ticks", replayed, "took_ms", h.recovered.took.Milliseconds())
	}
	return nil
}

// rarePercent is the growth of the heap after which it is collected while the
// market is restored.
const rarePercent = 400

// rarely lets the heap grow further between collections until the function that
// it returns is called: nearly all that a start allocates stays, so the many
// collections of a heap that doubles and doubles would find next to nothing.
// A memory limit (GOMEMLIMIT) holds all the same.
func rarely() (end func()) {
	before := debug.SetGCPercent(rarePercent)
	if before < 0 || before > rarePercent {
		debug.SetGCPercent(before)
	}
	return func() { debug.SetGCPercent(before) }
}

// restoreMachine makes the engine that a store remembers: the saved state first,
// then the journal through the same code that made it. What of the state cannot be
// used is rebuilt from history. It returns the number of ticks that came from the
// journal after the state.
func restoreMachine(store *persist.Store, shards int, q quality.Config, log *slog.Logger) (*tick.Machine, int, error) {
	rec := store.Recovery()
	m := tick.NewMachine(tick.Config{Epoch: rec.Epoch, Shards: shards, NextSeq: rec.NextSeq, Quality: q})
	r := rebuilder{store: store, m: m, log: log, engine: !restoreEngine(m, &rec, log)}
	refused, err := restoreTokens(store, m, log)
	if err != nil {
		return nil, 0, err
	}
	needed := rec.StateDamaged || r.engine || refused > 0
	if needed {
		if err := r.begin(&rec); err != nil {
			return nil, 0, err
		}
	}
	ticks, diverged := 0, 0
	err = store.Journal(func(jt *market.JournalTick) error {
		ticks++
		diverged += m.Replay(jt)
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("cannot replay the journal after seq %d: %w", rec.StateSeq, err)
	}
	if needed {
		if err := r.end(&rec, ticks); err != nil {
			return nil, 0, err
		}
	} else if diverged > 0 && rec.Anew <= rec.StateSeq { // over a hole that was mended rows do
		log.Warn("the journal was written under other rules: some rows came out differently", "rows", diverged)
	}
	m.Resume(rec.NextSeq)
	return m, ticks, nil
}

// restoreEngine restores the engine's own state and reports whether there is
// nothing left to rebuild of it.
func restoreEngine(m *tick.Machine, rec *persist.Recovery, log *slog.Logger) bool {
	if len(rec.Engine) == 0 {
		return rec.StateSeq == 0
	}
	if err := m.Engine.Restore(rec.Engine); err != nil {
		log.Warn("the engine's stored state cannot be used", "error", err)
		return false
	}
	return true
}

// restoreTokens brings back every token of the saved state, on every processor:
// reading and decoding windows is most of a start's work. Damaged samples cost
// the windows what they held, a state that cannot be used its token; refused is
// how many did.
func restoreTokens(store *persist.Store, m *tick.Machine, log *slog.Logger) (refused int, err error) {
	busy := make([]sync.Mutex, len(m.Shards))
	var bad atomic.Int64
	err = store.Tokens(runtime.GOMAXPROCS(0), func(ts market.TokenState, cells []market.Cell) error {
		shard := market.ShardOf(ts.ID, len(m.Shards))
		busy[shard].Lock()
		defer busy[shard].Unlock()
		err := m.Shards[shard].Restore(ts, cells)
		switch {
		case errors.Is(err, window.ErrCells):
			log.Warn("a token's window lacks samples", "token", uint32(ts.ID), "error", err)
		case err != nil:
			if bad.Add(1) <= 10 { // of another version all are
				log.Warn("a token's stored state cannot be used", "token", uint32(ts.ID), "error", err)
			}
		}
		return nil
	})
	if errors.Is(err, persist.ErrCorrupt) {
		log.Warn("damaged window samples were left out", "error", err)
		err = nil
	}
	return int(bad.Load()), err
}

// qualityOf gives the engine its thresholds.
func qualityOf(c *config.Loaded) quality.Config {
	q := quality.DefaultConfig()
	q.TrendBegin, q.TrendEnd = c.Engine.TrendOn, c.Engine.TrendOff
	return q
}
