package admin

import (
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"

	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/gate"
	"github.com/velocimeter/velocimeter/transport/rest"
)

// Config joins the listener to its surroundings. Every member is required.
type Config struct {
	Metrics prometheus.Gatherer
	Boards  rest.Boards
	Ready   rest.Readiness
	Version rest.Version
	Streams Streams
	Backups Backups
	Checks  Integrity
	// Recovery returns what the start found in the store, as JSON.
	Recovery func() ([]byte, error)
}

// Streams lists the open stream connections.
type Streams interface {
	Connections(limit int) []fanout.Connection
}

// profiles are the named runtime profiles under /debug/pprof/. The command line
// is not among them: it may hold what a flag was given.
var profiles = []string{"allocs", "block", "goroutine", "heap", "mutex", "threadcreate"}

// Routes returns /metrics, /connections, /backup (POST), /integrity (GET, POST), /recovery, /debug/pprof/…, /healthz, /readyz and /version.
func Routes(cfg Config) []gate.Route {
	routes := rest.Operations(cfg.Boards, cfg.Ready, cfg.Version)
	add := func(path string, h http.Handler) {
		serve := fasthttpadaptor.NewFastHTTPHandler(h)
		routes = append(routes, gate.Route{Method: "GET", Path: path, Serve: func(ctx *fasthttp.RequestCtx) {
			serve(ctx)
			ctx.Response.Header.Set(fasthttp.HeaderCacheControl, "no-store")
		}})
	}
	add("/metrics", promhttp.HandlerFor(cfg.Metrics, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	routes = append(routes, gate.Route{Method: "GET", Path: "/connections", Serve: func(ctx *fasthttp.RequestCtx) { connections(ctx, cfg.Streams) }})
	routes = append(routes, gate.Route{Method: "POST", Path: "/backup", Serve: func(ctx *fasthttp.RequestCtx) { backup(ctx, cfg.Backups) }})
	routes = append(routes, gate.Route{Method: "GET", Path: "/integrity", Serve: func(ctx *fasthttp.RequestCtx) { integrity(ctx, cfg.Checks) }})
	routes = append(routes, gate.Route{Method: "POST", Path: "/integrity", Serve: func(ctx *fasthttp.RequestCtx) { checkIntegrity(ctx, cfg.Checks) }})
	routes = append(routes, gate.Route{Method: "GET", Path: "/recovery", Serve: func(ctx *fasthttp.RequestCtx) { recovery(ctx, cfg.Recovery) }})
	add("/debug/pprof/", http.HandlerFunc(index))
	add("/debug/pprof/profile", http.HandlerFunc(pprof.Profile))
	add("/debug/pprof/symbol", http.HandlerFunc(pprof.Symbol))
	add("/debug/pprof/trace", http.HandlerFunc(pprof.Trace))
	for _, name := range profiles {
		add("/debug/pprof/"+name, pprof.Handler(name))
	}
	return routes
}

// index lists the profiles.
func index(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte(strings.Join(append(slices.Clip(profiles), "profile?seconds=10", "trace?seconds=5"), "\n") + "\n"))
}
