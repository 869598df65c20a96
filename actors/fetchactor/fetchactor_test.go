package fetchactor_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.uber.org/goleak"

	"github.com/velocimeter/velocimeter/actors/fetchactor"
	"github.com/velocimeter/velocimeter/actors/guard"
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/source"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wall is engine time on the bubble's clock.
type wall struct{}

func (wall) Now() market.Time { return market.TimeOf(time.Now()) }

func (w wall) AfterFunc(at market.Time, f func()) func() {
	t := time.AfterFunc(at.Sub(w.Now()).Std(), f)
	return func() { t.Stop() }
}

// sink writes down what it is offered and seals when the test says so.
type sink struct {
	mu   sync.Mutex
	got  []*market.Batch
	at   []time.Time
	slot []int
	done []func()
}

func (s *sink) Offer(b *market.Batch, slot int, done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got, s.at, s.slot = append(s.got, b), append(s.at, time.Now()), append(s.slot, slot)
	s.done = append(s.done, done)
}

func (s *sink) offsets(from time.Time) []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []time.Duration
	for _, at := range s.at {
		out = append(out, at.Sub(from))
	}
	return out
}

type fetchFunc func(ctx context.Context) (*market.Batch, error)

func (f fetchFunc) Fetch(ctx context.Context) (*market.Batch, error) { return f(ctx) }
func (f fetchFunc) Next(ctx context.Context) (*market.Batch, error)  { return f(ctx) }

// run starts a fetch actor; stop ends it and waits for its goroutine.
func run(t *testing.T, d fetchactor.Deps) (s *sink, stop func()) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	s = &sink{}
	ended := make(chan struct{})
	d.Name, d.Clock, d.Sink, d.Stats = "test", wall{}, s, &fetchactor.Stats{}
	d.Guard, d.Log, d.Stopped = guard.New(log), log, func() { close(ended) }
	system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return log }))
	pid := system.Root.Spawn(fetchactor.Props(d))
	t.Cleanup(system.Shutdown)
	return s, func() {
		system.Root.Stop(pid)
		<-ended
	}
}

func TestPollsOnSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		fetch := func(context.Context) (*market.Batch, error) {
			<-time.After(3 * time.Second) // counts into the interval
			return &market.Batch{}, nil
		}
		s, stop := run(t, fetchactor.Deps{
			Fetcher: fetchFunc(fetch), Slot: 4,
			Schedule: source.NewSchedule(source.Config{Interval: market.Minute}),
		})
		<-time.After(130 * time.Second)
		stop()
		want := []time.Duration{3 * time.Second, 63 * time.Second, 123 * time.Second}
		if got := s.offsets(begun); !slices.Equal(got, want) {
			t.Errorf("offered at %v, want %v", got, want)
		}
		if s.slot[0] != 4 || s.done[0] != nil {
			t.Errorf("slot %d, waits for seal: %v", s.slot[0], s.done[0] != nil)
		}
	})
}

// TestFailuresGoToSchedule fails in three ways before it succeeds.
func TestFailuresGoToSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls int
		fetch := func(context.Context) (*market.Batch, error) {
			switch calls++; calls {
			case 1:
				return nil, errors.New("broken")
			case 2:
				panic("worse")
			case 3:
				return nil, nil
			}
			return &market.Batch{}, nil
		}
		sched := &recorder{}
		s, stop := run(t, fetchactor.Deps{Fetcher: fetchFunc(fetch), Schedule: sched})
		<-time.After(3500 * time.Millisecond)
		stop()
		if want := []string{"failed", "failed", "failed", "succeeded"}; !slices.Equal(sched.outcomes, want) {
			t.Errorf("schedule was told %v, want %v", sched.outcomes, want)
		}
		if len(s.got) != 1 {
			t.Errorf("%d batches", len(s.got))
		}
	})
}

// recorder is a schedule of one attempt a second.
type recorder struct {
	due      market.Time
	outcomes []string
}

func (r *recorder) Next(now market.Time) (market.Time, bool) { return max(now, r.due), true }
func (*recorder) Started(market.Time)                        {}

func (r *recorder) next(now market.Time, what string) market.Time {
	r.outcomes = append(r.outcomes, what)
	r.due = now.Add(market.Second)
	return r.due
}

func (r *recorder) Succeeded(now market.Time) market.Time { return r.next(now, "succeeded") }
func (r *recorder) Cancelled(now market.Time) market.Time { return r.next(now, "cancelled") }
func (r *recorder) Failed(now market.Time, _ *source.Error) market.Time {
	return r.next(now, "failed")
}

// TestBugInScheduleIsSurvived: the loop goes on a second later.
func TestBugInScheduleIsSurvived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		fetch := func(context.Context) (*market.Batch, error) { return &market.Batch{}, nil }
		s, stop := run(t, fetchactor.Deps{Fetcher: fetchFunc(fetch), Schedule: &buggy{}})
		<-time.After(1500 * time.Millisecond)
		stop()
		if got := s.offsets(begun); !slices.Equal(got, []time.Duration{time.Second}) {
			t.Errorf("offered at %v, want after a second", got)
		}
	})
}

// buggy is a recorder that panics when it is asked first.
type buggy struct {
	recorder
	asked bool
}

func (b *buggy) Next(now market.Time) (market.Time, bool) {
	if !b.asked {
		b.asked = true
		panic("schedule")
	}
	return b.recorder.Next(now)
}

func TestStopCancelsFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fetch := func(ctx context.Context) (*market.Batch, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		sched := &recorder{}
		s, stop := run(t, fetchactor.Deps{Fetcher: fetchFunc(fetch), Schedule: sched})
		synctest.Wait()
		begun := time.Now()
		stop()
		if time.Since(begun) != 0 || len(s.got) != 0 {
			t.Errorf("stop took %v, %d batches", time.Since(begun), len(s.got))
		}
		if !slices.Equal(sched.outcomes, []string{"cancelled"}) {
			t.Errorf("schedule was told %v", sched.outcomes)
		}
	})
}

// TestFeedWaitsForSeal checks that never more than one batch is out.
func TestFeedWaitsForSeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls uint64
		next := func(context.Context) (*market.Batch, error) {
			if calls++; calls > 3 {
				return nil, io.EOF
			}
			return &market.Batch{Position: calls}, nil
		}
		finished := make(chan error, 1)
		s, stop := run(t, fetchactor.Deps{Feed: fetchFunc(next), Finished: func(err error) { finished <- err }})
		for i := 1; i <= 3; i++ {
			synctest.Wait()
			if len(s.got) != i {
				t.Fatalf("%d batches out before seal %d", len(s.got), i)
			}
			if s.slot[i-1] >= 0 || s.got[i-1].Position != uint64(i) {
				t.Errorf("batch %d: slot %d, position %d", i, s.slot[i-1], s.got[i-1].Position)
			}
			s.done[i-1]()
		}
		if err := <-finished; err != nil {
			t.Errorf("finished with %v", err)
		}
		stop()
	})
}

func TestFeedError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := func(context.Context) (*market.Batch, error) { return nil, errors.New("torn file") }
		finished := make(chan error, 1)
		_, stop := run(t, fetchactor.Deps{Feed: fetchFunc(next), Finished: func(err error) { finished <- err }})
		if err := <-finished; err == nil || !strings.Contains(err.Error(), "torn file") {
			t.Errorf("finished with %v", err)
		}
		stop()
	})
}

func TestStopWhileWaitingForSeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := func(context.Context) (*market.Batch, error) { return &market.Batch{}, nil }
		s, stop := run(t, fetchactor.Deps{Feed: fetchFunc(next)})
		synctest.Wait()
		stop()
		s.done[0]() // late, and blocks nobody
		if len(s.got) != 1 {
			t.Errorf("%d batches out, want 1", len(s.got))
		}
	})
}
