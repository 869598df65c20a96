package fetchactor

import (
	"context"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/source"
)

// Fetcher asks a provider for its whole market.
type Fetcher interface {
	// Fetch returns one answer, which is the callee's no more. It must return
	// soon after ctx ends. Errors are *source.Error where the provider or the way
	// to it failed.
	Fetch(ctx context.Context) (*market.Batch, error)
}

// Feed yields a recording.
type Feed interface {
	// Next returns the next batch when its time has come, and io.EOF at the end.
	// It must return soon after ctx ends.
	Next(ctx context.Context) (*market.Batch, error)
}

// Schedule decides when a provider is asked: *source.Schedule. It is used by
// one goroutine.
type Schedule interface {
	Next(now market.Time) (due market.Time, ok bool)
	Started(now market.Time)
	Succeeded(now market.Time) market.Time
	Failed(now market.Time, err *source.Error) market.Time
	Cancelled(now market.Time) market.Time
}

// Clock is engine time.
type Clock interface {
	// Now returns the present instant; it never goes back.
	Now() market.Time
	// AfterFunc calls f on a goroutine of its own once the instant has come,
	// unless stop was called before.
	AfterFunc(at market.Time, f func()) (stop func())
}

// Sink takes batches: in a slot (≥ 0) the newest replaces one that still waits;
// done, if not nil, is called once after the batch's tick is sealed. It never blocks.
type Sink interface {
	Offer(b *market.Batch, slot int, done func())
}

var _ Schedule = (*source.Schedule)(nil)
