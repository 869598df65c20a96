package main

import (
	"context"

	"github.com/velocimeter/velocimeter/engine/market"
)

// polls is a recording, or one that repeats itself.
type polls interface {
	Next() (*market.Batch, error)
	Seek(position uint64) error
}

// replayFeed hands out the polls of a recording at the pace of its clock.
type replayFeed struct {
	from  polls
	clock *replayClock
}

// Next implements the actors' feed; io.EOF ends the replay.
func (f *replayFeed) Next(ctx context.Context) (*market.Batch, error) {
	b, err := f.from.Next()
	if err != nil {
		return nil, err
	}
	if err := f.clock.reach(ctx, b.ReceivedAt); err != nil {
		return nil, err
	}
	return b, nil
}
