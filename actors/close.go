package actors

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// Close stops the market in order: the fetchers end; what they brought becomes
// ticks; the state is exported; the token actors stop; everything is made
// durable; the shards, the supervisor and the journal stop. It returns the
// journal's error, or says at which stage ctx ended: then the rest was told to
// stop but not waited for, and the journal may still be in use. A fetcher that
// does not end gets half of ctx's time; the stages after it go on without it.
// Further calls return the first one's result.
func (s *System) Close(ctx context.Context) error {
	s.closing.Do(func() {
		s.ending.Store(true)
		s.closed = s.close(ctx)
	})
	return s.closed
}

func (s *System) close(ctx context.Context) error {
	defer s.actors.Shutdown()
	late := s.stopFetchers(ctx)
	err := s.drain(ctx)
	s.actors.Root.Stop(s.marketPID)
	s.actors.Root.Stop(s.journalPID)
	if ctx.Err() == nil {
		if e := s.stage(ctx, "actors", s.parents.zero); err == nil {
			err = e
		}
	}
	return errors.Join(late, err)
}

func (s *System) stopFetchers(ctx context.Context) error {
	for _, pid := range s.fetchPIDs {
		s.actors.Root.Stop(pid)
	}
	if deadline, ok := ctx.Deadline(); ok {
		half, cancel := context.WithTimeout(ctx, time.Until(deadline)/2)
		defer cancel()
		ctx = half
	}
	return s.stage(ctx, "fetchers", s.fetchers.zero)
}

// drain has everything that was accepted become ticks and durable.
func (s *System) drain(ctx context.Context) error {
	drained, written := make(chan struct{}), make(chan error, 1)
	s.market.Drain(drained)
	if err := s.stage(ctx, "ticks", drained); err != nil {
		return err
	}
	s.journal.Finish(written)
	select {
	case err := <-written:
		return err
	case <-ctx.Done():
		return fmt.Errorf("cannot stop journal in time: %w", ctx.Err())
	}
}

// stage waits for one step of the shutdown.
func (s *System) stage(ctx context.Context, name string, done <-chan struct{}) error {
	begun := time.Now()
	select {
	case <-done:
		s.cfg.Log.Debug("stopped", "stage", name, "took", time.Since(begun))
		return nil
	case <-ctx.Done():
		return fmt.Errorf("cannot stop %s in time: %w", name, ctx.Err())
	}
}

// latch closes zero when done was called n times.
type latch struct {
	left atomic.Int32
	zero chan struct{}
}

func newLatch(n int) *latch {
	l := &latch{zero: make(chan struct{})}
	l.left.Store(int32(n))
	if n == 0 {
		close(l.zero)
	}
	return l
}

func (l *latch) done() {
	if l.left.Add(-1) == 0 {
		close(l.zero)
	}
}
