package socketio

import "github.com/prometheus/client_golang/prometheus"

// Register exports what is only here; the rest counts as streams. Errors come from
// the registerer.
func (s *Server) Register(reg prometheus.Registerer) error {
	gauge := func(name, help string, read func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(read()) })
	}
	for _, c := range []prometheus.Collector{
		gauge("velocimeter_socketio_connections", "Open Socket.IO connections, of both transports.", func() int { return int(s.clients.Load()) }),
		gauge("velocimeter_socketio_remembered", "Lost connections whose clients may go on.", func() int { n, _ := s.memories.count(); return n }),
		gauge("velocimeter_socketio_remembered_bytes", "Memory that these take, about.", func() int { _, n := s.memories.count(); return n }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "velocimeter_socketio_recovered_total", Help: "Clients that went on after a lost connection.",
		}, func() float64 { return float64(s.recovered.Load()) }),
	} {
		if err := reg.Register(c); err != nil {
			return err
		}
	}
	return nil
}
