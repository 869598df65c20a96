package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/velocimeter/velocimeter/actors"
	"github.com/velocimeter/velocimeter/cmd/velocimeter/config"
	"github.com/velocimeter/velocimeter/cmd/velocimeter/integrity"
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/tick"
	"github.com/velocimeter/velocimeter/persist"
	"github.com/velocimeter/velocimeter/transport/admin"
	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/fanout/loop"
	"github.com/velocimeter/velocimeter/transport/gate"
	"github.com/velocimeter/velocimeter/transport/rest"
	"github.com/velocimeter/velocimeter/transport/socketio"
	"github.com/velocimeter/velocimeter/transport/sse"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/ws"
)

// house holds the rooms of a running server and joins their ports.
type house struct {
	cfg     *config.Loaded
	log     *slog.Logger
	feed    *feed
	store   *persist.Store
	machine *tick.Machine
	system  *actors.System
	hub     *fanout.Hub
	streams *ws.Server
	sockets *socketio.Server
	public  *gate.Server
	admin   *gate.Server
	metrics *prometheus.Registry
	backups *backups

	integrity *integrity.Checker

	recovered recovered
	running   atomic.Pointer[actors.System]
	taken     atomic.Int64 // nanoseconds from the newest answer to its published values
	draining  atomic.Bool
	fatal     chan error // the store's last word
	cancel    context.CancelFunc
	hubDone   chan struct{}
	closing   sync.Once
	stuck     bool // the actors did not end in time: the store may be in use
}

// openHouse opens the store, restores the engine and builds every room; nothing
// runs yet.
func (a *app) openHouse(c *config.Loaded, f *feed, log *slog.Logger) (*house, error) {
	h := &house{cfg: c, log: log, feed: f, metrics: prometheus.NewRegistry(), fatal: make(chan error, 1), hubDone: make(chan struct{})}
	store, err := persist.Open(persist.Options{
		Dir: c.Data, Lineage: f.lineage, Fresh: c.Replay.FromStart, Logger: log, Retention: retention(c.Store),
		MinFreeBytes: c.Store.MinFree, BallastBytes: c.Store.Ballast, Keys: c.StoreKeys, OnDamage: onDamage(c.Store.OnDamage),
		Fatal: func(err error) {
			select {
			case h.fatal <- err:
			default:
			}
		},
	})
	if err != nil {
		return nil, storeError(c.Data, err)
	}
	h.store = store
	h.backups = newBackups(c, store, f.lineage, log)
	h.integrity = h.newIntegrity(c, store, log)
	if err := h.restore(); err != nil {
		return nil, errors.Join(exitWith(exitIO, err), h.closeStore())
	}
	if err := h.build(); err != nil {
		return nil, errors.Join(err, h.closeStore())
	}
	return h, nil
}

func onDamage(setting string) persist.OnDamage {
	if setting == "stop" {
		return persist.StopOnDamage
	}
	return persist.Mend
}

func storeError(dir string, err error) error {
	switch {
	case errors.Is(err, persist.ErrNoSpace):
		return exitWith(exitIO, fmt.Errorf("cannot open data folder %q: %w; free some space, or move the lineage's folder away to begin a new one", dir, err))
	case errors.Is(err, persist.ErrCorrupt):
		return exitWith(exitIO, fmt.Errorf("cannot open data folder %q: %w; restore a backup, or start the server with store.on_damage=mend: it keeps the damaged files aside and goes on with all that can be read", dir, err))
	case errors.Is(err, persist.ErrLocked), errors.Is(err, persist.ErrMending):
		return exitWith(exitTemporary, fmt.Errorf("cannot open data folder %q: %w", dir, err))
	case errors.Is(err, persist.ErrOptions), errors.Is(err, persist.ErrKey):
		return exitWith(exitConfig, err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.ENOTDIR):
		return exitWith(exitConfig, fmt.Errorf("cannot open data folder %q: %w; set data to a folder that can be written to", dir, err))
	}
	return exitWith(exitIO, fmt.Errorf("cannot open data folder %q: %w", dir, err))
}

func retention(s config.Store) persist.Retention {
	ms := func(d time.Duration) market.Millis { return market.Millis(d.Milliseconds()) }
	r := persist.Retention{Ticks: ms(s.Ticks), Minute: ms(s.Minutes), Five: ms(s.FiveMinutes), Hour: ms(s.Hours), Day: ms(s.Days)}
	forever := 36500 * market.Day
	for _, keep := range []*market.Millis{&r.Ticks, &r.Minute, &r.Five, &r.Hour} {
		if *keep == 0 {
			*keep = forever
		}
	}
	return r
}

// build makes the transports around the restored engine.
func (h *house) build() error {
	c := h.cfg
	h.hub = fanout.New(fanout.Config{
		Connections: c.Limits.Connections, PerAddress: c.Limits.ConnectionsPerIP, CountLoopback: c.Limits.Loopback,
		PerKey: c.Limits.ConnectionsPerKey, Channels: c.Limits.SharedChannels, Subscriptions: c.Limits.Subscriptions, Tokens: c.Limits.Tokens,
		Outbox: h.outbox(), Gone: h.recovered.gone, Logger: h.log,
	}, h)
	h.streams = ws.New(ws.Config{Logger: h.log}, h.hub)
	api := rest.New(rest.Config{
		Boards: h, History: h.store, Past: h.store, Now: func() market.Time { return h.feed.clock.Now() }, Processing: func() time.Duration { return time.Duration(h.taken.Load()) },
		Generation: h.recovered.generation, Metrics: h.metrics, Logger: h.log,
	})
	commit, at := built()
	v := rest.Version{Version: version, Commit: commit, Built: at, Go: runtime.Version()}
	events := sse.New(sse.Config{Find: api.Find, Logger: h.log}, h.hub, h.streams.Loops())
	h.sockets = socketio.New(socketio.Config{Find: api.Find, Logger: h.log}, h.hub, h.streams.Loops())
	routes := append(api.Routes(), h.streams.Route())
	routes = append(routes, events.Routes()...)
	routes = append(routes, h.sockets.Routes()...)
	routes = append(routes, rest.Operations(h, h, v)...)
	var err error
	if h.public, err = gate.New(gate.Config{Metrics: h.metrics, Name: "public", TLS: tlsOf(c), Logger: h.log}, routes...); err != nil {
		return err
	}
	// Profiles run for as long as they are asked to, so answers may take long here.
	own := gate.Config{Metrics: h.metrics, Name: "admin", Logger: h.log, WriteTimeout: 2 * time.Minute}
	if h.admin, err = gate.New(own, admin.Routes(admin.Config{Metrics: h.metrics, Boards: h, Ready: h, Version: v, Streams: h.hub, Backups: h.backups, Checks: integrityPort{h.integrity}, Recovery: h.found})...); err != nil {
		return err
	}
	if err := errors.Join(h.hub.Register(h.metrics), h.sockets.Register(h.metrics)); err != nil {
		return err
	}
	return h.registerMetrics()
}

// outbox returns what makes the lanes' outboxes; nil where there is to be none.
func (h *house) outbox() func() fanout.Outbox {
	if !h.cfg.Stream.IOUring {
		return nil
	}
	return func() fanout.Outbox {
		failed := func(err error) { h.log.Warn("streams are written without io_uring", "error", err) }
		r, err := loop.NewRing(failed)
		if err != nil {
			failed(err)
			return nil
		}
		return r
	}
}

// tlsOf returns how the public listener encrypts; nil where it does not.
func tlsOf(c *config.Loaded) *tls.Config {
	if c.Certificate == nil {
		return nil
	}
	return &tls.Config{Certificates: []tls.Certificate{*c.Certificate}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
}

// start sets actors and fan-out in motion.
func (h *house) start() error {
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel = cancel
	go func() {
		defer close(h.hubDone)
		h.hub.Run(ctx)
	}()
	cfg := actors.Config{
		Engine: h.machine.Engine, Shards: h.machine.Shards, Clock: h.feed.clock, Log: h.log,
		Publisher: h, Journal: h.store, DurableSeq: h.recovered.durable, SyncWindow: h.cfg.Store.SyncWindow,
		ExportEvery: market.Millis(h.cfg.Engine.SnapshotInterval.Milliseconds()),
	}
	if err := h.feed.attach(&cfg, h); err != nil {
		cancel()
		<-h.hubDone
		return err
	}
	system, err := actors.Start(cfg)
	if err != nil {
		cancel()
		<-h.hubDone
		return exitWith(exitIO, err)
	}
	h.system = system
	h.running.Store(system)
	h.backups.start()
	h.integrity.Start()
	return nil
}

// serveOn begins to answer; the channel gets the first listener's failure.
func (h *house) serveOn(public, admin net.Listener) <-chan error {
	failed := make(chan error, 2)
	for _, s := range []struct {
		server *gate.Server
		ln     net.Listener
	}{{h.public, public}, {h.admin, admin}} {
		go func() {
			if err := s.server.Serve(s.ln); err != nil {
				failed <- err
			}
		}()
	}
	return failed
}

// Board implements the transports' boards: nil before the first tick with a
// token. After a stop without one there is a board all the same, of used seqs.
func (h *house) Board() *market.Board {
	board := h.recovered.board
	if s := h.running.Load(); s != nil {
		board = s.Board()
	}
	if board.Seq > 0 && board.Len() > 0 {
		return board
	}
	return nil
}

// Publish implements the actors' publisher.
func (h *house) Publish(t *market.Tick) {
	h.hub.Publish(t)
	if t.Kind == market.TickPoll {
		h.taken.Store(int64(h.feed.answers.since(t.Env.ReceivedAt)))
	}
}

func (h *house) stopStreams(ctx context.Context) error {
	h.sockets.Close()
	if err := h.hub.Shutdown(ctx, wire.CloseRestart); err != nil {
		return err // the rest was cut, and ends by itself
	}
	return errors.Join(h.streams.Wait(ctx), h.sockets.Wait(ctx))
}

func (h *house) stopRequests(ctx context.Context) error {
	return errors.Join(h.public.Shutdown(ctx), h.admin.Shutdown(ctx))
}

// closeStore lets go of the store. While the actors may still write to it, it
// is left as a crash would leave it: the next start recovers, and gives none of
// the published seqs out again.
func (h *house) closeStore() (err error) {
	h.closing.Do(func() {
		letGo := h.store.Close
		if h.stuck {
			h.log.Error("the store is left as it is: the next start recovers it")
			letGo = h.store.Abandon
		}
		done := make(chan error, 1)
		go func() { done <- letGo() }()
		timer := time.NewTimer(drainStore)
		defer timer.Stop()
		select {
		case err = <-done:
		case <-timer.C:
			err = errors.New("the disk does not answer")
		}
		switch {
		case errors.Is(err, persist.ErrFatal):
			err = nil // told already, once
		case err != nil:
			err = exitWith(exitIO, fmt.Errorf("cannot close the store: %w", err))
		}
	})
	return err
}
