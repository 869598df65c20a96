package main

import (
	"fmt"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/rest"
)

// Gates implements the transports' readiness: the conditions of being ready,
// each with its reason.
func (h *house) Gates() []rest.Gate {
	gates := []rest.Gate{{Name: "running", OK: !h.draining.Load(), Fatal: true}}
	if h.draining.Load() {
		gates[0].Detail = "shutting down"
	}
	s := h.running.Load()
	if s == nil {
		return append(gates, rest.Gate{Name: "market", Detail: "starting", Fatal: true})
	}
	st := s.Status()
	gates = append(gates, h.marketGate())
	for _, p := range st.Providers {
		g := rest.Gate{Name: "provider " + p.Name, OK: p.LastError == ""}
		switch {
		case p.LastError != "":
			g.Detail = p.LastError
		case p.Finished:
			g.Detail = "the recording has ended"
		}
		gates = append(gates, g)
	}
	if c, ok := h.feed.clock.(*liveClock); ok {
		g := rest.Gate{Name: "clock", OK: c.Ahead() < skewed}
		if !g.OK {
			g.Detail = fmt.Sprintf("engine time leads the machine's by %s: the machine's clock was set back", c.Ahead().Round(time.Second))
		}
		gates = append(gates, g)
	}
	storage := rest.Gate{Name: "storage", OK: !st.Journal.Degraded && !st.StorageLagging}
	switch disk := h.store.Stats(); {
	case disk.Paused:
		storage.OK = false
		storage.Detail = fmt.Sprintf("history is paused: %d bytes are free on the disk, store.min_free is %d", disk.FreeBytes, h.cfg.Store.MinFree)
	case !storage.OK:
		storage.Detail = fmt.Sprintf("history lags behind: durable_seq %d, newest %d", st.Journal.DurableSeq, s.Board().Seq)
	}
	return append(gates, storage, h.integrityGate())
}

func (h *house) marketGate() rest.Gate {
	b := h.Board()
	if b == nil {
		return rest.Gate{Name: "market", Detail: "waiting for the first answer", Fatal: true}
	}
	stale := 0
	for s := range b.All {
		if s.Freshness() == market.Stale {
			stale++
		}
	}
	g := rest.Gate{Name: "market", OK: 2*stale <= b.Len()}
	if !g.OK {
		g.Detail = fmt.Sprintf("%d of %d tokens are stale", stale, b.Len())
	}
	return g
}
