package main

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
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
}

// gone reports whether a seq is in a lost range: nobody knows what a client saw
// there.
func (r *recovered) gone(seq uint64) bool {
	return slices.ContainsFunc(r.lost, func(l persist.LostRange) bool { return l.From < seq && seq <= l.To })
}

// restore brings the engine to where the store's newest durable tick left it.
func (h *house) restore() error {
	begun := time.Now()
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
		board: m.Engine.Board(), lost: rec.Lost, tokens: m.Engine.Board().Len(), took: time.Since(begun), clean: rec.Clean,
	}
	if rec.DurableSeq > 0 {
		h.log.Info("restored", "lineage", h.feed.lineage, "epoch", rec.Epoch, "tokens", h.recovered.tokens, "state_seq", rec.StateSeq,
			"durable_seq", rec.DurableSeq, "next_seq", rec.NextSeq, "clean", rec.Clean, "replayed_ticks", replayed, "took_ms", h.recovered.took.Milliseconds())
	}
	return nil
}

// restoreMachine makes the engine that a store remembers: the saved state first,
// then the journal through the same code that made it. It returns the number of
// ticks that came from the journal.
func restoreMachine(store *persist.Store, shards int, q quality.Config, log *slog.Logger) (*tick.Machine, int, error) {
	rec := store.Recovery()
	m := tick.NewMachine(tick.Config{Epoch: rec.Epoch, Shards: shards, NextSeq: rec.NextSeq, Quality: q})
	if len(rec.Engine) > 0 {
		if err := m.Engine.Restore(rec.Engine); err != nil {
			return nil, 0, err
		}
	}
	if err := restoreTokens(store, m, log); err != nil {
		return nil, 0, err
	}
	ticks, diverged := 0, 0
	err := store.Journal(func(jt *market.JournalTick) error {
		ticks++
		diverged += m.Replay(jt)
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("cannot replay the journal after seq %d: %w", rec.StateSeq, err)
	}
	if diverged > 0 {
		log.Warn("the journal was written under other rules: some rows came out differently", "rows", diverged)
	}
	m.Resume(rec.NextSeq)
	return m, ticks, nil
}

// restoreTokens brings back every token of the saved state, on every processor:
// reading and decoding windows is most of a start's work. Damaged samples cost
// the windows what they held, not the start.
func restoreTokens(store *persist.Store, m *tick.Machine, log *slog.Logger) error {
	busy := make([]sync.Mutex, len(m.Shards))
	var failed atomic.Bool
	err := store.Tokens(runtime.GOMAXPROCS(0), func(ts market.TokenState, cells []market.Cell) error {
		shard := market.ShardOf(ts.ID, len(m.Shards))
		busy[shard].Lock()
		defer busy[shard].Unlock()
		err := m.Shards[shard].Restore(ts, cells)
		if errors.Is(err, window.ErrCells) {
			log.Warn("a token's window lacks samples", "token", uint32(ts.ID), "error", err)
			return nil
		}
		if err != nil {
			failed.Store(true)
		}
		return err
	})
	if !failed.Load() && errors.Is(err, persist.ErrCorrupt) {
		log.Warn("damaged window samples were left out", "error", err)
		return nil
	}
	return err
}

// qualityOf gives the engine its thresholds.
func qualityOf(c *config.Loaded) quality.Config {
	q := quality.DefaultConfig()
	q.TrendBegin, q.TrendEnd = c.Engine.TrendOn, c.Engine.TrendOff
	return q
}
