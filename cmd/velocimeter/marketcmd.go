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

// demoKeys open the stand-alone market, one per plan, so that a client's
// handling of limits can be tried out.
var demoKeys = []struct{ key, plan string }{
	{"demo-unlimited-key", ""}, {"demo-basic-key", "Basic"}, {"demo-startup-key", "Startup"}, {"demo-professional-key", "Professional"},
}

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
	clock := &liveClock{}
	var keys []simulator.Key
	for _, k := range demoKeys {
		plan, ok := simulator.PlanByName(k.plan)
		if !ok {
			plan = simulator.Unlimited
		}
		keys = append(keys, simulator.Key{Value: k.key, Plan: plan})
	}
	sim, err := simulator.New(marketConfig(c, clock.Now, log, keys...))
	if err != nil {
		return exitWith(exitConfig, err)
	}
	ln, err := gate.Listen(ctx, c.Market.Listen)
	if err != nil {
		return addressError(err, c.Values["market.listen"].Origin)
	}
	served := make(chan error, 1)
	go func() { served <- sim.Serve(ln) }()
	_, _ = fmt.Fprintf(a.stdout, "velocimeter %s: a CoinMarketCap-compatible API over a simulated market of %d tokens, every %s\n"+
		"  try   curl -H 'X-CMC_PRO_API_KEY: %s' 'http://%s/v1/cryptocurrency/listings/latest?limit=3'\n"+
		"  keys  demo-unlimited-key, demo-basic-key, demo-startup-key, demo-professional-key: the limits of those plans\n",
		fullVersion(), c.Market.Tokens, c.Market.Tick, demoKeys[0].key, ln.Addr())
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
