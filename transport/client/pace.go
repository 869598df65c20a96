package client

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/velocimeter/velocimeter/transport/wire"
)

// burstSeconds is how many seconds' worth of messages may come at once; the
// client stays a little below, as clocks differ.
const burstSeconds, paceMargin = 5, 0.9

// pace keeps a connection within the server's messages per second.
type pace struct {
	mu   sync.Mutex
	rate float64 // messages per second; 0 is no limit
	room float64
	last time.Time
}

func (p *pace) limit(rate float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rate = rate * paceMargin
	p.room, p.last = p.rate*burstSeconds, time.Now()
}

// wait returns when one more message may be sent.
func (p *pace) wait(ctx context.Context) error {
	p.mu.Lock()
	if p.rate <= 0 {
		p.mu.Unlock()
		return nil
	}
	now := time.Now()
	p.room = min(p.room+now.Sub(p.last).Seconds()*p.rate, p.rate*burstSeconds) - 1
	p.last = now
	d := time.Duration(-p.room / p.rate * float64(time.Second))
	p.mu.Unlock()
	return sleep(ctx, d)
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Backoff is how long to wait before coming back: a random time below Min, which
// doubles with each failure up to Max.
type Backoff struct {
	Min time.Duration // default 500 ms
	Max time.Duration // default 30 s
}

func (b Backoff) withDefaults() Backoff {
	if b.Min <= 0 {
		b.Min = 500 * time.Millisecond
	}
	if b.Max < b.Min {
		b.Max = max(30*time.Second, b.Min)
	}
	return b
}

// wait returns the wait before the n-th attempt, from 0.
func (b Backoff) wait(n int) time.Duration {
	return time.Duration(rand.Int64N(int64(min(b.Min<<min(n, 20), b.Max)) + 1))
}

// cutWait is the least wait after a connection that ended without a close frame.
const cutWait = time.Second

// again decides whether a connection that ended so is worth another attempt, and
// after which wait. drain is what the server asked for, or negative.
func (b Backoff) again(err error, drain time.Duration, n int) (wait time.Duration, ok bool) {
	wait = b.wait(n)
	if closed, is := errors.AsType[*CloseError](err); is {
		switch {
		case !closed.Reconnect():
			return 0, false
		case drain >= 0 && (closed.Code == wire.CloseRestart || closed.Code == wire.CloseGoingAway):
			return drain, true
		}
		return wait, true
	}
	if refused, is := errors.AsType[*HandshakeError](err); is {
		return max(wait, refused.Retry), refused.Temporary()
	}
	if errors.Is(err, ErrLimit) || errors.Is(err, ErrClosed) {
		return 0, false
	}
	if drain >= 0 && errors.Is(err, io.ErrUnexpectedEOF) {
		return drain, true
	}
	return cutWait + wait, true
}
