package fanout

import (
	"context"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Hub is the fan-out: it takes ticks and serves sessions. Safe for concurrent use.
type Hub struct {
	cfg      Config
	boards   Boards
	table    *table
	registry *registry
	stats    stats
	round    atomic.Pointer[round]
	wake     chan struct{}

	slotMu sync.Mutex
	slot   *market.Tick // newest tick not yet fanned out
	merged bool         // another one was in the slot before it

	sessions sessions
	scratch  []*Session // of the goroutine in Run
}

// New returns a hub that serves the board that boards has until the first tick
// arrives. It starts nothing; Run does the work.
func New(cfg Config, boards Boards) *Hub {
	cfg.setDefaults()
	h := &Hub{cfg: cfg, boards: boards, table: newTable(&cfg), registry: newRegistry(&cfg), wake: make(chan struct{}, 1)}
	h.stats.start()
	return h
}

// Ready reports whether there is a market to serve: after a restart the restored
// one, before the first tick.
func (h *Hub) Ready() bool {
	if h.round.Load() != nil {
		return true
	}
	b := h.boards.Board()
	if b == nil {
		return false
	}
	h.round.CompareAndSwap(nil, &round{board: b, from: b.Seq})
	return true
}

// Publish hands a tick over and returns at once. A tick that is still waiting
// is replaced: the fan-out then finds what changed by field versions.
func (h *Hub) Publish(t *market.Tick) {
	h.slotMu.Lock()
	if h.slot == nil || h.slot.Env.Seq < t.Env.Seq {
		if h.slot != nil {
			h.merged = true
			h.stats.mergedTicks.Add(1)
		}
		h.slot = t
	}
	h.slotMu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default: // a wake-up is pending already
	}
}

// sweepEvery is how often silence and stalls are looked for.
const sweepEvery = time.Second

// Run fans ticks out until ctx ends.
func (h *Hub) Run(ctx context.Context) {
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.wake:
			h.safely(func() { h.step(time.Now()) })
		case <-sweep.C:
			h.safely(func() { h.sweep(time.Now()) })
		}
	}
}

// step takes the waiting tick and offers every session what it is due.
func (h *Hub) step(now time.Time) {
	if !h.advance() {
		return
	}
	h.scratch = h.sessions.appendAll(h.scratch[:0])
	for _, s := range h.scratch {
		h.guard(s, func() { s.due(now) })
	}
	clear(h.scratch)
}

// sweep looks after heartbeats and stalled writes.
func (h *Hub) sweep(now time.Time) {
	h.scratch = h.sessions.appendAll(h.scratch[:0])
	for _, s := range h.scratch {
		h.guard(s, func() { s.sweep(now) })
	}
	clear(h.scratch)
}

// advance makes the next round of the waiting tick and reports whether there was one.
func (h *Hub) advance() bool {
	h.slotMu.Lock()
	t, merged := h.slot, h.merged
	h.slot, h.merged = nil, false
	h.slotMu.Unlock()
	if t == nil {
		return false
	}
	last := h.round.Load()
	next := &round{board: t.Board, tick: t}
	if last != nil {
		if t.Board.Seq <= last.seq() {
			return false
		}
		next.from = last.seq()
		next.inherit(last)
	}
	if merged || last == nil {
		next.tick = nil
	}
	h.round.Store(next)
	h.stats.rounds.Add(1)
	return true
}

// safely keeps a panic of the fan-out's own from taking the process along.
func (h *Hub) safely(fn func()) {
	defer func() {
		if r := recover(); r != nil {
			h.panicked(r)
		}
	}()
	fn()
}

func (h *Hub) panicked(reason any) {
	h.stats.panics.Add(1)
	h.cfg.Logger.Error("stream fan-out panicked", "reason", reason, "stack", string(debug.Stack()))
}

// guard keeps a panic within the session that it came up in.
func (h *Hub) guard(s *Session, fn func()) {
	defer func() {
		if r := recover(); r != nil {
			h.panicked(r)
			s.fail()
		}
	}()
	fn()
}

// sessions is the set of open sessions.
type sessions struct {
	mu   sync.Mutex
	list []*Session // a session knows its place
}

func (l *sessions) add(s *Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.place = len(l.list)
	l.list = append(l.list, s)
}

func (l *sessions) remove(s *Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := len(l.list) - 1
	l.list[last].place = s.place
	l.list[s.place] = l.list[last]
	l.list[last] = nil
	l.list = l.list[:last]
}

func (l *sessions) appendAll(dst []*Session) []*Session {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append(dst, l.list...)
}
