package rest

import (
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/gate"
)

// Config joins the API to its surroundings.
type Config struct {
	Boards  Boards  // required
	History History // nil: history routes answer 503, series are empty
	Past    Past    // nil: ?at= is answered 503
	// Now is the engine's clock (the recording's in a replay); nil takes the wall clock.
	Now func() market.Time
	// Processing returns the time from the provider's answer to the published
	// values of the newest tick, negative where unknown; nil: never known.
	Processing func() time.Duration
	// Generation counts process starts and configuration changes; part of every ETag.
	Generation uint64
	// CacheBytes bounds the cached bodies; 64 MiB where 0.
	CacheBytes int
	// HistoryQueries bounds the history questions under way; 16 where 0. More are answered 503.
	HistoryQueries int
	// CursorKey signs paging cursors. nil: a random key, so that cursors end with the process.
	CursorKey []byte
	// Metrics receives the counters; nil keeps them private.
	Metrics prometheus.Registerer
	Logger  *slog.Logger // nil discards
}

// API answers the data routes. It is safe for concurrent use and starts no goroutine.
type API struct {
	cfg     Config
	cache   *cache
	meters  *meters
	cursors cursorKey
	queries chan struct{}
	lists   chan struct{} // questions for whole past markets
	reads   chan struct{} // those of them that are being read
	thens   pastBoards
	orders  atomic.Pointer[orders]
	scratch sync.Pool
	slugs   slugIndex
	suffix  []byte // of every ETag: -generation"
}

// Defaults of Config.
const (
	defaultCacheBytes     = 64 << 20
	defaultHistoryQueries = 16
)

// New builds the API.
func New(cfg Config) *API {
	if cfg.Now == nil {
		cfg.Now = func() market.Time { return market.TimeOf(time.Now()) }
	}
	if cfg.Processing == nil {
		cfg.Processing = func() time.Duration { return -1 }
	}
	if cfg.CacheBytes == 0 {
		cfg.CacheBytes = defaultCacheBytes
	}
	if cfg.HistoryQueries == 0 {
		cfg.HistoryQueries = defaultHistoryQueries
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	a := &API{
		cfg: cfg, cache: newCache(cfg.CacheBytes), cursors: newCursorKey(cfg.CursorKey),
		queries: make(chan struct{}, cfg.HistoryQueries), lists: make(chan struct{}, thenReads+thenWaits), reads: make(chan struct{}, thenReads),
		suffix: append(strconv.AppendUint([]byte{'-'}, cfg.Generation, 10), '"'),
	}
	a.meters = newMeters(cfg.Metrics, a.cache)
	return a
}

// Routes returns the data routes for a gate.
func (a *API) Routes() []gate.Route {
	const base = "/api/v1"
	get := func(path string, parse parser) gate.Route {
		return gate.Route{Method: "GET", Path: base + path, Serve: a.handler(parse)}
	}
	return []gate.Route{
		get("/tokens", a.parseTokens),
		get("/tokens/{id}", a.parseToken),
		get("/tokens/{id}/velocity", a.parseVelocity),
		get("/tokens/{id}/history", a.parseHistory),
		get("/market", a.parseMarket),
		get("/movers", a.parseMovers),
		get("/schema", a.parseSchema),
	}
}

// ordersOf returns the sorted lists of a board, shared by all who ask while it
// is the newest.
func (a *API) ordersOf(b *market.Board) *orders {
	o := a.orders.Load()
	if o != nil && o.board == b {
		return o
	}
	fresh := &orders{board: b}
	if a.orders.CompareAndSwap(o, fresh) {
		return fresh
	}
	if o = a.orders.Load(); o.board == b {
		return o
	}
	return fresh
}
