package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/velocimeter/velocimeter/actors"
	"github.com/velocimeter/velocimeter/cmd/velocimeter/config"
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/source"
	"github.com/velocimeter/velocimeter/transport/upstream/coinmarketcap"
	simulator "github.com/velocimeter/velocimeter/transport/upstream/market"
	"github.com/velocimeter/velocimeter/transport/upstream/recording"
)

// directRate is how many quotes a second the embedded market may yield over
// HTTP; above it, batches are handed over directly.
const directRate = 20_000

// feed is where quotes come from: a provider, the embedded market or a
// recording, with the clock that goes with it.
type feed struct {
	name    string // of the provider, in logs and metrics
	lineage string // folder of the store
	about   string // for people
	ingest  string // http, direct or replay
	clock   actors.Clock

	fetcher  actors.Fetcher
	interval time.Duration
	seed     uint64
	// What a poll costs and may cost in all, in credits; 0 for no budget.
	cost, dayCredits, monthCredits int

	recording *recording.Recording
	replay    *replayFeed

	answers answers
	closers []func()
	closed  sync.Once
}

// openSource chooses the source: a recording if one is named, CoinMarketCap if
// there is a key, else the embedded market.
func (a *app) openSource(c *config.Loaded, log *slog.Logger) (*feed, error) {
	switch {
	case c.Replay.File != "":
		return openReplay(c)
	case len(c.CoinMarketCap.Keys) > 0:
		return openCoinMarketCap(c, log, nil)
	}
	return openMarket(c, log, &liveClock{}, nil)
}

// tap sees the text of every answer; nil where nobody asks.
type tap = func(answer []byte)

func openCoinMarketCap(c *config.Loaded, log *slog.Logger, listen tap) (*feed, error) {
	f := &feed{name: "coinmarketcap", lineage: "live-coinmarketcap", clock: &liveClock{}, interval: c.CoinMarketCap.Interval, ingest: "http", seed: uint64(time.Now().UnixNano())}
	f.about = fmt.Sprintf("CoinMarketCap, %d tokens every %s", c.CoinMarketCap.Limit, c.CoinMarketCap.Interval)
	f.cost, f.dayCredits, f.monthCredits = (c.CoinMarketCap.Limit+199)/200, c.CoinMarketCap.DayCredits, c.CoinMarketCap.MonthCredits
	cfg := coinmarketcap.Config{
		BaseURL: c.CoinMarketCap.BaseURL, Limit: c.CoinMarketCap.Limit, Tap: listen, Logger: log, Now: f.clock.Now,
		Cadence: max(f.schedule().Interval(), market.Minute), // the provider's own answers are a minute old
	}
	if c.CoinMarketCap.API == "v3" {
		cfg.Version = coinmarketcap.V3
	}
	for _, text := range c.CoinMarketCap.Keys {
		k, err := coinmarketcap.ParseKey(text)
		if err != nil {
			return nil, exitWith(exitConfig, fmt.Errorf("%s: coinmarketcap.keys: %w", c.Values["coinmarketcap.keys"].Origin, err))
		}
		cfg.Keys = append(cfg.Keys, k)
	}
	client, err := coinmarketcap.New(cfg)
	if err != nil {
		return nil, exitWith(exitConfig, err)
	}
	f.fetcher = client
	f.closers = append(f.closers, func() { _ = client.Close() })
	return f, nil
}

// internalKey opens the embedded market to this process alone: it never leaves it.
const internalKey = "embedded-market-internal-key"

// openMarket opens the embedded market, on HTTP in any case where somebody wants
// the text of its answers.
func openMarket(c *config.Loaded, log *slog.Logger, clock actors.Clock, listen tap) (*feed, error) {
	f := &feed{name: "market", lineage: fmt.Sprintf("market-%d", c.Market.Seed), clock: clock, interval: c.Market.Tick, ingest: "http", seed: c.Market.Seed}
	f.about = fmt.Sprintf("simulated, %d tokens every %s, seed %d (set CMC_API_KEY for real data)", c.Market.Tokens, c.Market.Tick, c.Market.Seed)
	sim, err := simulator.New(marketConfig(c, f.clock.Now, log, simulator.Key{Value: internalKey, Plan: simulator.Unlimited}))
	if err != nil {
		return nil, exitWith(exitConfig, err)
	}
	if listen == nil && float64(c.Market.Tokens)/c.Market.Tick.Seconds() > directRate {
		f.ingest = "direct"
		f.fetcher = fetchFunc(func(context.Context) (*market.Batch, error) {
			b := *sim.Batch(f.clock.Now())
			b.Cadence = marketCadence(c)
			return &b, nil
		})
		return f, nil
	}
	memory := simulator.NewMemory()
	key, err := coinmarketcap.ParseKey(internalKey)
	if err != nil {
		return nil, fmt.Errorf("BUG: internal key: %w", err)
	}
	client, err := coinmarketcap.New(coinmarketcap.Config{
		BaseURL: "http://market.invalid", Keys: []coinmarketcap.Key{key}, Limit: c.Market.Tokens, Source: market.SourceMarket, Simulated: true,
		Cadence: marketCadence(c), Dial: memory.DialContext, Uncompressed: true, Tap: listen, Logger: log, Now: f.clock.Now,
	})
	if err != nil {
		return nil, exitWith(exitConfig, err)
	}
	f.fetcher = client
	served := make(chan error, 1)
	go func() { served <- sim.Serve(memory) }()
	f.closers = append(f.closers, func() {
		_ = client.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = sim.Shutdown(ctx)
		_ = memory.Close() // where Serve had not begun yet
		if err := <-served; err != nil {
			log.Debug("the embedded market ended", "error", err)
		}
	})
	return f, nil
}

// marketCadence is the embedded market's update interval. Most of its tokens
// move at every tick and each within 16, so that none ages by chance: values
// are fresh up to 18 ticks.
func marketCadence(c *config.Loaded) market.Millis {
	return 6 * market.Millis(c.Market.Tick.Milliseconds())
}

func marketConfig(c *config.Loaded, now func() market.Time, log *slog.Logger, keys ...simulator.Key) simulator.Config {
	cfg := simulator.Config{
		Seed: c.Market.Seed, Tokens: c.Market.Tokens, Tick: market.Millis(c.Market.Tick.Milliseconds()),
		Dirt: c.Market.Dirt, Now: now, Keys: keys, Logger: log,
	}
	if c.Market.Digits == "compact" {
		cfg.Digits = simulator.DigitsCompact
	}
	return cfg
}

func openReplay(c *config.Loaded) (*feed, error) {
	r, err := recording.Open(c.Replay.File)
	if err != nil {
		return nil, exitWith(exitData, err)
	}
	f := &feed{name: "replay", lineage: "replay-" + r.Hash()[:16], ingest: "replay", recording: r}
	first, last := r.Span()
	pace := "as fast as possible"
	if c.Replay.Speed > 0 {
		pace = fmt.Sprintf("%g times as fast as recorded", c.Replay.Speed)
	}
	f.about = fmt.Sprintf("replay of %s: %d polls from %s to %s, %s", c.Replay.File, r.Len(),
		first.Std().Format("2006-01-02 15:04"), last.Std().Format("2006-01-02 15:04"), pace)
	if r.Torn() {
		f.about += " (its end, an answer that was being written, is left out)"
	}
	f.clock = newReplayClock(c.Replay.Speed, first)
	f.replay = &replayFeed{from: r}
	if c.Replay.Loop {
		f.replay.from = recording.NewLoop(r)
	}
	f.closers = append(f.closers, func() { _ = r.Close() })
	return f, nil
}

// schedule decides when the provider is asked.
func (f *feed) schedule() *source.Schedule {
	return source.NewSchedule(source.Config{
		Interval: market.Millis(f.interval.Milliseconds()), Seed: f.seed,
		Cost: f.cost, DayCredits: f.dayCredits, MonthCredits: f.monthCredits,
	})
}

// attach gives the actors their source, where the store left it.
func (f *feed) attach(cfg *actors.Config, h *house) error {
	if f.replay == nil {
		schedule := f.schedule()
		if paced := schedule.Interval().Std(); paced > f.interval {
			h.log.Warn("polls are rarer than asked for, to stay within the credits", "asked", f.interval.String(), "interval", paced.String())
		}
		cfg.Providers = []actors.Provider{{Name: f.name, Fetcher: f.timed(f.fetcher), Schedule: schedule}}
		return nil
	}
	position, from := h.recovered.position, h.store.Recovery().Time
	if position == 0 {
		from, _ = f.recording.Span()
	}
	if !h.cfg.Replay.Loop {
		position = min(position, uint64(f.recording.Len()))
	}
	if err := f.replay.from.Seek(position); err != nil {
		return exitWith(exitData, err)
	}
	f.replay.clock = newReplayClock(h.cfg.Replay.Speed, from)
	f.clock = f.replay.clock
	cfg.Clock = f.clock
	cfg.Replays = []actors.Replay{{Name: f.name, Feed: f.timedFeed(f.replay), Finished: func(err error) {
		if err != nil {
			h.log.Error("the replay ended early", "error", err)
			return
		}
		seq := uint64(0)
		if b := h.Board(); b != nil { // a recording at its end is over before the start is
			seq = b.Seq
			f.replay.clock.stop(b.Time)
		}
		h.log.Info("the replay has ended; the last values stay", "seq", seq)
	}}}
	return nil
}

// fetchFunc lets a function be a fetcher.
type fetchFunc func(ctx context.Context) (*market.Batch, error)

// Fetch implements the actors' fetcher.
func (f fetchFunc) Fetch(ctx context.Context) (*market.Batch, error) { return f(ctx) }

// timed notes when each answer was complete.
func (f *feed) timed(from actors.Fetcher) actors.Fetcher {
	return fetchFunc(func(ctx context.Context) (*market.Batch, error) {
		b, err := from.Fetch(ctx)
		f.answers.note(b)
		return b, err
	})
}

type timedFeed struct {
	actors.Feed
	answers *answers
}

// Next implements the actors' feed.
func (t timedFeed) Next(ctx context.Context) (*market.Batch, error) {
	b, err := t.Feed.Next(ctx)
	t.answers.note(b)
	return b, err
}

func (f *feed) timedFeed(from actors.Feed) actors.Feed { return timedFeed{from, &f.answers} }

// answers remembers when the newest answers were complete: a tick is made of one
// of them, not always of the newest.
type answers struct {
	mu   sync.Mutex
	next int
	ring [8]struct {
		at       market.Time
		complete time.Time
	}
}

func (a *answers) note(b *market.Batch) {
	if b == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ring[a.next].at, a.ring[a.next].complete = b.ReceivedAt, time.Now()
	a.next = (a.next + 1) % len(a.ring)
}

// since is the time since the answer that was received at an engine time was
// complete; negative if it is forgotten.
func (a *answers) since(at market.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range a.ring {
		if e.at == at && at != 0 {
			return time.Since(e.complete)
		}
	}
	return -1
}

func (f *feed) close() {
	f.closed.Do(func() {
		for _, c := range f.closers {
			c()
		}
	})
}
