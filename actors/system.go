package actors

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/velocimeter/velocimeter/actors/fetchactor"
	"github.com/velocimeter/velocimeter/actors/guard"
	"github.com/velocimeter/velocimeter/actors/journalactor"
	"github.com/velocimeter/velocimeter/actors/marketactor"
	"github.com/velocimeter/velocimeter/actors/shardactor"
	"github.com/velocimeter/velocimeter/engine/market"
)

// System is the running market. All methods are safe for concurrent use.
type System struct {
	cfg        Config
	guard      *guard.Guard
	strategy   *guard.Resume
	quarantine *shardactor.Quarantine
	providers  []provider
	dead       atomic.Uint64

	actors  *actor.ActorSystem
	market  *marketactor.Handle
	journal *journalactor.Handle

	marketPID, journalPID *actor.PID
	fetchPIDs             []*actor.PID
	fetchers, parents     *latch

	closing sync.Once
	ending  atomic.Bool
	closed  error
}

type provider struct {
	name  string
	stats *fetchactor.Stats
}

// Start runs a market. The tokens that the shards hold already get their actors
// first; then the providers are asked. The first block of seqs is reserved
// before that, which is the one thing that can fail.
func Start(cfg Config) (*System, error) {
	cfg.fill()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	next := cfg.Engine.Seq() + 1
	reserved := next + cfg.SeqBlock - 1
	if err := cfg.Journal.Reserve(reserved); err != nil {
		return nil, fmt.Errorf("cannot reserve seqs up to %d: %w", reserved, err)
	}
	s := &System{
		cfg: cfg, guard: guard.New(cfg.Log), strategy: &guard.Resume{},
		quarantine: shardactor.NewQuarantine(cfg.Log),
		fetchers:   newLatch(len(cfg.Providers) + len(cfg.Replays)), parents: newLatch(2),
	}
	s.actors = newActorSystem(cfg.Log, &s.dead)
	s.startJournal(next, reserved)
	s.startMarket()
	s.startFetchers()
	return s, nil
}

func (s *System) startJournal(next, reserved uint64) {
	handle, props := journalactor.New(journalactor.Deps{
		Journal: s.cfg.Journal, SyncWindow: s.cfg.SyncWindow, Block: s.cfg.SeqBlock,
		Limits: journalactor.Limits{Count: s.cfg.JournalTicks, Bytes: s.cfg.JournalBytes},
		Guard:  s.guard, Log: s.cfg.Log, Stopped: s.parents.done,
	}, next, s.cfg.DurableSeq, reserved)
	s.journal = handle
	s.journalPID = s.spawn(props, "journal")
}

func (s *System) startMarket() {
	shards := make([]shardactor.Deps, len(s.cfg.Shards))
	for i, shard := range s.cfg.Shards {
		shards[i] = shardactor.Deps{Index: i, Shard: shard, Guard: s.guard, Quarantine: s.quarantine}
	}
	sources := len(s.cfg.Providers) + len(s.cfg.Replays)
	handle, props := marketactor.New(marketactor.Deps{
		Engine: s.cfg.Engine, Shards: shards, Clock: s.cfg.Clock, Live: len(s.cfg.Providers) > 0,
		TickMin: s.cfg.TickMin, ExportEvery: s.cfg.ExportEvery, ExportPause: s.cfg.ExportPause,
		Waiting: sources + 1, WaitingBytes: s.cfg.BatchBytes,
		Journal: s.journal, Publisher: s.cfg.Publisher, Strategy: s.strategy,
		Guard: s.guard, Log: s.cfg.Log, Stopped: s.parents.done,
	})
	s.market = handle
	s.marketPID = s.spawn(props, "market")
	handle.Bind(s.actors, s.marketPID)
	s.journal.Bind(s.actors, s.journalPID, handle.Wake)
	handle.Wake() // restored tokens grow old even if no batch comes
}

func (s *System) startFetchers() {
	for i, p := range s.cfg.Providers {
		s.startFetcher(fetchactor.Deps{Name: p.Name, Fetcher: p.Fetcher, Schedule: p.Schedule, Slot: i})
	}
	for _, r := range s.cfg.Replays {
		s.startFetcher(fetchactor.Deps{Name: r.Name, Feed: r.Feed, Finished: r.Finished})
	}
}

func (s *System) startFetcher(d fetchactor.Deps) {
	d.Clock, d.Sink, d.Stats = s.cfg.Clock, s.market, &fetchactor.Stats{}
	d.Guard, d.Log, d.Stopped = s.guard, s.cfg.Log, s.fetchers.done
	s.providers = append(s.providers, provider{name: d.Name, stats: d.Stats})
	s.fetchPIDs = append(s.fetchPIDs, s.spawn(fetchactor.Props(d), "fetch/"+d.Name))
}

// spawn starts a top-level actor under our own supervision.
func (s *System) spawn(props *actor.Props, name string) *actor.PID {
	pid, err := s.actors.Root.SpawnNamed(props.Configure(actor.WithGuardian(s.strategy)), name)
	if err != nil {
		panic(fmt.Errorf("BUG: cannot spawn %q: %w", name, err))
	}
	return pid
}

// Board returns the market as of the newest sealed tick; never nil.
func (s *System) Board() *market.Board { return s.market.Board() }

// DurableSeq returns the newest seq that a crash cannot take.
func (s *System) DurableSeq() uint64 { return s.journal.DurableSeq() }

// Status describes a System at one moment.
type Status struct {
	Market  MarketStats
	Journal JournalStats
	// StorageLagging says that new ticks wait for the disk.
	StorageLagging bool
	Providers      []ProviderStatus
	Tokens         int
	Panics         uint64 // recovered, of any actor
	Quarantined    uint64 // quotes given up because their token panicked twice
	DeadLetters    uint64
	Closing        bool // Close was called
}

// ProviderStatus describes one provider or replay.
type ProviderStatus struct {
	Name string
	ProviderFigures
}

// Status returns the system's figures.
func (s *System) Status() Status {
	st := Status{
		Market: s.market.Stats(), Journal: s.journal.Stats(), Tokens: s.Board().Totals.Tokens,
		Panics: s.guard.Panics(), Quarantined: s.quarantine.Total(), DeadLetters: s.dead.Load(),
		Closing: s.ending.Load(),
	}
	st.StorageLagging = st.Market.Lagging
	for _, p := range s.providers {
		st.Providers = append(st.Providers, ProviderStatus{Name: p.name, ProviderFigures: p.stats.Read()})
	}
	return st
}

// Quarantine returns the newest quotes that were given up, oldest first, at most 256.
func (s *System) Quarantine() []Quarantined { return s.quarantine.List() }

// Panic is a recovered panic.
type Panic struct {
	Actor, Reason, Stack string
	At                   time.Time
}

// PanicReports returns the newest recovered panics, oldest first, at most 16.
func (s *System) PanicReports() []Panic {
	reports := s.guard.Reports()
	out := make([]Panic, len(reports))
	for i, r := range reports {
		out[i] = Panic{Actor: r.Actor, Reason: r.Reason, Stack: r.Stack, At: r.At}
	}
	return out
}
