package main

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
)

// skewed is how far machine and engine may disagree before anybody is told.
const skewed = 2 * time.Second

// liveClock is the machine's clock, never going back and never standing still:
// when the machine's time is set back, engine time goes on at its own pace, and
// Ahead says by how much it leads.
type liveClock struct {
	mu   sync.Mutex
	real time.Time   // the newest reading, with its monotonic part
	last market.Time // what it was answered with
}

// Now implements the actors' clock.
func (c *liveClock) Now() market.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.last = follow(c.last, now.Sub(c.real), market.TimeOf(now))
	c.real = now
	return c.last
}

// follow is the engine's time after last: the machine's, unless that is behind;
// then what has passed since, told by a clock that nobody can set.
func follow(last market.Time, passed time.Duration, machine market.Time) market.Time {
	if last == 0 || machine >= last {
		return machine
	}
	if last.Sub(machine).Std() < skewed {
		return last // small corrections: wait for them
	}
	return last.Add(market.Millis(max(passed, 0).Milliseconds()))
}

// notBefore makes the clock go on from an instant that the store has seen.
func (c *liveClock) notBefore(at market.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at > c.last {
		c.last, c.real = at, time.Now()
	}
}

// Ahead is by how much engine time leads the machine's.
func (c *liveClock) Ahead() time.Duration {
	now := c.Now()
	return max(now.Sub(market.TimeOf(time.Now())).Std(), 0)
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
	ended  atomic.Int64 // where it was stopped; 0 while it runs
}

// newReplayClock begins at the recording's time start.
func newReplayClock(speed float64, start market.Time) *replayClock {
	c := &replayClock{speed: speed, origin: time.Now(), start: start}
	c.moved.Store(int64(start))
	return c
}

// Now implements the actors' clock.
func (c *replayClock) Now() market.Time {
	if at := c.ended.Load(); at != 0 {
		return market.Time(at)
	}
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
	wait := float64(at.Sub(c.Now())) / c.speed * float64(time.Millisecond)
	return time.Duration(min(wait, math.MaxInt64/2))
}

// stop ends the replay's time at its last poll: the values that stay are as old
// as they were then.
func (c *replayClock) stop(at market.Time) { c.ended.Store(int64(at)) }

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
