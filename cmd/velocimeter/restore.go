package main

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/velocimeter/velocimeter/cmd/velocimeter/config"
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/quality"
	"github.com/velocimeter/velocimeter/engine/tick"
	"github.com/velocimeter/velocimeter/engine/window"
)

// recovered is what a start found in the store.
type recovered struct {
	epoch      string
	durable    uint64 // newest seq that was restored
	position   uint64 // of the replay
	generation uint64 // part of every ETag: differs at every start
	tokens     int
	replayed   int // ticks taken from the journal
	took       time.Duration
	clean      bool
}

// restore brings the engine to where the store's newest durable tick left it:
// the saved state first, then the journal through the same code that made it.
func (h *house) restore() error {
	begun := time.Now()
	rec := h.store.Recovery()
	shards := h.cfg.Engine.Shards
	if shards == 0 {
		shards = 4 * runtime.GOMAXPROCS(0)
	}
	h.machine = tick.NewMachine(tick.Config{Epoch: rec.Epoch, Shards: shards, NextSeq: rec.NextSeq, Quality: qualityOf(h.cfg)})
	if len(rec.Engine) > 0 {
		if err := h.machine.Engine.Restore(rec.Engine); err != nil {
			return err
		}
	}
	err := h.store.Tokens(func(ts market.TokenState, cells []market.Cell) error {
		err := h.machine.Restore(ts, cells)
		if errors.Is(err, window.ErrCells) {
			h.log.Warn("a token's window lacks samples", "token", uint32(ts.ID), "error", err)
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	ticks, diverged := 0, 0
	err = h.store.Journal(func(jt *market.JournalTick) error {
		ticks++
		diverged += h.machine.Replay(jt)
		return nil
	})
	if err != nil {
		return fmt.Errorf("cannot replay the journal after seq %d: %w", rec.StateSeq, err)
	}
	if diverged > 0 {
		h.log.Warn("the journal was written under other rules: some rows came out differently", "rows", diverged)
	}
	h.machine.Resume(rec.NextSeq)
	h.recovered = recovered{
		epoch: rec.Epoch, durable: rec.DurableSeq, position: rec.Position, generation: uint64(time.Now().Unix()),
		tokens: h.machine.Engine.Board().Len(), replayed: ticks, took: time.Since(begun), clean: rec.Clean,
	}
	if rec.DurableSeq > 0 {
		h.log.Info("restored", "lineage", h.feed.lineage, "epoch", rec.Epoch, "tokens", h.recovered.tokens, "state_seq", rec.StateSeq,
			"durable_seq", rec.DurableSeq, "next_seq", rec.NextSeq, "clean", rec.Clean, "took_ms", h.recovered.took.Milliseconds())
	}
	return nil
}

// qualityOf gives the engine its thresholds.
func qualityOf(c *config.Loaded) quality.Config {
	q := quality.DefaultConfig()
	q.TrendBegin, q.TrendEnd = c.Engine.TrendOn, c.Engine.TrendOff
	return q
}
