package main

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// registerMetrics exports what actors and store count themselves. The figures
// are read when they are asked for; nothing is counted twice.
func (h *house) registerMetrics() error {
	all := []prometheus.Collector{
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		h.gauge("velocimeter_build_info", "The running version; always 1.", prometheus.Labels{"version": fullVersion()}, func() float64 { return 1 }),
		h.gauge("velocimeter_prev_shutdown_unclean", "1 if the process before this one did not stop in order.", nil, func() float64 {
			return truth(h.recovered.durable > 0 && !h.recovered.clean)
		}),
		h.gauge("velocimeter_processing_seconds", "From the newest provider answer to its published values.", nil, func() float64 {
			return float64(h.taken.Load()) / 1e9
		}),
	}
	all = append(all, h.marketMetrics()...)
	all = append(all, h.storeMetrics()...)
	all = append(all, h.backupMetrics()...)
	all = append(all, h.integrityMetrics()...)
	for _, c := range all {
		if err := h.metrics.Register(c); err != nil {
			return fmt.Errorf("cannot register a metric: %w", err)
		}
	}
	return nil
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (h *house) gauge(name, help string, labels prometheus.Labels, read func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, read)
}

func (h *house) counter(name, help string, read func() float64) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, read)
}

func (h *house) marketMetrics() []prometheus.Collector {
	board := func(read func() float64) func() float64 {
		return func() float64 {
			if h.running.Load() == nil {
				return 0
			}
			return read()
		}
	}
	return []prometheus.Collector{
		h.gauge("velocimeter_market_tokens", "Tracked tokens, one actor each.", nil, board(func() float64 { return float64(h.running.Load().Board().Totals.Tokens) })),
		h.gauge("velocimeter_market_seq", "Seq of the newest tick.", nil, board(func() float64 { return float64(h.running.Load().Board().Seq) })),
		h.counter("velocimeter_market_ticks_total", "Sealed ticks.", board(func() float64 { return float64(h.running.Load().Status().Market.Ticks) })),
		h.counter("velocimeter_market_polls_total", "Provider answers that became ticks.", board(func() float64 { return float64(h.running.Load().Status().Market.Polls) })),
		h.counter("velocimeter_market_polls_rejected_total", "Provider answers rejected whole.", board(func() float64 { return float64(h.running.Load().Status().Market.Poisoned) })),
		h.counter("velocimeter_market_polls_conflated_total", "Provider answers replaced by a newer one before their turn.", board(func() float64 { return float64(h.running.Load().Status().Market.Conflated) })),
		h.gauge("velocimeter_market_tick_seconds", "From plan to seal, of the newest tick.", nil, board(func() float64 { return h.running.Load().Status().Market.LastTick.Seconds() })),
		h.counter("velocimeter_actors_panics_total", "Recovered panics of actors.", board(func() float64 { return float64(h.running.Load().Status().Panics) })),
		h.counter("velocimeter_actors_quarantined_total", "Quotes given up because their token panicked twice.", board(func() float64 { return float64(h.running.Load().Status().Quarantined) })),
		h.gauge("velocimeter_storage_durable_seq", "Newest seq that a crash cannot take.", nil, board(func() float64 { return float64(h.running.Load().DurableSeq()) })),
		h.gauge("velocimeter_storage_lag_seconds", "Age of the oldest tick that is not durable yet.", nil, board(func() float64 { return h.running.Load().Status().Journal.Lag.Seconds() })),
		h.counter("velocimeter_storage_lost_ticks_total", "Ticks that history lacks because they could not be stored.", board(func() float64 { return float64(h.running.Load().Status().Journal.Lost) })),
		h.counter("velocimeter_storage_failures_total", "Errors of the store.", board(func() float64 { return float64(h.running.Load().Status().Journal.Failures) })),
	}
}

func (h *house) storeMetrics() []prometheus.Collector {
	return []prometheus.Collector{
		h.gauge("velocimeter_storage_bytes", "Bytes on disk of this lineage.", nil, func() float64 { return float64(h.store.Stats().TotalBytes) }),
		h.counter("velocimeter_storage_commits_total", "Syncs to disk.", func() float64 { return float64(h.store.Stats().Commits) }),
		h.gauge("velocimeter_storage_commit_seconds", "Duration of the newest sync.", nil, func() float64 { return h.store.Stats().LastCommit.Seconds() }),
		h.counter("velocimeter_storage_disk_full_total", "Writes that found no space.", func() float64 { return float64(h.store.Stats().DiskFull) }),
		h.gauge("velocimeter_storage_free_bytes", "Free space of the disk, as last seen; 0 where that cannot be told.", nil, func() float64 { return float64(h.store.Stats().FreeBytes) }),
		h.gauge("velocimeter_storage_paused", "1 while history is paused because the disk is nearly full.", nil, func() float64 { return truth(h.store.Stats().Paused) }),
		h.gauge("velocimeter_storage_encrypted", "1 where the store's new files are encrypted.", nil, func() float64 { return truth(h.store.Stats().Encrypted) }),
		h.gauge("velocimeter_storage_old_key_files", "Files that need a key other than the first, or are plain though there is one; rewritten in the background.", nil, func() float64 { return float64(h.store.Stats().OldKeyFiles) }),
		h.gauge("velocimeter_storage_old_key_bytes", "What these files take.", nil, func() float64 { return float64(h.store.Stats().OldKeyBytes) }),
		h.gauge("velocimeter_storage_mended", "1 if the store was damaged and is made of what could be read of it; /recovery of the admin listener says what is missing.", nil, func() float64 {
			return truth(h.store.Recovery().Mended != nil)
		}),
		h.gauge("velocimeter_storage_lost_seqs", "Seqs of this lineage whose ticks are not in the store.", nil, func() float64 { return float64(lostSeqs(h.store.Recovery().Lost)) }),
		h.gauge("velocimeter_storage_lost_ranges", "Parts of history of which rows may be missing since the store was mended.", nil, func() float64 {
			if m := h.store.Recovery().Mended; m != nil {
				return float64(len(m.Lost))
			}
			return 0
		}),
		h.gauge("velocimeter_storage_rebuilt_tokens", "Tokens whose saved state this start rebuilt from history.", nil, func() float64 {
			if r := h.store.Recovery().Rebuilt; r != nil {
				return float64(r.Tokens + r.Waiting)
			}
			return 0
		}),
		h.counter("velocimeter_storage_background_errors_total", "Flushes, compactions and reads of the store that failed.", func() float64 { return float64(h.store.Stats().BackgroundErrors) }),
		h.counter("velocimeter_storage_damaged_total", "Stored values that failed their checks.", func() float64 { return float64(h.store.Stats().Damaged) }),
	}
}

func (h *house) backupMetrics() []prometheus.Collector {
	b := h.backups
	return []prometheus.Collector{
		h.gauge("velocimeter_backup_last_timestamp_seconds", "When the newest verified backup was made; 0 for none.", nil, func() float64 { return float64(b.made.Load()) / 1e3 }),
		h.gauge("velocimeter_backup_last_ok", "1 if the newest try made a verified backup, or none was tried yet.", nil, func() float64 { return truth(!b.failing.Load()) }),
		h.gauge("velocimeter_backup_duration_seconds", "How long the newest backup took.", nil, func() float64 { return float64(b.took.Load()) / 1e9 }),
		h.gauge("velocimeter_backup_bytes", "Bytes of the newest backup.", nil, func() float64 { return float64(b.bytes.Load()) }),
		h.gauge("velocimeter_backup_seq", "Seq of the newest backup.", nil, func() float64 { return float64(b.seq.Load()) }),
		h.counter("velocimeter_backups_total", "Backups made and verified.", func() float64 { return float64(b.finished.Load()) }),
		h.counter("velocimeter_backup_failures_total", "Backups that could not be made.", func() float64 { return float64(b.failed.Load()) }),
	}
}
