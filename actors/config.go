package actors

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/tick"
)

// Provider is a source that is polled.
type Provider struct {
	Name     string
	Fetcher  Fetcher
	Schedule Schedule
}

// Replay is a source that hands over a recording.
type Replay struct {
	Name string
	Feed Feed
	// Finished is told the end once: nil after io.EOF. It must not block; may be nil.
	Finished func(err error)
}

// Config is everything a System does not own. Engine and Shards carry the state
// that recovery restored; nobody else may touch them while the system runs.
type Config struct {
	Engine *tick.Engine
	Shards []*tick.Shard // as many as the engine was made for; 4 × GOMAXPROCS is a good number
	Clock  Clock
	Log    *slog.Logger

	// Providers are polled; with at least one of them time moves by itself (Live).
	Providers []Provider
	// Replays move time by their batches only.
	Replays []Replay

	Publisher Publisher
	Journal   Journal
	// DurableSeq is the newest seq that the journal holds durably at the start.
	DurableSeq uint64

	// SyncWindow is how long ticks may wait to be made durable together. 0 syncs
	// every tick by itself, at about 1 ms of disk time each.
	SyncWindow time.Duration
	// SeqBlock is how many seqs are reserved at a time; default 4096. At most this
	// many are lost to an unclean stop.
	SeqBlock uint64
	// TickMin is the least engine time between clock ticks when live; default 50 ms.
	TickMin market.Millis
	// ExportEvery is the engine time between two exports of the state; default
	// 60 s. What a restart has to replay grows with it.
	ExportEvery market.Millis
	// ExportPause is the least real time between them; default 5 s, so that a
	// replay at full speed does not spend its time exporting.
	ExportPause time.Duration
	// JournalTicks and JournalBytes bound what waits for the disk; defaults 1024
	// and 256 MiB (about 30 ticks of 5,000 changed tokens).
	JournalTicks int
	JournalBytes int
	// BatchBytes bounds the batches that wait for their tick; default 256 MiB.
	BatchBytes int
}

func (c *Config) fill() {
	defaultTo(&c.SeqBlock, 4096)
	defaultTo(&c.TickMin, 50)
	defaultTo(&c.ExportEvery, market.Minute)
	defaultTo(&c.ExportPause, 5*time.Second)
	defaultTo(&c.JournalTicks, 1024)
	defaultTo(&c.JournalBytes, 256<<20)
	defaultTo(&c.BatchBytes, 256<<20)
}

func defaultTo[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// check reports everything that is missing, in one error.
func (c *Config) check() error {
	var errs []error
	need := func(ok bool, what string) {
		if !ok {
			errs = append(errs, errors.New("cannot run actors without "+what))
		}
	}
	need(c.Engine != nil, "an engine")
	need(len(c.Shards) > 0, "shards")
	need(c.Clock != nil, "a clock")
	need(c.Log != nil, "a logger")
	need(c.Publisher != nil, "a publisher")
	need(c.Journal != nil, "a journal")
	if len(c.Providers) > 0 && len(c.Replays) > 0 {
		errs = append(errs, errors.New("cannot run providers and replays together: time would be both now and the recording's"))
	}
	if c.Engine != nil && len(c.Shards) != len(c.Engine.Board().Shards) {
		errs = append(errs, fmt.Errorf("cannot run %d shards with an engine made for %d",
			len(c.Shards), len(c.Engine.Board().Shards)))
	}
	return errors.Join(errs...)
}
