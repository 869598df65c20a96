package gate

import (
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// meters are the server's counters. Labels are closed sets: route names and
// status codes.
type meters struct {
	requests     *prometheus.CounterVec
	seconds      *prometheus.HistogramVec
	connections  prometheus.Gauge
	acceptErrors prometheus.Counter
	overflow     prometheus.Counter
	panics       prometheus.Counter
	unrouted     *routeMeter
	refused      *routeMeter
}

func newMeters(reg prometheus.Registerer, listener string) *meters {
	m := &meters{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "velocimeter_rest_requests_total", Help: "Requests answered, by route and status.",
		}, []string{"route", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "velocimeter_rest_request_seconds", Help: "Time from a parsed request to its answer being ready, by route.",
			Buckets: []float64{0.00001, 0.0001, 0.001, 0.01, 0.1, 1, 10},
		}, []string{"route"}),
		connections: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "velocimeter_rest_connections", Help: "Open connections, hijacked ones included.",
		}),
		acceptErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "velocimeter_rest_accept_errors_total", Help: "Failed accepts that were retried, such as out of descriptors.",
		}),
		overflow: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "velocimeter_rest_connections_refused_total", Help: "Connections refused because too many are open.",
		}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "velocimeter_rest_panics_total", Help: "Handlers that panicked and were answered 500.",
		}),
	}
	prometheus.WrapRegistererWith(prometheus.Labels{"listener": listener}, reg).MustRegister(m.requests, m.seconds, m.connections, m.acceptErrors, m.overflow, m.panics)
	m.unrouted, m.refused = m.route("unrouted"), m.route("refused")
	return m
}

// routeMeter counts one route; children are resolved once per status.
type routeMeter struct {
	name    string
	of      *meters
	seconds prometheus.Observer
	ok      prometheus.Counter
	cached  prometheus.Counter // 304
	others  sync.Map           // int → prometheus.Counter
}

func (m *meters) route(name string) *routeMeter {
	return &routeMeter{
		name: name, of: m, seconds: m.seconds.WithLabelValues(name),
		ok: m.requests.WithLabelValues(name, "200"), cached: m.requests.WithLabelValues(name, "304"),
	}
}

func (r *routeMeter) observe(status int, took time.Duration) {
	r.seconds.Observe(took.Seconds())
	switch status {
	case 200:
		r.ok.Inc()
	case 304:
		r.cached.Inc()
	default:
		r.other(status).Inc()
	}
}

func (r *routeMeter) other(status int) prometheus.Counter {
	if c, ok := r.others.Load(status); ok {
		if counter, ok := c.(prometheus.Counter); ok {
			return counter
		}
	}
	c := r.of.requests.WithLabelValues(r.name, strconv.Itoa(status))
	r.others.Store(status, c)
	return c
}

// printfLogger sends fasthttp's own remarks to slog at debug level: they are
// about single connections and may hold what clients sent.
type printfLogger struct{ to *slog.Logger }

// Printf implements fasthttp.Logger. The arguments are dropped on purpose.
func (p printfLogger) Printf(format string, _ ...any) {
	p.to.Debug("the http server remarks", "about", format)
}
