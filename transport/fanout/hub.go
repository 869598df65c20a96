package fanout

import (
	"context"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// Hub is the fan-out: it takes ticks and serves sessions. Safe for concurrent use.
type Hub struct {
	cfg      Config
	boards   Boards
	table    *table
	registry *registry
	stats    stats
	wake     chan struct{}

	slotMu sync.Mutex
	slot   []*market.Tick // not yet fanned out; only the newest where nobody wants every one
	merged bool           // there were others between them
	handed time.Time      // when the first that waits was handed over

	lanes    []*lane
	joined   atomic.Uint64 // sessions ever added
	records  []*channel    // of the goroutine in Run, and so is what follows
	pending  []*market.Tick
	deadline time.Time // when a slower pace is due; zero where none is waiting
	surge    surge
}

// New returns a hub that serves the board that boards has until the first tick
// arrives. It starts nothing; Run does the work.
func New(cfg Config, boards Boards) *Hub {
	cfg.setDefaults()
	h := &Hub{cfg: cfg, boards: boards, table: newTable(&cfg), registry: newRegistry(&cfg), wake: make(chan struct{}, 1)}
	for range cfg.Lanes {
		l := new(lane)
		if cfg.Outbox != nil {
			l.batch.out = cfg.Outbox()
		}
		h.lanes = append(h.lanes, l)
	}
	h.stats.start()
	return h
}

// newest returns the newest round; nil before there is a market.
func (h *Hub) newest() *round { return h.table.paces[wire.RateTick].cur.Load() }

// Ready reports whether there is a market to serve: after a restart the restored
// one, before the first tick.
func (h *Hub) Ready() bool {
	if h.newest() != nil {
		return true
	}
	b := h.boards.Board()
	if b == nil {
		return false
	}
	h.table.paces[wire.RateTick].cur.CompareAndSwap(nil, &round{view: &view{board: b}, from: b.Seq})
	return true
}

// waitMost bounds the ticks that wait for channels of mode every.
const waitMost = 256

// Publish hands a tick over and returns at once. A tick that is still waiting
// is replaced, unless somebody wants every one: the fan-out finds what changed
// by field versions.
func (h *Hub) Publish(t *market.Tick) {
	h.slotMu.Lock()
	if n := len(h.slot); n == 0 || h.slot[n-1].Env.Seq < t.Env.Seq {
		if n > 0 {
			h.stats.mergedTicks.Add(1)
		}
		if n == waitMost || n > 0 && h.table.recording.Load() == 0 {
			clear(h.slot)
			h.slot, h.merged = h.slot[:0], true
		}
		if n == 0 {
			h.handed = time.Now()
		}
		h.slot = append(h.slot, t)
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
	late := time.NewTimer(time.Hour)
	defer late.Stop()
	for {
		if !h.deadline.IsZero() {
			late.Reset(time.Until(h.deadline))
		}
		select {
		case <-ctx.Done():
			return
		case <-h.wake:
			h.safely(func() { h.step(time.Now()) })
		case <-late.C:
			h.safely(func() { h.step(time.Now()) })
		case <-sweep.C:
			h.safely(func() { h.sweep(time.Now()) })
		}
	}
}

// step takes the waiting ticks and offers every session what it is due. It ends
// when all of them have been asked, so that they go through the same rounds.
func (h *Hub) step(now time.Time) {
	handed, moved := h.advance(now)
	if !moved {
		return
	}
	h.eachLane(func(b *batch, s *Session) { s.due(b, now) })
	if !handed.IsZero() {
		h.stats.took.Observe(time.Since(handed).Seconds())
	}
}

// sweep looks after heartbeats and stalled writes.
func (h *Hub) sweep(now time.Time) {
	h.table.expire(now)
	if h.surge.over(h.stats.opened.Load()) {
		go debug.FreeOSMemory() // it takes a collection
	}
	h.eachLane(func(_ *batch, s *Session) { s.sweep(now) })
}

// advance makes the rounds that are due and reports whether there are any, and
// when the oldest of their ticks was handed over.
func (h *Hub) advance(now time.Time) (handed time.Time, moved bool) {
	h.slotMu.Lock()
	merged := h.merged
	if len(h.slot) > 0 {
		handed = h.handed
	}
	h.pending, h.slot, h.merged = h.slot, h.pending[:0], false
	h.slotMu.Unlock()
	moved = h.advanceTicks(now, merged)
	clear(h.pending)
	newest := h.newest()
	if newest == nil {
		return handed, false
	}
	h.deadline = time.Time{}
	h.table.mu.Lock()
	defer h.table.mu.Unlock()
	for _, p := range h.table.paces[1:] {
		if p.refs == 0 {
			continue
		}
		before := p.cur.Load()
		if wait := p.follow(newest, now); wait > 0 {
			if at := now.Add(wait); h.deadline.IsZero() || at.Before(h.deadline) {
				h.deadline = at
			}
		}
		moved = moved || p.cur.Load() != before
	}
	return handed, moved
}

// advanceTicks makes the rounds of the ticks that are waiting: one of all of
// them, beside those for channels of mode every.
func (h *Hub) advanceTicks(now time.Time, merged bool) bool {
	at := h.table.paces[wire.RateTick]
	last := at.cur.Load()
	h.records = h.table.recorded(h.records[:0])
	defer func() { clear(h.records) }()
	var next *round
	for i, t := range h.pending {
		if last != nil && t.Board.Seq <= last.seq() || len(h.records) == 0 && i < len(h.pending)-1 {
			continue
		}
		r := &round{view: &view{board: t.Board}, from: t.Board.Seq}
		if before := next; before == nil && last != nil {
			r.from = last.seq()
			r.inherit(last.view)
		} else if before != nil {
			r.from = before.seq()
			r.inherit(before.view)
		}
		for _, c := range h.records {
			c.record(h, r, merged, now)
		}
		next, merged = r, false
	}
	if next == nil {
		return false
	}
	if last != nil {
		next.from = last.seq()
	}
	at.cur.Store(next)
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

// Epoch returns the lineage of the market; "" before there is one.
func (h *Hub) Epoch() string {
	if r := h.newest(); r != nil {
		return r.board.Epoch
	}
	return ""
}
