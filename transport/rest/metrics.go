package rest

import "github.com/prometheus/client_golang/prometheus"

// meters count what the cache saves and what history costs.
type meters struct {
	hits        prometheus.Counter
	encodes     prometheus.Counter
	notModified prometheus.Counter
	pastErrors  prometheus.Counter
	pastBusy    prometheus.Counter
}

func newMeters(reg prometheus.Registerer, c *cache) *meters {
	counter := func(name, help string) prometheus.Counter {
		m := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		reg.MustRegister(m)
		return m
	}
	gauge := func(name, help string, f func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f))
	}
	gauge("velocimeter_rest_cache_bytes", "Memory held by cached bodies.", func() float64 {
		n, _ := c.usage()
		return float64(n)
	})
	gauge("velocimeter_rest_cache_entries", "Cached bodies.", func() float64 {
		_, n := c.usage()
		return float64(n)
	})
	return &meters{
		hits:        counter("velocimeter_rest_cache_hits_total", "Answers from a body that was encoded before."),
		encodes:     counter("velocimeter_rest_encodes_total", "Bodies encoded."),
		notModified: counter("velocimeter_rest_not_modified_total", "Requests answered 304."),
		pastErrors:  counter("velocimeter_rest_history_errors_total", "History questions that the store failed to answer."),
		pastBusy:    counter("velocimeter_rest_history_busy_total", "History questions refused because too many were under way."),
	}
}
