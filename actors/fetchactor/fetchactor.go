package fetchactor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/velocimeter/velocimeter/actors/guard"
	"github.com/velocimeter/velocimeter/actors/mailbox"
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/source"
)

// Deps is everything a fetch actor does not own.
type Deps struct {
	Name string // of the provider, for logs
	// Either Fetcher and Schedule are set, or Feed.
	Fetcher  Fetcher
	Schedule Schedule
	Slot     int // of a Fetcher: distinct per provider, ≥ 0
	Feed     Feed
	Finished func(err error) // a Feed's end: nil after io.EOF; may be nil itself
	Clock    Clock
	Sink     Sink
	Stats    *Stats
	Guard    *guard.Guard
	Log      *slog.Logger
	// Stopped is called when the actor and its goroutine have ended.
	Stopped func()
}

// Stats count what a provider did. Safe for concurrent use.
type Stats struct {
	fetches, failures atomic.Uint64
	next              atomic.Int64
	finished          atomic.Bool
	lastError         atomic.Pointer[string]
}

// Figures are Stats at one moment.
type Figures struct {
	Fetches   uint64      // answers, or batches of a feed
	Failures  uint64      // failed attempts
	LastError string      // of the newest failure; "" after a success
	NextAt    market.Time // when the next fetch is due; 0 for a feed
	Finished  bool        // a feed came to its end
}

// Read returns the figures.
func (s *Stats) Read() Figures {
	f := Figures{
		Fetches: s.fetches.Load(), Failures: s.failures.Load(),
		NextAt: market.Time(s.next.Load()), Finished: s.finished.Load(),
	}
	if e := s.lastError.Load(); e != nil {
		f.LastError = *e
	}
	return f
}

func (s *Stats) succeeded() {
	s.fetches.Add(1)
	s.lastError.Store(nil)
}

func (s *Stats) failed(err error) {
	text := err.Error()
	s.failures.Add(1)
	s.lastError.Store(&text)
}

// Props describes a fetch actor.
func Props(d Deps) *actor.Props {
	box := mailbox.NewLanes(d.Guard, mailbox.Limits{})
	return actor.PropsFromProducer(func() actor.Actor { return &Actor{deps: d} }, actor.WithMailbox(box.Producer()))
}

// Actor is one provider's actor. It receives nothing but its life cycle.
type Actor struct {
	deps   Deps
	cancel context.CancelFunc
}

// Receive implements actor.Actor.
func (a *Actor) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		ctx, cancel := context.WithCancel(context.Background())
		a.cancel = cancel
		go a.deps.run(ctx)
	case *actor.Stopping:
		a.cancel()
	case *actor.Stopped, *actor.Restarting:
	default:
		panic(fmt.Errorf("BUG: fetch actor got %T", m))
	}
}

// afterPanic is the pause before the loop goes on after a bug in it.
const afterPanic = time.Second

// run is the actor's goroutine. A panic outside the provider's own code (its
// schedule, say) must not end the process nor the provider.
func (d *Deps) run(ctx context.Context) {
	defer d.Stopped()
	for !d.Guard.Do("fetch "+d.Name, func() { d.loop(ctx) }) {
		select {
		case <-time.After(afterPanic):
		case <-ctx.Done():
			return
		}
	}
}

func (d *Deps) loop(ctx context.Context) {
	if d.Feed != nil {
		d.replay(ctx)
		return
	}
	for d.wait(ctx) {
		d.fetch(ctx)
	}
}

// wait returns true when the next fetch is due, false when the actor stops.
func (d *Deps) wait(ctx context.Context) bool {
	now := d.Clock.Now()
	due, _ := d.Schedule.Next(now)
	d.Stats.next.Store(int64(due))
	if due > now {
		come := make(chan struct{})
		stop := d.Clock.AfterFunc(due, func() { close(come) })
		defer stop()
		select {
		case <-come:
		case <-ctx.Done():
		}
	}
	return ctx.Err() == nil
}

// fetch asks the provider once. A panic counts as a failed fetch.
func (d *Deps) fetch(ctx context.Context) {
	d.Schedule.Started(d.Clock.Now())
	b, err := d.guarded(ctx, d.Fetcher.Fetch)
	now := d.Clock.Now()
	switch {
	case err == nil:
		d.Stats.succeeded()
		d.Schedule.Succeeded(now)
		d.Sink.Offer(b, d.Slot, nil)
	case ctx.Err() != nil:
		d.Schedule.Cancelled(now)
	default:
		var failure *source.Error
		if !errors.As(err, &failure) {
			failure = &source.Error{}
		}
		d.Stats.failed(err)
		next := d.Schedule.Failed(now, failure)
		d.Log.Warn("fetch failed", "provider", d.Name, "kind", failure.Kind.String(), "error", err, "next_at", next.Std())
	}
}

// replay hands over the recording, each batch after the seal of the one before.
func (d *Deps) replay(ctx context.Context) {
	sealed := make(chan struct{}, 1)
	done := func() { sealed <- struct{}{} }
	for {
		b, err := d.guarded(ctx, d.Feed.Next)
		if err != nil {
			d.finish(ctx, err)
			return
		}
		d.Stats.succeeded()
		d.Sink.Offer(b, -1, done)
		select {
		case <-sealed:
		case <-ctx.Done():
			return
		}
	}
}

func (d *Deps) finish(ctx context.Context, err error) {
	switch {
	case errors.Is(err, io.EOF):
		err = nil
	case ctx.Err() != nil:
		return
	default:
		d.Stats.failed(err)
		d.Log.Error("replay ended early", "provider", d.Name, "error", err)
	}
	d.Stats.finished.Store(true)
	if d.Finished != nil {
		d.Guard.Do("end of "+d.Name, func() { d.Finished(err) })
	}
}

var errPanic = errors.New("provider panicked")

// guarded turns a panic into an error, and no batch without an error too.
func (d *Deps) guarded(
	ctx context.Context, f func(context.Context) (*market.Batch, error),
) (b *market.Batch, err error) {
	if !d.Guard.Do("fetch "+d.Name, func() { b, err = f(ctx) }) {
		return nil, errPanic
	}
	if b == nil && err == nil {
		return nil, fmt.Errorf("cannot use answer of %q: it has no batch", d.Name)
	}
	return b, err
}
