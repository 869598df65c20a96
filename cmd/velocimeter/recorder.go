package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/source"
	"github.com/velocimeter/velocimeter/transport/upstream/recording"
)

// recorder polls a provider and keeps what it answers.
type recorder struct {
	feed    *feed
	file    *recording.Writer
	log     *slog.Logger
	limits  recordLimits
	answers [][]byte // of the poll in flight; the buffers are used again

	done, failed int
}

// take keeps the text of one page.
func (r *recorder) take(answer []byte) {
	n := len(r.answers)
	if n < cap(r.answers) {
		r.answers = r.answers[:n+1]
	} else {
		r.answers = append(r.answers, nil)
	}
	r.answers[n] = append(r.answers[n][:0], answer...)
}

// run polls on schedule until ctx ends or a limit is reached; why names the limit.
func (r *recorder) run(ctx context.Context) (why string, err error) {
	clock, schedule := r.feed.clock, r.feed.schedule()
	end := market.Time(0)
	if r.limits.span > 0 {
		end = clock.Now().Add(market.Millis(max(r.limits.span.Milliseconds(), 1)))
	}
	for {
		due, _ := schedule.Next(clock.Now())
		over := end != 0 && due >= end
		if over {
			due = end
		}
		if !r.wait(ctx, due) {
			return "", nil
		}
		if over {
			return "--for", nil
		}
		err := r.poll(ctx, schedule)
		switch {
		case errors.Is(err, recording.ErrFull) && r.done == 0:
			return "", usageError("no poll fits: %w", err)
		case errors.Is(err, recording.ErrFull):
			return "the size of the file", nil
		case err != nil:
			return "", err
		case r.limits.polls > 0 && r.done >= r.limits.polls:
			return "--polls", nil
		}
	}
}

// wait returns false when ctx ended before the instant came.
func (r *recorder) wait(ctx context.Context, due market.Time) bool {
	if due > r.feed.clock.Now() {
		come := make(chan struct{})
		stop := r.feed.clock.AfterFunc(due, func() { close(come) })
		defer stop()
		select {
		case <-come:
		case <-ctx.Done():
		}
	}
	return ctx.Err() == nil
}

// poll asks once and writes the answer. A failed poll is told and tried again
// later, as the schedule says; an error ends the recording.
func (r *recorder) poll(ctx context.Context, schedule *source.Schedule) error {
	r.answers = r.answers[:0]
	clock := r.feed.clock
	schedule.Started(clock.Now())
	b, err := r.feed.fetcher.Fetch(ctx)
	if err != nil {
		return r.missed(ctx, schedule, err)
	}
	schedule.Succeeded(clock.Now())
	if err := r.file.Add(b, r.answers); err != nil {
		return exitWith(exitIO, err)
	}
	r.done++
	r.log.Debug("poll recorded", "tokens", len(b.Quotes), "polls", r.done, "bytes", r.file.Size())
	return nil
}

// missed notes a poll that gave no answer. A key that is refused from the start
// ends the recording.
func (r *recorder) missed(ctx context.Context, schedule *source.Schedule, err error) error {
	now := r.feed.clock.Now()
	if ctx.Err() != nil {
		schedule.Cancelled(now)
		return nil //nolint:nilerr // a stop is no failure
	}
	r.failed++
	failure, _ := errors.AsType[*source.Error](err)
	next := schedule.Failed(now, failure)
	r.log.Warn("poll failed", "provider", r.feed.name, "error", err, "next_at", next.Std())
	if schedule.State() == source.StateStopped && r.done == 0 {
		return exitWith(exitConfig, fmt.Errorf("cannot record: %w", err))
	}
	return nil
}
