package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/velocimeter/velocimeter/cmd/velocimeter/config"
	"github.com/velocimeter/velocimeter/transport/gate"
	simulator "github.com/velocimeter/velocimeter/transport/upstream/market"
)

func (a *app) marketCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "market", Short: "Serve the simulated market as a CoinMarketCap-compatible API", Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.load(cmd, config.MarketServer)
			if err != nil {
				return err
			}
			return a.market(cmd.Context(), c)
		},
	}
	addSettings(cmd, config.MarketServer)
	return cmd
}

func (a *app) market(ctx context.Context, c *config.Loaded) error {
	log := a.logger(c.Log)
	about := fmt.Sprintf("a simulated market of %d tokens, every %s", c.Market.Tokens, c.Market.Tick)
	plan, ok := simulator.PlanByName(c.Market.Plan)
	if !ok {
		return fmt.Errorf("BUG: no plan %q", c.Market.Plan)
	}
	cfg := marketConfig(c, (&liveClock{}).Now, log)
	cfg.OtherKeys = &plan
	if c.Replay.File != "" {
		tape, err := openTape(c)
		if err != nil {
			return err
		}
		defer tape.close()
		cfg.Feed, cfg.Now, about = tape, tape.clock.Now, tape.about
	}
	sim, err := simulator.New(cfg)
	if err != nil {
		return exitWith(exitConfig, err)
	}
	ln, err := gate.Listen(ctx, c.Market.Listen)
	if err != nil {
		return addressError(err, c.Values["market.listen"].Origin)
	}
	served := make(chan error, 1)
	go func() { served <- sim.Serve(ln) }()
	_, _ = fmt.Fprintf(a.stdout, "velocimeter %s: a CoinMarketCap-compatible API over %s\n"+
		"  try   curl -H 'X-CMC_PRO_API_KEY: any-key' 'http://%s/v1/cryptocurrency/listings/latest?limit=3'\n"+
		"  keys  any key works, each with an account of its own on plan %s (--plan)\n",
		fullVersion(), about, ln.Addr(), c.Market.Plan)
	if a.started != nil {
		a.started(addresses{Public: ln.Addr()})
	}
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := sim.Shutdown(stop); err != nil {
		log.Warn("not every request finished in time", "error", err)
	}
	return <-served
}
