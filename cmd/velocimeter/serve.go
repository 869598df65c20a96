package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/velocimeter/velocimeter/cmd/velocimeter/config"
	"github.com/velocimeter/velocimeter/persist"
	"github.com/velocimeter/velocimeter/transport/gate"
)

// Deadlines of the shutdown, each its own so that a slow client cannot take the
// store's time.
const (
	drainStreams   = 5 * time.Second
	drainRequests  = 5 * time.Second
	drainBackups   = 5 * time.Second
	drainIntegrity = 5 * time.Second
	drainActors    = 10 * time.Second
	drainStore     = 10 * time.Second
)

// addresses is where a server listens.
type addresses struct{ Public, Admin net.Addr }

func (a *app) serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "serve", Short: "Poll the market and serve REST and streams", Args: noArguments,
		Long: "Polls CoinMarketCap if a key is set (CMC_API_KEY), replays a recording if one is named,\n" +
			"and otherwise polls an embedded simulated market. Flags win over the environment\n" +
			"(VELOCIMETER_…), that over the file, that over the defaults.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.load(cmd, config.Serve)
			if err != nil {
				return err
			}
			return a.serve(cmd.Context(), c)
		},
	}
	addSettings(cmd, config.Serve)
	return cmd
}

// serve runs the whole program until ctx ends or something fails for good.
func (a *app) serve(ctx context.Context, c *config.Loaded) (err error) {
	log := a.logger(c.Log)
	begun := time.Now()
	feed, err := a.openSource(c, log)
	if err != nil {
		return err
	}
	defer feed.close()
	public, admin, err := listen(ctx, c)
	if err != nil {
		return err
	}
	defer public.Close() //nolint:errcheck // the servers close them; this is for early returns
	defer admin.Close()  //nolint:errcheck // likewise
	h, err := a.openHouse(c, feed, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.closeStore()) }()
	if err := h.start(); err != nil {
		return err
	}
	failed := h.serveOn(public, admin)
	a.banner(c, h, public.Addr(), admin.Addr(), time.Since(begun))
	if a.started != nil {
		a.started(addresses{public.Addr(), admin.Addr()})
	}
	select {
	case <-ctx.Done():
		log.Info("shutting down")
	case err = <-failed:
		log.Error("shutting down after a failure", "error", err)
	case err = <-h.fatal:
		log.Error("shutting down: the store failed for good", "error", err)
		err = exitWith(exitIO, err)
	}
	return errors.Join(err, h.stop())
}

// listen takes both addresses before anything is created.
func listen(ctx context.Context, c *config.Loaded) (public, admin net.Listener, err error) {
	if public, err = gate.Listen(ctx, c.Listen); err != nil {
		return nil, nil, addressError(err, c.Values["listen"].Origin)
	}
	if admin, err = gate.Listen(ctx, c.AdminListen); err != nil {
		_ = public.Close()
		return nil, nil, addressError(err, c.Values["admin_listen"].Origin)
	}
	return public, admin, nil
}

// addressError turns a refused address into an exit code: in use is for later,
// anything else is a wrong setting.
func addressError(err error, origin string) error {
	if errors.Is(err, gate.ErrInUse) {
		return exitWith(exitUnavailable, fmt.Errorf("%w; stop the other process or choose another address (%s)", err, origin))
	}
	if errors.Is(err, os.ErrPermission) {
		return exitWith(exitConfig, fmt.Errorf("%w; ports below 1024 need a privilege (%s)", err, origin))
	}
	return exitWith(exitConfig, fmt.Errorf("%w (%s)", err, origin))
}

// stop ends everything in order: clients first, then what feeds them, then what
// remembers. Each step has its own deadline and none is skipped.
func (h *house) stop() error {
	h.draining.Store(true)
	begun := time.Now()
	h.backups.cancel() // one that is asked for holds a request
	h.integrity.Cancel()
	err := errors.Join(
		h.step("streams", drainStreams, h.stopStreams),
		h.step("requests", drainRequests, h.stopRequests),
		h.step("backups", drainBackups, h.backups.stop),
		h.step("integrity", drainIntegrity, h.integrity.Stop),
		h.step("actors", drainActors, h.system.Close),
	)
	h.cancel()
	<-h.hubDone
	h.log.Info("stopped", "took_ms", time.Since(begun).Milliseconds(), "seq", h.system.Board().Seq, "durable_seq", h.system.DurableSeq())
	return err
}

func (h *house) step(name string, limit time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	err := f(ctx)
	if err == nil {
		return nil
	}
	h.log.Warn("did not stop in order", slog.String("stage", name), slog.Any("error", err))
	if name != "actors" {
		return nil // clients that would not go: nothing is lost
	}
	h.stuck = ctx.Err() != nil
	if errors.Is(err, persist.ErrFatal) {
		return nil // told already, once
	}
	return exitWith(exitIO, fmt.Errorf("cannot stop the %s: %w", name, err))
}
