package main

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
)

// liveClock is the machine's clock, never going back: when the machine's time
// is set back, engine time stands still until it has caught up.
type liveClock struct{ last atomic.Int64 }

// Now implements the actors' clock.
func (c *liveClock) Now() market.Time {
	now := time.Now().UnixMilli()
	for {
		last := c.last.Load()
		if now <= last {
			return market.Time(last)
		}
		if c.last.CompareAndSwap(last, now) {
			return market.Time(now)
		}
	}
}

// AfterFunc implements the actors' clock.
func (c *liveClock) AfterFunc(at market.Time, f func()) (stop func()) {
	t := time.AfterFunc(at.Sub(c.Now()).Std(), f)
	return func() { t.Stop() }
}

// replayClock is the recording's time. At a finite speed it runs that many
// times as fast as the machine's; at speed 0 only batches move it.
type replayClock struct {
	speed  float64
	origin time.Time
	start  market.Time
	moved  atomic.Int64
}

// newReplayClock begins at the recording's time start.
func newReplayClock(speed float64, start market.Time) *replayClock {
	c := &replayClock{speed: speed, origin: time.Now(), start: start}
	c.moved.Store(int64(start))
	return c
}

// Now implements the actors' clock.
func (c *replayClock) Now() market.Time {
	if c.speed == 0 {
		return market.Time(c.moved.Load())
	}
	return c.start.Add(market.Millis(float64(time.Since(c.origin).Milliseconds()) * c.speed))
}

// AfterFunc implements the actors' clock.
func (c *replayClock) AfterFunc(at market.Time, f func()) (stop func()) {
	if c.speed == 0 {
		return func() {}
	}
	t := time.AfterFunc(c.wait(at), f)
	return func() { t.Stop() }
}

// wait is how long the machine has to wait until the recording's time at.
func (c *replayClock) wait(at market.Time) time.Duration {
	return time.Duration(float64(at.Sub(c.Now())) / c.speed * float64(time.Millisecond))
}

// reach waits until the recording's time at, or moves there at full speed.
func (c *replayClock) reach(ctx context.Context, at market.Time) error {
	if c.speed == 0 {
		c.moved.Store(max(c.moved.Load(), int64(at)))
		return ctx.Err()
	}
	t := time.NewTimer(c.wait(at))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
