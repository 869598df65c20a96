package fanout

import (
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/velocimeter/velocimeter/transport/wire"
)

// stats are the hub's counters.
type stats struct {
	opened, closed, refused, received, errors        atomic.Uint64
	rounds, mergedTicks, messages, bytes             atomic.Uint64
	encodedRows, conflated, skipped, stalled, panics atomic.Uint64
	saved, rates                                     atomic.Uint64
	subscriptions                                    atomic.Int64
	took                                             prometheus.Histogram
	byCode                                           map[wire.CloseCode]*atomic.Uint64 // never changed after start
}

// start makes a counter for every code of the protocol.
func (s *stats) start() {
	s.took = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "velocimeter_stream_round_seconds", Help: "From a tick's being handed over until every connection was written to.",
		Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9),
	})
	s.byCode = make(map[wire.CloseCode]*atomic.Uint64)
	for _, spec := range wire.CloseCodes() {
		s.byCode[spec.Code] = new(atomic.Uint64)
	}
}

func (s *stats) closes(code wire.CloseCode) {
	if n := s.byCode[code]; n != nil {
		n.Add(1)
	}
}

// Stats is what the hub has counted since it was made.
type Stats struct {
	Connections    int    // open now
	Subscriptions  int    // open now
	SharedChannels int    // open now
	Opened         uint64 // sessions
	Closed         uint64 // sessions
	Refused        uint64 // before the upgrade, by a limit
	Received       uint64 // client messages
	Errors         uint64 // error answers
	Rounds         uint64 // steps of the fan-out
	MergedTicks    uint64 // ticks that shared a step with a later one
	Messages       uint64 // handed to links
	Bytes          uint64 // handed to links, framed
	EncodedRows    uint64 // of shared messages
	Conflated      uint64 // catch-ups of connections that had fallen behind a shared channel
	Skipped        uint64 // rounds that found a connection still writing
	Saved          uint64 // bytes of shared messages that connections were spared by a catch-up
	Rates          uint64 // rates that the server changed
	Stalled        uint64 // connections closed because a write took too long
	Panics         uint64
	// ClosedBy counts closes by code, from when they were asked for: a close frame
	// cannot follow a frame that the client does not read to its end. 1000 are the
	// closes of clients.
	ClosedBy map[wire.CloseCode]uint64
}

// Stats returns the counters.
func (h *Hub) Stats() Stats {
	s := &h.stats
	out := Stats{
		Connections: h.registry.open(), Subscriptions: int(s.subscriptions.Load()), SharedChannels: h.table.sharedChannels(),
		Opened: s.opened.Load(), Closed: s.closed.Load(), Refused: s.refused.Load(), Received: s.received.Load(),
		Errors: s.errors.Load(), Rounds: s.rounds.Load(), MergedTicks: s.mergedTicks.Load(), Messages: s.messages.Load(),
		Bytes: s.bytes.Load(), EncodedRows: s.encodedRows.Load(), Conflated: s.conflated.Load(), Skipped: s.skipped.Load(),
		Saved: s.saved.Load(), Rates: s.rates.Load(), Stalled: s.stalled.Load(), Panics: s.panics.Load(), ClosedBy: make(map[wire.CloseCode]uint64, len(s.byCode)),
	}
	for code, n := range s.byCode {
		out.ClosedBy[code] = n.Load()
	}
	return out
}

// Register exports the counters. Errors come from the registerer.
func (h *Hub) Register(reg prometheus.Registerer) error {
	s := &h.stats
	counter := func(name, help string, v *atomic.Uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(v.Load()) })
	}
	gauge := func(name, help string, v func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(v()) })
	}
	all := []prometheus.Collector{
		gauge("velocimeter_stream_connections", "Open stream connections.", h.registry.open),
		gauge("velocimeter_stream_subscriptions", "Open subscriptions.", func() int { return int(s.subscriptions.Load()) }),
		gauge("velocimeter_stream_shared_channels", "Open shared channels.", h.table.sharedChannels),
		counter("velocimeter_stream_connections_total", "Connections opened.", &s.opened),
		counter("velocimeter_stream_refused_total", "Connections refused by a limit before the upgrade.", &s.refused),
		counter("velocimeter_stream_received_messages_total", "Client messages.", &s.received),
		counter("velocimeter_stream_errors_total", "Error answers.", &s.errors),
		counter("velocimeter_stream_rounds_total", "Steps of the fan-out.", &s.rounds),
		counter("velocimeter_stream_merged_ticks_total", "Ticks that shared a step with a later one.", &s.mergedTicks),
		counter("velocimeter_stream_messages_total", "Messages handed to connections.", &s.messages),
		counter("velocimeter_stream_bytes_total", "Bytes handed to connections.", &s.bytes),
		counter("velocimeter_stream_encoded_rows_total", "Rows encoded for shared channels.", &s.encodedRows),
		counter("velocimeter_stream_conflated_total", "Catch-ups of connections that had fallen behind.", &s.conflated),
		counter("velocimeter_stream_skipped_total", "Steps that found a connection still writing.", &s.skipped),
		counter("velocimeter_stream_saved_bytes_total", "Bytes of shared messages that connections were spared by a catch-up.", &s.saved),
		counter("velocimeter_stream_rate_changes_total", "Rates that the server changed.", &s.rates),
		counter("velocimeter_stream_stalled_total", "Connections closed because they read too slowly.", &s.stalled),
		counter("velocimeter_stream_panics_total", "Panics kept within a connection.", &s.panics),
	}
	all = append(all, s.took)
	for code, n := range s.byCode {
		all = append(all, prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "velocimeter_stream_closes_total", Help: "Connections closed, by close code; 1000 are those that clients closed.",
			ConstLabels: prometheus.Labels{"code": strconv.Itoa(int(code))},
		}, func() float64 { return float64(n.Load()) }))
	}
	for _, c := range all {
		if err := reg.Register(c); err != nil {
			return err
		}
	}
	return nil
}
