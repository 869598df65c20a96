package main

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/velocimeter/velocimeter/cmd/velocimeter/config"
	"github.com/velocimeter/velocimeter/cmd/velocimeter/integrity"
	"github.com/velocimeter/velocimeter/persist"
	"github.com/velocimeter/velocimeter/transport/admin"
	"github.com/velocimeter/velocimeter/transport/rest"
)

func (h *house) newIntegrity(c *config.Loaded, store *persist.Store, log *slog.Logger) *integrity.Checker {
	return integrity.New(integrity.Config{
		Store: store, Engine: storeChecks(c).Engine, Quality: qualityOf(c), Log: log, Every: c.Integrity.Every,
		Board:   h.Board,
		Durable: func() uint64 { return h.running.Load().DurableSeq() }, // it begins when the actors run
	})
}

// integrityPort is the checker as the admin listener sees it.
type integrityPort struct{ *integrity.Checker }

// Integrity implements the admin listener's port.
func (p integrityPort) Integrity() (last *admin.IntegrityReport, running bool) {
	r, running := p.Last()
	if r == nil {
		return nil, running
	}
	out := &admin.IntegrityReport{
		OK: r.OK(), Started: r.Started.UTC(), TookMs: r.Took.Milliseconds(), DurableSeq: r.DurableSeq, Records: r.Records, Recomputed: r.Recomputed, Unchecked: r.Unchecked,
		Seq: r.Seq, Tokens: r.Tokens, Ticks: r.Ticks, Values: r.Values, Skipped: r.Skipped, DifferenceCount: r.Count, ByKind: r.ByKind,
		Differences: []admin.IntegrityDifference{},
	}
	for i := range r.Differences {
		d := &r.Differences[i]
		out.Differences = append(out.Differences, admin.IntegrityDifference{
			Kind: d.Kind, Key: d.Key, Token: uint32(d.Token), Time: instant(d.Time), FromSeq: d.From, ToSeq: d.To,
			Field: d.Field, Served: d.Served, Recomputed: d.Recomputed, What: d.What,
		})
	}
	return out, running
}

// CheckIntegrity implements the admin listener's port.
func (p integrityPort) CheckIntegrity() error {
	err := p.Begin()
	if errors.Is(err, integrity.ErrRunning) {
		return admin.ErrIntegrityBusy
	}
	return err
}

// integrityGate says what the newest pass found. The service goes on: what it shows
// is no worse than before it was looked at.
func (h *house) integrityGate() rest.Gate {
	g := rest.Gate{Name: "integrity", OK: true}
	if last, _ := h.integrity.Last(); last != nil && !last.OK() {
		g.OK = false
		g.Detail = fmt.Sprintf("%d differences were found at %s: see /integrity of the admin listener", last.Count, last.Started.UTC().Format(time.RFC3339))
	}
	return g
}

func (h *house) integrityMetrics() []prometheus.Collector {
	c := h.integrity
	last := func(read func(*integrity.Report) float64) func() float64 {
		return func() float64 {
			if r, _ := c.Last(); r != nil {
				return read(r)
			}
			return 0
		}
	}
	return []prometheus.Collector{
		c.Differences,
		h.counter("velocimeter_integrity_passes_total", "Integrity passes that got to their end.", func() float64 { return float64(c.Passes.Load()) }),
		h.counter("velocimeter_integrity_failures_total", "Integrity passes that could not be done.", func() float64 { return float64(c.Failures.Load()) }),
		h.counter("velocimeter_integrity_records_total", "Stored records read and checked.", func() float64 { return float64(c.Records.Load()) }),
		h.counter("velocimeter_integrity_recomputed_total", "History rows and window cells computed again.", func() float64 { return float64(c.Recomputed.Load()) }),
		h.counter("velocimeter_integrity_tokens_total", "Tokens whose served values were computed again.", func() float64 { return float64(c.TokensSeen.Load()) }),
		h.counter("velocimeter_integrity_values_total", "Served values, and those of stored ticks, computed again.", func() float64 { return float64(c.Values.Load()) }),
		h.gauge("velocimeter_integrity_last_ok", "1 if the newest pass found no difference, or none has ended yet.", nil, func() float64 {
			r, _ := c.Last()
			return truth(r == nil || r.OK())
		}),
		h.gauge("velocimeter_integrity_last_differences", "What the newest pass found.", nil, last(func(r *integrity.Report) float64 { return float64(r.Count) })),
		h.gauge("velocimeter_integrity_last_timestamp_seconds", "When the newest pass ended; 0 for none.", nil, last(func(r *integrity.Report) float64 {
			return float64(r.Started.Add(r.Took).UnixMilli()) / 1e3
		})),
		h.gauge("velocimeter_integrity_duration_seconds", "How long the newest pass took.", nil, last(func(r *integrity.Report) float64 { return r.Took.Seconds() })),
		h.gauge("velocimeter_integrity_last_tokens", "Tokens whose served values the newest pass computed again; fewer than are due where it says why at /integrity.", nil,
			last(func(r *integrity.Report) float64 { return float64(r.Tokens) })),
	}
}
