package actors_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/velocimeter/velocimeter/actors"
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/source"
)

func live(c *actors.Config, interval market.Millis, fetch fetchFunc) {
	c.Clock = wall{}
	c.Providers = []actors.Provider{{
		Name: "live", Fetcher: fetch, Schedule: source.NewSchedule(source.Config{Interval: interval}),
	}}
}

func counting(tokens int) (fetch fetchFunc, count *int) {
	n := new(int)
	return func(context.Context) (*market.Batch, error) {
		*n++
		return batchAt(wall{}.Now(), *n, tokens), nil
	}, n
}

func TestLivePollsBecomeTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fetch, polls := counting(20)
		r := run(t, machine(4), nil, func(c *actors.Config) { live(c, market.Second, fetch) })
		<-time.After(90*time.Second + time.Millisecond)
		synctest.Wait()
		board := r.Board()
		if board.Seq != 91 || board.Len() != 20 || board.Token(20) == nil {
			t.Errorf("board of seq %d with %d tokens after %d polls", board.Seq, board.Len(), *polls)
		}
		if got := r.DurableSeq(); got < 89 || got > 91 {
			t.Errorf("durable %d", got)
		}
		if len(r.disk.exports) != 1 {
			t.Errorf("%d exports in 90 s, want 1", len(r.disk.exports))
		}
		st := r.Status()
		if st.Market.Polls != 91 || st.Tokens != 20 || st.Providers[0].Fetches != 91 || st.Panics != 0 {
			t.Errorf("status %+v", st)
		}
		r.close()
		if len(r.disk.ticks) != *polls {
			t.Errorf("%d ticks journaled of %d polls", len(r.disk.ticks), *polls)
		}
	})
}

// TestTimeAlone has a provider fall silent: freshness goes on.
func TestTimeAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fetch, polls := counting(5)
		once := func(ctx context.Context) (*market.Batch, error) {
			if *polls == 1 {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return fetch(ctx)
		}
		r := run(t, machine(2), nil, func(c *actors.Config) { live(c, market.Second, once) })
		want := market.Fresh
		for _, after := range []time.Duration{time.Second, 4 * time.Minute, 8 * time.Minute} {
			<-time.After(after)
			synctest.Wait()
			if got := r.Board().Token(3).Freshness(); got != want {
				t.Errorf("after %v freshness is %v, want %v", after, got, want)
			}
			want++
		}
		if got := r.Board(); got.Seq != 3 || r.disk.ticks[2].Kind != market.TickClock {
			t.Errorf("seq %d: want one poll and two clock ticks", got.Seq)
		}
		r.close()
	})
}

// TestRestoredTokensGrowOld starts with tokens and a provider that is silent.
func TestRestoredTokensGrowOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := machine(2)
		m.Poll(batchAt(wall{}.Now(), 1, 5), wall{}.Now(), func(*market.Tick) {})
		silent := func(ctx context.Context) (*market.Batch, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		r := run(t, m, nil, func(c *actors.Config) { live(c, market.Second, silent) })
		<-time.After(5 * time.Minute)
		synctest.Wait()
		if n := aged(r, market.Aging); n != 5 {
			t.Errorf("%d of 5 tokens are aging after 5 minutes of silence", n)
		}
		r.close()
	})
}

// hand is a clock that the test moves.
type hand struct {
	mu     sync.Mutex
	now    market.Time
	timers map[int]timer
	n      int
}

type timer struct {
	at market.Time
	f  func()
}

func (h *hand) Now() market.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *hand) AfterFunc(at market.Time, f func()) func() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.n++
	n := h.n
	h.timers[n] = timer{at: at, f: f}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.timers, n)
	}
}

func (h *hand) set(now market.Time) {
	h.mu.Lock()
	h.now = now
	var due []func()
	for n, t := range h.timers {
		if t.at <= now {
			due = append(due, t.f)
			delete(h.timers, n)
		}
	}
	h.mu.Unlock()
	for _, f := range due {
		f()
	}
	synctest.Wait()
}

// TestClockTicksAreSpaced has 100 tokens age 3 ms after one another: clock ticks
// are at least TickMin apart, and a long pause is made up for by one tick.
func TestClockTicksAreSpaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := &hand{now: start, timers: map[int]timer{}}
		once := true
		fetch := func(ctx context.Context) (*market.Batch, error) {
			if !once {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			once = false
			b := batchAt(start, 1, 100)
			for i := range b.Quotes {
				b.Quotes[i].SourceTime = start.Add(market.Millis(-3 * i))
			}
			return b, nil
		}
		r := run(t, machine(2), nil, func(c *actors.Config) {
			live(c, market.Second, fetch)
			c.Clock = clock
		})
		synctest.Wait()
		clock.set(start) // the first poll is in
		aging := start.Add(3*market.Minute - 400)
		for at := aging; at < aging.Add(1000); at++ {
			clock.set(at)
		}
		var at []market.Time
		for _, tick := range r.screen.all()[1:] {
			at = append(at, tick.Env.Now)
		}
		if len(at) < 5 || len(at) > 8 {
			t.Errorf("%d clock ticks for 100 deadlines within 300 ms", len(at))
		}
		for i := 1; i < len(at); i++ {
			if at[i].Sub(at[i-1]) < 50 {
				t.Errorf("clock ticks %d ms apart", at[i].Sub(at[i-1]))
			}
		}
		if n := aged(r, market.Aging); n != 100 {
			t.Errorf("%d of 100 tokens are aging", n)
		}
		before := len(r.screen.all())
		clock.set(start.Add(market.Hour))
		if n := len(r.screen.all()) - before; n != 1 || aged(r, market.Stale) != 100 {
			t.Errorf("%d clock ticks after a pause, %d tokens stale; want 1 and 100", n, aged(r, market.Stale))
		}
		r.close()
	})
}

func aged(r *rig, want market.Freshness) (n int) {
	for s := range r.Board().All {
		if s.Freshness() == want {
			n++
		}
	}
	return n
}
